"""A pipeline of two tasks, and functions that record a run of it as `run(state=...)` does."""

from __future__ import annotations

import sqlite3
import time
from types import SimpleNamespace

from flowkit_state.storage import syscalls

LARGE = bytes(range(256)) * 2000  # goes to a blob file


class Money:
    """A class that only pickle and a custom serializer support."""

    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return self.cents == other.cents

    __hash__ = None


def extract():
    return [1, 2, 3]


def transform(rows):
    return sorted(rows)


def other(rows):
    return sorted(rows, reverse=True)


def planned(name, func, trigger="none_failed"):
    return SimpleNamespace(name=name, func=func, when=None, trigger=trigger)


TASKS = [planned("extract", extract), planned("transform", transform)]
UPSTREAM = [(), (0,)]


def begin(state, run_id="a", *, tasks=TASKS, upstream=UPSTREAM, params=None, resume=False):
    return state.open_run(run_id, "etl", tasks, upstream, params or {}, resume)


def outcome(index, state, *, stored=None, number=1, seconds=None, **facts):
    facts = {"reason": "", "error": None, "source": "run", "why": "", "ready": None, "worker": None} | facts
    facts = {"process": None, "host": None, "ended": time.time()} | facts
    return SimpleNamespace(index=index, state=state, stored=stored, number=number, seconds=seconds, **facts)


def record(journal, index, value, state="succeeded", *, attempts=1, seconds=0.5, **facts):
    stored = journal.prepare(index, value) if state == "succeeded" else None
    for number in range(1, attempts):
        journal.record([outcome(index, "retrying", number=number, seconds=seconds, **facts)])
    seconds = seconds if state in ("succeeded", "failed") else None
    journal.record([outcome(index, state, stored=stored, number=attempts, seconds=seconds, **facts)])


def element(journal_of_map, number, given, value=None, state="succeeded", **facts):
    """Return the prepared row of an element, given its mapped value."""
    facts = {"seconds": 0.25, "attempts": 1, "label": None, "reason": "", "error": None, "ended": time.time()} | facts
    fingerprint = journal_of_map.fingerprint(given)
    return journal_of_map.prepare(
        SimpleNamespace(number=number, state=state, value=value, fingerprint=fingerprint, **facts)
    )


def open_map(journal, size=3, *, common=(), has_values=True):
    """Begin to record the elements of the task "transform", which is mapped over the result of "extract"."""
    return journal.open_map(1, size, [0], [], common, has_values)


def fail_statement(patch, limit):
    """Let a statement of SQLite fail as if the disk was broken; return a list that has an item for each statement.

    Args:
        patch: the fixture `monkeypatch`.
        limit: number of the statement, from 1.
    """
    execute, calls = syscalls.execute, []

    def failing(connection, sql, values=()):
        calls.append(sql)
        if len(calls) == limit:
            raise sqlite3.OperationalError("disk I/O error")
        return execute(connection, sql, values)

    patch.setattr(syscalls, "execute", failing)
    return calls
