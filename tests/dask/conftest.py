"""Fixtures: a scheduler and two worker processes, started from the command line, and clients of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from distributed import Client
from tornado.iostream import IOStream

SUPPORT = Path(__file__).parent / "support"
sys.path.insert(0, str(SUPPORT))


def packages():
    """Return the folders on the path of this process, without those of the standard library."""
    library = sysconfig.get_path("stdlib")
    inside = {library, f"{library}/lib-dynload"}
    return [entry for entry in sys.path if entry and entry not in inside and not entry.endswith(".zip")]


class Cluster:
    """A scheduler and worker processes with one thread each.

    Args:
        folder: an empty folder.
        workers: number of workers.
        has_nanny: whether a nanny replaces a dead worker.
        path: folders whose modules workers find before all others.
        python: the Python of the workers.
        allowed_failures: number of deaths of its workers that Dask allows a call; 3 is what Dask has without it.
    """

    def __init__(self, folder, workers=2, *, has_nanny=True, path=(), python=sys.executable, allowed_failures=1):
        self.file = folder / "scheduler.json"
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*path, str(SUPPORT), *packages()]),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures),
            "DASK_LOGGING__DISTRIBUTED": "error",
        }
        self.log = (folder / "cluster.log").open("w")
        self.processes, self.python = [], python
        try:
            self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
            for count in [workers] if has_nanny else [0] * workers:
                self.start_workers(count)
            with Client(scheduler_file=str(self.file), set_as_default=False, timeout=60) as client:
                client.wait_for_workers(workers, timeout=60)
                self.address = client.scheduler.address
        except BaseException:
            self.close()
            raise

    def start_workers(self, count=0):
        """Start workers under a nanny; 0 means one without a nanny."""
        return self.start("worker", *(["--nworkers", str(count)] if count else ["--no-nanny"]), "--nthreads", "1")

    def start(self, kind, *options):
        python = self.python if kind == "worker" else sys.executable
        command = [python, str(SUPPORT / "serve.py"), kind, "--no-dashboard"]
        command += ["--scheduler-file", str(self.file), *options]
        process = subprocess.Popen(command, env=self.env, stdin=subprocess.PIPE, stdout=self.log, stderr=self.log)
        self.processes.append(process)
        return process

    def close(self):
        for process in reversed(self.processes):  # workers first, so that they can sign off
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdin.close()
        self.log.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def session_client(cluster):
    with Client(cluster.address, set_as_default=False) as client:
        yield client


@pytest.fixture
def client(session_client):
    """A client; after the test, nothing is left on the cluster."""
    yield session_client
    end = time.monotonic() + 30
    while (left := tasks_on(session_client)) and time.monotonic() < end:
        time.sleep(0.01)
    assert left == []


@pytest.fixture
def start_cluster(tmp_path):
    """A function that starts a cluster for one test, by default with one worker, which has no nanny."""
    with ExitStack() as stack:

        def start(workers=1, *, has_nanny=False, **options):
            cluster = Cluster(tmp_path, workers, has_nanny=has_nanny, **options)
            stack.callback(cluster.close)
            return cluster

        yield start


@pytest.fixture(scope="session")
def other_python():
    """Another Python that can use the packages of this one, and its version. Compiled parts of them are optional."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(packages())}
    for minor in (14, 13, 12, 11):
        name = f"python3.{minor}"
        found = [*map(str, pyenv.glob(f"versions/3.{minor}.*/bin/{name}")), shutil.which(name)]
        for python in filter(None, found if minor != sys.version_info.minor else ()):
            done = subprocess.run([python, "-c", "import distributed"], env=env, capture_output=True, check=False)
            if done.returncode == 0:
                return python, f"3.{minor}"
    pytest.skip("platform: there is no other Python that can import the Dask of this one")


@pytest.fixture
def lonely_cluster(start_cluster):
    """A cluster for one test, with one worker, which has no nanny."""
    return start_cluster()


@pytest.fixture
def sent(monkeypatch):
    """The number of bytes that this process has sent and received over TCP, as a list with one item."""
    count = [0]
    for name in ("read_from_fd", "write_to_fd"):
        method = getattr(IOStream, name)

        def counting(self, data, method=method):
            size = method(self, data)
            count[0] += size or 0
            return size

        monkeypatch.setattr(IOStream, name, counting)
    return count


def tasks_on(client):
    return client.run_on_scheduler(lambda dask_scheduler: sorted(map(str, dask_scheduler.tasks)))
