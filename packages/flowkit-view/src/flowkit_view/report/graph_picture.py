"""Function `draw_graph`: the graph of a run as SVG, each box colored by state, with its share of the time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from flowkit_core._text import escape_control_chars
from flowkit_core.drawing.layers import Layers
from flowkit_view.texts import duration_text

from .run_model import STATES

if TYPE_CHECKING:
    from collections.abc import Collection

    from .run_model import RunModel

MAX_BOXES = 120
"""Number of boxes up to which a graph is drawn; tasks with similar names share a box in a larger one."""
LONGEST = 24
"""Maximum number of characters of a name in a box."""
CHAR, HEIGHT, GAP_X, GAP_Y = 7.2, 30, 46, 12
"""Width of a character, height of a box, and the space between boxes, in pixels."""


class _Box:
    """One box: a task, or all tasks whose names differ in numbers only, and that have the same upstream boxes.

    Attributes:
        name: the name that it shows.
        members: indices of its tasks.
        upstream: indices of the boxes that it waits for.
    """

    def __init__(self, name: str, upstream: tuple[int, ...]) -> None:
        self.name = name
        self.upstream = upstream
        self.members: list[int] = []


def draw_graph(run: RunModel, critical: Collection[int]) -> Markup:
    """Return the picture of the graph; empty if there are no tasks, or too many boxes to follow.

    Args:
        run: the run.
        critical: indices of the tasks on the critical path, whose boxes are outlined.
    """
    boxes = _boxes(run, fold=len(run.tasks) > MAX_BOXES)
    if not boxes or len(boxes) > MAX_BOXES:
        return Markup()
    layers = Layers([box.upstream for box in boxes], ())
    layers.reduce_crossings()
    labels = [_label(box) for box in boxes]
    positions = _Positions(layers, [max(46.0, len(label) * CHAR + 18) for label in labels])
    total = max(sum(attempt.seconds for task in run.tasks for attempt in task.attempts), 1e-9)
    parts = _edges(layers, positions)
    for number, box in enumerate(boxes):
        x, y, box_width = positions.x[number], positions.y[number], positions.widths[number]
        parts.append(_draw_box(run, box, labels[number], x, y, box_width, critical, total))
    width, height = positions.width, positions.height
    opening = (
        f'<svg class="graph" role="img" aria-label="Graph of {len(boxes)} boxes" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
    )
    return Markup("".join([opening, *parts, "</svg>"]))  # noqa: S704 - names and titles are escaped in _draw_box


class _Positions:
    """Positions of the boxes, in columns from left to right, and of the points where edges pass a column.

    Args:
        layers: the boxes of each column, and after the boxes the points.
        widths: the widths of the boxes.

    Attributes:
        x, y: for each box or point its left end, and its middle.
        widths: for each of them its width; that of a point is the width of its column.
        width, height: size of the picture.
        boxes: number of boxes; larger vertices are points.
    """

    def __init__(self, layers: Layers, widths: list[float]) -> None:
        count, boxes = len(layers.ups), len(widths)
        self.x, self.y = [0.0] * count, [0.0] * count
        self.widths = [*widths, *[0.0] * (count - boxes)]
        tallest = max(len(layer) for layer in layers.layers)
        x = 4.0
        for layer in layers.layers:
            width = max((widths[vertex] for vertex in layer if vertex < boxes), default=0.0)
            top = (tallest - len(layer)) * (HEIGHT + GAP_Y) / 2 + 4
            for row, vertex in enumerate(layer):
                self.x[vertex], self.y[vertex] = x, top + row * (HEIGHT + GAP_Y) + HEIGHT / 2
                if vertex >= boxes:
                    self.widths[vertex] = width
            x += width + GAP_X
        self.width, self.height = x - GAP_X + 4, tallest * (HEIGHT + GAP_Y) + 4
        self.boxes = boxes


def _edges(layers: Layers, positions: _Positions) -> list[str]:
    parts = []
    x, y = positions.x, positions.y
    for vertex, sources in enumerate(layers.ups):
        if vertex >= positions.boxes:  # an edge passes here
            parts.append(f'<path class="edge" d="M{x[vertex]:.0f} {y[vertex]:.0f}h{positions.widths[vertex]:.0f}"/>')
        for source in sources:
            start = x[source] + positions.widths[source]
            middle = (start + x[vertex]) / 2
            parts.append(
                f'<path class="edge" d="M{start:.0f} {y[source]:.0f}C{middle:.0f} {y[source]:.0f} {middle:.0f} '
                f'{y[vertex]:.0f} {x[vertex]:.0f} {y[vertex]:.0f}"/>'
            )
    return parts


def _boxes(run: RunModel, *, fold: bool) -> list[_Box]:
    boxes: list[_Box] = []
    box_of: list[int] = []
    known: dict[tuple[str, tuple[int, ...]], int] = {}
    for index, task in enumerate(run.tasks):
        upstream = tuple(dict.fromkeys(box_of[source] for source in task.upstream))
        name = re.sub(r"\d+", "#", task.name) if fold else task.name
        key = (name, upstream) if fold else (task.name, (index,))
        if key not in known:
            known[key] = len(boxes)
            boxes.append(_Box(task.name, upstream))
        box_of.append(known[key])
        boxes[known[key]].members.append(index)
        if len(boxes) > MAX_BOXES:
            return boxes
    for box in boxes:
        if len(box.members) > 1:
            box.name = re.sub(r"\d+", "#", box.name)
    return boxes


def _label(box: _Box) -> str:
    name = escape_control_chars(box.name)
    count = f" x {len(box.members)}" if len(box.members) > 1 else ""
    return (name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…") + count


def _draw_box(
    run: RunModel, box: _Box, label: str, x: float, y: float, width: float, critical: Collection[int], total: float
) -> str:
    states = {run.tasks[index].state for index in box.members}
    worst = ("failed", "running", "upstream_failed", "cancelled", "pending", "skipped", "succeeded")
    state = next(each for each in worst if each in states)
    seconds = sum(attempt.seconds for index in box.members for attempt in run.tasks[index].attempts)
    share = min(1.0, seconds / total)
    outlined = " critical" if any(index in critical for index in box.members) else ""
    counts = [
        f"{sum(run.tasks[index].state == each for index in box.members)} {each}" for each in STATES if each in states
    ]
    what = ", ".join(counts) if len(box.members) > 1 else state
    title = (
        f"{escape_control_chars(box.name)}: {what.replace('_', ' ')}, {duration_text(seconds)}, {share:.0%} of the time"
    )
    top = y - HEIGHT / 2
    return (
        f'<g class="box {state}{outlined}"><title>{escape(title)}</title>'
        f'<rect class="body" x="{x:.0f}" y="{top:.0f}" width="{width:.0f}" height="{HEIGHT}" rx="5"/>'
        f'<rect class="share" x="{x + 3:.0f}" y="{top + HEIGHT - 6:.0f}" width="{share * (width - 6):.1f}" height="3"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + 2:.0f}">{escape(label)}</text></g>'
    )
