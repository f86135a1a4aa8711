"""`RunJournal`: writes the record of one run, task by task."""

from __future__ import annotations

import os
import time

from flowkit_state.errors import StateFileError
from flowkit_state.serialization.json_text import dumps
from flowkit_state.storage.base import Batch
from flowkit_state.storage.schema import to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database
    from flowkit_state.storage.ownership import Claim

RECORD_TASK = (
    "INSERT OR REPLACE INTO tasks (run, place, name, state, attempts, ended, seconds, value, beside, reason, error, "
    "source, why) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RECORD_NOT_RUN = (  # OR IGNORE: a task that has ended keeps its record
    "INSERT OR IGNORE INTO tasks (run, place, name, state, attempts, ended, seconds, reason, source) "
    "VALUES (?, ?, ?, ?, 0, ?, 0, ?, 'run')"
)
_END_RUN = (
    "UPDATE runs SET status = ?, ended = ?, seconds = coalesce(seconds, 0) + ?, error = ?, owner = NULL WHERE id = ?"
)


class RecordedTask:
    """The recorded outcome of a task in an earlier part of a resumed run."""

    __slots__ = ("attempts", "reason", "seconds", "state", "value")

    def __init__(self, state: str, value: Any, reason: str, attempts: int, seconds: float) -> None:
        self.state = state
        self.value = value
        self.reason = reason
        self.attempts = attempts
        self.seconds = seconds


class RunJournal:
    """The record of one run. Only the process that opened the run may write it, until it is closed.

    Attributes:
        run_id: identifies the run.
        done: the tasks that were recorded before the run was resumed, by index in topological order.
        outdated: index of a task that runs again -> why its recorded result is out of date.
    """

    def __init__(
        self,
        database: Database,
        serialization: Serialization,
        row: int,
        run_id: str,
        names: Sequence[str],
        done: Mapping[int, RecordedTask],
        outdated: Mapping[int, str],
        claim: Claim,
    ) -> None:
        self.run_id = run_id
        self.done = done
        self.outdated = outdated
        self._database = database
        self._serialization = serialization
        self._row = row
        self._names = names
        self._claim = claim
        self._started = time.monotonic()

    def prepare(self, index: int, value: Any) -> tuple[str | bytes, str | None]:
        """Serialize the result of a task, for `record`. A large result is written to a blob file.

        Raises:
            UnsupportedValueError: the result could not be restored exactly.
            StateFileError: the blob file cannot be written.
        """
        name = self._names[index]
        payload = self._serialization.dump(None, value, f'the result of task "{name}"')
        return self._database.write_blob(payload, self._claim)

    def record(
        self,
        index: int,
        state: str,
        stored: Any,
        *,
        attempts: int,
        seconds: float,
        reason: str,
        error: BaseException | None,
        source: str,
        why: str,
    ) -> None:
        """Commit the outcome of a task. It survives the death of the process from the return of this method on.

        Raises:
            StateFileError: it cannot be committed.
        """
        self._check_writable()
        value, blob = (None, None) if stored is None else stored
        row = (
            self._row,
            index,
            to_sql(self._names[index]),
            state,
            attempts,
            time.time(),
            seconds,
            value,
            blob,
            _encodable(reason) or None,
            None if error is None else _error_json(error),
            source,
            _encodable(why) or None,
        )
        if blob is None:
            self._database.execute("record a task in it", RECORD_TASK, row)
            return
        with Batch(self._database):
            self._database.execute("record a task in it", RECORD_TASK, row)
            self._database.unpin(blob, self._claim)

    def close(self, status: str, rest: Sequence[tuple[int, str, str]], error: BaseException | None) -> None:
        """Commit the end of the run and release it. `rest` are index, state and reason of the tasks that did not run.

        Raises:
            StateFileError: it cannot be committed, or the file was moved, removed or replaced during the run.
        """
        now = time.time()
        try:
            self._check_writable()
            self._database.check_not_replaced()
            with Batch(self._database):
                for index, state, reason in rest:
                    row = (self._row, index, to_sql(self._names[index]), state, now, _encodable(reason))
                    self._database.execute("record a task in it", _RECORD_NOT_RUN, row)
                duration = time.monotonic() - self._started
                text = None if error is None else _encodable(_error_text(error))
                self._database.execute("record a run in it", _END_RUN, (status, now, duration, text, self._row))
        finally:
            self._claim.release()

    def _check_writable(self) -> None:
        """Raise `StateFileError` in a forked copy of the owner, and inside a batch, whose changes may be undone."""
        if not self._claim.is_of(os.getpid()):
            reason = "this process is a copy (os.fork) of the one that owns the run, and may not record it."
            raise StateFileError(self._database.path or "(in memory)", reason)
        if self._database.in_batch:
            reason = "a task has left a batch() open, so that nothing would be committed; end it in the task."
            raise StateFileError(self._database.path or "(in memory)", reason)


def _error_json(error: BaseException) -> str:
    """Return type, message and traceback of an exception as JSON text."""
    import traceback

    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:  # a __str__ that raises
        trace = ""
    return dumps([_type_name(error), _message(error), trace])


def _error_text(error: BaseException) -> str:
    """Return type and message of an exception, and of the members of an exception group."""
    text = f"{_type_name(error)}: {_message(error)}"
    if isinstance(error, BaseExceptionGroup):
        text += "".join(f"; {_error_text(member)}" for member in error.exceptions[:10])
    return text


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<str() failed>"


def _encodable(text: str) -> str:
    """Return a text with lone surrogates escaped, because SQLite cannot store them."""
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text
