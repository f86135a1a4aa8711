"""Class `WorkerStop`: has workers start no more calls of a run that stops, and tells which calls go on."""

from __future__ import annotations

from math import inf
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from . import reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from distributed import Client

    from .submissions import Submission

TIMEOUT = 2.0
"""Seconds that workers have to answer."""


class WorkerStop:
    """Has the workers start no more calls of a run that stops, and tells which calls go on.

    A worker that is asked answers with a report of the calls that are running there: see `Reporter.stop`.

    Args:
        client: the client.
        run: key of the run.
        topic: topic of reports.
        on_asked: called, in a thread, when it is known which workers were asked.

    Attributes:
        until: time at which answers are waited for no longer; minus infinity before workers are asked.
    """

    def __init__(self, client: Client, run: str, topic: str, on_asked: Callable[[], None]) -> None:
        self._client = client
        self._run = run
        self._topic = topic
        self._on_asked = on_asked
        self.until = -inf
        self._asked: set[str] | None = None  # None until it is known
        self._answered: set[str] = set()
        self._running: set[int] = set()  # tickets of calls that go on

    def ask(self) -> None:
        """Ask all workers, if this was not done before. Returns at once."""
        if self.until == -inf:
            self.until = monotonic() + TIMEOUT
            Thread(target=self._ask, name="flowkit-dask-stop", daemon=True).start()

    def _ask(self) -> None:
        """Body of a thread."""
        try:
            self._asked = set(self._client.run(reporter.stop_run, self._run, self._topic, on_error="ignore"))
        except Exception:  # the connection is lost, which the lane finds
            self._asked = set()
        self._on_asked()

    def take_answer(self, worker: str, tickets: Iterable[int]) -> None:
        """Note the calls that are running on a worker, which starts no more."""
        self._running.update(tickets)
        self._answered.add(worker)

    @property
    def is_answered(self) -> bool:
        """Whether all workers have answered that were asked, or are waited for no longer."""
        return (self._asked is not None and self._asked <= self._answered) or monotonic() >= self.until

    def may_be_running(self, submission: Submission) -> bool:
        """Return whether a call is running, or has started on a worker that has not answered."""
        if submission.ticket in self._running or submission.is_reported:
            return True
        worker, asked = submission.worker, self._asked
        return bool(worker) and worker not in self._answered and (asked is None or worker in asked)
