"""with DAG("etl") as etl: the tasks made or wired in the block, and everything upstream of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest

from flowkit_core import DAG, Task, task


def test_block_has_what_is_defined_in_it():
    """Tasks before and after the block are not in it."""

    @task
    def before():
        return 0

    with DAG("block") as dag:

        @task
        def inside():
            return 1

    @task
    def after():
        return 2

    assert dag.run("serial") == {"inside": 1}


def test_block_has_what_is_wired_in_it():
    """A task from anywhere joins when it is wired in the block."""

    @task
    def start():
        return 1

    @task
    def unrelated():
        return 0

    with DAG("block") as dag:

        @task
        def end(start):
            return start + 1

        start >> end

    assert dag.run("serial") == {"start": 1, "end": 2}


def test_block_has_everything_upstream_and_nothing_downstream():
    """A task wired in the block brings what is upstream of it elsewhere, not what is downstream."""
    a, b, c, d = (Task(lambda *_: 1, name=name) for name in "abcd")
    a >> b
    c >> d
    with DAG("block") as dag:
        b >> c
    assert list(dag.run("serial")) == ["a", "b", "c"]


def test_task_made_in_a_block_is_in_no_bare_dag():
    """Neither that of the call nor that of its caller."""

    def helper():
        with DAG("inner"):
            Task(int, name="inside")
        Task(lambda: 1, name="beside")
        return DAG("bare").run("serial")

    assert helper() == {"beside": 1}
    Task(lambda: 2, name="own")
    assert DAG("bare").run("serial") == {"own": 2}


def test_task_that_is_only_wired_in_a_block_stays_where_it_was():
    """A task made outside is in the bare DAG of its call as well, without the edges of the block."""
    a, b = Task(lambda: 1, name="a"), Task(lambda *x: sum(x), name="b")
    with DAG("block") as dag:
        a >> b
    assert dag.run("serial") == {"a": 1, "b": 1}
    assert DAG("bare").run("serial") == {"a": 1, "b": 0}


def test_edges_of_a_block_are_seen_by_no_other_dag():
    """Not by a DAG that names the tasks, nor by one created in the block's own call."""
    a, b = Task(lambda: 1, name="a"), Task(lambda *x: sum(x), name="b")
    with DAG("block") as dag:
        a >> b
        inner = DAG("named in the block", tasks=[b])
    assert dag.run("serial")["b"] == 1
    assert inner.run("serial") == {"b": 0}
    assert DAG("named", tasks=[b]).run("serial") == {"b": 0}
    with DAG("other") as other:
        Task(lambda *x: sum(x), name="c")
        b.after(Task(lambda: 2, name="d"))
    assert other.run("serial") == {"b": 0, "c": 0, "d": 2}


def test_block_at_top_level_of_a_module_keeps_its_edges(script):
    """A block's edges belong to the block, also at the top level of a module."""
    module = script(
        """
        a, b = Task(lambda: 1, name="a"), Task(lambda *x: sum(x), name="b")
        with DAG("one") as one:
            a >> b
        with DAG("two") as two:
            own = Task(lambda: 5, name="own")
            own >> b
        def main(): return DAG("named", tasks=[b]).run("serial")
        results = DAG("bare").run("serial")
        """
    )
    assert module.one.run("serial") == {"a": 1, "b": 1}
    assert module.two.run("serial") == {"own": 5, "b": 5}
    assert module.main() == {"b": 0}
    assert module.results == {"a": 1, "b": 0}


def test_block_has_what_helpers_make_in_it():
    """A block is active in the call that entered it and in the calls under it."""

    def make(name):
        return Task(lambda *_: name, name=name)

    def pair():
        return make("b") >> make("c")

    with DAG("block") as dag:
        make("a") >> pair()
    assert dag.run("serial") == {"a": "a", "b": "b", "c": "c"}


def test_helper_with_a_block_of_its_own_returns_its_dag():
    """A with statement in a helper, which is called in another block."""

    def inner():
        with DAG("inner") as dag:
            Task(lambda: 2, name="two")
        Task(lambda: 3, name="three")
        return dag

    with DAG("outer") as outer:
        Task(lambda: 1, name="one")
        made = inner()
    assert made.run("serial") == {"two": 2}
    assert outer.run("serial") == {"one": 1, "three": 3}


