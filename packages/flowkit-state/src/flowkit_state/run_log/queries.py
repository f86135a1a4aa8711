"""`RunHistory`: queries of recorded runs, and their removal."""

from __future__ import annotations

import os
from functools import partial
from typing import NamedTuple

from flowkit_state._validation import RUN_STATUSES
from flowkit_state.errors import RestoreError, UnknownRunError, short_repr
from flowkit_state.run_log.elements import RunMaps
from flowkit_state.run_log.elements_view import elements_record, task_error
from flowkit_state.run_log.journal import is_done, is_unrecorded
from flowkit_state.run_log.parameters import has_digests, parameter_digests, stored_values
from flowkit_state.run_log.plan import PipelinePlan
from flowkit_state.runs import AttemptRecord, ExecutionRecord, LogLine, Reclaimed, RunRecord, TaskRecord
from flowkit_state.storage.base import Batch
from flowkit_state.storage.ownership import check_claim, check_not_in_use, is_visible, live_claim, release
from flowkit_state.storage.row_check import BINARY, INTEGER, NUMBER, OPTIONAL, TEXT, check_row, reading
from flowkit_state.storage.schema import from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from flowkit_state.runs import TaskError
    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database

_RUNS = (
    "SELECT id, run_id, pipeline, plan, params, status, started, ended, seconds, resumes, error, owner, "
    "parent FROM runs"
)
_ID, _RUN_ID, _PIPELINE, _OWNER = 0, 1, 2, 11  # positions of columns in it
_EXECUTIONS = (
    "SELECT number, started, ended, process, host, outcome, error, executor, target, folder, python, cpu "
    "FROM executions WHERE run = ? ORDER BY number"
)
_OUTCOMES = (
    "SELECT name, execution, place, number, state, ready, ended, seconds, worker, process, host, reason, error, "
    "source, why FROM attempts WHERE run = ? AND element = -1 ORDER BY execution, place, number"
)
_PAYLOADS = (
    "SELECT name, state, value, beside FROM attempts WHERE run = ? AND element = -1 ORDER BY execution, place, number"
)
_EARLIER = (
    "SELECT id, run_id FROM runs WHERE pipeline = ? AND id < coalesce((SELECT id FROM runs WHERE run_id = ?), 1 << 62) "
    "ORDER BY id DESC LIMIT ?"
)
_SECONDS = (
    "SELECT name, seconds FROM attempts WHERE run = ? AND element = -1 AND state = 'succeeded' AND source = 'run' AND "
    "seconds IS NOT NULL"
)
_LOGS = (
    "SELECT number, execution, time, level, levelno, logger, task, element, attempt, message FROM logs "
    "WHERE run = ? AND number > ? AND levelno >= ? AND (? IS NULL OR task = ?) ORDER BY number"
)
_DELETE = (
    "DELETE FROM attempts WHERE run = ?",
    "DELETE FROM executions WHERE run = ?",
    "DELETE FROM params WHERE run = ?",
    "DELETE FROM notes WHERE run = ?",
    "DELETE FROM logs WHERE run = ?",
    "DELETE FROM elements WHERE map IN (SELECT id FROM maps WHERE run = ?)",
    "DELETE FROM maps WHERE run = ?",
    "DELETE FROM runs WHERE id = ?",
)


