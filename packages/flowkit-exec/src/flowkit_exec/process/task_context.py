"""Contexts of tasks in worker processes: a worker requests them from the process of the run, when a task needs one.

Each request has a connection of its own, on which the other process answers. So a request may be made in any thread,
whatever the worker and its channel do.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING

from flowkit_core import ContextError, context
from flowkit_core.graphs.parameters import copies_context
from flowkit_core.runs.context_transfer import RemoteFacts, answer

from . import protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from flowkit_core import Node, Run, TaskContext

    from .transports.interface import Channel

_LENGTH = struct.Struct("<Q")
_SEND_TIMEOUT = 5.0
"""Seconds in which a worker must read an answer that does not fit into the buffer of the socket."""


class ContextSource:
    """Finds the context of the running call in a worker process, and sends its requests.

    Args:
        ticket: returns the number of the running call, or of the last one; 0 before the first.
        ask: sends a request for the call with a number; returns the connection on which the answer comes.

    Attributes:
        deadline: the number of the last call with a timeout, and when that times out.
        stages: index and name of each task of the block of elements whose calls are made; None for another call.
    """

    def __init__(self, ticket: Callable[[], int], ask: Callable[[int, bytes], socket.socket]) -> None:
        self._ticket = ticket
        self._open = ask
        self.deadline = 0, 0.0
        self.stages: list[tuple[int, str]] | None = None
        self._running = 0, 0
        self._thread = get_ident()
        context.find_in_process = self.find
        context.workers.clear()  # a fork has those of the calling process
        context.variable.set(None)

    def note(self, stage: int, element: int) -> None:
        """Note which task of a block is called for which element."""
        self._running = stage, element

    def element(self) -> dict[str, Any]:
        """Return task and element of the running call as attributes of a log record; empty outside of blocks."""
        if self.stages is None:
            return {}
        stage, element = self._running
        return {"task": self.stages[stage][1], "element": element}

    def find(self, known: TaskContext | None) -> TaskContext | None:
        """Return the context of the running call.

        Args:
            known: the context that the context variable has: of this call or of an earlier one. Threads of tasks have
                no other.
        """
        ticket = self._ticket()
        if get_ident() != self._thread or not ticket:
            return known
        stages, (stage, element) = self.stages, self._running
        is_known = known is not None and known.ticket == ticket
        if known is not None and is_known and (stages is None or known.key == (stages[stage][0], element)):
            return known
        found = RemoteFacts(lambda request: self._ask(ticket, request)).context(ticket)
        if stages is not None:
            found.move_to(*stages[stage], element)
        if self.deadline[0] == ticket:
            found.deadline = self.deadline[1]
        return found

    def _ask(self, ticket: int, request: bytes) -> bytes:
        """Send a request for a call, and wait for the answer."""
        try:
            with self._open(ticket, request) as reply:
                return _receive(reply, _LENGTH.unpack(_receive(reply, _LENGTH.size))[0])
        except (OSError, EOFError) as error:
            raise ContextError(f"the process of the run does not answer: the call may have ended ({error!r})") from None


def with_context(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a function, and finds its context first if it copies that for other threads."""
    return partial(_call_with_context, func) if copies_context(func) else func


def _call_with_context(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with suppress(ContextError):
        context.find()
    return func(*args, **kwargs)


def answer_request(run: Run, node: Node | None, channel: Channel, ticket: int, request: bytes) -> None:
    """Answer a request of a worker.

    Args:
        run: the run.
        node: the node whose call has sent the request; None if the call has ended or was given up.
        channel: the channel of the worker.
        ticket: number of the call.
        request: the request.
    """
    try:
        request, reply = channel.open_reply(ticket, request)
    except OSError:  # this process cannot open more files
        return
    with reply, protocol.suppress(OSError):
        if node is not None:
            data = answer(run, node, request)
            reply.settimeout(_SEND_TIMEOUT)
            reply.sendall(_LENGTH.pack(len(data)) + data)


def _receive(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
