"""Pictures as SVG, and groups of similar names in place of the tasks of large graphs."""
# ruff: noqa: RUF001 - the multiplication sign is what pictures show

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core import DAG, Task
from flowkit_core.drawing import draw
from flowkit_core.drawing.folding import Folded

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    root = ET.fromstring(svg)  # noqa: S314 - flowkit has written it
    assert root.tag == f"{NAMESPACE}svg"
    return root


def boxes(svg):
    """Return name -> x, y, width and height of the box of each task."""
    found = {}
    for group in parsed(svg).iter(f"{NAMESPACE}g"):
        title = group.find(f"{NAMESPACE}title")
        if title is not None:
            box = group.findall(f"{NAMESPACE}rect")[-1]
            found[title.text] = tuple(float(box.get(name)) for name in ("x", "y", "width", "height"))
    return found


def lines(svg):
    return [
        path for path in parsed(svg).iter(f"{NAMESPACE}path") if path.get("d").startswith("M") and "C" in path.get("d")
    ]


def graphs(most=12):
    def edges(size):
        return st.tuples(
            *[st.lists(st.integers(0, v - 1), max_size=3, unique=True) if v else st.just([]) for v in range(size)]
        )

    return st.integers(1, most).flatmap(edges).map(list)


@given(graphs())
def test_boxes_do_not_overlap_and_lines_go_to_the_right(upstreams):
    names = [f"task_{'x' * v}{v}" for v in range(len(upstreams))]
    svg = draw("it", names, upstreams, format="svg")
    found = boxes(svg)
    assert sorted(found) == sorted(names)
    places = list(found.values())
    for number, (x, y, width, height) in enumerate(places):
        for other_x, other_y, other_width, other_height in places[number + 1 :]:
            apart_x = x + width <= other_x or other_x + other_width <= x
            assert apart_x or y + height <= other_y or other_y + other_height <= y
    for v, ups in enumerate(upstreams):
        for u in ups:
            assert found[names[u]][0] + found[names[u]][2] < found[names[v]][0]
    root = parsed(svg)
    assert all(x + width <= float(root.get("width")) for x, _, width, _ in places)
    assert all(y + height <= float(root.get("height")) for _, y, _, height in places)


def test_each_edge_is_a_line_with_an_arrow_and_order_edges_are_dashed():
    svg = draw("etl", ["a", "b", "c"], [[], [0], [0, 1]], dashed=[(0, 1)], format="svg")
    assert sum(path.get("marker-end") is not None for path in lines(svg)) == 3
    assert sum(path.get("stroke-dasharray") is not None for path in lines(svg)) == 1
    assert "dashed: order only" in svg


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_any_name_is_valid_xml(names):
    svg = draw(names[0], names, [[0] if v else [] for v in range(len(names))], notes=names, format="svg")
    parsed(svg)


def test_names_are_escaped():
    svg = draw("<b>", ["<script>alert(1)</script>", 'a & "b"'], [[], [0]], format="svg", notes=["</text>"])
    assert "<script" not in svg
    assert set(boxes(svg)) == {"<script>alert(1)</script>", 'a & "b"'}


def test_there_are_no_scripts_styles_or_references():
    """It can be shown under any content security policy, and changes nothing of the page around it."""
    svg = draw("etl", ["a", "b"], [[], [0]], format="svg")
    for word in ("<style", "<script", "href", "class=", "style=", "onload"):
        assert word not in svg
    assert svg.count("http") == 1  # the namespace


def test_empty_graph():
    assert "no tasks, so there is nothing to draw" in draw("etl", [], [], format="svg")


def test_notes_are_shown():
    assert "retries 3" in draw("etl", ["a"], [[]], notes=["retries 3"], format="svg")


