"""The workers of one run, and the loop that drives them.

One thread, the caller's, drives: it decides who gets how much, sends batches that are as deep as tasks are short, takes
in what comes back, and takes back what a worker has not begun when another is idle. A worker that dies takes only the
one task with it that it had begun.
"""

from __future__ import annotations

import os
import pickle
import select
import sys
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from flowkit_core import (
    ExecutorError,
    Outcome,
    Retry,
    SerializationError,
    WorkerDiedError,
    _initial_environment,
)
from flowkit_core._warnings import report
from flowkit_core.runs.states import CANCELLED, CLEANUP_TRIGGERS, FAILED
from flowkit_core.runs.timers import Timers
from flowkit_exec.ready_queue import Ranked

from . import protocol as wire
from .batching import Sender
from .exception_transport import unpack_error
from .function_references import fork_is_safe
from .function_table import Functions
from .main_module import run_line
from .safe_text import described, is_for_the_program
from .serialization_errors import unfit
from .shared_memory import read_segment, workers_within_limits
from .worker_handle import Child, bury_all, depth, import_path, signal_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from flowkit_core import Node, Run

    class Pool(Protocol):
        """What a crew needs of the executor that it works for."""

        max_workers: int
        generation: int

        def number(self, func: Any = None, found: Any = None) -> int:
            """Return the number of a function."""

        def borrow(self) -> Child | None:
            """Return a warm worker, or None."""

        def give_back(self, child: Child) -> None:
            """Keep a worker warm for the next run."""


AHEAD = 2e-3
"""How many seconds of work a worker is given in advance."""
FIRST = 64
"""How many calls an idle worker is given at once at most, and any worker as long as nothing is known of how long they
take."""
GRACE = 0.5
"""Seconds that running tasks have to end by themselves when a run is stopped."""
_TASK_ENDED = frozenset((wire.VALUE, wire.SEGMENT, wire.ERROR))
CHEAP = 1.5e-6
"""Up to how many seconds a task is cheap: this process needs as long to give it out and take it in as one worker to do
it, and longer to wake another worker."""
HICCUP = 10 * CHEAP
"""Up to how many seconds per task they stay cheap: a busy machine stops a worker for a millisecond now and then."""
STREAK = 100
"""After how many cheap tasks in a row the next ones are taken for cheap."""
MANY = 64
"""From how many cheap tasks in hand on a worker has enough to do for a nap of this process."""
NAP = 0.5e-6
"""Seconds of that nap for each of them: less than the worker needs."""
LONG = 1e-3
"""From how many seconds a task on, the order in which tasks start is worth keeping."""
LONGEST_WAIT = 3_600_000.0
"""Milliseconds that poll() is asked to wait at most: it takes no large numbers."""
INFANCY = 60.0
"""Seconds that a worker process has to come to life."""
SHORT = 5e-3
"""Up to how many seconds per task a worker is given the next one in advance: fetching it would take a tenth of that."""
SILENCE = 1e-3
"""After how many seconds at one task what a worker holds in advance is taken back, if another is idle."""
STILLBORN = 3
"""How many workers in a row may die before they come to life."""


