"""Threads: every worker, the calling thread among them, takes ready nodes from one queue and adds what they make ready.

No thread hands out work, and nothing is signaled per task, so a task costs less than a microsecond. Helpers are
started, and woken, only when there is reason to think that they pay:

* a worker that has just spent more than :data:`SLOW` on one task, while others wait, calls as many as can be of use;
* somebody is *on watch*: a thread that runs no tasks naps, and when a node has not moved from the head of the queue for
  a nap, every worker must be busy with something long, and it calls others. The longer nothing happens the longer it
  dozes, but only for a small share of the time that has passed, and not beyond the end of a slow task.
"""

from __future__ import annotations

import sys
from _thread import start_new_thread
from contextlib import suppress
from contextvars import copy_context
from threading import Lock, Thread, get_ident
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from flowkit_core import ExecutorError, Node, Retry, Run
from flowkit_core.runs.timers import Timers
from flowkit_core.runs.worker import Worker
from flowkit_exec.ready_queue import Ranked

if TYPE_CHECKING:
    from contextvars import Context

SLOW = 50e-6
LONG = 1e-3
NAP = 200e-6
LONGEST_NAP = 5e-3
DOZE = 1 / 32  # of the time in which nothing happened: by so much may a task start late
LONGEST_DOZE = 0.25
GRACE = 2.0
_SLICE = 0.25 if sys.platform == "win32" else None  # there, only a wait with a timeout can be interrupted


