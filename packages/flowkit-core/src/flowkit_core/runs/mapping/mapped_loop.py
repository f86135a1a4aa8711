"""The loop in which a worker of this process pulls elements of a mapped node, and calls its function for each."""

from __future__ import annotations

from queue import Empty
from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import special_types
from flowkit_core.runs.states import CANCELLED, PENDING, SUCCEEDED

from .block_calls import final_value
from .element import Element
from .element_records import Group, input_facts
from .inputs import Missing
from .mapped_run import EXPANDED
from .span import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.call import Outcome, Retry
    from flowkit_core.runs.run import Run
    from flowkit_core.runs.worker import Worker

    from .interface import RunMapping
    from .region import Region
    from .stage import Stage

TURN = 0.02
"""Seconds after which a worker looks for other nodes and retries, before it goes on with the elements."""
_FAILED, _TURN_ENDED, _NOTHING_YET, _GIVEN_UP = range(4)
# why the loop ends: an element has failed, there is nothing more to do now, the next element was not pulled yet, or
# another thread has ended the element


def run_mapped(
    worker: Worker, node: Node, slow: float, on_slow_call: Callable[[float], float | None] | None
) -> Sequence[Node] | Retry:
    """Run elements of a mapped node, for `TURN` seconds at most; return what `Run.finish` returns.

    The first call opens the region of the node, and returns the node itself, once for each worker that may take part.
    A worker that takes it when there are no more elements ignores it.

    Args:
        worker: the `Worker` of the calling thread.
        node: the mapped node.
        slow: see `Worker.run_node`.
        on_slow_call: see `Worker.run_node`.
    """
    run = worker.run
    mapping = run.mapping
    region = mapping.region_of(node)
    if region is None:
        return _open(run, mapping, node)
    jobs: list[Node] = []
    if not region.by_workers:
        return ()
    if not mapping.enter(region):
        return mapping.leave(region, jobs, count=0)
    worker.seconds = 0.0
    outer = worker.enter()
    try:
        began, before = perf_counter(), region.taken
        spans = [Span() for _ in region.stages]
        until = began + TURN
        loop = _recorded_loop if region.is_recorded else _loop
        try:
            reason = loop(worker, region, until, spans, slow, on_slow_call, jobs)
        finally:
            _note_calls(run, region, spans)
        if region.input.puller is not None and worker.element is not None:
            region.taken = max(region.taken, worker.element + 1)
            # elements of other workers count, too: it matters how fast elements are needed
            region.observe(region.taken - before, (perf_counter() - began) / len(region.stages))
    finally:
        worker.leave(outer)
    if reason == _GIVEN_UP:
        return ()
    goes_on = reason != _NOTHING_YET or not mapping.pullers.waits_for_input(region)
    if goes_on and not region.input.is_exhausted and run.may_start(node):
        jobs.append(node)
    return mapping.leave(region, jobs, count=reason != _FAILED)


def give_up(worker: Worker, node: Node, outcome: Outcome) -> Sequence[Node] | Retry:
    """End the element that a worker calls in its loop, because nothing stops that call; its late result is dropped.

    Args:
        worker: the worker, which does not count as active any more.
        node: the mapped node whose function it calls.
        outcome: how the element ends.

    Returns:
        What `Run.finish` returns.
    """
    run, number = worker.run, worker.element
    region = run.mapping.region_of(node)
    with run._lock:
        stage = run.state.stages[node.index]
        if region is None or number is None or stage.codes[number] != PENDING:
            return ()  # the call has just ended
        region.given_up.add(worker)
        for each in region.stages:
            each.copy_arrays()
        element = _element(run, region, stage, number, Missing(CANCELLED, outcome.reason))
    return run.finish(element, outcome, 0.0, run.current_attempt(element))


def _element(run: Run, region: Region, stage: Stage, number: int, given: Any) -> Element:
    """Return an element that a worker has pulled: it is active until it has ended, and the worker is not any more."""
    with run._lock:
        region.stages[0].active -= 1
        stage.active += 1
    return Element(region, stage, number, given)


def _fail(
    run: Run,
    region: Region,
    stage: Stage,
    number: int,
    given: Any,
    error: BaseException,
    seconds: float,
    facts: tuple[Any, str | None] | None = None,
) -> Sequence[Node]:
    """Take the exception of an element that a worker has pulled; return the jobs that are ready."""
    element = _element(run, region, stage, number, given)
    element.input_facts = facts
    return run.mapping.jobs_after_failure(element, error, seconds)


def _note_calls(run: Run, region: Region, spans: Sequence[Span]) -> None:
    """Note the calls of a turn, which are given on the clock of this module."""
    now = run.mapping.now
    offset = 0.0 if now is perf_counter else now() - perf_counter()
    with run._lock:
        for stage, span in zip(region.stages, spans, strict=True):
            if span.ended >= span.began:
                stage.span.note(span.began + offset, span.ended + offset)


def _open(run: Run, mapping: RunMapping, node: Node) -> Sequence[Node] | Retry:
    """Open the region of a mapped node; return the node once for each worker that may pull elements."""
    outcome = run.local_call(node)
    region = mapping.region_of(node)
    if outcome is not EXPANDED or region is None or not region.is_smooth or region.input.is_exhausted:
        return run.finish(node, outcome)
    region.by_workers = True
    workers = min(region.window, region.stages[0].limit or region.window)
    if region.input.puller is None:
        return [node] * min(workers, region.size or workers)
    region.waiting_workers = workers  # each gets the node when an element was pulled for it
    mapping.pullers.start(region)
    return ()


