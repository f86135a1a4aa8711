"""Protocol `Lane`: the part of one executor in one run."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core.pipelines.node import Node

    from .session import Session


class Lane(Protocol):
    """The part of one executor in one run: it makes the calls of the nodes that it is given.

    A lane decides nothing: :class:`Session` passes it ready nodes, and it passes outcomes back. Everything but
    :meth:`work` returns at once, and :meth:`put`, :meth:`wake` and :meth:`stop` may be called from any thread.

    Attributes:
        name: name of the executor.
        leads: whether the lane has a loop, :meth:`work`, that needs a thread until the run is over. One lane of a run
            gets the thread that called ``run()``, others get threads of their own.
        forks: whether the lane may fork this process; such lanes are opened first, before threads start.
        fate: what happens to calls that :meth:`close` does not wait for: ``"left alone"`` or ``"ended"``.
    """

    name: str
    leads: bool
    forks: bool
    fate: str

    def open(self, session: Session) -> None:
        """Prepare for the run; nodes may arrive from now on.

        Raises:
            ExecutorError: the lane cannot start.
        """

    def put(self, nodes: Sequence[Node]) -> None:
        """Take nodes that are ready."""

    def work(self) -> None:
        """Run nodes in the calling thread until ``session.over``. Called once, if ``leads``."""

    def wake(self) -> None:
        """Look again at the state of the run: it is over, or another lane has changed its phase."""

    def stop(self, how: str) -> None:
        """Stop early, because a task failed or the run was interrupted.

        Args:
            how: ``"return"``: start no more calls, and let running ones end; ``"end"``: also end those that run, as far
                as that is possible.
        """

    def close(self) -> Sequence[Node]:
        """Release everything that the run needed, and return the nodes whose calls are still running."""
