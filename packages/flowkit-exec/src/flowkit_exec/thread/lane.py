"""Class `ThreadLane`: the worker threads of one run, the calling thread among them.

Each worker takes ready nodes from one queue, and adds the nodes that become ready to it. No thread assigns tasks to
others and no event is signaled per task, so a task costs less than a microsecond. Helper threads are started and woken
only where they are of use:

* a worker that has spent more than `SLOW_TASK` on one task, while others wait, adds a worker; if the task took more
  than `LONG_TASK`, it adds as many workers as nodes wait;
* the watchdog, a thread that runs no tasks, looks at the queue from time to time. If the same node is still first, all
  workers are busy with long tasks, and it adds more. `watchdog.PollInterval` determines how often.
"""

from __future__ import annotations

import sys
from _thread import start_new_thread
from threading import Lock, Thread, get_ident
from time import monotonic, perf_counter

from flowkit_core import ExecutorError, Node, Outcome, Retry, Run
from flowkit_core.runs.limits.ranked_queue import RankedQueue
from flowkit_core.runs.states import CANCELLED
from flowkit_core.runs.time_limit import JOIN_TIMEOUT
from flowkit_core.runs.timers import Timers
from flowkit_core.runs.wake_up import WakeUp
from flowkit_core.runs.worker import Worker
from flowkit_exec.processors import available_processors
from flowkit_exec.ready_queue import ReadyQueue

from .watchdog import PollInterval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context

    from flowkit_core.runs.session import Session

SLOW_TASK = 50e-6
"""Seconds from which a task is worth starting another worker for those that wait."""
LONG_TASK = 1e-3
"""Seconds from which tasks start in order of their critical path."""


class _ThreadWorker(WakeUp):
    """One thread that runs tasks of a run.

    Attributes:
        thread: the thread; None for the thread that called ``run()``.
        runner: runs the nodes, and has the one that is running as an attribute.
        is_abandoned: whether the node of its running call has been ended as cancelled.
    """

    __slots__ = ("is_abandoned", "runner", "thread")

    def __init__(self, run: Run, context: Context) -> None:
        super().__init__()
        self.thread: Thread | None = None
        self.is_abandoned = False
        self.runner = Worker(run, context)


def default_workers() -> int:
    """Return the maximum number of threads of a run that sets none."""
    return min(32, available_processors() + 4)


