"""Runs on a cluster of Dask, and errors that name the distribution to install."""

from __future__ import annotations

import pytest
import shop_tasks

from flowkit_core import DAG, MissingDistributionError, Task


def test_run_without_a_client_starts_workers():
    """They find the modules of this process."""
    assert DAG("local", tasks=[Task(shop_tasks.extract)]).run("dask", max_workers=1) == {"extract": [3, 1, 2]}


def test_task_beside_those_on_the_cluster_runs_in_another_executor(dask_client, installed):
    first, last = Task(shop_tasks.extract, executor="dask"), Task(shop_tasks.total)
    first >> last
    with dask_client.as_current():
        results = DAG("both", tasks=[last]).run("thread" if "exec" in installed else "serial")
    assert results == {"extract": [3, 1, 2], "total": 6}


def test_path_of_state_is_an_error_that_names_the_distribution_where_it_is_absent(dask_client, installed, tmp_path):
    dag, path = DAG("recorded", tasks=[Task(shop_tasks.extract)]), tmp_path / "runs.db"
    with dask_client.as_current():
        if "state" in installed:
            assert dag.run("dask", state=path) == {"extract": [3, 1, 2]}
        else:
            with pytest.raises(MissingDistributionError, match="the distribution 'flowkit-state'"):
                dag.run("dask", state=path)
