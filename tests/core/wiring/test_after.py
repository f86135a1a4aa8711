"""Order without data: what ``after()`` declares, and what it changes in runs, errors and pictures."""

from __future__ import annotations

import pickle

import pytest

from flowkit_core import DAG, BindingError, DAGCycleError, Group, Task, WiringError, task


def value(name, result=None, **options):
    """Return a task without parameters that returns a value, by default its own name."""
    return Task(lambda: name if result is None else result, name=name, **options)


def skipped(name):
    """Return a task that is always skipped."""
    return value(name, when=lambda: False)


def failing(name):
    """Return a task that raises a ValueError."""

    def fail():
        raise ValueError(name)

    return Task(fail, name=name)


def run(*tasks, **options):
    """Run everything upstream of these tasks, one after the other."""
    return DAG("order", tasks=tasks).run("serial", **options)


def edges(*tasks):
    """Return the edges of the graph of these tasks as text, dashed where they are order-only."""
    lines = DAG("order", tasks=tasks).visualize("dot").splitlines()
    return [line.strip(" ;") for line in lines if "->" in line]


# Wiring


def test_after_runs_task_later_and_passes_nothing():
    """With create_table >> insert(db="prod.db"), insert(None) would be called."""
    ran = []
    create_table = Task(lambda: ran.append("create_table"), name="create_table")
    insert = Task(lambda db="prod.db": ran.append(db), name="insert")
    insert.after(create_table)
    run(insert)
    assert ran == ["create_table", "prod.db"]


def test_after_beside_data_edge_leaves_default_alone():
    """With [data, lock] >> scale(frame, factor=10), the factor would be None."""
    data, lock = value("data", 7), Task(lambda: None, name="lock")
    scale = Task(lambda frame, factor=10: frame * factor, name="scale")
    data >> scale.after(lock)
    assert run(scale) == {"data": 7, "lock": None, "scale": 70}


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (lambda: "nothing", "nothing"),
        (lambda *args: args, ("data",)),
        (lambda **kwargs: kwargs, {"data": "data"}),
        (lambda x, *, y=1: (x, y), ("data", 1)),
        (lambda x, /, y=1: (x, y), ("data", 1)),
        (lambda x=0, y=1, *rest: (x, y, rest), ("data", 1, ())),
    ],
    ids=["no parameters", "*args", "**kwargs", "keyword-only", "positional-only", "defaults"],
)
def test_after_fills_no_parameter_of_any_kind(func, expected):
    """Only the data edge counts in binding."""
    data, lock, sink = value("data"), value("lock"), Task(func, name="sink")
    data >> sink
    sink.after(lock)
    assert run(sink)["sink"] == expected


def test_after_returns_task_for_chains():
    """a >> b.after(c) >> d."""
    a, b, c, d = value("a"), Task(lambda x: x + "b", name="b"), value("c"), Task(lambda x: x + "d", name="d")
    assert a >> b.after(c) >> d is d
    assert run(d) == {"a": "a", "b": "ab", "c": "c", "d": "abd"}


def test_after_several_tasks_waits_for_each():
    """after(a, b), after([a, b]), after(group) and mixtures declare the same edges."""

    def wired(declare):
        a, b, c, sink = value("a"), value("b"), value("c"), value("sink")
        declare(sink, a, b, c)
        return edges(sink)

    expected = wired(lambda sink, a, b, c: sink.after(a, b, c))
    assert len(expected) == 3
    assert all("dashed" in edge for edge in expected)
    assert wired(lambda sink, a, b, c: sink.after([a, b, c])) == expected
    assert wired(lambda sink, a, b, c: sink.after((a, b), c)) == expected
    assert wired(lambda sink, a, b, c: sink.after(Group([a, b]), [c])) == expected
    assert wired(lambda sink, a, b, c: sink.after(item for item in (a, b, c))) == expected
    assert wired(lambda sink, a, b, c: sink.after(a).after(b).after(c)) == expected
    assert wired(lambda sink, a, b, c: sink.after(a, a, b, [b], c)) == expected


