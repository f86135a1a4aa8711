"""Class `Reporter`: what a worker reports of its calls to one client, and which runs start no more calls there."""

from __future__ import annotations

import os
import socket
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from distributed import Worker

STARTED, SUCCEEDED, FAILED, SKIPPED, SKIPPED_IN_CALL, RETURNED, STOPPED, ENDED_LATE, ARRIVED, LOGGED = range(10)
"""Kinds of records."""
INTERVAL = 0.02
"""Seconds after which the start of a call is reported, if it has not ended; a success is reported at most so late."""
ARRIVAL_DELAY = 0.05
"""Seconds that a call waits after the report of its arrival, until that has left the worker."""
MAX_STOPPED = 1000
"""Number of stopped runs that a worker remembers."""
MAX_REPORTERS = 1000
"""Number of clients whose calls a worker keeps track of."""

Record = tuple[str, int, int, float, Any]
"""Run, ticket of the call, kind, seconds, and the notes, the reason, or a packed log record."""


class ReportedCall(Protocol):
    """What a reporter uses of a call; see `Invocation`."""

    run: str
    ticket: int
    is_cleanup: bool
    reports_late: bool


_reporters: WeakKeyDictionary[Worker, dict[str, Reporter]] = WeakKeyDictionary()
_lock = Lock()


class Reporter:
    """Sends records of calls on one worker to one client, as events of a topic, which the scheduler passes on.

    Records that are made at almost the same time share an event. The start of a call is reported only if it takes
    longer than `INTERVAL`; an end is reported at once, and before the scheduler receives the result. But the success of
    a call with `reports_late` is reported with the next event, within `INTERVAL`: each event wakes the scheduler and
    the client. `may_start`, `start` and `end` may be called from any thread, the other methods in that of the event
    loop of the worker.

    Args:
        worker: the worker.
        topic: the topic.
    """

    def __init__(self, worker: Worker, topic: str) -> None:
        self._worker = worker
        self._topic = topic
        self._lock = Lock()
        self._records: list[Record] = []
        self._starts: dict[tuple[str, int], Record] = {}  # not reported yet
        self._running: set[tuple[str, int]] = set()
        self._stopped: dict[str, None] = {}
        self._is_flush_due = self._is_ticking = False

    def may_start(self, call: ReportedCall) -> bool:
        """Return whether the run of a call has not been stopped here, or the call is that of a clean-up task."""
        return call.is_cleanup or call.run not in self._stopped

    def report_arrival(self, call: ReportedCall) -> None:
        """Report that this worker has a call which is going to start, and wait until the report is sent.

        If the call then ends the worker at once, it is known which call that was.
        """
        sent = Event()
        with self._lock:
            self._records.append((call.run, call.ticket, ARRIVED, 0.0, None))

        def flush() -> None:
            self._flush()
            self._worker.loop.call_later(ARRIVAL_DELAY, sent.set)

        self._worker.loop.add_callback(flush)
        sent.wait()

    def start(self, call: ReportedCall) -> bool:
        """Note that a call starts; return False if it may not."""
        key = call.run, call.ticket
        with self._lock:
            if not self.may_start(call):
                return False
            self._running.add(key)
            self._starts[key] = (*key, STARTED, 0.0, None)
            starts_ticking, self._is_ticking = not self._is_ticking, True
        if starts_ticking:
            self._worker.loop.add_callback(self._tick_later)
        return True

    def end(self, call: ReportedCall, kind: int, seconds: float = 0.0, extra: Any = None) -> None:
        """Report how a call has ended."""
        key = call.run, call.ticket
        with self._lock:
            self._running.discard(key)
            self._starts.pop(key, None)
            self._records.append((*key, kind, seconds, extra))
            if kind == SUCCEEDED and call.reports_late and self._is_ticking:
                return
            starts_flush, self._is_flush_due = not self._is_flush_due, True
        if starts_flush:
            self._worker.loop.add_callback(self._flush)

    def log(self, call: ReportedCall, record: bytes) -> None:
        """Send a packed log record of a call with the next event, within `INTERVAL`, and its start before."""
        key = call.run, call.ticket
        with self._lock:
            if (start := self._starts.pop(key, None)) is not None:
                self._records.append(start)
            self._records.append((*key, LOGGED, 0.0, record))
            starts_ticking, self._is_ticking = not self._is_ticking, True
        if starts_ticking:
            self._worker.loop.add_callback(self._tick_later)

    def stop(self, run: str) -> None:
        """Start no more calls of a run, except those of clean-up tasks; report which are running."""
        with self._lock:
            self._stopped[run] = None
            while len(self._stopped) > MAX_STOPPED:
                del self._stopped[next(iter(self._stopped))]
            running = [ticket for each, ticket in self._running if each == run]
            self._records.append((run, 0, STOPPED, 0.0, running))
        self._flush()

    def _tick_later(self) -> None:
        self._worker.loop.call_later(INTERVAL, self._tick)

    def _tick(self) -> None:
        """Report the starts of calls that have not ended; again after the interval while calls are running."""
        with self._lock:
            self._records += self._starts.values()
            self._starts.clear()
            goes_on = self._is_ticking = bool(self._running)
        self._flush()
        if goes_on:
            self._tick_later()

    def _flush(self) -> None:
        with self._lock:
            self._is_flush_due = False
            records, self._records = self._records, []
        if records:
            place = [self._worker.address, str(self._worker.name), os.getpid(), socket.gethostname()]
            self._worker.log_event(self._topic, {"flowkit": [list(record) for record in records], "place": place})


def reporter_of(worker: Worker, topic: str) -> Reporter:
    """Return the reporter of a worker for a topic."""
    try:
        return _reporters[worker][topic]
    except KeyError:
        with _lock:
            reporters = _reporters.setdefault(worker, {})
            if len(reporters) > MAX_REPORTERS:
                del reporters[next(iter(reporters))]
            return reporters.setdefault(topic, Reporter(worker, topic))


def stop_run(run: str, topic: str, dask_worker: Worker) -> None:
    """Have a worker start no more calls of a run; called by ``Client.run()``."""
    reporter_of(dask_worker, topic).stop(run)
