"""`Pipeline.check` with the executors of this distribution: which functions they cannot send to their workers."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from script_sources import FORKS, RESULTS, RUN, TASKS, WITH_A_THREAD

from flowkit_core import DAG, SerializationError, Task
from flowkit_exec import FuturesExecutor, ProcessExecutor, ThreadExecutor

pytestmark = pytest.mark.slow


def by_name():
    return 1


def found(pipeline, executor):
    return [(problem.kind, problem.task) for problem in pipeline.check(executor)]


@pytest.fixture
def second_thread():
    """A thread, beside which this process cannot be forked safely."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def without_cloudpickle(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)


def local_functions():
    """Return tasks whose functions a worker cannot find by a name."""
    lock = threading.Lock()

    def inner():
        return lock

    return [Task(lambda: 1, name="lambda"), Task(inner), Task(lock.locked, name="method"), Task(by_name)]


@pytest.mark.usefixtures("second_thread", "without_cloudpickle")
@pytest.mark.parametrize("executor", ["process", ProcessExecutor, {"default": "process"}])
def test_every_function_that_cannot_be_sent_is_found(executor):
    executor = executor(1) if executor is ProcessExecutor else executor
    dag = DAG("sent", tasks=local_functions())
    problems = dag.check(executor)
    assert [(problem.kind, problem.task) for problem in problems] == [
        ("transfer", "lambda"),
        ("transfer", "inner"),
        ("transfer", "method"),
    ]
    assert [problem.location for problem in problems] == [task.location for task in dag.tasks[:3]]
    assert all(isinstance(problem.error, SerializationError) for problem in problems)
    assert "move it to the top level of a module, or install cloudpickle" in problems[0].message


@pytest.mark.usefixtures("second_thread", "without_cloudpickle")
def test_first_problem_is_the_error_of_the_run():
    dag = DAG("sent", tasks=local_functions())
    with pytest.raises(SerializationError) as caught:
        dag.run("process")
    assert str(caught.value) == dag.check("process")[0].message


@pytest.mark.usefixtures("second_thread", "without_cloudpickle")
@pytest.mark.parametrize("executor", [None, "serial", "thread", ThreadExecutor, {"default": "thread"}])
def test_functions_of_threads_are_no_problem(executor):
    executor = executor(1) if executor is ThreadExecutor else executor
    assert DAG("threads", tasks=local_functions()).check(executor) == []


@pytest.mark.usefixtures("second_thread", "without_cloudpickle")
def test_only_tasks_of_the_process_executor_are_found():
    tasks = [
        Task(lambda: 1, name="here"),
        Task(lambda: 1, name="there", executor="cpu"),
        Task(by_name, name="named", executor="cpu"),
    ]
    dag = DAG("mixed", tasks=tasks)
    assert found(dag, {"default": "thread", "cpu": "process"}) == [("transfer", "there")]
    assert found(dag, {"default": "process", "cpu": "thread"}) == [("transfer", "here")]
    assert found(dag, {"cpu": "thread"}) == []


def test_functions_that_a_pool_cannot_pickle():
    """Only a pool that is known to pickle functions can have such problems."""
    dag = DAG("pool", tasks=local_functions())
    with ProcessPoolExecutor(1) as processes, ThreadPoolExecutor(1) as threads:
        expected = [("transfer", "lambda"), ("transfer", "inner"), ("transfer", "method")]
        assert found(dag, FuturesExecutor(processes)) == expected
        assert found(dag, FuturesExecutor(threads)) == []


@FORKS
def test_functions_that_go_by_fork_are_no_problem(script):
    source = """
        import sys
        sys.modules["cloudpickle"] = None
        from flowkit_core import DAG, Task
        dag = DAG("forked", tasks=[Task(lambda: 1, name="one")])
        print(dag.check("process"))
        print(dag.run("process"))
    """
    assert script(source).wait() == "[]\n{'one': 1}\n"


CHECK = """
print(dag.check("process"))
"""


@pytest.mark.parametrize(
    ("source", "expected"), [(CHECK + RUN, "[]\n" + RESULTS), (RUN + CHECK, RESULTS + "[]\n")], ids=["before", "after"]
)
def test_check_before_and_after_the_first_run_of_a_script(script, source, expected):
    """It is no run: workers execute the statements before the first run, also if a check is among them."""
    assert script(TASKS + WITH_A_THREAD + source).wait() == expected
