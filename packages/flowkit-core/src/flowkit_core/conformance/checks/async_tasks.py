"""Checks of ``async def`` tasks: in the event loop of the process, beside plain tasks, and in the executor."""

from __future__ import annotations

import asyncio
import random
import time
from contextvars import ContextVar
from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import current
from flowkit_core.pipelines.dag import DAG
from flowkit_core.pipelines.task import Task

from . import tasks
from .trial import MismatchError, check, expect, expect_true, run_on

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial

LONG = 30.0
"""Seconds that a coroutine waits if nothing ends it."""
MANY = 40
"""Number of coroutines, more than workers."""

_variable: ContextVar[str] = ContextVar("variable", default="unset")


def _default(trial: Trial) -> dict[str, Any]:
    """Return the argument ``executor`` of a run whose coroutines are in the event loop, also if this one is serial."""
    return {"default": trial.executor}


async def _loop() -> int:
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop())


@check()
def async_tasks_have_the_results_of_plain_ones(trial: Trial) -> None:
    """Graphs of plain and async tasks have the results of plain ones, with conditions and retries."""
    for seed in range(4):
        choose = random.Random(seed)
        made: dict[bool, list[Task[..., Any]]] = {True: [], False: []}
        for number in range((4, 12, 30, 12)[seed]):
            path = f"{trial.path}-{seed}-{number}"
            is_async, is_flaky = choose.random() < 0.6, choose.random() < 0.2
            upstreams = choose.sample(range(number), min(number, choose.randrange(3)))
            for has_async, nodes in made.items():
                options: dict[str, Any] = {"retries": 1, "delay": 0} if is_flaky else {}
                function = tasks.awaited_collect if is_async and has_async else tasks.collect_after_failures
                call = partial(function, f"{path}-{has_async}", int(is_flaky), number)
                node: Task[..., Any] = Task(call, name=f"task_{number}", **options)
                for upstream in upstreams:
                    nodes[upstream] >> node
                nodes.append(node)
        expected = run_on("serial", *made[False])
        expect(f"results of the graph of seed {seed}", trial.run(*made[True]), expected)


@check("lane")
def async_tasks_wait_at_once(trial: Trial) -> None:
    """As many coroutines wait at once as are ready, however many workers the executor has."""
    barrier = asyncio.Barrier(MANY)
    waiting = [Task(partial(_wait_at, barrier), name=f"wait_{number}") for number in range(MANY)]
    end = Task(tasks.collect, name="end")
    waiting >> end
    expect("number of results", len(run_on(_default(trial), end)["end"]), MANY)


async def _wait_at(barrier: asyncio.Barrier) -> int:
    await barrier.wait()
    return 1


@check("lane")
def elements_of_async_tasks_wait_at_once(trial: Trial) -> None:
    """Elements of a mapped async task wait at once, and go through a chain of mapped tasks one by one."""
    barrier = asyncio.Barrier(MANY)

    async def wait(item: int) -> int:
        await barrier.wait()
        return item

    items, first, second = Task(partial(range, MANY), name="items"), Task(wait), Task(tasks.awaited, name="second")
    total = Task(sum, name="total")
    items >> first.map() >> second.map() >> total
    expect("sum of the results", run_on(_default(trial), total)["total"], sum(range(1, MANY + 1)))


@check("lane")
def async_tasks_of_all_runs_share_one_event_loop(trial: Trial) -> None:
    """Coroutines of several runs have the same event loop, also those of a serial run."""
    loops = set()
    for executor in (_default(trial), "serial", _default(trial)):
        loops |= set(run_on(executor, *[Task(_loop, name=f"loop_{number}") for number in range(3)]).values())
    expect("number of event loops", len(loops), 1)


@check("lane")
def max_async_limits_coroutines(trial: Trial) -> None:
    """``run(max_async=2)`` lets at most two coroutines run at a time."""
    pairs = asyncio.Barrier(2)
    running: list[int] = []
    most: list[int] = []

    async def work(*_args: Any) -> None:
        running.append(1)
        most.append(len(running))
        await pairs.wait()
        running.pop()

    one = Task(tasks.one)
    one >> [Task(work, name=f"work_{number}") for number in range(10)]
    DAG("check", tasks=one.downstream).run(_default(trial), max_async=2)
    expect("most coroutines at a time", max(most), 2)


