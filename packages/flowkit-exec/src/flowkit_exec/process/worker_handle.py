"""A worker process, as the run sees it: how it starts, what it holds, how it ends."""

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
from _thread import start_new_thread
from collections import deque
from functools import partial
from itertools import repeat
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowkit_core import ExecutorError

from . import protocol as wire
from .main_module import describe_main
from .protocol import DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flowkit_core import Node

DEEPEST = 10
FAREWELL = 2.0
MOST = 1024
"""How many calls a worker is given in advance at most."""
_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)
_GET_PIPE_SIZE = getattr(fcntl, "F_GETPIPE_SZ", None)
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # a script that sets SIGPIPE back must not die with one of its workers
_NOT_INHERITED = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_LAST_STANDARD = 2
_GULP = 1 << 16  # bytes that are read at once: room for more would be mapped and unmapped again each time


def depth() -> int:
    """Return how deep this process is nested in process workers."""
    found = os.environ.get(DEPTH, "")
    return int(found) if found.isdecimal() else 0


def signal_name(exitcode: int | None) -> str | None:
    """Return the name of the signal that ended a process, if one did."""
    try:
        return signal.Signals(-(exitcode or 0)).name
    except ValueError:
        return None


def import_path() -> list[str]:
    """Return where modules are looked for, without the odd entries that only this process can use."""
    entries: list[Any] = list(sys.path)
    return [entry for entry in entries if isinstance(entry, str)]


_alive: weakref.WeakSet[Child] = weakref.WeakSet()


