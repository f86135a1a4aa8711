"""Function `verify_resume`: crashes a pipeline at every point at which it is recorded, and resumes it."""

from __future__ import annotations

import sys
from random import Random
from time import monotonic

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import ExecutorError
from flowkit_core.events import ElementStarted, TaskStarted
from flowkit_core.pipelines.options import CHECK_ALIASES, check_known
from flowkit_core.runs.recording.options import state_manager
from flowkit_core.runs.states import DONE, STATES, SUCCEEDED

from .map_checker import is_iterator
from .reference import same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowkit_core._typing import Any, Never
    from flowkit_core.executors.executor import Executor
    from flowkit_core.persistence import (
        Cache,
        ElementOutcome,
        MapRecord,
        RecordedElement,
        RecordedTask,
        Resume,
        RunJournal,
        Store,
        TaskOutcome,
    )
    from flowkit_core.pipelines.pipeline import Pipeline
    from flowkit_core.results import Results

PROGRESS_INTERVAL = 2.0
"""Seconds between two lines about the progress."""
_DONE = tuple(STATES[state] for state in DONE)


class Verified:
    """Result of :func:`verify_resume`.

    Attributes:
        points: number of points at which the pipeline was crashed and resumed.
        total: number of points at which it can crash; it is greater than ``points`` if the budget was too small.
        tasks: number of its tasks.
    """

    __slots__ = ("points", "tasks", "total")

    def __init__(self, points: int, total: int, tasks: int) -> None:
        self.points = points
        self.total = total
        self.tasks = tasks

    def __repr__(self) -> str:
        of = "" if self.points == self.total else f" of {self.total}"
        return f"Verified(points={self.points}{of}, tasks={self.tasks})"


def verify_resume(
    pipeline: Pipeline,
    *,
    executor: str | Executor = "serial",
    params: Mapping[str, Any] | None = None,
    serializer: Any = "json",
    budget: float | None = None,
    seed: int | None = None,
    progress: bool = True,
    **unknown: Never,
) -> Verified:
    """Crash a pipeline before and after each of its records, resume it each time, and compare the results.

    The pipeline runs once without a crash, then one and a part times for each point at which it can crash. All runs are
    in this process, with records in memory: use small inputs, and tasks without harmful side effects.

    Args:
        pipeline: the pipeline.
        executor: where its tasks run; with ``"serial"``, the order of records is the same in each run.
        params: values for parameters that no upstream task fills.
        serializer: the serializer of results, as for ``StateManager``.
        budget: seconds after which no further point is verified, more than 0; then the points are chosen at random, and
            there is one at least. None means that every point is verified, in order.
        seed: makes the choice of points repeatable.
        progress: whether a line on standard error shows from time to time how many points are verified.
        **unknown: raises TypeError; the message names the option to use instead.

    Raises:
        ValueError, TypeError: ``budget`` is not a positive number of seconds.
        AssertionError: after a crash, a recorded task ran again, or a result differed.
        MissingDistributionError: flowkit-state is not installed.
        Exception: an exception of the pipeline itself.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def one(): return 1
        >>> @task
        ... def two(one): return one + 1
        >>> _ = one >> two
        >>> verify_resume(DAG("numbers", tasks=[two]))
        Verified(points=3, tasks=2)
    """
    if unknown:
        check_known("verify_resume()", unknown, list(verify_resume.__kwdefaults__ or ()), CHECK_ALIASES)
    _check_budget(budget)
    began = shown = monotonic()
    new_state = state_manager("verify_resume()")
    with new_state(serializer=serializer) as manager:
        reference = _CrashingStore(manager)
        expected = pipeline.run(executor, params=params, state=reference, state_errors="raise")
    failed = {name for name, elements in expected.elements.items() if elements.failed}
    changed = _downstream(pipeline, failed)
    unrecorded = {node.name for node in pipeline.graph().nodes if not node.task.record}
    succeeded = [name for name, state in expected.states.items() if state == STATES[SUCCEEDED]]
    consumed = {name for name in succeeded if name not in expected or is_iterator(expected[name])}
    # a resumed run calls a task again for elements that have failed, what takes them, and what returns an iterator
    called_again = unrecorded | failed | changed | consumed
    total = len(reference.recorded) + 1
    points = [*range(total)]
    if budget is not None:
        Random(seed).shuffle(points)
    for count, point in enumerate(points):
        now = monotonic()
        if progress and now - shown >= PROGRESS_INTERVAL:
            shown = now
            _show(f"verify_resume: {count} of {total} points, {now - began:.0f} s")
        if budget is not None and count and now - began >= budget:
            return Verified(count, total, len(expected.states))
        with new_state(serializer=serializer) as manager:
            crashing = _CrashingStore(manager, point)
            try:
                pipeline.run(executor, params=params, state=crashing, state_errors="raise")
            except (_Crash, ExecutorError) as error:  # the latter, if a thread of an executor was to record
                if not isinstance(error, _Crash) and not isinstance(error.__cause__, _Crash):
                    raise
                manager.release(crashing.run_id)
            starts = _Starts()
            store = _CrashingStore(manager)
            resumed = pipeline.run(executor, params=params, state=store, resume=True, observers=[starts])
        last = repr(crashing.recorded[-1][0]) if crashing.recorded else "anything"
        where = f"after a crash {'after' if crashing.recorded else 'before'} {last} was recorded"
        ended = {name for name, state in crashing.recorded if state in _DONE}
        done = {
            name for name in ended if name not in called_again and name.rpartition("[")[0] not in unrecorded | changed
        }
        values = {
            name: value
            for name, value in expected.items()
            if name not in consumed and (name not in unrecorded or name in resumed)
        }
        _compare(where, pipeline.name, expected.states, values, resumed, done.intersection(starts.names))
    return Verified(total, total, len(expected.states))


