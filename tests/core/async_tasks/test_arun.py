"""The method `arun`: a run in a coroutine, on its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import threading

import pytest
from reference_cycles import find_garbage

from flowkit_core import DAG, BindingError, ExecutorError, Pipeline, Run, SerialExecutor, Task, current
from flowkit_core.events import RunFinished

LONG = 30.0


async def place():
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop()), threading.get_ident()


def named(function, count):
    return [Task(function, name=f"{function.__name__}_{number}") for number in range(count)]


def test_arun_is_a_coroutine_function_with_the_arguments_of_run():
    assert inspect.iscoroutinefunction(Pipeline.arun)
    run, arun = inspect.signature(Pipeline.run), inspect.signature(Pipeline.arun)
    assert list(arun.parameters.values()) == list(run.parameters.values())


@pytest.mark.parametrize("executor", [None, "serial"])
def test_async_tasks_run_on_the_loop_of_the_caller_and_others_do_not(executor):
    async def main():
        made = Task(lambda: place(), name="made")
        plain = Task(threading.get_ident, name="plain")
        results = await DAG("here", tasks=[*named(place, 3), made, plain]).arun(executor)
        here = id(asyncio.get_running_loop()), threading.get_ident()
        assert results.pop("plain") != here[1]
        assert set(results.values()) == {here}

    asyncio.run(main())


def test_loop_of_the_caller_is_not_blocked():
    """A plain task, a condition and an observer wait for a coroutine of the same loop."""
    started, release = threading.Event(), threading.Event()

    def wait(*_):
        started.set()
        return release.wait(LONG)

    def observe(_event):
        wait()

    async def helper():
        assert await asyncio.to_thread(started.wait, LONG)
        release.set()

    async def main():
        dag = DAG("free", tasks=[Task(wait), Task(place, when=wait)])
        results, _ = await asyncio.gather(dag.arun(observers=[observe]), helper())
        return results

    assert asyncio.run(main())["wait"] is True


def test_arun_raises_what_run_raises():
    raised = ValueError("no")

    async def fail():
        raise raised

    async def main():
        with pytest.raises(ValueError, match="no") as caught:
            await DAG("fails", tasks=[Task(fail)]).arun()
        assert caught.value is raised
        assert "task 'fail' of 'fails' failed" in caught.value.__notes__[0]
        assert caught.value.flowkit_results.states == {"fail": "failed"}
        results = await DAG("fails", tasks=[Task(fail)]).arun(raise_on_failure=False)
        assert results.failed["fail"] is raised
        with pytest.raises(ExceptionGroup):
            await DAG("fails", tasks=[Task(fail)]).arun(fail_fast=False)
        with pytest.raises(TypeError, match="use 'max_workers'"):
            await DAG("fails", tasks=[Task(fail)]).arun(workers=3)
        with pytest.raises(BindingError):
            await DAG("fails", tasks=[Task(lambda missing: 1, name="open")]).arun()

    asyncio.run(main())


def test_bare_dag_has_the_tasks_of_the_coroutine():
    async def handle(user):
        def greeting():
            return f"Hello, {user}!"

        Task(greeting)
        await asyncio.sleep(0)
        return await DAG("greet").arun()

    async def main():
        return await asyncio.gather(*[handle(number) for number in range(20)])

    assert asyncio.run(main()) == [{"greeting": f"Hello, {number}!"} for number in range(20)]


def test_context_variables_of_the_caller_are_visible():
    variable = contextvars.ContextVar("variable", default="unset")

    async def awaited():
        return variable.get(), current().task

    async def main():
        variable.set("of the caller")
        return await DAG("context", tasks=[Task(awaited), Task(variable.get, name="plain")]).arun()

    assert asyncio.run(main()) == {"awaited": ("of the caller", "awaited"), "plain": "of the caller"}


def test_arun_inside_an_async_task_of_a_run():
    async def inner():
        return current().pipeline

    async def outer():
        inside = await DAG("inner", tasks=[Task(inner)]).arun()
        return inside["inner"], current().pipeline

    assert DAG("outer", tasks=named(outer, 40)).run()["outer_7"] == ("inner", "outer")


# Cancellation


def cancelled(dag, started, **options):
    """Cancel `arun` when `started` is set; return the CancelledError."""

    async def main():
        waiting = asyncio.create_task(dag.arun(**options))
        assert await asyncio.to_thread(started.wait, LONG)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        assert waiting.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return caught.value

    return asyncio.run(main())


def test_cancellation_cancels_coroutines_and_runs_clean_up_tasks():
    started, seen = threading.Event(), []

    async def slow():
        try:
            started.set()
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            raise

    async def after(slow):
        seen.append("after")

    async def clean(*_):
        seen.append("clean")

    slow, after, clean = Task(slow), Task(after), Task(clean, trigger="all_done")
    slow >> [after, clean]
    counts = []

    def observe(event):
        counts.append(event.counts)

    observe.events = (RunFinished,)
    error = cancelled(DAG("slow", tasks=[after, clean]), started, grace=LONG, observers=[observe])
    assert seen == ["cancelled", "clean"]
    assert error.flowkit_results.states == {"slow": "cancelled", "after": "cancelled", "clean": "succeeded"}
    assert len(counts) == 1


def test_cancellation_gives_plain_tasks_the_grace_of_the_run():
    waits, started, release = threading.Event(), threading.Event(), threading.Event()

    def plain():
        waits.wait(LONG)
        started.set()
        release.wait(LONG)

    async def slow():
        try:
            waits.set()
            await asyncio.sleep(LONG)
        finally:
            release.set()

    error = cancelled(DAG("slow", tasks=[Task(slow), Task(plain)]), started, grace=LONG)
    assert error.flowkit_results.states == {"slow": "cancelled", "plain": "succeeded"}


@pytest.mark.parametrize("is_mapped", [False, True])
def test_cancellation_abandons_a_blocked_plain_task_after_the_grace(monkeypatch, is_mapped):
    monkeypatch.setattr("flowkit_core.runs.session.STOP_GRACE", 0.0)
    started, release = threading.Event(), threading.Event()

    def plain(_=None):
        started.set()
        release.wait(LONG)

    plain, clean = Task(plain), Task(lambda *_: release.is_set(), name="clean", trigger="all_done")
    if is_mapped:
        Task(lambda: [1, 2], name="numbers") >> plain.map()
    plain >> clean
    error = cancelled(DAG("slow", tasks=[clean]), started)
    release.set()
    assert error.flowkit_results.states["plain"] == "cancelled"
    assert error.flowkit_results["clean"] is False


def test_cancellation_prints_nothing(capsys):
    """A server cancels many requests."""
    started = threading.Event()

    async def slow():
        started.set()
        await asyncio.sleep(LONG)

    cancelled(DAG("slow", tasks=[Task(slow)]), started)
    assert capsys.readouterr().err == ""


def test_second_cancellation_ends_the_wait_at_once():
    started, release = threading.Event(), threading.Event()

    def plain():
        started.set()
        release.wait(LONG)

    async def main():
        waiting = asyncio.create_task(DAG("slow", tasks=[Task(plain)]).arun(grace=LONG))
        assert await asyncio.to_thread(started.wait, LONG)
        waiting.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not release.is_set()
        release.set()

    asyncio.run(main())


def test_cancellation_before_the_run_has_started():
    async def main():
        dag = DAG("slow", tasks=[Task(asyncio.sleep, name="slow")])
        waiting = asyncio.create_task(dag.arun(params={"delay": LONG}))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())


def test_timeout_of_asyncio_cancels_the_run():
    async def slow():
        await asyncio.sleep(LONG)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await DAG("slow", tasks=[Task(slow)]).arun()

    asyncio.run(main())


def test_cancelled_error_of_a_task_is_no_cancellation():
    """A caller that was not cancelled must see an error."""

    async def cancels_itself():
        raise asyncio.CancelledError

    async def main():
        with pytest.raises(RuntimeError, match="raised CancelledError, although") as caught:
            await DAG("own", tasks=[Task(cancels_itself)]).arun()
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert caught.value.flowkit_results.states == {"cancels_itself": "failed"}

    asyncio.run(main())


# Executors and memory


class OwnExecutor:
    name = "own"

    def execute(self, run: Run):
        SerialExecutor().execute(run)

    def close(self):
        pass


def test_executor_without_lane_is_an_error():
    async def main():
        with pytest.raises(ExecutorError, match=r"executor 'own' cannot apply arun\(\), because it has no lane"):
            await DAG("own", tasks=named(place, 1)).arun(OwnExecutor())

    asyncio.run(main())
    assert len(DAG("own", tasks=named(place, 1)).run(OwnExecutor())) == 1


@pytest.mark.parametrize("is_failing", [False, True])
def test_arun_leaves_no_reference_cycle(is_failing):
    async def work():
        await asyncio.sleep(0)
        if is_failing:
            raise ValueError("no")

    dag = DAG("cycles", tasks=named(work, 3))

    async def once():
        with contextlib.suppress(ValueError):
            await dag.arun()

    async def end_of_thread():
        for thread in threading.enumerate():
            if thread.name == "flowkit-arun":
                await asyncio.to_thread(thread.join, LONG)

    async def main():
        await once()
        await end_of_thread()
        gc.collect()
        gc.disable()
        try:
            await once()
            await end_of_thread()
            return find_garbage(lambda each: isinstance(each, Run) and each.graph.name == "cycles")
        finally:
            gc.enable()

    assert asyncio.run(main()) == []


async def wait_long(*args):
    started.set()
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise


started = threading.Event()
ended = []


@pytest.mark.parametrize("is_mapped", [False, True])
@pytest.mark.parametrize("function", [wait_long, lambda *args: wait_long(*args)])
def test_cancelled_arun_with_the_serial_executor_cancels_the_coroutine(function, is_mapped):
    """It runs in the thread of the run, which waits for it; clean-up tasks run after it."""
    started.clear()
    ended.clear()
    task, last = Task(function, name="task"), Task(lambda *args: "clean", name="last", trigger="all_done")
    if is_mapped:
        task = Task(lambda x: function(x), name="task")
        Task(lambda: [1, 2], name="rows") >> task.map() >> last
    else:
        task >> last

    async def main():
        waiting = asyncio.create_task(DAG("long", tasks=[last]).arun("serial"))
        await asyncio.to_thread(started.wait, LONG)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await waiting
        return raised.value.flowkit_results

    results = asyncio.run(main())
    assert ended == ["cancelled"]
    assert results.states["task"] == "cancelled"
    assert results["last"] == "clean"
