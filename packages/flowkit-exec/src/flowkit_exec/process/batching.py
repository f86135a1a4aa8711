"""Class `CallSender`: sends workers the calls of ready nodes, in frames with batches of calls."""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import TYPE_CHECKING, Any

from flowkit_core import Outcome
from flowkit_core.runs.mapping.element import Block
from flowkit_core.runs.states import FAILED
from flowkit_core.safe_text import is_interrupt

from . import protocol
from .serialization_errors import unpicklable_argument
from .shared_memory import MIN_SHARED_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core import Node
    from flowkit_core.runs.session import Session

    from .functions.function_table import FunctionTable
    from .schedule import Schedule
    from .shared_memory import Segment, Segments
    from .workers.handle import WorkerHandle

    PickledArguments = tuple[int, bytes, list[Segment]]

MAX_BATCH_BYTES = 1 << 20
"""Bytes of pickled arguments after which a batch is full."""
_INLINE_TYPES = frozenset((int, float, bool, type(None)))  # pickled with the batch: pickling them cannot fail


class CallSender:
    """Sends workers calls of ready nodes.

    Args:
        session: the session of the run.
        schedule: the nodes of the run.
        functions: the functions of the run.
        segments: large values in shared memory, to which arguments are added.
    """

    def __init__(self, session: Session, schedule: Schedule, functions: FunctionTable, segments: Segments) -> None:
        self._run = session.run
        self._schedule = schedule
        self._functions = functions
        self._segments = segments
        self._context = session.context

    def send_calls(self, worker: WorkerHandle, most: int, depth: int) -> None:
        """Send a worker calls of ready nodes in one batch, and the chains that follow them.

        Args:
            worker: the worker.
            most: maximum number of ready nodes.
            depth: number of calls that the worker may hold before no more of a chain is sent.
        """
        run, take, known, held = self._run, self._schedule.ready.take, worker.known_functions, worker.held
        values, numbers = run.state.values, self._functions.numbers
        items: list[tuple[int, Any]] = []
        first = ticket = worker.next_ticket
        size = 0
        has_segments = bool(self._segments)
        while most and size < MAX_BATCH_BYTES:
            most -= 1
            if worker.held and self._schedule.next_needs_pool():
                break  # it would wait in the worker, and hold its slots meanwhile
            try:
                node = take()
            except IndexError:
                break
            number = numbers[node.index]
            data: Any = None
            if run.fast_path and node.is_simple and not has_segments:
                gather, sources = node.gather, node.arg_sources
                data = gather(values) if gather is not None else (values[sources[0]],) if sources else ()
                if _INLINE_TYPES.issuperset(map(type, data)):
                    mode = protocol.ARGS_INLINE
                else:
                    mode, data = protocol.ARGS_PICKLED, self._small_pickle(data)
                    size += len(data or b"")
            if data is None:
                call = self._prepare(node)
                has_segments = bool(self._segments)
                if call is None:
                    continue
                attempt, mode, data, used = call
                if used:
                    self._send_shared(worker, node, attempt, data, used)
                    if worker.channel.has_unsent:
                        break
                    continue
                size += len(data)
                if attempt > 1:
                    worker.attempts[ticket] = attempt
                mode, data = _with_timeout(node, mode, data)
            if number not in known:
                self._send_function(worker, node)
            if mode == protocol.ARGS_BLOCK:
                self._send_functions_of_chain(worker, node)
            held[ticket] = node
            run.note_worker(node, f"process {worker.process.pid}", worker.process.pid)
            items.append((number << 3 | mode, data))
            ticket += 1
            if len(node.downstream) == 1 and run.fast_path and node.is_simple:
                ticket = self._append_chain(worker, node, ticket, items, depth)
        if items:
            worker.next_ticket = ticket
            worker.channel.issue_tickets(range(first, ticket))
            worker.send(protocol.frame(protocol.BATCH, pickle.dumps((first, items), protocol.PICKLE_PROTOCOL)))

    def _append_chain(
        self, worker: WorkerHandle, node: Node, ticket: int, items: list[tuple[int, Any]], depth: int
    ) -> int:
        """Append the calls of the chain that follows a node: tasks that need only the one before.

        `Run.ahead` decides the same for a single node and returns a `Call`. Here that would add a microsecond to each
        task: no `Call` is needed, because the worker has the result of the call before.

        Returns:
            The next unused ticket.
        """
        held, numbers, known = worker.held, self._functions.numbers, worker.known_functions
        sent_ahead, foreign = self._schedule.sent_ahead, self._schedule.foreign
        while len(node.downstream) == 1 and len(held) < depth:
            after = node.downstream[0]
            sources = after.arg_sources
            if not after.is_simple or len(after.upstream) != 1 or (sources and sources != (node.index,)):
                break
            if after.index in sent_ahead:  # another worker, which had the chain before, has not returned it yet
                break
            if after.index in foreign:
                break
            number = numbers[after.index]
            if number not in known:
                self._send_function(worker, after)
            mode = protocol.ARGS_FROM_PREVIOUS if sources else protocol.NO_ARGS_CHAINED
            items.append((number << 3 | mode, ticket - 1))
            held[ticket] = after
            sent_ahead.add(after.index)
            ticket += 1
            node = after
        return ticket

    def _send_shared(self, worker: WorkerHandle, node: Node, attempt: int, data: bytes, used: list[Segment]) -> None:
        """Send a call whose arguments are in shared memory in a batch of its own, with their handles."""
        number = self._functions.numbers[node.index]
        if number not in worker.known_functions:
            self._send_function(worker, node)
        ticket = worker.next_shared_ticket
        worker.next_shared_ticket += 1
        worker.held[ticket] = node
        if attempt > 1:
            worker.attempts[ticket] = attempt
        self._run.note_worker(node, f"process {worker.process.pid}", worker.process.pid)
        worker.channel.issue_tickets((ticket,))
        mode, arguments = _with_timeout(node, protocol.ARGS_SHARED, (data, [segment.layout for segment in used]))
        item = number << 3 | mode, arguments
        handles = tuple(segment.handle for segment in used)
        batch = pickle.dumps((ticket, [item]), protocol.PICKLE_PROTOCOL)
        worker.send(protocol.frame(protocol.BATCH, batch, handles=len(handles)), handles)

    def _send_function(self, worker: WorkerHandle, node: Node) -> None:
        """Send the reference to the function of a node."""
        number = self._functions.numbers[node.index]
        kind, reference = self._functions.references[number]
        worker.known_functions.add(number)
        worker.send(
            protocol.frame(protocol.FUNCTION, pickle.dumps((number, kind, reference), protocol.PICKLE_PROTOCOL))
        )

    def _send_functions_of_chain(self, worker: WorkerHandle, block: Node) -> None:
        """Send the references that a worker does not know to the functions of the other stages of a block."""
        for stage in block.region.stages[1:]:  # type: ignore[attr-defined]
            if self._functions.numbers[stage.node.index] not in worker.known_functions:
                self._send_function(worker, stage.node)

    def _small_pickle(self, args: tuple[Any, ...]) -> bytes | None:
        """Return the pickle of arguments; None for what `_prepare` must take: large ones, and failures."""
        try:
            data = self._functions.dumps(args, protocol.PICKLE_PROTOCOL)
        except BaseException as error:  # pickling runs the user's code
            if is_interrupt(error):
                raise
            return None
        return data if len(data) < MIN_SHARED_SIZE else None  # large ones, from a cache, are put into shared memory

    def _prepare(self, node: Node) -> tuple[int, int, bytes, list[Segment]] | None:
        """Return the number of the attempt, how the arguments are given, their pickle, and the segments it refers to.

        Evaluates the condition of the task. Returns None if the node ended without a call.
        """
        if isinstance(node, Block):
            from .blocks import packed_block

            data = packed_block(self._run, node, self._functions)
            if isinstance(data, bytes):
                return 1, protocol.ARGS_BLOCK, data, []
            self._schedule.finish(node, data)
            return None
        call = self._run.local_call(node)
        if isinstance(call, Outcome):
            self._schedule.finish(node, call)
            return None
        outcome = self._context.copy().run(call.precheck) or self._run.admit(node)
        if outcome is not None:
            self._schedule.finish(node, outcome)
            return None
        args, kwargs = call.args, call.kwargs
        try:
            prepared = self._pickled(args, kwargs)
            size = len(prepared[1])
            if size >= MIN_SHARED_SIZE and self._segments.share(
                (*args, *kwargs.values()), size, self._functions.pickled
            ):
                prepared = self._pickled(args, kwargs)
        except BaseException as error:  # pickling runs the user's code
            if is_interrupt(error):
                raise
            failure = unpicklable_argument(node, args, kwargs, error)
            self._schedule.finish(node, Outcome(FAILED, error=failure, retryable=False))
            return None
        return call.attempt, *prepared

    def _pickled(self, args: Sequence[Any], kwargs: dict[str, Any]) -> PickledArguments:
        if self._segments and self._segments.hold_any((*args, *kwargs.values())):
            file = BytesIO()
            pickler = self._functions.pickler(file, self._segments)
            pickler.dump((tuple(args), kwargs))
            return protocol.ARGS_SHARED, file.getvalue(), pickler.used
        if kwargs:
            return protocol.ARGS_BY_NAME, self._functions.dumps((args, kwargs), protocol.PICKLE_PROTOCOL), []
        return protocol.ARGS_PICKLED, self._functions.dumps(tuple(args), protocol.PICKLE_PROTOCOL), []


def _with_timeout(node: Node, mode: int, data: Any) -> tuple[int, Any]:
    """Return mode and arguments of a call, with its timeout if it has one."""
    timeout = node.task.timeout if mode != protocol.ARGS_BLOCK else None
    return (mode, data) if timeout is None else (protocol.ARGS_TIMED, ((timeout, node.name), mode, data))
