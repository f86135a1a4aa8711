"""Drawings of graphs: the layout of pictures, the edges they show, and names in them."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core.drawing import draw, text_as_html


def graph(wiring: str) -> tuple[list[str], list[list[int]]]:
    """Names and upstreams from ``"a > b c > d; a > d"``: a name stands where it is first seen."""
    names: list[str] = []
    edges: list[tuple[str, str]] = []
    for chain in wiring.split(";"):
        steps = [step.split() for step in chain.split(">")]
        names += [name for step in steps for name in step if name not in names]
        edges += [(u, v) for left, right in pairwise(steps) for v in right for u in left]
    ordered: list[str] = []
    while len(ordered) < len(names):
        ordered.append(
            next(v for v in names if v not in ordered and all(u in ordered for u, down in edges if down == v))
        )
    return ordered, [[ordered.index(u) for u, down in edges if down == v] for v in ordered]


def picture(wiring: str) -> str:
    """The picture without its header."""
    header, empty, *lines = draw("it", *graph(wiring)).split("\n")
    assert header.startswith("it: ")
    assert not empty
    return "\n".join(lines)


# --- the pictures people see first ------------------------------------------------------------------------------------

GOLDEN = {
    "extract > transform > load": """
extract → transform → load
""",
    "task1 > task2 task3 task4": """
       ╭─→ task2
task1 ─┼─→ task3
       ╰─→ task4
""",
    "task1 task2 > task3": """
task1 ─┬─→ task3
task2 ─╯
""",
    "extract > transform > validate enrich > load > notify": """
extract ─→ transform ─┬─→ validate ─┬─→ load ─→ notify
                      ╰─→ enrich ───╯
""",
    "a > b c > d e > f": """
a ─┬─→ b ─┬─→ d ─┬─→ f
   ╰─→ c ─┴─→ e ─╯
""",
    "extract > transform > manual_approval auto_approve; transform manual_approval auto_approve > load": """
                      ╭─→ manual_approval ─╮
extract ─→ transform ─┼─→ auto_approve ────┼─→ load
                      ╰────────────────────╯
""",
    "a > b > c > d > report; a b c > report": """
a ─┬─→ b ─┬───→ c ─┬───→ d ─┬─→ report
   │      ╰─╮      ╰─╮      │
   ╰────────┴────────┴──────╯
""",
    "one > two; three > four five > six; seven; eight": """
one → two

three ─┬─→ four ─┬─→ six
       ╰─→ five ─╯

