"""Generators: a suspended one keeps what it has made, and one that ends passes it on."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from flowkit_core import DAG, Task


def test_suspended_generator_keeps_what_it_made():
    """Until it ends, a generator's tasks are its own."""

    def steps():
        Task(int, name="first")
        yield
        Task(int, name="second")

    generator = steps()
    next(generator)
    Task(lambda: 1, name="own")
    assert DAG("own").run("serial") == {"own": 1}
    assert next(generator, "end") == "end"
    assert DAG("all").run("serial") == {"first": 0, "own": 1, "second": 0}


def test_generator_that_is_never_finished_passes_nothing_on():
    """A generator that is closed ended by GeneratorExit, which is an exception."""

    def steps():
        Task(int, name="first")
        yield
        Task(int, name="second")

    generator = steps()
    next(generator)
    generator.close()
    generator = steps()
    next(generator)
    del generator
    gc.collect()
    Task(lambda: 1, name="own")
    assert DAG("own").run("serial") == {"own": 1}


def test_generator_that_a_loop_leaves_passes_nothing_on():
    """A loop that is left by break leaves the generator unfinished, and then closes it."""

    def steps():
        yield Task(int, name="first")
        yield Task(int, name="second")

    for _ in steps():
        break
    Task(lambda: 1, name="own")
    assert DAG("own").run("serial") == {"own": 1}


def test_interleaved_generators_do_not_mix():
    """Two generators of one function, taken in turns."""

    def build(n):
        source = Task(lambda: n, name="source")
        yield
        double = Task(lambda source: source * 2, name="double")
        yield
        source >> double
        yield DAG("d")

    generators = [build(n) for n in range(4)]
    dags = [dag for _ in range(3) for dag in [next(generator) for generator in generators]][-4:]
    assert [dag.run("serial") for dag in dags] == [{"source": n, "double": 2 * n} for n in range(4)]


@pytest.mark.parametrize("use", ["for", "list", "yield from", "next", "unpacking"])
def test_finished_generator_passes_its_tasks_to_the_call_that_finished_it(use):
    """Every way of exhausting a generator is a call."""

    def steps():
        yield Task(lambda: 1, name="a")
        yield Task(lambda: 2, name="b")

    def delegating():
        yield from steps()

    if use == "for":
        for _ in steps():
            pass
    elif use == "list":
        list(steps())
    elif use == "yield from":
        list(delegating())
    elif use == "next":
        generator = steps()
        while next(generator, None) is not None:
            pass
    else:
        [_, _] = steps()
    assert DAG("all").run("serial") == {"a": 1, "b": 2}


@pytest.mark.parametrize("way", ["next", "send"])
def test_generator_that_is_finished_by_another_line_passes_nothing_on(way):
    """The last step makes no task, and is taken by another line than the one that made the last task."""

    def steps():
        yield Task(lambda: 1, name="a")
        yield Task(lambda: 2, name="b")

    generator = steps()
    if way == "next":
        next(generator)
        next(generator)
        assert next(generator, None) is None
    else:
        generator.send(None)
        generator.send(None)
        with contextlib.suppress(StopIteration):
            generator.send(None)
    Task(lambda: 3, name="own")
    assert DAG("own").run("serial") == {"own": 3}


def test_context_manager_that_makes_tasks_on_the_way_out_passes_its_tasks_on():
    """A contextmanager has ended when its with statement has."""

    @contextlib.contextmanager
    def resources():
        yield Task(lambda: 1, name="opened")
        Task(lambda: 2, name="closed")

    with resources():
        pass
    assert DAG("after").run("serial") == {"opened": 1, "closed": 2}


def test_context_manager_that_makes_tasks_only_on_the_way_in_passes_nothing_on():
    """Its last step, on the way out, makes no task, and is taken by another line of contextlib."""

    @contextlib.contextmanager
    def resources():
        yield Task(lambda: 1, name="opened")

    with resources():
        pass
    Task(lambda: 2, name="own")
    assert DAG("own").run("serial") == {"own": 2}


def test_generator_of_dags_gives_each_round_its_pipeline():
    """A generator with a call for each of its DAGs."""

    def one(n):
        Task(lambda: n, name="value")
        return DAG("d")

    def dags():
        for n in range(3):
            yield one(n)

    assert [dag.run("serial") for dag in dags()] == [{"value": n} for n in range(3)]


def test_async_generators_do_not_mix():
    """Async generators keep what they have made, and two of them do not mix."""

    async def build(n):
        source = Task(lambda: n, name="source")
        yield None
        await asyncio.sleep(0)
        double = Task(lambda source: source * 2, name="double")
        source >> double
        yield DAG("d")

    async def last(n):
        found = [dag async for dag in build(n)]
        return found[-1].run("serial")

    async def main():
        return await asyncio.gather(*[last(n) for n in range(4)])

    assert asyncio.run(main()) == [{"source": n, "double": 2 * n} for n in range(4)]


def test_finished_async_generator_passes_its_tasks_to_the_coroutine():
    """async for is a call, too."""

    async def steps():
        yield Task(lambda: 1, name="a")
        await asyncio.sleep(0)
        yield Task(lambda: 2, name="b")

    async def main():
        async for _ in steps():
            await asyncio.sleep(0)
        return DAG("all").run("serial")

    assert asyncio.run(main()) == {"a": 1, "b": 2}


def test_async_context_manager_passes_its_tasks():
    """An asynccontextmanager that makes tasks on the way in and out."""

    @contextlib.asynccontextmanager
    async def resources():
        opened = Task(lambda: 1, name="opened")
        yield opened
        Task(lambda: 2, name="closed")

    async def main():
        async with resources() as opened:
            use = Task(lambda opened: opened + 1, name="use")
            opened >> use
            inside = DAG("inside", tasks=[use]).run("serial")
        return inside, DAG("after").run("serial")

    inside, after = asyncio.run(main())
    assert inside == {"opened": 1, "use": 2}
    assert after["closed"] == 2
