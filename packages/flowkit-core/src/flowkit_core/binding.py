"""Which upstream result becomes which parameter: by name, by position.

Decided once, when a graph is built. A :class:`Parameters` is what a function takes; a :class:`Binding` says, for one
node, where each of its arguments comes from. Two rules are known: that of a DAG (by name, then by position, from the
direct upstreams) and that of a Flow (by name from any ancestor, and one to one what is left).
"""

from __future__ import annotations

from ._typing import TYPE_CHECKING
from .errors import BindingError, near, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from ._typing import Any
    from .graph import Node
    from .task import Task

KEY = "idempotency_key"
"""The parameter that gets a text which is the same in every attempt at a task of a run, also after it is resumed."""

# inspect.CO_VARARGS, CO_VARKEYWORDS and CO_COROUTINE, without importing inspect
_VAR_POSITIONAL, _VAR_KEYWORD, _COROUTINE = 0x04, 0x08, 0x80


class Parameters:
    """What a function takes.

    Attributes:
        positional: names of the parameters that may be given by position.
        keyword_only: names of those that may not.
        positional_only: how many of the positional ones may be given by position alone.
        defaults: the parameters that have a default, and it.
        bound: those of them that a partial has bound by name: a run gives them no other value.
        rest: whether there is an ``*args``.
        named_rest: whether there is a ``**kwargs``.
        is_async: whether it is an ``async def``, also one inside a partial, behind ``__call__``, or under a decorator.
        keyed: whether it takes an ``idempotency_key``, which the run gives it unless somebody else does.
    """

    __slots__ = (
        "bound",
        "defaults",
        "is_async",
        "keyed",
        "keyword_only",
        "named_rest",
        "positional",
        "positional_only",
        "rest",
    )

    def __init__(self, func: Callable[..., Any]) -> None:
        self.is_async = is_coroutine_function(func)
        self.bound: AbstractSet[str] = frozenset()
        code = getattr(func, "__code__", None)
        if (
            code is None
            or type(func).__name__ != "function"
            or "__wrapped__" in func.__dict__
            or "__signature__" in func.__dict__
        ):
            self._inspect(func)
            return
        names, count = code.co_varnames, code.co_argcount
        self.positional: tuple[str, ...] = names[:count]
        self.keyword_only: tuple[str, ...] = names[count : count + code.co_kwonlyargcount]
        self.positional_only: int = code.co_posonlyargcount
        defaults = func.__defaults__ or ()
        self.defaults: dict[str, Any] = dict(zip(names[count - len(defaults) : count], defaults, strict=True))
        if func.__kwdefaults__:
            self.defaults |= func.__kwdefaults__
        self.rest: bool = bool(code.co_flags & _VAR_POSITIONAL)
        self.named_rest: bool = bool(code.co_flags & _VAR_KEYWORD)
        self.keyed: bool = KEY in self.names

    def _inspect(self, func: Callable[..., Any]) -> None:
        """Ask :mod:`inspect` about what is not a plain function; what cannot be known is taken as ``*args``."""
        import functools
        import inspect

        self.bound = set()
        inner: Any = func
        while isinstance(inner, functools.partial):
            self.bound |= inner.keywords.keys()
            inner = inner.func
        self.is_async = is_coroutine_inside(func)
        try:
            parameters = inspect.signature(func).parameters.values()
        except (ValueError, TypeError):  # a builtin that keeps its signature to itself
            self.positional, self.keyword_only, self.positional_only = (), (), 0
            self.defaults, self.rest, self.named_rest, self.keyed = {}, True, False, False
            return
        kinds = inspect.Parameter
        self.positional = tuple(
            p.name for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        )
        self.keyword_only = tuple(p.name for p in parameters if p.kind is kinds.KEYWORD_ONLY)
        self.positional_only = sum(p.kind is kinds.POSITIONAL_ONLY for p in parameters)
        self.defaults = {p.name: p.default for p in parameters if p.default is not kinds.empty}
        self.rest = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
        self.named_rest = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
        self.keyed = KEY in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """The named parameters, in order."""
        return self.positional + self.keyword_only

    def __str__(self) -> str:
        shown = [name + ("=..." if name in self.defaults else "") for name in self.positional]
        if self.positional_only:
            shown.insert(self.positional_only, "/")
        if self.rest:
            shown.append("*args")
        elif self.keyword_only:
            shown.append("*")
        shown += [name + ("=..." if name in self.defaults else "") for name in self.keyword_only]
        if self.named_rest:
            shown.append("**kwargs")
        return f"({', '.join(shown)})"


