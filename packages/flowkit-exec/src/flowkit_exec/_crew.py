"""The workers of one run, and the loop that drives them.

One thread, the caller's, drives: it sends calls in batches, as deep as tasks are short, sends a linear chain of tasks
as one piece so that values need not come back before they are used, and takes back what a worker has not begun when
another is idle. A worker that dies takes only the one task with it that it had begun.
"""

from __future__ import annotations

import os
import pickle
import select
import sys
from contextvars import copy_context
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowkit_core import Ending, ExecutorError, Later, SerializationError, WorkerDiedError
from flowkit_core.executor import Timers
from flowkit_core.outcome import CANCELLED, CLEAN_UP, FAILED

from . import _wire as wire
from ._child import Child, depth, import_path, signal_name
from ._faults import bad_argument, unfit
from ._functions import Functions
from ._ranked import Ranked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from flowkit_core import Node, Run

    class Pool(Protocol):
        """What a crew needs of the executor that it works for."""

        max_workers: int

        def number(self, func: Any, version: bytes) -> int: ...
        def borrow(self) -> Child | None: ...
        def give_back(self, child: Child) -> None: ...


AHEAD = 2e-3
"""How many seconds of work a worker is given in advance."""
DEEPEST = 1024
"""How many calls a worker is given in advance at most."""
FIRST = 64
"""How many calls an idle worker is given at once at most, and any worker as long as nothing is known of how long they
take."""
GRACE = 0.5
"""Seconds that running tasks have to end by themselves when a run is stopped."""
_TASK_ENDED = frozenset((wire.VALUE, wire.SEGMENT, wire.ERROR))
CHEAP = 1.5e-6
"""Up to how many seconds a task is cheap: this process needs as long to give it out and take it in as one worker to do
it, and longer to wake another worker."""
STREAK = 100
"""After how many cheap tasks in a row the next ones are taken for cheap."""
LONG = 1e-3
"""From how many seconds a task on, the order in which tasks start is worth keeping."""
LONGEST_WAIT = 3_600_000.0
"""Milliseconds that poll() is asked to wait at most: it takes no large numbers."""
INFANCY = 60.0
"""Seconds that a worker process has to come to life."""
SHORT = 5e-3
"""Up to how many seconds per task a worker is given the next one in advance: fetching it would take a tenth of that."""
SILENCE = 1e-3
"""After how many seconds without news what workers hold in advance is taken back: they are at something long."""
STILLBORN = 3
"""How many workers in a row may die before they come to life."""


