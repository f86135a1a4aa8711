"""`open_run`: begins the record of a new run, or resumes the last run with the same parameters if it did not finish.

Recorded results that are out of date are not used: their tasks run again.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from hashlib import sha256

from flowkit_state import fingerprint
from flowkit_state._warnings import safe_warn
from flowkit_state.errors import (
    RestoreError,
    ResumeError,
    StateError,
    comma_list,
    escape_control_chars,
    short_repr,
)
from flowkit_state.run_log.elements import RunMaps
from flowkit_state.run_log.error_text import encodable
from flowkit_state.run_log.journal import DONE, RECORD, EarlierElements, RecordedTask, RunJournal, is_done
from flowkit_state.run_log.parameters import NO_IDENTITY, RunParameters, add_identities, other_types, stored_values
from flowkit_state.run_log.plan import Difference, PipelinePlan
from flowkit_state.serialization.json_text import loads
from flowkit_state.storage.base import Batch
from flowkit_state.storage.ownership import Claim, check_claim, check_not_in_use
from flowkit_state.storage.row_check import BINARY, INTEGER, NUMBER, OPTIONAL, TEXT, check_row, reading
from flowkit_state.storage.schema import from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any, Literal

    from flowkit_state.run_log.plan import PlannedTask
    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database

    Resume = bool | Literal["strict", "force"]

_LAST_RUNS = (
    "SELECT id, run_id, plan, owner, status FROM runs WHERE pipeline = ? AND identity = ? ORDER BY id DESC LIMIT 1000"
)
_PLAN = "SELECT content FROM plans WHERE key = ?"
_HAS_RUN = "SELECT 1 FROM runs WHERE pipeline = ? AND identity = ? LIMIT 1"
_UNFINISHED = (
    "SELECT id, run_id, params FROM runs WHERE pipeline = ? AND status != 'succeeded' ORDER BY id DESC LIMIT 20"
)
_BEGIN_RUN = (
    "INSERT INTO runs (run_id, pipeline, plan, params, identity, status, started, owner) "
    "VALUES (?, ?, ?, ?, ?, 'running', ?, ?)"
)
_RESUME_RUN = "UPDATE runs SET status = 'running', plan = ?, resumes = ?, ended = NULL, error = NULL WHERE id = ?"
_BEGIN_EXECUTION = (
    "INSERT INTO executions (run, number, plan, started, process, host) "
    "SELECT ?, 1 + coalesce(max(number), 0), ?, ?, ?, ? FROM executions WHERE run = ?"
)
_RECORDED = (
    "SELECT name, state, number, ended, seconds, value, beside, reason, execution FROM attempts "
    "WHERE run = ? AND element = -1 ORDER BY execution, place, number"
)
_EPOCHS = (
    "SELECT name, max(execution) FROM attempts WHERE run = ? AND element = -1 AND state = 'outdated' GROUP BY name"
)
_FAILURES = (
    "SELECT name, error FROM attempts WHERE run = ? AND element = -1 AND state = 'failed' AND error IS NOT NULL AND "
    "execution = (SELECT max(number) FROM executions WHERE run = ?)"
)
_OUTDATED = f"INSERT {RECORD}"

_RECORDED_COLUMNS = {
    "name": BINARY,
    "state": TEXT,
    "number": INTEGER,
    "ended": NUMBER,
    "seconds": NUMBER + OPTIONAL,
    "value": BINARY + OPTIONAL,
    "beside": TEXT + OPTIONAL,
    "reason": TEXT + OPTIONAL,
    "execution": INTEGER,
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
    plan = PipelinePlan.of(tasks, upstream, digest_key(database))
    given = RunParameters(params, serialization.serializers)
    if resume and given.incomparable:
        _warn_incomparable(pipeline, given.incomparable)
    claim = Claim()
    try:
        with Batch(database):
            last, other = _last_run(database, pipeline, plan, given) if resume else (None, None)
            if last is None:
                if other is not None:
                    _warn_of_other_pipeline(pipeline, other)
                if resume:
                    _warn_of_other_types(database, serialization, pipeline, params, given.identity)
                row = begin(database, serialization, run_id, pipeline, plan, given, claim)
                new = EarlierElements(RunMaps(database, serialization, None), plan)
                return RunJournal(database, serialization, row, 1, run_id, plan.names(), {}, {}, claim, new)
            row, run_id, _, owner = last
            with reading(database.path, f"the record of run {short_repr(run_id)}", "release() ends the claim on it."):
                check_claim(owner)
            check_not_in_use(owner, run_id, pipeline)
            database.execute("record a run in it", "UPDATE runs SET owner = ? WHERE id = ?", (claim.text(), row))
        try:
            way_out = f"forget({short_repr(run_id)}) deletes it, so that a new run starts."
            with reading(database.path, f"the record of run {short_repr(run_id)}", way_out):
                recorded = Recorded(database, serialization, last, pipeline)
                execution, done, outdated, earlier = recorded.resume(plan, resume, max_age)
        except BaseException:
            database.execute("record a run in it", "UPDATE runs SET owner = NULL WHERE id = ?", (row,))
            raise
        return RunJournal(database, serialization, row, execution, run_id, plan.names(), done, outdated, claim, earlier)
    except BaseException:
        claim.release()
        raise


def digest_key(database: Database) -> bytes:
    """Return the key for digests of this file; a valid one whatever a damaged file has."""
    rows, _ = database.execute("read it", "SELECT value FROM settings WHERE name = 'digest key'")
    return sha256(repr(rows).encode()).digest()


def _last_run(
    database: Database, pipeline: str, plan: PipelinePlan, given: RunParameters
) -> tuple[Sequence[Any] | None, str | None]:
    """Return the last run of the pipeline with the same parameters, if that did not finish.

    A run that has no task in common with the pipeline is passed over: it belongs to another pipeline of the same name.

    Returns:
        The run, and the id of an unfinished one that was passed over; None for either if there is none.
    """
    if given.identity == NO_IDENTITY:
        return None, None
    add_identities(database, pipeline)
    names, other = set(plan.names()), None
    is_other: dict[str, bool] = {}
    for *run, status in database.execute("read it", _LAST_RUNS, (to_sql(pipeline), given.identity))[0]:
        _, run_id, key, _ = run
        if key not in is_other:
            is_other[key] = _has_other_tasks(database, key, names)
        if not is_other[key]:
            return (run if status != "succeeded" else None), other
        if other is None and status != "succeeded":
            other = run_id
    return None, other


def _has_other_tasks(database: Database, key: str, names: Collection[str]) -> bool:
    """Return whether a recorded plan has tasks, but none of these names."""
    recorded: list[str] = []
    with suppress(Exception):  # a damaged plan is reported when its run is resumed
        recorded = _recorded_plan(database, key).names()
    return bool(recorded) and not any(name in names for name in recorded)


def _recorded_plan(database: Database, key: str) -> PipelinePlan:
    (text,) = database.execute("read it", _PLAN, (key,))[0][0]
    return PipelinePlan.from_text(text)


def begin(
    database: Database,
    serialization: Serialization,
    run_id: str,
    pipeline: str,
    plan: PipelinePlan,
    given: RunParameters,
    claim: Claim,
) -> int:
    """Record a new run, and return its row."""
    key = _store_plan(database, plan)
    now = time.time()
    facts = (run_id, to_sql(pipeline), key, given.text(), given.identity, now, claim.text())
    database.execute("record a run in it", _BEGIN_RUN, facts)
    row: int = database.execute("read it", "SELECT id FROM runs WHERE run_id = ?", (run_id,))[0][0][0]
    _begin_execution(database, row, key, now)
    given.store(database, serialization, row, claim)
    return row


def _begin_execution(database: Database, row: int, plan: str, now: float) -> int:
    """Record the begin of an execution, and return its number."""
    import platform

    facts = (row, plan, now, os.getpid(), platform.node(), row)
    database.execute("record a run in it", _BEGIN_EXECUTION, facts)
    number: int = database.execute("read it", "SELECT max(number) FROM executions WHERE run = ?", (row,))[0][0][0]
    return number


class Preview:
    """What `plan_run` finds.

    Attributes:
        run_id: the run that would be resumed, or `None` if a new one would start.
        done: index -> the recorded task that would be taken over.
        reasons: index of a task that would run -> why.
    """

    def __init__(
        self,
        run_id: str | None = None,
        done: Mapping[int, RecordedTask] | None = None,
        reasons: Mapping[int, str] | None = None,
    ) -> None:
        self.run_id = run_id
        self.done = done or {}
        self.reasons = reasons or {}


def plan_run(
    database: Database,
    serialization: Serialization,
    pipeline: str,
    tasks: Sequence[PlannedTask],
    upstream: Sequence[Sequence[int]],
    params: Mapping[str, Any],
    max_age: float | None,
) -> Preview:
    """Implement `StateManager.plan_run`."""
    serialization.check_trust()
    plan = PipelinePlan.of(tasks, upstream, digest_key(database))
    last, _ = _last_run(database, pipeline, plan, RunParameters(params, serialization.serializers))
    if last is None:
        return Preview()
    with reading(database.path, f"the record of run {short_repr(last[1])}", "forget() deletes it."):
        return Recorded(database, serialization, last, pipeline).preview(plan, max_age)


class Recorded:
    """What is recorded of the run that is resumed, or from which a linked run is started.

    Args:
        database: the database.
        serialization: restores results.
        run: row, id, plan and owner of the run.
        pipeline: name of the pipeline.
        keeps_dropped: whether elements that `errors="drop"` has left out stay left out; if not, they run again.
    """

    def __init__(
        self,
        database: Database,
        serialization: Serialization,
        run: Sequence[Any],
        pipeline: str,
        *,
        keeps_dropped: bool = False,
    ) -> None:
        self._keeps_dropped = keeps_dropped
        self._database = database
        self._serialization = serialization
        self._pipeline = pipeline
        self._row, self._run_id, key, _ = run
        self._plan = _recorded_plan(database, key)
        self.maps = RunMaps(database, serialization, self._row)
        self.tasks = done_tasks(database, self._row, self._plan.names())
        self.incomplete: dict[str, str] = {}  # mapped tasks with failed elements -> why they run again
        for name in self.maps.by_name.keys() & self.tasks.keys():
            state, value = self.tasks[name][0], self.tasks[name][4]
            if keeps_dropped and name not in self._plan.returning:
                continue  # exceptions are not recorded, so elements that have returned one run again
            if state == DONE[0] and value is None and (failed := self.maps.failed(name)):
                self.incomplete[name] = f"{failed} of its elements failed"

    def resume(
        self, plan: PipelinePlan, resume: Resume, max_age: float | None
    ) -> tuple[int, dict[int, RecordedTask], dict[int, str], EarlierElements]:
        """Begin the next execution.

        Returns:
            Its number; index -> task that does not run again; index -> why a recorded task runs again; and the elements
            to take over. The indices are those of the current pipeline.
        """
        database, recorded = self._database, self.tasks
        difference = self.difference(plan, max_age)
        if difference and resume == "strict":
            raise ResumeError(
                self._run_id,
                self._pipeline,
                difference.added,
                difference.removed,
                difference.rewired,
                difference.changed,
                len(recorded.keys() - difference.outdated.keys() - set(difference.removed)),
                len(recorded),
            )
        names, force = plan.names(), resume == "force"
        reasons = self.reasons(plan, difference)
        done: dict[int, RecordedTask] = {}
        for index, name in enumerate(names):
            if name in recorded and name not in self.incomplete and (force or name not in reasons):
                task = self.restore(name, force=force)
                if task is not None:
                    done[index] = task
        stale = recorded.keys() - {names[index] for index in done} - self.incomplete.keys()
        if not force:
            stale |= difference.outdated.keys()
        with Batch(database):
            key = _store_plan(database, plan)
            number = _begin_execution(database, self._row, key, time.time())
            self._record_outdated(number, stale, names, reasons)
            database.execute("record a run in it", _RESUME_RUN, (key, number - 1, self._row))
        if difference:
            _log_difference(self._run_id, self._pipeline, difference, len(done), len(recorded), force=force)
        unverifiable = plan.unverifiable({names[index] for index in done})
        _log_unverifiable(database, self._run_id, self._pipeline, unverifiable)
        again = self.incomplete if force else reasons
        outdated = {index: again[name] for index, name in enumerate(names) if name in again}
        return number, done, outdated, self.earlier(plan, difference, max_age, force=force)

    def reasons(self, plan: PipelinePlan, difference: Difference) -> dict[str, str]:
        """Return why recorded tasks run again, by name: they differ, or elements of them or upstream have failed."""
        reasons = dict(difference.outdated)
        if not self.incomplete:
            return reasons
        again: set[str] = set()
        for name, (sources, _) in plan.wiring().items():  # in topological order
            causes = [short_repr(source) for source in sources if source in again]
            if name in self.incomplete or causes:
                again.add(name)
                why = self.incomplete.get(name) or f"it depends on {comma_list(causes, 3)}"
                if name in self.tasks:
                    reasons.setdefault(name, why)
        return reasons

    def earlier(
        self, plan: PipelinePlan, difference: Difference, max_age: float | None, *, force: bool
    ) -> EarlierElements:
        """Return the elements to take over."""
        oldest = {} if max_age is None else dict.fromkeys(plan.clocks(), time.time() - max_age)
        epochs = {
            from_sql(name): number for name, number in self._database.execute("read it", _EPOCHS, (self._row,))[0]
        }
        rejected = () if force else {*difference.changed, *difference.rewirings} - difference.expired
        return EarlierElements(self.maps, plan, rejected, oldest, epochs, force=force)

    def restore(self, name: str, *, force: bool) -> RecordedTask | None:
        """Return a recorded task with its result; `None` if it is not complete, or `force` and it is not restorable."""
        recorded = self.tasks[name]
        state, attempts, _, seconds, value, _, reason, execution = recorded
        if state != DONE[0] or value is not None or self.maps.last(name) is None or not self.maps.has_values(name):
            return _restore(self._database, self._serialization, name, recorded, force=force)
        try:
            elements = self.maps.restored(name, with_failed=self._keeps_dropped)
        except StateError as error:
            if force or not isinstance(error, RestoreError):
                if force:
                    return None
                raise
            raise _unrestorable(error, name, self._database) from error
        if elements is None:
            return None
        return RecordedTask(
            state, elements.result(), reason or "", attempts, seconds or 0.0, elements=elements, execution=execution
        )

    def up_to_date(self, plan: PipelinePlan, max_age: float | None) -> tuple[dict[int, RecordedTask], dict[int, str]]:
        """Return the tasks with a recorded result that can be used, and why those of the others are out of date."""
        done, outdated = {}, {}
        reasons = self.reasons(plan, self.difference(plan, max_age))
        for index, name in enumerate(plan.names()):
            if name in reasons:
                outdated[index] = reasons[name]
            elif name in self.tasks:
                task = self.restore(name, force=False)
                if task is not None:
                    done[index] = task
        return done, outdated

    def preview(self, plan: PipelinePlan, max_age: float | None) -> Preview:
        """Return what `resume` would do."""
        done, reasons = self.up_to_date(plan, max_age)
        before = self._plan.names()
        errors, _ = self._database.execute("read it", _FAILURES, (self._row, self._row))
        failures = {from_sql(name): text for name, text in errors}
        for index, name in enumerate(plan.names()):
            if index in done or index in reasons:
                continue
            if name not in before:
                why = "it is new"
            elif name in failures:
                kind, message, _ = loads(failures[name])
                why = f"it failed: {kind}: {message}" if message else f"it failed: {kind}"
            else:
                why = f"it is not recorded in run {self._run_id}"
            reasons[index] = f"{why}; {self.maps.recorded_count(name)}" if name in self.maps.by_name else why
        return Preview(self._run_id, done, reasons)

    def difference(self, plan: PipelinePlan, max_age: float | None) -> Difference:
        """Return how the recorded pipeline and the current one differ."""
        ended = {name: line[2] for name, line in self.tasks.items()}
        recorded = self.tasks.keys() | self.maps.by_name.keys()
        return Difference(self._plan, plan, recorded, {} if max_age is None else _expired(plan, ended, max_age))

    def _record_outdated(
        self, execution: int, names: Collection[str], current: Sequence[str], reasons: Mapping[str, str]
    ) -> None:
        """Record that tasks run again, or were removed: a later execution must not use their results either."""
        now, rows = time.time(), []
        places = {name: index for index, name in enumerate(current)}
        for offset, name in enumerate(sorted(names)):
            why = reasons.get(name) or (
                "its result cannot be restored" if name in places else "the pipeline has no such task any more"
            )
            place = places.get(name, len(current) + offset)
            facts = (self._row, execution, place, 0, to_sql(name), "outdated", None, now, None, *[None] * 5)
            rows.append((*facts, encodable(why), None, "run", None))
        self._database.execute_many("record a run in it", _OUTDATED, rows)


def done_tasks(database: Database, row: int, names: Collection[str]) -> dict[str, Sequence[Any]]:
    """Return the tasks of a run that have succeeded or were skipped: name -> state and further columns.

    A task whose result could not be stored is not among them: it has a reason and no result, and runs again.
    """
    last = {}
    for line in database.execute("read it", _RECORDED, (row,))[0]:
        check_row(line, _RECORDED_COLUMNS)
        last[from_sql(line[0])] = line[1:]
    return {name: line for name, line in last.items() if is_done(line[0], line[6]) and name in names}


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
    state, attempts, _, seconds, value, blob, reason, execution = recorded
    try:
        succeeded = state == DONE[0]
        has_value = not (succeeded and value is None)  # a skipped task lacks none
        result = serialization.load(None, database.read_payload(value, blob)) if succeeded and has_value else None
    except StateError as error:
        if force:
            return None
        if not isinstance(error, RestoreError):
            raise
        raise _unrestorable(error, name, database) from error
    return RecordedTask(state, result, reason or "", attempts, seconds or 0.0, has_value=has_value, execution=execution)


def _unrestorable(error: RestoreError, name: str, database: Database) -> RestoreError:
    hint = 'Fix that, or run the task again with run(resume="force").'
    return RestoreError(None, f"{error.reason} {hint}", name, database.path, error.damaged)


def _warn_incomparable(pipeline: str, descriptions: Sequence[str]) -> None:
    safe_warn(
        f"run(resume=...) of {short_repr(pipeline)} starts a new run, because these params cannot be compared with "
        f"those of an earlier run: {comma_list(descriptions)}. Pass plain data that identifies the run, such as a date "
        "or a path, and create other objects in the tasks."
    )


def _warn_of_other_pipeline(pipeline: str, run_id: str) -> None:
    safe_warn(
        f"run(resume=...) of {short_repr(pipeline)} starts a new run, because run {short_repr(run_id)}, which did not"
        f" finish, has no task in common with this pipeline: give pipelines that share a file different names."
    )


def _warn_of_other_types(
    database: Database, serialization: Serialization, pipeline: str, params: Mapping[str, Any], identity: str
) -> None:
    """Warn if an unfinished run has the same parameters as texts, and no run has the same ones."""
    if not params or database.execute("read it", _HAS_RUN, (to_sql(pipeline), identity))[0]:
        return
    for row, run_id, text in database.execute("read it", _UNFINISHED, (to_sql(pipeline),))[0]:
        found: list[str] = []
        with suppress(Exception):  # a damaged row, or values that cannot be compared, must not prevent the run
            if loads(text).keys() == params.keys():
                found = other_types(stored_values(database, serialization, row, text), params)
        if found:
            safe_warn(
                f"run(resume=...) of {short_repr(pipeline)} starts a new run, although run {short_repr(run_id)} did"
                f" not finish and has params with the same texts: {comma_list(found)}. Pass values of the same types"
                f" to continue it."
            )
            return


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
