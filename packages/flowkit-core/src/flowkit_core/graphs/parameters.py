"""Signatures of callables: their parameters and defaults."""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from flowkit_core._typing import Any

KEY = "idempotency_key"
"""Name of a parameter that the run fills with a str that is equal in all attempts of a task, also after a resume."""

_COPYING = frozenset(("copy_context", "to_thread"))
"""Names in the code of a function that copies its context."""

# The flags of a code object, as in inspect.CO_VARARGS and so on, without importing inspect.
_VAR_POSITIONAL, _VAR_KEYWORD = 0x04, 0x08


class Parameters:
    """The parameters of a callable.

    Attributes:
        positional: names of the parameters that may be given by position.
        keyword_only: names of the keyword-only parameters.
        positional_only: number of positional-only parameters.
        defaults: parameter -> default, for parameters that have one.
        bound: parameters that a ``functools.partial`` has bound by name; a run does not change them.
        unnamed: number of positional-only parameters of a builtin, whose names are not used for binding.
        rest: whether there is a parameter ``*args``.
        named_rest: whether there is a parameter ``**kwargs``.
        keyed: whether there is a parameter ``idempotency_key``, which the run fills unless an upstream does.
        copies_context: whether the code of the function copies its context, which must then be complete when it starts.
        simple: whether all parameters are positional or ``*args``, and none is ``idempotency_key``.
    """

    __slots__ = (
        "bound",
        "copies_context",
        "defaults",
        "keyed",
        "keyword_only",
        "named_rest",
        "positional",
        "positional_only",
        "rest",
        "simple",
        "unnamed",
    )

    def __init__(self, func: Callable[..., Any]) -> None:
        self.bound: AbstractSet[str] = frozenset()
        self.unnamed = 0
        if type(func) is not FunctionType or func.__dict__:
            code = _plain_code(func)
            if code is None:
                self._inspect(func)
                return
        else:
            code = func.__code__
        self.copies_context: bool = not _COPYING.isdisjoint(code.co_names)
        names, count = code.co_varnames, code.co_argcount
        self.positional: tuple[str, ...] = names[:count]
        self.keyword_only: tuple[str, ...] = names[count : count + code.co_kwonlyargcount]
        self.positional_only: int = code.co_posonlyargcount
        defaults: Any = func.__defaults__
        self.defaults: dict[str, Any] = dict(zip(names[count - len(defaults) : count], defaults)) if defaults else {}
        if func.__kwdefaults__:
            self.defaults |= func.__kwdefaults__
        self.rest: bool = bool(code.co_flags & _VAR_POSITIONAL)
        self.named_rest: bool = bool(code.co_flags & _VAR_KEYWORD)
        self._summarize()

    @classmethod
    def of(cls, names: tuple[str, ...], defaults: dict[str, Any]) -> Parameters:
        """Return parameters of these names, which may be given by position or by name."""
        found = cls.__new__(cls)
        found.bound, found.unnamed, found.copies_context = frozenset(), 0, False
        found.positional, found.keyword_only, found.positional_only = names, (), 0
        found.defaults, found.rest, found.named_rest = defaults, False, False
        found._summarize()
        return found

    def _summarize(self) -> None:
        self.keyed: bool = KEY in self.positional or KEY in self.keyword_only
        self.simple: bool = not (self.keyed or self.keyword_only or self.named_rest)

    def _inspect(self, func: Callable[..., Any]) -> None:
        """Read the signature of another callable with :mod:`inspect`; an unknown signature counts as ``*args``."""
        import inspect

        self.copies_context = copies_context(func)

        inner: Any = func
        bound: set[str] = set()
        while type(inner) is partial:
            bound |= inner.keywords.keys()
            inner = inner.func
        self.bound = bound
        try:
            parameters = list(_signature(func).parameters.values())
        except Exception:  # builtin without a signature, invalid __signature__, or a proxy that raises
            self.positional, self.keyword_only, self.positional_only = (), (), 0
            self.defaults, self.rest, self.named_rest = {}, True, False
            self._summarize()
            return
        kinds = inspect.Parameter
        self.positional = tuple(
            p.name for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        )
        self.keyword_only = tuple(p.name for p in parameters if p.kind is kinds.KEYWORD_ONLY)
        self.positional_only = sum(p.kind is kinds.POSITIONAL_ONLY for p in parameters)
        if not any(type(layer) is FunctionType for layer in wrapped_callables(func)):
            self.unnamed = self.positional_only
        self.defaults = {p.name: p.default for p in parameters if p.default is not kinds.empty}
        self.rest = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
        self.named_rest = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
        self._summarize()

    @property
    def names(self) -> tuple[str, ...]:
        """The named parameters, in order."""
        return self.positional + self.keyword_only if self.keyword_only else self.positional

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


def _plain_code(func: Any) -> Any:
    """Return the code of a plain function without ``__wrapped__`` and ``__signature__``; else None."""
    if type(func) is not FunctionType or "__wrapped__" in func.__dict__ or "__signature__" in func.__dict__:
        return None
    return func.__code__


def _signature(func: Any, seen: tuple[Any, ...] = ()) -> Any:
    """Return the signature of a callable without dynamic attribute access.

    A mock or a proxy of a remote object returns a value for every attribute. So only functions, methods, partials,
    classes and builtins are inspected directly; for any other object, ``__call__`` of its class is inspected.
    """
    import inspect
    from types import BuiltinFunctionType

    if isinstance(func, (FunctionType, MethodType, partial, type, BuiltinFunctionType)):
        return inspect.signature(func)
    declared = inspect.getattr_static(func, "__signature__", None)
    if isinstance(declared, inspect.Signature):
        return declared
    wrapped = inspect.getattr_static(func, "__wrapped__", None)
    if wrapped is not None and callable(wrapped) and not any(wrapped is other for other in (func, *seen)):
        return _signature(wrapped, (func, *seen))
    call = inspect.getattr_static(type(func), "__call__", None)
    if isinstance(call, FunctionType):
        return inspect.signature(MethodType(call, func))
    if isinstance(call, (staticmethod, classmethod)):
        return inspect.signature(call.__get__(func, type(func)))
    if call is None or isinstance(call, partial):
        raise TypeError("the class has no __call__ that can be inspected")
    return inspect.signature(func)


def wrapped_callables(func: Any) -> list[Any]:
    """Return a callable and the callables that it wraps: functions of partials and methods, and ``__wrapped__``.

    No other attribute is followed, and attribute access is static, because a mock has every attribute.
    """
    if type(func) is FunctionType and not func.__dict__:
        return [func]
    found: list[Any] = []
    while func is not None and not any(func is other for other in found):
        found.append(func)
        if isinstance(func, partial):
            func = func.func
        elif type(func) is MethodType:
            func = func.__func__
        elif type(func) is FunctionType:
            func = func.__dict__.get("__wrapped__")
        elif isinstance(func, type):
            func = None
        else:
            from inspect import getattr_static

            call, func = getattr_static(type(func), "__call__", None), getattr_static(func, "__wrapped__", None)
            if type(call) is FunctionType:
                found.append(call)
    return found


def copies_context(func: Any) -> bool:
    """Return whether the code of a callable copies its context, to run something else in it."""
    return any(
        type(layer) is FunctionType and not _COPYING.isdisjoint(layer.__code__.co_names)
        for layer in wrapped_callables(func)
    )
