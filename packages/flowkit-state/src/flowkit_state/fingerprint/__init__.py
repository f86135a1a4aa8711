"""What a function is and what it was called with, by label, the same in every process.

`changes(components(f), components(g))` says what makes one function different from another.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from types import FunctionType

from flowkit_state.fingerprint.code import shape
from flowkit_state.fingerprint.collector import FORMAT, FORMAT_LABEL, Walk, digest
from flowkit_state.fingerprint.provenance import of_code
from flowkit_state.fingerprint.values import FIXED, LENIENT, NORMAL
from flowkit_state.module_names import module_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from inspect import Signature
    from typing import Any

    from flowkit_state.serialization.serializer_protocol import Serializer

__all__ = [
    "LENIENT",
    "NORMAL",
    "changes",
    "components",
    "digest",
    "has_same_format",
    "inputs",
    "key",
    "observed",
    "short",
    "signature",
    "whole",
]

_signatures: weakref.WeakKeyDictionary[Any, Signature] = weakref.WeakKeyDictionary()
_SHORT = 16  # hexadecimal digits that are kept for comparison


def components(
    function: object, mode: int = NORMAL, own: Sequence[Serializer] = (), missed: dict[str, str] | None = None
) -> dict[str, str]:
    """Return what `function` does depends on: a digest for each thing, by label.

    Args:
        function: anything that can be called.
        mode: `NORMAL`; `LENIENT` to count what has no content (a client, a connection) by its type alone, instead of
            refusing it; `FIXED` to do so, and to count what a program may change as it goes as it was first seen.
        own: the user's serializers, for values that have no form of their own.
        missed: takes what cannot be compared and is counted by its type, in words, in the mode `FIXED`.

    Raises:
        UnsupportedValueError: a constant, a default or a variable of a closure has no content to go by.
    """
    alone = _alone(function)
    if alone is not None:
        return alone
    walk = Walk(mode, own)
    walk.function(function)
    found = walk.finish()
    if missed is not None:
        missed.update(walk.missed)
    return found


def _alone(function: object) -> dict[str, str] | None:
    """Return the components of a function that depends on nothing but its own code; None for any other."""
    if type(function) is not FunctionType or function.__closure__ is not None or vars(function):
        return None
    code, namespace = function.__code__, function.__globals__
    if function.__defaults__ is not None or function.__kwdefaults__ is not None:
        return None
    if of_code(code.co_filename, namespace.get("__name__")) is not None:
        return None
    known = shape(code, namespace)
    if not known.has_source or any(path[0] != "global" or path[1] in namespace for path in known.loads):
        return None
    return {FORMAT_LABEL: FORMAT, f"function {module_label(namespace)}.{code.co_qualname}": known.digest}


def observed(function: object, missed: dict[str, str] | None = None) -> dict[str, str]:
    """Return the components of `function` as the program is written, not as it has changed its lists and objects."""
    return components(function, FIXED, missed=missed)


def inputs(signature: Signature, given: Mapping[str, object], ignore: Collection[str] = ()) -> dict[str, str]:
    """Return a digest of each argument `given` by name, with defaults filled in, and the classes that they are of.

    Raises `UnsupportedValueError` where an argument cannot be written down faithfully.
    """
    walk = Walk()
    walk.inputs(signature, given, frozenset(ignore))
    return walk.finish()


def whole(
    function: object,
    signature: Signature,
    given: Mapping[str, object],
    ignore: Collection[str] = (),
    *,
    mode: int = NORMAL,
    own: Sequence[Serializer] = (),
) -> dict[str, str]:
    """Return the components of `function` and its `inputs`, which may share some."""
    walk = Walk(mode, own)
    walk.function(function)
    walk.inputs(signature, given, frozenset(ignore))
    return walk.finish()


def signature(function: Any) -> Signature:
    """Return the signature of `function`, worked out once. Raises `ValueError` or `TypeError` where it has none."""
    try:
        known = _signatures.get(function)
    except TypeError:  # it cannot be hashed, or not be referred to weakly
        known = None
    if known is None:
        import inspect

        known = inspect.signature(function)
        with suppress(TypeError):
            _signatures[function] = known
    return known


def key(parts: Mapping[str, str]) -> str:
    """Return one digest of all components."""
    return digest(sorted(parts.items()))


def short(parts: Mapping[str, str]) -> dict[str, str]:
    """Return the components with digests just long enough to compare."""
    return {label: text if _is_text(label) else text[:_SHORT] for label, text in parts.items()}


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return what makes `new` components different from `old` ones, a sentence each; digests may be short."""
    if not has_same_format(old, new):
        return ["the format of fingerprints has changed with flowkit-state"]
    told = []
    for label, text in new.items():
        before = old.get(label)
        if before is None:
            told.append(f"{_shown(label)} is new")
        elif _is_text(label):
            if text != before:
                told.append(f"{label} is {text}, was {before}")
        elif text[:_SHORT] != before[:_SHORT]:
            told.append(f"{_shown(label)} has changed")
    return [*told, *(f"{_shown(label)} is gone" for label in old if label not in new)]


def has_same_format(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Return whether the digests of two dictionaries of components can be compared."""
    return old.get(FORMAT_LABEL) == new.get(FORMAT_LABEL)


def _is_text(label: str) -> bool:
    return label in ("python", FORMAT_LABEL) or label.startswith("package ")


def _shown(label: str) -> str:
    kind, _, name = label.partition(" ")
    return f"input {name!r}" if kind == "input" else label
