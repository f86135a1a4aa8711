"""Scopes: the call, module or ``with`` block that a task or an edge belongs to.

Tasks and edges that are created during a call belong to that call; those created while the top level of a module is
executed belong to the module. When a call returns, unused tasks and edges pass to its caller. calls.py identifies calls
and detects their end.
"""

from __future__ import annotations

from functools import partial
from itertools import filterfalse
from operator import attrgetter
from weakref import WeakSet, ref

from flowkit_core._typing import TYPE_CHECKING, Protocol

from .edges import CallEdge, Origin, note_dropped

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from types import CodeType

    from flowkit_core._typing import Any

    from .edges import Views

MODULE_KEY = "__flowkit_scope__"
"""Name of the module global that holds the scope of the module."""

_by_used = attrgetter("_used")
_modules: dict[int, ref[Scope]] = {}
entered: list[Block] = []
"""The open ``with`` blocks of this process, one item for each entry."""
_calls_with_edges: dict[int, ref[Scope]] = {}
_modules_with_edges: dict[int, ref[Scope]] = {}
_replacements = 0


class CreatedPipeline(Protocol):
    """Interface of a pipeline that a scope calls."""

    def _call_returned(self, scope: Scope, caller: Scope) -> None:
        """Mark tasks and edges of the pipeline as used, and keep its edges of a call that returns to its caller."""


