"""Which tasks a bare ``DAG("name")`` means.

Every task is filed under the *scope* whose code made it: the top level of a module, or one function of it. Defining a
task again in its scope (same qualified name, same task name) replaces the first: a notebook cell that is run again, a
module that is reloaded. A function that builds a pipeline may be called twice, and each call gets tasks of its own: a
scope starts anew when its code runs again after a DAG was made in it.

What one and the same run through the code makes twice, before any of it has been put to use, is rather a mistake: a
``def`` is replaced with a warning; two tasks of one function, of two lambdas or partials, are two tasks of one name,
for the graph to refuse.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from contextvars import ContextVar
from itertools import count

from ._typing import TYPE_CHECKING
from .failure import report
from .links import present, unlink

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from ._typing import Any
    from .task import Task

    AnyTask = Task[..., Any]
    Key = tuple[int, str, int, int]  # id of a module's globals, name of a function, thread, level of recursion

_FUNCTION = 0x1  # inspect.CO_OPTIMIZED: the code of a function, not of a module or a class body
_TOP = ""

_serials = count()
_scopes: dict[Key, Scope] = {}
_under_way: list[Scope] = []  # those whose code made the last tasks, until any is put to use
_settled = 0  # the first serial number after that
_version = object()
_block: ContextVar[Block | None] = ContextVar("flowkit_block", default=None)
_hidden: ContextVar[bool] = ContextVar("flowkit_hidden", default=False)


class Scope:
    """The tasks that one run through the code of a scope has made."""

    __slots__ = ("adopted", "frame", "globals", "key", "lost", "sealed", "since", "tasks", "twins")

    def __init__(self, key: Key, module: dict[str, Any]) -> None:
        self.key = key
        self.globals = module  # held, so that its id() stays its own
        self.tasks: dict[Any, AnyTask] = {}
        # tasks of other modules that the code of this scope wired, and those that the top level made with a helper
        self.adopted: dict[AnyTask, None] = {}
        self.sealed = 0  # the line of the last DAG made here; 0: none yet
        self.frame: FrameType | None = None  # what made the last task, until that is put to use: frames hold much
        self.since = 0  # the serial number of the first that it made
        # the last of those that stand beside a task known by the same: it takes two for an error, and there may be many
        self.twins: dict[Any, AnyTask] = {}
        self.lost: tuple[AnyTask, AnyTask] | None = None  # a task that was replaced although nobody has meant that

    def defined(self, task: AnyTask, frame: FrameType | None) -> None:
        """File a task, in the place of the one that it replaces; a copy of the same name stands beside its original."""
        if frame is not self.frame or self.since < _settled:
            if self.frame is None and frame is not None:
                _under_way.append(self)
            self.frame, self.since = frame, task._serial
        key = _key(task)
        old = self.tasks.get(key)
        if old is None:
            self.tasks[key] = task
        elif old._serial >= self.since:  # by one and the same run through the code
            if _is_defined_anew(old.func, task.func):
                if self.key[1] == _TOP and (old._upstream or old._downstream):
                    _warn_of_loss(old, task)  # its edges go with it
                else:
                    self.lost = old, task  # which matters to discovery alone
                self._replace(key, task)
            else:
                task._twin, task._line = task._serial, frame.f_lineno if frame is not None else 0
                if key in self.twins:
                    self._forget(self.twins[key])
                self.twins[key] = self.tasks[_key(task)] = task
        else:
            self._replace(key, task)

    def _replace(self, key: Any, task: AnyTask) -> None:
        twin = self.twins.pop(key, None)
        for old in (self.tasks[key], twin) if twin is not None else (self.tasks[key],):
            self._forget(old)
            old._replaced = True
            if self.key[1] == _TOP:
                unlink(old)
        self.tasks[key] = task

    def tell(self) -> None:
        """Warn of what a discovery does not find any more, once."""
        if self.lost is not None:
            lost, self.lost = self.lost, None
            _warn_of_loss(*lost)

    def _forget(self, task: AnyTask) -> None:
        del self.tasks[_key(task)]
        if self.key[1] != _TOP:
            _let_go(self.key, [task])


def _key(task: AnyTask) -> Any:
    """Return what a task is known by in its scope; the name alone where that says it all, because there may be many."""
    return (_shared_key(task), task._twin) if task._twin else _shared_key(task)


def _shared_key(task: AnyTask) -> Any:
    name, qualname = task.name, task.__qualname__
    return name if name == qualname and not task._is_copy else (name, qualname, task._is_copy)


def _is_defined_anew(old: Any, new: Any) -> bool:
    """Say whether of two functions of one name the second is another execution of a ``def``, or another ``def``."""
    return old is not new and type(new).__name__ == "function" and new.__name__ != "<lambda>"


def _warn_of_loss(old: AnyTask, new: AnyTask) -> None:
    where = "there" if old.place == new.place else f"at {new.place}"
    report(
        f"task {old.name!r} of {old.place} was defined again {where} before any pipeline was made of it, and only the "
        f"last one counts: give them names of their own, with @task(name=...)"
    )


def settle() -> None:
    """Take note that tasks are put to use: what is defined again from now on is meant to replace the old."""
    global _settled
    if _under_way:
        _settled = next(_serials)
    while _under_way:
        try:
            _under_way.pop().frame = None
        except IndexError:  # another thread was quicker
            return


def _outside(frame: FrameType | None) -> FrameType | None:
    """Return the first frame that is not flowkit's own."""
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return frame