def _loop(
    worker: Worker,
    region: Region,
    until: float,
    spans: Sequence[Span],
    slow: float,
    on_slow_call: Callable[[float], float | None] | None,
    jobs: list[Node],
) -> int:
    """Call the functions for elements; return why the loop ends. Every statement of the loop runs once per element.

    Each call has context variables of its own: a copy of those of the caller of ``run()``.
    """
    run, (first, *others) = worker.run, region.stages
    own, *other_spans = spans
    rest = [
        (other, other.caller(), other.values, other.codes, other.seconds, span)
        for other, span in zip(others, other_spans, strict=True)
    ]
    stage, is_chain = first, bool(others)
    call, values, codes, seconds = first.caller(), first.values, first.codes, first.seconds
    clock, special, given, new_context = perf_counter, special_types, None, worker.caller_context.copy
    worker.node = first.node
    own.began = started = clock()
    try:
        for number, item in region.input.pulls():
            worker.element = number
            try:
                context = new_context()
                value = context.run(call, item)
                if type(value) in special:
                    value = context.run(final_value, value, f"{first.node.name}[{number}]", run)
            except BaseException as error:
                if worker in region.given_up:
                    return _GIVEN_UP
                _note_calls(run, region, spans)
                jobs += _fail(run, region, first, number, item, error, clock() - started)
                return _FAILED
            values[number] = value
            own.ended = now = clock()
            seconds[number] = spent = now - started
            codes[number] = SUCCEEDED
            started = now
            if is_chain:
                try:
                    for stage, call_next, next_values, next_codes, next_seconds, span in rest:
                        if run.phase and worker in region.given_up:
                            return _GIVEN_UP
                        worker.node = stage.node
                        given = value
                        context = new_context()
                        value = context.run(call_next, value)
                        if type(value) in special:
                            value = context.run(final_value, value, f"{stage.node.name}[{number}]", run)
                        now = clock()
                        next_values[number] = value
                        next_seconds[number] = now - started
                        next_codes[number] = SUCCEEDED
                        if span.began > now:  # the first call of the turn
                            span.began = started
                        span.ended = now
                        spent += now - started
                        started = now
                except BaseException as error:
                    if worker in region.given_up:
                        return _GIVEN_UP
                    if stage.codes[number] == SUCCEEDED:
                        raise  # an interrupt between two calls
                    _note_calls(run, region, spans)
                    jobs += _fail(run, region, stage, number, given, error, clock() - started)
                    return _FAILED
                stage, worker.node = first, first.node
            if spent > slow and on_slow_call is not None:
                slow = on_slow_call(spent) or slow
                worker.seconds = spent
            if now > until or (run.phase and not run.may_start(first.node)):
                return _GIVEN_UP if worker in region.given_up else _TURN_ENDED
    except Empty:  # of the iterator: the calls are guarded
        return _NOTHING_YET
    region.input.is_exhausted = True
    return _TURN_ENDED


def _recorded_loop(
    worker: Worker,
    region: Region,
    until: float,
    spans: Sequence[Span],
    slow: float,
    on_slow_call: Callable[[float], float | None] | None,
    jobs: list[Node],
) -> int:
    """Do what `_loop` does, in a run that is recorded: commit the elements in groups of `MAX_GROUP` seconds.

    All are committed at the end of the turn, before other workers get anything that depends on them.
    """
    group = Group(worker.run)
    run, clock, new_context = worker.run, perf_counter, worker.caller_context.copy
    stages = [(stage, stage.caller(), span) for stage, span in zip(region.stages, spans, strict=True)]
    last, take_over = len(stages), region.input.take_over
    try:
        for number, item, start in region.input.pulls_to_call():
            worker.element = number
            place, given, spent = start, item, 0.0
            while place < last and type(given) is not Missing:
                stage, call, span = stages[place]
                worker.node = stage.node
                facts = None if stage.record is None else input_facts(stage, number, given)
                started = clock()
                try:
                    context = new_context()
                    value = context.run(call, given)
                    if type(value) in special_types:
                        value = context.run(final_value, value, f"{stage.node.name}[{number}]", run)
                except BaseException as error:
                    if worker in region.given_up:
                        return _GIVEN_UP
                    seconds = clock() - started
                    group.commit()
                    _note_calls(run, region, spans)
                    jobs += _fail(run, region, stage, number, given, error, seconds, facts)
                    return _FAILED
                if run.phase and worker in region.given_up:
                    return _GIVEN_UP
                ended = clock()
                span.note(started, ended)
                seconds = ended - started
                stage.values[number] = value
                stage.seconds[number] = seconds
                stage.codes[number] = SUCCEEDED
                if facts is not None:
                    group.add(stage, number, facts)
                spent += seconds
                place, given = place + 1, value
                if take_over is not None:
                    place, given = take_over(number, given, place)
            if place < last:
                group.commit()
                _note_calls(run, region, spans)
                with run._lock:
                    region.active += 1
                    region.stages[0].active += 1
                jobs += run.mapping.start_at(region, place, number, given)
            if group.is_due:
                group.commit()
            if spent > slow and on_slow_call is not None:
                slow = on_slow_call(spent) or slow
                worker.seconds = spent
            if clock() > until or (run.phase and not run.may_start(region.stages[0].node)):
                return _TURN_ENDED
        region.input.is_exhausted = True
    except Empty:  # of the iterator: the calls are guarded
        return _NOTHING_YET
    finally:
        group.commit()
    return _TURN_ENDED
