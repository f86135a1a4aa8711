"""Wiring: what >> declares, in which order, and which circles are refused."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from flowkit_core import DAG, DAGCycleError, FlowkitError, Group, Task


def make(*names):
    """Return one task for each name; each returns the names of what it was given and its own."""
    return [Task(lambda *args, name=name: "".join(args) + name, name=name) for name in names]


def edges(*tasks):
    """Return the edges among everything upstream of these tasks, as pairs of names."""
    graph = DAG("wiring", tasks=tasks).graph()
    return [(graph.names[index], node.name) for node in graph for index in node.upstream]


# The forms of >>


def test_task_to_task():
    """a >> b."""
    a, b = make("a", "b")
    a >> b
    assert edges(b) == [("a", "b")]


def test_task_to_list():
    """a >> [b, c]."""
    a, b, c = make("a", "b", "c")
    a >> [b, c]
    assert edges(b, c) == [("a", "b"), ("a", "c")]


def test_list_to_task():
    """[a, b] >> c: in this order."""
    a, b, c = make("a", "b", "c")
    [a, b] >> c
    assert edges(c) == [("a", "c"), ("b", "c")]


def test_chain_through_list_is_diamond():
    """a >> [b, c] >> d."""
    a, b, c, d = make("a", "b", "c", "d")
    a >> [b, c] >> d
    assert edges(d) == [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]


def test_list_to_list_in_chain_wires_all_to_all():
    """a >> [b, c] >> [d, e]."""
    a, b, c, d, e = make("a", "b", "c", "d", "e")
    a >> [b, c] >> [d, e]
    assert sorted(edges(d, e)) == [("a", "b"), ("a", "c"), ("b", "d"), ("b", "e"), ("c", "d"), ("c", "e")]


def test_wiring_of_documented_pipeline():
    """extract >> transform >> [validate, enrich] >> load >> notify."""
    extract, transform, validate, enrich, load, notify = make(
        "extract", "transform", "validate", "enrich", "load", "notify"
    )
    extract >> transform >> [validate, enrich] >> load >> notify
    names = [("extract", "transform"), ("transform", "validate"), ("transform", "enrich")]
    assert edges(notify) == [*names, ("validate", "load"), ("enrich", "load"), ("load", "notify")]


@pytest.mark.parametrize(
    "several",
    [list, tuple, Group, iter, lambda tasks: dict.fromkeys(tasks)],
    ids=["list", "tuple", "Group", "iterator", "dict"],
)
def test_iterables_of_tasks_are_operands(several):
    a, b, c, d = make("a", "b", "c", "d")
    a >> several([b, c])
    several([b, c]) >> d
    assert edges(d) == [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]


def test_group_wires_list_to_list():
    """Python has no >> for two lists."""
    a, b, c, d = make("a", "b", "c", "d")
    Group([a, b]) >> [c, d]
    assert edges(c, d) == [("a", "c"), ("b", "c"), ("a", "d"), ("b", "d")]
    assert list(Group([a, b])) == [a, b]


def test_operator_returns_right_operand():
    """So chains read from left to right."""
    a, b, c, d = make("a", "b", "c", "d")
    assert (a >> b) is b
    assert list(a >> [b, c]) == [b, c]
    assert ([b, c] >> d) is d


def test_empty_list_declares_no_edge():
    """And is no error."""
    a, b = make("a", "b")
    a >> []
    [] >> b
    assert edges(a, b) == []


# Order and repetition


def test_edge_declared_twice_exists_once():
    a, b = make("a", "b")
    a >> b
    a >> b
    a >> [b, b]
    [a, a] >> b
    assert edges(b) == [("a", "b")]
    assert DAG("twice", tasks=[b]).run() == {"a": "a", "b": "ab"}


def test_edge_declared_again_keeps_its_position():
    """Arguments are in the order of the first declarations."""
    a, b, c = make("a", "b", "c")
    [b, a] >> c
    a >> c
    b >> c
    assert DAG("order", tasks=[c]).run()["c"] == "bac"


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_arguments_are_in_order_of_declaration(order):
    """Not in order of definition, name or completion."""
    tasks = dict(zip("abc", make("a", "b", "c"), strict=True))
    (end,) = make("!")
    [tasks[name] for name in order] >> end
    assert DAG("order", tasks=[end]).run()["!"] == f"{order}!"


def test_results_of_independent_tasks_are_in_order_of_declaration():
    names = [f"task_{number}" for number in (5, 3, 9, 1)]
    assert list(DAG("order", tasks=make(*names)).run()) == names


def test_results_are_in_topological_order():
    a, b, c, d = make("a", "b", "c", "d")
    d >> c >> b >> a
    assert list(DAG("order", tasks=[a, b, c, d]).run()) == ["d", "c", "b", "a"]


def test_graph_is_not_changed_by_later_edge():
    """graph() is a snapshot."""
    a, b, c = make("a", "b", "c")
    a >> b
    dag = DAG("snapshot", tasks=[b])
    graph = dag.graph()
    c >> b
    assert graph.names == ("a", "b")
    assert set(dag.graph().names) == {"a", "b", "c"}


def test_edge_declared_inside_a_task_belongs_to_the_call_of_the_task():
    """Neither the current run nor the next one has it: the task did not make the tasks that it wires."""
    late, end = make("late", "end")
    start = Task(lambda: str(late >> end)[:0], name="start")
    start >> end
    dag = DAG("moving", tasks=[end])
    assert dag.run() == {"start": "", "end": "end"}
    assert dag.run() == {"start": "", "end": "end"}


# Operands of >> that are not tasks


@pytest.mark.parametrize(
    ("wrong", "word"),
    [(len, "builtin_function_or_method"), ("extract", "str"), (3, "int"), (None, "NoneType"), (lambda: 1, "function")],
    ids=repr,
)
@pytest.mark.parametrize("side", ["alone", "in a list on the right", "in a list on the left"])
def test_operand_that_is_not_a_task_is_type_error_with_its_type(wrong, word, side):
    """For example, a function that lacks @task."""
    (a,) = make("a")
    with pytest.raises(TypeError) as caught:
        if side == "alone":
            a >> wrong
        elif side == "in a list on the right":
            a >> [a, wrong]
        else:
            [a, wrong] >> a
    text = str(caught.value)
    assert word in text
    assert "not a task" in text
    assert "@task" in text
    if side != "alone":
        assert "item 1" in text


def test_refused_list_declares_no_edge():
    """Not even those before the item that is refused."""
    a, b = make("a", "b")
    with pytest.raises(TypeError):
        a >> [b, "c"]
    with pytest.raises(TypeError):
        [a, "c"] >> b
    assert edges(a, b) == []


# Circles


def test_cycle_error_shows_cycle():
    """In the message and in .cycle."""
    extract, transform = make("extract", "transform")
    extract >> transform >> extract
    with pytest.raises(DAGCycleError) as caught:
        DAG("etl", tasks=[transform]).run()
    assert "extract → transform → extract" in str(caught.value)
    assert tuple(caught.value.cycle) == ("extract", "transform", "extract")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FlowkitError)


def test_edge_to_itself_is_cycle_error():
    (extract,) = make("extract")
    with pytest.raises(DAGCycleError) as caught:
        extract >> extract
        DAG("etl", tasks=[extract]).run()
    assert "extract → extract" in str(caught.value)
    assert tuple(caught.value.cycle) == ("extract", "extract")


@pytest.mark.parametrize(
    "use",
    [lambda dag: dag.run(), lambda dag: dag.visualize(), lambda dag: dag.graph()],
    ids=["run", "visualize", "graph"],
)
def test_cycle_error_is_raised_before_anything_runs(use):
    ran = []
    before = Task(lambda: ran.append(1), name="before")
    a, b = make("a", "b")
    before >> a >> b >> a
    with pytest.raises(DAGCycleError):
        use(DAG("etl", tasks=[b]))
    assert ran == []


def test_cycle_error_excludes_other_tasks():
    """Neither upstreams of the cycle nor downstreams are shown."""
    before, a, b, c, after = make("before", "a", "b", "c", "after")
    before >> a >> b >> c >> a
    c >> after
    with pytest.raises(DAGCycleError) as caught:
        DAG("etl", tasks=[after]).graph()
    assert tuple(caught.value.cycle) == ("a", "b", "c", "a")
    assert "a → b → c → a" in str(caught.value)


def test_cycle_error_shortens_long_cycle_in_message_only():
    """.cycle is complete."""
    tasks = make(*(f"task_{number}" for number in range(1000)))
    for one, following in pairwise(tasks):
        one >> following
    tasks[-1] >> tasks[0]
    with pytest.raises(DAGCycleError) as caught:
        DAG("round", tasks=tasks).graph()
    assert len(caught.value.cycle) == 1001
    assert caught.value.cycle[0] == caught.value.cycle[-1]
    assert len(str(caught.value)) < 500


def test_cycle_error_survives_pickling():
    """Message and .cycle."""
    error = DAGCycleError(["a", "b", "a"])
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), tuple(back.cycle)) == (DAGCycleError, str(error), ("a", "b", "a"))


def test_diamond_is_not_a_cycle():
    a, b, c = make("a", "b", "c")
    a >> b >> c
    a >> c
    assert DAG("shortcut", tasks=[c]).run() == {"a": "a", "b": "ab", "c": "abac"}


# The graph as a value


def test_graph_has_nodes_by_name_and_index():
    a, b, c = make("a", "b", "c")
    a >> [b, c]
    graph = DAG("readable", tasks=[b, c]).graph()
    assert len(graph) == 3
    assert graph.names == ("a", "b", "c")
    assert [node.name for node in graph] == ["a", "b", "c"]
    assert graph["b"].task is b
    with pytest.raises(KeyError):
        graph["d"]


@pytest.mark.parametrize("name", [None, 3, ["etl"]])
def test_dag_name_that_is_not_a_string_is_type_error(name):
    with pytest.raises(TypeError, match="name") as caught:
        DAG(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("workers", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_max_workers_out_of_range_is_error(workers, kind):
    """The error shows the value and what is allowed."""
    with pytest.raises(kind) as caught:
        DAG("etl", max_workers=workers)
    assert "max_workers" in str(caught.value)
    assert repr(workers) in str(caught.value)
    assert "at least 1" in str(caught.value)


@pytest.mark.parametrize("workers", [None, 1, 64])
def test_max_workers_in_range_is_allowed(workers):
    (a,) = make("a")
    assert DAG("etl", max_workers=workers, tasks=[a]).run() == {"a": "a"}


@pytest.mark.parametrize("wrong", ["extract", len, 3])
def test_tasks_keyword_with_other_items_is_type_error(wrong):
    with pytest.raises(TypeError, match="task"):
        DAG("etl", tasks=[wrong]).run()


def test_tasks_keyword_with_one_task_is_type_error():
    """DAG(tasks=extract) lacks the brackets."""
    (extract,) = make("extract")
    with pytest.raises(TypeError, match="list of tasks"):
        DAG("etl", tasks=extract).run()


def test_upstreams_are_in_order_of_declaration_in_whatever_order_edges_were_declared():
    """Edges to one task need not be declared together, and an edge that is declared twice counts once."""
    a, b, c, d, e = (Task(lambda *x: x, name=name) for name in "abcde")
    c >> e
    a >> d
    b >> e
    c >> d
    a >> e
    c >> e
    graph = DAG("d", tasks=[d, e]).graph()
    assert [graph.names[index] for index in graph["e"].upstream] == ["c", "b", "a"]
    assert [graph.names[index] for index in graph["d"].upstream] == ["a", "c"]
    assert [node.name for node in graph["c"].downstream] == ["d", "e"]


@pytest.mark.parametrize(
    ("wire", "count"),
    [
        (lambda a, b: a >> [] >> b, 1),
        (lambda a, b: a >> [] >> [b], 1),
        (lambda a, b: Group([]) >> b, 1),
        (lambda a, b: [] >> b, 0),
        (lambda a, b: a >> [], 0),
        (lambda a, b: b.after(a, []), 0),
    ],
)
def test_empty_list_between_two_operators_is_a_warning(recwarn, wire, count):
    """A list beside one operator may be empty, as in code that wires tasks of a table."""
    wire(Task(lambda: 1, name="a"), Task(lambda *rows: rows, name="b"))
    found = [str(each.message) for each in recwarn]
    assert ["so nothing connects the tasks before it with 'b'" in text for text in found] == [True] * count
