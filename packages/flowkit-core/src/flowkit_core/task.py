"""What to do: a function with a name, its options, and what it is wired to."""

from __future__ import annotations

import sys
from time import sleep
from types import MethodType

from . import discovery
from ._typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, overload
from .binding import is_coroutine_function
from .errors import TaskOptionError, TaskOptionTypeError, near, plain, shown
from .failure import add_note
from .links import present
from .retry import RetryPolicy, own_random
from .wiring import Vertex

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Literal, TypedDict, Unpack

    from ._typing import Any
    from .durable import Cache

    Trigger = Literal["none_failed", "all_success", "all_done", "one_success", "one_failed"]
    RetryOn = type[BaseException] | Sequence[type[BaseException]] | Callable[[BaseException], object] | None

    class TaskOptions(TypedDict, total=False):
        """The options of a task, for type checkers."""

        name: str
        retries: int
        delay: float
        backoff: float
        when: Callable[..., Any] | None
        max_delay: float
        jitter: float
        retry_on: RetryOn
        trigger: Trigger
        cache: bool | Cache | None


P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

TRIGGERS = ("none_failed", "all_success", "all_done", "one_success", "one_failed")
OPTIONS = ("name", "retries", "delay", "backoff", "when", "max_delay", "jitter", "retry_on", "trigger", "cache")

ELSEWHERE = {
    "retry": "retries",
    "max_retries": "retries",
    "retry_delay": "delay",
    "condition": "when",
    "trigger_rule": "trigger",
}
DELAY, BACKOFF, MAX_DELAY, JITTER = 1.0, 2.0, 3600.0, 0.1
_NEVER = RetryPolicy()


