"""Class `LimitChecker`: checks the history of a simulated run against the rules of pools, rates and priorities.

It counts itself which tasks hold slots and which wait, and uses no code of `Admission`.
"""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.limits.errors import PoolBlockedError
from flowkit_core.runs.limits.rate import Rate

from .history import ENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node

    from .history import Record

_CLEANUP = ("all_done", "one_failed", "all_failed")
_TOLERANCE = 1e-6  # seconds
_MANY = 1_000_000


def home_of(node: Node) -> str:
    """Return the name of the executor of a node in a simulation."""
    return node.task.executor or ("async" if node.task.is_async else "default")


class _Holder:
    """A task that holds slots.

    Attributes:
        running: its running attempt; 0 if there is none.
        abandoned: its attempts that were abandoned and go on.
    """

    __slots__ = ("abandoned", "running")

    def __init__(self) -> None:
        self.running = 0
        self.abandoned: set[int] = set()


class LimitChecker:
    """Checks one history, record by record.

    Args:
        graph: the graph.
        pools: name of a pool -> number of slots, or a `Rate`.
        workers: number of workers of each executor, or a mapping of names to these.
        heads: name of a mapped task -> the first node of its chain.
        report: takes a problem.
    """

    def __init__(
        self,
        graph: Graph,
        pools: Mapping[str, int | Rate],
        workers: Any,
        heads: Mapping[str, Node],
        report: Callable[[str], None],
    ) -> None:
        self._graph = graph
        self._pools = pools
        self._workers = workers
        self._report = report
        self._heads = heads
        self._nodes: dict[str, tuple[Node, int]] = {node.name: (node, -1) for node in graph.nodes}
        self._heights = graph.heights() if graph.pooled else ()
        self._used = dict.fromkeys(pools, 0)
        self._starts: dict[str, list[float]] = {name: [] for name, size in pools.items() if isinstance(size, Rate)}
        self._holders: dict[str, _Holder] = {}
        self._waiting: dict[str, float] = {}  # task -> since when
        self._returned: set[str] = set()  # those of them that were passed to their executors again
        self._running: dict[str, set[tuple[str, int]]] = {}  # executor -> attempts that occupy its workers
        self._given_up: dict[tuple[str, int], bool] = {}  # attempt that was given up -> whether it goes on
        self._ready: dict[str, dict[str, int]] = {}  # executor -> tasks that are in its queue -> priority
        self._time = 0.0
        self._is_running = True  # whether the run has not been stopped

    def waits(self, task: str) -> bool:
        """Return whether a task waits for a pool."""
        return task in self._waiting

    def replay(self, record: Record, *, is_running: bool) -> None:
        """Check one record.

        Args:
            record: the record.
            is_running: whether the run has not been stopped.
        """
        if is_running and record.time > self._time + _TOLERANCE:
            self._check_idle(record.time)
        self._time = record.time
        self._is_running = is_running
        if not record.task:
            return
        task, what = record.name, record.what
        if record.element is not None:
            self._nodes[task] = self._graph[record.task], record.element
        home = home_of(self._graph[record.task])
        if what == "ready":
            if task in self._returned:
                self._report("it was passed to its executor twice")
            if task in self._waiting:
                self._returned.add(task)
            self._ready.setdefault(home, {})[task] = self._nodes[task][0].task.priority
        elif what == "waiting":
            if task in self._holders and not self._starts.keys() & self._needs(task).keys():
                self._report("it waits, although an abandoned attempt of it holds its slots")
            self._waiting.setdefault(task, record.time)
            self._returned.discard(task)
            self._ready.get(home, {}).pop(task, None)
        elif what == "expanded":
            self._ready.get(home, {}).pop(task, None)
        elif what == "started":
            self._start(record, home)
        elif what == "timed_out":
            self._given_up[task, record.attempt] = bool(record._data)
            self._running.get(home, set()).discard((task, record.attempt))
        elif what in ENDS or what in ("retrying", "ignored"):
            self._end(record, home)

    def _start(self, record: Record, home: str) -> None:
        task, needs = record.name, self._needs(record.name)
        ready = self._ready.get(home, {})
        ready.pop(task, None)
        for other, priority in ready.items():
            if priority > self._nodes[task][0].task.priority:
                self._report(f"it started before {other!r}, which was ready and has a higher priority")
        self._running.setdefault(home, set()).add((task, record.attempt))
        if not needs:
            return
        waiting = [each for each in self._waiting if self._is_running or self._node(each).task.trigger in _CLEANUP]
        if task not in self._fitting([*waiting, task], record.time):
            self._report("it started, although tasks that come first wait for one of its pools, or it does not fit")
        self._waiting.pop(task, None)
        self._returned.discard(task)
        if task not in self._holders:
            self._holders[task] = _Holder()
            for pool, amount in needs.items():
                self._used[pool] += amount
        self._holders[task].running = record.attempt
        for pool, amount in needs.items():
            size = self._pools[pool]
            if isinstance(size, Rate):
                self._starts[pool] += [record.time] * amount
                recent = [time for time in self._starts[pool] if time > record.time - size.per + _TOLERANCE]
                if len(recent) > size.count:
                    self._report(f"{len(recent)} starts in {size.per} s exceed the rate of pool {pool!r}")
            elif self._used[pool] > size:
                self._report(f"{self._used[pool]} slots of pool {pool!r} are taken, which has {size}")

    def _node(self, task: str) -> Node:
        return self._nodes[task][0]

    def _needs(self, task: str) -> Mapping[str, int]:
        """Return the slots that a task, or an element, needs; a mapped task as a whole needs none."""
        node, element = self._nodes[task]
        return {} if node.task.pool is None or (node.mapped is not None and element < 0) else node.task.pool

    def _rank(self, task: str) -> tuple[int, ...]:
        """Return the place of a task, or an element, among those that wait; see the rule of pools."""
        node, element = self._nodes[task]
        first = node if element < 0 else self._heads.get(node.name, node)
        height = self._heights[first.index]
        return -node.task.priority, -height, first.task.pool is None, first.index, element, node.index

    def _wanted(self, task: str) -> set[str]:
        """Return the pools that a waiting task needs."""
        needs = set(self._needs(task))
        return needs & self._starts.keys() if task in self._holders else needs

    def _end(self, record: Record, home: str) -> None:
        task, attempt = record.name, record.attempt
        self._ready.get(home, {}).pop(task, None)
        self._running.get(home, set()).discard((task, attempt))
        if record.what in ENDS:
            error = getattr(record._data, "error", None)
            if record.what == "failed" and isinstance(error, PoolBlockedError) and self._needs(task):
                self._check_blocked(task, error)
            self._waiting.pop(task, None)
            self._returned.discard(task)
        holder = self._holders.get(task)
        if holder is None:
            return
        goes_on = self._given_up.get((task, attempt), getattr(record._data, "goes_on", False))
        if record.what == "ignored":
            holder.abandoned.discard(attempt)
        elif holder.running == attempt and goes_on:
            holder.abandoned.add(attempt)
        if holder.running == attempt:
            holder.running = 0
        if not (holder.running or holder.abandoned):
            del self._holders[task]
            for pool, amount in self._needs(task).items():
                self._used[pool] -= amount

    def _check_blocked(self, task: str, error: PoolBlockedError) -> None:
        pool, timeout = error.pool, self._node(task).task.timeout
        held = sum(self._needs(other).get(pool, 0) for other, each in self._holders.items() if not each.running)
        if self._pools[pool] - held >= self._needs(task)[pool]:  # type: ignore[operator]
            self._report(f"it failed with {error}, but abandoned attempts hold only {held} slots")
        if timeout is not None and self._time < self._waiting.get(task, self._time) + timeout - _TOLERANCE:
            self._report(f"it failed with {error}, but has not waited as long as its timeout")

    def _check_idle(self, until: float) -> None:
        """Check that no task waits until a time that could start before, by the rule of pools."""
        idle = {home: self._idle_workers(home) for home in set(map(home_of, self._graph))}
        for task in self._fitting(self._waiting, until - 2 * _TOLERANCE) if self._waiting else ():
            home = home_of(self._node(task))
            if idle[home] > 0:
                self._report(f"{task!r} could have started before, but waits for {', '.join(self._needs(task))}")
            idle[home] -= 1

    def _fitting(self, tasks: Iterable[str], now: float) -> list[str]:
        """Return those of some tasks that may start, by the rule of pools: in order of rank, until one does not fit."""
        free = {pool: size - self._used[pool] for pool, size in self._pools.items() if not isinstance(size, Rate)}
        for pool, times in self._starts.items():
            rate: Any = self._pools[pool]
            free[pool] = rate.count - sum(time + rate.per > now + _TOLERANCE for time in times)
        fitting: list[str] = []
        blocked: set[str] = set()
        for task in sorted(set(tasks), key=self._rank):
            amounts = {pool: self._needs(task)[pool] for pool in self._wanted(task)}
            if blocked.isdisjoint(amounts) and all(free[pool] >= amount for pool, amount in amounts.items()):
                fitting.append(task)
                for pool, amount in amounts.items():
                    free[pool] -= amount
            else:
                blocked.update(amounts)
        return fitting

    def _idle_workers(self, home: str) -> int:
        given = self._workers
        workers = given.get(home) if hasattr(given, "keys") else None if home == "async" else given
        return (workers or (_MANY if home == "async" else 3)) - len(self._running.get(home, ()))
