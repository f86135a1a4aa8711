"""A run that is interrupted at a random time or at any line can be resumed in the same process."""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
from pathlib import Path

import pytest
from crash_scripts import last_run
from durable_tasks import Box

import flowkit_core
import flowkit_state
from flowkit import DAG, StateFileError, StateManager

pytestmark = pytest.mark.slow

INTERRUPTED = """
import random, signal, sys
from flowkit import DAG, StateManager
from flowkit_exec.thread import lane as thread_lane
from durable_tasks import Box

thread_lane.JOIN_TIMEOUT = 60.0  # an abandoned task would run while the script checks what has run
box, executor, seed = Box(sys.argv[1]), sys.argv[2], sys.argv[3]
rng = random.Random(seed)
armed = False

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

def pipeline():
    tasks = [box.task(f"t{number}", value=str(number) * (300_000 if number == 5 else 1)) for number in range(12)]
    for number in range(1, 12):
        tasks[number - 1 if number % 3 else 0] >> tasks[number]
    return DAG("interrupted", max_workers=2, tasks=tasks)

signal.signal(signal.SIGALRM, interrupt)
recorded, offset, count = set(), 0, 0
with StateManager(box.db) as state:
    while True:
        seconds = 1e-6 + rng.random() * rng.choice([0.005, 0.02, 0.06]) * 1.1**count
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            results = pipeline().run(executor, state=state, resume=True)
            armed = False
        except KeyboardInterrupt:
            armed, results = False, None
            count += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        ran = box.ran
        assert not recorded & set(ran[offset:]), ("ran again", recorded & set(ran[offset:]))
        offset = len(ran)
        runs = state.runs()
        if runs:
            assert len(runs) == 1
            assert runs[0].status in ("interrupted", "succeeded"), runs
            recorded = {name for name, item in runs[0].tasks.items() if item.state == "succeeded"}
            if runs[0].status == "succeeded":
                break
assert len(recorded) == 12
print(count)
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_interrupt_at_random_time_can_be_resumed(tmp_path, script, executor):
    interrupts = 0
    for number in range(8):
        box = Box(tmp_path / str(number))
        Path(box.folder).mkdir()
        interrupts += int(script(INTERRUPTED, box.folder, executor, os.urandom(4).hex()))
    assert interrupts


class InterruptAtLine:
    """Raises KeyboardInterrupt at the n-th line or return of code of flowkit."""

    folders = tuple(str(Path(module.__file__).parent) for module in (flowkit_core, flowkit_state))

    def __init__(self, offset):
        self.left = offset
        self.where = None

    def __call__(self, frame, event, argument):
        traced = frame.f_code.co_filename.startswith(self.folders) and frame.f_code.co_name != "__del__"
        return self.local if traced else None

    def local(self, frame, event, argument):
        self.left -= event in ("line", "return")
        if self.left == 0:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}, {event}"
            sys.settrace(None)
            raise KeyboardInterrupt
        return self.local


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # file between open() and its with block
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # generator that is closed
def test_interrupt_at_any_line_leaves_state_usable(tmp_path):
    offset, step = random.randint(1, 8), 8
    while True:
        box = Box(tmp_path / str(offset))
        Path(box.folder).mkdir()
        pipeline = DAG("lines", tasks=[box.task("only")])
        with StateManager(box.db) as state, StateManager(box.db, lock_timeout=0.05) as other:
            interrupt, before = InterruptAtLine(offset), sys.gettrace()
            sys.settrace(interrupt)
            try:
                pipeline.run("serial", state=state)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before)
            if interrupt.where is None:
                break
            run, values = last_run(other)
            assert run is None or run.status in ("interrupted", "succeeded"), interrupt.where
            ran = len(box.ran)
            try:
                other.set("mine", offset)
                assert pipeline.run("serial", state=state, resume=True) == {"only": "only"}, interrupt.where
            except StateFileError as error:
                pytest.fail(f"interrupted at {interrupt.where}: {error}")
            assert other.runs()[0].status == "succeeded", interrupt.where
            again = run is None or run.status == "succeeded" or not values
            assert len(box.ran) - ran == again, interrupt.where
        shutil.rmtree(box.folder)
        offset += step
    assert offset > 500
    gc.collect()  # unclosed files are reported in this test, not in another one
