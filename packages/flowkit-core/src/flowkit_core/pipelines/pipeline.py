"""What a DAG and a Flow share: running and drawing."""

from __future__ import annotations

import os
from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import BindingError, ExecutorError, did_you_mean, plain, shown
from flowkit_core.events import RunFinished, RunStarted
from flowkit_core.executor import checked_workers, resolve_executor
from flowkit_core.failure import add_note
from flowkit_core.logs import log_observer, warn_empty
from flowkit_core.results import Results
from flowkit_core.retry import own_random
from flowkit_core.run import Run

from .options import PIPELINE_METHODS, RUN_ALIASES, check_known

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from flowkit_core._typing import Any, Never
    from flowkit_core.durable import Book, Refresh, Resume, StateErrors, Store
    from flowkit_core.events import Observer
    from flowkit_core.executor import Executor

    from .graph import Graph

_RUN_OPTIONS = (
    "executor",
    "max_workers",
    "params",
    "fail_fast",
    "raise_on_failure",
    "observers",
    "state",
    "resume",
    "refresh",
    "state_errors",
)

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

    _SHARED: Collection[str] = ("name", "max_workers")
    """The attributes that deep copies share, or that ``copy.copy()`` copies already."""

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
        **unknown: Never,
    ) -> Results:
        """Run all tasks, each as soon as what it needs is there, and return the results.

        Args:
            executor: where tasks run: ``"serial"``, ``"thread"``, ``"process"``, another installed name, or an executor
                object; None means threads where ``flowkit-exec`` is installed, else serial.
            max_workers: how many workers a named executor uses at most, at least 1; None means as many as the pipeline
                was made with.
            params: values for parameters that no upstream task fills: by parameter name for all tasks that take it, or
                by ``"task.parameter"`` for one task alone, which goes before the other.
            fail_fast: whether the first failure stops new starts (clean-up tasks excepted); False lets independent
                branches go on.
            raise_on_failure: whether a failure is raised at the end; False returns the results with ``.failed``.
                ``KeyboardInterrupt`` is always raised.
            observers: callables that are called with each event.
            state: where the run is recorded as it goes: a ``StateManager`` of ``flowkit-state``, or the path of one,
                such as ``"runs.db"``; None for no record, which costs nothing.
            resume: whether to go on with the last run of this pipeline in ``state``, if that did not finish: what
                succeeded or was skipped in it is not run again. A pipeline that has changed since is refused, except
                with ``"force"``, which takes over what still fits.
            refresh: the tasks whose cached results are computed again: True for all, or their names.
            state_errors: what becomes of the run when something cannot be recorded, a result that cannot be kept or a
                disk that is full: ``"raise"`` stops it like a failure and raises the error of the store; ``"warn"``
                goes on without.
            **unknown: refused, with a word on what to write instead.

        Returns:
            The :class:`~flowkit_core.Results`: task name -> value in topological order.

        Raises:
            DAGCycleError, DuplicateTaskError, WiringError, DiscoveryError, BindingError: the wiring is wrong; nothing
                ran.
            TypeError: an option does not exist or has a wrong type; nothing ran.
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
        if unknown:
            check_known("run()", unknown, _RUN_OPTIONS, RUN_ALIASES)
        _check_switch("fail_fast", fail_fast)
        _check_switch("raise_on_failure", raise_on_failure)
        if hasattr(executor, "keys"):
            raise TypeError(f"run() got {shown(executor)} as its executor: write run(params={{...}})")
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
        run: Run | None = None
        try:
            if state is not None or graph.cached or resume or refresh is not False or state_errors != "raise":
                from flowkit_core.durable import Book

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
            if run is not None:
                run.release()
            raise
        finally:
            if owned:
                driver.close()
        results = Results.of(run)
        raised = raise_on_failure or issubclass(type(error), KeyboardInterrupt) or run.unrecorded is not None
        run.release()
        try:
            if error is None or not raised:
                return results
            results.attach(error)
            raise error
        finally:
            # frames in the tracebacks of failed tasks refer to this one: it must not lead back to the errors
            del self, graph, params, observers, state, book, run, driver, executor, results, error

    def visualize(self, format: str = "text") -> str:
        """Return a picture of the graph.

        Args:
            format: ``"text"`` for a terminal, ``"mermaid"`` or ``"dot"`` for other tools.

        Raises:
            ValueError: there is no such format.
            DAGCycleError, DuplicateTaskError, WiringError, DiscoveryError, BindingError: the wiring is wrong.
        """
        from flowkit_core.draw import draw

        graph = self.graph()
        return draw(
            self.name,
            graph.names,
            [node.upstream for node in graph.nodes],
            format=format,
            notes=[_remark(node.task) for node in graph.nodes],
            dashed=[(index, node.index) for node in graph.nodes for index in node.waits],
        )

    def _repr_html_(self) -> str:
        """Show the picture in a notebook; a graph that is wrong shows what is wrong with it."""
        from flowkit_core.draw import html
        from flowkit_core.errors import FlowkitError

        try:
            return html(self.visualize())
        except FlowkitError as error:
            return html(f"{self!r}\n{error}")

    def __getattr__(self, attribute: str) -> Any:
        """Say what to write for what pipelines of other tools have."""
        name = self.__dict__.get("name")
        if name is None or attribute.startswith("__"):
            raise AttributeError(attribute)
        hint = PIPELINE_METHODS.get(attribute)
        hint = did_you_mean(attribute, [each for each in dir(type(self)) if each[0] != "_"]) if hint is None else hint
        kind = type(self).__name__
        raise AttributeError(f"{kind} {name!r} has no attribute {attribute!r}{hint}", name=attribute, obj=self)

    def __deepcopy__(self, memo: Any) -> Pipeline:
        """Return a copy with the same tasks: tasks are shared, as in ``copy.copy()``."""
        from copy import copy, deepcopy

        copied = memo[id(self)] = copy(self)
        for name, value in vars(copied).items():
            if name not in self._SHARED:  # of a subclass
                setattr(copied, name, deepcopy(value, memo))
        return copied

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {plain(self.name)}>"


def _check_switch(option: str, value: Any) -> None:
    if type(value) is not bool:
        raise TypeError(f"run({option}=...) is {shown(value)}, but must be True or False")


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
        Results.of(run).attach(error)
        raise
    finally:
        if run.wants(RunFinished):
            run.tell(RunFinished, counts=run.counts(), duration=perf_counter() - began)


def _remark(task: Any) -> str:
    remarks = []
    if task.retries:
        remarks.append(f"retries {task.retries}")
    if task.when is not None:
        remarks.append("when")
    if task.trigger != "none_failed":
        remarks.append(task.trigger)
    return ", ".join(remarks)