def test_after_of_group_applies_to_each_task_of_it():
    """Group.after() returns the group, so a chain goes on."""
    a, lock = value("a"), value("lock")
    b, c = (Task(lambda x: x, name=name) for name in "bc")
    end = Task(lambda *args: args, name="end")
    group = Group([b, c])
    assert group.after(lock) is group
    (a >> group) >> end
    assert run(end) == {"a": "a", "lock": "lock", "b": "a", "c": "a", "end": ("a", "a")}
    assert sum("dashed" in edge for edge in edges(end)) == 2


def test_after_of_wired_list_applies_to_group_that_it_returns():
    """(a >> [b, c]).after(lock) >> d."""
    a, lock = value("a"), value("lock")
    b, c = (Task(lambda x: x, name=name) for name in "bc")
    end = Task(lambda *args: args, name="end")
    (a >> [b, c]).after(lock) >> end
    assert sum("dashed" in edge for edge in edges(end)) == 2
    assert run(end)["end"] == ("a", "a")


@pytest.mark.parametrize("wrong", ["lock", 3, None, len, DAG], ids=repr)
@pytest.mark.parametrize("form", [lambda item: item, lambda item: [item]], ids=["itself", "in a list"])
def test_after_argument_that_is_not_a_task_raises_type_error(wrong, form):
    """The error shows what was given."""
    with pytest.raises(TypeError) as caught:
        value("sink").after(form(wrong))
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("wrong", ["lock", [len]], ids=repr)
def test_after_argument_that_is_not_a_task_names_after_in_error(wrong):
    """The line that is wrong has no '>>' in it."""
    with pytest.raises(TypeError, match=r"after\(\)"):
        value("sink").after(wrong)


@pytest.mark.parametrize("nothing", [(), ([],), ((), [])], ids=repr)
def test_after_nothing_raises_type_error(nothing):
    """after() without arguments raises a TypeError."""
    with pytest.raises(TypeError, match=r"after\(\) needs at least one task"):
        value("sink").after(*nothing)


def test_after_refused_list_declares_no_edge():
    """A TypeError for one item leaves all items unwired."""
    a, sink = value("a"), value("sink")
    with pytest.raises(TypeError):
        sink.after(a, [len])
    assert run(sink) == {"sink": "sink"}


def test_after_task_is_part_of_the_dag():
    """What is waited for is upstream, in every way of naming tasks."""
    lock, load = value("lock"), value("load")
    load.after(lock)
    assert list(DAG("named", tasks=[load]).run("serial")) == ["lock", "load"]
    assert list(DAG("bare").run("serial")) == ["lock", "load"]
    with DAG("block") as block:
        load.after(value("other"))
    assert set(block.run("serial")) == {"lock", "other", "load"}


def test_after_in_block_belongs_to_block():
    """An edge that is made in a block is seen by no other DAG."""
    lock, load = value("lock"), value("load")
    with DAG("block") as block:
        load.after(lock)
    assert list(block.run("serial")) == ["lock", "load"]
    assert DAG("other", tasks=[load]).run("serial") == {"load": "load"}


def test_after_added_later_is_seen_by_next_run():
    """A graph that was built before does not hide the new edge."""
    lock, load = value("lock"), value("load")
    dag = DAG("growing", tasks=[load])
    assert dag.run("serial") == {"load": "load"}
    load.after(lock)
    assert list(dag.run("serial")) == ["lock", "load"]


def test_after_upstream_and_downstream_list_the_task():
    """The attributes of a task know order-only edges too."""
    lock, load = value("lock"), value("load")
    load.after(lock)
    assert load.upstream == (lock,)
    assert lock.downstream == (load,)


def test_after_does_not_go_with_copy():
    """with_options() gives an unwired copy."""
    lock, load = value("lock"), value("load")
    load.after(lock)
    assert run(load.with_options(name="again")) == {"again": "load"}


# Errors of the graph


