"""`open_run`: begins the record of a new run, or resumes the last run with the same parameters if it did not finish.

Recorded results that are out of date are not used: their tasks run again.
"""

from __future__ import annotations

import time
from hashlib import sha256

from flowkit_state import fingerprint
from flowkit_state._warnings import report
from flowkit_state.errors import (
    RestoreError,
    ResumeError,
    StateError,
    comma_list,
    escape_control_chars,
    short_repr,
)
from flowkit_state.run_log.journal import RECORD_TASK, RecordedTask, RunJournal
from flowkit_state.run_log.parameters import NO_IDENTITY, RunParameters, add_identities
from flowkit_state.run_log.plan import Difference, PipelinePlan
from flowkit_state.storage.base import Batch
from flowkit_state.storage.ownership import Claim, check_claim, check_not_in_use
from flowkit_state.storage.row_check import BINARY, INTEGER, NUMBER, OPTIONAL, TEXT, check_row, reading
from flowkit_state.storage.schema import to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal

    from flowkit_state.run_log.plan import PlannedTask
    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database

    Resume = bool | Literal["strict", "force"]

_DONE = ("succeeded", "skipped")  # states of tasks that do not run again
_LAST_RUN = (
    "SELECT id, run_id, plan, owner, status FROM runs WHERE pipeline = ? AND identity = ? ORDER BY id DESC LIMIT 1"
)
_BEGIN_RUN = (
    "INSERT INTO runs (run_id, pipeline, plan, params, identity, status, started, owner) "
    "VALUES (?, ?, ?, ?, ?, 'running', ?, ?)"
)
_RESUME_RUN = (
    "UPDATE runs SET status = 'running', plan = ?, params = ?, resumes = resumes + 1, ended = NULL, error = NULL "
    "WHERE id = ?"
)
_RECORDED_TASKS = (
    "SELECT place, name, state, attempts, ended, seconds, value, beside, reason, error, source, why FROM tasks "
    "WHERE run = ? ORDER BY place"
)

_RECORDED_COLUMNS = {
    "place": INTEGER,
    "name": BINARY,
    "state": TEXT,
    "attempts": INTEGER,
    "ended": NUMBER,
    "seconds": NUMBER,
    "value": BINARY + OPTIONAL,
    "beside": TEXT + OPTIONAL,
    "reason": TEXT + OPTIONAL,
    "error": TEXT + OPTIONAL,
    "source": TEXT,
    "why": TEXT + OPTIONAL,
}

_logged: set[tuple[str | None, str, str]] = set()  # (file, pipeline, description) that was logged in this process


def open_run(
    database: Database,
    serialization: Serialization,
    run_id: str,
    pipeline: str,
    tasks: Sequence[PlannedTask],
    upstream: Sequence[Sequence[int]],
    params: Mapping[str, Any],
    resume: Resume,
    max_age: float | None,
) -> RunJournal:
    """Implement `StateManager.open_run`."""
    serialization.check_trust()
    plan = PipelinePlan.of(tasks, upstream, _digest_key(database))
    for task in {id(task.func): task for task in reversed(tasks)}.values():  # several tasks may have one function
        serialization.check_result(task.name, task.func)
    given = RunParameters(params, serialization.serializers)
    if resume and given.incomparable:
        _warn_incomparable(pipeline, given.incomparable)
    claim = Claim()
    try:
        with Batch(database):
            last = _last_run(database, pipeline, given) if resume else None
            if last is None:
                row = _begin(database, run_id, pipeline, plan, given, claim)
                return RunJournal(database, serialization, row, run_id, plan.names(), {}, {}, claim)
            row, run_id, _, owner = last
            with reading(database.path, f"the record of run {short_repr(run_id)}", "release() ends the claim on it."):
                check_claim(owner)
            check_not_in_use(owner, run_id, pipeline)
            database.execute("record a run in it", "UPDATE runs SET owner = ? WHERE id = ?", (claim.text(), row))
        try:
            way_out = f"forget({short_repr(run_id)}) deletes it, so that a new run starts."
            with reading(database.path, f"the record of run {short_repr(run_id)}", way_out):
                done, outdated = _resume(database, serialization, last, plan, given, pipeline, resume, max_age)
        except BaseException:
            database.execute("record a run in it", "UPDATE runs SET owner = NULL WHERE id = ?", (row,))
            raise
        return RunJournal(database, serialization, row, run_id, plan.names(), done, outdated, claim)
    except BaseException:
        claim.release()
        raise


def _digest_key(database: Database) -> bytes:
    """Return the key for digests of this file; a valid one whatever a damaged file has."""
    rows, _ = database.execute("read it", "SELECT value FROM settings WHERE name = 'digest key'")
    return sha256(repr(rows).encode()).digest()