class Task(Vertex, Generic[P, R_co]):
    """A unit of work: a function, a name, and how to run it.

    Usually made by the decorator :func:`task`. Calling a task runs its function, with its retries, and returns what the
    function returns; conditions and triggers belong to pipelines and play no part in a direct call.

    Args:
        func: the function; ``task.func`` gives it back undecorated. An ``async def`` function is awaited by pipelines.
        name: the task's name in results, logs and pictures; by default the function's.
        retries: how many more tries after a failed first, 0 or more.
        delay: seconds to wait before the first retry, 0 or more.
        backoff: factor from one wait to the next, 0 or more.
        when: called with the task's own arguments, in order, as many as it accepts; a false answer skips the task.
        max_delay: longest wait between two tries, in seconds.
        jitter: width of the random factor on each wait, 0 to 1.
        retry_on: an exception class, several, or a function of the exception; None means any :class:`Exception`.
        trigger: what must have become of the upstream tasks: ``"none_failed"``, ``"all_success"``, ``"all_done"``,
            ``"one_success"`` or ``"one_failed"``.
        cache: whether pipelines use a result again when the code of the task and its inputs are the same: True, which
            keeps it in what ``run(state=...)`` is given, else in the memory of this process; or a ``TaskCache`` of
            ``flowkit-state``.

    Raises:
        TaskOptionError: an option is out of range (a :class:`ValueError`).
        TaskOptionTypeError: an option has the wrong type (also a :class:`TypeError`).

    Examples:
        >>> double = Task(lambda x: 2 * x, name="double")
        >>> double(21)
        42
    """

    when: Callable[..., Any] | None = None
    trigger: Trigger = "none_failed"
    cache: bool | Cache | None = None
    _is_flowkit_task = True
    _is_copy = False
    _has_copies = False
    _home: Any = None
    _replaced = False
    _line = _serial = _twin = 0

    def __init__(
        self,
        func: Callable[P, R_co],
        *,
        name: str | None = None,
        retries: int = 0,
        delay: float = DELAY,
        backoff: float = BACKOFF,
        when: Callable[..., Any] | None = None,
        max_delay: float = MAX_DELAY,
        jitter: float = JITTER,
        retry_on: RetryOn = None,
        trigger: Trigger = "none_failed",
        cache: bool | Cache | None = None,
    ) -> None:
        natural = _natural_name(func)
        self.func = func
        self.name = name = natural if name is None else _checked_name(natural, name)
        if (
            type(retries) is int
            and not retries
            and delay is DELAY
            and backoff is BACKOFF
            and max_delay is MAX_DELAY
            and jitter is JITTER
            and retry_on is None
        ):
            self.retry = _NEVER
        else:
            self.retry = RetryPolicy(retries, delay, backoff, max_delay, jitter, retry_on, task=name)
        condition: Any = when
        if condition is not None and not callable(condition):
            raise TaskOptionTypeError(name, "when", when, "a function of the task's arguments, or None")
        if condition is not None and is_coroutine_function(condition):
            raise TaskOptionTypeError(name, "when", when, "a plain function: what is async is never awaited there")
        if when is not None:
            self.when = when
        asked: Any = trigger
        if asked not in TRIGGERS:
            kind = TaskOptionError if type(asked) is str else TaskOptionTypeError
            raise kind(name, "trigger", trigger, f"one of {', '.join(map(repr, TRIGGERS))}")
        if trigger != self.trigger:
            self.trigger = trigger
        if cache is not None and cache is not False:
            self.cache = _checked_cache(name, cache)
        self._upstream = (
            self._downstream
        ) = ()  # here, so that all tasks have their attributes in one order, and share the keys
        self.__wrapped__ = func
        self.__name__: str = getattr(func, "__name__", natural)
        self.__qualname__: str = getattr(func, "__qualname__", natural)
        self.__module__ = getattr(func, "__module__", None) or "?"
        self.__doc__ = func.__doc__
        discovery.register(self, sys._getframe(1))

    @property
    def retries(self) -> int:
        """How many more tries after a failed first."""
        return self.retry.retries

    @property
    def delay(self) -> float:
        """Seconds before the first retry."""
        return self.retry.delay

    @property
    def backoff(self) -> float:
        """Factor from one wait to the next."""
        return self.retry.backoff

    @property
    def max_delay(self) -> float:
        """Longest wait between two tries, in seconds."""
        return self.retry.max_delay

    @property
    def jitter(self) -> float:
        """Width of the random factor on each wait."""
        return self.retry.jitter

    @property
    def retry_on(self) -> Any:
        """Which exceptions are tried again."""
        return self.retry.retry_on

    @property
    def is_async(self) -> bool:
        """Whether the function is an ``async def``."""
        return is_coroutine_function(self.func)

    @property
    def upstream(self) -> tuple[Task[..., Any], ...]:
        """The tasks directly upstream of this one, in order of declaration."""
        return tuple(present(self, self._upstream))

    @property
    def downstream(self) -> tuple[Task[..., Any], ...]:
        """The tasks directly downstream of this one, in order of declaration."""
        return tuple(present(self, self._downstream))

    @property
    def place(self) -> str:
        """Where the task was made, as ``file:line``."""
        return discovery.place(self)

    def with_options(self, **changed: Unpack[TaskOptions]) -> Task[P, R_co]:
        """Return a copy of this task with some options changed, wired to nothing.

        That is how one function is used twice in a pipeline.

        Args:
            **changed: any options of :class:`Task`.

        Raises:
            TypeError: for an option there is not.
            TaskOptionError: for a value that is not allowed.

        Examples:
            >>> @task
            ... def fetch(page=1): return f"page {page}"
            >>> fetch.with_options(name="fetch_again", retries=3)
            <Task fetch_again>
        """
        _check_known(f"task {self.name!r}", changed)
        options = {option: getattr(self, option) for option in OPTIONS} | changed
        copy = type(self).__new__(type(self))
        copy._is_copy = self._has_copies = True
        copy.__init__(self.func, **options)  # type: ignore[misc]
        return copy

    @staticmethod
    def clear_registry() -> None:
        """Forget every task that ``DAG("name")`` would find; tasks you hold, and their wiring, stay as they are."""
        discovery.clear()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function, with its retries, and return what it returns; for an ``async def``, a coroutine of that."""
        discovery.settle()
        if self.is_async:
            return self._call_async(args, kwargs)  # type: ignore[return-value]
        attempt = 1
        while True:
            try:
                return self.func(*args, **kwargs)
            except Exception as error:
                self._explain(error, (*args, *kwargs.values()))
                pause = self._pause(attempt, error)
            sleep(pause)
            attempt += 1

    def _explain(self, error: Exception, given: Sequence[Any]) -> None:
        """Add a note to the error of a direct call that looks as if the task was meant to be wired."""
        own = plain(self.name)
        for value in given:
            if isinstance(value, Task):
                other = plain(value.name)
                hint = f"wire them, {other} >> {own}, or pass its result, {other}()"
                add_note(error, f"flowkit: task {self.name!r} was called with the task {value.name!r} itself: {hint}")
        trace = error.__traceback__
        if not given and isinstance(error, TypeError) and trace is not None and trace.tb_next is None:
            hint = f"to wire it, write its name without parentheses, upstream >> {own}"
            add_note(error, f"flowkit: task {self.name!r} was called: {hint}")

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind like a function, so that a task in a class can be called as a method."""
        return self if instance is None else MethodType(self, instance)

    async def _call_async(self, args: Any, kwargs: Any) -> Any:
        from asyncio import sleep as pause_for

        function: Callable[..., Coroutine[Any, Any, Any]] = self.func  # type: ignore[assignment]
        attempt = 1
        while True:
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                pause = self._pause(attempt, error)
            await pause_for(pause)
            attempt += 1

    def _pause(self, attempt: int, error: Exception) -> float:
        """Return the seconds before the next try of a direct call, or raise the error again."""
        if attempt > self.retry.retries or not self.retry.covers(error):
            raise error
        return self.retry.wait(attempt, own_random())

    def __reduce__(self) -> Any:
        module = sys.modules.get(self.__module__)
        found: Any = module
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        interactive = self.__module__ == "__main__" and getattr(module, "__file__", None) is None
        if found is self and not interactive:
            return self.__qualname__
        options = {option: getattr(self, option) for option in OPTIONS}
        if isinstance(found, Task) and found.func is self.func and not interactive:
            return _restore_copy, (found, options)
        return _restore, (self.func, options)

    def __copy__(self) -> Task[P, R_co]:
        return self

    def __deepcopy__(self, memo: Any) -> Task[P, R_co]:
        return self

    def __repr__(self) -> str:
        return f"<Task {plain(self.name)}>"


