"""A resumed run calls only the elements of mapped tasks that are missing in the record."""

from __future__ import annotations

import gc

import pytest
from element_tasks import named, numbers
from reference_cycles import garbage_of_runs

from flowkit import DAG, ResumeError, Skip, StateManager, Task


@pytest.fixture
def state(tmp_path):
    with StateManager(tmp_path / "runs.db") as state:
        yield state


def test_failed_element_of_a_chain(elements, state, executor):
    rows, first, second = numbers(40), elements.task("first"), elements.task("second")
    rows >> first.map() >> second.map()
    dag = DAG("chain", tasks=[second])
    elements.inject("second-17", "fail")
    with pytest.raises(ValueError, match="second-17 is broken"):
        dag.run(executor, state=state)
    begun = elements.calls("first")
    ended = [each for each in elements.calls("second") if each != 17]
    (record,) = state.runs("chain")
    assert record.tasks["second"].elements.counts["succeeded"] == len(ended)
    elements.inject("second-17", None)
    results = dag.run(executor, state=state, resume=True)
    assert results["first"] == named("first", 40)
    assert results["second"] == named("second", 40)
    assert elements.calls("second") == [each for each in range(40) if each not in ended]
    assert elements.calls("first") == [each for each in range(40) if each not in begun]
    assert results.elements["second"].resumed == ended
    assert results.elements["first"].resumed == begun


def test_each_execution_takes_over_what_the_ones_before_have_recorded(elements, state, executor):
    rows, each = numbers(5), elements.task("each")
    rows >> each.map()
    dag = DAG("often", tasks=[each])
    for bad in range(5):
        elements.inject(f"each-{bad}", "fail")
    for bad in range(5):
        assert dag.run(executor, state=state, resume=True, fail_fast=False, raise_on_failure=False).failed
        elements.inject(f"each-{bad}", None)
        assert elements.calls("each") == list(range(max(bad - 1, 0), 5))
    results = dag.run(executor, state=state, resume=True)
    assert results["each"] == named("each", 5)
    assert elements.calls("each") == [4]
    assert results.elements["each"].resumed == [0, 1, 2, 3]


def test_interrupted_map(elements, state):
    rows, each = numbers(10), elements.task("each")
    rows >> each.map()
    dag = DAG("interrupted", tasks=[each])
    elements.inject("each-6", "interrupt")
    with pytest.raises(KeyboardInterrupt):
        dag.run("serial", state=state)
    assert elements.calls("each") == list(range(7))
    elements.inject("each-6", None)
    assert dag.run("serial", state=state, resume=True)["each"] == named("each", 10)
    assert elements.calls("each") == [6, 7, 8, 9]


def test_element_with_a_timeout(elements, state):
    rows, each = numbers(6), elements.task("each", timeout=0.2)
    rows >> each.map(limit=1)
    dag = DAG("late", tasks=[each])
    elements.inject("each-3", "wait")
    with pytest.raises(TimeoutError):
        dag.run("thread", state=state)
    (record,) = state.runs("late")
    assert record.tasks["each"].elements.failed[3].type.endswith("TaskTimeoutError")
    elements.inject("each-3", None)
    elements.calls("each")
    assert dag.run("thread", state=state, resume=True)["each"] == named("each", 6)
    assert elements.calls("each") == [3, 4, 5]


MODULE = """
from element_tasks import call_element
from flowkit import DAG, task

@task
def rows():
    return {rows}

@task
def factor():
    return {factor}

@task
def each(row, factor):
    return [{constant}, call_element(FOLDER, "each", row), factor]

@task
def last(each):
    {last}

[rows, factor] >> each.map("row") >> last
dag = DAG("changed", tasks=[last])
"""


@pytest.fixture
def pipeline(load_module, elements):
    """Return a function that returns the pipeline of a module with some of its parts replaced."""

    def load(**parts):
        parts = {"rows": [0, 1, 2, 3], "factor": 10, "constant": 1, "last": "return len(each)"} | parts
        return load_module(f"FOLDER = {elements.folder!r}\n" + MODULE.format(**parts)).dag

    return load


def fail_at(elements, number, dag, state):
    elements.inject(f"each-{number}", "fail")
    with pytest.raises(ValueError, match="is broken"):
        dag.run("serial", state=state, resume=True)
    elements.inject(f"each-{number}", None)
    elements.calls("each")


