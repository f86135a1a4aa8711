"""Class `ProcessLane`: the event loop of one run, which sends calls to workers, and notices when one of them dies."""

from __future__ import annotations

import pickle
import sys
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from flowkit_core import ExecutorError, Outcome, WorkerDiedError
from flowkit_core.runs.states import CANCELLED, CLEANUP_TRIGGERS, FAILED

from .batch_policy import BatchPolicy
from .batching import CallSender
from .functions.changed_globals import warn_of_changed_globals
from .functions.function_references import fork_is_safe
from .functions.function_table import FunctionTable
from .outcome_reader import OutcomeReader
from .schedule import Schedule
from .shared_memory import Segments
from .surroundings import surroundings_of
from .transports.child_process import signal_name
from .workers.handle import WorkerHandle, shut_down_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from flowkit_core import Node
    from flowkit_core.runs.session import Session

    from .transports.interface import Waiter
    from .workers.options import Initializer, WorkerOptions

    class WorkerSource(Protocol):
        """The executor of a lane: its options, and workers of earlier runs."""

        max_workers: int
        options: WorkerOptions
        generation: int

        def function_number(self, func: Any = None, reference: Any = None) -> int:
            """Return the number of a function."""

        def take_warm_worker(self) -> WorkerHandle | None:
            """Return an idle worker of an earlier run, or None."""

        def return_worker(self, worker: WorkerHandle) -> None:
            """Keep an idle worker for the next run."""


KILL_AFTER = 0.5
"""Seconds after which a worker is killed: after an interrupt, or when it has closed its connection and runs on."""
STARTUP_TIMEOUT = 60.0
"""Seconds a worker may take to report READY."""
MAX_FAILED_STARTS = 3
"""Consecutive workers that may end before they run a task. After that, no more are started."""
MAX_KILLED_STARTS = 10
"""The same for workers that another process kills, for lack of memory for example: there is a pause after each."""
MAX_GAP = 2.0
"""Seconds between two turns of the event loop after which this process is taken to have been suspended."""


