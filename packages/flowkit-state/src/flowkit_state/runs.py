"""Records of runs: what `StateManager.runs`, `run` and `gc` return."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime
    from typing import Any


class Column:
    """Positions of columns in the rows of elements that an `ElementsRecord` reads."""

    NUMBER, STATE, SECONDS, ATTEMPTS, LABEL, REASON, ERROR, EXECUTION, ENDED = range(9)


class _Fields:
    """Base class that sets each keyword argument as an attribute."""

    __slots__ = ()

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)


class RunRecord(_Fields):
    """The record of one run of a pipeline.

    Attributes:
        run_id: identifies the run.
        pipeline: name of the pipeline.
        status: `"running"`, `"succeeded"`, `"failed"`, or `"interrupted"`: cancelled, or its process has died.
        started: when the run started, a datetime in UTC.
        ended: when its last execution ended, or None.
        duration: seconds from the start of its last execution to its end; None until it ends.
        resumes: number of times that it was resumed.
        params: name -> value of each run parameter, as a new object; an `UnrecordedValue` if it could not be stored.
        error: type and message of the exception that it raised, or None.
        tasks: name -> `TaskRecord`, in topological order.
        executions: an `ExecutionRecord` for the first start and each resume, in order.
        parent: id of the run that this one was started from, with `run(of=...)`, or None.
    """

    __slots__ = (
        "_load",
        "duration",
        "ended",
        "error",
        "executions",
        "params",
        "parent",
        "pipeline",
        "resumes",
        "run_id",
        "started",
        "status",
        "tasks",
    )
    run_id: str
    pipeline: str
    status: str
    started: datetime
    ended: datetime | None
    duration: float | None
    resumes: int
    params: dict[str, Any]
    error: str | None
    tasks: dict[str, TaskRecord]
    executions: tuple[ExecutionRecord, ...]
    parent: str | None
    _load: Callable[[], Any] | None

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of tasks in that state."""
        counts: dict[str, int] = {}
        for task in self.tasks.values():
            counts[task.state] = counts.get(task.state, 0) + 1
        return counts

    def diff(self, other: RunRecord) -> RunDiff:
        """Return what is different in another run.

        Args:
            other: a run, of this pipeline as a rule.

        Raises:
            TypeError: `other` is no `RunRecord`.
            LookupError: a record was pickled, so it has no code and no results.
        """
        from flowkit_state.run_log.diff import run_diff

        if not isinstance(other, RunRecord):
            raise TypeError(f"diff() takes a RunRecord, such as StateManager.run(run_id), and not {other!r}")
        for record in (self, other):
            if record._load is None:
                raise LookupError(
                    f"the code and the results of run {record.run_id} are not part of a pickled record; get it with "
                    "StateManager.run()."
                )
        return run_diff(self, other)

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {name: getattr(self, name) for name in self.__slots__} | {"_load": None}

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in self.counts.items())
        when = f"{self.started:%Y-%m-%d %H:%M:%S}"
        return f"<RunRecord {self.run_id} of {self.pipeline!r}, {when}: {self.status} ({counts or 'no tasks'})>"


class ExecutionRecord(_Fields):
    """The record of one execution of a run: the first, or one that resumed the run.

    Attributes:
        number: 1 for the first execution of the run.
        started: when it started, a datetime in UTC.
        ended: when it ended; None while it runs, and if its process died.
        process: id of the process, or None if a version of flowkit-state recorded it that did not store it.
        host: name of the machine, or None as for `process`.
        outcome: `"running"`, `"succeeded"`, `"failed"`, or `"interrupted"`: cancelled, or its process has died.
        error: the exception that it raised, as Python prints it with its traceback, or None.
        executor: names of its executors, such as `"thread"`, or None as for `process`.
        target: `"module:name"`, which denotes the pipeline on the command line. Of a script, the module is the name of
            its file. None if the pipeline was created in code without a file, or as for `process`.
        folder: the folder that has the module, or None as for `target`.
        python: version of Python, such as `"3.13.1"`, or None as for `process`.
        cpu: CPU time of the process during the execution, in seconds; None until it ends.
    """

    __slots__ = (
        "cpu",
        "ended",
        "error",
        "executor",
        "folder",
        "host",
        "number",
        "outcome",
        "process",
        "python",
        "started",
        "target",
    )
    number: int
    started: datetime
    ended: datetime | None
    process: int | None
    host: str | None
    outcome: str
    error: str | None
    executor: str | None
    target: str | None
    folder: str | None
    python: str | None
    cpu: float | None

    def __repr__(self) -> str:
        where = f" in process {self.process} on {self.host!r}" if self.process else ""
        return f"<ExecutionRecord {self.number}, {self.started:%Y-%m-%d %H:%M:%S}{where}: {self.outcome}>"


