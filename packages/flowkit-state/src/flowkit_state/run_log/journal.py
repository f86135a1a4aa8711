"""The record of one run while it goes, and how it is begun or taken up again."""

from __future__ import annotations

import os
import time

from flowkit_state import fingerprint
from flowkit_state.errors import (
    RestoreError,
    ResumeError,
    RunInUseError,
    StateError,
    StateFileError,
    UnsupportedValueError,
    listed,
    plain,
    shown,
)
from flowkit_state.run_log.plan import Difference, Plan
from flowkit_state.serialization.json_text import dumps, loads
from flowkit_state.storage.base import Batch
from flowkit_state.storage.ownership import Claim, holder
from flowkit_state.storage.schema import to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal

    from flowkit_state.run_log.plan import PlannedTask
    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.schema import Database

DONE = ("succeeded", "skipped")
_LAST = "SELECT id, run_id, plan, params, status, owner FROM runs WHERE pipeline = ? ORDER BY id DESC LIMIT 1"
_BEGIN = (
    "INSERT INTO runs (run_id, pipeline, plan, params, status, started, owner) VALUES (?, ?, ?, ?, 'running', ?, ?)"
)
_TAKE_UP = (
    "UPDATE runs SET status = 'running', plan = ?, params = ?, resumes = resumes + 1, ended = NULL, error = NULL "
    "WHERE id = ?"
)
_RECORDED = (
    "SELECT place, name, state, attempts, ended, seconds, value, beside, reason, error, source, why FROM tasks "
    "WHERE run = ? ORDER BY place"
)
_RECORD = (
    "INSERT OR REPLACE INTO tasks (run, place, name, state, attempts, ended, seconds, value, beside, reason, error, "
    "source, why) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_NOT_RUN = (  # never in the place of what has ended
    "INSERT OR IGNORE INTO tasks (run, place, name, state, attempts, ended, seconds, reason, source) "
    "VALUES (?, ?, ?, ?, 0, ?, 0, ?, 'run')"
)
_END = "UPDATE runs SET status = ?, ended = ?, seconds = coalesce(seconds, 0) + ?, error = ?, owner = NULL WHERE id = ?"


_told: set[tuple[str | None, str, str]] = set()  # file, pipeline, and what the log has been told of it, once


class Done:
    """How a task ended in the part of a run that was recorded before."""

    __slots__ = ("attempts", "reason", "seconds", "state", "value")

    def __init__(self, state: str, value: Any, reason: str, attempts: int, seconds: float) -> None:
        self.state = state
        self.value = value
        self.reason = reason
        self.attempts = attempts
        self.seconds = seconds


