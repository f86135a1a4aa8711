"""`Task.map()`: views in edges, blocks, groups and DAGs, and which parameters are mapped."""

import copy

import pytest

from flowkit_core import DAG, BindingError, Group, Mapped, Task, TaskOptionError, TaskOptionTypeError, WiringError, task

unused = pytest.mark.filterwarnings("ignore:.* was not used, so task:RuntimeWarning")


def rows():
    return [1, 2, 3]


def double(row):
    return 2 * row


def scale(row, factor):
    return row * factor


def total(rows):
    return sum(rows)


async def later(row):
    return row


def make(*functions):
    return [Task(function) for function in functions]


def mapped(graph, name):
    return graph[name].mapped.parameters


@unused
def test_view_is_the_same_vertex():
    source, each = make(rows, double)
    assert isinstance(each.map(), Mapped)
    source >> each.map()
    dag = DAG("one", tasks=[each])
    assert dag.tasks == (source, each)
    assert each.upstream == (source,)
    assert mapped(dag.graph(), "double") == ("row",)


def test_value_of_a_chain_is_its_right_side():
    source, each, end = make(rows, double, total)
    view = each.map()
    assert (source >> view) is view
    assert (view >> end) is end
    assert DAG("sum", tasks=[end]).run("serial")["total"] == 12


@unused
def test_views_in_lists_and_groups():
    source, first, second, end = Task(rows), Task(double, name="first"), Task(double, name="second"), Task(scale)
    source >> [first.map(), second.map()] >> end.map()
    assert DAG("group", tasks=[end]).run("serial")["scale"] == [4, 16, 36]
    assert isinstance(Group([first.map(), second]), Group)


def test_bare_dag_and_blocks_find_mapped_tasks():
    source, each = make(rows, double)
    source >> each.map()
    assert DAG("bare").run("serial")["double"] == [2, 4, 6]
    inner, outer = make(rows, double)
    with DAG("block") as dag:
        inner >> outer.map()
    assert dag.run("serial")["double"] == [2, 4, 6]


@task
def shared_rows():
    return [1, 2]


@task
def shared_each(row):
    return row + 1


def build():
    shared_rows >> shared_each.map()
    return DAG("built", tasks=[shared_each])


def test_builders_of_shared_tasks_have_their_own_edges():
    assert build().run("serial") == build().run("serial") == {"shared_rows": [1, 2], "shared_each": [2, 3]}
    shared_rows >> shared_each
    with pytest.raises(TypeError):
        DAG("whole", tasks=[shared_each]).run("serial")


def test_edge_without_view_takes_the_whole_result():
    source, factor, each = Task(rows), Task(lambda: 10, name="factor"), Task(scale)
    source >> each.map()
    factor >> each
    dag = DAG("mixed", tasks=[each])
    assert mapped(dag.graph(), "scale") == ("row",)
    assert dag.run("serial")["scale"] == [10, 20, 30]


def test_named_parameters_only():
    source, factor, each = Task(rows), Task(lambda: 10, name="factor"), Task(scale)
    [source, factor] >> each.map("row")
    assert DAG("named", tasks=[each]).run("serial")["scale"] == [10, 20, 30]


def test_open_parameters():
    each = Task(scale)
    dag = DAG("open", tasks=[each.map("row")])
    assert dag.run("serial", params={"row": range(3), "factor": 2}) == {"scale": [0, 2, 4]}
    assert dag.run("serial", params={"scale.row": (5,), "factor": 2}) == {"scale": [10]}
    both = DAG("both", tasks=[Task(scale).map("row", "factor")])
    assert both.run("serial", params={"row": [1, 2], "factor": [3, 4]}) == {"scale": [3, 8]}


def test_default_of_a_mapped_parameter_is_mapped():
    each = Task(lambda rate=(0.1, 0.2): rate, name="each")
    assert DAG("default", tasks=[each.map("rate")]).run("serial") == {"each": [0.1, 0.2]}


def test_var_args_and_keywords():
    first, second = Task(rows, name="first"), Task(rows, name="second")
    listed, named = Task(lambda *rows: rows, name="listed"), Task(lambda **rows: sorted(rows.items()), name="named")
    [first, second] >> listed.map()
    [first, second] >> named.map()
    results = DAG("var", tasks=[listed, named]).run("serial")
    assert results["listed"] == [(1, 1), (2, 2), (3, 3)]
    assert results["named"][2] == [("first", 3), ("second", 3)]


def test_after_returns_the_view():
    lock, source, each, end = Task(lambda: None, name="lock"), *make(rows, double, total)
    view = each.map()
    assert view.after(lock) is view
    source >> view >> end
    graph = DAG("after", tasks=[end]).graph()
    assert [graph.names[index] for index in graph["double"].waits] == ["lock"]
    assert DAG("after", tasks=[end]).run("serial")["total"] == 12


