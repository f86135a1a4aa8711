"""Class `EventHub`: passes the reports of workers, which are events of a client, to the lanes of its runs."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

    from .reporter import Record

    Place = tuple[str, str, int, str]
    Report = tuple[Record, Place]
    Receiver = Callable[[Record, Place], None]

_hubs: WeakKeyDictionary[Client, EventHub] = WeakKeyDictionary()
_lock = Lock()


class EventHub:
    """Passes the reports of workers to the lanes of the runs of one client.

    The topic is the id of the client: the scheduler drops the events of such a topic when the client has gone.

    Args:
        client: the client.
    """

    def __init__(self, client: Client) -> None:
        self._receivers: dict[str, Receiver] = {}
        self.topic: str = client.id

    def add(self, client: Client, run: str, receive: Receiver) -> None:
        """Have the reports of a run passed to a function, which is called in the thread of the event loop."""
        with _lock:
            if not self._receivers:
                client.subscribe_topic(self.topic, self._on_event)
            self._receivers[run] = receive

    def remove(self, client: Client, run: str) -> None:
        """End the reports of a run."""
        with _lock:
            if self._receivers.pop(run, None) is not None and not self._receivers and client.status == "running":
                client.unsubscribe_topic(self.topic)

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and "flowkit" in message:
            place = tuple(message["place"])
            for record in message["flowkit"]:
                receive = self._receivers.get(record[0])
                if receive is not None:
                    receive(record, place)


def hub_of(client: Client) -> EventHub:
    """Return the hub of a client."""
    with _lock:
        if client not in _hubs:
            _hubs[client] = EventHub(client)
        return _hubs[client]
