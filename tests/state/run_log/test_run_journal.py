"""The record of a run: what is written, and when that is refused."""

from __future__ import annotations

import threading

import pytest
from recorded_runs import LARGE, Money, begin, fail_statement, outcome, record

from flowkit_state import (
    StateFileError,
    StateManager,
    StateOptionError,
    UnknownRunError,
    UnsupportedValueError,
    UntrustedPickleError,
)


def test_run_record_contains_outcomes_of_tasks(state):
    journal = begin(state)
    assert (journal.run_id, dict(journal.done)) == ("a", {})
    record(journal, 0, [1, 2])
    assert state.run("a").status == "running"
    assert state.run("a").tasks["transform"].state == "pending"
    record(journal, 1, None, "failed", attempts=3, error=ValueError("no"))
    journal.close("failed", [], ValueError("no"))
    found = state.run("a")
    assert (found.status, found.pipeline, found.error, found.resumes) == ("failed", "etl", "ValueError: no", 0)
    assert found.ended >= found.started
    assert found.counts == {"succeeded": 1, "failed": 1}
    assert found.tasks["extract"].result() == [1, 2]
    assert (len(found.tasks["transform"].attempts), found.tasks["transform"].duration) == (3, 0.5)
    assert str(found.tasks["transform"].error) == "ValueError: no"
    with pytest.raises(LookupError, match="'transform' has no result: it is failed"):
        found.tasks["transform"].result()


def test_resume_continues_last_run_unless_it_succeeded(state):
    journal = begin(state)
    record(journal, 0, (1, 2))
    record(journal, 1, None, "skipped", reason="its condition was false")
    journal.close("interrupted", [], None)
    again = begin(state, "b", resume=True)
    assert again.run_id == "a"
    assert {place: (done.state, done.value) for place, done in again.done.items()} == {
        0: ("succeeded", (1, 2)),
        1: ("skipped", None),
    }
    again.close("succeeded", [], None)
    assert state.run("a").resumes == 1
    fresh = begin(state, "b", resume=True)
    assert (fresh.run_id, dict(fresh.done)) == ("b", {})
    fresh.close("succeeded", [], None)
    assert [run.run_id for run in state.runs("etl")] == ["b", "a"]
    assert state.runs("another") == []


def test_lone_surrogates_in_the_name_of_a_worker_are_kept_readable(state):
    journal = begin(state)
    record(journal, 0, [1, 2], worker="caf\udce9")
    assert state.run("a").tasks["extract"].attempts[0].worker == "caf\\udce9"


def test_closing_run_preserves_recorded_outcomes(state):
    journal = begin(state)
    record(journal, 0, [1])
    journal.close("interrupted", [outcome(index, "cancelled", reason="called off") for index in (0, 1)], None)
    assert {name: task.state for name, task in state.run("a").tasks.items()} == {
        "extract": "succeeded",
        "transform": "cancelled",
    }


def test_unsupported_result_is_refused(state):
    journal = begin(state)
    with pytest.raises(UnsupportedValueError, match='the result of task "extract" is of type builtin_function'):
        journal.prepare(0, print)


def test_results_are_pickled_with_pickle_serializer(path):
    with StateManager(path, serializer="pickle") as state:
        journal = begin(state)
        record(journal, 0, Money(7))
        record(journal, 1, [Money(1)] * 100_000)
        journal.close("failed", [], None)
        assert state.run("a").tasks["extract"].result() == Money(7)
        assert len(state.run("a").tasks["transform"].result()) == 100_000


def test_pickles_in_untrusted_folder_are_refused_before_run(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with StateManager(folder / "runs.db", serializer="pickle") as state:
        with pytest.raises(UntrustedPickleError, match="can be written by other users"):
            begin(state)
        folder.chmod(0o700)
        begin(state).close("succeeded", [], None)


def test_unknown_run_id_raises_unknown_run_error(state):
    for ask in (state.run, state.forget, state.release, state.explain):
        with pytest.raises(UnknownRunError, match="no run 'x'"):
            ask("x")
    assert state.explain() == {}


def test_json_file_cannot_record_runs(tmp_path):
    state = StateManager(tmp_path / "state.json")
    with pytest.raises(StateOptionError, match="runs are recorded in a SQLite database"):
        begin(state)
    with pytest.raises(StateOptionError):
        state.runs()


@pytest.mark.parametrize("replaced", [True, False])
def test_closing_run_fails_if_database_was_moved_or_replaced(path, replaced):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, [1])
        path.rename(path.with_name("elsewhere.db"))
        if replaced:
            path.write_bytes(b"")
        with pytest.raises(StateFileError, match="moved, removed or replaced"):
            journal.close("succeeded", [], None)


def test_recording_inside_open_batch_is_refused(path):
    with StateManager(path) as state:
        journal = begin(state)
        batch = state.batch()
        batch.__enter__()
        with pytest.raises(StateFileError, match="left a batch"):
            record(journal, 0, [1])
        batch.__exit__(None, None, None)
        record(journal, 0, [1])
        journal.close("failed", [], None)


def test_threads_can_create_database_at_same_time(path):
    problems = []

    def use(number):
        try:
            with StateManager(path) as state:
                journal = begin(state, str(number))
                record(journal, 0, number)
                journal.close("succeeded", [], None)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with StateManager(path) as state:
        assert {run.run_id: run.tasks["extract"].result() for run in state.runs()} == {str(n): n for n in range(8)}


def test_failed_statement_leaves_complete_records(path, monkeypatch):
    """The n-th statement fails, for every n: what was recorded before is complete, and the file can be opened."""
    for limit in range(1, 100):
        place = path.with_name(f"{limit}.db")
        recorded = []
        StateManager(place).close()
        with monkeypatch.context() as patch:
            calls = fail_statement(patch, limit)
            try:
                with StateManager(place) as state:
                    journal = begin(state)
                    for number, value in enumerate(([1], LARGE)):
                        record(journal, number, value)
                        recorded.append(value)
                    journal.close("succeeded", [], None)
                    recorded.append("end")
            except StateFileError:
                journal = None  # releases the run, as the death of the process would
        with StateManager(place) as state:
            runs = state.runs()
            assert len(runs) == 1 or not recorded
            if runs:
                tasks = runs[0].tasks.values()
                found = [task.result() for task in tasks if task.state == "succeeded"]
                assert found[: len(recorded)] == [value for value in recorded if value != "end"]
                assert (runs[0].status == "succeeded") >= ("end" in recorded)
                assert begin(state, "b", resume="force").run_id == ("b" if runs[0].status == "succeeded" else "a")
        if len(calls) < limit:
            return
    pytest.fail("more than 100 statements")