@pytest.mark.parametrize("data_first", [True, False])
def test_after_and_data_edge_between_same_tasks_raise_wiring_error(data_first):
    """The contradiction is found when the graph is built, and nothing runs."""
    ran = []
    lock, load = Task(lambda: ran.append(1), name="lock"), Task(lambda x=1: x, name="load")
    if data_first:
        lock >> load
    load.after(lock)
    if not data_first:
        lock >> load
    with pytest.raises(WiringError, match=r"'load'.*'lock'.*after\(\)") as caught:
        run(load)
    assert caught.value.tasks == ("lock", "load")
    assert ran == []
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_after_itself_raises_cycle_error():
    """A task cannot wait for itself."""
    load = value("load")
    load.after(load)
    with pytest.raises(DAGCycleError) as caught:
        run(load)
    assert caught.value.cycle == ("load", "load")


@pytest.mark.parametrize("use", [lambda dag: dag.visualize(), lambda dag: dag.graph(), lambda dag: dag.run("serial")])
def test_after_closing_cycle_of_data_edges_raises_cycle_error(use):
    """The cycle runs through edges of both kinds."""
    a, b, c = value("a"), Task(lambda x: x, name="b"), Task(lambda x: x, name="c")
    a >> b >> c
    a.after(c)
    with pytest.raises(DAGCycleError) as caught:
        use(DAG("cycle", tasks=[c]))
    assert sorted(caught.value.cycle[1:]) == ["a", "b", "c"]
    assert caught.value.cycle[0] == caught.value.cycle[-1]


def test_after_each_other_raises_cycle_error():
    """Two order-only edges are a cycle too."""
    a, b = value("a"), value("b")
    a.after(b)
    b.after(a)
    with pytest.raises(DAGCycleError):
        run(a)


def test_after_task_of_parameter_name_leaves_parameter_open():
    """An order-only edge never fills a parameter of that name; the error suggests a data edge."""
    lock, load = value("lock"), Task(lambda lock: lock, name="load")
    load.after(lock)
    with pytest.raises(BindingError, match="write 'lock >> load' instead"):
        run(load)
    assert run(load, params={"lock": 3}) == {"lock": "lock", "load": 3}


def test_params_for_parameter_that_upstream_fills_by_order_names_after():
    """create_table >> insert(db="prod.db") and params={"db": ...}: the error names the upstream."""
    create_table = Task(lambda: None, name="create_table")
    insert = Task(lambda db="prod.db": db, name="insert")
    create_table >> insert
    for params in ({"db": "test.db"}, {"insert.db": "test.db"}):
        with pytest.raises(BindingError, match=r"filled by its upstream 'create_table'") as caught:
            run(insert, params=params)
        assert "insert.after(create_table)" in str(caught.value)


def test_more_results_than_parameters_names_after():
    """One of the ways out is not to take the result."""
    load = Task(lambda rows: rows, name="load")
    [value("extract"), value("lock")] >> load
    with pytest.raises(BindingError, match=r"load\.after\(lock\)"):
        run(load)


# Failures, skips and triggers


def test_after_failed_task_is_upstream_failed():
    """Failure counts as for any other upstream."""
    lock, load = failing("lock"), value("load")
    load.after(lock)
    with pytest.raises(ValueError, match="lock"):
        run(load)
    results = run(load, raise_on_failure=False)
    assert results.states == {"lock": "failed", "load": "upstream_failed"}


def test_after_task_that_could_not_run_is_upstream_failed():
    """Failures propagate along data edges and order-only edges."""
    first, middle, last = failing("first"), value("middle"), value("last")
    last.after(middle.after(first))
    results = run(last, fail_fast=False, raise_on_failure=False)
    assert results.states == {"first": "failed", "middle": "upstream_failed", "last": "upstream_failed"}


@pytest.mark.parametrize("func", [lambda: "ran", lambda db="x": "ran", lambda *args: "ran"])
@pytest.mark.parametrize("trigger", ["none_failed", "all_success", "all_done"])
def test_after_skipped_task_runs(func, trigger):
    """A migration that was not needed does not skip the load."""
    migrate, load = skipped("migrate"), Task(func, name="load", trigger=trigger)
    load.after(migrate)
    results = run(load)
    assert results == {"load": "ran"}
    assert list(results.skipped) == ["migrate"]


def test_after_skipped_task_runs_with_data():
    """The data edge decides."""
    extract, migrate, load = value("extract"), skipped("migrate"), Task(lambda rows: rows, name="load")
    extract >> load.after(migrate)
    assert run(load)["load"] == "extract"


