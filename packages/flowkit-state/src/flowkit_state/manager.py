"""Class `StateManager`: a key-value store with expiry and the record of pipeline runs, in memory or in a file."""

from __future__ import annotations

import time

from flowkit_state._validation import (
    JSON_SUFFIXES,
    SQLITE_SUFFIXES,
    earliest_start,
    log_number,
    maximum,
    number_of_runs,
    run_statuses,
    seconds,
    state_path,
    text,
)
from flowkit_state.errors import StateFileError, StateOptionError, StateOptionTypeError, short_repr
from flowkit_state.key_value_store import KeyValueStore
from flowkit_state.storage.base import CACHE_PREFIX
from flowkit_state.storage.limits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import date, datetime, timedelta
    from typing import Any, Literal

    from flowkit_state.errors import UnsupportedValueError
    from flowkit_state.result_cache import ResultCache
    from flowkit_state.run_log.journal import RunJournal
    from flowkit_state.run_log.plan import PlannedTask
    from flowkit_state.run_log.queries import RunHistory
    from flowkit_state.run_log.resume import Preview
    from flowkit_state.runs import LogLine, Reclaimed, RunRecord
    from flowkit_state.serialization.serializer_protocol import Serializer, SerializerOption
    from flowkit_state.storage.base import Database, Store