def _is_top(frame: FrameType) -> bool:
    """Say whether a frame runs the top level of a module, or a cell of a notebook."""
    code = frame.f_code
    return code.co_name == "<module>" or (not code.co_flags & _FUNCTION and frame.f_locals is frame.f_globals)


def _scope(frame: FrameType | None) -> tuple[Scope, FrameType | None]:
    """Return the scope whose code a frame runs, and the frame of that code."""
    while frame is not None and not _is_top(frame):
        code = frame.f_code
        if code.co_flags & _FUNCTION and not code.co_name.startswith("<"):
            key = (id(frame.f_globals), code.co_qualname, get_ident(), _level(frame))
            return _filed(key, frame.f_globals, frame.f_lineno), frame
        frame = frame.f_back  # a class body, a comprehension, a lambda: part of what is around it
    if frame is None:
        return _filed((0, _TOP, 0, 0), {}, 0), None
    return _filed((id(frame.f_globals), _TOP, 0, 0), frame.f_globals, 0), frame


def _adopted_by_top(task: AnyTask, frame: FrameType | None) -> None:
    """Let the top level of a module have what it makes with a helper function."""
    home = task._home.globals
    while frame is not None:
        if frame.f_globals is home and _is_top(frame):
            _scope(frame)[0].adopted[task] = None
            return
        frame = frame.f_back


def _let_go(key: Key, tasks: Iterable[AnyTask]) -> None:
    """Let the top level of a module forget what it made with a helper before: a server may do so for ever."""
    top = _scopes.get((key[0], _TOP, 0, 0))
    if top is not None:
        for task in tasks:
            top.adopted.pop(task, None)


def _level(frame: FrameType) -> int:
    """Return how many calls of the same function are under way, in a function that calls itself."""
    level = 0
    outer: FrameType | None = frame
    while outer is not None:
        level += outer.f_code is frame.f_code
        outer = outer.f_back
    return level


def _filed(key: Key, module: dict[str, Any], line: int) -> Scope:
    scope = _scopes.get(key)
    if scope is None or (key[1] and scope.sealed and line <= scope.sealed):
        if scope is not None:
            _let_go(key, scope.tasks.values())
        scope = _scopes[key] = Scope(key, module)
    return scope


def register(task: AnyTask, frame: FrameType | None) -> None:
    """File a new task under the scope that made it.

    A decorator of somebody's library may stand between a function and ``@task``; then the scope is that of the code
    which the function belongs to, found on the stack.
    """
    global _version
    task._serial = next(_serials)
    frame = _outside(frame)
    while frame is not None and frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is task:
        frame = frame.f_back  # the constructor of a subclass
    home = getattr(task.func, "__globals__", None)
    candidate = frame
    while candidate is not None and home is not None and candidate.f_globals is not home:
        candidate = candidate.f_back
    frame = candidate or frame
    scope, at = _scope(frame)
    task._home = scope
    if task._is_copy or home is None:
        task._line = at.f_lineno if at is not None else 0
    if _hidden.get():
        return
    scope.defined(task, at)
    if scope.key[1] != _TOP:
        _adopted_by_top(task, frame)
    block = _block.get()
    if block is not None:
        block.tasks.append(task)
    _version = object()


