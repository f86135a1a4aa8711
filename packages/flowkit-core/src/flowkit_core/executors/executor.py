"""Protocol `Executor` and class `SerialExecutor`."""

from __future__ import annotations

from functools import cache

from flowkit_core._checks import checked_workers
from flowkit_core._typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flowkit_core.runs.run import Run
    from flowkit_core.runs.serial_lane import SerialLane
    from flowkit_core.runs.session import Session


class Executor(Protocol):
    """Runs the calls of a run. The run decides what is called and what an outcome means.

    A minimal executor keeps a queue of ready nodes, at first those of ``run.start()``. For each node:

    * ``run.call(node)`` returns the call, or an :class:`~flowkit_core.Outcome` if the node ends without one;
    * ``call.precheck()`` evaluates the condition and looks for a cached result, and ``run.mark_started(node)`` records
      that the call starts; each returns None, or an outcome that replaces the call;
    * ``call.invoke()`` calls the function, in the thread or process of a worker;
    * ``run.finish(node, result, seconds)`` takes the value or the outcome, and returns the nodes to add to the queue,
      or a :class:`~flowkit_core.Retry`, whose node is added again after its delay.

    An executor with a method ``lane()``, which returns a new ``Lane`` (see ``flowkit_core.runs.session``), can share a
    run with others, ``run(executor={...})``; ``Session(run, [self.lane()]).drive()`` is its ``execute()``.

    An executor with a method ``check_nodes(nodes)`` says for ``Pipeline.check()`` which nodes it cannot run: the method
    returns a list of errors, each with an attribute ``task``, the name of a node.

    While ``run.recorded`` is true, a worker should start its next call after the outcome of the last was passed to the
    run: then a crash affects at most one task per worker.

    Attributes:
        name: name of the executor, for logs.
    """

    name: str

    def execute(self, run: Run) -> None:
        """Run all nodes. Failures of tasks are outcomes, not exceptions of this method."""

    def close(self) -> None:
        """Release what the executor keeps between runs. May be called more than once."""


class SerialExecutor:
    """Runs every task in the calling thread, one after the other, in topological order, or by priority.

    Args:
        max_workers: has no effect; accepted because all executors take it.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def one(): return 1
        >>> DAG("numbers", tasks=[one]).run(executor=SerialExecutor())
        {'one': 1}
    """

    name = "serial"

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None:
            checked_workers(max_workers)
        self._closed = False

    def execute(self, run: Run) -> None:
        """Run all nodes."""
        _session()(run, [self.lane()]).drive()

    def lane(self) -> SerialLane:
        """Return the lane of one run.

        Raises:
            ExecutorError: this executor is closed.
        """
        check_open(self, is_closed=self._closed)
        return _serial_lane()()

    def close(self) -> None:
        """Refuse further runs. May be called more than once."""
        self._closed = True

    def __enter__(self) -> SerialExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "SerialExecutor()"


@cache
def _session() -> type[Session]:
    """Return the class `Session`, which is imported when it is needed; an import in each run would cost more."""
    from flowkit_core.runs.session import Session

    return Session


@cache
def _serial_lane() -> type[SerialLane]:
    """Return the class `SerialLane`, imported when it is needed."""
    from flowkit_core.runs.serial_lane import SerialLane

    return SerialLane


def check_open(executor: Executor, *, is_closed: bool) -> None:
    """Raise an error if an executor is closed.

    Raises:
        ExecutorError: it is closed.
    """
    if is_closed:
        from flowkit_core.errors import ExecutorError

        raise ExecutorError(
            f"this {type(executor).__name__} is closed: create another, or run inside its with statement"
        )