_RUN_COLUMNS = {
    "id": INTEGER,
    "run_id": TEXT,
    "pipeline": BINARY,
    "plan": TEXT,
    "params": TEXT,
    "status": TEXT,
    "started": NUMBER,
    "ended": NUMBER + OPTIONAL,
    "seconds": NUMBER + OPTIONAL,
    "resumes": INTEGER,
    "error": TEXT + OPTIONAL,
    "owner": TEXT + OPTIONAL,
    "parent": TEXT + OPTIONAL,
}
_EXECUTION_COLUMNS = {
    "number": INTEGER,
    "started": NUMBER,
    "ended": NUMBER + OPTIONAL,
    "process": INTEGER + OPTIONAL,
    "host": TEXT + OPTIONAL,
    "outcome": TEXT + OPTIONAL,
    "error": TEXT + OPTIONAL,
    "executor": TEXT + OPTIONAL,
    "target": TEXT + OPTIONAL,
    "folder": TEXT + OPTIONAL,
    "python": TEXT + OPTIONAL,
    "cpu": NUMBER + OPTIONAL,
}
_OUTCOME_COLUMNS = {
    "name": BINARY,
    "execution": INTEGER,
    "place": INTEGER,
    "number": INTEGER,
    "state": TEXT,
    "ready": NUMBER + OPTIONAL,
    "ended": NUMBER,
    "seconds": NUMBER + OPTIONAL,
    "worker": TEXT + OPTIONAL,
    "process": INTEGER + OPTIONAL,
    "host": TEXT + OPTIONAL,
    "reason": TEXT + OPTIONAL,
    "error": TEXT + OPTIONAL,
    "source": TEXT,
    "why": TEXT + OPTIONAL,
}
_LOG_COLUMNS = {
    "number": INTEGER,
    "execution": INTEGER,
    "time": NUMBER,
    "level": TEXT,
    "levelno": INTEGER,
    "logger": TEXT,
    "task": BINARY + OPTIONAL,
    "element": INTEGER + OPTIONAL,
    "attempt": INTEGER + OPTIONAL,
    "message": TEXT,
}
_SECONDS_COLUMNS = {"name": BINARY, "seconds": NUMBER}
VALUE_COLUMNS = {"value": BINARY + OPTIONAL, "beside": TEXT + OPTIONAL}


