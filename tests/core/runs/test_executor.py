"""The executor protocol: executors of other packages, and lookup by name."""

from __future__ import annotations

import sys

import pytest

from flowkit_core import (
    DAG,
    Call,
    Executor,
    Outcome,
    Retry,
    RunStarted,
    SerialExecutor,
    Task,
    UnknownExecutorError,
    register_executor,
)
from flowkit_core.executors import registry
from flowkit_core.runs.worker import Worker


class Backwards:
    """The minimal executor that the protocol describes: last in, first out, and no wait before a retry."""

    name = "backwards"

    def __init__(self, max_workers=None):
        self.max_workers = max_workers
        self.order = []
        self.closed = 0

    def execute(self, run):
        hand = list(run.start())
        while hand:
            node = hand.pop()
            call = run.call(node)
            if isinstance(call, Outcome):
                answer = run.finish(node, call)
            else:
                assert isinstance(call, Call)
                outcome = call.precheck()
                if outcome is None:
                    self.order.append(node.name)
                    outcome = call.invoke()
                answer = run.finish(node, outcome, 0.5)
            hand += [answer.node] if isinstance(answer, Retry) else answer

    def close(self):
        self.closed += 1


class Carrying(Backwards):
    """The same with the helper that does one step."""

    name = "carrying"

    def execute(self, run):
        from contextvars import copy_context

        worker = Worker(run, copy_context())
        hand = list(run.start())
        while hand:
            answer = worker.run_node(hand.pop())
            hand += [answer.node] if isinstance(answer, Retry) else answer


@pytest.fixture
def names(monkeypatch):
    """Leave the registered executors as they were."""
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))


def etl():
    """Return the last task of a pipeline with a bit of everything."""
    tries = []

    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError
        return len(tries)

    start, skipped = Task(flaky, name="start", retries=2), Task(lambda x: x, name="skipped", when=lambda x: False)
    side, end = Task(lambda x: x * 2, name="side"), Task(lambda *args: args, name="end")
    start >> [skipped, side] >> end
    return end


@pytest.mark.parametrize("kind", [Backwards, Carrying])
def test_minimal_executor_gives_same_results(kind):
    """An executor of a few lines is complete."""
    results = DAG("etl", tasks=[etl()]).run(kind())
    assert results == {"start": 3, "side": 6, "end": (6,)}
    assert results.states == {"start": "succeeded", "skipped": "skipped", "side": "succeeded", "end": "succeeded"}


def test_durations_are_those_of_executor():
    """The executor measures them."""
    results = DAG("etl", tasks=[etl()]).run(Backwards())
    assert results.durations == {"start": 0.5, "side": 0.5, "end": 0.5}


def test_results_are_in_order_of_graph_for_any_execution_order():
    executor = Backwards()
    tasks = [Task(lambda: 1, name=name) for name in "abc"]
    assert list(DAG("order", tasks=tasks).run(executor)) == ["a", "b", "c"]
    assert executor.order == ["c", "b", "a"]


def test_executor_object_is_not_closed_by_run():
    executor = Backwards()
    DAG("etl", tasks=[etl()]).run(executor)
    assert executor.closed == 0


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("fails", [False, True])
def test_registered_executor_is_created_and_closed_for_each_run(fails):
    """With max_workers of the pipeline; also if the run fails."""
    made = []
    register_executor("backwards", lambda max_workers: made.append(Backwards(max_workers)) or made[-1])
    seen = []
    tasks = [Task((lambda: 1 / 0) if fails else (lambda: 1), name="one")]
    DAG("etl", max_workers=3, tasks=tasks).run("backwards", raise_on_failure=False, observers=[seen.append])
    assert [(executor.max_workers, executor.closed) for executor in made] == [(3, 1)]
    assert [event.executor for event in seen if isinstance(event, RunStarted)] == ["backwards"]


