"""What runs in threads and processes leave behind: no reference cycles, here or in a worker."""

from __future__ import annotations

import gc
from types import FrameType

import pytest
import tracked_objects as w

from flowkit_core import DAG, Results, Task
from flowkit_exec import ProcessExecutor


def garbage():
    """Return the errors, frames and objects of runs that only the collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [thing for thing in gc.garbage if is_of_a_run(thing)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def is_of_a_run(thing):
    """Return whether an object was created by a run; tasks and their neighbors do not count."""
    if isinstance(thing, FrameType):
        return thing.f_globals["__name__"].startswith(("flowkit_core.", "flowkit_exec."))
    parts = "run", "results", "ledger", "outcome", "executor"
    module = type(thing).__module__
    return (
        isinstance(thing, (w.Boom, ExceptionGroup))
        or module.startswith("flowkit_exec.")
        or module in [f"flowkit_core.{part}" for part in parts]
    )


@pytest.fixture(autouse=True)
def _without_collector():
    w.turn_off()
    yield
    gc.enable()


SHAPES = {
    "success": lambda: [Task(w.succeed), Task(w.succeed, name="left_out", when=w.never)],
    "one failure": lambda: [Task(w.broken)],
    "three failures": lambda: [Task(w.broken, name=f"broken_{number}") for number in range(3)],
    "retries": lambda: [Task(w.broken, retries=2, delay=0)],
    "async": lambda: [Task(w.waiting)],
    "condition": lambda: [Task(w.succeed, when=w.condition)],
}


@pytest.mark.parametrize(
    "options",
    [{}, {"fail_fast": False}, {"raise_on_failure": False}, {"raise_on_failure": False, "fail_fast": False}],
    ids=str,
)
@pytest.mark.parametrize("shape", SHAPES)
def test_run_is_freed_without_the_collector(executor, shape, options):
    """The parameter, the values, the errors, what the frames of tasks held, and what the executor made for it."""
    first, tasks = Task(w.value), SHAPES[shape]()
    for task in tasks:
        first >> task
    if shape == "one failure":
        tasks[0] >> Task(w.below)
    dag = DAG("memory", tasks=tasks)
    param = w.note("param", w.Big())
    try:
        results = dag.run(executor, params={"param": param}, **options)
    except (w.Boom, ExceptionGroup) as error:
        assert Results.from_error(error).failed
    else:
        assert bool(results.failed) == (shape != "success")
        del results
    del param
    assert w.alive() == {}
    assert garbage() == []


def test_results_do_not_hold_parameters(executor):
    """They hold the value alone."""
    dag = DAG("memory", tasks=[Task(w.value)])
    results = dag.run(executor, params={"param": w.note("param", w.Big())})
    assert isinstance(results["value"], w.Big)
    assert "param" not in w.alive()


@pytest.mark.parametrize("function", [w.broken, w.waiting])
def test_failure_in_a_worker_process_is_freed_there_without_the_collector(function):
    """Else what failed tasks held would stay in a warm worker until its collector runs."""
    fail, before, after = Task(function, retries=2, delay=0), Task(w.turn_off), Task(w.alive)
    with ProcessExecutor(max_workers=1) as executor:
        DAG("before", tasks=[before]).run(executor)
        with pytest.raises(w.Boom):
            DAG("fail", tasks=[fail]).run(executor)
        assert DAG("after", tasks=[after]).run(executor) == {"alive": {}}
