"""What was recorded of runs, for people to look at: `state.runs()`, `state.run(run_id)`, `state.explain()`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any


class _Facts:
    """Facts by name, set once."""

    __slots__ = ()

    def __init__(self, **facts: Any) -> None:
        for name, fact in facts.items():
            setattr(self, name, fact)


class RunRecord(_Facts):
    """One run of a pipeline, as it was recorded.

    Attributes:
        run_id: which run.
        pipeline: name of the pipeline.
        status: `"running"`, `"succeeded"`, `"failed"`, or `"interrupted"`: called off, or its process is gone.
        started: when it began, a datetime in UTC.
        ended: when it ended, or None.
        duration: seconds that it took, those before it was resumed included; None as long as it has not ended.
        resumes: how often it was resumed.
        params: name -> value of the run parameters it was given, as short texts.
        error: what it raised, in words, or None.
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
        """State -> number of tasks in it."""
        found: dict[str, int] = {}
        for task in self.tasks.values():
            found[task.state] = found.get(task.state, 0) + 1
        return found

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in self.counts.items())
        when = f"{self.started:%Y-%m-%d %H:%M:%S}"
        return f"<RunRecord {self.run_id} of {self.pipeline!r}, {when}: {self.status} ({counts or 'no tasks'})>"


class TaskRecord(_Facts):
    """What became of one task in one run.

    Attributes:
        name: its name.
        state: `"succeeded"`, `"failed"`, `"skipped"`, `"upstream_failed"`, `"cancelled"`, or `"pending"`: nothing was
            recorded of it, so it had not ended when the run did, or has not yet.
        attempts: how many attempts it took.
        started: when the last of them began, a datetime in UTC, or None.
        duration: seconds that the last attempt took, or None.
        reason: why it did not run.
        error: what it raised, a `TaskError`, or None.
        source: `"run"`, or `"cache"` where its result was known.
        why: for a task with a cache, where the result came from, or why it ran.
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
        """Return what it returned, made anew at each call.

        Raises:
            LookupError: it did not succeed, so there is none.
            RestoreError: it cannot be made here, for example because its class is not imported.
        """
        if self.state != "succeeded":
            raise LookupError(f"task {self.name!r} has no result: it is {self.state.replace('_', ' ')}.")
        if self._load is None:
            raise LookupError(f"the result of {self.name!r} did not travel with this record: ask its state for it.")
        return self._load()

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {name: getattr(self, name) for name in self.__slots__} | {"_load": None}

    def __repr__(self) -> str:
        took = "" if self.duration is None else f" in {self.duration:.2f} s"
        return f"<TaskRecord {self.name} {self.state}{took}>"


class TaskError(_Facts):
    """What a task raised, in words.

    Attributes:
        type: name of the exception's class, with its module unless that is `builtins`.
        message: its text.
        traceback: the traceback, as Python prints it.
    """

    __slots__ = ("message", "traceback", "type")
    type: str
    message: str
    traceback: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type

    def __repr__(self) -> str:
        return f"<TaskError {self}>"


class Reclaimed(_Facts):
    """What `state.gc()` gave back.

    Attributes:
        runs: how many runs were forgotten.
        files: how many files of large results were deleted.
        bytes: how large they were.
    """

    __slots__ = ("bytes", "files", "runs")
    runs: int
    files: int
    bytes: int

    def __repr__(self) -> str:
        return f"Reclaimed(runs={self.runs}, files={self.files}, bytes={self.bytes})"