def test_nested_blocks_go_to_the_inner_one():
    """In nested blocks, the inner one is meant, until it is left."""
    with DAG("outer") as outer:
        Task(lambda: 1, name="one")
        with DAG("inner") as inner:
            Task(lambda: 2, name="two")
        Task(lambda: 3, name="three")
    assert inner.run("serial") == {"two": 2}
    assert outer.run("serial") == {"one": 1, "three": 3}


def test_one_block_nested_in_itself():
    """Entering a block twice at once is entering it."""
    with DAG("block") as dag:
        with dag:
            Task(lambda: 1, name="one")
        Task(lambda: 2, name="two")
    Task(lambda: 3, name="three")
    assert dag.run("serial") == {"one": 1, "two": 2}


def test_entering_again_adds():
    """Two with statements of one DAG make one pipeline."""
    with DAG("block") as dag:
        a = Task(lambda: 1, name="a")
    assert dag.run("serial") == {"a": 1}
    with dag:
        b = Task(lambda a: a + 1, name="b")
        a >> b
    assert dag.run("serial") == {"a": 1, "b": 2}

    def add():
        with dag:
            b >> Task(lambda b: b + 1, name="c")

    add()
    assert dag.run("serial") == {"a": 1, "b": 2, "c": 3}


def test_named_tasks_and_a_block_add_up():
    """DAG(tasks=[...]) that is entered has both."""
    a = Task(lambda: 1, name="a")
    with DAG("both", tasks=[a]) as dag:
        Task(lambda: 2, name="b")
    assert dag.run("serial") == {"a": 1, "b": 2}


def test_blocks_over_shared_tasks_have_each_its_own_edges():
    """Edges of the call are in both blocks, those of a block in that alone."""
    raw = Task(lambda: [2, 1], name="raw")
    rows = Task(lambda raw: raw, name="rows")
    tidy = Task(lambda rows: sorted(rows), name="tidy")
    save = Task(lambda *rows: rows, name="save")
    last = Task(lambda save: len(save), name="last")
    raw >> rows
    with DAG("daily") as daily:
        rows >> save >> last
    with DAG("weekly") as weekly:
        rows >> tidy >> save >> last
    whole = {"raw": [2, 1], "rows": [2, 1], "last": 1}
    assert daily.run("serial") == whole | {"save": ([2, 1],)}
    assert weekly.run("serial") == whole | {"tidy": [1, 2], "save": ([1, 2],)}
    assert DAG("none", tasks=[save]).run("serial") == {"save": ()}
    rows >> save
    assert weekly.run("serial")["save"] == ([1, 2], [2, 1])


def test_blocks_have_each_its_own_order_of_arguments():
    """Arguments come in the order of the block's edges."""
    new, old = Task(lambda: "new", name="new"), Task(lambda: "old", name="old")
    both = Task(lambda *names: names, name="both")
    with DAG("forward") as forward:
        [new, old] >> both
    with DAG("backward") as backward:
        [old, new] >> both
    assert forward.run("serial")["both"] == ("new", "old")
    assert backward.run("serial")["both"] == ("old", "new")


def test_block_of_a_builder_called_twice():
    """Each call enters a block of its own, over shared tasks."""
    source, sink = Task(lambda: 1, name="source"), Task(lambda *x: sum(x), name="sink")

    def build(n):
        with DAG(f"n{n}") as dag:
            scale = Task(lambda source: source * n, name="scale")
            source >> scale >> sink
        return dag

    one, two = build(1), build(2)
    assert one.run("serial") == {"source": 1, "scale": 1, "sink": 1}
    assert two.run("serial") == {"source": 1, "scale": 2, "sink": 2}


def test_block_may_run_its_dag_inside():
    """Inside the block the DAG runs what there is so far."""
    with DAG("block") as dag:
        Task(lambda: 1, name="one")
        assert dag.run("serial") == {"one": 1}
        Task(lambda: 2, name="two")
    assert dag.run("serial") == {"one": 1, "two": 2}


