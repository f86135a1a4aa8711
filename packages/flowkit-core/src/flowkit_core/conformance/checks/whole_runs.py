"""Checks of runs as a whole: several at once, inside others, recorded, and of closing the executor."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import ExecutorError
from flowkit_core.failures import describe_error
from flowkit_core.pipelines.dag import DAG
from flowkit_core.pipelines.task import Task

from . import tasks
from .trial import MismatchError, check, expect, expect_true

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial


@check()
def executor_has_a_name(trial: Trial) -> None:
    """The attribute ``name`` is a text, for logs and messages."""
    name = getattr(trial.executor, "name", None)
    expect_true("name", isinstance(name, str) and name, "a text that is not empty", name)


@check()
def several_runs_share_the_executor(trial: Trial) -> None:
    """Runs in several threads at once have their own results."""
    start, end = Task(partial(tasks.sleep_for, 0.01), name="start"), Task(tasks.add_one, name="end")
    start >> end
    dag = DAG("check", tasks=[end])
    barrier = threading.Barrier(3)
    seen: list[Any] = []

    def work() -> None:
        barrier.wait()
        for _ in range(3):
            try:
                seen.append(dict(dag.run(trial.executor)))
            except BaseException as error:
                seen.append(describe_error(error))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect("results of nine runs", seen, [{"start": 0.01, "end": 1.01}] * 9)


@check()
def task_may_run_a_pipeline(trial: Trial) -> None:
    """A run inside a task works."""
    inside = Task(tasks.run_inside)
    expect("results", trial.run(inside), {"run_inside": {"start": 1, "end": 2}})


@check()
def run_inside_an_event_loop(trial: Trial) -> None:
    """``run()`` may be called by a coroutine, also with async tasks."""

    async def cell() -> Any:
        one, awaited = Task(tasks.one), Task(tasks.awaited)
        one >> awaited
        return trial.run(awaited)

    expect("results", asyncio.run(cell()), {"one": 1, "awaited": 2})


@check("local")
def context_variables_of_the_caller_are_visible(trial: Trial) -> None:
    """Tasks see the context variables that the caller of ``run()`` sees."""
    token = tasks.setting.set("of the caller")
    try:
        read, awaited = Task(tasks.read_setting), [Task(tasks.read_setting, name=f"r{number}") for number in range(9)]
        read >> awaited
        expect("values", set(trial.run(*awaited).values()), {"of the caller"})
    finally:
        tasks.setting.reset(token)


@check()
def context_changes_of_a_task_stay_inside(trial: Trial) -> None:
    """A context variable that a task sets is unchanged for other tasks and for the caller."""
    change = Task(tasks.change_setting)
    others = [Task(tasks.change_setting, name=f"change_{number}") for number in range(20)]
    change >> others
    expect("values before each change", set(trial.run(*others).values()), {"unset"})
    expect("value for the caller", tasks.setting.get(), "unset")


@check()
def close_may_be_called_twice(trial: Trial) -> None:
    """After ``close()``, a run works or raises ExecutorError; a second ``close()`` does nothing."""
    expect("results", trial.run(Task(tasks.one)), {"one": 1})
    trial.executor.close()
    trial.executor.close()
    for end in ([Task(tasks.one)], []):
        try:
            trial.run(*end)
        except ExecutorError:
            continue
        except Exception as error:
            raise MismatchError("a run after close()", "a result or ExecutorError", describe_error(error)) from error


@check("state")
def failed_run_is_resumed(trial: Trial) -> None:
    """A recorded run that failed continues with ``resume=True``: tasks that have succeeded are not called again."""
    first = Task(partial(tasks.counted_condition, trial.path), name="first")
    flaky = Task(partial(tasks.flaky, trial.path + "-attempts", 1), name="flaky")
    last = Task(tasks.add_one, name="last")
    first >> flaky >> last
    error = trial.raised(tasks.OwnError, last, state=trial.state)
    expect("results of the failed run", error.flowkit_results, {"first": True})
    results = trial.run(last, state=trial.state, resume=True)
    expect("results of the resumed run", results, {"first": True, "flaky": 2, "last": 3})
    expect("tasks done before", results.resumed, ("first",))
    expect("number of calls of the first task", trial.calls(), 1)


@check("state")
def cached_result_is_used(trial: Trial) -> None:
    """The second run takes the result of a cached task from the store."""
    made = Task(tasks.add_one, name="made", cache=True)
    end = Task(tasks.add_one, name="end")
    made >> end
    for cached in ((), ("made",)):
        results = trial.run(end, params={"made.x": 1}, state=trial.state)
        expect("results", results, {"made": 2, "end": 3})
        expect("tasks whose results come from the cache", results.cached, cached)
