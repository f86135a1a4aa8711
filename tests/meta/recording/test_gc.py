"""`StateManager.forget()` and `gc()`."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flowkit import DAG, StateManager, UnknownRunError


@pytest.fixture(params=["file", "memory"])
def state(request, box):
    with StateManager(box.db if request.param == "file" else None) as state:
        yield state


def run(state, *tasks, name="history", **options):
    return DAG(name, tasks=tasks).run("serial", state=state, raise_on_failure=False, **options)


def test_forget_removes_run(box, state):
    first, second = run(state, box.task("a")), run(state, box.task("a"))
    state.forget(first.run_id)
    assert [record.run_id for record in state.runs()] == [second.run_id]
    with pytest.raises(UnknownRunError):
        state.run(first.run_id)


def test_forgotten_run_is_not_resumed(box, state):
    box.inject("b", "fail")
    a, b = box.task("a"), box.task("b")
    a >> b
    failed = run(state, b)
    state.forget(failed.run_id)
    box.repair("b")
    results = run(state, b, resume=True)
    assert results.run_id != failed.run_id
    assert set(results.resumed) == set()


LARGE = 300_000


def files(box):
    folder = Path(box.db + ".files")
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_gc_of_empty_state_reclaims_nothing(state):
    reclaimed = state.gc()
    assert (reclaimed.runs, reclaimed.files, reclaimed.bytes) == (0, 0, 0)


def test_gc_removes_unreferenced_files(box):
    with StateManager(box.db) as state:
        one = run(state, box.task("a", value="x" * LARGE), box.task("b", value="y" * LARGE))
        two = run(state, box.task("a", value="x" * LARGE))
        assert len(files(box)) == 2
        assert state.gc().files == 0
        state.forget(one.run_id)
        reclaimed = state.gc()
        assert (reclaimed.runs, reclaimed.files) == (0, 1)
        assert reclaimed.bytes > 0
        assert len(files(box)) == 1
        assert state.run(two.run_id).tasks["a"].result() == "x" * LARGE
        state.forget(two.run_id)
        assert state.gc().files == 1
        assert files(box) == []
        assert state.gc().files == 0


def test_gc_keeps_newest_runs_of_each_pipeline(box):
    with StateManager(box.db) as state:
        ids = {
            name: [run(state, box.task("a", value=f"{name}{number}" * LARGE), name=name).run_id for number in range(3)]
            for name in ("one", "two")
        }
        box.inject("a", "fail")
        unfinished = run(state, box.task("a"), name="one").run_id
        reclaimed = state.gc(keep=1)
        assert (reclaimed.runs, reclaimed.files) == (4, 4)
        assert {record.run_id for record in state.runs()} == {ids["one"][2], ids["two"][2], unfinished}
        assert len(files(box)) == 2
        assert state.gc(keep=1).runs == 0
        assert state.run(ids["one"][2]).tasks["a"].result() == "one2" * LARGE
        assert state.gc(keep=0).runs == 2
        assert [record.run_id for record in state.runs()] == [unfinished]


def test_gc_without_keep_removes_no_run(box, state):
    for _ in range(3):
        run(state, box.task("a"))
    assert state.gc().runs == 0
    assert len(state.runs()) == 3


def test_gc_keeps_files_of_cached_results(box):
    cached = box.task("a", value="x" * LARGE, cache=True)
    with StateManager(box.db) as state:
        run(state, cached)
        assert state.gc(keep=0).runs == 1
        assert len(files(box)) == 1
        assert run(state, cached) == {"a": "x" * LARGE}
    assert box.ran == ["a"]


@pytest.mark.parametrize("keep", [-1, 1.5, "2", True])
def test_gc_invalid_keep_raises(state, keep):
    with pytest.raises((ValueError, TypeError), match="keep"):
        state.gc(keep=keep)


def test_gc_during_runs_keeps_their_files(box):
    """A file is written before the row that refers to it."""
    stop = threading.Event()
    problems = []

    def collect():
        with StateManager(box.db) as state:
            while not stop.is_set():
                try:
                    state.gc()
                except Exception as error:
                    problems.append(error)
                    return
                stop.wait(0.001)  # otherwise it would block the database

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for number in range(8):
            tasks = [box.task(f"t{index}", value=f"{number}.{index}" * LARGE) for index in range(3)]
            last = box.task("last")
            tasks >> last
            results = DAG("beside", max_workers=2, tasks=[last]).run("thread", state=box.db)
            with StateManager(box.db) as state:
                recorded = {name: item.result() for name, item in state.run(results.run_id).tasks.items()}
                assert recorded == results
    finally:
        stop.set()
        collector.join()
    assert problems == []