class Crew:
    """The workers of one run, and the loop that drives them."""

    def __init__(self, pool: Pool, run: Run) -> None:
        self._pool = pool
        self._run = run
        self._size = pool.max_workers
        self._children: list[Child] = []
        run.graph.rank()
        self._ready = Ranked(run.start())
        self._timers = Timers()
        self._ahead: set[int] = set()  # nodes in a chain that was sent before they were ready
        self._segments: dict[int, _Segment] = {}  # id of a large value -> where it lies in shared memory
        self._most_segments = wire.descriptor_budget()
        self._pace: float | None = None  # seconds per task, lately
        self._heard = monotonic()  # when there was news from a worker
        self._cheap = 0  # how many cheap tasks there were in a row
        self._brisk: Child | None = None  # while tasks are cheap, the worker that ended the last: it is awake
        self._stillborn = 0
        self._grace_until: float | None = None  # set while what ran when the run was stopped may still end by itself
        self._stopped = False
        self._poll = select.poll()
        self._by_descriptor: dict[int, Child] = {}
        self._context = copy_context()
        self._functions = Functions(run, pool.number)
        self._facts = _surroundings(run)
        self._deaths: dict[int, int] = {}  # index of a node -> how many workers it has taken with it
        if self._facts["cwd"] is None and self._functions.forked is None:
            raise ExecutorError(
                "the current folder of this process was removed, and no worker process can get there: change to "
                "another folder before run(), or use executor='thread'"
            )

    def work(self) -> None:
        """Drive the run to its end."""
        sys.modules.setdefault("__mp_main__", sys.modules["__main__"])  # the name of the script in workers
        try:
            self._drive()
        except BaseException:
            self._run.cancel("the run was interrupted")
            self._wind_up()
            raise
        finally:
            self._part()

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        run = self._run
        while not run.cancelled:
            if run.halted and not self._stopped:
                self._stop()
            if self._timers:
                self._put(self._timers.due(run))
            self._dispatch()
            busy = [child for child in self._children if child.held]
            if not busy and not self._ready:
                if not self._timers:
                    return
                self._poll.poll(min(max(1.0, self._timers.wait() * 1000), LONGEST_WAIT))
                continue
            self._listen(self._patience(busy))
            if self._grace_until is not None and monotonic() > self._grace_until:
                self._cut_short()
        self._wind_up()

    def _patience(self, busy: Sequence[Child]) -> float | None:
        """Return how many seconds to wait for news."""
        waits = []
        if self._timers:
            waits.append(self._timers.wait())
        if self._grace_until is not None and busy:
            waits.append(max(0.0, self._grace_until - monotonic()) + 0.001)
        if any(self._surplus(child) for child in busy):
            waits.append(SILENCE if len(busy) < self._size else SILENCE + 4 * min(self._pace or 0.0, SHORT))
        if any(not child.started for child in self._children):
            waits.append(1.0)  # to see whether it ever will be
        if any(child.pidfd is None for child in self._children):
            waits.append(0.5)  # no descriptor tells of the end of a worker whose own children keep its socket open
        return min(waits) if waits else None

    def _listen(self, patience: float | None) -> None:
        """Wait for news from workers, and take it in."""
        for child in self._children:
            if child.wants_to_send:
                self._poll.modify(child.socket, select.POLLOUT)
        news = self._poll.poll(None if patience is None else min(max(0.0, patience * 1000), LONGEST_WAIT))
        if not news:
            silent = monotonic() - self._heard >= SILENCE
            if silent and any(self._surplus(child) for child in self._children):
                self._share()
                self._pace = max(self._pace or 0.0, SHORT)
                self._ready.strict()
            for child in list(self._children):
                if not child.started and monotonic() - child.born > INFANCY:
                    child.end()
                    self._lost(child, f"was silent for {INFANCY:g} s, and was ended")
                elif child.pidfd is None and child.fate() is not None:
                    self._lost(child)
            return
        self._heard = monotonic()
        told = [self._by_descriptor[descriptor] for descriptor, _ in news if descriptor in self._by_descriptor]
        for child in dict.fromkeys(told):
            if child.wants_to_send and child.flush():
                self._poll.modify(child.socket, 0)
            heard = child.receive()
            self._take_in(child)
            if not heard or (child.pidfd is not None and any(descriptor == child.pidfd for descriptor, _ in news)):
                self._lost(child)

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
            depth = self._depth()
            most = max(1, depth - len(child.held))
            if not child.held:  # as long as nothing is known, what matters most goes first, to one worker each
                most = min(most, FIRST) if self._pace is not None else 1
            self._give(child, min(most, share), depth)

    def _depth(self) -> int:
        if self._run.recorded:
            return 1  # what ends here is recorded before its worker goes on, so a crash costs each only what it is at
        if self._pace is None:
            return FIRST
        return max(2 if self._pace < SHORT else 1, min(DEEPEST, int(AHEAD / max(self._pace, 1e-6))))

    def _roomiest(self) -> Child | None:
        """Return the worker that should get more, a new one if need be; None when all have enough."""
        keen = [child for child in self._children if not child.wants_to_send]  # the others have enough to read
        half = self._depth() // 2
        if (brisk := self._brisk) in keen and len(brisk.held) <= half:
            return brisk
        best = min(keen, key=lambda child: len(child.held), default=None)
        if best is not None and not best.held:
            return best
        if len(self._children) < self._size:
            wanted = min(self._size - len(self._children), len(self._ready))
            for _ in range(wanted):
                self._hire()
            return self._children[-wanted]
        if best is not None and len(best.held) <= half:
            return best
        return None

    def _hire(self) -> None:
        child = self._pool.borrow() if self._functions.forked is None else None
        if child is None:
            child = Child(self._functions.forked)
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

    def _give(self, child: Child, most: int, depth: int) -> None:
        """Send a worker up to so many ready nodes, and the chains that hang on them."""
        run, node_of, known, numbers, held = (
            self._run,
            self._ready.take,
            child.known,
            self._functions.numbers,
            child.held,
        )
        values, dumps, first = run.values, self._functions.dumps, child.next_ticket
        items: list[tuple[int, Any]] = []
        ticket = first
        for _ in range(most):
            try:
                node = node_of()
            except IndexError:
                break
            number = numbers[node.index]
            if run.smooth and node.plain and not self._segments:
                pick, sources = node.pick, node.sources
                if not sources:
                    data: Any = b""
                else:
                    try:
                        data = dumps(pick(values) if pick is not None else (values[sources[0]],), wire.PROTOCOL)
                    except KeyboardInterrupt:
                        raise
                    except BaseException:  # pickling runs the user's code
                        data = None
                mode = wire.BY_POSITION
            else:
                data = None
            if data is None:
                item = self._item(node)
                if item is None:
                    continue
                mode, data, used = item
                if used:
                    self._give_shared(child, node, number, data, used)
                    if child.wants_to_send:
                        break
                    continue
            if number not in known:
                self._teach(child, node)
            held[ticket] = node
            items.append((number << 3 | mode, data))
            ticket += 1
            if len(node.downstream) == 1 and run.smooth and node.plain:
                ticket = self._follow(child, node, ticket, items, depth)
        if items:
            child.next_ticket = ticket
            child.give(range(first, ticket))
            child.send(wire.frame(wire.BATCH, pickle.dumps((first, items), wire.PROTOCOL)))

    def _give_shared(self, child: Child, node: Node, number: int, data: bytes, used: list[_Segment]) -> None:
        """Send a call whose arguments lie in shared memory, by itself, with the descriptors."""
        if number not in child.known:
            self._teach(child, node)
        ticket = child.next_shared_ticket
        child.next_shared_ticket += 1
        child.held[ticket] = node
        child.give((ticket,))
        item = number << 3 | wire.SHARED, (data, [segment.layout for segment in used])
        descriptors = tuple(segment.descriptor for segment in used)
        child.send(
            wire.frame(wire.BATCH, pickle.dumps((ticket, [item]), wire.PROTOCOL), descriptors=len(descriptors)),
            descriptors,
        )

    def _follow(self, child: Child, node: Node, ticket: int, items: list[tuple[int, Any]], depth: int) -> int:
        """Send on the chain that hangs on a node, tasks that need only the one before; return the next free ticket."""
        held, numbers, known = child.held, self._functions.numbers, child.known
        while len(node.downstream) == 1 and len(held) < depth:
            after = node.downstream[0]
            sources = after.sources
            if not after.plain or len(after.upstream) != 1 or (sources and sources != (node.index,)):
                break
            number = numbers[after.index]
            if number not in known:
                self._teach(child, after)
            items.append((number << 3 | (wire.PREVIOUS if sources else wire.AFTER), ticket - 1))
            held[ticket] = after
            self._ahead.add(after.index)
            ticket += 1
            node = after
        return ticket

    def _teach(self, child: Child, node: Node) -> None:
        number = self._functions.numbers[node.index]
        how, what = self._functions.references[number]
        child.known.add(number)
        child.send(wire.frame(wire.FUNCTION, pickle.dumps((number, how, what), wire.PROTOCOL)))

    def _item(self, node: Node) -> tuple[int, bytes, list[_Segment]] | None:
        """Return mode and arguments for a node, and the segments they lie in; None if it ends without being sent."""
        call = self._run.call(node)
        if isinstance(call, Ending):
            self._finish(node, call)
            return None
        if (ending := self._context.copy().run(call.judge)) is not None:
            self._finish(node, ending)
            return None
        args, kwargs = call.args, call.kwargs
        try:
            item = self._pickled(args, kwargs)
            if len(item[1]) >= wire.LARGE and self._share_large(args, kwargs, len(item[1])):
                item = self._pickled(args, kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # pickling runs the user's code
            self._finish(node, Ending(FAILED, error=bad_argument(node, args, kwargs, error), final=True))
            return None
        return item

    def _pickled(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[int, bytes, list[_Segment]]:
        if self._segments and any(id(value) in self._segments for value in (*args, *kwargs.values())):
            file = BytesIO()
            pickler = self._functions.pickler(file, self._segments)
            pickler.dump((tuple(args), kwargs))
            return wire.SHARED, file.getvalue(), pickler.used
        if kwargs:
            return wire.BY_NAME, self._functions.dumps((args, kwargs), wire.PROTOCOL), []
        return wire.BY_POSITION, self._functions.dumps(tuple(args), wire.PROTOCOL), []

    def _share_large(self, args: Sequence[Any], kwargs: dict[str, Any], size: int) -> bool:
        """Put what is large among arguments of this size into shared memory; say whether anything was.

        Results of workers are there already. These come from ``run(params=...)``, from the cache or from a record.
        """
        values = {id(value): value for value in (*args, *kwargs.values()) if id(value) not in self._segments}
        if size < wire.LARGE * len(values):  # many small ones: not worth looking at each
            return False
        before = len(self._segments)
        for key, value in values.items():
            if len(self._segments) == self._most_segments:
                break
            try:
                encoded = wire.encode(value, self._functions.pickled)
            except OSError:  # no memory there, or no descriptors: the ordinary way
                break
            if not isinstance(encoded, bytes):
                self._segments[key] = _Segment(*encoded, value)
        return len(self._segments) > before

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
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # unpickling runs the user's code
                self._garbled(child, node, error)
                continue
            if after := finish(node, value, seconds):
                if ahead:
                    self._put(after)  # type: ignore[arg-type]
                else:
                    extend(after)  # type: ignore[arg-type]
        if tasks:
            pace = spent / tasks
            self._pace = pace if self._pace is None else (self._pace + pace) / 2
            if self._pace > LONG:
                self._ready.strict()
            self._cheap = self._cheap + tasks if pace <= CHEAP else 0
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
            from ._records import handle

            handle(payload)
        elif kind == wire.STARTED:
            if (node := child.held.get(ticket)) is not None:
                self._run.begun(node, already=True)
        else:
            node = child.held.pop(ticket, None)
            if kind == wire.SEGMENT:
                self._take_in_segment(child, node, payload, seconds)
            elif node is None:
                return
            elif kind == wire.ERROR:
                self._finish(node, Ending(FAILED, error=wire.unpack_error(payload, node.name)), seconds)
            elif kind == wire.UNFIT:
                what, value_type, reason = pickle.loads(payload)
                self._finish(node, Ending(FAILED, error=unfit(node, what, value_type, reason), final=True), seconds)
            elif node.index in self._ahead:  # VOID: the one before it did not succeed
                self._ahead.discard(node.index)
            else:
                self._ready.put(node)

    def _take_in_segment(self, child: Child, node: Node | None, payload: bytes, seconds: float) -> None:
        try:
            segment = _Segment(child.receive_descriptor(), pickle.loads(payload))
        except OSError as error:  # this process may open no more files
            if node is not None:
                self._garbled(child, node, error)
            return
        if node is None:
            segment.close()
            return
        try:
            value = wire.read_segment(segment.descriptor, segment.layout)
        except KeyboardInterrupt:
            segment.close()
            raise
        except BaseException as error:  # unpickling runs the user's code
            segment.close()
            self._garbled(child, node, error)
            return
        if node.downstream and len(self._segments) < self._most_segments:
            self._segments[id(value)] = segment
        else:
            segment.close()
        self._finish(node, value, seconds)

    def _garbled(self, child: Child, node: Node, error: BaseException) -> None:
        """Fail a task whose result cannot be unpickled here; what its worker goes on to make of it is not wanted."""
        chain = set()
        after = node
        while len(after.downstream) == 1 and (after := after.downstream[0]).index in self._ahead:
            self._ahead.discard(after.index)
            chain.add(after.index)
        for ticket, other in child.held.items():
            if other is not None and other.index in chain:
                child.held[ticket] = None
        reason = f"cannot be unpickled in this process ({wire.described(error)})"
        hint = "return plain data, or a class that unpickles wherever it is imported"
        self._finish(node, Ending(FAILED, error=SerializationError(node.name, "result", reason, hint), final=True))

    def _finish(self, node: Node, outcome: Any, seconds: float = 0.0) -> None:
        after = self._run.finish(node, outcome, seconds)
        if type(after) is Later:
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

    # ---- moving and ending ---------------------------------------------------------------------------------------

    def _surplus(self, child: Child) -> bool:
        """Say whether a worker holds more than it is at, of what another could do now."""
        others = (node for node in child.held.values() if node is not None and node.index not in self._ahead)
        next(others, None)
        return next(others, None) is not None

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

    def _stop(self) -> None:
        """Let nothing begin any more that is with a worker already, and give what runs a short time to end."""
        self._stopped = True
        self._grace_until = monotonic() + GRACE
        for child in self._children:
            self._take_back(child)

    def _cut_short(self) -> None:
        """End the workers that still run something which began before the run was stopped."""
        self._grace_until = None  # clean-up tasks have all the time they need
        for child in list(self._children):
            self._take_back(child)
            nodes = [node for node in child.held.values() if node is not None]  # what it has begun
            if not nodes or any(node.task.trigger in CLEAN_UP for node in nodes):
                continue
            self._remove(child)
            child.kill()
            for node in nodes:
                if node.index in self._ahead:
                    self._ahead.discard(node.index)
                else:
                    self._finish(node, Ending(CANCELLED, "it was stopped, because another task failed", final=True))

    def _lost(self, child: Child, why: str = "") -> None:
        """Find out what became of a worker that is gone, and what of its tasks."""
        if child not in self._children:
            return
        self._remove(child)
        code = child.fate(0.5)
        child.receive()
        self._take_in(child)
        self._take_back(child)
        child.kill()
        begun = [node for node in child.held.values() if node is not None]
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
            if node.index in self._ahead:
                self._ahead.discard(node.index)
            else:
                error = WorkerDiedError(node.name, child.pid, code, signal_name(code))
                self._deaths[node.index] = deaths = self._deaths.get(node.index, 0) + 1
                if deaths > 1:
                    error.add_note(f"flowkit: task {node.name!r} has taken {deaths} workers with it")
                self._finish(node, Ending(FAILED, error=error))

    def _remove(self, child: Child) -> None:
        self._children.remove(child)
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
            self._ready = Ranked(())

    def _part(self) -> None:
        """Keep the workers that are at rest, and end the others; close what lies in shared memory."""
        gone = []
        for child in list(self._children):
            self._remove(child)
            if child.held or self._functions.forked is not None or self._run.cancelled:
                gone.append(child)
            else:
                self._pool.give_back(child)
        for child in gone:
            child.kill()
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        if self._run.cancelled:
            self._run.abandon()


class _Segment:
    """A large value in shared memory: the descriptor that keeps it, and what lies where."""

    __slots__ = ("descriptor", "layout", "value")

    def __init__(self, descriptor: int, layout: wire.Layout, value: Any = None) -> None:
        self.descriptor = descriptor
        self.layout = layout
        self.value = value  # held where nothing else surely does, so that its id() stays its own

    def close(self) -> None:
        """Let go of it; values that were read from it stay."""
        os.close(self.descriptor)


def _surroundings(run: Run) -> dict[str, Any]:
    """Return what a worker should know of this process and this run."""
    heard = {}
    if "logging" in sys.modules:
        from ._records import levels

        heard = levels()
    return {
        "watched": run.watched,
        "cwd": wire.folder(),
        "path": import_path(),
        "environment": {**wire.environment(), os.fsencode(wire.DEPTH): b"%d" % (depth() + 1)},
        "argv": list(sys.argv),
        "levels": heard,
        "fail_fast": run.fail_fast,
    }
