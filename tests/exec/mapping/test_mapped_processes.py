"""Mapped tasks in worker processes: blocks of elements, failures in them, contexts and large arguments."""

from __future__ import annotations

import sys
from functools import partial

import map_functions
import pytest

from flowkit_core import DAG, Rate, SerializationError, Task, TaskTimeoutError, WorkerDiedError
from flowkit_exec import ProcessExecutor

SIZE = 1000


@pytest.fixture(scope="module")
def executor():
    with ProcessExecutor(2) as executor:
        yield executor


def sweep(executor, function, values=range(SIZE), *, map_options=None, run_options=None, params=None, **options):
    each = Task(function, name="each", **options)
    dag = DAG("sweep", tasks=[each.map("x", **(map_options or {}))])
    return dag.run(executor, params={"x": values, **(params or {})}, **(run_options or {}))


@pytest.mark.parametrize("chunk", [None, 1, 7, 5000])
@pytest.mark.parametrize("limit", [None, 1])
def test_values_in_order(executor, chunk, limit):
    results = sweep(executor, map_functions.add_one, map_options={"chunk": chunk, "limit": limit})
    assert results == {"each": list(range(1, SIZE + 1))}
    assert len(results.elements["each"].durations) == SIZE
    assert min(results.elements["each"].durations) > 0


def test_arguments_in_common(executor):
    params = {"factor": 10, "offset": 1}
    assert sweep(executor, map_functions.scaled, params=params)["each"][-1] == 9991
    each = Task(map_functions.add, name="each")
    dag = DAG("pairs", tasks=[each.map("x", "other")])
    results = dag.run(executor, params={"x": range(SIZE), "other": range(SIZE)})
    assert results["each"] == [2 * x for x in range(SIZE)]


def test_large_arguments_in_common(executor):
    results = sweep(executor, map_functions.scaled, range(20), params={"factor": 1, "offset": 0.0})
    assert results["each"] == [float(x) for x in range(20)]
    results = sweep(executor, map_functions.add, [b"1", b"2", b"3"] * 5, params={"other": bytes(1 << 17)})
    assert [len(value) for value in results["each"]] == [1 + (1 << 17)] * 15


def test_large_elements_and_results(executor):
    results = sweep(executor, map_functions.large, range(100))
    assert {len(value) for value in results["each"]} == {200_000}
    results = sweep(executor, map_functions.size, [bytes(100_000)] * 50)
    assert results["each"] == [100_000] * 50


def test_large_elements(executor):
    each = Task(map_functions.size, name="each")
    source = Task(map_functions.large, name="source")
    source.map("x") >> each.map()
    assert DAG("sizes", tasks=[each]).run(executor, params={"x": range(30)})["each"] == [200_000] * 30


def test_chain(executor):
    first, second = Task(map_functions.add_one, name="first"), Task(map_functions.add, name="second")
    third = Task(map_functions.fail_on_hundreds, name="third")
    first.map("x") >> second.map("x") >> third.map(errors="drop")
    results = DAG("chain", tasks=[third]).run(executor, params={"x": range(SIZE), "other": 1})
    assert results["second"] == [x + 2 for x in range(SIZE)]
    assert results["third"] == [x + 2 for x in range(SIZE) if x % 100 != 97]
    assert sorted(results.elements["third"].failed) == [x for x in range(SIZE) if x % 100 == 97]


@pytest.mark.parametrize("errors", ["drop", "return"])
def test_failures_in_blocks(executor, errors):
    results = sweep(executor, map_functions.fail_on_hundreds, map_options={"errors": errors})
    kept = [x for x in range(SIZE) if x % 100 != 99 or errors == "return"]
    assert [each.args[0] if isinstance(each, ValueError) else each for each in results["each"]] == kept
    assert sorted(results.elements["each"].failed) == [x for x in range(SIZE) if x % 100 == 99]


def test_skips_in_blocks(executor):
    results = sweep(executor, map_functions.skip_on_hundreds)
    assert results["each"] == [x for x in range(SIZE) if x % 100 != 99]
    assert results.elements["each"].skipped[99] == "a hundred"


def test_retries_in_blocks(executor, tmp_path):
    function = partial(map_functions.fail_once, str(tmp_path))
    results = sweep(executor, function, retries=1, delay=0)
    assert results["each"] == list(range(SIZE))
    attempts = results.elements["each"].attempts
    assert [attempts[number] for number in (98, 99, 100)] == [1, 2, 1]


