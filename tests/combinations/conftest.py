"""Tests of what depends on the layers that are installed: a file runs where the layers that it needs are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

NEEDED = {
    "test_core.py": {"core"},
    "test_core_and_log.py": {"core", "log"},
    "test_core_and_state.py": {"core", "state"},
    "test_core_log_and_state.py": {"core", "log", "state"},
    "test_dask.py": {"dask"},
    "test_flow.py": {"flow"},
    "test_log.py": {"log"},
    "test_state.py": {"state"},
    "test_view.py": {"view"},
}
LAYERS = ("core", "dask", "exec", "flow", "log", "state", "view")
INSTALLED = {layer for layer in LAYERS if importlib.util.find_spec(f"flowkit_{layer}")}
EXECUTORS = ["serial", *(["thread", "process"] if "exec" in INSTALLED else []), *(INSTALLED & {"dask"})]

collect_ignore = [name for name, needed in NEEDED.items() if not needed <= INSTALLED]

# Worker processes inherit sys.path, so they import the tasks as the tests do.
sys.path.insert(0, str(Path(__file__).parent / "support"))


@pytest.fixture(scope="session")
def executors():
    """The names of the executors that are installed."""
    return sorted(EXECUTORS)


@pytest.fixture(scope="session")
def installed():
    """The installed layers, by their short names."""
    return INSTALLED


@pytest.fixture(scope="session")
def dask_client():
    """A client of a cluster with one worker: ``run("dask")`` uses it while it is the current one."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 1, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture(autouse=True)
def current_client(request):
    """Make the client current in tests whose argument ``executor`` is "dask"."""
    if "executor" in request.fixturenames and request.getfixturevalue("executor") == "dask":
        with request.getfixturevalue("dask_client").as_current():
            yield
    else:
        yield


def pytest_generate_tests(metafunc):
    """Run tests with an argument ``executor`` with the default and with each executor that is installed."""
    if "executor" in metafunc.fixturenames:
        metafunc.parametrize("executor", [None, *EXECUTORS])
