"""`flowkit watch`: follows a run until it ends."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest

from flowkit_state import StateManager
from flowkit_view.follow import follow
from flowkit_view.progress import ElementBar

TASKS = [
    SimpleNamespace(name=name, func=list, when=None, trigger="none_failed") for name in ("extract", "load", "report")
]


class RecordedRun:
    """A run whose tasks end one by one, each time that the follower sleeps."""

    def __init__(self, state):
        self.state = state
        self.journal = state.open_run("1", "etl", TASKS, [(), (0,), (1,)], {}, resume=False)
        self.steps = iter([lambda: self.end(0, "succeeded"), lambda: self.end(1, "failed"), self.close])

    def end(self, index, state, error=None):
        error = ValueError("bad\x1b[2J") if state == "failed" else None
        facts = {"reason": "", "source": "run", "why": "", "ready": None, "worker": None, "process": None, "host": None}
        stored = self.journal.prepare(index, 1) if state == "succeeded" else None
        outcome = SimpleNamespace(
            index=index, number=1, state=state, ended=time.time(), seconds=0.5, stored=stored, error=error, **facts
        )
        self.journal.record([outcome])

    def close(self):
        self.journal.close("failed", [], None)

    def sleep(self, seconds):
        next(self.steps, lambda: None)()


@pytest.fixture
def run():
    with StateManager() as state:
        yield RecordedRun(state)


def test_follow_shows_tasks_that_end_and_failures(run, capsys):
    record = follow(run.state, run.state.run("1"), sleep=run.sleep)
    assert record.status == "failed"
    lines = [line[10:] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "[INFO] etl: [                    ] 0% (0 of 3 tasks)",
        "[INFO] etl: [======              ] 33% (1 of 3 tasks)",
        r'[ERROR] Task "load" failed: ValueError: bad\x1b[2J',
        "[INFO] etl: [=============       ] 66% (2 of 3 tasks)",
        "[INFO] etl: [=============       ] 66% (2 of 3)",
    ]


def test_follow_shows_elements_of_running_mapped_tasks(capsys):
    """The bar of a mapped task appears when its first elements are recorded, and ends with the task."""

    def record(status, state, counts):
        failed = {2: "ValueError: bad"}
        elements = None if counts is None else SimpleNamespace(size=4, counts=counts, failed=failed, labels={2: "two"})
        task = SimpleNamespace(state=state, elements=elements)
        return SimpleNamespace(run_id="1", pipeline="etl", status=status, tasks={"parse": task})

    first, *others = [
        record("running", "pending", None),
        record("running", "pending", {"succeeded": 1, "pending": 3}),
        record("running", "pending", {"succeeded": 1, "failed": 1, "pending": 2}),
        record("succeeded", "succeeded", {"succeeded": 3, "failed": 1}),
    ]
    records = iter(others)
    follow(SimpleNamespace(run=lambda run_id: next(records)), first, sleep=lambda seconds: None)
    lines = [re.sub(r"\), .*", ")", line[10:]) for line in capsys.readouterr().err.splitlines()]
    assert lines.count("[WARN] Element parse[2] (two) failed: ValueError: bad") == 1
    assert [line for line in lines if "parse:" in line] == [
        "[INFO] parse: [                    ] 0% (0 of 4)",
        "[INFO] parse: [=====               ] 25% (1 of 4)",
        "[INFO] parse: [==========          ] 50% (2 of 4)",
        "[INFO] parse: [====================] 100% (4 of 4)",
    ]


def test_quiet_follow_prints_nothing(run, capsys):
    assert follow(run.state, run.state.run("1"), quiet=True, sleep=run.sleep).status == "failed"
    assert capsys.readouterr().err == ""


def test_watch_of_run_that_has_ended_prints_how(recorded, flowkit):
    answer = flowkit("watch", recorded)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("etl: failed in ")
    assert flowkit("watch", recorded, "last~1", "--json").json["status"] == "succeeded"


def test_rate_counts_the_elements_that_end_after_the_bar_begins():
    """29 of 60 elements have ended before, and 2 in the second after it."""
    now = [0.0]
    bar = ElementBar("parse", 60, lambda: now[0], before=29)
    bar.advance(29)
    now[0] = 1.0
    assert "/s" not in bar.status()
    bar.advance(2)
    assert bar.status().endswith("(31 of 60), 2/s, 14.5 s left")
