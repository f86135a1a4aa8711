"""Tasks of durable runs: each says in a file that it runs, and can be told through files to fail, to wait or to die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from flowkit import DAG, StateManager, Task

SECONDS = 60  # a guard against hanging, never a wait


def until(condition, seconds=SECONDS, pause=0.005):
    """Poll until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"it did not come true in {seconds} s"
        time.sleep(pause)
    return value


def tally(folder, name):
    """Add a line to the list of what ran. One write: the lines of several processes do not mix."""
    descriptor = os.open(Path(folder, "ran"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{name}\n".encode())
    finally:
        os.close(descriptor)


def content(path):
    """Return what is in a file, "" without one. It may come and go at any moment."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def step(folder, name, value):
    """Be one execution of a task: note it, obey the order that lies in the folder, and return the value."""
    tally(folder, name)
    order = Path(folder, f"{name}.order")
    what = content(order)
    if what == "fail":
        raise ValueError(f"{name} is broken")
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wait":
        until(lambda: not order.exists())
    return value


class Box:
    """A folder with a database and with what tasks do there."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.db = str(Path(folder, "runs.db"))
        self.params = {"folder": self.folder}
        self._open = []

    def state(self):
        """Open the database, until the end of the test: what records know they read when they are asked."""
        self._open.append(StateManager(self.db))
        return self._open[-1]

    def close(self):
        """Close what was opened."""
        for state in self._open:
            state.close()

    @property
    def ran(self):
        """The names of the tasks that ran, once for each execution, in order."""
        return content(Path(self.folder, "ran")).splitlines()

    def tell(self, name, what):
        """Order a task to "fail", "interrupt", "die" or "wait", until it is mended."""
        Path(self.folder, f"{name}.order").write_text(what)

    def repair(self, *names):
        """Take the orders back."""
        for name in names:
            Path(self.folder, f"{name}.order").unlink()

    def task(self, name, *, value=None, **options):
        """Return a task that says how its value came about: "c(a, b)" where a and b ran before it."""
        return Task(expression(self.folder, name, value), name=name, **options)


def expression(folder, name, value):
    def work(*inputs):
        text = f"{name}({', '.join(map(str, inputs))})" if inputs else name
        return step(folder, name, text if value is None else value)

    return work


# A pipeline that worker processes can import


def extract(folder):
    return step(folder, "extract", [1, 2, 3])


def double(extract, folder):
    return step(folder, "double", [2 * row for row in extract])


def count(extract, folder):
    return step(folder, "count", len(extract))


def report(double, count, folder):
    return step(folder, "report", {"total": sum(double), "rows": count})


RESULTS = {"extract": [1, 2, 3], "double": [2, 4, 6], "count": 3, "report": {"total": 12, "rows": 3}}


def numbers(name="numbers", **options):
    """Return a diamond of four tasks, with options for all of them."""
    first, left, right, last = (Task(function, **options) for function in (extract, double, count, report))
    first >> [left, right] >> last
    return DAG(name, max_workers=2, tasks=[last])


def look(extract, folder):
    """See in the file what became of the task before."""
    with StateManager(Path(folder, "runs.db")) as state:
        record = state.runs()[0]
        return [record.status, record.tasks["extract"].state, record.tasks["extract"].result()]


class Point:
    """A value that JSON does not carry and pickle does."""

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None


def point(folder):
    return step(folder, "point", Point(7))


def shift(point, folder):
    return step(folder, "shift", point.x + 1)