def _downstream(pipeline: Pipeline, names: set[str]) -> set[str]:
    """Return all tasks downstream of some."""
    found: set[str] = set()
    for node in pipeline.graph().nodes:
        if node.name in names or node.name in found:
            found.update(after.name for after in node.downstream)
    return found


def _check_budget(budget: Any) -> None:
    if budget is None:
        return
    wrong = f"verify_resume(budget=...) is {short_repr(budget)}, but must be a number of seconds, more than 0, or None"
    if type(budget) not in (int, float):
        raise TypeError(wrong)
    if not budget > 0:
        raise ValueError(wrong)


def _show(line: str) -> None:
    if sys.stderr is not None:  # a program without a console has none
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _compare(
    where: str,
    pipeline: str,
    states: Mapping[str, str],
    values: Mapping[str, Any],
    resumed: Results,
    ran_again: set[str],
) -> None:
    """Raise AssertionError if a recorded task ran again, or if states or results of a resumed run differ."""
    for name in ran_again:
        raise AssertionError(f"{where}, resuming {pipeline!r} ran {name!r} again")
    for name, state in states.items():
        if resumed.states.get(name) != state:
            raise AssertionError(
                f"{where}, {name!r} ended as {resumed.states.get(name)}, not as {state}: that depends on something "
                "other than its inputs"
            )
    for name, value in values.items():
        if not same(resumed[name], value):
            raise AssertionError(
                f"{where}, {name!r} returned {short_repr(resumed[name])}, not {short_repr(value)}: it depends on "
                "something other than its inputs, such as the time, random numbers, or data that another task changes"
            )


class _Crash(BaseException):
    """Simulated crash: nothing is recorded after it."""


class _Starts:
    """Observer that collects the names of the tasks that start, and of their elements: ``"parse[3]"``."""

    events = (TaskStarted, ElementStarted)

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, event: Any) -> None:
        element = getattr(event, "element", None)
        self.names.append(event.task if element is None else f"{event.task}[{element}]")


