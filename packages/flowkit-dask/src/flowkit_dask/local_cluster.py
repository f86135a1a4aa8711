"""A cluster on this machine in processes of its own: ``python -m flowkit_dask.local_cluster 4 file`` runs it.

Its processes do not execute the script that starts it, and end with the process that started them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

from flowkit_core import ExecutorError

_ENVIRONMENT = {
    "DASK_LOGGING__DISTRIBUTED": "critical",  # run() reports failures
    "PYTHONUNBUFFERED": "1",  # what tasks print appears at once
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",  # it takes seconds to start a worker again
}
POLL_INTERVAL = 0.02
"""Seconds between two looks whether the cluster has started."""
SHUTDOWN_TIMEOUT = 10.0
"""Seconds that the cluster may take to end."""


class LocalWorkers:
    """A scheduler and worker processes on this machine.

    Args:
        workers: number of worker processes, with one thread each; None means one per processor.

    Attributes:
        address: address of the scheduler.

    Raises:
        ExecutorError: the cluster does not start.
    """

    def __init__(self, workers: int | None) -> None:
        from dask.system import CPU_COUNT

        count = workers or CPU_COUNT
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        with TemporaryDirectory(prefix="flowkit-dask-") as folder:
            file = Path(folder, "address")
            self._process = subprocess.Popen(  # noqa: S603 - a Python, this one
                [sys.executable, "-m", "flowkit_dask.local_cluster", str(count), str(file)],
                stdin=subprocess.PIPE,
                env={**_ENVIRONMENT, **os.environ, "PYTHONPATH": path},
            )
            try:
                while not file.exists() and self._process.poll() is None:
                    sleep(POLL_INTERVAL)
            except BaseException:
                self.close()
                raise
            self.address = file.read_text() if file.exists() else ""
        if not self.address:
            self.close()
            raise ExecutorError(
                f"a Dask cluster of {count} workers did not start on this machine: see its messages on the standard "
                f"error output"
            )

    def close(self) -> None:
        """End the cluster."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(SHUTDOWN_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _serve(workers: int, file: Path) -> None:
    """Run a cluster until the standard input ends; write its address to a file."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0") as cluster:
        unfinished = file.with_suffix(".new")
        unfinished.write_text(cluster.scheduler_address)
        unfinished.replace(file)
        sys.stdin.read()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
