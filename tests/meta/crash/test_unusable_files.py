"""Databases that cannot be created, opened or written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from crash_scripts import assert_resumed
from durable_tasks import RESULTS, diamond

from flowkit import DamagedStateWarning, StateFileError, StateManager, StateVersionError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("resume", [False, True])
def test_path_not_writable_raises_before_any_task_runs(box, resume):
    file, folder = Path(box.folder, "file"), Path(box.folder, "folder.db")
    file.touch()
    folder.mkdir()
    for path in (file / "runs.db", folder, *([Path("/proc/flowkit/runs.db")] if Path("/proc/self").exists() else [])):
        with pytest.raises(StateFileError) as caught:
            diamond().run("serial", state=path, params=box.params, resume=resume)
        assert str(path) in str(caught.value)
    assert box.ran == []


def test_read_only_folder_raises(failed_box):
    if os.geteuid() == 0:
        pytest.skip("platform: root can write to every folder")
    folder = Path(failed_box.folder)
    state = folder / "closed"
    state.mkdir()
    for path in folder.glob("runs.db*"):
        shutil.move(path, state / path.name)
    state.chmod(0o500)
    try:
        with pytest.raises(StateFileError, match=r"runs\.db"):
            diamond().run("serial", state=state / "runs.db", params=failed_box.params, resume=True)
    finally:
        state.chmod(0o700)
    assert_resumed(failed_box, state / "runs.db")


@pytest.mark.parametrize("content", [b"this is no database, only text. " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_file_that_is_no_database_is_not_overwritten(box, content):
    """It raises, or the file is moved and a warning has its new path."""
    Path(box.db).write_bytes(content)
    try:
        with pytest.warns(DamagedStateWarning, match=r"runs\.db"):
            results = diamond().run("serial", state=box.db, params=box.params, resume=True)
    except StateFileError:
        assert box.ran == []
    else:
        assert results == RESULTS
    assert content in [path.read_bytes() for path in Path(box.folder).iterdir() if path.is_file()]


def test_database_of_another_program_is_not_changed(box):
    connection = sqlite3.connect(box.db)
    connection.execute("CREATE TABLE runs (run_id TEXT)")
    connection.commit()
    connection.close()
    before = Path(box.db).read_bytes()
    with pytest.raises(StateFileError, match="another program"):
        diamond().run("serial", state=box.db, params=box.params)
    assert Path(box.db).read_bytes() == before
    assert box.ran == []


def test_database_of_newer_version_raises(failed_box):
    connection = sqlite3.connect(failed_box.db)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    ran = failed_box.ran
    for resume in (False, True, "force"):
        with pytest.raises(StateVersionError) as caught:
            diamond().run("serial", state=failed_box.db, params=failed_box.params, resume=resume)
        assert (caught.value.found, caught.value.supported) == (99, version)
    assert failed_box.ran == ran
    connection = sqlite3.connect(failed_box.db)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    assert_resumed(failed_box)


@pytest.mark.parametrize("days", [-10_000, -1, 10_000])
def test_wall_clock_that_was_changed_does_not_prevent_resume(failed_box, days):
    with StateManager(failed_box.db, clock=lambda: time.time() + days * 86_400) as state:
        assert_resumed(failed_box, state)
        (record,) = state.runs()
        assert record.duration >= 0
        fresh = diamond().run("serial", state=state, params=failed_box.params)
        assert state.runs()[0].run_id == fresh.run_id
