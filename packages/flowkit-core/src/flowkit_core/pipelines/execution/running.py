"""Function `run_graph`: runs a graph once. Class `RunOptions`: the options of ``Pipeline.run()``."""

from __future__ import annotations

import os
from _thread import get_ident

from flowkit_core._checks import check_seconds, check_switch, checked_names, checked_workers
from flowkit_core._first_run import record_first_run
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import warn
from flowkit_core.context import workers
from flowkit_core.executors.drive import drive
from flowkit_core.executors.run_executors import RunExecutors
from flowkit_core.pipelines.execution.hooks import Hooks
from flowkit_core.pipelines.options import HOOK_OPTIONS, RESUME_MAX_AGE, RUN_ALIASES, RUN_OPTIONS, check_known
from flowkit_core.pipelines.run_observers import observers_of_run
from flowkit_core.results import Results
from flowkit_core.retry import own_random
from flowkit_core.runs.run import Run
from flowkit_core.runs.worker import restore_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.events import Observer
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.persistence import Link, Refresh, Rerun, Resume, StateErrors
    from flowkit_core.pipelines.pipeline import Pipeline
    from flowkit_core.runs.event_loop.caller import AsyncCaller
    from flowkit_core.runs.limits.definitions import Pools
    from flowkit_core.runs.recording.recorder import RunRecorder


class RunOptions:
    """The options of ``Pipeline.run()``, which describes them. Those that need no graph are checked.

    The arguments are passed by position, in the order of ``run()``; an option that has its default is not checked.

    Attributes:
        pipeline: the pipeline.

    Raises:
        TypeError: an option does not exist or has a wrong type.
        ValueError: an option has an invalid value.
    """

    __slots__ = ("pipeline", *RUN_OPTIONS)

    def __init__(
        self,
        pipeline: Pipeline,
        executor: Any,
        max_workers: int | None,
        max_async: int | None,
        params: Mapping[str, Any] | None,
        keep: Iterable[str] | None,
        fail_fast: bool,
        raise_on_failure: bool,
        grace: float | None,
        timeout: float | None,
        pools: Pools | None,
        observers: Iterable[Observer],
        report: str | os.PathLike[str] | None,
        progress: bool,
        state: Any,
        resume: Resume,
        resume_max_age: float | None,
        refresh: Refresh,
        rerun: Rerun | None,
        of: str | None,
        state_errors: StateErrors,
        unknown: Mapping[str, Any],
    ) -> None:
        record_first_run()
        if unknown:
            check_known("run()", unknown, RUN_OPTIONS, RUN_ALIASES)
        if fail_fast is not True:
            check_switch("fail_fast", fail_fast)
        if raise_on_failure is not True:
            check_switch("raise_on_failure", raise_on_failure)
        if grace is not None:
            check_seconds("grace", grace)
        if timeout is not None:
            check_seconds("timeout", timeout, is_positive=True)
        if resume_max_age is not RESUME_MAX_AGE:
            check_seconds("resume_max_age", resume_max_age)
        if max_async is not None:
            checked_workers(max_async, "run(max_async=...)", "no limit")
        if max_workers is not None:
            checked_workers(max_workers, "run(max_workers=...)")
        self.pipeline = pipeline
        self.executor = executor
        self.max_workers = pipeline.max_workers if max_workers is None else max_workers
        self.max_async = max_async
        self.params = params
        self.keep = keep
        self.fail_fast = fail_fast
        self.raise_on_failure = raise_on_failure
        self.grace = grace
        self.timeout = timeout
        self.pools = pools
        self.observers = observers
        self.report = report
        self.progress = progress
        self.state = state
        self.resume = resume
        self.resume_max_age = resume_max_age
        self.refresh = refresh
        self.rerun = rerun
        self.of = of
        self.state_errors = state_errors


