"""The executor protocol, and the serial executor."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from time import perf_counter, sleep

from ._text import short_repr
from ._typing import TYPE_CHECKING, Protocol
from .pipelines.node import Node
from .runs.call import Retry
from .runs.timers import Timers
from .runs.worker import Worker

if TYPE_CHECKING:
    from ._typing import Any
    from .runs.run import Run


class Executor(Protocol):
    """Carries the calls of a run to where they run, and their outcomes back. It decides nothing about their meaning.

    A minimal executor takes the nodes of ``run.start()``, and for each node in hand: asks ``run.call(node)``; makes the
    call, unless the answer is an :class:`~flowkit_core.Outcome`; hands the outcome to ``run.finish(node, outcome,
    seconds)``; and adds the nodes that this returns to those in hand. A :class:`~flowkit_core.Retry` asks for its node
    to be taken in hand again after a delay. ``Worker`` does one such step in the calling thread. As long as a run is
    ``recorded``, a worker should be given its next call when the outcome of the last was handed in: so a crash leaves
    no more than one task per worker in doubt.

    Attributes:
        name: what logs call it.
    """

    name: str

    def execute(self, run: Run) -> None:
        """Drive a run to its end. Failures of tasks are outcomes and are not raised here."""

    def close(self) -> None:
        """Let go of whatever the executor keeps between runs. Calling it twice is fine."""


class SerialExecutor:
    """Runs every task in the calling thread, one after the other, in topological order.

    The simplest executor, the one that debuggers like, and the only one of ``flowkit-core``.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def one(): return 1
        >>> DAG("numbers", tasks=[one]).run(executor=SerialExecutor())
        {'one': 1}
    """

    name = "serial"

    def __init__(self, max_workers: int | None = None) -> None:
        checked_workers(max_workers)

    def execute(self, run: Run) -> None:
        """Drive a run to its end."""
        worker = Worker(run, copy_context())
        ready = deque(run.start())
        timers = Timers()
        while True:
            rest = worker.run_fast_path(ready.popleft, ready.append, perf_counter)
            step = worker.run_node(rest) if isinstance(rest, Node) else rest
            if isinstance(step, Retry):
                timers.add(step)
            elif step:
                ready.extend(step)
            if timers:
                ready.extend(timers.due(run))
                if not ready:
                    sleep(timers.wait())
            elif not ready:
                return

    def close(self) -> None:
        """Do nothing: nothing is kept between runs."""

    def __enter__(self) -> SerialExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "SerialExecutor()"


def checked_workers(max_workers: Any, owner: str = "max_workers") -> int | None:
    """Return ``max_workers`` if it is an integer of at least 1, or None.

    Raises:
        TypeError: it is no integer.
        ValueError: it is less than 1.
    """
    if max_workers is None:
        return None
    if type(max_workers) is not int or max_workers < 1:
        error = ValueError if type(max_workers) is int else TypeError
        given = short_repr(max_workers)
        raise error(f"{owner} is {given}, but must be an integer of at least 1, or None for a sensible default")
    return max_workers
