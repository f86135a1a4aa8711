"""A worker process: takes batches of calls from its pipe, makes them one by one, and sends each outcome at once.

A call is begun only with its *ticket*. Tickets lie in a second pipe, which the worker and the run both may read:
whoever takes a ticket out owns the call. So the run can take back, at any moment, whatever a worker has not begun: to
give it to an idle worker, or because the run has failed, or because the worker died.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pickle
import select
import signal
import socket
import struct
import sys
from collections import deque
from contextlib import suppress
from threading import Lock, Thread, Timer
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flowkit_core import _initial_environment
from flowkit_core.failures import clear_frames, strip_traceback
from flowkit_core.runs.coroutines import CoroutineType, run_coroutine

from . import protocol as wire
from .exception_transport import pack_error
from .safe_text import described, kind_of
from .shared_memory import MOST_DESCRIPTORS, SharingUnpickler, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .main_module import Script
    from .shared_memory import Layout

_FEW_BITS = 4096
_CONTROL = socket.CMSG_SPACE(4 * MOST_DESCRIPTORS)
_LOST = -1
"""In the place of a descriptor for which there was no room."""
_SMALL = frozenset((float, bool, type(None)))  # of one size, whatever the value


def main(channel: int, outcomes: int, tickets: int, lifeline: int, main_module: dict[str, Any] | None) -> None:
    """Be a worker that was started as a fresh process."""
    for descriptor in (channel, outcomes, tickets, lifeline):
        os.set_inheritable(descriptor, False)
    from .main_module import MainModule

    # what is pickled by reference to either name is found in the script
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main = MainModule(main_module)
    wire.interactive = main_module is None
    _settle_in()
    worker = Worker(channel, outcomes, tickets, lifeline, {})
    worker.script = main._flowkit_script
    worker.script.surroundings = worker.as_it_began
    worker.serve()


def _bind(lifeline: int) -> bool:
    """Let the kernel end this process and its group with the lifeline, also while a task holds the GIL: Linux only."""
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    except (AttributeError, OSError):
        return False
    return True


def _settle_in() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: nothing else must get its number, or what a task prints would go there
            os.open(os.devnull, os.O_RDWR)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(
            signal.SIGINT, _ignore
        )  # the run decides; a handler, unlike SIG_IGN, is not handed on to subprocesses
    for number in (signal.SIGTTIN, signal.SIGTTOU):  # in a background group, the terminal would stop it, for ever
        signal.signal(number, signal.SIG_IGN)
    import faulthandler

    try:
        faulthandler.enable()
    except (OSError, ValueError, AttributeError, RuntimeError):  # there is no standard error
        return
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # what a task prints is not lost when the worker ends


def _move_into(surroundings: dict[str, Any]) -> None:
    sys.argv[:] = surroundings["argv"]
    environment = surroundings["environment"]
    if wire.environment() != environment:
        for name in wire.environment().keys() - environment.keys():
            del os.environb[name]
        os.environb.update(environment)
    if surroundings["cwd"] not in (None, wire.folder()):
        os.chdir(surroundings["cwd"])


@contextlib.contextmanager
def _logging_disabled() -> Iterator[None]:
    """Suppress log records while the script is executed: the calling process has logged them."""
    import logging

    manager = logging.root.manager
    before = manager.disable
    logging.disable(sys.maxsize)
    try:
        yield
    finally:
        if manager.disable == sys.maxsize:  # else the script has called logging.disable()
            logging.disable(before)


def _announced(buffer: bytearray) -> int:
    """Return how many descriptors come with the frames in a buffer."""
    total = at = 0
    while len(buffer) - at >= wire.HEADER.size:
        length, _, count, _, _ = wire.HEADER.unpack_from(buffer, at)
        total += count
        at += wire.HEADER.size + length
    return total


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        if descriptor != _LOST:
            os.close(descriptor)


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing."""


