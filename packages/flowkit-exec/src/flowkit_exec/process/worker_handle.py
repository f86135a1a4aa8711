"""Class `WorkerHandle`: the calling process's side of one worker process."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowkit_core import ExecutorError

from . import protocol
from .functions.main_module import describe_main
from .worker_options import WorkerOptions, refuse_in_place_of_a_worker
from .worker_resources import WorkerResources, forget_group, open_pipes, reap_group, start_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flowkit_core import Node

    from .worker_options import Initializer

MAX_NESTING = 10
"""Maximum number of process workers that are nested in one another."""
SHUTDOWN_TIMEOUT = 5.0
"""Seconds in which idle workers may run exit functions and finalizers, and join threads, before they are killed."""
MAX_CALLS_AHEAD = 1024
"""Maximum number of calls that a worker is given at once."""
_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)
_GET_PIPE_SIZE = getattr(fcntl, "F_GETPIPE_SZ", None)
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # without it, a script that resets SIGPIPE would die with its worker
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_READ_SIZE = 1 << 16  # a larger buffer would be mapped and unmapped by the allocator each time


def nesting_depth() -> int:
    """Return how many process workers this process is nested in."""
    found = os.environ.get(protocol.DEPTH_VARIABLE, "")
    return int(found) if found.isdecimal() else 0


def signal_name(exitcode: int | None) -> str | None:
    """Return the name of the signal that killed a process; None if none did."""
    try:
        return signal.Signals(-(exitcode or 0)).name
    except ValueError:
        return None


def import_path() -> list[str]:
    """Return the text entries of ``sys.path``: other objects can be used in this process only."""
    entries: list[Any] = list(sys.path)
    return [entry for entry in entries if isinstance(entry, str)]


_handles: weakref.WeakSet[WorkerHandle] = weakref.WeakSet()


class WorkerHandle:
    """Starts one worker process, talks to it and ends it.

    A call may start only with its *ticket*. Tickets lie in a pipe that both the worker and this process read: the one
    that reads a ticket owns its call. So this process can withdraw the calls that the worker has not started, at any
    moment.

    Invariant: ``held`` has an entry for each ticket that was issued to the worker and neither answered nor withdrawn,
    in order of issue; so the first entry is the running call, if there is one. A ticket is answered by the frame of an
    outcome or by RETURNED_UNSTARTED, and no ticket is used twice. The entry is None if the outcome is to be discarded,
    because its node has ended otherwise: the worker may still be running the call.

    Args:
        functions: function number -> function, for a worker that is a fork of this process; None starts a new
            interpreter.
        options: the options of the executor; None means the default ones.

    Raises:
        ExecutorError: the process cannot be started.

    Attributes:
        held: ticket -> node of the calls that the worker holds.
        known_functions: numbers of the functions that the worker has references to.
        next_ticket: the next unused ticket.
        next_shared_ticket: the same for calls with arguments in shared memory, each of which is sent by itself.
        max_calls: how many calls it can hold: their tickets must fit into the pipe.
        is_ready: whether it has sent READY.
        started_at: when its process was started, in seconds of the monotonic clock.
        startup_seconds: how long the lane has waited for READY.
        busy_since: when it last ended a task or was given calls while idle, by the same clock.
        tasks_done: how many tasks it has run.
        has_discarded_calls: whether ``held`` has an entry None.
        generation: generation of the executor when it was started (it changes when a module is reloaded).
        exitcode: exit code of the process, negative for a signal; None if it lives or the code is unknown.
        outcomes: descriptor of the pipe on which it sends frames.
        pidfd: descriptor that becomes readable when the process ends; None where the system has none.
    """

    def __init__(
        self, functions: Mapping[int, Callable[..., Any]] | None = None, options: WorkerOptions | None = None
    ) -> None:
        self._options = options or WorkerOptions()
        refuse_in_place_of_a_worker()
        if nesting_depth() >= MAX_NESTING:
            raise ExecutorError(
                f"process workers start process workers {nesting_depth()} deep: use executor='thread' in the inner ones"
            )
        self.held: dict[int, Node | None] = {}
        # unique in the life of the worker: it may still run the last calls of the run before
        self.next_ticket, self.next_shared_ticket = 1, 1 << 62
        self.known_functions: set[int] = set(functions or ())
        self.is_ready = self.has_discarded_calls = False
        self.generation = 0
        self.startup_seconds = 0.0
        self.tasks_done = 0
        self._is_initialized = False
        self.started_at = self.busy_since = monotonic()
        self.exitcode: int | None = None
        self._has_exited = False
        self._unread: list[bytes] = []
        self._frames: deque[tuple[int, int, float, bytes]] = deque()  # an attribute: an interrupt must not lose frames
        self._unsent: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._received_fds: dict[int, int] = {}  # ticket -> descriptor that arrived before its frame was handled
        self._surroundings: dict[str, Any] | None = None
        self._run_frame = b""  # sent with the next frame: waking the worker twice would take longer
        self._owner = os.getpid()
        self.pidfd: int | None = None
        executable = self._options.executable()
        self._resources = WorkerResources()
        finalizer = weakref.finalize(self, self._resources.release)
        finalizer.atexit = False  # when this process ends, the lifeline pipe closes, and the worker ends by itself
        try:
            if functions is None:
                self._resources.acquire(lambda: self._start(partial(self._spawn, executable)))
            else:
                self._start_fork(functions)
        except BaseException as error:
            self._resources.release()
            if isinstance(error, OSError) and protocol.has_errno(error):
                raise start_error(error) from error
            if isinstance(error, RuntimeError) and "subinterpreter" in str(error):
                raise ExecutorError(
                    f"worker processes cannot be started in this sub-interpreter ({error}): use executor='thread', or "
                    f"call run() in the main interpreter"
                ) from error
            raise
        _handles.add(self)

    def __repr__(self) -> str:
        return f"<WorkerHandle pid={self._resources.pid} held={len(self.held)} functions={len(self.known_functions)}>"

    # ---- starting ------------------------------------------------------------------------------------------------

    def _start(self, start: Callable[[int, int, int], int]) -> None:
        """Open socket and pipes, and start a process with their other ends.

        Args:
            start: starts the process with three descriptors (socket, write end of the outcomes pipe, read end of the
                lifeline pipe); returns its id.
        """
        resources = self._resources
        (ours, theirs), tickets, outcomes, lifeline = open_pipes(resources.descriptors)
        resources.descriptors.remove(ours)
        resources.socket = self.socket = socket.socket(fileno=ours)
        self._tickets, self._ticket_source = tickets
        self.outcomes, their_outcomes = outcomes
        their_lifeline, self._lifeline = lifeline
        capacity = _pipe_size(self._tickets) // protocol.TICKET.size
        self.max_calls = min(MAX_CALLS_AHEAD, capacity // 2)  # chains may double the number of calls
        self.socket.setblocking(False)  # of the object too: socket.setdefaulttimeout() may have been called
        for descriptor in (self._tickets, self.outcomes):
            os.set_blocking(descriptor, False)
        if _SET_PIPE_SIZE is not None:  # Linux only, and up to a limit: a worker should not wait for its reader
            with protocol.suppress(OSError):
                fcntl.fcntl(their_outcomes, _SET_PIPE_SIZE, 1 << 20)
        self.pid = start(theirs, their_outcomes, their_lifeline)
        forget_group(self.pid)
        for descriptor in (theirs, their_outcomes, their_lifeline):
            resources.descriptors.remove(descriptor)
            os.close(descriptor)
        with protocol.suppress(AttributeError, OSError):  # Linux only; elsewhere the socket closes when it ends
            self.pidfd = os.pidfd_open(self.pid)
            resources.descriptors.append(self.pidfd)

    def _spawn(self, executable: str, channel: int, outcomes: int, lifeline: int) -> int:
        """Start a new interpreter."""
        code = (
            f"import os, sys; sys.path[:] = map(eval, sys.argv[1:]); del sys.argv[1:]; "
            f"del os.environ[{protocol.START_VARIABLE!r}]; "
            f"from flowkit_exec.process.worker import main; "
            f"main({channel}, {outcomes}, {self._tickets}, {lifeline}, {describe_main()!r})"
        )
        command = [executable, *subprocess._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]
        command += map(ascii, import_path())  # an argument for each entry: the length of one argument is limited
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(channel, outcomes, self._tickets, lifeline),
            env={
                **os.environb,
                **self._options.env,
                os.fsencode(protocol.DEPTH_VARIABLE): b"%d" % (nesting_depth() + 1),
                os.fsencode(protocol.START_VARIABLE): b"%d" % outcomes,
            },
            process_group=0,
        )
        self._resources.pid = process.pid
        process.returncode = 0  # reaped here, not by subprocess
        return process.pid

    def _start_fork(self, functions: Mapping[int, Callable[..., Any]]) -> None:
        """Start a fork of this process: in this thread, because only this one exists in the fork; signals blocked."""
        for stream in (sys.stdout, sys.stderr):
            with protocol.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        # functions of os.register_at_fork() run meanwhile, and Python ignores an interrupt that is raised in them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            self._start(partial(self._fork, functions, before))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _fork(
        self,
        functions: Mapping[int, Callable[..., Any]],
        signals: set[int],
        channel: int,
        outcomes: int,
        lifeline: int,
    ) -> int:
        """Fork this process; return in this process, and serve in the fork."""
        pid = self._resources.pid = os.fork()
        if pid:
            with protocol.suppress(OSError):  # both processes do it, so that it is done when either continues
                os.setpgid(pid, pid)
            return pid
        try:
            os.setpgid(0, 0)
            os.environ[protocol.DEPTH_VARIABLE] = str(nesting_depth() + 1)
            tickets = os.dup(self._tickets)
            for descriptor in (channel, outcomes, lifeline):
                self._resources.descriptors.remove(descriptor)
            for handle in (*_handles, self):
                handle._close_fds()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)  # tasks must not read the terminal: stdin is /dev/null, as in a spawned worker
            from .worker import Worker, set_up_process
            from .worker_exit import end_fork, forget_inherited

            set_up_process()
            forget_inherited()
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            Worker(channel, outcomes, tickets, lifeline, dict(functions)).serve()
            end_fork()
        finally:
            os._exit(1)

    def verify(self, version: str) -> None:
        """Note that the worker has started, with a version of Python.

        Raises:
            ExecutorError: it is not the version that this process runs.
        """
        self._options.verify(version)
        self.is_ready = True

    def not_an_interpreter(self, how: str) -> ExecutorError:
        """Return the error for a program that is no interpreter; see `WorkerOptions`."""
        return self._options.not_an_interpreter(how)

    # ---- frames and tickets --------------------------------------------------------------------------------------

    def begin_run(self, surroundings: dict[str, Any], initializer: Initializer | None = None) -> None:
        """Prepare the frame RUN, which is sent with the first calls.

        Args:
            surroundings: the surroundings of this process. They are left out if the worker has the same already.
            initializer: the initializer. It is left out if the worker has called it already.
        """
        is_known = surroundings == self._surroundings and not self._run_frame
        self._surroundings = surroundings
        message = None if is_known else surroundings, None if self._is_initialized else initializer
        self._run_frame = protocol.frame(protocol.RUN, pickle.dumps(message, protocol.PICKLE_PROTOCOL))

    def end_run(self) -> None:
        """Have the worker end after ``idle_timeout``, if the executor has one."""
        if self._options.idle_timeout is not None:
            self.send(protocol.frame(protocol.IDLE, pickle.dumps(self._options.idle_timeout)))

    def issue_tickets(self, tickets: Iterable[int]) -> None:
        """Write tickets into the pipe. To be called before the frame with their calls is sent."""
        os.write(self._ticket_source, b"".join(map(protocol.TICKET.pack, tickets)))

    def withdraw_tickets(self) -> list[int]:
        """Read the tickets that the worker has not read, and return them."""
        try:
            data = os.read(self._tickets, 1 << 16)
        except BlockingIOError:
            return []
        return [number for (number,) in protocol.TICKET.iter_unpack(data)]

    def send(self, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send a frame without blocking; :meth:`flush` sends the rest."""
        if self._run_frame:
            data, self._run_frame = self._run_frame + data, b""
            self._is_initialized = True
        if self._unsent:
            self._unsent.append((memoryview(data), tuple(map(os.dup, descriptors))))
            return
        sent = self._try_send(memoryview(data), descriptors)
        if sent < len(data):
            kept = () if sent else tuple(map(os.dup, descriptors))
            self._unsent.append((memoryview(data)[sent:], kept))

    def flush(self) -> bool:
        """Send what :meth:`send` could not send; return whether nothing is left."""
        while self._unsent:
            data, descriptors = self._unsent[0]
            sent = self._try_send(data, descriptors)
            if sent:
                for descriptor in descriptors:
                    os.close(descriptor)
                descriptors = ()
            if sent < len(data):
                self._unsent[0] = data[sent:], descriptors
                return False
            self._unsent.popleft()
        return True

    def _try_send(self, data: memoryview, descriptors: tuple[int, ...]) -> int:
        """Send without blocking; return how many bytes were sent."""
        try:
            if not descriptors:
                return self.socket.send(data, _NO_SIGNAL)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            return self.socket.sendmsg([data], [rights], _NO_SIGNAL)  # socket.send_fds() ignores its flags
        except BlockingIOError:
            return 0
        except OSError as error:
            if isinstance(error, ConnectionError) and protocol.has_errno(error):
                return len(data)  # it died, which is noticed when its outcomes are read
            if error.errno in (errno.ETOOMANYREFS, errno.ENOBUFS):  # too many descriptors are in transit: try later
                return 0
            raise

    @property
    def has_unsent(self) -> bool:
        """Whether :meth:`send` could not send everything yet."""
        return bool(self._unsent)

    def receive(self) -> bool:
        """Read what the worker has sent, without blocking; return whether it may send more."""
        unread = self._unread
        while True:
            try:
                unread.extend(map(os.read, (self.outcomes,), (_READ_SIZE,)))  # one call into C: Ctrl-C loses nothing
            except BlockingIOError:
                return True
            if not unread[-1]:
                return False
            if len(unread[-1]) < _READ_SIZE:
                return True

    def receive_descriptor(self, ticket: int) -> int:
        """Return the file descriptor that the worker has sent for a ticket, on the socket.

        Raises:
            OSError: this process cannot open more files.
        """
        while ticket not in self._received_fds:
            for is_last_try in (False, True):
                try:  # socket.recv_fds() ignores its flags
                    data, control, _, _ = self.socket.recvmsg(
                        protocol.TICKET.size, socket.CMSG_SPACE(4), _CLOSE_ON_EXEC
                    )
                    break
                except ConnectionResetError as error:  # it died before it had read all; what it had sent is there
                    if is_last_try or not protocol.has_errno(error):
                        raise
            if not control:
                raise OSError(errno.EMFILE, "a large value needs a file descriptor, and this process may open no more")
            (descriptor,) = struct.unpack("i", control[0][2][:4])
            self._received_fds[protocol.TICKET.unpack(data)[0]] = descriptor
            os.set_inheritable(descriptor, False)  # where _CLOSE_ON_EXEC does not exist
        return self._received_fds.pop(ticket)

    def frames(self) -> deque[tuple[int, int, float, bytes]]:
        """Return the complete frames: kind, ticket, seconds, payload. The caller removes each one that it handles."""
        data = b"".join(self._unread)
        unpack, size, end = protocol.HEADER.unpack_from, protocol.HEADER.size, len(data)
        frames = self._frames
        start = 0
        while end - start >= size:
            length, kind, _, ticket, seconds = unpack(data, start)
            payload_at = start + size
            if payload_at + length > end:
                break
            start = payload_at + length
            frames.append((kind, ticket, seconds, data[payload_at:start]))
        self._unread = [data[start:]] if start < end else []
        return frames

    # ---- ending --------------------------------------------------------------------------------------------------

    def exit_code(self, timeout: float = 0.0) -> int | None:
        """Wait for the exit of the process, ``timeout`` seconds at most; return its ``exitcode``."""
        self.has_exited(timeout)
        return self.exitcode

    def has_exited(self, timeout: float = 0.0) -> bool:
        """Wait for the exit of the process, ``timeout`` seconds at most; return whether it has exited."""
        until = monotonic() + timeout
        pause = threading.Event()
        while not self._has_exited:
            self._has_exited = self._reap()
            if self._has_exited or monotonic() >= until:
                break
            if self.pidfd is not None:
                _wait_for_exit(self.pidfd, until - monotonic())
            else:
                pause.wait(0.002)
        return self._has_exited

    def _reap(self) -> bool:
        """Reap the process and set ``exitcode``, if it has exited; kill its process group first."""
        if os.getpid() != self._owner:
            return True  # this process is a fork of the owner and has no workers
        with protocol.suppress(ChildProcessError, AttributeError):  # AttributeError: macOS before Python 3.13
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            self._kill_group()
        with protocol.suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return False
            self.exitcode = os.waitstatus_to_exitcode(status)
        if self.exitcode is None:  # already reaped elsewhere, or SIGCHLD is ignored: no exit status
            self._kill_orphans()
        reap_group(self.pid)
        self._resources.pid = None
        return True

    def _kill_group(self) -> None:
        """Kill the process and its group. Must not be called once it is reaped: the system may use its id again."""
        for kill in (os.killpg, os.kill):
            with protocol.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)

    def _kill_orphans(self) -> None:
        """Kill the rest of the group of a process that was reaped elsewhere.

        As long as the group exists, no other process gets its id.
        """
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            with protocol.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        except PermissionError:
            pass

    def kill(self) -> None:
        """Kill the process and its group; what it has sent can still be read."""
        if not self.has_exited():
            self._kill_group()

    def kill_and_release(self) -> None:
        """Kill the process and its group, wait for its exit, and close the descriptors."""
        self.kill()
        self.exit_code(SHUTDOWN_TIMEOUT)
        self._close_fds()

    def describe_exit(self) -> str:
        """Return how the process ended, for messages: ``"was killed by SIGKILL"``."""
        name = signal_name(self.exitcode)
        if self.exitcode is None:
            return "ended with an unknown exit code"
        return f"was killed by {name}" if name is not None else f"ended with exit code {self.exitcode}"

    def log_idle_exit(self) -> None:
        """Log that an idle worker exited; a replacement is started when needed."""
        if "logging" in sys.modules:  # else no handler is configured
            from .log_forwarding import log_info

            extra = {"event": "worker_replaced", "pid": self.pid, "exitcode": self.exitcode}
            log_info(f"Idle worker process {self.pid} {self.describe_exit()}; it is replaced when needed.", extra)

    def request_exit(self) -> None:
        """Ask an idle worker to exit, by closing the socket; kill it if it has not started and so has nothing to do."""
        if not self.is_ready:
            self.kill()
        elif not self.has_exited():
            with protocol.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def join(self, until: float) -> None:
        """Wait for a worker that was asked to exit, and handle what it logs meanwhile; then kill its process group.

        Args:
            until: time of the monotonic clock at which it is killed if it lives.
        """
        poll = select.poll()  # select.select() does not accept a descriptor above 1023
        for descriptor in (self.outcomes, self.pidfd):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        while not self.has_exited() and (left := until - monotonic()) > 0:
            poll.poll(1000 * (left if self.pidfd is not None else min(left, 0.01)))
            if not self.receive():
                poll.unregister(self.outcomes)
                self.has_exited(left)
            self._handle_last_records()
        if not self.has_exited():
            self._log_unfinished()
        elif self.outcomes >= 0:  # else this was called before
            self.receive()
            self._handle_last_records()
        self.kill_and_release()

    def _handle_last_records(self) -> None:
        frames = self.frames()
        while frames:
            kind, _, _, payload = frames.popleft()
            if kind == protocol.LOG:
                from .log_forwarding import handle_record

                handle_record(payload, {})

    def _log_unfinished(self) -> None:
        if "logging" in sys.modules:  # else no handler is configured
            from .log_forwarding import log_warning

            log_warning(
                f"Worker process {self.pid} did not end in time and was killed: an exit function, a finalizer or a "
                f"thread that a task has started was still running; end threads in the task that starts them.",
                {"event": "worker_killed", "pid": self.pid},
            )

    def _close_fds(self) -> None:
        """Close the descriptors of this process."""
        self._resources.descriptors += [descriptor for _, descriptors in self._unsent for descriptor in descriptors]
        self._resources.descriptors += self._received_fds.values()
        self._unsent.clear()
        self._received_fds.clear()
        self._resources.close()
        self._lifeline = self._ticket_source = self._tickets = self.outcomes = -1
        self.pidfd = None


def shut_down_all(workers: list[WorkerHandle], timeout: float = SHUTDOWN_TIMEOUT) -> None:
    """Ask idle workers to exit, wait for them, and remove them from the list.

    Args:
        workers: the workers.
        timeout: seconds after which those that live are killed.
    """
    for worker in workers:
        worker.request_exit()
    until = monotonic() + timeout
    while workers:
        worker = workers[-1]
        worker.join(until)
        if workers and workers[-1] is worker:  # a signal handler may call this function meanwhile
            workers.pop()  # after join(): an interrupt must not lose it


def _pipe_size(descriptor: int) -> int:
    """Return the capacity of a pipe in bytes, or a lower bound: it is small if the user has many pipes."""
    with protocol.suppress(OSError):
        return fcntl.fcntl(descriptor, _GET_PIPE_SIZE) if _GET_PIPE_SIZE is not None else 1 << 14
    return 1 << 12


def _wait_for_exit(pidfd: int, timeout: float) -> None:
    """Wait for the exit of a process, ``timeout`` seconds at most."""
    poll = select.poll()  # select.select() does not accept a descriptor above 1023
    poll.register(pidfd, select.POLLIN)
    poll.poll(max(0.0, timeout * 1000))
