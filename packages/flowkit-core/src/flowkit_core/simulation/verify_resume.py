"""Function `verify_resume`: crashes a pipeline at every point at which it is recorded, and resumes it."""

from __future__ import annotations

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.events import TaskStarted
from flowkit_core.runs.recorder import state_manager
from flowkit_core.runs.states import DONE, STATES

from .checker import same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.executors.executor import Executor
    from flowkit_core.persistence import Cache, RecordedTask, Resume, RunJournal, Store, TaskOutcome
    from flowkit_core.pipelines.pipeline import Pipeline
    from flowkit_core.results import Results

_DONE = tuple(STATES[state] for state in DONE)


class Verified:
    """Result of :func:`verify_resume`.

    Attributes:
        points: number of points at which the pipeline was crashed and resumed.
        tasks: number of its tasks.
    """

    __slots__ = ("points", "tasks")

    def __init__(self, points: int, tasks: int) -> None:
        self.points = points
        self.tasks = tasks

    def __repr__(self) -> str:
        return f"Verified(points={self.points}, tasks={self.tasks})"


def verify_resume(
    pipeline: Pipeline,
    *,
    executor: str | Executor = "serial",
    params: Mapping[str, Any] | None = None,
    serializer: Any = "json",
) -> Verified:
    """Crash a pipeline before and after each of its records, resume it each time, and compare the results.

    The pipeline runs once without a crash, then one and a part times for each point at which it can crash. All runs are
    in this process, with records in memory: use small inputs, and tasks without harmful side effects.

    Args:
        pipeline: the pipeline.
        executor: where its tasks run; with ``"serial"``, the order of records is the same in each run.
        params: values for parameters that no upstream task fills.
        serializer: the serializer of results, as for ``StateManager``.

    Raises:
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
    new_state = state_manager("verify_resume()")
    with new_state(serializer=serializer) as manager:
        reference = _CrashingStore(manager)
        expected = pipeline.run(executor, params=params, state=reference)
    points = len(reference.recorded) + 1
    for point in range(points):
        with new_state(serializer=serializer) as manager:
            crashing = _CrashingStore(manager, point)
            try:
                pipeline.run(executor, params=params, state=crashing)
            except _Crash:
                manager.release(crashing.run_id)
            starts = _Starts()
            store = _CrashingStore(manager)
            resumed = pipeline.run(executor, params=params, state=store, resume=True, observers=[starts])
        last = repr(crashing.recorded[-1][0]) if crashing.recorded else "anything"
        where = f"after a crash {'after' if crashing.recorded else 'before'} {last} was recorded"
        done = {name for name, state in crashing.recorded if state in _DONE}
        _compare(where, pipeline.name, expected, resumed, done.intersection(starts.names))
    return Verified(points, len(expected.states))


def _compare(where: str, pipeline: str, expected: Results, resumed: Results, ran_again: set[str]) -> None:
    """Raise AssertionError if a recorded task ran again, or if states or results of a resumed run differ."""
    for name in ran_again:
        raise AssertionError(f"{where}, resuming {pipeline!r} ran {name!r} again")
    for name, state in expected.states.items():
        if resumed.states.get(name) != state:
            raise AssertionError(
                f"{where}, {name!r} ended as {resumed.states.get(name)}, not as {state}: that depends on something "
                "other than its inputs"
            )
    for name, value in expected.items():
        if not same(resumed[name], value):
            raise AssertionError(
                f"{where}, {name!r} returned {short_repr(resumed[name])}, not {short_repr(value)}: it depends on "
                "something other than its inputs, such as the time, random numbers, or data that another task changes"
            )


class _Crash(BaseException):
    """Simulated crash: nothing is recorded after it."""


class _Starts:
    """Observer that collects the names of the tasks that start."""

    events = (TaskStarted,)

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, event: Any) -> None:
        self.names.append(event.task)


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

    def __init__(self, journal: RunJournal, store: _CrashingStore, names: Sequence[str]) -> None:
        self._journal = journal
        self._store = store
        self._names = names
        self._crashed = False

    @property
    def run_id(self) -> str:
        return self._journal.run_id

    @property
    def done(self) -> Mapping[int, RecordedTask]:
        return self._journal.done

    @property
    def outdated(self) -> Mapping[int, str]:
        return self._journal.outdated

    def prepare(self, index: int, value: Any) -> Any:
        self._crash_if_due()
        return self._journal.prepare(index, value)

    def record(self, outcomes: Sequence[TaskOutcome]) -> None:
        for outcome in outcomes:  # not in a group, so that there is a point before and after each
            self._crash_if_due()
            self._journal.record([outcome])
            self._store.recorded.append((self._names[outcome.index], outcome.state))
            self._crash_if_due()

    def close(self, status: str, rest: Sequence[TaskOutcome], error: BaseException | None) -> None:
        if not self._crashed:
            self._journal.close(status, rest, error)

    def _crash_if_due(self) -> None:
        if self._crashed or len(self._store.recorded) == self._store.crash_after:
            self._crashed = True
            raise _Crash
