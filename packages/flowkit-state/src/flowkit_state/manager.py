"""`StateManager`: values by key, with expiry, in memory or in a file."""

from __future__ import annotations

import time

from flowkit_state._validation import SQLITE_SUFFIXES, seconds, state_path, text
from flowkit_state.errors import StateClosedError, StateFileError, StateOptionError, StateOptionTypeError, shown
from flowkit_state.storage.base import CACHED, Batch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Literal, Self

    from flowkit_state.cache import TaskCache
    from flowkit_state.run_log.journal import Journal
    from flowkit_state.run_log.plan import PlannedTask
    from flowkit_state.run_log.queries import History
    from flowkit_state.runs import Reclaimed, RunRecord
    from flowkit_state.serialization.serializers import Choice
    from flowkit_state.storage.base import Record, Store
    from flowkit_state.storage.schema import Database

_CLOCK_SLACK = 5.0  # seconds by which an entry may come from the future before the clock is taken to have been set back


class StateManager:
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
        serializer: Choice = "json",
        lock_timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from flowkit_state.serialization.serializers import Serialization

        self._serialization = Serialization(serializer)
        timeout = seconds("lock_timeout", lock_timeout)
        self._default_ttl = seconds("default_ttl", default_ttl)
        self._timeout = 1e6 if timeout is None else min(timeout, 1e6)  # SQLite counts milliseconds in 32 bits
        self._clock = clock
        self._path: str | None = None
        self._closed = False
        self._store: Store
        self._runs: Database | None = None
        if storage_path is None:
            from flowkit_state.storage.memory import MemoryStore

            self._store = MemoryStore()
            return
        self._path, suffix = state_path(storage_path)
        if suffix in SQLITE_SUFFIXES:
            from flowkit_state.storage.sqlite import SQLiteStore

            self._store = self._runs = SQLiteStore(self._path, self._timeout)
        else:
            from flowkit_state.storage.json_file import JSONStore

            self._store = JSONStore(self._path, self._timeout)

    @property
    def path(self) -> str | None:
        """The absolute path of the file, or `None` for a store in memory."""
        return self._path

    @property
    def default_ttl(self) -> float | None:
        """How many seconds an entry lives when `set` is not told otherwise. `None`: for ever."""
        return self._default_ttl

    def set(self, key: str, value: Any, ttl: float | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Keep `value` under `key`, in place of what was there. When this returns, it is in the file.

        Args:
            key: any text.
            value: what to keep. A snapshot is taken: changing the object later does not change the store.
            ttl: seconds from now after which the entry is gone. `None`: the manager's `default_ttl`; infinity: never;
                0: it is gone at once.
            metadata: a dictionary kept beside the value, for `get_metadata`. The types are those of values.

        Raises:
            UnsupportedValueError: it would not come back as it is. What was under `key` is untouched.
            StateOptionError, StateOptionTypeError: the key, the ttl or the metadata cannot be meant.
            StateFileError: the file cannot be written. What it held is untouched.

            >>> state = StateManager()
            >>> state.set("token", b"secret", ttl=60, metadata={"source": "login"})
        """
        self._check_open()
        text("key", key)
        lifetime = self._default_ttl if ttl is None else seconds("ttl", ttl)
        if metadata is not None and type(metadata) is not dict:
            raise StateOptionTypeError("metadata", metadata, "a dict, or None")
        from flowkit_state.serialization.serializers import to_json
        from flowkit_state.storage.base import Record

        payload = self._serialization.dump(key, value)
        notes = None if not metadata else to_json(key, metadata, root="metadata")
        now = float(self._clock())
        if lifetime == 0:
            self._store.remove(key)
        else:
            expires = None if lifetime is None else now + lifetime
            self._store.put(key, Record(payload, now, expires, notes))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value kept under `key`, made anew at each call, or `default` if there is none or it has expired.

        Raises `RestoreError` where the value cannot be made here, for example because its class is not imported.
        """
        record = self._live(key)
        return default if record is None else self._restore(key, record)

    def has(self, key: str) -> bool:
        """Return whether there is an entry under `key` that has not expired. Its value may be `None`."""
        return self._live(key) is not None

    def delete(self, key: str) -> bool:
        """Remove the entry under `key`. Returns whether there was one that had not expired."""
        return self._live(key) is not None and self._store.remove(key)

    def clear(self) -> None:
        """Remove every entry."""
        self._check_open()
        self._store.clear()

    def keys(self) -> list[str]:
        """Return the keys of the entries that have not expired, oldest first."""
        return [key for key, _ in self._live_items()]

    def get_all(self) -> dict[str, Any]:
        """Return every entry that has not expired, as a dictionary of key to value."""
        return {key: self._restore(key, record) for key, record in self._live_items()}

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """Return the metadata given to `set`, `{}` if none was, or `None` if there is no entry or it has expired."""
        record = self._live(key)
        if record is None:
            return None
        if record.metadata is None:
            return {}
        from flowkit_state.serialization.json_codec import decode
        from flowkit_state.serialization.json_text import loads

        found: dict[str, Any] = decode(loads(record.metadata), key=key)
        return found

    def invalidate_expired(self) -> int:
        """Remove every entry that has expired, and return how many that were.

        Expired entries are never returned anyway; this gives their room back.
        """
        self._check_open()
        return self._store.purge(float(self._clock()))

    def batch(self) -> Batch:
        """Make several changes one: `with state.batch(): ...` writes all of them when it ends, or none if it raises.

        For a JSON file that is one write instead of many. Other threads and processes wait meanwhile, so do not
        compute in a batch. A batch inside a batch belongs to the outer one.

            >>> state = StateManager()
            >>> with state.batch():
            ...     for number in range(1000):
            ...         state.set(f"row {number}", number)
        """
        self._check_open()
        return Batch(self._store)

    # ---- runs of pipelines ---------------------------------------------------------------------------------------

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
        return self._history().runs(pipeline, _count("limit", limit))

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
        return self._history().run(text("run_id", run_id))

    def explain(self, run_id: str | None = None) -> dict[str, str]:
        """Return, for each task with a cache, where its result came from or why it was computed again.

        Args:
            run_id: which run; `None`: the last.

        Raises:
            UnknownRunError: there is no such run.

            >>> StateManager().explain()  # no run yet
            {}
        """
        return self._history().explain(None if run_id is None else text("run_id", run_id))

    def forget(self, run_id: str) -> None:
        """Remove the record of a run. Its large results go with the next `gc`.

        Raises:
            UnknownRunError: there is no such run.
            RunInUseError: a process that is alive has it.

            >>> state = StateManager()
            >>> for run in state.runs("nightly")[30:]:
            ...     state.forget(run.run_id)
        """
        self._history().forget(text("run_id", run_id))

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
        self._history().release(text("run_id", run_id))

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
        before = None if age is None else float(self._clock()) - age
        history = self._history()
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

        database = self._database()
        if database.in_batch:
            reason = (
                "a run cannot be recorded inside a batch(), which commits nothing before it ends; call run() outside."
            )
            raise StateFileError(self._path or "", reason)
        return open_run(database, self._serialization, run_id, pipeline, tasks, upstream, params, resume)

    def cache(self, own: Any = None) -> TaskCache:
        """Return the cache that keeps the results of tasks in this state.

        Args:
            own: the `TaskCache` of the task, used itself if it has a state of its own; `None`: for `cache=True`.
        """
        from flowkit_state.cache import TaskCache

        found: TaskCache = TaskCache(self) if own is None else own.over(self)
        return found

    def _history(self) -> History:
        from flowkit_state.run_log.queries import History

        return History(self._database(), self._serialization)

    def _database(self) -> Database:
        """Return the database that runs are recorded in: the store itself, or one in memory beside a store there."""
        self._check_open()
        if self._runs is None:
            from flowkit_state.storage.schema import MemoryDatabase

            if self._path is not None:
                allowed = f"a path that ends in {', '.join(SQLITE_SUFFIXES)}: runs are recorded in a SQLite database"
                raise StateOptionError("the state of runs", self._path, allowed)
            self._runs = MemoryDatabase()
        return self._runs

    def close(self) -> None:
        """Release the file. Closing twice is fine; any other use after this raises `StateClosedError`."""
        if not self._closed:
            self._closed = True
            self._store.close()
            if self._runs is not None:
                self._runs.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

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
            "lock_timeout": self._timeout,
            "clock": self._clock,
        }

    def __setstate__(self, options: dict[str, Any]) -> None:
        self.__init__(**options)  # type: ignore[misc]

    def _check_open(self) -> None:
        if self._closed:
            raise StateClosedError(self._path)

    def _live(self, key: str) -> Record | None:
        """Return the record under `key`, unless it has expired. Then all that has expired is removed."""
        self._check_open()
        record = self._store.get(text("key", key))
        if record is None or record.expires is None:
            return record
        now = float(self._clock())
        if record.expired(now):
            self._tidy(self._store.purge, now)
            return None
        if record.stored > now + _CLOCK_SLACK:
            self._tidy(self._store.rebase, now)
        return record

    def _live_items(self) -> list[tuple[str, Record]]:
        self._check_open()
        items = self._store.items()
        now = float(self._clock())
        live = [(key, record) for key, record in items if not record.expired(now)]
        if len(live) < len(items):
            self._tidy(self._store.purge, now)
        if any(record.expires is not None and record.stored > now + _CLOCK_SLACK for _, record in live):
            self._tidy(self._store.rebase, now)
        return live

    @staticmethod
    def _tidy(action: Callable[[float], object], now: float) -> None:
        try:
            action(now)
        except StateFileError:
            pass  # the answer is right without it, also where the file cannot be written

    def _restore(self, key: str, record: Record) -> Any:
        payload = record.payload if record.beside is None else self._store.fetch(record.payload, record.beside)
        return self._serialization.load(key, payload, self._path)


def _count(option: str, value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise StateOptionTypeError(option, value, "a number of runs, or None for all")
    if value is not None and value < 0:
        raise StateOptionError(option, value, "0 or more runs, or None for all")
    return value
