"""Class `Rate`: how many tasks may start in a period; class `StartTimes`: those that have started."""

from __future__ import annotations

from collections import deque

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowkit_core._typing import Any

TOLERANCE = 1e-9
"""Seconds by which a start may be early: sums of times are rounded."""


class Rate:
    """A limit of starts: in no interval of ``per`` seconds do more than ``count`` attempts start.

    It is a value of ``run(pools={...})``, for tasks that name the pool with ``@task(pool=...)``. The first ``count``
    attempts start at once, the next one when the first of them is ``per`` seconds old, and so on: a limit such as "100
    requests per minute" is used in full and never exceeded. ``Rate(1, per=0.1)`` spaces starts evenly, at least 0.1
    seconds apart. Each attempt counts, retries too.

    Args:
        count: maximum number of starts, an integer of at least 1.
        per: length of the interval in seconds, more than 0.

    Attributes:
        count, per: see above.

    Raises:
        TypeError: ``count`` is not an integer, or ``per`` is not a number.
        ValueError: a value is out of range.

    Examples:
        >>> from flowkit_core import DAG, Rate, task
        >>> @task(pool="api")
        ... def fetch(): return "page"
        >>> DAG("crawl", tasks=[fetch]).run(pools={"api": Rate(10)})
        {'fetch': 'page'}
    """

    __slots__ = ("count", "per")

    def __init__(self, count: int, per: float = 1.0) -> None:
        if type(count) is not int:
            hint = f": for one start in {1 / count:g} s, write Rate(1, per={1 / count:g})" if _is_part(count) else ""
            raise TypeError(f"Rate: count is {short_repr(count)}, but must be an integer of at least 1{hint}")
        if count < 1:
            raise ValueError(f"Rate: count is {count}, but must be an integer of at least 1")
        if type(per) not in (int, float):
            raise TypeError(f"Rate: per is {short_repr(per)}, but must be a number of seconds, more than 0")
        if not 0 < per < float("inf"):
            raise ValueError(f"Rate: per is {per!r}, but must be a number of seconds, more than 0")
        self.count = count
        self.per = per

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rate) and (other.count, other.per) == (self.count, self.per)

    def __hash__(self) -> int:
        return hash((self.count, self.per))

    def __repr__(self) -> str:
        return f"Rate({self.count}, per={self.per})"


def _is_part(count: Any) -> bool:
    return type(count) is float and 0 < count < 1


class StartTimes:
    """When the last attempts have started that a `Rate` counts.

    Args:
        rate: the rate.

    Examples:
        >>> times = StartTimes(Rate(2, per=10))
        >>> times.add(100.0, 2)
        >>> times.left(105.0), times.time_for(1, 105.0), times.left(110.0)
        (0, 110.0, 2)
    """

    __slots__ = ("_rate", "_times")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._times: deque[float] = deque()

    def add(self, now: float, amount: int) -> None:
        """Add attempts that start now."""
        self._drop(now)
        self._times.extend([now] * amount)

    def left(self, now: float) -> int:
        """Return how many attempts may start now."""
        self._drop(now)
        return self._rate.count - len(self._times)

    def time_for(self, amount: int, now: float) -> float:
        """Return the time at which ``amount`` attempts may start; if not all can start together, that of the last."""
        excess = amount - self.left(now)
        if excess <= 0:
            return now
        return (self._times[excess - 1] if excess <= len(self._times) else now) + self._rate.per

    def _drop(self, now: float) -> None:
        """Remove those that do not count any more."""
        times, oldest = self._times, now - self._rate.per + TOLERANCE
        while times and times[0] <= oldest:
            times.popleft()
