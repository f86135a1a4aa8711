"""Function `model_of`: what a report shows of a recorded run."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from flowkit_core._text import counts_text, listed
from flowkit_view.texts import duration_text, param_text

from .elements import take_recorded_elements
from .run_model import PARAM_WIDTH, AttemptModel, ExecutionModel, RunModel, TaskModel, place_of

if TYPE_CHECKING:
    from flowkit_state import AttemptRecord, RunDiff, RunRecord, StateManager, TaskRecord

HISTORY = 10
"""Number of earlier runs whose durations a report shows."""
LEAST_CHANGE = 0.1
"""Least change of the duration of a task, in seconds, that a report names."""
MOST_CHANGED = 3
"""Number of tasks whose durations a report names: those with the largest change."""


def model_of(state: StateManager, run: RunRecord, now: float | None = None) -> RunModel:
    """Return the model of a recorded run, compared with the run of the same pipeline before it.

    Args:
        state: the records.
        run: the run.
        now: the time of the report, in seconds since the epoch; None means the current time.
    """
    now = time() if now is None else now
    history = state.durations(run.pipeline, before=run.run_id, limit=HISTORY)
    previous = _run_before(state, run)
    places = {name: index for index, name in enumerate(run.tasks)}
    return RunModel(
        pipeline=run.pipeline,
        run_id=run.run_id,
        status=run.status,
        executions=[
            ExecutionModel(
                started=each.started.timestamp(),
                ended=_end_of(run, number, now),
                outcome=each.outcome,
                where=f"process {each.process} on {each.host}" if each.process else "",
            )
            for number, each in enumerate(run.executions)
        ],
        tasks=[_task(task, places, history.get(name, ())) for name, task in run.tasks.items()],
        params={name: param_text(value, PARAM_WIDTH) for name, value in run.params.items()},
        cpu=run.executions[-1].cpu,
        executor=run.executions[-1].executor or "",
        python=run.executions[-1].python or "",
        error=run.error or "",
        parent=run.parent or "",
        changes=[] if previous is None else _changes(previous.diff(run)),
        previous="" if previous is None else previous.run_id,
    )


def _run_before(state: StateManager, run: RunRecord) -> RunRecord | None:
    ids = state.run_ids(run.pipeline, before=run.run_id, limit=1)
    return state.run(ids[0]) if ids else None


def _end_of(run: RunRecord, number: int, now: float) -> float:
    """Return when an execution ended; for one whose process died, when its last attempt did."""
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
    return max(ends, default=execution.started.timestamp())


def _task(task: TaskRecord, places: dict[str, int], history: tuple[float, ...]) -> TaskModel:
    error = task.error
    found = TaskModel(
        name=task.name,
        upstream=tuple(places[name] for name in task.upstream if name in places),
        state=task.state,
        attempts=[_attempt(attempt) for attempt in task.attempts],
        reason="; ".join(filter(None, (task.reason, task.why))),
        source=task.source,
        error="" if error is None else str(error),
        traceback="" if error is None else error.traceback,
        place="" if error is None else place_of(error.traceback),
        history=history,
    )
    if task.elements is not None:
        take_recorded_elements(found, task.elements)
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
    )


def _changes(diff: RunDiff) -> list[str]:
    """Return what is different in this run, and which durations changed most, by `LEAST_CHANGE` seconds or more."""
    lines = [
        f"parameter {name}: {param_text(before, PARAM_WIDTH)} → {param_text(after, PARAM_WIDTH)}"
        for name, (before, after) in diff.params.items()
    ]
    lines += [f"task {name} was added" for name in diff.added]
    lines += [f"task {name} was removed" for name in diff.removed]
    lines += [f"task {name}: {', '.join(reasons)}" for name, reasons in diff.changed.items()]
    lines += [f"task {name} {_words(before)} → {_words(after)}" for name, (before, after) in diff.states.items()]
    lines += [
        f"elements of {name}: {counts_text(before, 'none')} → {counts_text(after, 'none')}"
        for name, (before, after) in diff.elements.items()
    ]
    changes = [item for item in diff.durations.items() if abs(item[1][1] - item[1][0]) >= LEAST_CHANGE]
    changes.sort(key=lambda item: abs(item[1][1] - item[1][0]), reverse=True)
    lines += [
        f"task {name} took {duration_text(before)} → {duration_text(after)}"
        for name, (before, after) in changes[:MOST_CHANGED]
    ]
    return lines + ([f"other results of {listed(diff.results)}"] if diff.results else [])


def _words(state: str) -> str:
    return state.replace("_", " ")
