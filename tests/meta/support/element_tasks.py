"""Tasks of tests of recorded elements; worker processes and scripts import them from here."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

from durable_tasks import step

from flowkit import StateManager, Task, current


def named(name, number):
    """Return the results of the first elements of a task of `Elements` over `numbers`."""
    return [[name, each] for each in range(number)]


class Elements:
    """A folder in which each call of an element is noted, and in which a test lets elements fail.

    Attributes:
        folder: its path.
    """

    def __init__(self, folder):
        self.folder = str(folder)

    def task(self, name, **options):
        """Return a task that takes one element, notes the call and returns a list of its name and the element."""
        return Task(partial(call_element, self.folder, name), name=name, **options)

    def versioned(self, name):
        """Return a function of an element, whose result depends on what was injected for "name-version"."""
        return partial(call_versioned, self.folder, name)

    def inject(self, name, what):
        """Let the call of an element, such as "each-3", fail, interrupt the run, die or wait; None ends that."""
        path = Path(self.folder, f"{name}.injected")
        if what is None:
            path.unlink()
        else:
            path.write_text(what)

    def calls(self, name):
        """Return the elements for which a task was called since the last time, in order of their numbers."""
        path = Path(self.folder, "ran")
        lines = path.read_text().split() if path.exists() else []
        path.write_text("\n".join(line for line in lines if not line.startswith(f"{name}-")) + "\n")
        return sorted(int(line.rpartition("-")[2]) for line in lines if line.startswith(f"{name}-"))


def numbers(count):
    """Return a task "rows" that returns the first numbers."""
    return Task(partial(first_numbers, count), name="rows")


def first_numbers(count):
    return list(range(count))


def call_element(folder, name, row):
    number = row[-1] if isinstance(row, list) else row
    return step(folder, f"{name}-{number}", [name, number])


def call_versioned(folder, name, row):
    return [Path(folder, f"{name}-version.injected").exists(), row]


def return_worker(row):
    return [row, worker()]


def worker():
    return [os.getpid(), threading.get_ident()]


def check_that_it_is_recorded(path, first):
    """Return the number of an element; raise unless it is in the file, or this worker has made the element itself."""
    number, maker = first
    with StateManager(path) as state:
        elements = state.run(current().run_id).tasks["first"].elements
        assert maker == worker() or number in elements.states, number
    return number


def check_that_all_are_recorded(path, second):
    with StateManager(path) as state:
        tasks = state.run(current().run_id).tasks
        assert len(tasks["first"].elements.states) == len(tasks["second"].elements.states) == len(second)
        assert tasks["second"].elements.size == len(second)
    return len(second)


def is_any(row):
    return True
