"""Functions that the checks run, at the top level of a module, so that every executor can import them.

Calls are counted in a file, because they may be in different processes.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextvars import ContextVar

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import current
from flowkit_core.errors import Skip
from flowkit_core.pipelines.dag import DAG
from flowkit_core.pipelines.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowkit_core._typing import Any

MARK = ""
"""Set by a check in its own process."""

setting: ContextVar[str] = ContextVar("setting", default="unset")


# Values


def one() -> int:
    """Return 1."""
    return 1


def add_one(x: int) -> int:
    """Return the next number."""
    return x + 1


def collect(*args: Any) -> tuple[Any, ...]:
    """Return the arguments."""
    return args


def value_of(value: Any) -> Any:
    """Return the argument."""
    return value


def type_name(value: Any) -> str:
    """Return the name of the type of the argument."""
    return type(value).__name__


def bind(first: Any, second: Any = "default", /, *rest: Any, one: Any = None, limit: int = 10) -> Any:
    """Return what each kind of parameter got."""
    return first, second, rest, one, limit


def three(a: Any = "a", b: Any = "b", c: Any = "c") -> Any:
    """Return three parameters with defaults."""
    return a, b, c


def large(size: int) -> bytes:
    """Return bytes of a size."""
    return b"x" * size


def size_of(data: bytes) -> tuple[int, bytes]:
    """Return the size of bytes, and the last one."""
    return len(data), data[-1:]


def generator() -> Iterator[int]:
    """Return a value that cannot be pickled."""
    return (number for number in range(3))


class Unfriendly:
    """A value without truth and equality, like an array."""

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise ValueError("the truth value of this is ambiguous")

    def __eq__(self, other: object) -> bool:
        raise ValueError("cannot be compared")

    def __reduce__(self) -> Any:
        return Unfriendly, ()


def unfriendly() -> Unfriendly:
    """Return a value without truth and equality."""
    return Unfriendly()


class Scale:
    """A callable object that can be pickled, with a method."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, value: int) -> int:
        """Return a multiple of the argument."""
        return value * self.factor

    def method(self, value: int) -> int:
        """Return a multiple of the argument."""
        return value * self.factor


async def awaited(x: int) -> int:
    """Return the next number after a step of the event loop."""
    await asyncio.sleep(0)
    return x + 1


# Calls that count themselves


def count(path: str) -> int:
    """Append a byte to a file, and return how many it has."""
    with open(path, "ab", buffering=0) as file:  # so that two calls at once get different numbers
        file.write(b".")
        return file.tell()


def counted(path: str, *_args: Any) -> Any:
    """Count a call."""
    count(path)


def counted_condition(path: str, *_args: Any) -> bool:
    """Count a call, and return True."""
    count(path)
    return True


def write(path: str, text: str) -> None:
    """Append a text to a file."""
    with open(path, "a") as file:
        file.write(text)


def read(path: str) -> str:
    """Return the text of a file."""
    with open(path) as file:
        return file.read()


# Failures


class OwnError(Exception):
    """An exception with two arguments and an attribute."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


class FalsyError(Exception):
    """An exception that is falsy."""

    def __len__(self) -> int:
        return 0


class PartialError(Exception):
    """An exception that cannot be unpickled, because it does not pass all arguments on."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def fail_partially() -> Any:
    """Raise an exception that cannot be unpickled."""
    raise PartialError(3, "partial")


def fail(*_args: Any) -> Any:
    """Raise an exception."""
    error = OwnError(7, "boom")
    error.add_note("a note of the task")
    raise error


def fail_with_falsy_error() -> None:
    """Raise an exception that is falsy."""
    raise FalsyError("falsy")


def return_error() -> Exception:
    """Return an exception, as a value."""
    return ValueError("a value")


def flaky(path: str, failures: int, *_args: Any) -> int:
    """Fail a number of times; return the number of calls so far."""
    calls = count(path)
    if calls <= failures:
        raise OwnError(calls, f"failure {calls}")
    return calls


async def flaky_coroutine(path: str, failures: int) -> int:
    """Fail a number of times; return the number of calls so far."""
    await asyncio.sleep(0)
    return flaky(path, failures)


KINDS = {kind.__name__: kind for kind in (KeyboardInterrupt, SystemExit, OSError, TimeoutError, StopIteration)}


def raise_kind(path: str, kind: str) -> Any:
    """Count the call, and raise an exception of a type."""
    count(path)
    raise KINDS[kind](kind)


def fail_until_counted(path: str) -> str:
    """Raise an exception, until another call has counted itself."""
    if not os.path.exists(path):
        raise OwnError(1, "not yet")
    return "counted"


def counted_values(path: str, *args: Any) -> tuple[Any, ...]:
    """Count the call, and return the other arguments."""
    count(path)
    return args


class NoFiles(Skip):
    """A subclass of Skip."""


