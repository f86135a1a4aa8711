"""The record of the elements of mapped nodes, and elements that a resumed run takes over."""

from __future__ import annotations

from functools import partial
from time import time

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.parameters import KEY
from flowkit_core.persistence import ElementOutcome
from flowkit_core.runs.recording.recorder import MAX_GROUP
from flowkit_core.runs.states import FAILED, SKIPPED, STATES, SUCCEEDED

from .elements import CACHED, RESUMED
from .inputs import Missing
from .stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.persistence import RecordedElements
    from flowkit_core.runs.run import Run

    from .element import Block, Element
    from .region import Region


def open_records(run: Run, region: Region) -> None:
    """Begin to record the elements of a region, if the run is recorded by element."""
    recorder = run._recorder
    if recorder is None or not recorder.records_elements:
        return
    for stage in region.stages:
        node = stage.node
        sources = [] if node.mapped is None or node.binding is None else node.mapped.sources(node.binding)
        stage.sources = tuple(run.state.stages[index] for index in sources if index in run.state.stages)
        others = [index for index in node.upstream if index not in node.waits and index not in sources]
        named, rest, extra = stage.shared_arguments()
        named.pop(KEY, None)
        try:
            stage.record = recorder.open_map(node, region.size, sources, others, [named, rest, extra])
        except Exception as error:
            with run._lock:
                run._on_record_error(node, error)
            return
        run.state.stages[node.index] = stage
    region.is_recorded = True
    if any(stage.record.has_recorded for stage in region.stages):
        region.input.take_over = partial(take_over_element, run, region.stages)


def recorded_stage(node: Node, elements: RecordedElements) -> Stage:
    """Return the elements of a mapped node that had ended as a whole before the run was resumed."""
    stage = Stage(node, None, (), len(elements.states))
    stage.codes[:] = bytes(map(STATES.index, elements.states))
    for number, value in elements.values.items():
        stage.values[number] = value
    stage.reason_of.update(elements.reasons)
    stage.origins = bytearray([RESUMED]) * len(elements.states)
    return stage


def take_over_element(run: Run, stages: Sequence[Stage], number: int, given: Any, start: int) -> tuple[int, Any]:
    """Take over what is recorded of an element that has been pulled, or has ended in the stage before.

    Args:
        run: the run.
        stages: the stages of the region.
        number: number of the element.
        given: its mapped value for the stage ``start``.
        start: number of the first stage whose record is looked up.

    Returns:
        The number of the first stage that is to be called, or the number of stages if there is none; and the mapped
        value for it.
    """
    for place, stage in enumerate(stages[start:], start):
        record = stage.record
        if record is None or not record.has_recorded:
            return place, given
        is_same = all(source.is_resumed(number) for source in stage.sources)
        found = record.find(number, _comparable(given), is_same=is_same)
        if found is not None and found.row is not None and (recorder := run._recorder) is not None:
            recorder.add_elements(stage.node, [found.row])
        if found is None or found.state not in _TAKEN_OVER:
            return place, given
        stage.take_over(number, _TAKEN_OVER[found.state], found.value, found.reason)
        given = stage.value_for_next(number)
    return len(stages), given


def _comparable(given: Any) -> Any:
    """Return a mapped value, or a tuple of several, with something that can be recorded in place of missing values."""
    if type(given) is Missing:
        return _NO_VALUE
    if type(given) is tuple and any(type(value) is Missing for value in given):
        return tuple([_NO_VALUE if type(value) is Missing else value for value in given])
    return given


def input_facts(stage: Stage, number: int, given: Any) -> tuple[Any, str | None]:
    """Return what is recorded of the input of an element, before a call that may change it: fingerprint and label."""
    try:
        fingerprint = stage.record.fingerprint(_comparable(given))
    except Exception:  # of the user's code; the element cannot be compared
        fingerprint = None
    return fingerprint, stage.label_of(number, given) if stage.has_label else None


def element_row(run: Run, stage: Stage, outcome: ElementOutcome, label: str | None) -> Any:
    """Return what is to be recorded for an element; None if it cannot be recorded."""
    if label is not None:
        outcome.label = label
    try:
        return stage.record.prepare(outcome)
    except Exception as error:
        with run._lock:
            run._on_record_error(stage.node, error)
        return None


def row_of_success(run: Run, element: Element, value: Any, seconds: float | None) -> Any:
    """Return what is to be recorded for an element that has succeeded; None if nothing is.

    Args:
        run: the run.
        element: the element.
        value: its result.
        seconds: duration of the call; None if the result was in a cache.
    """
    stage, number = element.stage, element.element
    if stage.record is None:
        return None
    attempts = 0 if seconds is None else stage.attempt_of.get(number, 1)
    fingerprint, label = element.input_facts or input_facts(stage, number, element.given)
    outcome = ElementOutcome(number, "succeeded", value, fingerprint, time(), seconds, attempts)
    return element_row(run, stage, outcome, label)