class Worker:
    """The loop of one worker.

    Args:
        channel: descriptor of the socket on which batches arrive, and over which descriptors travel.
        outcomes: descriptor of the write end of the pipe for outcomes: small writes are cheaper there than on a socket.
        tickets: descriptor of the read end of the ticket pipe, which does not block.
        lifeline: descriptor of a pipe that nobody writes to: it ends when the process that runs the pipeline does.
        functions: functions that are here already, by number.
    """

    def __init__(
        self, channel: int, outcomes: int, tickets: int, lifeline: int, functions: dict[int, Callable[..., Any]]
    ) -> None:
        self._socket = socket.socket(fileno=channel)
        self._socket.setblocking(True)
        self._outcomes = outcomes
        self._sending = Lock()  # threads that a task has started may log
        self._late: deque[bytes] = deque()  # so may signal handlers and __del__, also while something is being sent
        self._copied = False
        self._tickets = tickets
        self._functions = functions
        self._references: dict[int, tuple[str, Any]] = {}
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._todo: dict[int, tuple[int, Any]] = {}
        self._shared: dict[int, list[int]] = {}  # descriptors that came with a call
        self._watched = False
        self.script: Script | None = None  # None in a fork
        self._ticket = 0  # of the call that is being made
        self._fail_fast = True
        self._told: dict[str, Any] = {"levels": {}}
        bound = _bind(lifeline)
        try:
            Thread(target=_watch, args=(lifeline,), name="flowkit-lifeline", daemon=True).start()
        except RuntimeError:  # the system has no more threads to give
            if not bound:
                raise
        os.register_at_fork(after_in_child=self._fall_silent)

    def serve(self) -> None:
        """Work until the run hangs up."""
        code = 1
        try:
            self._send(wire.frame(wire.READY))
            while True:
                self._handle(*self._receive())
                self._labor()
                self._forget()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = 0
        except SystemExit as leaving:  # of a copy
            code = leaving.code if isinstance(leaving.code, int) else leaving.code is not None
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            leave(code)

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
            data, control, flags, _ = self._socket.recvmsg(max(65536, need - len(buffer)), _CONTROL)
            if not data:
                raise EOFError
            buffer += data
            arrived = [descriptor for _, _, sent in control for (descriptor,) in struct.iter_unpack("i", sent)]
            for descriptor in arrived:
                os.set_inheritable(descriptor, False)
            if flags & socket.MSG_CTRUNC:  # there was no room for all of them in this process
                arrived += [_LOST] * (_announced(buffer) - len(self._descriptors) - len(arrived))
            self._descriptors += arrived

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._write(data)
        if self._late:
            self._send_late()

    def _send_soon(self, data: bytes) -> None:
        """Send, now or as soon as what is being sent has gone: for who might interrupt the sender in its own thread."""
        self._late.append(data)
        self._send_late()

    def _send_late(self) -> None:
        while self._late and self._sending.acquire(blocking=False):
            try:
                while self._late:
                    self._write(self._late.popleft())
            finally:
                self._sending.release()

    def _write(self, data: bytes) -> None:
        sent = os.write(self._outcomes, data)
        while sent < len(data):
            sent += os.write(self._outcomes, data[sent : sent + (1 << 20)])

    def _fall_silent(self) -> None:
        """In a fork of this process that a task has made: it must not speak for the worker, nor take its work."""
        self._copied = True
        ways = (self._socket.fileno(), self._outcomes, self._tickets)
        os.close(self._outcomes)  # there may be no room for one more
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in ways:
            if descriptor != nothing:
                os.dup2(nothing, descriptor, inheritable=False)
        if nothing not in ways:
            os.close(nothing)
        self._sending = Lock()
        if "flowkit_exec.process.log_forwarding" in sys.modules:
            from .log_forwarding import forward

            forward(self._send_record, {})

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
            if message is not None:  # else they are as for the run before
                self._told, self._watched, self._fail_fast = message, message["watched"], message["fail_fast"]
                _initial_environment.captured = message["began"]  # for workers of a run inside a task
                self._set_run_line(message["run_line"])
                self._tend_logs()
            self._settle()
            for number in [number for number, (how, _) in self._references.items() if how == "pickle"]:
                del self._references[number]  # it went by value, for one run
                self._functions.pop(number, None)

    def _set_run_line(self, line: int | None) -> None:
        """Store the line of the script that called ``run()``; look its functions up again if that is another line."""
        if self.script is None or self.script.run_line == line:
            return
        self.script.run_line = line
        for number, (how, what) in self._references.items():
            if how == "name" and what[0] == "__main__":
                self._functions.pop(number, None)

    def _settle(self) -> None:
        """Make the surroundings those of the process that runs the pipeline, whatever tasks have made of them here."""
        sys.path[:] = self._told["path"]
        try:
            _move_into(self._told)
        except OSError as error:  # nothing may run here that was meant to run there
            self._send(wire.frame(wire.ASTRAY, described(error).encode(errors="backslashreplace")))
            raise EOFError from error

    @contextlib.contextmanager
    def as_it_began(self) -> Iterator[None]:
        """Let the surroundings be what the program began with, and say so if that takes long."""
        depth = os.fsencode(wire.DEPTH)
        environment = {**self._told["began"]["environment"], depth: self._told["environment"][depth]}
        with suppress(OSError):  # the folder is gone
            _move_into({**self._told["began"], "environment": environment})
        patience = Timer(wire.PATIENCE, self._send_soon, [wire.frame(wire.SLOW)])
        patience.daemon = True
        with suppress(RuntimeError):  # the system has no more threads to give
            patience.start()
        try:
            with _logging_disabled() if self._told["levels"] else contextlib.nullcontext():
                yield
        finally:
            patience.cancel()
            self._settle()
            self._tend_logs()

    def _tend_logs(self) -> None:
        """Send log records where they are heard; to be done again when the script may have set up handlers."""
        if self._told["levels"] or "logging" in sys.modules:
            from .log_forwarding import forward

            forward(self._send_record, self._told["levels"])

    def _send_record(self, data: bytes) -> None:
        self._send_soon(wire.frame(wire.LOG, data, self._ticket))

    # ---- work ----------------------------------------------------------------------------------------------------

    def _labor(self) -> None:
        """Make calls as long as there are tickets."""
        tickets, todo, functions = self._tickets, self._todo, self._functions
        read, write, loads, dumps, pack = os.read, os.write, pickle.loads, pickle.dumps, wire.HEADER.pack
        number_of, clock, outcomes, sending = int.from_bytes, perf_counter, self._outcomes, self._sending
        before, value = 0, None  # the last call, and what came of it, for the next one in a chain
        while True:
            try:
                ticket = number_of(read(tickets, 8), "little")
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
                if mode == wire.AS_IT_IS:
                    args = data
                elif mode == wire.BY_POSITION:
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
            func = functions.get(code >> 3)
            if func is None:
                func = self._find(ticket, code >> 3)
                if func is None:
                    continue
            if self._watched:
                self._send(wire.frame(wire.STARTED, b"", ticket))
            self._ticket = ticket
            began = clock()
            try:
                value = func(*args, **kwargs) if kwargs else func(*args)
                if type(value) is CoroutineType:
                    value = run_coroutine(value)
            except BaseException as error:
                if self._copied:
                    raise
                self._send(wire.frame(wire.ERROR, pack_error(error), ticket, clock() - began))
                strip_traceback(error)  # asyncio frames refer to the error: a reference cycle
                clear_frames((error,))
                if self._fail_fast:
                    self._decline()
                continue
            finally:
                args = kwargs = None
            seconds = clock() - began
            kind = type(value)
            if kind in _SMALL or (kind is int and value.bit_length() < _FEW_BITS):  # what surely pickles into few bytes
                data = dumps(value, wire.PROTOCOL)
                with sending:
                    write(outcomes, pack(len(data), wire.VALUE, 0, ticket, seconds) + data)
                before = ticket
            elif self._sent(ticket, value, seconds):
                before = ticket
            else:
                value = None

    def _decline(self) -> None:
        """After a failure that may stop the run, hand back what was not begun: the run says what is to become of it."""
        with suppress(BlockingIOError):
            for (ticket,) in wire.TICKET.iter_unpack(os.read(self._tickets, 1 << 16)):
                self._send(wire.frame(wire.VOID, b"", ticket))

    def _rare_arguments(self, ticket: int, mode: int, data: Any) -> tuple[Any, Any]:
        """Return the arguments of a call that is not made by position alone, or that has some in shared memory."""
        if mode == wire.BY_NAME:
            args, kwargs = pickle.loads(data)
            return args, kwargs
        pickled, layouts = data
        descriptors = self._shared.pop(ticket)
        try:
            if _LOST in descriptors:
                raise OSError(errno.EMFILE, "a large value needs a file descriptor, and this worker may open no more")
            args, kwargs = SharingUnpickler(pickled, descriptors, layouts).load()
        finally:
            _close_all(descriptors)
        return args, kwargs

    def _sent(self, ticket: int, value: Any, seconds: float) -> bool:
        """Send a result; say whether it could be sent."""
        try:
            data = self._encoded(value, ticket)
        except BaseException as error:
            self._unfit(ticket, "result", error, kind_of(value))
            return False
        if type(data) is bytes:
            self._send(wire.HEADER.pack(len(data), wire.VALUE, 0, ticket, seconds) + data)
        else:
            self._send(wire.frame(wire.SEGMENT, pickle.dumps(data), ticket, seconds))
        return True

    def _encoded(self, value: Any, ticket: int) -> bytes | Layout:
        """Return the pickle of a value; for a large one, the layout of a segment whose descriptor is sent already."""
        try:
            data = encode(value)
            if isinstance(data, bytes):
                return data
            descriptor, layout = data
            try:  # before the frame, so that it is there when that is read
                socket.send_fds(self._socket, [wire.TICKET.pack(ticket)], (descriptor,))
            finally:
                os.close(descriptor)
        except OSError:  # no memory there, or no descriptors: the ordinary way
            return wire.dumps(value)
        return layout

    def _find(self, ticket: int, number: int) -> Callable[..., Any] | None:
        from .function_references import resolve
        from .main_module import ScriptError, runs_forbidden

        try:
            with runs_forbidden("importing its module runs a pipeline: put that under if __name__ == '__main__'"):
                func: Callable[..., Any] = resolve(*self._references[number])
        except BaseException as error:
            self._unfit(ticket, "script" if isinstance(error, ScriptError) else "function", error)
            return None
        finally:
            self._tend_logs()
        self._functions[number] = func
        return func

    def _unfit(self, ticket: int, what: str, error: BaseException, kind: str = "") -> None:
        self._send(wire.frame(wire.UNFIT, pickle.dumps((what, kind, described(error))), ticket))

    def _forget(self) -> None:
        """Drop the calls that were taken back."""
        for descriptors in self._shared.values():
            _close_all(descriptors)
        self._shared.clear()
        self._todo.clear()


def _watch(lifeline: int) -> None:
    """Wait for the end of the process that runs the pipeline, and end with it, and with whatever tasks have started."""
    ends = select.poll()
    ends.register(lifeline, select.POLLIN)
    with contextlib.suppress(AttributeError, OSError):  # a fork of that process keeps the lifeline open: Linux only
        ends.register(os.pidfd_open(os.getppid()), select.POLLIN)
    ends.poll()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def leave(code: int) -> None:
    """End this process without what an interpreter does at its end, which a user's handlers and threads might hang."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(code)
