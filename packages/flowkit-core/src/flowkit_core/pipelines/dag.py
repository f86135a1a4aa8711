"""Class `DAG`: a pipeline of tasks that are wired with ``>>``."""

from __future__ import annotations

import sys
from _thread import get_ident

from flowkit_core._stack_frames import module_name
from flowkit_core._text import escape_control_chars, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import warn as issue_warning
from flowkit_core.graphs.gc_disabled import GCDisabled
from flowkit_core.graphs.graph import Graph

from . import discovery
from .calls import scope_of, settle
from .discovery_warnings import only_called
from .edge_view import found_in_one_pass, map_requests
from .edges import METHODS
from .frames import CO_GENERATORS, is_constructor_of, user_frame
from .options import HOOK_OPTIONS, PIPELINE_ALIASES, check_known
from .pipeline import Pipeline
from .scopes import Block
from .task import Task
from .wiring import Mapped, Vertex, described_operand, no_task

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from flowkit_core._typing import Any, Never
    from flowkit_core.events import RunFinished, TaskNotRun, TaskRetrying
    from flowkit_core.pipelines.execution.hooks import Hook
    from flowkit_core.runs.limits.definitions import Pools

    from .discovery import Surroundings
    from .edge_view import EdgeView, Found
    from .scopes import Scope

    AnyTask = Task[..., Any]

_OPTIONS = ("name", "max_workers", "tasks", "pools", *HOOK_OPTIONS)


