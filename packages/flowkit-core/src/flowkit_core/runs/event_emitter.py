"""Class `EventEmitter`: passes the events of one run to its observers."""

from __future__ import annotations

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import safe_warn
from flowkit_core.context import RunTrace
from flowkit_core.failures import describe_error

if TYPE_CHECKING:
    from _thread import RLock
    from collections.abc import Iterable

    from flowkit_core._typing import Any
    from flowkit_core.events import Event, Observer


class EventEmitter:
    """Creates events and calls the observers that want them, one thread at a time.

    Args:
        observers: the observers; the attribute ``events`` of each limits the classes of events that it gets.
        run_id: id of the run.
        pipeline: name of the pipeline.
        lock: held while observers are called.
    """

    def __init__(self, observers: Iterable[Observer], run_id: str, pipeline: str, lock: RLock) -> None:
        self._run_id = run_id
        self._pipeline = pipeline
        self._lock = lock
        self._observers: tuple[tuple[Observer, Any], ...] = ()
        self._wanted: tuple[type[Event], ...] = ()  # classes of events that observers have listed
        self._wants_all = False  # whether an observer has listed none
        for observer in observers:
            self.add(observer)

    def wants(self, kind: type[Event]) -> bool:
        """Return whether any observer wants events of a class."""
        return (self._wants_all and not kind.is_of_element) or kind in self._wanted

    def emit(self, kind: type[Event], **facts: Any) -> None:
        """Create an event and pass it to the observers that want it; their exceptions are reported as warnings."""
        event = kind(self._run_id, self._pipeline, **facts)
        with self._lock:
            for observer, events in self._observers:
                if kind in events if events is not None else not kind.is_of_element:
                    try:
                        observer(event)
                    except Exception as error:
                        safe_warn(f"observer {short_repr(observer)} failed on {kind.__name__}: {describe_error(error)}")

    def give_run(self, run: Any) -> None:
        """Pass the run to the observers with a method ``watch_run``."""
        for observer, _ in self._observers:
            watch = getattr(observer, "watch_run", None)
            if callable(watch):
                watch(run)

    def run_trace(self) -> RunTrace | None:
        """Return the trace of the run, which the first observer with a method ``run_trace`` has; None without one."""
        for observer, _ in self._observers:
            find = getattr(observer, "run_trace", None)
            if callable(find):
                try:
                    found = find(self._run_id)
                except Exception as error:
                    safe_warn(f"observer {short_repr(observer)} failed in run_trace(): {describe_error(error)}")
                    continue
                if type(found) is RunTrace:
                    return found
        return None

    def add(self, observer: Observer) -> None:
        """Add an observer."""
        events = getattr(observer, "events", None)
        self._observers += ((observer, events),)
        if events is None:
            self._wants_all = True
        else:
            self._wanted += tuple(events)

    def close(self) -> None:
        """Drop the references to the observers."""
        self._observers = self._wanted = ()
        self._wants_all = False
