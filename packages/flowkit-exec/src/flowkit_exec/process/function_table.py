"""How the functions of one run get to its workers: decided before anything runs."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from flowkit_core import SerializationError

from .function_references import by_value, cloudpickle_dumps, fork_is_safe, reference, sharing_cloudpickler
from .main_module import describe_main
from .protocol import PROTOCOL
from .safe_text import described, is_for_the_program
from .shared_memory import SharingPickler

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core import Node, Run


class Functions:
    """The functions of one run.

    Args:
        run: the run.
        number: returns the number by which workers know a function from run to run, if it is given that and where it is
            found; else a new number.

    Raises:
        SerializationError: a function cannot get to a worker.

    Attributes:
        numbers: number of the function of each node, by index.
        references: number -> how a worker gets the function, and what it needs for that.
        passing: numbers of the functions that go by value: workers forget them after the run.
        forked: number -> function, for workers that are forks of this process; None for fresh ones.
        dumps: pickles arguments, in the protocol that it is given, with the options of :func:`pickle.dumps`.
        pickler: pickles those that lie in shared memory in part.
    """

    def __init__(self, run: Run, number: Callable[..., int]) -> None:
        self.references: dict[int, tuple[str, Any]] = {}
        self.passing: set[int] = set()
        self.forked: dict[int, Callable[..., Any]] | None = None
        self.dumps: Callable[..., bytes] = pickle.dumps
        self._number = number
        known: dict[int, int] = {}  # id of a function -> its number
        local: dict[int, tuple[Node, str]] = {}  # id of a function that cannot be looked up -> a node of it, why
        functions = [id(node.task.func) for node in run.graph.nodes]
        for key, node in zip(functions, run.graph.nodes):
            if key in known or key in local:
                continue
            how = reference(node.task.func)
            if isinstance(how, str):
                local[key] = node, how
            else:
                known[key] = self._add(node.task.func, *how)
        interactive = describe_main() is None
        by_cloudpickle = cloudpickle_dumps() if interactive or local else None
        self.pickler: type[SharingPickler] = SharingPickler
        if by_cloudpickle is not None and interactive:  # classes of an interactive session go by value
            self.dumps, self.pickler = by_cloudpickle, sharing_cloudpickler()
        if local and by_cloudpickle is not None:
            for key, (node, reason) in local.items():
                known[key] = self._add(node.task.func, "pickle", _pickled(node, reason))
        elif local and fork_is_safe():
            self.forked = {}
            for node in run.graph.nodes:
                known[id(node.task.func)] = own = self._add(node.task.func, "here", None)
                self.forked[own] = node.func
        elif local:
            node, reason = next(iter(local.values()))
            reason += ", and this process cannot be forked safely: it is not known to have one thread only"
            hint = "move it to the top level of a module, or install cloudpickle (flowkit-exec[cloudpickle])"
            raise SerializationError(node.name, "function", reason, f"{hint}, or use executor='thread'")
        self.numbers = [known[key] for key in functions]

    def pickled(self, value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
        """Return the pickle of one argument, without what goes into the buffers."""
        return self.dumps(value, PROTOCOL, buffer_callback=None if buffers is None else buffers.append)

    def _add(self, func: Any, how: str, what: Any) -> int:
        number = self._number(func, what[:-1]) if how == "name" else self._number()
        self.references[number] = how, what
        if how == "pickle":
            self.passing.add(number)
        return number


def _pickled(node: Node, reason: str) -> bytes:
    try:
        return by_value(node.task.func)
    except BaseException as error:  # pickling runs the user's code
        if is_for_the_program(error):
            raise
        why = f"{reason}, and cloudpickle cannot carry it either ({described(error)})"
        hint = "move it to the top level of a module, or use executor='thread'"
        raise SerializationError(node.name, "function", why, hint) from error