def _check_known(owner: str, options: Iterable[str]) -> None:
    if unknown := [option for option in options if option not in OPTIONS]:
        name = unknown[0]
        guess = f" (did you mean {ELSEWHERE[name]!r}?)" if name in ELSEWHERE else near(name, OPTIONS)
        raise TypeError(f"{owner} has no option {name!r}{guess}; there are: {', '.join(OPTIONS)}")


def _restore(func: Any, options: dict[str, Any]) -> Task[..., Any]:
    with discovery.unseen():
        return Task(func, **options)


def _restore_copy(original: Task[..., Any], options: dict[str, Any]) -> Task[..., Any]:
    return _restore(original.func, options)


def _natural_name(func: Any) -> str:
    if isinstance(func, Task):
        raise TaskOptionTypeError(
            func.name, "func", func, "a function: it is a task already, so use with_options(...) for a changed copy"
        )
    if isinstance(func, str):
        raise TypeError(f"@task got {func!r}, a text, not a callable: to name a task, write @task(name={func!r})")
    if not callable(func):
        raise TaskOptionTypeError(shown(func, 40), "func", func, "a function, or another callable")
    name = getattr(func, "__name__", None)
    if name is None and hasattr(func, "func"):  # functools.partial
        name = getattr(func.func, "__name__", None)
    return name if isinstance(name, str) and name else type(func).__name__


def _checked_cache(task: str, cache: Any) -> bool | Cache:
    if cache is True or (
        not isinstance(cache, type) and all(hasattr(cache, part) for part in ("over", "find", "keep"))
    ):
        found: bool | Cache = cache
        return found
    raise TaskOptionTypeError(task, "cache", cache, "True, a TaskCache such as TaskCache(ttl=3600), or None")


def _checked_name(natural: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TaskOptionTypeError(natural, "name", name, "a text of at least one character")
    if not name:
        raise TaskOptionError(natural, "name", name, "a text of at least one character")
    return name


@overload
def task(func: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = ...,
    retries: int = ...,
    delay: float = ...,
    backoff: float = ...,
    when: Callable[..., Any] | None = ...,
    max_delay: float = ...,
    jitter: float = ...,
    retry_on: RetryOn = ...,
    trigger: Trigger = ...,
    cache: bool | Cache | None = ...,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    func: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    delay: float = DELAY,
    backoff: float = BACKOFF,
    when: Callable[..., Any] | None = None,
    max_delay: float = MAX_DELAY,
    jitter: float = JITTER,
    retry_on: RetryOn = None,
    trigger: Trigger = "none_failed",
    cache: bool | Cache | None = None,
    **unknown: Any,
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Turn a function into a :class:`Task`: ``@task``, ``@task()`` and ``@task(retries=3, ...)`` are all accepted.

    Args:
        func: the function, where the decorator is written without parentheses.
        name: the task's name; by default the function's.
        retries: how many more tries after a failed first, 0 or more.
        delay: seconds to wait before the first retry.
        backoff: factor from one wait to the next.
        when: condition on the task's own arguments; a false answer skips the task.
        max_delay: longest wait between two tries, in seconds.
        jitter: width of the random factor on each wait, 0 to 1.
        retry_on: an exception class, several, or a function of the exception; None means any :class:`Exception`.
        trigger: what must have become of the upstream tasks, as for :class:`Task`.
        cache: whether pipelines use a result again, as for :class:`Task`.
        **unknown: none; they are refused with a word on what was meant.

    Raises:
        TaskOptionError: an option is out of range (a :class:`ValueError`).
        TaskOptionTypeError: an option has the wrong type (also a :class:`TypeError`).

    Examples:
        >>> @task(retries=3)
        ... def extract():
        ...     return [1, 2, 3]
        >>> extract()
        [1, 2, 3]
    """
    _check_known("@task", unknown)

    def make(function: Callable[P, R]) -> Task[P, R]:
        return Task(
            function,
            name=name,
            retries=retries,
            delay=delay,
            backoff=backoff,
            when=when,
            max_delay=max_delay,
            jitter=jitter,
            retry_on=retry_on,
            trigger=trigger,
            cache=cache,
        )

    return make if func is None else make(func)