class TaskRecord(_Fields):
    """The record of one task in one run.

    Attributes:
        name: name of the task.
        state: `"succeeded"`, `"failed"`, `"skipped"`, `"upstream_failed"`, `"cancelled"`, or `"pending"`: the task has
            not ended, or had not when the process died.
        attempts: an `AttemptRecord` for each call of its function, in all executions of the run, in order.
        started: when the last attempt started, a datetime in UTC, or None.
        duration: seconds that the last attempt took, or None.
        reason: why the task did not run, runs again, or has succeeded and its result is not recorded.
        error: the exception that it raised, as a `TaskError`, or None.
        source: `"run"`, or `"cache"` if its result was cached.
        why: for a task with a cache, where the result came from, or why the task ran; for a task that ran again in a
            resumed run, why its recorded result was out of date.
        upstream: names of the tasks that it waits for, in order of declaration.
        limited: whether it names pools, or is mapped with `map(limit=...)`; False also if that is not recorded.
        elements: the elements of a mapped task, as an `ElementsRecord`; `None` for other tasks, and before the elements
            of a mapped task have started.
    """

    __slots__ = (
        "_load",
        "attempts",
        "duration",
        "elements",
        "error",
        "limited",
        "name",
        "reason",
        "source",
        "started",
        "state",
        "upstream",
        "why",
    )
    name: str
    state: str
    attempts: tuple[AttemptRecord, ...]
    started: datetime | None
    duration: float | None
    reason: str
    error: TaskError | None
    source: str
    why: str
    upstream: tuple[str, ...]
    limited: bool
    elements: ElementsRecord | None
    _load: Callable[[], Any] | None

    def result(self) -> Any:
        """Return the result of the task, a new object at each call; of a mapped task, the list.

        Raises:
            LookupError: the task did not succeed, so it has no result.
            RestoreError: the result cannot be restored in this process, for example because its class is not imported.
        """
        if self.state != "succeeded":
            raise LookupError(f"task {self.name!r} has no result: it is {self.state.replace('_', ' ')}.")
        if self._load is None:
            raise LookupError(
                f"the result of task {self.name!r} is not part of a pickled record; get it with StateManager.run()."
            )
        return self._load()

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {name: getattr(self, name) for name in self.__slots__} | {"_load": None}

    def __repr__(self) -> str:
        took = "" if self.duration is None else f" in {self.duration:.2f} s"
        return f"<TaskRecord {self.name} {self.state}{took}>"


