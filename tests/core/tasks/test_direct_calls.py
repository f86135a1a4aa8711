"""Direct calls of tasks: they call the function, with retries and without conditions."""

from __future__ import annotations

import asyncio
import random

import pytest

from flowkit_core import DAG, Task, task


@task
def plain(x: int = 20) -> int:
    """Return one more."""
    return x + 1


def failing(times, error=ValueError, value="done"):
    """Return a function that fails a number of times before it succeeds, and the list of its calls."""
    calls = []

    def flaky(*args):
        calls.append(args)
        if len(calls) <= times:
            raise error(f"failure {len(calls)}")
        return value

    return flaky, calls


def test_direct_call_calls_function():
    assert plain(41) == 42
    assert plain() == 21
    assert plain(x=1) == 2


def test_direct_call_error_has_note_that_shows_wiring():
    """Only if arguments are missing, not for errors that the function raises."""

    @task
    def load(rows):
        return int(rows, "ten")

    with pytest.raises(TypeError) as caught:
        plain >> load()
    assert caught.value.__notes__ == [
        "flowkit: task 'load' was called: to wire it, write its name without parentheses, upstream >> load"
    ]
    with pytest.raises(TypeError) as caught:
        load("1")
    assert not hasattr(caught.value, "__notes__")


def test_direct_call_retries():
    """It returns the first success."""
    flaky, calls = failing(2)
    assert Task(flaky, retries=2, delay=0)("a") == "done"
    assert calls == [("a",)] * 3


def test_direct_call_with_exhausted_retries_raises_error_of_function():
    """It is the exception object of the last attempt."""
    error = ValueError("always")
    calls = []

    def broken():
        calls.append(1)
        raise error

    with pytest.raises(ValueError) as caught:
        Task(broken, retries=3, delay=0)()
    assert caught.value is error
    assert len(calls) == 4


def test_direct_call_does_not_evaluate_condition():
    assert Task(lambda: "ran", when=lambda: False)() == "ran"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_direct_call_never_retries_interrupt(error):
    """Only an Exception is retried."""
    flaky, calls = failing(1, error)
    with pytest.raises(error):
        Task(flaky, retries=3, delay=0)()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("retry_on", "tries"),
    [
        (None, 3),
        (ValueError, 3),
        (Exception, 3),
        ((OSError, ValueError), 3),
        ([OSError, ValueError], 3),
        (lambda error: "failure" in str(error), 3),
        (OSError, 1),
        ((OSError, KeyError), 1),
        (lambda error: False, 1),
    ],
)
def test_retry_on_selects_exceptions(retry_on, tries):
    """A class, several, or a function of the exception."""
    flaky, calls = failing(9)
    with pytest.raises(ValueError, match=f"failure {tries}"):
        Task(flaky, retries=2, delay=0, retry_on=retry_on)()
    assert len(calls) == tries


@pytest.mark.parametrize("retry_on", [BaseException, KeyboardInterrupt, lambda error: True])
def test_retry_on_never_retries_interrupt(retry_on):
    flaky, calls = failing(1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Task(flaky, retries=3, delay=0, retry_on=retry_on)()
    assert len(calls) == 1


def test_retries_do_not_change_random_state_of_user():
    """Jitter has a generator of its own."""
    random.seed(7)
    expected = random.random()
    random.seed(7)
    flaky, _ = failing(3)
    Task(flaky, retries=3, delay=1e-9)()
    assert random.random() == expected


def test_direct_call_in_another_task():

    @task
    def helper(x):
        return x * 2

    @task
    def main():
        return helper(21)

    assert DAG("nested", tasks=[main]).run() == {"main": 42}