def _last_run(database: Database, pipeline: str, given: RunParameters) -> Sequence[Any] | None:
    """Return the last run of the pipeline with the same parameters, if that did not finish."""
    if given.identity == NO_IDENTITY:
        return None
    add_identities(database, pipeline)
    rows, _ = database.execute("read it", _LAST_RUN, (to_sql(pipeline), given.identity))
    return rows[0][:-1] if rows and rows[0][-1] != "succeeded" else None


def _begin(
    database: Database, run_id: str, pipeline: str, plan: PipelinePlan, given: RunParameters, claim: Claim
) -> int:
    """Record a new run, and return its row."""
    key = _store_plan(database, plan)
    facts = (run_id, to_sql(pipeline), key, given.text(), given.identity, time.time(), claim.text())
    database.execute("record a run in it", _BEGIN_RUN, facts)
    row: int = database.execute("read it", "SELECT id FROM runs WHERE run_id = ?", (run_id,))[0][0][0]
    return row


def _resume(
    database: Database,
    serialization: Serialization,
    last: Sequence[Any],
    plan: PipelinePlan,
    given: RunParameters,
    pipeline: str,
    resume: Resume,
    max_age: float | None,
) -> tuple[dict[int, RecordedTask], dict[int, str]]:
    """Return, by index in the current pipeline, the tasks that do not run again, and why recorded ones do."""
    row, run_id, key, _ = last
    names = plan.names()
    (text,) = database.execute("read it", "SELECT content FROM plans WHERE key = ?", (key,))[0][0]
    before = PipelinePlan.from_text(text)
    names_before = before.names()
    rows, _ = database.execute("read it", _RECORDED_TASKS, (row,))
    for line in rows:
        check_row(line, _RECORDED_COLUMNS)
    recorded = {names_before[line[0]]: line[1:] for line in rows if line[2] in _DONE}
    expired = {} if max_age is None else _expired(plan, {name: line[3] for name, line in recorded.items()}, max_age)
    difference = Difference(before, plan, recorded, expired)
    if difference and resume == "strict":
        raise ResumeError(
            run_id,
            pipeline,
            difference.added,
            difference.removed,
            difference.rewired,
            difference.changed,
            len(recorded) - len(difference.outdated) - len(recorded.keys() & difference.removed),
            len(recorded),
        )
    force = resume == "force"
    done: dict[int, RecordedTask] = {}
    for index, name in enumerate(names):
        if name in recorded and (force or name not in difference.outdated):
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
        database.execute("record a run in it", _RESUME_RUN, (new_key, given.text(), row))
    if difference:
        _log_difference(run_id, pipeline, difference, len(done), len(recorded), force=force)
    _log_unverifiable(database, run_id, pipeline, plan.unverifiable({names[index] for index in done}))
    outdated = {index: difference.outdated[name] for index, name in enumerate(names) if name in difference.outdated}
    return done, {} if force else outdated


def _expired(plan: PipelinePlan, ended: Mapping[str, float], max_age: float) -> dict[str, str]:
    """Return why the recorded results of tasks that read the clock are too old."""
    expired = {}
    now = time.time()
    for name, functions in plan.clocks().items():
        age = now - ended.get(name, now)
        if age > max_age:
            expired[name] = (
                f"it reads the clock ({comma_list(functions)}), and its result is {age / 3600:.1f} hours old"
            )
    return expired


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
        raise RestoreError(None, f"{error.reason} {hint}", name, database.path) from error
    return RecordedTask(state, result, reason or "", attempts, seconds)


def _warn_incomparable(pipeline: str, descriptions: Sequence[str]) -> None:
    report(
        f"run(resume=...) of {short_repr(pipeline)} starts a new run, because these params cannot be compared with "
        f"those of an earlier run: {comma_list(descriptions)}. Pass plain data that identifies the run, such as a date "
        "or a path, and create other objects in the tasks."
    )


def _log_difference(
    run_id: str, pipeline: str, difference: Difference, done: int, recorded: int, *, force: bool
) -> None:
    """Log which recorded results are out of date, and why; as a warning if they are used nevertheless."""
    import logging

    reasons = [f"{short_repr(name)} ({why})" for name, why in difference.outdated.items()]
    parts = [f"Run {run_id} of {short_repr(pipeline)} continues with {done} of {recorded} recorded results"]
    if reasons:
        what = 'out of date, but used because of resume="force"' if force else "out of date, so these tasks run again"
        parts.append(f"{what}: {comma_list(reasons, 12)}")
    for label, names in (("tasks added", difference.added), ("tasks removed", difference.removed)):
        if names:
            parts.append(f"{label}: {comma_list([short_repr(name) for name in names])}")
    level = logging.WARNING if force and reasons else logging.INFO
    logging.getLogger("flowkit.state").log(level, "%s", escape_control_chars("; ".join(parts) + "."))


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
