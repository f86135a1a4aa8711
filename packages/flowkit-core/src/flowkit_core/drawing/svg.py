"""Pictures of a graph as SVG: boxes in layers from left to right, without scripts, styles or references to files.

All colors are readable on light and on dark pages: boxes have a fill of their own, and lines and titles are gray.
"""

from __future__ import annotations

from itertools import pairwise

from .folding import FOLDED, Folded, levels
from .labels import LABEL_CELLS, cell_width, format_count, visible_name
from .layered_layout import connected_parts, solve_lanes
from .layers import Layers, mean
from .summary import LEGEND, summarize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_TASKS, _MAX_EDGES = 400, 1_500  # of a picture, after folding
_MAX_SPAN = 20_000  # sum of the numbers of layers that the edges pass
_CELL, _LINE = 7.9, 17.0  # width of a character and height of a line, in pixels, of the font below
_FONT = 'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="13"'
_BOX, _PASSING, _MARGIN = 32.0, 8.0, 16.0  # heights of a box and of a line that passes a layer, and the margin
_GAP_X, _GAP_Y = 56.0, 14.0  # between layers, and between boxes
_MAX_ROW = 1_000.0  # width of a row of tasks without edges
_BLUE, _GREEN = ("#dbe7ff", "#5277c3", "#14284b"), ("#d9f0e0", "#3f8a5c", "#10331f")  # fill, border, text
_GRAY = "#7d8793"
_ARROW = (
    '<defs><marker id="flowkit-arrow" viewBox="0 0 8 8" refX="7" refY="4" '
    'markerWidth="8" markerHeight="8" orient="auto">'
    f'<path d="M0 0 8 4 0 8z" fill="{_GRAY}"/></marker></defs>'
)


