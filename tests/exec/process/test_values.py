"""Values to and from worker processes, large ones in shared memory."""

from __future__ import annotations

import array
import os
from types import SimpleNamespace

import faulty_tasks as faults
import pytest
from process_checks import count_descriptors, count_descriptors_after_gc, run
from subprocess_harness import guarded

from flowkit_core import (
    Task,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(1 << 9000),
        1.5,
        "text",
        "x" * 100_000,
        b"x",
        bytes(100_000),
        bytearray(100_000),
        array.array("d", range(20_000)),
        (1, [2, {3: {4}}]),
        range(5),
        Ellipsis,
        faults.Color.RED,
        faults.Point(1, 2),
        int,
        faults.Point,
        len,
    ],
    ids=lambda value: type(value).__name__,
)
@guarded
def test_value_is_returned_equal_and_with_its_type(executor, value):
    found = run(executor, Task(faults.echo), params={"value": value})["echo"]
    assert type(found) is type(value)
    assert found == value


@guarded
def test_large_values_are_sent_and_received_at_once(executor):
    tasks = [Task(faults.double, name=f"task_{number}") for number in range(4)]
    data = bytes(range(256)) * 40_000
    results = run(executor, *tasks, params={"data": data})
    assert all(value == data + data for value in results.values())


class Known:
    """Cache that has one result."""

    def __init__(self, value):
        self.value = value

    def over(self, _state):
        return self

    def find(self, *_args, **_options):
        return SimpleNamespace(known=True, value=self.value, why="known", token=None)

    def keep(self, _token, _value):
        raise NotImplementedError


@pytest.mark.parametrize("task", [faults.size, faults.size_of])
@guarded
def test_large_value_of_the_caller_is_pickled_once_for_all_tasks(executor, task):
    pickled = []
    for count in (2, 40):
        faults.Counted.pickled = 0
        tasks = [Task(task, name=f"task_{number}") for number in range(count)]
        value = faults.Counted()
        if task is faults.size:
            Task(faults.ok, cache=Known(value)) >> tasks
        results = run(executor, *tasks, params={} if task is faults.size else {"value": value})
        assert {results[task.name] for task in tasks} == {faults.LARGE}
        pickled.append(faults.Counted.pickled)
    assert pickled[0] == pickled[1] <= 3


@guarded
def test_change_of_a_shared_value_is_not_visible_to_other_tasks(executor):
    start = Task(faults.buffer)
    tasks = [Task(faults.spoil, name=f"task_{number}") for number in range(40)]
    start >> tasks
    results = run(executor, *tasks)
    assert [results[task.name] for task in tasks] == [1] * 40
    assert bytes(results["buffer"].data) == b"\1" * faults.LARGE


@guarded
def test_same_large_value_twice_in_one_call_uses_one_segment(executor):
    value = faults.Counted()
    params = {"large": value, "same": value, "small": faults.Counted(1)}
    run(executor, Task(faults.ok))
    before = count_descriptors_after_gc()
    assert run(executor, Task(faults.sizes), params=params) == {"sizes": [faults.LARGE, faults.LARGE, 1]}
    assert count_descriptors() == before


@pytest.mark.parametrize("count", [70, 300])
@guarded
def test_more_large_arguments_than_descriptors_per_message(executor, count):
    sources, end = (
        [Task(faults.buffer, name=f"buffer_{number}") for number in range(count)],
        Task(faults.total),
    )
    sources >> end
    assert run(executor, end)["total"] == count


@guarded
def test_large_result_that_unpickles_to_an_existing_object_keeps_one_segment(executor):
    run(executor, *[Task(faults.ok, name=f"ok_{number}") for number in range(9)])  # starts both workers
    before = count_descriptors_after_gc()
    makers = [Task(faults.flyweight, name=f"maker_{number}") for number in range(8)]
    use = Task(faults.count_arguments, name="use", when=lambda *all_: len(set(map(id, all_))) == 1)
    makers >> use
    assert run(executor, use)["use"] == 8
    assert count_descriptors() == before


@guarded
def test_descriptors_of_large_results_are_not_inheritable(executor):
    inheritable = []

    def look(_value):
        inheritable.extend(number for number in range(3, 256) if _is_inheritable(number))
        return True

    large, use = Task(faults.large), Task(faults.ok, when=look)
    large >> use
    already = [number for number in range(3, 256) if _is_inheritable(number)]
    assert run(executor, use)["ok"] == "ok"
    assert set(inheritable) <= set(already)


def _is_inheritable(number):
    try:
        return os.get_inheritable(number)
    except OSError:
        return False