class ProcessLane:
    """Runs nodes in worker processes: a lane of a run, with an event loop over the workers.

    In each turn it queues retries that are due, sends as many ready nodes to workers as `BatchPolicy` allows, and waits
    for frames, for the end of a worker or for a timeout. Calls that a worker has not started are moved to idle workers,
    and are withdrawn when the run stops or the worker dies. A worker that dies fails only the task that it was running.

    Args:
        source: the executor, which provides warm workers.
    """

    has_loop = True
    needs_calling_thread = makes_handles = False
    name, fate_of_unfinished = "process", "ended"

    def __init__(self, source: WorkerSource) -> None:
        self._source = source
        self.may_fork = source.options.transport.can_fork
        self._workers: list[WorkerHandle] = []
        self._is_open = False

    @property
    def window(self) -> int:
        """Maximum number of elements of a mapped task that the lane is given at once."""
        return 64 * self._source.max_workers

    @property
    def block_window(self) -> int:
        """Maximum number of blocks of elements that the lane is given at once."""
        return 3 * self._source.max_workers

    # ---- the lane ------------------------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        """Prepare for the run.

        Raises:
            ExecutorError: the current folder was removed.
            SerializationError: a function cannot be transferred to a worker.
        """
        self._session = session
        run = self._run = session.run
        source, transport = self._source, self._source.options.transport
        self._max_workers = min(source.max_workers, transport.max_workers())
        self._schedule = Schedule(session, self)
        self._ready, self._timers = self._schedule.ready, self._schedule.timers
        self._policy = BatchPolicy(is_recorded=run.recorded)
        self._hot_worker: WorkerHandle | None = None  # the one that ended the last cheap task, in hot mode: it is awake
        self._failed_starts = 0  # consecutive workers that ended before they ran a task
        self._may_start_at = 0.0  # when the next worker may be started
        self._checked_at = monotonic()
        self._deaths: dict[str, int] = {}  # name of a task or an element -> how many workers died while they ran it
        self._kill_at: float | None = None  # when tasks that still run after the run was stopped are killed
        self._is_stopped = False
        nodes = session.nodes(self)
        self._functions = FunctionTable(run.graph, nodes, source.function_number, can_fork=transport.can_fork)
        self._surroundings = surroundings_of(run, source.options.env)
        self._initializer: Initializer | None = None
        if self._functions.forked_functions is None:
            self._initializer = source.options.pickled_initializer()
        elif (initializer := source.options.forked_initializer()) is not None:
            self._functions.forked_functions[0] = initializer
            self._initializer = "fork", None, pickle.dumps(())
        if self._initializer is None and self._functions.forked_functions is None:  # an initializer may set globals
            warn_of_changed_globals(self._functions.sent_by_name(nodes))
        self._max_tasks = source.options.max_tasks
        self._retired: list[WorkerHandle] = []  # have run max_tasks, and are ending
        if self._surroundings["cwd"] is None and self._functions.forked_functions is None:
            raise ExecutorError(
                "the current folder of this process was removed, so no worker process can enter it: change to "
                "another folder before run(), or use executor='thread'"
            )
        self._segments = Segments(transport.memory())
        self._sender = CallSender(session, self._schedule, self._functions, self._segments)
        self._reader = OutcomeReader(run, self._schedule, self._segments)
        sys.modules["__mp_main__"] = sys.modules["__main__"]  # the name of the script in workers
        # other threads wake the event loop if there are several lanes, and to end a grace period
        self._waiter: Waiter = transport.waiter(can_wake=True)
        self._is_open = True
        if session.starts_threads and self._functions.forked_functions is not None:
            # other lanes and the session may start threads, after which this process cannot be forked
            most = self._max_workers if run.graph.mapped else min(self._max_workers, len(nodes))
            while len(self._workers) < most and self._add_worker():
                pass

    def __repr__(self) -> str:
        held = sum(len(worker.held) for worker in self._workers)
        ready = len(self._ready) if self._is_open else 0
        return f"<ProcessLane workers={len(self._workers)} held={held} ready={ready}>"

    def put(self, nodes: Sequence[Node]) -> None:
        """Queue nodes that another lane has made ready."""
        self._ready.extend(nodes)
        self.wake()

    def wake(self) -> None:
        """Wake the event loop."""
        if self._is_open:
            self._waiter.wake()

    def stop(self, *, end_calls: bool) -> None:
        """Withdraw the calls that have not started, and kill running tasks if asked."""
        if end_calls:
            self._kill_at = monotonic()
        self.wake()

    def work(self) -> None:
        """Run the event loop until the run is over."""
        try:
            self._loop()
        except BaseException:  # Ctrl-C, which this thread gets
            self._run.cancel("the run was interrupted")
            self._drain()
            raise

    def close(self) -> Sequence[Node]:
        """Release the workers; return the nodes whose tasks were ended."""
        try:
            return self._release_workers() if self._is_open else ()
        finally:
            if self._is_open:
                self._waiter.close()

    # ---- the event loop ------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        run = self._run
        while not run.cancelled:
            if run.stopping and not self._is_stopped:
                self._stop()
            if self._timers:
                self._schedule.put(self._timers.due(run))
            self._dispatch()
            is_idle = not (self._ready or self._timers or any(worker.held for worker in self._workers))
            if is_idle and (self._session.has_one_lane or self._session.is_over):
                return
            self._poll_workers(self._timeout())
            self._end_expired()
            if self._kill_at is not None and monotonic() > self._kill_at:
                self._kill_running()
        self._drain()

    def _timeout(self) -> float | None:
        """Return how many seconds to wait for an event; None means without limit."""
        most = self._timers.wait()
        for left in (self._schedule.deadlines.wait(), self._run.commit_if_due()):
            if left is not None:
                most = left if most is None else min(most, left)
        until = self._kill_at
        if self._ready and self._may_start_at > monotonic():
            until = self._may_start_at if until is None else min(until, self._may_start_at)
        for worker in self._workers:
            if worker.held and self._schedule.has_surplus(worker):
                stalled_at = worker.busy_since + self._stall_timeout()
                until = stalled_at if until is None else min(until, stalled_at)
            if not worker.is_ready:  # STARTUP_TIMEOUT must be noticed
                most = 1.0 if most is None else min(most, 1.0)
            if (interval := worker.process.check_interval) is not None:
                most = interval if most is None else min(most, interval)
        if until is not None:
            left = max(0.0, until - monotonic())
            most = left if most is None else min(most, left)
        return most

    def _stall_timeout(self) -> float:
        """Return how many seconds a worker may spend on one task before the calls that it was given ahead move."""
        all_are_busy = len(self._workers) >= self._max_workers and all(worker.held for worker in self._workers)
        return self._policy.stall_timeout(all_are_busy=all_are_busy)

    def _poll_workers(self, timeout: float | None) -> None:
        """Wait for events of workers and handle them; then look for workers that hang, have died or are stalled."""
        if self._hot_worker is not None and (nap := self._policy.nap(len(self._hot_worker.held))):
            sleep(nap)  # waking up for each outcome would cost both sides more
        ready, ended = self._waiter.wait(timeout)
        for worker in ready:
            is_open = worker.channel.receive()
            self._read_frames(worker)
            if not is_open or worker in ended:
                self._on_exit(worker)
            elif self._max_tasks is not None and worker.tasks_done >= self._max_tasks and not worker.held:
                self._retire(worker)
            elif worker.has_discarded_calls and not any(worker.held.values()):
                self._remove_and_collect(worker, kill=True)  # it still runs a task whose outcome is discarded
        self._check_workers(has_events=bool(ready))

    def _check_workers(self, *, has_events: bool) -> None:
        """Handle workers that do not start, that have ended without an event, and that are stalled at one task."""
        now, stall_timeout = monotonic(), self._stall_timeout()
        before, self._checked_at = self._checked_at, now
        is_stalled = False
        for worker in tuple(self._workers):
            if not worker.is_ready:  # time in which this process was suspended does not count
                worker.startup_seconds += min(now - max(before, worker.started_at), MAX_GAP)
            if not worker.is_ready and worker.startup_seconds > STARTUP_TIMEOUT:
                worker.process.kill()
                self._on_exit(worker, f"did not respond within {STARTUP_TIMEOUT:g} s and was killed")
            elif not has_events and worker.process.check_interval is not None and worker.process.has_exited():
                self._on_exit(worker)
            elif now - worker.busy_since >= stall_timeout and self._schedule.has_surplus(worker):
                is_stalled = True
        if is_stalled:
            self._rebalance()
            self._policy.observe_stall()
            self._ready.order_by_height()

    def _read_frames(self, worker: WorkerHandle) -> None:
        """Handle the frames of a worker, and adapt the batch policy to the durations of its tasks."""
        tasks, seconds = self._reader.read(worker)
        if tasks:
            worker.tasks_done += tasks
            self._failed_starts = 0
            worker.busy_since = monotonic()
            self._policy.observe(tasks, seconds)
            if self._policy.tasks_are_long:
                self._ready.order_by_height()
            if self._policy.is_hot:
                self._hot_worker = worker
            elif self._hot_worker is not None:
                self._rebalance()

    # ---- sending calls -------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Send ready nodes to workers that may hold more."""
        ready = self._ready
        share = 0  # of the ready nodes, for each worker
        while ready:
            worker = self._next_worker(needs_idle=self._schedule.next_needs_pool())
            if worker is None:
                return
            share = share or -(-len(ready) // (1 if worker is self._hot_worker else len(self._workers)))
            depth = min(self._policy.depth(), worker.channel.max_calls)
            size = self._policy.batch_size(len(worker.held), depth)
            if self._max_tasks is not None:  # one ready node at a time: the chain after it counts, too
                depth, size = min(depth, self._max_tasks - worker.tasks_done), 1
            if not worker.held:
                worker.busy_since = monotonic()
            self._sender.send_calls(worker, min(size, share), depth)

    def _next_worker(self, *, needs_idle: bool) -> WorkerHandle | None:
        """Return the worker that gets the next calls, a new one if all are busy; None if all hold enough."""
        # workers with unsent frames have enough to read
        candidates = [worker for worker in self._workers if not worker.channel.has_unsent]
        if needs_idle:
            candidates = [worker for worker in candidates if not worker.held]
        if (most := self._max_tasks) is not None:
            candidates = [worker for worker in candidates if worker.tasks_done + len(worker.held) < most]
        depth = self._policy.depth()
        if (hot := self._hot_worker) in candidates and len(hot.held) <= min(depth, hot.channel.max_calls) // 2:
            return hot
        best = min(candidates, key=lambda worker: len(worker.held), default=None)
        if best is not None and not best.held:
            return best
        count = len(self._workers)
        if count < self._max_workers and (not self._may_start_at or monotonic() >= self._may_start_at):
            most = min(self._max_workers - count, len(self._ready))
            if self._functions.forked_functions is None and not self._source.options.is_verified():
                most = 0 if count else 1  # nothing else is started before one has shown that it runs a worker
            for _ in range(most):
                if not self._add_worker():
                    break
            else:
                if most:
                    return self._workers[count]
        if best is not None and len(best.held) <= min(depth, best.channel.max_calls) // 2:
            return best
        return None

    def _add_worker(self) -> bool:
        """Take a warm worker or start one; if that fails, limit the run to the existing workers and return False."""
        forked_functions = self._functions.forked_functions
        try:
            if forked_functions is not None and not fork_is_safe():
                raise ExecutorError(
                    "a function that cannot be imported is transferred to a worker by a fork of this process, which "
                    "has started threads since the run began: move it to the top level of a module, or install "
                    "cloudpickle (flowkit-exec[cloudpickle]), or use executor='thread'"
                )
            worker = self._source.take_warm_worker() if forked_functions is None else None
            if worker is None:
                generation, worker = self._source.generation, WorkerHandle(forked_functions, self._source.options)
                worker.generation = generation
        except ExecutorError:
            if not self._workers:
                raise
            self._max_workers = len(self._workers)
            return False
        worker.begin_run(self._surroundings, self._initializer)
        self._workers.append(worker)
        self._waiter.add(worker)
        return True

    def _rebalance(self) -> None:
        """Withdraw the calls that workers have not started, to send them again: in order, and to idle workers first."""
        self._leave_hot_mode()
        for worker in self._workers:
            if self._schedule.has_surplus(worker):
                self._schedule.withdraw(worker)

    def _leave_hot_mode(self) -> None:
        self._hot_worker = None
        self._policy.cool_down()

    def _retire(self, worker: WorkerHandle) -> None:
        """Have a worker end that has run as many tasks as it may; another one is started when needed."""
        self._remove(worker)
        worker.request_exit()
        self._retired.append(worker)
        for other in [other for other in self._retired if other.process.has_exited()]:
            self._retired.remove(other)
            shut_down_all([other])
        if len(self._retired) > self._max_workers:  # they do not end as fast as others are started
            shut_down_all([self._retired.pop(0)])

    # ---- stopping, and workers that end --------------------------------------------------------------------------

    def _stop(self) -> None:
        """Withdraw the calls that have not started, and name those that have."""
        self._is_stopped = True
        for worker in self._workers:
            self._schedule.withdraw(worker)
        running = [node for worker in self._workers for node in worker.held.values() if node is not None]
        self._session.report_running(self, running)

    def _kill_running(self) -> None:
        """Kill the workers that still run a task which started before the run was stopped, clean-up tasks excepted."""
        self._kill_at = None  # clean-up tasks have no time limit
        for worker in list(self._workers):
            self._schedule.withdraw(worker)
            if worker.held and not any(node and node.task.trigger in CLEANUP_TRIGGERS for node in worker.held.values()):
                for node, attempt in self._remove_and_collect(worker, kill=True):
                    outcome = Outcome(CANCELLED, f"it was stopped, because {self._run.stop_cause}", started=True)
                    self._schedule.finish(node, outcome, attempt=attempt)

    def _end_expired(self) -> None:
        """End the workers whose task takes longer than its timeout; calls that they have not started move."""
        for worker, ticket in self._schedule.deadlines.expired():
            self._schedule.withdraw(worker)  # first, so that the worker starts no other call meanwhile
            worker.channel.receive()
            self._read_frames(worker)
            node = worker.held.get(ticket)
            if node is not None:
                attempt = worker.attempts.pop(ticket, 1)
                worker.held[ticket] = None  # what it still sends is discarded
                self._remove_and_collect(worker, kill=True)
                self._schedule.proceed(self._run.expire(node, attempt, node.task.timeout, "ended"))

    def _on_exit(self, worker: WorkerHandle, why: str = "") -> None:
        """Handle the exit of a worker: the task that it was running has failed, the calls it had not started move."""
        if worker not in self._workers:
            return
        noticed_at = monotonic()
        # the code is None if it is unknown, or the worker lives and has only closed its connection
        code = worker.process.exit_code(KILL_AFTER)
        running = self._remove_and_collect(worker)
        seconds = max(0.0, noticed_at - worker.busy_since)
        if not running:
            if worker.is_ready:
                worker.log_idle_exit()
            self._on_failed_start(worker, why)
        for node, attempt in running:
            self._deaths[node.name] = deaths = self._deaths.get(node.name, 0) + 1
            error = WorkerDiedError(node.name, worker.process.pid, code, signal_name(code), deaths=deaths)
            self._schedule.finish(node, Outcome(FAILED, error=error), seconds, attempt)

    def _on_failed_start(self, worker: WorkerHandle, why: str) -> None:
        """Count a worker that ended before it ran a task; no task has caused that, so none fails.

        If it goes on, the run is limited to the existing workers. If there are none, it is aborted.
        """
        self._failed_starts += 1
        is_unverified = self._functions.forked_functions is None and not self._source.options.is_verified()
        if is_unverified and not worker.is_ready and not why and (worker.process.exitcode or 0) >= 0:
            raise worker.not_an_interpreter(worker.process.describe_exit())
        is_killed = not why and signal_name(worker.process.exitcode) in ("SIGKILL", "SIGTERM")
        if self._failed_starts < (MAX_KILLED_STARTS if is_killed else MAX_FAILED_STARTS):
            if is_killed:
                self._may_start_at = monotonic() + min(0.01 * 2**self._failed_starts, 1.0)
        elif any(other.is_ready for other in self._workers):
            self._max_workers = len(self._workers)
        else:
            hint = "; if you did not kill them, the machine may be out of memory" if is_killed else ""
            raise ExecutorError(
                f"{self._failed_starts} worker processes in a row failed to start; the last one "
                f"{why or worker.process.describe_exit()}: look at their standard error output, and at what Python "
                f"executes when it starts (sitecustomize, .pth files){hint}"
            )

    def _remove_and_collect(self, worker: WorkerHandle, *, kill: bool = False) -> list[tuple[Node, int]]:
        """Remove a worker, killing it if asked; return the nodes it had started but not reported, and the attempts."""
        self._remove(worker)
        try:
            if kill:
                worker.process.kill()
            worker.process.exit_code(KILL_AFTER)
            worker.channel.receive()
            self._read_frames(worker)  # what it had sent counts
            self._schedule.withdraw(worker)
        finally:
            worker.kill_and_release()
        running = self._schedule.ready_nodes_of(worker)
        self._schedule.forget(worker)
        return running

    def _remove(self, worker: WorkerHandle) -> None:
        self._workers.remove(worker)
        if worker is self._hot_worker:
            self._leave_hot_mode()
        self._waiter.remove(worker)

    def _drain(self) -> None:
        """After an interrupt: withdraw the calls that have not started, and give running tasks a grace period."""
        for worker in self._workers:
            self._schedule.withdraw(worker)
            self._read_frames(worker)
        until = monotonic() + KILL_AFTER
        while any(worker.held for worker in self._workers) and monotonic() < until:
            self._poll_workers(max(0.0, until - monotonic()))

    def _release_workers(self) -> Sequence[Node]:
        """Return idle workers to the executor, kill the others, and close the shared memory.

        Returns:
            The nodes whose tasks were ended.
        """
        idle: list[WorkerHandle] = []
        busy: list[WorkerHandle] = []
        try:
            while self._workers:
                worker = self._workers[-1]
                worker.known_functions -= self._functions.by_value
                (busy if worker.held else idle).append(worker)
                self._remove(worker)
            for worker in busy:  # all of them, before waiting for one
                worker.process.kill()
            if self._run.cancelled:
                shut_down_all(idle, KILL_AFTER)
            elif self._functions.forked_functions is not None:
                shut_down_all(idle)
            while idle:
                self._source.return_worker(idle.pop())
            shut_down_all(self._retired)
        finally:
            for worker in (*busy, *idle, *self._retired):
                worker.kill_and_release()
            self._segments.close()
        running = [attempt for worker in busy for attempt in self._schedule.ready_nodes_of(worker)]
        return [node for node, attempt in running if self._run.is_current(node, attempt)]
