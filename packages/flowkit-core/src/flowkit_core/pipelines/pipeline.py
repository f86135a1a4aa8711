"""Class `Pipeline`: the base class of `DAG` and `Flow`, which runs and draws a graph."""

from __future__ import annotations

from functools import cache
from sys import _getframe, modules
from time import perf_counter
from weakref import WeakValueDictionary

from flowkit_core._checks import check_seconds, checked_workers
from flowkit_core._stack_frames import module_name
from flowkit_core._text import did_you_mean, escape_control_chars, short_repr
from flowkit_core._typing import TYPE_CHECKING

from .frames import creating_frame
from .options import CHECK_ALIASES, PIPELINE_METHODS, RESUME_MAX_AGE, VISUALIZE_ALIASES, check_known
from .pipeline_task import UsableAsTask
from .wiring import Vertex

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from types import ModuleType
    from typing import NoReturn

    from flowkit_core._typing import Any, Never
    from flowkit_core.checking import OpenParameter, Problem
    from flowkit_core.events import Observer, RunFinished, TaskNotRun, TaskRetrying
    from flowkit_core.executors.executor import Executor
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.persistence import Refresh, Rerun, Resume, StateErrors, Store
    from flowkit_core.pipelines.execution.hooks import Hook
    from flowkit_core.recorded.run_plan import RunPlan
    from flowkit_core.results import Results
    from flowkit_core.runs.limits.definitions import Pools


_LISTED = 3  # maximum number of task names in an example

_pipelines: WeakValueDictionary[str, Pipeline] = WeakValueDictionary()  # the last one of each name

forbidden: Callable[[], BaseException | None] | None = None
"""Returns the exception that ``run()`` raises, or None; see `forbidden_runs`."""