class Crew:
    """The workers of one run, and the loop that drives them."""

    def __init__(self, pool: Pool, run: Run) -> None:
        self._pool = pool
        self._run = run
        self._size = min(pool.max_workers, workers_within_limits())
        self._children: list[Child] = []
        self._ready = Ranked(run.start(), run.graph)
        self._timers = Timers()
        self._pace: float | None = None  # seconds per task, lately
        self._cheap = 0  # how many cheap tasks there were in a row
        self._brisk: Child | None = None  # while tasks are cheap, the worker that ended the last: it is awake
        self._stillborn = 0
        self._deaths: dict[int, int] = {}  # index of a node -> how many workers it has taken with it
        self._grace_until: float | None = None  # set while what ran when the run was stopped may still end by itself
        self._stopped = False
        self._poll = select.poll()
        self._by_descriptor: dict[int, Child] = {}
        self._functions = Functions(run, pool.number)
        self._facts = _surroundings(run)
        if self._facts["cwd"] is None and self._functions.forked is None:
            raise ExecutorError(
                "the current folder of this process was removed, and no worker process can get there: change to "
                "another folder before run(), or use executor='thread'"
            )
        self._sender = Sender(run, self._ready, self._functions, self._finish)
        self._ahead, self._segments = self._sender.ahead, self._sender.segments

    def work(self) -> None:
        """Drive the run to its end."""
        sys.modules["__mp_main__"] = sys.modules["__main__"]  # the name of the script in workers
        try:
            self._drive()
        except BaseException:
            self._run.cancel("the run was interrupted")
            self._wind_up()
            raise
        finally:
            try:
                self._part()
            finally:
                del self._sender  # it refers to a method of this object

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        run = self._run
        while not run.cancelled:
            if run.stopping and not self._stopped:
                self._stop()
            if self._timers:
                self._put(self._timers.due(run))
            self._dispatch()
            if not (self._ready or self._timers or any(child.held for child in self._children)):
                return
            self._listen(self._patience())
            if self._grace_until is not None and monotonic() > self._grace_until:
                self._cut_short()
        self._wind_up()

    def _patience(self) -> float | None:
        """Return how many seconds to wait for news."""
        most = self._timers.wait() if self._timers else None
        until = self._grace_until
        for child in self._children:
            if child.held and self._surplus(child):
                taken_back = child.since + self._limit()
                until = taken_back if until is None else min(until, taken_back)
            if not child.started:  # to see whether it ever will be
                most = 1.0 if most is None else min(most, 1.0)
            elif child.pidfd is None:  # the socket does not tell of its end while its own children keep that open
                most = 0.5 if most is None else min(most, 0.5)
        if until is not None:
            left = max(0.0, until - monotonic())
            most = left if most is None else min(most, left)
        return most

    def _limit(self) -> float:
        """Return how many seconds a worker may be at one task before what it holds in advance is taken back."""
        if self._brisk is not None:
            return 3 * SILENCE  # the others are idle by choice
        if len(self._children) < self._size or not all(child.held for child in self._children):
            return SILENCE
        return SILENCE + 4 * min(self._pace or 0.0, SHORT)

    def _listen(self, patience: float | None) -> None:
        """Wait for news from workers, and take it in; look after those of whom there is none."""
        if self._brisk is not None and len(self._brisk.held) >= MANY:
            sleep(len(self._brisk.held) * NAP)  # to be woken for each outcome would cost both sides more
        for child in self._children:
            if child.wants_to_send:
                self._poll.modify(child.socket, select.POLLOUT)
        news = self._poll.poll(None if patience is None else min(patience * 1000, LONGEST_WAIT))
        descriptors = [descriptor for descriptor, _ in news]
        told = [self._by_descriptor[descriptor] for descriptor in descriptors if descriptor in self._by_descriptor]
        for child in told if len(told) == 1 else dict.fromkeys(told):
            if child.wants_to_send and child.flush():
                self._poll.modify(child.socket, 0)
            heard = child.receive()
            self._take_in(child)
            if not heard or child.pidfd in descriptors:
                self._lost(child)
            elif child.unwanted and not any(child.held.values()):
                self._retire(child, kill=True)  # it goes on with what nobody wants
        now, limit = monotonic(), self._limit()
        stuck = False
        for child in tuple(self._children):
            if not child.started and now - child.born > INFANCY:
                child.end()
                self._lost(child, f"was silent for {INFANCY:g} s, and was ended")
            elif not news and child.pidfd is None and child.has_ended():
                self._lost(child)
            elif now - child.since >= limit and self._surplus(child):
                stuck = True
        if stuck:
            self._share()
            self._pace = max(self._pace or 0.0, SHORT)
            self._ready.strict()

    # ---- giving --------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give workers what is ready."""
        ready = self._ready
        share = 0
        while ready:
            child = self._roomiest()
            if child is None:
                return
            share = share or -(-len(ready) // (1 if child is self._brisk else len(self._children)))
            depth = min(self._depth(), child.room)
            most = max(1, depth - len(child.held))
            if not child.held:  # as long as nothing is known, what matters most goes first, to one worker each
                most = min(most, FIRST) if self._pace is not None else 1
                child.since = monotonic()
            self._sender.give(child, min(most, share), depth)

    def _depth(self) -> int:
        if self._run.recorded:
            return 1  # what ends here is recorded before its worker goes on, so a crash costs each only what it is at
        if self._pace is None:
            return FIRST
        return max(2 if self._pace < SHORT else 1, int(AHEAD / max(self._pace, 1e-6)))

    def _roomiest(self) -> Child | None:
        """Return the worker that should get more, a new one if need be; None when all have enough."""
        keen = [child for child in self._children if not child.wants_to_send]  # the others have enough to read
        depth = self._depth()
        if (brisk := self._brisk) in keen and len(brisk.held) <= min(depth, brisk.room) // 2:
            return brisk
        best = min(keen, key=lambda child: len(child.held), default=None)
        if best is not None and not best.held:
            return best
        there = len(self._children)
        if there < self._size:
            for _ in range(min(self._size - there, len(self._ready))):
                if not self._hired():
                    break
            else:
                return self._children[there]
        if best is not None and len(best.held) <= min(depth, best.room) // 2:
            return best
        return None

    def _hired(self) -> bool:
        """Get a worker, a warm one if there is one; where none can be had, make do with those there are."""
        forked = self._functions.forked
        try:
            if forked is not None and not fork_is_safe():
                raise ExecutorError(
                    "a function that cannot be looked up gets to a worker by a fork of this process, which has started "
                    "threads since the run began: move it to the top level of a module, or install cloudpickle "
                    "(flowkit-exec[cloudpickle]), or use executor='thread'"
                )
            child = self._pool.borrow() if forked is None else None
            if child is None:
                generation, child = self._pool.generation, Child(forked)
                child.generation = generation
        except ExecutorError:
            if not self._children:
                raise
            self._size = len(self._children)
            return False
        child.tell(self._facts)
        self._children.append(child)
        for descriptor, events in (
            (child.outcomes, select.POLLIN),
            (child.pidfd, select.POLLIN),
            (child.socket.fileno(), 0),
        ):
            if descriptor is not None:
                self._poll.register(descriptor, events)
                self._by_descriptor[descriptor] = child
        return True

    # ---- taking --------------------------------------------------------------------------------------------------

    def _take_in(self, child: Child) -> None:
        """Take in what a worker has sent."""
        held, finish, loads = child.held, self._run.finish, pickle.loads
        ahead, extend = self._ahead, self._ready.extend
        spent, tasks = 0.0, 0
        frames = child.frames()
        while frames:
            kind, ticket, seconds, payload = frames.popleft()
            if kind in _TASK_ENDED:
                spent += seconds
                tasks += 1
            if kind != wire.VALUE:
                self._take_in_rare(child, kind, ticket, seconds, payload)
                continue
            node = held.pop(ticket, None)
            if node is None:
                continue
            try:
                value = loads(payload)
            except BaseException as error:  # unpickling runs the user's code
                if is_for_the_program(error):
                    raise
                self._garbled(child, node, error)
                continue
            if after := finish(node, value, seconds):
                if ahead:
                    self._put(after)  # type: ignore[arg-type]
                else:
                    extend(after)  # type: ignore[arg-type]
        if tasks:
            child.since = monotonic()
            pace = spent / tasks
            self._pace = pace if self._pace is None else (self._pace + pace) / 2
            if self._pace > LONG:
                self._ready.strict()
            self._cheap = self._cheap + tasks if pace <= (CHEAP if self._brisk is None else HICCUP) else 0
            if self._cheap >= STREAK:
                self._brisk = child
            elif self._brisk is not None:
                self._share()

    def _take_in_rare(self, child: Child, kind: int, ticket: int, seconds: float, payload: bytes) -> None:
        if kind == wire.READY:
            child.started = True
            self._stillborn = 0
        elif kind == wire.ASTRAY:
            raise ExecutorError(
                f"worker process {child.pid} cannot enter the current folder of this process ({payload.decode()}): "
                f"change to another folder before run(), or use executor='thread'"
            )
        elif kind == wire.LOG:
            from .log_forwarding import handle

            facts = {"run_id": self._run.run_id, "pipeline": self._run.graph.name}
            at = child.held.get(ticket)
            handle(payload, {**facts, "task": at.name} if at is not None else {})
        elif kind == wire.SLOW:
            report(
                f"worker process {child.pid} has been executing the script for {wire.PATIENCE:g} s, up to its first "
                f"run(), to find what a task needs: put what takes long, or waits for something that this process "
                f"has, below the run(), or under if __name__ == '__main__'"
            )
        elif kind == wire.STARTED:
            if (node := child.held.get(ticket)) is not None:
                self._run.mark_started(node, already=True)
        else:
            node = child.held.pop(ticket, None)
            if kind == wire.SEGMENT:
                self._take_in_segment(child, node, ticket, payload, seconds)
            elif node is None:
                return
            elif kind == wire.ERROR:
                self._finish(node, Outcome(FAILED, error=unpack_error(payload, node.name)), seconds)
            elif kind == wire.UNFIT:
                what, value_type, reason = pickle.loads(payload)
                self._finish(
                    node, Outcome(FAILED, error=unfit(node, what, value_type, reason), retryable=False), seconds
                )
            elif node.index in self._ahead:  # VOID: the one before it did not succeed
                self._ahead.discard(node.index)
            else:
                self._ready.put(node)

    def _take_in_segment(self, child: Child, node: Node | None, ticket: int, payload: bytes, seconds: float) -> None:
        try:
            descriptor, layout = child.receive_descriptor(ticket), pickle.loads(payload)
        except OSError as error:  # this process may open no more files
            if node is not None:
                self._garbled(child, node, error)
            return
        try:
            value = read_segment(descriptor, layout) if node is not None else None
        except BaseException as error:  # unpickling runs the user's code
            wire.close(descriptor)
            if is_for_the_program(error):
                raise
            self._garbled(child, node, error)  # type: ignore[arg-type]
            return
        if node is None or not node.downstream:
            wire.close(descriptor)
        else:
            self._segments.keep(value, descriptor, layout)
        if node is not None:
            self._finish(node, value, seconds)

    def _garbled(self, child: Child, node: Node, error: BaseException) -> None:
        """Fail a task whose result cannot be unpickled here; what its worker goes on to make of it is not wanted."""
        self._take_back(child)
        chain = set()
        after = node
        while len(after.downstream) == 1 and (after := after.downstream[0]).index in self._ahead:
            self._ahead.discard(after.index)
            chain.add(after.index)
        for ticket, other in child.held.items():
            if other is not None and other.index in chain:
                child.held[ticket] = None
                child.unwanted = True
        reason = f"cannot be unpickled in this process ({described(error)})"
        hint = "return plain data, or a class that unpickles wherever it is imported"
        self._finish(
            node, Outcome(FAILED, error=SerializationError(node.name, "result", reason, hint), retryable=False)
        )

    def _finish(self, node: Node, outcome: Any, seconds: float = 0.0) -> None:
        after = self._run.finish(node, outcome, seconds)
        if type(after) is Retry:
            self._timers.add(after)
        else:
            self._put(after)  # type: ignore[arg-type]

    def _put(self, nodes: Iterable[Node]) -> None:
        ahead, put = self._ahead, self._ready.put
        for node in nodes:
            if node.index in ahead:
                ahead.discard(node.index)  # it is with a worker already
            else:
                put(node)

    # ---- moving --------------------------------------------------------------------------------------------------

    def _surplus(self, child: Child) -> bool:
        """Say whether a worker holds more than it is at, of what another could do now."""
        count = 0
        for node in child.held.values():
            count += node is not None and node.index not in self._ahead
            if count == 2:
                return True
        return False

    def _share(self) -> None:
        """Take back what workers have not begun, to be given out anew: in order, and to those that are idle first."""
        self._brisk = None
        for child in self._children:
            if self._surplus(child):
                self._take_back(child)

    def _take_back(self, child: Child) -> None:
        for ticket in child.take_back():
            node = child.held.pop(ticket, None)
            if node is None:
                continue
            if node.index in self._ahead:
                self._ahead.discard(node.index)
            else:
                self._ready.put(node)

    # ---- ending --------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Let nothing begin any more that is with a worker already, and give what runs a short time to end."""
        self._stopped = True
        self._grace_until = monotonic() + GRACE
        for child in self._children:
            self._take_back(child)

    def _cut_short(self) -> None:
        """End the workers that still run something which began before the run was stopped."""
        self._grace_until = None  # clean-up tasks have all the time they need
        why = "the run could not be recorded" if self._run.record_error is not None else "another task failed"
        for child in list(self._children):
            self._take_back(child)
            if child.held and not any(node and node.task.trigger in CLEANUP_TRIGGERS for node in child.held.values()):
                for node in self._retire(child, kill=True):
                    self._finish(node, Outcome(CANCELLED, f"it was stopped, because {why}", started=True))

    def _lost(self, child: Child, why: str = "") -> None:
        """Find out what became of a worker that is gone, and what of its tasks."""
        if child not in self._children:
            return
        code = child.fate(GRACE)  # None if it lives, and has only closed its connection; or if nobody knows
        begun = self._retire(child)
        if not child.started and not begun:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise ExecutorError(
                    f"{STILLBORN} worker processes in a row did not come to life, and the last {why or child.how}: "
                    f"their standard error output may say why, or what Python does when it starts (sitecustomize, .pth "
                    f"files)"
                )
        elif not begun:
            child.mourn()
        for node in begun:
            error = WorkerDiedError(node.name, child.pid, code, signal_name(code))
            self._deaths[node.index] = deaths = self._deaths.get(node.index, 0) + 1
            if deaths > 1:
                error.add_note(f"flowkit: task {node.name!r} has taken {deaths} workers with it")
            self._finish(node, Outcome(FAILED, error=error))

    def _retire(self, child: Child, *, kill: bool = False) -> list[Node]:
        """Part with a worker that ends, or is ended; return what it had begun of which there is no outcome."""
        self._remove(child)
        try:
            if kill:
                child.end()
            child.fate(GRACE)
            child.receive()
            self._take_in(child)  # what it had sent counts
            self._take_back(child)
        finally:
            child.kill()
        begun = [node for node in child.held.values() if node is not None and node.index not in self._ahead]
        self._ahead.difference_update([node.index for node in child.held.values() if node is not None])
        return begun

    def _remove(self, child: Child) -> None:
        self._children.remove(child)
        if child is self._brisk:
            self._brisk = None
        for descriptor in (child.outcomes, child.pidfd, child.socket.fileno()):
            if descriptor is not None and self._by_descriptor.pop(descriptor, None) is not None:
                self._poll.unregister(descriptor)

    def _wind_up(self) -> None:
        """After an interrupt: nothing begins any more, and what runs has a short time to end."""
        for child in self._children:
            self._take_back(child)
            self._take_in(child)
        until = monotonic() + GRACE
        while any(child.held for child in self._children) and monotonic() < until:
            self._listen(max(0.0, until - monotonic()))

    def _part(self) -> None:
        """Keep the workers that are at rest, and end the others; close what lies in shared memory."""
        resting: list[Child] = []
        gone: list[Child] = []
        try:
            while self._children:
                child = self._children[-1]
                child.known -= self._functions.passing
                busy = bool(child.held) or self._run.cancelled
                (gone if busy else resting).append(child)
                self._remove(child)
            for child in gone:  # all of them, before one is waited for
                child.end()
            if self._functions.forked is not None:
                bury_all(resting)
            while resting:
                self._pool.give_back(resting.pop())
        finally:
            for child in (*gone, *resting):
                child.kill()
            self._segments.close()
            if self._run.cancelled:
                held = [node for child in gone for node in child.held.values() if node is not None]
                self._run.abandon([node for node in held if node.index not in self._ahead], "ended")


def _surroundings(run: Run) -> dict[str, Any]:
    """Return what a worker should know of this process and this run."""
    heard = {}
    if "logging" in sys.modules:
        from .log_forwarding import levels

        heard = levels()
    return {
        "watched": run.has_task_observers,
        "cwd": wire.folder(),
        "path": import_path(),
        "environment": {**wire.environment(), os.fsencode(wire.DEPTH): b"%d" % (depth() + 1)},
        "argv": list(sys.argv),
        "began": _initial_environment.captured,
        "run_line": run_line(),
        "levels": heard,
        "fail_fast": run.fail_fast,
    }
