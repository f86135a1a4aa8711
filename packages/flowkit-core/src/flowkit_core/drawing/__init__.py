"""Drawings of a graph: text with box-drawing characters, SVG, Mermaid, and Graphviz. Pure functions."""

from __future__ import annotations

from .mermaid_dot import draw_dot, draw_mermaid
from .svg import draw_svg
from .text import draw_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["draw", "scrollable", "text_as_html"]

_FORMATS = ("text", "svg", "mermaid", "dot")


def draw(
    name: str,
    tasks: Sequence[str],
    upstreams: Sequence[Sequence[int]],
    *,
    format: str = "text",
    notes: Sequence[str] = (),
    dashed: Collection[tuple[int, int]] = (),
) -> str:
    """Draw a graph of tasks.

    Control characters in names, such as line breaks and terminal codes, are escaped; long names are shortened.

    Args:
        name: name of the pipeline.
        tasks: names of the tasks, in topological order.
        upstreams: for each task the indices of its direct upstreams, each smaller than its own.
        format: ``"text"``, a picture at most 120 columns wide. If a small graph does not fit, the notes are left out,
            then names are shortened; in one of more than 40 tasks, those whose names differ only in a number, or after
            a dot, are folded into groups; a graph too large for that is described level by level, in bounded length.
            ``"svg"``, the same as an SVG element, for web pages and notebooks. ``"mermaid"`` and ``"dot"`` (Graphviz)
            contain every task and every edge.
        notes: for each task a note, shown after its name in text (``extract (retries 3)``); may be empty.
        dashed: the edges without data, as pairs (index of the upstream, index of the downstream), which are drawn
            dashed. Pairs that are not in ``upstreams`` are ignored.

    Returns:
        The drawing, without a newline at its end.

    Raises:
        ValueError: ``format`` is none of these.

    >>> print(draw("etl", ["extract", "clean", "check", "load"], [[], [0], [0], [1, 2]]))
    etl: 4 tasks
    <BLANKLINE>
    extract ─┬─→ clean ─┬─→ load
             ╰─→ check ─╯

    >>> print(draw("etl", ["create", "extract", "load"], [[], [], [0, 1]], dashed=[(0, 2)]))
    etl: 3 tasks
    <BLANKLINE>
    create ╌╌┬─→ load
    extract ─╯
    <BLANKLINE>
    dashed: order only
    """
    if format not in _FORMATS:
        write = ""
        if str(format).endswith(".svg"):
            write = f"; to write a file, Path({format!r}).write_text(pipeline.visualize('svg'), 'utf-8')"
        raise ValueError(f"visualize() has no format {format!r}: use one of {', '.join(map(repr, _FORMATS))}{write}")
    parents = [list(dict.fromkeys(ups)) for ups in upstreams]  # an edge declared twice is one edge
    order = set(dashed).intersection((u, v) for v, ups in enumerate(parents) for u in ups)
    if format == "mermaid":
        return draw_mermaid(tasks, parents, order)
    if format == "dot":
        return draw_dot(name, tasks, parents, order)
    if format == "svg":
        return draw_svg(name, tasks, parents, notes, order)
    return draw_text(name, tasks, parents, notes, order)


def scrollable(svg: str) -> str:
    """Return an SVG element in an HTML element that scrolls if the picture is wider than the page.

    >>> scrollable("<svg></svg>")
    '<div style="overflow-x: auto"><svg></svg></div>'
    """
    return f'<div style="overflow-x: auto">{svg}</div>'


def text_as_html(text: str) -> str:
    """Return a text as HTML: escaped, in a ``<pre>`` element whose lines touch and do not wrap.

    >>> text_as_html("a → b")
    '<pre style="line-height: 1.2; white-space: pre; overflow-x: auto">a → b</pre>'
    """
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<pre style="line-height: 1.2; white-space: pre; overflow-x: auto">{escaped}</pre>'
