"""`StateManager.replay()`: a failed task is called again, with its recorded inputs."""

from __future__ import annotations

import asyncio

import pytest

from flowkit import DAG, Skip, StateManager, StateOptionError, StateOptionTypeError, Task, UnknownRunError, current
from flowkit.testing import SimulatedError, recorded, simulate


class Boom(Exception):
    pass


def nightly(calls):
    def extract():
        calls.append("extract")
        return [3, 1, 2]

    def load(rows, *, day):
        calls.append(("load", rows, day))
        raise Boom(f"{current().run_id} {current().task}")

    def late(rows):
        return rows

    tasks = [Task(each) for each in (extract, load, late)]
    tasks[0] >> tasks[1] >> tasks[2]
    return DAG("nightly", tasks=tasks)


@pytest.fixture
def state(box):
    with StateManager(box.db) as state:
        yield state


def test_failed_task_is_called_with_recorded_inputs(state):
    calls = []
    dag = nightly(calls)
    run_id = dag.run("serial", state=state, params={"day": "monday"}, raise_on_failure=False).run_id
    before = repr(state.runs())
    with pytest.raises(Boom, match=f"{run_id} load"):
        state.replay(run_id, "load")
    assert calls == ["extract", ("load", [3, 1, 2], "monday"), ("load", [3, 1, 2], "monday")]
    assert repr(state.runs()) == before
    assert state.replay(run_id, "extract", pipeline=dag) == [3, 1, 2]


def test_repaired_task_returns_its_result(state):
    run_id = nightly([]).run("serial", state=state, params={"day": 1}, raise_on_failure=False).run_id

    async def load(rows, day):
        await asyncio.sleep(0)
        return len(rows), day

    extract, load = Task(lambda: None, name="extract"), Task(load)
    extract >> load
    assert state.replay(run_id, "load", pipeline=DAG("repaired", tasks=[load])) == (3, 1)


def test_input_that_was_not_recorded_raises(state):
    run_id = nightly([]).run("serial", state=state, params={"day": object()}, raise_on_failure=False).run_id
    dag = nightly([])
    with pytest.raises(ValueError, match="'load' has no recorded result, because it is failed"):
        state.replay(run_id, "late", pipeline=dag)
    with pytest.raises(ValueError, match="cannot be called again: it takes <UnrecordedValue"):
        state.replay(run_id, "load", pipeline=dag)


def test_invalid_arguments_raise(state):
    dag = nightly([])
    run_id = dag.run("serial", state=state, params={"day": 1}, raise_on_failure=False).run_id
    with pytest.raises(UnknownRunError):
        state.replay("x", "load")
    with pytest.raises(ValueError, match=r"names 'lod', but 'nightly' has no such task .did you mean 'load'"):
        state.replay(run_id, "lod", pipeline=dag)
    with pytest.raises(StateOptionTypeError, match="task is 7"):
        state.replay(run_id, 7, pipeline=dag)
    with pytest.raises(StateOptionTypeError, match="must be a pipeline, such as a DAG"):
        state.replay(run_id, "load", pipeline=7)
    del dag
    other = DAG("gone", tasks=[Task(int, name="a")]).run("serial", state=state).run_id
    with pytest.raises(StateOptionError, match="this process has not defined a pipeline 'gone'"):
        state.replay(other, "a")


# ---- elements of mapped tasks ----------------------------------------------------------------------------------------

calls = []


def rows():
    calls.append("rows")
    return ["1", "two", "3", "skip"]


def parse(row):
    calls.append(("parse", row))
    if row == "skip":
        raise Skip("no row")
    return int(row)


def scale(row, factor=10, *, offsets, element=None):
    calls.append(("scale", row, current().element, current().task))
    return factor * row + len(offsets)


def mapped_pipeline(*, errors="drop", function=parse):
    source, offsets = Task(rows), Task(lambda: [0, 0], name="offsets")
    first, second, total = Task(function, name="parse"), Task(scale), Task(sum, name="total")
    source >> first.map(errors=errors) >> second.map() >> total
    offsets >> second
    return DAG("numbers", tasks=[total])


def run_id_of(state, dag):
    calls.clear()
    run_id = dag.run("serial", state=state, raise_on_failure=False).run_id
    calls.clear()
    return run_id


def test_failed_element_is_called_again(state):
    dag = mapped_pipeline(errors="raise")
    run_id = run_id_of(state, dag)
    (name,) = (name for name in state.run(run_id).tasks["parse"].elements.failed)
    with pytest.raises(ValueError, match="two"):
        state.replay(run_id, f"parse[{name}]", pipeline=dag)
    assert calls == [("parse", "two")]

    async def repaired(row):
        await asyncio.sleep(0)
        return f"{row} {current().element}"

    assert state.replay(run_id, "parse[1]", pipeline=mapped_pipeline(function=repaired)) == "two 1"


