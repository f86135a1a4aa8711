"""Class `Record`: one entry of the history of a simulated run; class `History` collects them; a drawing of it."""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node

ENDS = ("succeeded", "failed", "skipped", "upstream_failed", "cancelled")
"""What of the record with which a task ends."""
_MARKS = {"failed": "x", "retrying": "x", "worker_died": "!", "timed_out": "~", "cancelled": "/"}
_WIDTH = 64


class Record:
    """Something that happened in a simulated run. Records are equal if their attributes are.

    Attributes:
        time: virtual time in seconds, from the start of the run.
        what: ``"ready"`` (passed to an executor), ``"started"``, ``"succeeded"``, ``"failed"``, ``"retrying"``,
            ``"skipped"``, ``"upstream_failed"``, ``"cancelled"``, ``"condition"``, ``"waiting"`` (for a pool; it is
            ready again after that), ``"timed_out"``, ``"ignored"`` (the late result of an attempt that was given up),
            ``"worker_died"``, ``"expanded"`` (a mapped task, whose elements run now), ``"not_released"`` (its result
            stayed on an executor, and was not released once), ``"run_timed_out"``, ``"executor_lost"`` or
            ``"interrupted"``.
        task: name of the task; empty for the last three.
        attempt: number of the attempt, from 1; 0 if there was none.
        worker: name of the worker, such as ``"default-1"``; empty where there is none.
        detail: error, reason, delay or name of the executor.
        element: number of the element of a mapped task; None for the task as a whole.
    """

    __slots__ = ("_data", "attempt", "detail", "element", "task", "time", "what", "worker")

    def __init__(
        self,
        time: float,
        what: str,
        task: str = "",
        attempt: int = 0,
        worker: str = "",
        detail: str = "",
        data: Any = None,
        element: int | None = None,
    ) -> None:
        self.time = time
        self.what = what
        self.task = task
        self.attempt = attempt
        self.worker = worker
        self.detail = detail
        self.element = element
        self._data = data

    @property
    def name(self) -> str:
        """Name of the task, with the number of the element if there is one: ``"parse[3]"``."""
        return self.task if self.element is None else f"{self.task}[{self.element}]"

    def _key(self) -> tuple[float, str, str, int, str, str]:
        return self.time, self.what, self.name, self.attempt, self.worker, self.detail

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and other._key() == self._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        attempt = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        worker = f" on {self.worker}" if self.worker else ""
        detail = f": {self.detail}" if self.detail else ""
        text = f"{self.what} {self.name}{attempt}".rstrip()
        return escape_control_chars(f"<{self.time:.3f} s {text}{worker}{detail}>")


def key_of(node: Node) -> tuple[int, int | None]:
    """Return what identifies a node, or an element of a mapped node, in a run."""
    return node.index, node.element


def task_of(node: Node) -> str:
    """Return the name of the task of a node, or of an element."""
    name: str = node.name if node.element is None else node.stage.node.name  # type: ignore[attr-defined]
    return name


class History:
    """Collects the records of one run.

    Args:
        now: returns the virtual time.

    Attributes:
        records: the records, in order.
        attempts: key of a node, or an element -> number of the last attempt that has started.
        workers: (key, attempt) -> name of its worker.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.records: list[Record] = []
        self.attempts: dict[tuple[int, int | None], int] = {}
        self.workers: dict[tuple[tuple[int, int | None], int], str] = {}

    def add(
        self, what: str, node: Node | None = None, attempt: int | None = None, detail: str = "", data: Any = None
    ) -> None:
        """Add a record.

        Args:
            what: what happened.
            node: to which node; None for the whole run.
            attempt: number of the attempt; None means the last that has started.
            detail: text for readers.
            data: values for the checker.
        """
        if node is None:
            self.records.append(Record(self._now(), what, detail=detail))
            return
        key = key_of(node)
        number = self.attempts.get(key, 0) if attempt is None else attempt
        worker = self.workers.get((key, number), "")
        self.records.append(Record(self._now(), what, task_of(node), number, worker, detail, data, node.element))

    def start(self, node: Node, attempt: int, worker: str, arguments: Any) -> None:
        """Add the record of an attempt that starts."""
        key = key_of(node)
        self.attempts[key] = attempt
        self.workers[key, attempt] = worker
        self.add("started", node, attempt, data=arguments)


def draw_timeline(records: Sequence[Record], seconds: float) -> str:
    """Return a picture of a history: one line for each worker, and the attempts that it made.

    An attempt ends with ``x`` if it failed, ``!`` if its worker died, ``~`` if it was given up and ``/`` if it was
    cancelled, or with ``|``.
    """
    scale = _WIDTH / seconds if seconds else 0.0
    lines: dict[str, list[str]] = {}
    started: dict[tuple[str, int], Record] = {}
    for record in records:
        key = record.name, record.attempt
        if record.what == "started":
            started[key] = record
            lines.setdefault(record.worker, [" "] * _WIDTH)
        elif record.what in (*ENDS, "retrying", "worker_died", "timed_out") and key in started:
            start = started.pop(key)
            first = min(int(start.time * scale), _WIDTH - 1)
            room = max(int(record.time * scale) - first, 1)
            name = escape_control_chars(record.name)[: room - 1]
            text = f"{name}{'=' * (room - 1 - len(name))}{_MARKS.get(record.what, '|')}"
            lines[start.worker][first : first + room] = text
    indent = max(map(len, lines), default=0)
    header = f"{'':{indent}}  0 s{f'{seconds:.3g} s':>{_WIDTH - 3}}"
    return "\n".join([header, *(f"{worker:{indent}}  {''.join(lines[worker]).rstrip()}" for worker in sorted(lines))])
