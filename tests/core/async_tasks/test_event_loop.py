"""Async tasks in the event loop of the process: sharing, concurrency, failures, interrupts, forks and exit."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core import DAG, Task, current, task
from flowkit_core.events import TaskNotRun, TaskSucceeded

LONG = 30.0
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: no fork")


def named(function, count):
    """Return tasks of one function, with numbered names."""
    return [Task(function, name=f"{function.__name__}_{number}") for number in range(count)]


# Sharing


async def loop_and_thread():
    return id(asyncio.get_running_loop()), threading.get_ident()


@pytest.mark.parametrize("executor", [None, "serial", {"default": "serial"}])
def test_async_tasks_of_all_runs_share_one_loop(executor):
    first = DAG("first", tasks=named(loop_and_thread, 3)).run()
    second = DAG("second", tasks=[*named(loop_and_thread, 2), Task(lambda: loop_and_thread(), name="made")]).run(
        executor
    )
    assert len({*first.values(), *second.values()}) == 1
    assert threading.get_ident() not in {thread for _, thread in first.values()}


def test_lock_is_shared_from_run_to_run():
    """Contention binds a lock to its event loop."""
    lock = asyncio.Lock()
    inside = []

    async def enter():
        async with lock:
            inside.append(1)
            await asyncio.sleep(0)
            assert len(inside) == 1
            inside.clear()
            return True

    for executor in (None, "serial", None):
        assert all(DAG("locked", tasks=named(enter, 5)).run(executor).values())


def test_async_tasks_wait_at_once_without_threads():
    """All of them are needed to pass the barrier."""
    count = 300
    barrier = asyncio.Barrier(count)

    async def wait():
        await barrier.wait()
        return threading.active_count()

    before = threading.active_count()
    results = DAG("barrier", tasks=named(wait, count)).run()
    assert max(results.values()) <= before + 2
    assert len(results) == count


def test_async_task_waits_while_plain_tasks_run():
    """A plain task in the calling thread releases a coroutine that waits in the loop."""
    waits = asyncio.Event()

    async def wait():
        loops.append(asyncio.get_running_loop())
        ready.set()
        await waits.wait()
        return "released"

    def release():
        assert ready.wait(LONG)
        loops[0].call_soon_threadsafe(waits.set)

    loops, ready = [], threading.Event()
    assert DAG("mixed", tasks=[Task(wait), Task(release)]).run()["wait"] == "released"


# Results


@st.composite
def graphs(draw):
    """Return the kind of each node, and its upstreams."""
    count = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from(["plain", "async", "skipped", "flaky"]), min_size=count, max_size=count))
    return [
        (kind, sorted(draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else [])) for n, kind in enumerate(kinds)
    ]


def build(graph, *, is_async):
    made = []
    for number, (kind, upstream) in enumerate(graph):
        tries = []

        async def work(*values, number=number, kind=kind, tries=tries):
            await asyncio.sleep(0)
            return plain(*values, number=number, kind=kind, tries=tries)

        def plain(*values, number=number, kind=kind, tries=tries):
            tries.append(1)
            if kind == "flaky" and len(tries) == 1:
                raise OSError(number)
            return number, values

        node = Task(
            work if is_async and kind != "plain" else plain,
            name=f"t{number}",
            when=(lambda *values: len(values) != 1) if kind == "skipped" else None,
            retries=int(kind == "flaky"),
            **({"delay": 0} if kind == "flaky" else {}),
        )
        for index in upstream:
            made[index] >> node
        made.append(node)
    return DAG("random", tasks=made)


@given(graphs(), st.booleans(), st.sampled_from([None, 1, 2]))
def test_async_tasks_have_the_results_of_plain_ones(graph, observed, max_async):
    """Conditions, skips and retries included."""
    expected = build(graph, is_async=False).run("serial")
    observers = [lambda event: None] if observed else []
    results = build(graph, is_async=True).run(observers=observers, max_async=max_async)
    assert results == expected
    assert results.states == expected.states
    assert results.attempts == expected.attempts


def test_long_chain_of_async_tasks_ends():
    async def add(value=0):
        return value + 1

    chain = named(add, 3000)
    for upstream, node in itertools.pairwise(chain):
        upstream >> node
    assert DAG("chain", tasks=chain).run()["add_2999"] == 3000


# How many at once


@pytest.mark.parametrize("observed", [False, True])
def test_max_async_limits_calls(observed):
    running, most = [], []

    async def work():
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.pop()

    DAG("limited", tasks=named(work, 20)).run(max_async=3, observers=[lambda event: None] if observed else [])
    assert max(most) == 3


def test_retry_that_waits_holds_no_slot_of_max_async():
    order = []

    async def flaky():
        order.append("flaky")
        if len(order) == 1:
            raise OSError

    async def other():
        order.append("other")

    DAG("slots", tasks=[Task(flaky, retries=1, delay=0.01), Task(other)]).run(max_async=1)
    assert order == ["flaky", "other", "flaky"]


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3"])
def test_max_async_that_is_no_positive_integer_is_refused(value):
    with pytest.raises((TypeError, ValueError), match=r"max_async"):
        DAG("limited", tasks=named(loop_and_thread, 1)).run(max_async=value)


# Failures


def test_grace_cancels_a_coroutine_after_a_failure():
    seen = []

    async def slow():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def fail():
        await asyncio.sleep(0)
        raise ValueError("no")

    async def clean(*_):
        seen.append("clean")

    slow, fail, clean = Task(slow), Task(fail), Task(clean, trigger="all_done")
    [slow, fail] >> clean
    with pytest.raises(ValueError, match="no") as caught:
        DAG("stopped", tasks=[clean]).run(grace=0)
    assert seen == ["cancelled", "closed", "clean"]
    results = caught.value.flowkit_results
    assert results.states == {"slow": "cancelled", "fail": "failed", "clean": "succeeded"}


def test_failure_without_grace_waits_for_coroutines():
    failed = asyncio.Event()

    async def slow():
        await failed.wait()
        return 1

    async def fail():
        asyncio.get_running_loop().call_later(0.01, failed.set)
        raise ValueError("no")

    results = DAG("waits", tasks=[Task(slow), Task(fail)]).run(raise_on_failure=False)
    assert results.states == {"slow": "succeeded", "fail": "failed"}


def test_coroutine_that_ignores_its_cancellation_is_abandoned(monkeypatch):
    monkeypatch.setattr("flowkit_core.runs.event_loop.lane.CANCEL_GRACE", 0.02)
    release = asyncio.Event()
    loops = []

    async def stubborn():
        loops.append(asyncio.get_running_loop())
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def fail():
        await asyncio.sleep(0)
        raise ValueError("no")

    reasons = []

    def observe(event):
        reasons.append((event.task, event.reason))

    observe.events = (TaskNotRun,)
    with pytest.raises(ValueError, match="no"):
        DAG("stopped", tasks=[Task(stubborn), Task(fail)]).run(grace=0, observers=[observe])
    ((name, reason),) = reasons
    assert name == "stubborn"
    assert "did not end within 0.02 s and was abandoned" in reason
    loops[0].call_soon_threadsafe(release.set)


def test_timeout_of_the_run_cancels_coroutines():
    seen = []

    async def slow():
        try:
            await asyncio.sleep(LONG)
        finally:
            seen.append("closed")

    results = DAG("slow", tasks=[Task(slow)]).run(timeout=0.05, grace=0, raise_on_failure=False)
    assert results.states == {"slow": "cancelled"}
    assert seen == ["closed"]


def test_cancelled_error_of_a_task_is_its_failure():
    async def cancels_itself():
        asyncio.current_task().cancel()
        await asyncio.sleep(LONG)

    with pytest.raises(asyncio.CancelledError) as caught:
        DAG("own", tasks=[Task(cancels_itself)]).run()
    assert caught.value.flowkit_results.states == {"cancels_itself": "failed"}


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("in_subtask", [False, True])
def test_error_that_ends_programs_does_not_end_the_loop(error, in_subtask):
    async def leave():
        raise error("stop")

    async def outer():
        await (asyncio.create_task(leave()) if in_subtask else leave())

    with pytest.raises(error):
        DAG("leaves", tasks=[Task(outer)]).run()
    assert DAG("next", tasks=named(loop_and_thread, 2)).run()


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="platform: not the main thread")
def test_interrupt_of_the_calling_thread_cancels_coroutines():
    seen = []

    async def interrupt():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt) as caught:
        DAG("interrupted", tasks=[Task(interrupt)]).run()
    assert "0 tasks had succeeded, 1 was running, 0 did not start" in caught.value.__notes__[-1]
    with pytest.raises(KeyboardInterrupt):
        DAG("interrupted", tasks=[Task(interrupt)]).run("serial")
    assert seen == ["cancelled", "cancelled"]


# Context


def test_context_variables_are_copied_for_each_task():
    variable = contextvars.ContextVar("variable", default="unset")

    async def change():
        before = variable.get()
        variable.set(current().task)
        await asyncio.sleep(0)
        return before, variable.get()

    variable.set("of the caller")
    results = DAG("context", tasks=named(change, 3)).run()
    assert results == {name: ("of the caller", name) for name in ("change_0", "change_1", "change_2")}
    assert variable.get() == "of the caller"


def test_run_inside_an_async_task_has_async_tasks():
    """run() blocks the loop of the process, so that its own tasks need another."""

    async def inner():
        await asyncio.sleep(0)
        return current().pipeline

    async def outer():
        inside = [DAG("inner", tasks=[Task(inner)]).run(executor)["inner"] for executor in (None, "serial")]
        return [*inside, current().pipeline]

    before = threading.active_count()
    assert DAG("outer", tasks=[Task(outer)]).run() == {"outer": ["inner", "inner", "outer"]}
    assert threading.active_count() <= before + 1


def test_events_of_async_tasks_have_durations():
    seen = []

    def observe(event):
        seen.append((event.task, event.attempt, event.duration >= 0.01))

    observe.events = (TaskSucceeded,)

    async def nap():
        await asyncio.sleep(0.011)

    DAG("events", tasks=[Task(nap)]).run(observers=[observe])
    assert seen == [("nap", 1, True)]


# Processes, policies, exit


@needs_fork
def test_fork_has_a_loop_of_its_own():
    parent = DAG("parent", tasks=named(loop_and_thread, 1)).run()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if not child:
        code = 1
        try:
            results = DAG("child", tasks=named(loop_and_thread, 2)).run()
            code = 0 if set(results.values()).isdisjoint(parent.values()) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert DAG("parent", tasks=named(loop_and_thread, 1)).run() == parent


def run_script(text):
    """Run a program; return what it writes to standard output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


