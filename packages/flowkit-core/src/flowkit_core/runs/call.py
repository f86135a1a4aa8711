"""What a run hands out and takes back: calls, and how they end."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import plain, shown
from flowkit_core.failures import add_note

from .coroutines import CoroutineType, run_coroutine
from .states import FAILED, SKIPPED, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.pipelines.node import Node


class Ending:
    """An outcome other than a value: how a node ended, or one attempt at it failed.

    Attributes:
        state: FAILED, SKIPPED, UPSTREAM_FAILED or CANCELLED; SUCCEEDED for a result that was known before.
        reason: why, in words.
        error: what was raised, for FAILED.
        final: whether not even a retry may change it; for CANCELLED, whether it had begun to run.
        value: the result that was known before, for SUCCEEDED.
    """

    __slots__ = ("error", "final", "reason", "state", "value")

    def __init__(
        self,
        state: int,
        reason: str = "",
        error: BaseException | None = None,
        *,
        final: bool = False,
        value: Any = None,
    ) -> None:
        self.state = state
        self.reason = reason
        self.error = error
        self.final = final
        self.value = value

    def __repr__(self) -> str:
        return f"<Ending {STATES[self.state]} {self.error if self.error is not None else self.reason!r}>"


class Later:
    """The answer of :meth:`Run.finish` to a failed attempt: hand out this node again after so many seconds."""

    __slots__ = ("delay", "node")

    def __init__(self, node: Node, delay: float) -> None:
        self.node = node
        self.delay = delay

    def __repr__(self) -> str:
        return f"<Later {plain(self.node.name)} {self.delay:.3g} s>"


class Call:
    """A bound call: what to do for one attempt at one node.

    Attributes:
        node: the node.
        func: the function.
        args: positional arguments.
        kwargs: keyword arguments.
        when: the condition, bound to its arguments, or None. It is to be judged before the call, by :meth:`judge`.
        attempt: which attempt this is, from 1.
        recall: looks the result of the call up in a cache; None where there is none.
    """

    __slots__ = ("args", "attempt", "func", "kwargs", "node", "recall", "when")

    def __init__(
        self,
        node: Node,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        when: Callable[[], object] | None,
        attempt: int,
        recall: Callable[[Node, Sequence[Any], dict[str, Any]], Ending | None] | None = None,
    ) -> None:
        self.node = node
        self.func = node.func
        self.args = args
        self.kwargs = kwargs
        self.when = when
        self.attempt = attempt
        self.recall = recall

    def judge(self) -> Ending | None:
        """Evaluate the condition, here and now, and look for a cached result; return None to go on, or how it ends."""
        if self.when is None and self.recall is None:
            return None
        try:
            if self.when is not None and not _answer(self.node.name, self.when()):
                return Ending(SKIPPED, "its condition was false")
        except BaseException as error:
            add_note(error, f"flowkit: the condition (when=) of task {self.node.name!r} raised this")
            return Ending(FAILED, error=error, final=True)
        try:
            return self.recall(self.node, self.args, self.kwargs) if self.recall is not None else None
        except BaseException as error:
            return Ending(FAILED, error=error, final=True)

    def perform(self) -> Any:
        """Make the call, here and now; return the value or an :class:`Ending`."""
        try:
            value = self.func(*self.args, **self.kwargs)
            return run_coroutine(value) if type(value) is CoroutineType else value
        except BaseException as error:
            return Ending(FAILED, error=error)


def _answer(task: str, value: Any) -> Any:
    """Return the result of a condition; raise for an iterator or an awaitable, which would always be true."""
    kind = type(value)
    if hasattr(kind, "__next__") or hasattr(kind, "__await__") or hasattr(kind, "__anext__"):
        if kind is CoroutineType:
            value.close()
        raise TypeError(
            f"the condition (when=) of task {task!r} returned {shown(value)}, of type {kind.__name__}, which is neither"
            f" true nor false: return a bool, for a generator any(...) or all(...) of it"
        )
    return value
