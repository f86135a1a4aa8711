"""Class `Worker`: the main loop of a worker process.

A worker receives batches of calls on its socket, makes the calls one after the other, and sends each outcome at once.
It may start a call only with its *ticket*. Tickets lie in a pipe that both the worker and the calling process read: the
process that reads a ticket owns its call. So the calling process can withdraw, at any moment, the calls that the worker
has not started: to give them to an idle worker, because the run is stopped, or because the worker died.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Lock, Timer
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flowkit_core import _initial_environment
from flowkit_core.coroutines import CoroutineType, run_coroutine
from flowkit_core.errors import Skip
from flowkit_core.failures import describe_error, drop_tracebacks
from flowkit_core.runs.time_limit import TimeLimit
from flowkit_core.safe_text import type_name

from . import protocol
from .exception_transport import pack_error
from .shared_memory import SharingUnpickler, share
from .surroundings import encode, enter
from .task_context import ContextSource, with_context
from .warning_forwarding import WarningForwarder
from .worker_exit import exit_now

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator

    from .functions.main_module import Script
    from .transports.interface import Endpoint, Layout

_SMALL_INT_BITS = 4096
_SMALL_TYPES = frozenset((float, bool, type(None)))  # pickling them cannot fail, and takes few bytes


def main(endpoint: Endpoint, main_module: dict[str, Any] | None) -> None:
    """Be a spawned worker, which ends in order when this function returns.

    Args:
        endpoint: the connection to the calling process.
        main_module: what `describe_main` has returned in the calling process.
    """
    from .functions.main_module import MainModule

    # pickles refer to the script by either name
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main = MainModule(main_module)
    protocol.interactive = main_module is None
    worker = Worker(endpoint, {})
    worker.script = main._flowkit_script
    worker.script.surroundings = worker.at_program_start
    atexit.register(worker.script.clear)  # the first that is registered is the last that is called
    worker.serve()


def set_up_process() -> None:
    """Prepare standard streams and signals of a worker process."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: a file that is opened later would get the number, and what a task prints
            os.open(os.devnull, os.O_RDWR)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # the calling process decides; subprocesses do not inherit a handler, as they would SIG_IGN
        signal.signal(signal.SIGINT, _ignore)
    for name in ("SIGTTIN", "SIGTTOU"):  # workers are a background process group: a terminal stops those
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    import faulthandler

    try:
        faulthandler.enable()
    except (OSError, ValueError, AttributeError, RuntimeError):  # there is no standard error
        return
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # what a task prints is not lost when the worker is killed


def _ignore(_number: int, _frame: object) -> None:
    """Signal handler that does nothing."""


