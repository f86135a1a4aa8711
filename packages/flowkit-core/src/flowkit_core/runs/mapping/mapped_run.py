"""Class `MappedNodes`: what a run does with its mapped nodes and their elements.

A mapped node is passed to a lane like any other. Its call opens a `Region`: the mapped inputs are read, and the lane
gets elements as jobs, as many as its window allows; whenever one has ended, the run returns the next. Workers of this
process pull elements themselves, if nothing but success is expected, and call the functions in a loop.
"""

from __future__ import annotations

from time import monotonic
from types import FunctionType

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import TaskContext
from flowkit_core.coroutines import CO_GENERATOR
from flowkit_core.errors import Skip
from flowkit_core.events import (
    ElementFailed,
    ElementNotRun,
    ElementRetrying,
    ElementStarted,
    ElementSucceeded,
    TaskFailed,
    TaskStarted,
)
from flowkit_core.failures import add_note, returned_skip, strip_traceback
from flowkit_core.runs.arguments import Given, collect
from flowkit_core.runs.call import Call, Outcome, Retry, fetch_and_release
from flowkit_core.runs.handle import fetched, is_handle
from flowkit_core.runs.run_state import ABSENT
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

from .element import Element
from .inputs import elements_of, is_lazy, paired
from .region import Region
from .stage import Stage, described

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node