def wired(upstream: Any, downstream: Any, is_new: bool) -> None:
    """Take note of an edge that was declared, for the first time or again."""
    global _version
    _version = object()
    upstream._replaced = downstream._replaced = False  # who wires a task means it
    if downstream._bereft:
        downstream._bereft = False
    frame = _outside(sys._getframe(2))
    if frame is not None:
        for task in (upstream, downstream):
            if task._home.globals is not frame.f_globals:
                _scope(frame)[0].adopted[task] = None
    block = _block.get()
    if block is not None:
        block.tasks += (upstream, downstream)
        block.edges.setdefault(downstream, {})[upstream] = None
        if is_new:
            downstream._in_blocks = downstream._in_blocks or set()
            downstream._in_blocks.add(upstream)
    elif upstream in downstream._in_blocks:
        downstream._in_blocks.remove(upstream)  # from now on it is everybody's


def version() -> object:
    """Return a token that is another one after every change to tasks or wiring."""
    return _version


def place(task: AnyTask) -> str:
    """Return where a task was made, as ``file:line``."""
    code = getattr(task.func, "__code__", None)
    if code is not None and not (task._is_copy or task._twin):
        return f"{code.co_filename}:{code.co_firstlineno}"
    return f"{task._home.globals.get('__file__', '<interactive>')}:{task._line}"


def same(one: Any, other: Any) -> bool:
    """Say whether two tasks are the same definition, made twice."""
    return _definition(one) == _definition(other)


def here(frame: FrameType | None) -> Scope:
    """Return the scope in which a DAG is being made, and remember that one was."""
    scope, at = _scope(frame)
    scope.sealed = at.f_lineno if at is not None else 0
    return scope


def discovered(scope: Scope) -> list[AnyTask]:
    """Return the tasks that a DAG made in a scope means, in order of definition."""
    module, name, thread, _ = scope.key
    if not name:
        scope = _scopes.get(scope.key, scope)  # the registry may have been cleared since
    found: list[AnyTask] = [*scope.adopted]
    scope.tell()
    for key, other in list(_scopes.items()):
        if key[0] != module or other is scope or (name and key[2] not in (0, thread)):
            continue
        if not name or key[1] == _TOP or key[1].startswith(f"{name}.<locals>."):
            other.tell()
            found += other.tasks.values()
            # what a function made for a DAG of its own is nobody else's
            found += [task for task in other.adopted if not (name and task._home.sealed)]
    if not found and not scope.tasks:
        found += _imported(scope)
    # of a definition made several times, that of this scope counts, or else the last
    found.sort(key=serial)
    return connected({_definition(task): task for task in (*found, *scope.tasks.values())}.values())


def _imported(scope: Scope) -> list[AnyTask]:
    """Return the tasks that a module without tasks of its own has names for: it has imported its pipeline."""
    values: list[Any] = list(scope.globals.values())
    found = [value for value in values if getattr(type(value), "_is_flowkit_task", False)]
    return [task for task in found if task._home.globals is not scope.globals]


def connected(roots: Iterable[AnyTask]) -> list[AnyTask]:
    """Return tasks and all that is wired to them, without templates.

    What was defined anew is left out, unless it was wired after that; and so is a root's counterpart from another call
    of the same function. Other tasks of one name are for the graph to refuse.
    """
    seen = dict.fromkeys(roots)
    homes = {_definition(task): task._home for task in seen}
    queue = list(seen)
    for task in queue:
        for other in (*present(task, task._upstream), *present(task, task._downstream)):
            if other not in seen and not other._replaced and homes.get(_definition(other), other._home) is other._home:
                seen[other] = None
                queue.append(other)
    return sorted((task for task in seen if not is_template(task)), key=serial)


def _definition(task: AnyTask) -> tuple[Any, ...]:
    return (task._home.key, _key(task))


def sources(task: AnyTask, block: Block | None) -> Iterable[AnyTask]:
    """Return the direct upstreams of a task, where a block asks without the edges that only other blocks have."""
    known = present(task, task._upstream)
    if block is None or not task._in_blocks:
        return known
    own = block.edges.get(task, {})
    found = dict.fromkeys(other for other in known if other in own or other not in task._in_blocks)
    return [other for other in own if other in found] if len(found) <= len(own) else found


