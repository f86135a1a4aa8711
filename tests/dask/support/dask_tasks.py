"""Functions for tests on a cluster: workers import this module."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from flowkit_core import DAG, Task, current
from flowkit_dask import DaskExecutor


class Bytes(bytearray):
    """Bytes that a weak reference may refer to."""


def one():
    return 1


def add_one(x):
    return x + 1


def total(*numbers):
    return sum(numbers)


def count(path):
    """Append a byte to a file; return how many it has."""
    with Path(path).open("ab", buffering=0) as file:
        file.write(b".")
        return file.tell()


def die(path, times, *_):
    """Kill this worker at once in the first calls; return the number of calls."""
    calls = count(path)
    if calls <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return calls


def die_after(path):
    """Wait for a file, and kill this worker."""
    wait_for(path)
    os.kill(os.getpid(), signal.SIGKILL)


def wait_as(pids, released, *_):
    """Append the id of this process to a file, and wait for another file; return how often that was done."""
    with Path(pids).open("a") as file:
        file.write(f"{os.getpid()}\n")
    wait_for(released)
    return len(Path(pids).read_text().split())


def wait_for(path, *_):
    """Count the call, and wait for a file, 30 s at most."""
    count(f"{path}.calls")
    end = time.monotonic() + 30
    while not Path(path).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return "waited"


def wait_after_start(started, released):
    Path(started).touch()
    return wait_for(released)


def make(number, size):
    return bytes([number]) * size


def is_long(data):
    return len(data) > 10


def is_number(value):
    return type(value) is int


def is_short(data):
    return not is_long(data)


def fail_on(data):
    raise ValueError(f"not that: {len(data)} bytes")


def summary(data):
    return len(data), data[0]


def size_of(*data):
    return [len(each) for each in data]


def measure(path, *data):
    """Count the call; return the sizes."""
    count(path)
    return size_of(*data)


@dataclass
class Row:
    """A value of a class of a module."""

    number: int
    content: bytes

    def __len__(self):
        return len(self.content)


def make_row(number, size):
    return Row(number, make(number, size))


def pid(*_):
    return os.getpid()


class Unpicklable:
    """Can be pickled, and not unpickled."""

    def __reduce__(self):
        return _fail, ()


def _fail():
    raise ValueError("no such luck")


def unpicklable(*_):
    return Unpicklable()


def generator():
    return (x for x in [1])


def plain(x):
    return x * 2


doubled = Task(plain, name="doubled")


def plain_copy(data):
    return data[:-1] + data[-1:]


def fail_if_alone(first, ready):
    if not Path(ready).exists():
        raise ValueError("alone")
    return first


def describe_element(x):
    """Return task, element, size of the parameter, and the notes, of which the second task sees none of the first."""
    found = current()
    found.remember("note", found.element)
    return found.task, found.element, len(found.params["x"]), dict(found.notes)


def fail_if_odd(x):
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


def die_if_negative(x):
    if x < 0:
        time.sleep(0.5)  # until the start is reported, also on a busy machine
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def generator_if_negative(x):
    return generator() if x < 0 else x


def made_of_size(x, size):
    return make(x, size)


def made_unless_three(x, size):
    if x == 3:
        raise ValueError("three")
    return make(x, size)


def measure_list(items):
    return [(len(item), item[0]) for item in items]


def count_items(items):
    """Return how many items there are, and how many of them are exceptions."""
    return [len(items), sum(isinstance(item, Exception) for item in items)]


def pair(one, other):
    return one[0], other[0]


def item_of(table, x):
    return table[x]


def length(data):
    return len(data)


class DetailedError(Exception):
    """Pickle cannot call its ``__init__``."""

    def __init__(self, text, *, code, lock=None):
        super().__init__(text)
        self.code, self.lock = code, lock


def fail_with_details():
    try:
        {}["why"]
    except KeyError as cause:
        cause.add_note("a note of the cause")
        raise DetailedError("broken", code=7) from cause


def recurse():
    return recurse() + 1


def fail_in_group():
    raise ExceptionGroup("several", [ValueError("one"), OSError("two")])


def fail_with_lock():
    raise DetailedError("broken", code=8, lock=Lock())


def fail_with_unpicklable_class():
    class LocalError(LookupError):
        def __reduce__(self):
            raise TypeError("no")

        def __getattr__(self, name):  # no stand-in of this class can be formatted
            raise RuntimeError(name)

    raise LocalError("not here")


def meet(own, other):
    """Wait until another call has started, 30 s at most; return the process."""
    Path(own).touch()
    end = time.monotonic() + 30
    while not Path(other).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return os.getpid()


def note_start(path, x=None, *_):
    """Append the task, and the number of the element, to a file."""
    context = current()
    number = "" if context.element is None else f"[{context.element}]"
    with Path(path).open("a") as file:
        file.write(f"{context.task}{number}\n")


def log_all(x=0, *_):
    """Log with three loggers, at three levels."""
    logging.getLogger("some.library").debug("step %d", x)
    logging.getLogger("some.library").warning("library %d", x, extra={"size": x})
    current().logger.error("task %d", x)


def levels(*names):
    return [logging.getLogger(name or None).level for name in names]


def log_and_fail(text):
    logging.getLogger("some.library").error(text)
    raise ValueError(text)


class PairError(Exception):
    """Pickle calls its ``__init__`` with one argument."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")
        self.pair = one, other


def fail_with_pair_if_odd(x):
    if x % 2:
        raise PairError(x, "odd")
    return x


def pair_error(*_):
    return PairError("a", "b")


def pairs_of(items):
    return [getattr(item, "pair", item) for item in items]


def pair_of(item):
    return getattr(item, "pair", item)


def numbers(count):
    return list(range(count))


def add_in_place(arrays):
    arrays[0] += 1
    return float(arrays[0].sum())


def array_list(size):
    import numpy as np

    return [np.zeros(size), "text"]


def run_inside(address):
    """Run a pipeline on the cluster that runs this task."""
    executor = "dask" if address is None else DaskExecutor(address)
    return DAG("inner", tasks=[Task(one)]).run(executor, timeout=30)["one"]
