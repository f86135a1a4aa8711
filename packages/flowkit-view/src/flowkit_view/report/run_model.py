"""Classes `RunModel`, `TaskModel`, `AttemptModel` and `ElementModel`: what a report shows of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ESTIMATED = 100
"""Number of mapped tasks by which the number of workers is estimated."""
STATES = ("succeeded", "failed", "running", "skipped", "upstream_failed", "cancelled", "pending")


@dataclass(slots=True)
class AttemptModel:
    """One attempt at a task. Times are in seconds since the epoch.

    Attributes:
        started: when the call started.
        ended: when it ended; the time of the report if it is running.
        ready: when the task could have started, or None if that is not known.
        worker: name of the worker, or "" if that is not known.
        outcome: "succeeded", "failed" or "running".
        execution: number of the execution of the run, from 1.
        error: type and message of its exception, or "".
    """

    started: float
    ended: float
    ready: float | None = None
    worker: str = ""
    outcome: str = "succeeded"
    execution: int = 1
    error: str = ""

    @property
    def seconds(self) -> float:
        """Duration of the call."""
        return max(0.0, self.ended - self.started)

    @property
    def waited(self) -> float:
        """Seconds for which the task waited for a worker."""
        return 0.0 if self.ready is None else max(0.0, self.started - self.ready)


@dataclass(slots=True)
class ElementModel:
    """One element of a mapped task that a report shows: it has failed, or is one of the slowest.

    Attributes:
        number: its number.
        label: its label, or "".
        state: "succeeded" or "failed".
        seconds: how long its last attempt took.
        attempts: number of attempts.
        error: type and message of its exception, or "".
        traceback: its traceback, or "".
    """

    number: int
    label: str = ""
    state: str = "succeeded"
    seconds: float = 0.0
    attempts: int = 1
    error: str = ""
    traceback: str = ""


@dataclass(slots=True)
class TaskModel:
    """One task of a run.

    Attributes:
        name: its name.
        upstream: indices of the tasks that it waits for, each smaller than its own.
        state: one of `STATES`.
        attempts: in order.
        reason: why it did not run, or why it ran although a result was recorded or cached.
        source: "run", "cache", or "resume".
        error: type and message of its exception, or "".
        traceback: its traceback, or "".
        location: file and line where it was raised, or "".
        elements: how many elements of a mapped task are in each state, as a text, or "".
        history: seconds that it took in earlier runs, the oldest first.
        spans: number of each called element of a mapped task -> seconds that its last attempt took.
        retried: number of each element that was retried -> for each attempt the seconds of the wait before it, and its
            own.
        busy: start and end of the time in which its elements were called, and the seconds of all calls; for each
            execution that called some.
        progress: time, and number of elements that had ended then; in the order of time.
        failed: the first failed elements.
        slowest: the slowest elements, the slowest first.
        cpu: CPU time of the threads that called it, in seconds, or None if that is not known.
        is_async: whether it is a mapped task whose elements are coroutines.
        limited: whether it names pools, or is mapped with a limit.
    """

    name: str
    upstream: tuple[int, ...] = ()
    state: str = "pending"
    attempts: list[AttemptModel] = field(default_factory=list)
    reason: str = ""
    source: str = "run"
    error: str = ""
    traceback: str = ""
    location: str = ""
    elements: str = ""
    history: tuple[float, ...] = ()
    spans: dict[int, float] = field(default_factory=dict)
    retried: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    busy: list[tuple[float, float, float]] = field(default_factory=list)
    progress: list[tuple[float, int]] = field(default_factory=list)
    failed: list[ElementModel] = field(default_factory=list)
    slowest: list[ElementModel] = field(default_factory=list)
    cpu: float | None = None
    is_async: bool = False
    limited: bool = False

    @property
    def waited(self) -> float:
        """Seconds for which its attempts waited for a worker."""
        return sum([attempt.waited for attempt in self.attempts])

    @property
    def took(self) -> float | None:
        """Seconds of its last attempt, or None if it was not called."""
        return self.attempts[-1].seconds if self.attempts else None

    def explanation(self, location: str = "") -> str:
        """Return its exception, or else why it did not run or ran again; and those of up to 3 earlier attempts.

        Args:
            location: file and line of the exception, which are added to it; empty for none.
        """
        last = self.error or self.reason
        return "; ".join(filter(None, (f"{last} ({location})" if location else last, *self.earlier_failures[-3:])))

    @property
    def earlier_failures(self) -> list[str]:
        """For each attempt that failed with another exception than the task its number and its exception."""
        failed = [(number, attempt.error) for number, attempt in enumerate(self.attempts, 1) if attempt.error]
        return [f"attempt {number} failed: {error}" for number, error in failed if error != self.error]

    def element_seconds(self, numbers: Iterable[int]) -> float:
        """Return the seconds of all attempts at some elements, without the waits for retries."""
        return sum(seconds for number in numbers for _, seconds in self.element_work(number))

    def element_work(self, number: int) -> list[tuple[float, float]]:
        """Return for each attempt at an element the wait for the retry, and its duration; empty if there was none."""
        if number in self.retried:
            return self.retried[number]
        return [(0.0, self.spans[number])] if number in self.spans else []

    def work(self) -> list[tuple[float, float]]:
        """Return for each attempt of the last execution that called it the wait for the retry, and its duration."""
        parts: list[tuple[float, float]] = []
        before: AttemptModel | None = None
        for attempt in self.attempts:
            if attempt.execution != self.attempts[-1].execution:
                continue
            delay = 0.0
            if before is not None:
                ready = attempt.started if attempt.ready is None else attempt.ready
                delay = max(0.0, ready - before.ended)
            parts.append((delay, attempt.seconds))
            before = attempt
        return parts


@dataclass(slots=True)
class ExecutionModel:
    """One execution of a run.

    Attributes:
        started: when it started, in seconds since the epoch.
        ended: when it ended, or when the report was made.
        outcome: "running", "succeeded", "failed" or "interrupted".
        where: process and machine, or "".
    """

    started: float
    ended: float
    outcome: str
    where: str = ""


@dataclass(slots=True)
class RunModel:
    """A run.

    Attributes:
        pipeline: name of the pipeline.
        run_id: id of the run.
        status: "running", "succeeded", "failed" or "interrupted".
        executions: the first start and each resume.
        tasks: in topological order.
        params: name -> text of each run parameter.
        cpu: CPU time of the process during the last execution, in seconds, or None if that is not known.
        executor: name of the executor of the last execution, or "" if that is not known.
        python: version of Python of that execution, or "" if that is not known.
        error: type and message of the exception of the run, or "".
        parent: id of the run that it was started from, or "".
        changes: what is different from the run before.
        previous: id of that run, or "".
        previous_text: when that run started, and how it ended, or "".
    """

    pipeline: str
    run_id: str
    status: str
    executions: list[ExecutionModel]
    tasks: list[TaskModel]
    params: dict[str, str] = field(default_factory=dict)
    executor: str = ""
    python: str = ""
    cpu: float | None = None
    error: str = ""
    parent: str = ""
    changes: list[str] = field(default_factory=list)
    previous: str = ""
    previous_text: str = ""

    @property
    def seconds(self) -> float:
        """Seconds that its executions took."""
        return sum(max(0.0, each.ended - each.started) for each in self.executions)

    def counts(self) -> dict[str, int]:
        """Return the number of tasks in each state that occurs, in the order of `STATES`."""
        states = [task.state for task in self.tasks]
        return {state: states.count(state) for state in STATES if state in states}

    def position(self, attempt: AttemptModel) -> float:
        """Return the seconds of the executions until an attempt started, without the time between them."""
        if not self.executions:
            return 0.0
        number = min(max(attempt.execution, 1), len(self.executions)) - 1
        before = sum(max(0.0, each.ended - each.started) for each in self.executions[:number])
        return before + attempt.started - self.executions[number].started

    def workers_used(self) -> int:
        """Return the number of workers; those of mapped tasks are estimated by how many elements ran at a time."""
        attempts = [attempt for task in self.tasks if not task.elements for attempt in task.attempts]
        names: dict[int, set[str]] = {}  # by execution
        for attempt in attempts:
            names.setdefault(attempt.execution, set()).add(attempt.worker)
        used = max(map(len, names.values()), default=0)
        busy = [part for task in self.tasks for part in task.busy][:MAX_ESTIMATED]
        for start, end, _ in busy:
            seconds = sum(each[2] * _overlap(start, end, each) for each in busy)
            used = max(used, ceil(seconds / (end - start) - 0.1))
        return used

    def has_overlaps(self) -> bool:
        """Return whether a worker made calls at the same time, as an event loop does: then it is not one worker."""
        if any(task.is_async and len(task.spans) > 1 for task in self.tasks):
            return True
        spans: dict[str, tuple[float, float, float]] = {}  # first start, last end, and sum of the durations
        for task in self.tasks:
            for attempt in () if task.elements else task.attempts:
                first, last, total = spans.get(attempt.worker, (attempt.started, attempt.ended, 0.0))
                span = min(first, attempt.started), max(last, attempt.ended), total + attempt.seconds
                spans[attempt.worker] = span
        return any(total > (last - first) * 1.05 + 0.001 for first, last, total in spans.values())


def _overlap(start: float, end: float, busy: tuple[float, float, float]) -> float:
    """Return the part of the time in which elements were called that is in another time."""
    both = min(end, busy[1]) - max(start, busy[0])
    return max(0.0, both) / (busy[1] - busy[0])


def location_of(traceback: str) -> str:
    r"""Return file and line of the last frame of a traceback, or "".

    Examples:
        >>> location_of('Traceback (most recent call last):\n  File "etl.py", line 3, in load\nValueError: no')
        'etl.py:3'
    """
    start = traceback.rfind('\n  File "')
    if start < 0:
        return ""
    file, quote, rest = traceback[start + len('\n  File "') :].partition('", line ')
    number = rest.split(",", 1)[0].split("\n", 1)[0].strip()
    return f"{file}:{number}" if quote and number.isdecimal() else ""
