"""From ready nodes to what a worker is sent: batches of calls, functions, and chains in one piece."""

from __future__ import annotations

import pickle
from contextvars import copy_context
from io import BytesIO
from typing import TYPE_CHECKING, Any

from flowkit_core import Outcome
from flowkit_core.runs.states import FAILED

from . import protocol as wire
from .safe_text import is_for_the_program
from .serialization_errors import bad_argument
from .shared_memory import LARGE, Segments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowkit_core import Node, Run
    from flowkit_exec.ready_queue import Ranked

    from .function_table import Functions
    from .shared_memory import Segment
    from .worker_handle import Child

    Item = tuple[int, bytes, list[Segment]]

HEAVY = 1 << 20
"""Bytes of arguments after which a batch is full."""
_SIMPLE = frozenset((int, float, bool, type(None)))  # pickled with the batch: nothing can go wrong with them


class Sender:
    """Sends workers calls for the nodes in hand.

    Args:
        run: the run.
        ready: the nodes in hand.
        functions: how functions get to workers.
        finish: takes a node that ends without being sent, and how.

    Attributes:
        segments: large values that lie in shared memory.
        ahead: indices of the nodes in a chain that were sent before they were ready.
    """

    def __init__(
        self, run: Run, ready: Ranked, functions: Functions, finish: Callable[[Node, Outcome], object]
    ) -> None:
        self.segments = Segments()
        self.ahead: set[int] = set()
        self._run = run
        self._ready = ready
        self._functions = functions
        self._finish = finish
        self._context = copy_context()

    def give(self, child: Child, most: int, depth: int) -> None:
        """Send a worker up to so many ready nodes, and the chains that hang on them while it holds less than depth."""
        run, take, known, held, segments = self._run, self._ready.take, child.known, child.held, self.segments
        values, numbers, dumps = run.state.values, self._functions.numbers, self._functions.dumps
        items: list[tuple[int, Any]] = []
        first = ticket = child.next_ticket
        weight = 0
        shared = bool(segments)
        while most and weight < HEAVY:
            most -= 1
            try:
                node = take()
            except IndexError:
                break
            number = numbers[node.index]
            data: Any = None
            if run.fast_path and node.is_simple and not shared:
                pick, sources = node.gather, node.arg_sources
                data = pick(values) if pick is not None else (values[sources[0]],) if sources else ()
                if _SIMPLE.issuperset(map(type, data)):
                    mode = wire.AS_IT_IS
                else:
                    mode = wire.BY_POSITION
                    try:
                        data = dumps(data, wire.PROTOCOL)
                        weight += len(data)
                    except BaseException as error:  # pickling runs the user's code
                        if is_for_the_program(error):
                            raise
                        data = None
            if data is None:
                item = self._item(node)
                shared = bool(segments)
                if item is None:
                    continue
                mode, data, used = item
                if used:
                    self._give_shared(child, node, data, used)
                    if child.wants_to_send:
                        break
                    continue
                weight += len(data)
            if number not in known:
                self._teach(child, node)
            held[ticket] = node
            items.append((number << 3 | mode, data))
            ticket += 1
            if len(node.downstream) == 1 and run.fast_path and node.is_simple:
                ticket = self._follow(child, node, ticket, items, depth)
        if items:
            child.next_ticket = ticket
            child.give(range(first, ticket))
            child.send(wire.frame(wire.BATCH, pickle.dumps((first, items), wire.PROTOCOL)))

    def _follow(self, child: Child, node: Node, ticket: int, items: list[tuple[int, Any]], depth: int) -> int:
        """Send on the chain that hangs on a node, tasks that need only the one before; return the next free ticket."""
        held, numbers, known = child.held, self._functions.numbers, child.known
        while len(node.downstream) == 1 and len(held) < depth:
            after = node.downstream[0]
            sources = after.arg_sources
            if not after.is_simple or len(after.upstream) != 1 or (sources and sources != (node.index,)):
                break
            if after.index in self.ahead:  # with a worker from before, which hands it back one by one
                break
            number = numbers[after.index]
            if number not in known:
                self._teach(child, after)
            items.append((number << 3 | (wire.PREVIOUS if sources else wire.AFTER), ticket - 1))
            held[ticket] = after
            self.ahead.add(after.index)
            ticket += 1
            node = after
        return ticket

    def _give_shared(self, child: Child, node: Node, data: bytes, used: list[Segment]) -> None:
        """Send a call whose arguments lie in shared memory, by itself, with the descriptors."""
        number = self._functions.numbers[node.index]
        if number not in child.known:
            self._teach(child, node)
        ticket = child.next_shared_ticket
        child.next_shared_ticket += 1
        child.held[ticket] = node
        child.give((ticket,))
        item = number << 3 | wire.SHARED, (data, [segment.layout for segment in used])
        descriptors = tuple(segment.descriptor for segment in used)
        batch = pickle.dumps((ticket, [item]), wire.PROTOCOL)
        child.send(wire.frame(wire.BATCH, batch, descriptors=len(descriptors)), descriptors)

    def _teach(self, child: Child, node: Node) -> None:
        number = self._functions.numbers[node.index]
        how, what = self._functions.references[number]
        child.known.add(number)
        child.send(wire.frame(wire.FUNCTION, pickle.dumps((number, how, what), wire.PROTOCOL)))

    def _item(self, node: Node) -> Item | None:
        """Return mode and arguments for a node, and the segments they lie in; None if it ends without being sent."""
        call = self._run.call(node)
        if isinstance(call, Outcome):
            self._finish(node, call)
            return None
        if (ending := self._context.copy().run(call.precheck)) is not None:
            self._finish(node, ending)
            return None
        args, kwargs = call.args, call.kwargs
        try:
            item = self._pickled(args, kwargs)
            size = len(item[1])
            if size >= LARGE and self.segments.share((*args, *kwargs.values()), size, self._functions.pickled):
                item = self._pickled(args, kwargs)
        except BaseException as error:  # pickling runs the user's code
            if is_for_the_program(error):
                raise
            self._finish(node, Outcome(FAILED, error=bad_argument(node, args, kwargs, error), retryable=False))
            return None
        return item

    def _pickled(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Item:
        if self.segments and self.segments.hold_any((*args, *kwargs.values())):
            file = BytesIO()
            pickler = self._functions.pickler(file, self.segments)
            pickler.dump((tuple(args), kwargs))
            return wire.SHARED, file.getvalue(), pickler.used
        if kwargs:
            return wire.BY_NAME, self._functions.dumps((args, kwargs), wire.PROTOCOL), []
        return wire.BY_POSITION, self._functions.dumps(tuple(args), wire.PROTOCOL), []