class OddSkip(Skip):
    """A subclass of Skip that cannot be unpickled, because it does not pass all arguments on."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


def skip(path: str, kind: str) -> Any:
    """Count the call, and raise Skip in one of several forms."""
    count(path)
    text = "no new files"
    if kind == "group":
        raise ExceptionGroup("two", [NoFiles(text), ExceptionGroup("one", [Skip("other")])])
    raise {"plain": Skip(text), "subclass": NoFiles(text), "odd": OddSkip(text, 3)}[kind]


def returned_skip(kind: str, *_args: Any) -> Any:
    """Return a Skip, which is to be raised."""
    return {"plain": Skip, "subclass": NoFiles}[kind]("no new files")


def fail_then_skip(path: str) -> Any:
    """Fail in the first call, and raise Skip in the second."""
    if count(path) == 1:
        raise OwnError(1, "failure")
    raise Skip("no new files")


# Conditions


def is_large(x: int) -> bool:
    """Return whether a number is large."""
    return x > 1


def is_small(x: int) -> bool:
    """Return whether a number is small."""
    return x <= 1


def is_text(value: Any) -> bool:
    """Return whether a value is a text."""
    return isinstance(value, str)


def never(*_args: Any) -> bool:
    """Return False."""
    return False


def fail_condition(*_args: Any) -> bool:
    """Raise an exception."""
    raise OwnError(9, "condition")


# Places and times


def read_mark() -> tuple[int, str]:
    """Return the process and the mark of this module in it."""
    return os.getpid(), MARK


def read_setting(*_args: Any) -> str:
    """Return the value of a context variable."""
    return setting.get()


def change_setting(*_args: Any) -> str:
    """Set a context variable; return its value before."""
    before = setting.get()
    setting.set("changed by a task")
    return before


def sleep_for(seconds: float) -> float:
    """Sleep; return the seconds."""
    time.sleep(seconds)
    return seconds


def sleep_while_waited_for(path: str, seconds: float) -> None:
    """Count the call, and sleep."""
    count(path)
    time.sleep(seconds)


def wait_for_release(path: str, seconds: float) -> None:
    """Count the call, and wait until :func:`release` is called, a number of seconds at most."""
    count(path)
    end = time.monotonic() + seconds
    while not os.path.exists(f"{path}.released") and time.monotonic() < end:
        time.sleep(0.005)


def release(path: str) -> None:
    """End the calls that wait for it."""
    write(f"{path}.released", "released")


def first_call_waits(path: str, seconds: float) -> int:
    """Count the call; in the first one, wait until :func:`release` is called. Return the number of calls so far."""
    calls = count(path)
    end = time.monotonic() + seconds
    while calls == 1 and not os.path.exists(f"{path}.released") and time.monotonic() < end:
        time.sleep(0.005)
    return calls


def release_and_sleep(path: str, seconds: float, value: Any) -> Any:
    """End the calls that wait, and sleep; return the argument."""
    release(path)
    time.sleep(seconds)
    return value


async def nap(path: str, seconds: float) -> None:
    """Sleep; count the call if it is cancelled."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        count(path)
        raise


async def counted_nap(path: str, seconds: float) -> None:
    """Count the call, and sleep; count it again if it is cancelled."""
    count(path)
    await nap(path, seconds)


async def cancel_itself() -> None:
    """Raise CancelledError."""
    await asyncio.sleep(0)
    raise asyncio.CancelledError


def collect_after_failures(path: str, failures: int, number: int, *values: Any) -> tuple[int, tuple[Any, ...]]:
    """Fail a number of times, then return the arguments."""
    if failures:
        flaky(path, failures)
    return number, values


async def awaited_collect(path: str, failures: int, number: int, *values: Any) -> tuple[int, tuple[Any, ...]]:
    """Do what `collect_after_failures` does, after a step of the event loop."""
    await asyncio.sleep(0)
    return collect_after_failures(path, failures, number, *values)


def raise_timeout() -> None:
    """Raise TimeoutError."""
    raise TimeoutError("of the function")


async def raise_timeout_later() -> None:
    """Raise TimeoutError after a step of the event loop."""
    await asyncio.sleep(0)
    raise TimeoutError("of the function")


def deadline() -> float | None:
    """Return when the attempt times out."""
    return current().deadline


async def awaited_deadline() -> float | None:
    """Return when the attempt times out."""
    await asyncio.sleep(0)
    return current().deadline


def fail_when_counted(path: str, seconds: float, kind: str = "OwnError") -> None:
    """Raise an exception when another call has counted itself, or after a number of seconds."""
    end = time.monotonic() + seconds
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.005)
    raise OwnError(7, "boom") if kind == "OwnError" else KINDS[kind]("boom")


def run_inside() -> dict[str, Any]:
    """Run a pipeline in this task."""
    start, end = Task(one, name="start"), Task(add_one, name="end")
    start >> end
    return dict(DAG("inside", tasks=[end]).run("serial"))
