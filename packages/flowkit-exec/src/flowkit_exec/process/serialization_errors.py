"""Builders of `SerializationError` for functions, arguments and results that cannot be sent to another process."""

from __future__ import annotations

import pickle
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from flowkit_core import SerializationError
from flowkit_core.failures import describe_error
from flowkit_core.safe_text import type_name

from . import protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core import Node


def unpicklable_argument(
    node: Node, args: Sequence[Any], kwargs: dict[str, Any], error: BaseException
) -> SerializationError:
    """Return the error for arguments that cannot be pickled; it names the first such argument.

    Args:
        node: the node.
        args: its positional arguments.
        kwargs: its keyword arguments.
        error: the exception raised when all of them were pickled.
    """
    named = {**dict(zip(node.parameters.positional, args, strict=False)), **kwargs}
    for name, value in named.items():
        try:
            pickle.dumps(value, protocol.PICKLE_PROTOCOL)
        except BaseException as own:
            reason = f"{name!r} is a {type_name(value)}, which cannot be pickled ({describe_error(own)})"
            break
    else:
        reason = f"cannot be pickled ({describe_error(error)})"
    return SerializationError(node.name, "argument", reason, "pass plain data between tasks, or use executor='thread'")


def result_hint(node: Node, *, is_generator: bool) -> str:
    """Return what to do about a result of a task that cannot be pickled."""
    if node.feeds and node.element is None and is_generator:
        return (
            "return plain data, or write the task as a generator function (with yield), which runs where run() was "
            "called, or use executor='thread'"
        )
    return "return plain data, or use executor='thread'"


def transfer_error(node: Node, part: str, value_type: str, reason: str) -> SerializationError:
    """Return the error for a call that failed in the worker before or after the function ran.

    Args:
        node: the node.
        part: ``"result"``, ``"argument"``, ``"function"``, or ``"script"`` for a function that was not found because
            the script raised an exception in the worker.
        value_type: name of the type of the result.
        reason: the exception in the worker.
    """
    if part == "result":
        return SerializationError(
            node.name,
            part,
            f"is a {value_type}, which cannot be pickled ({reason})",
            result_hint(node, is_generator=value_type == GeneratorType.__name__),
        )
    if part == "argument":
        return SerializationError(
            node.name,
            part,
            f"could not be unpickled in the worker ({reason})",
            "pass plain data, or a class that workers can import and whose objects pickle can load (an exception whose "
            "__init__() takes other arguments than its args needs a method __reduce__())",
        )
    hint = "define it at the top level of a module, or of the script before its first run()"
    if part == "script":
        hint = "put what must happen once under if __name__ == '__main__', into a task, or after run()"
    reason = f"could not be found in the worker ({reason})"
    return SerializationError(node.name, "function", reason, f"{hint}; or use executor='thread'")