def test_error_in_a_block_closes_it():
    """After an exception, tasks belong to no block any more."""
    dag = DAG("block")
    with pytest.raises(ZeroDivisionError), dag:
        Task(lambda: 1, name="one")
        1 / 0
    Task(lambda: 2, name="two")
    assert dag.run("serial") == {"one": 1}


@pytest.mark.parametrize("way", ["return", "break", "continue", "raise"])
def test_block_that_is_left_early_is_closed(way):
    """return, break, continue and raise leave the block."""
    statement = {"raise": "raise OSError"}.get(way, way)
    names = {"DAG": DAG, "Task": Task}
    exec(
        f"""
def work(dag):
    for _ in range(1):
        with dag:
            Task(int, name="one")
            {statement}
        Task(int, name="not reached")
""",
        names,
    )
    dag = DAG("block")
    with contextlib.suppress(OSError):
        names["work"](dag)
    Task(int, name="two")
    assert list(dag.run("serial")) == ["one"]


def test_empty_block_is_an_empty_run():
    """A block means the block, not discovery."""
    Task(int, name="around")
    with DAG("block") as dag:
        pass
    assert dag.run("serial") == {}


def test_equal_names_in_two_blocks_are_no_conflict():
    """Names are unique in one graph."""
    with DAG("one") as one:
        Task(lambda: 1, name="step")
    with DAG("two") as two:
        Task(lambda: 2, name="step")
    assert (one.run("serial"), two.run("serial")) == ({"step": 1}, {"step": 2})


# Ways to enter a block


def test_exit_stack_enters_a_block_for_the_call_that_uses_it():
    """Frames of contextlib are skipped: the block is that of the call that enters it with the stack."""
    with contextlib.ExitStack() as stack:
        dag = stack.enter_context(DAG("stack"))
        Task(lambda: 1, name="inside")
    Task(lambda: 2, name="outside")
    assert dag.run("serial") == {"inside": 1}


def test_exit_stack_with_two_blocks():
    """The last one that was entered is the innermost."""
    with contextlib.ExitStack() as stack:
        outer = stack.enter_context(DAG("outer"))
        Task(lambda: 1, name="one")
        inner = stack.enter_context(DAG("inner"))
        Task(lambda: 2, name="two")
    assert (outer.run("serial"), inner.run("serial")) == ({"one": 1}, {"two": 2})


def test_one_with_statement_with_two_dags():
    """The second one is the inner one."""
    with DAG("outer") as outer, DAG("inner") as inner:
        Task(lambda: 1, name="one")
    assert (list(outer.tasks), inner.run("serial")) == ([], {"one": 1})


def test_contextmanager_that_enters_a_block():
    """A generator of contextlib that enters the block makes it active in its with statement."""

    @contextlib.contextmanager
    def pipeline(name):
        with DAG(name) as dag:
            yield dag

    with pipeline("managed") as dag:
        Task(lambda: 1, name="inside")
    Task(lambda: 2, name="outside")
    assert dag.run("serial") == {"inside": 1}


def test_class_that_enters_a_block_in_its_enter_method():
    """A context manager that delegates to a DAG."""

    class Managed:
        def __init__(self):
            self.dag = DAG("managed")

        def __enter__(self):
            return self.dag.__enter__()

        def __exit__(self, *error):
            return self.dag.__exit__(*error)

    managed = Managed()
    with managed:
        Task(lambda: 1, name="inside")
    Task(lambda: 2, name="outside")
    assert managed.dag.run("serial") == {"inside": 1}


def test_closing_and_nullcontext_do_not_disturb_a_block():
    """Other context managers between the block and the tasks do not matter."""
    with DAG("block") as dag, contextlib.nullcontext(), contextlib.suppress(OSError):
        Task(lambda: 1, name="inside")
    assert dag.run("serial") == {"inside": 1}


# Blocks and concurrency


def test_block_is_not_active_in_other_threads():
    """A thread that starts meanwhile makes tasks of its own."""
    seen = []

    def work():
        Task(lambda: 2, name="of_the_thread")
        seen.append(DAG("thread").run("serial"))

    with DAG("block") as dag:
        Task(lambda: 1, name="inside")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
    assert (dag.run("serial"), seen) == ({"inside": 1}, [{"of_the_thread": 2}])


