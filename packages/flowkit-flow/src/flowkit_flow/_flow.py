"""The Flow builder.

A flow is a list of stages. Each task of a stage follows every task of the stage before it, so whatever stands in an
earlier stage is an ancestor: that is why a parameter may be named after any of them.
"""

from __future__ import annotations

import sys
from functools import partial

from flowkit_core import DuplicateTaskError, Graph, Pipeline, Task
from flowkit_core.errors import plain, shown
from flowkit_core.failure import counted
from flowkit_core.pipelines.binding import bind_by_name
from flowkit_core.pipelines.calls import user_frame
from flowkit_core.pipelines.discovery import Surroundings
from flowkit_core.pipelines.edges import METHODS
from flowkit_core.pipelines.options import PIPELINE_ALIASES, check_known
from flowkit_core.pipelines.wiring import advice_for, no_task

TYPE_CHECKING = False  # what type checkers take for true; importing typing for it would cost 5 ms
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Never

    from flowkit_core.pipelines.binding import Binding
    from flowkit_core.pipelines.discovery import View
    from flowkit_core.pipelines.parameters import Parameters
    from flowkit_core.pipelines.scopes import Scope


class Flow(Pipeline):
    """A pipeline that is built by chaining: add a task, branch into several, merge them into one.

    A parameter named like any earlier task gets that task's result. If exactly one required parameter and exactly one
    direct upstream remain, the parameter gets the result of that upstream. Edges of ``>>`` are ignored in a flow; edges
    of ``load.after(lock)`` apply if both tasks are in the flow.

    Args:
        name: name of the pipeline.
        max_workers: how many workers an executor named in ``run()`` uses at most, at least 1; None leaves that to it.

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

    def __init__(self, name: str = "flow", max_workers: int | None = None, **unknown: Never) -> None:
        if unknown:
            check_known(f"Flow({shown(name)})", unknown, ("name", "max_workers"), PIPELINE_ALIASES)
        super().__init__(name, max_workers)
        self._surroundings = Surroundings(self, user_frame(sys._getframe(1)))
        self._stages: list[list[Task[..., Any]]] = []
        self._place: dict[str, tuple[int, int]] = {}  # name -> index of the task, index of its stage
        self._tasks: list[Task[..., Any]] = []
        self._built: tuple[dict[int, tuple[int, ...]], Graph] | None = None  # with the order-only edges that it has
        self._view: View | None = None  # the edges that the flow saw when the graph was built
        self._stamp: Any = None

    @property
    def tasks(self) -> tuple[Task[..., Any], ...]:
        """The tasks, in the order in which they were added."""
        return tuple(self._tasks)

    def add(self, task: Task[..., Any]) -> Flow:
        """Add a task after the last one; after an unmerged :meth:`branch`, it follows every branch.

        Args:
            task: the task.

        Returns:
            The flow itself, to go on chaining.

        Raises:
            DuplicateTaskError: the flow has it, or another task of its name, already.
            TypeError: it is no task.
        """
        return self._stage("add", (task,))

    def branch(self, *branch_tasks: Task[..., Any]) -> Flow:
        """Add tasks side by side: each follows the last task, or every branch of an unmerged :meth:`branch` before.

        Args:
            *branch_tasks: one task or more.

        Returns:
            The flow itself, to go on chaining.

        Raises:
            DuplicateTaskError: the flow has one of them, or another task of its name, already.
            TypeError: one is no task.
            ValueError: there is none.
        """
        if not branch_tasks:
            raise ValueError(f"flow {self.name!r}: branch() needs at least one task: write branch(task1, task2)")
        return self._stage("branch", branch_tasks)

    def merge(self, merge_task: Task[..., Any]) -> Flow:
        """Add a task that follows every open branch.

        Args:
            merge_task: the task.

        Returns:
            The flow itself, to go on chaining.

        Raises:
            DuplicateTaskError: the flow has it, or another task of its name, already.
            TypeError: it is no task.
            ValueError: there is nothing yet to merge.
        """
        if not self._stages:
            raise ValueError(f"flow {self.name!r}: there is nothing to merge yet: add() or branch() first")
        return self._stage("merge", (merge_task,))

    def graph(self) -> Graph:
        """Return the current graph: checked, bound, immutable.

        Raises:
            BindingError: a parameter has no source.
            DAGCycleError: an edge of ``after()`` contradicts the order of the stages.
        """
        built = self._built
        if built is not None and built[1].name == self.name and self._stamp == self._stamp_now():
            return built[1]
        view = self._surroundings.edges(None, self._tasks)
        waits = self._waits(view)
        if built is None or built[1].name != self.name or built[0] != waits:
            self._built = built = waits, self._build(waits)
        self._view = view
        self._stamp = self._stamp_now()
        return built[1]

    def _build(self, waits: dict[int, tuple[int, ...]]) -> Graph:
        upstream: list[Sequence[int]] = []
        start = end = 0
        for stage in self._stages:
            upstream += [range(start, end)] * len(stage)
            start, end = end, end + len(stage)
        for index, only in waits.items():
            upstream[index] = [other for other in upstream[index] if other not in only]
        return Graph(self.name, self._tasks, upstream, self._bind, waits=waits, known=self._surroundings.names)

    def _stamp_now(self) -> Any:
        """Return a value that is another one after every change of the edges that the flow sees."""
        return None if self._view is None else (self._surroundings.stamp, self._view.stamp)

    def _waits(self, view: View) -> dict[int, tuple[int, ...]]:
        """Return the order-only edges between tasks of the flow, which ``after()`` has declared."""
        place = {task: index for index, task in enumerate(self._tasks)}
        found = (
            (index, [place[other] for other in view.waits(task) if other in place]) for task, index in place.items()
        )
        return {index: tuple(only) for index, only in found if only}

    def _call_returned(self, scope: Scope, caller: Scope) -> None:
        """Keep the order-only edges of this flow when their call returns to its caller."""
        self._surroundings.edges(None, self._tasks).mark_used(self._tasks)
        self._surroundings.call_returned(scope, caller, self._tasks)

    _SHARED = (*Pipeline._SHARED, "_stages", "_place", "_tasks", "_surroundings", "_built", "_view", "_stamp")

    def __copy__(self) -> Flow:
        copy: Flow = object.__new__(type(self))
        copy.__dict__ |= self.__dict__ | {
            "_stages": [list(stage) for stage in self._stages],
            "_place": dict(self._place),
            "_tasks": list(self._tasks),
        }
        copy._surroundings.add_pipeline(copy)
        return copy

    def _bind(self, task: str, parameters: Parameters, upstream: Mapping[str, int]) -> Binding:
        return bind_by_name(task, parameters, upstream, partial(self._earlier, self._place[task][1]))

    def _earlier(self, stage: int, name: str) -> int | None:
        index, its_stage = self._place.get(name, (0, stage))
        return index if its_stage < stage else None

    def _stage(self, verb: str, tasks: tuple[Any, ...]) -> Flow:
        stage: dict[str, Task[..., Any]] = {}
        for task in tasks:
            if not isinstance(task, Task):
                if isinstance(task, (list, tuple)) and task and all(isinstance(item, Task) for item in task):
                    raise TypeError(f"flow {self.name!r}: {verb}() got a list of tasks: unpack it, branch(*tasks)")
                kind = type(task).__name__
                raise TypeError(
                    f"flow {self.name!r}: {verb}() got {shown(task)}, a {kind}, not a task: {advice_for(task)}"
                )
            if task._origin is METHODS:
                raise TypeError(f"flow {self.name!r}: {verb}() got a method: {no_task(task)}")
            place = self._place.get(task.name)
            other = stage.get(task.name) if place is None else self._tasks[place[0]]
            if other is not None:
                places = (task.place,) if other is task else (other.place, task.place)
                raise DuplicateTaskError(task.name, places, self.name)
            stage[task.name] = task
        for task in tasks:
            task._used = True
            self._place[task.name] = len(self._tasks), len(self._stages)
            self._tasks.append(task)
        self._stages.append(list(tasks))
        self._built = None
        return self

    def __repr__(self) -> str:
        return (
            f"<Flow {plain(self.name)}: {counted(len(self._tasks), 'task')} in {counted(len(self._stages), 'stage')}>"
        )