seven   eight
""",
}


@pytest.mark.parametrize("wiring", GOLDEN)
def test_golden(wiring: str) -> None:
    """The pipelines of the README."""
    assert picture(wiring) == GOLDEN[wiring].strip("\n")


def test_long_chain_wraps() -> None:
    """A chain continues on the next line."""
    lines = picture(" > ".join(f"task_number_{i}" for i in range(20))).split("\n")
    assert len(lines) > 1
    assert all(line.startswith("  → task_number_") for line in lines[1:])
    assert max(map(len, lines)) <= 100


def test_deep_graph_flows_down() -> None:
    """A graph that is too wide from left to right is drawn from top to bottom."""
    layers = [f"the_first_of_layer_{i} the_second_of_layer_{i} > the_join_of_layer_{i}" for i in range(4)]
    text = picture(" > ".join(layers))
    assert "↓" in text
    assert "→" not in text
    assert max(map(len, text.split("\n"))) <= 100


def test_header_counts() -> None:
    """The header has the name of the pipeline and the number of tasks."""
    assert draw("etl", ["a"], [[]]) == "etl: 1 task\n\na"
    assert draw("etl", ["a", "b"], [[], [0]]).startswith("etl: 2 tasks\n\n")


def test_empty() -> None:
    """One sentence in text, a valid file in the other formats."""
    assert draw("etl", [], []) == "etl: no tasks, so there is nothing to draw."
    assert draw("etl", [], [], format="mermaid") == "flowchart TD"
    assert draw("etl", [], [], format="dot").startswith('digraph "etl" {')


def test_notes() -> None:
    """A note follows the name of its task; there may be fewer notes than tasks."""
    text = draw("etl", ["a", "b", "c"], [[], [0], [1]], notes=["retries 3", ""])
    assert text.endswith("a (retries 3) → b → c")


def test_repeated_edge_is_one() -> None:
    assert draw("etl", ["a", "b"], [[], [0, 0]]).endswith("a → b")
    assert draw("etl", ["a", "b"], [[], [0, 0]], format="dot").count("->") == 1


def test_unknown_format() -> None:
    """The error lists the formats, also for an empty graph."""
    with pytest.raises(ValueError, match="has no format 'png': use one of 'text', 'svg', 'mermaid', 'dot'"):
        draw("etl", [], [], format="png")
    with pytest.raises(ValueError, match=r"no format 'graph\.svg'.*Path\('graph\.svg'\)\.write_text\("):
        draw("etl", [], [], format="graph.svg")


def test_text_as_html() -> None:
    """Special characters are escaped, and line breaks are kept."""
    assert text_as_html("<b> & →") == (
        '<pre style="line-height: 1.2; white-space: pre; overflow-x: auto">&lt;b&gt; &amp; →</pre>'
    )


# --- a picture is true ------------------------------------------------------------------------------------------------

UP, DOWN, LEFT, RIGHT = (-1, 0), (1, 0), (0, -1), (0, 1)
ARMS = {
    "│": {UP, DOWN}, "─": {LEFT, RIGHT}, "╯": {UP, LEFT}, "╮": {DOWN, LEFT}, "╰": {UP, RIGHT}, "╭": {DOWN, RIGHT},
    "┤": {UP, DOWN, LEFT}, "├": {UP, DOWN, RIGHT}, "┴": {UP, LEFT, RIGHT}, "┬": {DOWN, LEFT, RIGHT},
    "┼": {UP, DOWN, LEFT, RIGHT}, "┆": {UP, DOWN}, "╌": {LEFT, RIGHT},
}  # fmt: skip
NAME = re.compile(r"t(\d+)[x…]*")  # may be shortened in the middle


def traced(text: str) -> set[tuple[int, int, bool]]:
    """Return the edges that follow from the lines of a picture, in the direction of the flow.

    An edge is the indices of two tasks, and whether any part of its line is dashed.
    """
    text = text.removesuffix("\n\ndashed: order only")
    lines = re.sub("\n  ([→⇢]) ", r" \1 ", text).split("\n")[2:]  # a chain may go on in the next line
    width = max(map(len, lines))
    grid = [line.ljust(width) for line in lines]
    names = {(r, c): int(m[1]) for r, line in enumerate(grid) for m in NAME.finditer(line) for c in range(*m.span())}

    def at(r: int, c: int) -> str:
        return grid[r][c] if 0 <= r < len(grid) and 0 <= c < width else " "

    edges = set()
    for (r, c), name in names.items():
        down = any(arrow in line for line in block_of(grid, r) for arrow in "↓⇣")
        back = UP if down else LEFT
        begin = (r + 1, c, DOWN) if down else (r, c + 2, RIGHT)
        attached = at(*begin[:2]) in "↓⇣" or UP in ARMS.get(at(*begin[:2]), ()) if down else at(r, c + 1) == " "
        starts = [(*begin, False)] if attached and at(*begin[:2]) != " " else []
        seen = set()
        while starts:
            state = starts.pop()
            if state in seen:
                continue
            seen.add(state)
            row, column, way, dashed = state
            sign = at(row, column)
            if sign in "→↓⇢⇣":
                target = names[row, column + 2] if sign in "→⇢" else names[row + 1, column]
                edges.add((name, target, dashed or sign in "⇢⇣"))
            elif sign in "│┆" and way in (LEFT, RIGHT):  # passes under
                starts.append((row + way[0], column + way[1], way, dashed))
            else:
                assert (-way[0], -way[1]) in ARMS[sign], f"a line ends in the void at {row}, {column}"
                dashed = dashed or sign in "┆╌"
                arms = ARMS[sign] - {back, (-way[0], -way[1])}
                starts += [(row + arm[0], column + arm[1], arm, dashed) for arm in arms]
    return edges


def block_of(grid: list[str], row: int) -> list[str]:
    """The lines around *row* up to an empty one."""
    first = last = row
    while first and grid[first - 1].strip():
        first -= 1
    while last + 1 < len(grid) and grid[last + 1].strip():
        last += 1
    return grid[first : last + 1]


@st.composite
def dags(draw_from: st.DrawFn, most: int = 12) -> list[list[int]]:
    """Upstreams of a random graph."""
    size = draw_from(st.integers(1, most))
    return [sorted(draw_from(st.sets(st.integers(0, v - 1), max_size=3))) if v else [] for v in range(size)]


@given(dags(), st.integers(0, 25))
def test_lines_are_the_edges(upstreams: list[list[int]], padding: int) -> None:
    """The edges that a reader can follow in a picture are those of the graph."""
    tasks = [f"t{v}" + "x" * (padding * v % 26) for v in range(len(upstreams))]
    text = draw("it", tasks, upstreams)
    if "level" not in text:
        assert sorted(map(int, NAME.findall(text))) == [*range(len(tasks))]
        assert "…" in text or all(task in text.split() for task in tasks)
        assert traced(text) == {(u, v, False) for v, ups in enumerate(upstreams) for u in ups}, text


@given(dags(most=11))
def test_every_format_is_complete_and_steady(upstreams: list[list[int]]) -> None:
    """Mermaid and dot have every task and edge; drawings of one graph are equal; text has at most 120 columns."""
    tasks = [f"t{v}" for v in range(len(upstreams))]
    edges = [(u, v) for v, ups in enumerate(upstreams) for u in ups]
    mermaid = draw("it", tasks, upstreams, format="mermaid").split("\n")
    assert mermaid[0] == "flowchart TD"
    assert [line.strip() for line in mermaid[1:]] == [
        *(f'n{v}["{task}"]' for v, task in enumerate(tasks)),
        *(f"n{u} --> n{v}" for u, v in edges),
    ]
    dot = draw("it", tasks, upstreams, format="dot")
    assert re.findall(r"n(\d+) -> n(\d+);", dot) == [(str(u), str(v)) for u, v in edges]
    assert re.findall(r'n\d+ \[label="(\w+)"\];', dot) == tasks
    text = draw("it", tasks, upstreams)
    assert draw("it", tuple(tasks), tuple(map(tuple, upstreams))) == text
    assert max(map(len, text.split("\n"))) <= 120


# --- pictures that would be too wide ----------------------------------------------------------------------------------


def ladder(name: str, levels: int = 7) -> tuple[list[str], list[list[int]]]:
    """Two tasks per level, each waiting for both of the level before, and one task at the end."""
    tasks = [f"{name}_{v:02}" for v in range(2 * levels + 1)]
    return tasks, [[v - v % 2 - 2, v - v % 2 - 1] if v > 1 else [] for v in range(2 * levels + 1)]


def test_notes_too_wide_are_left_out() -> None:
    """A remark says that they are left out."""
    tasks, upstreams = ladder("a_long_name_of_a_task_in_a_pipeline")
    text = draw("it", tasks, upstreams, notes=["retries 3, when, one_success"] * 15)
    assert text.endswith("\n\nRemarks such as (when) are left out: the picture would be too wide.")
    assert all(task in text for task in tasks)
    assert "retries" not in text
    assert text.startswith(draw("it", tasks, upstreams))


def test_names_too_wide_are_shortened() -> None:
    """Shortened names are distinct; the legend of dashed edges is kept."""
    tasks = [f"{v}_of_seven_tasks_with_very_long_names" for v in range(7)]
    upstreams = [[], [0], [0], [0], [0], [1, 2, 3, 4], [5]]
    text = draw("it", tasks, upstreams, notes=["retries 3"], dashed=[(0, 1)])
    assert max(map(len, text.split("\n"))) <= 120
    assert all(f"{v}_of_seven…ong_names" in text for v in range(7))
    assert "level" not in text
    assert text.split("\n")[-2:] == [
        "dashed: order only",
        "Remarks such as (when) are left out: the picture would be too wide.",
    ]


def test_names_that_look_alike_when_shortened_are_not_shortened() -> None:
    """The graph is described level by level instead."""
    tasks = [f"a_long_name_of_task_{v}_in_a_wide_layer" for v in range(7)]
    text = draw("it", tasks, [[], [0], [0], [0], [0], [1, 2, 3, 4], [5]])
    assert text.endswith('Too large or too tangled for a picture: format="mermaid" and format="dot" hold every edge.')


# --- edges that only order --------------------------------------------------------------------------------------------


def styled(wiring: str, dashed: str, format: str = "text") -> str:
    """The drawing of *wiring* without its header, with the edges in ``"a>b c>d"`` dashed."""
    names, upstreams = graph(wiring)
    pairs = [(names.index(u), names.index(v)) for u, v in (edge.split(">") for edge in dashed.split())]
    text = draw("it", names, upstreams, format=format, dashed=pairs)
    return text.split("\n\n", 1)[1] if format == "text" else text


DASHED = {
    ("a > b > c", "b>c"): """
