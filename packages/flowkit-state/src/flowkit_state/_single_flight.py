"""Single flight: of the threads that want one result, one computes it and the others wait."""

from __future__ import annotations

import os


class Flights:
    """Lets one thread at a time work on a key. A forked child starts with none: its threads are gone."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        from threading import Lock

        self._lock = Lock()
        self._under_way: dict[str, Flight] = {}
        self._pid = os.getpid()

    def only_one(self, key: str) -> Flight:
        """Return the context manager to compute `key` in, shared by all who want to."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            flight = self._under_way.setdefault(key, Flight(self, key))
            flight.wanted += 1
            return flight

    def leave(self, flight: Flight) -> None:
        with self._lock:
            flight.wanted -= 1
            if not flight.wanted:
                self._under_way.pop(flight.key, None)


class Flight:
    """One computation, and how many threads want it."""

    __slots__ = ("_flights", "_turn", "key", "wanted")

    def __init__(self, flights: Flights, key: str) -> None:
        from threading import RLock

        self._flights = flights
        self._turn = RLock()
        self.key = key
        self.wanted = 0

    def __enter__(self) -> None:
        self._turn.acquire()

    def __exit__(self, *_: object) -> None:
        self._turn.release()
        self._flights.leave(self)
