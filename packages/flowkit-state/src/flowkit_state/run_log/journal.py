"""`RunJournal`: writes the record of one execution of a run: outcomes of tasks and elements, notes and log lines."""

from __future__ import annotations

import os
import sys
import time

from flowkit_state.errors import StateFileError, short_repr
from flowkit_state.run_log.elements import (
    BLOB_OF_ROW,
    RECORD_ELEMENT,
    RECORD_PLAIN_ELEMENT,
    SIZE,
    MapRecord,
    begin_map,
    fingerprint_of,
    plain_rows,
    usable,
)
from flowkit_state.run_log.error_text import encodable, error_json, error_text, traceback_text
from flowkit_state.serialization.json_text import dumps
from flowkit_state.storage.base import Batch
from flowkit_state.storage.schema import from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any, Protocol

    from flowkit_state.run_log.elements import ElementRow, RecordedElements, RunMaps
    from flowkit_state.run_log.plan import PipelinePlan
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
"""States of tasks that do not run again when the run is resumed, if their results are recorded; see `is_done`."""

RECORD = (
    "INTO attempts (run, element, execution, place, number, name, state, ready, ended, seconds, worker, process, host, "
    "value, beside, reason, error, source, why) VALUES (?, -1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RECORD = f"INSERT {RECORD}"
_RECORD_SUCCESS = (  # without the columns that are NULL, because binding None takes several times as long as a value
    "INSERT INTO attempts (run, element, execution, place, number, name, state, ready, ended, seconds, worker, value, "
    "source) VALUES (?, -1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
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


def is_unrecorded(state: str, reason: str | None) -> bool:
    """Return whether a task has succeeded, and its result could not be stored; the column ``reason`` has the cause."""
    return state == "succeeded" and reason is not None


def is_done(state: str, reason: str | None) -> bool:
    """Return whether a task does not run again when the run is resumed, given its state and reason."""
    return state in DONE and not is_unrecorded(state, reason)


class RecordedTask:
    """The recorded outcome of a task in an earlier execution of a resumed run.

    Attributes:
        has_value: False if the task succeeded and its result was not recorded.
        elements: the elements of a mapped task; `None` for other tasks.
        execution: number of the execution that has recorded it.
    """

    __slots__ = ("attempts", "elements", "execution", "has_value", "reason", "seconds", "state", "value")

    def __init__(
        self,
        state: str,
        value: Any,
        reason: str,
        attempts: int,
        seconds: float,
        *,
        has_value: bool = True,
        elements: RecordedElements | None = None,
        execution: int = 1,
    ) -> None:
        self.has_value = has_value
        self.elements = elements
        self.execution = execution
        self.state = state
        self.value = value
        self.reason = reason
        self.attempts = attempts
        self.seconds = seconds


class EarlierElements:
    """What a journal needs to take over elements of earlier executions.

    Args:
        maps: the maps of the run.
        plan: the current pipeline.
        rejected: names of tasks whose elements all run again.
        oldest: name of a task -> time before which its results are out of date.
        epochs: name of a task -> number of the last execution in which its results were out of date.
        force: whether elements are taken over whatever has changed.
    """

    def __init__(
        self,
        maps: RunMaps,
        plan: PipelinePlan,
        rejected: Collection[str] = (),
        oldest: Mapping[str, float] | None = None,
        epochs: Mapping[str, int] | None = None,
        *,
        force: bool = False,
    ) -> None:
        self.maps = maps
        self.plan = plan
        self.rejected = rejected
        self.oldest = oldest or {}
        self.epochs = epochs or {}
        self.force = force

    def of(self, name: str, code: str, inputs: str | None, common: bytes | None) -> tuple[int | None, Any, Any]:
        """Return the map to continue, and the elements that were recorded for the same input and for other inputs.

        Args:
            name: name of the task.
            code: digest of its code.
            inputs: what identifies its input, or `None`.
            common: digest of the arguments that are not mapped, or `None`.
        """
        same: dict[int, ElementRow] = {}
        others: dict[tuple[int, Any], ElementRow] = {}
        row = None
        for each in self.maps.by_name.get(name, ()) if name not in self.rejected else ():
            if each.code != code and not self.force:
                continue
            is_same = each.code == code and inputs is not None and each.inputs == inputs
            row = each.id if is_same else row
            if is_same or self.force or (common is not None and each.common == common):
                for line in usable(self.maps.rows(each), self.oldest.get(name)):
                    if is_same or self.force:
                        same[line.element] = line
                    elif line.fingerprint is not None:
                        others[line.element, line.fingerprint] = line
        return row, same, others


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
        earlier: EarlierElements,
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
        self._earlier = earlier
        self._maps: dict[int, MapRecord] = {}
        self._recorded_in = {index: task.execution for index, task in done.items() if task.has_value}
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
            self._note_recorded(outcomes)
            return
        successes, rows = [], []
        for outcome in outcomes:
            if _is_plain_success(outcome):
                successes.append(self._success_values(outcome))
            else:
                rows.append(self._values(outcome))
        blobs = [each.stored[1] for each in outcomes if each.stored is not None and each.stored[1] is not None]
        with Batch(self._database):
            if successes:
                self._database.execute_many("record a task in it", _RECORD_SUCCESS, successes)
            if rows:
                self._database.execute_many("record a task in it", _RECORD, rows)
            for blob in blobs:
                self._database.unpin(blob, self._claim)
        self._note_recorded(outcomes)

    def _note_recorded(self, outcomes: Sequence[TaskOutcome]) -> None:
        for outcome in outcomes:
            has_value = outcome.stored is not None or outcome.index in self._maps
            if outcome.state == "skipped" or (outcome.state == "succeeded" and has_value):
                self._recorded_in[outcome.index] = self._execution

    def open_map(
        self, index: int, size: int | None, sources: Sequence[int], others: Sequence[int], common: Any, has_values: bool
    ) -> MapRecord:
        """Begin to record the elements of a mapped task: see `flowkit_core.persistence.ElementJournal`.

        Raises:
            StateFileError: it cannot be recorded.
        """
        self._check_writable()
        name, earlier = self._names[index], self._earlier
        code = earlier.plan.code_key(name)
        digest = fingerprint_of(self._serialization, common)
        inputs = self._inputs(index, sources, others, digest)
        row, same, different = earlier.of(name, code, inputs, digest)
        if same or different:
            _log_elements(self.run_id, name, len(same), len(different))
        if row is None:
            row = begin_map(self._database, self._row, self._execution, name, code, inputs, digest, size)
        elif size is not None:
            self._database.execute("record a map in it", SIZE, (size, row))
        record = self._maps[index] = MapRecord(
            earlier.maps,
            self._database,
            self._serialization,
            self._claim,
            name,
            self._execution,
            row,
            same,
            different,
            has_values=has_values,
        )
        return record

    def _inputs(self, index: int, sources: Sequence[int], others: Sequence[int], common: bytes | None) -> str | None:
        """Return what identifies the input of a mapped task in the record of this run; `None` if it is not recorded.

        Of the tasks in ``others`` it is the execution that has recorded the result, or else the digest ``common`` of
        all arguments that are not mapped. If that is `None`, because they cannot be stored, their code alone counts.
        """
        facts: dict[str, Any] = {}
        made_again = None if common is None else common.hex()
        for source in sources:
            if source in self._maps:
                facts[self._names[source]] = f"map {self._maps[source].id}"
            elif (task := self.done.get(source)) is not None and task.elements is not None:
                facts[self._names[source]] = f"map {task.elements.map}"
            elif source in self._recorded_in:
                facts[self._names[source]] = self._recorded_in[source]
            else:
                return None
        for other in others:
            facts.setdefault(self._names[other], self._recorded_in.get(other, made_again))
        return dumps([self._earlier.epochs.get(self._names[index], 0), facts])

    def record_elements(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Commit elements of mapped tasks, as `MapRecord` has prepared them, all or none.

        Raises:
            StateFileError: they cannot be committed.
        """
        self._check_writable()
        plain = plain_rows(rows)
        with Batch(self._database):
            if plain is not None:
                self._database.execute_many("record elements in it", RECORD_PLAIN_ELEMENT, plain)
                return
            self._database.execute_many("record elements in it", RECORD_ELEMENT, rows)
            for row in rows:
                if row[BLOB_OF_ROW] is not None:
                    self._database.unpin(row[BLOB_OF_ROW], self._claim)

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
                text = None if error is None else encodable(error_text(error))
                trace = None if error is None else encodable(traceback_text(error) or error_text(error))
                cpu = time.process_time() - self._cpu
                end = (now, status, trace, cpu, self._row, self._execution)
                self._database.execute("record a run in it", _END_EXECUTION, end)
                self._database.execute("record a run in it", _END_RUN, (status, now, duration, text, self._row))
        finally:
            self._claim.release()

    def _success_values(self, outcome: TaskOutcome) -> tuple[Any, ...]:
        """Return the row of a plain success."""
        return *self._first_values(outcome), outcome.stored[0], outcome.source

    def _values(self, outcome: TaskOutcome) -> tuple[Any, ...]:
        """Return the row of an outcome."""
        error, stored = outcome.error, outcome.stored
        value, blob = (None, None) if stored is None else stored
        return (
            *self._first_values(outcome),
            outcome.process,
            outcome.host,
            value,
            blob,
            encodable(outcome.reason) if outcome.reason else None,
            None if error is None else error_json(error),
            outcome.source,
            encodable(outcome.why) if outcome.why else None,
        )

    def _first_values(self, outcome: TaskOutcome) -> tuple[Any, ...]:
        """Return what the rows of all outcomes begin with."""
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
            encodable(outcome.worker) if outcome.worker else outcome.worker,
        )

    def _check_writable(self) -> None:
        """Raise `StateFileError` in a forked copy of the owner, and inside a batch, whose changes may be undone."""
        if not self._claim.is_of(os.getpid()):
            reason = "this process is a copy (os.fork) of the one that owns the run, and may not record it."
            raise StateFileError(self._database.path or "(in memory)", reason)
        if self._database.in_batch:
            reason = "a task has left a batch() open, so that nothing would be committed; end it in the task."
            raise StateFileError(self._database.path or "(in memory)", reason)


def _is_plain_success(outcome: TaskOutcome) -> bool:
    """Return whether a task was called in this process and has succeeded, and its result is stored in its row."""
    stored = outcome.stored
    if stored is None or stored[1] is not None or outcome.error is not None:
        return False
    return outcome.process is None and outcome.host is None and not outcome.reason and not outcome.why


def _log_elements(run_id: str, name: str, same: int, different: int) -> None:
    """Log how many recorded elements of a mapped task may be taken over."""
    import logging

    compared = (
        "" if not different else f"{different} that were recorded for other inputs are compared with those of now"
    )
    taken = "" if not same else f"{same} recorded elements are taken over"
    what = "; ".join(filter(None, (taken, compared)))
    logging.getLogger("flowkit.state").info("Run %s continues task %s: %s.", run_id, short_repr(name), what)


def _line(line: LogLine) -> tuple[Any, ...]:
    """Return the columns of a log line."""
    task = None if line.task is None else to_sql(str(line.task))
    texts = encodable(line.level), line.levelno, encodable(line.logger), task
    return (line.time, *texts, line.element, line.attempt, encodable(line.message))
