"""Fingerprints of functions and of their arguments: components, which are digests by label.

The components are the same in every process. `changes(components(f), components(g))` returns how two functions differ.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from types import FunctionType

from flowkit_state.fingerprint.code import analyze
from flowkit_state.fingerprint.collector import (
    ATTRIBUTE,
    BOUND,
    CALLABLE,
    FORMAT,
    FORMAT_LABEL,
    INPUT,
    DependencyCollector,
    digest,
)
from flowkit_state.fingerprint.policy import CONSTANTS, PARAMETERS, RECORDED, VERSIONED
from flowkit_state.fingerprint.provenance import of_code
from flowkit_state.module_names import module_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from inspect import Signature
    from typing import Any

    from flowkit_state.fingerprint.argument_digest import ArgumentDigest
    from flowkit_state.fingerprint.data_flow import Path
    from flowkit_state.fingerprint.policy import Policy
    from flowkit_state.fingerprint.process_reads import ProcessReads
    from flowkit_state.serialization.serializer_protocol import Serializer

__all__ = [
    "CONSTANTS",
    "VERSIONED",
    "argument_digest",
    "call_components",
    "changes",
    "changes_by_label",
    "components",
    "digest",
    "has_same_format",
    "initial_components",
    "input_components",
    "is_input",
    "key",
    "shortened",
    "signature",
    "value_components",
]

_signatures: weakref.WeakKeyDictionary[Any, Signature] = weakref.WeakKeyDictionary()
_SHORT = 16  # hexadecimal digits of a shortened digest


def components(
    function: object,
    policy: Policy = CONSTANTS,
    own: Sequence[Serializer] = (),
    missed: dict[str, str] | None = None,
    reads: ProcessReads | None = None,
) -> dict[str, str]:
    """Return the components of a function: its code, and all code and values that it uses.

    Args:
        function: any callable.
        policy: how the values that the code reads are compared.
        own: the user's serializers, for values of types that are not supported otherwise.
        missed: receives the values that count by their type alone, as text by label, if the policy records them.
        reads: receives what the code reads from the process, whose components are added.

    Raises:
        UnsupportedValueError: a constant, a default or a variable of a closure has no comparable content.
    """
    if (alone := _code_component(function)) is not None:
        return alone
    collector = DependencyCollector(policy, own, reads)
    collector.add_function(function)
    found = collector.collect()
    if missed is not None:
        missed.update(collector.missed)
        if reads is not None and reads.uses_environment:
            missed["os.environ"] = "os.environ as a whole"
    return found


def _code_component(function: object) -> dict[str, str] | None:
    """Return the components of a function of the project that uses nothing but builtins; None for any other."""
    if type(function) is not FunctionType or function.__closure__ is not None or vars(function):
        return None
    code, namespace = function.__code__, function.__globals__
    if function.__defaults__ is not None or function.__kwdefaults__ is not None:
        return None
    if of_code(code.co_filename, namespace.get("__name__")) is not None:
        return None
    known = analyze(code, namespace)
    if not known.has_source or any(_needs_look(path, namespace) for path in known.loads):
        return None
    return {FORMAT_LABEL: FORMAT, f"function {module_label(namespace)}.{code.co_qualname}": known.digest}


def _needs_look(path: Path, namespace: Mapping[str, object]) -> bool:
    kind, name = path[:2]
    return kind != "global" or name in namespace or name == "input"


def initial_components(
    function: object, missed: dict[str, str] | None = None, reads: ProcessReads | None = None
) -> dict[str, str]:
    """Return the components of `function`, with lists and objects as at their first fingerprint in this process."""
    return components(function, RECORDED, missed=missed, reads=reads)


def input_components(signature: Signature, given: Mapping[str, object], ignore: Collection[str] = ()) -> dict[str, str]:
    """Return the components of arguments `given` by name, with defaults filled in, and of the classes that they use.

    Raises `UnsupportedValueError` if an argument has no comparable content.
    """
    collector = DependencyCollector()
    collector.add_inputs(signature, given, frozenset(ignore))
    return collector.collect()


def argument_digest(value: object) -> ArgumentDigest | None:
    """Return the digest of an argument for a look-up in another process; None if the value itself is needed there."""
    try:
        return DependencyCollector().digest_elsewhere(value)
    except Exception:  # the process that looks the result up reports the reason
        return None


def value_components(value: object, own: Sequence[Serializer] = ()) -> dict[str, str]:
    """Return the components of a value, and of the classes and functions that it uses.

    Raises `UnsupportedValueError`, whose path begins with `value`, if it has no comparable content.
    """
    collector = DependencyCollector(PARAMETERS, own)
    collector.add_value(value)
    return collector.collect()


def call_components(
    function: object,
    signature: Signature,
    given: Mapping[str, object],
    ignore: Collection[str] = (),
    *,
    policy: Policy = CONSTANTS,
    own: Sequence[Serializer] = (),
    reads: ProcessReads | None = None,
) -> dict[str, str]:
    """Return the components of a call: those of `function` and those of its arguments."""
    collector = DependencyCollector(policy, own, reads)
    collector.add_function(function)
    collector.add_inputs(signature, given, frozenset(ignore))
    return collector.collect()


def signature(function: Any) -> Signature:
    """Return the signature of `function`, computed once. Raises `ValueError` or `TypeError` if it has none."""
    try:
        known = _signatures.get(function)
    except TypeError:  # it cannot be hashed, or not be referenced weakly
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


def shortened(parts: Mapping[str, str]) -> dict[str, str]:
    """Return components with digests that are just long enough to compare."""
    return {label: text if _is_not_a_digest(label) else text[:_SHORT] for label, text in parts.items()}


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return how `new` components differ from `old` ones, a sentence each. Their digests may be shortened."""
    return list(changes_by_label(old, new).values())


def changes_by_label(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return the sentences of `changes()` by the label of the component that has changed."""
    if not has_same_format(old, new):
        return {FORMAT_LABEL: "the format of fingerprints has changed with flowkit-state"}
    found = {}
    for label, text in new.items():
        before = old.get(label)
        if before is None:
            found[label] = f"{_described(label)} is new"
        elif _is_not_a_digest(label):
            if text != before:
                found[label] = f"{label} is {text}, was {before}"
        elif text[:_SHORT] != before[:_SHORT]:
            found[label] = f"{_described(label)} has changed"
    found |= {label: f"{_described(label)} is gone" for label in old if label not in new}
    for label in list(found):
        kind, _, name = label.partition(" ")
        if kind == INPUT:  # what a partial binds is an input of the call as well
            found.pop(BOUND.format(name), None)
        elif kind == ATTRIBUTE:
            found.pop(CALLABLE, None)  # of which the attribute is a part
    return found


def has_same_format(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Return whether the digests of two fingerprints can be compared."""
    return old.get(FORMAT_LABEL) == new.get(FORMAT_LABEL)


def is_input(label: str) -> bool:
    """Return whether a component is an argument of the call, and not code or a value that the code reads."""
    return label.startswith(f"{INPUT} ")


def _is_not_a_digest(label: str) -> bool:
    """Return whether a component is a text, such as a version, instead of a digest."""
    return label in ("python", FORMAT_LABEL) or label.startswith("package ")


def _described(label: str) -> str:
    kind, _, name = label.partition(" ")
    return f"{INPUT} {name!r}" if kind == INPUT else label
