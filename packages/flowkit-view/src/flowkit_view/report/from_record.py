"""Function `model_of`: what a report shows of a recorded run."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from flowkit_view.changes import change_lines, duration_lines, run_before
from flowkit_view.texts import LONG_PARAM_WIDTH, param_text, time_text

from .elements import take_recorded_elements
from .run_model import AttemptModel, ExecutionModel, RunModel, TaskModel, location_of

if TYPE_CHECKING:
    from flowkit_state import AttemptRecord, RunRecord, StateManager, TaskRecord

HISTORY = 10
"""Number of earlier runs whose durations a report shows."""


def model_of(state: StateManager, run: RunRecord, now: float | None = None) -> RunModel:
    """Return the model of a recorded run, compared with the run of the same pipeline before it.

    Args:
        state: the records.
        run: the run.
        now: the time of the report, in seconds since the epoch; None means the current time.
    """
    now = time() if now is None else now
    history = state.durations(run.pipeline, before=run.run_id, limit=HISTORY)
    previous = run_before(state, run)
    starts = [each.started.timestamp() for each in run.executions]
    index_of = {name: index for index, name in enumerate(run.tasks)}
    return RunModel(
        pipeline=run.pipeline,
        run_id=run.run_id,
        status=run.status,
        executions=[
            ExecutionModel(
                started=each.started.timestamp(),
                ended=end_of(run, number, now),
                outcome=each.outcome,
                where=f"process {each.process} on {each.host}" if each.process else "",
            )
            for number, each in enumerate(run.executions)
        ],
        tasks=[_task(task, index_of, history.get(name, ()), starts) for name, task in run.tasks.items()],
        params={name: param_text(value, LONG_PARAM_WIDTH) for name, value in run.params.items()},
        cpu=run.executions[-1].cpu,
        executor=run.executions[-1].executor or "",
        python=run.executions[-1].python or "",
        error=run.error or "",
        parent=run.parent or "",
        changes=[] if previous is None else _changes(previous, run),
        previous="" if previous is None else previous.run_id,
        previous_text="" if previous is None else f"of {time_text(previous.started)}, which {_ended(previous)}",
    )


def _changes(previous: RunRecord, run: RunRecord) -> list[str]:
    diff = previous.diff(run)
    return [*change_lines(previous, run, diff), *duration_lines(diff)]


def _ended(run: RunRecord) -> str:
    return {"interrupted": "was interrupted", "running": "is running"}.get(run.status, run.status)


def end_of(run: RunRecord, number: int, now: float) -> float:
    """Return when an execution ended; for one whose process died, when its last recorded attempt or element did.

    Args:
        run: the run.
        number: index of the execution in `run.executions`.
        now: the current time, for an execution that goes on.
    """
    execution = run.executions[number]
    if execution.ended is not None:
        return execution.ended.timestamp()
    if execution.outcome == "running":
        return max(now, execution.started.timestamp())
    ends = [
        attempt.ended.timestamp()
        for task in run.tasks.values()
        for attempt in task.attempts
        if attempt.execution == execution.number
    ]
    for elements in [task.elements for task in run.tasks.values() if task.elements is not None]:
        executions = elements.executions
        ends += [ended for element, ended in elements.ended.items() if executions[element] == execution.number]
    return max(ends, default=execution.started.timestamp())


def _task(task: TaskRecord, index_of: dict[str, int], history: tuple[float, ...], starts: list[float]) -> TaskModel:
    error = task.error
    found = TaskModel(
        name=task.name,
        upstream=tuple(index_of[name] for name in task.upstream if name in index_of),
        state=task.state,
        attempts=[_attempt(attempt) for attempt in task.attempts],
        reason="; ".join(filter(None, (task.reason, task.why))),
        source=task.source,
        error="" if error is None else str(error),
        traceback="" if error is None else error.traceback,
        location="" if error is None else location_of(error.traceback),
        history=history,
        limited=task.limited,
    )
    if task.elements is not None:
        take_recorded_elements(found, task.elements, starts)
        found.is_async = any(attempt.worker == "async" for attempt in found.attempts)
    return found


def _attempt(attempt: AttemptRecord) -> AttemptModel:
    return AttemptModel(
        started=attempt.started.timestamp(),
        ended=attempt.ended.timestamp(),
        ready=None if attempt.ready is None else attempt.ready.timestamp(),
        worker=attempt.worker or "",
        outcome=attempt.outcome,
        execution=attempt.execution,
        error="" if attempt.error is None else str(attempt.error),
    )