class Journal:
    """The record of one run, which this process alone may write until it is closed.

    Attributes:
        run_id: which run.
        done: what was recorded before, by position of the task.
    """

    def __init__(
        self,
        database: Database,
        serialization: Serialization,
        row: int,
        run_id: str,
        names: Sequence[str],
        done: Mapping[int, Done],
        claim: Claim,
    ) -> None:
        self.run_id = run_id
        self.done = done
        self._database = database
        self._serialization = serialization
        self._row = row
        self._names = names
        self._claim = claim
        self._began = time.monotonic()

    def prepare(self, place: int, value: Any) -> tuple[str | bytes, str | None]:
        """Return the stored form of a result: what goes into its row, and the name of the file beside, if it is large.

        Raises:
            UnsupportedValueError: it would not come back as it is.
            StateFileError: the file beside the database cannot be written.
        """
        name = self._names[place]
        stored = self._serialization.dump(None, value, f'the result of task "{name}"')
        return self._database.set_down(stored, self._claim)

    def record(
        self,
        place: int,
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
        """Commit how a task ended. When this returns, killing the process does not undo it.

        Raises:
            StateFileError: it cannot be committed.
        """
        self._check()
        value, beside = (None, None) if stored is None else stored
        row = (
            self._row,
            place,
            to_sql(self._names[place]),
            state,
            attempts,
            time.time(),
            seconds,
            value,
            beside,
            _readable(reason) or None,
            None if error is None else _described(error),
            source,
            _readable(why) or None,
        )
        if beside is None:
            self._database.run("record a task in it", _RECORD, row)
            return
        with Batch(self._database):
            self._database.run("record a task in it", _RECORD, row)
            self._database.unpin(beside, self._claim)

    def close(self, status: str, rest: Sequence[tuple[int, str, str]], error: BaseException | None) -> None:
        """Commit how the run ended, with position, state and reason of what did not run, and let go of the run.

        Raises:
            StateFileError: it cannot be committed, or the file is not the one any more that the run was begun in.
        """
        now = time.time()
        try:
            self._check()
            self._database.check_place()
            with Batch(self._database):
                for place, state, reason in rest:
                    row = (self._row, place, to_sql(self._names[place]), state, now, _readable(reason))
                    self._database.run("record a task in it", _NOT_RUN, row)
                spent = time.monotonic() - self._began
                words = None if error is None else _readable(_in_words(error))
                self._database.run("record a run in it", _END, (status, now, spent, words, self._row))
        finally:
            self._claim.let_go()

    def _check(self) -> None:
        """Refuse to record what would not be committed, or not by who has the run."""
        if not self._claim.is_of(os.getpid()):
            reason = "this process is a copy (os.fork) of the one that has the run, and may not record it."
            raise StateFileError(self._database.path or "(in memory)", reason)
        if self._database.in_batch:
            reason = "a task has left a batch() open, so that nothing would be committed; end it in the task."
            raise StateFileError(self._database.path or "(in memory)", reason)


def open_run(
    database: Database,
    serialization: Serialization,
    run_id: str,
    pipeline: str,
    tasks: Sequence[PlannedTask],
    upstream: Sequence[Sequence[int]],
    params: Mapping[str, Any],
    resume: bool | Literal["force"],
) -> Journal:
    """Do what `StateManager.open_run` says."""
    serialization.check_trust()
    plan = Plan.of(tasks, upstream)
    names = plan.names()
    for task in {id(task.func): task for task in reversed(tasks)}.values():  # one function may make many tasks
        serialization.check_result(task.name, task.func)
    given = {name: (_digest(value), shown(value, 200)) for name, value in params.items()}
    claim = Claim()
    try:
        with Batch(database):
            rows, _ = database.run("read it", _LAST, (to_sql(pipeline),)) if resume else ([], 0)
            last = rows[0] if rows and rows[0][4] != "succeeded" else None
            if last is None:
                key = _keep_plan(database, plan)
                facts = (run_id, to_sql(pipeline), key, dumps(given), time.time(), claim.text())
                database.run("record a run in it", _BEGIN, facts)
                (row,) = database.run("read it", "SELECT id FROM runs WHERE run_id = ?", (run_id,))[0][0]
                return Journal(database, serialization, row, run_id, names, {}, claim)
            row, run_id, owner = last[0], last[1], last[5]
            refuse_if_held(owner, run_id, pipeline)
            database.run("record a run in it", "UPDATE runs SET owner = ? WHERE id = ?", (claim.text(), row))
        try:
            done = _take_up(database, serialization, last, plan, given, tasks, pipeline, force=resume == "force")
        except BaseException:
            database.run("record a run in it", "UPDATE runs SET owner = NULL WHERE id = ?", (row,))
            raise
        _tell_missed(database, run_id, pipeline, plan.missed({names[place] for place in done}))
        return Journal(database, serialization, row, run_id, names, done, claim)
    except BaseException:
        claim.let_go()
        raise


def _take_up(
    database: Database,
    serialization: Serialization,
    last: Sequence[Any],
    plan: Plan,
    given: Mapping[str, tuple[str | None, str]],
    tasks: Sequence[PlannedTask],
    pipeline: str,
    *,
    force: bool,
) -> dict[int, Done]:
    """Return what was recorded of the last run and is to be taken over, by its place in the pipeline as it is now."""
    row, run_id, key, *_ = last
    names = plan.names()
    (text,) = database.run("read it", "SELECT content FROM plans WHERE key = ?", (key,))[0][0]
    before = Plan.from_text(text)
    names_before = before.names()
    rows, _ = database.run("read it", _RECORDED, (row,))
    recorded = {names_before[line[0]]: line[1:] for line in rows if line[2] in DONE}
    difference = Difference(before, plan, recorded, _differing(loads(last[3]), given))
    if difference.params:
        difference.refit(plan, {task.name for task in tasks if _takes(task.func, difference.params)})
    if difference and not force:
        raise ResumeError(
            run_id,
            pipeline,
            difference.added,
            difference.removed,
            difference.rewired,
            difference.changed,
            difference.params,
            len(difference.fits),
            len(recorded),
        )
    fits = difference.fits if difference else recorded.keys()  # also what ran although an upstream had failed
    done: dict[int, Done] = {}
    for place, name in enumerate(names):
        if name in fits:
            _, state, attempts, _, seconds, value, beside, reason, *_ = recorded[name]
            try:
                result = serialization.load(None, database.fetch(value, beside)) if state == DONE[0] else None
            except StateError as error:
                if force:
                    continue
                if not isinstance(error, RestoreError):
                    raise
                way = 'Mend that, or run the task again with run(resume="force").'
                raise RestoreError(None, f"{error.reason} {way}", name) from error
            done[place] = Done(state, result, reason or "", attempts, seconds)
    with Batch(database):
        new_key = _keep_plan(database, plan)
        database.run("record a run in it", "DELETE FROM tasks WHERE run = ? AND state NOT IN (?, ?)", (row, *DONE))
        if new_key != key or len(done) < len(recorded):
            database.run("record a run in it", "DELETE FROM tasks WHERE run = ?", (row,))
            for place in done:
                database.run("record a run in it", _RECORD, (row, place, *recorded[names[place]]))
        database.run("record a run in it", _TAKE_UP, (new_key, dumps(dict(given)), row))
    return done


def _tell_missed(database: Database, run_id: str, pipeline: str, missed: Sequence[str]) -> None:
    """Tell the log what may have changed without being noticed, as far as it has not been told."""
    told = {words: (database.path, pipeline, words) for words in missed}
    news = [words for words in missed if told[words] not in _told]
    if not news:
        return
    import logging

    _told.update(told.values())
    words = (
        f"Run {run_id} of {shown(pipeline)} goes on with recorded results, though nothing tells whether all that their "
        f"tasks read is what it was: {listed(news)}. If that has changed, start anew with resume=False."
    )
    logging.getLogger("flowkit.state").warning("%s", plain(words))


def refuse_if_held(owner: str | None, run_id: str, pipeline: str) -> None:
    """Raise `RunInUseError` if a process that is alive has a run."""
    claim = holder(owner)
    if claim is not None:
        from datetime import UTC, datetime

        raise RunInUseError(run_id, pipeline, claim["pid"], datetime.fromtimestamp(claim["since"], UTC), claim["host"])


def _keep_plan(database: Database, plan: Plan) -> str:
    text = plan.text()
    key = fingerprint.digest(text)
    database.run("record a run in it", "INSERT OR IGNORE INTO plans (key, content) VALUES (?, ?)", (key, text))
    return key


def _digest(value: Any) -> str | None:
    from flowkit_state.serialization.json_encoder import encode

    try:
        return fingerprint.digest(encode(value))
    except UnsupportedValueError:
        return None


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of parameters that differ, as far as their values can be compared."""
    alone = [name for name in {**before, **now} if name not in before or name not in now]
    digests = [(name, before[name][0], now[name][0]) for name in now if name in before]
    return alone + [name for name, old, new in digests if None not in (old, new) and old != new]


def _takes(func: Any, names: Sequence[str]) -> bool:
    import inspect

    try:
        return not inspect.signature(func).parameters.keys().isdisjoint(names)
    except (TypeError, ValueError):
        return True


def _described(error: BaseException) -> str:
    """Return type, message and traceback of an exception, as JSON text."""
    import traceback

    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:  # it cannot say what it is
        trace = ""
    return dumps([_type_name(error), _message(error), trace])


def _in_words(error: BaseException) -> str:
    """Return type and message of an exception; those of the exceptions in a group too."""
    words = f"{_type_name(error)}: {_message(error)}"
    if isinstance(error, BaseExceptionGroup):
        words += "".join(f"; {_in_words(inner)}" for inner in error.exceptions[:10])
    return words


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be had)"


def _readable(text: str) -> str:
    """Return a text as UTF-8 can hold it: SQLite takes no lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text
