"""Class `Flow`: a pipeline as a list of stages.

Every task of a stage depends on all tasks of the previous stage, so all tasks of earlier stages are its ancestors: a
parameter may be named after any of them.
"""

from __future__ import annotations

import sys
from functools import partial

from flowkit_core import DuplicateTaskError, Graph, Mapped, Pipeline, Task
from flowkit_core._text import counted, did_you_mean, escape_control_chars, short_repr
from flowkit_core.graphs.binding import bind_for_flow
from flowkit_core.pipelines.discovery import Surroundings, check_not_replaced
from flowkit_core.pipelines.edges import METHODS
from flowkit_core.pipelines.frames import user_frame
from flowkit_core.pipelines.options import HOOK_OPTIONS, PIPELINE_ALIASES, check_known
from flowkit_core.pipelines.scopes import replacements
from flowkit_core.pipelines.wiring import described_operand, no_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Literal, Never

    from flowkit_core.events import RunFinished, TaskNotRun, TaskRetrying
    from flowkit_core.graphs.binding import Binding
    from flowkit_core.graphs.node_map import MapRequest
    from flowkit_core.graphs.parameters import Parameters
    from flowkit_core.pipelines.edge_view import EdgeView
    from flowkit_core.pipelines.execution.hooks import Hook
    from flowkit_core.pipelines.scopes import Scope
    from flowkit_core.runs.limits.definitions import Pools

    AnyTask = Task[..., Any] | Mapped[..., Any]

_OPTIONS = ("name", "max_workers", "pools", *HOOK_OPTIONS)