def test_failure_stops_the_run(executor):
    with pytest.raises(ValueError, match="99") as raised:
        sweep(executor, map_functions.fail_on_hundreds, iter(range(10**9)))
    assert "99]' of 'sweep' failed" in "\n".join(raised.value.__notes__)
    assert len(raised.value.flowkit_results.elements["each"]) < 10**6


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_worker_that_dies_fails_one_element(executor):
    results = sweep(executor, map_functions.die_on_five_hundred, map_options={"errors": "drop"})
    assert results["each"] == [x for x in range(SIZE) if x != 500]
    (error,) = results.elements["each"].failed.values()
    assert isinstance(error, WorkerDiedError)
    assert list(results.failed) == ["each[500]"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("retries", [0, 1, 2])
def test_death_of_a_worker_is_an_attempt_of_the_elements_of_its_block(executor, tmp_path, retries):
    function = partial(map_functions.die_on_seven, str(tmp_path))
    options = {"retries": retries, "delay": 0} if retries else {}
    results = sweep(executor, function, range(20), map_options={"errors": "drop", "chunk": 10}, **options)
    attempts = results.elements["each"].attempts
    assert results["each"] == [x for x in range(20) if x != 7]
    assert list(attempts) == [2] * 7 + [max(2, 1 + retries)] + [2] * 2 + [1] * 10
    assert map_functions.number_of_calls(tmp_path) == attempts[7]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_death_of_a_worker_leaves_other_elements_their_retries(executor, tmp_path):
    function = partial(map_functions.die_on_seven_and_fail_once, str(tmp_path))
    options = {"map_options": {"errors": "drop", "chunk": 10}, "retries": 1, "delay": 0}
    results = sweep(executor, function, range(10), **options)
    assert results["each"] == [x for x in range(10) if x != 7]
    assert list(results.elements["each"].attempts) == [2] * 7 + [2] + [2, 3]


def test_result_that_cannot_be_pickled_fails_its_element(executor):
    results = sweep(executor, map_functions.unpicklable_on_seven, range(50), map_options={"errors": "drop"})
    assert results["each"] == [x for x in range(50) if x != 7]
    assert isinstance(results.failed["each[7]"], SerializationError)


def test_contexts_in_blocks(executor):
    found = sweep(executor, map_functions.where, range(60), map_options={"chunk": 20})["each"]
    assert {each[:2] for each in found} == {("each", True)}
    assert len({each[2] for each in found}) == 60
    first, second = Task(map_functions.where, name="first"), Task(str, name="second")
    first.map("x") >> second.map()
    results = DAG("chain", tasks=[second]).run(executor, params={"x": range(5)})
    assert results["second"] == [str(each) for each in results["first"]]


def test_log_records_in_blocks(executor, caplog):
    sweep(executor, map_functions.log_hundreds)
    records = [record for record in caplog.records if record.name == "own"]
    assert sorted(record.element for record in records) == list(range(0, SIZE, 100))
    assert {(record.task, record.pipeline) for record in records} == {("each", "sweep")}


def test_coroutines_in_blocks(executor):
    assert sweep(executor, map_functions.awaited, range(30))["each"] == list(range(1, 31))
    for options in ({}, {"timeout": 60}):
        assert sweep(executor, map_functions.returns_coroutine, range(30), **options)["each"] == list(range(1, 31))


def test_generator(executor):
    source, each = Task(map_functions.numbers), Task(map_functions.add_one, name="each")
    source >> each.map()
    assert DAG("lazy", tasks=[each]).run(executor) == {"each": list(range(1, 1001))}


@pytest.mark.filterwarnings("ignore:.*pool= does nothing:RuntimeWarning")
def test_generator_that_waits_for_a_pool(executor):
    source, each = Task(map_functions.numbers, pool="api"), Task(map_functions.add_one, name="each")
    source >> each.map()
    first = Task(map_functions.no_numbers, name="first", pool="api", priority=1)
    results = DAG("lazy", tasks=[first, each]).run(executor, pools={"api": Rate(1, per=0.05)})
    assert results == {"first": [], "each": list(range(1, 1001))}


def test_timeout_ends_the_worker(executor):
    results = sweep(executor, map_functions.hang_on_two, range(4), timeout=0.3, map_options={"errors": "drop"})
    assert results["each"] == [0, 1, 3]
    assert isinstance(results.failed["each[2]"], TaskTimeoutError)


def test_portable_transport():
    with ProcessExecutor(2, transport="portable") as executor:
        results = sweep(executor, map_functions.fail_on_hundreds, map_options={"errors": "drop"})
        assert results["each"] == [x for x in range(SIZE) if x % 100 != 99]
        assert {len(value) for value in sweep(executor, map_functions.large, range(20))["each"]} == {200_000}
