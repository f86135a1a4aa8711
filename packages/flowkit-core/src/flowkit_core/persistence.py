"""Protocols for durable runs: a store, the record of one run, and a cache; ``flowkit-state`` implements them."""

from __future__ import annotations

from ._typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Literal

    from ._typing import Any

    Resume = bool | Literal["strict", "force"]
    Refresh = bool | str | Collection[str]
    Rerun = str | Collection[str]
    StateErrors = Literal["raise", "warn"] | None


class PlannedTask(Protocol):
    """A task of the pipeline, passed to a store before the run: it detects changes when the run is resumed.

    A mapped task also has the attributes ``limit`` and ``errors``, the options of its ``map()``.
    """

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def func(self) -> Callable[..., Any]:
        """Function of the task."""

    @property
    def when(self) -> Callable[..., Any] | None:
        """Condition of the task."""

    @property
    def trigger(self) -> str:
        """Trigger of the task."""


class RecordedTask(Protocol):
    """A task that ended before the run was resumed.

    It may have an attribute ``has_value``; False means that the task succeeded and its result was not recorded. Then it
    runs again if a task that takes its result runs.
    """

    @property
    def state(self) -> str:
        """Final state, ``"succeeded"`` or ``"skipped"``."""

    @property
    def value(self) -> Any:
        """Result of a task that succeeded."""

    @property
    def reason(self) -> str:
        """Why the task was skipped."""

    @property
    def attempts(self) -> int:
        """Number of attempts."""

    @property
    def seconds(self) -> float:
        """Duration of the last attempt, in seconds."""


class TaskOutcome:
    """What is recorded when an attempt at a task ends, or when a task ends without one.

    Times are in seconds since 1970.

    Attributes:
        index: index of the task.
        number: number of the attempt in this execution of the run.
        state: final state of the task; ``"retrying"`` for a failed attempt after which the task runs again.
        stored: stored form of the result; None if there is none.
        ready: when all upstream tasks had ended, and a retry was due.
        ended: when it ended.
        seconds: duration of the call; None if the function was not called.
        worker: name of the thread or worker that made the call.
        process, host: where that is, if it is not this process.
        reason: why the task did not run, or why the result of a task that has succeeded could not be stored.
        error: exception of the attempt.
        source: source of the result: ``"run"``, ``"cache"`` or ``"resume"``.
        why: why the cached result was used, or was not.
    """

    ready: float | None = None
    worker: str | None = None
    process: int | None = None
    host: str | None = None
    reason = ""
    error: BaseException | None = None
    source = "run"
    why = ""

    def __init__(
        self, index: int, number: int, state: str, ended: float, seconds: float | None = None, stored: Any = None
    ) -> None:
        self.index = index
        self.number = number
        self.state = state
        self.ended = ended
        self.seconds = seconds
        self.stored = stored

    def __repr__(self) -> str:
        return f"<TaskOutcome {self.index}: {self.state}>"


class ElementOutcome:
    """How an element of a mapped task ended, to be recorded.

    Attributes:
        number: number of the element.
        state: its final state: ``"succeeded"``, ``"failed"`` or ``"skipped"``.
        value: its result, if it succeeded.
        fingerprint: what :meth:`MapRecord.fingerprint` has returned for its mapped values, before the call.
        ended: when it ended, in seconds since 1970.
        seconds: duration of the last attempt; None if the function was not called.
        attempts: number of attempts; 0 if the function was not called.
        label: its label, or None.
        reason: why it was skipped.
        error: exception of its last attempt, if it failed.
    """

    label: str | None = None
    reason = ""
    error: BaseException | None = None

    def __init__(
        self, number: int, state: str, value: Any, fingerprint: Any, ended: float, seconds: float | None, attempts: int
    ) -> None:
        self.number = number
        self.state = state
        self.value = value
        self.fingerprint = fingerprint
        self.ended = ended
        self.seconds = seconds
        self.attempts = attempts

    def __repr__(self) -> str:
        return f"<ElementOutcome {self.number}: {self.state}>"


class RecordedElement(Protocol):
    """An element that ended before the run was resumed."""

    @property
    def state(self) -> str:
        """``"succeeded"`` or ``"skipped"``; anything else if it is to be called again."""

    @property
    def value(self) -> Any:
        """Result of an element that succeeded."""

    @property
    def reason(self) -> str:
        """Why the element was skipped."""

    @property
    def row(self) -> Any:
        """What is to be passed to :meth:`ElementJournal.record_elements`; None if nothing is."""


class RecordedElements(Protocol):
    """All elements of a mapped task that ended before the run was resumed."""

    @property
    def states(self) -> Sequence[str]:
        """State of each element: ``"succeeded"``, ``"skipped"`` or ``"failed"``.

        It is ``"failed"`` if ``errors="drop"`` left it out in the recorded run, and it is not called again.
        """

    @property
    def values(self) -> Mapping[int, Any]:
        """Number -> result of each element that succeeded."""

    @property
    def reasons(self) -> Mapping[int, str]:
        """Number -> why the element was skipped."""


