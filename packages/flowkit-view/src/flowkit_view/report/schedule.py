"""Class `Schedule`: critical path, slack, and the duration that a run would have with another number of workers."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from flowkit_core._text import counted
from flowkit_view.texts import duration_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .run_model import TaskModel

    _Parts = Sequence[tuple[float, float]]
    """The attempts of a call: for each the seconds of the wait before it, and those of the attempt."""

GAIN = 0.05
"""Fraction of the duration of the run that another number of workers must save to be mentioned."""
MAX_NAMED = 8
"""Number of tasks of the critical path that a sentence names: those that take longest."""
MAX_CALLS = 2000
"""Number of elements of a mapped task from which consecutive ones are scheduled as one call."""


class Schedule:
    """The recorded work of a run, to be scheduled again.

    The elements of a mapped task are calls of their own, which need a worker each. Elements of mapped tasks in a chain
    go through all tasks of the chain one after the other, as in a run.

    Args:
        tasks: the tasks, in topological order.

    Attributes:
        work: for each task the seconds from its first start to its end, without waits for a worker.
        path: indices of the tasks on the critical path: the chain that bounds the duration with any number of workers.
        seconds: how long the critical path takes, retries and the waits for them included.
        limited: names of the called tasks that pools or limits of maps limit, which are not counted.
        slack: for each task the seconds by which it may take longer without a longer run, if there are enough workers.
    """

    def __init__(self, tasks: Sequence[TaskModel]) -> None:
        self._upstream = [task.upstream for task in tasks]
        self._parts = [task.work() for task in tasks]
        self.work = [sum([delay + seconds for delay, seconds in parts]) for parts in self._parts]
        self._calls: dict[int, list[_Parts]] = {}  # of the elements of a mapped task and of the chain after it
        for head, chain in _chains(tasks).items():
            for source in tasks[head].upstream:
                self._shorten(source, tasks[source], tasks[head])
            calls = {
                number: _joined([tasks[index].element_work(number) for index in chain]) for number in tasks[head].spans
            }
            longest_element = max(calls, key=lambda number: _total(calls[number]))
            for index in chain:
                self.work[index] = _total(tasks[index].element_work(longest_element))
                self._parts[index] = []
            self._calls[head] = _bundled([*calls.values()])
            self._parts[head] = [(0.0, self.work[head])]
        self._count = sum([len(self._calls.get(index, "1")) for index in range(len(tasks))])
        self._downstream: list[list[int]] = [[] for _ in tasks]
        ends: list[float] = []
        longest: list[int] = []
        for index, sources in enumerate(self._upstream):
            before = max(sources, key=ends.__getitem__, default=-1)
            longest.append(before)
            ends.append(self.work[index] + (ends[before] if before >= 0 else 0.0))
            for source in sources:
                self._downstream[source].append(index)
        after = [0.0] * len(tasks)  # seconds from the end of each task to the end of the run
        self._heights = [1] * len(tasks)
        for index in range(len(tasks) - 1, -1, -1):
            height, rest = self._heights[index] + 1, after[index] + self.work[index]
            for source in self._upstream[index]:
                self._heights[source] = max(self._heights[source], height)
                after[source] = max(after[source], rest)
        self.seconds = max(ends, default=0.0)
        at = ends.index(self.seconds) if self.seconds > 0 else -1
        path = []
        while at >= 0:
            path.append(at)
            at = longest[at]
        self.path = tuple([index for index in reversed(path) if self._parts[index] or tasks[index].spans])
        self.slack = [max(0.0, self.seconds - end - rest) for end, rest in zip(ends, after, strict=True)]
        self._predicted: dict[int, float] = {}
        self._names = [task.name for task in tasks]
        self.limited = [task.name for task in tasks if task.limited and task.attempts]

    def path_text(self, seconds: float, executions: int = 1) -> str:
        """Return the critical path in a sentence; a long one is shortened to its longest tasks.

        Args:
            seconds: the duration of all executions of the run.
            executions: their number.
        """
        path, work = self.path, self.work
        if not path:
            return ""
        longest = sorted(path, key=lambda index: -work[index])[:MAX_NAMED]
        names = [f"{self._names[index]} ({duration_text(work[index])})" for index in path if index in longest]
        left_out = len(path) - len(names)
        rest = f", and {counted(left_out, 'shorter task')} between them," if left_out else ""
        verb = "take" if len(path) > 1 else "takes"
        total = duration_text(seconds) + (f" in {executions} executions" if executions > 1 else "")
        return f"{' → '.join(names)}{rest} {verb} {duration_text(self.seconds)} of {total}."

    def limits_text(self) -> str:
        """Return that limits are not counted, in a sentence; or "" if the run had none."""
        if not self.limited:
            return ""
        names = ", ".join(self.limited[:MAX_NAMED]) + (", ..." if len(self.limited) > MAX_NAMED else "")
        verb = "are" if len(self.limited) > 1 else "is"
        return (
            f"The path and the slack do not count the limits of pools and of map(limit=...), and {names} {verb} "
            "limited: what more workers would do is not predicted."
        )

    def _shorten(self, index: int, source: TaskModel, mapped: TaskModel) -> None:
        """Count of a task whose iterator was pulled while the elements ran only the time before they started."""
        if source.elements or not source.attempts or not mapped.attempts:
            return
        call, start = source.attempts[-1], mapped.attempts[-1].started
        if call.started < start < call.ended:
            self._parts[index][-1] = (self._parts[index][-1][0], start - call.started)
            self.work[index] = sum([delay + seconds for delay, seconds in self._parts[index]])

    def predict(self, workers: int) -> float:
        """Return the seconds that the recorded work would take with a number of workers, 1 or more.

        The tasks are started as the executors do it: when their upstreams have ended, those with the longest chain of
        tasks behind them first. A task that waits for a retry holds no worker. The time between tasks is not counted.
        """
        if workers not in self._predicted:
            work = _Simulation(self._parts, self._calls, self._upstream, self._downstream, self._heights, workers)
            self._predicted[workers] = work.run()
        return self._predicted[workers]

    def least_workers(self, used: int, seconds: float) -> int:
        """Return the least number of workers with which the run is predicted to take no longer than it did.

        It is at least the number that is known, and at most twice that.

        Args:
            used: number of workers that are known; 0 if no task was called.
            seconds: the duration of the run.
        """
        most = min(used * 2, self._count)
        while used and used < most and self.predict(used) > seconds * (1 + GAIN):
            used += 1
        return used

    def worker_table(self, used: int) -> list[tuple[int, float]]:
        """Return the predicted duration for 1, 2, 4, ... workers, for the number used, and for the least that suffices.

        Args:
            used: number of workers of the run.
        """
        if self.seconds <= 0:
            return []
        count = 1
        while self.predict(count) > self.seconds * 1.01 and count < self._count:
            count *= 2
        best, low = self.predict(count), count // 2
        while count - low > 1:  # the least number that is nearly as fast
            middle = (low + count) // 2
            low, count = (low, middle) if self.predict(middle) <= best * (1 + GAIN) else (middle, count)
        counts = {max(1, used), count, *(1 << power for power in range(count.bit_length() + 1))}
        return [(each, self.predict(each)) for each in sorted(counts) if each in self._predicted or each == used]

    def advice(self, used: int, seconds: float) -> str:
        """Return a sentence about what other numbers of workers would do to the duration of a run.

        Args:
            used: number of workers of the run.
            seconds: its duration.
        """
        table = self.worker_table(used)
        if not table:
            return ""
        now = self.predict(max(1, used))
        best = min(each for _, each in table)
        count, predicted = next(pair for pair in table if pair[1] <= best * (1 + GAIN))
        if predicted < now * (1 - GAIN):
            before, after = duration_text(now), duration_text(predicted)
            return f"With {count} workers instead of {max(1, used)}, it would take about {after} instead of {before}."
        if count < used:
            return f"More workers would not make it faster; {count} would do as well as {used}."
        if seconds > now * 1.5:
            of = f"{duration_text(now)} of {duration_text(seconds)}"
            return f"More workers would not make it faster: the tasks need {of}."
        return "More workers would not make it faster."


class _Simulation:
    """A run of recorded work with a number of workers, whose time is simulated.

    Args:
        parts: for each task the attempts of its call; none for a task that was not called.
        calls: index of a mapped task -> the calls of its elements.
        upstream: for each task the indices of its upstreams.
        downstream: for each task the indices of its downstreams.
        heights: for each task the number of tasks on the longest chain from it.
        workers: the number of workers.
    """

    def __init__(
        self,
        parts: Sequence[_Parts],
        calls: Mapping[int, Sequence[_Parts]],
        upstream: Sequence[Sequence[int]],
        downstream: Sequence[Sequence[int]],
        heights: Sequence[int],
        workers: int,
    ) -> None:
        self._parts, self._downstream, self._free = parts, downstream, workers
        self._count = len(parts)
        self._rank = [index - heights[index] * self._count for index in range(self._count)]  # height, then index
        self._is_flat = not any(downstream)  # without edges, a retry is behind all tasks that are ready
        self._retries = 0
        self._missing = [len(sources) for sources in upstream]
        self._attempt = [0] * self._count
        self._waiting = {index: [*reversed(of_task)] for index, of_task in calls.items()}  # elements to be started
        self._active = {index: len(of_task) for index, of_task in calls.items()}  # elements that have not ended
        self._ready: list[int] = []
        # time; whether a retry is due, or else a call ends; the task; and the next attempts at an element
        self._events: list[tuple[float, bool, int, _Parts]] = []
        self._now = 0.0

    def run(self) -> float:
        """Return the seconds until the last call ends."""
        self._enter([index for index, number in enumerate(self._missing) if not number])
        while self._ready or self._events:
            while self._ready and self._free:
                self._start(heappop(self._ready) % self._count)
            self._now, is_due, index, rest = heappop(self._events)
            if is_due:
                self._retry(index, rest)
            else:
                self._end_call(index, rest)
        return self._now

    def _enter(self, indices: list[int]) -> None:
        """Make tasks ready; those that were not called end at once."""
        while indices:
            index = indices.pop()
            if self._parts[index]:
                heappush(self._ready, self._rank[index])
            else:
                indices.extend(self._released(index))

    def _released(self, index: int) -> list[int]:
        """Return the tasks that waited for a task only, which has ended."""
        found = []
        for each in self._downstream[index]:
            self._missing[each] -= 1
            if not self._missing[each]:
                found.append(each)
        return found

    def _start(self, index: int) -> None:
        """Start a call of a ready task on a free worker."""
        self._free -= 1
        rest: _Parts = ()
        if index in self._waiting:
            (_, seconds), *rest = self._waiting[index].pop()
            if self._waiting[index]:
                heappush(self._ready, self._rank[index])
        else:
            seconds = self._parts[index][self._attempt[index]][1]
        heappush(self._events, (self._now + seconds, False, index, rest))

    def _retry(self, index: int, rest: _Parts) -> None:
        """Make a task, or an element of it, ready again."""
        self._retries += 1
        if index not in self._waiting or not self._waiting[index]:
            heappush(self._ready, self._retries * self._count + index if self._is_flat else self._rank[index])
        if rest:
            self._waiting[index].append(rest)

    def _end_call(self, index: int, rest: _Parts) -> None:
        """End a call; its task ends with it, unless it is tried again or other elements run."""
        self._free += 1
        if rest:
            heappush(self._events, (self._now + rest[0][0], True, index, rest))
        elif index in self._active:
            self._active[index] -= 1
            if not self._active[index]:
                self._enter(self._released(index))
        else:
            self._attempt[index] += 1
            if self._attempt[index] < len(self._parts[index]):
                wait = self._parts[index][self._attempt[index]][0]
                heappush(self._events, (self._now + wait, True, index, ()))
            else:
                self._enter(self._released(index))


def _chains(tasks: Sequence[TaskModel]) -> dict[int, list[int]]:
    """Return the chains of mapped tasks whose elements are known: index of the first task -> indices of all of them."""
    heads: dict[int, int] = {}  # index of a mapped task -> that of the first task of its chain
    chains: dict[int, list[int]] = {}
    for index, task in enumerate(tasks):
        if not task.spans:
            continue
        source = task.upstream[0] if len(task.upstream) == 1 else -1
        is_chained = source in heads and task.spans.keys() <= tasks[source].spans.keys()
        heads[index] = heads[source] if is_chained and chains[heads[source]][-1] == source else index
        chains.setdefault(heads[index], []).append(index)
    return chains


def _joined(works: Sequence[_Parts]) -> _Parts:
    """Return the attempts of an element at the tasks of a chain, which are called one after the other."""
    parts: list[tuple[float, float]] = []
    for work in works:
        first, *others = work or [(0.0, 0.0)]
        before = parts.pop() if parts else (0.0, 0.0)
        parts += [(before[0], before[1] + first[1]), *others]
    return parts


def _total(parts: _Parts) -> float:
    return sum([delay + seconds for delay, seconds in parts])


def _bundled(calls: list[_Parts]) -> list[_Parts]:
    """Return the calls of elements; more than `MAX_CALLS` are combined into as many, of the same total duration.

    Of elements that were retried, the calls of the `MAX_CALLS` longest ones are not combined.
    """
    if len(calls) <= MAX_CALLS:
        return calls
    retried = sorted(
        [number for number, call in enumerate(calls) if len(call) > 1], key=lambda each: -_total(calls[each])
    )
    alone = {*retried[:MAX_CALLS]}
    seconds = [sum([part for _, part in call]) for number, call in enumerate(calls) if number not in alone]
    size = -(-len(seconds) // MAX_CALLS)
    bundles: list[_Parts] = [[(0.0, sum(seconds[start : start + size]))] for start in range(0, len(seconds), size or 1)]
    return [*(calls[number] for number in sorted(alone)), *bundles]
