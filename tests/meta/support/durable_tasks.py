"""Tasks and pipelines of tests of recorded runs; worker processes and scripts import them from here.

Each execution of a task is recorded in a file, and a test can make a task fail, interrupt, wait or kill its process.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

from flowkit import DAG, StateManager, Task

TIMEOUT = 60  # seconds after which a test that waits for a condition fails


def wait_until(condition, seconds=TIMEOUT, pause=0.005):
    """Poll until a condition is true, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"the condition was not true within {seconds} s"
        time.sleep(pause)
    return value


def record_execution(folder, name):
    """Append a line to the list of executions. A single write: lines of several processes do not mix."""
    descriptor = os.open(Path(folder, "ran"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{name}\n".encode())
    finally:
        os.close(descriptor)


def read_text(path):
    """Return the text of a file, "" if it does not exist. It may be created or removed at any time."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def step(folder, name, value):
    """Body of a task: record the execution, do what the test has injected, and return the value."""
    record_execution(folder, name)
    file = Path(folder, f"{name}.injected")
    injected = read_text(file)
    if injected == "fail":
        raise ValueError(f"{name} is broken")
    if injected == "interrupt":
        raise KeyboardInterrupt
    if injected == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if injected == "wait":
        wait_until(lambda: not file.exists())
    return value


class Box:
    """A folder with a database, the list of executions, and the injected faults."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.db = str(Path(folder, "runs.db"))
        self.params = {"folder": self.folder}
        self._open = []

    def state(self):
        """Open the database until the end of the test, because records read it on access."""
        self._open.append(StateManager(self.db))
        return self._open[-1]

    def records(self):
        """Return the records of all runs, newest first."""
        return self.state().runs()

    def close(self):
        """Close the states that were opened."""
        for state in self._open:
            state.close()

    @property
    def ran(self):
        """The names of the tasks that ran, one for each execution, in order."""
        return read_text(Path(self.folder, "ran")).splitlines()

    def inject(self, name, action):
        """Make a task "fail", "interrupt", "die" or "wait" until it is repaired."""
        Path(self.folder, f"{name}.injected").write_text(action)

    def repair(self, *names):
        """Remove what was injected."""
        for name in names:
            Path(self.folder, f"{name}.injected").unlink()

    def task(self, name, *, value=None, **options):
        """Return a task whose result is its name and those of its upstreams: "c(a, b)"."""
        return Task(expression(self.folder, name, value), name=name, **options)

    def chain(self, names="abc", **options):
        """Return a pipeline in which each task depends on the previous one; its results are ``CHAIN``."""
        tasks = [self.task(name, **options) for name in names]
        for before, after in itertools.pairwise(tasks):
            before >> after
        return DAG("chain", tasks=tasks[-1:])

    def failing_run(self, pipeline, **options):
        """Run a pipeline that fails, record the run, and return the results."""
        results = pipeline.run("serial", state=self.db, raise_on_failure=False, **options)
        assert results.failed
        return results


CHAIN = {"a": "a", "b": "b(a)", "c": "c(b(a))"}


def expression(folder, name, value):
    def work(*inputs):
        text = f"{name}({', '.join(map(str, inputs))})" if inputs else name
        return step(folder, name, text if value is None else value)

    # with code of its own, it is not known to be short, so what precedes it is committed before it starts
    work.__code__ = work.__code__.replace(co_name=name)
    return work


def task_states(record):
    return {name: task.state for name, task in record.tasks.items()}


def extract(folder):
    return step(folder, "extract", [1, 2, 3])


def double(extract, folder):
    return step(folder, "double", [2 * row for row in extract])


def count(extract, folder):
    return step(folder, "count", len(extract))


def report(double, count, folder):
    return step(folder, "report", {"total": sum(double), "rows": count})


RESULTS = {"extract": [1, 2, 3], "double": [2, 4, 6], "count": 3, "report": {"total": 12, "rows": 3}}


def diamond(name="numbers", **options):
    """Return a pipeline of four tasks that worker processes can import, with options for all of them."""
    first, left, right, last = (Task(function, **options) for function in (extract, double, count, report))
    first >> [left, right] >> last
    return DAG(name, max_workers=2, tasks=[last])


def read_record(extract, folder):
    """Return what the database has of the run and of the upstream while this task runs."""
    with StateManager(Path(folder, "runs.db")) as state:
        record = state.runs()[0]
        return [record.status, record.tasks["extract"].state, record.tasks["extract"].result()]


def return_key(folder, idempotency_key):
    return step(folder, "return_key", idempotency_key)


class Point:
    """A value that pickle can store and JSON cannot."""

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None


def point(folder):
    return step(folder, "point", Point(7))


def shift(point, folder):
    return step(folder, "shift", point.x + 1)


class PointSerializer:
    """Stores a ``Point`` as text."""

    name = "point"
    type = Point

    def dump(self, value):
        return str(value.x).encode()

    def load(self, data):
        return Point(int(data))


class ManualClock:
    """A clock that only a test advances."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now
