"""Class `ProcessExecutor`: its options, and the workers that it keeps warm between runs."""

from __future__ import annotations

import sys
import threading
import weakref
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from flowkit_core import ExecutorError
from flowkit_core._checks import checked_workers
from flowkit_core.executors.executor import check_open
from flowkit_core.runs.session import Session
from flowkit_exec.processors import available_processors

from .workers.options import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike

    from flowkit_core import Node, Run, SerializationError

    from .lane import ProcessLane
    from .workers.handle import WorkerHandle


class ProcessExecutor:
    """Runs tasks in worker processes.

    An executor object keeps its workers warm from one run to the next, until it is closed; ``run(executor="process")``
    makes one for a single run. Functions of modules and of the main script are sent to workers by reference. Others
    (lambdas, closures, notebook cells) are sent by value if ``cloudpickle`` is installed
    (``flowkit-exec[cloudpickle]``), or else the workers are forks of this process, where that is safe: on Linux, while
    it has one thread. Conditions (``when``) are evaluated in this process.

    Args:
        max_workers: maximum number of processes, 1 or more; None means the number of processors available to this
            process.
        python: path of the Python interpreter that workers run, which must be of the same version; None means
            ``sys.executable``.
        env: environment variables of the workers, in addition to those of this process.
        initializer: function that is called in each worker before its first task. If it raises, the run ends with an
            ``ExecutorError``.
        initargs: arguments of the initializer.
        max_tasks_per_worker: number of tasks after which a worker is replaced; None means that it is not.
        idle_timeout: seconds after which a worker that is kept between runs ends; None means that it does not.
        transport: how workers are started and reached: ``"posix"`` uses pipes, signals and shared memory of POSIX
            systems (Linux, macOS); ``"portable"`` uses connections on the loopback interface and files, and works
            everywhere. None means the first of these that works on this system.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: the value of an option is not allowed, for example ``max_workers`` less than 1.
        ExecutorError: this system lacks what the transport needs.

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

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        python: str | PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        max_tasks_per_worker: int | None = None,
        idle_timeout: float | None = None,
        transport: Literal["posix", "portable"] | None = None,
    ) -> None:
        self.max_workers = checked_workers(max_workers) or available_processors()
        self.options = WorkerOptions(python, env, initializer, initargs, max_tasks_per_worker, idle_timeout, transport)
        # imported here, not in a run: a signal handler that runs during an import may use the executor
        from .lane import ProcessLane
        from .workers.handle import shut_down_all

        self._lane_class, self._shut_down_all = ProcessLane, shut_down_all
        self._idle: list[WorkerHandle] = []
        self._lock = threading.RLock()  # reentrant: a signal handler may use the executor while its thread does
        self._numbers: dict[int, tuple[int, Any]] = {}  # id of a function -> its number, and the function
        self._by_reference: dict[Any, Any] = {}
        self.generation = 0  # changes when a module is reloaded: workers started before have the old functions
        self._counter = count(1)
        self._closed = False
        self._finalizer = weakref.finalize(self, shut_down_all, self._idle)

    def execute(self, run: Run) -> None:
        """Drive a run to its end.

        Raises:
            SerializationError: a function cannot be sent to a worker; nothing ran.
            ExecutorError: no worker can be started, or this executor is closed.
        """
        if run.graph.nodes:
            Session(run, [self.lane()]).drive()
        else:
            check_open(self, is_closed=self._closed)

    def check_nodes(self, nodes: Sequence[Node]) -> list[SerializationError]:
        """Return an error for each node whose function cannot be sent to a worker, for ``Pipeline.check()``."""
        from .functions.function_table import transfer_errors

        return transfer_errors(nodes, can_fork=self.options.transport.can_fork)

    def lane(self) -> ProcessLane:
        """Return the lane of one run.

        Raises:
            ExecutorError: this executor is closed, or gevent or eventlet has patched this process.
        """
        check_open(self, is_closed=self._closed)
        _check_patches()
        return self._lane_class(self)

    def close(self) -> None:
        """Shut the idle workers down. May be called more than once."""
        self._closed = True
        self._shut_down_all(self._idle)

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"idle_workers={len(self._idle)}"
        return f"ProcessExecutor(max_workers={self.max_workers}, {state})"

    # ---- for lanes -----------------------------------------------------------------------------------------------

    def function_number(self, func: Any = None, reference: Any = None) -> int:
        """Return the number of a function in frames: the same in each run for the same function and reference.

        Args:
            func: the function; None returns a new number.
            reference: how workers find it.
        """
        with self._lock:
            if func is None:
                return next(self._counter)
            if self._by_reference.setdefault(reference, func) is not func:  # its module was reloaded
                self._by_reference[reference] = func
                self.generation += 1
                self._shut_down_all(self._idle)
            if id(func) not in self._numbers:
                self._numbers[id(func)] = next(self._counter), func  # with the function, so that its id stays unique
            return self._numbers[id(func)][0]

    def take_warm_worker(self) -> WorkerHandle | None:
        """Return an idle worker of an earlier run, or None."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                worker = self._idle.pop()
            if not worker.process.has_exited():
                return worker
            worker.kill_and_release()
            worker.log_idle_exit()

    def return_worker(self, worker: WorkerHandle) -> None:
        """Keep an idle worker for the next run."""
        with self._lock:
            if not self._closed and len(self._idle) < self.max_workers and worker.generation == self.generation:
                worker.end_run()
                self._idle.append(worker)
                return
        self._shut_down_all([worker])


def _check_patches() -> None:
    """Raise an error if gevent or eventlet has replaced functions that start processes and wait for them."""
    for library, module, function in (
        ("gevent", "gevent.monkey", "is_module_patched"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched"),
    ):
        is_patched = getattr(sys.modules.get(module), function, None)
        if is_patched is not None and any(map(is_patched, ("os", "select", "thread", "socket", "subprocess"))):
            raise ExecutorError(
                f"{library} has patched modules of the standard library in this process, and the process executor "
                f"cannot start workers with them: use executor='thread', or run the pipeline in a program of its own"
            )
