"""`RunJournal`: writes the record of one execution of a run. It adds rows, and changes none that has an outcome."""

from __future__ import annotations

import os
import sys
import time

from flowkit_state.errors import StateFileError
from flowkit_state.serialization.json_text import dumps
from flowkit_state.storage.base import Batch
from flowkit_state.storage.schema import from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database
    from flowkit_state.storage.ownership import Claim

    class TaskOutcome(Protocol):
        """What a journal records: how an attempt at a task ended, or how a task ended without one.

        `flowkit_core.persistence.TaskOutcome` describes the attributes.
        """

        index: int
        number: int
        state: str
        stored: Any
        ready: float | None
        ended: float
        seconds: float | None
        worker: str | None
        process: int | None
        host: str | None
        reason: str
        error: BaseException | None
        source: str
        why: str

    class LogLine(Protocol):
        """A log record of a run, as text: `flowkit_core.persistence.LogLine` describes the attributes."""

        time: float
        level: str
        levelno: int
        logger: str
        message: str
        task: str | None
        element: int | None
        attempt: int | None


DONE = ("succeeded", "skipped")
"""States of tasks that do not run again when the run is resumed."""
RECORD = (
    "INTO attempts (run, element, execution, place, number, name, state, ready, ended, seconds, worker, process, host, "
    "value, beside, reason, error, source, why) VALUES (?, -1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RECORD = f"INSERT {RECORD}"
_RECORD_NOT_RUN = f"INSERT OR IGNORE {RECORD}"  # OR IGNORE: a task that has ended keeps its record
_END_RUN = (
    "UPDATE runs SET status = ?, ended = ?, seconds = coalesce(seconds, 0) + ?, error = ?, owner = NULL WHERE id = ?"
)
_NOTES = "SELECT key, value, beside FROM notes WHERE run = ? AND task = ? AND element = ?"
_REMEMBER = "INSERT OR REPLACE INTO notes (run, task, element, key, value, beside) VALUES (?, ?, ?, ?, ?, ?)"
_DESCRIBE = "UPDATE executions SET executor = ?, target = ?, folder = ?, python = ? WHERE run = ? AND number = ?"
_LAST_LINE = "SELECT coalesce(max(number), 0) FROM logs WHERE run = ?"
_LOG = (
    "INSERT INTO logs (run, number, execution, time, level, levelno, logger, task, element, attempt, message) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_END_EXECUTION = "UPDATE executions SET ended = ?, outcome = ?, error = ?, cpu = ? WHERE run = ? AND number = ?"


class RecordedTask:
    """The recorded outcome of a task in an earlier execution of a resumed run.

    Attributes:
        has_value: False if the task succeeded and its result was not recorded.
    """

    __slots__ = ("attempts", "has_value", "reason", "seconds", "state", "value")

    def __init__(
        self, state: str, value: Any, reason: str, attempts: int, seconds: float, *, has_value: bool = True
    ) -> None:
        self.has_value = has_value
        self.state = state
        self.value = value
        self.reason = reason
        self.attempts = attempts
        self.seconds = seconds


class RunJournal:
    """The record of one execution of a run. Only the process that opened the run may write it, until it is closed.

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
        execution: int,
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
        self._execution = execution
        self._names = names
        self._claim = claim
        self._started = time.monotonic()
        self._cpu = time.process_time()

    def describe(self, executor: str, target: str | None, folder: str | None) -> None:
        """Commit how this execution was started: with which executors, and where its pipeline was created.

        Raises:
            StateFileError: it cannot be committed.
        """
        texts = [text if text is None else encodable(text) for text in (executor, target, folder)]
        python = ".".join(map(str, sys.version_info[:3]))
        self._database.execute("record a run in it", _DESCRIBE, (*texts, python, self._row, self._execution))

    def prepare(self, index: int, value: Any) -> tuple[str | bytes, str | None]:
        """Serialize the result of a task, for `record`. A large result is written to a blob file.

        Raises:
            UnsupportedValueError: the result could not be restored exactly.
            StateFileError: the blob file cannot be written.
        """
        name = self._names[index]
        payload = self._serialization.dump(None, value, f'the result of task "{name}"')
        return self._database.write_blob(payload, self._claim)

    def record(self, outcomes: Sequence[TaskOutcome]) -> None:
        """Commit outcomes of tasks, all or none. They survive the death of the process from the return on.

        Raises:
            StateFileError: they cannot be committed.
        """
        self._check_writable()
        if len(outcomes) == 1 and (not outcomes[0].stored or outcomes[0].stored[1] is None):
            self._database.append("record a task in it", _RECORD, self._values(outcomes[0]))
            return
        rows = [*map(self._values, outcomes)]
        blobs = [row[13] for row in rows if row[13] is not None]
        with Batch(self._database):
            self._database.execute_many("record a task in it", _RECORD, rows)
            for blob in blobs:
                self._database.unpin(blob, self._claim)

    def notes(self, index: int, element: int | None) -> dict[str, Any]:
        """Return what a task, or an element of a mapped task, has remembered in this run, as key -> value.

        Raises:
            RestoreError: a value cannot be restored in this process.
        """
        facts = (self._row, to_sql(self._names[index]), -1 if element is None else element)
        rows, _ = self._database.execute("read it", _NOTES, facts)
        read, load = self._database.read_payload, self._serialization.load
        return {from_sql(key): load(None, read(value, blob)) for key, value, blob in rows}

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        """Commit a note of a task. It survives the death of the process from the return of this method on.

        Raises:
            UnsupportedValueError: the value could not be restored exactly.
            StateFileError: it cannot be committed.
        """
        self._check_writable()
        name = self._names[index]
        payload = self._serialization.dump(None, value, f'the note {key!r} of task "{name}"')
        with Batch(self._database):
            stored, blob = self._database.write_blob(payload, self._claim)
            facts = (self._row, to_sql(name), -1 if element is None else element, to_sql(key), stored, blob)
            self._database.execute("record a note in it", _REMEMBER, facts)
            if blob is not None:
                self._database.unpin(blob, self._claim)

    def log(self, lines: Sequence[LogLine]) -> bool:
        """Commit log lines, and return whether they were: not inside a batch, whose changes may be undone.

        Raises:
            StateFileError: they cannot be committed.
        """
        if self._database.in_batch:
            return False
        self._check_writable()
        with Batch(self._database):
            ((last,),), _ = self._database.execute("read it", _LAST_LINE, (self._row,))
            rows = [(self._row, number, self._execution, *_line(line)) for number, line in enumerate(lines, last + 1)]
            self._database.execute_many("record a log line in it", _LOG, rows)
        return True

    def close(self, status: str, rest: Sequence[TaskOutcome], error: BaseException | None) -> None:
        """Commit the end of the run and release it. `rest` are the outcomes of the tasks that did not run.

        Raises:
            StateFileError: it cannot be committed, or the file was moved, removed or replaced during the run.
        """
        now = time.time()
        try:
            self._check_writable()
            self._database.check_not_replaced()
            with Batch(self._database):
                self._database.execute_many("record a task in it", _RECORD_NOT_RUN, [*map(self._values, rest)])
                duration = time.monotonic() - self._started
                text = None if error is None else encodable(_error_text(error))
                trace = None if error is None else encodable(_traceback(error) or _error_text(error))
                cpu = time.process_time() - self._cpu
                end = (now, status, trace, cpu, self._row, self._execution)
                self._database.execute("record a run in it", _END_EXECUTION, end)
                self._database.execute("record a run in it", _END_RUN, (status, now, duration, text, self._row))
        finally:
            self._claim.release()

    def _values(self, outcome: TaskOutcome) -> tuple[Any, ...]:
        """Return the row of an outcome."""
        error, stored = outcome.error, outcome.stored
        value, blob = (None, None) if stored is None else stored
        return (
            self._row,
            self._execution,
            outcome.index,
            outcome.number,
            to_sql(self._names[outcome.index]),
            outcome.state,
            outcome.ready,
            outcome.ended,
            outcome.seconds,
            outcome.worker,
            outcome.process,
            outcome.host,
            value,
            blob,
            encodable(outcome.reason) if outcome.reason else None,
            None if error is None else _error_json(error),
            outcome.source,
            encodable(outcome.why) if outcome.why else None,
        )

    def _check_writable(self) -> None:
        """Raise `StateFileError` in a forked copy of the owner, and inside a batch, whose changes may be undone."""
        if not self._claim.is_of(os.getpid()):
            reason = "this process is a copy (os.fork) of the one that owns the run, and may not record it."
            raise StateFileError(self._database.path or "(in memory)", reason)
        if self._database.in_batch:
            reason = "a task has left a batch() open, so that nothing would be committed; end it in the task."
            raise StateFileError(self._database.path or "(in memory)", reason)


def _line(line: LogLine) -> tuple[Any, ...]:
    """Return the columns of a log line."""
    task = None if line.task is None else to_sql(str(line.task))
    texts = encodable(line.level), line.levelno, encodable(line.logger), task
    return (line.time, *texts, line.element, line.attempt, encodable(line.message))


def _error_json(error: BaseException) -> str:
    """Return type, message and traceback of an exception as JSON text."""
    return dumps([_type_name(error), _message(error), _traceback(error)])


def _traceback(error: BaseException) -> str:
    """Return the text of an exception with its traceback; an empty text if a `__str__` raises."""
    import traceback

    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return ""


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


def encodable(text: str) -> str:
    """Return a text with lone surrogates escaped, because SQLite cannot store them."""
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text
