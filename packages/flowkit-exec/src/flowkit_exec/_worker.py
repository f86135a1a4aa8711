"""A worker process: takes batches of calls from its pipe, makes them one after the other, and sends each outcome at once.

A call is begun only with its *ticket*. Tickets lie in a second pipe, which the worker and the run both may read: whoever
takes a ticket out owns the call. So the run can take back, at any moment, whatever a worker has not begun: to give it to
an idle worker, or because the run has failed, or because the worker died.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
from threading import Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

from . import _wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable

_SMALL = frozenset((float, bool, type(None)))  # of one size, whatever the value


def main(channel: int, outcomes: int, tickets: int, lifeline: int, main_module: dict[str, Any] | None) -> None:
    """Be a worker that was started as a fresh process."""
    for descriptor in (channel, outcomes, tickets, lifeline):
        os.set_inheritable(descriptor, False)
    from ._script import Script

    # what is pickled by reference to either name is found in the script
    sys.modules["__main__"] = sys.modules["__mp_main__"] = Script(main_module)
    _settle_in()
    Worker(channel, outcomes, tickets, lifeline, {}).serve()


def _settle_in() -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _ignore)  # the run decides; a handler, unlike SIG_IGN, is not handed on to subprocesses
    import faulthandler

    try:
        faulthandler.enable()
    except (OSError, ValueError, AttributeError, RuntimeError):  # there is no standard error
        return
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # what a task prints is not lost when the worker ends


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing."""


