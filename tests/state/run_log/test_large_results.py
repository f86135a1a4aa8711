"""Blob files of large results, and their deletion by `gc`."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_runs import LARGE, begin, outcome, record

from flowkit_state import (
    Reclaimed,
    RestoreError,
    StateManager,
    StateOptionError,
    StateOptionTypeError,
    TaskCache,
)


def files(path):
    return sorted(found for found in Path(f"{path}.files").rglob("*") if found.is_file())


def test_large_result_is_stored_in_private_blob_file(path):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, LARGE)
        record(journal, 1, LARGE)
        (found,) = files(path)  # both results have the same content
        assert found.stat().st_mode & 0o077 == 0
        journal.close("failed", [], None)
        assert begin(state, "b", resume=True).done[1].value == LARGE
    assert path.stat().st_size < 100_000


def test_missing_or_damaged_blob_file_is_named_in_error(path):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, LARGE)
        journal.close("failed", [], None)
        (found,) = files(path)
        found.write_bytes(b"something else")
        with pytest.raises(RestoreError, match=r"'extract'.*is damaged") as raised:
            begin(state, "b", resume=True)
        assert raised.value.damaged
        found.unlink()
        with pytest.raises(RestoreError, match=r"'extract'.*is missing.*force"):
            begin(state, "b", resume=True)
        assert dict(begin(state, "b", resume="force").done) == {}


def test_gc_deletes_old_runs_and_unreferenced_blob_files(path):
    with StateManager(path) as state:
        for number in range(3):
            journal = begin(state, str(number))
            record(journal, 0, LARGE + bytes([number]))
            journal.close("succeeded", [], None)
        calls = []

        @TaskCache(state)
        def cached():
            calls.append(1)
            return LARGE + b"cached"

        cached()
        assert cached() == LARGE + b"cached"
        assert calls == [1]
        assert len(files(path)) == 4
        assert state.gc().files == 0
        reclaimed = state.gc(keep=1)
        assert (reclaimed.runs, reclaimed.files) == (2, 2)
        assert reclaimed.bytes > 2 * len(LARGE)
        assert [run.run_id for run in state.runs()] == ["2"]
        assert state.run("2").tasks["extract"].result() == LARGE + b"\x02"
        state.forget("2")
        cached.clear()
        assert state.gc().files == 2
        assert files(path) == []


def test_gc_keeps_blob_file_of_run_in_progress(path):
    with StateManager(path) as state:
        journal = begin(state)
        stored = journal.prepare(0, LARGE)  # no row refers to the file yet
        assert state.gc(keep=0).files == 0
        assert len(files(path)) == 1
        journal.record([outcome(0, "succeeded", stored=stored, seconds=0.0)])
        journal.close("failed", [], None)
        assert state.run("a").tasks["extract"].result() == LARGE


def test_gc_deletes_blob_file_of_dead_run(path):
    with StateManager(path) as state:
        begin(state).prepare(0, LARGE)
        assert state.gc().files == 1


def test_gc_older_than_deletes_old_runs_and_results(path):
    now = 1_800_000_000.0
    with StateManager(path, clock=lambda: now) as state:
        begin(state, "old").close("succeeded", [], None)
        cached = TaskCache(state)(lambda: 1)
        cached()
        assert state.gc(older_than=10**9).runs == 0
        now += 100
        state.set("mine", 1)
        assert state.gc(older_than=50).runs == 1
        assert state.keys() == ["mine"]


def test_gc_deletes_temporary_file_of_dead_writer(path):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, LARGE)
        (found,) = files(path)
        found.with_name(f"{found.name}.123-0123456789ab.tmp").write_bytes(b"half")
        assert state.gc().files == 1
        assert files(path) == [found]
        journal.close("succeeded", [], None)


def test_gc_refuses_invalid_arguments(state):
    with pytest.raises(StateOptionError):
        state.gc(keep=-1)
    with pytest.raises(StateOptionTypeError):
        state.gc(keep="all")
    assert repr(state.gc()) == "Reclaimed(runs=0, files=0, bytes=0)"
    assert isinstance(state.gc(), Reclaimed)
