"""Mocks, proxies and other callables with dynamic attributes as tasks of recorded runs."""

from __future__ import annotations

import xmlrpc.client
from unittest import mock

import pytest

from flowkit import DAG, Task


class FuncIsSelf:
    """Its attribute ``func`` is the object itself."""

    def __init__(self):
        self.func = self

    def __call__(self, x=6):
        return x + 1


class ReturnsSelf:
    """Every attribute is the object itself."""

    def __getattr__(self, name):
        return self

    def __call__(self, x=6):
        return x + 1


class ReturnsNew:
    """Every attribute is a new object of the same class."""

    def __getattr__(self, name):
        return ReturnsNew()

    def __call__(self, x=6):
        return x + 1


class Transport(xmlrpc.client.Transport):
    """A transport that records the calls and returns 7."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def request(self, host, handler, request_body, verbose=False):
        _, method = xmlrpc.client.loads(request_body)
        self.calls.append(method)
        return (7,)


ODD = {
    "Mock": lambda: mock.Mock(return_value=7),
    "MagicMock": lambda: mock.MagicMock(return_value=7),
    "AsyncMock": lambda: mock.AsyncMock(return_value=7),
    "func = self": FuncIsSelf,
    "__getattr__ returns self": ReturnsSelf,
    "__getattr__ returns another": ReturnsNew,
}
odd = pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ODD.items()])


@odd
@pytest.mark.parametrize("options", [{}, {"retries": 1, "delay": 0}, {"cache": True}], ids=repr)
def test_odd_callable_is_recorded_and_runs_again(box, make, options):
    dag = DAG("odd", tasks=[Task(make(), name="made", **options)])
    assert dag.run("serial", state=box.db) == {"made": 7}
    assert dag.run("serial", state=box.db, resume=True) == {"made": 7}
    assert box.state().runs()[0].tasks["made"].state == "succeeded"


@pytest.mark.parametrize("make", [make for name, make in ODD.items() if name != "AsyncMock"])
def test_odd_condition_is_recorded(box, make):
    made = Task(lambda x=1: x, name="made", when=make())
    assert DAG("odd", tasks=[made]).run("serial", state=box.db) == {"made": 1}


@odd
def test_odd_callable_is_resumed(box, make):
    last = []

    def end(made):
        if not last:
            last.append(1)
            raise ValueError
        return made

    start = Task(make(), name="made")
    sink = Task(end)
    start >> sink
    dag = DAG("odd", tasks=[sink])
    assert dag.run("serial", state=box.db, raise_on_failure=False).failed
    assert dag.run("serial", state=box.db, resume="force")["end"] == 7


def test_remote_method_is_called_once(box):
    """Every attribute of a proxy is a remote method."""
    transport = Transport()
    proxy = xmlrpc.client.ServerProxy("http://localhost:1/", transport=transport)
    DAG("odd", tasks=[Task(proxy.add, name="made")]).run("serial", state=box.db)
    assert transport.calls == ["add"]