def test_many_tasks_without_edges_are_in_rows():
    places = boxes(draw("it", [chr(65 + v % 26) * (1 + v // 26) for v in range(40)], [[]] * 40, format="svg"))
    assert len({y for _, y, _, _ in places.values()}) > 1
    assert max(x + width for x, _, width, _ in places.values()) < 1_100


@pytest.mark.parametrize("size", [2_000, 100_000])
def test_graph_that_is_too_large_is_a_summary(size):
    names = [f"t{'abcdefghij'[v % 10]}{v}" for v in range(size)]
    svg = draw("deep", names, [[v - 1] if v else [] for v in range(size)], format="svg")
    assert len(svg) < 20_000
    assert "Too large or too tangled" in svg
    parsed(svg)


# ---- folding ---------------------------------------------------------------------------------------------------------


def fan(*, first="load_{}", second="clean_{}", size=50):
    """Return names and upstreams: source >> 50 tasks, each >> one of 50, all >> sink."""
    names = ["source", *(first.format(k) for k in range(size)), *(second.format(k) for k in range(size)), "sink"]
    upstreams = [[], *[[0]] * size, *([1 + k] for k in range(size)), list(range(1 + size, 1 + 2 * size))]
    return names, upstreams


def test_tasks_whose_names_differ_in_a_number_are_folded():
    text = draw("big", *fan())
    assert text.splitlines()[:3] == ["big: 102 tasks", "", "source → load_* ×50 → clean_* ×50 → sink"]
    assert text.endswith(
        '×: tasks whose names differ only in a number, or after a dot; "mermaid" and "dot" have each one'
    )
    assert set(boxes(draw("big", *fan(), format="svg"))) == {"source", "load_* ×50", "clean_* ×50", "sink"}
    assert draw("big", *fan(), format="mermaid").count("load") == 50


def test_tasks_of_a_pipeline_are_folded_if_there_are_still_too_many():
    letters = [f"{a}{b}" for a in "abcdefg" for b in "abcdefg"]
    names = ["source", *(f"clean.{each}" for each in letters), "sink"]
    upstreams = [[], *([v] for v in range(len(letters))), [len(letters)]]
    assert draw("big", names, upstreams).splitlines()[2] == "source → clean.* ×49 → sink"


def test_numbers_are_folded_before_pipelines():
    names, upstreams = fan(first="clean.part_{}", second="clean.row_{}")
    assert draw("big", names, upstreams).splitlines()[2] == "source → clean.part_* ×50 → clean.row_* ×50 → sink"


def test_small_graphs_are_not_folded():
    names, upstreams = fan(size=15)
    assert "×" not in draw("small", names, upstreams)


def test_groups_that_would_close_a_cycle_are_not_folded():
    """``outside`` is between tasks of one pipeline."""
    names = [f"clean.{chr(97 + k % 26)}{'x' * (k // 26)}" for k in range(50)]
    names.insert(25, "outside")
    folded = Folded(names, [[v - 1] if v else [] for v in range(51)], (), set())
    assert folded.names == names


def test_edges_of_a_group_are_dashed_if_all_are():
    names, upstreams = fan()
    dashed = {(0, k) for k in range(1, 51)} | {(1, 51)}
    folded = Folded(names, upstreams, (), dashed)
    assert (folded.names, folded.dashed) == (["source", "load_* ×50", "clean_* ×50", "sink"], {(0, 1)})


@given(graphs(most=60), st.integers(1, 5))
def test_folded_graphs_have_every_task_and_no_cycle(upstreams, kinds):
    names = [f"{'abcde'[v % kinds]}.{'xyz'[v % 3]}_{v}" for v in range(len(upstreams))]
    folded = Folded(names, upstreams, (), set())
    assert sum(folded.sizes) == len(names)
    assert all(u < v for v, ups in enumerate(folded.parents) for u in ups)


# ---- pipelines -------------------------------------------------------------------------------------------------------


def test_pipelines_show_themselves_in_notebooks():
    extract, load = Task(list, name="extract"), Task(len, name="load", retries=3)
    extract >> load
    dag = DAG("etl", tasks=[load])
    assert set(boxes(dag._repr_svg_())) == {"extract", "load"}
    assert dag._repr_html_() == f'<div style="overflow-x: auto">{dag.visualize("svg")}</div>'
    assert "retries 3" in dag.visualize("svg")


def test_wrong_pipelines_show_what_is_wrong_in_notebooks():
    one, two = Task(len, name="one"), Task(list, name="two")
    one >> two >> one
    dag = DAG("etl", tasks=[two])
    assert dag._repr_svg_() is None
    assert "dependency cycle: one → two → one" in dag._repr_html_()
