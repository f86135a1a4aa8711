"""Class `LimitedRun`: a run whose tasks name pools."""

from __future__ import annotations

from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.events import TaskWaiting
from flowkit_core.runs.call import PARKED, Call, Outcome, Retry
from flowkit_core.runs.run import Run
from flowkit_core.runs.states import FAILED

from .admission import Admission, Claim
from .definitions import pools_of_run
from .ranked_queue import rank_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node

    from .definitions import Pools


class LimitedRun(Run):
    """A run whose tasks name pools: :meth:`mark_started` takes the slots of an attempt, :meth:`finish` gives them back.

    A node that must wait for slots, or for its rate, is *parked*: its outcome is ``PARKED``, for which :meth:`finish`
    does nothing, so that its worker is free. When it may start, it is among the nodes that :meth:`finish` returns, or
    it is passed to ``on_ready``; then :meth:`call` is called again. Its condition is not evaluated again.

    Args:
        graph: the graph to run.
        pools: name of a pool -> number of slots, or a `Rate`; of all pools that tasks name.
        *options, **named_options: options of :class:`Run`.
    """

    def __init__(self, graph: Graph, *options: Any, pools: Pools, **named_options: Any) -> None:
        super().__init__(graph, *options, **named_options)
        self._claims: dict[int, Claim] = {
            node.index: self._new_claim(node.index, node) for node in graph.pooled if node.mapped is None
        }
        # index of a node -> its last attempt for which slots were asked for; (index, number) of an element -> likewise
        self._admitted: dict[Hashable, int] = {}
        self._has_told: set[int] = set()  # indices of mapped nodes with an element that has waited
        if graph.pooled:
            self.limits = Admission(pools)

    def __repr__(self) -> str:
        waiting = len(self.limits) if self.limits is not None else 0
        return f"{super().__repr__()[:-1]}, {waiting} waiting for a pool>" if waiting else super().__repr__()

    def _new_claim(self, key: Hashable, node: Node) -> Claim:
        return Claim(key, node, node.name, node.task.pool, rank_of(self.graph, node), timeout=node.task.timeout)

    def _claim(self, node: Node) -> Claim | None:
        """Return the claim of a node, or of an element of a mapped node; None if it needs no pool."""
        if node.element is None:
            return self._claims.get(node.index)
        return None if node.task.pool is None else self._new_claim((node.index, node.element), node)

    def call(self, node: Node) -> Call | Outcome:
        """Return the call of a ready node, without a condition and a cache if these were looked at before."""
        call = super().call(node)
        if isinstance(call, Call) and node.element is not None and (node.index, node.element) in self._admitted:
            call.when = call.lookup = None
        return call

    def admit(self, node: Node) -> Outcome | None:
        """Take the slots of a call that starts now; return its outcome if it does not start, or not now."""
        claim = self._claim(node)
        if claim is None or self.limits is None:
            return None
        attempt = self.current_attempt(node)
        is_first = self._admitted.get(claim.key) != attempt
        self._admitted[claim.key] = attempt
        if is_first and self.events.wants(TaskWaiting):
            with self._lock:  # so that this event precedes the start of the attempt
                started = self.limits.start(claim, attempt)
                if started is False:
                    self._tell(node, claim, attempt)
        else:
            started = self.limits.start(claim, attempt)
        if node.element is not None:
            self.mapping.pullers.note_wait(node, waits=started is False)
        if started is True:
            return None
        if started is not False:
            return Outcome(FAILED, error=started, retryable=False)
        if not self.may_start(node):  # the run was stopped meanwhile, and may not have seen that the node waits
            self._pass_on(self.limits.withdraw(self.may_start))
        return PARKED

    def _tell(self, node: Node, claim: Claim, attempt: int) -> None:
        """Emit that a node waits; of the elements of a mapped node, only for the first."""
        if node.element is not None and node.index in self._has_told:
            return
        self._has_told.add(node.index)
        self.events.emit(TaskWaiting, task=self.graph.names[node.index], attempt=attempt, pools=tuple(claim.amounts))

    def mark_started(self, node: Node, *, already: bool = False, attempt: int | None = None) -> Outcome | None:
        """Take the slots of a call, unless :meth:`admit` has done that, and note that it starts."""
        outcome = None if already else self.admit(node)
        return super().mark_started(node, already=already, attempt=attempt) if outcome is None else outcome

    def finish(
        self, node: Node, result: Any, seconds: float = 0.0, attempt: int | None = None
    ) -> Sequence[Node] | Retry:
        """Take the result of a call, and give back its slots; return the nodes that may start now, or a retry."""
        claim, limits = self._claim(node), self.limits
        if claim is None or limits is None:
            return super().finish(node, result, seconds, attempt)
        if result is PARKED:
            return ()
        number = self.current_attempt(node) if attempt is None else attempt
        step = super().finish(node, result, seconds, attempt)
        ready = limits.end(claim, number, is_abandoned=type(result) is Outcome and result.goes_on)
        if not ready:
            return step
        if isinstance(step, Retry):
            self._pass_on(ready)
            return step
        return [*step, *ready]

    def end_abandoned(self, node: Node, attempt: int) -> None:
        """Give back the slots of an abandoned attempt, which has ended now."""
        claim = self._claim(node)
        if claim is not None and self.limits is not None:
            self._pass_on(self.limits.end_abandoned(claim, attempt))

    def _notify_stop(self) -> None:
        is_new = self._stop_is_new
        super()._notify_stop()
        if is_new and self.limits is not None:
            self._pass_on(self.limits.withdraw(self.may_start))

    def _pass_on(self, ready: Sequence[Node]) -> None:
        if ready and self.on_ready is not None:
            self.on_ready(ready)


def limited_run(graph: Graph, defaults: Mapping[str, Any], given: Any) -> Callable[..., Run]:
    """Return what creates a run with pools: takes the options of `Run`.

    Args:
        graph: the graph.
        defaults: the pools of the pipeline.
        given: the argument ``pools`` of ``run()``, which overrides these by name.

    Raises:
        TypeError, ValueError: ``given`` is not a mapping of names to sizes.
        UnknownPoolError: a task names a pool that is not defined.
        PoolSizeError: a task takes more slots than a pool has.
    """
    pools = pools_of_run(graph, defaults, given)
    return partial(LimitedRun, pools=pools) if graph.pooled else Run