WINDOW = 256
"""Maximum number of elements that a lane is given at once, if it does not say how many it needs."""
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
        windows: index of a mapped node -> maximum number of its elements that its lane is given at once.
        now: returns the current time in seconds.
    """

    def __init__(self, run: Any) -> None:
        self.run: Any = run
        self._regions: dict[int, Region] = {}
        self.windows: dict[int, int] = {}
        self.now: Callable[[], float] = monotonic

    def region_of(self, node: Node) -> Region | None:
        """Return the region of a mapped node; None if it has not been opened."""
        return self._regions.get(node.index)

    def close(self) -> None:
        """Drop the references to the run and to the elements."""
        self.run = None
        self._regions = {}

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
            region = self._opened(node, given)
        except BaseException as error:
            return Outcome(FAILED, error=error, retryable=False)
        if isinstance(region, Outcome):
            return region
        for stage in region.stages:
            stage.head = region.stages[0]
            run.state.stages[stage.node.index] = stage
            self._regions[stage.node.index] = region
            if run.events.wants(TaskStarted):
                facts = {"attempt": 1, "max_attempts": _attempts(stage), "worker": "", "elements": region.size}
                run.events.emit(TaskStarted, task=stage.node.name, **facts)
        return EXPANDED

    def _opened(self, node: Node, given: Given) -> Region | Outcome:
        columns = self._columns(node, given)
        if not columns:
            return Outcome(SKIPPED, "everything that it is mapped over was skipped")
        source: Node | None = None
        size: int | None = None
        values = list(columns.values())
        if len(values) > 1:
            values = list(paired(node.name, {str(name): value for name, value in columns.items()}))
        if hasattr(type(values[0]), "__len__"):
            size = len(values[0])
        else:
            sources = node.mapped.sources(node.binding)  # type: ignore[union-attr, arg-type]
            source = self.run.graph.nodes[sources[0]] if sources else None
            if source is not None:
                self.run.state.consumed[source.index] = node.name
                self.run.state.values[source.index] = ABSENT
        stages = [Stage(node, given, list(columns), size or 0)]
        while (following := self._following(stages[-1].node, size or 0)) is not None:
            stages.append(following)
        window = self.windows.get(node.index, WINDOW)
        region = Region(stages, values, size, window, source, self.now())
        region.is_smooth = self._is_smooth(region, values)
        return region

    def _columns(self, node: Node, given: Given) -> dict[str | int, Any]:
        """Remove the mapped values from the arguments of a node; return them by parameter, or position in ``*args``."""
        mapped, binding, parameters = node.mapped, node.binding, node.parameters
        if mapped is None or binding is None:
            return {}
        run = self.run
        columns: dict[str | int, Any] = {}
        for name in mapped.parameters:
            if name in given.named:
                value = given.named.pop(name)
            elif name not in binding.named and name in parameters.defaults:
                value = parameters.defaults[name]
            else:
                continue  # its source was skipped, and it takes its default
            columns[name] = self._elements(node, name, binding.named.get(name), value)
        rest = [source for source in binding.rest if run.state.codes[source] == SUCCEEDED]
        for place, source in enumerate(rest):
            if source in mapped.rest:
                columns[place] = self._elements(node, f"*args[{place}]", source, given.rest[place])
                given.rest[place] = None
        for name, source in binding.named_rest.items():
            if name in mapped.named_rest and name in given.extra:
                columns[name] = self._elements(node, name, source, given.extra.pop(name))
        if run.has_handles:
            given.named.update({name: fetched(value) for name, value in given.named.items()})
            given.rest[:] = map(fetched, given.rest)
            given.extra.update({name: fetched(value) for name, value in given.extra.items()})
        return columns

    def _elements(self, node: Node, name: str, source: int | None, value: Any) -> Any:
        """Return the elements of a mapped value, by their numbers in the original input."""
        stage = self.run.state.stages.get(source) if source is not None else None
        if stage is not None and len(stage.values) == len(stage.codes):
            return stage.column()
        return elements_of(node.name, name, fetched(value))

    def _following(self, node: Node, size: int) -> Stage | None:
        """Return the stage of the node that goes on with each element of a node; None if there is none.

        Its only mapped input is the result of the node, and all its other upstreams have ended.
        """
        run = self.run
        codes = run.state.codes
        for after in node.downstream:
            mapped, binding = after.mapped, after.binding
            if mapped is None or binding is None or mapped.sources(binding) != [node.index]:
                continue
            if any(name not in binding.named for name in mapped.parameters):
                continue
            if len(mapped.parameters) + len(mapped.rest) + len(mapped.named_rest) != 1:
                continue
            task = after.task
            if task.trigger != "none_failed" or task.executor != node.task.executor:
                continue
            if after.entry is not node.entry or task.is_async != node.task.is_async or codes[after.index] != PENDING:
                continue
            if any(codes[index] == PENDING for index in after.upstream if index != node.index):
                continue
            if any(codes[index] in (FAILED, UPSTREAM_FAILED, CANCELLED) for index in after.upstream):
                continue
            with run._lock:
                given = collect(after, run.state, run.params, run.run_id, pending=node.index)
            if isinstance(given, Outcome):
                continue
            column: str | int
            if mapped.parameters:
                column = mapped.parameters[0]
            elif mapped.named_rest:
                column = next(iter(mapped.named_rest))
            else:
                column = [source for source in binding.rest if codes[source] in (SUCCEEDED, PENDING)].index(node.index)
            return Stage(after, given, [column], size)
        return None

    def _is_smooth(self, region: Region, columns: Sequence[Any]) -> bool:
        """Return whether a worker may call the functions of all stages in a loop."""
        run = self.run
        if run.grace is not None or run.timeout is not None or run.has_handles:
            return False  # the session may end single calls
        if any(map(run.events.wants, (ElementStarted, ElementSucceeded))):
            return False
        for stage in region.stages:
            node, task = stage.node, stage.node.task
            if task.when is not None or task.timeout is not None or task.cache is not None or task.pool is not None:
                return False
            if node.parameters.keyed or node.parameters.copies_context:
                return False
            if stage is not region.stages[0] and stage.limit is not None:
                return False
        return not any(stage_column_is_partial(column) for column in columns)

    # ---- elements ----------------------------------------------------------------------------------------------------

    def is_opened(self, result: Any) -> bool:
        """Return whether the result of a mapped node is that its elements are to run."""
        return result is EXPANDED

    def expand(self, node: Node) -> Sequence[Node]:
        """Return the first elements of a mapped node, or the nodes that are ready if it has none."""
        region = self._regions[node.index]
        return self._next_jobs(region, [])

    def call(self, element: Element) -> Call | Outcome:
        """Return the call of an element; or its outcome, if it is not called."""
        if element.later is not None:
            return DEFERRED
        run, stage, number = self.run, element.stage, element.element
        with run._lock:
            attempt = stage.attempt_of.get(number, 1)
            if run.phase >= Phase.CANCELLED or not run.may_start(stage.node):
                return Outcome(CANCELLED, run.stop_reason)
            stage.retry_of.pop(number, None)
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
        with run._lock:
            if attempt is not None and not self.is_current(element, attempt):
                return None
            if not already and not run.may_start(element.stage.node):
                return Outcome(CANCELLED, run.stop_reason)
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
        return stage.codes[number] == PENDING and attempt == stage.attempt_of.get(number, 1)

    def finish(self, element: Element, result: Any, seconds: float, attempt: int | None) -> Sequence[Node] | Retry:
        """Take the result of an element, and return the jobs that are ready now: see `Run.finish`."""
        if element.later is not None:
            retry, element.later = element.later, None
            return retry
        run = self.run
        if is_handle(result):
            result = fetch_and_release(result)
        outcome = result.or_skip() if type(result) is Outcome else None
        if outcome is None and issubclass(type(result), Skip):
            outcome = Outcome(FAILED, error=returned_skip(element.name, result))
        if (outcome is None or outcome.state == SUCCEEDED) and run._recorder is not None:
            run._recorder.keep(element, result if outcome is None else outcome.value)
        with run._lock:
            if run.phase == Phase.ABANDONED or (attempt is not None and not self.is_current(element, attempt)):
                return _NO_NODES
            again = self._settle(element, outcome, result, seconds)
            if again is not None:
                return again
            region = element.region
            element.stage.active -= 1
            jobs = self._after(element)
        if run._stop_is_new:
            run._notify_stop()
        return self._next_jobs(region, jobs)

    def _settle(self, element: Element, outcome: Outcome | None, result: Any, seconds: float) -> Retry | None:
        """Set the final state of an element; or return a retry."""
        run, stage, number = self.run, element.stage, element.element
        if outcome is None or outcome.state == SUCCEEDED:
            stage.values[number] = result if outcome is None else outcome.value
            stage.codes[number] = SUCCEEDED
            if outcome is None:
                stage.seconds[number] = seconds
                if run.events.wants(ElementSucceeded):
                    attempt = stage.attempt_of.get(number, 1)
                    self._emit(ElementSucceeded, element, attempt=attempt, duration=seconds)
            return None
        if outcome.state == FAILED:
            error = outcome.error if outcome.error is not None else RuntimeError("the executor passed no exception")
            strip_traceback(error)
            stage.seconds[number] = seconds
            attempt = stage.attempt_of.get(number, 1)
            may_retry = outcome.retryable and run.may_start(stage.node)
            delay = stage.node.task.retry.pause(error, attempt, element.name, run._random) if may_retry else None
            if delay is not None:
                stage.attempt_of[number] = attempt + 1
                stage.retry_of[number] = error
                if run.events.wants(ElementRetrying):
                    stage.note_label(number, element.given)
                    most = _attempts(stage)
                    facts = {"attempt": attempt, "max_attempts": most, "delay": delay, "error": error}
                    self._emit(ElementRetrying, element, **facts)
                return Retry(element, delay)
            self._fail(element, error)
            return None
        waiting = stage.retry_of.pop(number, None)
        if outcome.state == CANCELLED and not outcome.started and waiting is not None and not run.cancelled:
            stage.attempt_of[number] -= 1
            self._fail(element, waiting)
            return None
        stage.codes[number] = outcome.state
        stage.reason_of[number] = outcome.reason
        if run.events.wants(ElementNotRun):
            state = STATES[outcome.state]
            self._emit(ElementNotRun, element, state=state, reason=outcome.reason, started=outcome.started)
        return None

    def _fail(self, element: Element, error: BaseException) -> None:
        run, stage, number = self.run, element.stage, element.element
        stage.note_label(number, element.given)
        stage.retry_of.pop(number, None)
        stage.error_of[number] = error
        if stage.errors == "return" and isinstance(error, Exception):
            stage.values[number] = error
        add_note(error, f"flowkit: element {stage.shown(number)} is {described(element.given)}")
        stage.codes[number] = FAILED
        is_raised = stage.raises(error)
        if is_raised:
            if run.report.at_stop is None:
                run.report.note_stop()
            run.state.error_of.setdefault(stage.node.index, error)
        if run.events.wants(ElementFailed):
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
        following = region.stage_after(stage)
        if following is None:
            region.active -= 1
            return jobs
        job = Element(region, following, element.element, stage.value_for_next(element.element))
        if following.limit is not None and following.active >= following.limit:
            following.parked.append(job)
        else:
            following.active += 1
            jobs.insert(0, job)
        return jobs

    def _next_jobs(self, region: Region, jobs: list[Node]) -> Sequence[Node]:
        """Pull elements as far as the window allows; close the region after its last element."""
        run, first = self.run, region.stages[0]
        most = min(region.window, first.limit or region.window)
        while not region.by_workers and not region.is_exhausted:
            with run._lock:
                if region.active >= region.window or first.active >= most or not run.may_start(first.node):
                    break
                region.active += 1
                first.active += 1
            pulled = region.pull()  # without the lock: the iterator of a user may take long
            if pulled is None:
                with run._lock:
                    region.active -= 1
                    first.active -= 1
                break
            jobs.append(Element(region, first, *pulled))
        return self.leave(region, jobs, count=0)

    # ---- workers that pull elements ----------------------------------------------------------------------------------

    def enter(self, region: Region) -> bool:
        """Return whether a worker may pull elements, and count it as active then."""
        run, first = self.run, region.stages[0]
        with run._lock:
            if region.is_closed or region.is_exhausted or not run.may_start(first.node) or run.cancelled:
                return False
            if first.limit is not None and first.active >= first.limit:
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
            is_over = region.is_exhausted or not run.may_start(region.stages[0].node)
            if region.active or not is_over or region.is_closed or run.phase == Phase.ABANDONED:
                return jobs
            region.is_closed = True
        jobs += self._close(region)
        return jobs

    def fail_pulled(
        self, region: Region, stage: Stage, number: int, given: Any, error: BaseException, seconds: float
    ) -> list[Node]:
        """Take the exception of an element that a worker has pulled; return the jobs that are ready.

        The element is active until it has ended, and the worker does not count any more: see :meth:`enter`.
        """
        element = Element(region, stage, number, given)
        with self.run._lock:
            region.stages[0].active -= 1
            stage.active += 1
        step = self.finish(element, Outcome(FAILED, error=error), seconds, 1)
        if isinstance(step, Retry):
            element.later = step
            return [element]
        return list(step)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _close(self, region: Region) -> list[Node]:
        """End the nodes of a region; return the nodes that are ready."""
        run = self.run
        trouble = None
        if region.trouble is not None:
            trouble = self._fail_source(region, region.trouble)
        region.drop_inputs()
        seconds = self.now() - region.started
        own = {stage.node for stage in region.stages}
        ready: list[Node] = []
        for stage in region.stages:
            outcome = stage.outcome(run.stop_reason, trouble)
            step = run.finish(stage.node, outcome, seconds)
            ready += [node for node in step if node not in own]
        return ready

    def _fail_source(self, region: Region, error: BaseException) -> Outcome:
        """Fail the task whose result is an iterator that has raised; return how the mapped nodes end."""
        run, source = self.run, region.source
        if source is None:
            return Outcome(FAILED, error=error, retryable=False)
        strip_traceback(error)
        with run._lock:
            run.leave_fast_path()
            if run.report.at_stop is None:
                run.report.note_stop()
            run.state.consumed.pop(source.index, None)
            run.state.error_of[source.index] = error
            run.state.codes[source.index] = FAILED
            if run.events.wants(TaskFailed):
                seconds = run.state.seconds[source.index]
                run.events.emit(TaskFailed, task=source.name, attempt=1, duration=seconds, error=error)
            run._stop_after(error)
        if run._stop_is_new:
            run._notify_stop()
        return Outcome(UPSTREAM_FAILED, f'the iterator that upstream "{source.name}" returned has failed')

    def local_generator(self, call: Call) -> Call | Outcome:
        """Return the result of a generator function, whatever the executor: its generator runs in this process."""
        func = call.func
        if type(func) is not FunctionType or not func.__code__.co_flags & CO_GENERATOR:
            return call
        outcome: Outcome | None = call.precheck() or self.run.mark_started(call.node)
        if outcome is not None:
            return outcome
        value = call.invoke()
        return value if type(value) is Outcome else Outcome(SUCCEEDED, value=value, started=True)

    def fed(self, node: Node, value: Any) -> Any:
        """Return the result of a node that others are mapped over, as a list if it is an iterator that several take."""
        if type(value) is Outcome and value.state == SUCCEEDED and value.started:
            value = value.value
        if is_handle(value) or not is_lazy(value) or not hasattr(type(value), "__next__"):
            return value
        run = self.run
        takers = [after for after in node.downstream if node.index not in after.waits and _takes_results(after)]
        is_recorded = run._recorder is not None and (run._recorder.records or node.task.cache is not None)
        if len(takers) <= 1 and not is_recorded and run._kept is None:
            return value
        try:
            return list(value)
        except BaseException as error:
            return Outcome(FAILED, error=error)


def stage_column_is_partial(column: Any) -> bool:
    """Return whether a mapped input has elements without a value."""
    from .inputs import Missing

    return type(column) is list and any(type(value) is Missing for value in column)


def _takes_results(node: Node) -> bool:
    return bool(node.parameters.names or node.parameters.rest or node.parameters.named_rest)


def _attempts(stage: Stage) -> int:
    retries: int = stage.node.task.retry.retries
    return 1 + retries
