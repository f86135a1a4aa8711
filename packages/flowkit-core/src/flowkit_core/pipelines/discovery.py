"""Discovery: find the tasks and edges of a pipeline.

Edges of a pipeline are: edges stored with its tasks, edges declared by the call that created the pipeline and by the
callers of that call, edges at the top level of any module, and edges of the ``with`` block of the pipeline. Its tasks
are the given ones (``tasks=``), or those created or wired in its block or its call, or else those of the module. See
scopes.py for which tasks and edges belong to a call.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from types import ModuleType
from weakref import ref

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import raise_or_collect, warn
from flowkit_core.errors import BindingError, DiscoveryError, WiringError

from . import discovery_warnings as texts
from .calls import active_block, creating_functions, known_scope, scope_of
from .edge_view import EdgeView, Found
from .edges import METHODS
from .frames import CO_OPTIMIZED, callers, user_frame, variables
from .scopes import (
    MODULE_KEY,
    BlockOrigin,
    Scope,
    calls_with_edges,
    module_scope,
    modules_with_edges,
    replacements,
)
from .wiring import WRAPPERS, Vertex, no_task, wrapped_task

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from types import CodeType, FrameType

    from flowkit_core._typing import Any

    from .edges import CallEdge
    from .scopes import Block, CreatedPipeline

_by_serial = attrgetter("_serial")


class Surroundings:
    """The scopes around the creation of a pipeline: its call, the callers, enclosing functions and the module.

    Args:
        pipeline: the pipeline.
        frame: the frame that executes the call.
        is_bare: whether the pipeline has neither ``tasks=`` nor a block, so that its tasks are discovered.

    Attributes:
        scope: the scope of the call, or of the module.
        module: the scope of the module in which the code is written.
    """

    def __init__(self, pipeline: CreatedPipeline | None, frame: FrameType, *, is_bare: bool = False) -> None:
        self.scope = scope_of(frame)
        self._globals = frame.f_globals
        self.module = module_scope(frame.f_globals)
        self._code = frame.f_code
        self._around: list[ref[Scope]] = []
        self._enclosing: list[tuple[CodeType, ref[Scope]]] = []
        self._kept: list[CallEdge] = []  # edges that belong to calls which have ended
        self._by_import = False  # whether the tasks are imported names of the module
        self._packages = {self.scope.package, "__main__"}
        is_nested = is_bare and not self.scope.is_module
        inner = frame.f_code
        for caller in callers(frame):
            code = caller.f_code
            if is_nested and code.co_flags & CO_OPTIMIZED and code is not inner and _contains(code, inner):
                self._enclosing.append((code, ref(scope_of(caller))))
                inner = code
            scope = known_scope(caller)
            if scope is not None and scope is not self.scope and not scope.is_module:
                self._around.append(ref(scope))
        # whether the code is in a function whose call is not on the stack
        around = active_block(frame)
        # the innermost open block, if a caller has entered it
        self._block = None if around is None or around.scope is self.scope else ref(around)
        self._detached = is_nested and frame.f_code.co_qualname.count("<locals>") > len(self._enclosing)
        if pipeline is not None:
            self.scope.has_bare |= is_bare
            self.add_pipeline(pipeline)

    def add_pipeline(self, pipeline: CreatedPipeline) -> None:
        """Add a pipeline to the scopes of this call and its callers, which call its _call_returned() when they end."""
        for scope in (self.scope, *self.around):
            scope.add_pipeline(pipeline)

    @property
    def around(self) -> list[Scope]:
        """Scopes of the callers that have not ended, nearest first."""
        return [scope for reference in self._around if (scope := reference()) is not None]

    @property
    def enclosing(self) -> list[Scope]:
        """Scopes of callers that are lexically enclosing functions, nearest first."""
        return [scope for _, reference in self._enclosing if (scope := reference()) is not None]

    def call_returned(self, scope: Scope, caller: Scope, tasks: Iterable[Any]) -> None:
        """Keep the call edges between tasks of a pipeline when their call returns to its caller."""
        if scope is not self.scope and scope.call_edges:
            known = set(tasks)
            self._kept += [edge for edge in scope.call_edges if edge.upstream in known and edge.downstream in known]
        if caller is not self.scope and not caller.is_module and caller not in self.around:
            self._around.append(ref(caller))

    # ---- edges ---------------------------------------------------------------------------------------------------

    def call_edges(self, packages: set[str]) -> list[CallEdge]:
        """Return the call edges of the modules and calls that apply to a pipeline created here, in order."""
        found: list[CallEdge] = []
        for scope in modules_with_edges():
            found += scope.call_edges
        found += self._kept
        for scope in reversed(self.around):
            if scope.call_edges:
                is_own = scope.package in packages
                found += scope.call_edges if is_own else [edge for edge in scope.call_edges if not edge.passed_on]
        if not self.scope.is_module:
            found += self.scope.call_edges
        return found

    def edges(self, block: Block | None, named: Iterable[Any]) -> EdgeView:
        """Return a view of all edges that apply to a pipeline created here."""
        packages = self._packages | {task._origin.current().package for task in named}
        return EdgeView([*self.call_edges(packages), *(block.edges if block is not None else ())])

    def own_edges(self, named: Sequence[Any] | None) -> EdgeView | None:
        """Return a view of the edges of this call if no other edges apply to a pipeline created in it; else None."""
        scope = self.scope
        if (
            scope.is_module
            or scope.call_edges
            or (named is not None and any(task._origin is not scope.origin for task in named))
        ):
            return None
        packages = self._packages | {scope.package}
        if self.call_edges(packages):
            return None
        view = EdgeView(())
        view.look_at(scope.origin)
        return view

    def stamp(self) -> tuple[Any, ...]:
        """Return a value that changes whenever the tasks or edges of these scopes change."""
        modules = modules_with_edges()
        shared = [(id(scope), len(scope.call_edges)) for scope in modules] if modules else None
        around = [(id(scope), len(scope.call_edges)) for scope in self.around] if self._around else None
        enclosing = [scope.stamp() for scope in self.enclosing] if self._enclosing else None
        named = tuple(_imported(self._globals, self.module)) if self._by_import else None
        return (
            self.scope.stamp(),
            None if self.scope is self.module else self.module.stamp(),
            enclosing,
            shared,
            len(self._kept),
            around,
            replacements(),
            named,
        )

    def names(self) -> Sequence[str]:
        """Return the names of the tasks of the call and of the module, for error messages."""
        return [task.name for scope in (self.scope, self.module) for task in scope.members()]

    # ---- tasks ---------------------------------------------------------------------------------------------------

    def roots(self, pipeline: str, *, warn: bool = True) -> list[Any]:
        """Return the discovered tasks: those of the call, else of enclosing calls, else of the module.

        Args:
            pipeline: name of the pipeline.
            warn: whether to warn if callers have unused tasks.

        Raises:
            DiscoveryError: the code is nested in a function that has created tasks, and its call is not on the stack.
        """
        self._by_import = False
        own = _tasks(self.scope)
        if own:
            return own
        if self.scope.is_module:
            return self._imported()
        for code, reference in self._enclosing:
            scope = reference()
            if scope is not None and (own := _tasks(scope)):
                self._check_detached(pipeline, code)
                if warn:
                    self._warn_of_unused(pipeline, own)
                return own
        self._check_detached(pipeline)
        own = _tasks(self.module) or self._imported()
        if warn:
            self._warn_of_unused(pipeline, own)
        return own

    def _check_detached(self, pipeline: str, outer: CodeType | None = None) -> None:
        """Raise if the code is nested in a function that has created tasks, and whose call is not on the stack.

        Args:
            pipeline: name of the pipeline.
            outer: only functions within this code are checked; None for all.

        Raises:
            DiscoveryError: there is such a function.
        """
        if not self._detached:
            return
        on_stack = [code for code, _ in self._enclosing]
        for function in list(creating_functions.values()):
            code = function.code()
            if code is None or code is self._code or not (function.has_created or function.calls):
                continue
            if any(code is each for each in on_stack) or (outer is not None and not _contains(outer, code)):
                continue
            if _contains(code, self._code):
                raise DiscoveryError(pipeline, self.scope.name, code.co_qualname)

    def _imported(self) -> list[Any]:
        self._by_import = True
        return _imported(self._globals, self.module)

    def warn_of_imported(self, pipeline: str, found: Iterable[Any]) -> None:
        """Warn of tasks that a module has imported by name, but does not wire, copy or call."""
        if not self.scope.is_module or not _tasks(self.scope):
            return
        known = set(found)
        for task in _imported(self._globals, self.module):
            if task not in known and not (task._used or task._has_copies or task._replaced):
                warn(texts.imported_only(pipeline, self._module_name, task), "discovery", task.name)

    def warn_of_decorators(self, pipeline: str, found: Collection[Any], *, of_call: bool = False) -> None:
        """Warn of tasks that variables hold only within the wrapper of a decorator above ``@task``.

        Args:
            pipeline: name of the pipeline.
            found: its tasks.
            of_call: whether all of them were made in the call, so that only local variables are looked at.
        """
        near = self._local_values() if of_call else self._near()
        held = [task for value in near if type(value) in WRAPPERS and (task := wrapped_task(value)) is not None]
        for task in held:
            if task in found and not any(value is task for value in near):
                warn(texts.decorator_above(pipeline, task), "discovery", getattr(task, "name", None))

    def check_block(
        self, pipeline: str, tasks: Iterable[Any], own: Block | None, *, is_bare: bool = False, kind: str = "DAG"
    ) -> None:
        """Check that the tasks and edges of a pipeline do not belong to a block of a caller.

        Args:
            pipeline: name of the pipeline.
            tasks: its tasks.
            own: its own block.
            is_bare: whether the tasks were discovered: then the calls that were searched are checked.
            kind: ``"DAG"`` or ``"flow"``.

        Raises:
            WiringError: the block of a caller has a task of the pipeline, or edges that the pipeline lacks, or what a
                call has made whose tasks the pipeline was to have.
        """
        for scope in (self.scope, *self.enclosing) if is_bare else ():
            if _tasks(scope):
                break
            for outer in scope.outer_blocks or ():
                text = texts.belongs_to_block(pipeline, None, outer.name, scope.name, kind)
                raise_or_collect(WiringError(text, pipeline, ()))
                return
        block = None if self._block is None else self._block()
        if block is None or block is own:
            return
        known = set(tasks)
        lacking = {edge.downstream for edge in block.edges if edge.upstream not in known}
        for task in tasks:
            if task._origin is block.origin or task in lacking:
                text = texts.belongs_to_block(pipeline, task, block.name, self.scope.name, kind)
                raise_or_collect(WiringError(text, pipeline, (task.name,)))
                return

    def warn_of_nothing(self, pipeline: str) -> None:
        """Warn that discovery has found no tasks."""
        module = f"module {self._module_name!r}"
        where = module if self.scope.is_module else f"{self.scope.name}() or in {module}"
        for scope in self.around:
            if scope.package != self.scope.package:
                continue
            if held := [task for task in _tasks(scope) if not task._used]:
                advice = texts.caller_has_tasks(pipeline, scope.name, held)
                break
        else:
            advice = self._advice_for_nothing(pipeline)
        warn(texts.no_tasks(pipeline, where, advice), "discovery")

    def _advice_for_nothing(self, pipeline: str) -> str:
        """Return where there are tasks that discovery excludes, and what to write."""
        known = self.module.removed or ()
        found = [each for each in self._near() if isinstance(each, Vertex)]
        near = [each for each in found if each._origin.is_excluded or each in known]
        if in_blocks := [task for task in near if type(task._origin) is BlockOrigin]:
            return texts.block_has_tasks(pipeline, in_blocks)
        for name, scope in self._imported_modules():
            tasks = _tasks(scope)
            return texts.module_has_tasks(pipeline, name, tasks, _last(tasks))
        if removed := [task for task in near if task._origin is not METHODS]:
            return texts.tasks_were_removed(pipeline, removed)
        return texts.create_tasks(pipeline)

    def _near(self) -> list[Any]:
        """Return the values of the globals, and of the local variables where the call of this pipeline is executing."""
        return list({id(each): each for each in [*self._local_values(), *self._globals.values()]}.values())

    def _local_values(self) -> list[Any]:
        """Return the values of the local variables where the call of this pipeline is executing; else nothing."""
        frame = user_frame(sys._getframe(1))
        return variables(frame) if frame.f_code is self._code else []

    def warn_of_edges_elsewhere(self, pipeline: str, upstream: dict[Any, list[Any]], view: EdgeView) -> None:
        """Warn if a task has no upstreams here, but does in a call that is not among the callers.

        Such a call runs in another thread or event-loop task, or is the caller of it.
        """
        for scope in calls_with_edges():
            if scope is self.scope or scope in self.around or scope.pipelines:
                continue
            for edge in scope.call_edges:
                task = edge.downstream
                if not edge.used and task in upstream and not upstream[task] and not view.waits(task):
                    text = texts.edges_elsewhere(pipeline, task, edge, scope.name, self.scope.name)
                    warn(text, "discovery", task.name)
                    return

    @property
    def _module_name(self) -> str:
        return str(self._globals.get("__name__", "?"))

    def _imported_modules(self) -> list[tuple[str, Scope]]:
        names = {name: value for name, value in dict(self._globals).items() if isinstance(value, ModuleType)}
        for name in self._code.co_names:
            if name not in names and name in sys.modules:
                names[name] = sys.modules[name]
        found = []
        for name, module in names.items():
            scope = getattr(module, "__dict__", {}).get(MODULE_KEY)
            if isinstance(scope, Scope) and scope is not self.module and _tasks(scope):
                found.append((name, scope))
        return found

    def _warn_of_unused(self, pipeline: str, found: Sequence[Any]) -> None:
        """Warn if a call without tasks runs the tasks of the module although its callers have unused tasks."""
        if not found:
            return
        for scope in self.around:
            if scope in self.enclosing or scope.package != self.scope.package:
                continue
            held = [task for task in _tasks(scope) if not task._used]
            if held:
                warn(texts.unused_tasks(pipeline, self.scope.name, found, scope.name, held), "discovery")
                return


def sorted_and_checked(pipeline: str, upstream: dict[Any, list[Any]], view: EdgeView, *, downstream: bool) -> Found:
    """Sort the tasks of a closure by declaration, and check them.

    Args:
        pipeline: name of the pipeline.
        upstream: the tasks, with the tasks that they take results from.
        view: the edges.
        downstream: whether the pipeline has everything downstream of its tasks, too.

    Raises:
        WiringError: a task was replaced, or two tasks have a data edge and an order-only edge.
        BindingError: a task is a method.
    """
    old = _superseded(upstream) if replacements() else ()
    if old:
        upstream = {task: [each for each in of if each not in old] for task, of in upstream.items() if task not in old}
    tasks = sorted(upstream, key=_by_serial)
    place = dict(zip(tasks, range(len(tasks))))
    position = place.__getitem__
    positions: list[Sequence[int]] = [tuple(map(position, upstream[task])) for task in tasks]
    waits: dict[int, tuple[int, ...]] = {}
    if any(origin is METHODS for origin in view.origins):
        for method in [task for task in tasks if task._origin is METHODS]:
            raise_or_collect(BindingError(no_task(method), method.name))
    if view.has_waits or replacements():
        for index, task in enumerate(tasks):
            only = [other for other in view.waits(task) if other not in old]
            _check(pipeline, task, upstream[task], only)
            if only:
                waits[index] = tuple([position(other) for other in only if other not in upstream[task]])
        _check_dropped(pipeline, upstream, view, downstream=downstream)
    return Found(tasks, positions, waits, view.with_views())


def _superseded(tasks: Collection[Any]) -> set[Any]:
    """Return the tasks of helper functions that a cell has created again, where the new task is among `tasks`, too."""
    found = set()
    for task in tasks:
        newer = task._successor
        while newer is not None:
            if newer in tasks:
                found.add(task)
            newer = newer._successor
    return found


def _check(pipeline: str, task: Any, upstream: Sequence[Any], waits: Sequence[Any]) -> None:
    for other in waits:
        if other in upstream:
            raise_or_collect(
                WiringError(
                    f"task {task.name!r} of {pipeline!r} takes the result of {other.name!r} ('>>') and is also to run "
                    f"only after it (after()): leave out one of the two",
                    pipeline,
                    (other.name, task.name),
                ),
                task=task.name,
            )
    check_not_replaced(pipeline, task)


def check_not_replaced(pipeline: str, task: Any) -> None:
    """Check that a task of a pipeline has not been redefined.

    Raises:
        WiringError: it was.
    """
    if task._replaced:
        raise_or_collect(
            WiringError(
                f"{pipeline!r} has the task {task.name!r} of {task.location}, which has since been redefined: "
                f"create the pipeline again with the new task (where tasks=[...] names it, or a module has imported "
                f"it, that one as well), or give the two tasks different names",
                pipeline,
                (task.name,),
            ),
            task=task.name,
        )


def _check_dropped(pipeline: str, upstream: dict[Any, list[Any]], view: EdgeView, *, downstream: bool) -> None:
    """Check that edges which were removed because a task was redefined have been declared again.

    It is an error if a task has no edge left on that side, else a warning.

    Args:
        pipeline: name of the pipeline.
        upstream: the tasks, with the tasks that they take results from.
        view: the edges.
        downstream: whether the pipeline has everything downstream of its tasks, too.
    """
    lacking: dict[Any, CallEdge] = {}
    isolated: dict[Any, CallEdge] = {}
    for task, data in upstream.items():
        for edge in task._dropped:
            if edge.upstream._replaced and edge.downstream._replaced:
                continue  # both were redefined, which means a new start
            if edge.upstream is task:
                near, other = view.downstream(task) if downstream else None, edge.downstream
            else:
                near, other = [*data, *view.waits(task)], edge.upstream
            if near is not None and other.name not in [each.name for each in near]:
                (lacking if near or not other._replaced else isolated).setdefault(edge.key, edge)
    for edges in filter(None, (isolated, lacking)):
        redefined: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for edge in edges.values():
            for task in (edge.upstream, edge.downstream):
                (redefined if task._replaced else others)[task.name] = task
        text = texts.dropped_edges(pipeline, map(str, edges.values()), redefined.values(), list(others))
        if edges is isolated:
            text += texts.leave_out(pipeline, list(others))
            first = next(iter(edges.values()))
            raise_or_collect(WiringError(text, pipeline, (first.upstream.name, first.downstream.name)))
        else:
            warn(text, "wiring", next(iter(redefined)))


def without_templates(tasks: Iterable[Any], view: EdgeView) -> list[Any]:
    """Return tasks without templates: unwired originals whose copies are among the tasks."""
    found = list(tasks)
    originals = {task._original for task in found if task._original is not None}
    return [
        task
        for task in found
        if task not in originals or view.upstream(task) or view.downstream(task) or view.waits(task)
    ]


def inner_tasks(tasks: Iterable[Any]) -> set[Any]:
    """Return the tasks of the pipelines that are used as tasks, without pipeline tasks that are among ``tasks``."""
    nested = [task for task in tasks if task._pipeline is not None]
    return {each for task in nested for each in task._pipeline._members()}.difference(nested) if nested else set()


def neighbors(task: Any, frame: FrameType) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the direct upstreams and downstreams of a task, by the edges of a pipeline created in a frame."""
    view = Surroundings(None, user_frame(frame)).edges(None, [task])
    up = view.upstream(task)
    return tuple(dict.fromkeys(up + view.waits(task))), tuple(view.downstream(task))


