"""`open_run`: begins the record of a new run, or resumes the last run of the pipeline if that did not finish."""

from __future__ import annotations

import time

from flowkit_state import fingerprint
from flowkit_state.errors import (
    RestoreError,
    ResumeError,
    StateError,
    UnsupportedValueError,
    comma_list,
    escape_control_chars,
    short_repr,
)
from flowkit_state.run_log.journal import RECORD_TASK, RecordedTask, RunJournal
from flowkit_state.run_log.plan import Difference, PipelinePlan
from flowkit_state.serialization.json_text import dumps, loads
from flowkit_state.storage.base import Batch
from flowkit_state.storage.ownership import Claim, check_not_in_use
from flowkit_state.storage.schema import to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any, Literal

    from flowkit_state.run_log.plan import PlannedTask
    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database

_DONE = ("succeeded", "skipped")  # states of tasks that do not run again
_LAST_RUN = "SELECT id, run_id, plan, params, status, owner FROM runs WHERE pipeline = ? ORDER BY id DESC LIMIT 1"
_BEGIN_RUN = (
    "INSERT INTO runs (run_id, pipeline, plan, params, status, started, owner) VALUES (?, ?, ?, ?, 'running', ?, ?)"
)
_RESUME_RUN = (
    "UPDATE runs SET status = 'running', plan = ?, params = ?, resumes = resumes + 1, ended = NULL, error = NULL "
    "WHERE id = ?"
)
_RECORDED_TASKS = (
    "SELECT place, name, state, attempts, ended, seconds, value, beside, reason, error, source, why FROM tasks "
    "WHERE run = ? ORDER BY place"
)

_logged: set[tuple[str | None, str, str]] = set()  # (file, pipeline, description) that was logged in this process


def open_run(
    database: Database,
    serialization: Serialization,
    run_id: str,
    pipeline: str,
    tasks: Sequence[PlannedTask],
    upstream: Sequence[Sequence[int]],
    params: Mapping[str, Any],
    resume: bool | Literal["force"],
) -> RunJournal:
    """Implement `StateManager.open_run`."""
    serialization.check_trust()
    plan = PipelinePlan.of(tasks, upstream)
    for task in {id(task.func): task for task in reversed(tasks)}.values():  # several tasks may have one function
        serialization.check_result(task.name, task.func)
    given = {name: (_digest(value), short_repr(value, 200)) for name, value in params.items()}
    claim = Claim()
    try:
        with Batch(database):
            rows, _ = database.execute("read it", _LAST_RUN, (to_sql(pipeline),)) if resume else ([], 0)
            last = rows[0] if rows and rows[0][4] != "succeeded" else None
            if last is None:
                key = _store_plan(database, plan)
                facts = (run_id, to_sql(pipeline), key, dumps(given), time.time(), claim.text())
                database.execute("record a run in it", _BEGIN_RUN, facts)
                (row,) = database.execute("read it", "SELECT id FROM runs WHERE run_id = ?", (run_id,))[0][0]
                return RunJournal(database, serialization, row, run_id, plan.names(), {}, claim)
            row, run_id, owner = last[0], last[1], last[5]
            check_not_in_use(owner, run_id, pipeline)
            database.execute("record a run in it", "UPDATE runs SET owner = ? WHERE id = ?", (claim.text(), row))
        try:
            done = _resume(database, serialization, last, plan, given, tasks, pipeline, force=resume == "force")
        except BaseException:
            database.execute("record a run in it", "UPDATE runs SET owner = NULL WHERE id = ?", (row,))
            raise
        names = plan.names()
        _log_unverifiable(database, run_id, pipeline, plan.unverifiable({names[index] for index in done}))
        return RunJournal(database, serialization, row, run_id, plan.names(), done, claim)
    except BaseException:
        claim.release()
        raise