def test_element_takes_the_element_of_the_task_before(state):
    dag = mapped_pipeline()
    run_id = run_id_of(state, dag)
    assert state.replay(run_id, "scale[2]", pipeline=dag) == 32
    assert calls == [("scale", 3, 2, "scale")]
    with pytest.raises(ValueError, match="its parameter 'row' has no default"):
        state.replay(run_id, "scale[1]", pipeline=dag)


def test_element_of_an_open_parameter_is_called_again(state):
    dag = DAG("open", tasks=[Task(lambda rate, base=1: rate + base, name="train").map("rate")])
    run_id = dag.run("serial", state=state, params={"rate": [10, 20]}).run_id
    assert state.replay(run_id, "train[1]", pipeline=dag) == 21
    with pytest.raises(ValueError, match=r"there is no element 'train\[2\]': 'rate' has 2 elements"):
        state.replay(run_id, "train[2]", pipeline=dag)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("parse", r"is mapped, so it was called once for each element: name the one .* such as 'parse\[1\]'"),
        ("parse[4]", r"cannot be called again with the inputs of run .*'rows' has 4 elements"),
        ("scale[9]", r"element 'parse\[9\]' has no result: it has not ended"),
        ("total[0]", r"names element 'total\[0\]', but task 'total' is not mapped"),
        ("parze[1]", r"names 'parze\[1\]', but 'numbers' has no such task \(did you mean 'parse'\?\)"),
        ("parse[x]", "has no such task"),
    ],
)
def test_wrong_element_is_an_error(state, task, message):
    dag = mapped_pipeline()
    run_id = run_id_of(state, dag)
    with pytest.raises(ValueError, match=message):
        state.replay(run_id, task, pipeline=dag)
    assert calls == []


def test_element_over_an_iterator_is_an_error(state):
    source, each = Task(lambda: iter([1, 2]), name="source"), Task(abs, name="each")
    source >> each.map()
    dag = DAG("lazy", tasks=[each])
    run_id = dag.run("serial", state=state).run_id
    with pytest.raises(ValueError, match="the result of task 'source' was not recorded"):
        state.replay(run_id, "each[0]", pipeline=dag)


def test_element_of_a_generator_is_made_again(state):
    def rows(day):
        pipelines.append(current().pipeline)
        for number in range(4):
            pulled.append(number)
            yield {"day": day, "number": number * factor}

    def each(row):
        found.append(dict(row))
        row["number"] += 1
        if row["number"] == 3:
            raise ValueError(row)

    pulled, found, pipelines, factor = [], [], [], 1
    source, task = Task(rows), Task(each)
    source >> task.map()
    dag = DAG("lazy", tasks=[task])
    run_id = dag.run("serial", state=state, params={"day": "Monday"}, raise_on_failure=False).run_id
    pulled.clear()
    found.clear()
    with pytest.raises(ValueError, match="'number': 3"):
        state.replay(run_id, "each[2]", pipeline=dag)
    assert (pulled, found) == ([0, 1, 2], [{"day": "Monday", "number": 2}])
    assert set(pipelines) == {"lazy"}
    factor = 10
    with pytest.raises(ValueError, match=r"yields \{.*'number': 20\} for element 2, .* another value than in the run"):
        state.replay(run_id, "each[2]", pipeline=dag)
    with pytest.raises(ValueError, match="generator of 'rows', which was called again, has fewer elements now"):
        state.replay(run_id, "each[7]", pipeline=dag)
    assert len(found) == 1


def test_record_says_whether_an_element_had_a_value(state):
    source, each = Task(lambda: [[1], [2]], name="source"), Task(lambda row: row.append(0), name="each")
    source >> each.map()
    run = state.run(DAG("values", tasks=[each]).run("serial", state=state).run_id)
    elements = run.tasks["each"].elements
    assert [elements.was_given(0, [1]), elements.was_given(1, [1]), elements.was_given(2, [1])] == [True, False, None]
    assert elements.was_given(0, object()) is None


def test_results_of_elements_are_in_the_record(state):
    run = state.run(run_id_of(state, mapped_pipeline()))
    elements = run.tasks["parse"].elements
    assert (elements.result(0), elements.result(2)) == (1, 3)
    with pytest.raises(LookupError, match=r"element 'parse\[1\]' has no result: it is failed"):
        elements.result(1)
    with pytest.raises(LookupError, match=r"element 'parse\[7\]' has no result: it has not ended"):
        elements.result(7)


def test_stand_ins_of_a_mapped_task_are_those_of_its_elements(state):
    dag = mapped_pipeline()
    run = state.run(run_id_of(state, dag))
    functions = recorded(run, skip=["scale", "total"])
    simulation = simulate(dag, functions=functions)
    assert [call[:2] for call in sorted(calls)] == [("scale", 1), ("scale", 3)]
    assert simulation.results["total"] == 44
    assert simulation.results.elements["parse"].skipped == {3: "no row"}
    error = simulation.results.elements["parse"].failed[1]
    assert isinstance(error, SimulatedError)
    assert "'parse[1]' failed in the recorded run: " in str(error)
    assert functions["parse"]() == [1, 3]
