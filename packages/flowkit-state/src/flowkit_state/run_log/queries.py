"""`RunHistory`: queries of recorded runs, and their removal."""

from __future__ import annotations

import os
from functools import partial

from flowkit_state.errors import RestoreError, UnknownRunError, short_repr
from flowkit_state.run_log.plan import PipelinePlan
from flowkit_state.runs import Reclaimed, RunRecord, TaskError, TaskRecord
from flowkit_state.serialization.json_text import loads
from flowkit_state.storage.base import Batch
from flowkit_state.storage.ownership import check_claim, check_not_in_use, is_visible, live_claim, release
from flowkit_state.storage.row_check import BINARY, INTEGER, NUMBER, OPTIONAL, TEXT, check_row, reading
from flowkit_state.storage.schema import from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database

_RUNS = "SELECT id, run_id, pipeline, plan, params, status, started, ended, seconds, resumes, error, owner FROM runs"
_TASKS = "SELECT place, state, attempts, ended, seconds, reason, error, source, why FROM tasks WHERE run = ?"


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
}
_TASK_COLUMNS = {
    "place": INTEGER,
    "state": TEXT,
    "attempts": INTEGER,
    "ended": NUMBER,
    "seconds": NUMBER,
    "reason": TEXT + OPTIONAL,
    "error": TEXT + OPTIONAL,
    "source": TEXT,
    "why": TEXT + OPTIONAL,
}
VALUE_COLUMNS = {"value": BINARY, "beside": TEXT + OPTIONAL}


class RunHistory:
    """The recorded runs of one database.

    Args:
        database: the database.
        serialization: restores results.
    """

    def __init__(self, database: Database, serialization: Serialization) -> None:
        self._database = database
        self._serialization = serialization
        self._task_names: dict[str, list[str]] = {}  # by key of the plan

    def runs(self, pipeline: str | None, limit: int | None) -> list[RunRecord]:
        """Return the runs, newest first."""
        order = "ORDER BY id DESC LIMIT ?"
        count = -1 if limit is None else limit
        if pipeline is None:
            rows = self._select(f"{_RUNS} {order}", (count,))
        else:
            rows = self._select(f"{_RUNS} WHERE pipeline = ? {order}", (to_sql(pipeline), count))
        return [self._run_record(row) for row in rows]

    def run(self, run_id: str) -> RunRecord:
        """Return one run. Raises `UnknownRunError`."""
        return self._run_record(self._row(run_id))

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
        claim = live_claim(row[11])
        if claim is not None and is_visible(claim) and claim["pid"] != os.getpid():
            check_not_in_use(row[11], run_id, _name(row[2]))
        self._database.execute("record a run in it", "UPDATE runs SET owner = NULL WHERE id = ?", (row[0],))
        if row[11] is not None:
            release(row[11])

    def forget(self, run_id: str) -> None:
        """Delete the record of a run. Raises `RunInUseError` if a process uses it."""
        with Batch(self._database):
            row = self._row(run_id)
            check_not_in_use(row[11], run_id, _name(row[2]))
            self._delete([row[0]])

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
            self._database.execute("delete a run in it", "DELETE FROM tasks WHERE run = ?", (row,))
            self._database.execute("delete a run in it", "DELETE FROM runs WHERE id = ?", (row,))
        if rows:
            unused = "DELETE FROM plans WHERE key NOT IN (SELECT plan FROM runs)"
            self._database.execute("delete a run in it", unused)

    def _select(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._database.execute("read it", sql, values)[0]

    def _row(self, run_id: str) -> Any:
        rows = self._select(f"{_RUNS} WHERE run_id = ?", (to_sql(run_id),))
        if not rows:
            raise UnknownRunError(run_id, self._database.path)
        return rows[0]

    def _run_record(self, row: Any) -> RunRecord:
        way_out = f"forget({short_repr(row[1])}) deletes it; release() ends the claim of a process."
        with reading(self._database.path, f"the record of run {short_repr(row[1])}", way_out):
            check_row(row, _RUN_COLUMNS)
            check_claim(row[11])
            return self._checked_run_record(row)

    def _checked_run_record(self, row: Any) -> RunRecord:
        number, run_id, pipeline, plan, params, status, started, ended, seconds, resumes, error, owner = row
        if status == "running" and live_claim(owner) is None:
            status = "interrupted"
        return RunRecord(
            run_id=run_id,
            pipeline=from_sql(pipeline),
            status=status,
            started=_utc(started),
            ended=None if ended is None else _utc(ended),
            duration=None if ended is None else seconds,
            resumes=resumes,
            params={name: text for name, (_, text) in loads(params).items()},
            error=error,
            tasks=self._task_records(number, plan),
        )

    def _task_records(self, run: int, plan: str) -> dict[str, TaskRecord]:
        names = self._names(plan)
        tasks = {name: _pending(name) for name in names}
        for row in self._select(_TASKS, (run,)):
            check_row(row, _TASK_COLUMNS)
            name = names[row[0]]
            tasks[name] = self._task_record(run, name, row)
        return tasks

    def _task_record(self, run: int, name: str, row: Any) -> TaskRecord:
        index, state, attempts, ended, seconds, reason, error, source, why = row
        ran = bool(attempts)
        parts = None if error is None else loads(error)
        return TaskRecord(
            name=name,
            state=state,
            attempts=attempts,
            started=_utc(ended - seconds) if ran else None,
            duration=seconds if ran else None,
            reason=reason or "",
            error=None if parts is None else TaskError(type=parts[0], message=parts[1], traceback=parts[2]),
            source=source,
            why=why or "",
            _load=partial(self._load_result, run, index, name),
        )

    def _load_result(self, run: int, index: int, name: str) -> Any:
        rows = self._select("SELECT value, beside FROM tasks WHERE run = ? AND place = ?", (run, index))
        if not rows:
            raise LookupError(f"the result of task {name!r} was deleted with its run.")
        try:
            with reading(self._database.path, f"the result of task {name!r}", "run the task again."):
                check_row(rows[0], VALUE_COLUMNS)
                return self._serialization.load(None, self._database.read_payload(*rows[0]))
        except RestoreError as error:
            raise RestoreError(None, error.reason, name, self._database.path) from error

    def _names(self, plan: str) -> list[str]:
        if plan not in self._task_names:
            (text,) = self._select("SELECT content FROM plans WHERE key = ?", (plan,))[0]
            self._task_names[plan] = PipelinePlan.from_text(text).names()
        return self._task_names[plan]


def _name(stored: Any) -> str:
    """Return the name of a pipeline for a message, also if it is damaged."""
    try:
        return from_sql(stored)
    except (AttributeError, ValueError):
        return short_repr(stored)


def _pending(name: str) -> TaskRecord:
    return TaskRecord(
        name=name,
        state="pending",
        attempts=0,
        started=None,
        duration=None,
        reason="not recorded",
        error=None,
        source="run",
        why="",
        _load=None,
    )


def _utc(seconds: float) -> datetime:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)
