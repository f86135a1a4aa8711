"""Values between tasks, on every executor."""

from __future__ import annotations

import itertools

import conformance_tasks as p
from conformance_checks import copies, fresh

from flowkit_core import (
    DAG,
    Graph,
    Pipeline,
)
from flowkit_core.pipelines.binding import bind_by_name


def test_chain_passes_each_result_on(executor):
    start, *rest = [*fresh(p.one), *copies(p.add_one, "b", "c", "d")]
    start >> rest[0] >> rest[1] >> rest[2]
    assert DAG("chain", tasks=rest[-1:]).run(executor) == {"one": 1, "b": 2, "c": 3, "d": 4}


def test_diamond_passes_arguments_in_order_of_parameters(executor):
    (start,), sides, (end,) = fresh(p.one), copies(p.add_one, "right", "left"), fresh(p.collect)
    start >> sides >> end
    start >> end
    results = DAG("diamond", tasks=[end]).run(executor)
    assert results == {"one": 1, "right": 2, "left": 2, "collect": (2, 2, 1)}
    assert list(results) == ["one", "right", "left", "collect"]


class ByName(Pipeline):
    """A pipeline of one chain, in which parameters are bound by name to any earlier task, as in a Flow."""

    def __init__(self, name, *tasks):
        super().__init__(name)
        self._tasks = tasks

    def graph(self):
        upstream = [[place - 1] if place else [] for place in range(len(self._tasks))]
        places = {task.name: place for place, task in enumerate(self._tasks)}
        return Graph(self.name, self._tasks, upstream, lambda *facts: bind_by_name(*facts, places.get))


def test_value_from_an_indirect_upstream_is_passed(executor):
    row = ByName("row", *fresh(p.one, p.ten, p.add_hundred_to_one, p.ten_and_one))
    assert row.run(executor) == {"one": 1, "ten": 10, "add_hundred_to_one": 101, "ten_and_one": (10, 1)}


def test_results_of_independent_tasks_are_in_topological_order(executor):
    names = [f"task_{number}" for number in (7, 3, 5, 1)]
    assert list(DAG("independent", tasks=copies(p.one, *names)).run(executor)) == names


def test_none_is_passed_on_as_a_result(executor):
    none, end = fresh(p.nothing, p.collect)
    none >> end
    assert DAG("none", tasks=[end]).run(executor) == {"nothing": None, "collect": (None,)}


def test_value_without_truth_or_equality_is_passed_on(executor):
    value, end = fresh(p.touchy, p.kind)
    value >> end
    assert DAG("touchy", tasks=[end]).run(executor)["kind"] == "Value"


def test_keyword_only_parameters_are_passed_by_name(executor):
    start, second, end = fresh(p.one, p.add_one, p.keyword_only)
    start >> second
    [second, start] >> end
    assert DAG("keywords", tasks=[end]).run(executor)["keyword_only"] == (1, 2)


def test_params_reach_the_task(executor):
    assert DAG("params", tasks=fresh(p.params)).run(executor, params={"day": "monday"}) == {"params": ("monday", 10)}


def test_async_task_is_awaited(executor):
    start, middle, end = fresh(p.one, p.awaited, p.add_one)
    start >> middle >> end
    assert DAG("async", tasks=[end]).run(executor) == {"one": 1, "awaited": 2, "add_one": 3}


def test_async_task_under_a_decorator_is_awaited(executor):
    start, middle, end = fresh(p.one, p.awaited_inside, p.add_one)
    start >> middle >> end
    assert DAG("async", tasks=[end]).run(executor) == {"one": 1, "awaited_inside": 2, "add_one": 3}


def test_empty_dag_has_no_results(executor):
    assert DAG("empty", tasks=[]).run(executor) == {}


def test_graph_with_a_thousand_parallel_tasks(executor):
    (start,), (end,) = fresh(p.one), fresh(p.collect)
    middle = copies(p.add_one, *(f"task_{number}" for number in range(1000)))
    start >> middle >> end
    assert DAG("wide", tasks=[end]).run(executor)["collect"] == (2,) * 1000


def test_chain_of_a_thousand_tasks(executor):
    tasks = [*fresh(p.one), *copies(p.add_one, *(f"task_{number}" for number in range(1000)))]
    for before, following in itertools.pairwise(tasks):
        before >> following
    assert DAG("long", tasks=tasks[-1:]).run(executor)["task_999"] == 1001
