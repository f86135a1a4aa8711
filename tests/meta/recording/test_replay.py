"""`StateManager.replay()`: a failed task is called again, with its recorded inputs."""

from __future__ import annotations

import asyncio

import pytest

from flowkit import DAG, StateManager, StateOptionError, StateOptionTypeError, Task, UnknownRunError, current


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
