"""Errors for what cannot travel between processes, in words that name the task, the object and the way out."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from flowkit_core import SerializationError

from . import protocol as wire
from .safe_text import described, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core import Node


def bad_argument(node: Node, args: Sequence[Any], kwargs: dict[str, Any], error: BaseException) -> SerializationError:
    """Return an error that names the argument which cannot be pickled."""
    named = {**dict(zip(node.parameters.positional, args, strict=False)), **kwargs}
    for name, value in named.items():
        try:
            pickle.dumps(value, wire.PROTOCOL)
        except BaseException as own:
            reason = f"{name!r} is a {kind_of(value)}, which cannot be pickled ({described(own)})"
            break
    else:
        reason = f"cannot be pickled ({described(error)})"
    return SerializationError(node.name, "argument", reason, "pass plain data between tasks, or use executor='thread'")


def unfit(node: Node, what: str, value_type: str, reason: str) -> SerializationError:
    """Return the error for a function, argument or result that could not be transferred."""
    if what == "result":
        return SerializationError(
            node.name,
            what,
            f"is a {value_type}, which cannot be pickled ({reason})",
            "return plain data, or use executor='thread'",
        )
    if what == "argument":
        return SerializationError(
            node.name,
            what,
            f"could not be rebuilt in the worker ({reason})",
            "pass plain data, or a class that workers can import",
        )
    hint = "define it at the top level of a module, or of the script before its first run()"
    if what == "script":
        hint = "put what must happen once under if __name__ == '__main__', into a task, or after run()"
    reason = f"could not be found in the worker ({reason})"
    return SerializationError(node.name, "function", reason, f"{hint}; or use executor='thread'")