class _Bell:
    """What a thread waits for, and another rings."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake who waits, now or when it next does."""
        with suppress(RuntimeError):  # it was rung already and nobody has woken yet
            self._lock.release()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the bell, at most so long. Ctrl-C gets through."""
        if seconds is not None:
            self._lock.acquire(timeout=seconds)
        elif _SLICE is None:
            self._lock.acquire()
        else:
            while not self._lock.acquire(timeout=_SLICE):
                pass


class _Worker(_Bell):
    """One thread that runs tasks of a run; ``thread`` is None for the thread that called ``run()``."""

    __slots__ = ("runner", "thread")

    def __init__(self, run: Run, context: Context) -> None:
        super().__init__()
        self.thread: Thread | None = None
        self.runner = Worker(run, context)


class ThreadDriver:
    """The threads of one run.

    The lock protects who is idle, who is on watch, how many are active, and the timers. The queue and the run look
    after themselves. Names that end in ``_locked`` want the lock to be held.
    """

    def __init__(self, run: Run, size: int) -> None:
        self._run = run
        self._size = 1 if run.graph.linear else size
        self._ready = Ranked(run.start(), run.graph)
        self._timers = Timers()
        self._context = copy_context()
        self._lock = Lock()
        self._crew: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._watch: _Bell | None = None
        self._watch_ended = Lock()
        self._dozing = False  # whether who is on watch wants to be woken when something may follow
        self._began = perf_counter()
        self._long_ended: dict[int, float] = {}  # thread -> when its last long task ended
        self._stirred = 0  # grows whenever something may follow: a slow task ended, a worker has nothing left
        self._active = 1
        self._leave_by: float | None = None  # when running tasks are left alone, because one wants to end the program
        self._over = False
        self._broken: BaseException | None = None

    def work(self) -> None:
        """Take part in the run from the calling thread, until all is done and every helper has ended."""
        try:
            self._labor(_Worker(self._run, self._context))
        except BaseException:  # Ctrl-C outside of a task
            self._run.cancel("the run was interrupted")
            self._dismiss()
            raise
        self._dismiss()
        broken, self._broken = self._broken, None
        try:
            if broken is not None:
                raise broken
        finally:
            del broken  # its traceback refers to this frame

    def _dismiss(self) -> None:
        """End the helpers and wait for them; after an interrupt only for a grace, because nothing stops a thread."""
        with self._lock:
            self._end_locked()
        until = self._leave_by or monotonic() + GRACE
        for worker in self._crew:
            if worker.thread is not None and worker.thread.is_alive():
                worker.thread.join(max(0.0, until - monotonic()) if self._run.cancelled else None)
        if self._watch is not None:
            self._watch_ended.acquire(timeout=GRACE)  # it runs nobody's code, and is there at once
        if self._run.cancelled:
            self._run.abandon([node for worker in self._crew if (node := worker.runner.node) is not None])

    # ---- a worker's day ------------------------------------------------------------------------------------------

    def _labor(self, me: _Worker) -> None:
        run, ready = self._run, self._ready
        while not self._over and not run.cancelled:
            self._have_watched(len(ready) - 1)
            slow = SLOW if self._watch is not None or self._size == 1 else -1.0
            rest = me.runner.run_fast_path(ready.take, ready.put, perf_counter, slow, self._relief)
            if isinstance(rest, Node):
                self._have_watched(len(ready))
                step = me.runner.run_node(rest)
                spent = run.state.seconds[rest.index]  # without the time to record the result, which no helper saves
                if isinstance(step, Retry):
                    self._delay(step)
                else:
                    for node in step:
                        ready.put(node)
                self._relief(spent)
                if run.recorded and spent <= SLOW and me.thread is not None and not self._rest(me, needed=False):
                    return  # recording goes one at a time, and trivial tasks would only queue for it
            elif isinstance(rest, Retry):
                self._delay(rest)
            else:
                self._stir()
            if self._timers:
                with self._lock:
                    self._put_due_locked()
            if not ready and not self._rest(me):
                return
        with self._lock:  # the run was called off: whoever rests must know
            self._end_locked()

    def _help(self, me: _Worker) -> None:
        """The life of a helper thread."""
        try:
            self._labor(me)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._broken = error
        self._run.cancel("a worker thread failed")
        with self._lock:
            self._end_locked()

    def _rest(self, me: _Worker, *, needed: bool = True) -> bool:
        """Be idle until there is something to do; return False when the run is over.

        A worker that is not needed rests only if others go on.
        """
        with self._lock:
            if not needed and self._active == 1:
                return True
            self._active -= 1
            if self._finished_locked():
                return False
            self._idle.append(me)
        if self._watch is None:
            self._look_out(me, me)
        else:
            while me in self._idle and not self._over:
                me.wait()
        return not self._over

    # ---- being on watch ------------------------------------------------------------------------------------------

    def _have_watched(self, waiting: int) -> None:
        """See to it that somebody is on watch while nodes wait, as long as another worker may be of use."""
        if waiting > 0 and self._watch is None and self._size > 1:
            with self._lock:
                self._post_locked()

    def _post_locked(self) -> None:
        """Put somebody on watch: without a ``Thread``, whose start waits for the other thread to come to life."""
        if self._watch is not None or self._over:
            return
        self._watch = _Bell()
        self._watch_ended.acquire()
        try:
            start_new_thread(self._keep_watch, (self._watch,))
        except RuntimeError:  # the system has no more threads to give
            self._watch = None
            self._watch_ended.release()
            self._size = len(self._crew) + 1

    def _keep_watch(self, bell: _Bell) -> None:
        """The life of who is on watch."""
        try:
            self._look_out(bell)
        except BaseException as error:
            self._fail(error)
        finally:
            self._watch_ended.release()

    def _look_out(self, bell: _Bell, me: _Worker | None = None) -> None:
        """Call workers for what does not move, until the run is over; or until ``me``, who is idle, is called."""
        nap, head, stirred = NAP, self._ready.head(), self._stirred
        calm_since = quiet_since = monotonic()  # nobody had to be called; nothing happened at all
        while True:
            bell.wait(self._how_long(nap, monotonic() - quiet_since, stirred))
            with self._lock:
                if self._timers:
                    self._put_due_locked()
                if self._run.exiting:
                    self._lose_patience()
                if self._finished_locked():
                    return
                current = self._ready.head()
                stuck = current is not None and (current is head or not self._active)
                if stuck:
                    self._call_up_locked(len(self._ready))
                if me is not None and me not in self._idle:
                    return
                gone = None if current is not head else self._gone_locked()
            if gone is not None:
                self._fail(gone)
                return
            now = monotonic()
            if stuck:
                calm_since = now
            if current is not head or stirred != self._stirred:
                nap, quiet_since, stirred = max(NAP, (now - calm_since) * DOZE), now, self._stirred
            else:
                nap *= 2
            nap = min(nap, LONGEST_NAP)
            head = current

    def _gone_locked(self) -> ExecutorError | None:
        """Return an error if a helper has ended while the run goes on: it was counted on, and would be for ever."""
        for worker in self._crew:
            thread = worker.thread
            if thread is not None and thread.ident is not None and not thread.is_alive():
                return ExecutorError(
                    f"worker thread {thread.name!r} ended before it could take part in the run: its error is on "
                    f"standard error; look for what runs in every new thread, such as a function given to "
                    f"threading.settrace() or threading.setprofile(), or a patched threading.Thread.run()"
                )
        return None

    def _how_long(self, nap: float, quiet: float, stirred: int) -> float:
        """Return how long to sleep on watch: a nap, or a doze when it has been quiet for long."""
        with self._lock:
            self._dozing = quiet * DOZE > nap and not self._ready
            if self._dozing and stirred == self._stirred:
                nap = min(quiet * DOZE, LONGEST_DOZE)
            return min(nap, self._timers.wait()) if self._timers else nap

    def _lose_patience(self) -> None:
        """After SystemExit, leave what runs alone when its grace is over; but clean-up tasks may end."""
        if self._leave_by is None:
            self._leave_by = monotonic() + GRACE
        if monotonic() >= self._leave_by and not self._run.cleanup_running:
            self._run.cancel("the program was asked to end")

    # ---- what workers do for each other --------------------------------------------------------------------------

    def _relief(self, spent: float) -> float | None:
        """After a task of so many seconds, call helpers for what waits; return after how long a task to ask again.

        After two long ones in a row that is None: from then on the order of what is ready is worth keeping.
        """
        surplus = len(self._ready) - 1  # this worker takes one itself
        if spent <= SLOW:
            self._have_watched(surplus)
            return SLOW if self._watch is not None or self._size == 1 else -1.0
        self._stir()
        if surplus > 0 and (self._idle or len(self._crew) + 1 < self._size):
            with self._lock:
                # trivial tasks are interrupted now and then: one helper will do, until something is really slow
                self._call_up_locked(surplus if spent > LONG else min(surplus, 1))
        if spent <= LONG:
            return SLOW
        now, thread = perf_counter(), get_ident()
        idle = now - spent - self._long_ended.get(thread, self._began)
        self._long_ended[thread] = now
        if idle > LONG:
            return SLOW  # it may only have been waiting for its turn to run Python; two in a row were not
        self._ready.strict()
        return None

    def _stir(self) -> None:
        """Have who is on watch keep its eyes open."""
        self._stirred += 1
        if self._dozing:
            with self._lock:
                self._wake_locked()

    def _call_up_locked(self, count: int) -> None:
        """Let so many more workers begin, as far as there are any, and see to it that the rest is watched."""
        while count > 0 and self._idle:
            worker = self._idle.pop()
            self._active += 1
            worker.ring()
            count -= 1
        while count > 0 and len(self._crew) + 1 < self._size and self._hired_locked():
            count -= 1
        if self._crew or len(self._ready) > 1:
            self._post_locked()

    def _hired_locked(self) -> bool:
        """Start a helper; where the system has no more threads to give, make do with those there are."""
        worker = _Worker(self._run, self._context)
        name = f"flowkit-{len(self._crew) + 1}"
        worker.thread = Thread(target=self._help, args=(worker,), name=name, daemon=True)
        self._crew.append(worker)
        self._active += 1
        handled = sys.exception()
        try:
            worker.thread.start()
        except RuntimeError as error:
            interrupt = error.__context__
            if interrupt is not None and interrupt is not handled:  # Ctrl-C came upon the locks in Thread.start()
                raise interrupt from None
            self._crew.remove(worker)
            self._active -= 1
            self._size = len(self._crew) + 1
            return False
        return True

    def _wake_locked(self) -> None:
        """Wake who is on watch from a doze."""
        self._dozing = False
        for bell in self._idle if self._watch is None else (self._watch,):
            bell.ring()

    def _delay(self, later: Retry) -> None:
        with self._lock:
            self._timers.add(later)
            if self._dozing:
                self._wake_locked()

    def _put_due_locked(self) -> None:
        for node in self._timers.due(self._run):
            self._ready.put(node)

    def _finished_locked(self) -> bool:
        """Say whether nothing is left to do or to wait for; if so, end the day for everybody."""
        if self._over or self._run.cancelled or not (self._active or self._ready or self._timers):
            self._end_locked()
        return self._over

    def _end_locked(self) -> None:
        self._over = True
        for bell in (*self._crew, *self._idle, self._watch):  # also one that Ctrl-C kept from being rung when called
            if bell is not None:
                bell.ring()