class Pipeline(UsableAsTask):
    """Base class of ``DAG`` and ``Flow``: runs and draws the :class:`~flowkit_core.Graph` that ``graph()`` returns.

    A subclass has to define ``graph()``.

    Args:
        name: name of the pipeline, in logs, errors and pictures.
        max_workers: maximum number of workers of an executor that ``run()`` names, 1 or more; None means its default.
        *misplaced: raises TypeError; the message shows how to give tasks.
        pools: name of a pool -> number of slots, or a :class:`Rate`, for tasks with ``pool=...``; ``run(pools=...)``
            overrides these by name.
        on_success: function, or list of functions, that is called with :class:`RunFinished` after a run without
            failures, in the process that called ``run()``; what a hook raises is a warning.
        on_failure: the same after a run that raises an exception, which is ``event.error``.
        on_retry: the same with :class:`TaskRetrying`, for every attempt of a task that will be repeated.
        on_skip: the same with :class:`TaskNotRun`, for every skipped task.

    Raises:
        TypeError: ``name`` is not a str, or ``max_workers`` is not an int.
        ValueError: ``max_workers`` is less than 1.
    """

    def __init__(
        self,
        name: str,
        max_workers: int | None = None,
        *misplaced: Never,
        pools: Pools | None = None,
        on_success: Hook[RunFinished] = None,
        on_failure: Hook[RunFinished] = None,
        on_retry: Hook[TaskRetrying] = None,
        on_skip: Hook[TaskNotRun] = None,
    ) -> None:
        given: tuple[Any, ...] = (name, max_workers, *misplaced)
        if len(given) > 2 or not isinstance(given[0], str) or isinstance(given[1], (Vertex, list, tuple)):
            self._refuse(given)
        self.name = name
        _pipelines[name] = self
        self.max_workers = checked_workers(max_workers, f"max_workers of {name!r}")
        self.pools: Pools = {}
        if pools is not None:
            from flowkit_core.runs.limits.definitions import checked_pools

            self.pools = checked_pools(f"{type(self).__name__}({name!r})", pools)
        given_hooks = {"on_success": on_success, "on_failure": on_failure, "on_retry": on_retry, "on_skip": on_skip}
        self.hooks = {option: hook for option, hook in given_hooks.items() if hook is not None}
        if self.hooks:
            from .execution.hooks import check_pipeline_hooks

            check_pipeline_hooks(name, self.hooks)
        frame = creating_frame(_getframe(1), self)
        self.created_in = ("?", "?") if frame is None else (module_name(frame), frame.f_code.co_qualname)

    _SHARED: Collection[str] = ("name", "max_workers", "pools", "hooks", "created_in")
    """Attributes that ``copy.deepcopy()`` shares, or that ``copy.copy()`` has copied already."""

    def _refuse(self, given: Sequence[Any]) -> NoReturn:
        """Raise the error for positional arguments that are not a name and a number of workers."""
        kind = type(self).__name__
        name = next((item for item in given if isinstance(item, str)), "name")
        tasks = [
            escape_control_chars(str(getattr(item, "name", None) or getattr(item, "__name__", "...")))
            for value in given
            for item in (value if isinstance(value, (list, tuple)) else [value])
            if isinstance(item, Vertex) or (callable(item) and not isinstance(item, type))
        ]
        listed = [*tasks[:_LISTED], "..."] if len(tasks) > _LISTED else tasks
        if not isinstance(given[0], str):
            wrong = f"the name of a {kind} is {short_repr(given[0])}, but must be a string"
        else:
            values = ", ".join(map(short_repr, given))
            wrong = f"{kind}({name!r}) takes a name and max_workers by position, and got {values}"
        write = "to give it tasks, write" if tasks else "write"
        raise TypeError(f"{wrong}: {write} {self._example(name, listed or ['...'])}")

    @staticmethod
    def _example(name: str, tasks: Sequence[str]) -> str:
        """Return source text that creates a pipeline with some tasks."""
        return f"DAG({name!r}, tasks=[{', '.join(tasks)}])"

    def graph(self) -> Graph:
        """Return the current graph: checked, bound, immutable.

        Raises:
            NotImplementedError: a subclass does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define graph(), which returns a Graph")

    def _new_graph(self) -> Graph:
        """Return a graph for ``check()``: built without using, or changing, what ``graph()`` keeps."""
        return self.graph()

    def check(
        self,
        executor: str | Executor | Mapping[str, str | Executor | None] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        pools: Pools | None = None,
        **unknown: Never,
    ) -> list[Problem]:
        """Return all problems of this pipeline that can be found without running it; an empty list if there are none.

        Found are: tasks that cannot be discovered, duplicate names, contradictory edges, cycles, parameters without a
        source, conditions that cannot be bound, annotations that contradict each other along an edge, functions that
        the executor cannot send to its workers, executors that do not exist, tasks that can never run, and options
        that do nothing; also whatever ``run()`` would warn of before a task runs. No task runs, no worker starts, and
        no warning is issued.

        Args:
            executor: as for ``run()``: an executor, the name of one, or a mapping of names to these. Only with this
                executor can it be known which functions can be sent to workers.
            params: as for ``run()``. Without it, an open parameter is not a problem; with it, one that has no default
                and is not in ``params`` is a problem, and so is a name that no task takes.
            pools: as for ``run()``.
            **unknown: raises TypeError; the message names the option to use instead.

        Returns:
            The problems, a list of :class:`~flowkit_core.checking.Problem`.

        Raises:
            UnknownExecutorError, TypeError, ValueError: an argument is not as for ``run()``.

        Examples:
            >>> from flowkit_core import DAG, task
            >>> @task(trigger="one_failed")
            ... def alert(): print("failed")
            >>> for problem in DAG("nightly", tasks=[alert]).check():
            ...     print(problem.kind, problem.task)
            trigger alert
        """
        from flowkit_core.checking import check_pipeline

        if unknown:
            check_known("check()", unknown, ("executor", "params", "pools"), CHECK_ALIASES)
        return check_pipeline(self._new_graph, executor, params, self.pools, pools)

    @property
    def parameters(self) -> Mapping[str, OpenParameter]:
        """The parameters that no upstream fills, by name: what ``run(params=...)`` may give, and must give if required.

        Raises:
            DAGCycleError, DuplicateTaskError, WiringError, DiscoveryError, BindingError: the graph cannot be built.

        Examples:
            >>> from flowkit_core import DAG, task
            >>> @task
            ... def report(day: str, limit: int = 10): return f"{limit} lines of {day}"
            >>> for parameter in DAG("report", tasks=[report]).parameters.values():
            ...     print(parameter)
            day: str, required by report
            limit: int = 10, taken by report
        """
        from flowkit_core.checking import open_parameters

        return open_parameters(self.graph())

    def run(
        self,
        executor: str | Executor | Mapping[str, str | Executor | None] | None = None,
        *,
        max_workers: int | None = None,
        max_async: int | None = None,
        params: Mapping[str, Any] | None = None,
        keep: Iterable[str] | None = None,
        fail_fast: bool = True,
        raise_on_failure: bool = True,
        grace: float | None = None,
        timeout: float | None = None,
        pools: Pools | None = None,
        observers: Iterable[Observer] = (),
        report: str | os.PathLike[str] | None = None,
        progress: bool = False,
        state: str | os.PathLike[str] | Store | None = None,
        resume: Resume = False,
        resume_max_age: float | None = RESUME_MAX_AGE,
        refresh: Refresh = False,
        rerun: Rerun | None = None,
        of: str | None = None,
        state_errors: StateErrors = None,
        **unknown: Never,
    ) -> Results:
        """Run all tasks, each as soon as its upstream tasks have ended, and return the results.

        Args:
            executor: where tasks run: ``"serial"``, ``"thread"``, ``"process"``, another installed name, or an executor
                object; None means threads where ``flowkit-exec`` is installed, else serial. A mapping of names to
                these gives tasks with ``@task(executor=name)`` executors of their own: ``{"default": "thread", "cpu":
                ProcessExecutor(2)}``. ``"serial"`` runs every task in the calling thread.
            max_workers: maximum number of workers of each executor given by name, 1 or more; None means the value of
                the pipeline.
            max_async: maximum number of ``async def`` tasks that run in the event loop at a time, 1 or more; None means
                no limit.
            grace: seconds that running tasks have to end after a failure has stopped the run, 0 or more; then worker
                processes are ended, coroutines are cancelled and threads are abandoned. None means no limit.
            timeout: seconds that the run may take, more than 0. After that, no more tasks start except clean-up tasks,
                running tasks have ``grace`` seconds to end, or 2 seconds if it is None, and ``RunTimeoutError`` is
                raised. Tasks then do not run in the calling thread. None means no limit.
            pools: name of a pool -> how many slots it has, or a :class:`Rate`, for tasks that name it with
                ``@task(pool=...)``; these override the pools of the pipeline by name.
            params: values for parameters that no upstream task fills: by parameter name for all tasks that take it, or
                by ``"task.parameter"`` for one task alone, which takes precedence. Here and in ``keep``, ``refresh``
                and ``rerun``, the name of a pipeline that is used as a task counts as well: see :meth:`as_task`.
            keep: names of the tasks whose results are returned, or a single name. Each other result is dropped as soon
                as the last task that takes it has ended, so that a long pipeline of large values needs the memory of a
                few. None means all results.
            fail_fast: whether the first failure stops new starts (clean-up tasks excepted); False lets independent
                branches go on.
            raise_on_failure: whether a failure is raised at the end; False returns the results with ``.failed`` and
                ``.unrecorded``. ``KeyboardInterrupt`` is always raised, and so is an error of the store at the end.
            observers: callables; each is called with every event of the run.
            report: path of an HTML file that shows the run; it is written during the run and when the run has ended.
                It requires ``flowkit-view``.
            progress: whether the progress of the run is shown on standard error; it requires ``flowkit-view``.
            state: where the run is recorded: a ``StateManager`` of ``flowkit-state``, or the path of its file, such as
                ``"runs.db"``; None means that the run is not recorded.
            resume: True continues the last run of this pipeline with the same ``params`` in ``state`` if that run did
                not finish: tasks that succeeded or were skipped in it do not run again, unless they, or tasks upstream
                of them, have changed since. ``"strict"`` raises ``ResumeError`` if the pipeline has changed;
                ``"force"`` uses every recorded result whatever has changed.
            resume_max_age: seconds after which the recorded result of a task that reads the clock, for example with
                ``date.today()``, is out of date; 12 hours unless given. None means no limit.
            refresh: tasks that run even if they have a cached result: True for all, or names.
            rerun: names of tasks; starts a new run from the recorded run ``of``, which stays as it is. These tasks run
                again, with everything downstream, the tasks that take a parameter that ``params`` changes, and what
                ``of`` has no up-to-date result of. The other results are taken over, and so are parameters that
                ``params`` does not have.
            of: id of the recorded run; None means the last run of this pipeline.
            state_errors: what happens if the run cannot be recorded. None: a result that cannot be stored is a warning,
                and the task runs again on resume; an error of the store, such as a full disk, stops the run like a
                failure and is raised. ``"raise"`` does that for both, and checks the return annotations of all tasks
                before any runs. ``"warn"`` continues without a record.
            **unknown: raises TypeError; the message names the option to use instead.

        Returns:
            The :class:`~flowkit_core.Results`: task name -> value in topological order.

        Raises:
            DAGCycleError, DuplicateTaskError, WiringError, DiscoveryError, BindingError: the wiring is wrong; nothing
                ran.
            TypeError: an option does not exist or has a wrong type; nothing ran.
            UnknownExecutorError: there is no such executor; nothing ran.
            UnknownPoolError, PoolSizeError: a task names a pool that is not defined, or too small; nothing ran.
            Exception: the exception that a task raised, the same object, with notes; ``error.flowkit_results`` has the
                results of the tasks that succeeded.
            ExceptionGroup: all failures, with ``fail_fast=False``.
            RunTimeoutError: the run took longer than ``timeout``; ``error.flowkit_results`` has the results.
            ValueError: ``keep``, ``resume``, ``refresh``, ``rerun`` or ``state_errors`` has an invalid value; nothing
                ran.
            StateError: of ``flowkit-state``: the file cannot be used, another process has the run, the pipeline has
                changed (with ``resume="strict"``); nothing ran. Or the run could not be recorded;
                ``error.flowkit_results`` has the results.

        Examples:
            >>> from flowkit_core import DAG, task
            >>> @task
            ... def hello(name): return f"Hello, {name}!"
            >>> DAG("greet", tasks=[hello]).run("serial", params={"name": "Ada"})
            {'hello': 'Hello, Ada!'}
        """
        if forbidden is not None and (refusal := forbidden()) is not None:
            raise refusal
        began = perf_counter()
        options = _running().RunOptions(
            self,
            executor,
            max_workers,
            max_async,
            params,
            keep,
            fail_fast,
            raise_on_failure,
            grace,
            timeout,
            pools,
            observers,
            report,
            progress,
            state,
            resume,
            resume_max_age,
            refresh,
            rerun,
            of,
            state_errors,
            unknown,
        )
        results: Results
        error: BaseException | None
        results, error = _running().run_graph(self.graph(), self.hooks, options)
        asyncio = modules.get("asyncio")
        if asyncio is not None and (loop := asyncio._get_running_loop()) is not None:
            from flowkit_core.runs.event_loop.watchdog import warn_of_run_in_loop

            warn_of_run_in_loop(loop, perf_counter() - began)
        try:
            if error is None:
                return results
            raise error
        finally:
            # tracebacks of failed tasks refer to this frame; its locals would form a reference cycle with the errors
            del self, params, observers, state, executor, options, results, error

    async def arun(
        self,
        executor: str | Executor | Mapping[str, str | Executor | None] | None = None,
        *,
        max_workers: int | None = None,
        max_async: int | None = None,
        params: Mapping[str, Any] | None = None,
        keep: Iterable[str] | None = None,
        fail_fast: bool = True,
        raise_on_failure: bool = True,
        grace: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the run, not of the wait for it
        pools: Pools | None = None,
        observers: Iterable[Observer] = (),
        report: str | os.PathLike[str] | None = None,
        progress: bool = False,
        state: str | os.PathLike[str] | Store | None = None,
        resume: Resume = False,
        resume_max_age: float | None = RESUME_MAX_AGE,
        refresh: Refresh = False,
        rerun: Rerun | None = None,
        of: str | None = None,
        state_errors: StateErrors = None,
        **unknown: Never,
    ) -> Results:
        """Do what :meth:`run` does, in a coroutine, without blocking its event loop.

        ``async def`` tasks run in the event loop of the caller, other tasks in threads or processes of the executor.
        Everything else, such as the record, conditions and observers, runs in another thread. If ``await arun()`` is
        cancelled, the run stops: coroutines are cancelled, other running tasks have ``grace`` seconds to end, or 2
        seconds if it is None, and clean-up tasks run; then CancelledError is raised. A second cancellation ends the run
        at once.

        The arguments are those of :meth:`run`.

        Returns:
            The :class:`~flowkit_core.Results`.

        Raises:
            Exception: what :meth:`run` raises.
            CancelledError: the caller was cancelled; ``error.flowkit_results`` has the results.
            RuntimeError: a task raised CancelledError by itself.
            ExecutorError: the executor has no ``lane()``.

        Examples:
            >>> import asyncio
            >>> from flowkit_core import DAG, task
            >>> @task
            ... async def hello(name): return f"Hello, {name}!"
            >>> asyncio.run(DAG("greet", tasks=[hello]).arun(params={"name": "Ada"}))
            {'hello': 'Hello, Ada!'}
        """
        from .execution.async_running import run_graph_async

        if forbidden is not None and (refusal := forbidden()) is not None:
            raise refusal
        options = _running().RunOptions(
            self,
            executor,
            max_workers,
            max_async,
            params,
            keep,
            fail_fast,
            raise_on_failure,
            grace,
            timeout,
            pools,
            observers,
            report,
            progress,
            state,
            resume,
            resume_max_age,
            refresh,
            rerun,
            of,
            state_errors,
            unknown,
        )
        results, error = await run_graph_async(self.graph(), self.hooks, options)
        try:
            if error is not None:
                raise error
            return results  # type: ignore[return-value]
        finally:
            del self, params, observers, state, executor, options, results, error  # reference cycles, as in run()

    def plan(
        self,
        *,
        state: str | os.PathLike[str] | Store | None = None,
        params: Mapping[str, Any] | None = None,
        resume_max_age: float | None = RESUME_MAX_AGE,
        refresh: Refresh = False,
        **unknown: Never,
    ) -> RunPlan:
        """Return what ``run(state=..., resume=True)`` would do: which tasks it would call, and why. Nothing runs.

        Args:
            state: where runs are recorded, as for :meth:`run`; None means that only caches in memory count.
            params: values for parameters that no upstream task fills, as for :meth:`run`.
            resume_max_age: seconds after which the recorded result of a task that reads the clock is out of date.
            refresh: tasks that run even if they have a cached result.
            **unknown: raises TypeError; the message names the option to use instead.

        Returns:
            The ``RunPlan``; printed, it is a table.

        Raises:
            DAGCycleError, DuplicateTaskError, WiringError, DiscoveryError, BindingError: the wiring is wrong.
            ValueError, TypeError: an option has an invalid value.
            StateError: of ``flowkit-state``: the file cannot be read.

        Examples:
            >>> from flowkit_core import DAG, Task
            >>> extract, load = Task(list, name="extract"), Task(len, name="load")
            >>> _ = extract >> load
            >>> DAG("etl", tasks=[load]).plan()
            'etl' starts a new run:
              run        extract  there is no recorded result
              run        load     it depends on 'extract'
        """
        from flowkit_core.recorded.run_plan import plan_run

        if unknown:
            check_known("plan()", unknown, ("state", "params", "resume_max_age", "refresh"), CHECK_ALIASES)
        check_seconds("resume_max_age", resume_max_age)
        graph = self.graph()
        graph.check_params(params)
        return plan_run(graph, state, params or {}, resume_max_age, refresh)

    def _replay(self, record: Any, task: str) -> Any:
        """Call a task with its recorded inputs: see `StateManager.replay`."""
        from flowkit_core.recorded.replay import replay

        return replay(self.graph(), record, task)

    def visualize(self, format: str = "text", **unknown: Never) -> str:
        """Return a picture of the graph.

        Args:
            format: ``"text"`` for a terminal, ``"svg"`` for web pages and files, ``"mermaid"`` or ``"dot"`` for other
                tools. In text and SVG, groups stand for tasks of similar names if there are more than 40.
            **unknown: raises TypeError; the message names the option to use instead.

        Returns:
            The picture, a str of one or more lines. Order-only edges are dashed.

        Raises:
            ValueError: there is no such format.
            DAGCycleError, DuplicateTaskError, WiringError, DiscoveryError, BindingError: the graph cannot be
                built.

        Examples:
            >>> from flowkit_core import DAG, Task
            >>> extract, load = Task(list, name="extract"), Task(len, name="load")
            >>> _ = extract >> load
            >>> print(DAG("etl", tasks=[load]).visualize("mermaid"))
            flowchart TD
                n0["extract"]
                n1["load"]
                n0 --> n1
        """
        from flowkit_core.drawing import draw

        if unknown:
            check_known("visualize()", unknown, ("format",), VISUALIZE_ALIASES)
        graph = self.graph()
        return draw(
            self.name,
            graph.names,
            [node.upstream for node in graph.nodes],
            format=format,
            notes=[_remark(node.task, node.mapped is not None) for node in graph.nodes],
            dashed=[(index, node.index) for node in graph.nodes for index in node.waits],
        )

    def _repr_svg_(self) -> str | None:
        """Return the picture for a notebook; None if the graph is wrong."""
        from flowkit_core.errors import FlowkitError

        try:
            return self.visualize("svg")
        except FlowkitError:
            return None

    def _repr_html_(self) -> str:
        """Return the picture for a notebook; a graph that is wrong shows what is wrong with it."""
        from flowkit_core.drawing import scrollable, text_as_html
        from flowkit_core.errors import FlowkitError

        try:
            return scrollable(self.visualize("svg"))
        except FlowkitError as error:
            return text_as_html(f"{self!r}\n{error}")

    def __getattr__(self, attribute: str) -> Any:
        """Raise an AttributeError with a hint for methods of other tools."""
        name = self.__dict__.get("name")
        if name is None or attribute.startswith("__"):
            raise AttributeError(attribute)
        hint = PIPELINE_METHODS.get(attribute)
        hint = did_you_mean(attribute, [each for each in dir(type(self)) if each[0] != "_"]) if hint is None else hint
        kind = type(self).__name__
        # without obj=, because Python would append a suggestion of a private name
        raise AttributeError(f"{kind} {name!r} has no attribute {attribute!r}{hint}", name=attribute)

    def __deepcopy__(self, memo: Any) -> Pipeline:
        """Return a copy with the same tasks: tasks are shared, as in ``copy.copy()``."""
        from copy import copy, deepcopy

        copied = memo[id(self)] = copy(self)
        for name, value in vars(copied).items():
            if name not in self._SHARED:  # of a subclass
                setattr(copied, name, deepcopy(value, memo))
        return copied

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {escape_control_chars(self.name)}>"


@cache
def _running() -> ModuleType:
    """Return the module that runs graphs, imported at the first run; an import in each run would cost more."""
    from .execution import running

    return running


def find_pipeline(name: str) -> Pipeline | None:
    """Return the pipeline of this name that was created last and still exists; None if there is none."""
    return _pipelines.get(name)


def _remark(task: Any, is_mapped: bool) -> str:
    remarks = ["mapped"] if is_mapped else []
    if task.retries:
        remarks.append(f"retries {task.retries}")
    if task.when is not None:
        remarks.append("when")
    if task.trigger != "none_failed":
        remarks.append(task.trigger)
    return ", ".join(remarks)
