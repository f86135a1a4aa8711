"""DAG: tasks wired with ``>>``."""

from __future__ import annotations

import sys

from . import discovery
from ._typing import TYPE_CHECKING
from .errors import BindingError, shown
from .graph import Graph
from .pipeline import Pipeline
from .task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._typing import Any

    AnyTask = Task[..., Any]


class DAG(Pipeline):
    """A pipeline of tasks that were wired with ``>>``.

    Which tasks it has:

    * ``DAG("etl", tasks=[load])``: those, and everything upstream of them;
    * ``with DAG("etl") as etl:``: the tasks defined or wired in the block, and everything upstream of them;
    * ``DAG("etl")``: the tasks of the module or function where this is written, and everything wired to them. They are
      looked up at each run, so a notebook can go on adding tasks.

    Args:
        name: name of the pipeline.
        max_workers: how many workers an executor named in ``run()`` uses at most, at least 1; None leaves that to it.
        tasks: the tasks to run, with all upstream of them; None leaves it to discovery.

    Raises:
        TypeError: something in ``tasks`` is no task, or a type is wrong.
        ValueError: ``max_workers`` is less than 1.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def extract(): return [1, 2, 3]
        >>> @task
        ... def load(rows): return f"{len(rows)} rows"
        >>> _ = extract >> load
        >>> DAG("etl", tasks=[load]).run()
        {'extract': [1, 2, 3], 'load': '3 rows'}
    """

    def __init__(
        self, name: str = "workflow", max_workers: int | None = None, *, tasks: Iterable[AnyTask] | None = None
    ) -> None:
        super().__init__(name, max_workers)
        self._tasks: list[AnyTask] | None = None if tasks is None else _checked(name, tasks)
        self._block: discovery.Block | None = None
        self._collecting: list[discovery.collecting] = []
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is self:
            frame = frame.f_back  # the constructor of a subclass
        self._scope = discovery.here(frame)
        self._cached: tuple[object, Graph] | None = None

    def __enter__(self) -> DAG:
        if self._block is None:
            self._block = discovery.Block()
        block = discovery.collecting(self._block)
        block.__enter__()
        self._collecting.append(block)
        return self

    def __exit__(self, *error: object) -> None:
        self._collecting.pop().__exit__(*error)

    @property
    def tasks(self) -> tuple[AnyTask, ...]:
        """The tasks that a run started now would have, in order of declaration."""
        return tuple(self._found())

    def _found(self) -> list[AnyTask]:
        if self._block is not None:
            named = discovery.current([*(self._tasks or ()), *self._block.tasks])
            return discovery.upstream_closure(named, self._block)
        if self._tasks is not None:
            return discovery.upstream_closure(self._tasks)
        return discovery.discovered(self._scope)

    def graph(self) -> Graph:
        """Return the graph as it stands now: checked, bound, immutable.

        Raises:
            DAGCycleError: tasks wait for each other in a circle.
            DuplicateTaskError: two tasks have one name.
            BindingError: results and parameters do not fit.
        """
        version = discovery.version()
        if self._cached is None or self._cached[0] is not version or self._cached[1].name != self.name:
            tasks = self._found()
            for task in self._tasks or ():
                if task._bereft:
                    raise BindingError(_bereft(self.name, task.name), task.name)
            discovery.warn_of_other_calls(self._scope, tasks)
            place = {task: index for index, task in enumerate(tasks)}
            block = self._block
            upstream = [[place[one] for one in discovery.sources(task, block) if one in place] for task in tasks]
            self._cached = version, Graph(self.name, tasks, upstream)
        return self._cached[1]


def _bereft(pipeline: str, task: str) -> str:
    return (
        f"task {task!r}, which DAG({pipeline!r}, tasks=...) names, was defined again since, and its upstreams went "
        "with that: make the DAG anew, from the new task; or, where both are meant, give them names of their own, or "
        "make each pipeline in a call of a function"
    )


def _checked(name: str, tasks: Any) -> list[AnyTask]:
    if isinstance(tasks, Task) or not hasattr(tasks, "__iter__"):
        raise TypeError(f"DAG({name!r}, tasks=...) is {shown(tasks)}, but must be a list of tasks: write tasks=[...]")
    checked = list(tasks)
    for position, item in enumerate(checked):
        if not isinstance(item, Task):
            raise TypeError(
                f"item {position} of DAG({name!r}, tasks=...) is {shown(item)}, of type {type(item).__name__}, not a "
                f"task: decorate a function with @task"
            )
    return checked
