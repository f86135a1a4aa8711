"""`StateManager`: values by key, with expiry, in memory or in a file."""

from __future__ import annotations

import time

from flowkit_state._validation import SQLITE_SUFFIXES, seconds, state_path, text
from flowkit_state.errors import StateFileError, StateOptionError, StateOptionTypeError, shown
from flowkit_state.key_value_store import KeyValueStore
from flowkit_state.storage.base import CACHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Literal

    from flowkit_state.result_cache import ResultCache
    from flowkit_state.run_log.journal import Journal
    from flowkit_state.run_log.plan import PlannedTask
    from flowkit_state.run_log.queries import History
    from flowkit_state.runs import Reclaimed, RunRecord
    from flowkit_state.serialization.serializer_protocol import SerializerOption
    from flowkit_state.storage.base import Store
    from flowkit_state.storage.schema import Database


class StateManager(KeyValueStore):
    """A key-value store that gives back exactly what was put in, type included, and survives crashes.

    Args:
        storage_path: where to keep the entries. `None`: in the memory of this process. A path that ends in `.json`: a
            JSON file. One that ends in `.db`, `.sqlite` or `.sqlite3`: a SQLite database. The path is made absolute
            and its links are followed once, here. Missing folders are created, private to this user, as is the file.
        default_ttl: how many seconds an entry lives when `set` is not told otherwise. `None` or infinity: for ever;
            0: expired at once.
        serializer: `"json"` keeps the types listed in the documentation and refuses all others. `"pickle"` keeps what
            pickle can; loading a pickle can run any code, so one that another user could have written is refused.
            An object with `name`, `type`, `dump(value)` and `load(data)`, or several, keep types that JSON has no form
            for.
        lock_timeout: how many seconds to wait for another thread or process that is writing the file.
        clock: what tells the time, in seconds since the epoch; tests pass their own.

    Raises:
        StateOptionError, StateOptionTypeError: an argument cannot be meant.
        StateFileError: the file cannot be read or created.
        StateVersionError: the file was written by a newer flowkit-state.

    A damaged file is renamed to `<name>.corrupt-<time>`, with a `DamagedStateWarning`, and the store starts empty. One
    manager may be used from many threads, and one file from many managers and processes.

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
        lock_timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from flowkit_state.serialization.serializers import Serialization

        timeout = seconds("lock_timeout", lock_timeout)
        ttl = seconds("default_ttl", default_ttl)
        path, suffix = (None, "") if storage_path is None else state_path(storage_path)
        self._lock_timeout = 1e6 if timeout is None else min(timeout, 1e6)  # SQLite counts milliseconds in 32 bits
        self._database: Database | None = None
        serialization = Serialization(serializer, _trust_check(path))
        super().__init__(self._open(path, suffix), serialization, path=path, default_ttl=ttl, clock=clock)

    def _open(self, path: str | None, suffix: str) -> Store:
        if path is None:
            from flowkit_state.storage.memory import MemoryStore

            return MemoryStore()
        if suffix in SQLITE_SUFFIXES:
            from flowkit_state.storage.sqlite import SQLiteStore

            self._database = store = SQLiteStore(path, self._lock_timeout)
            return store
        from flowkit_state.storage.json_file import JSONStore

        return JSONStore(path, self._lock_timeout)

    def runs(self, pipeline: str | None = None, limit: int | None = None) -> list[RunRecord]:
        """Return what was recorded of runs, newest first.

        Args:
            pipeline: only the runs of the pipeline of this name; `None`: of all.
            limit: how many at most, 0 or more; `None`: all.

        Raises:
            StateOptionError, StateOptionTypeError: `limit` cannot be meant.

            >>> StateManager().runs()
            []
        """
        return self._run_history().runs(pipeline, _count("limit", limit))

    def run(self, run_id: str) -> RunRecord:
        """Return what was recorded of one run.

        Raises:
            UnknownRunError: there is no such run.

            >>> try:
            ...     StateManager().run("8f3a0c51d2e94b67")
            ... except LookupError as error:
            ...     print(error)
            there is no run '8f3a0c51d2e94b67' in memory; state.runs() lists those there are.
        """
        return self._run_history().run(text("run_id", run_id))

    def explain(self, run_id: str | None = None) -> dict[str, str]:
        """Return, for each task with a cache, where its result came from or why it was computed again.

        Args:
            run_id: which run; `None`: the last.

        Raises:
            UnknownRunError: there is no such run.

            >>> StateManager().explain()  # no run yet
            {}
        """
        return self._run_history().explain(None if run_id is None else text("run_id", run_id))

    def forget(self, run_id: str) -> None:
        """Remove the record of a run. Its large results go with the next `gc`.

        Raises:
            UnknownRunError: there is no such run.
            RunInUseError: a process that is alive has it.

            >>> state = StateManager()
            >>> for run in state.runs("nightly")[30:]:
            ...     state.forget(run.run_id)
        """
        self._run_history().forget(text("run_id", run_id))

    def release(self, run_id: str) -> None:
        """Take a run from the process that has it, so that it can be resumed here.

        A process of this machine that has ended does not need this. It is for one that cannot be seen from here, on
        another machine or in another container: be sure that it is gone, or the run is run twice at once.

        Raises:
            UnknownRunError: there is no such run.
            RunInUseError: another process of this machine has it, and is alive.

            >>> state = StateManager()
            >>> for run in state.runs("nightly", limit=1):
            ...     state.release(run.run_id)
        """
        self._run_history().release(text("run_id", run_id))

    def gc(self, keep: int | None = None, older_than: float | None = None) -> Reclaimed:
        """Delete the files of large results that no run and no cache needs; forget old runs and results if asked to.

        Args:
            keep: how many finished runs of each pipeline to keep, the newest, 0 or more; what is older is forgotten,
                also if it did not finish. `None`: all runs are kept. A run in progress always is.
            older_than: seconds; runs that began earlier than so long ago are forgotten, and what caches have kept for
                longer. `None`: neither.

        Raises:
            StateOptionError, StateOptionTypeError: an argument cannot be meant.
            StateFileError: the file or a file beside it cannot be written.

            >>> StateManager().gc(keep=10)
            Reclaimed(runs=0, files=0, bytes=0)
        """
        _count("keep", keep)
        age = seconds("older_than", older_than)
        before = None if age is None else self._now() - age
        history = self._run_history()
        if before is not None:
            self._store.prune(CACHED, before)
        self.invalidate_expired()
        return history.gc(keep, before)

    def open_run(
        self,
        run_id: str,
        pipeline: str,
        tasks: Sequence[PlannedTask],
        upstream: Sequence[Sequence[int]],
        params: Mapping[str, Any],
        resume: bool | Literal["force"],
    ) -> Journal:
        """Begin the record of a run, or go on with the last of the pipeline. `pipeline.run(state=...)` calls this.

        Args:
            run_id: a text that no other run has, for a run that is begun.
            pipeline: name of the pipeline.
            tasks: its tasks in topological order; of each the name, the function, the condition and the trigger count.
            upstream: for each task the positions of those it waits for.
            params: values for parameters that no task fills.
            resume: whether to go on with the last run of the pipeline, if that has not finished; `"force"`: even if the
                pipeline is not the same any more.

        Raises:
            ResumeError: the pipeline is not the same any more.
            RunInUseError: a process that is alive has the run.
            RestoreError: a recorded result cannot be made here.
            UnsupportedValueError: an annotation tells that a result cannot be kept.
            UntrustedPickleError: results are to be pickled, and could not be loaded again.
            StateFileError: the file cannot be read or written.
        """
        from flowkit_state.run_log.journal import open_run

        database = self._run_database()
        if database.in_batch:
            reason = (
                "a run cannot be recorded inside a batch(), which commits nothing before it ends; call run() outside."
            )
            raise StateFileError(self._path or "", reason)
        return open_run(database, self._serialization, run_id, pipeline, tasks, upstream, params, resume)

    def cache(self, own: Any = None) -> ResultCache:
        """Return the cache for the results of a task. `pipeline.run(state=...)` calls this.

        Args:
            own: the `TaskCache` of the task, which is returned if it has a state of its own; else the results are
                stored in this state, with its options. `None`: the task has `cache=True`.
        """
        from flowkit_state.result_cache import ResultCache

        found: ResultCache = ResultCache(self) if own is None else own.over(self)
        return found

    def close(self) -> None:
        """Release the file. Closing twice is fine; any other use after this raises `StateClosedError`."""
        if not self._closed:
            super().close()
            if self._database is not None:
                self._database.close()

    def _run_history(self) -> History:
        from flowkit_state.run_log.queries import History

        return History(self._run_database(), self._serialization)

    def _run_database(self) -> Database:
        """Return the database for runs: the store itself if that is a database, a database in memory for one there."""
        self._check_open()
        if self._database is None:
            from flowkit_state.storage.schema import MemoryDatabase

            if self._path is not None:
                allowed = f"a path that ends in {', '.join(SQLITE_SUFFIXES)}: runs are recorded in a SQLite database"
                raise StateOptionError("the state of runs", self._path, allowed)
            self._database = MemoryDatabase()
        return self._database

    def __repr__(self) -> str:
        place = "" if self._path is None else f"{self._path!r}, "
        choice = self._serialization.choice
        serializer = ', serializer="pickle"' if self._serialization.pickled else f", serializer={shown(choice)}"
        serializer = "" if choice == "json" else serializer
        closed = " (closed)" if self._closed else ""
        return f"StateManager({place}default_ttl={self._default_ttl}{serializer}){closed}"

    def __getstate__(self) -> dict[str, Any]:
        if self._path is None:
            raise StateOptionTypeError("what is pickled", self, "a StateManager over a file, which others can open too")
        return {
            "storage_path": self._path,
            "default_ttl": self._default_ttl,
            "serializer": self._serialization.choice,
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


def _count(option: str, value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise StateOptionTypeError(option, value, "a number of runs, or None for all")
    if value is not None and value < 0:
        raise StateOptionError(option, value, "0 or more runs, or None for all")
    return value