class StateManager(KeyValueStore):
    """A crash-safe key-value store that restores values exactly, type included.

    Args:
        storage_path: where to store the entries. `None`: in the memory of this process. A path that ends in `.json`: in
            a JSON file. A path that ends in `.db`, `.sqlite` or `.sqlite3`: in a SQLite database. The path is made
            absolute, and its symbolic links are resolved, when the manager is created. Missing folders and the file
            are created, accessible to this user only.
        default_ttl: time to live in seconds of entries that `set` is given none for. `None` or infinity: they do not
            expire; 0: they expire at once.
        serializer: `"json"` supports the types listed in the documentation and refuses all others. `"pickle"` supports
            what pickle does; loading a pickle can run any code, so a pickle that another user could have written is
            refused.
        serializers: objects that support types in addition to those of `"json"`, or in place of them, each with the
            attributes `name` (a `str`, which is stored) and `type` (a class), and the methods `dump(value) -> bytes`
            and `load(data)`. `serializer` takes them too.
        max_entries: maximum number of entries, 1 or more; `None`: no limit.
        max_bytes: maximum size of all entries in bytes, 1 or more: their keys, and their values and metadata as they
            are stored; `None`: no limit. An entry that is too large alone is refused. If a new entry exceeds a limit,
            expired entries are removed, then those in memory that were used least recently (read or stored), and
            those in a file that were stored or touched least recently.
        lock_timeout: seconds to wait for another thread or process that is writing the file.
        clock: returns the time in seconds since the epoch; for tests.

    Raises:
        StateOptionError, StateOptionTypeError: an argument is invalid.
        StateFileError: the file cannot be read or created.
        StateVersionError: the file was written by a newer version of flowkit-state.

    A damaged file is renamed to `<name>.corrupt-<time>`, with a `DamagedStateWarning`, and the store starts empty. A
    manager may be used by several threads, and a file by several managers and processes.

        >>> with StateManager(default_ttl=3600) as state:
        ...     state.set("user", {"id": 7, "tags": {"new"}})
        ...     state.get("user")
        {'id': 7, 'tags': {'new'}}
    """

    def __init__(
        self,
        storage_path: str | os.PathLike[str] | None = None,
        default_ttl: float | None = None,
        *,
        serializer: SerializerOption = "json",
        serializers: Sequence[Serializer] = (),
        max_entries: int | None = None,
        max_bytes: int | None = None,
        lock_timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from flowkit_state.serialization.serializers import Serialization

        timeout = seconds("lock_timeout", lock_timeout)
        ttl = seconds("default_ttl", default_ttl)
        self._limits = Limits(maximum("max_entries", max_entries), maximum("max_bytes", max_bytes))
        path, suffix = (None, "") if storage_path is None else state_path(storage_path)
        self._lock_timeout = 1e6 if timeout is None else min(timeout, 1e6)  # SQLite counts milliseconds in 32 bits
        self._database: Database | None = None
        serialization = Serialization(serializer, _trust_check(path), serializers, binary=suffix not in JSON_SUFFIXES)
        super().__init__(self._open(path, suffix), serialization, path=path, default_ttl=ttl, clock=clock)

    def _open(self, path: str | None, suffix: str) -> Store:
        if path is None:
            from flowkit_state.storage.memory import MemoryStore

            return MemoryStore(self._limits)
        if suffix in SQLITE_SUFFIXES:
            from flowkit_state.storage.sqlite import SQLiteStore

            self._database = store = SQLiteStore(path, self._lock_timeout, self._limits)
            return store
        from flowkit_state.storage.json_file import JSONStore

        return JSONStore(path, self._lock_timeout, self._limits)

    def runs(
        self,
        pipeline: str | None = None,
        limit: int | None = None,
        *,
        status: str | Collection[str] | None = None,
        since: datetime | date | timedelta | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> list[RunRecord]:
        """Return the records of runs, newest first.

        Args:
            pipeline: name of the pipeline whose runs to return; `None`: all pipelines.
            limit: maximum number of runs, 0 or more; `None`: all.
            status: only runs with this status, or with one of several: `"running"`, `"succeeded"`, `"failed"` or
                `"interrupted"`.
            since: only runs that started at this time or later. A `date` or a `datetime` without time zone is local
                time; a `timedelta` is a time before now.
            params: only runs with these values of these parameters; others may differ.

        Raises:
            StateOptionError, StateOptionTypeError: an argument is invalid.

            >>> from datetime import timedelta
            >>> StateManager().runs("nightly", status="failed", since=timedelta(days=7), params={"region": "north"})
            []
        """
        count, statuses = number_of_runs("limit", limit), run_statuses(status)
        started = None if since is None else earliest_start(since, self._now())
        name = None if pipeline is None else text("pipeline", pipeline)
        return self._run_history().runs(name, count, statuses, started, params or {})

    def run(self, run_id: str) -> RunRecord:
        """Return the record of one run.

        Raises:
            UnknownRunError: no run has this id.

            >>> try:
            ...     StateManager().run("8f3a0c51d2e94b67")
            ... except LookupError as error:
            ...     print(error)
            there is no run '8f3a0c51d2e94b67' in memory; StateManager.runs() lists the recorded runs.
        """
        return self._run_history().run(text("run_id", run_id))

    def run_ids(self, pipeline: str, *, before: str | None = None, limit: int | None = None) -> list[str]:
        """Return the ids of the runs of a pipeline, newest first. It reads less than `runs`.

        Args:
            pipeline: name of the pipeline.
            before: id of a run; only runs that were started before it. `None`: all runs.
            limit: maximum number of runs, 0 or more; `None`: all.

        Raises:
            StateOptionError, StateOptionTypeError: an argument is invalid.

            >>> StateManager().run_ids("nightly", limit=1)
            []
        """
        name, of = text("pipeline", pipeline), None if before is None else text("before", before)
        return self._run_history().run_ids(name, of, number_of_runs("limit", limit))

    def durations(
        self, pipeline: str, *, before: str | None = None, limit: int | None = 10
    ) -> dict[str, tuple[float, ...]]:
        """Return how long each task took in the last runs of a pipeline in which it succeeded, in seconds.

        Args:
            pipeline: name of the pipeline.
            before: id of a run; only runs that were started before it. `None`: the last runs.
            limit: maximum number of runs, 0 or more; `None`: all.

        Returns:
            Name of a task -> its durations, the oldest first. Tasks that were in no such run are absent.

        Raises:
            StateOptionError, StateOptionTypeError: an argument is invalid.

            >>> StateManager().durations("nightly")
            {}
        """
        name, of = text("pipeline", pipeline), None if before is None else text("before", before)
        return self._run_history().durations(name, of, number_of_runs("limit", limit))

    def logs(self, run_id: str, task: str | None = None, *, level: int = 0, after: int = 0) -> list[LogLine]:
        """Return what a run has logged while its tasks ran, and warnings and errors of flowkit about it.

        The lines are those that the loggers of the program let through, at most 10 000 of an execution.

        Args:
            run_id: identifies the run.
            task: name of a task; only its lines. `None`: all.
            level: only lines of this level or a higher one: 10 DEBUG, 20 INFO, 30 WARNING, 40 ERROR, 50 CRITICAL.
            after: only lines with a greater number; to follow a run, the number of the last line that is known.

        Raises:
            UnknownRunError: no run has this id.
            StateOptionError, StateOptionTypeError: an argument is invalid.

            >>> state = StateManager()
            >>> for run in state.runs("nightly", limit=1):
            ...     for line in state.logs(run.run_id, level=30):
            ...         print(line.time, line.task, line.message)
        """
        name = None if task is None else text("task", task)
        least, last = log_number("level", level), log_number("after", after)
        return self._run_history().logs(text("run_id", run_id), name, least, last)

    def explain(self, run_id: str | None = None) -> dict[str, str]:
        """Return where the result of each task with a cache came from or why it was computed.

        The same for each task that ran again in a resumed run, because its recorded result was out of date. Of a mapped
        task, it says how many elements were reused, and why the first one that was not had to be computed.

        Args:
            run_id: identifies the run; `None`: the last run.

        Raises:
            UnknownRunError: no run has this id.

            >>> StateManager().explain()  # no run yet
            {}
        """
        return self._run_history().explain(None if run_id is None else text("run_id", run_id))

    def replay(self, run_id: str, task: str, *, pipeline: Any = None) -> Any:
        """Call a task of a recorded run again, in this thread and with its recorded inputs, and return its result.

        Nothing is recorded. Use it to look at a failure in a debugger: the exception of the task is raised as it is.

        Args:
            run_id: identifies the run.
            task: name of the task; for a mapped task, with the number of an element: `"parse[3]"`.
            pipeline: the pipeline of the run; `None`: the one of that name that this process has defined last.

        Raises:
            UnknownRunError: no run has this id.
            ValueError: there is no such pipeline or task, or an input was not recorded.
            RestoreError: an input cannot be restored in this process.
            Exception: whatever the task raises.

            >>> state = StateManager()
            >>> for run in state.runs("nightly", status="failed", limit=1):
            ...     state.replay(run.run_id, "load")
        """
        import sys

        record = self.run(run_id)
        if pipeline is None:
            module: Any = sys.modules.get("flowkit_core.pipelines.pipeline")
            pipeline = None if module is None else module.find_pipeline(record.pipeline)
            if pipeline is None:
                allowed = f"the pipeline of the run: this process has not defined a pipeline {record.pipeline!r}"
                raise StateOptionError("pipeline", None, allowed)
        if not hasattr(pipeline, "_replay"):
            raise StateOptionTypeError("pipeline", pipeline, "a pipeline, such as a DAG")
        return pipeline._replay(record, text("task", task))

    def forget(self, run_id: str) -> None:
        """Delete the record of a run. Its large results are deleted by the next `gc`.

        Raises:
            UnknownRunError: no run has this id.
            RunInUseError: the run is in use by a live process.

            >>> state = StateManager()
            >>> for run in state.runs("nightly")[30:]:
            ...     state.forget(run.run_id)
        """
        self._run_history().forget(text("run_id", run_id))

    def release(self, run_id: str) -> None:
        """End the claim of a process on a run, so that the run can be resumed here.

        This is for a process that is not visible from here, on another machine or in another container. The claim of a
        process of this machine ends with the process. Make sure that the process has ended, or the run continues in two
        processes at once.

        Raises:
            UnknownRunError: no run has this id.
            RunInUseError: the run is in use by another live process of this machine.

            >>> state = StateManager()
            >>> for run in state.runs("nightly", limit=1):
            ...     state.release(run.run_id)
        """
        self._run_history().release(text("run_id", run_id))

    def gc(self, keep: int | None = None, older_than: float | None = None) -> Reclaimed:
        """Delete the files of large results that no run and no cache refers to, and optionally old runs and results.

        Args:
            keep: number of finished runs of each pipeline to keep, 0 or more. Runs older than those are deleted,
                finished or not. `None`: no runs are deleted because of their number. Runs in progress are never
                deleted.
            older_than: seconds; runs that started longer ago are deleted, and cached results that were stored longer
                ago. `None`: neither.

        Raises:
            StateOptionError, StateOptionTypeError: an argument is invalid.
            StateFileError: the file or a file of a large result cannot be written.

            >>> StateManager().gc(keep=10)
            Reclaimed(runs=0, files=0, bytes=0)
        """
        number_of_runs("keep", keep)
        age = seconds("older_than", older_than)
        before = None if age is None else self._now() - age
        history = self._run_history()
        if before is not None:
            self._store.remove_older(CACHE_PREFIX, before)
        self.invalidate_expired()
        return history.gc(keep, before)

    def open_run(
        self,
        run_id: str,
        pipeline: str,
        tasks: Sequence[PlannedTask],
        upstream: Sequence[Sequence[int]],
        params: Mapping[str, Any],
        resume: bool | Literal["strict", "force"],
        resume_max_age: float | None = None,
    ) -> RunJournal:
        """Begin the record of a run, or resume an earlier one. `pipeline.run(state=...)` calls this.

        Args:
            run_id: a unique text, for a new run.
            pipeline: name of the pipeline.
            tasks: its tasks in topological order, with their names, functions, conditions and triggers.
            upstream: for each task the indices of its direct upstreams.
            params: values of the run parameters.
            resume: whether to resume the last run of the pipeline with the same parameters, if that did not finish.
                Recorded results that are out of date, because the pipeline has changed, are not used; with `"strict"`
                they raise an error, with `"force"` they are used.
            resume_max_age: seconds after which the recorded result of a task that reads the clock is out of date;
                `None`: it never is for that reason.

        Raises:
            ResumeError: the pipeline has changed, and `resume` is `"strict"`.
            RunInUseError: the run is in use by a live process.
            RestoreError: a recorded result cannot be restored in this process.
            UntrustedPickleError: results are pickled, and another user could have written the file.
            StateFileError: the file cannot be read or written.
        """
        from flowkit_state.run_log.resume import open_run

        database = self._run_database()
        if database.in_batch:
            reason = "a run cannot be recorded inside a batch(), which commits at its end only; call run() outside."
            raise StateFileError(self._path or "", reason)
        return open_run(
            database, self._serialization, run_id, pipeline, tasks, upstream, params, resume, resume_max_age
        )

    def check_results(self, tasks: Sequence[PlannedTask]) -> dict[int, UnsupportedValueError]:
        """Return, by index, the errors of tasks whose annotation shows that their results cannot be stored.

        `pipeline.run(state=...)` calls this before any task runs.
        """
        return self._serialization.check_results([(task.name, task.func) for task in tasks])

    def link_run(
        self, pipeline: str, of: str | None, params: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any], frozenset[str]]:
        """Look up the run that `pipeline.run(rerun=..., of=...)` starts from, and combine the parameters.

        Args:
            pipeline: name of the pipeline.
            of: identifies the run; `None`: the last run of the pipeline.
            params: the given parameters.

        Returns:
            the id of the run, its parameters updated by `params`, and the names of those that have changed.

        Raises:
            UnknownRunError: no run has this id.
            StateOptionError: the run is one of another pipeline, there is none, or the value of a parameter that is not
                given was not stored.
        """
        from flowkit_state.run_log.linked_run import link_run

        identifier = None if of is None else text("of", of)
        return link_run(self._run_history(), self._serialization, pipeline, identifier, params)

    def open_linked_run(
        self,
        run_id: str,
        pipeline: str,
        tasks: Sequence[PlannedTask],
        upstream: Sequence[Sequence[int]],
        params: Mapping[str, Any],
        of: str,
        rerun: Collection[str],
        resume_max_age: float | None = None,
    ) -> RunJournal:
        """Begin the record of a run that takes over results of another. `pipeline.run(rerun=..., of=...)` calls this.

        Args:
            run_id: a unique text.
            pipeline: name of the pipeline.
            tasks: its tasks in topological order.
            upstream: for each task the indices of its direct upstreams.
            params: values of the run parameters.
            of: identifies the other run.
            rerun: names of tasks that run again, as do all tasks downstream of them.
            resume_max_age: as for `open_run`.

        Raises:
            UnknownRunError: no run has the id `of`.
            RestoreError, UnsupportedValueError, UntrustedPickleError, StateFileError: as for `open_run`.
        """
        from flowkit_state.run_log.linked_run import open_linked_run

        database = self._run_database()
        return open_linked_run(
            database, self._serialization, run_id, pipeline, tasks, upstream, params, of, rerun, resume_max_age
        )

    def plan_run(
        self,
        pipeline: str,
        tasks: Sequence[PlannedTask],
        upstream: Sequence[Sequence[int]],
        params: Mapping[str, Any],
        resume_max_age: float | None = None,
    ) -> Preview:
        """Return what `open_run` with `resume=True` would do, without recording anything. `pipeline.plan()` calls this.

        Args:
            pipeline: name of the pipeline.
            tasks: its tasks in topological order.
            upstream: for each task the indices of its direct upstreams.
            params: values of the run parameters.
            resume_max_age: as for `open_run`.

        Raises:
            RestoreError: a recorded result cannot be restored in this process.
            StateFileError: the file cannot be read.
        """
        from flowkit_state.run_log.resume import plan_run

        return plan_run(self._run_database(), self._serialization, pipeline, tasks, upstream, params, resume_max_age)

    def cache(self, own: Any = None) -> ResultCache:
        """Return the cache for the results of a task. `pipeline.run(state=...)` calls this.

        Args:
            own: the `TaskCache` of the task, which is returned if it has a state of its own; else the results are
                stored in this state, with its options. `None`: the task has `cache=True`.
        """
        from flowkit_state.result_cache import ResultCache

        cache: ResultCache = ResultCache(self) if own is None else own.over(self)
        return cache

    def close(self) -> None:
        """Release the file. Closing twice is fine; any other use after this raises `StateClosedError`.

        The end of a `with` block over the manager does the same.

            >>> state = StateManager()
            >>> state.close()
            >>> state.close()
        """
        if not self._closed:
            super().close()
            if self._database is not None:
                self._database.close()

    def _run_history(self) -> RunHistory:
        from flowkit_state.run_log.queries import RunHistory

        return RunHistory(self._run_database(), self._serialization)

    def _run_database(self) -> Database:
        """Return the database for runs: the store itself, or a database in memory for a store in memory."""
        self._check_open()
        if self._database is None:
            from flowkit_state.storage.memory_database import MemoryDatabase

            if self._path is not None:
                allowed = f"a path that ends in {', '.join(SQLITE_SUFFIXES)}: runs are recorded in a SQLite database"
                raise StateOptionError("the state of runs", self._path, allowed)
            self._database = MemoryDatabase()
        return self._database

    def __repr__(self) -> str:
        location = "" if self._path is None else f"{self._path!r}, "
        choice = self._serialization.choice
        serializer = ', serializer="pickle"' if self._serialization.pickled else f", serializer={short_repr(choice)}"
        serializer = "" if choice == "json" else serializer
        if self._serialization.additional:
            serializer += f", serializers={short_repr(self._serialization.additional)}"
        for name, limit in (("max_entries", self._limits.max_entries), ("max_bytes", self._limits.max_bytes)):
            serializer += "" if limit is None else f", {name}={limit}"
        closed = " (closed)" if self._closed else ""
        return f"StateManager({location}default_ttl={self._default_ttl}{serializer}){closed}"

    def __getstate__(self) -> dict[str, Any]:
        if self._path is None:
            raise StateOptionTypeError(
                "what is pickled", self, "a StateManager over a file, which other processes can open"
            )
        return {
            "storage_path": self._path,
            "default_ttl": self._default_ttl,
            "serializer": self._serialization.choice,
            "serializers": self._serialization.additional,
            "max_entries": self._limits.max_entries,
            "max_bytes": self._limits.max_bytes,
            "lock_timeout": self._lock_timeout,
            "clock": self._clock,
        }

    def __setstate__(self, options: dict[str, Any]) -> None:
        self.__init__(**options)  # type: ignore[misc]


def _trust_check(path: str | None) -> Callable[[], None]:
    """Return a function that raises `UntrustedPickleError` if another user could have written the file."""

    def check() -> None:
        from flowkit_state.storage.trust import check_trust

        check_trust(path)

    return check