@pytest.mark.usefixtures("names")
def test_registered_executor_is_not_left_open_by_wrong_pools():
    made = []
    register_executor("backwards", lambda max_workers: made.append(Backwards(max_workers)) or made[-1])
    with pytest.raises(TypeError):
        DAG("etl", tasks=[Task(lambda: 1, name="one")]).run("backwards", pools={"db": "two"})
    assert all(executor.closed == 1 for executor in made)


@pytest.mark.usefixtures("names")
def test_registered_executor_is_listed_and_suggested():
    """In the error about an unknown name."""
    register_executor("backwards", Backwards)
    with pytest.raises(UnknownExecutorError, match="did you mean 'backwards'") as caught:
        DAG("etl", tasks=[]).run("backward")
    assert {"backwards", "serial"} <= set(caught.value.available)


def test_executor_error_is_raised_with_results():
    """It is not a failure of a task; the executor is closed."""

    class Broken(Backwards):
        def execute(self, run):
            (node,) = run.start()
            run.finish(node, 1)
            raise OSError("no network")

    start, end = Task(lambda: 1, name="start"), Task(lambda x: x, name="end")
    start >> end
    with pytest.raises(OSError, match="no network") as caught:
        DAG("etl", tasks=[end]).run(Broken())
    assert caught.value.flowkit_results == {"start": 1}


def test_serial_executor_satisfies_protocol():
    """name, execute() and close()."""
    from flowkit_core import SerialExecutor

    executor: Executor = SerialExecutor()
    assert executor.name == "serial"
    assert callable(executor.execute)
    executor.close()


@pytest.mark.parametrize(("workers", "kind"), [(0, ValueError), ("2", TypeError), (True, TypeError)])
def test_serial_executor_checks_max_workers(workers, kind):
    from flowkit_core import SerialExecutor

    with pytest.raises(kind, match="at least 1"):
        SerialExecutor(workers)


def test_observer_outside_a_list_is_type_error():
    with pytest.raises(TypeError, match=r"but must be a list: write observers=\[\.\.\.\] also for one"):
        DAG("one", tasks=[Task(lambda: 1, name="one")]).run("serial", observers=print)


def test_tasks_in_place_of_name_is_type_error():
    with pytest.raises(TypeError, match=r"must be a string: to give it tasks, write DAG\('name', tasks=\[one\]\)"):
        DAG([Task(lambda: 1, name="one")])


@pytest.mark.parametrize("name", ["threads", "proces", "celery"])
def test_unknown_executor_error_lists_executors(name):
    """It names the unknown executor, and nothing runs."""
    seen = []
    with pytest.raises(UnknownExecutorError) as caught:
        DAG("etl", tasks=[Task(lambda: seen.append("ran"), name="never")]).run(executor=name)
    text = str(caught.value)
    assert repr(name) in text
    assert "'serial'" in text
    assert "install" in text.lower()
    assert (caught.value.name, "serial" in caught.value.available) == (name, True)
    assert isinstance(caught.value, ValueError)
    assert seen == []


def test_executor_not_installed_error_names_distribution(monkeypatch):
    monkeypatch.setitem(sys.modules, "flowkit_dask", None)
    with pytest.raises(UnknownExecutorError, match="flowkit-dask"):
        DAG("etl", tasks=[]).run(executor="dask")


@pytest.mark.parametrize("wrong", [3, SerialExecutor, object(), ["serial"]], ids=["3", "class", "object", "list"])
def test_executor_of_wrong_type_is_error(wrong):
    """Neither a name nor an object with ``execute(run)``."""
    with pytest.raises(TypeError, match="executor"):
        DAG("etl", tasks=[]).run(executor=wrong)


@pytest.mark.parametrize("executor", ["serial", SerialExecutor(), None])
def test_executor_by_name_and_by_object(executor):
    assert DAG("etl", tasks=[Task(lambda: 1, name="one")]).run(executor) == {"one": 1}


def test_executor_object_runs_many_times():
    """The caller closes it, once or twice."""
    with SerialExecutor() as executor:
        assert [DAG("etl", tasks=[Task(lambda: 1, name="one")]).run(executor) for _ in range(3)] == [{"one": 1}] * 3
    executor.close()
