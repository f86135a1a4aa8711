"""Scopes: which call, module or ``with`` block a task or an edge belongs to.

What is made during a call belongs to that call; what is made while the top level of a module is executed belongs to the
module. When a call returns, what no pipeline has used passes to the call that made it. How calls are told apart, and
how their end is noticed, is in calls.py.
"""

from __future__ import annotations

from functools import partial
from weakref import WeakSet, ref

from flowkit_core._typing import TYPE_CHECKING, Protocol

from .edges import Origin, SharedEdge, note_lost

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from types import CodeType

    from flowkit_core._typing import Any

MODULE_KEY = "__flowkit_scope__"
"""The name under which the globals of a module hold its scope."""

_modules: dict[int, ref[Scope]] = {}
entered: list[Block] = []
"""The ``with`` blocks that are entered in this process, once for each time."""
_replacements = 0


class CreatedPipeline(Protocol):
    """What a scope knows of a pipeline that was created in it."""

    def _call_returned(self, scope: Scope, caller: Scope) -> None:
        """Mark what the pipeline has as used, and keep its edges that belong to a call which returns to another."""


class Scope:
    """What one call has made so far, or one module, or the text of an ``exec``.

    Attributes:
        name: the qualified name of the function; ``"<module>"`` for a module.
        package: top-level package of its code.
        origin: what its tasks know of it.
        tasks: the tasks that it has made, or that calls in it have made and left unused.
        shared: its edges to tasks that it did not make.
        blocks: the ``with`` blocks of pipelines that it is in, the innermost last; None for none.
        pipelines: the pipelines that were created in it or in calls that it made, weakly; None for none.
        has_bare: whether one of those that were created in it names no tasks, and so has all of them.
        namespace: the id of the globals that the scope of a module belongs to; else 0.
    """

    __slots__ = (
        "__weakref__",
        "_forgotten",
        "_generation",
        "_known",
        "blocks",
        "has_bare",
        "name",
        "namespace",
        "origin",
        "package",
        "pipelines",
        "shared",
        "tasks",
    )

    def __init__(self, name: str, package: str, namespace: int = 0) -> None:
        self.name = name
        self.package = package
        self.namespace = namespace
        self.origin = Origin(package)
        self.tasks: list[Any] = []
        self.shared: list[SharedEdge] = []
        self.blocks: list[Block] | None = None
        self.pipelines: WeakSet[CreatedPipeline] | None = None
        self.has_bare = False
        self._generation = 0
        self._forgotten = 0  # how many shared edges there were when the registry was cleared
        # of a module: name of a task -> tasks of that name, and the code of the top level that has made them
        self._known: dict[Any, list[tuple[Any, CodeType]]] | None = None

    def __reduce__(self) -> Any:
        return Scope, (self.name, self.package)  # what saves the globals of a module does not save its tasks

    def add_task(self, task: Any, code: CodeType) -> None:
        """Add a task that this scope makes, or that a call in it has left.

        Args:
            task: the task.
            code: the code that is executing; for the scope of a module, that of its top level.
        """
        if self.namespace:
            self._define(task, code)
        self.tasks.append(task)

    def _define(self, task: Any, code: CodeType) -> None:
        """Replace tasks of the same name that another execution of the top level has made.

        Two tasks of one name that one execution makes are an error when a graph is built of them. Two are enough for
        that, so of any more only the last is kept.
        """
        key = task.name, task.__qualname__, task._is_copy
        if self._known is None:
            self._known = {}
        known = self._known.setdefault(key, [])
        if known and _is_other_execution(known[0][1], code):
            global _replacements
            _replacements += 1
            replaced = [old for old, _ in known if not old._is_of_function]
            for old in replaced:
                old._replaced = True
            self._drop([old for old, _ in known])  # what a function made may still be part of an object
            known.clear()
            lost = [edge for edge in self.shared if edge.upstream._replaced or edge.downstream._replaced]
            if lost:
                own = self.origin.current()
                note_lost([edge.pair for edge in lost], own)
                self.shared = [edge for edge in self.shared if edge not in lost]
                self._forgotten = min(self._forgotten, len(self.shared))
            for origin in {origin for old in replaced for origin in old._origin.chain()}:
                origin.edges.drop_replaced()
        elif len(known) == 2:
            surplus, _ = known.pop()
            if not any(edge.upstream is surplus or edge.downstream is surplus for edge in self.shared):
                self._drop([surplus])
        known.append((task, code))

    def _drop(self, tasks: list[Any]) -> None:
        self.tasks[:] = [task for task in self.tasks if not any(task is dropped for dropped in tasks)]

    def wire(self, upstream: Any, downstream: Any, order_only: bool) -> None:
        """Declare an edge."""
        origin = self.origin if self.origin.caller is None else self.origin.current()
        if (upstream._origin is origin or upstream._origin.current() is origin) and (
            downstream._origin is origin or downstream._origin.current() is origin
        ):
            (origin.edges.order if order_only else origin.edges.data).extend((upstream, downstream))
        else:
            self.shared.append(SharedEdge(upstream, downstream, order_only))

    def members(self) -> list[Any]:
        """Return the tasks that this scope has made or wired, in order of declaration."""
        found = dict.fromkeys(self.tasks)
        for edge in self.shared[self._forgotten :]:
            found.setdefault(edge.upstream)
            found.setdefault(edge.downstream)
        return list(found)

    def add_pipeline(self, pipeline: CreatedPipeline) -> None:
        """Remember a pipeline that was created in this call; a module never returns, so it has no need to."""
        if not self.namespace:
            if self.pipelines is None:
                self.pipelines = WeakSet()
            self.pipelines.add(pipeline)

    def forget(self) -> None:
        """Forget the tasks of a module; their wiring stays as it is."""
        self.tasks.clear()
        self.origin.is_apart = True
        self.origin = Origin(self.package)  # so that an edge between them is one to tasks that were made elsewhere
        self._known = None
        self._forgotten = len(self.shared)
        self._generation += 1

    def pass_to(self, caller: Scope, code: CodeType, before: AbstractSet[int]) -> None:
        """Pass on what no pipeline has used to the scope of the caller.

        Args:
            caller: the scope of the caller.
            code: the code of the caller.
            before: the ids of the tasks that were there before the call.
        """
        if self.pipelines is not None:
            for pipeline in self.pipelines:
                pipeline._call_returned(self, caller)
                caller.add_pipeline(pipeline)
            if self.has_bare:
                for task in self.members():
                    task._used = True
        origin, own = caller.origin.current(), self.origin.current()
        if own is not origin:
            own.caller = origin
        bare = not (own.edges.data or own.edges.order)
        kept = []
        for task in self.tasks:
            if task._used or task._replaced or id(task) in before:
                kept.append(task)
            else:
                if bare and task._origin is self.origin:
                    task._origin = caller.origin  # as if the caller had made it, so that it is wired faster
                caller.add_task(task, code)
        if self.namespace:
            return  # the text of an exec: what it has made stays in its globals as well
        self.tasks[:] = kept
        if not self.shared:
            return
        shared = []
        for edge in self.shared:
            if edge.used:
                shared.append(edge)
            elif edge.upstream._origin.current() is origin and edge.downstream._origin.current() is origin:
                caller.wire(edge.upstream, edge.downstream, edge.order_only)
            else:
                edge.passed_on |= caller.package != self.package
                caller.shared.append(edge)
        self.shared = shared

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to pass on."""
        edges = self.origin.edges
        return not (self.tasks or self.shared or self.pipelines or edges.data or edges.order)

    @property
    def stamp(self) -> tuple[int, ...]:
        """A value that is another one after every change of its tasks and shared edges but a replacement."""
        return len(self.tasks), len(self.shared), self._generation


class Block:
    """What is made or wired in the ``with`` statements of one pipeline.

    Attributes:
        tasks: the tasks, in order.
        edges: the edges, which are seen by this pipeline alone.
        origin: what tasks that are made in the block know of it.
    """

    __slots__ = ("_entered", "edges", "origin", "tasks")

    def __init__(self, package: str) -> None:
        self.tasks: dict[Any, None] = {}
        self.edges: list[SharedEdge] = []
        self.origin = Origin(package, is_apart=True)
        self._entered: list[Scope] = []

    def copy(self) -> Block:
        """Return a block with the same tasks and edges, to which others may be added."""
        copy = Block(self.origin.package)
        copy.tasks.update(self.tasks)
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
        """Undo the last :meth:`enter` of a call; of any call, if this one has not entered."""
        entries = self._entered
        index = max((index for index, each in enumerate(entries) if each is scope), default=len(entries) - 1)
        blocks = entries.pop(index).blocks or []
        del blocks[max(index for index, block in enumerate(blocks) if block is self)]
        entered.remove(self)

    def wire(self, upstream: Any, downstream: Any, order_only: bool) -> None:
        """Declare an edge of the block."""
        self.edges.append(SharedEdge(upstream, downstream, order_only))
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
    scope = names.setdefault(MODULE_KEY, new)  # another thread may have been faster
    if not _is_scope_of(names, scope):
        scope = names[MODULE_KEY] = new
    if scope is new:
        _modules[id(new)] = ref(new, partial(_forget_module, id(new)))
    return scope


def _is_scope_of(names: dict[str, Any], found: object) -> bool:
    """Return whether this is the scope of a module: not something else, and not in a copy of some module's globals."""
    return isinstance(found, Scope) and found.namespace == id(names)


def _forget_module(number: int, _reference: object) -> None:
    _modules.pop(number, None)


def modules() -> list[Scope]:
    """Return the scopes of modules."""
    return [scope for reference in list(_modules.values()) if (scope := reference()) is not None]


def replacements() -> int:
    """Return how many times tasks have been replaced in this process."""
    return _replacements


def _is_other_execution(old: CodeType, new: CodeType) -> bool:
    """Return whether two codes are of two executions of a top level: of a cell run again, of a reloaded module."""
    if old is new:
        return False
    return old.co_filename != new.co_filename or old.co_firstlineno == new.co_firstlineno