class ThreadLane:
    """Runs nodes in worker threads: a lane of a run.

    A lock protects the idle workers, the watchdog, the number of active workers and the timers. Methods whose names end
    in ``_locked`` are to be called with the lock held. Queue and run are thread-safe.

    Args:
        max_workers: maximum number of threads that run tasks; None means `default_workers`.
    """

    has_loop = True
    needs_calling_thread = may_fork = makes_handles = False
    name, fate_of_unfinished = "thread", "abandoned"

    _active = 1  # workers that are not idle
    _watchdog: WakeUp | None = None  # None as long as it has not started
    _watchdog_running: Lock  # held while it runs
    _is_backing_off = False  # whether the watchdog must be woken by activity
    _activity = 0  # counts events after which nodes may become ready
    _is_open = _is_over = _has_worked = False
    _over_since = 0.0  # when the run was over, or cancelled
    _may_abandon = False  # whether calls are, or may have been, abandoned
    _error: BaseException | None = None  # of a helper or the watchdog, not of a task

    def __init__(self, max_workers: int | None = None) -> None:
        self._max_workers = max_workers or 0  # 0 means the default, until the lane is opened
        self._timers = Timers()
        self._lock = Lock()
        self._helpers: list[_ThreadWorker] = []
        self._idle: list[_ThreadWorker] = []
        self._began = perf_counter()
        self._long_task_ended: dict[int, float] = {}  # thread id -> when its last long task ended

    def __repr__(self) -> str:
        threads, ready = len(self._helpers) + 1, len(self._ready) if self._is_open else 0
        return f"<ThreadLane threads={threads} active={self._active} ready={ready}>"

    @property
    def window(self) -> int:
        """Maximum number of elements of a mapped task that the lane is given at once."""
        return self._max_workers

    # ---- the lane ------------------------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        """Prepare for the run."""
        run = self._run = session.run
        self._session = session
        self._context = session.context
        if run.graph.linear:
            self._max_workers = 1
        elif not self._max_workers:
            self._max_workers = default_workers()
        queue_type = RankedQueue if run.is_ranked else ReadyQueue
        self._ready: RankedQueue | ReadyQueue = queue_type(session.first_nodes(self), run.graph)
        self._route = None if session.has_one_lane else session.router(self, self._queue)
        self._leader = _ThreadWorker(run, self._context)
        self._is_open = True

    def put(self, nodes: Sequence[Node]) -> None:
        """Queue nodes that another lane has made ready."""
        self._ready.extend(nodes)
        with self._lock:
            if self._idle:
                self._add_workers_locked(1)
            elif self._max_workers > 1:
                self._start_watchdog_locked()
            if self._is_backing_off:
                self._wake_watchdog_locked()

    def wake(self) -> None:
        """Check whether the run is over."""
        if self._is_open:
            with self._lock:
                if self._session.is_over:
                    self._finish_locked()
                self._wake_watchdog_locked()

    def stop(self, *, end_calls: bool) -> None:
        """Let running tasks end; or abandon them, because nothing stops a thread."""
        if not self._is_open or self._run.cancelled:
            return
        if not end_calls:
            workers = (self._leader, *self._helpers)
            self._session.report_running(self, [node for each in workers if (node := each.runner.node) is not None])
            return
        given_up = []
        with self._lock:
            self._may_abandon = True  # before a worker is looked at, whose call may end meanwhile
            for worker in (self._leader, *self._helpers):
                node = worker.runner.node
                if node is not None and self._is_pending(node) and not self._run.may_start(node):
                    worker.is_abandoned = True
                    self._active -= 1
                    self._max_workers += 1
                    given_up.append((worker.runner, node))
        reason = f"it was abandoned, because {self._run.stop_cause}"
        for runner, node in given_up:
            outcome = Outcome(CANCELLED, reason, started=True, goes_on=True)
            self._session.proceed(runner.give_up(node, outcome))
        with self._lock:
            if self._ready and not self._active:
                self._add_workers_locked(1)
            self._check_finished_locked()
            self._wake_watchdog_locked()

    def work(self) -> None:
        """Run tasks in the calling thread until the run is over."""
        try:
            self._run_tasks(self._leader)
        except BaseException:  # Ctrl-C outside of a task
            self._run.cancel("the run was interrupted")
            raise
        self._raise_error()
        self._has_worked = True

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback refers to this frame: a reference cycle

    def close(self) -> Sequence[Node]:
        """Wait for helpers and watchdog; if the run was cancelled, return nodes that still run after a grace period."""
        if not self._is_open:
            return ()
        self._route = None  # it refers to this object
        with self._lock:
            self._finish_locked()
        until = self._over_since + JOIN_TIMEOUT
        for worker in self._helpers:
            if worker.thread is not None and worker.thread.is_alive() and not worker.is_abandoned:
                worker.thread.join(max(0.0, until - monotonic()) if self._run.cancelled else None)
        if self._watchdog is not None:
            self._watchdog_running.acquire(timeout=JOIN_TIMEOUT)  # it runs no user code, so it ends at once
        if self._has_worked:
            self._raise_error()  # of a thread that has failed after `work` had returned
        if not self._run.cancelled:
            return ()
        return [node for worker in (self._leader, *self._helpers) if (node := worker.runner.node) is not None]

    # ---- running tasks -------------------------------------------------------------------------------------------

    def _run_tasks(self, worker: _ThreadWorker) -> None:
        """Body of a worker: run ready nodes until the run is over."""
        run, ready, route = self._run, self._ready, self._route
        while not self._is_over and not run.cancelled:
            self._ensure_watchdog(1)
            slow = SLOW_TASK if self._watchdog is not None or self._max_workers == 1 else -1.0
            rest = worker.runner.run_fast_path(ready.take, route or ready.put, perf_counter, slow, self._on_slow_task)
            if self._may_abandon:
                self._rejoin(worker)
            if isinstance(rest, Node):
                self._ensure_watchdog(0)
                step = worker.runner.run_node(rest, SLOW_TASK, self._on_slow_task)
                if self._may_abandon:
                    self._rejoin(worker)
                seconds = worker.runner.seconds  # of the call alone: helpers would not shorten recording it
                if isinstance(step, Retry):
                    self._add_retry(step)
                else:
                    put = route or ready.put
                    for node in step:
                        put(node)
                self._on_slow_task(seconds)
                # tasks are recorded one at a time, so helpers would only queue for the recording of trivial tasks
                is_surplus = run.recorded and seconds <= SLOW_TASK and worker.thread is not None
                if is_surplus and not self._wait_for_work(worker, needed=False):
                    return
            elif isinstance(rest, Retry):
                self._add_retry(rest)
            else:
                self._record_activity()
            if self._timers:
                with self._lock:
                    self._queue_due_locked()
            if not ready and not self._wait_for_work(worker):
                return
        with self._lock:  # the run was cancelled: wake idle workers
            self._finish_locked()

    def _is_pending(self, node: Node) -> bool:
        return self._run.is_current(node, self._run.current_attempt(node))

    def _rejoin(self, worker: _ThreadWorker) -> None:
        """Count a worker again if its call was abandoned and has ended after all."""
        with self._lock:
            if worker.is_abandoned:
                worker.is_abandoned = False
                self._active += 1
                self._max_workers -= 1

    def _run_helper(self, worker: _ThreadWorker) -> None:
        """Body of a helper thread."""
        try:
            self._run_tasks(worker)
        except BaseException as error:
            self._fail(error)
        if self._leader.is_abandoned:
            self._session.wake_all()  # `work`, which the session waits for, has not returned

    def _fail(self, error: BaseException) -> None:
        """End the run because of an error of a helper or the watchdog, which `work` raises."""
        self._error = error
        self._run.cancel("a worker thread failed")
        with self._lock:
            self._finish_locked()

    def _wait_for_work(self, worker: _ThreadWorker, *, needed: bool = True) -> bool:
        """Wait until another thread adds the worker again; return False if the run is over.

        Args:
            worker: the worker of the calling thread.
            needed: False returns at once if it is the only active worker.
        """
        with self._lock:
            if not needed and self._active == 1:
                return True
            self._active -= 1
            if self._check_finished_locked():
                return False
            self._idle.append(worker)
        if self._watchdog is None:
            self._watch_queue(worker, worker)
        else:
            while worker in self._idle and not self._is_over:
                worker.wait()
        return not self._is_over

    def _on_slow_task(self, seconds: float) -> float | None:
        """After a task, add workers for the nodes that wait.

        The effect depends on the duration of the task:

        * up to `SLOW_TASK`: the watchdog is started if nodes wait; until it runs, this is called after every task;
        * up to `LONG_TASK`: one worker is added;
        * longer: a worker is added for each node that waits. After the second long task in a row, the queue is ordered
          by height.

        For example, the tasks of a thread take 0.01, 0.2, 5 and 5 ms while ten nodes wait. The watchdog starts after
        the first task, one worker is added after the second, the others after the third; after the fourth, the queue is
        ordered.

        Args:
            seconds: duration of the task.

        Returns:
            The duration from which this is to be called again, -1.0 for every task; None after the queue was ordered,
            so that the loop takes its next node from it.
        """
        if seconds <= SLOW_TASK:
            self._ensure_watchdog(1)
            return SLOW_TASK if self._watchdog is not None or self._max_workers == 1 else -1.0
        surplus = len(self._ready) - 1  # this worker takes one itself
        self._record_activity()
        if surplus > 0 and (self._idle or len(self._helpers) + 1 < self._max_workers):
            with self._lock:
                # short tasks are slowed down by the system at times: one helper is enough until a task is long
                self._add_workers_locked(surplus if seconds > LONG_TASK else min(surplus, 1))
        if seconds <= LONG_TASK:
            return SLOW_TASK
        now, thread = perf_counter(), get_ident()
        since_long_task = now - seconds - self._long_task_ended.get(thread, self._began)
        self._long_task_ended[thread] = now
        if since_long_task > LONG_TASK:
            return SLOW_TASK  # it may have waited for the GIL; that does not happen twice in a row
        self._ready.order_by_height()
        return None

    # ---- the watchdog --------------------------------------------------------------------------------------------

    def _ensure_watchdog(self, taken: int) -> None:
        """Start the watchdog if it does not run, another worker may be of use, and more nodes are ready than `taken`.

        Args:
            taken: number of ready nodes that this worker takes itself.
        """
        if self._watchdog is None and self._max_workers > 1 and len(self._ready) > taken:
            with self._lock:
                self._start_watchdog_locked()

    def _start_watchdog_locked(self) -> None:
        """Start the watchdog with start_new_thread(): Thread.start() would block until it runs."""
        if self._watchdog is not None or self._is_over:
            return
        self._watchdog = WakeUp()
        self._watchdog_running = Lock()
        self._watchdog_running.acquire()
        try:
            start_new_thread(self._run_watchdog, (self._watchdog,))
        except RuntimeError:  # the system cannot start more threads
            self._watchdog = None
            self._watchdog_running.release()
            self._max_workers = len(self._helpers) + 1

    def _run_watchdog(self, wake_up: WakeUp) -> None:
        """Body of the watchdog thread."""
        try:
            self._watch_queue(wake_up)
        except BaseException as error:
            self._fail(error)
        finally:
            self._watchdog_running.release()

    def _watch_queue(self, wake_up: WakeUp, worker: _ThreadWorker | None = None) -> None:
        """Add workers while nodes wait, until the run is over.

        Args:
            wake_up: ends the current interval.
            worker: the idle worker that does this as long as there is no watchdog; returns when it is added.
        """
        interval = PollInterval(self._ready.peek(), self._activity, monotonic())
        while True:
            wake_up.wait(self._timeout(interval))
            self._run.commit_if_due()
            with self._lock:
                if self._timers:
                    self._queue_due_locked()
                is_finished = self._check_finished_locked()
                head = self._ready.peek()
                is_waiting = head is not None and (head is interval.head or not self._active)
                if is_waiting and not is_finished:
                    self._add_workers_locked(len(self._ready))
                is_needed = worker is not None and worker not in self._idle
                error = self._dead_helper_locked() if head is interval.head else None
            if is_finished or is_needed:
                return
            if error is not None:
                self._fail(error)
                return
            interval.update(head, self._activity, monotonic(), has_added=is_waiting)

    def _timeout(self, interval: PollInterval) -> float:
        """Return how many seconds the watchdog waits."""
        with self._lock:
            seconds, idle_seconds = interval.seconds, interval.idle_seconds(monotonic())
            self._is_backing_off = idle_seconds > seconds and not self._ready
            if self._is_backing_off and interval.activity == self._activity:
                seconds = idle_seconds
            until_retry = self._timers.wait()
            return seconds if until_retry is None else min(seconds, until_retry)

    def _record_activity(self) -> None:
        """Record activity, so the watchdog shortens its polling interval."""
        self._activity += 1
        if self._is_backing_off:
            with self._lock:
                self._wake_watchdog_locked()

    def _wake_watchdog_locked(self) -> None:
        self._is_backing_off = False
        for thread in self._idle if self._watchdog is None else (self._watchdog,):
            thread.set()

    def _dead_helper_locked(self) -> ExecutorError | None:
        """Return an error if a helper has ended before it could run tasks: the run would wait for it."""
        for worker in self._helpers:
            thread = worker.thread
            if thread is not None and thread.ident is not None and not thread.is_alive():
                return ExecutorError(
                    f"worker thread {thread.name!r} ended before it could take part in the run: its error is on "
                    f"standard error; check what runs in every new thread, such as a function given to "
                    f"threading.settrace() or threading.setprofile(), or a patched threading.Thread.run()"
                )
        return None

    # ---- adding workers, retries and the end ---------------------------------------------------------------------

    def _add_workers_locked(self, count: int) -> None:
        """Wake idle workers and start helpers, ``count`` at most, and start the watchdog for the rest."""
        while count > 0 and self._idle:
            worker = self._idle.pop()
            self._active += 1
            worker.set()
            count -= 1
        while count > 0 and len(self._helpers) + 1 < self._max_workers and self._start_helper_locked():
            count -= 1
        if self._helpers or len(self._ready) > 1:
            self._start_watchdog_locked()

    def _start_helper_locked(self) -> bool:
        """Start a helper; if that fails, limit the run to the existing threads and return False."""
        worker = _ThreadWorker(self._run, self._context)
        name = f"flowkit-{len(self._helpers) + 1}"
        worker.thread = Thread(target=self._run_helper, args=(worker,), name=name, daemon=True)
        self._helpers.append(worker)
        self._active += 1
        handled = sys.exception()
        try:
            worker.thread.start()
        except RuntimeError as error:
            interrupt = error.__context__
            if interrupt is not None and interrupt is not handled:  # Ctrl-C interrupted the locks in Thread.start()
                raise interrupt from None
            self._helpers.remove(worker)
            self._active -= 1
            self._max_workers = len(self._helpers) + 1
            return False
        return True

    def _add_retry(self, retry: Retry) -> None:
        with self._lock:
            self._timers.add(retry)
            if self._is_backing_off:
                self._wake_watchdog_locked()

    def _queue(self, node: Node) -> None:
        self._ready.put(node)

    def _queue_due_locked(self) -> None:
        """Queue the nodes whose retry is due."""
        for node in self._timers.due(self._run):
            self._ready.put(node)

    def _check_finished_locked(self) -> bool:
        """Return whether all work is done; if so, wake all workers to exit."""
        is_idle = not (self._active or self._ready or self._timers)
        if self._is_over or self._run.cancelled or (is_idle and (self._session.has_one_lane or self._session.is_over)):
            self._finish_locked()
        return self._is_over

    def _finish_locked(self) -> None:
        if not self._is_over:
            self._is_over, self._over_since = True, monotonic()
        for thread in (*self._helpers, *self._idle, self._watchdog):  # helpers: Ctrl-C may have lost an earlier set()
            if thread is not None:
                thread.set()
