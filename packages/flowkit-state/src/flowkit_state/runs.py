"""Records of runs: what `StateManager.runs`, `run` and `gc` return."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any


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
        ended: when it ended, or None.
        duration: seconds that it took, including the time before it was resumed; None until it ends.
        resumes: number of times that it was resumed.
        params: name -> shortened `repr` of the value of each run parameter.
        error: type and message of the exception that it raised, or None.
        tasks: name -> `TaskRecord`, in topological order.
    """

    __slots__ = ("duration", "ended", "error", "params", "pipeline", "resumes", "run_id", "started", "status", "tasks")
    run_id: str
    pipeline: str
    status: str
    started: datetime
    ended: datetime | None
    duration: float | None
    resumes: int
    params: dict[str, str]
    error: str | None
    tasks: dict[str, TaskRecord]

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of tasks in that state."""
        counts: dict[str, int] = {}
        for task in self.tasks.values():
            counts[task.state] = counts.get(task.state, 0) + 1
        return counts

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in self.counts.items())
        when = f"{self.started:%Y-%m-%d %H:%M:%S}"
        return f"<RunRecord {self.run_id} of {self.pipeline!r}, {when}: {self.status} ({counts or 'no tasks'})>"


class TaskRecord(_Fields):
    """The record of one task in one run.

    Attributes:
        name: name of the task.
        state: `"succeeded"`, `"failed"`, `"skipped"`, `"upstream_failed"`, `"cancelled"`, or `"pending"`: not recorded,
            because the task has not ended, or had not when the process died.
        attempts: number of attempts.
        started: when the last attempt started, a datetime in UTC, or None.
        duration: seconds that the last attempt took, or None.
        reason: why the task did not run.
        error: the exception that it raised, as a `TaskError`, or None.
        source: `"run"`, or `"cache"` if its result was cached.
        why: for a task with a cache, where the result came from, or why the task ran; for a task that ran again in a
            resumed run, why its recorded result was out of date.
    """

    __slots__ = ("_load", "attempts", "duration", "error", "name", "reason", "source", "started", "state", "why")
    name: str
    state: str
    attempts: int
    started: datetime | None
    duration: float | None
    reason: str
    error: TaskError | None
    source: str
    why: str
    _load: Callable[[], Any] | None

    def result(self) -> Any:
        """Return the result of the task, a new object at each call.

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
