"""Which edges a DAG has: those of its tasks' call, of its own call and the calls around it, and of modules."""

from __future__ import annotations

import threading

import pytest

from flowkit_core import DAG, Task


@pytest.fixture
def shared(script):
    """A module with tasks and builders that wire them."""
    return script(
        """
        eu, us = Task(lambda: 1, name="eu"), Task(lambda: 10, name="us")
        total = Task(lambda *numbers: sum(numbers), name="total")

        def build(regions):
            [region >> total for region in regions]
            return DAG("s", tasks=[total])

        def bare(regions):
            [region >> total for region in regions]
            return DAG("s")

        def group(regions):
            list(regions) >> total
            return DAG("s", tasks=[total])

        def only_wires(regions):
            for region in regions:
                region >> total

        def ordered(regions):
            total.after(*regions)
            return DAG("s", tasks=[total])
        """
    )


@pytest.mark.parametrize("builder", ["build", "bare", "group"])
def test_builder_over_module_tasks_does_not_accumulate_edges(shared, builder):
    """Each DAG has the edges of its own call, whatever was built before and after."""
    build = getattr(shared, builder)
    both, one, other = build([shared.eu, shared.us]), build([shared.eu]), build([shared.us])
    assert [dag.run("serial")["total"] for dag in (both, one, other, both)] == [11, 1, 10, 11]


def test_builder_over_module_tasks_called_a_thousand_times(shared):
    """A thousand calls leave nothing to the next."""
    for number in range(1000):
        dag = shared.build([(shared.eu, shared.us)[number % 2]])
        assert len(dag.tasks) == 2
    assert dag.run("serial") == {"us": 10, "total": 10}


def test_order_only_edges_of_a_builder_do_not_accumulate(shared):
    """after() follows the same rule as >>."""
    one, other = shared.ordered([shared.eu]), shared.ordered([shared.us])
    assert one.run("serial") == {"eu": 1, "total": 0}
    assert other.run("serial") == {"us": 10, "total": 0}
    assert one.run("serial") == {"eu": 1, "total": 0}