class RunHistory:
    """The recorded runs of one database.

    Args:
        database: the database.
        serialization: restores results.
    """

    def __init__(self, database: Database, serialization: Serialization) -> None:
        self._database = database
        self._serialization = serialization
        # by key of the plan, then by name of the task: its upstreams, and whether it is limited
        self._tasks: dict[str, dict[str, tuple[tuple[str, ...], bool]]] = {}

    def runs(
        self,
        pipeline: str | None,
        limit: int | None,
        statuses: Collection[str] = RUN_STATUSES,
        since: float | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> list[RunRecord]:
        """Return the runs that `StateManager.runs` selects, newest first; `since` in seconds since the epoch."""
        digests = parameter_digests(params or {}, self._serialization.serializers)
        conditions: list[str] = ["1"]
        values: list[Any] = []
        if pipeline is not None:
            conditions, values = ["pipeline = ?"], [to_sql(pipeline)]
        if since is not None:
            conditions.append("started >= ?")
            values.append(since - 1e-6)  # a datetime has rounded the start of a run to microseconds
        selects_all = len(statuses) == len(RUN_STATUSES) and not digests
        sql = f"{_RUNS} WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
        rows = self._select(sql, (*values, -1 if limit is None or not selects_all else limit))
        found: list[RunRecord] = []
        for row in rows:
            if limit is not None and len(found) >= limit:
                break
            if has_digests(row[4], digests):
                record = self._run_record(row)
                if record.status in statuses:
                    found.append(record)
        return found

    def run(self, run_id: str) -> RunRecord:
        """Return one run. Raises `UnknownRunError`."""
        return self._run_record(self._row(run_id))

    def run_ids(self, pipeline: str, before: str | None, limit: int | None) -> list[str]:
        """Implement `StateManager.run_ids`."""
        return [run_id for _, run_id in self._earlier(pipeline, before, limit)]

    def durations(self, pipeline: str, before: str | None, limit: int | None) -> dict[str, tuple[float, ...]]:
        """Implement `StateManager.durations`."""
        found: dict[str, list[float]] = {}
        for row, run_id in reversed(self._earlier(pipeline, before, limit)):
            last: dict[str, float] = {}
            with reading(self._database.path, f"the record of run {short_repr(run_id)}", "forget() deletes it."):
                for name, seconds in self._select(_SECONDS, (row,)):
                    check_row((name, seconds), _SECONDS_COLUMNS)
                    last[from_sql(name)] = seconds
            for name, seconds in last.items():
                found.setdefault(name, []).append(seconds)
        return {name: tuple(values) for name, values in found.items()}

    def _earlier(self, pipeline: str, before: str | None, limit: int | None) -> list[Any]:
        """Return row and id of the runs before a run, or of the last runs, newest first."""
        values = (to_sql(pipeline), None if before is None else to_sql(before), -1 if limit is None else limit)
        return self._select(_EARLIER, values)

    def logs(self, run_id: str, task: str | None, level: int, after: int) -> list[LogLine]:
        """Implement `StateManager.logs`. Raises `UnknownRunError`."""
        name = None if task is None else to_sql(task)
        found = []
        with reading(self._database.path, f"the log of run {short_repr(run_id)}", "forget() deletes it."):
            for row in self._select(_LOGS, (self._row(run_id)[0], after, level, name, name)):
                check_row(row, _LOG_COLUMNS)
                line = LogLine(**dict(zip(_LOG_COLUMNS, row, strict=True)))
                line.time, line.task = _utc(row[2]), None if row[6] is None else from_sql(row[6])
                found.append(line)
        return found

    def explain(self, run_id: str | None) -> dict[str, str]:
        """Return why each task with a cache or with an outdated result ran or did not, in one run or in the last."""
        if run_id is None:
            rows = self._select(f"{_RUNS} ORDER BY id DESC LIMIT 1")
            if not rows:
                return {}
            record = self._run_record(rows[0])
        else:
            record = self.run(run_id)
        return {name: task.why for name, task in record.tasks.items() if task.why}

    def release(self, run_id: str) -> None:
        """End the claim on a run. Raises `RunInUseError` if it is one of another live process of this machine."""
        row = self._row(run_id)
        claim = live_claim(row[_OWNER])
        if claim is not None and is_visible(claim) and claim["pid"] != os.getpid():
            check_not_in_use(row[_OWNER], run_id, _name(row[_PIPELINE]))
        self._database.execute("record a run in it", "UPDATE runs SET owner = NULL WHERE id = ?", (row[_ID],))
        if row[_OWNER] is not None:
            release(row[_OWNER])

    def forget(self, run_id: str) -> None:
        """Delete the record of a run. Raises `RunInUseError` if a process uses it."""
        with Batch(self._database):
            row = self._row(run_id)
            check_not_in_use(row[_OWNER], run_id, _name(row[_PIPELINE]))
            self._delete([row[_ID]])

    def gc(self, keep: int | None, before: float | None) -> Reclaimed:
        """Implement `StateManager.gc` for runs; `before` is a time in seconds since the epoch."""
        deleted = []
        if keep is not None or before is not None:
            with Batch(self._database):
                finished: dict[str, int] = {}  # newer or equal runs of the pipeline
                rows = self._select("SELECT id, pipeline, status, owner, started FROM runs ORDER BY id DESC")
                for row, pipeline, status, owner, started in rows:
                    finished[pipeline] = finished.get(pipeline, 0) + (status == "succeeded")
                    old = before is not None and isinstance(started, (int, float)) and started < before
                    if keep is not None:
                        count = finished[pipeline]
                        old = old or (count > keep if status == "succeeded" else count >= max(keep, 1))
                    if old and live_claim(owner) is None:
                        deleted.append(row)
                self._delete(deleted)
        files, size = self._database.collect_garbage()
        return Reclaimed(runs=len(deleted), files=files, bytes=size)

    def _delete(self, rows: Sequence[int]) -> None:
        for row in rows:
            for statement in _DELETE:
                self._database.execute("delete a run in it", statement, (row,))
        if rows:
            unused = "DELETE FROM plans WHERE key NOT IN (SELECT plan FROM runs UNION SELECT plan FROM executions)"
            self._database.execute("delete a run in it", unused)

    def _select(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._database.execute("read it", sql, values)[0]

    def _row(self, run_id: str) -> Any:
        rows = self._select(f"{_RUNS} WHERE run_id = ?", (to_sql(run_id),))
        if not rows:
            raise UnknownRunError(run_id, self._database.path)
        return rows[0]

    def _run_record(self, row: Any) -> RunRecord:
        way_out = f"forget({short_repr(row[_RUN_ID])}) deletes it; release() ends the claim of a process."
        with reading(self._database.path, f"the record of run {short_repr(row[_RUN_ID])}", way_out):
            check_row(row, _RUN_COLUMNS)
            check_claim(row[_OWNER])
            return self._checked_run_record(row)

    def _checked_run_record(self, row: Any) -> RunRecord:
        number, run_id, pipeline, plan, params, status, started, ended, seconds, resumes, error, owner, parent = row
        status = _status(status, owner)
        executions = self._executions(number, status)
        return RunRecord(
            run_id=run_id,
            pipeline=from_sql(pipeline),
            status=status,
            started=_utc(started),
            ended=None if ended is None else _utc(ended),
            duration=None if ended is None else _seconds(executions, seconds),
            resumes=resumes,
            params=stored_values(self._database, self._serialization, number, params),
            error=error,
            tasks=self._task_records(number, plan, executions),
            executions=executions,
            parent=parent,
            _load=partial(self._contents, number, plan),
        )

    def _contents(self, run: int, plan: str) -> tuple[PipelinePlan, dict[str, Any]]:
        """Return the plan of a run, and the stored form of the result of each task that succeeded."""
        payloads: dict[str, Any] = {}
        for name, state, value, blob in self._select(_PAYLOADS, (run,)):
            payloads[from_sql(name)] = (value, blob) if state == "succeeded" else None
        maps = RunMaps(self._database, self._serialization, run)
        for name, payload in payloads.items():
            if payload == (None, None) and (shown := maps.shown(name)):
                payloads[name] = [(row.element, row.state, row.blob, row.value) for row in maps.rows_of(shown).values()]
        return self._plan(plan), {name: payload for name, payload in payloads.items() if payload is not None}

    def _executions(self, run: int, status: str) -> tuple[ExecutionRecord, ...]:
        rows = self._select(_EXECUTIONS, (run,))
        for row in rows:
            check_row(row, _EXECUTION_COLUMNS)
        return tuple(
            ExecutionRecord(
                number=number,
                started=_utc(started),
                ended=None if ended is None else _utc(ended),
                process=process,
                host=host,
                outcome=outcome or (status if number == rows[-1][0] else "interrupted"),
                error=error,
                executor=executor,
                target=target,
                folder=folder,
                python=python,
                cpu=cpu,
            )
            for number, started, ended, process, host, outcome, error, executor, target, folder, python, cpu in rows
        )

    def _task_records(self, run: int, plan: str, executions: Sequence[ExecutionRecord]) -> dict[str, TaskRecord]:
        by_number = {execution.number: execution for execution in executions}
        rows_of: dict[str, list[_Row]] = {}
        for line in self._select(_OUTCOMES, (run,)):
            check_row(line, _OUTCOME_COLUMNS)
            row = _Row(*line)
            rows_of.setdefault(from_sql(row.name), []).append(row)
        records = {}
        maps = RunMaps(self._database, self._serialization, run)
        for name, (upstream, is_limited) in self._planned_tasks(plan).items():
            records[name] = record = self._task_record(run, name, rows_of.get(name, ()), by_number)
            record.upstream, record.limited = upstream, is_limited
            shown = maps.shown(name)
            record.elements = elements_record(self._database, maps, shown) if shown else None
        return records

    def _task_record(
        self, run: int, name: str, rows: Sequence[_Row], executions: Mapping[int, ExecutionRecord]
    ) -> TaskRecord:
        attempts = tuple(_attempt(row, executions.get(row.execution)) for row in rows if row.seconds is not None)
        last = rows[-1] if rows else None
        if last is None or (last.execution != max(executions) and not is_done(last.state, last.reason)):
            return _task(name, "pending", attempts, "not recorded")
        if last.state == "retrying":
            return _task(name, "pending", attempts, "not recorded after its last attempt, which failed")
        if last.state == "outdated":
            return _task(name, "pending", attempts, f"its recorded result is out of date: {last.reason}")
        load = partial(self._load_result, run, last, name)
        return _task(
            name,
            last.state,
            attempts,
            last.reason or "",
            task_error(last.error),
            last.source,
            last.why or "",
            load,
            called=bool(attempts) and last.state in ("succeeded", "failed") and last.source == "run",
        )

    def _load_result(self, run: int, row: _Row, name: str) -> Any:
        select = (
            "SELECT value, beside FROM attempts WHERE run = ? AND element = -1 AND execution = ? AND place = ? "
            "AND number = ?"
        )
        rows = self._select(select, (run, row.execution, row.place, row.number))
        if not rows:
            raise LookupError(f"the result of task {name!r} was deleted with its run.")
        try:
            with reading(self._database.path, f"the result of task {name!r}", "run the task again."):
                check_row(rows[0], VALUE_COLUMNS)
            value, blob = rows[0]
            if value is None and blob is None:
                if is_unrecorded(row.state, row.reason):
                    raise LookupError(f"the result of task {name!r} was not recorded: {row.reason}")
                return self._load_elements(run, name)
            if value is None:
                reason = f"the row of its file {blob!r} is damaged: run the task again."
                raise RestoreError(None, reason, damaged=True)
            with reading(self._database.path, f"the result of task {name!r}", "run the task again."):
                return self._serialization.load(None, self._database.read_payload(value, blob))
        except RestoreError as error:
            raise RestoreError(None, error.reason, name, self._database.path, error.damaged) from error

    def _load_elements(self, run: int, name: str) -> list[Any]:
        """Return the result of a mapped task: the results of its elements that succeeded."""
        maps = RunMaps(self._database, self._serialization, run)
        last = maps.last(name)
        if last is None or not maps.has_values(name):
            reason = "it has record=False, or is an iterator that a mapped task has consumed"
            raise LookupError(f"the result of task {name!r} was not recorded: {reason}.")
        if (failed := maps.failed(name)) and name in self._plan_of(run).returning:
            reason = "returned as exceptions, which are not recorded; run.tasks[name].elements.failed has their texts"
            raise LookupError(f"the result of task {name!r} was not recorded: {failed} of its elements were {reason}.")
        rows = maps.rows(last)
        done = [rows[number] for number in sorted(rows) if rows[number].state == "succeeded"]
        if last.size is None or any(row.value is None for row in done) or len(rows) < last.size:
            raise LookupError(f"the result of task {name!r} was not recorded: results of elements could not be.")
        return [maps.value(row) for row in done]

    def _planned_tasks(self, key: str) -> dict[str, tuple[tuple[str, ...], bool]]:
        """Return for each task of a plan, in topological order, its upstreams, and whether it is limited."""
        if key not in self._tasks:
            plan = self._plan(key)
            limited = {*plan.limited}
            wiring = plan.wiring()
            self._tasks[key] = {name: (tuple(sources), name in limited) for name, (sources, _) in wiring.items()}
        return self._tasks[key]

    def _plan_of(self, run: int) -> PipelinePlan:
        (key,) = self._select("SELECT plan FROM runs WHERE id = ?", (run,))[0]
        return self._plan(key)

    def _plan(self, key: str) -> PipelinePlan:
        (text,) = self._select("SELECT content FROM plans WHERE key = ?", (key,))[0]
        return PipelinePlan.from_text(text)


def _status(stored: str, owner: str | None) -> str:
    """Return the status of a run: a running one whose process has died is interrupted."""
    return "interrupted" if stored == "running" and live_claim(owner) is None else stored


def _seconds(executions: Sequence[ExecutionRecord], stored: float | None) -> float | None:
    """Return the seconds from the start of the last execution to its end; if that is not recorded, `stored`, a sum."""
    last = executions[-1] if executions else None
    if last is None or last.ended is None:
        return stored
    return max(0.0, (last.ended - last.started).total_seconds())


def _name(stored: Any) -> str:
    """Return the name of a pipeline for a message, also if it is damaged."""
    try:
        return from_sql(stored)
    except (AttributeError, ValueError):
        return short_repr(stored)


class _Row(NamedTuple):
    """A row of the table `attempts`."""

    name: str | bytes
    execution: int
    place: int
    number: int
    state: str
    ready: float | None
    ended: float
    seconds: float | None
    worker: str | None
    process: int | None
    host: str | None
    reason: str | None
    error: str | None
    source: str
    why: str | None


def _attempt(row: _Row, execution: ExecutionRecord | None) -> AttemptRecord:
    seconds = row.seconds or 0.0
    return AttemptRecord(
        number=row.number,
        execution=row.execution,
        ready=None if row.ready is None else _utc(row.ready),
        started=_utc(row.ended - seconds),
        ended=_utc(row.ended),
        duration=seconds,
        process=row.process or (execution and execution.process),
        host=row.host or (execution and execution.host),
        worker=row.worker,
        outcome="failed" if row.state == "retrying" else row.state,
        error=task_error(row.error),
    )


def _task(
    name: str,
    state: str,
    attempts: tuple[AttemptRecord, ...],
    reason: str,
    error: TaskError | None = None,
    source: str = "run",
    why: str = "",
    load: Callable[[], Any] | None = None,
    *,
    called: bool = False,
) -> TaskRecord:
    return TaskRecord(
        name=name,
        state=state,
        attempts=attempts,
        started=attempts[-1].started if called else None,
        duration=attempts[-1].duration if called else None,
        reason=reason,
        error=error,
        source=source,
        why=why,
        _load=load,
    )


def _utc(seconds: float) -> datetime:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)