def upstream_closure(roots: Iterable[AnyTask], block: Block | None = None) -> list[AnyTask]:
    """Return tasks and everything upstream of them, in order of definition."""
    seen: dict[Any, None] = dict.fromkeys(roots)
    queue = list(seen)
    for task in queue:
        for other in sources(task, block):
            if other not in seen:
                seen[other] = None
                queue.append(other)
    return sorted(seen, key=serial)


def warn_of_other_calls(scope: Scope, tasks: Iterable[AnyTask]) -> None:
    """Warn of a task of another call of the function, which has got in by way of what the calls share."""
    module, name, _, level = scope.key
    if not name or not scope.tasks:  # what makes no tasks of its own may be a loop around the DAG, in the same call
        return
    for task in tasks:
        key = task._home.key
        if task._home is scope or (key[0], key[1], key[3]) != (module, name, level):
            continue
        for other in task._downstream:
            if other._home.key[:2] != (module, name):
                report(
                    f"task {task.name!r} is of another call of {name}(), and is here because it was wired to "
                    f"{other.name!r}, which all calls share, with all its wiring: make {other.name!r} in the function "
                    f"too, or take a copy of it there, with with_options()"
                )
                return


def current(tasks: Iterable[AnyTask]) -> list[AnyTask]:
    """Return tasks, each once, without templates and without what was defined anew among them, and not wired since."""
    once = dict.fromkeys(tasks)
    last = {_definition(task): task for task in once}
    return [task for task in once if not is_template(task) and (not task._replaced or last[_definition(task)] is task)]


def is_template(task: AnyTask) -> bool:
    """Say whether a task only serves its copies: it has some, and is wired to nothing."""
    return task._has_copies and not (task._upstream or task._downstream)


def serial(task: AnyTask) -> int:
    """Return a number that grows with each task made."""
    return task._serial


def clear() -> None:
    """Forget every task that discovery would find."""
    global _version
    settle()
    for scope in _scopes.values():
        scope.tasks.clear()
        scope.adopted.clear()
    _scopes.clear()
    _version = object()


def snapshot() -> list[tuple[Scope, dict[Any, AnyTask], dict[AnyTask, None], int, dict[AnyTask, dict[str, Any]]]]:
    """Return what is known now, wiring included, for :func:`restore`."""
    return [
        (
            scope,
            dict(scope.tasks),
            dict(scope.adopted),
            scope.sealed,
            {task: _wiring(task) for task in (*scope.tasks.values(), *scope.adopted)},
        )
        for scope in _scopes.values()
    ]


def _wiring(task: AnyTask) -> dict[str, Any]:
    up, down = (dict(known) if isinstance(known, dict) else known for known in (task._upstream, task._downstream))
    facts = {"_upstream": up, "_downstream": down, "_ghosts": task._ghosts, "_has_copies": task._has_copies}
    return facts | {"_in_blocks": set(task._in_blocks)}


def restore(
    known: list[tuple[Scope, dict[Any, AnyTask], dict[AnyTask, None], int, dict[AnyTask, dict[str, Any]]]],
) -> None:
    """Forget what was defined or wired since a :func:`snapshot`."""
    clear()
    for scope, tasks, adopted, sealed, wiring in known:
        scope.tasks, scope.adopted, scope.sealed = tasks, adopted, sealed
        scope.twins, scope.lost = {_shared_key(task): task for task in tasks.values() if task._twin}, None
        _scopes[scope.key] = scope
        for task, facts in wiring.items():
            vars(task).update(facts)


class Block:
    """What is defined or wired in the ``with`` statements of one DAG."""

    __slots__ = ("edges", "tasks")

    def __init__(self) -> None:
        self.tasks: list[AnyTask] = []
        self.edges: dict[AnyTask, dict[AnyTask, None]] = {}  # task -> its upstreams, in order of declaration


class collecting:  # noqa: N801 - used as a function, in a with statement
    """Collect what is defined or wired."""

    def __init__(self, into: Block) -> None:
        self._into = into

    def __enter__(self) -> None:
        self._token = _block.set(self._into)

    def __exit__(self, *_error: object) -> None:
        _block.reset(self._token)


class unseen:  # noqa: N801 - used as a function, in a with statement
    """Make tasks that discovery does not find: copies that were unpickled."""

    def __enter__(self) -> None:
        self._token = _hidden.set(True)

    def __exit__(self, *_error: object) -> None:
        _hidden.reset(self._token)