class _Picture:
    """The elements of a picture, and its size so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []  # drawn before the boxes
        self.boxes: list[str] = []
        self.width = 0.0
        self.height = _MARGIN

    def add_box(self, x: float, y: float, label: str, name: str, note: str, *, is_group: bool) -> None:
        """Add the box of a task, or of a group; x is its left side, and y its middle."""
        fill, border, color = _GREEN if is_group else _BLUE
        width, height = _width(label, note), _BOX + _LINE * bool(note)
        texts = [(label, 13.0, color)] + ([(note, 11.0, border)] if note else [])
        self.boxes.append(f"<g><title>{_escaped(name)}</title>")
        size = f'x="{x:.0f}" y="{y - height / 2:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6"'
        if is_group:
            self.boxes.append(f'<rect {size} transform="translate(4 4)" fill="{fill}" stroke="{border}"/>')
        self.boxes.append(f'<rect {size} fill="{fill}" stroke="{border}"/>')
        for number, (text, font, ink) in enumerate(texts):
            at = y - _LINE * (len(texts) - 1) / 2 + _LINE * number + font * 0.35
            self.boxes.append(
                f'<text x="{x + width / 2:.0f}" y="{at:.1f}" text-anchor="middle" font-size="{font:.0f}" '
                f'fill="{ink}">{_escaped(text)}</text>'
            )
        self.boxes.append("</g>")
        self.width, self.height = max(self.width, x + width + 4), max(self.height, y + height / 2 + 4)

    def add_text(self, text: str, *, is_title: bool = False) -> None:
        """Add a line of text below everything else."""
        weight = ' font-weight="bold"' if is_title else ""
        self.boxes.append(
            f'<text x="{_MARGIN:.0f}" y="{self.height + _LINE * 0.7:.1f}" fill="{_GRAY}" xml:space="preserve"{weight}>'
            f"{_escaped(text)}</text>"
        )
        self.width = max(self.width, _MARGIN + _CELL * cell_width(text))
        self.height += _LINE

    def text(self, title: str) -> str:
        """Return the SVG element."""
        width, height = self.width + _MARGIN, self.height + _MARGIN
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {_FONT}><title>{_escaped(title)}</title>'
        lines = f'<g fill="none" stroke="{_GRAY}" stroke-width="1.5">'
        return "\n".join([head, _ARROW, lines, *self.lines, "</g>", *self.boxes, "</svg>"])


def draw_svg(
    name: str, tasks: Sequence[str], parents: list[list[int]], notes: Sequence[str], dashed: set[tuple[int, int]]
) -> str:
    """Return a picture as SVG; or a summary in one, if the graph is too large for a picture, also after folding."""
    shown = visible_name(name, LABEL_CELLS) if name else '""'
    title = f"{shown}: {format_count(len(tasks), 'task')}"
    picture = _Picture()
    picture.add_text(title, is_title=True)
    picture.height += _GAP_Y
    if not tasks:
        picture.add_text("no tasks, so there is nothing to draw")
        return picture.text(title)
    graph = Folded(tasks, parents, notes, dashed)
    if _is_too_large(graph.parents):
        for line in summarize(shown, tasks, parents, dashed).splitlines()[2:]:
            picture.add_text(line)
        return picture.text(title)
    single: list[int] = []
    for part in connected_parts(graph.parents):
        if len(part) == 1:
            single += part
        else:
            _draw_part(picture, graph, part)
    _draw_singles(picture, graph, single)
    remarks = [LEGEND] if graph.dashed else []
    remarks += [FOLDED] if max(graph.sizes) > 1 else []
    for remark in remarks:
        picture.height += _GAP_Y / 2
        picture.add_text(remark)
    return picture.text(title)


def _is_too_large(parents: Sequence[Sequence[int]]) -> bool:
    edges = sum(map(len, parents))
    if len(parents) > _MAX_TASKS or edges > _MAX_EDGES:
        return True
    level_of = levels(parents)
    return sum(level_of[v] - level_of[u] for v, ups in enumerate(parents) for u in ups) > _MAX_SPAN


def _width(label: str, note: str) -> float:
    return 20 + max(_CELL * cell_width(label), 0.85 * _CELL * cell_width(note))


def _draw_singles(picture: _Picture, graph: Folded, single: Sequence[int]) -> None:
    """Draw tasks without edges in rows."""
    x, y = _MARGIN, picture.height + _BOX
    for v in single:
        label = visible_name(graph.names[v], LABEL_CELLS)
        width = _width(label, graph.notes[v])
        if x > _MARGIN and x + width > _MAX_ROW:
            x, y = _MARGIN, y + _BOX + _LINE + _GAP_Y
        picture.add_box(x, y, label, graph.names[v], graph.notes[v], is_group=graph.sizes[v] > 1)
        x += width + _GAP_Y
    picture.height += _GAP_Y if single else 0


def _draw_part(picture: _Picture, graph: Folded, part: Sequence[int]) -> None:
    """Draw a connected part below everything else."""
    number = {v: k for k, v in enumerate(part)}
    styles = {(number[u], number[v]) for u, v in graph.dashed if v in number}
    layers = Layers([[number[u] for u in graph.parents[v]] for v in part], styles)
    layers.reduce_crossings()
    labels = [visible_name(graph.names[v], LABEL_CELLS) for v in part]
    notes = [graph.notes[v] for v in part]
    heights = [_BOX + _LINE * bool(note) for note in notes]
    heights += [_PASSING] * (len(layers.ups) - len(part))
    ys = _lanes(layers, heights)
    top = picture.height + _GAP_Y + max(heights) / 2
    ys = [y - min(ys) + top for y in ys]
    left: list[float] = [0.0] * len(ys)  # of a box; of a line that passes a layer, where it begins
    right: list[float] = [0.0] * len(ys)
    stops: list[float] = [0.0] * len(ys)  # right side of the widest box of the layer
    x = _MARGIN
    for layer in layers.layers:
        widths = {v: _width(labels[v], notes[v]) for v in layer if v < len(part)}
        stop = x + max(widths.values(), default=0.0)
        for v in layer:
            left[v] = x
            right[v] = x + widths[v] if v in widths else stop
            stops[v] = stop
        x = stop + _GAP_X
    for v, task in enumerate(part):
        picture.add_box(left[v], ys[v], labels[v], graph.names[task], notes[v], is_group=graph.sizes[task] > 1)
    for u, downs in enumerate(layers.downs):
        for v in downs:
            end = left[v] - (1.0 if v < len(part) else 0.0)
            bend = (left[v] - stops[u]) / 2
            points = ((stops[u] + bend, ys[u]), (end - bend, ys[v]), (end, ys[v]))
            curve = " ".join(f"{x:.0f} {y:.1f}" for x, y in points)
            path = f"M{right[u]:.0f} {ys[u]:.1f}H{stops[u]:.0f}C{curve}"
            if v >= len(part):
                path += f"H{right[v]:.0f}"
            arrow = ' marker-end="url(#flowkit-arrow)"' if v < len(part) else ""
            style = ' stroke-dasharray="5 4"' if (u, v) in layers.dashed else ""
            picture.lines.append(f'<path d="{path}"{style}{arrow}/>')
    picture.height = max(picture.height, *(y + _PASSING for y in ys)) + _GAP_Y


def _lanes(layers: Layers, heights: Sequence[float]) -> list[float]:
    """Return the middle of each vertex across the layers, so that lines are as straight as their order allows."""
    rows = []
    at = [0.0] * len(heights)
    for layer in layers.layers:
        offsets = [0.0]
        for u, v in pairwise(layer):
            offsets.append(offsets[-1] + (heights[u] + heights[v]) / 2 + _GAP_Y)
        rows.append((layer, offsets))
        for v, offset in zip(layer, offsets):
            at[v] = offset
    both = [ups + downs for ups, downs in zip(layers.ups, layers.downs)]
    forth, back = (layers.ups, rows), (layers.downs, rows[::-1])
    for near, ordered in [forth, back] * 6 + [(both, rows), (both, rows[::-1])] * 4:
        for layer, offsets in ordered:
            wanted = [mean([at[w] for w in near[v]] or [at[v]]) for v in layer]
            weights = [max(0.01, float(len(near[v]))) for v in layer]
            for v, lane in zip(layer, solve_lanes(wanted, weights, offsets)):
                at[v] = lane
    return at


def _escaped(text: str) -> str:
    """Return text for an element of XML, on one line, without characters that XML cannot have."""
    visible = visible_name(text, 10_000) if text else text
    return visible.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