class Flow(Pipeline):
    """A pipeline that is built by chaining: add a task, branch into several, merge them into one.

    A parameter named like any earlier task gets that task's result. If exactly one required parameter and exactly one
    direct upstream remain, the parameter gets the result of that upstream. Edges of ``>>`` are ignored in a flow; edges
    of ``load.after(lock)`` apply if both tasks are in the flow.

    Args:
        name: name of the pipeline.
        max_workers: the maximum number of workers of an executor that ``run()`` gets by name, at least 1; None means
            the default of that executor.
        *misplaced: raises TypeError; the message shows how to add tasks.
        pools: name of a pool -> number of slots, or a :class:`Rate`, for tasks with ``pool=...``; ``run(pools=...)``
            overrides these by name.
        on_success: function, or list of functions, that is called with :class:`RunFinished` after a run without
            failures, in the process that called ``run()``; what a hook raises is a warning.
        on_failure: the same after a run that raises an exception, which is ``event.error``.
        on_retry: the same with :class:`TaskRetrying`, for every attempt of a task that will be repeated.
        on_skip: the same with :class:`TaskNotRun`, for every skipped task.
        **unknown: raises TypeError; the message names the option to use instead.

    Raises:
        TypeError: an argument has the wrong type, or an option does not exist.
        ValueError: ``max_workers`` is less than 1.

    Examples:
        >>> from flowkit_core import task
        >>> @task
        ... def user(): return "Ada"
        >>> @task
        ... def orders(): return [17, 4]
        >>> @task
        ... def visits(): return 3
        >>> @task
        ... def profile(user, orders, visits): return f"{user}: {len(orders)} orders, {visits} visits"
        >>> Flow("profile").add(user).branch(orders, visits).merge(profile).run("serial")["profile"]
        'Ada: 2 orders, 3 visits'
    """

    def __init__(
        self,
        name: str = "flow",
        max_workers: int | None = None,
        *misplaced: Never,
        pools: Pools | None = None,
        on_success: Hook[RunFinished] = None,
        on_failure: Hook[RunFinished] = None,
        on_retry: Hook[TaskRetrying] = None,
        on_skip: Hook[TaskNotRun] = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            check_known(f"Flow({short_repr(name)})", unknown, _OPTIONS, PIPELINE_ALIASES)
        super().__init__(
            name,
            max_workers,
            *misplaced,
            pools=pools,
            on_success=on_success,
            on_failure=on_failure,
            on_retry=on_retry,
            on_skip=on_skip,
        )
        self._surroundings = Surroundings(self, user_frame(sys._getframe(1)))
        self._stages: list[list[Task[..., Any]]] = []
        self._positions: dict[str, tuple[int, int]] = {}  # name -> indices of the task and of its stage
        self._tasks: list[Task[..., Any]] = []
        self._views: dict[int, tuple[Mapped[..., Any], tuple[str, ...]]] = {}  # of mapped tasks, and over which tasks
        self._built: tuple[dict[int, tuple[int, ...]], Graph] | None = None  # order edges, graph
        self._view: EdgeView | None = None  # the edges that were visible when the graph was built
        self._stamp: object = None  # changes with what the graph depends on

    @staticmethod
    def _example(name: str, tasks: Sequence[str]) -> str:
        return f"Flow({name!r}){''.join(f'.add({task})' for task in tasks)}"

    @property
    def tasks(self) -> tuple[Task[..., Any], ...]:
        """The tasks, in the order of their addition."""
        return tuple(self._tasks)

    def add(self, task: AnyTask) -> Flow:
        """Add a task that depends on the last one, or on every branch if a :meth:`branch` is open.

        Args:
            task: the task, or a mapped one, ``parse.map()``.

        Returns:
            The flow itself, for chaining.

        Raises:
            DuplicateTaskError: the flow already has this task or another one of the same name.
            TypeError: ``task`` is not a task.

        Examples:
            >>> from flowkit_core import task
            >>> @task
            ... def extract(): return [1, 2, 3]
            >>> @task
            ... def total(rows): return sum(rows)
            >>> Flow("etl").add(extract).add(total).run("serial")
            {'extract': [1, 2, 3], 'total': 6}
        """
        return self._stage("add", (task,))

    def map(
        self,
        task: Task[..., Any],
        over: str | Iterable[str] | None = None,
        *,
        limit: int | None = None,
        errors: Literal["raise", "drop", "return"] = "raise",
        label: Callable[..., object] | None = None,
        chunk: int | None = None,
        **unknown: Never,
    ) -> Flow:
        """Add a task that is called once for each element of a result, in parallel; see :meth:`Task.map`.

        Args:
            task: the task.
            over: name of the earlier task whose result is mapped, or a list of several, which are paired by index; by
                default all results that the task takes from the last task, or from the open branches.
            limit: maximum number of elements that are called at once, 1 or more; None means no limit.
            errors: what happens if an element fails: ``"raise"``, ``"drop"`` or ``"return"``.
            label: function that returns a label for an element, given its mapped values.
            chunk: number of elements that are sent to a worker process at once; None chooses it.
            **unknown: raises TypeError; the message names what to write instead.

        Returns:
            The flow itself, for chaining.

        Raises:
            DuplicateTaskError: the flow already has this task or another one of the same name.
            TypeError: ``task`` is not a task.
            ValueError: ``over`` names a task that is not earlier in the flow, or an option is out of range.

        Examples:
            >>> from flowkit_core import task
            >>> @task
            ... def words(): return ["to", "be"]
            >>> @task
            ... def size(word): return len(word)
            >>> @task
            ... def total(sizes): return sum(sizes)
            >>> Flow("count").add(words).map(size).add(total).run("serial")
            {'words': ['to', 'be'], 'size': [2, 2], 'total': 4}
        """
        given: Any = task
        if isinstance(given, Mapped):
            raise TypeError(f"flow {self.name!r}: map() got {given.name}.map(): write map({given.name}), or add() it")
        if not isinstance(task, Task):
            raise TypeError(f"flow {self.name!r}: map() got {described_operand(task)}")
        names = (over,) if isinstance(over, str) else () if over is None else tuple(over)
        for name in names:
            if name not in self._positions:
                guess = did_you_mean(str(name), self._positions)
                raise ValueError(
                    f"flow {self.name!r}: map({task.name}, over={short_repr(over)}) names {short_repr(name)}, but no "
                    f"earlier task of the flow has this name{guess}"
                )
        view = task.map(limit=limit, errors=errors, label=label, chunk=chunk, **unknown)
        return self._stage("map", (view,), names)

    def branch(self, *branch_tasks: AnyTask) -> Flow:
        """Add parallel tasks: each depends on the last task, or on every branch if a :meth:`branch` is open.

        Args:
            *branch_tasks: one task or more, mapped ones included.

        Returns:
            The flow itself, for chaining.

        Raises:
            DuplicateTaskError: the flow already has one of the tasks or another one of the same name.
            TypeError: an argument is not a task.
            ValueError: there is no argument.

        Examples:
            >>> from flowkit_core import task
            >>> @task
            ... def numbers(): return [1, 2, 3]
            >>> @task
            ... def low(numbers): return min(numbers)
            >>> @task
            ... def high(numbers): return max(numbers)
            >>> Flow("range").add(numbers).branch(low, high).run("serial")
            {'numbers': [1, 2, 3], 'low': 1, 'high': 3}
        """
        if not branch_tasks:
            raise ValueError(f"flow {self.name!r}: branch() needs at least one task: write branch(task1, task2)")
        return self._stage("branch", branch_tasks)

    def merge(self, merge_task: AnyTask) -> Flow:
        """Add a task that depends on every open branch.

        Args:
            merge_task: the task, or a mapped one.

        Returns:
            The flow itself, for chaining.

        Raises:
            DuplicateTaskError: the flow already has this task or another one of the same name.
            TypeError: ``merge_task`` is not a task.
            ValueError: the flow has no tasks.

        Examples:
            >>> from flowkit_core import task
            >>> @task
            ... def north(): return 3
            >>> @task
            ... def south(): return 4
            >>> @task
            ... def total(north, south): return north + south
            >>> Flow("regions").branch(north, south).merge(total).run("serial")
            {'north': 3, 'south': 4, 'total': 7}
        """
        if not self._stages:
            raise ValueError(f"flow {self.name!r}: there is nothing to merge yet: add() or branch() first")
        return self._stage("merge", (merge_task,))

    def graph(self) -> Graph:
        """Return the current graph: checked, bound and immutable.

        Raises:
            BindingError: a parameter has no source.
            DAGCycleError: an edge of ``after()`` contradicts the order of the stages.
            WiringError: a task has been redefined since it was added, or belongs to an open block of a caller.
        """
        built = self._built
        if built is not None and not built[1].is_current:
            built = self._built = None
        if built is not None and built[1].name == self.name and self._stamp == self._stamp_now():
            return built[1]
        self._check_tasks()
        view = self._surroundings.edges(None, self._tasks)
        waits = self._waits(view)
        if built is None or built[1].name != self.name or built[0] != waits:
            self._built = built = waits, self._build(waits)
        self._view = view
        self._stamp = self._stamp_now()
        return built[1]

    def _new_graph(self) -> Graph:
        self._check_tasks()
        return self._build(self._waits(self._surroundings.edges(None, self._tasks)))

    def _check_tasks(self) -> None:
        """Check that no task belongs to a block of a caller, or has been redefined since it was added."""
        self._surroundings.check_block(self.name, self._tasks, None, kind="flow")
        for task in self._tasks if replacements() else ():
            check_not_replaced(self.name, task)

    def _build(self, waits: dict[int, tuple[int, ...]]) -> Graph:
        upstream: list[Sequence[int]] = []
        start = end = 0
        for stage in self._stages:
            upstream += [range(start, end)] * len(stage)
            start, end = end, end + len(stage)
        for index, only in waits.items():
            upstream[index] = [other for other in upstream[index] if other not in only]
        names = self._surroundings.names
        return Graph(
            self.name, self._tasks, upstream, self._bind, waits=waits, mapped=self._requests(upstream), known=names
        )

    def _requests(self, upstream: Sequence[Sequence[int]]) -> dict[int, MapRequest]:
        """Return which inputs of the mapped tasks are mapped; by default those that the previous stage fills."""
        from flowkit_core.graphs.node_map import MapRequest

        requests = {}
        for index, (view, over) in self._views.items():
            sources = [self._positions[name][0] for name in over] if over else upstream[index]
            requests[index] = MapRequest(view.parameters, () if view.parameters else sources, view._options)
        return requests

    def _stamp_now(self) -> object:
        """Return a value that changes with the edges that are visible to the flow."""
        return None if self._view is None else (self._surroundings.stamp(), self._view.stamp(), replacements())

    def _waits(self, view: EdgeView) -> dict[int, tuple[int, ...]]:
        """Return the order edges that ``after()`` has declared between tasks of the flow."""
        index_of = {task: index for index, task in enumerate(self._tasks)}
        waits = (
            (index, [index_of[other] for other in view.waits(task) if other in index_of])
            for task, index in index_of.items()
        )
        return {index: tuple(upstreams) for index, upstreams in waits if upstreams}

    def _members(self) -> Sequence[Task[..., Any]]:
        return self._tasks

    def _call_returned(self, scope: Scope, caller: Scope) -> None:
        """Keep the order edges of this flow when their call returns to its caller."""
        self._surroundings.edges(None, self._tasks).mark_used(self._tasks)
        self._surroundings.call_returned(scope, caller, self._tasks)

    _SHARED = (
        *Pipeline._SHARED,
        "_stages",
        "_positions",
        "_tasks",
        "_views",
        "_surroundings",
        "_built",
        "_view",
        "_stamp",
    )

    def __copy__(self) -> Flow:
        copy: Flow = object.__new__(type(self))
        copy.__dict__ |= self.__dict__ | {
            "_stages": [list(stage) for stage in self._stages],
            "_positions": dict(self._positions),
            "_tasks": list(self._tasks),
            "_views": dict(self._views),
        }
        copy._surroundings.add_pipeline(copy)
        return copy

    def _bind(self, task: str, parameters: Parameters, upstream: Mapping[str, int], names: Sequence[str]) -> Binding:
        index = self._positions[task][0]
        if index in self._views and (over := self._views[index][1]):  # they fill what no name fills
            upstream = {name: names.index(name) for name in over}
        return bind_for_flow(task, parameters, upstream, partial(self._earlier, self._positions[task][1], names))

    def _earlier(self, stage: int, names: Sequence[str], name: str) -> int | None:
        """Return the index of the node of this name if its task is in an earlier stage, or None.

        Nodes are in another order than tasks if ``after()`` has reversed the order of two tasks of a stage.
        """
        index, stage_of_task = self._positions.get(name, (0, stage))
        if stage_of_task >= stage:
            return None
        return index if names[index] == name else names.index(name)

    def _stage(self, verb: str, given: tuple[Any, ...], over: tuple[str, ...] = ()) -> Flow:
        stage: dict[str, Task[..., Any]] = {}
        tasks = tuple([item._use() if isinstance(item, Mapped) else item for item in given])
        for task in tasks:
            if not isinstance(task, Task):
                if isinstance(task, (list, tuple)) and task and all(isinstance(item, (Task, Mapped)) for item in task):
                    raise TypeError(f"flow {self.name!r}: {verb}() got a list of tasks: unpack it, branch(*tasks)")
                raise TypeError(f"flow {self.name!r}: {verb}() got {described_operand(task)}")
            if task._origin is METHODS:
                raise TypeError(f"flow {self.name!r}: {verb}() got a method: {no_task(task)}")
            position = self._positions.get(task.name)
            other = stage.get(task.name) if position is None else self._tasks[position[0]]
            if other is not None:
                places = (task.location,) if other is task else (other.location, task.location)
                raise DuplicateTaskError(task.name, places, self.name)
            stage[task.name] = task
        for task, item in zip(tasks, given, strict=True):
            task._used = True
            if item is not task:
                self._views[len(self._tasks)] = item, over
            self._positions[task.name] = len(self._tasks), len(self._stages)
            self._tasks.append(task)
        self._stages.append(list(tasks))
        self._built = None
        return self

    def __repr__(self) -> str:
        size = f"{counted(len(self._tasks), 'task')} in {counted(len(self._stages), 'stage')}"
        return f"<Flow {escape_control_chars(self.name)}: {size}>"