def test_blocks_of_threads_do_not_mix():
    """Each thread has its block open while the other makes tasks."""
    barrier = threading.Barrier(3, timeout=60)
    seen = {}

    def work(n):
        with DAG(f"n{n}") as dag:
            a = Task(lambda: n, name="a")
            barrier.wait()
            b = Task(lambda a: a + 1, name="b")
            barrier.wait()
            a >> b
        seen[n] = dag.run("serial")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {n: {"a": n, "b": n + 1} for n in range(3)}


def test_blocks_of_coroutines_do_not_mix():
    """Each coroutine awaits inside its block."""

    async def work(n):
        with DAG(f"n{n}") as dag:
            a = Task(lambda: n, name="a")
            await asyncio.sleep(0)
            b = Task(lambda a: a + 1, name="b")
            await asyncio.sleep(0)
            a >> b
        return dag.run("serial")

    async def main():
        return await asyncio.gather(*[work(n) for n in range(5)])

    assert asyncio.run(main()) == [{"a": n, "b": n + 1} for n in range(5)]


def test_block_of_a_coroutine_is_active_in_what_it_awaits():
    """A coroutine that is awaited inside a block is a call under it."""

    async def make():
        await asyncio.sleep(0)
        Task(lambda: 1, name="inside")

    async def main():
        with DAG("block") as dag:
            await make()
        Task(int, name="outside")
        return dag.run("serial")

    assert asyncio.run(main()) == {"inside": 1}


def test_block_of_a_suspended_generator_is_not_active_in_its_caller():
    """A generator that yields inside its block leaves it open for itself alone."""

    def steps():
        with DAG("block") as dag:
            Task(lambda: 1, name="inside")
            yield dag
            Task(lambda: 2, name="later")

    generator = steps()
    dag = next(generator)
    Task(lambda: 3, name="outside")
    assert dag.run("serial") == {"inside": 1}
    next(generator, None)
    assert dag.run("serial") == {"inside": 1, "later": 2}
    assert DAG("bare").run("serial") == {"outside": 3}


def test_block_entered_in_one_call_and_left_in_another():
    """setUp and tearDown style code."""

    class Case:
        def enter(self):
            self.dag = DAG("case")
            self.dag.__enter__()
            Task(lambda: 1, name="inside")

        def leave(self):
            self.dag.__exit__(None, None, None)

    case = Case()
    case.enter()
    Task(lambda: 2, name="outside")
    case.leave()
    assert case.dag.run("serial") == {"inside": 1}


def test_class_body_and_text_in_inner_block_make_tasks_of_it():
    """Code that is part of a function is in the block of the function, also while the module is in another."""
    namespace = {"__name__": "blocks", "DAG": DAG, "Task": Task}
    exec(
        """
with DAG("outer") as outer:
    def build():
        with DAG("inner") as inner:
            class Tasks:
                of_class = Task(lambda: 1, name="of_class")
            exec("of_text = Task(lambda: 2, name='of_text')", globals())
        return inner
    inner = build()
""",
        namespace,
    )
    assert namespace["inner"].run("serial") == {"of_class": 1, "of_text": 2}
    assert namespace["outer"].tasks == ()


# Memory and size


def test_block_does_not_outlive_its_dag():
    """What it has wired to shared tasks is freed with the DAG."""
    one, two = Task(lambda: 1, name="one"), Task(lambda one: one, name="two")
    kept = []
    for _ in range(3):
        with DAG("block") as dag:
            one >> two
            own = Task(lambda: 1, name="own")
        kept.append(weakref.ref(own))
        assert dag.run("serial") == {"one": 1, "two": 1, "own": 1}
        del dag, own
    gc.collect()
    assert [made() for made in kept] == [None] * 3


def test_wide_block_is_built():
    """Ten thousand tasks, wired to one in a block."""
    total = Task(lambda *numbers: sum(numbers), name="total")
    with DAG("wide") as dag:
        [Task(int, name=str(number)) for number in range(10_000)] >> total
    assert dag.run("serial")["total"] == 0
