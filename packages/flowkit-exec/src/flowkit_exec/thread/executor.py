"""Class `ThreadExecutor`: an executor that runs tasks in threads of this process."""

from __future__ import annotations

from flowkit_core._checks import checked_workers
from flowkit_core.executors.executor import check_open
from flowkit_core.runs.session import Session

from .lane import ThreadLane, default_workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowkit_core import Run


class ThreadExecutor:
    """Runs tasks in threads of this process, the calling thread among them.

    Threads start when a run needs them and have ended when it returns.

    Args:
        max_workers: maximum number of tasks that run at once, 1 or more; None means the number of processors
            available to this process + 4, and 32 at most.

    Raises:
        TypeError: ``max_workers`` is not an integer.
        ValueError: it is less than 1.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def one(): return 1
        >>> DAG("numbers", tasks=[one]).run(executor=ThreadExecutor(max_workers=2))
        {'one': 1}
    """

    name = "thread"

    def __init__(self, max_workers: int | None = None) -> None:
        self._max_workers = checked_workers(max_workers)
        self._closed = False

    @property
    def max_workers(self) -> int:
        """Maximum number of tasks that run at once."""
        return self._max_workers or default_workers()

    def execute(self, run: Run) -> None:
        """Drive a run to its end."""
        Session(run, [self.lane()]).drive()

    def lane(self) -> ThreadLane:
        """Return the lane of one run.

        Raises:
            ExecutorError: this executor is closed.
        """
        check_open(self, is_closed=self._closed)
        return ThreadLane(self._max_workers)

    def close(self) -> None:
        """Refuse further runs; no thread is kept between runs. May be called more than once."""
        self._closed = True

    def __enter__(self) -> ThreadExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ThreadExecutor(max_workers={self.max_workers})"