def test_edges_of_builders_in_threads_do_not_mix(shared):
    """Two threads in the middle of the same builder."""
    barrier = threading.Barrier(2, timeout=60)
    seen = {}

    def work(region):
        region >> shared.total
        barrier.wait()
        seen[region.name] = DAG("s", tasks=[shared.total]).run("serial")
        barrier.wait()

    threads = [threading.Thread(target=work, args=(region,)) for region in (shared.eu, shared.us)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {"eu": {"eu": 1, "total": 1}, "us": {"us": 10, "total": 10}}


def test_edges_of_a_call_that_returned_pass_to_its_caller(shared):
    """If no pipeline has used an edge to shared tasks, the caller has it."""

    def main(region):
        shared.only_wires([region])
        return DAG("s", tasks=[shared.total]).run("serial")

    def bare(region):
        shared.only_wires([region])
        return DAG("s").run("serial")

    for run in (main, bare):
        assert run(shared.eu) == {"eu": 1, "total": 1}
        assert run(shared.us) == {"us": 10, "total": 10}


def test_edges_of_a_caller_are_seen_by_calls_under_it(shared):
    """A DAG in a helper has the edges of the calls that it is in."""

    def helper():
        return DAG("s", tasks=[shared.total]).run("serial")

    def middle():
        shared.us >> shared.total
        return helper()

    def main():
        shared.eu >> shared.total
        return middle(), helper()

    assert main() == ({"eu": 1, "us": 10, "total": 11}, {"eu": 1, "total": 1})
    assert helper() == {"total": 0}


def test_edges_of_a_used_pipeline_do_not_pass_to_the_caller(shared):
    """What a pipeline has used stays with its call."""

    def main():
        first = shared.build([shared.eu]).run("serial")
        return first, DAG("s", tasks=[shared.total]).run("serial")

    assert main() == ({"eu": 1, "total": 1}, {"total": 0})


def test_edges_of_a_call_that_raised_are_dropped(shared):
    """A call that ends by an exception passes nothing on."""

    def failing():
        shared.us >> shared.total
        raise OSError

    def main(keep):
        kept = None
        try:
            failing()
        except OSError as error:
            kept = error if keep else None
        shared.eu >> shared.total
        return DAG("s", tasks=[shared.total]).run("serial"), kept

    for keep in (False, True):
        assert main(keep)[0] == {"eu": 1, "total": 1}


def test_edges_at_the_top_level_of_any_module_count_for_every_dag(script, shared):
    """A module that wires shared tasks at its top level does it for all."""
    assert shared.build([shared.eu]).run("serial") == {"eu": 1, "total": 1}
    script("from script import us, total\nus >> total", name="wiring")
    assert shared.build([shared.eu]).run("serial") == {"eu": 1, "us": 10, "total": 11}
    assert DAG("named", tasks=[shared.total]).run("serial") == {"us": 10, "total": 10}
    assert shared.only_wires([]) is None


def test_edge_between_tasks_of_one_call_goes_where_the_tasks_go():
    """Tasks that are wired by their call and stored somewhere keep their edges."""
    store = {}

    def make():
        a, b = Task(lambda: 1, name="a"), Task(lambda a: a + 1, name="b")
        a >> b
        store["b"] = b

    make()

    def use():
        return DAG("stored", tasks=[store["b"]]).run("serial")

    assert use() == {"a": 1, "b": 2}
    seen = []
    thread = threading.Thread(target=lambda: seen.append(use()))
    thread.start()
    thread.join(60)
    assert seen == [{"a": 1, "b": 2}]


def test_edge_between_tasks_of_two_calls_belongs_to_the_caller_of_both():
    """The caller of two helpers counts as the maker of what both made."""

    def make(name):
        return Task(lambda *_: name, name=name)

    def pair():
        a, b = make("a"), make("b")
        a >> b
        return b

    def main():
        return pair()

    last = main()
    assert DAG("pair", tasks=[last]).run("serial") == {"a": "a", "b": "b"}


def test_edges_to_a_shared_task_do_not_go_with_the_builders_tasks(shared):
    """An edge to a task that the call did not make belongs to the call, not to its tasks."""

    def build(n):
        own = Task(lambda eu: eu + n, name="own")
        shared.eu >> own
        return DAG("d", tasks=[own])

    one, two = build(1), build(2)
    assert one.run("serial") == {"eu": 1, "own": 2}
    assert two.run("serial") == {"eu": 1, "own": 3}
    assert DAG("alone", tasks=[shared.eu]).run("serial") == {"eu": 1}


def test_builders_with_own_tasks_below_a_shared_source_stay_apart(script):
    """The shared source feeds both; neither DAG has the other's tasks."""
    module = script(
        """
        @task
        def source():
            return 10

        def build(number):
            @task
            def scaled(source):
                return source * number
            source >> scaled
            return DAG("scaled")

        one, two = build(1), build(2)
        """
    )
    assert module.two.run("serial") == {"source": 10, "scaled": 20}
    assert module.one.run("serial") == {"source": 10, "scaled": 10}


def test_builders_with_own_tasks_above_a_shared_sink_stay_apart(script):
    """Own tasks flow into a task of the module, in calls of one caller and of several."""
    module = script(
        """
        merge = Task(lambda *parts: parts, name="merge")

        def build(folder):
            Task(lambda: folder, name=folder) >> merge
            return DAG(folder, tasks=[merge])

        def main():
            return [build(folder).run("serial") for folder in ("north", "south")]
        """
    )
    expected = [{"north": "north", "merge": ("north",)}, {"south": "south", "merge": ("south",)}]
    assert module.main() == expected
    assert [module.build(folder).run("serial") for folder in ("north", "south")] == expected


def test_order_of_declaration_is_kept_over_calls(shared):
    """Arguments come in the order in which the edges were declared."""

    def wire_to(region, task):
        region >> task

    def main():
        last = Task(lambda *names: names, name="last")
        [shared.us, shared.eu] >> last
        return DAG("order", tasks=[last]).run("serial")["last"]

    assert main() == (10, 1)

    def through_helpers():
        pair = Task(lambda *values: values, name="pair")
        for region in (shared.us, shared.eu):
            wire_to(region, pair)
        return DAG("order", tasks=[pair]).run("serial")["pair"]

    assert through_helpers() == (10, 1)


def test_edge_that_is_declared_twice_is_one(shared):
    """Twice in one call, and once in a caller and once in a helper."""

    def helper():
        shared.eu >> shared.total
        shared.eu >> shared.total
        return DAG("s", tasks=[shared.total]).run("serial")

    def main():
        shared.eu >> shared.total
        return helper()

    assert main() == {"eu": 1, "total": 1}


def test_dag_sees_edges_that_its_call_adds_after_it(shared):
    """The edges of a call are looked up at each run."""
    dag = DAG("s", tasks=[shared.total])
    assert dag.run("serial") == {"total": 0}
    shared.eu >> shared.total
    assert dag.run("serial") == {"eu": 1, "total": 1}
    shared.us >> shared.total
    assert dag.run("serial") == {"eu": 1, "us": 10, "total": 11}


def test_dag_run_twice_while_the_wiring_goes_on():
    """A run between two edges sees the first; the next run sees both."""
    a, b, c = Task(lambda: 1, name="a"), Task(lambda *x: sum(x) + 1, name="b"), Task(lambda *x: sum(x) + 1, name="c")
    dag = DAG("steps", tasks=[c])
    assert dag.run("serial") == {"c": 1}
    b >> c
    assert dag.run("serial") == {"b": 1, "c": 2}
    a >> b
    assert dag.run("serial") == {"a": 1, "b": 2, "c": 3}
    a >> c
    assert dag.run("serial")["c"] == 4


def test_given_tasks_bring_everything_upstream_of_them_and_nothing_else():
    """DAG(tasks=[load]) has load and all it needs."""
    first, second, third, after, beside = (
        Task(lambda *_: 1, name=name) for name in ("first", "second", "third", "after", "beside")
    )
    first >> second >> third >> after
    second >> beside
    assert list(DAG("part", tasks=[third]).run("serial")) == ["first", "second", "third"]


def test_given_tasks_may_be_named_twice():
    """Naming a task twice is naming it once."""
    alone = Task(lambda: 1, name="alone")
    assert DAG("twice", tasks=[alone, alone]).run("serial") == {"alone": 1}


def test_given_tasks_may_be_any_iterable():
    """A generator and a tuple are accepted."""
    a, b = Task(lambda: 1, name="a"), Task(lambda: 2, name="b")
    for given in ((a, b), iter([a, b]), {a: 1, b: 2}, (one for one in (a, b))):
        assert DAG("any", tasks=given).run("serial") == {"a": 1, "b": 2}


def test_empty_list_of_tasks_is_an_empty_run():
    """No tasks means none, not discovery, and gives no warning."""
    Task(lambda: 1, name="around")
    assert DAG("none", tasks=[]).run("serial") == {}


def test_upstream_and_downstream_show_the_edges_seen_here(shared):
    """task.upstream is what a DAG created at this place would have."""

    def here():
        return shared.total.upstream, shared.eu.downstream

    assert here() == ((), ())
    shared.eu >> shared.total
    assert here() == ((shared.eu,), (shared.total,))


def test_builder_that_only_returns_a_shared_task_accumulates_in_its_caller(shared):
    """A documented limit: without a DAG in the builder, its edges pass to the caller."""

    def wired(region):
        region >> shared.total
        return shared.total

    def main():
        one = DAG("one", tasks=[wired(shared.eu)])
        two = DAG("two", tasks=[wired(shared.us)])
        return two.run("serial")["total"], one.run("serial")["total"]

    assert main() == (11, 11)