class _CrashingStore:
    """Store that lists what is recorded, and simulates a crash after a number of records."""

    def __init__(self, store: Store, crash_after: int | None = None) -> None:
        self._store = store
        self.crash_after = crash_after
        self.recorded: list[tuple[str, str]] = []
        self.run_id = ""

    def open_run(
        self,
        run_id: str,
        pipeline: str,
        tasks: Sequence[Any],
        upstream: Sequence[Sequence[int]],
        params: Mapping[str, Any],
        resume: Resume,
        resume_max_age: float | None,
    ) -> RunJournal:
        journal = self._store.open_run(run_id, pipeline, tasks, upstream, params, resume, resume_max_age)
        self.run_id = journal.run_id
        return _CrashingJournal(journal, self, [task.name for task in tasks])

    def cache(self, own: Cache | None = None) -> Cache:
        return self._store.cache(own)

    def close(self) -> None:
        """Do nothing: the store is needed to resume the run."""


class _CrashingJournal:
    """Record of one run in a `_CrashingStore`."""

    def __init__(self, journal: Any, store: _CrashingStore, names: Sequence[str]) -> None:
        self._journal = journal
        self._store = store
        self._names = names
        self._crashed = False

    @property
    def run_id(self) -> str:
        run_id: str = self._journal.run_id
        return run_id

    @property
    def done(self) -> Mapping[int, RecordedTask]:
        done: Mapping[int, RecordedTask] = self._journal.done
        return done

    @property
    def outdated(self) -> Mapping[int, str]:
        outdated: Mapping[int, str] = self._journal.outdated
        return outdated

    def prepare(self, index: int, value: Any) -> Any:
        self._crash_if_due()
        return self._journal.prepare(index, value)

    def notes(self, index: int, element: int | None) -> Mapping[str, Any]:
        notes: Mapping[str, Any] = self._journal.notes(index, element)
        return notes

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        self._crash_if_due()
        self._journal.remember(index, element, key, value)

    def record(self, outcomes: Sequence[TaskOutcome]) -> None:
        for outcome in outcomes:  # not in a group, so that there is a point before and after each
            self._crash_if_due()
            self._journal.record([outcome])
            self._store.recorded.append((self._names[outcome.index], outcome.state))
            self._crash_if_due()

    def open_map(self, index: int, *facts: Any) -> _CrashingMap:
        self._crash_if_due()
        return _CrashingMap(self._journal.open_map(index, *facts), self._names[index])

    def record_elements(self, rows: Sequence[_Row]) -> None:
        for row in rows:
            self._crash_if_due()
            self._journal.record_elements([row.row])
            self._store.recorded.append((row.name, row.state))
            self._crash_if_due()

    def close(self, status: str, rest: Sequence[TaskOutcome], error: BaseException | None) -> None:
        if not self._crashed:
            self._journal.close(status, rest, error)

    def _crash_if_due(self) -> None:
        if self._crashed or len(self._store.recorded) == self._store.crash_after:
            self._crashed = True
            raise _Crash


class _Row:
    """A prepared element of a `_CrashingMap`."""

    def __init__(self, name: str, state: str, row: Any) -> None:
        self.name = name
        self.state = state
        self.row = row


class _FoundElement:
    """A recorded element of a `_CrashingMap`."""

    def __init__(self, found: RecordedElement, name: str) -> None:
        self.state = found.state
        self.value = found.value
        self.reason = found.reason
        self.row = None if found.row is None else _Row(name, found.state, found.row)


class _CrashingMap:
    """Record of the elements of one mapped task in a `_CrashingJournal`."""

    def __init__(self, record: MapRecord, name: str) -> None:
        self._record = record
        self._name = name

    @property
    def has_recorded(self) -> bool:
        return self._record.has_recorded

    def find(self, number: int, given: Any, *, is_same: bool) -> _FoundElement | None:
        found = self._record.find(number, given, is_same=is_same)
        return None if found is None else _FoundElement(found, f"{self._name}[{number}]")

    def fingerprint(self, given: Any) -> Any:
        return self._record.fingerprint(given)

    def prepare(self, outcome: ElementOutcome) -> _Row:
        return _Row(f"{self._name}[{outcome.number}]", outcome.state, self._record.prepare(outcome))

    def note_size(self, size: int) -> None:
        self._record.note_size(size)
