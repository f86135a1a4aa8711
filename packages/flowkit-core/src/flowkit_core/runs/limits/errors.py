"""Exceptions about pools."""

from __future__ import annotations

from flowkit_core._text import counted, did_you_mean
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import FlowkitError

if TYPE_CHECKING:
    from collections.abc import Sequence


class UnknownPoolError(FlowkitError, ValueError):
    """A task names a pool that neither the run nor its pipeline defines. Raised by ``run()`` before a task runs.

    Attributes:
        task: name of the task.
        pool: name of the pool.
        available: names of the pools that are defined, a tuple of str.

    Examples:
        >>> from flowkit_core import DAG, Task, UnknownPoolError
        >>> try:
        ...     DAG("etl", tasks=[Task(list, pool="db")]).run(pools={"database": 2})
        ... except UnknownPoolError as error:
        ...     print(error.task, error.pool, error.available)
        list db ('database',)
    """

    def __init__(self, task: str, pool: str, available: Sequence[str]) -> None:
        self.task, self.pool, self.available = task, pool, tuple(available)
        super().__init__(task, pool, self.available)

    def describe(self, task: str, pool: str, available: Sequence[str]) -> str:
        """Return the message for these facts."""
        defined = f"there are: {', '.join(available)}" if available else "there are none"
        return (
            f"task {task!r} names the pool {pool!r}, which is not defined{did_you_mean(pool, available)}; {defined}. "
            f"Define it with run(pools={{{pool!r}: 2}}), or for every run with DAG(..., pools={{{pool!r}: 2}})"
        )


class PoolSizeError(FlowkitError, ValueError):
    """A task takes more slots of a pool than the pool has. Raised by ``run()`` before a task runs.

    Attributes:
        task: name of the task.
        pool: name of the pool.
        amount: number of slots that the task takes.
        size: number of slots of the pool, or number of starts of its `Rate`.

    Examples:
        >>> from flowkit_core import DAG, PoolSizeError, Task
        >>> try:
        ...     DAG("etl", tasks=[Task(list, pool={"gpu": 4})]).run(pools={"gpu": 2})
        ... except PoolSizeError as error:
        ...     print(error)
        task 'list' takes 4 slots of pool 'gpu', which has 2: take fewer, or define a larger pool, run(pools={'gpu': 4})
    """

    def __init__(self, task: str, pool: str, amount: int, size: int) -> None:
        self.task, self.pool, self.amount, self.size = task, pool, amount, size
        super().__init__(task, pool, amount, size)

    def describe(self, task: str, pool: str, amount: int, size: int) -> str:
        """Return the message for these facts."""
        return (
            f"task {task!r} takes {amount} slots of pool {pool!r}, which has {size}: take fewer, or define a larger "
            f"pool, run(pools={{{pool!r}: {amount}}})"
        )


class PoolBlockedError(FlowkitError, TimeoutError):
    """A task has waited for slots of a pool that abandoned attempts hold, and did not run: it has failed with this.

    ``run()`` raises it like the exception of a task.

    An attempt that takes longer than its timeout is abandoned if it cannot be stopped: a thread, or a coroutine that
    does not end after its cancellation. Until it ends, it keeps its slots.

    Attributes:
        task: name of the task that waited.
        pool: name of the pool.
        timeout: seconds that it has waited since the slots were held by abandoned attempts.
        holders: names of the tasks whose attempts hold them, a tuple of str.

    Examples:
        >>> from flowkit_core import PoolBlockedError
        >>> error = PoolBlockedError("load", "db", 5.0, ["extract"])
        >>> error.pool, error.holders
        ('db', ('extract',))
    """

    def __init__(self, task: str, pool: str, timeout: float, holders: Sequence[str]) -> None:
        self.task, self.pool, self.timeout, self.holders = task, pool, timeout, tuple(holders)
        super().__init__(task, pool, timeout, self.holders)

    def describe(self, task: str, pool: str, timeout: float, holders: Sequence[str]) -> str:
        """Return the message for these facts."""
        names = ", ".join(map(repr, holders))
        return (
            f"task {task!r} did not get a slot of pool {pool!r} within {timeout:g} s: abandoned attempts of "
            f"{counted(len(holders), 'task')}, {names}, hold too many. They took longer than their timeouts and go "
            f"on, because they cannot be stopped: run tasks that may hang with executor='process', or give the pool "
            f"more slots"
        )
