"""System calls that fail, and full disks."""

from __future__ import annotations

import errno
import itertools
import json
import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from crash_scripts import last_run
from durable_tasks import Box

from flowkit import DAG, Results, StateFileError, StateManager
from flowkit_state.storage import syscalls

pytestmark = [pytest.mark.slow, pytest.mark.sampled(3)]


class FailingCalls:
    """Makes the n-th system call fail, or all calls from the n-th on."""

    def __init__(self, monkeypatch):
        self.left = None
        for name, call in vars(syscalls).copy().items():
            if callable(call) and call.__module__ == syscalls.__name__:
                monkeypatch.setattr(syscalls, name, self.wrap(name, call))

    def wrap(self, name, call):
        def wrapped(*arguments):
            if self.left is not None:
                self.left -= 1
                if self.left == 0 or (self.lasting and self.left < 0):
                    if name == "close":
                        call(*arguments)  # close() releases the descriptor even if it fails
                    if name in ("connect", "execute", "execute_many"):
                        raise sqlite3.OperationalError("disk I/O error")
                    raise OSError(errno.ENOSPC, "No space left on device")
            return call(*arguments)

        return wrapped

    def arm(self, number, *, lasting):
        self.left, self.lasting = number, lasting

    def disarm(self):
        hit, self.left = self.left <= 0, None
        return hit


@pytest.mark.parametrize("state_errors", ["raise", "warn"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("executor", ["serial", "thread"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_failing_system_call_loses_no_recorded_result(tmp_path, monkeypatch, executor, lasting, state_errors):
    """No task whose result was recorded runs again, computed results are returned, and the error has the path."""
    failing_calls = FailingCalls(monkeypatch)
    expected = {"large": "x" * 300_000, "cached": 2, "last": 4}
    # Threads make the same calls, and the executors differ only after a failure: every third call is enough.
    step = 1 if executor == "serial" else 3
    for number in itertools.count(random.randint(1, step), step):
        box = Box(tmp_path / str(number))
        Path(box.folder).mkdir()
        large, cached = box.task("large", value=expected["large"]), box.task("cached", value=2, cache=True)
        skipped, last = box.task("skipped", when=lambda: False), box.task("last", value=4)
        large >> cached >> last
        pipeline = DAG("faults", tasks=[last, skipped])
        failing_calls.arm(number, lasting=lasting)
        try:
            results = pipeline.run(executor, state=box.db, state_errors=state_errors)
        except StateFileError as error:
            results = Results.from_error(error) or {}
            failed = True
            assert box.folder in str(error)
        else:
            failed = False
            assert results == expected
        hit = failing_calls.disarm()
        assert set(results) == set(box.ran), f"call {number}"
        with StateManager(box.db) as state:
            run, values = last_run(state)
            assert values == {name: expected[name] for name in values}, f"call {number}"
            assert run is None or run.status != "running", f"call {number}"
            finished = run is not None and run.status == "succeeded"
            assert not (failed and finished), f"call {number}"
            ran = len(box.ran)
            assert pipeline.run(executor, state=state, resume=True) == expected, f"call {number}"
            assert finished or not set(values) & set(box.ran[ran:]), f"call {number}"
        shutil.rmtree(box.folder)
        if not hit:
            break
    assert number > 10


FILL = """
import json, resource, sys
from flowkit import StateError
from durable_tasks import Box
from filling import pipeline

box = Box(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    pipeline(box, int(sys.argv[2])).run("thread", state=box.db)
except StateError as error:
    print(json.dumps([type(error).__name__, str(error), error.__notes__, list(error.flowkit_results)]))
"""
PIPELINE = """
from flowkit import DAG

def pipeline(box, size):
    tasks = [box.task(f"t{number}", value=str(number) * size) for number in range(20)]
    for before, after in zip(tasks, tasks[1:]):
        before >> after
    return DAG("filling", max_workers=1, tasks=tasks[-1:])
"""


@pytest.mark.parametrize(("size", "limit"), [(40_000, 500_000), (300_000, 400_000)], ids=["database", "files"])
def test_full_disk_raises_and_run_can_be_resumed(box, tmp_path, script, load_module, size, limit):
    """Simulated by a limit of the file size."""
    pytest.importorskip("resource", reason="platform: no resource limits")
    pipeline = load_module(PIPELINE, "filling").pipeline
    out = script(FILL, box.folder, size, limit)
    kind, text, notes, results = json.loads(out)
    ran = box.ran
    assert kind == "StateFileError"
    assert "runs.db" in text
    assert any(ran[-1] in note for note in notes)
    assert results == ran, "including the result that could not be recorded"
    assert 1 <= len(ran) < 20
    with StateManager(box.db) as state:
        _, recorded = last_run(state)
        assert list(recorded) == ran[:-1]
        results = pipeline(box, size).run("serial", state=state, resume=True)
    assert results == {f"t{number}": str(number) * size for number in range(20)}
    assert set(results.resumed) == set(recorded)
    assert Counter(box.ran) == {name: 1 + (name == ran[-1]) for name in results}
    assert not list(Path(box.folder).rglob("*.tmp"))
