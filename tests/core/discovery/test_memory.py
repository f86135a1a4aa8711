"""When a call is over and its DAGs are gone, so are its tasks; a DAG keeps no local variables of its builder alive."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import sys
import tracemalloc
import weakref

import pytest

from flowkit_core import DAG, DuplicateTaskError, Task


class Large:
    """An object that tests watch with a weak reference."""


@pytest.mark.parametrize("kind", ["bare", "named"])
def test_unwired_tasks_are_freed_without_the_garbage_collector(kind):
    """Without edges there are no cycles: tasks are freed as soon as their DAG is dropped."""
    kept = []

    def build(n):
        made = Task(lambda: n, name="a")
        kept.append(weakref.ref(made))
        return DAG("d", tasks=[made] if kind == "named" else None)

    gc.collect()
    gc.disable()
    try:
        for n in range(100):
            build(n)
        alive = sum(one() is not None for one in kept)
    finally:
        gc.enable()
    assert alive == 0


@pytest.mark.parametrize("kind", ["bare", "named", "block", "run", "visualize", "called", "raised"])
def test_many_builds_leave_nothing(kind):
    """Whatever a builder does with its tasks, they are gone afterwards."""
    shared = Task(lambda *x: len(x), name="shared")
    kept = []

    def build(n):
        large = Large()
        a, b = Task(lambda: large and n, name=f"a{n}"), Task(lambda a: a, name=f"b{n}")
        kept.append(weakref.ref(large))
        kept.append(weakref.ref(b))
        if kind == "block":
            with DAG("d") as dag:
                a >> b >> shared
            return dag
        a >> b
        if kind == "called":
            return b(a())
        a >> shared
        if kind == "raised":
            raise OSError
        dag = DAG("d", tasks=[b, shared] if kind == "named" else None)
        if kind == "run" and n % 100 == 0:
            dag.run("serial")
        if kind == "visualize" and n % 1000 == 0:
            dag.visualize()
        return dag

    def request(n):
        with contextlib.suppress(OSError):
            build(n)

    for n in range(1000):
        request(n)
    gc.collect()
    assert sum(one() is not None for one in kept) == 0


def test_requests_of_an_own_loop_are_freed_when_it_ends():
    """A synchronous loop holds what its handlers left unused, until it ends."""
    kept = []

    def handler(n):
        kept.append(weakref.ref(Task(lambda: n, name=f"n{n}")))

    def serve():
        for n in range(100):
            handler(n)

    def main():
        serve()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(main).result()
    gc.collect()
    assert [one() for one in kept] == [None] * 100


@pytest.mark.parametrize("where", ["pool", "event loop"])
def test_requests_that_left_tasks_unused_are_freed(where):
    """Beyond the start of a job nothing is kept."""
    kept = []

    def handler(n):
        large = Large()
        kept.append(weakref.ref(large))
        Task(lambda: large, name=f"n{n}") >> Task(lambda x: large, name=f"m{n}")

    async def ahandler(n):
        await asyncio.sleep(0)
        handler(n)

    async def main():
        await asyncio.gather(*[ahandler(n) for n in range(1000)])

    if where == "pool":
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(handler, range(1000)))
    else:
        asyncio.run(main())
    gc.collect()
    assert not any(one() is not None for one in kept)


def test_memory_does_not_grow_with_the_number_of_builds():
    """No registry grows: neither with equal names nor with unique ones."""

    def build(n):
        a, b = Task(lambda: n, name=f"a{n}"), Task(lambda a: a, name=f"b{n}")
        a >> b
        return DAG(f"d{n}", tasks=[b])

    def many(first):
        for n in range(first, first + 1000):
            build(n)
        gc.collect()

    many(0)
    tracemalloc.start()
    try:
        many(1000)
        before, _ = tracemalloc.get_traced_memory()
        many(2000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000 * 8


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ["bare", "named", "block"])
def test_live_dag_keeps_no_locals_of_its_builder(kind, place):
    """The variables of the builder, and of its callers, are freed while the DAG lives."""
    kept = []

    def build():
        large = Large()
        kept.append(weakref.ref(large))
        if kind == "block":
            with DAG("d") as dag:
                Task(int, name="a")
        else:
            made = Task(int, name="a")
            dag = DAG("d", tasks=[made] if kind == "named" else None)
        if place == "after":
            dag.run("serial")
        return dag

    def request():
        other = Large()
        kept.append(weakref.ref(other))
        return build()

    dag = request()
    assert [one() for one in kept] == [None, None]
    assert dag.run("serial") == {"a": 0}


@pytest.mark.parametrize("use", ["dag", "called", "raised", "block"])
def test_live_dag_keeps_no_tasks_of_its_callers(use):
    """When a call is over and its own DAGs are gone, so are its tasks, although a DAG of a call under it lives on."""
    kept, store = [], []

    def build():
        Task(int, name="a")
        return DAG("long-lived")

    def request():
        large = Large()
        kept.append(weakref.ref(large))
        if use == "block":
            with DAG("short"):
                Task(lambda: large, name="other")
        else:
            other = Task(lambda: large, name="other")
            if use == "dag":
                DAG("short", tasks=[other]).run("serial")
            elif use == "called":
                other()
        store.append(build())
        if use == "raised":
            raise OSError

    for _ in range(10):
        with contextlib.suppress(OSError):
            request()
    gc.collect()
    assert [dag.run("serial") for dag in store] == [{"a": 0}] * 10
    assert [one() for one in kept] == [None] * 10


def test_live_task_keeps_no_locals_of_its_creator():
    """Nor does a task that was returned."""
    kept = []

    def make():
        large = Large()
        kept.append(weakref.ref(large))
        a, b = Task(int, name="a"), Task(lambda a: a, name="b")
        a >> b
        return b

    last = make()
    assert kept[0]() is None
    assert DAG("d", tasks=[last]).run("serial") == {"a": 0, "b": 0}


def test_del_frees_a_local_variable_at_once():
    """Making a task does not keep the values that local variables had."""
    large = Large()
    watched = weakref.ref(large)
    Task(int, name="a") >> Task(lambda a: a, name="b")
    DAG("d").run("serial")
    del large
    assert watched() is None


def test_local_variables_keep_their_values():
    """Making tasks, edges and DAGs does not change local variables."""
    number, text = 1, "a"
    a = Task(int, name="a")
    number += 1
    a >> Task(lambda a: a, name="b")
    text += "b"
    cell = [number]
    dag = DAG("d")
    number += 1
    assert dag.run("serial") == {"a": 0, "b": 0}
    read = lambda: number
    assert (number, text, cell, read()) == (3, "ab", [2], 3)


@pytest.mark.parametrize("kind", ["module", "builder"])
def test_executed_modules_are_freed(kind):
    """Namespaces that exec fills are freed with their tasks."""
    kept = []
    source = "large = Large()\na = Task(lambda: large, name='a')\na >> Task(lambda a: a, name='b')\n"
    if kind == "builder":
        source = (
            "def build():\n    " + source.replace("\n", "\n    ") + "return DAG('d')\nlarge = Large()\ndag = build()"
        )

    def execute():
        names = {"DAG": DAG, "Large": Large, "Task": Task, "__name__": "executed"}
        exec(source, names)
        kept.append(weakref.ref(names["large"]))
        DAG("named", tasks=[names["a"]] if "a" in names else []).run("serial")

    def many():
        for _ in range(100):
            execute()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(many).result()
    gc.collect()
    assert [one() for one in kept] == [None] * 100


def test_removed_module_is_freed(script):
    """A module that is taken out of sys.modules is freed with its tasks."""
    module = script("class Large: pass\nlarge = Large()\n@task\ndef a(): return large\nDAG('d').run('serial')")
    watched = weakref.ref(module.large)
    sys.modules.pop("script")
    del module
    gc.collect()
    assert watched() is None


def test_builds_that_failed_leave_nothing():
    """A graph that cannot be built is freed with its tasks and errors."""
    kept = []

    def build(kind):
        large = Large()
        kept.append(weakref.ref(large))
        a, b = Task(lambda b: large, name="a"), Task(lambda a: a, name="a" if kind == "names" else "b")
        a >> b
        if kind == "cycle":
            b >> a
        DAG("d").run("serial")

    def request(kind):
        try:
            build(kind)
        except Exception as error:
            return type(error).__name__

    errors = {request(kind) for kind in ("names", "cycle", "open") * 100}
    assert errors == {"DuplicateTaskError", "DAGCycleError", "BindingError"}
    gc.collect()
    assert not any(one() is not None for one in kept)


def test_unfinished_generators_and_coroutines_are_freed():
    """What is suspended and dropped is freed."""
    kept = []

    def steps():
        large = Large()
        kept.append(weakref.ref(large))
        yield Task(lambda: large, name="a")

    async def wait():
        large = Large()
        kept.append(weakref.ref(large))
        Task(lambda: large, name="a")
        await asyncio.sleep(0)

    for _ in range(100):
        generator = steps()
        next(generator)
        generator.close()
        coroutine = wait()
        coroutine.send(None)
        coroutine.close()
    del coroutine, generator
    gc.collect()
    assert not any(one() is not None for one in kept)


def test_long_lived_dag_that_is_run_often_does_not_grow():
    """Runs of one DAG leave nothing in it."""

    def build():
        a, b = Task(lambda: 1, name="a"), Task(lambda a: a + 1, name="b")
        a >> b
        return DAG("d")

    dag = build()
    for _ in range(50):
        dag.run("serial")
    tracemalloc.start()
    try:
        for _ in range(50):
            dag.run("serial")
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(500):
            dag.run("serial")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 500 * 8


def test_dag_that_lives_while_others_are_built_does_not_hold_them():
    """A DAG in a long-lived call does not collect what later calls have built."""
    kept = []
    shared = Task(lambda *x: len(x), name="shared")
    dag = DAG("long-lived", tasks=[shared])

    def build(n):
        own = Task(lambda: n, name=f"n{n}")
        kept.append(weakref.ref(own))
        own >> shared
        return DAG("short", tasks=[shared]).run("serial")["shared"]

    assert [build(n) for n in range(100)] == [1] * 100
    assert dag.run("serial") == {"shared": 0}
    gc.collect()
    assert not any(one() is not None for one in kept)


def test_loop_that_makes_tasks_at_top_level_keeps_no_more_than_an_error_needs(script):
    """A loop at the top level of a module makes tasks of one name without end."""
    module = script(
        """
        import weakref
        kept = []
        for number in range(1000):
            made = Task(lambda number=number: number, name="made")
            kept.append(weakref.ref(made))
        del made
        """
    )
    gc.collect()
    assert sum(one() is not None for one in module.kept) <= 2


def test_modules_that_repeat_names_keep_few_tasks(script):
    """Two tasks of one name are enough for the error, so a loop at the top level does not fill the memory."""
    module = script(
        """
        from weakref import ref
        alive = []
        for number in range(1000):
            alive.append(ref(Task(int, name=f"t{number % 10}")))
        """
    )
    assert sum(one() is not None for one in module.alive) < 100
    with pytest.raises(DuplicateTaskError, match="'t0'"):
        exec("DAG('d').graph()", module.__dict__)