def is_coroutine_function(func: Any) -> bool:
    """Say whether calling something gives a coroutine: an ``async def``, a partial of one, an object of that kind."""
    while hasattr(func, "func") and not hasattr(func, "__code__"):  # functools.partial
        func = func.func
    call = getattr(type(func), "__call__", None)  # noqa: B004 - the question is what the call does
    code = getattr(func, "__code__", None) or getattr(call, "__code__", None)
    return code is not None and bool(code.co_flags & _COROUTINE)


def is_coroutine_inside(func: Any) -> bool:
    """Say whether there is a coroutine function under the decorators of something, as ``__wrapped__`` tells.

    What they make of it is theirs: calling the whole may give a coroutine, or what the function returns.
    """
    seen: list[Any] = []  # by identity: who knows what such an object is equal to
    while func is not None and not any(func is other for other in seen):
        if is_coroutine_function(func):
            return True
        seen.append(func)
        func = getattr(func, "__wrapped__", getattr(func, "func", None))
    return False


class Binding:
    """Where the arguments of one node come from; sources are indices of nodes.

    Attributes:
        named: parameter -> source.
        rest: sources of ``*args``.
        named_rest: key -> source, for ``**kwargs``.
        open: parameters that no upstream fills: they take ``run(params=...)``, then their default.
    """

    __slots__ = ("named", "named_rest", "open", "rest")

    def __init__(
        self,
        named: dict[str, int],
        rest: Sequence[int] = (),
        named_rest: Mapping[str, int] | None = None,
        open: Iterable[str] = (),
    ) -> None:
        self.named = named
        self.rest = tuple(rest)
        self.named_rest = named_rest or {}
        self.open = tuple(open)

    def in_order(self, parameters: Parameters) -> tuple[int, ...] | None:
        """Return the sources if they are the leading positional arguments, in order and no others; else None."""
        if self.named_rest:
            return None
        count = len(self.named)
        if tuple(self.named) != parameters.positional[:count]:
            if set(self.named) != set(parameters.positional[:count]):
                return None
            leading = tuple(self.named[name] for name in parameters.positional[:count])
        else:
            leading = tuple(self.named.values())
        if self.rest and count != len(parameters.positional):
            return None
        return leading + self.rest


def bind_by_position(task: Task[..., Any], parameters: Parameters, upstream: Mapping[str, int]) -> Binding:
    """Bind as a DAG does: by name from the direct upstreams, the others by position.

    A task without parameters only waits.

    Args:
        task: the task whose arguments are to be found.
        parameters: what its function takes.
        upstream: the direct upstreams, name -> index, in order of declaration.

    Raises:
        BindingError: if more results arrive than the function has parameters.
    """
    names = parameters.names
    if not names and not parameters.rest and not parameters.named_rest:
        return Binding({})
    named = {name: upstream[name] for name in names if name in upstream}
    others = [(name, index) for name, index in upstream.items() if name not in named]
    if others:
        by_place = parameters.positional if parameters.rest else names  # after *args, only a name can tell
        free = [
            name
            for name in by_place
            if name not in named and name != KEY and (name in parameters.positional or name not in parameters.defaults)
        ]
        for parameter, (_, index) in zip(free, others, strict=False):
            named[parameter] = index
        others = others[len(free) :]
    rest: list[int] = []
    named_rest: dict[str, int] = {}
    if others:
        if parameters.rest:
            rest = [index for _, index in others]
        elif parameters.named_rest:
            named_rest = dict(others)
        elif not all(name in upstream for name in names):
            raise _too_many(task, parameters, upstream, others)
    return Binding(named, rest, named_rest, _open(parameters, named))


def bind_by_name(
    task: Task[..., Any], parameters: Parameters, upstream: Mapping[str, int], earlier: Callable[[str], int | None]
) -> Binding:
    """Bind as a Flow does: by name from any earlier task, and one required parameter to one upstream that is left over.

    Args:
        task: the task whose arguments are to be found.
        parameters: what its function takes.
        upstream: the direct upstreams, name -> index, in order of declaration.
        earlier: returns the index of the earlier task of a name, or None.
    """
    names = parameters.names
    named: dict[str, int] = {}
    for name in names:
        index = upstream.get(name)
        if index is None:
            index = earlier(name)
        if index is not None:
            named[name] = index
    required = [name for name in names if name not in named and name not in parameters.defaults and name != KEY]
    others = {name: index for name, index in upstream.items() if name not in named}
    rest: list[int] = []
    named_rest: dict[str, int] = {}
    if len(required) == 1 and len(others) == 1:
        named[required[0]] = next(iter(others.values()))
    elif parameters.rest:
        rest = list(others.values())
    elif parameters.named_rest:
        named_rest = others
    return Binding(named, rest, named_rest, _open(parameters, named))


