"""Protocols of what makes runs durable: a store of runs, the record of one run, and a cache of results."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING, Protocol
from flowkit_core.pipelines.parameters import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Literal

    from flowkit_core._typing import Any

    Resume = bool | Literal["force"]
    Refresh = bool | str | Collection[str]
    StateErrors = Literal["raise", "warn"]


class PlannedTask(Protocol):
    """What a store is told of a task before a run, to know it again."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def func(self) -> Callable[..., Any]:
        """Its function."""

    @property
    def when(self) -> Callable[..., Any] | None:
        """Its condition."""

    @property
    def trigger(self) -> str:
        """What must have become of its upstreams."""


class RecordedTask(Protocol):
    """How a task ended in the part of a run that was recorded before."""

    @property
    def state(self) -> str:
        """Its final state, ``"succeeded"`` or ``"skipped"``."""

    @property
    def value(self) -> Any:
        """What it returned."""

    @property
    def reason(self) -> str:
        """Why it was skipped."""

    @property
    def attempts(self) -> int:
        """How many attempts it took."""

    @property
    def seconds(self) -> float:
        """How long the last of them took."""


class RunJournal(Protocol):
    """The record of one run, which this process alone may write.

    Attributes:
        run_id: which run; that of an earlier process, if it is resumed.
        done: what was recorded before, by position of the task; empty for a fresh run.
    """

    @property
    def run_id(self) -> str:
        """Which run."""

    @property
    def done(self) -> Mapping[int, RecordedTask]:
        """What was recorded before."""

    def prepare(self, index: int, value: Any) -> Any:
        """Return the stored form of a task's result. Called from any thread; raises what :meth:`record` cannot keep."""

    def record(
        self,
        index: int,
        state: str,
        stored: Any,
        *,
        attempts: int,
        seconds: float,
        reason: str,
        error: BaseException | None,
        source: str,
        why: str,
    ) -> None:
        """Commit how a task ended. When this returns, killing the process does not undo it."""

    def close(self, status: str, rest: Sequence[tuple[int, str, str]], error: BaseException | None) -> None:
        """Commit how the run ended, with position, state and reason of what did not run, and let go of the run."""


class Store(Protocol):
    """Where runs are recorded: what ``run(state=...)`` takes."""

    def open_run(
        self,
        run_id: str,
        pipeline: str,
        tasks: Sequence[PlannedTask],
        upstream: Sequence[Sequence[int]],
        params: Mapping[str, Any],
        resume: Resume,
    ) -> RunJournal:
        """Begin the record of a run; or go on with that of the last run of the pipeline, if it did not finish."""

    def cache(self, own: Cache | None = None) -> Cache:
        """Return the cache for tasks with ``cache=True``, or for those with a cache of their own."""

    def close(self) -> None:
        """Let go of the file."""


class CacheLookup(Protocol):
    """The answer to a look-up in a cache.

    Attributes:
        known: whether there is a result to be used again.
        value: it.
        token: to be handed to :meth:`Cache.keep` with the new result; None if that cannot be kept.
        why: in words, where it is from, or why there is none.
    """

    @property
    def known(self) -> bool:
        """Whether there is a result."""

    @property
    def value(self) -> Any:
        """The result."""

    @property
    def token(self) -> Any:
        """What the new result is to be kept under."""

    @property
    def why(self) -> str:
        """Where the result is from, or why there is none."""


class Cache(Protocol):
    """What ``@task(cache=...)`` takes: ``flowkit_state.TaskCache`` is one.

    A cache may also have a method ``check(function, name, *, ignore)``. It is called when the task is created and
    raises if the cache cannot be used for that task; see :func:`check_cache`.
    """

    def over(self, state: Any, /) -> Cache:
        """Return this cache if it has a store of its own, else one with the same options over ``state``."""

    def find(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        /,
        *,
        name: str,
        ignore: Collection[str],
        refresh: bool,
    ) -> CacheLookup:
        """Look for the result of a call, unless it is to be computed anew in any case (``refresh``)."""

    def keep(self, token: Any, value: Any, /) -> None:
        """Keep a result for the next time; what goes wrong there is logged, and is nothing for the run."""


def check_cache(cache: bool | Cache, function: Callable[..., Any], name: str) -> None:
    """Call ``cache.check()``, if the cache has one, to check that it can be used for a task.

    Args:
        cache: the option ``cache`` of the task.
        function: the function of the task.
        name: the name of the task.

    Raises:
        Exception: whatever ``cache.check()`` raises, which names the task.
    """
    check = getattr(cache, "check", None)
    if callable(check):
        check(function, name, ignore=(KEY,))


def idempotency_key(run_id: str, task: str) -> str:
    """Return a text that is the same for a run and a task in every attempt, and different for any other."""
    from hashlib import sha256

    return sha256(f"{run_id}\n{task}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
