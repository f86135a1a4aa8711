"""Threads, pools, coroutines and generators: what they make does not mix, and nothing passes beyond their start."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import sys
import threading

import pytest

from flowkit_core import DAG, Task, task


def run_threads(work, count):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_builders_in_threads_do_not_mix():
    """Calls of one function in four threads, each in the middle of its pipeline."""
    barrier = threading.Barrier(4, timeout=60)
    seen = {}

    def build(number):
        @task
        def value():
            return number

        barrier.wait()

        @task
        def text(value):
            return str(value)

        value >> text
        barrier.wait()
        return DAG("threads")

    def work(number):
        for round_ in range(5):
            seen[number, round_] = build(number * 100 + round_).run("serial")["text"]

    run_threads(work, 4)
    assert seen == {(number, round_): str(number * 100 + round_) for number in range(4) for round_ in range(5)}


def test_tasks_of_a_thread_do_not_pass_to_the_call_that_started_it():
    """Nothing passes beyond the start of a thread, a timer or a pool job."""

    def work(*_):
        Task(int, name="of_the_job")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    timer = threading.Timer(0, work)
    timer.start()
    timer.join(60)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
        list(pool.map(work, range(3)))
    Task(lambda: 1, name="own")
    assert DAG("own").run("serial") == {"own": 1}


def test_subclass_of_thread_keeps_its_tasks():
    """A thread with a run() method of its own makes its own pipeline."""
    seen = []

    class Worker(threading.Thread):
        def run(self):
            self.make()
            seen.append(DAG("worker").run("serial"))

        def make(self):
            Task(lambda: 1, name="inner")

    worker = Worker()
    worker.start()
    worker.join(60)
    assert seen == [{"inner": 1}]


@pytest.mark.parametrize("ending", ["return", "raise"])
def test_next_job_of_a_pool_worker_has_nothing_of_the_last(script, ending):
    """A request that was refused leaves no tasks to the next one of the same thread."""
    module = script(
        f"""
        def refused():
            Task(int, name="wipe_disk")
            {"raise PermissionError" if ending == "raise" else "return"}

        def guest():
            Task(lambda: "hello", name="greet")
            return DAG("guest").run("serial")

        def handle(allowed):
            if not allowed:
                Task(int, name="wipe_disk")
                {"raise PermissionError" if ending == "raise" else "return None"}
            Task(lambda: "hello", name="greet")
            return DAG("guest").run("serial")
        """
    )
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            for job in (module.refused, lambda: module.handle(False)):
                with contextlib.suppress(PermissionError):
                    pool.submit(job).result()
            assert pool.submit(module.guest).result() == {"greet": "hello"}
            assert pool.submit(module.handle, True).result() == {"greet": "hello"}


def test_tasks_returned_by_a_thread_are_wired_and_named():
    """Tasks of another thread are returned, and named."""

    def make(name):
        a, b = Task(lambda: name, name=name), Task(lambda x: x * 2, name=f"{name}2")
        return a >> b

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = list(pool.map(make, "ab"))
    both = Task(lambda *x: x, name="both")
    made >> both
    assert DAG("both", tasks=[both]).run("serial") == {"a": "a", "a2": "aa", "b": "b", "b2": "bb", "both": ("aa", "bb")}


def test_dag_created_in_a_thread_is_run_in_another():
    """Which thread runs a DAG does not matter."""

    def build(n):
        a, b = Task(lambda: n, name="a"), Task(lambda a: a + 1, name="b")
        a >> b
        return DAG("d")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        dags = list(pool.map(build, range(6)))
        results = list(pool.map(lambda dag: dag.run("serial"), reversed(dags)))
    assert [dag.run("serial") for dag in dags] == [{"a": n, "b": n + 1} for n in range(6)] == results[::-1]


def test_one_dag_run_by_many_threads_at_once():
    """Concurrent runs of one bare DAG have the same tasks."""

    def build():
        a, b = Task(lambda: 1, name="a"), Task(lambda a: a + 1, name="b")
        a >> b
        return DAG("d")

    dag, seen = build(), []
    run_threads(lambda _: seen.append(dag.run("serial")), 8)
    assert seen == [{"a": 1, "b": 2}] * 8


def test_module_level_wiring_by_many_threads(script):
    """Five hundred builders over shared tasks, eight at a time."""
    module = script(
        """
        sources = [Task(lambda n=n: n, name=f"source_{n}") for n in range(10)]
        total = Task(lambda *n: sum(n), name="total")
        def build(n):
            sources[n % 10] >> total
            own = Task(lambda total: (total, n), name="own")
            total >> own
            return DAG("d")
        """
    )
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: module.build(n).run("serial")["own"], range(500)))
    assert results == [(n % 10, n) for n in range(500)]


# Coroutines


@pytest.mark.parametrize("where", ["thread", "pool", "event loop"])
@pytest.mark.parametrize("edge", ["src >> dst", "dst.after(src)"])
def test_edge_of_a_call_is_missing_in_another_thread_with_a_warning(script, where, edge):
    """The DAG is created where the edge does not apply, although the task of the edge is named."""
    module = script(
        f"""
        import asyncio
        @task
        def src(): return 1
        @task
        def dst(x=0): return x
        def job(): return DAG("d", tasks=[dst]).run("serial")
        async def a_job(): return job()
        def main(run):
            {edge}
            return run(job)
        async def a_main():
            {edge}
            return (await asyncio.gather(a_job()))[0]
        """
    )

    def in_thread(job):
        found = []
        thread = threading.Thread(target=lambda: found.append(job()))
        thread.start()
        thread.join(60)
        return found[0]

    def in_pool(job):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(job).result(60)

    text = r"task 'dst' of DAG 'd' has no upstreams, but a?_?main\(\) declares .*create the DAG there, not in job\(\)"
    runs = {
        "thread": lambda: module.main(in_thread),
        "pool": lambda: module.main(in_pool),
        "event loop": lambda: asyncio.run(module.a_main()),
    }
    with pytest.warns(RuntimeWarning, match=text):
        assert runs[where]() == {"dst": 0}


def test_edges_of_calls_that_ended_do_not_cause_warnings(script):
    """One builder used its edge, another raised and is kept alive by its traceback, a third has returned."""
    module = script(
        """
        @task
        def src(): return 1
        @task
        def dst(x=0): return x
        def alone(): return DAG("d", tasks=[dst]).run("serial")
        def used():
            src >> dst
            return DAG("d", tasks=[dst]).run("serial"), DAG("e", tasks=[src]).run("serial")
        def raises():
            src >> dst
            raise ValueError("refused")
        """
    )
    kept = []

    def work(_=0):
        module.used()
        try:
            module.raises()
        except ValueError as error:
            kept.append(error)
        assert module.alone() == {"dst": 0}

    run_threads(work, 1)
    work()
    assert len(kept) == 2


def test_coroutines_of_one_handler_do_not_mix():
    """Five hundred concurrent requests, each of which waits between its tasks."""

    async def handler(name):
        @task
        def data():
            return name

        await asyncio.sleep(0)

        @task
        def answer(data):
            return f"<{data}>"

        await asyncio.sleep(0)
        data >> answer
        return DAG("d").run("serial")["answer"]

    async def main():
        return await asyncio.gather(*[handler(n) for n in range(500)])

    assert asyncio.run(main()) == [f"<{n}>" for n in range(500)]


@pytest.mark.parametrize("kind", ["bare", "named"])
def test_coroutines_over_module_tasks_do_not_mix(script, kind):
    """The edges of a coroutine are its own, also while others are running."""
    module = script(
        f"""
        import asyncio
        eu, us = Task(lambda: 1, name="eu"), Task(lambda: 10, name="us")
        total = Task(lambda *n: sum(n), name="total")
        async def handler(region):
            await asyncio.sleep(0)
            region >> total
            await asyncio.sleep(0)
            return DAG("d"{"" if kind == "bare" else ", tasks=[total]"}).run("serial")
        """
    )

    async def main():
        return await asyncio.gather(*[module.handler(one) for one in (module.eu, module.us, module.eu)])

    expected = [{"eu": 1, "total": 1}, {"us": 10, "total": 10}, {"eu": 1, "total": 1}]
    assert asyncio.run(main()) == expected


def test_awaited_coroutine_passes_its_tasks_to_the_one_that_awaits_it():
    """Awaiting is calling."""

    async def make(n):
        await asyncio.sleep(0)
        source = Task(lambda: n, name="source")
        await asyncio.sleep(0)
        double = Task(lambda source: source * 2, name="double")
        source >> double

    async def middle(n):
        await make(n)

    async def handler(n):
        await middle(n)
        return DAG("d").run("serial")

    async def main():
        return await asyncio.gather(*[handler(n) for n in range(5)])

    assert asyncio.run(main()) == [{"source": n, "double": n * 2} for n in range(5)]


@pytest.mark.parametrize(
    "way", ["create_task", "gather", "TaskGroup", "wait_for", "shield", "to_thread", "run_in_executor"]
)
def test_tasks_of_an_event_loop_task_do_not_pass_to_the_coroutine_that_started_it(way):
    """Nothing passes beyond the start of an event-loop task or of a job in a thread."""

    def job():
        Task(int, name="of_the_job")

    async def work():
        await asyncio.sleep(0)
        Task(int, name="of_the_job")

    async def main():
        loop = asyncio.get_running_loop()
        if way == "create_task":
            await asyncio.create_task(work())
        elif way == "gather":
            await asyncio.gather(work(), work())
        elif way == "TaskGroup":
            async with asyncio.TaskGroup() as group:
                group.create_task(work())
        elif way == "wait_for":
            await asyncio.create_task(asyncio.wait_for(work(), 60))
        elif way == "shield":
            await asyncio.shield(asyncio.ensure_future(work()))
        elif way == "to_thread":
            await asyncio.to_thread(job)
        else:
            await loop.run_in_executor(None, job)
        gc.collect()
        Task(lambda: 1, name="own")
        return DAG("own").run("serial")

    assert asyncio.run(main()) == {"own": 1}


@pytest.mark.parametrize("ending", ["return", "raise", "cancel"])
def test_next_event_loop_task_has_nothing_of_the_last(ending):
    """A request that ended early leaves nothing to the next."""

    async def early():
        Task(int, name="wipe_disk")
        await asyncio.sleep(0)
        if ending == "raise":
            raise PermissionError
        if ending == "cancel":
            await asyncio.Event().wait()

    async def good():
        Task(lambda: 1, name="own")
        await asyncio.sleep(0)
        return DAG("d").run("serial")

    async def main():
        first = asyncio.create_task(early())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if ending == "cancel":
            first.cancel()
        with contextlib.suppress(PermissionError, asyncio.CancelledError):
            await first
        del first
        gc.collect()
        return await asyncio.create_task(good())

    assert asyncio.run(main()) == {"own": 1}


def test_two_coroutines_that_wait_for_each_other_in_the_middle():
    """Each waits for the other between its tasks."""

    async def build(number, here, there):
        @task
        def first():
            return number

        here.set()
        await there.wait()

        @task
        def second(first):
            return first * 10

        first >> second
        return DAG("d").run("serial")["second"]

    async def main():
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(build(1, one, two), build(2, two, one))

    assert asyncio.run(main()) == [10, 20]


def test_asyncio_run_in_a_function_does_not_pass_tasks_to_it():
    """The main coroutine is a task of an event loop: it returns its tasks, or they stay with it."""

    async def main():
        return Task(lambda: 1, name="inner")

    inner = asyncio.run(main())
    Task(lambda: 2, name="own")
    assert DAG("own").run("serial") == {"own": 2}
    assert DAG("inner", tasks=[inner]).run("serial") == {"inner": 1}


def test_coroutine_that_makes_its_dag_in_a_helper(script):
    """A synchronous helper of a coroutine sees the edges of the coroutine."""
    module = script(
        """
        import asyncio
        def finish(last): return DAG("d", tasks=[last]).run("serial")
        shared = Task(lambda: 1, name="shared")
        async def handler(n):
            own = Task(lambda shared: shared + n, name="own")
            shared >> own
            await asyncio.sleep(0)
            return finish(own)
        async def main():
            return await asyncio.gather(handler(1), handler(2))
        results = asyncio.run(main())
        """
    )
    assert module.results == [{"shared": 1, "own": 2}, {"shared": 1, "own": 3}]


def test_context_variables_play_no_part():
    """A coroutine that runs in a copied context has what it has made."""

    def build(n):
        Task(lambda: n, name="value")
        return DAG("d")

    contexts = [contextvars.copy_context() for _ in range(3)]
    assert [context.run(build, n).run("serial") for n, context in enumerate(contexts)] == [
        {"value": n} for n in range(3)
    ]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="platform: eager tasks are there from Python 3.12")
def test_eager_event_loop_tasks_do_not_pass_their_tasks_on():
    """A task that starts at once, in the call that creates it, is an event-loop task nevertheless."""

    async def work(n):
        Task(int, name=f"of_the_job_{n}")
        if n % 2:
            await asyncio.sleep(0)

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await asyncio.gather(*[work(n) for n in range(4)])
        await asyncio.create_task(work(4))
        async with asyncio.TaskGroup() as group:
            group.create_task(work(6))
        gc.collect()
        Task(lambda: 1, name="own")
        return DAG("own").run("serial")

    assert asyncio.run(main()) == {"own": 1}


def test_callbacks_of_an_event_loop_keep_their_tasks():
    """call_soon, add_done_callback and signal handlers start in the loop."""
    seen = []

    def callback(*_):
        Task(lambda: 1, name="of_the_callback")
        seen.append(DAG("callback").run("serial"))

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(callback)
        future = loop.create_future()
        future.add_done_callback(callback)
        future.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        Task(lambda: 2, name="own")
        return DAG("own").run("serial")

    assert asyncio.run(main()) == {"own": 2}
    assert seen == [{"of_the_callback": 1}] * 2


@pytest.fixture
def _frequent_switches():
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_frequent_switches")
def test_threads_that_build_pipelines_of_the_same_tasks_all_see_all_edges():
    """What many pipelines look up is built once, and no thread sees it half built."""
    ready = threading.Barrier(4, timeout=60)

    def found(last):
        dag = DAG("d", tasks=[last])
        ready.wait()
        return len(dag.tasks)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            first = Task(lambda: 1, name="first")
            for _ in range(2_000):
                first >> Task(lambda first: first, name="other")
            middle = [Task(lambda first: first, name=f"middle {number}") for number in range(20)]
            last = Task(lambda *rows: len(rows), name="last")
            first >> middle >> last
            assert list(pool.map(found, [last] * 4)) == [22] * 4


@pytest.mark.usefixtures("_frequent_switches")
def test_threads_may_build_one_pipeline_at_the_same_time():
    """A DAG that several requests share has the same tasks in each of them, from its first run on."""
    ready = threading.Barrier(4, timeout=60)

    def found(dag):
        ready.wait()
        return len(dag.graph().nodes)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            first, last = Task(lambda: 1, name="first"), Task(lambda *rows: len(rows), name="last")
            first >> [Task(lambda first: first, name=f"middle {number}") for number in range(200)] >> last
            assert list(pool.map(found, [DAG("shared", tasks=[last])] * 4)) == [202] * 4
