"""Questions to the record of runs, and its upkeep."""

from __future__ import annotations

import os
from functools import partial

from flowkit_state.errors import RestoreError, UnknownRunError
from flowkit_state.run_log.journal import refuse_if_held
from flowkit_state.run_log.plan import Plan
from flowkit_state.runs import Reclaimed, RunRecord, TaskError, TaskRecord
from flowkit_state.serialization.json_text import loads
from flowkit_state.storage.base import Batch
from flowkit_state.storage.ownership import holder, is_here, let_go
from flowkit_state.storage.schema import from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.schema import Database

_RUNS = "SELECT id, run_id, pipeline, plan, params, status, started, ended, seconds, resumes, error, owner FROM runs"
_TASKS = "SELECT place, state, attempts, ended, seconds, reason, error, source, why FROM tasks WHERE run = ?"


class History:
    """What was recorded in one database.

    Args:
        database: where.
        serialization: how results were kept.
    """

    def __init__(self, database: Database, serialization: Serialization) -> None:
        self._database = database
        self._serialization = serialization
        self._plans: dict[str, list[str]] = {}

    def runs(self, pipeline: str | None, limit: int | None) -> list[RunRecord]:
        """Return the runs, newest first."""
        newest = "ORDER BY id DESC LIMIT ?"
        most = -1 if limit is None else limit
        if pipeline is None:
            rows = self._ask(f"{_RUNS} {newest}", (most,))
        else:
            rows = self._ask(f"{_RUNS} WHERE pipeline = ? {newest}", (to_sql(pipeline), most))
        return [self._run(row) for row in rows]

    def run(self, run_id: str) -> RunRecord:
        """Return one run. Raises `UnknownRunError`."""
        return self._run(self._row(run_id))

    def explain(self, run_id: str | None) -> dict[str, str]:
        """Return why each task with a cache ran, or where its result is from, in one run, or the last."""
        if run_id is None:
            rows = self._ask(f"{_RUNS} ORDER BY id DESC LIMIT 1")
            if not rows:
                return {}
            record = self._run(rows[0])
        else:
            record = self.run(run_id)
        return {name: task.why for name, task in record.tasks.items() if task.why}

    def release(self, run_id: str) -> None:
        """Take a run from a process that has it and cannot be seen."""
        row = self._row(run_id)
        claim = holder(row[11])
        if claim is not None and is_here(claim) and claim["pid"] != os.getpid():
            refuse_if_held(row[11], run_id, from_sql(row[2]))
        self._database.run("record a run in it", "UPDATE runs SET owner = NULL WHERE id = ?", (row[0],))
        if row[11] is not None:
            let_go(row[11])

    def forget(self, run_id: str) -> None:
        """Remove the record of a run. Raises `RunInUseError` if a process has it."""
        with Batch(self._database):
            row = self._row(run_id)
            refuse_if_held(row[11], run_id, from_sql(row[2]))
            self._remove([row[0]])

    def gc(self, keep: int | None, before: float | None) -> Reclaimed:
        """Forget what is older than the newest finished runs of each pipeline, or began before a time.

        Then delete the files that nothing needs.
        """
        gone = []
        if keep is not None or before is not None:
            with Batch(self._database):
                seen: dict[str, int] = {}
                rows = self._ask("SELECT id, pipeline, status, owner, started FROM runs ORDER BY id DESC")
                for row, pipeline, status, owner, started in rows:
                    seen[pipeline] = seen.get(pipeline, 0) + (status == "succeeded")
                    old = before is not None and started < before
                    if keep is not None:
                        count = seen[pipeline]
                        old = old or (count > keep if status == "succeeded" else count >= max(keep, 1))
                    if old and holder(owner) is None:
                        gone.append(row)
                self._remove(gone)
        files, size = self._database.sweep()
        return Reclaimed(runs=len(gone), files=files, bytes=size)

    def _remove(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._database.run("forget a run in it", "DELETE FROM tasks WHERE run = ?", (row,))
            self._database.run("forget a run in it", "DELETE FROM runs WHERE id = ?", (row,))
        if rows:
            unused = "DELETE FROM plans WHERE key NOT IN (SELECT plan FROM runs)"
            self._database.run("forget a run in it", unused)

    def _ask(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._database.run("read it", sql, values)[0]

    def _row(self, run_id: str) -> Any:
        rows = self._ask(f"{_RUNS} WHERE run_id = ?", (to_sql(run_id),))
        if not rows:
            raise UnknownRunError(run_id, self._database.path)
        return rows[0]

    def _run(self, row: Any) -> RunRecord:
        number, run_id, pipeline, plan, params, status, started, ended, seconds, resumes, error, owner = row
        if status == "running" and holder(owner) is None:
            status = "interrupted"
        return RunRecord(
            run_id=run_id,
            pipeline=from_sql(pipeline),
            status=status,
            started=_moment(started),
            ended=None if ended is None else _moment(ended),
            duration=None if ended is None else seconds,
            resumes=resumes,
            params={name: text for name, (_, text) in loads(params).items()},
            error=error,
            tasks=self._tasks(number, plan),
        )

    def _tasks(self, run: int, plan: str) -> dict[str, TaskRecord]:
        names = self._names(plan)
        tasks = {name: _pending(name) for name in names}
        for line in self._ask(_TASKS, (run,)):
            tasks[names[line[0]]] = self._task(run, names[line[0]], line)
        return tasks

    def _task(self, run: int, name: str, line: Any) -> TaskRecord:
        place, state, attempts, ended, seconds, reason, error, source, why = line
        ran = bool(attempts)
        parts = None if error is None else loads(error)
        return TaskRecord(
            name=name,
            state=state,
            attempts=attempts,
            started=_moment(ended - seconds) if ran else None,
            duration=seconds if ran else None,
            reason=reason or "",
            error=None if parts is None else TaskError(type=parts[0], message=parts[1], traceback=parts[2]),
            source=source,
            why=why or "",
            _load=partial(self._load, run, place, name),
        )

    def _load(self, run: int, place: int, name: str) -> Any:
        rows = self._ask("SELECT value, beside FROM tasks WHERE run = ? AND place = ?", (run, place))
        if not rows:
            raise LookupError(f"the run of task {name!r} was forgotten, and its result with it.")
        try:
            payload = self._database.fetch(*rows[0])
            return self._serialization.load(None, payload)
        except RestoreError as error:
            raise RestoreError(None, error.reason, name) from error

    def _names(self, plan: str) -> list[str]:
        if plan not in self._plans:
            (text,) = self._ask("SELECT content FROM plans WHERE key = ?", (plan,))[0]
            self._plans[plan] = Plan.from_text(text).names()
        return self._plans[plan]


def _pending(name: str) -> TaskRecord:
    return TaskRecord(
        name=name,
        state="pending",
        attempts=0,
        started=None,
        duration=None,
        reason="nothing was recorded of it",
        error=None,
        source="run",
        why="",
        _load=None,
    )


def _moment(seconds: float) -> datetime:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)