def run_graph(
    graph: Graph, hooks: Mapping[str, Any], options: RunOptions, caller: AsyncCaller | None = None
) -> tuple[Results, BaseException | None]:
    """Run a graph, and return the results and the exception to raise: see ``Pipeline.run()``.

    Args:
        graph: the graph.
        hooks: the hooks of the pipeline, by option.
        options: the options.
        caller: the coroutine that waits for the run in ``arun()``; None in ``run()``.
    """
    params = options.params
    link = None if options.rerun is None and options.of is None else _link(graph, options)
    params = params if link is None else link.params
    graph.check_params(params)
    kept: Sequence[str] | None = None
    if options.keep is not None:
        kept = checked_names("run(keep=...)", options.keep, (*graph.names, *graph.aliases), repr(graph.name))
    observers = observers_of_run(
        options.observers, options.report, options.progress, graph, params, is_recorded=options.state is not None
    )
    new_run: Callable[..., Run] = Run
    if graph.pooled or options.pools is not None:
        from flowkit_core.runs.limits.limited_run import limited_run

        new_run = limited_run(graph, options.pipeline.pools, options.pools)
    recorder: RunRecorder | None = None
    run: Run | None = None
    outer = workers.get(get_ident())
    executors = RunExecutors(options.executor, options.max_workers, graph.placed, graph.coroutines, options.max_async)
    try:
        recorder = _recorder(graph, params, options, link)
        if recorder is not None:
            recorder.keep_log_lines()
            recorder.describe(executors.name, options.pipeline, options.pipeline.created_in)
        run = new_run(
            graph,
            params,
            options.fail_fast,
            options.grace,
            options.timeout,
            observers,
            os.urandom(8).hex() if recorder is None else recorder.run_id,
            _random,
            recorder,
            kept,
            _hooks(hooks, graph) if hooks or graph.hooked or graph.inlined else None,
            caller,
        )
        if not graph.nodes:
            from flowkit_core.logging_observer import warn_empty

            warn_empty(run)
        error = drive(run, executors)
    except BaseException as trouble:
        restore_worker(outer)  # an interrupt may have left another one
        _give_up(run, recorder, trouble)
        raise
    finally:
        del outer  # a reference cycle, if the run is in a task whose error refers to this frame
        executors.close()
    results = Results._of(run)
    not_shown = run.record_error is not None and not run.state.unrecorded_of  # the end could not be recorded
    is_raised = options.raise_on_failure or issubclass(type(error), KeyboardInterrupt) or not_shown
    run.release()
    try:
        if error is None or not is_raised:
            return results, None
        results._attach(error)
        return results, error
    finally:
        # tracebacks of failed tasks refer to this frame; its locals would form a reference cycle with the errors
        del graph, hooks, options, caller, params, link, observers, recorder, run, executors, results, error


def _link(graph: Graph, options: RunOptions) -> Link:
    """Return how the run is linked to a recorded one; see `link_run`."""
    from flowkit_core.recorded.rerun import link_run

    return link_run(graph, options.state, options.rerun, options.of, options.params, options.resume)


def _recorder(graph: Graph, params: Any, options: RunOptions, link: Link | None) -> RunRecorder | None:
    """Return the recorder of a run; None if it has no state and no cached tasks.

    The recorder checks its options, so there is one if any of them is not the default.
    """
    has_defaults = not options.resume and options.refresh is False and options.state_errors is None
    if options.state is None and not graph.cached and has_defaults:
        return None
    from flowkit_core.runs.recording.recorder import RunRecorder

    return RunRecorder(
        graph,
        options.state,
        run_id=os.urandom(8).hex(),
        params=params or {},
        resume=options.resume,
        resume_max_age=options.resume_max_age,
        refresh=options.refresh,
        state_errors=options.state_errors,
        link=link,
    )


def _give_up(run: Run | None, recorder: RunRecorder | None, error: BaseException) -> None:
    """Release what a run holds that was interrupted, or that could not start."""
    if recorder is not None:
        recorder.close("interrupted", (), error)  # no effect if the run has closed it
    if run is not None:
        if run.done:  # it was interrupted while the last event was handled
            Results._of(run)._attach(error)
        run.release()


def _random() -> float:
    return own_random()()


def _hooks(hooks: Mapping[str, Any], graph: Graph) -> Hooks | None:
    """Return the hooks of a pipeline and its tasks; None if there are none.

    Hooks of a pipeline that is used as a task are not called; a warning names those that the outer pipeline lacks.
    """
    for task, _ in graph.inlined:
        if lost := [option for option in task._pipeline.hooks if option not in hooks]:
            warn(
                f"the pipeline of task {task.name!r} has {' and '.join(lost)}, which a run of {graph.name!r} does not "
                f"call: give {graph.name!r} {' and '.join(lost)}, too, or give them to the tasks inside",
                task=task.name,
            )
    if not (graph.hooked or hooks):
        return None
    of_tasks = {node.name: {option: getattr(node.task, option) for option in HOOK_OPTIONS} for node in graph.hooked}
    return Hooks(hooks, of_tasks, [node.name for node in graph.mapped])