def test_views_with_different_options():
    source, each, end = make(rows, double, total)
    source >> each.map(limit=2)
    each.map() >> end
    with pytest.raises(WiringError, match=r"'double' mapped with different options \(map\(limit=2\) and map\(\)\)"):
        DAG("two", tasks=[end]).graph()
    assert [problem.kind for problem in DAG("two", tasks=[end]).check()] == ["wiring"]


def test_equal_views_are_one():
    source, each, end = make(rows, double, total)
    source >> each.map(limit=2, errors="drop")
    each.map(limit=2, errors="drop") >> end
    assert DAG("equal", tasks=[end]).run("serial")["total"] == 12


def test_mapped_over_nothing():
    source, each, end = make(rows, double, total)
    source >> each
    each.map() >> end
    with pytest.raises(BindingError, match=r"'double' is mapped over nothing, because no edge into it is wired"):
        DAG("nothing", tasks=[end]).graph()
    with pytest.raises(BindingError, match=r"to map an open parameter, name it: scale.map\('row'\)"):
        DAG("open", tasks=[Task(scale).map()]).graph()
    silent = Task(lambda: 1, name="silent")
    source >> silent.map()
    with pytest.raises(BindingError, match="its function takes none of these results"):
        DAG("silent", tasks=[silent]).graph()


def test_options_are_checked():
    each = Task(double)
    with pytest.raises(
        TypeError, match=r"names 'rwo', but the function has no such parameter \(did you mean 'row'\?\)"
    ):
        each.map("rwo")
    with pytest.raises(TypeError, match="takes names of parameters"):
        each.map(Task(rows))
    with pytest.raises(TaskOptionError, match=r"map\(limit=\) is 0"):
        each.map(limit=0)
    with pytest.raises(TaskOptionTypeError, match=r"map\(chunk=\) is True"):
        each.map(chunk=True)
    with pytest.raises(TaskOptionError, match="did you mean 'return'\\?"):
        each.map(errors="returns")
    with pytest.raises(TaskOptionTypeError, match="label"):
        each.map(label="row")
    with pytest.raises(TaskOptionTypeError, match="not an async one"):
        each.map(label=later)
    with pytest.raises(TypeError, match="did you mean 'limit'"):
        each.map(limt=3)


@unused
def test_view_has_no_other_attributes():
    view = Task(double).map("row", limit=3)
    assert (view.name, view.parameters, view.limit, view.errors, view.label, view.chunk) == (
        "double",
        ("row",),
        3,
        "raise",
        None,
        None,
    )
    assert repr(view) == "<Task double, mapped over row>"
    with pytest.raises(TypeError, match="is called by pipelines only"):
        view(1)
    with pytest.raises(AttributeError, match=r"write it before .map\(\): double.with_options"):
        view.with_options(name="x")


def test_pictures_show_mapped_tasks():
    source, each = make(rows, double)
    source >> each.map()
    assert "double (mapped)" in DAG("picture", tasks=[each]).visualize()


def test_copies_of_dags_keep_the_views():
    dag = DAG("copied", tasks=[Task(double).map("row")])
    assert copy.deepcopy(dag).run("serial", params={"row": [1]}) == {"double": [2]}


@unused
def test_tasks_argument_must_be_a_list():
    with pytest.raises(TypeError, match=r"write tasks=\[double\]"):
        DAG("one", tasks=Task(double).map("row"))


def test_annotations_along_mapped_edges():
    def numbers() -> list[int]:
        return []

    def text(row: str) -> str:
        return row

    def number(row: int) -> int:
        return row

    def whole(rows: int) -> int:
        return rows

    def single() -> int:
        return 1

    source, wrong, right, end = Task(numbers), Task(text), Task(number), Task(whole)
    source >> [wrong.map(), right.map()]
    right >> end
    plain, over_plain = Task(single), Task(number, name="over_plain")
    plain >> over_plain.map()
    problems = DAG("annotated", tasks=[wrong, right, end, over_plain]).check()
    assert [(problem.kind, problem.task) for problem in problems] == [
        ("annotation", "text"),
        ("annotation", "over_plain"),
        ("annotation", "whole"),
    ]


@pytest.mark.parametrize(
    "wire", [lambda rows, each: each.map("row"), lambda rows, each: (each.map(limit=2), rows >> each)]
)
def test_view_that_is_not_used_is_a_warning(wire):
    rows, each = Task(lambda: [1, 2], name="rows"), Task(lambda row: row, name="each")
    with pytest.warns(RuntimeWarning, match=r"each\.map\(.*\) was not used, so task 'each' is not mapped"):
        wire(rows, each)


@pytest.mark.filterwarnings("error")
def test_view_that_a_pipeline_is_given_is_used():
    each = Task(lambda row: row, name="each")
    assert DAG("given", tasks=[each.map("row")]).run("serial", params={"row": [1]}) == {"each": [1]}