class Worker:
    """The main loop of a worker process.

    Args:
        endpoint: the connection to the calling process.
        functions: function number -> function, for a fork of the calling process.

    Attributes:
        script: the script of the calling process; None in a fork, which has it already.
    """

    def __init__(self, endpoint: Endpoint, functions: dict[int, Callable[..., Any]]) -> None:
        self.script: Script | None = None
        self._endpoint = endpoint
        self._sending = Lock()  # threads of tasks may log
        self._queued: deque[bytes] = deque()  # signal handlers and __del__ may log while the lock is held
        self._is_forked_child = False
        self._functions = {number: with_context(func) for number, func in functions.items()}
        self._references: dict[int, tuple[str, Any]] = {}
        self._calls: dict[int, tuple[int, Any]] = {}  # ticket -> function number and mode, arguments
        self._shared: dict[int, list[int]] = {}  # ticket -> handles that were sent with the call
        self._ticket = 0  # of the running call
        self._reports_starts = False
        self._surroundings: dict[str, Any] = {"log_levels": {}, "warning_filters": [], "fail_fast": True}
        self._warnings = WarningForwarder(self._send_warning)
        self._contexts = ContextSource(lambda: self._ticket, self._ask)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._detach_forked_child)

    def serve(self) -> None:
        """Make calls until the calling process closes the socket.

        Exits at once, without returning, after an error and in a process that a task has forked.
        """
        try:
            self._send(protocol.frame(protocol.READY, protocol.python_version().encode()))
            while True:
                self._handle(*self._endpoint.receive())
                self._run_calls()
                self._drop_calls()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            if self._is_forked_child:
                exit_now(0)
        except SystemExit as exit_request:  # in a process that a task has forked
            exit_now(exit_request.code if isinstance(exit_request.code, int) else exit_request.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            exit_now(1)

    # ---- frames --------------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        """Send a frame, waiting for other threads."""
        with self._sending:
            self._endpoint.write(data)
        if self._queued:
            self._send_queued()

    def _send_or_queue(self, data: bytes) -> None:
        """Send a frame, or queue it while another is being sent: a signal handler may call this meanwhile."""
        self._queued.append(data)
        self._send_queued()

    def _send_queued(self) -> None:
        while self._queued and self._sending.acquire(blocking=False):
            try:
                while self._queued:
                    self._endpoint.write(self._queued.popleft())
            finally:
                self._sending.release()

    def _detach_forked_child(self) -> None:
        """In a process forked by a task: give up the connection of the worker."""
        self._is_forked_child = True
        self._endpoint.detach()
        self._sending = Lock()
        if "flowkit_exec.process.log_forwarding" in sys.modules:
            from .log_forwarding import forward_records

            forward_records(self._send_record, {})
        self._warnings.stop()

    def _handle(self, kind: int, payload: memoryview, handles: list[int]) -> None:
        """Handle a frame."""
        message = pickle.loads(payload)
        if kind == protocol.BATCH:
            first, items = message
            self._calls.update(zip(range(first, first + len(items)), items))
            if handles:
                self._shared[first] = handles
        elif kind == protocol.FUNCTION:
            number, reference_kind, reference = message
            self._references[number] = reference_kind, reference
            self._functions.pop(number, None)
        elif kind == protocol.IDLE:
            self._endpoint.set_idle_timeout(message)
        elif kind == protocol.RUN:
            self._endpoint.set_idle_timeout(None)
            message, initializer = message
            if message is not None:  # else the surroundings are those of the run before
                self._surroundings, self._reports_starts = message, message["reports_starts"]
                _initial_environment.captured = message["at_start"]  # for workers of a run inside a task
                self._set_run_line(message["run_line"])
                self._forward_logs_and_warnings()
            else:
                self._warnings.start(self._surroundings["warning_filters"])
            self._enter_surroundings()
            for number in [number for number, (kind, _) in self._references.items() if kind == "pickle"]:
                del self._references[number]  # sent by value, for one run
                self._functions.pop(number, None)
            if initializer is not None:
                self._initialize(*initializer)

    def _initialize(self, kind: str, reference: Any, arguments: bytes) -> None:
        """Call the initializer; if it raises, send the exception and end."""
        from .functions.function_references import resolve

        try:
            initializer = self._functions[0] if kind == "fork" else resolve(kind, reference)
            initializer(*pickle.loads(arguments))
        except BaseException as error:
            if self._is_forked_child:
                raise
            self._send(protocol.frame(protocol.NOT_INITIALIZED, pack_error(error)))
            raise EOFError from None
        finally:
            self._warnings.keep_changes()
            self._forward_logs_and_warnings()

    # ---- surroundings --------------------------------------------------------------------------------------------

    def _set_run_line(self, line: int | None) -> None:
        """Store the line of the script that called ``run()``; look its functions up again if that is another line."""
        if self.script is None or self.script.run_line == line:
            return
        self.script.run_line = line
        for number, (kind, reference) in self._references.items():
            if kind == "name" and reference[0] == "__main__":
                self._functions.pop(number, None)

    def _enter_surroundings(self) -> None:
        """Set import path, folder, arguments and environment to those of the calling process; tasks may change them."""
        sys.path[:] = self._surroundings["path"]
        try:
            enter(self._surroundings)
        except OSError as error:  # no task may run in another folder
            text = describe_error(error).encode(errors="backslashreplace")
            self._send(protocol.frame(protocol.CHDIR_FAILED, text))
            raise EOFError from error

    @contextlib.contextmanager
    def at_program_start(self) -> Iterator[None]:
        """Set folder, arguments and environment to those that the program began with, in a block that runs its script.

        Sends SCRIPT_SLOW if the block takes long.
        """
        surroundings = self._surroundings
        depth = encode(protocol.DEPTH_VARIABLE)
        environment = {**surroundings["at_start"]["environment"], depth: surroundings["environment"][depth]}
        with suppress(OSError):  # the folder was removed
            enter({**surroundings["at_start"], "environment": environment})
        timer = Timer(protocol.SCRIPT_SLOW_AFTER, self._send_or_queue, [protocol.frame(protocol.SCRIPT_SLOW)])
        timer.daemon = True
        with suppress(RuntimeError):  # the system cannot start more threads
            timer.start()
        self._warnings.pause()
        try:
            with _logging_disabled() if surroundings["log_levels"] else contextlib.nullcontext():
                yield
        finally:
            timer.cancel()
            self._enter_surroundings()
            self._forward_logs_and_warnings()

    def _forward_logs_and_warnings(self) -> None:
        """Forward log records and warnings; to be repeated after code that may have added handlers or filters."""
        self._warnings.start(self._surroundings["warning_filters"])
        if self._surroundings["log_levels"] or "logging" in sys.modules:
            from .log_forwarding import forward_records

            forward_records(self._send_record, self._surroundings["log_levels"], self._contexts.element)

    def _send_warning(self, data: bytes) -> None:
        self._send_or_queue(protocol.frame(protocol.WARNING, data, self._ticket))

    def _send_record(self, data: bytes) -> None:
        self._send_or_queue(protocol.frame(protocol.LOG, data, self._ticket))

    def _ask(self, ticket: int, request: bytes) -> socket.socket:
        """Send a request for the context of a call; return the connection on which the answer comes."""
        return self._endpoint.ask(ticket, request, self._send)

    # ---- calls ---------------------------------------------------------------------------------------------------

    def _run_calls(self) -> None:
        """Make calls as long as there are tickets."""
        next_ticket, write, calls, functions = (
            self._endpoint.next_ticket,
            self._endpoint.write,
            self._calls,
            self._functions,
        )
        loads, dumps, pack, clock, sending = (
            pickle.loads,
            pickle.dumps,
            protocol.HEADER.pack,
            perf_counter,
            self._sending,
        )
        previous, value = 0, None  # ticket and result of the last call, for the next one in a chain
        is_kept = False  # whether the value is large, so that freeing it may run code of the user
        while True:
            ticket = next_ticket()
            if ticket is None:
                return
            while ticket not in calls:  # its batch is still in transit
                self._handle(*self._endpoint.receive())
            if is_kept and ticket != previous + 1:  # the next call in the chain was withdrawn
                self._return_unstarted(ticket)
                previous, value, is_kept = 0, None, False
                continue
            code, data = calls.pop(ticket)
            mode = code & 7
            args: Any = ()
            kwargs: Any = None
            limit: tuple[float, str] | None = None
            try:
                if mode == protocol.ARGS_INLINE:
                    args = data
                elif mode == protocol.ARGS_PICKLED:
                    args = loads(data)
                elif mode >= protocol.ARGS_FROM_PREVIOUS:
                    if previous != data:  # the call before has failed
                        self._return_unstarted(ticket)
                        continue
                    args = (value,) if mode == protocol.ARGS_FROM_PREVIOUS else ()
                else:
                    args, kwargs, limit = self._load_arguments(ticket, mode, data)
            except BaseException as error:
                self._send_transfer_error(ticket, "argument", error)
                continue
            finally:
                previous, value, is_kept = 0, None, False
            func = functions.get(code >> 3)
            if func is None or limit is not None or mode == protocol.ARGS_BLOCK or self._reports_starts:
                func = self._prepare_call(ticket, code >> 3, mode, limit)
                if func is None:
                    continue
            self._ticket = ticket
            began = clock()
            try:
                context = copy_context()  # what the call sets in it is not visible to later calls
                value = context.run(func, *args, **kwargs) if kwargs else context.run(func, *args)
                if type(value) is CoroutineType:
                    value = context.run(run_coroutine, value)
            except BaseException as error:
                if self._is_forked_child:
                    raise
                self._send_error(ticket, error, clock() - began)
                drop_tracebacks(error)  # freed now: if that ends this process, no later task fails
                args = kwargs = context = None
                continue
            seconds = clock() - began
            kind = type(value)
            if kind in _SMALL_TYPES or (kind is int and value.bit_length() < _SMALL_INT_BITS):
                data = dumps(value, protocol.PICKLE_PROTOCOL)
                with sending:
                    write(pack(len(data), protocol.VALUE, 0, ticket, seconds) + data)
                previous = ticket
            else:
                if self._send_result(ticket, value, seconds) and not issubclass(kind, Skip):  # the run refuses a Skip
                    previous, is_kept = ticket, self._is_passed_on(ticket)
                value = value if is_kept else None
            # freed after the outcome is sent, and before the next ticket is read: if that ends this process, no task
            # fails
            args = kwargs = context = None

    def _return_unstarted(self, ticket: int) -> None:
        """Return a call that takes the result of the call before, which it cannot get."""
        self._send(protocol.frame(protocol.RETURNED_UNSTARTED, b"", ticket))

    def _prepare_call(
        self, ticket: int, number: int, mode: int, limit: tuple[float, str] | None
    ) -> Callable[..., Any] | None:
        """Return the function to call, and report that its call starts if the calling process is to know that.

        Returns None, after sending the reason, if the function is not found.
        """
        func = self._functions.get(number) or self._find_function(ticket, number)
        if func is None:
            return None
        if mode == protocol.ARGS_BLOCK:
            func = self._block_caller(ticket)
        if limit is not None:
            return self._in_time(func, ticket, *limit)
        if self._reports_starts:
            self._send(protocol.frame(protocol.STARTED, b"", ticket))
        return func

    def _block_caller(self, ticket: int) -> Callable[..., Any]:
        """Return a function that makes the calls of a block of elements, given its message."""
        from .blocks import BlockCaller

        def find(number: int) -> Callable[..., Any]:
            func = self._functions.get(number) or self._find_function(ticket, number)
            if func is None:
                raise LookupError(f"there is no function {number}")  # the reason was sent
            return func

        return BlockCaller(find, self._contexts).call

    def _in_time(self, func: Callable[..., Any], ticket: int, timeout: float, task: str) -> Callable[..., Any]:
        """Return a function that makes a call with a timeout: coroutines are cancelled here.

        The calling process learns that the call has started, and ends this process if it takes too long.
        """
        self._send(protocol.frame(protocol.STARTED, b"", ticket))
        self._contexts.deadline = ticket, time.time() + timeout
        return partial(_call_in_time, func, TimeLimit(task, timeout))

    def _is_passed_on(self, ticket: int) -> bool:
        """Return whether the next call takes the result of a call; both were sent in one batch."""
        following = self._calls.get(ticket + 1)
        return following is not None and following[0] & 7 == protocol.ARGS_FROM_PREVIOUS

    def _send_error(self, ticket: int, error: BaseException, seconds: float) -> None:
        """Send the exception of a call; if it may stop the run, return the calls that have not started with it."""
        frames = [protocol.frame(protocol.ERROR, pack_error(error), ticket, seconds)]
        if self._surroundings["fail_fast"]:
            unstarted = self._endpoint.remaining_tickets()
            frames += [protocol.frame(protocol.RETURNED_UNSTARTED, b"", number) for number in unstarted]
        self._send(b"".join(frames))

    def _load_arguments(self, ticket: int, mode: int, data: Any) -> tuple[Any, Any, tuple[float, str] | None]:
        """Return the arguments of a call by position and by name, and its timeout with the name of its task, if any."""
        limit = None
        if mode == protocol.ARGS_TIMED:
            limit, mode, data = data
        if mode == protocol.ARGS_BLOCK:
            return (data,), None, None
        if mode == protocol.ARGS_PICKLED:
            return pickle.loads(data), None, limit
        if mode == protocol.ARGS_BY_NAME:
            args, kwargs = pickle.loads(data)
            return args, kwargs, limit
        pickled, layouts = data
        handles, memory = self._shared.pop(ticket), self._endpoint.memory
        try:
            args, kwargs = SharingUnpickler(pickled, memory, handles, layouts).load()
        finally:
            self._forget_all(handles)
        return args, kwargs, limit

    def _send_result(self, ticket: int, value: Any, seconds: float) -> bool:
        """Send a result, or the reason why it cannot be sent; return whether it was sent."""
        try:
            data = self._encode(value, ticket)
        except BaseException as error:
            self._send_transfer_error(ticket, "result", error, type_name(value))
            return False
        if type(data) is bytes:
            self._send(protocol.HEADER.pack(len(data), protocol.VALUE, 0, ticket, seconds) + data)
        else:
            self._send(protocol.frame(protocol.SEGMENT, pickle.dumps(data), ticket, seconds))
        return True

    def _encode(self, value: Any, ticket: int) -> bytes | Layout:
        """Return the pickle of a value; for a large one, send the handle of a segment and return its layout."""
        try:
            data = share(value, self._endpoint.memory)
            if isinstance(data, bytes):
                return data
            handle, layout = data
            with self._sending:
                self._endpoint.write_handle(ticket, handle)
        except OSError:  # too little shared memory, or too many open files: send it in the frame
            return protocol.dumps(value)
        return layout

    def _find_function(self, ticket: int, number: int) -> Callable[..., Any] | None:
        """Return the function with a number; None, after sending the reason, if it is not found."""
        from flowkit_core.pipelines.execution.forbidden_runs import runs_forbidden

        from .functions.function_references import resolve
        from .functions.main_module import ScriptError
        from .random_numbers import own_random_numbers

        try:
            with (
                own_random_numbers(),
                runs_forbidden("importing its module runs a pipeline: put that under if __name__ == '__main__'"),
            ):
                func: Callable[..., Any] = resolve(*self._references[number])
        except BaseException as error:
            part = "script" if isinstance(error, ScriptError) else "function"
            self._send_transfer_error(ticket, part, error)
            return None
        finally:
            self._forward_logs_and_warnings()
        self._functions[number] = func = with_context(func)
        return func

    def _send_transfer_error(self, ticket: int, part: str, error: BaseException, value_type: str = "") -> None:
        message = pickle.dumps((part, value_type, describe_error(error)))
        self._send(protocol.frame(protocol.NOT_SERIALIZABLE, message, ticket))

    def _drop_calls(self) -> None:
        """Drop the calls that were withdrawn."""
        for handles in self._shared.values():
            self._forget_all(handles)
        self._shared.clear()
        self._calls.clear()

    def _forget_all(self, handles: Iterable[int]) -> None:
        for handle in handles:
            self._endpoint.memory.forget(handle)


def _call_in_time(func: Callable[..., Any], limit: TimeLimit, /, *args: Any, **kwargs: Any) -> Any:
    value = func(*args, **kwargs)
    return limit.run_coroutine(value) if type(value) is CoroutineType else value


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