class MapRecord(Protocol):
    """The record of the elements of one mapped task in one execution of a run. Any thread may call its methods."""

    @property
    def has_recorded(self) -> bool:
        """Whether :meth:`find` may find anything."""

    def find(self, number: int, given: Any, *, is_same: bool) -> RecordedElement | None:
        """Return the recorded outcome of an element; None if there is none for these inputs.

        Args:
            number: number of the element.
            given: its mapped value, or a tuple of several.
            is_same: whether the mapped tasks upstream have been taken over for this element.
        """

    def fingerprint(self, given: Any, /) -> Any:
        """Return what identifies the mapped value of an element, or the tuple of several.

        It is called before the function of the task, which may change the values.
        """

    def prepare(self, outcome: ElementOutcome, /) -> Any:
        """Return what is to be passed to :meth:`ElementJournal.record_elements`.

        Raises:
            Exception: the result cannot be stored.
        """

    def note_size(self, size: int, /) -> None:
        """Commit the number of elements, when the end of a lazy input is known."""


class RunJournal(Protocol):
    """The record of one execution of a run, which only this process may write.

    Tasks are identified by their index in topological order.
    """

    @property
    def run_id(self) -> str:
        """Id of the run; of the earlier run, if that is resumed."""

    @property
    def done(self) -> Mapping[int, RecordedTask]:
        """Index -> task that ended before the run was resumed; empty for a new run."""

    @property
    def outdated(self) -> Mapping[int, str]:
        """Index of a task that runs again -> why its recorded result is out of date; empty for a new run."""

    def prepare(self, index: int, value: Any, /) -> Any:
        """Return the stored form of a result, for :meth:`record`. Called from any thread.

        Raises:
            Exception: the result cannot be stored.
        """

    def record(self, outcomes: Sequence[TaskOutcome], /) -> None:
        """Commit outcomes of tasks, all or none; a crash of the process after the return does not undo it."""

    def close(self, status: str, rest: Sequence[TaskOutcome], error: BaseException | None, /) -> None:
        """Commit the end of the run, and release it for other processes.

        Args:
            status: ``"succeeded"``, ``"failed"`` or ``"interrupted"``.
            rest: the outcome of each task that did not run.
            error: the exception that the run raises.
        """


class ElementJournal(RunJournal, Protocol):
    """A :class:`RunJournal` that also keeps the elements of mapped tasks, as they end.

    A journal without these methods is accepted: a mapped task is then recorded as one value, when its last element has
    ended. A task that it returns in ``done`` may have an attribute ``elements``, which is a :class:`RecordedElements`.
    """

    def open_map(
        self,
        index: int,
        size: int | None,
        sources: Sequence[int],
        others: Sequence[int],
        common: Any,
        has_values: bool,
        /,
    ) -> MapRecord:
        """Begin to record the elements of a mapped task.

        Args:
            index: index of the task.
            size: number of its elements; None if it is not known, for a lazy input.
            sources: indices of the tasks whose results are mapped.
            others: indices of the other tasks whose results it takes.
            common: the arguments that are the same for all elements.
            has_values: whether results are recorded.
        """

    def record_elements(self, rows: Sequence[Any], /) -> None:
        """Commit elements that :meth:`MapRecord.prepare` has prepared, all or none. The last row of an element counts.

        A crash of the process after the return does not undo it.
        """


class NoteJournal(RunJournal, Protocol):
    """A :class:`RunJournal` that also keeps the notes that tasks make with ``current().remember(key, value)``.

    A journal without these methods is accepted: the notes of its run are then kept in this process only.
    """

    def notes(self, index: int, element: int | None, /) -> Mapping[str, Any]:
        """Return the notes of a task, also of earlier executions of the run: key -> value. Called from any thread.

        Args:
            index: index of the task.
            element: index of the element, for a mapped task; else None.
        """

    def remember(self, index: int, element: int | None, key: str, value: Any, /) -> None:
        """Commit a note of a task; a crash of the process after the return does not undo it. Called from any thread.

        A note with the same key is replaced.

        Args:
            index: index of the task.
            element: index of the element, for a mapped task; else None.
            key: name of the note.
            value: its value.

        Raises:
            Exception: the value cannot be stored. The task gets the exception.
        """


class DescribedJournal(RunJournal, Protocol):
    """A :class:`RunJournal` that also keeps how the run was started. A journal without this method is accepted."""

    def describe(self, executor: str, target: str | None, folder: str | None, /) -> None:
        """Commit how this execution of the run was started. Called once, before any task runs.

        Args:
            executor: names of the executors, such as ``"thread"``.
            target: ``"module:name"``, which denotes the pipeline on the command line; None if the module has no file.
            folder: the folder that has the module, or None.
        """


