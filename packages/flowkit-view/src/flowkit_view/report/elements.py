"""Functions that fill in the elements of a mapped task: from a run that goes on, and from the record of one."""

from __future__ import annotations

from bisect import bisect_right
from heapq import nlargest
from itertools import pairwise
from typing import TYPE_CHECKING

from flowkit_core._text import counts_text

from .run_model import STATES, ElementModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowkit_core.runs.mapping.elements import Elements
    from flowkit_state import ElementsRecord

    from .run_model import TaskModel

SLOWEST = 10
"""Number of the slowest elements of a mapped task that a report lists."""
MAX_FAILED = 100
"""Number of the failed elements of a mapped task that a report lists."""
MAX_POINTS = 400
"""Maximum number of points of the progress of a mapped task."""


def take_elements(
    task: TaskModel, elements: Elements, retries: Mapping[int, Sequence[tuple[float, float]]] | None = None
) -> None:
    """Fill in the elements of a task that is running or has ended, without those that have failed.

    Args:
        task: the task of the report.
        elements: its elements.
        retries: number of each element that was retried -> for each attempt that failed when that was, and the wait
            for the next one.
    """
    task.elements = counts_text(elements.counts, "no elements")
    attempts = elements.attempts
    seconds = {number: each for number, each in enumerate(elements.durations) if attempts[number]}
    states = elements.states
    task.spans = seconds
    for number, failed in (retries or {}).items():
        if number in seconds:  # an attempt is taken to start when the retry is due; the first one, to be like the last
            between = [after - before - delay for (before, delay), (after, _) in pairwise(failed)]
            calls = [seconds[number], *(max(0.0, each) for each in between), seconds[number]]
            delays = [0.0, *(delay for _, delay in failed)]
            task.retried[number] = [*zip(delays, calls, strict=True)]
    if seconds and task.attempts and task.attempts[-1].seconds:
        attempt = task.attempts[-1]
        task.busy = [(attempt.started, attempt.ended, task.element_seconds(seconds))]
    task.slowest = [
        ElementModel(number, state=states[number], seconds=each, attempts=attempts[number])
        for number, each in _longest(seconds)
    ]


def take_recorded_elements(task: TaskModel, elements: ElementsRecord, starts: Sequence[float]) -> None:
    """Fill in the recorded elements of a task.

    Args:
        task: the task of the report.
        elements: the record of its elements.
        starts: when the executions of the run started.
    """
    counts = elements.counts
    task.elements = counts_text({state: counts[state] for state in STATES if state in counts}, "no elements")
    seconds, attempts, labels, states = elements.durations, elements.attempts, elements.labels, elements.states
    task.spans = seconds
    executed: dict[int, list[int]] = {}  # the elements that were called, by the execution in which they have ended
    ended = elements.ended
    for number in sorted(seconds):
        executed.setdefault(max(1, bisect_right(starts, ended[number])), []).append(number)
    for execution, numbers in executed.items():
        begin = next((each.started for each in task.attempts if each.execution == execution), starts[execution - 1])
        task.retried |= _recorded_retries(elements, numbers, begin)
        begin = min(ended[number] - sum(map(sum, task.element_work(number))) for number in numbers)
        end = max(ended[number] for number in numbers)
        if end > begin:
            task.busy.append((begin, end, task.element_seconds(numbers)))
    task.slowest = [
        ElementModel(number, labels.get(number, ""), states[number], each, attempts.get(number, 1))
        for number, each in _longest(seconds)
    ]
    for number, error in list(elements.failed.items())[:MAX_FAILED]:
        times = seconds.get(number, 0.0), attempts.get(number, 1)
        failed = ElementModel(number, labels.get(number, ""), "failed", *times, str(error), error.traceback)
        task.failed.append(failed)
    task.progress = _recorded_progress(sorted(ended.values()))


def _recorded_progress(ends: Sequence[float]) -> list[tuple[float, int]]:
    """Return how many elements had ended at some of the times when one did, the last one included."""
    step = max(1, len(ends) // MAX_POINTS)
    points = [(when, count) for count, when in enumerate(ends, 1)]
    progress = points[step - 1 :: step]
    if points and progress[-1] != points[-1]:
        progress.append(points[-1])
    return progress


def _recorded_retries(
    elements: ElementsRecord, numbers: Sequence[int], begin: float
) -> dict[int, list[tuple[float, float]]]:
    """Return the attempts at the elements that were retried.

    The record has the number of attempts, and the duration and the end of the last one. Elements start in the order of
    their numbers: such an element is taken to start with the next one that was called once, or with the last one before
    it. Each attempt is taken to last as long as the last one, and the rest of the time to be waits of the same length.

    Args:
        elements: the record.
        numbers: the numbers of the elements of one execution, in order.
        begin: when the first of them could start.
    """
    seconds, attempts, ended = elements.durations, elements.attempts, elements.ended
    found: dict[int, list[tuple[float, float]]] = {}
    waiting: list[int] = []  # retried elements whose start is not known yet
    latest = begin
    for number in [*numbers, None]:
        if number is not None and attempts.get(number, 1) > 1:
            waiting.append(number)
            continue
        start = latest if number is None else max(begin, ended[number] - seconds[number])
        for each in waiting:
            last, retries = seconds[each], attempts[each] - 1
            before = max(0.0, ended[each] - last - start)  # the seconds of the attempts and waits before the last one
            call = min(last, before / retries)
            wait = before / retries - call
            found[each] = [(0.0, call), *[(wait, call)] * (retries - 1), (wait, last)]
        waiting.clear()
        latest = max(latest, start)
    return found


def add_progress(task: TaskModel, now: float, count: int) -> None:
    """Note how many elements of a task had ended at a time; of many points, every second one is dropped."""
    task.progress.append((now, count))
    if len(task.progress) > MAX_POINTS:
        del task.progress[1:-1:2]


def density(task: TaskModel, start: float, end: float, slots: int) -> list[float]:
    """Return how many elements of a task ended in each of some equal parts of a time.

    Args:
        task: the task.
        start: begin of the time, in seconds since the epoch.
        end: its end.
        slots: number of parts.
    """
    edges = [_count_at(task.progress, start, start + (end - start) * number / slots) for number in range(slots + 1)]
    return [after - before for before, after in pairwise(edges)]


def _count_at(points: Sequence[tuple[float, int]], start: float, time: float) -> float:
    """Return how many elements had ended at a time, between two points in proportion to the time."""
    low, high = 0, len(points)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if points[middle][0] <= time else (low, middle)
    before = points[low - 1] if low else (start, 0)
    if low == len(points):
        return before[1]
    after = points[low]
    part = (time - before[0]) / (after[0] - before[0]) if after[0] > before[0] else 0.0
    return before[1] + (after[1] - before[1]) * max(0.0, part)


def _longest(seconds: Mapping[int, float]) -> list[tuple[int, float]]:
    return nlargest(SLOWEST, seconds.items(), key=lambda item: item[1])