def _open(parameters: Parameters, named: Mapping[str, int]) -> list[str]:
    return [name for name in parameters.names if name not in named and name not in parameters.bound]


def check_condition(task: Task[..., Any], parameters: Parameters, upstream: int) -> None:
    """Check that the condition of a task asks for no more arguments than the task can have.

    Raises:
        BindingError: it does.
    """
    accepts = Parameters(task.when) if task.when is not None else parameters
    needed = [name for name in accepts.positional if name not in accepts.defaults]
    most = len(parameters.names) + (upstream if parameters.rest or parameters.named_rest else 0)
    if len(needed) > most:
        raise BindingError(
            f"the condition (when=) of task {task.name!r} takes {accepts}, but is called with the task's own arguments,"
            f" which are {parameters}: let it take {most} at most",
            task.name,
        )


def check_open(
    open_parameters: Sequence[tuple[Node, Sequence[str]]],
    params: Mapping[str, Any],
    names: Sequence[str],
    remedy: Callable[[Node, str], str],
) -> None:
    """Check that ``run(params=...)`` fills every parameter without default, and that each of its names is wanted.

    Args:
        open_parameters: each node with open parameters, and the names of its upstreams.
        params: what the run was given.
        names: all task names, for near misses.
        remedy: says what to do about a parameter of a node that is not filled, in the terms of the builder.

    Raises:
        BindingError: if something is missing or left over.
    """
    keys: list[Any] = list(params)
    if odd := [name for name in keys if not isinstance(name, str)]:
        raise BindingError(f"run(params=...) has the key {shown(odd[0])}, but its keys must be names of parameters")
    wanted = {parameter for node, _ in open_parameters if node.binding is not None for parameter in node.binding.open}
    if unknown := [name for name in params if name not in wanted]:
        takers = (
            f"parameters that can be given: {', '.join(sorted(wanted))}" if wanted else "no task has one left to give"
        )
        raise BindingError(
            f"run(params=...) has {unknown[0]!r}, but no task takes it from there{near(unknown[0], wanted)}; {takers}",
            None,
            unknown[0],
            sorted(wanted),
        )
    for node, upstream in open_parameters:
        for parameter in node.binding.open if node.binding is not None else ():
            if parameter not in params and parameter not in node.parameters.defaults and parameter != KEY:
                raise _missing(node.task, node.parameters, parameter, upstream, names, remedy(node, parameter))


def _too_many(
    task: Task[..., Any], parameters: Parameters, upstream: Mapping[str, int], others: Sequence[tuple[str, int]]
) -> BindingError:
    left = ", ".join(repr(name) for name, _ in others[:5]) + (", ..." if len(others) > 5 else "")
    takes = "1 argument" if len(parameters.names) == 1 else f"{len(parameters.names)} arguments"
    arrive = "1 upstream result arrives" if len(upstream) == 1 else f"{len(upstream)} upstream results arrive"
    return BindingError(
        f"task {task.name!r} takes {takes}, {parameters}, but {arrive}: {_listed(upstream)}; no parameter is left for "
        f"{left}: add one, or *args, or name every parameter after the upstream it wants",
        task.name,
        None,
        list(upstream),
    )


def _missing(
    task: Task[..., Any],
    parameters: Parameters,
    parameter: str,
    upstream: Sequence[str],
    names: Sequence[str],
    remedy: str,
) -> BindingError:
    guess = near(parameter, [name for name in names if name != task.name and name not in parameters.names])
    if parameter == "self":
        remedy = f"a method is no task by itself: make one of a bound method, Task(something.{task.name})"
    if upstream:
        use = f"nothing upstream is named that{guess}; it can use: {_listed(upstream)}"
    else:
        use = f"it has no upstream{guess}"
    return BindingError(
        f"task {task.name!r} takes {parameter!r}, but {use}; its signature is {task.name}{parameters}: "
        f"{remedy}, give the parameter a default, or pass run(params={{{parameter!r}: ...}})",
        task.name,
        parameter,
        upstream,
    )


def _listed(names: Iterable[str], most: int = 12) -> str:
    shown = list(names)
    return ", ".join(shown[:most]) + (f", ... ({len(shown) - most} more)" if len(shown) > most else "")