class Worker:
    """The loop of one worker.

    Args:
        channel: descriptor of the socket on which batches arrive, and over which descriptors travel.
        outcomes: descriptor of the write end of the pipe for outcomes: many small writes are cheaper there than on a socket.
        tickets: descriptor of the read end of the ticket pipe, which does not block.
        lifeline: descriptor of a pipe that nobody writes to: it ends when the process that runs the pipeline does.
        functions: functions that are here already, by number.
    """

    def __init__(self, channel: int, outcomes: int, tickets: int, lifeline: int, functions: dict[int, Callable[..., Any]]) -> None:
        self._socket = socket.socket(fileno=channel)
        self._socket.setblocking(True)
        self._outcomes = outcomes
        self._sending = Lock()  # threads that a task has started may log
        self._tickets = tickets
        self._functions = functions
        self._references: dict[int, tuple[str, Any]] = {}
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._todo: dict[int, tuple[int, Any]] = {}
        self._shared: dict[int, list[int]] = {}  # descriptors that came with a call
        self._watched = False
        self._told: dict[str, Any] = {"levels": {}}
        Thread(target=_watch, args=(lifeline,), name="flowkit-lifeline", daemon=True).start()

    def serve(self) -> None:
        """Work until the run hangs up."""
        try:
            self._send(wire.frame(wire.READY))
            while True:
                self._handle(*self._receive())
                self._labor()
                self._forget()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass
        finally:
            leave(0)

    # ---- frames --------------------------------------------------------------------------------------------------

    def _receive(self) -> tuple[int, memoryview, list[int]]:
        buffer, header = self._buffer, wire.HEADER
        need = header.size
        while True:
            if len(buffer) >= header.size:
                length, kind, count, _, _ = header.unpack_from(buffer)
                need = header.size + length
                if len(buffer) >= need:
                    payload = bytes(memoryview(buffer)[header.size : need])
                    del buffer[:need]
                    own, self._descriptors = self._descriptors[:count], self._descriptors[count:]
                    return kind, memoryview(payload), own
            data, descriptors, _, _ = socket.recv_fds(self._socket, max(65536, need - len(buffer)), wire.MOST_DESCRIPTORS)
            if not data:
                raise EOFError
            buffer += data
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            self._descriptors += descriptors

    def _send(self, data: bytes) -> None:
        with self._sending:
            sent = os.write(self._outcomes, data)
            while sent < len(data):
                sent += os.write(self._outcomes, data[sent : sent + (1 << 20)])

    def _handle(self, kind: int, payload: memoryview, descriptors: list[int]) -> None:
        message = pickle.loads(payload)
        if kind == wire.BATCH:
            first, items = message
            self._todo.update(zip(range(first, first + len(items)), items))
            if descriptors:
                self._shared[first] = descriptors
        elif kind == wire.FUNCTION:
            number, how, what = message
            self._references[number] = how, what
            self._functions.pop(number, None)
        elif kind == wire.RUN:
            self._begin(message)

    def _begin(self, facts: dict[str, Any]) -> None:
        """Make the surroundings those of the process that runs the pipeline, where they have changed there."""
        self._watched = facts["watched"]
        told, self._told = self._told, facts
        if facts["cwd"] != told.get("cwd") and facts["cwd"] is not None:
            os.chdir(facts["cwd"])
        sys.path[:] = facts["path"]
        sys.argv[:] = facts["argv"]
        environment = facts["environment"]
        if environment != told.get("environment"):
            for name in os.environ.keys() - environment.keys() - {wire.DEPTH}:
                del os.environ[name]
            os.environ.update(environment)
        self._tend_logs()

    def _tend_logs(self) -> None:
        """Send log records where they are heard; to be done again when the script may have set up handlers."""
        if self._told["levels"] or "logging" in sys.modules:
            from ._records import forward

            forward(self._send, self._told["levels"])

    # ---- work ----------------------------------------------------------------------------------------------------

    def _labor(self) -> None:
        """Make calls as long as there are tickets."""
        tickets, todo, functions = self._tickets, self._todo, self._functions
        read, loads, number_of, clock = os.read, pickle.loads, int.from_bytes, perf_counter
        before, value = 0, None  # the last call, and what came of it, for the next one in a chain
        while True:
            try:
                ticket = number_of(read(tickets, 4), "little")
            except BlockingIOError:
                return
            if not ticket:  # end of file
                raise EOFError
            while ticket not in todo:  # its batch is still on the way
                self._handle(*self._receive())
            code, data = todo.pop(ticket)
            mode = code & 7
            args: Any = ()
            kwargs: Any = None
            try:
                if mode == wire.BY_POSITION:
                    args = loads(data)
                elif mode >= wire.PREVIOUS:
                    if before != data:  # the one before did not succeed
                        self._send(wire.frame(wire.VOID, b"", ticket))
                        continue
                    args = (value,) if mode == wire.PREVIOUS else ()
                else:
                    args, kwargs = self._rare_arguments(ticket, mode, data)
            except BaseException as error:
                self._unfit(ticket, "argument", error)
                continue
            finally:
                before, value = 0, None
            func = functions.get(code >> 3) or self._find(ticket, code >> 3)
            if func is None:
                continue
            if self._watched:
                self._send(wire.frame(wire.STARTED, b"", ticket))
            began = clock()
            try:
                value = func(*args, **kwargs) if kwargs else func(*args)
            except BaseException as error:
                self._send(wire.frame(wire.ERROR, wire.pack_error(error), ticket, clock() - began))
                continue
            finally:
                args = kwargs = None
            if self._sent(ticket, value, clock() - began):
                before = ticket
            else:
                value = None

    def _rare_arguments(self, ticket: int, mode: int, data: Any) -> tuple[Any, Any]:
        """Return the arguments of a call that is not made by position alone, or that has some in shared memory."""
        if mode == wire.BY_NAME:
            args, kwargs = pickle.loads(data)
            return args, kwargs
        pickled, layouts = data
        descriptors = self._shared.pop(ticket)
        try:
            args, kwargs = wire.SharingUnpickler(pickled, descriptors, layouts).load()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return args, kwargs

    def _sent(self, ticket: int, value: Any, seconds: float) -> bool:
        """Send a result; say whether it could be sent."""
        try:
            data = pickle.dumps(value, wire.PROTOCOL) if type(value) in _SMALL else wire.encode(value)
        except BaseException as error:
            self._unfit(ticket, "result", error, type(value).__name__)
            return False
        if type(data) is bytes:
            self._send(wire.HEADER.pack(len(data), wire.VALUE, 0, ticket, seconds) + data)
        else:
            descriptor, layout = data
            socket.send_fds(self._socket, [b"."], (descriptor,))  # first, so that it is there when the frame is read
            os.close(descriptor)
            self._send(wire.frame(wire.SEGMENT, pickle.dumps(layout), ticket, seconds))
        return True

    def _find(self, ticket: int, number: int) -> Callable[..., Any] | None:
        from flowkit_core import pipeline

        from ._reference import resolve
        from ._script import StopImport

        pipeline.halt_import = StopImport("importing its module runs a pipeline: put that under if __name__ == '__main__'")
        try:
            func: Callable[..., Any] = resolve(*self._references[number])
        except BaseException as error:
            self._unfit(ticket, "function", error)
            return None
        finally:
            pipeline.halt_import = None
            self._tend_logs()
        self._functions[number] = func
        return func

    def _unfit(self, ticket: int, what: str, error: BaseException, kind: str = "") -> None:
        reason = wire._safe(lambda: f"{type(error).__name__}: {error}")
        self._send(wire.frame(wire.UNFIT, pickle.dumps((what, kind, reason)), ticket))

    def _forget(self) -> None:
        """Drop the calls that were taken back."""
        for descriptors in self._shared.values():
            for descriptor in descriptors:
                os.close(descriptor)
        self._shared.clear()
        self._todo.clear()


def _watch(lifeline: int) -> None:
    """Wait for the end of the process that runs the pipeline, and end with it, and with whatever tasks have started."""
    try:
        while os.read(lifeline, 1):
            pass
    except OSError:
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def leave(code: int) -> None:
    """End this process, without what an interpreter does at its end: handlers and threads of the user's might hang it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(code)
