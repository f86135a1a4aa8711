"""Class `WorkerHandle`: one worker, as the calling process sees it: its connections, its process and its calls."""

from __future__ import annotations

import pickle
import sys
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowkit_core import ExecutorError
from flowkit_exec.process import protocol
from flowkit_exec.process.surroundings import nesting_depth
from flowkit_exec.process.transports.resources import start_error
from flowkit_exec.process.warning_forwarding import handle_warning

from .options import WorkerOptions, refuse_in_place_of_a_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowkit_core import Node
    from flowkit_exec.process.transports.child_process import ChildProcess
    from flowkit_exec.process.transports.interface import Channel

    from .options import Initializer

MAX_NESTING = 10
"""Maximum number of process workers that are nested in one another."""
SHUTDOWN_TIMEOUT = 5.0
"""Seconds in which idle workers may run exit functions and finalizers, and join threads, before they are killed."""


class WorkerHandle:
    """Starts one worker process, keeps account of its calls, and ends it.

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
        transport: how it was started.
        channel: its connections, for frames and tickets.
        process: its process.
        held: ticket -> node of the calls that the worker holds.
        attempts: ticket -> number of the attempt, for those of these calls that are not the first attempt.
        known_functions: numbers of the functions that the worker has references to.
        next_ticket: the next unused ticket.
        next_shared_ticket: the same for calls with arguments in shared memory, each of which is sent by itself.
        is_ready: whether it has sent READY.
        started_at: when its process was started, in seconds of the monotonic clock.
        startup_seconds: how long the lane has waited for READY.
        busy_since: when it last ended a task, was given calls while idle, became ready, or reported the start of a
            call, by the same clock: so about when the running call has started.
        tasks_done: how many tasks it has run.
        has_discarded_calls: whether ``held`` has an entry None.
        generation: generation of the executor when it was started (it changes when a module is reloaded).
    """

    channel: Channel
    process: ChildProcess

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
        self.attempts: dict[int, int] = {}
        # unique in the life of the worker: it may still run the last calls of the run before
        self.next_ticket, self.next_shared_ticket = 1, 1 << 62
        self.known_functions: set[int] = set(functions or ())
        self.is_ready = self.has_discarded_calls = False
        self.generation = 0
        self.startup_seconds = 0.0
        self.tasks_done = 0
        self.started_at = self.busy_since = monotonic()
        self._is_initialized = False
        self._surroundings: dict[str, Any] | None = None
        self._run_frame = b""  # sent with the next frame: waking the worker twice would take longer
        self.transport = transport = self._options.transport
        self._resources = transport.resources()
        finalizer = weakref.finalize(self, self._resources.release)
        finalizer.atexit = False  # when this process ends, the lifeline pipe closes, and the worker ends by itself
        executable = self._options.executable()
        try:
            if functions is None:
                self._resources.acquire(
                    lambda: self._start(transport.spawn(self._resources, executable, self._options.env))
                )
            else:
                self._start(transport.fork(self._resources, functions))
        except BaseException as error:
            self._resources.release()
            if isinstance(error, OSError) and protocol.has_errno(error):
                raise self._options.not_started(error) or start_error(error) from error
            if isinstance(error, RuntimeError) and "subinterpreter" in str(error):  # Python has no class for it
                raise ExecutorError(
                    f"worker processes cannot be started in this sub-interpreter ({error}): use executor='thread', or "
                    f"call run() in the main interpreter"
                ) from error
            raise

    def __repr__(self) -> str:
        return f"<WorkerHandle pid={self.process.pid} held={len(self.held)} functions={len(self.known_functions)}>"

    def _start(self, ends: tuple[Channel, ChildProcess]) -> None:
        self.channel, self.process = ends

    def verify(self, version: str) -> None:
        """Note that the worker has started, with a version of Python.

        Raises:
            ExecutorError: it is not the version that this process runs.
        """
        self._options.verify(version)
        self.is_ready = True
        self.busy_since = monotonic()

    def not_an_interpreter(self, how: str) -> ExecutorError:
        """Return the error for a program that is not an interpreter; see `WorkerOptions`."""
        return self._options.not_an_interpreter(how)

    # ---- runs ----------------------------------------------------------------------------------------------------

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

    def send(self, data: bytes, handles: tuple[int, ...] = ()) -> None:
        """Send a frame without blocking; `Channel.flush` sends the rest."""
        if self._run_frame:
            data, self._run_frame = self._run_frame + data, b""
            self._is_initialized = True
        self.channel.send(data, handles)

    # ---- ending --------------------------------------------------------------------------------------------------

    def log_idle_exit(self) -> None:
        """Log that an idle worker exited; a replacement is started when needed."""
        if "logging" in sys.modules:  # else no handler is configured
            from flowkit_exec.process.log_forwarding import log_info

            process = self.process
            extra = {"event": "worker_replaced", "pid": process.pid, "exitcode": process.exitcode}
            log_info(f"Idle worker process {process.pid} {process.describe_exit()}; it is replaced when needed.", extra)

    def request_exit(self) -> None:
        """Ask an idle worker to exit; kill it if it has not started and so has nothing to do."""
        if not self.is_ready:
            self.process.kill()
        elif not self.process.has_exited():
            self.channel.request_exit()

    def join(self, until: float) -> None:
        """Wait for a worker that was asked to exit, and handle what it logs meanwhile; then kill its process group.

        Args:
            until: time of the monotonic clock at which it is killed if it lives.
        """
        if not self.process.has_exited():
            self._wait_for_exit(until)
        if not self.process.has_exited():
            self._log_unfinished()
        elif self.channel.is_open:  # else this was called before
            self.channel.receive()
            self._handle_last_records()
        self.kill_and_release()

    def _wait_for_exit(self, until: float) -> None:
        """Wait for the exit of the process, and handle what it logs meanwhile."""
        waiter = self.transport.waiter(can_wake=False)
        waiter.add(self)
        try:
            while not self.process.has_exited() and (left := until - monotonic()) > 0:
                waiter.wait(left if self.process.check_interval is None else min(left, 0.01))
                if not self.channel.receive():
                    self.process.has_exited(left)
                self._handle_last_records()
        finally:
            waiter.remove(self)
            waiter.close()

    def _handle_last_records(self) -> None:
        frames = self.channel.frames()
        while frames:
            kind, _, _, payload = frames.popleft()
            if kind == protocol.WARNING:
                handle_warning(payload)
            elif kind == protocol.LOG:
                from flowkit_core.executors.log_transport import handle_record

                handle_record(payload, {})

    def _log_unfinished(self) -> None:
        if "logging" in sys.modules:  # else no handler is configured
            from flowkit_exec.process.log_forwarding import log_warning

            pid = self.process.pid
            log_warning(
                f"Worker process {pid} did not end in time and was killed: an exit function, a finalizer or a "
                f"thread that a task has started was still running; end threads in the task that starts them.",
                {"event": "worker_killed", "pid": pid},
            )

    def kill_and_release(self) -> None:
        """Kill the process and its group, wait for its exit, and close the connections."""
        self.process.kill()
        self.process.exit_code(SHUTDOWN_TIMEOUT)
        self.channel.close()
        self.process.close()


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