class Child:
    """One worker process.

    Attributes:
        held: the nodes it was given and has not reported, by ticket, in the order of giving.
        known: numbers of the functions it knows.
        next_ticket: the ticket for the next call that it is given.
        next_shared_ticket: the same for a call with arguments in shared memory, which travels by itself.
        room: how many calls it can be given at once: their tickets have to fit into a pipe.
        started: whether it has come to life.
        born: when its process was started, in seconds of the monotonic clock.
        since: since when it has been at one task, as far as is known, by the same clock.
        unwanted: whether it may be at something that nobody wants any more; that is None in ``held``.
        generation: how many times modules had been reloaded here when it began.
    """

    def __init__(self, functions: Mapping[int, Callable[..., Any]] | None = None) -> None:
        """Start a process: a fresh interpreter; or, if it is given functions, a fork of this one that has them."""
        if depth() >= DEEPEST:
            raise ExecutorError(
                f"process workers start process workers {depth()} deep: use executor='thread' in the inner ones"
            )
        self.held: dict[int, Node | None] = {}
        # no ticket of a worker's is ever used twice: it may still be at the last ones of the run before
        self.next_ticket, self.next_shared_ticket = 1, 1 << 62
        self.known: set[int] = set(functions or ())
        self.started = self.unwanted = False
        self.generation = 0
        self.born = self.since = monotonic()
        self.exitcode: int | None = None  # also when somebody else has waited for it, who has not said how it ended
        self._ended = False
        self._unread: list[bytes] = []
        self._frames: deque[tuple[int, int, float, bytes]] = deque()  # an interrupt must not lose what was read
        self._unsent: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._arrived: dict[int, int] = {}  # ticket -> descriptor of a large value whose frame was not taken in yet
        self._told: dict[str, Any] | None = None
        self._greeting = b""  # goes with what is sent next: to be woken twice would take a worker longer
        self._owner = os.getpid()
        self.pidfd: int | None = None
        if not sys.executable or getattr(sys, "frozen", False):
            raise ExecutorError("there is no Python program here to start workers with: use executor='thread'")
        self._own = _Belongings()
        weakref.finalize(self, self._own.let_go).atexit = False  # at the end of the program, a lifeline is enough
        try:
            if functions is None:
                self._own.gather(lambda: self._start(self._spawn))
            else:
                self._split(functions)
        except BaseException as error:
            self._own.let_go()
            if isinstance(error, OSError) and wire.of_system(error):
                raise _no_start(error) from error
            raise
        _alive.add(self)

    def _start(self, start: Callable[[int, int, int], int]) -> None:
        """Open the lines to a process, and start it with their other ends."""
        own = self._own
        (ours, theirs), tickets, outcomes, lifeline = _lines(own.descriptors)
        own.descriptors.remove(ours)
        own.socket = self.socket = socket.socket(fileno=ours)
        self._tickets, self._ticket_source = tickets
        self.outcomes, their_outcomes = outcomes
        their_lifeline, self._lifeline = lifeline
        self.room = min(MOST, _pipe_size(self._tickets) // wire.TICKET.size // 2)  # a chain may double what it holds
        self.socket.setblocking(False)  # not of the descriptor alone: the default timeout of sockets may be set
        for descriptor in (self._tickets, self.outcomes):
            os.set_blocking(descriptor, False)
        if _SET_PIPE_SIZE is not None:  # Linux only, and up to a limit: a worker should not wait for its reader
            with wire.suppress(OSError):
                fcntl.fcntl(their_outcomes, _SET_PIPE_SIZE, 1 << 20)
        self.pid = start(theirs, their_outcomes, their_lifeline)
        for descriptor in (theirs, their_outcomes, their_lifeline):
            own.descriptors.remove(descriptor)
            os.close(descriptor)
        with wire.suppress(AttributeError, OSError):  # Linux only; elsewhere the socket tells
            self.pidfd = os.pidfd_open(self.pid)
            own.descriptors.append(self.pidfd)

    def _spawn(self, channel: int, outcomes: int, lifeline: int) -> int:
        code = (
            f"import sys; sys.path[:] = map(eval, sys.argv[1:]); del sys.argv[1:]; "
            f"from flowkit_exec.process.worker import main; "
            f"main({channel}, {outcomes}, {self._tickets}, {lifeline}, {describe_main()!r})"
        )
        command = [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]
        command += map(ascii, import_path())  # one by one: a single argument may not be as long as all of them together
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(channel, outcomes, self._tickets, lifeline),
            env={**os.environ, DEPTH: str(depth() + 1)},
            process_group=0,
        )
        self._own.pid = process.pid
        process.returncode = 0  # it is not subprocess that waits for it
        return process.pid

    def _split(self, functions: Mapping[int, Callable[..., Any]]) -> None:
        """Fork this process: in this thread, for only the one that forks is in the fork, and with signals put off."""
        for stream in (sys.stdout, sys.stderr):
            with wire.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        # what others have registered for a fork runs in it, and Python swallows an interrupt that comes upon that
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
        pid = self._own.pid = os.fork()
        if pid:
            with wire.suppress(OSError):  # it does the same; whoever is first
                os.setpgid(pid, pid)
            return pid
        try:
            os.setpgid(0, 0)
            os.environ[DEPTH] = str(depth() + 1)
            tickets = os.dup(self._tickets)
            for descriptor in (channel, outcomes, lifeline):
                self._own.descriptors.remove(descriptor)
            for other in (*_alive, self):
                other._hang_up()
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)  # as in a fresh process: what is typed is not for tasks
            from .worker import Worker, _settle_in

            _settle_in()
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            Worker(channel, outcomes, tickets, lifeline, dict(functions)).serve()
        finally:
            os._exit(1)

    # ---- talking -------------------------------------------------------------------------------------------------

    def tell(self, facts: dict[str, Any]) -> None:
        """Say that a run begins, and what its surroundings are, if that is news."""
        news = facts if facts != self._told or self._greeting else None  # what was not sent yet is news too
        self._told = facts
        self._greeting = wire.frame(wire.RUN, pickle.dumps(news, wire.PROTOCOL))

    def give(self, tickets: Iterable[int]) -> None:
        """Put tickets where the worker takes them from. Call before sending what they are for."""
        os.write(self._ticket_source, b"".join(map(wire.TICKET.pack, tickets)))

    def take_back(self) -> list[int]:
        """Return the tickets that the worker had not taken; they are no longer its."""
        try:
            data = os.read(self._tickets, 1 << 16)
        except BlockingIOError:
            return []
        return [number for (number,) in wire.TICKET.iter_unpack(data)]

    def send(self, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send a frame, or as much of it as goes now; the rest goes with :meth:`flush`."""
        if self._greeting:
            data, self._greeting = self._greeting + data, b""
        if self._unsent:
            self._unsent.append((memoryview(data), tuple(map(os.dup, descriptors))))
            return
        sent = self._try(memoryview(data), descriptors)
        if sent < len(data):
            kept = () if sent else tuple(map(os.dup, descriptors))
            self._unsent.append((memoryview(data)[sent:], kept))

    def flush(self) -> bool:
        """Send what was left over; say whether that was all."""
        while self._unsent:
            data, descriptors = self._unsent[0]
            sent = self._try(data, descriptors)
            if sent:
                for descriptor in descriptors:
                    os.close(descriptor)
                descriptors = ()
            if sent < len(data):
                self._unsent[0] = data[sent:], descriptors
                return False
            self._unsent.popleft()
        return True

    def _try(self, data: memoryview, descriptors: tuple[int, ...]) -> int:
        try:
            if not descriptors:
                return self.socket.send(data, _NO_SIGNAL)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            return self.socket.sendmsg([data], [rights], _NO_SIGNAL)  # socket.send_fds() forgets its flags
        except BlockingIOError:
            return 0
        except OSError as error:
            if isinstance(error, ConnectionError) and wire.of_system(error):
                return len(data)  # it died; whoever reads from it will find out
            if error.errno in (errno.ETOOMANYREFS, errno.ENOBUFS):  # too many descriptors are on their way: later
                return 0
            raise

    @property
    def wants_to_send(self) -> bool:
        """Whether something was left over."""
        return bool(self._unsent)

    def receive(self) -> bool:
        """Read what there is, without waiting; say whether the worker can still be heard."""
        unread = self._unread
        while True:
            try:
                unread.extend(map(os.read, (self.outcomes,), (_GULP,)))  # in one piece: Ctrl-C must not lose it
            except BlockingIOError:
                return True
            if not unread[-1]:
                return False
            if len(unread[-1]) < _GULP:
                return True

    def receive_descriptor(self, ticket: int) -> int:
        """Return the file descriptor that the worker has sent for a ticket; it travels apart from the frame.

        Raises:
            OSError: this process has as many open as it may have.
        """
        while ticket not in self._arrived:
            for last in (False, True):
                try:  # socket.recv_fds() forgets its flags
                    data, control, _, _ = self.socket.recvmsg(wire.TICKET.size, socket.CMSG_SPACE(4), _NOT_INHERITED)
                    break
                except ConnectionResetError as error:  # it died before it had read all; what it had sent is there
                    if last or not wire.of_system(error):
                        raise
            if not control:
                raise OSError(errno.EMFILE, "a large value needs a file descriptor, and this process may open no more")
            (descriptor,) = struct.unpack("i", control[0][2][:4])
            self._arrived[wire.TICKET.unpack(data)[0]] = descriptor
            os.set_inheritable(descriptor, False)  # where there is no flag for it
        return self._arrived.pop(ticket)

    def frames(self) -> deque[tuple[int, int, float, bytes]]:
        """Return the whole frames that were read: kind, ticket, seconds, payload. Who takes one in takes it out."""
        data = b"".join(self._unread)
        unpack, size, end = wire.HEADER.unpack_from, wire.HEADER.size, len(data)
        found = self._frames
        start = 0
        while end - start >= size:
            length, kind, _, ticket, seconds = unpack(data, start)
            payload_at = start + size
            if payload_at + length > end:
                break
            start = payload_at + length
            found.append((kind, ticket, seconds, data[payload_at:start]))
        self._unread = [data[start:]] if start < end else []
        return found

    # ---- ending --------------------------------------------------------------------------------------------------

    def fate(self, seconds: float = 0.0) -> int | None:
        """Return the exit code, negative for a signal, waiting for the end at most so long; None if it is not known."""
        self.has_ended(seconds)
        return self.exitcode

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Say whether it has ended, waiting for that at most so long."""
        until = monotonic() + seconds
        pause = threading.Event()
        while not self._ended:
            self._ended = self._reap()
            if self._ended or monotonic() >= until:
                break
            if self.pidfd is not None:
                _await(self.pidfd, until - monotonic())
            else:
                pause.wait(0.002)
        return self._ended

    def _reap(self) -> bool:
        """Say whether the process has ended, and take note of how; whatever it has started is ended first."""
        if os.getpid() != self._owner:
            return True  # this process is a fork of the one that has workers: it has none
        with wire.suppress(ChildProcessError, AttributeError):  # AttributeError: macOS before Python 3.13
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            self._kill_group()
        with wire.suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return False
            self.exitcode = os.waitstatus_to_exitcode(status)
        if self.exitcode is None:  # somebody else has waited for it, or nobody may: how it ended is lost
            self._kill_orphans()
        self._own.pid = None
        return True

    def _kill_group(self) -> None:
        """Kill the process and its group. Not to be called once it is reaped: the number might be another's by then."""
        for kill in (os.killpg, os.kill):
            with wire.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)

    def _kill_orphans(self) -> None:
        """Kill what is left of the group of a process that somebody else has waited for.

        As long as there is anything left, no other process gets the number.
        """
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            with wire.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        except PermissionError:
            pass

    def end(self) -> None:
        """End the process, and whatever it has started, at once; what it has sent can still be read."""
        if not self.has_ended():
            self._kill_group()

    def kill(self) -> None:
        """End the process, and whatever it has started, at once, and let go of it."""
        self.end()
        self.fate(FAREWELL)
        self._hang_up()

    @property
    def how(self) -> str:
        """How it ended, in words."""
        name = signal_name(self.exitcode)
        if self.exitcode is None:
            return "ended, and who waited for it has not said how"
        return f"was ended by {name}" if name is not None else f"ended with exit code {self.exitcode}"

    def mourn(self) -> None:
        """Log that it ended while it had nothing to do: nobody is to blame, and another takes its place."""
        if "logging" in sys.modules:  # where nobody has imported it, nobody listens
            from .log_forwarding import tell

            facts = {"event": "worker_replaced", "pid": self.pid, "exitcode": self.exitcode}
            tell(f"Idle worker process {self.pid} {self.how}: another takes its place.", facts)

    def dismiss(self) -> None:
        """Let an idle process go."""
        if not self.has_ended():
            with wire.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def bury(self) -> None:
        """Wait for a dismissed process, and end it and what it has started if it does not go."""
        if self.pidfd is not None and not self._ended:
            _await(self.pidfd, FAREWELL)
        self.kill()

    def _hang_up(self) -> None:
        """Close the descriptors of this side."""
        self._own.descriptors += [descriptor for _, descriptors in self._unsent for descriptor in descriptors]
        self._own.descriptors += self._arrived.values()
        self._unsent.clear()
        self._arrived.clear()
        self._own.close()
        self._lifeline = self._ticket_source = self._tickets = self.outcomes = -1
        self.pidfd = None