def test_changed_code_of_the_mapped_task_calls_all_elements(pipeline, elements, state):
    fail_at(elements, 2, pipeline(), state)
    changed = pipeline(constant=2)
    with pytest.raises(ResumeError, match="each"):
        changed.run("serial", state=state, resume="strict")
    results = changed.run("serial", state=state, resume=True)
    assert elements.calls("each") == [0, 1, 2, 3]
    assert [each[0] for each in results["each"]] == [2, 2, 2, 2]
    assert "each" in results.outdated


def test_force_takes_over_elements_whatever_has_changed(pipeline, elements, state):
    fail_at(elements, 2, pipeline(), state)
    results = pipeline(constant=2).run("serial", state=state, resume="force")
    assert elements.calls("each") == [2, 3]
    assert [each[0] for each in results["each"]] == [1, 1, 2, 2]


def test_element_of_changed_input_is_taken_over_if_it_is_the_same(pipeline, elements, state):
    fail_at(elements, 3, pipeline(), state)
    results = pipeline(rows=[0, 5, 2, 3, 4]).run("serial", state=state, resume=True)
    assert elements.calls("each") == [3, 4, 5]
    assert [each[1][1] for each in results["each"]] == [0, 5, 2, 3, 4]
    assert results.elements["each"].resumed == [0, 2]


def test_elements_of_several_inputs_are_compared_one_by_one(pipeline, elements, state):
    fail_at(elements, 2, pipeline(), state)
    fail_at(elements, 7, pipeline(rows=[5, 1, 7, 3]), state)
    results = pipeline(rows=[0, 1, 2, 3]).run("serial", state=state, resume=True)
    assert elements.calls("each") == [2, 3]
    assert [each[1][1] for each in results["each"]] == [0, 1, 2, 3]


def test_changed_input_that_is_not_mapped_calls_all_elements(pipeline, elements, state):
    fail_at(elements, 2, pipeline(), state)
    results = pipeline(factor=20).run("serial", state=state, resume=True)
    assert elements.calls("each") == [0, 1, 2, 3]
    assert [each[2] for each in results["each"]] == [20, 20, 20, 20]


@pytest.mark.parametrize("factor", [2, 3])
def test_input_that_is_not_mapped_and_not_recorded_is_compared(elements, state, factor):
    factors = iter([2, factor])
    rows, each = numbers(6), elements.task("each")
    not_recorded = Task(lambda: next(factors), name="factor", record=False)
    scaled = Task(lambda row, factor: [factor, each.func(row)], name="scaled")
    [rows, not_recorded] >> scaled.map("row")
    dag = DAG("scaled", tasks=[scaled])
    elements.inject("each-3", "fail")
    dag.run("serial", state=state, fail_fast=False, raise_on_failure=False)
    elements.calls("each")
    elements.inject("each-3", None)
    results = dag.run("serial", state=state, resume=True)
    assert results["scaled"] == [[factor, each] for each in named("each", 6)]
    assert elements.calls("each") == ([3] if factor == 2 else [0, 1, 2, 3, 4, 5])


def test_client_that_cannot_be_stored_does_not_make_elements_run_again(elements, state):
    rows, each = numbers(6), elements.task("each")
    client = Task(object, name="client", record=False)
    fetched = Task(lambda row, client: each.func(row), name="fetched")
    [rows, client] >> fetched.map("row")
    dag = DAG("fetched", tasks=[fetched])
    elements.inject("each-3", "fail")
    dag.run("serial", state=state, fail_fast=False, raise_on_failure=False)
    elements.calls("each")
    elements.inject("each-3", None)
    assert dag.run("serial", state=state, resume=True)["fetched"] == named("each", 6)
    assert elements.calls("each") == [3]


def test_complete_map_with_changed_input_is_compared_by_element(pipeline, elements, state):
    with pytest.raises(ZeroDivisionError):
        pipeline(last="1 / 0").run("serial", state=state)
    elements.calls("each")
    results = pipeline(rows=[0, 1, 9]).run("serial", state=state, resume=True)
    assert elements.calls("each") == [9]
    assert results["last"] == 3


def test_complete_map_is_taken_over(pipeline, elements, state):
    with pytest.raises(ZeroDivisionError):
        pipeline(last="1 / 0").run("serial", state=state)
    elements.calls("each")
    results = pipeline(last="return each[-1]").run("serial", state=state, resume=True)
    assert elements.calls("each") == []
    assert "each" in results.resumed
    assert results["last"] == [1, ["each", 3], 10]
    assert results.elements["each"].resumed == [0, 1, 2, 3]