class Scope:
    """The tasks and edges of one call, of one module, or of one ``exec``.

    Attributes:
        name: the qualified name of the function; ``"<module>"`` for a module.
        package: top-level package of its code.
        origin: the object that its tasks refer to; it has the edges between them.
        tasks: the tasks that were created in the scope, and unused tasks of calls that returned to it.
        call_edges: edges to tasks that were not created in the scope.
        blocks: the open ``with`` blocks, the innermost last; None for none.
        outer_blocks: weak set of the blocks of callers that have what this call has made; None for none.
        pipelines: weak set of the pipelines created in the scope or in calls below it; None for none.
        has_bare: whether a pipeline without ``tasks=`` was created in the scope; it has all tasks of the scope.
        removed: weak set of the tasks that ``clear_registry()`` has removed from a module; None for none.
        namespace: for a module, the id of its globals; else 0.
        is_module: whether this is the scope of a module.
    """

    __slots__ = (
        "__weakref__",
        "_dropped",
        "_edges_before_clear",
        "_generation",
        "_known",
        "_outdated",
        "_replacements",
        "blocks",
        "call_edges",
        "has_bare",
        "is_module",
        "name",
        "namespace",
        "origin",
        "outer_blocks",
        "package",
        "pipelines",
        "removed",
        "tasks",
    )

    def __init__(self, name: str, package: str, namespace: int = 0) -> None:
        self.name = name
        self.package = package
        self.namespace = namespace
        self.is_module = namespace != 0
        self.origin = Origin(package)
        self.tasks: list[Any] = []
        self.call_edges: list[CallEdge] = []
        self.blocks: list[Block] | None = None
        self.outer_blocks: WeakSet[Block] | None = None
        self.pipelines: WeakSet[CreatedPipeline] | None = None
        self.has_bare = False
        self.removed: WeakSet[Any] | None = None
        self._generation = 0
        self._replacements = 0  # their number when `_outdated` was last determined
        self._outdated: list[CallEdge] = []  # call edges of tasks that were replaced since, in another module
        self._edges_before_clear = 0  # number of call edges when the registry was cleared
        # for a module: key of a task -> tasks with this key, and the top-level code that created them
        self._known: dict[Any, list[tuple[Any, CodeType]]] | None = None
        self._dropped: dict[Any, None] = {}  # items of `tasks` that count as removed

    def __reduce__(self) -> Any:
        return Scope, (self.name, self.package)  # pickling the globals of a module does not pickle its tasks

    def add_task(self, task: Any, code: CodeType) -> None:
        """Add a task that was created in this scope or passed on by a call.

        Args:
            task: the task.
            code: the executing code; for a module, the code of its top level.
        """
        if self.is_module:
            self._define(task, code)
        self.tasks.append(task)

    def _define(self, task: Any, code: CodeType) -> None:
        """Replace tasks of the same name that an earlier execution of the top level created.

        Two tasks of one name from one execution are a DuplicateTaskError when a graph is built. Two are enough for the
        error, so of any more only the last is kept.
        """
        key = _redefinition_key(task)
        if self._known is None:
            self._known = {}
        known = self._known.setdefault(key, [])
        if known and _is_other_execution(known[0][1], code):
            global _replacements
            _replacements += 1
            replaced = [old for old, _ in known if not old._is_of_function]
            for old, _ in known:
                if old._is_of_function:
                    old._successor = task
            for old in replaced:
                old._replaced = True
            self._drop([old for old, _ in known])  # a task created in a function may still be used by an object
            known.clear()
            dropped = [edge for edge in self.call_edges if edge.upstream._replaced or edge.downstream._replaced]
            if dropped:
                own = self.origin.current()
                note_dropped(dropped, task, own)
                self.call_edges = [edge for edge in self.call_edges if edge not in dropped]
                self._edges_before_clear = min(self._edges_before_clear, len(self.call_edges))
            for origin in {origin for old in replaced for origin in old._origin.chain()}:
                origin.edges.drop_replaced(task)
        elif len(known) == 2:
            surplus, _ = known.pop()
            if not any(edge.upstream is surplus or edge.downstream is surplus for edge in self.call_edges):
                self._drop([surplus])
        known.append((task, code))

    def _drop(self, tasks: list[Any]) -> None:
        """Remove tasks of a module: later and many at once, because each removal copies the list."""
        self._dropped.update(dict.fromkeys(tasks))
        if len(self._dropped) > len(self.tasks) // 2:
            self._remove_dropped()

    def _remove_dropped(self) -> None:
        if self._dropped:
            self.tasks[:] = [task for task in self.tasks if task not in self._dropped]
            self._dropped.clear()

    def wire(self, upstream: Any, downstream: Any, order_only: bool, views: Views = None) -> None:
        """Declare an edge, with the views of its ends, if it was declared with views."""
        origin = self.origin if self.origin.caller is None else self.origin.current()
        before, after = upstream._origin, downstream._origin
        if (before is origin or (before.caller is not None and before.current() is origin)) and (
            after is origin or (after.caller is not None and after.current() is origin)
        ):
            (origin.edges.order if order_only else origin.edges.data).extend((upstream, downstream))
            if views is not None:
                origin.edges.views.append((upstream, downstream, order_only, *views))
        else:
            self._add_call_edge(CallEdge(upstream, downstream, order_only, views))

    def _add_call_edge(self, edge: CallEdge) -> None:
        if self._replacements != replacements():
            self._replacements = replacements()
            edges = self.call_edges
            self._outdated = [each for each in edges if each.upstream._replaced or each.downstream._replaced]
        if self._outdated and any(map(edge.replaces, self._outdated)):
            self.call_edges = [each for each in self.call_edges if not edge.replaces(each)]
            self._outdated = [each for each in self._outdated if not edge.replaces(each)]
        if not self.call_edges:
            scopes = _modules_with_edges if self.is_module else _calls_with_edges
            scopes[id(self)] = ref(self, partial(_discard_reference, scopes, id(self)))
        self.call_edges.append(edge)

    def call_ended(self) -> None:
        """Exclude this scope from `calls_with_edges`; a traceback may keep the frame of the call alive."""
        _calls_with_edges.pop(id(self), None)

    def members(self) -> list[Any]:
        """Return the tasks that were created or wired in this scope, in order of declaration."""
        self._remove_dropped()
        found = dict.fromkeys(self.tasks)
        for edge in self.call_edges[self._edges_before_clear :]:
            found.setdefault(edge.upstream)
            found.setdefault(edge.downstream)
        return list(found)

    def add_pipeline(self, pipeline: CreatedPipeline) -> None:
        """Add a pipeline that was created in this call; a module does not need it, because it never returns."""
        if not self.is_module:
            if self.pipelines is None:
                self.pipelines = WeakSet()
            self.pipelines.add(pipeline)

    def add_outer_block(self, block: Block) -> None:
        """Note that what this call has made belongs to a block, unless the call has entered the block itself."""
        if not block.is_open or block.was_entered_by(self):
            return
        if self.outer_blocks is None:
            self.outer_blocks = WeakSet()
        self.outer_blocks.add(block)

    def remove_tasks(self) -> None:
        """Remove the tasks of a module from discovery; their edges are not changed."""
        self.removed = WeakSet([*(self.removed or ()), *self.tasks])
        self.tasks.clear()
        self._dropped.clear()
        self.origin.is_excluded = True
        self.origin = Origin(self.package)  # so that later edges between the removed tasks are call edges
        self._known = None
        self._edges_before_clear = len(self.call_edges)
        self._generation += 1

    def pass_to(self, caller: Scope, code: CodeType, before: AbstractSet[int]) -> None:
        """Pass unused tasks and edges to the scope of the caller.

        Args:
            caller: the scope of the caller.
            code: the code of the caller.
            before: ids of the tasks that existed before the call.
        """
        if self.pipelines is not None:
            for pipeline in self.pipelines:
                pipeline._call_returned(self, caller)
                caller.add_pipeline(pipeline)
            if self.has_bare:
                for task in self.members():
                    task._used = True
        for block in self.outer_blocks or ():
            caller.add_outer_block(block)
        origin, own = caller.origin.current(), self.origin.current()
        if own is not origin:
            own.caller = origin
        passed = self._pass_tasks(caller, code, before, has_edges=bool(own.edges.data or own.edges.order))
        if self.is_module:
            return  # exec'd text: its tasks stay in the scope of its globals as well
        if len(passed) < len(self.tasks):
            known = set(passed)
            self.tasks[:] = [task for task in self.tasks if task not in known]
        else:
            self.tasks.clear()
        if self.call_edges:
            self._pass_call_edges(caller)

    def _pass_tasks(self, caller: Scope, code: CodeType, before: AbstractSet[int], *, has_edges: bool) -> list[Any]:
        """Add unused tasks to the scope of the caller, and return them: see `pass_to`.

        Args:
            caller: the scope of the caller.
            code: the code of the caller.
            before: ids of the tasks that existed before the call.
            has_edges: whether the call has declared edges between tasks of its own.
        """
        self._remove_dropped()
        passed = list(filterfalse(_by_used, self.tasks))
        if before or _replacements:
            passed = [task for task in passed if not (task._replaced or id(task) in before)]
        is_mixed = self.origin.is_mixed
        if has_edges:
            caller.origin.is_mixed = True
        else:  # the caller counts as the creator, which enables the fast path of >> there
            for task in passed:
                if not is_mixed or task._origin is self.origin:
                    task._origin = caller.origin
        if caller.is_module:
            for task in passed:
                caller.add_task(task, code)
        elif passed:
            is_later = not caller.tasks or caller.tasks[-1]._serial < passed[0]._serial
            caller.origin.is_mixed |= is_mixed or not is_later
            caller.tasks += passed
        return passed

    def _pass_call_edges(self, caller: Scope) -> None:
        """Add unused call edges to the scope of the caller; as other edges if both tasks are of its origin now."""
        origin = caller.origin.current()
        edges_to_keep = []
        for edge in self.call_edges:
            if edge.used:
                edges_to_keep.append(edge)
            elif edge.upstream._origin.current() is origin and edge.downstream._origin.current() is origin:
                caller.wire(edge.upstream, edge.downstream, edge.order_only, edge.views)
            else:
                edge.passed_on |= caller.package != self.package
                caller._add_call_edge(edge)
        self.call_edges = edges_to_keep

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to pass on."""
        edges = self.origin.edges
        return not (self.tasks or self.call_edges or self.pipelines or self.outer_blocks or edges.data or edges.order)

    def stamp(self) -> tuple[int, ...]:
        """Return a value that changes whenever tasks or call edges are added or removed, but not by a replacement."""
        return len(self.tasks) - len(self._dropped), len(self.call_edges), self._generation


class BlockOrigin(Origin):
    """The origin of the tasks that were created in a ``with`` block."""

    __slots__ = ()


class Block:
    """The tasks and edges of the ``with`` blocks of one pipeline.

    Attributes:
        name: name of the pipeline.
        tasks: the tasks that were created or wired in the block, in order.
        edges: the edges that were declared in the block; they apply to this pipeline only.
        origin: the origin of the tasks that were created in the block.
    """

    __slots__ = ("__weakref__", "_entered", "_generation", "_known", "edges", "name", "origin", "tasks")

    def __init__(self, name: str, package: str) -> None:
        self.name = name
        self.tasks: dict[Any, None] = {}
        self.edges: list[CallEdge] = []
        self.origin = BlockOrigin(package, is_excluded=True)
        self._entered: list[Scope] = []
        self._known: dict[Any, tuple[Any, CodeType]] = {}  # of tasks that the top level of a module has created
        self._generation = 0

    def stamp(self) -> tuple[int, ...]:
        """Return a value that changes whenever the tasks or edges of the block change."""
        return len(self.edges), len(self.tasks), self._generation

    @property
    def scope(self) -> Scope:
        """The scope of the call, or of the module, that has entered the block last."""
        return self._entered[-1]

    @property
    def is_open(self) -> bool:
        """Whether a call has entered the block and has not left it."""
        return bool(self._entered)

    def was_entered_by(self, scope: Scope) -> bool:
        """Return whether a call has entered the block and has not left it."""
        return any(each is scope for each in self._entered)

    def add_task(self, task: Any, code: CodeType) -> None:
        """Add a task that was created in the block; it replaces that of an earlier execution of the same top level.

        Args:
            task: the task.
            code: the executing code; for a block of a module, the code of its top level.
        """
        if self.scope.is_module:
            key = _redefinition_key(task)
            old, earlier = self._known.get(key, (None, code))
            if old is not None and _is_other_execution(earlier, code):
                self._replace(old, task)
            self._known[key] = task, code
        self.tasks[task] = None

    def _replace(self, old: Any, new: Any) -> None:
        """Replace a task; one that a function has created may still be used by an object, see `Scope._define`."""
        global _replacements
        _replacements += 1
        self._generation += 1
        if old._is_of_function:
            old._successor = new
            return
        old._replaced = True
        self.tasks.pop(old, None)
        note_dropped([edge for edge in self.edges if old in (edge.upstream, edge.downstream)], new)
        self.edges = [edge for edge in self.edges if old not in (edge.upstream, edge.downstream)]

    def copy(self) -> Block:
        """Return a block with the same tasks and edges, to which others may be added."""
        copy = Block(self.name, self.origin.package)
        copy.tasks.update(self.tasks)
        copy._known.update(self._known)
        copy.edges += self.edges
        return copy

    def enter(self, scope: Scope) -> None:
        """Make this the innermost block of a call."""
        if scope.blocks is None:
            scope.blocks = []
        scope.blocks.append(self)
        self._entered.append(scope)
        entered.append(self)

    def leave(self, scope: Scope) -> None:
        """Undo the last :meth:`enter` of a scope, or the last one of any scope if this scope has not entered."""
        entries = self._entered
        index = max((index for index, each in enumerate(entries) if each is scope), default=len(entries) - 1)
        blocks = entries.pop(index).blocks or []
        del blocks[max(index for index, block in enumerate(blocks) if block is self)]
        entered.remove(self)

    def wire(self, upstream: Any, downstream: Any, order_only: bool, views: Views = None) -> None:
        """Declare an edge of the block, with the views of its ends, if it was declared with views."""
        self.edges.append(CallEdge(upstream, downstream, order_only, views))
        self.tasks[upstream] = self.tasks[downstream] = None
        upstream._used = downstream._used = True


def module_scope(names: dict[str, Any]) -> Scope:
    """Return the scope of a module, given its globals."""
    scope: Scope = names.get(MODULE_KEY)  # type: ignore[assignment]
    if _is_scope_of(names, scope):
        return scope
    name = names.get("__name__")
    package = name.partition(".")[0] if isinstance(name, str) else "?"
    new = Scope("<module>", package, id(names))
    scope = names.setdefault(MODULE_KEY, new)  # another thread may have set it first
    if not _is_scope_of(names, scope):
        scope = names[MODULE_KEY] = new
    if scope is new:
        _modules[id(new)] = ref(new, partial(_discard_reference, _modules, id(new)))
    return scope


def _is_scope_of(names: dict[str, Any], found: object) -> bool:
    """Return whether an object is the scope of these globals, and not of other globals that were copied."""
    return isinstance(found, Scope) and found.namespace == id(names)


def _discard_reference(scopes: dict[int, ref[Scope]], number: int, _reference: object) -> None:
    scopes.pop(number, None)


def modules() -> list[Scope]:
    """Return the scopes of all modules."""
    return [scope for reference in list(_modules.values()) if (scope := reference()) is not None]


def modules_with_edges() -> list[Scope]:
    """Return the scopes of the modules that have declared call edges."""
    if not _modules_with_edges:
        return []
    return [scope for reference in list(_modules_with_edges.values()) if (scope := reference()) is not None]


def calls_with_edges() -> list[Scope]:
    """Return the scopes of the calls that have declared call edges and have not ended."""
    return [scope for reference in list(_calls_with_edges.values()) if (scope := reference()) is not None]


def replacements() -> int:
    """Return how many times tasks have been replaced in this process."""
    return _replacements


def _redefinition_key(task: Any) -> tuple[object, ...]:
    """Return what is equal for a task and another one that redefines it."""
    return task.name, task.__qualname__, task._is_copy


def _is_other_execution(old: CodeType, new: CodeType) -> bool:
    """Return whether two code objects are two executions of a top level: a cell run again, a reloaded module."""
    if old is new:
        return False
    return old.co_filename != new.co_filename or old.co_firstlineno == new.co_firstlineno