class _Belongings:
    """What one worker takes of the system, to be given back also when an interrupt has kept everybody else from it."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.descriptors: list[int] = []
        self.pid: int | None = None  # None once it was waited for: the number might be another's by then
        self.owner = os.getpid()
        self._gathering = threading.Lock()
        self._unwanted = False

    def gather(self, work: Callable[[], None]) -> None:
        """Take what is needed: in another thread, where no handler of a signal can part the taking from the noting."""
        trouble: list[BaseException] = []
        done = threading.Lock()
        done.acquire()

        def gathered() -> None:
            try:
                with self._gathering:
                    if not self._unwanted:
                        work()
            except BaseException as error:
                trouble.append(error)
            finally:
                done.release()

        try:
            start_new_thread(gathered, ())
        except RuntimeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # the handler of a signal has raised it
            gathered()  # the system has no more threads to give
        done.acquire()
        if trouble:
            raise trouble.pop()

    def close(self) -> None:
        """Close all that is open."""
        if self.socket is not None:
            self.socket.close()
        own = self.descriptors
        while own:
            with wire.suppress(OSError):  # in one piece: no interrupt parts the taking out from the closing
                deque(map(os.close, map(list.pop, repeat(own, len(own)))), 0)

    def let_go(self) -> None:
        """Close all that is open, and end the process."""
        if self.owner != os.getpid():  # a fork of the process that has them
            self.close()
            return
        with self._gathering:
            self._unwanted = True
        self.close()
        pid, self.pid = self.pid, None
        if pid is not None:
            for kill in (os.killpg, os.kill):
                with wire.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)
            with wire.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def bury_all(children: list[Child]) -> None:
    """Let idle processes go, and wait until they are gone."""
    for child in children:
        child.dismiss()
    while children:
        child = children[-1]
        child.bury()
        if children and children[-1] is child:  # a handler of a signal may do the same meanwhile
            children.pop()  # not before: an interrupt must not lose it


def _pipe_size(descriptor: int) -> int:
    """Return how many bytes surely fit into a pipe: it is small where a user has many."""
    with wire.suppress(OSError):
        return fcntl.fcntl(descriptor, _GET_PIPE_SIZE) if _GET_PIPE_SIZE is not None else 1 << 14
    return 1 << 12


def _lines(made: list[int]) -> list[tuple[int, int]]:
    """Return the descriptors of two connected sockets and of three pipes, and add them to a list as they are made."""
    for pipe in (False, True, True, True):
        made += os.pipe() if pipe else (end.detach() for end in socket.socketpair())
        made[-2:] = map(_raised, made[-2:])
    return list(zip(made[::2], made[1::2], strict=True))


def _raised(descriptor: int) -> int:
    """Return a descriptor that is no standard stream's: those may be closed here, and a worker would print there."""
    if descriptor > _LAST_STANDARD:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST_STANDARD + 1)
    finally:
        os.close(descriptor)


def _await(pidfd: int, seconds: float) -> None:
    """Wait for the end of a process, at most so long."""
    end = select.poll()  # select.select() takes no descriptor above 1023
    end.register(pidfd, select.POLLIN)
    end.poll(max(0.0, seconds * 1000))


def _no_start(error: OSError) -> ExecutorError:
    way = "use fewer max_workers"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        way += ", or let this process open more files (ulimit -n)"
    elif error.errno in (errno.EAGAIN, errno.ENOMEM):
        way += ", or let this user have more processes or memory (ulimit -u, -v)"
    elif error.errno == errno.E2BIG:
        way = "make the import path (sys.path) or the environment variables shorter, or use executor='thread'"
    return ExecutorError(f"no worker process could be started ({error}): {way}")