@pytest.mark.parametrize("errors", ["drop", "return"])
def test_failed_elements_run_again_with_what_depends_on_them(elements, state, errors):
    rows, each, count = Task(lambda: [0, 1, 2], name="rows"), elements.task("each"), Task(len, name="count")
    broken = Task(lambda count: 1 / 0, name="broken")
    rows >> each.map(errors=errors) >> count >> broken
    dag = DAG("again", tasks=[broken])
    elements.inject("each-1", "fail")
    with pytest.raises(ZeroDivisionError):
        dag.run("serial", state=state)
    elements.inject("each-1", None)
    results = dag.run("serial", state=state, resume=True, raise_on_failure=False)
    assert results["count"] == 3
    assert results.outdated == {"each": "1 of its elements failed", "count": "it depends on 'each'"}
    assert elements.calls("each") == [0, 1, 1, 2]
    results = dag.run("serial", state=state, resume=True, raise_on_failure=False)
    assert results.resumed == ("rows", "each", "count")
    assert elements.calls("each") == []


def test_skipped_elements_are_taken_over_with_their_reasons(elements, state):
    def each(row):
        calls.append(row)
        if row == 1:
            raise Skip("odd")
        if row == 3 and not repaired:
            raise ValueError(row)
        return row

    calls, repaired = [], []
    rows, task, after = Task(lambda: [0, 1, 2, 3], name="rows"), Task(each, name="each"), elements.task("after")
    rows >> task.map() >> after.map()
    dag = DAG("skips", tasks=[after])
    with pytest.raises(ValueError, match="3"):
        dag.run("serial", state=state)
    repaired.append(True)
    results = dag.run("serial", state=state, resume=True)
    assert calls == [0, 1, 2, 3, 3]
    assert results["after"] == [["after", 0], ["after", 2], ["after", 3]]
    assert results.elements["each"].skipped == {1: "odd"}
    assert results.elements["after"].skipped == {1: "its parameter 'row' has no default, and \"each[1]\" was skipped"}
    assert elements.calls("after") == [0, 2, 3]


@pytest.mark.parametrize("cache", [False, True])
def test_plan_says_how_many_elements_are_recorded(elements, state, cache):
    rows, each = numbers(6), elements.task("each", cache=cache)
    rows >> each.map()
    dag = DAG("planned", tasks=[each])
    elements.inject("each-2", "fail")
    dag.run("serial", state=state, raise_on_failure=False)
    plan = dag.plan(state=state)
    assert plan.runs == ("each",)
    assert "2 of 6 elements are recorded" in plan.why["each"]
    assert plan.why["each"].endswith("; elements with a cached result are not called") is cache


def test_elements_of_a_task_that_is_not_recorded_run_again(elements, state):
    rows, each = numbers(4), elements.task("each", record=False)
    rows >> each.map()
    dag = DAG("unrecorded", tasks=[each])
    elements.inject("each-2", "fail")
    dag.run("serial", state=state, raise_on_failure=False)
    elements.inject("each-2", None)
    elements.calls("each")
    results = dag.run("serial", state=state, resume=True)
    assert elements.calls("each") == [0, 1, 2, 3]
    record = state.run(results.run_id).tasks["each"]
    assert record.elements.counts == {"succeeded": 4}
    with pytest.raises(LookupError, match="record=False"):
        record.result()


def test_elements_that_cannot_be_recorded_run_again(state):
    calls, repaired = [], []

    def each(row):
        calls.append(row)
        if row == 3 and not repaired:
            raise ValueError(row)
        return object() if row == 1 else row

    rows, task = numbers(4), Task(each, name="each")
    rows >> task.map()
    dag = DAG("odd", tasks=[task])
    with pytest.warns(RuntimeWarning, match="'each' of 'odd' could not be recorded"):
        dag.run("serial", state=state, raise_on_failure=False)
    repaired.append(True)
    with pytest.warns(RuntimeWarning, match="'each' of 'odd' could not be recorded"):
        results = dag.run("serial", state=state, resume=True)
    assert calls == [0, 1, 2, 3, 1, 3]
    assert results.elements["each"].resumed == [0, 2]
    assert list(results.unrecorded) == ["each"]
    with pytest.raises(LookupError, match="results of elements could not be"):
        state.run(results.run_id).tasks["each"].result()


