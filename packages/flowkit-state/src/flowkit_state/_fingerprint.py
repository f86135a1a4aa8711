"""What a function is, and what it was called with, as text that is the same in every process.

A function is its module, its qualified name, its own code, its defaults and what its closure held when it was first
called. What cannot be written down faithfully makes the identity good for this process only, never a guess.
"""

from __future__ import annotations

import os
import weakref
from hashlib import sha256
from threading import Lock
from types import CodeType, FunctionType

from flowkit_state._codec import encode
from flowkit_state._json import dumps
from flowkit_state.errors import UnsupportedValueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from inspect import Signature
    from typing import Any

_identities: weakref.WeakKeyDictionary[FunctionType, str] = weakref.WeakKeyDictionary()


def digest(*parts: Any) -> str:
    """Return a digest of JSON trees."""
    return sha256(dumps(parts).encode()).hexdigest()


def identity(function: FunctionType) -> str:
    """Return the identity of `function`, the same each time it is asked for."""
    known = _identities.get(function)
    if known is None:
        # Only the first thread's answer counts: what a closure holds may change, and identities may not.
        known = _identities.setdefault(function, digest(_function(function, [])))
    return known


def arguments(signature: Signature, given: dict[str, Any]) -> Any:
    """Return the tree of the arguments `given` by name, with defaults filled in. Raises `UnsupportedValueError`."""
    tree = []
    for name, parameter in signature.parameters.items():
        value = given.get(name, _EMPTY.get(parameter.kind.name, parameter.default))
        try:
            tree.append([name, encode(value, root=f'argument "{name}"')])
        except UnsupportedValueError:
            if value is not parameter.default:
                raise
            tree.append([name])  # the identity of the function tells which default that is
    return tree


def _function(function: FunctionType, outer: list[FunctionType]) -> Any:
    if function in outer:
        return ["itself", outer.index(function)]
    inside = [*outer, function]
    cells: list[object] = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # the variable has no value yet
            cells.append(_UNSET)
    return [
        function.__module__,
        function.__qualname__,
        _code(function.__code__),
        _values(function.__defaults__ or (), inside),
        _values((function.__kwdefaults__ or {}).values(), inside),
        _values(cells, inside),
    ]


def _values(values: Iterable[object], outer: list[FunctionType]) -> list[Any]:
    tree = []
    for value in values:
        function = getattr(value, "__flowkit_cached__", value)
        if isinstance(function, FunctionType):
            tree.append(_function(function, outer))
        elif type(value) in _MUTABLE:
            tree.append(_as_first_seen(value))
        else:
            tree.append(_content(value))
    return tree


def _content(value: object) -> Any:
    try:
        return encode(value)
    except UnsupportedValueError:
        return ["of this process", os.urandom(16).hex()]


def _as_first_seen(container: object) -> Any:
    """Return what a captured container held when it was first seen.

    Many are there to be changed, like a list of what has been done: a function that captures one stays the same
    function. The last few are kept alive, so that no new container is taken for an old one at the same address.
    """
    with _seen_lock:
        _, tree = _seen.pop(id(container), (None, None))
        tree = _content(container) if tree is None else tree
        _seen[id(container)] = (container, tree)
        if len(_seen) > _MOST_SEEN:
            del _seen[next(iter(_seen))]
    return tree


def _code(code: CodeType) -> Any:
    """Return what code does: not where it stands, so that comments and formatting change nothing."""
    return [
        code.co_code.hex(),
        code.co_exceptiontable.hex(),
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
        [list(code.co_names), list(code.co_varnames), list(code.co_freevars), list(code.co_cellvars)],
        [_code(constant) if isinstance(constant, CodeType) else _constant(constant) for constant in code.co_consts],
    ]


def _constant(constant: object) -> Any:
    try:
        return encode(constant)
    except UnsupportedValueError:  # an Ellipsis, alone or in a tuple: its repr is what was written
        return ["literal", repr(constant)]


_MUTABLE = (list, dict, set, bytearray)
_MOST_SEEN = 64
_seen: dict[int, tuple[object, Any]] = {}
_seen_lock = Lock()
_UNSET = object()
_EMPTY: dict[str, Any] = {"VAR_POSITIONAL": (), "VAR_KEYWORD": {}}
