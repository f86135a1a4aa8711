"""Class `Deaths`: calls whose workers have died; some of them only waited there, or lost an argument."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from flowkit_core import ExecutorError, WorkerDiedError
from flowkit_core.runs.handle import handles_among

from .handle import DaskHandle
from .submissions import node_key

if TYPE_CHECKING:
    from distributed import Client, KilledWorker

    from .submissions import NodeKey, Submission, Submissions

MAX_UNSEEN_DEATHS = 5
"""How often a call is sent again whose workers died before they reported its start, or its arrival."""


class Deaths:
    """The calls of one run whose workers have died.

    If a worker dies, Dask starts all calls again elsewhere that it had, also those that only waited there. A call that
    was on more dead workers than ``distributed.scheduler.allowed-failures`` ends with a `KilledWorker`. It is the cause
    if the last of these workers has reported that it started the call, or was going to. Otherwise it is sent again, and
    workers report its arrival from then on, before they start it.

    Args:
        client: the client.
        submissions: the calls of the run.
    """

    def __init__(self, client: Client, submissions: Submissions) -> None:
        self._client = client
        self._submissions = submissions
        self._deaths: Counter[NodeKey] = Counter()  # workers that have died while they ran the call

    def error_of(self, submission: Submission, killed: KilledWorker) -> WorkerDiedError | None:
        """Return the error for a call; None if it is to be sent again, because it may only have waited."""
        worker = killed.last_worker.address
        is_seen = worker in (submission.worker, submission.arrived_at)
        if not is_seen and submission.deaths < MAX_UNSEEN_DEATHS:
            self._submissions.note_death(submission)
            self._compute_again(submission)
            return None
        node = submission.call.node
        deaths = self._deaths
        deaths[node_key(node)] += killed.allowed_failures + 1
        pid = submission.pid if is_seen else None
        return WorkerDiedError(node.name, pid, None, None, worker, deaths[node_key(node)])

    def error_of_cancelled(self, submission: Submission) -> ExecutorError | None:
        """Return the error for a call that the cluster has cancelled; None if it is to be sent again.

        Dask cancels calls if an argument is lost with its worker that came from this process, which still has it.
        """
        if self._submissions.has_lost_argument(submission) and submission.deaths < MAX_UNSEEN_DEATHS:
            self._submissions.note_death(submission)
            return None
        return ExecutorError(
            f"the Dask cluster has cancelled the call of task {submission.call.node.name!r}: a value that it needs was "
            f"lost with a worker and cannot be computed again, or another client has cancelled it; run again (with "
            f"run(state=...), resume=True continues)"
        )

    def _compute_again(self, submission: Submission) -> None:
        """Have the cluster compute those arguments again that were lost with the worker, and failed with it."""
        arguments = (*submission.call.args, *submission.call.kwargs.values())
        futures = [value.future for value in handles_among(arguments) if isinstance(value, DaskHandle)]
        lost = [future for future in futures if future is not None and future.status == "error"]
        if lost:
            self._client.retry(lost)
