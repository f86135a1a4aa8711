"""Class `DaskExecutor`: runs tasks on a Dask cluster."""

from __future__ import annotations

from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from weakref import finalize

import dask

from flowkit_core import ExecutorError, SerializationError
from flowkit_core._checks import checked_workers
from flowkit_core._text import short_repr
from flowkit_core.executors.executor import check_open
from flowkit_core.runs.session import Session

from .errors import summary
from .lane import DaskLane
from .pickling import dumps_function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client

    from flowkit_core import Node, Run

    from .local_cluster import LocalWorkers

CONNECT_TIMEOUT = 10.0
"""Seconds in which a scheduler must answer."""


class DaskExecutor:
    """Runs tasks on a Dask cluster. Results stay there: a value is brought here only where it is needed.

    The first run connects to the cluster; later runs use the same connection.

    Args:
        cluster: the address of a scheduler, such as ``"tcp://scheduler:8786"``; or a ``distributed.Client``, which is
            not closed by this executor; or a cluster object, such as a ``LocalCluster``. None means the current client,
            if there is one; else the scheduler that the variable ``DASK_SCHEDULER_ADDRESS``, or the configuration of
            Dask, names; else worker processes on this machine, which end with this executor.
        max_workers: number of worker processes that are started on this machine, at least 1; None means one per
            processor. Only with ``cluster=None``; without effect if there is a client or a scheduler.

    Raises:
        TypeError: ``cluster`` is none of these, or an asynchronous client.
        ValueError: ``max_workers`` is less than 1, or given with a cluster.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def one(): return 1
        >>> with DaskExecutor(max_workers=1) as executor:  # doctest: +SKIP
        ...     DAG("numbers", tasks=[one]).run(executor)
        {'one': 1}
    """

    name = "dask"

    def __init__(self, cluster: Any = None, *, max_workers: int | None = None) -> None:
        checked_workers(max_workers)
        if max_workers is not None and cluster is not None:
            raise ValueError(
                f"DaskExecutor(max_workers={max_workers}) is given with a cluster, which has its own workers: leave "
                f"max_workers out"
            )
        self._cluster = _checked_cluster(cluster)
        self._max_workers = max_workers
        self._client: Client | None = None
        self._local: LocalWorkers | None = None
        self._owns_client = False
        self._closed = False
        self._finalizer: finalize[..., DaskExecutor] | None = None
        self._lock = Lock()

    def execute(self, run: Run) -> None:
        """Drive a run to its end.

        Raises:
            ExecutorError: the cluster cannot be reached, or the connection is lost, or this executor is closed.
        """
        Session(run, [self.lane()]).drive()

    def lane(self) -> DaskLane:
        """Return the lane of one run.

        Raises:
            ExecutorError: the cluster cannot be reached, or this executor is closed.
        """
        return DaskLane(self._connect())

    def check_nodes(self, nodes: Sequence[Node]) -> list[SerializationError]:
        """Return an error for each node whose function cannot be pickled, for ``Pipeline.check()``."""
        errors: list[SerializationError] = []
        for node in nodes:
            try:
                dumps_function(node.func)
            except Exception as error:
                hint = "pass what it needs as arguments, or use executor='thread'"
                errors.append(SerializationError(node.name, "function", f"cannot be pickled ({summary(error)})", hint))
        return errors

    def close(self) -> None:
        """Refuse further runs, and close the connection and the workers that this executor has made."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
            local, self._local = self._local, None
            if self._finalizer is not None:
                self._finalizer.detach()
        _close(client if self._owns_client else None, local)

    def _connect(self) -> Client:
        """Return the client, at first a new one if none was given."""
        with self._lock:
            check_open(self, is_closed=self._closed)
            if self._client is None or (self._owns_client and self._client.status == "closed"):
                self._client = self._find_client()
            return self._client

    def _find_client(self) -> Client:
        from distributed import Client, get_client

        cluster = self._cluster
        if isinstance(cluster, Client):
            return cluster
        self._owns_client = False
        self._close_local()  # of a client that was closed
        if cluster is None:
            try:
                return _checked_client(get_client(), "run('dask') has found")
            except ValueError:  # there is none
                cluster = dask.config.get("scheduler-address", None)
            if cluster is None:
                from .local_cluster import LocalWorkers

                self._local = LocalWorkers(self._max_workers)
                cluster = self._local.address
        from .client import ClosingClient

        try:
            client = ClosingClient(cluster, timeout=CONNECT_TIMEOUT, set_as_default=False)
        except BaseException as error:
            self._close_local()
            if not isinstance(error, (OSError, ValueError, TypeError)):
                raise
            place = cluster if isinstance(cluster, str) else getattr(cluster, "scheduler_address", short_repr(cluster))
            raise ExecutorError(
                f"the Dask scheduler at {place} cannot be reached ({summary(error)}): check the address, and that "
                f"the scheduler is running and has the same version of distributed"
            ) from error
        self._owns_client = True
        if self._finalizer is not None:
            self._finalizer.detach()
        self._finalizer = finalize(self, _close_later, client, self._local)
        self._finalizer.atexit = False  # the process ends both
        return client

    def _close_local(self) -> None:
        local, self._local = self._local, None
        if local is not None:
            local.close()

    def __enter__(self) -> DaskExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DaskExecutor({'' if self._cluster is None else short_repr(self._cluster)})"


def _close(client: Client | None, local: LocalWorkers | None) -> None:
    if client is not None:
        client.close(timeout=2)
    if local is not None:
        local.close()


def _close_later(client: Client | None, local: LocalWorkers | None) -> None:
    """Close a client and workers whose executor is garbage; any thread may call this, also one that must not wait."""
    Thread(target=_close, args=(client, local), name="flowkit-dask-close", daemon=True).start()


def _checked_cluster(cluster: Any) -> Any:
    """Return the argument ``cluster``.

    Raises:
        TypeError: it has a wrong type, or is an asynchronous client.
    """
    from distributed import Client

    if isinstance(cluster, Client):
        return _checked_client(cluster, "DaskExecutor(...) got")
    is_cluster = hasattr(cluster, "scheduler_address") and not isinstance(cluster, type)
    if cluster is None or (isinstance(cluster, str) and cluster) or is_cluster:
        return cluster
    hint = f": write {cluster.__name__}(), with parentheses" if isinstance(cluster, type) else ""
    raise TypeError(
        f"DaskExecutor(...) got {short_repr(cluster)}, but needs the address of a scheduler such as "
        f"'tcp://scheduler:8786', a distributed.Client, a cluster, or nothing{hint}"
    )


def _checked_client(client: Client, what: str) -> Client:
    """Return a client that was passed or found.

    Raises:
        TypeError: it is asynchronous here.
    """
    if client.asynchronous:
        raise TypeError(
            f"{what} a Client(asynchronous=True), whose event loop the run would block: write await dag.arun(...), or "
            f"pass the address of its scheduler"
        )
    return client
