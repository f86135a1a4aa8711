"""A process that is killed or terminated at a random time loses no result that it has recorded."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from crash_scripts import last_run, start_script, wait_for_exit
from durable_tasks import Box, wait_until

from flowkit import StateManager

pytestmark = [pytest.mark.slow, pytest.mark.sampled(3)]

SHAPES = {
    "chain": {f"t{number}": [f"t{number - 1}"] if number else [] for number in range(8)},
    "fan": {"t0": [], **{f"t{number}": ["t0"] for number in range(1, 9)}, "t9": [f"t{n}" for n in range(1, 9)]},
}
HEAD = """
import sys
from flowkit import DAG, task
from durable_tasks import record_execution

FOLDER = {folder!r}
SIZE = {size}

def value(number):
    return [number, str(number % 10) * SIZE * (number % 2)]
"""
TASK = """
@task
def {name}({parameters}):
    record_execution(FOLDER, "{name}")
    return value({number} + sum([{numbers}]))
"""
TAIL = """
def never():
    return False

@task(when=never)
def unwanted():
    record_execution(FOLDER, "unwanted")

results = DAG("killed", max_workers=2, tasks=[{last}, unwanted]).run(sys.argv[1], state={db!r}, resume=True)
print({{name: value[0] for name, value in results.items()}})
"""


def write_script(box, shape, size):
    """Write the script of a pipeline, and return its path and the number that each task returns."""
    source, expected = HEAD.format(folder=box.folder, size=size), {}
    for name, upstream in shape.items():
        number = int(name[1:]) + 1
        expected[name] = number + sum(expected[other] for other in upstream)
        numbers = ", ".join(f"{other}[0]" for other in upstream)
        source += TASK.format(name=name, parameters=", ".join(upstream), number=number, numbers=numbers)
        source += f"{upstream} >> {name}\n".replace("'", "") if upstream else ""
    path = Path(box.folder, "killed.py")
    path.write_text(source + TAIL.format(last=name, db=box.db))
    return path, expected


@pytest.mark.parametrize("size", [1, 2_000_000], ids=["small", "large"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_kill_at_random_time_loses_no_recorded_result(tmp_path, executor, shape, size):
    """The run is resumed until it succeeds: 40 kills in all."""
    kill_repeatedly(5, signal.SIGKILL, tmp_path, executor, shape, size)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_signal_at_random_time_loses_no_recorded_result(tmp_path, executor, number):
    """The process group gets the signal, as from a terminal or a service manager."""
    kill_repeatedly(3, getattr(signal, number), tmp_path, executor, "fan", 300_000)


def kill_repeatedly(times, number, tmp_path, executor, shape, size):
    seed = os.urandom(4).hex()
    rng = random.Random(seed)
    began = time.monotonic()
    kills = duration = round_ = 0
    while kills < times:
        box = Box(tmp_path / str(round_))
        Path(box.folder).mkdir()
        path, expected = write_script(box, SHAPES[shape], size)
        process = start_script(path, executor)
        if round_:  # the first run is not killed: it measures the duration
            kills += kill_until_done(process, number, path, executor, box, expected, size, rng, duration, seed)
        else:
            assert wait_for_exit(process) == (0, f"{expected}\n", "")
            duration = time.monotonic() - began
        shutil.rmtree(box.folder)
        round_ += 1


def kill_until_done(process, number, path, executor, box, expected, size, rng, duration, seed):
    """Kill and resume a run until it succeeds; return the number of kills."""
    kills, recorded, offset = 0, {}, 0
    while True:
        wait_random_time(process, box, offset, len(expected) - len(recorded), rng, duration)
        if number == signal.SIGKILL:
            process.kill()
        elif process.poll() is None:
            os.killpg(process.pid, number)
        code, out, errors = wait_for_exit(process)
        interrupted = number == signal.SIGINT and "KeyboardInterrupt" in errors
        assert interrupted or code in (0, -number), f"seed {seed}:\n{errors}"
        lines = box.ran
        again = set(lines[offset:]) & set(recorded)
        assert not again, f"seed {seed}: {again} ran again, though recorded"
        offset = len(lines)
        with StateManager(box.db) as state:
            run, values = last_run(state)
            assert len(state.runs()) <= 1, f"seed {seed}"
        assert recorded.keys() <= values.keys(), f"seed {seed}: a recorded result is lost"
        recorded = {name: value[0] for name, value in values.items()}
        assert recorded == {name: expected[name] for name in recorded}, f"seed {seed}"
        assert all(value[1] == str(value[0] % 10) * size * (value[0] % 2) for value in values.values()), f"seed {seed}"
        if code == 0 or (run is not None and run.status == "succeeded"):
            assert recorded == expected, f"seed {seed}"
            assert code or out == f"{expected}\n", f"seed {seed}"
            return kills
        assert run is None or run.status == "interrupted", f"seed {seed}"
        kills += 1
        process = start_script(path, executor)


def wait_random_time(process, box, offset, tasks, rng, duration):
    """Wait for a random time, or until shortly after some of the remaining tasks have started."""
    if rng.random() < 0.3:
        time.sleep(rng.random() * duration)
        return
    lines = offset + rng.randint(1, max(1, tasks))
    # A task takes less than a millisecond, so the condition is polled more often.
    wait_until(lambda: len(box.ran) >= lines or process.poll() is not None, pause=0.0002)
    time.sleep(rng.choice([0, 0.0003, 0.001, 0.003, 0.01]) * rng.random())
