"""Class `Connection`: the connection of a lane to the scheduler, and values that come over it."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError as AsyncCancelledError
from concurrent.futures import CancelledError, wait
from math import inf
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker, secede

from flowkit_core import ExecutorError
from flowkit_core._warnings import safe_warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client

    from flowkit_core import Run

WORKERS_TIMEOUT = 10.0
"""Seconds without a worker after which a warning is issued, and a run that must end waits no longer."""
CHECK_INTERVAL = 0.5
"""Seconds between two looks at the connection while something is waited for."""
MAX_NAMES = 3
"""Number of tasks that a warning names."""
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
        self._ends_at = inf
        self._no_workers_since: float | None = None
        self._has_warned = self._is_finding_workers = False

    @property
    def address(self) -> str:
        """Address of the scheduler."""
        scheduler = self._client.scheduler
        return scheduler.address if scheduler is not None else "an unknown address"

    def open(self, run: Run) -> None:
        """Check that there is a connection for a run that starts.

        Raises:
            ExecutorError: there is none.
        """
        self.check()
        self._run = run
        if run.timeout is not None:
            self._ends_at = monotonic() + run.timeout

    def _is_out_of_time(self) -> bool:
        """Return whether the run was cancelled, or has reached its timeout, also if all its tasks have ended."""
        return self._run.cancelled or monotonic() >= self._ends_at

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

    def note_workers(self) -> None:
        """Note that there are workers: one has sent a report, for example."""
        self._no_workers_since, self._has_warned = None, False

    def check_workers(self, running: Sequence[str] = ()) -> None:
        """Warn, once, if calls or results have waited for `WORKERS_TIMEOUT`, because no worker is connected.

        Returns at once.

        Args:
            running: names of the tasks that had started, and have not ended.
        """
        if self._is_finding_workers:
            return
        if self._are_workers_gone and not self._has_warned:
            self._has_warned = True
            names = ", ".join(map(repr, running[:MAX_NAMES])) + (", ..." if len(running) > MAX_NAMES else "")
            ended = f"; the last workers ended while they ran {names}" if running else ""
            safe_warn(
                f"the Dask scheduler at {self.address} has no workers: tasks and lost results wait until one joins "
                f"(see the logs of the workers if they have ended{ended}); run(timeout=...) limits how long a run waits"
            )
        self._is_finding_workers = True
        Thread(target=self._find_workers, name="flowkit-dask-workers", daemon=True).start()

    @property
    def _are_workers_gone(self) -> bool:
        """Whether no workers have been seen for `WORKERS_TIMEOUT`."""
        return self._no_workers_since is not None and monotonic() - self._no_workers_since >= WORKERS_TIMEOUT

    def _find_workers(self) -> None:
        """Body of a thread: get the workers from the scheduler, which may not answer."""
        try:
            has_workers = bool(self._client.nthreads())
        except Exception:  # the connection is lost, which the lane finds
            has_workers = True
        if has_workers:
            self.note_workers()
        elif self._no_workers_since is None:
            self._no_workers_since = monotonic()
        self._is_finding_workers = False

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Return the values of futures, and wait while the cluster computes those again that were lost with a worker.

        Without workers, the wait ends with the time of the run: with its timeout, or if it was cancelled.

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
                return self._gather_once(futures)
            except KilledWorker:
                self._client.retry([future for future in futures if future.status == "error"])
        return self._gather_once(futures)

    def _gather_once(self, futures: list[Any]) -> Any:
        async def gather() -> Any:
            return await self._client.gather(futures, asynchronous=True)

        values = asyncio.run_coroutine_threadsafe(gather(), self._client.loop.asyncio_loop)
        while True:
            gives_up = self._is_out_of_time() and self._are_workers_gone
            if wait([values], 0 if gives_up else CHECK_INTERVAL).done:
                return values.result()
            if gives_up:
                raise ExecutorError(
                    f"the value is lost with the worker that had it, and the Dask scheduler at {self.address} has no "
                    f"worker that could compute it again before the end of the run: start workers, and run again (with "
                    f"run(state=...), resume=True continues)"
                )
            self.check()
            self.check_workers()


def leave_pool() -> bool:
    """Let the worker start another task, if the calling thread runs one of Dask; return whether it must rejoin.

    Otherwise a run inside of a task would wait for the thread of this task.
    """
    try:
        secede()
    except (ValueError, AttributeError, KeyError):  # no worker; a thread that is not of its pool; it has left already
        return False
    return True
