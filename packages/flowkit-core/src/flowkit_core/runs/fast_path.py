"""Running nodes in the calling thread."""

from __future__ import annotations

from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING

from .call import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context

    from flowkit_core._typing import Any
    from flowkit_core.pipelines.node import Node

    from .call import Retry
    from .run import Run


def carry(run: Run, node: Node, context: Context) -> Sequence[Node] | Retry:
    """Make the call of one ready node in this thread, in a copy of a context, and tell the run how it ended.

    Args:
        run: the run.
        node: a node that the run handed out.
        context: context variables of whoever started the run.

    Returns:
        What :meth:`Run.finish` returns.
    """
    call = run.call(node)
    if isinstance(call, Outcome):
        return run.finish(node, call)
    own = context.copy()
    began = perf_counter()
    outcome: Any = own.run(call.precheck) if call.when is not None or call.lookup is not None else None
    if outcome is None:
        outcome = run.mark_started(node)
    if outcome is None:
        began = perf_counter()
        outcome = own.run(call.invoke)
    try:
        return run.finish(node, outcome, perf_counter() - began)
    finally:
        del outcome  # the traceback of an error leads to this frame, which would lead to the error: a cycle
