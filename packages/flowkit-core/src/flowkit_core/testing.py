"""Tools to test pipelines of your own: does yours really go on where it was?"""

from __future__ import annotations

from ._text import short_repr
from ._typing import TYPE_CHECKING
from .events import TaskStarted
from .runs.recorder import state_manager
from .runs.states import DONE, STATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._typing import Any
    from .executor import Executor
    from .pipelines.pipeline import Pipeline
    from .results import Results
    from .runs.persistence import Cache, RecordedTask, Resume, RunJournal, Store

_DONE = tuple(STATES[state] for state in DONE)


class Verified:
    """What :func:`verify_resume` has found to be right.

    Attributes:
        points: at how many points the pipeline was crashed and resumed.
        tasks: how many tasks it has.
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
    """Crash a pipeline after everything that it records, resume it each time, and check that nothing comes of it.

    The pipeline runs once undisturbed, and then once and a bit for each point at which it can crash, here in this
    process, with its records in memory; so give it small inputs, and harmless side effects.

    Args:
        pipeline: a DAG, a Flow, or another builder.
        executor: where its tasks run; serial keeps the order of records, and so the points, the same each time.
        params: values for parameters that no upstream task fills.
        serializer: how results are kept, as for ``StateManager``.

    Returns:
        How many points there were.

    Raises:
        AssertionError: after a crash, a task that was recorded ran again, or a result was not the same.
        MissingDistributionError: flowkit-state is not installed.
        Exception: whatever the pipeline raises when it is not disturbed.

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
        undisturbed = _Store(manager)
        expected = pipeline.run(executor, params=params, state=undisturbed)
    points = len(undisturbed.recorded) + 1
    for point in range(points):
        with new_state(serializer=serializer) as manager:
            crashing = _Store(manager, point)
            try:
                pipeline.run(executor, params=params, state=crashing)
            except _Crash:
                manager.release(crashing.run_id)
            starts = _Starts()
            store = _Store(manager)
            found = pipeline.run(executor, params=params, state=store, resume=True, observers=[starts])
        last = repr(crashing.recorded[-1][0]) if crashing.recorded else "anything"
        where = f"after a crash {'after' if crashing.recorded else 'before'} {last} was recorded"
        done = {name for name, state in crashing.recorded if state in _DONE}
        _compare(where, pipeline.name, expected, found, done.intersection(starts.names))
    return Verified(points, len(expected.states))


def _compare(where: str, pipeline: str, expected: Results, found: Results, again: set[str]) -> None:
    """Raise AssertionError if a resumed run did something again, or did not come to what it comes to undisturbed."""
    for name in again:
        raise AssertionError(f"{where}, resuming {pipeline!r} ran {name!r} again")
    for name, state in expected.states.items():
        if found.states.get(name) != state:
            raise AssertionError(
                f"{where}, {name!r} ended as {found.states.get(name)}, not as {state}: that depends on something that "
                "its inputs do not tell"
            )
    for name, value in expected.items():
        if not _same(found[name], value):
            raise AssertionError(
                f"{where}, {name!r} returned {short_repr(found[name])}, not {short_repr(value)}: it depends on "
                "something that its inputs do not tell, such as the time, chance, or what another task has changed"
            )


class _Crash(BaseException):
    """Ends a run as the end of its process would: nothing is recorded after it."""


class _Starts:
    """Keeps the names of the tasks that start."""

    events = (TaskStarted,)

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, event: Any) -> None:
        self.names.append(event.task)


class _Store:
    """A store that keeps account of what is recorded, and crashes after so many records, if it is told to."""

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
    ) -> RunJournal:
        journal = self._store.open_run(run_id, pipeline, tasks, upstream, params, resume)
        self.run_id = journal.run_id
        return _Journal(journal, self, [task.name for task in tasks])

    def cache(self, own: Cache | None = None) -> Cache:
        return self._store.cache(own)

    def close(self) -> None:
        """Keep the store open: it is needed to resume."""


class _Journal:
    """The journal of such a store."""

    def __init__(self, journal: RunJournal, store: _Store, names: Sequence[str]) -> None:
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

    def prepare(self, index: int, value: Any) -> Any:
        self._crash_if_due()
        return self._journal.prepare(index, value)

    def record(self, index: int, state: str, stored: Any, **facts: Any) -> None:
        self._crash_if_due()
        self._journal.record(index, state, stored, **facts)
        self._store.recorded.append((self._names[index], state))
        self._crash_if_due()

    def close(self, status: str, rest: Sequence[tuple[int, str, str]], error: BaseException | None) -> None:
        if not self._crashed:
            self._journal.close(status, rest, error)

    def _crash_if_due(self) -> None:
        if self._crashed or len(self._store.recorded) == self._store.crash_after:
            self._crashed = True
            raise _Crash


def _same(one: Any, other: Any) -> bool:
    """Say whether two values are the same; what cannot be compared by ``==`` is by its pickle."""
    try:
        if one is other or (one == other) is True:
            return True
    except Exception:  # noqa: S110 - an array, or a class with a mind of its own
        pass
    import pickle

    try:
        return pickle.dumps(one) == pickle.dumps(other)
    except Exception:
        return False
