"""Function `drive`: has the executors drive a run to its end."""

from __future__ import annotations

from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import ExecutorError
from flowkit_core.events import RunFinished, RunStarted
from flowkit_core.failures import add_note
from flowkit_core.results import Results

if TYPE_CHECKING:
    from flowkit_core.runs.run import Run

    from .executor import Executor
    from .run_executors import RunExecutors


def drive(run: Run, executors: RunExecutors | Executor) -> BaseException | None:
    """Have the executors drive a run to its end, and return what the run should raise."""
    began = perf_counter()
    raised: BaseException | None = None
    try:
        if run.events.wants(RunStarted):
            run.events.give_run(run)
            facts = {"tasks": len(run.graph), "graph": run.graph, "done": run.done_before}
            run.events.emit(RunStarted, executor=executors.name, **facts)
            run.facts.trace = run.events.run_trace()
            began = perf_counter()
        executors.execute(run)
        if not run.done:
            raise ExecutorError(
                f"executor {executors.name!r} returned before {run.graph.name!r} was done: this is a defect of the "
                f"executor: its execute() must not return until run.done is true"
            )
        raised = run.close(run.error())
    except BaseException as error:
        raised = error
        run.abandon()
        if not isinstance(error, Exception):
            add_note(error, run.report.interruption())
        run.close(error)
        Results._of(run)._attach(error)
        raise
    else:
        return raised
    finally:
        _finish(run, perf_counter() - began, raised)
        del raised  # its traceback may refer to this frame: a reference cycle


def _finish(run: Run, seconds: float, error: BaseException | None) -> None:
    """Emit the last event, and call the hooks that are left."""
    try:
        if run.events.wants(RunFinished):
            failed = run.state.summary().failed()
            run.events.emit(RunFinished, counts=run.state.counts(), duration=seconds, error=error, failed=failed)
            del failed  # the tracebacks refer to this frame
    finally:
        run.call_last_hooks()
