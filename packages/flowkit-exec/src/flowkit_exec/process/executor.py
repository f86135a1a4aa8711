"""Processes: every worker has a pipe of its own, and the run knows at any time what each of them holds."""

from __future__ import annotations

import os
import threading
import weakref
from itertools import count
from typing import TYPE_CHECKING, Any

from flowkit_core import ExecutorError
from flowkit_core.executor import checked_workers

if TYPE_CHECKING:
    from flowkit_core import Run

    from .worker_handle import Child


class ProcessExecutor:
    """Runs tasks in worker processes.

    An executor object keeps its workers warm from one run to the next, until it is closed; ``run(executor="process")``
    makes one for a single run. Functions of modules and of the script itself go to workers by reference. Others
    (lambdas, closures, notebook cells) go by value where ``cloudpickle`` is installed (``flowkit-exec[cloudpickle]``),
    or with a fork of this process where that is safe: on Linux, while it has one thread. Conditions (``when``) are
    evaluated in this process.

    Needs a POSIX system (Linux, macOS).

    Args:
        max_workers: how many processes at most, at least 1; None means one for each processor there is to use.

    Raises:
        TypeError: ``max_workers`` is no integer.
        ValueError: it is less than 1.
        ExecutorError: the system is not a POSIX system.

    Examples:
        >>> from math import sqrt
        >>> from flowkit_core import DAG, Task
        >>> root = Task(sqrt, name="root")
        >>> start = Task(int, name="start")
        >>> with ProcessExecutor(max_workers=2) as executor:
        ...     DAG("numbers", tasks=[start]).run(executor)
        {'start': 0}
    """

    name = "process"

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers = checked_workers(max_workers) or _processors()
        try:
            # Not in a run: a handler of a signal may come upon that at any moment, and use the executor itself.
            from .driver import Crew
            from .worker_handle import bury_all
        except ModuleNotFoundError as error:
            if error.name not in ("fcntl", "resource"):
                raise
            raise ExecutorError(
                "the process executor needs a POSIX system, such as Linux or macOS: use executor='thread' here"
            ) from error
        self._crew, self._bury_all = Crew, bury_all
        self._idle: list[Child] = []
        self._lock = threading.RLock()  # a handler of a signal may use the executor while its thread does
        self._numbers: dict[int, tuple[int, Any]] = {}
        self._found: dict[Any, Any] = {}  # where a function is found -> the function
        self.generation = 0  # grows with each reload of a module: who began before that knows the old one
        self._counter = count(1)
        self._closed = False
        self._finalizer = weakref.finalize(self, bury_all, self._idle)

    def execute(self, run: Run) -> None:
        """Drive a run to its end.

        Raises:
            SerializationError: a function cannot get to a worker; nothing ran.
            ExecutorError: no worker can be started, or this executor is closed.
        """
        if self._closed:
            raise ExecutorError("this ProcessExecutor is closed: make another, or run inside its with statement")
        if run.graph.nodes:
            self._crew(self, run).work()

    def close(self) -> None:
        """End the workers. Calling it twice is fine."""
        self._closed = True
        self._bury_all(self._idle)

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ProcessExecutor(max_workers={self.max_workers})"

    # ---- what a run borrows --------------------------------------------------------------------------------------

    def number(self, func: Any = None, found: Any = None) -> int:
        """Return the number by which workers know a function, the same in every run; a new number for none.

        Args:
            func: the function.
            found: where workers find it.
        """
        with self._lock:
            if func is None:
                return next(self._counter)
            if self._found.setdefault(found, func) is not func:  # its module was reloaded here, and not there
                self._found[found] = func
                self.generation += 1
                self._bury_all(self._idle)
            if id(func) not in self._numbers:
                self._numbers[id(func)] = next(self._counter), func  # held, so that its id() stays its own
            return self._numbers[id(func)][0]

    def borrow(self) -> Child | None:
        """Return a warm worker, if there is one."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                child = self._idle.pop()
            if not child.has_ended():
                return child
            child.kill()
            child.mourn()

    def give_back(self, child: Child) -> None:
        """Keep a worker warm for the next run."""
        with self._lock:
            if not self._closed and len(self._idle) < self.max_workers and child.generation == self.generation:
                self._idle.append(child)
                return
        self._bury_all([child])


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1
