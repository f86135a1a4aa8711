"""What to do: a function with a name, its options, and what it is wired to."""

from __future__ import annotations

import sys
from time import sleep
from types import MethodType

from . import discovery
from ._typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, overload
from .binding import is_coroutine_function
from .errors import TaskOptionError, TaskOptionTypeError, near, shown
from .retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from ._typing import Any

    Neighbors = tuple["Vertex", ...] | dict["Vertex", None]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
V = TypeVar("V", bound="Vertex")

TRIGGERS = ("none_failed", "all_success", "all_done", "one_success", "one_failed")
OPTIONS = ("name", "retries", "delay", "backoff", "when", "max_delay", "jitter", "retry_on", "trigger")

DELAY, BACKOFF, MAX_DELAY, JITTER = 1.0, 2.0, 3600.0, 0.1
MANY = 8
_NEVER = RetryPolicy()


class Vertex:
    """A vertex of the wiring: knows its neighbors, not its types. Tasks are vertices; only tasks are meant to be.

    Neighbors are kept in order of declaration: in a tuple while they are few, which is nearly always and weighs little,
    and in a dictionary when they are many.
    """

    _upstream: Neighbors = ()
    _downstream: Neighbors = ()
    _ghosts: tuple[Vertex, ...] = ()  # neighbors that were defined anew, and have not been wired again since

    @overload
    def __rshift__(self, other: V) -> V: ...
    @overload
    def __rshift__(self, other: Iterable[Vertex]) -> Group: ...
    def __rshift__(self, other: Vertex | Iterable[Vertex]) -> Vertex | Group:
        if isinstance(other, Vertex):
            _link(self, other)
            return other
        return Group((self,)) >> other

    def __rrshift__(self: V, other: Iterable[object]) -> V:
        return Group(_vertices(other)) >> self


class Group(tuple[Vertex, ...]):
    """Tasks side by side, as ``a >> [b, c]`` returns them.

    Needed by name only to wire a list to a list, which Python cannot spell otherwise:

    Examples:
        >>> @task
        ... def a(): return 1
        >>> @task
        ... def b(): return 2
        >>> @task
        ... def total(a, b): return a + b
        >>> @task
        ... def product(a, b): return a * b
        >>> Group([a, b]) >> [total, product]
        Group([total, product])
    """

    __slots__ = ()

    def __new__(cls, tasks: Iterable[Vertex]) -> Group:  # noqa: D102 - see the class
        return super().__new__(cls, _vertices(tasks))

    @overload
    def __rshift__(self, other: V) -> V: ...
    @overload
    def __rshift__(self, other: Iterable[Vertex]) -> Group: ...
    def __rshift__(self, other: Vertex | Iterable[Vertex]) -> Vertex | Group:
        after = (other,) if isinstance(other, Vertex) else Group(other)
        for downstream in after:
            for upstream in self:
                _link(upstream, downstream)
        return other if isinstance(other, Vertex) else after  # type: ignore[return-value]

    def __rrshift__(self, other: Iterable[object]) -> Group:
        return Group(_vertices(other)) >> self

    def __repr__(self) -> str:
        return f"Group([{', '.join(getattr(item, 'name', '?') for item in self)}])"


def _vertices(items: Iterable[object]) -> list[Vertex]:
    if isinstance(items, (str, bytes)) or not hasattr(items, "__iter__"):
        raise TypeError(
            f"next to '>>' stands {shown(items)}, of type {type(items).__name__}, not a task: decorate a function with "
            f"@task, and write its name without parentheses"
        )
    vertices = []
    for position, item in enumerate(items):
        if not isinstance(item, Vertex):
            raise TypeError(
                f"item {position} of the list next to '>>' is {shown(item)}, of type {type(item).__name__}, not a "
                f"task: decorate a function with @task, and write its name without parentheses"
            )
        vertices.append(item)
    return vertices


def _link(upstream: Vertex, downstream: Vertex) -> None:
    if downstream not in upstream._downstream:
        upstream._downstream = _with(upstream, upstream._downstream, downstream)
    if upstream not in downstream._upstream:
        downstream._upstream = _with(downstream, downstream._upstream, upstream)
    discovery.wired(upstream, downstream)


