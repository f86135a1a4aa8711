"""Class `FunctionTable`: how the functions of one run are sent to its workers."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from flowkit_core import SerializationError
from flowkit_core.failures import describe_error
from flowkit_core.safe_text import is_interrupt
from flowkit_exec.process.protocol import PICKLE_PROTOCOL
from flowkit_exec.process.shared_memory import SharingPickler

from .function_references import by_value, find_cloudpickle, fork_is_safe, reference_to, sharing_cloudpickler
from .main_module import describe_main

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flowkit_core import Graph, Node


class FunctionTable:
    """The functions of one run: each has a number, and a reference by which workers get it.

    Args:
        graph: the graph of the run.
        nodes: the nodes that the workers run.
        function_number: returns the number of a function for all runs, given the function and its reference; without
            arguments, a new number.
        can_fork: whether workers may be forks of this process.

    Raises:
        SerializationError: a function cannot be sent to a worker.

    Attributes:
        numbers: number of the function of each node, by index; -1 for a function that no worker runs.
        references: number -> kind of reference, and the reference; see `function_references`.
        by_value: numbers of the functions that are sent by value: workers drop them after the run.
        forked_functions: number -> function, if the workers are forks of this process; None if they are spawned.
        dumps: pickles arguments; takes the arguments of :func:`pickle.dumps`.
        pickler: pickler class for arguments with parts in shared memory.
    """

    def __init__(
        self, graph: Graph, nodes: Sequence[Node], function_number: Callable[..., int], *, can_fork: bool
    ) -> None:
        self.references: dict[int, tuple[str, Any]] = {}
        self.by_value: set[int] = set()
        self.forked_functions: dict[int, Callable[..., Any]] | None = None
        self.dumps: Callable[..., bytes] = pickle.dumps
        self._function_number = function_number
        numbers: dict[int, int] = {}  # id of a function -> its number
        local: dict[int, tuple[Node, str]] = {}  # id of a function without a reference -> a node of it, the reason
        functions = [id(node.task.func) for node in nodes]
        for key, node in zip(functions, nodes):
            if key in numbers or key in local:
                continue
            found = reference_to(node.task.func)
            if isinstance(found, str):
                local[key] = node, found
            else:
                numbers[key] = self._add(node.task.func, *found)
        is_interactive = describe_main() is None
        cloudpickle_dumps = find_cloudpickle() if is_interactive or local else None
        self.pickler: type[SharingPickler] = SharingPickler
        if cloudpickle_dumps is not None and is_interactive:  # classes of an interactive session are sent by value
            self.dumps, self.pickler = cloudpickle_dumps, sharing_cloudpickler()
        if local and cloudpickle_dumps is not None:
            try:
                numbers |= self._by_value(local)
            except SerializationError:
                if not (can_fork and fork_is_safe()):
                    raise
                self._fork(nodes, numbers)
        elif local and can_fork and fork_is_safe():
            self._fork(nodes, numbers)
        elif local:
            raise _neither_by_value_nor_forked(*next(iter(local.values())), can_fork=can_fork)
        if len(nodes) == len(graph.nodes):
            self.numbers = [numbers[key] for key in functions]
        else:
            self.numbers = [numbers.get(id(node.task.func), -1) for node in graph.nodes]

    def sent_by_name(self, nodes: Sequence[Node]) -> list[Node]:
        """Return those nodes whose functions workers find by their names."""
        return [node for node in nodes if self.references[self.numbers[node.index]][0] == "name"]

    def pickled(self, value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
        """Return the pickle of one argument.

        Args:
            value: the argument.
            buffers: receives the out-of-band buffers; None means that they are part of the pickle.
        """
        return self.dumps(value, PICKLE_PROTOCOL, buffer_callback=None if buffers is None else buffers.append)

    def _by_value(self, local: Mapping[int, tuple[Node, str]]) -> dict[int, int]:
        """Add functions without a reference, pickled by value; return the numbers by id.

        Raises:
            SerializationError: one of them cannot be pickled; then none is added.
        """
        pickled = {key: _pickled_by_value(node, reason) for key, (node, reason) in local.items()}
        return {key: self._add(local[key][0].task.func, "pickle", data) for key, data in pickled.items()}

    def _fork(self, nodes: Sequence[Node], numbers: dict[int, int]) -> None:
        """Have the workers be forks of this process, which have all functions."""
        self.forked_functions = {}
        self.dumps, self.pickler = pickle.dumps, SharingPickler
        for node in nodes:
            numbers[id(node.task.func)] = own = self._add(node.task.func, "fork", None)
            self.forked_functions[own] = node.func

    def _add(self, func: Any, kind: str, reference: Any) -> int:
        number = self._function_number(func, reference[:-1]) if kind == "name" else self._function_number()
        self.references[number] = kind, reference
        if kind == "pickle":
            self.by_value.add(number)
        return number


def transfer_errors(nodes: Sequence[Node], *, can_fork: bool) -> list[SerializationError]:
    """Return an error for each node whose function cannot be sent to a worker, by the rules of `FunctionTable`.

    Args:
        nodes: the nodes that the workers would run.
        can_fork: whether workers may be forks of this process.
    """
    found = ((node, reference_to(node.task.func)) for node in nodes)
    local = [(node, reason) for node, reason in found if isinstance(reason, str)]
    if not local or (can_fork and fork_is_safe()):
        return []
    if find_cloudpickle() is None:
        return [_neither_by_value_nor_forked(node, reason, can_fork=can_fork) for node, reason in local]
    errors = []
    for node, reason in local:
        try:
            _pickled_by_value(node, reason)
        except SerializationError as error:
            errors.append(error)
    return errors


def _neither_by_value_nor_forked(node: Node, reason: str, *, can_fork: bool) -> SerializationError:
    """Return the error for a function without a reference, if cloudpickle is not installed and there is no safe fork.

    Args:
        node: a node of the function.
        reason: why it cannot be sent by reference.
        can_fork: whether workers may be forks of this process.
    """
    if can_fork:
        reason += ", and this process cannot be forked safely: it is not known to have one thread only"
    else:
        reason += ", and the portable transport does not fork this process"
    hint = "move it to the top level of a module, or install cloudpickle (flowkit-exec[cloudpickle])"
    return SerializationError(node.name, "function", reason, f"{hint}, or use executor='thread'")


def _pickled_by_value(node: Node, reason: str) -> bytes:
    """Return the function of a node pickled by value.

    Args:
        node: the node.
        reason: why it cannot be sent by reference.
    """
    try:
        return by_value(node.task.func)
    except BaseException as error:  # pickling runs the user's code
        if is_interrupt(error):
            raise
        why = f"{reason}, and cloudpickle cannot pickle it either ({describe_error(error)})"
        hint = "move it to the top level of a module, or use executor='thread'"
        raise SerializationError(node.name, "function", why, hint) from error
