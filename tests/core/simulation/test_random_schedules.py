"""Simulated schedules of random graphs with random faults keep the rules of runs."""

from __future__ import annotations

import pytest
from random_pipelines import random_pipeline

from flowkit_core.testing import simulate_many


def check_random_graphs(graphs, schedules):
    runs = failed = 0
    for seed in graphs:
        pipeline, options = random_pipeline(seed)
        counts = simulate_many(pipeline, seeds=range(schedules), pure=True, **options)
        runs += counts.runs
        failed += counts.failed
    return runs, failed


def test_random_schedules_keep_the_rules():
    runs, failed = check_random_graphs(range(200), 5)
    assert runs == 1000
    assert 0 < failed < runs


@pytest.mark.exhaustive
def test_ten_thousand_random_schedules_keep_the_rules():
    assert check_random_graphs(range(1000, 2000), 10)[0] == 10_000
