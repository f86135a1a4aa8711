"""Text for a graph that is too large or has too many crossings for a picture: its levels, in bounded length."""

from __future__ import annotations

from .labels import (
    DASHED_SIGNS,
    LABEL_CELLS,
    SIGNS,
    WIDTHS,
    arrow,
    cell_width,
    format_count,
    format_number,
    make_label,
    wrap_words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEGEND = "dashed: order only"
_HEAD_ROWS, _TAIL_ROWS = 20, 5  # rows before and after those that are left out
_GROUPS = 5  # groups of one level
_CHAIN = 5  # tasks of a chain


def summarize(title: str, tasks: Sequence[str], parents: list[list[int]], dashed: set[tuple[int, int]]) -> str:
    """Return one row for each level of a graph: its tasks, and the tasks that they wait for."""
    levels = _levels(parents)

    def label(i: int) -> str:
        return make_label(tasks[i], signs=DASHED_SIGNS if dashed else SIGNS)

    rows: list[list[int]] = []  # a single task that waits for exactly one whole level is in the row of that level
    for level, members in enumerate(levels):
        first, ups = members[0], sorted(parents[members[0]])
        one_style = len({(u, first) in dashed for u in ups}) == 1
        if level and len(members) == 1 and ups == levels[level - 1] and one_style:
            rows[-1].append(level)
        else:
            rows.append([level])

    edges, widest = sum(map(len, parents)), max(map(len, levels))
    shape = [format_count(len(tasks), "task"), format_count(edges, "edge"), format_count(len(levels), "level")]
    lines = [f"{title}: {', '.join(shape)} (the widest has {format_count(widest, 'task')})", ""]
    margin = len(format_number(len(levels)))
    for number, row in enumerate(rows):
        if _HEAD_ROWS <= number < len(rows) - _TAIL_ROWS:
            if number == _HEAD_ROWS:
                lines.append(f"{'⋮':>{margin}}  {format_count(rows[-_TAIL_ROWS][0] - row[0], 'more level')}")
            continue
        head = format_number(row[0] + 1)
        for text in _row(label, parents, dashed, levels[row[0]], [levels[level][0] for level in row[1:]]):
            lines.append(f"{head:>{margin}}  {text}")
            head = ""
    why = 'Too large or too tangled for a picture: format="mermaid" and format="dot" hold every edge.'
    return "\n".join([*lines, "", *([LEGEND] if dashed else []), why])


def _levels(parents: list[list[int]]) -> list[list[int]]:
    """Return the tasks of each level: those with the same longest distance from the start."""
    levels: list[list[int]] = []
    level_of: list[int] = []
    for i, ups in enumerate(parents):
        level_of.append(max((level_of[u] + 1 for u in ups), default=0))
        if level_of[i] == len(levels):
            levels.append([])
        levels[level_of[i]].append(i)
    return levels


def _row(
    label: Callable[[int], str],
    parents: list[list[int]],
    dashed: set[tuple[int, int]],
    level: list[int],
    chain: list[int],
) -> list[str]:
    """Return the lines of one level: its tasks, grouped by their upstreams, and the chain of tasks after them."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}  # by solid and by dashed upstreams
    for i in level:
        solid, order = ([u for u in sorted(parents[i]) if ((u, i) in dashed) is style] for style in (False, True))
        groups.setdefault((tuple(solid), tuple(order)), []).append(i)
    lines: list[str] = []
    for ups, group in list(groups.items())[:_GROUPS]:
        lines.append(_first_labels(label, group))
        for sign, some in zip("←⇠", ups):
            text = f" {sign} {_first_labels(label, some)}" if some else ""
            if ups[0] and sign == "⇠" and cell_width(lines[-1] + text) > WIDTHS[0]:
                lines.append(f" {text}")
            else:
                lines[-1] += text
    if len(groups) > _GROUPS:
        rest = sum(map(len, list(groups.values())[_GROUPS:]))
        lines.append(f"… and {format_number(rest)} more, which wait for others")
    if chain:
        links = chain if len(chain) <= _CHAIN else [*chain[: _CHAIN - 1], chain[-1]]
        words = [label(link) for link in links]
        if len(chain) > _CHAIN:
            words[_CHAIN - 2] = f"… {format_number(len(chain) - _CHAIN + 1)} more …"
        first = [lines.pop()] if len(lines) == 1 and ((), ()) in groups else [""]
        arrows = [arrow((parents[link][0], link) in dashed) for link in links]
        lines += [line.strip() for line in wrap_words(first + words, arrows)]
    return lines


def _first_labels(label: Callable[[int], str], members: Sequence[int]) -> str:
    """Return the labels of the first tasks that fit, and the number of the others."""
    text = label(members[0])
    for listed, i in enumerate(members[1:], 1):
        more = f", {label(i)}"
        if cell_width(text + more) > LABEL_CELLS:
            return f"{text}, … and {format_number(len(members) - listed)} more"
        text += more
    return text