class LogLine:
    """One log record of a run, as text.

    Attributes:
        time: when it was logged, in seconds since 1970.
        level: name of its level, such as ``"INFO"``.
        levelno: number of its level.
        logger: name of the logger.
        message: its message, with the traceback if there is one.
        task: name of the task that logged it, or that it is about; None if it is about the run.
        element: index of the element of a mapped task, or None.
        attempt: number of the attempt, or None.
    """

    __slots__ = ("attempt", "element", "level", "levelno", "logger", "message", "task", "time")

    def __init__(self, time: float, level: str, levelno: int, logger: str, message: str) -> None:
        self.time = time
        self.level = level
        self.levelno = levelno
        self.logger = logger
        self.message = message
        self.task: str | None = None
        self.element: int | None = None
        self.attempt: int | None = None

    def __repr__(self) -> str:
        return f"<LogLine {self.level} {self.message!r}>"


class LogJournal(RunJournal, Protocol):
    """A :class:`RunJournal` that also keeps what the run logs. A journal without this method is accepted."""

    def log(self, lines: Sequence[LogLine], /) -> bool:
        """Commit log lines, all or none, and return whether they were. Called from any thread.

        It returns False if they cannot be committed now, but later, for example because the calling thread has a
        transaction open.
        """


class Link:
    """How a run is started from a recorded one.

    Attributes:
        of: id of the recorded run.
        tasks: names of the tasks that run again, as does everything downstream of them.
        params: the parameters of the recorded run, updated by those that were given.
    """

    def __init__(self, of: str, tasks: Sequence[str], params: Mapping[str, Any]) -> None:
        self.of = of
        self.tasks = tasks
        self.params = params


class Store(Protocol):
    """Records of runs; an argument ``state`` of ``run()``.

    It may have a method ``check_results(tasks)``, which is called before the run and returns, by index, the errors of
    tasks whose annotation shows that their results cannot be stored.
    """

    def open_run(
        self,
        run_id: str,
        pipeline: str,
        tasks: Sequence[PlannedTask],
        upstream: Sequence[Sequence[int]],
        params: Mapping[str, Any],
        resume: Resume,
        resume_max_age: float | None,
    ) -> RunJournal:
        """Return the record of a new run, or of the last run with the same parameters if that is resumed.

        Args:
            run_id: id of a new run.
            pipeline: name of the pipeline.
            tasks: its tasks, in topological order.
            upstream: for each task the indices of its direct upstreams.
            params: values for open parameters.
            resume: whether to resume the last run with the same parameters if it did not finish. Recorded results that
                are out of date are not used; they raise an error with ``"strict"``, and are used with ``"force"``.
            resume_max_age: seconds after which the result of a task that reads the clock is out of date; None: never.
        """

    def cache(self, own: Cache | None = None) -> Cache:
        """Return the cache for tasks with ``cache=True``; with an argument, that cache over this store."""

    def close(self) -> None:
        """Release the resources of the store."""


class CacheLookup(Protocol):
    """Answer to a lookup in a cache.

    It may have an attribute ``why_element``: ``why`` for one of several calls, whose inputs always differ.
    """

    @property
    def known(self) -> bool:
        """Whether there is a result that can be used."""

    @property
    def value(self) -> Any:
        """The result."""

    @property
    def token(self) -> Any:
        """Argument of :meth:`Cache.keep` for the new result; None if it cannot be cached."""

    @property
    def why(self) -> str:
        """Origin of the result, or why there is none."""


class Cache(Protocol):
    """Cache of results; an argument ``cache`` of ``@task``. ``flowkit_state.TaskCache`` is one.

    A cache may also have a method ``check(function, name, *, ignore)``. It is called when the task is created and
    raises if the cache cannot be used for that task.

    A cache may have an attribute ``argument_digest``: a function of a module that returns the digest of an argument, or
    None for a value that has none. Then :meth:`find` may get a `Handle` with such a digest in place of a value that is
    elsewhere; its ``fetch()`` returns the value.
    """

    def over(self, state: Any, /) -> Cache:
        """Return this cache if it has a store of its own; else one with the same options over ``state``."""

    def find(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        /,
        *,
        name: str,
        ignore: Collection[str],
        refresh: bool,
    ) -> CacheLookup:
        """Look up the result of a call.

        Args:
            function: function of the task.
            args: positional arguments.
            kwargs: keyword arguments.
            name: name of the task.
            ignore: parameters that do not count.
            refresh: whether the function is called even if there is a result.
        """

    def keep(self, token: Any, value: Any, /) -> None:
        """Store a result. Errors are logged and not raised."""
