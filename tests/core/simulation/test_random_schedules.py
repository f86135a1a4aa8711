"""Simulated schedules of random graphs with random faults keep the rules of runs."""

from __future__ import annotations

import pytest
from random_maps import random_maps
from random_pipelines import random_pipeline

from flowkit_core.testing import simulate_many

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*needs the result of:RuntimeWarning"),  # random triggers
    pytest.mark.filterwarnings("ignore:.*is a generator function, so:RuntimeWarning"),  # random options
]


def check_random_graphs(random_graph, graphs, schedules):
    runs = failed = 0
    for seed in graphs:
        pipeline, options = random_graph(seed)
        counts = simulate_many(pipeline, seeds=range(schedules), pure=True, **options)
        runs += counts.runs
        failed += counts.failed
    return runs, failed


@pytest.mark.parametrize("random_graph", [random_pipeline, random_maps])
def test_random_schedules_keep_the_rules(random_graph):
    runs, failed = check_random_graphs(random_graph, range(200), 5)
    assert runs == 1000
    assert 0 < failed < runs


@pytest.mark.exhaustive
@pytest.mark.parametrize(("random_graph", "schedules"), [(random_pipeline, 10), (random_maps, 3)])
def test_many_random_schedules_keep_the_rules(random_graph, schedules):
    assert check_random_graphs(random_graph, range(1000, 2000), schedules)[0] == 1000 * schedules
