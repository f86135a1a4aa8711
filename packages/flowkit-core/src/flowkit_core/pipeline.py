"""What a DAG and a Flow share: running and drawing."""

from __future__ import annotations

import os
from time import perf_counter

from ._typing import TYPE_CHECKING
from .discovery import settle
from .errors import BindingError, ExecutorError, plain, shown
from .events import RunFinished, RunStarted
from .executor import checked_workers, resolve_executor
from .failure import add_note
from .logs import log_observer, warn_empty
from .results import Results
from .retry import own_random
from .run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ._typing import Any
    from .durable import Book, Refresh, Resume, StateErrors, Store
    from .events import Observer
    from .executor import Executor
    from .graph import Graph

forbidden: Callable[[], BaseException | None] | None = None
"""Set in a worker process that has to import what the user wrote: returns what ``run()`` is to raise, if anything."""


class Pipeline:
    """The base of every builder: something that makes a :class:`~flowkit_core.Graph`, and can run and draw it.

    A builder of your own needs a ``graph()`` method, and gets the rest.

    Args:
        name: name of the pipeline, in logs, errors and pictures.
        max_workers: how many workers an executor named in ``run()`` uses at most, at least 1; None leaves that to it.

    Raises:
        TypeError: ``name`` is no text, or ``max_workers`` no integer.
        ValueError: ``max_workers`` is less than 1.
    """

    def __init__(self, name: str, max_workers: int | None = None) -> None:
        given: Any = name
        if not isinstance(given, str):
            hint = ": if these are its tasks, name them by keyword, tasks=[...]" if isinstance(given, list) else ""
            raise TypeError(f"the name of a {type(self).__name__} is {shown(given)}, but must be a text{hint}")
        self.name = name
        self.max_workers = checked_workers(max_workers, f"max_workers of {name!r}")
        settle()

    def graph(self) -> Graph:
        """Return the graph as it stands now: checked, bound, immutable."""
        raise NotImplementedError(f"{type(self).__name__} has to say what its graph() is")

    def run(
        self,
        executor: str | Executor | None = None,
        *,
        max_workers: int | None = None,
        params: Mapping[str, Any] | None = None,
        fail_fast: bool = True,
        raise_on_failure: bool = True,
        observers: Iterable[Observer] = (),
        state: str | os.PathLike[str] | Store | None = None,
        resume: Resume = False,
        refresh: Refresh = False,
        state_errors: StateErrors = "raise",
    ) -> Results:
        """Run all tasks, each as soon as what it needs is there, and return the results.

        Args:
            executor: where tasks run: ``"serial"``, ``"thread"``, ``"process"``, another installed name, or an executor
                object; None means threads where ``flowkit-exec`` is installed, else serial.
            max_workers: how many workers a named executor uses at most, at least 1; None means as many as the pipeline
                was made with.
            params: values for parameters that no upstream task fills, by parameter name.
            fail_fast: whether the first failure stops new starts (clean-up tasks excepted); False lets independent
                branches go on.
            raise_on_failure: whether a failure is raised at the end; False returns the results with ``.failed``.
                ``KeyboardInterrupt`` is always raised.
            observers: callables that are told what happens, event by event.
            state: where the run is recorded as it goes: a ``StateManager`` of ``flowkit-state``, or the path of one,
                such as ``"runs.db"``; None for no record, which costs nothing.
            resume: whether to go on with the last run of this pipeline in ``state``, if that did not finish: what
                succeeded or was skipped in it is not run again. A pipeline that has changed since is refused, except
                with ``"force"``, which takes over what still fits.
            refresh: whose cached results are computed anew: True for all, or names of tasks.
            state_errors: what becomes of the run when something cannot be recorded, a result that cannot be kept or a
                disk that is full: ``"raise"`` stops it like a failure and raises the error of the store; ``"warn"``
                goes on without.

        Returns:
            The :class:`~flowkit_core.Results`: task name -> value in topological order.

        Raises:
            DAGCycleError, DuplicateTaskError, BindingError: the wiring is wrong; nothing ran.
            UnknownExecutorError: there is no such executor; nothing ran.
            Exception: whatever a task raised, the very object, with a note on circumstances; ``error.flowkit_results``
                has what succeeded.
            ExceptionGroup: all failures, with ``fail_fast=False``.
            ValueError: ``resume``, ``refresh`` or ``state_errors`` cannot be meant; nothing ran.
            StateError: of ``flowkit-state``: the file cannot be used, another process has the run, the pipeline has
                changed; nothing ran. Or something could not be recorded; ``error.flowkit_results`` has what there is.

        Examples:
            >>> from flowkit_core import DAG, task
            >>> @task
            ... def hello(name): return f"Hello, {name}!"
            >>> DAG("greet", tasks=[hello]).run("serial", params={"name": "Ada"})
            {'hello': 'Hello, Ada!'}
        """
        if forbidden is not None and (refusal := forbidden()) is not None:
            raise refusal
        graph = self.graph()
        if params is not None and not hasattr(params, "keys"):
            raise BindingError(f"run(params=...) is {shown(params)}, but must map parameter names to values")
        graph.check_params(params or {})
        if callable(observers) and not hasattr(observers, "__iter__"):
            raise TypeError(f"observers is {shown(observers)}, but must be a list: write observers=[...] also for one")
        workers = checked_workers(max_workers, "run(max_workers=...)") or self.max_workers
        driver, owned = resolve_executor(executor, workers)
        run_id = os.urandom(8).hex()
        book: Book | None = None
        try:
            if state is not None or graph.cached or resume or refresh is not False or state_errors != "raise":
                from .durable import Book

                book = Book(
                    graph,
                    state,
                    run_id=run_id,
                    params=params or {},
                    resume=resume,
                    refresh=refresh,
                    state_errors=state_errors,
                )
                run_id = book.run_id
            run = Run(
                graph,
                params=params,
                fail_fast=fail_fast,
                observers=[*observers, *log_observer()],
                run_id=run_id,
                random=_random,
                book=book,
            )
            if not graph.nodes:
                warn_empty(run)
            error = _drive(run, driver)
        except BaseException as trouble:
            if book is not None:
                book.close("interrupted", (), trouble)  # unless the run has done so
            raise
        finally:
            if owned:
                driver.close()
        results = Results.of(run)
        if error is None or not (raise_on_failure or issubclass(type(error), KeyboardInterrupt) or run.unrecorded):
            return results
        _attach(error, results)
        try:
            raise error
        finally:
            del error, run  # the traceback holds this frame, and the frame would hold the error: a cycle

    def visualize(self, format: str = "text") -> str:
        """Return a picture of the graph.

        Args:
            format: ``"text"`` for a terminal, ``"mermaid"`` or ``"dot"`` for other tools.

        Raises:
            ValueError: there is no such format.
            DAGCycleError, DuplicateTaskError, BindingError: the wiring is wrong.
        """
        from .draw import draw

        graph = self.graph()
        return draw(
            self.name,
            graph.names,
            [node.upstream for node in graph.nodes],
            format=format,
            notes=[_remark(node.task) for node in graph.nodes],
        )

    def _repr_html_(self) -> str:
        """Show the picture in a notebook; a graph that is wrong shows what is wrong with it."""
        from .draw import html
        from .errors import FlowkitError

        try:
            return html(self.visualize())
        except FlowkitError as error:
            return html(f"{self!r}\n{error}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {plain(self.name)}>"


def _random() -> float:
    return own_random()()


def _drive(run: Run, executor: Executor) -> BaseException | None:
    """Have an executor drive a run to its end, and return what the run should raise."""
    name = getattr(executor, "name", type(executor).__name__)
    began = perf_counter()
    try:
        if run.wants(RunStarted):
            run.tell(RunStarted, tasks=len(run.graph), executor=name, done=run.done_before)
            began = perf_counter()
        executor.execute(run)
        if not run.done:
            raise ExecutorError(
                f"executor {name!r} returned before {run.graph.name!r} was done: this is a defect of the executor"
            )
        return run.close(run.error())
    except BaseException as error:
        run.abandon()
        if not isinstance(error, Exception):
            add_note(error, run.interruption())
        run.close(error)
        _attach(error, Results.of(run))
        raise
    finally:
        if run.wants(RunFinished):
            run.tell(RunFinished, counts=run.counts(), duration=perf_counter() - began)


def _attach(error: BaseException, results: Results) -> None:
    try:
        error.flowkit_results = results  # type: ignore[attr-defined]
    except Exception:  # noqa: S110 - an exception that takes no attributes is raised all the same
        pass


def _remark(task: Any) -> str:
    remarks = []
    if task.retries:
        remarks.append(f"retries {task.retries}")
    if task.when is not None:
        remarks.append("when")
    if task.trigger != "none_failed":
        remarks.append(task.trigger)
    return ", ".join(remarks)