@check("lane")
def grace_cancels_coroutines_after_a_failure(trial: Trial) -> None:
    """When a task fails, running coroutines are cancelled after ``grace``, and clean-up tasks run."""
    nap = Task(partial(tasks.counted_nap, trial.path, LONG), name="nap")
    bad = Task(partial(tasks.fail_when_counted, trial.path, LONG), name="bad")
    clean = Task(tasks.collect, name="clean", trigger="all_done")
    [nap, bad] >> clean
    began = time.monotonic()
    try:
        run_on(_default(trial), clean, grace=0)
    except tasks.OwnError as error:
        states = error.flowkit_results.states  # type: ignore[attr-defined]
    else:
        raise MismatchError("run() raises", "OwnError", "nothing")
    took = time.monotonic() - began
    expect("states", states, {"nap": "cancelled", "bad": "failed", "clean": "succeeded"})
    expect("starts and cancellations of the coroutine", trial.calls(), 2)
    expect_true("duration of the run", took < LONG / 2, f"much less than {LONG} s", f"{took:.1f} s")


@check()
def cancelled_error_of_a_coroutine_is_its_failure(trial: Trial) -> None:
    """A coroutine that raises CancelledError, although the run was not cancelled, has failed."""
    error = trial.raised(asyncio.CancelledError, Task(tasks.cancel_itself, name="bad"))
    expect("states", error.flowkit_results.states, {"bad": "failed"})


@check("lane")
def coroutine_runs_in_the_executor_that_its_task_names(trial: Trial) -> None:
    """An async task with ``executor=`` is awaited there."""
    one, awaited = Task(tasks.one, executor="there"), Task(tasks.awaited, executor="there")
    one >> awaited
    executors = {"default": "serial", "there": trial.executor}
    expect("results", run_on(executors, awaited), {"one": 1, "awaited": 2})


@check("lane")
def context_variables_of_coroutines_are_copies(trial: Trial) -> None:
    """A coroutine has a copy of the context variables of the caller of ``run()``, and ``current()`` is its own task."""

    async def change(*_args: Any) -> tuple[str, str, str]:
        before = _variable.get()
        _variable.set(current().task)
        await asyncio.sleep(0)
        return before, _variable.get(), current().task

    _variable.set("of the caller")
    names = [f"change_{number}" for number in range(3)]
    results = run_on(_default(trial), *[Task(change, name=name) for name in names])
    expect("values", results, {name: ("of the caller", name, name) for name in names})
    expect("value of the caller", _variable.get(), "of the caller")


@check("lane")
def arun_has_the_results_of_run(trial: Trial) -> None:
    """``await arun()`` returns the results of ``run()``; coroutines run in the event loop of the caller."""
    one, awaited, flaky = Task(tasks.one), Task(tasks.awaited), Task(partial(tasks.flaky, trial.path, 1), name="flaky")
    end, loop = Task(tasks.collect, name="end"), Task(_loop, name="loop")
    flaky = flaky.with_options(retries=1, delay=0.01)
    one >> awaited >> end
    flaky >> end

    async def main() -> tuple[Any, int]:
        return await DAG("check", tasks=[end, loop]).arun(trial.executor), id(asyncio.get_running_loop())

    results, here = asyncio.run(main())
    expect("event loop", results.pop("loop"), here)
    expect("results", results, {"one": 1, "awaited": 2, "flaky": 2, "end": (2, 2)})


@check("lane")
def cancelled_arun_stops_the_run(trial: Trial) -> None:
    """A cancellation of ``await arun()`` cancels coroutines, gives other calls ``grace``, and runs clean-up tasks."""
    path = trial.path
    nap = Task(partial(tasks.counted_nap, path, LONG), name="nap")
    slow = Task(partial(tasks.wait_for_release, path, LONG), name="slow")
    below, clean = Task(tasks.collect, name="below"), Task(tasks.collect, name="clean", trigger="all_done")
    [nap, slow] >> below
    nap >> clean

    async def main() -> dict[str, str]:
        waiting = asyncio.create_task(DAG("check", tasks=[below, clean]).arun(_default(trial), grace=LONG))
        while trial.calls() < 2:  # noqa: ASYNC110 - a file; both have started
            await asyncio.sleep(0.005)
        waiting.cancel()
        while trial.calls() < 3:  # noqa: ASYNC110 - the coroutine was cancelled
            await asyncio.sleep(0.005)
        tasks.release(path)
        try:
            await waiting
        except asyncio.CancelledError as error:
            states: dict[str, str] = error.flowkit_results.states  # type: ignore[attr-defined]
            return states
        raise MismatchError("arun() raises", "CancelledError", "nothing")

    states = asyncio.run(main())
    expect_true("state of the plain task", states.pop("slow") in ("succeeded", "cancelled"), "its end", states)
    expect("states", states, {"nap": "cancelled", "below": "cancelled", "clean": "succeeded"})
