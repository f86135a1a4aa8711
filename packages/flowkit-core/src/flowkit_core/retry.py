"""Class `RetryPolicy`: number of retries, delays, and which exceptions are retried."""

from __future__ import annotations

from ._text import short_repr
from ._typing import TYPE_CHECKING
from ._warnings import safe_warn
from .coroutines import is_coroutine_function
from .errors import Skip, TaskOptionError, TaskOptionTypeError
from .failures import add_note, describe_error, skip_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._typing import Any


_NO_ANSWERS = "__float__", "__len__", "total_seconds", "__next__", "__await__"
"""Methods of values that a function ``retry_on`` must not return: they may be meant as seconds, or are always true."""


class RetryPolicy:
    """When a failed task runs again, and after which delay.

    The delay before retry *k* (from 1) is ``delay * backoff**(k - 1)`` seconds, at most ``max_delay``, times a random
    factor in ``[1 - jitter, 1 + jitter]``.

    Args:
        retries: maximum number of attempts after the first, 0 or more.
        delay: delay before the first retry, in seconds, 0 or more.
        backoff: factor from one delay to the next, 0 or more; 1 keeps the delay constant.
        max_delay: longest delay in seconds, before jitter.
        jitter: width of the random factor, from 0 (none) to 1.
        retry_on: exceptions that are retried: a class, several classes, or a function that takes the exception and
            returns whether it is retried, or after how many seconds, as an int or a float; None means any
            :class:`Exception`. ``KeyboardInterrupt``, ``SystemExit``, cancellation and ``Skip`` are never retried.
        task: name of the task, for error messages.

    Raises:
        TaskOptionError: a number is out of range; also a :class:`ValueError`.
        TaskOptionTypeError: a value has the wrong type; also a :class:`TypeError`.

    Examples:
        >>> policy = RetryPolicy(retries=5, jitter=0)
        >>> [policy.wait(retry) for retry in (1, 2, 3, 4, 5)]
        [1.0, 2.0, 4.0, 8.0, 16.0]
    """

    __slots__ = ("backoff", "delay", "jitter", "max_delay", "retries", "retry_on")

    def __init__(
        self,
        retries: int = 0,
        delay: float = 1.0,
        backoff: float = 2.0,
        max_delay: float = 3600.0,
        jitter: float = 0.1,
        retry_on: Any = None,
        *,
        task: str = "?",
    ) -> None:
        if type(retries) is not int:
            raise TaskOptionTypeError(task, "retries", retries, "an integer of at least 0")
        if retries < 0:
            raise TaskOptionError(task, "retries", retries, "an integer of at least 0")
        self.retries = retries
        self.delay = _number(task, "delay", delay, "a number of seconds, 0 or more")
        self.backoff = _number(task, "backoff", backoff, "a number, 0 or more")
        self.max_delay = _number(task, "max_delay", max_delay, "a number of seconds, 0 or more")
        self.jitter = _number(task, "jitter", jitter, "a number from 0 to 1", most=1.0)
        self.retry_on = _check_retry_on(task, retry_on)

    def wait(self, retry: int, random: Callable[[], float] | None = None) -> float:
        """Return the delay before a retry, in seconds.

        Args:
            retry: number of the retry, from 1.
            random: returns a number in [0, 1), for the jitter; None means no jitter.
        """
        try:
            seconds = min(self.delay * self.backoff ** (retry - 1), self.max_delay)
        except OverflowError:
            seconds = self.max_delay if self.delay else 0.0
        if random is not None:
            seconds *= 1 + self.jitter * (2 * random() - 1)
        return seconds

    @property
    def can_cover(self) -> bool:
        """Whether there are exceptions that are retried: ``retry_on`` may name none, or only such as `SystemExit`."""
        rule = self.retry_on
        return not isinstance(rule, (type, tuple)) or any(
            (issubclass(kind, Exception) and not issubclass(kind, Skip)) or issubclass(ExceptionGroup, kind)
            for kind in (rule if isinstance(rule, tuple) else (rule,))
        )

    def covers(self, error: BaseException) -> bool | float:
        """Return whether an exception is retried; a number of seconds, also 0, if it is retried after that time.

        Raises:
            Exception: an exception of the function ``retry_on``.
            TypeError: the function returned text, a collection, a ``timedelta``, an iterator, an awaitable, or a number
                that is neither an int nor a float.
            ValueError: the function returned a number that is negative or not finite.
        """
        if not isinstance(error, Exception) or skip_reason(error) is not None:
            return False
        rule = self.retry_on
        if rule is None:
            return True
        if isinstance(rule, (type, tuple)):
            return isinstance(error, rule)
        answer = rule(error)
        if answer is None or isinstance(answer, bool):
            return bool(answer)
        if not isinstance(answer, (int, float)):
            kind = type(answer)
            if any(hasattr(kind, name) for name in _NO_ANSWERS):
                raise TypeError(
                    f"it returned {short_repr(answer)}, of type {kind.__name__}, which is neither true nor false nor a"
                    f" number of seconds: return a bool, an int or a float"
                )
            return bool(answer)
        if not 0 <= answer < float("inf"):
            raise ValueError(f"it returned {answer!r}, but a number of seconds must be 0 or more")
        return float(answer)

    def pause(
        self, error: BaseException, attempt: int, task: str, random: Callable[[], float] | None = None
    ) -> float | None:
        """Return the seconds to wait before another attempt; None if there is none.

        An exception of ``retry_on`` is noted, and means that there is none.

        Args:
            error: the exception of an attempt.
            attempt: the number of that attempt, from 1.
            task: name of the task, for the note.
            random: returns a number in [0, 1), for the jitter; None means no jitter.
        """
        if attempt > self.retries:
            return None
        try:
            answer = self.covers(error)
        except (Exception, SystemExit) as broken:
            add_note(error, f"flowkit: retry_on of task {task!r} itself raised {describe_error(broken)}")
            return None
        if isinstance(answer, float):
            return answer
        return self.wait(attempt, random) if answer else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RetryPolicy) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    def __hash__(self) -> int:
        return hash((self.retries, self.delay, self.backoff, self.max_delay, self.jitter))

    def __repr__(self) -> str:
        return f"RetryPolicy({', '.join(f'{name}={getattr(self, name)!r}' for name in sorted(self.__slots__))})"