def test_skipped_data_edge_skips_task_whatever_it_runs_after():
    """after() does not keep a task alive that lacks its data."""
    extract, migrate, load = skipped("extract"), value("migrate"), Task(lambda rows: rows, name="load")
    extract >> load.after(migrate)
    assert run(load).states == {"extract": "skipped", "migrate": "succeeded", "load": "skipped"}


RUNS = {
    "none_failed": {"v": True, "s": True, "f": False, "vs": True, "vf": False, "sf": False},
    "all_success": {"v": True, "s": True, "f": False, "vs": True, "vf": False, "sf": False},
    "all_done": {"v": True, "s": True, "f": True, "vs": True, "vf": True, "sf": True},
    "one_success": {"v": True, "f": False, "vs": True, "vf": True},
    "one_failed": {"v": False, "s": False, "f": True, "vs": False, "vf": True, "sf": True},
}


@pytest.mark.parametrize(
    ("trigger", "upstream", "runs"),
    [(trigger, kinds, runs) for trigger, row in RUNS.items() for kinds, runs in row.items()],
)
def test_after_counts_in_every_trigger(trigger, upstream, runs):
    """Succeeded (v), skipped (s) and failed (f) tasks that are only waited for."""
    kinds = {"v": value, "s": skipped, "f": failing}
    sink = value("sink", trigger=trigger)
    sink.after(*[kinds[kind](f"{kind}{place}") for place, kind in enumerate(upstream)])
    results = run(sink, fail_fast=False, raise_on_failure=False)
    assert (results.states["sink"] == "succeeded") == runs


def test_clean_up_after_failure_runs_under_fail_fast():
    """A clean-up task may wait for what it takes nothing from."""
    ran = []
    clean = Task(lambda: ran.append("clean"), name="clean", trigger="all_done")
    clean.after(failing("load"))
    with pytest.raises(ValueError, match="load"):
        run(clean)
    assert ran == ["clean"]


def test_after_condition_gets_no_argument_of_it():
    """The condition sees the arguments of the task, and those are its data."""
    seen = []
    data, lock = value("data"), value("lock")
    load = Task(lambda *args: args, name="load", when=lambda *args: seen.append(args) or True)
    data >> load.after(lock)
    run(load)
    assert seen == [("data",)]


def test_condition_that_needs_what_is_only_waited_for_is_refused_at_build_time():
    """after() brings no argument."""
    load = Task(lambda *args: args, name="load", when=lambda first: first)
    load.after(value("lock"))
    with pytest.raises(BindingError, match="condition"):
        DAG("order", tasks=[load]).graph()


def test_results_stay_in_topological_order():
    """Order edges order results too."""
    first, second, third = value("first"), value("second"), value("third")
    first.after(second.after(third))
    assert list(run(first)) == ["third", "second", "first"]


# Pictures


def test_pictures_show_order_edges_dashed():
    """In text, for Mermaid and for Graphviz; data edges stay solid."""
    extract, migrate, load = value("extract"), value("migrate"), Task(lambda rows: rows, name="load")
    extract >> load.after(migrate)
    dag = DAG("etl", tasks=[load])
    text = dag.visualize()
    assert text.endswith("dashed: order only")
    assert "migrate ╌" in text
    assert "extract ─" in text
    mermaid = dag.visualize("mermaid")
    assert (mermaid.count("-.->"), mermaid.count("-->")) == (1, 1)
    assert dag.visualize("dot").count("[style=dashed]") == 1


def test_pictures_without_order_edges_have_no_legend():
    """The legend appears only if there is a dashed edge."""
    load = Task(lambda rows: rows, name="load")
    value("extract") >> load
    for format in ("text", "mermaid", "dot"):
        assert "dashed" not in DAG("etl", tasks=[load]).visualize(format)


def test_task_after_in_decorated_function():
    """The example of the docstring, with decorated functions."""

    @task
    def create_table():
        pass

    @task
    def load(table="orders"):
        return f"rows in {table}"

    assert run(load.after(create_table)) == {"create_table": None, "load": "rows in orders"}