def test_paired_inputs(elements, state):
    calls, repaired = [], []

    def pair(left, right):
        calls.append((left, right))
        if left == 2 and not repaired:
            raise ValueError(left)
        return [left, right]

    left, right = Task(lambda: [1, 2, 3], name="left"), Task(lambda: ["a", "b", "c"], name="right")
    pairs = Task(pair, name="pairs")
    [left, right] >> pairs.map()
    dag = DAG("pairs", tasks=[pairs])
    dag.run("serial", state=state, raise_on_failure=False)
    repaired.append(True)
    assert dag.run("serial", state=state, resume=True)["pairs"] == [[1, "a"], [2, "b"], [3, "c"]]
    assert calls == [(1, "a"), (2, "b"), (2, "b"), (3, "c")]


def test_open_parameter(elements, state):
    dag = DAG("open", tasks=[elements.task("each").map("row")])
    elements.inject("each-2", "fail")
    params = {"row": [1, 2, 3]}
    dag.run("serial", state=state, params=params, raise_on_failure=False)
    elements.inject("each-2", None)
    assert dag.run("serial", state=state, params=params, resume=True)["each"] == [["each", n] for n in (1, 2, 3)]
    assert elements.calls("each") == [1, 2, 2, 3]


def test_kept_results(elements, state):
    rows, each = numbers(4), elements.task("each")
    count = Task(lambda each: each.pop() and 1 / 0 if fails else len(each), name="count")
    fails = [True]
    rows >> each.map() >> count
    dag = DAG("kept", tasks=[count])
    with pytest.raises(ZeroDivisionError):
        dag.run("serial", state=state, keep=["count"])
    fails.clear()
    results = dag.run("serial", state=state, keep=["count"], resume=True)
    assert results == {"count": 4}
    assert elements.calls("each") == [0, 1, 2, 3]
    assert results.elements["each"].counts == {"succeeded": 4}


def test_store_in_memory(elements):
    with StateManager() as state:
        rows, each = numbers(4), elements.task("each")
        rows >> each.map()
        dag = DAG("memory", tasks=[each])
        elements.inject("each-2", "fail")
        dag.run("serial", state=state, raise_on_failure=False)
        elements.inject("each-2", None)
        assert dag.run("serial", state=state, resume=True)["each"] == named("each", 4)
        assert elements.calls("each") == [0, 1, 2, 2, 3]


def is_wanted(row):
    return row != 4


CHAIN = """
from element_tasks import call_element
from flowkit import DAG, task

FOLDER = {folder!r}

@task
def rows():
    return list(range(6))

@task
def first(row):
    return {first}

@task
def second(value):
    return call_element(FOLDER, "second", value)

rows >> first.map() >> second.map()
dag = DAG("chain", tasks=[second])
"""


@pytest.mark.parametrize("kind", ["serial", "thread"])
def test_chain_with_a_condition_and_limits(elements, state, kind):
    rows, first = numbers(12), elements.task("first", when=is_wanted)
    second, third = elements.task("second"), elements.task("third")
    rows >> first.map(limit=3) >> second.map(limit=1) >> third.map(limit=2)
    dag = DAG("limits", tasks=[third])
    expected = [number for number in range(12) if number != 4]
    for name in ("first-1", "second-2", "third-3", "second-9"):
        elements.inject(name, "fail")
    dag.run(kind, state=state, fail_fast=False, raise_on_failure=False)
    for name in ("first-1", "second-2", "third-3", "second-9"):
        elements.inject(name, None)
    assert [elements.calls(name) for name in ("first", "second", "third")] == [
        expected,
        [number for number in expected if number != 1],
        [number for number in expected if number not in (1, 2, 9)],
    ]
    results = dag.run(kind, state=state, resume=True)
    assert results["third"] == [["third", number] for number in expected]
    assert [elements.calls(name) for name in ("first", "second", "third")] == [[1], [1, 2, 9], [1, 2, 3, 9]]
    assert results.elements["third"].resumed == [0, 4, 5, 6, 7, 8, 10, 11]


def test_recorded_elements_of_a_chain_are_not_called_again_if_those_before_are(elements, state, executor):
    rows, first = numbers(12), elements.task("first", record=False)
    second, third = elements.task("second"), elements.task("third")
    rows >> first.map() >> second.map() >> third.map()
    dag = DAG("made again", tasks=[third])
    for name in ("second-2", "third-5"):
        elements.inject(name, "fail")
    dag.run(executor, state=state, fail_fast=False, raise_on_failure=False)
    for name in ("second-2", "third-5"):
        elements.inject(name, None)
    for name in ("first", "second", "third"):
        elements.calls(name)
    results = dag.run(executor, state=state, resume=True)
    assert results["third"] == named("third", 12)
    assert [elements.calls(name) for name in ("first", "second", "third")] == [list(range(12)), [2], [2, 5]]
    assert results.elements["second"].resumed == [number for number in range(12) if number != 2]


