"""Runs of the core: its executors, and errors that name the distribution to install."""

from __future__ import annotations

import importlib.util

import pytest
import shop_tasks

from flowkit_core import DAG, MissingDistributionError, Task, UnknownExecutorError


def test_run_with_any_executor_returns_same_results(executor):
    results = shop_tasks.pipeline().run(executor)
    assert results == {"extract": [3, 1, 2], "total": 6, "largest": 3, "report": "3 of 6"}
    assert results.states["refund"] == "skipped"


def test_task_with_retries_runs_again_with_any_executor(executor, tmp_path):
    task = Task(shop_tasks.unstable, retries=1, delay=0)
    assert DAG("retry", tasks=[task]).run(executor, params={"path": str(tmp_path / "called")}) == {"unstable": "answer"}


def test_task_that_fails_raises_its_error_with_any_executor(executor):
    first, failing = Task(shop_tasks.extract), Task(shop_tasks.divide)
    first >> failing
    with pytest.raises(ZeroDivisionError) as caught:
        DAG("broken", tasks=[failing]).run(executor)
    assert "task 'divide' of 'broken' failed" in caught.value.__notes__[0]


def test_default_executor_is_thread_where_exec_is_installed_and_serial_elsewhere(installed, caplog):
    caplog.set_level("DEBUG", logger="flowkit")
    DAG("default", tasks=[Task(shop_tasks.extract)]).run()
    (started,) = [record for record in caplog.records if getattr(record, "event", None) == "run_started"]
    assert started.executor == ("thread" if "exec" in installed else "serial")


def test_unknown_executor_is_an_error_that_lists_the_installed_ones(executors):
    with pytest.raises(UnknownExecutorError) as caught:
        DAG("unknown", tasks=[Task(shop_tasks.extract)]).run("thraed")
    assert caught.value.available == tuple(executors)


@pytest.mark.parametrize(("name", "layer"), [("thread", "exec"), ("process", "exec"), ("dask", "dask")])
def test_executor_whose_distribution_is_absent_is_an_error_that_names_it(executors, name, layer):
    """Where it is installed, other tests run tasks with it."""
    dag = DAG("absent", tasks=[Task(shop_tasks.extract)])
    assert (name in executors) == (importlib.util.find_spec(f"flowkit_{layer}") is not None)
    if name not in executors:
        pattern = rf"Install 'flowkit-{layer}', .* with pip install ./packages/flowkit-{layer} "
        with pytest.raises(UnknownExecutorError, match=pattern):
            dag.run(name)


def test_path_of_state_is_an_error_that_names_the_distribution_where_it_is_absent(installed, tmp_path):
    dag = DAG("absent", tasks=[Task(shop_tasks.extract)])
    if "state" in installed:
        assert dag.run(state=tmp_path / "runs.db") == {"extract": [3, 1, 2]}
    else:
        with pytest.raises(MissingDistributionError, match="the distribution 'flowkit-state'") as caught:
            dag.run(state=tmp_path / "runs.db")
        assert caught.value.distribution == "flowkit-state"
        assert not (tmp_path / "runs.db").exists()


def test_cached_task_runs_again_where_state_is_absent(installed):
    calls = []

    def count():
        calls.append(1)
        return len(calls)

    dag = DAG("cached", tasks=[Task(count, cache=True)])
    if "state" in installed:
        dag.run("serial")
    else:
        with pytest.warns(RuntimeWarning, match="are not reused: .*flowkit-state"):  # once
            dag.run("serial")
    dag.run("serial")
    assert len(calls) == (1 if "state" in installed else 2)
