"""Tasks of the tests of every executor, in a module that worker processes can import."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import threading
from pathlib import Path

from flowkit_core import DAG, Task, task

# Values


@task
def one():
    return 1


@task
def add_one(x):
    return x + 1


@task
def ten(one):
    return one * 10


@task
def add_hundred_to_one(one):
    return one + 100


@task
def ten_and_one(ten, one):
    return ten, one


@task
def collect(*args):
    return args


def node(*args):
    """Return the argument in a list."""
    return ["node", *args]


@task
def with_defaults(a="a?", b="b?", c="c?"):
    return a, b, c


@task
def keyword_only(*, one, add_one=0):
    return one, add_one


def passed_on(function):
    """Return a function that returns what another function returns, also a coroutine."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@task
@passed_on
async def awaited_inside(one):
    await asyncio.sleep(0)
    return one + 1


@task
def place():
    return os.getpid(), threading.get_ident()


@task
def interrupt(pid):
    """Send SIGINT to the calling process."""
    os.kill(pid, signal.SIGINT)


# Failures


class OwnError(Exception):
    """An exception with two arguments."""

    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


@task
def fail():
    raise OwnError(7, "boom")


@task
def fail_with_a_cause():
    try:
        {}["key"]
    except KeyError as cause:
        error = ValueError("with a cause")
        error.add_note("a note of the user")
        raise error from cause


@task
def fail_deep():
    return fail_deep.func()


KINDS = {
    kind.__name__: kind
    for kind in (
        SystemExit,
        KeyboardInterrupt,
        GeneratorExit,
        asyncio.CancelledError,
        StopIteration,
        StopAsyncIteration,
        TimeoutError,
        BrokenPipeError,
        EOFError,
        MemoryError,
        RecursionError,
        OSError,
        ImportError,
        UnicodeError,
        AssertionError,
        ExceptionGroup,
    )
}


def count(path):
    """Append a byte to a file, and return how many it has."""
    with Path(path).open("ab", buffering=0) as file:  # so that two calls at once get different numbers
        file.write(b".")
        return file.tell()


@task
def stop(kind, path):
    count(path)
    raise KINDS[kind](kind, [ValueError("inner")]) if kind == "ExceptionGroup" else KINDS[kind](kind)


@task
def flaky(path, failures):
    tries = count(path)
    if tries <= failures:
        raise OwnError(tries, f"failure {tries}")
    return tries


def shifted(function):
    """Return a function that adds one to the result of another function."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) + 1

    return wrapper


@shifted
@task
def shifted_one():
    return 1


plain_one = shifted_one.__wrapped__


class Stubborn(Task):
    """A subclass of Task."""


def _stubborn(path):
    raise OwnError(count(path), "no")


stubborn = Stubborn(_stubborn, name="stubborn", retries=2, delay=0)
_stubborn = stubborn


@task
def after(*args):
    return "after"


# Conditions


@task(when=lambda: False)
def never():
    return "never"


@task(when=lambda x: x > 1)
def large(x):
    return f"large {x}"


@task(when=lambda x: x <= 1)
def small(x):
    return f"small {x}"


@task(when=lambda: 1 / 0)
def bad_condition():
    return "never"


# Runs inside runs


@task
def nested():
    inner = add_one.with_options(name="inner")
    start = one.with_options(name="start")
    start >> inner
    return dict(DAG("inner", tasks=[inner]).run("serial"))


@task
def nested_threads():
    start, end = one.with_options(name="start"), collect.with_options(name="end")
    middle = [add_one.with_options(name=f"middle_{number}") for number in range(3)]
    start >> middle >> end
    return DAG("inner", max_workers=2, tasks=[end]).run("thread")["end"]


# Parallelism


def meet(port):
    """Connect to the test, and wait until it sends that all tasks have connected."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        return connection.recv(1)


left = Task(meet, name="left")
right = Task(meet, name="right")


# Examples


@task()
def check_data():
    return 1500


@task(when=lambda x: x > 1000)
def handle_large_data(value):
    return f"Processing large dataset: {value}"


@task(when=lambda x: x <= 1000)
def handle_small_data(value):
    return f"Processing small dataset: {value}"


check_data >> [handle_large_data, handle_small_data]


@task()
def fetch_data():
    return range(1000)


@task()
def process_batch_1(data):
    return sum(list(data)[:333])


@task()
def process_batch_2(data):
    return sum(list(data)[333:666])


@task()
def process_batch_3(data):
    return sum(list(data)[666:])


@task()
def aggregate_results(data, b1, b2, b3):
    total = b1 + b2 + b3
    return f"Total: {total}"


fetch_data >> [process_batch_1, process_batch_2, process_batch_3]
[fetch_data, process_batch_1, process_batch_2, process_batch_3] >> aggregate_results


@task()
def extract(size):
    return size


@task()
def transform(data_size):
    return data_size * 2


@task(when=lambda x: x > 2000)
def require_manual_approval(size):
    return "MANUAL_APPROVAL"


@task(when=lambda x: x <= 2000)
def auto_approve(size):
    return "AUTO_APPROVED"


@task()
def load(transform_result, manual=None, auto=None):
    approval = manual or auto
    return f"LOADED_{transform_result}_{approval}"


extract >> transform
transform >> [require_manual_approval, auto_approve]
[transform, require_manual_approval, auto_approve] >> load