def rows_of_block(
    run: Run, block: Block, values: Sequence[list[Any]], seconds: Sequence[Sequence[float]]
) -> list[tuple[Node, list[Any], float]]:
    """Return what is to be recorded for the elements of a block that have succeeded, and the seconds of their calls."""
    found: list[tuple[Node, list[Any], float]] = []
    given: Sequence[Any] = block.given
    now = time()
    for stage, results, spent in zip(block.region.stages, values, seconds, strict=True):
        rows = []
        for number, (value, item, duration) in enumerate(zip(results, given, spent, strict=False), block.element):
            fingerprint, label = input_facts(stage, number, item)
            outcome = ElementOutcome(number, "succeeded", value, fingerprint, now, duration, 1)
            row = element_row(run, stage, outcome, label)
            if row is not None:
                rows.append(row)
        found.append((stage.node, rows, sum(spent)))
        given = results
    return found


def record_end(run: Run, element: Element, row: Any, seconds: float) -> None:
    """Record an element that has ended; commit after 5 ms of finished work.

    It is committed before another worker starts its next stage, by `MappedNodes.call`.

    Args:
        run: the run, whose lock is held.
        element: the element.
        row: what `row_of_success` has returned; None if it has not succeeded.
        seconds: duration of its last attempt.
    """
    recorder, stage = run._recorder, element.stage
    if recorder is None:
        return
    if row is None:
        row = _row_without_value(run, element)
    if row is not None:
        recorder.add_elements(stage.node, [row], seconds)
    recorder.note_element_maker(run.state)
    if recorder.is_due_after_element:
        run._commit()


def commit_before_call(run: Run) -> None:
    """Commit the elements of other threads, before the calling thread starts a call that depends on them."""
    if run._recorder is not None and run._recorder.is_due_before_element:
        run.commit()


def _row_without_value(run: Run, element: Element) -> Any:
    """Return what is to be recorded for an element that has failed or was skipped; None if it did not run."""
    stage, number = element.stage, element.element
    code = stage.codes[number]
    if stage.record is None or code not in (FAILED, SKIPPED):
        return None
    attempts = stage.attempt_of.get(number, 1) if code == FAILED else 0
    fingerprint, label = element.input_facts or input_facts(stage, number, element.given)
    outcome = ElementOutcome(number, STATES[code], None, fingerprint, time(), None, attempts)
    if code == FAILED:
        outcome.seconds, outcome.error = stage.seconds[number], stage.error_of[number]
    else:
        outcome.reason = stage.reason_of[number]
    return element_row(run, stage, outcome, label)


def record_totals(run: Run, region: Region) -> None:
    """Record the number of elements of a lazy input, and how many results were found in a cache."""
    for stage in region.stages:
        if run._recorder is None:
            return
        count = len(stage.codes)
        if region.size is None and stage.record is not None:
            try:
                stage.record.note_size(count)
            except Exception as error:
                with run._lock:
                    run._on_record_error(stage.node, error)
        if cached := stage.origins.count(CACHED):
            run._recorder.note_cached(stage.node, cached, count)


class Group:
    """Elements that have succeeded in a loop of a worker, and are not committed yet.

    Args:
        run: the run.

    Attributes:
        is_due: whether `MAX_GROUP` seconds have passed since the call of the first of them started.
    """

    __slots__ = ("_due_at", "_rows", "is_due", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.is_due = False
        self._due_at = 0.0
        self._rows: dict[Stage, list[Any]] = {}

    def add(self, stage: Stage, number: int, facts: tuple[Any, str | None]) -> None:
        """Add an element, with its result as it is now: a call of the next stage may change it.

        Args:
            stage: its stage.
            number: its number.
            facts: what `input_facts` has returned before its call.
        """
        fingerprint, label = facts
        seconds, attempt = stage.seconds[number], stage.attempt_of.get(number, 1)
        now = time()
        if not self._rows:
            self._due_at = now - seconds + MAX_GROUP
        self.is_due = now >= self._due_at
        outcome = ElementOutcome(number, "succeeded", stage.values[number], fingerprint, now, seconds, attempt)
        row = element_row(self.run, stage, outcome, label)
        if row is None:
            return
        rows = self._rows.get(stage)
        if rows is None:
            rows = self._rows[stage] = []
        rows.append(row)

    def commit(self) -> None:
        """Commit the elements. Errors stop the run, unless ``state_errors="warn"``."""
        run, rows = self.run, self._rows
        self._rows, self.is_due = {}, False
        recorder = run._recorder
        if not rows or recorder is None:
            return
        for stage, found in rows.items():
            recorder.add_elements(stage.node, found)
        run.commit()


_NO_VALUE = "flowkit: no value, so the parameter takes its default"
_TAKEN_OVER = {"succeeded": SUCCEEDED, "skipped": SKIPPED}
