"""Class `Connection`: the connection of a lane to the scheduler, and values that come over it."""

from __future__ import annotations

from asyncio import CancelledError as AsyncCancelledError
from concurrent.futures import CancelledError
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker

from flowkit_core import ExecutorError
from flowkit_core._warnings import safe_warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client

WORKERS_TIMEOUT = 10.0
"""Seconds without a worker after which a warning is issued."""
MAX_GATHERS = 5
"""How often values are computed again that are lost because workers have died."""


class Connection:
    """The connection of a lane to the scheduler.

    Args:
        client: the client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads: int | None = None
        self._no_workers_since: float | None = None
        self._has_warned = self._is_finding_workers = False

    @property
    def address(self) -> str:
        """Address of the scheduler."""
        scheduler = self._client.scheduler
        return scheduler.address if scheduler is not None else "an unknown address"

    def check(self) -> None:
        """Check that there is a connection.

        Raises:
            ExecutorError: there is none.
        """
        status = self._client.status
        if status == "running":
            return
        if status == "connecting":
            raise ExecutorError(
                f"the connection to the Dask scheduler at {self.address} is lost: results on the cluster are gone with "
                f"it; look at the log of the scheduler, and run again (with run(state=...), resume=True continues)"
            )
        raise ExecutorError(f"the Dask client of the scheduler at {self.address} is {status}: create another one")

    def thread_count(self) -> int:
        """Return the number of threads that all workers of the cluster had at the first call."""
        if self._threads is None:
            self.check()
            self._threads = sum(self._client.nthreads().values())
        return self._threads

    def note_report(self) -> None:
        """Note that a worker has sent a report, so there are workers."""
        self._no_workers_since = None

    def check_workers(self) -> None:
        """Warn, once, if calls have waited for `WORKERS_TIMEOUT`, because no worker is connected. Returns at once."""
        if self._has_warned or self._is_finding_workers:
            return
        if self._no_workers_since is not None and monotonic() - self._no_workers_since >= WORKERS_TIMEOUT:
            self._has_warned = True
            safe_warn(
                f"the Dask scheduler at {self.address} has no workers: tasks wait until one joins (see the logs of the "
                f"workers if they have ended); run(timeout=...) limits how long a run waits"
            )
            return
        self._is_finding_workers = True
        Thread(target=self._find_workers, name="flowkit-dask-workers", daemon=True).start()

    def _find_workers(self) -> None:
        """Body of a thread: get the workers from the scheduler, which may not answer."""
        try:
            has_workers = bool(self._client.nthreads())
        except Exception:  # the connection is lost, which the lane finds
            has_workers = True
        if has_workers:
            self._no_workers_since = None
        elif self._no_workers_since is None:
            self._no_workers_since = monotonic()
        self._is_finding_workers = False

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Return the values of futures.

        Raises:
            ExecutorError: a value is lost.
            Exception: a value cannot be pickled, or unpickled here.
        """
        self.check()
        try:
            values: list[Any] = self._gather_again(list(futures))
        except (CancelledError, AsyncCancelledError) as error:
            self.check()
            raise ExecutorError("the value is lost: the Dask cluster has dropped it") from error
        return values

    def _gather_again(self, futures: list[Any]) -> Any:
        """Return the values of futures; if they are lost because workers have died, they are computed again."""
        for _ in range(MAX_GATHERS):
            try:
                return self._client.gather(futures)
            except KilledWorker:
                self._client.retry([future for future in futures if future.status == "error"])
        return self._client.gather(futures)