def _resume(
    database: Database,
    serialization: Serialization,
    last: Sequence[Any],
    plan: PipelinePlan,
    given: Mapping[str, tuple[str | None, str]],
    tasks: Sequence[PlannedTask],
    pipeline: str,
    *,
    force: bool,
) -> dict[int, RecordedTask]:
    """Return the recorded tasks of the last run that need not run again, by index in the current pipeline."""
    row, run_id, key, params, *_ = last
    names = plan.names()
    (text,) = database.execute("read it", "SELECT content FROM plans WHERE key = ?", (key,))[0][0]
    before = PipelinePlan.from_text(text)
    names_before = before.names()
    rows, _ = database.execute("read it", _RECORDED_TASKS, (row,))
    recorded = {names_before[line[0]]: line[1:] for line in rows if line[2] in _DONE}
    difference = Difference(before, plan, recorded, _changed_params(loads(params), given))
    if difference.params:
        difference.exclude({task.name for task in tasks if _has_parameter(task.func, difference.params)}, plan)
    if difference and not force:
        raise ResumeError(
            run_id,
            pipeline,
            difference.added,
            difference.removed,
            difference.rewired,
            difference.changed,
            difference.params,
            len(difference.reusable),
            len(recorded),
        )
    # Without a difference, all: also a task that ran although an upstream had failed.
    reusable = difference.reusable if difference else recorded.keys()
    done: dict[int, RecordedTask] = {}
    for index, name in enumerate(names):
        if name in reusable:
            task = _restore(database, serialization, name, recorded[name], force=force)
            if task is not None:
                done[index] = task
    with Batch(database):
        new_key = _store_plan(database, plan)
        not_done = "DELETE FROM tasks WHERE run = ? AND state NOT IN (?, ?)"
        database.execute("record a run in it", not_done, (row, *_DONE))
        if new_key != key or len(done) < len(recorded):
            database.execute("record a run in it", "DELETE FROM tasks WHERE run = ?", (row,))
            for index in done:
                database.execute("record a run in it", RECORD_TASK, (row, index, *recorded[names[index]]))
        database.execute("record a run in it", _RESUME_RUN, (new_key, dumps(dict(given)), row))
    return done


def _restore(
    database: Database, serialization: Serialization, name: str, recorded: Sequence[Any], *, force: bool
) -> RecordedTask | None:
    """Return a recorded task with its result. If that cannot be restored, return `None` if `force`, else raise."""
    _, state, attempts, _, seconds, value, blob, reason, *_ = recorded
    try:
        succeeded = state == _DONE[0]
        result = serialization.load(None, database.read_payload(value, blob)) if succeeded else None
    except StateError as error:
        if force:
            return None
        if not isinstance(error, RestoreError):
            raise
        hint = 'Fix that, or run the task again with run(resume="force").'
        raise RestoreError(None, f"{error.reason} {hint}", name) from error
    return RecordedTask(state, result, reason or "", attempts, seconds)


def _log_unverifiable(database: Database, run_id: str, pipeline: str, descriptions: Sequence[str]) -> None:
    """Log once per process which values may have changed unnoticed, because they cannot be compared."""
    keys = {text: (database.path, pipeline, text) for text in descriptions}
    new = [text for text in descriptions if keys[text] not in _logged]
    if not new:
        return
    import logging

    _logged.update(keys.values())
    message = (
        f"Run {run_id} of {short_repr(pipeline)} reuses recorded results of tasks that read values which cannot be "
        f"compared with those of the earlier process: {comma_list(new)}. If one of them has changed, start a new run "
        "with resume=False."
    )
    logging.getLogger("flowkit.state").warning("%s", escape_control_chars(message))


def _store_plan(database: Database, plan: PipelinePlan) -> str:
    text = plan.text()
    key = fingerprint.digest(text)
    database.execute("record a run in it", "INSERT OR IGNORE INTO plans (key, content) VALUES (?, ?)", (key, text))
    return key


def _digest(value: Any) -> str | None:
    from flowkit_state.serialization.json_encoder import encode

    try:
        return fingerprint.digest(encode(value))
    except UnsupportedValueError:
        return None


def _changed_params(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of run parameters that differ. Values without a digest count as equal."""
    one_sided = [name for name in {**before, **now} if name not in before or name not in now]
    digests = [(name, before[name][0], now[name][0]) for name in now if name in before]
    return one_sided + [name for name, old, new in digests if None not in (old, new) and old != new]


def _has_parameter(func: Any, names: Collection[str]) -> bool:
    import inspect

    try:
        return not inspect.signature(func).parameters.keys().isdisjoint(names)
    except (TypeError, ValueError):
        return True