SCRIPT = """
    import asyncio, atexit, time
    from flowkit_core import DAG, Task, ExecutorError
"""


@pytest.mark.parametrize("has_begun", [False, True])
def test_interrupt_while_the_thread_of_the_loop_starts_leaves_one_thread_with_the_loop(has_begun):
    """The thread may have begun before Ctrl-C interrupts its start. A loop in two threads calls everything twice."""
    output = run_script(
        f"""
        import asyncio, threading
        from flowkit_core import DAG, Task

        async def one():
            await asyncio.sleep(0)
            return 1

        class Interrupted(threading.Thread):
            def start(self):
                if {has_begun}:
                    start(self)
                threading.Thread.start = start
                raise KeyboardInterrupt

        dag, start = DAG("one", tasks=[Task(one)]), threading.Thread.start
        threading.Thread.start = Interrupted.start
        try:
            dag.run()
        except KeyboardInterrupt:
            print("interrupted")
        for number in range(100):
            assert dag.run() == {{"one": 1}}
        print("ended")
        """
    )
    assert output.splitlines() == ["interrupted", "ended"]


def test_loop_is_closed_in_order_at_exit():
    """Tasks that are left are cancelled, then asynchronous generators and the default executor are closed."""
    output = run_script(
        SCRIPT
        + """
    kept = []
    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            print("generator closed")
    async def background():
        try:
            await asyncio.sleep(30)
        finally:
            print("task cancelled")
    async def start():
        generator = numbers()
        kept.append(generator)
        kept.append(asyncio.create_task(background()))
        await asyncio.to_thread(time.sleep, 0)
        return await anext(generator)
    print(DAG("exit", tasks=[Task(start)]).run())
    """
    )
    assert output.splitlines() == ["{'start': 1}", "task cancelled", "generator closed"]


