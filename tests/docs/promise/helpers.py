"""Names that the blocks of the promise use and do not define; worker processes import them too.

The outside world is the current folder: a file ``busy`` has the number of further failures of the server, ``size`` the
size of the data, and stored or sent data is written to files.
"""

from __future__ import annotations

import json
from datetime import datetime
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowkit import TaskRetrying

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowkit import Event

__all__ = [
    "Path",
    "combine_results",
    "data",
    "datetime",
    "db",
    "fetch_data",
    "fetch_data_size",
    "get_raw_data",
    "process",
    "process_method_a",
    "process_method_b",
    "process_method_c",
    "requests",
    "result",
    "risky_operation",
    "save_to_db",
    "send_email",
    "waits",
]

data = {"rows": [3, 1, 2], "source": ("api", 7)}
result = "a result"


def fetch_data() -> list[int]:
    return [3, 1, 2]


def process(rows: list[int]) -> list[int]:
    return sorted(rows)


def save_to_db(rows: list[int]) -> None:
    _append("db", rows)


def get_raw_data() -> list[int]:
    return [4, 5, 6]


def process_method_a(rows: list[int]) -> int:
    return sum(rows)


def process_method_b(rows: list[int]) -> int:
    return max(rows)


def process_method_c(rows: list[int]) -> int:
    return len(rows)


def combine_results(a: int, b: int, c: int) -> str:
    return f"{a}, {b} and {c}"


def fetch_data_size() -> int:
    return int(Path("size").read_text("utf-8"))


def risky_operation() -> str:
    _fail_if_busy()
    return "it went well"


def send_email(text: str) -> None:
    _append("outbox", text)


class requests:  # noqa: N801 - replaces a module
    """A client for one small server."""

    @staticmethod
    def get(url: str) -> _Response:
        _fail_if_busy()
        return _Response(url)


class _Response:
    def __init__(self, url: str) -> None:
        self.url = url

    def raise_for_status(self) -> None:
        pass

    def json(self) -> list[dict[str, int]]:
        return [{"id": 1, "value": 10}, {"id": 2, "value": 20}]


class db:  # noqa: N801 - replaces an object
    """A database with one table."""

    @staticmethod
    def bulk_insert(rows: Iterable[dict[str, Any]]) -> None:
        _append("db", [(row["id"], row["value"], type(row["timestamp"]).__name__) for row in rows])


def waits(events: Iterable[Event], scale: float) -> list[float]:
    """Return the seconds before each retry, times scale, each without its jitter: ten percent up or down at most."""
    found = []
    for event in events:
        if isinstance(event, TaskRetrying):
            seconds = event.delay * scale
            nearest = 2 ** round(log2(seconds))
            found.append(nearest if 0.8999 * nearest < seconds < 1.1001 * nearest else seconds)
    return found


def _fail_if_busy() -> None:
    path = Path("busy")
    times = int(path.read_text("utf-8")) if path.exists() else 0
    if times:
        path.write_text(str(times - 1), "utf-8")
        raise ConnectionError("busy")


def _append(name: str, value: object) -> None:
    with Path(name).open("a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