class ElementsRecord:
    """The recorded elements of one mapped task in one run, in all its executions, read when they are asked for.

    Elements are numbered from 0, by their position in the input. An element that has not ended is not recorded, and is
    called when the run is resumed.

    Attributes:
        size: number of elements of the input; `None` until it is known, for an input that is read while its elements
            run.
        counts: number of elements in each state, with those of `size` that are not recorded as `"pending"`.
        states: number of each recorded element -> `"succeeded"`, `"failed"` or `"skipped"`.
        failed: number of each failed element -> its exception, as a `TaskError`.
        skipped: number of each skipped element -> why.
        labels: number of an element -> its label, with `map(label=...)`.
        durations: number of each element whose function was called -> seconds of the last attempt.
        attempts: number of each element whose function was called -> number of attempts.
        executions: number of each recorded element -> number of the execution in which it has ended, or was compared
            with an input that was made again.
        ended: number of each recorded element -> when that was, in seconds since 1970.

    Examples:
        >>> from flowkit_state import StateManager
        >>> for run in StateManager().runs("nightly", limit=1):
        ...     for task in run.tasks.values():
        ...         if task.elements is not None:
        ...             print(task.name, task.elements.counts, task.elements.failed)
    """

    __slots__ = ("_compare", "_counts", "_load", "_read", "_rows", "size")

    def __init__(
        self,
        size: int | None,
        counts: Callable[[], dict[str, int]],
        read: Callable[[], list[Any]],
        load: Callable[[int], Any],
        compare: Callable[[int, Any], bool | None],
    ) -> None:
        self.size = size
        self._compare = compare
        self._load = load
        self._counts: dict[str, int] | Callable[[], dict[str, int]] = counts
        self._read = read
        self._rows: list[Any] | None = None

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __bool__(self) -> bool:
        return True

    @property
    def counts(self) -> dict[str, int]:
        """See above."""
        if callable(self._counts):
            counts = self._counts()
            missing = 0 if self.size is None else self.size - sum(counts.values())
            self._counts = counts | ({"pending": missing} if missing > 0 else {})
        return dict(self._counts)

    @property
    def states(self) -> dict[int, str]:
        """See above."""
        return {row[Column.NUMBER]: row[Column.STATE] for row in self._all()}

    @property
    def failed(self) -> dict[int, TaskError]:
        """See above."""
        return {row[Column.NUMBER]: row[Column.ERROR] for row in self._all() if row[Column.STATE] == "failed"}

    @property
    def skipped(self) -> dict[int, str]:
        """See above."""
        return {row[Column.NUMBER]: row[Column.REASON] or "" for row in self._all() if row[Column.STATE] == "skipped"}

    @property
    def labels(self) -> dict[int, str]:
        """See above."""
        return {row[Column.NUMBER]: row[Column.LABEL] for row in self._all() if row[Column.LABEL] is not None}

    @property
    def durations(self) -> dict[int, float]:
        """See above."""
        return {row[Column.NUMBER]: row[Column.SECONDS] for row in self._all() if row[Column.SECONDS] is not None}

    @property
    def attempts(self) -> dict[int, int]:
        """See above."""
        return {row[Column.NUMBER]: row[Column.ATTEMPTS] for row in self._all() if row[Column.ATTEMPTS]}

    @property
    def executions(self) -> dict[int, int]:
        """See above."""
        return {row[Column.NUMBER]: row[Column.EXECUTION] for row in self._all()}

    @property
    def ended(self) -> dict[int, float]:
        """See above."""
        return {row[Column.NUMBER]: row[Column.ENDED] for row in self._all()}

    def result(self, number: int) -> Any:
        """Return the result of an element, a new object at each call.

        Args:
            number: number of the element, from 0.

        Raises:
            LookupError: the element did not succeed, or its result was not recorded.
            RestoreError: the result cannot be restored in this process, for example because its class is not imported.
        """
        if self._load is None:
            raise LookupError("results of elements are not part of a pickled record; get it with StateManager.run().")
        return self._load(number)

    def was_given(self, number: int, value: object) -> bool | None:
        """Return whether an element had a value as its input; `None` if that is not known.

        Args:
            number: number of the element, from 0.
            value: the value; a tuple of them, for a task that is mapped over several inputs.
        """
        return self._compare(number, value)

    def _all(self) -> list[Any]:
        """Return a row for each element, with the columns of `Column`."""
        if self._rows is None:
            self._rows = self._read()
        return self._rows

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        kept = {"size": self.size, "_counts": self.counts, "_rows": self._all()}
        return None, {**kept, "_read": None, "_load": None, "_compare": None}

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        return f"<ElementsRecord: {counts or 'no elements'}>"


class AttemptRecord(_Fields):
    """The record of one attempt at a task: one call of its function.

    Attributes:
        number: number of the attempt in its execution, from 1.
        execution: number of the execution of the run.
        ready: when all upstream tasks had ended and a retry was due, a datetime in UTC, or None if that is not known.
        started: when the call started.
        ended: when it ended, and its outcome was known to the process of the run.
        duration: seconds that the call took.
        waited: seconds from `ready` to `started`, in which the task waited for a worker, or None.
        process: id of the process that made the call, or None if that is not known.
        host: name of the machine, or None as for `process`.
        worker: name of the thread or the worker that made the call, or None as for `process`.
        outcome: `"succeeded"` or `"failed"`.
        error: the exception that it raised, as a `TaskError`, or None.
    """

    __slots__ = (
        "duration",
        "ended",
        "error",
        "execution",
        "host",
        "number",
        "outcome",
        "process",
        "ready",
        "started",
        "worker",
    )
    number: int
    execution: int
    ready: datetime | None
    started: datetime
    ended: datetime
    duration: float
    process: int | None
    host: str | None
    worker: str | None
    outcome: str
    error: TaskError | None

    @property
    def waited(self) -> float | None:
        """See above."""
        return None if self.ready is None else max(0.0, (self.started - self.ready).total_seconds())

    def __repr__(self) -> str:
        error = "" if self.error is None else f", {self.error}"
        which = f"{self.number} in execution {self.execution}"
        return f"<AttemptRecord {which}: {self.outcome} in {self.duration:.2f} s{error}>"


