"""Pictures of a graph as text, with box-drawing characters.

A picture flows in the direction of its arrows: each line leads from a task to its downstreams. Lines that touch join
(``┼``, ``┬``, ``╯``); a line with a gap, as in ``─│─``, passes under the other. An edge is dashed if any part of its
line is (``╌``, ``┆``, ``⇢``); parts that it shares with a solid edge are solid.
"""

from __future__ import annotations

from itertools import pairwise

from .folding import FOLDED, Folded
from .labels import (
    DASHED_SIGNS,
    LABEL_CELLS,
    SHORT_CELLS,
    SIGNS,
    WIDTHS,
    arrow,
    cell_width,
    format_count,
    make_label,
    visible_name,
    wrap_words,
)
from .layered_layout import connected_parts, layout
from .summary import LEGEND, summarize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_MAX_TASKS, _MAX_EDGES = 200, 600  # of a picture
_MAX_RETRY_TASKS = 40  # of a graph for which narrower pictures are tried
_WITHOUT_NOTES = "Remarks such as (when) are left out: the picture would be too wide."


def draw_text(
    name: str, tasks: Sequence[str], parents: list[list[int]], notes: Sequence[str], dashed: set[tuple[int, int]]
) -> str:
    """Return a picture at most 120 columns wide; or a summary, if the graph is too large for that."""
    title = visible_name(name, LABEL_CELLS) or '""'
    if not tasks:
        return f"{title}: no tasks, so there is nothing to draw."
    folded = Folded(tasks, parents, notes, dashed)
    picture = _picture(folded.names, folded.parents, folded.notes, folded.dashed, LABEL_CELLS)
    left_out = False
    if picture is None and len(tasks) <= _MAX_RETRY_TASKS:
        left_out = any(notes)
        if left_out:
            picture = _picture(tasks, parents, (), dashed, LABEL_CELLS)
        picture = picture or _picture(tasks, parents, (), dashed, SHORT_CELLS)
    if picture is None:
        return summarize(title, tasks, parents, dashed)
    remarks = [*([LEGEND] if folded.dashed else []), *([_WITHOUT_NOTES] if left_out else [])]
    remarks += [FOLDED] if max(folded.sizes) > 1 else []
    lines = [f"{title}: {format_count(len(tasks), 'task')}", "", *picture, *([""] if remarks else []), *remarks]
    return "\n".join(lines)


def _picture(
    tasks: Sequence[str], parents: list[list[int]], notes: Sequence[str], dashed: set[tuple[int, int]], cells: int
) -> list[str] | None:
    """Return the lines of a picture; None if it would be too wide or have too many crossings.

    Args:
        tasks: names of the tasks.
        parents: indices of the upstreams of each task.
        notes: a note for each task.
        dashed: the edges to draw dashed.
        cells: maximum width of a name.
    """
    if len(tasks) > _MAX_TASKS or sum(map(len, parents)) > _MAX_EDGES:
        return None
    signs = DASHED_SIGNS if dashed else SIGNS
    labels = [make_label(task, notes[i] if i < len(notes) else "", signs, cells) for i, task in enumerate(tasks)]
    if cells < LABEL_CELLS and len(set(labels)) < len(set(tasks)):  # two shortened names are equal
        return None
    blocks: list[list[str]] = []
    single: list[str] = []
    for part in connected_parts(parents):
        number = {member: k for k, member in enumerate(part)}
        names = [labels[member] for member in part]
        if len(part) == 1:
            single += names
        elif all(parents[member] == part[max(k - 1, 0) : k] for k, member in enumerate(part)):
            blocks.append(wrap_words(names, [arrow(edge in dashed) for edge in pairwise(part)]))
        else:
            wiring = [[number[u] for u in parents[member]] for member in part]
            styles = [(number[u], number[v]) for u, v in dashed if v in number]
            block = layout(names, [cell_width(name) for name in names], wiring, WIDTHS, styles)
            if block is None:
                return None
            blocks.append(block)
    if single:
        blocks.append(wrap_words(single, ["   "] * (len(single) - 1)))
    lines = blocks[0]
    for above, block in pairwise(blocks):
        lines = [*lines, *([""] if len(above) > 1 or len(block) > 1 else []), *block]
    return lines
