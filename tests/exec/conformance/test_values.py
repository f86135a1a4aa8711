"""Values between tasks, on every executor."""

from __future__ import annotations

import conformance_tasks as p
from conformance_checks import copies, fresh

from flowkit_core import (
    DAG,
    Graph,
    Pipeline,
)
from flowkit_core.graphs.binding import bind_for_flow


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
        return Graph(self.name, self._tasks, upstream, lambda *facts: bind_for_flow(*facts[:3], places.get))


def test_value_from_an_indirect_upstream_is_passed(executor):
    row = ByName("row", *fresh(p.one, p.ten, p.add_hundred_to_one, p.ten_and_one))
    assert row.run(executor) == {"one": 1, "ten": 10, "add_hundred_to_one": 101, "ten_and_one": (10, 1)}


def test_keyword_only_parameters_are_passed_by_name(executor):
    start, second, end = fresh(p.one, p.add_one, p.keyword_only)
    start >> second
    [second, start] >> end
    assert DAG("keywords", tasks=[end]).run(executor)["keyword_only"] == (1, 2)


def test_async_task_under_a_decorator_is_awaited(executor):
    start, middle, end = fresh(p.one, p.awaited_inside, p.add_one)
    start >> middle >> end
    assert DAG("async", tasks=[end]).run(executor) == {"one": 1, "awaited_inside": 2, "add_one": 3}