a → b ⇢ c
""",
    ("create_table extract > load", "create_table>load"): """
create_table ╌┬─→ load
extract ──────╯
""",
    ("migrate > load report; extract > load", "migrate>load migrate>report"): """
migrate ╌┬╌╌╌⇢ report
         ╰╌┬─→ load
extract ───╯
""",
    ("a > b c d > e > f; a > f", "a>f c>e"): """
   ╭─→ b ─╮
a ─┼─→ c ╌┼─→ e ─┬─→ f
   ├─→ d ─╯      ┆
   ╰╌╌╌╌╌╌╌╌╌╌╌╌╌╯
""",
    ("a b > c d", "a>d"): """
a ─┬─╮
   ┆ │
   ╰╌│╌╮ ╭─→ c
     ├─┆─╯
b ─┬─╯ ╰╌┬─→ d
   │     │
   ╰─────╯
""",
}


@pytest.mark.parametrize(("wiring", "dashed"), DASHED)
def test_dashed_edges_golden(wiring: str, dashed: str) -> None:
    """Parts of a line that a solid edge shares are solid; a legend explains dashed lines."""
    expected = DASHED[wiring, dashed].strip("\n")
    assert styled(wiring, dashed) == f"{expected}\n\ndashed: order only"


def test_dashed_edges_from_top_to_bottom() -> None:
    layers = [f"the_first_of_layer_{i} the_second_of_layer_{i} > the_join_of_layer_{i}" for i in range(4)]
    dashed = "the_first_of_layer_0>the_join_of_layer_0 the_join_of_layer_0>the_first_of_layer_1"
    lines = styled(" > ".join(layers), dashed).split("\n")
    assert lines[:11] == [
        "the_first_of_layer_0   the_second_of_layer_0",
        "         ┆                       │",
        "         ╰╌╌╌╌╌╌╌╌╌╌╌┬───────────╯",
        "                     │",
        "                     ↓",
        "            the_join_of_layer_0",
        "                     │",
        "         ╭╌╌╌╌╌╌╌╌╌╌╌┴───────────╮",
        "         ┆                       │",
        "         ⇣                       ↓",
        "the_first_of_layer_1   the_second_of_layer_1",
    ]
    assert lines[-2:] == ["", "dashed: order only"]
    assert not any(c in line for line in lines[11:-2] for c in "┆╌⇣")


def test_dashed_chain_wraps_at_dashed_arrow() -> None:
    """A continuation line of a chain begins with the arrow of its edge."""
    names = [f"task_number_{i}" for i in range(20)]
    text = draw("it", names, [[i - 1] if i else [] for i in range(20)], dashed=[(i, i + 1) for i in range(19)])
    assert all(line.startswith("  ⇢ task_number_") for line in text.split("\n")[3:-2])
    assert "→" not in text


def test_dashed_edges_mermaid_and_dot() -> None:
    assert styled("a > b > c; a > c", "a>c", "mermaid").split("\n")[4:] == [
        "    n0 --> n1",
        "    n1 --> n2",
        "    n0 -.-> n2",
    ]
    assert styled("a > b > c; a > c", "a>c", "dot").split("\n")[6:] == [
        "    n0 -> n1;",
        "    n1 -> n2;",
        "    n0 -> n2 [style=dashed];",
        "}",
    ]


@given(st.data(), dags(), st.integers(0, 25))
def test_dashed_lines_are_the_dashed_edges(data: st.DataObject, upstreams: list[list[int]], padding: int) -> None:
    """A path with a dashed part is a dashed edge, any other is a solid edge."""
    tasks = [f"t{v}" + "x" * (padding * v % 26) for v in range(len(upstreams))]
    edges = [(u, v) for v, ups in enumerate(upstreams) for u in ups]
    dashed = data.draw(st.sets(st.sampled_from(edges))) if edges else set()
    text = draw("it", tasks, upstreams, dashed=dashed)
    assert text.endswith("\n\ndashed: order only") == bool(dashed) or "level" in text
    assert max(map(len, text.split("\n"))) <= 120
    if "level" not in text:
        assert traced(text) == {(u, v, (u, v) in dashed) for u, v in edges}, text


@given(st.data(), dags())
def test_dashed_edges_complete_in_mermaid_and_dot(data: st.DataObject, upstreams: list[list[int]]) -> None:
    """Without styles, the drawings equal those of solid edges."""
    tasks = [f"t{v}" for v in range(len(upstreams))]
    edges = [(u, v) for v, ups in enumerate(upstreams) for u in ups]
    dashed = data.draw(st.sets(st.sampled_from(edges))) if edges else set()
    mermaid = draw("it", tasks, upstreams, format="mermaid", dashed=dashed)
    assert mermaid.replace("-.->", "-->") == draw("it", tasks, upstreams, format="mermaid")
    assert re.findall(r"n(\d+) -\.-> n(\d+)", mermaid) == [(str(u), str(v)) for u, v in edges if (u, v) in dashed]
    dot = draw("it", tasks, upstreams, format="dot", dashed=dashed)
    assert dot.replace(" [style=dashed]", "") == draw("it", tasks, upstreams, format="dot")
    styles = re.findall(r"n(\d+) -> n(\d+) \[style=dashed\];", dot)
    assert styles == [(str(u), str(v)) for u, v in edges if (u, v) in dashed]


@pytest.mark.parametrize("format", ["text", "mermaid", "dot"])
def test_dashed_pair_without_edge_is_ignored(format: str) -> None:
    """It adds no legend."""
    tasks, upstreams = ["a", "b", "c"], [[], [0], [0]]
    drawn = draw("it", tasks, upstreams, format=format, dashed=[(1, 2), (1, 0)])
    assert drawn == draw("it", tasks, upstreams, format=format)


def test_dashed_edges_in_summary() -> None:
    """Upstreams without data follow a dashed arrow, on a line of their own if they are long."""
    size = 14
    tasks = [f"t{v}" for v in range(size)]
    dashed = [(0, 1), (1, 4), (2, 4), *((u, size - 1) for u in range(size - 1))]
    lines = draw("all", tasks, [[*range(v)] for v in range(size)], dashed=dashed).split("\n")
    assert lines[2] == " 1  t0 ⇢ t1"
    assert lines[5] == " 5  t4 ← t0, t3 ⇠ t1, t2"
    assert lines[14] == "14  t13 ⇠ t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, … and 3 more"
    assert lines[-2] == "dashed: order only"

    wide = [f"source_with_a_long_name_{v}" for v in range(20)] + [f"target_with_a_long_name_{v}" for v in range(20)]
    edges = [(u, v) for v in range(20, 40) for u in range(20)]
    text = draw("wide", wide, [*[[]] * 20, *[[*range(20)]] * 20], dashed=[(u, v) for u, v in edges if u < v - 20])
    assert max(map(len, text.split("\n"))) <= 120


def test_dashed_arrow_in_name_is_quoted_next_to_dashed_edges() -> None:
    assert '"a ⇢ b" ⇢ c' in draw("it", ["a ⇢ b", "c"], [[], [0]], dashed=[(0, 1)])


# --- large graphs -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_long_chain_in_bounded_length() -> None:
    """100 000 tasks are one line of text, and complete in the other formats."""
    size = 100_000
    names, upstreams = [f"t{i}" for i in range(size)], [[i - 1] if i else [] for i in range(size)]
    text = draw("deep", names, upstreams)
    assert text.split("\n")[0] == "deep: 100 000 tasks, 99 999 edges, 100 000 levels (the widest has 1 task)"
    assert text.split("\n")[2].strip() == "1  t0 → t1 → t2 → t3 → … 99 995 more … → t99999"
    assert draw("deep", names, upstreams, format="mermaid").count("-->") == size - 1
    assert draw("deep", names, upstreams, format="dot").count("->") == size - 1


def test_wide_graph_in_bounded_length() -> None:
    """A fan-out to 10 000 tasks of different names shows their number and their upstream."""
    upstreams = [[], *[[0]] * 10_000, [*range(10_001)]]
    names = [f"t{i}".translate({ord("0") + digit: "abcdefghij"[digit] for digit in range(10)}) for i in range(10_002)]
    text = draw("wide", names, upstreams)
    assert text.split("\n") == [
        "wide: 10 002 tasks, 20 001 edges, 3 levels (the widest has 10 000 tasks)",
        "",
        "1  ta",
        "2  tb, tc, td, te, tf, tg, th, ti, tj, tba, … and 9 990 more ← ta",
        "3  tbaaab ← ta, tb, tc, td, te, tf, tg, th, ti, tj, … and 9 991 more",
        "",
        'Too large or too tangled for a picture: format="mermaid" and format="dot" hold every edge.',
    ]


def test_summary_of_a_tangle() -> None:
    """The summary has a bounded length and counts what it leaves out."""
    upstreams = [sorted({max(0, v - 2 - v % 7), max(0, v - 1 - v % 5)}) if v else [] for v in range(5_000)]
    lines = draw("tangle", [f"t{v}" for v in range(5_000)], upstreams).split("\n")
    assert len(lines) < 160
    assert max(map(len, lines)) <= 120
    assert any(re.fullmatch(r" +⋮  [\d ]+ more levels", line) for line in lines)
    assert lines[2].split() == ["1", "t0"]


def test_too_tangled_for_lines() -> None:
    """A graph with too many crossings is described level by level."""
    text = draw("all", [f"t{v}" for v in range(20)], [[*range(v)] for v in range(20)])
    assert "\n 3  t2 ← t0, t1\n" in text


# --- names are data ---------------------------------------------------------------------------------------------------

HOSTILE = [
    "", " ", "a b", "a  b", "line\nbreak", "\r", "nul\0", "\x1b[31mred\x1b[0m", "bell\a", "\u202eevil", "%s{}{0}",
    "x" * 10_000, "日本語" * 30, "e\u0301", "\u0301", "z\u0301" * 5_000, "\ud800", "a → b", "│", "../../etc/passwd",
    '"]; n0 --> n9', "%%{init: {}}%%", "`code`", "#quot;", "fa:fa-car", "1. item", "end", "\\",
    "\\N", "&amp;", "<b>x</b>",
    '\\"];', "ä", "🦀", "קובץ", "\u3000",
]  # fmt: skip


@pytest.mark.parametrize("format", ["text", "mermaid", "dot"])
@pytest.mark.parametrize("name", HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_hostile_name(name: str, format: str) -> None:
    """A name adds no lines, terminal codes or changes of direction, and its length is bounded."""
    plain = draw("it", ["first", "x", "y", "last"], [[], [0], [0], [1, 2]], format=format)
    text = draw(name, ["first", name, "y", "last"], [[], [0], [0], [1, 2]], format=format)
    assert text.count("\n") == plain.count("\n")
    assert text.replace("\n", "").isprintable()
    assert len(text) < 2_500


@given(st.lists(st.text(), min_size=1, max_size=6), st.sampled_from(["text", "svg", "mermaid", "dot"]))
def test_any_name(names: list[str], format: str) -> None:
    """Any name, in any format: no exception, and printable characters only."""
    upstreams = [[0] if v else [] for v in range(len(names))]
    text = draw(names[0], names, upstreams, format=format, notes=names)
    assert text.replace("\n", "").isprintable()
    text.encode()


def test_escapes_are_readable() -> None:
    """Control characters are escaped as in Python; names that look like parts of a picture are quoted."""
    assert draw("a\nb", ["x\x1b[0m"], [[]]) == "a\\nb: 1 task\n\nx\\x1b[0m"
    assert draw("it", ["a → b", "c"], [[], [0]]).endswith('\n"a → b" → c')
    assert draw("it", [""], [[]]).endswith('\n""')


def test_long_names_are_shortened_in_the_middle() -> None:
    text = draw("it", ["extract_" + "x" * 200 + "_daily"], [[]]).split("\n")[2]
    assert text.startswith("extract_xxx")
    assert text.endswith("xxx_daily")
    assert len(text) == 40
    assert "…" in text


def test_wide_characters_keep_lines_together() -> None:
    """Wide characters have two cells, combining marks have none."""
    assert draw("it", ["a", "日本", "e\u0301\u0301", "d"], [[], [0], [0], [1, 2]]).endswith(
        "a ─┬─→ 日本 ─┬─→ d\n   ╰─→ e\u0301\u0301 ────╯"
    )


def test_mermaid_and_dot_escapes() -> None:
    """Quotes, entities, escapes and directives are encoded."""
    name = 'a"b`#%%{\\N&<'
    assert draw("it", [name], [[]], format="mermaid") == (
        'flowchart TD\n    n0["a#34;b#96;#35;#37;#37;#123;#92;N#38;#60;"]'
    )
    assert 'label="a\\"b`#%%{\\\\N&amp;<"' in draw("it", [name], [[]], format="dot")


@pytest.mark.parametrize("seed", range(6))
def test_fifteen_tasks_in_seven_levels_are_a_picture(seed: int) -> None:
    """Graphs as pipelines have them, with names of two or three words."""
    random = Random(seed)
    verbs = ["extract", "validate", "transform", "join", "aggregate", "publish", "archive"]
    nouns = ["orders", "customers", "products", "invoices", "payments"]
    names = random.sample([f"{verb}_{noun}{more}" for verb in verbs for noun in nouns for more in ("", "_daily")], 15)
    levels = [number * 7 // 15 for number in range(15)]
    upstreams: list[list[int]] = []
    for number, level in enumerate(levels):
        before = [other for other in range(number) if levels[other] < level]
        last = [other for other in before if levels[other] == level - 1]
        chosen = {random.choice(last)} if last else set()
        chosen.update(random.sample(before, min(len(before), random.choice([0, 0, 1, 2]))))
        upstreams.append(sorted(chosen))
    text = draw("sales", names, upstreams)
    assert "Too large" not in text
    assert max(map(len, text.split("\n"))) <= 120
    assert all(name in text for name in names)
