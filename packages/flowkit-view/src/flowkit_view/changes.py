"""What is different between two recorded runs, in words: for commands and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit_core._text import counts_text, listed

from .texts import LONG_PARAM_WIDTH, duration_text, param_text

if TYPE_CHECKING:
    from flowkit_state import RunDiff, RunRecord, StateManager

LEAST_CHANGE = 0.1
"""Least change of the duration of a task, in seconds, that is named."""
MOST_CHANGED = 3
"""Number of tasks whose durations are named: those with the largest change."""


def run_before(state: StateManager, run: RunRecord) -> RunRecord | None:
    """Return the run of the same pipeline before a run, or None."""
    ids = state.run_ids(run.pipeline, before=run.run_id, limit=1)
    return state.run(ids[0]) if ids else None


def change_lines(first: RunRecord, second: RunRecord, diff: RunDiff) -> list[str]:
    """Return a line for each difference, durations aside.

    Args:
        first: a run.
        second: the other one.
        diff: what is different in it.
    """
    lines = [f"parameter {name}: {_value(first, name)} → {_value(second, name)}" for name in diff.params]
    lines += [f"task {name} was added" for name in diff.added]
    lines += [f"task {name} was removed" for name in diff.removed]
    lines += [f"task {name}: {', '.join(reasons)}" for name, reasons in diff.changed.items()]
    by_change: dict[tuple[str, str], list[str]] = {}
    for name, states in diff.states.items():
        by_change.setdefault(states, []).append(name)
    for (before, after), names in by_change.items():
        tasks = "task" if len(names) == 1 else "tasks"
        lines.append(f"{tasks} {listed(names)}: {before.replace('_', ' ')} → {after.replace('_', ' ')}")
    lines += [
        f"elements of {name}: {counts_text(before, 'none')} → {counts_text(after, 'none')}"
        for name, (before, after) in diff.elements.items()
    ]
    return lines + ([f"other results of {listed(diff.results)}"] if diff.results else [])


def duration_lines(diff: RunDiff) -> list[str]:
    """Return a line for each of the durations that have changed most, by `LEAST_CHANGE` seconds or more."""
    changes = [item for item in diff.durations.items() if abs(item[1][1] - item[1][0]) >= LEAST_CHANGE]
    changes.sort(key=lambda item: abs(item[1][1] - item[1][0]), reverse=True)
    return [
        f"task {name} took {duration_text(before)} → {duration_text(after)}"
        for name, (before, after) in changes[:MOST_CHANGED]
    ]


def _value(run: RunRecord, name: str) -> str:
    return param_text(run.params[name], LONG_PARAM_WIDTH) if name in run.params else "not given"
