"""Function `run_graph_async`: runs a graph for a coroutine, whose event loop is not blocked."""

from __future__ import annotations

from asyncio import CancelledError, get_running_loop, wait
from contextlib import suppress
from contextvars import copy_context
from threading import Thread

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.event_loop.caller import AsyncCaller

from .running import run_graph

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Mapping

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.results import Results

    from .running import RunOptions


async def run_graph_async(
    graph: Graph, hooks: Mapping[str, Any], options: RunOptions
) -> tuple[Results | None, BaseException | None]:
    """Do what `run_graph` does, in another thread; async tasks run in the event loop of this coroutine.

    If this coroutine is cancelled, the run is stopped, and then the CancelledError is returned, with the results. If it
    is cancelled again, the run is ended at once.
    """
    loop = get_running_loop()
    caller = AsyncCaller(loop)
    background = _Background(loop)
    Thread(
        target=copy_context().run,
        args=(background.work, graph, hooks, options, caller),
        name="flowkit-arun",
        daemon=True,
    ).start()
    while not background.ended.done():
        try:
            await wait((background.ended,))
        except CancelledError as error:
            background.cancellation = error
            caller.cancel()
            if caller.cancellations > 1:
                break
    return background.outcome(graph.name)


class _Background:
    """A run in another thread.

    Args:
        loop: the event loop of the coroutine that waits for it.

    Attributes:
        ended: a future that is done when the run has ended.
        cancellation: the last exception by which the coroutine was cancelled; None if it was not.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._results: Results | None = None
        self._error: BaseException | None = None
        self.ended = loop.create_future()
        self.cancellation: CancelledError | None = None

    def work(self, *args: Any) -> None:
        """Run the graph: the body of the thread."""
        try:
            self._results, self._error = run_graph(*args)
        except BaseException as error:
            self._error = error
        with suppress(RuntimeError):  # the loop is closed, because nothing waits for the run any more
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def outcome(self, pipeline: str) -> tuple[Results | None, BaseException | None]:
        """Return the results and the exception to raise, and keep neither."""
        results, error, self._results, self._error = self._results, self._error, None, None
        cancellation, self.cancellation = self.cancellation, None
        if cancellation is not None:
            error = cancellation
        elif isinstance(error, CancelledError):  # of a task; arun() must not look cancelled
            cause = error
            error = RuntimeError(f"a task of {pipeline!r} raised CancelledError, although arun() was not cancelled")
            error.__cause__ = cause
        else:
            return results, error
        if results is not None:
            results._attach(error)
        return results, error