def test_elements_of_a_chain_are_called_again_if_their_input_has_changed(elements, state, executor):
    rows, second = numbers(6), elements.task("second")
    first = Task(elements.versioned("first"), name="first", record=False)
    rows >> first.map() >> second.map()
    dag = DAG("changed", tasks=[second])
    elements.inject("second-4", "fail")
    dag.run(executor, state=state, fail_fast=False, raise_on_failure=False)
    elements.inject("second-4", None)
    elements.calls("second")
    elements.inject("first-version", "2")
    results = dag.run(executor, state=state, resume=True)
    assert results["second"] == named("second", 6)
    assert elements.calls("second") == list(range(6))


def test_changed_code_of_the_first_task_of_a_chain(load_module, elements, state):
    source = CHAIN.format(folder=elements.folder, first="call_element(FOLDER, 'first', row)")
    elements.inject("second-4", "fail")
    with pytest.raises(ValueError, match="second-4 is broken"):
        load_module(source).dag.run("serial", state=state)
    elements.inject("second-4", None)
    assert (elements.calls("first"), elements.calls("second")) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    changed = load_module(source.replace("'first', row", "'first', int(row)")).dag
    assert changed.run("serial", state=state, resume=True)["second"] == named("second", 6)
    assert (elements.calls("first"), elements.calls("second")) == (list(range(6)), [4, 5])


def test_changed_code_of_the_last_task_of_a_chain(load_module, elements, state):
    source = CHAIN.format(folder=elements.folder, first="call_element(FOLDER, 'first', row)")
    source = source.replace('return call_element(FOLDER, "second", value)', "return [CONSTANT, second_of(value)]")
    source += "def second_of(value): return call_element(FOLDER, 'second', value)"
    elements.inject("second-4", "fail")
    with pytest.raises(ValueError, match="second-4 is broken"):
        load_module(source.replace("CONSTANT", "1")).dag.run("serial", state=state)
    elements.inject("second-4", None)
    assert (elements.calls("first"), elements.calls("second")) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    results = load_module(source.replace("CONSTANT", "2")).dag.run("serial", state=state, resume=True)
    assert [value[0] for value in results["second"]] == [2] * 6
    assert (elements.calls("first"), elements.calls("second")) == ([5], list(range(6)))


def test_async_elements(state):
    calls, repaired = [], []

    async def each(row):
        calls.append(row)
        if row == 2 and not repaired:
            raise ValueError(row)
        return row

    rows, task = numbers(4), Task(each)
    rows >> task.map(limit=1)
    dag = DAG("async", tasks=[task])
    dag.run(state=state, raise_on_failure=False)
    repaired.append(True)
    assert dag.run(state=state, resume=True)["each"] == [0, 1, 2, 3]
    assert calls == [0, 1, 2, 2, 3]


def test_empty_input(state):
    rows, each, last = (
        Task(list, name="rows"),
        Task(lambda row: row, name="each"),
        Task(lambda each: 1 / 0, name="last"),
    )
    rows >> each.map() >> last
    dag = DAG("empty", tasks=[last])
    for _ in range(2):
        results = dag.run("serial", state=state, resume=True, raise_on_failure=False)
    assert results["each"] == []
    assert results.resumed == ("rows", "each")
    assert state.runs("empty")[0].tasks["each"].elements.size == 0


def test_resumed_run_leaves_no_reference_cycle(elements, state):
    elements.inject("each-2", "fail")
    rows, each = numbers(4), elements.task("each")
    rows >> each.map()
    dag = DAG("cycles", tasks=[each])
    dag.run("serial", state=state, raise_on_failure=False)
    elements.inject("each-2", None)
    gc.collect()
    gc.disable()
    try:
        dag.run("serial", state=state, resume=True)
        assert garbage_of_runs() == []
    finally:
        gc.enable()


def test_log_says_how_many_elements_are_taken_over(pipeline, elements, state, caplog):
    caplog.set_level("INFO", "flowkit.state")
    fail_at(elements, 2, pipeline(), state)
    fail_at(elements, 3, pipeline(), state)
    assert "continues task 'each': 2 recorded elements are taken over." in caplog.text
    pipeline(rows=[0]).run("serial", state=state, resume=True)
    assert "continues task 'each': 3 that were recorded for other inputs are compared with those of now." in caplog.text