class DAG(Pipeline):
    """A pipeline of tasks that are wired with ``>>``.

    Which tasks it has:

    * ``DAG("etl", tasks=[load])``: those, and everything upstream of them;
    * ``with DAG("etl") as etl:``: the tasks made or wired in the block, and everything upstream of them;
    * ``DAG("etl")`` in a function: what this call of the function has made or wired, itself or by functions that it
      called, and everything wired to that; if that is nothing, the tasks of the module;
    * ``DAG("etl")`` at the top level of a module: what the module has made or wired, and everything wired to that.

    Tasks are looked up at each run, so tasks that are created or wired after the DAG are part of later runs.

    Args:
        name: name of the pipeline.
        max_workers: maximum number of workers of an executor that ``run()`` names, 1 or more; None means the default of
            the executor.
        *misplaced: raises TypeError; the message shows how to give tasks.
        tasks: the tasks to run, mapped ones included, together with everything upstream of them; None means discovery.
        pools: name of a pool -> number of slots, or a :class:`Rate`, for tasks with ``pool=...``; ``run(pools=...)``
            overrides these by name.
        on_success: function, or list of functions, that is called with :class:`RunFinished` after a run without
            failures, in the process that called ``run()``; what a hook raises is a warning.
        on_failure: the same after a run that raises an exception, which is ``event.error``.
        on_retry: the same with :class:`TaskRetrying`, for every attempt of a task that will be repeated.
        on_skip: the same with :class:`TaskNotRun`, for every skipped task.
        **unknown: raises TypeError; the message names the option to use instead.

    Raises:
        TypeError: an item of ``tasks`` is not a task, an argument has the wrong type, or an option does not exist.
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
        self,
        name: str = "workflow",
        max_workers: int | None = None,
        *misplaced: Never,
        tasks: Iterable[AnyTask | Mapped[..., Any]] | None = None,
        pools: Pools | None = None,
        on_success: Hook[RunFinished] = None,
        on_failure: Hook[RunFinished] = None,
        on_retry: Hook[TaskRetrying] = None,
        on_skip: Hook[TaskNotRun] = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            check_known(f"DAG({short_repr(name)})", unknown, _OPTIONS, PIPELINE_ALIASES)
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
        self._views: list[Mapped[..., Any]] = []
        self._tasks: list[AnyTask] | None = None if tasks is None else _checked(name, tasks, self._views)
        self._block: Block | None = None
        frame = user_frame(sys._getframe(1))
        while frame.f_back is not None and is_constructor_of(frame, self):
            frame = frame.f_back
        self._surroundings: Surroundings = discovery.Surroundings(self, frame, is_bare=tasks is None)
        self._built: tuple[Found, Graph] | None = None
        self._view: EdgeView | None = None
        self._stamp: object = None  # changes with what the graph depends on
        self._warned = False
        self._is_empty = False  # whether the last graph had no tasks, which was warned of

    def __enter__(self) -> DAG:
        if self._block is None:
            self._block = Block(self.name, self._surroundings.scope.package)
        self._block.enter(_entering_scope(sys._getframe(1)))
        return self

    def __exit__(self, *error: object) -> None:
        if self._block is not None:
            self._block.leave(_entering_scope(sys._getframe(1)))

    @property
    def tasks(self) -> tuple[AnyTask, ...]:
        """The tasks of a run that is started now, in order of declaration."""
        return tuple(self._find().tasks)

    def graph(self) -> Graph:
        """Return the current graph: checked, bound, immutable.

        The graph is built again only if the tasks, the edges or the name have changed since the last call.

        Raises:
            DAGCycleError: there is a dependency cycle.
            DuplicateTaskError: two tasks have the same name.
            WiringError: two tasks have both a data edge and an order-only edge, or a task was redefined.
            DiscoveryError: the tasks cannot be found: the call that created them is not on the stack.
            BindingError: a parameter has no source, or a result has no parameter.

        Examples:
            >>> from flowkit_core import DAG, Task
            >>> DAG("etl", tasks=[Task(list, name="extract")]).graph().names
            ('extract',)
        """
        built = self._built
        if built is not None and built[1].inlined and not built[1].is_current:
            built = self._built = None
        if built is not None and built[1].name == self.name and self._stamp == self._stamp_now():
            return built[1]
        with GCDisabled():
            return self._build(built)

    def _build(self, built: tuple[Found, Graph] | None) -> Graph:
        found = self._find()
        if built is None or built[1].name != self.name or built[0] != found:
            self._built = built = found, self._graph(found)
        self._stamp = self._stamp_now()
        return built[1]

    def _stamp_now(self) -> object:
        if self._view is None:
            return None
        block = self._block
        return self._surroundings.stamp(), self._view.stamp(), None if block is None else block.stamp()

    def _new_graph(self) -> Graph:
        return self._graph(self._find(is_check=True))

    def _graph(self, found: Found) -> Graph:
        names = self._surroundings.names
        return Graph(self.name, found.tasks, found.upstream, waits=found.waits, mapped=found.mapped, known=names)

    def _find(self, *, is_check: bool = False) -> Found:
        """Find the tasks and edges, and which of them are mapped."""
        found = self._find_tasks(is_check=is_check)
        if found.with_views or self._views:
            position = dict(zip(found.tasks, range(len(found.tasks))))
            found.mapped = map_requests(self.name, position, found.with_views, self._views)
        return found

    def _find_tasks(self, *, is_check: bool) -> Found:
        """Find the tasks and edges; for ``check()``, with all warnings, and without keeping anything."""
        where, block = self._surroundings, self._block
        settle(sys._getframe(1), get_ident())
        if block is None and (view := where.own_edges(self._tasks)) is not None:
            found = found_in_one_pass(where.scope, self._tasks)
            if found is not None:
                if self._tasks is None:
                    where.warn_of_decorators(self.name, found.tasks, of_call=True)
                if not is_check:
                    self._view = view
                view.mark_used(found.tasks)
                return found
        warns = is_check or not self._warned
        upstream, view = self._closure(warn=warns)
        where.check_block(self.name, upstream, block, is_bare=self._tasks is None and block is None)
        view.mark_used(upstream)
        if warns:
            self._warned |= not is_check
            if self._tasks is None:
                where.warn_of_decorators(self.name, upstream)
            if self._tasks is None and block is None and upstream:
                where.warn_of_imported(self.name, upstream)
                if len(upstream) > 1 and all(task._was_called for task in upstream) and not any(upstream.values()):
                    issue_warning(only_called(self.name, list(upstream)), "discovery")
            where.warn_of_edges_elsewhere(self.name, upstream, view)
        if not upstream and self._tasks is None and block is None and (is_check or not self._is_empty):
            where.warn_of_nothing(self.name)
        if not is_check:
            self._view = view
            self._is_empty = not upstream
        return discovery.sorted_and_checked(self.name, upstream, view, downstream=self._tasks is None and block is None)

    def _closure(
        self, *, warn: bool = False, with_inner: bool = False
    ) -> tuple[dict[AnyTask, list[AnyTask]], EdgeView]:
        """Return the tasks with their direct upstreams, and the view of the edges.

        Args:
            warn: whether to warn of tasks that may have been meant.
            with_inner: whether tasks that this pipeline only has because they were created in the same place as a
                pipeline task, which has them, are among them.
        """
        where, block = self._surroundings, self._block
        if self._tasks is not None or block is not None:
            given = [*(self._tasks or ()), *(block.tasks if block is not None else ())]
            view = where.edges(block, given)
            if block is not None:
                given = discovery.without_templates(given, view)
            found = view.closure(given, downstream=False)
            if block is not None and not with_inner and (inner := discovery.inner_tasks(found)):
                own = [*(self._tasks or ()), *(task for task in given if task not in inner)]
                found = view.closure(own, downstream=False)
            return found, view
        roots = where.roots(self.name, warn=warn)
        view = where.edges(None, roots)
        found = view.closure(roots, downstream=True)
        if not with_inner and (inner := discovery.inner_tasks(found)):
            found = view.closure([task for task in roots if task not in inner], downstream=True)
        if any(task._original is not None for task in found):
            found = {task: found[task] for task in discovery.without_templates(found, view)}
        return found, view

    def _with_fixed_tasks(self, name: str) -> DAG:
        if self._tasks is not None or self._block is not None:
            return self
        found, view = self._closure()
        nested = [task for task in found if task._pipeline is not None and task.name == name]
        earlier = [task for task in nested if task._pipeline.name == self.name]
        around = view.closure(earlier, downstream=True)
        tasks = [task for task in found if task not in around] if earlier else self._find().tasks
        view.mark_used(tasks)
        fixed = self.__copy__()
        fixed._tasks, fixed._built, fixed._view, fixed._stamp = list(tasks), None, None, None
        return fixed

    def _members(self) -> Iterable[AnyTask]:
        return self._closure(with_inner=True)[0]

    def _call_returned(self, scope: Scope, caller: Scope) -> None:
        """Mark the tasks and edges of this pipeline as used when one of its calls returns; see scopes.py."""
        built = self._built
        if built is not None and self._stamp == self._stamp_now():
            tasks: Iterable[AnyTask] = built[0].tasks  # marked as used when they were found
        else:
            try:
                tasks, view = self._closure()
            except Exception:  # a later run raises it
                return
            view.mark_used(tasks)
        self._surroundings.call_returned(scope, caller, tasks)

    _SHARED = (
        *Pipeline._SHARED,
        "_tasks",
        "_views",
        "_block",
        "_surroundings",
        "_built",
        "_view",
        "_stamp",
        "_warned",
        "_is_empty",
    )

    def __copy__(self) -> DAG:
        copy: DAG = object.__new__(type(self))
        copy.__dict__ |= self.__dict__
        copy._tasks = None if self._tasks is None else list(self._tasks)
        copy._block = None if self._block is None else self._block.copy()
        copy._surroundings.add_pipeline(copy)
        return copy


_ENTERING = ("__enter__", "__exit__", "__aenter__", "__aexit__")


def _entering_scope(frame: FrameType) -> Scope:
    """Return the scope of the call that enters or leaves a block, skipping frames of other context managers."""
    found = user_frame(frame)
    while found.f_back is not None and _enters_for_caller(found):
        found = found.f_back
    return scope_of(found)


def _enters_for_caller(frame: FrameType) -> bool:
    """Return whether a frame executes ``__enter__`` or the generator of another context manager."""
    caller = frame.f_back
    return (
        module_name(frame) == "contextlib"
        or frame.f_code.co_name in _ENTERING
        or (bool(frame.f_code.co_flags & CO_GENERATORS) and caller is not None and module_name(caller) == "contextlib")
    )


def _checked(name: str, tasks: Any, views: list[Mapped[..., Any]]) -> list[AnyTask]:
    """Return the argument ``tasks`` as a list of tasks, and add the views of mapped tasks in it to a list."""
    if isinstance(tasks, Vertex) or not hasattr(tasks, "__iter__") or isinstance(tasks, (str, bytes)):
        example = escape_control_chars(tasks.name) if isinstance(tasks, (Task, Mapped)) else "..."
        raise TypeError(
            f"DAG({name!r}, tasks=...) is {short_repr(tasks)}, not a list of tasks: write tasks=[{example}]"
        )
    given: list[Any] = list(tasks)
    views += [item for item in given if isinstance(item, Mapped)]
    checked: list[Any] = [item._use() if isinstance(item, Mapped) else item for item in given]
    for position, item in enumerate(checked):
        if not isinstance(item, Task):
            raise TypeError(f"item {position} of DAG({name!r}, tasks=...) is {described_operand(item)}")
        if item._origin is METHODS:
            raise TypeError(f"item {position} of DAG({name!r}, tasks=...): {no_task(item)}")
        item._used = True
    return checked