class TaskError(_Fields):
    """The exception that a task raised, as text.

    Attributes:
        type: name of its class, with the module unless that is `builtins`.
        message: its message.
        traceback: its traceback, as Python prints it.
    """

    __slots__ = ("message", "traceback", "type")
    type: str
    message: str
    traceback: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type

    def __repr__(self) -> str:
        return f"<TaskError {self}>"


class LogLine(_Fields):
    """A log record of a run: one of those that `StateManager.logs` returns.

    Attributes:
        number: number of the line in the run, from 1.
        execution: number of the execution of the run.
        time: when it was logged, a datetime in UTC.
        level: name of its level, such as `"INFO"`.
        levelno: number of its level: 10 DEBUG, 20 INFO, 30 WARNING, 40 ERROR, 50 CRITICAL.
        logger: name of the logger.
        task: name of the task that logged it, or that it is about; None if it is about the run.
        element: index of the element of a mapped task, or None.
        attempt: number of the attempt, or None.
        message: its message, followed by the context of the line, such as `rows=28`, and the traceback if there is one.
    """

    __slots__ = ("attempt", "element", "execution", "level", "levelno", "logger", "message", "number", "task", "time")
    number: int
    execution: int
    time: datetime
    level: str
    levelno: int
    logger: str
    task: str | None
    element: int | None
    attempt: int | None
    message: str

    def __repr__(self) -> str:
        of = "" if self.task is None else f" of {self.task}"
        return f"<LogLine {self.number}{of}, {self.level}: {self.message!r}>"


class RunDiff(_Fields):
    """What is different in another run: what `RunRecord.diff` returns. It is false if nothing is, durations aside.

    Attributes:
        params: name of a parameter -> its value in this run and in the other one; `None` where it was not given.
        added: names of the tasks that only the other run has.
        removed: names of the tasks that only this run has.
        changed: task -> what has changed in its code, its constants, its upstream tasks or its trigger.
        states: task -> its state in this run and in the other one.
        elements: mapped task -> the number of its elements in each state in this run and in the other one.
        results: names of the tasks that succeeded in both and returned something else.
        durations: task -> seconds of its last attempt in this run and in the other one.
    """

    __slots__ = ("_given", "added", "changed", "durations", "elements", "params", "removed", "results", "states")
    _given: tuple[Collection[str], Collection[str]]  # names of the parameters of both runs
    params: dict[str, tuple[Any, Any]]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, tuple[str, ...]]
    states: dict[str, tuple[str, str]]
    elements: dict[str, tuple[dict[str, int], dict[str, int]]]
    results: tuple[str, ...]
    durations: dict[str, tuple[float, float]]

    def __bool__(self) -> bool:
        changes = self.params, self.added, self.removed, self.changed, self.states, self.elements, self.results
        return any(changes)

    def __str__(self) -> str:
        lines = []
        for name, values in self.params.items():
            texts = [
                repr(value) if name in given else "not given" for value, given in zip(values, self._given, strict=True)
            ]
            lines.append(f"parameter {name}: {' -> '.join(texts)}")
        lines += [f"task {name} was added" for name in self.added]
        lines += [f"task {name} was removed" for name in self.removed]
        lines += [f"task {name}: {', '.join(reasons)}" for name, reasons in self.changed.items()]
        lines += [f"task {name} {before} -> {after}" for name, (before, after) in self.states.items()]
        lines += [
            f"elements of {name}: {_counts_text(before)} -> {_counts_text(after)}"
            for name, (before, after) in self.elements.items()
        ]
        lines += [f"the result of {name} is different" for name in self.results]
        return "\n".join(lines) or "no difference"

    def __repr__(self) -> str:
        return f"<RunDiff {str(self).replace(chr(10), '; ')}>"


def _counts_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"


class UnrecordedValue(_Fields):
    """A parameter of a run whose value is not in the record, or cannot be restored in this process.

    Attributes:
        text: shortened `repr` of the value.
        reason: why there is no value.
    """

    __slots__ = ("reason", "text")
    text: str
    reason: str

    def __repr__(self) -> str:
        return f"<UnrecordedValue {self.text}: {self.reason}>"


class Reclaimed(_Fields):
    """What `StateManager.gc` deleted.

    Attributes:
        runs: number of runs.
        files: number of files with large results.
        bytes: total size of these files.
    """

    __slots__ = ("bytes", "files", "runs")
    runs: int
    files: int
    bytes: int

    def __repr__(self) -> str:
        return f"Reclaimed(runs={self.runs}, files={self.files}, bytes={self.bytes})"
