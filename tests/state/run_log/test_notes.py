"""Notes of tasks and their elements: `RunJournal.remember` and `notes`."""

from __future__ import annotations

import sqlite3

import pytest
from recorded_runs import LARGE, begin

from flowkit_state import StateFileError, StateManager, UnsupportedValueError


def test_notes_are_kept_by_task_and_element(state):
    journal = begin(state)
    journal.remember(0, None, "page", 7)
    journal.remember(1, None, "page", 8)
    journal.remember(1, 3, "page", (9, b"x"))
    assert journal.notes(0, None) == {"page": 7}
    assert journal.notes(1, None) == {"page": 8}
    assert journal.notes(1, 3) == {"page": (9, b"x")}
    assert journal.notes(1, 4) == {}


def test_last_value_of_a_note_survives_resume(state):
    journal = begin(state)
    journal.remember(0, None, "page", 1)
    journal.remember(0, None, "page", LARGE)
    journal.remember(0, None, "caf\udce9", [2])
    journal.close("interrupted", [], None)
    assert begin(state, "b", resume=True).notes(0, None) == {"page": LARGE, "caf\udce9": [2]}


def test_notes_belong_to_one_run(state):
    journal = begin(state)
    journal.remember(0, None, "page", 1)
    journal.close("succeeded", [], None)
    assert begin(state, "b").notes(0, None) == {}


def test_unsupported_note_is_refused_with_its_name(state):
    with pytest.raises(UnsupportedValueError, match="the note 'page' of task \"extract\""):
        begin(state).remember(0, None, "page", print)


def test_notes_are_refused_inside_batch(path):
    with StateManager(path) as state:
        journal = begin(state)
        with state.batch(), pytest.raises(StateFileError, match="left a batch"):
            journal.remember(0, None, "page", 1)
        assert journal.notes(0, None) == {}


def test_forget_deletes_notes_and_their_files(path):
    with StateManager(path) as state:
        journal = begin(state)
        journal.remember(0, None, "page", LARGE)
        journal.close("succeeded", [], None)
        assert state.gc().files == 0
        state.forget("a")
        assert state.gc().files == 1
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    database.close()
