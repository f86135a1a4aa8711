"""`gc()` deletes only files that it has created, and follows no symbolic link."""

from __future__ import annotations

import os

import pytest
from recorded_runs import LARGE, begin, record

from flowkit_state import StateFileError, StateManager

NAME = "ab" + "0" * 62


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def state(path):
    """A manager whose folder of files has one file that is needed and one that is not."""
    with StateManager(path) as state:
        for run_id, value in (("a", LARGE), ("b", LARGE + b"!")):
            journal = begin(state, run_id)
            record(journal, 0, value)
            journal.close("failed", [], None)
        state.forget("b")
        yield state


@pytest.fixture
def folder(path):
    return path.with_name("runs.db.files")


def listing(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


STRANGERS = [
    ".DS_Store",
    "notes.txt",
    "ab/.DS_Store",
    "ab/notes.txt",
    f"ab/{'cd' + '0' * 62}",
    f"ab/{NAME[:-1]}",
    f"ab/{NAME}.bak",
    f"ab/{NAME}.tmp",
    f"ab/{NAME}.12-xyz.tmp",
    f"AB/{NAME.upper()}",
    f"abc/{NAME}",
    f"other/{NAME}",
    f"ab/{NAME}/inside",
    f"ab/folder/{NAME}",
    NAME,
]


def test_gc_leaves_files_of_strangers(state, folder):
    for name in STRANGERS:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("keep me")
    before = listing(folder)
    assert (state.gc().files, state.gc().files) == (1, 0)
    after = listing(folder)
    assert len(after) == len(before) - 1
    assert all(name in after for name in STRANGERS)
    assert state.run("a").tasks["extract"].result() == LARGE


def test_gc_deletes_file_that_no_row_refers_to(state, folder):
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "ab" / NAME).write_text("unused")
    (folder / "ab" / f"{NAME}.12-0123456789ab.tmp").write_text("half")
    assert state.gc().files == 3


def victims(tmp_path):
    outside = tmp_path / "outside"
    (outside / "ab").mkdir(parents=True)
    (outside / NAME).write_text("keep me")
    (outside / "ab" / NAME).write_text("keep me")
    return outside


def check(outside):
    assert listing(outside) == ["ab", f"ab/{NAME}", NAME]


def test_gc_follows_no_link_to_folder_of_group(tmp_path, state, folder):
    outside = victims(tmp_path)
    (folder / "ab").symlink_to(outside, target_is_directory=True)
    assert state.gc().files == 1
    check(outside)


def test_gc_follows_no_link_to_file(tmp_path, state, folder):
    outside = victims(tmp_path)
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "ab" / NAME).symlink_to(outside / NAME)
    assert state.gc().files == 1
    check(outside)
    assert (folder / "ab" / NAME).is_symlink()


def test_gc_follows_no_link_in_place_of_folder(tmp_path, state, folder):
    outside = victims(tmp_path)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(outside, target_is_directory=True)
    assert state.gc().files == 0
    check(outside)


def test_gc_accepts_file_in_place_of_folder(tmp_path, state, folder):
    folder.rename(tmp_path / "moved")
    folder.write_text("a file")
    assert state.gc().files == 0
    assert folder.read_text() == "a file"


def test_gc_ignores_broken_links_fifos_and_links_to_itself(state, folder):
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "cd").symlink_to("nowhere")
    (folder / "ef").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "ab" / NAME)
    before = listing(folder)
    assert state.gc().files == 1
    assert len(listing(folder)) == len(before) - 1


@pytest.mark.skipif(os.geteuid() == 0, reason="platform: root may delete all files")
def test_file_that_cannot_be_deleted_is_error_that_names_folder(state, folder):
    group = next(iter(folder.iterdir()))
    group.chmod(0o500)
    try:
        with pytest.raises(StateFileError, match="cannot delete files in it"):
            state.gc()
    finally:
        group.chmod(0o700)
