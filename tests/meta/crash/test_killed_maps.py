"""A process that is killed while the elements of mapped tasks run loses none that it has recorded."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from crash_scripts import start_script, wait_for_exit
from durable_tasks import Box, wait_until

from flowkit import StateManager

pytestmark = [pytest.mark.slow, pytest.mark.sampled(3)]

SIZE = 1500
SCRIPT = """
import sys
from flowkit import DAG, task
from durable_tasks import record_execution

FOLDER = {folder!r}

@task
def rows():
    {rows}

@task
def first(row):
    record_execution(FOLDER, f"first-{{row}}")
    return row + 1

@task
def second(value):
    record_execution(FOLDER, f"second-{{value - 1}}")
    return [value, str(value)]

@task
def total(second):
    return sum(value for value, _ in second)

rows >> first.map() >> second.map() >> total
print(DAG("killed", max_workers=2, tasks=[total]).run(sys.argv[1], state={db!r}, resume=True)["total"])
"""
SOURCES = {"list": f"return list(range({SIZE}))", "generator": f"yield from range({SIZE})"}
EXPECTED = sum(range(1, SIZE + 1))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_kill_at_random_time_loses_no_recorded_element(tmp_path, executor, source):
    kill_until_done(tmp_path, signal.SIGKILL, executor, source)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_interrupt_at_random_time_loses_no_recorded_element(tmp_path, executor):
    kill_until_done(tmp_path, signal.SIGINT, executor, "list")


def kill_until_done(tmp_path, number, executor, source):
    seed = os.urandom(4).hex()
    rng = random.Random(seed)
    box = Box(tmp_path)
    path = Path(box.folder, "killed.py")
    path.write_text(SCRIPT.format(folder=box.folder, db=box.db, rows=SOURCES[source]))
    recorded, offset = set(), 0
    for _ in range(4):
        process = start_script(path, executor)
        wait_for_calls(process, box, offset + rng.randint(1, SIZE // 2))
        if process.poll() is None:
            os.killpg(process.pid, number)
        code, _, errors = wait_for_exit(process)
        assert code in (0, -number, 130) or "KeyboardInterrupt" in errors, f"seed {seed}:\n{errors}"
        offset, is_done = check_record(box, recorded, offset, seed)
        if is_done:  # also if it is killed after the end of the run
            break
    else:
        code, out, errors = wait_for_exit(start_script(path, executor))
        assert (code, out) == (0, f"{EXPECTED}\n"), f"seed {seed}:\n{errors}"
        check_record(box, recorded, offset, seed)
    assert len(recorded) == 2 * SIZE, f"seed {seed}"
    assert {f"{task}-{row}" for task in ("first", "second") for row in range(SIZE)} == set(box.ran), f"seed {seed}"


def wait_for_calls(process, box, number):
    wait_until(lambda: len(box.ran) >= number or process.poll() is not None, pause=0.0002)


def check_record(box, recorded, offset, seed):
    """Check that no element that was recorded has run again or is lost.

    Returns:
        The number of calls so far, and whether the run has succeeded.
    """
    ran = box.ran
    again = recorded.intersection(ran[offset:])
    assert not again, f"seed {seed}: {sorted(again)} ran again, though recorded"
    with StateManager(box.db) as state:
        runs = state.runs()
        assert len(runs) <= 1, f"seed {seed}"
        tasks = runs[0].tasks if runs else {}
        now = {
            f"{name}-{number}"
            for name in ("first", "second")
            if name in tasks and tasks[name].elements is not None
            for number, state in tasks[name].elements.states.items()
            if state == "succeeded"
        }
    assert recorded <= now, f"seed {seed}: {sorted(recorded - now)} are lost"
    assert not now.difference(ran), f"seed {seed}"
    recorded |= now
    repeated = [name for name, count in Counter(ran).items() if count > 1]
    assert len(repeated) < SIZE, f"seed {seed}: {len(repeated)} calls were repeated"
    return len(ran), bool(runs) and runs[0].status == "succeeded"
