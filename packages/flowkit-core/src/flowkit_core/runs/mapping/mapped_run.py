"""Class `MappedNodes`: what a run does with its mapped nodes and their elements.

A mapped node is passed to a lane like any other. Its call opens a `Region`: the mapped inputs are read, and the lane
gets elements as jobs, as many as its window allows; whenever one has ended, the run returns the next. Workers of this
process pull elements themselves, if nothing but success is expected, and call the functions in a loop.
"""

from __future__ import annotations

from time import perf_counter, time

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import TaskContext
from flowkit_core.errors import Skip, WorkerDiedError
from flowkit_core.events import (
    ElementFailed,
    ElementNotRun,
    ElementRetrying,
    ElementStarted,
    ElementSucceeded,
    TaskStarted,
)
from flowkit_core.failures import add_note, returned_skip
from flowkit_core.runs.arguments import collect
from flowkit_core.runs.call import Call, Outcome, Retry, fetch_and_release
from flowkit_core.runs.handle import is_handle, release
from flowkit_core.runs.outcomes import max_attempts, reason_with_error
from flowkit_core.runs.states import (
    CANCELLED,
    FAILED,
    PENDING,
    SKIPPED,
    STATES,
    SUCCEEDED,
    UPSTREAM_FAILED,
    Phase,
)

from .block_calls import was_called
from .element import Block, Element, job_of
from .element_records import (
    commit_before_call,
    input_facts,
    open_records,
    record_end,
    record_totals,
    recorded_stage,
    row_of_success,
    rows_of_block,
)
from .elements import CACHED
from .iterator_results import IteratorResults
from .opening import local_generator, open_region, result_for_takers
from .puller import Pullers
from .span import note_block

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.run import Run

    from .block_calls import BlockResult
    from .region import Region

WINDOW = 256
"""Maximum number of elements that a lane without an attribute ``window`` is given at once."""
EXPANDED = Outcome(PENDING, "its elements run")
"""Outcome of the call of a mapped node whose elements are to run."""
DEFERRED = Outcome(PENDING, "it waits for a retry")
"""Outcome of the call of an element that has failed in the loop of a worker and is tried again."""
_NO_NODES: tuple[Node, ...] = ()


