"""Whether a ready node may run, by its trigger and the states of its upstreams: pure functions."""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING

from .call import Outcome
from .states import (
    CANCELLED,
    CLEANUP_TRIGGERS,
    FAILED,
    FAILURE_TRIGGERS,
    HAS_FAILED,
    NOT_DONE,
    SKIPPED,
    SUCCEEDED,
    UPSTREAM_FAILED,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core.graphs.node import Node

_FAILURES = {FAILED: "failed", UPSTREAM_FAILED: "could not run", CANCELLED: "was cancelled"}


def outcome_of_trigger(
    node: Node, codes: Sequence[int], names: Sequence[str], stop_reason: str | None
) -> Outcome | None:
    """Return how a ready node ends without being called; None if it may run.

    Args:
        node: the node, which is ready.
        codes: states by node index.
        names: names of the tasks by node index.
        stop_reason: why the run is stopping; None while it is not.
    """
    trigger = node.task.trigger
    upstream = _upstream_states(node, codes)
    if trigger in ("none_failed", "all_success"):
        for code, text in _FAILURES.items():
            if code in upstream:
                name = escape_control_chars(names[node.upstream[upstream.index(code)]])
                return Outcome(CANCELLED if code == CANCELLED else UPSTREAM_FAILED, f'upstream "{name}" {text}')
    if trigger == "one_success" and SUCCEEDED not in upstream and upstream:
        failed = any(code in NOT_DONE for code in upstream)
        return Outcome(UPSTREAM_FAILED if failed else SKIPPED, "no upstream succeeded")
    if stop_reason is not None and trigger not in CLEANUP_TRIGGERS:
        return Outcome(CANCELLED, stop_reason)
    if trigger == "all_success" and SKIPPED in upstream:
        name = escape_control_chars(names[node.upstream[upstream.index(SKIPPED)]])
        return Outcome(SKIPPED, f'upstream "{name}" was skipped')
    if trigger in FAILURE_TRIGGERS and FAILED not in upstream and UPSTREAM_FAILED not in upstream:
        return Outcome(SKIPPED, "no upstream failed")
    if trigger == "all_failed":
        for code, index in zip(upstream, node.upstream):
            if code not in HAS_FAILED:
                return Outcome(SKIPPED, f'upstream "{escape_control_chars(names[index])}" did not fail')
    return None


def _upstream_states(node: Node, codes: Sequence[int]) -> list[int]:
    """Return the states of the upstreams; a skipped upstream of an order-only edge counts as succeeded."""
    upstream = [codes[index] for index in node.upstream]
    if node.waits:
        upstream = [
            SUCCEEDED if code == SKIPPED and index in node.waits else code
            for index, code in zip(node.upstream, upstream)
        ]
    return upstream
