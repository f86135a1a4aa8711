"""Names and options of executors."""

from __future__ import annotations

import conformance_tasks as p
import pytest
from conformance_checks import fresh

from flowkit_core import (
    DAG,
    ExecutorError,
    RunStarted,
    SerialExecutor,
    Task,
    UnknownExecutorError,
)
from flowkit_exec import ProcessExecutor, ThreadExecutor


@pytest.mark.parametrize("name", ["serial", "thread", "process"])
def test_executor_name_is_resolved(name):
    started = []
    start, end = fresh(p.one, p.add_one)
    start >> end
    dag = DAG("names", max_workers=2, tasks=[end])
    results = dag.run(
        executor=name, observers=[lambda event: started.append(event) if isinstance(event, RunStarted) else None]
    )
    assert results == {"one": 1, "add_one": 2}
    assert started[0].executor == name


def test_default_executor_is_thread():
    started = []
    DAG("default", tasks=fresh(p.one)).run(
        observers=[lambda event: started.append(event) if isinstance(event, RunStarted) else None]
    )
    assert started[0].executor == "thread"


def test_unknown_executor_lists_installed_ones():
    with pytest.raises(UnknownExecutorError) as caught:
        DAG("names", tasks=fresh(p.one)).run("threads")
    assert {"serial", "thread", "process"} <= set(caught.value.available)
    assert all(repr(name) in str(caught.value) for name in ("threads", "serial", "thread", "process"))
    assert "did you mean 'thread'" in str(caught.value)


@pytest.mark.parametrize("kind", [ThreadExecutor, ProcessExecutor])
@pytest.mark.parametrize(
    ("workers", "error"), [(0, ValueError), (-3, ValueError), (1.0, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_invalid_max_workers_is_an_error(kind, workers, error):
    with pytest.raises(error) as caught:
        kind(max_workers=workers)
    assert repr(workers) in str(caught.value)
    assert "integer of at least 1" in str(caught.value)


@pytest.mark.parametrize("kind", [ThreadExecutor, ProcessExecutor])
def test_executor_may_be_closed_twice(kind):
    executor = kind()
    executor.close()
    executor.close()
    with kind(max_workers=1) as executor:
        assert "max_workers=1" in repr(executor)


@pytest.mark.parametrize("kind", [SerialExecutor, ThreadExecutor, ProcessExecutor])
@pytest.mark.parametrize("tasks", [0, 1])
def test_closed_executor_is_an_error(kind, tasks):
    with kind() as executor:
        pass
    dag = DAG("closed", tasks=[Task(int, name="zero")][:tasks])
    with pytest.raises(ExecutorError, match=f"this {kind.__name__} is closed: create another"):
        dag.run(executor)
