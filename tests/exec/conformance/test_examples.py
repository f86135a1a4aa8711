"""Small pipelines of the documentation, on every executor."""

from __future__ import annotations

import conformance_tasks as p
import pytest

from flowkit_core import (
    DAG,
)


def test_conditional_example(executor):
    results = DAG("conditional", tasks=[p.handle_large_data, p.handle_small_data]).run(executor)
    assert results == {"check_data": 1500, "handle_large_data": "Processing large dataset: 1500"}
    assert list(results.skipped) == ["handle_small_data"]


def test_parallel_example(executor):
    results = DAG("parallel_processing", max_workers=3, tasks=[p.aggregate_results]).run(executor)
    assert results["aggregate_results"] == f"Total: {sum(range(1000))}"
    assert list(results) == ["fetch_data", "process_batch_1", "process_batch_2", "process_batch_3", "aggregate_results"]


@pytest.mark.parametrize(
    ("size", "loaded"), [(1200, "LOADED_2400_MANUAL_APPROVAL"), (800, "LOADED_1600_AUTO_APPROVED")]
)
def test_approval_example(executor, size, loaded):
    assert DAG("approval_workflow", tasks=[p.load]).run(executor, params={"size": size})["load"] == loaded