def _tasks(scope: Scope) -> list[Any]:
    """Return the tasks that a scope has made or wired."""
    return [task for task in scope.members() if task._origin is not METHODS or task in _wired(scope)]


def _wired(scope: Scope) -> set[Any]:
    return {task for origin in scope.origin.chain() for task in (*origin.edges.upstream(), *origin.edges.downstream())}


def _imported(names: dict[str, Any], module: Scope) -> list[Any]:
    """Return the tasks of other modules that are globals of a module."""
    found = [value._viewed or value for value in list(names.values()) if isinstance(value, Vertex)]
    own = {*module.members(), *(module.removed or ())}
    own_origin = module.origin.current()
    origins = {task: task._origin.current() for task in found}
    return [
        task
        for task, origin in origins.items()
        if origin is not own_origin and not origin.is_excluded and task not in own
    ]


def _contains(outer: CodeType, inner: CodeType) -> bool:
    if outer.co_filename != inner.co_filename:
        return False
    return any(part is inner or (hasattr(part, "co_consts") and _contains(part, inner)) for part in outer.co_consts)


def _last(tasks: Sequence[Any]) -> Any:
    """Return the last task without downstreams in its scope, or else the last task."""
    view = EdgeView(())
    return next((task for task in reversed(tasks) if not view.downstream(task)), tasks[-1])