def _with(vertex: Vertex, known: Neighbors, other: Vertex) -> Neighbors:
    """Return neighbors and another one; one defined anew takes its old place, to keep arguments in order."""
    if vertex._ghosts:
        ghost = next((ghost for ghost in vertex._ghosts if ghost in known and discovery.same(ghost, other)), None)
        if ghost is not None:
            renewed = [other if each is ghost else each for each in known]
            return tuple(renewed) if isinstance(known, tuple) else dict.fromkeys(renewed)
    if isinstance(known, tuple):
        if len(known) < MANY:
            return (*known, other)
        known = dict.fromkeys(known)
    known[other] = None
    return known


def unlink(vertex: Vertex) -> None:
    """Take a replaced task out of the wiring; its neighbors remember the place it had."""
    for neighbor in (*vertex._upstream, *vertex._downstream):
        neighbor._ghosts = (*neighbor._ghosts, vertex)
    vertex._upstream = vertex._downstream = ()


def present(vertex: Any, known: Neighbors) -> Neighbors:
    """Return neighbors of a vertex without those that were defined anew."""
    return tuple([other for other in known if other not in vertex._ghosts]) if vertex._ghosts else known


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

    Raises:
        TaskOptionError: an option is out of range (a :class:`ValueError`).
        TaskOptionTypeError: an option has the wrong type (also a :class:`TypeError`).

    Examples:
        >>> double = Task(lambda x: 2 * x, name="double")
        >>> double(21)
        42
    """

    when: Callable[..., Any] | None = None
    trigger: str = "none_failed"
    _is_copy = False
    _has_copies = False
    _home: Any = None
    _line = _serial = 0

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
        retry_on: Any = None,
        trigger: str = "none_failed",
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
        if when is not None:
            self.when = when
        if trigger not in TRIGGERS:
            kind = TaskOptionError if type(trigger) is str else TaskOptionTypeError
            raise kind(name, "trigger", trigger, f"one of {', '.join(map(repr, TRIGGERS))}")
        if trigger != self.trigger:
            self.trigger = trigger
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
        return tuple(present(self, self._upstream))  # type: ignore[arg-type]

    @property
    def downstream(self) -> tuple[Task[..., Any], ...]:
        """The tasks directly downstream of this one, in order of declaration."""
        return tuple(present(self, self._downstream))  # type: ignore[arg-type]

    @property
    def place(self) -> str:
        """Where the task was made, as ``file:line``."""
        return discovery.place(self)

    def with_options(self, **changed: Any) -> Task[P, R_co]:
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
        if self.is_async:
            return self._call_async(args, kwargs)  # type: ignore[return-value]
        attempt = 1
        while True:
            try:
                return self.func(*args, **kwargs)
            except Exception as error:
                pause = self._pause(attempt, error)
            sleep(pause)
            attempt += 1

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
        return f"<Task {self.name}>"


def _check_known(owner: str, options: Iterable[str]) -> None:
    if unknown := [option for option in options if option not in OPTIONS]:
        raise TypeError(
            f"{owner} has no option {unknown[0]!r}{near(unknown[0], OPTIONS)}; there are: {', '.join(OPTIONS)}"
        )


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


def _checked_name(natural: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TaskOptionTypeError(natural, "name", name, "a text of at least one character")
    if not name:
        raise TaskOptionError(natural, "name", name, "a text of at least one character")
    return name


def own_random() -> Callable[[], float]:
    """Return flowkit's own source of random numbers in [0, 1): the user's ``random`` sequence is never touched."""
    global _random
    if _random is None:
        from random import Random

        _random = Random().random
    return _random


_random: Callable[[], float] | None = None


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
    retry_on: Any = ...,
    trigger: str = ...,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(func: Callable[P, R] | None = None, /, **options: Any) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Turn a function into a :class:`Task`: ``@task``, ``@task()`` and ``@task(retries=3, ...)`` are all accepted.

    Args:
        func: the function, where the decorator is written without parentheses.
        **options: the options of :class:`Task`.

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
    _check_known("@task", options)
    if func is None:
        return lambda function: Task(function, **options)
    return Task(func, **options)
