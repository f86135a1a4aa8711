"""`run_diff`: what is different between two recorded runs."""

from __future__ import annotations

from flowkit_state.run_log.plan import Difference
from flowkit_state.runs import RunDiff, UnrecordedValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowkit_state.run_log.plan import PipelinePlan
    from flowkit_state.runs import RunRecord, TaskRecord


def run_diff(first: RunRecord, second: RunRecord) -> RunDiff:
    """Return what is different in the second run."""
    plan, payloads = _contents(first)
    other_plan, other_payloads = _contents(second)
    difference = Difference(plan, other_plan, plan.names(), {})
    changed = dict(difference.changed)
    for name, reasons in difference.rewirings.items():
        changed[name] = (*changed.get(name, ()), *reasons)
    both = [name for name in first.tasks if name in second.tasks]
    tasks = [(name, first.tasks[name], second.tasks[name]) for name in both]
    params = {name: (first.params.get(name), second.params.get(name)) for name in {**first.params, **second.params}}
    return RunDiff(
        _given=(tuple(first.params), tuple(second.params)),
        params={
            name: values
            for name, values in params.items()
            if (name in first.params) != (name in second.params) or not _equal(*values)
        },
        added=tuple(difference.added),
        removed=tuple(difference.removed),
        changed=changed,
        states={name: (one.state, two.state) for name, one, two in tasks if one.state != two.state},
        elements={name: counts for name, one, two in tasks if (counts := _element_counts(one, two)) is not None},
        results=tuple(
            name for name in both if name in payloads and payloads[name] != other_payloads.get(name, payloads[name])
        ),
        durations={
            name: (one.duration, two.duration)
            for name, one, two in tasks
            if one.duration is not None and two.duration is not None
        },
    )


def _contents(record: RunRecord) -> tuple[PipelinePlan, dict[str, Any]]:
    load: Any = record._load
    contents: tuple[PipelinePlan, dict[str, Any]] = load()
    return contents


def _element_counts(one: TaskRecord, two: TaskRecord) -> tuple[dict[str, int], dict[str, int]] | None:
    """Return how many elements of a mapped task were in each state in two runs, or None if that is the same."""
    if one.elements is None or two.elements is None:
        return None
    before, after = one.elements.counts, two.elements.counts
    return None if before == after else (_ordered(before), _ordered(after))


def _ordered(counts: dict[str, int]) -> dict[str, int]:
    states = dict.fromkeys(["succeeded", "failed", "skipped", *counts])
    return {state: counts[state] for state in states if counts.get(state)}


def _equal(one: Any, two: Any) -> bool:
    """Return whether two values of a parameter are equal; False if they cannot be compared."""
    if isinstance(one, UnrecordedValue) and isinstance(two, UnrecordedValue):
        return one.text == two.text
    try:
        return type(one) is type(two) and bool(one == two)
    except Exception:  # an __eq__ that raises, or returns an array
        return repr(one) == repr(two)