def test_run_at_exit_works_or_raises_an_error():
    output = run_script(
        SCRIPT
        + """
    async def one():
        return 1
    def last():
        try:
            print(DAG("last", tasks=[Task(one)]).run())
        except ExecutorError as error:
            print("error:", error)
    atexit.register(last)
    """
    )
    assert output.startswith(("{'one': 1}", "error: the event loop for async tasks cannot be started"))


def test_loop_comes_from_the_policy():
    output = run_script(
        SCRIPT
        + """
    class Loop(asyncio.SelectorEventLoop):
        pass
    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            return Loop()
    asyncio.set_event_loop_policy(Policy())
    async def kind():
        return type(asyncio.get_running_loop()).__name__
    print(DAG("policy", tasks=[Task(kind)]).run())
    """
    )
    assert output == "{'kind': 'Loop'}\n"


def test_policy_without_loops_is_an_error(monkeypatch):
    def refuse():
        raise NotImplementedError("no loops here")

    output = run_script(
        SCRIPT
        + """
    def refuse():
        raise NotImplementedError("no loops here")
    asyncio.new_event_loop = refuse
    async def one():
        return 1
    for executor in (None, "serial"):
        try:
            DAG("refused", tasks=[Task(one)]).run(executor)
        except ExecutorError as error:
            print(error)
    """
    )
    text = "the event loop for async tasks cannot be started: NotImplementedError: no loops here"
    assert output.splitlines() == [text, text]


@task
async def at_top_level():
    return current().task


def test_executor_that_a_task_names_awaits_it():
    """It holds a worker there."""
    here = at_top_level.with_options(executor="serial", name="here")
    assert DAG("named", tasks=[here]).run() == {"here": "here"}
