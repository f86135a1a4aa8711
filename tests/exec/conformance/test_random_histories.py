"""Histories of random runs on every executor, checked without knowledge of the executor."""

from __future__ import annotations

import sys

import pytest
from executor_fixtures import EVERY, LOCAL, PROCESS, made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_histories import check, note, recorded

from flowkit_core import SerialExecutor

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

TRIGGERS = ("none_failed",) * 6 + ("all_success", "all_done", "one_success", "one_failed")
STEPS = st.tuples(
    st.lists(st.integers(0, 30), max_size=4),
    st.sampled_from((0, 0, 0, 0, 1, 2, 9)),
    st.sampled_from((0, 0, 1, 2)),
    st.sampled_from(TRIGGERS),
    st.sampled_from((False,) * 9 + (True,)),
)
PLANS = st.lists(STEPS, min_size=1, max_size=14)
WORKERS = {"serial": 1} | {name: int(name[-1]) for name in EVERY if name[-1].isdigit()}
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

local_name = pytest.mark.parametrize("name", LOCAL)
process_executor = made({"process-2": PROCESS["process-2"]})


@pytest.fixture
def hurried():
    """Switch threads as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def patient(monkeypatch):
    """Give running tasks time to end when a run fails, on a slow machine too."""
    monkeypatch.setattr("flowkit_core.runs.session.STOP_GRACE", 60.0)


@local_name
@settings(max_examples=40, suppress_health_check=CHECKS)
@given(plan=PLANS, fail_fast=st.booleans())
def test_history_of_a_random_run_is_valid(hurried, tmp_path, name, plan, fail_fast):
    history, run = recorded(tmp_path / "history", plan, LOCAL[name](), fail_fast=fail_fast)
    assert not list(check(history, run, WORKERS[name], fail_fast=fail_fast)), history.lines


@settings(max_examples=40, suppress_health_check=CHECKS)
@given(plan=PLANS, fail_fast=st.booleans())
def test_history_of_a_random_run_on_processes_is_valid(process_executor, patient, tmp_path, plan, fail_fast):
    """Without the check of fail fast: a worker continues until it is notified of a failure in another one."""
    history, run = recorded(tmp_path / "history", plan, process_executor, fail_fast=fail_fast)
    assert not list(check(history, run, 2, fail_fast=False)), history.lines


# The checker


SOUND = [((), 1, 1, "none_failed", False), ((0,), 0, 0, "none_failed", False), ((0,), 9, 0, "none_failed", False)]


@pytest.fixture
def sound(tmp_path):
    """A valid history: task_0 takes two attempts, task_1 follows, task_2 fails."""
    history, run = recorded(tmp_path / "history", SOUND, SerialExecutor(), fail_fast=True)
    assert not check(history, run, 1, fail_fast=True)
    return history, run


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda lines: lines.remove(("TaskSucceeded", "task_1")), "task_1 ended 0 times"),
        (lambda lines: lines.append(("TaskSucceeded", "task_1")), "task_1 ended 2 times"),
        (lambda lines: lines.extend([("begin", "task_1"), ("end", "task_1")]), "task_1 ran 2 times"),
        (lambda lines: lines.insert(0, ("begin", "task_1")), "task_1 began before ['task_0'] was left"),
        (lambda lines: lines.insert(0, ("TaskStarted", "task_1")), "task_1 started before ['task_0'] ended"),
        (lambda lines: lines.insert(1, ("begin", "task_1")), "task_1 began before ['task_0'] was left"),
        (lambda lines: lines.insert(-1, ("begin", "task_0")), "task_0 began 3 and ended 2 times, told 2 times"),
        (lambda lines: lines.insert(lines.index(("end", "task_0")), ("begin", "task_1")), "2 tasks ran at once"),
        (lambda lines: lines.append(("TaskStarted", "task_1")), "task_1 started after task_2 had failed"),
        (lambda lines: lines.insert(0, ("TaskRetrying", "task_0")), "task_0 was to be repeated without having failed"),
        (lambda lines: lines.extend([("begin", "task_0")] * 2), "task_0 began while it was running"),
        (lambda lines: lines.append(("TaskNotRun", "task_0")), "task_0 began, but was said not to have run"),
        (lambda lines: lines.append(("TaskFailed", "task_1")), "task_1 failed, but its state is succeeded"),
    ],
)
def test_checker_finds_invalid_histories(sound, spoil, complaint):
    history, run = sound
    spoil(history.lines)
    assert any(found.startswith(complaint) for found in check(history, run, 1, fail_fast=True))


def test_note_appends_one_line(tmp_path):
    for number in range(3):
        note(tmp_path / "notes", "line", number)
    assert (tmp_path / "notes").read_text("utf-8") == "line 0\nline 1\nline 2\n"