class MappedNodes:
    """The mapped nodes of one run, and their elements.

    Args:
        run: the `Run`.

    Attributes:
        lanes: index of a mapped node -> its lane.
        pullers: the threads that pull lazy inputs.
        iterators: the nodes whose results are iterators.
        now: returns the current time in seconds.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._regions: dict[int, Region] = {}
        self.lanes: dict[int, Any] = {}
        self.pullers = Pullers(self)
        self.iterators = IteratorResults(run)
        self.now: Callable[[], float] = perf_counter

    def region_of(self, node: Node) -> Region | None:
        """Return the region of a mapped node; None if it has not been opened."""
        return self._regions.get(node.index)

    def progress(self) -> dict[str, tuple[int, int | None]]:
        """Implement `Run.progress`, without a lock: the elements are counted while workers end others."""
        found: dict[str, tuple[int, int | None]] = {}
        for region in [*self._regions.values()]:
            for stage in () if region.is_closed else region.stages:
                codes = stage.codes
                found[stage.node.name] = len(codes) - codes.count(PENDING), region.size
        return found

    def close(self) -> None:
        """Drop the references to the run and to the elements."""
        self.run = None  # type: ignore[assignment]
        self.pullers.release()
        self.iterators.release()
        self._regions, self.lanes = {}, {}

    # ---- opening -----------------------------------------------------------------------------------------------------

    def open(self, node: Node) -> Outcome:
        """Read the inputs of a mapped node and open its region; return `EXPANDED`, or how the node ends."""
        run = self.run
        if node.index in self._regions:
            return EXPANDED
        with run._lock:
            outcome: Outcome | None = run._check(node, 1)
            if outcome is not None:
                return outcome
            if run.phase != Phase.RUNNING:
                run.report.cleanup_started.add(node.index)
            given = collect(node, run.state, run.params, run.run_id)
        if isinstance(given, Outcome):
            return given
        try:
            region = open_region(run, node, given)
        except BaseException as error:
            return Outcome(FAILED, error=error, retryable=False)
        if isinstance(region, Outcome):
            return region
        lanes = [self.lanes.get(stage.node.index) for stage in region.stages]  # None: an executor without lanes
        windows = [getattr(lane, "window", None) or WINDOW for lane in lanes]
        region.window = windows[0]
        if any(lane is not lanes[0] for lane in lanes):
            region.chain_window = max(windows)
        takes_blocks = region.is_smooth and all(stage.limit is None for stage in region.stages)
        region.lane_block_window = getattr(lanes[0], "block_window", 0)
        region.block_window = region.lane_block_window if takes_blocks else 0
        region.block_seconds = getattr(lanes[0], "block_seconds", region.block_seconds)
        self.pullers.prepare(region)
        open_records(run, region)
        for stage in region.stages:
            stage.head = None if stage is region.stages[0] else region.stages[0]
            run.state.stages[stage.node.index] = stage
            self._regions[stage.node.index] = region
            if run.events.wants(TaskStarted):
                facts = {"attempt": 1, "max_attempts": max_attempts(stage.node), "worker": "", "elements": region.size}
                run.events.emit(TaskStarted, task=stage.node.name, **facts)
        return EXPANDED

    def take_over(self, node: Node, elements: Any) -> None:
        """Take the elements of a mapped node that had ended before the run was resumed: a `RecordedElements`."""
        self.run.state.stages[node.index] = recorded_stage(node, elements)

    def local_generator(self, call: Call) -> Call | Outcome:
        """Return the result of a generator function, whatever the executor: its generator runs in this process."""
        return local_generator(self.run, call)

    def result_for_takers(self, node: Node, value: Any) -> Any:
        """Return the result of a node that others are mapped over: see `opening.result_for_takers`."""
        return result_for_takers(self.run, node, value)

    # ---- elements ----------------------------------------------------------------------------------------------------

    def is_opened(self, result: Any) -> bool:
        """Return whether the result of a mapped node is that its elements are to run."""
        return result is EXPANDED

    def expand(self, node: Node) -> Sequence[Node]:
        """Return the first elements of a mapped node, or the nodes that are ready if it has none."""
        return self.next_jobs(self.pullers.start(self._regions[node.index]), [])

    def call(self, element: Element) -> Call | Outcome:
        """Return the call of an element; or its outcome, if it is not called."""
        if element.later is not None:
            return DEFERRED
        run, stage, number = self.run, element.stage, element.element
        with run._lock:
            attempt = stage.attempt_of.get(number, 1)
            if run.phase >= Phase.CANCELLED or not run.may_start(stage.node):
                return Outcome(CANCELLED, run.stop_reason)
        if stage.head is not None:
            commit_before_call(run)
        if stage.record is not None and element.input_facts is None:
            element.input_facts = input_facts(stage, number, element.given)
        try:
            bound = stage.call_of(number, element.given, run.run_id, is_first=attempt == 1)
        except Exception as error:
            return Outcome(FAILED, error=error, retryable=False)
        if isinstance(bound, Outcome):
            return bound
        args, kwargs, when = bound
        recorder = run._recorder
        lookup = recorder.lookup if recorder is not None and element.task.cache is not None and attempt == 1 else None
        return Call(element, args, kwargs, when, attempt, lookup, run)

    def mark_started(self, element: Element, *, already: bool, attempt: int | None) -> Outcome | None:
        """Note that the call of an element starts: see `Run.mark_started`."""
        run = self.run
        if isinstance(element, Block):
            return None
        with run._lock:
            if attempt is not None and not self.is_current(element, attempt):
                return None
            if not already and not run.may_start(element.stage.node):
                return Outcome(CANCELLED, run.stop_reason)
            element.stage.retry_of.pop(element.element, None)
            if run.events.wants(ElementStarted):
                self._emit(ElementStarted, element, attempt=element.stage.attempt_of.get(element.element, 1))
        return None

    def context_of(self, element: Element, attempt: int | None) -> TaskContext:
        """Return what ``current()`` returns in the call of an element."""
        stage, number = element.stage, element.element
        found = stage.attempt_of.get(number, 1) if attempt is None else attempt
        return TaskContext(self.run.facts, stage.node.index, stage.node.name, found, number)

    def attempts_of(self, element: Element) -> Mapping[int, int]:
        """Return number of an element -> number of the attempt, if it is greater than 1, for the node of an element."""
        return element.stage.attempt_of

    def is_current(self, element: Element, attempt: int) -> bool:
        """Return whether an attempt is the last one of an element, and has not ended."""
        stage, number = element.stage, element.element
        if isinstance(element, Block):
            return not element.is_ended
        return stage.codes[number] == PENDING and attempt == stage.attempt_of.get(number, 1)

    def finish(self, element: Element, result: Any, seconds: float, attempt: int | None) -> Sequence[Node] | Retry:
        """Take the result of an element, and return the jobs that are ready now: see `Run.finish`."""
        if element.later is not None:
            retry, element.later = element.later, None
            return retry
        if isinstance(element, Block):
            return self._finish_block(element, result)
        run = self.run
        if is_handle(result) and (run.fetches_at_once or run.stores_result(element)):
            result = fetch_and_release(result)
        outcome = run.outcome_of(result)
        if outcome is None and issubclass(type(result), Skip):
            outcome = Outcome(FAILED, error=returned_skip(element.name, result))
        row = None
        # without the lock, because functions of the user are called
        if outcome is not None and outcome.state == FAILED:
            element.stage.note_label(element.element, element.given)
            element.shown = short_repr(element.given)
        elif run._recorder is not None and (outcome is None or outcome.state == SUCCEEDED):
            value = result if outcome is None else outcome.value
            run._recorder.keep(element, value)
            row = row_of_success(run, element, value, seconds if outcome is None else None)
        with run._lock:
            if run.phase == Phase.ABANDONED or (attempt is not None and not self.is_current(element, attempt)):
                release((result,))
                return _NO_NODES
            again = self._settle(element, outcome, result, seconds)
            if again is None:
                region = element.region
                element.stage.active -= 1
                jobs = self._after(element)
                if region.is_recorded:
                    record_end(run, element, row, seconds)
        run._notify_stop()
        if run._hooks is not None:
            run._hooks.call()
        return self.next_jobs(region, jobs) if again is None else again

    def _settle(self, element: Element, outcome: Outcome | None, result: Any, seconds: float) -> Retry | None:
        """Set the final state of an element; or return a retry."""
        run, stage, number = self.run, element.stage, element.element
        if outcome is None or outcome.state == FAILED or outcome.started:
            stage.span.note((now := self.now()) - seconds, now)
        if outcome is None or outcome.state == SUCCEEDED:
            stage.values[number] = result if outcome is None else outcome.value
            stage.has_handles |= run.has_handles and is_handle(result)
            stage.codes[number] = SUCCEEDED
            if outcome is not None:
                stage.mark(number, CACHED)
            else:
                stage.seconds[number] = seconds
                element.region.observe(1, seconds)
                if run.events.wants(ElementSucceeded):
                    attempt = stage.attempt_of.get(number, 1)
                    self._emit(ElementSucceeded, element, attempt=attempt, duration=seconds)
            return None
        if outcome.state == FAILED:
            stage.seconds[number] = seconds
            attempt = stage.attempt_of.get(number, 1)
            # a lost attempt uses up a retry only of an element whose worker dies again
            is_innocent = number in stage.lost and not isinstance(outcome.error, WorkerDiedError)
            error, delay = run.error_and_delay(element, outcome, attempt - is_innocent)
            if delay is not None:
                stage.attempt_of[number] = attempt + 1
                stage.retry_of[number] = error
                if run.events.wants(ElementRetrying):
                    stage.note_label(number, element.given)
                    most = max_attempts(stage.node) + is_innocent
                    facts = {"attempt": attempt, "max_attempts": most, "duration": seconds}
                    self._emit(ElementRetrying, element, delay=delay, error=error, **facts)
                return Retry(element, delay)
            self._fail(element, error)
            return None
        waiting = stage.retry_of.pop(number, None)
        if waiting is not None and stage.raises(waiting) and run.fails_waiting_retry(outcome):
            stage.attempt_of[number] -= 1
            self._fail(element, waiting)
            return None
        reason = outcome.reason if outcome.state == SKIPPED else reason_with_error(outcome.reason, waiting)
        stage.codes[number] = outcome.state
        stage.reason_of[number] = reason
        if run.events.wants(ElementNotRun):
            state = STATES[outcome.state]
            self._emit(ElementNotRun, element, state=state, reason=reason, started=outcome.started)
        return None

    def _fail(self, element: Element, error: BaseException) -> None:
        run, stage, number = self.run, element.stage, element.element
        stage.retry_of.pop(number, None)
        stage.error_of[number] = error
        is_raised = stage.raises(error)
        if stage.errors == "return" and not is_raised:
            stage.values[number] = error
        add_note(error, f"flowkit: element {stage.display_name(number)} is {element.shown}")
        is_interrupted = issubclass(type(error), KeyboardInterrupt)  # Ctrl-C: the element is called again on resume
        stage.codes[number] = CANCELLED if is_interrupted else FAILED
        if is_raised:
            if run.report.at_stop is None:
                run.report.note_stop()
            run.state.error_of.setdefault(stage.node.index, error)
        if is_interrupted:
            stage.reason_of[number] = reason = "it was interrupted"
            if run.events.wants(ElementNotRun):
                self._emit(ElementNotRun, element, state=STATES[CANCELLED], reason=reason, started=True)
        elif run.events.wants(ElementFailed):
            attempt, duration = stage.attempt_of.get(number, 1), stage.seconds[number]
            self._emit(ElementFailed, element, attempt=attempt, duration=duration, error=error, outcome=stage.errors)
        if is_raised:
            run._stop_after(error)

    def _emit(self, kind: Any, element: Element, **facts: Any) -> None:
        element.stage.note_label(element.element, element.given)
        label = element.stage.labels.get(element.element)
        task = element.stage.node.name
        self.run.events.emit(kind, task=task, element=element.element, label=label, **facts)

    def _after(self, element: Element) -> list[Node]:
        """Return the jobs that are ready after the end of an element: its next stage, and one that was parked."""
        region, stage = element.region, element.stage
        jobs: list[Node] = []
        if stage.parked:
            stage.active += 1
            jobs.append(stage.parked.popleft())
        following, given = region.next_stage(stage, element.element)
        if following is None:
            region.active -= 1
            return jobs
        job = Element(region, following, element.element, given)
        if following.limit is not None and following.active >= following.limit:
            following.parked.append(job)
        else:
            following.active += 1
            jobs.insert(0, job)
        return jobs

    def next_jobs(self, region: Region, jobs: list[Node]) -> Sequence[Node]:
        """Pull as many elements as the window allows; close the region after its last element."""
        run, first = self.run, region.stages[0]
        while not region.by_workers and not region.input.is_exhausted:
            with run._lock:
                if not (region.may_start_more() and run.may_start(first.node)):
                    break
                region.active += 1
                first.active += 1
            # without the lock: an iterator that this thread pulls may take long
            place = 0
            if region.block_window:
                place, elements = region.input.pull_many(region.block_length())
            elif (pulled := region.input.pull()) is None:
                elements = []
            else:
                number, given, place = pulled
                elements = [(number, given)]
            if not elements:
                with run._lock:
                    region.active -= 1
                    first.active -= 1
                break
            if place:
                jobs += self.start_at(region, place, *elements[0])
            else:
                jobs.append(job_of(region, first, elements[0][0], [given for _, given in elements]))
        if region.input.puller is not None:
            region.input.puller.wake()
        return self.leave(region, jobs, count=0)

    def start_at(self, region: Region, place: int, number: int, given: Any) -> list[Node]:
        """Return the job of an element that starts at a later stage; nothing if it waits there because of the limit.

        The element counts as active in the first stage before.
        """
        stage = region.stages[place]
        job = Element(region, stage, number, given)
        with self.run._lock:
            region.stages[0].active -= 1
            if stage.limit is not None and stage.active >= stage.limit:
                stage.parked.append(job)
                return []
            stage.active += 1
        return [job]

    # ---- blocks ------------------------------------------------------------------------------------------------------

    def check_block(self, block: Block) -> Outcome | None:
        """Return how a block ends without being called; None if its elements may start."""
        run = self.run
        if run.phase >= Phase.CANCELLED or not run.may_start(block.stage.node):
            return Outcome(CANCELLED, run.stop_reason)
        return None

    def _finish_block(self, block: Block, result: BlockResult | Outcome) -> Sequence[Node]:
        """Take the results of a block, and return the jobs that are ready now.

        After an :class:`Outcome` FAILED, it is not known which element is to blame: they become single jobs.
        """
        run, region = self.run, block.region
        with run._lock:
            if block.is_ended or run.phase == Phase.ABANDONED:
                return _NO_NODES
            block.is_ended = True
            if isinstance(result, Outcome):
                jobs = self._end_without_results(block, result)
        if isinstance(result, Outcome):
            return self.next_jobs(region, jobs)
        values, seconds, failed = result
        jobs, recorder = [], run._recorder
        rows = rows_of_block(run, block, values, seconds) if region.is_recorded else ()
        with run._lock:
            if recorder is not None:
                for node, prepared, work in rows:
                    recorder.add_elements(node, prepared, work)
            note_block([stage.span for stage in region.stages], seconds, self.now())
            for stage, found, spent in zip(region.stages, values, seconds, strict=True):
                stage.succeed(block.element, found, spent)
            region.observe(sum(map(len, values)), sum(map(sum, seconds)))
            done = len(values[-1])
            rest = block.given[done + (failed is not None) :]
            if rest:
                start = block.element + len(block.given) - len(rest)
                jobs.append(job_of(region, block.stage, start, rest))
            else:
                region.active -= 1
                region.stages[0].active -= 1
            if failed is not None:
                region.active += 1
                region.stages[failed[0]].active += 1
            if recorder is not None and recorder.is_due_after_element:
                run._commit()
        run._notify_stop()
        if failed is not None:
            number, place = block.element + done, failed[0]
            given = values[place - 1][done] if place else block.given[done]
            jobs += self.jobs_after_failure(Element(region, region.stages[place], number, given), failed[1], 0.0)
        return self.next_jobs(region, jobs)

    def jobs_after_failure(self, element: Element, error: BaseException, seconds: float) -> Sequence[Node]:
        """Take the exception of a first attempt at an element that was not called as a job; return the jobs to run."""
        step = self.finish(element, Outcome(FAILED, error=error), seconds, 1)
        if isinstance(step, Retry):
            element.later = step
            return [element]
        return step

    def _end_without_results(self, block: Block, outcome: Outcome) -> list[Node]:
        """End a block whose results are not known. If it has failed, return single jobs of its elements.

        Those beyond the limit wait.
        """
        region, stage = block.region, block.stage
        region.active -= 1
        region.stages[0].active -= 1
        jobs: list[Node] = []
        if outcome.state != FAILED:
            return jobs
        if was_called(outcome.error):
            numbers = range(block.element, block.element + len(block.given))
            for each in region.stages:
                each.lost.update(numbers)
                each.attempt_of.update(dict.fromkeys(numbers, 2))
        for number, given in enumerate(block.given, block.element):
            region.active += 1
            element = Element(region, stage, number, given)
            if stage.limit is not None and stage.active >= stage.limit:
                stage.parked.append(element)
            else:
                stage.active += 1
                jobs.append(element)
        return jobs

    # ---- workers that pull elements ----------------------------------------------------------------------------------

    def enter(self, region: Region) -> bool:
        """Return whether a worker may pull elements, and count it as active then."""
        run, first = self.run, region.stages[0]
        with run._lock:
            if region.is_closed or region.input.is_exhausted or not run.may_start(first.node) or run.cancelled:
                return False
            if first.limit is not None and first.active >= first.limit:
                region.refused += 1
                return False
            region.active += 1
            first.active += 1
        return True

    def leave(self, region: Region, jobs: list[Node], *, count: int = 1) -> list[Node]:
        """Note that a worker pulls no more elements; close the region after its last element.

        Args:
            region: the region.
            jobs: jobs that are ready.
            count: 1 for a worker; 0 to check only whether the region is to be closed.

        Returns:
            The jobs, and the nodes that are ready if the region was closed.
        """
        run = self.run
        with run._lock:
            region.active -= count
            region.stages[0].active -= count
            is_over = region.input.is_exhausted or not run.may_start(region.stages[0].node)
            first = region.stages[0]
            if region.refused and not is_over and first.limit is not None and first.active < first.limit:
                region.refused -= 1
                jobs.append(first.node)  # a worker that the limit has refused may pull again
            if region.active or not is_over or region.is_closed or run.phase == Phase.ABANDONED:
                return jobs
            region.is_closed = True
        jobs += self._close(region)
        return jobs

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _close(self, region: Region) -> list[Node]:
        """End the nodes of a region; return the nodes that are ready."""
        run = self.run
        input_outcome = None
        if not region.input.is_taken:
            input_outcome = Outcome(CANCELLED, run.stop_reason)
        elif region.input.error is not None:
            source = None if region.input.lazy is None else region.input.lazy.culprit
            if source is None:
                input_outcome = Outcome(FAILED, error=region.input.error, retryable=False)
            else:
                input_outcome = self.iterators.fail(source, region.input.error)
        region.input.drop()
        if input_outcome is None and region.is_recorded:
            record_totals(run, region)
        now = time(), self.now()
        for stage in region.stages:
            stage.ended_at = now[0] - stage.span.since_end(now[1])
        own = {stage.node for stage in region.stages}
        ready: list[Node] = []
        for stage in region.stages:
            outcome = stage.outcome(run.stop_reason, input_outcome)
            if type(outcome) is Outcome and outcome.state == FAILED:
                input_outcome = Outcome(UPSTREAM_FAILED, f'upstream "{stage.node.name}" failed')  # of the next nodes
            step = run.finish(stage.node, outcome, stage.span.seconds)
            if not isinstance(step, Retry):  # a mapped node is not called again
                ready += [node for node in step if node not in own]
        return ready