def own_random() -> Callable[[], float]:
    """Return a source of random numbers in [0, 1) that leaves the state of the module ``random`` unchanged."""
    global _random
    if _random is None:
        from random import Random

        _random = Random().random
    return _random


_random: Callable[[], float] | None = None


def _number(task: str, option: str, value: Any, allowed: str, most: float = float("inf")) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TaskOptionTypeError(task, option, value, allowed)
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not 0 <= number <= most or number == float("inf"):
        raise TaskOptionError(task, option, value, allowed)
    return number


def _check_retry_on(task: str, rule: Any) -> Any:
    kinds = rule if isinstance(rule, (tuple, list, set, frozenset)) else (rule,)
    if all(isinstance(kind, type) for kind in kinds):
        if wrong := [kind for kind in kinds if not issubclass(kind, BaseException)]:
            raise TaskOptionTypeError(
                task, "retry_on", wrong[0], "an exception class, several, or a function of the exception"
            )
        return rule if isinstance(rule, type) else tuple(kinds)
    if rule is not None and is_coroutine_function(rule):
        raise TaskOptionTypeError(task, "retry_on", rule, "a plain function that is not async: it is not awaited")
    if rule is None or (callable(rule) and not isinstance(rule, type)):
        return rule
    raise TaskOptionTypeError(
        task,
        "retry_on",
        rule,
        f"an exception class, several, or a function of the exception, not {short_repr(type(rule))}",
    )


def warn_of_iterator(name: str, arguments: Iterable[Any]) -> bool:
    """Warn if an argument of a task with retries is an iterator, which one try consumes; return whether one is."""
    for value in arguments:
        if hasattr(type(value), "__next__"):
            safe_warn(
                f"task {name!r} has retries and is given an iterator ({type(value).__name__}): a second try "
                f"gets only the items that the first did not consume; pass a list instead"
            )
            return True
    return False


def text_of_idle_options(task: str, given: Sequence[str]) -> str:
    """Return the warning of options of retries that were given without ``retries``."""
    idle = f"{' and '.join(given)} {'does' if len(given) == 1 else 'do'} nothing without retries"
    return f"task {task!r}: {idle}: add retries=..., the maximum number of retries"
