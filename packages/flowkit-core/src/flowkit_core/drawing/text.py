"""Pictures of a pipeline: box-drawing text for people, Mermaid and Graphviz for other tools.

How to read the text: it flows in the direction of the arrows, every line leads from a task to those that wait for it.
Where lines touch they join (``┼``, ``┬``, ``╯``); where one is interrupted, as in ``─│─``, it passes under the other.
An edge is dashed if any part of its line is (``╌``, ``┆``, ``⇢``): parts that it shares with a solid edge are solid.

Everything here is a pure function of its arguments, and nothing recurses over the graph.
"""

from __future__ import annotations

from itertools import pairwise

from flowkit_core.drawing.layered_layout import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ["draw", "html"]

_FORMATS = ("text", "mermaid", "dot")
_WIDTHS = (100, 120)  # a picture should fit the first, and must fit the second
_LABEL_CELLS, _SHORT_CELLS = 40, 20  # maximum width of a name; the second for pictures that are too wide
_MAX_TASKS, _MAX_EDGES = 200, 600  # in a picture
_MAX_RETRY_TASKS = 40  # in a graph for which narrower pictures are tried
_SIGNS, _DASHED_SIGNS = "→↓,…", "→↓,…⇢⇣⇠"  # names with these characters are quoted, without and with dashed edges
_LEGEND = "dashed: order only"
_WITHOUT_NOTES = "Remarks such as (when) are left out: the picture would be too wide."
_HEAD_ROWS, _TAIL_ROWS, _GROUPS = 20, 5, 5  # in a summary: rows before and after the gap, lines for one level


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

    Names are data: control characters, line breaks and terminal or bidirectional codes come out escaped, and very long
    names are shortened in the middle.

    Args:
        name: The pipeline's name.
        tasks: The tasks' names, in topological order.
        upstreams: For each task the indices of its direct upstreams, each smaller than its own.
        format: ``"text"``, a picture at most 120 columns wide. If a small graph does not fit, the notes are left out,
            then names are shortened; a graph too large for that is described level by level, in bounded length.
            ``"mermaid"`` and ``"dot"`` (Graphviz) always hold every task and every edge.
        notes: For each task a short remark, shown after its name in text (``extract (retries 3)``); may be empty.
        dashed: The edges that only order two tasks, as pairs (index of the upstream, index of the downstream). They are
            edges of *upstreams* too (other pairs are ignored); they are drawn dashed, and text has a legend for them.

    Returns:
        The drawing, without a newline at its end.

    Raises:
        ValueError: *format* is none of the three.

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
        raise ValueError(f"visualize() has no format {format!r}: use one of {', '.join(map(repr, _FORMATS))}.")
    parents = [list(dict.fromkeys(ups)) for ups in upstreams]  # an edge declared twice is one edge
    order = set(dashed).intersection((u, v) for v, ups in enumerate(parents) for u in ups)
    if format == "mermaid":
        return _mermaid(tasks, parents, order)
    if format == "dot":
        return _dot(name, tasks, parents, order)
    title = _visible(name, _LABEL_CELLS) or '""'
    if not tasks:
        return f"{title}: no tasks, so there is nothing to draw."
    picture = _picture(tasks, parents, notes, order, _LABEL_CELLS)
    left_out = False
    if picture is None and len(tasks) <= _MAX_RETRY_TASKS:
        left_out = any(notes)
        if left_out:
            picture = _picture(tasks, parents, (), order, _LABEL_CELLS)
        picture = picture or _picture(tasks, parents, (), order, _SHORT_CELLS)
    if picture is None:
        return _summary(title, tasks, parents, order)
    remarks = [*([_LEGEND] if order else []), *([_WITHOUT_NOTES] if left_out else [])]
    lines = [f"{title}: {_count(len(tasks), 'task')}", "", *picture, *([""] if remarks else []), *remarks]
    return "\n".join(lines)


def html(text: str) -> str:
    """Wrap a text picture for a notebook: escaped, in a ``<pre>`` whose lines touch and do not wrap.

    >>> html("a → b")
    '<pre style="line-height: 1.2; white-space: pre; overflow-x: auto">a → b</pre>'
    """
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<pre style="line-height: 1.2; white-space: pre; overflow-x: auto">{escaped}</pre>'


# --- other tools ------------------------------------------------------------------------------------------------------


def _mermaid(tasks: Sequence[str], parents: list[list[int]], dashed: set[tuple[int, int]]) -> str:
    # Besides quotes, Mermaid gives meaning to #, backticks, %%{...}%%, fa:..., "1." and tags: keep only what is plain.
    lines = ["flowchart TD"]
    for i, task in enumerate(tasks):
        text = "".join(c if c.isalnum() or c in " _-" or c > "\x7f" else f"#{ord(c)};" for c in _visible(task, 200))
        lines.append(f'    n{i}["{text or " "}"]')
    lines += [f"    n{u} {'-.->' if (u, v) in dashed else '-->'} n{v}" for v, ups in enumerate(parents) for u in ups]
    return "\n".join(lines)


def _dot(name: str, tasks: Sequence[str], parents: list[list[int]], dashed: set[tuple[int, int]]) -> str:
    def quoted(text: str) -> str:
        text = _visible(text, 200).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text.replace("&", "&amp;")}"'  # Graphviz expands entities

    lines = [f"digraph {quoted(name)} {{", "    rankdir=LR;", "    node [shape=box, style=rounded];"]
    lines += [f"    n{i} [label={quoted(task)}];" for i, task in enumerate(tasks)]
    styles = [(u, v, " [style=dashed]" if (u, v) in dashed else "") for v, ups in enumerate(parents) for u in ups]
    lines += [f"    n{u} -> n{v}{style};" for u, v, style in styles]
    return "\n".join([*lines, "}"])


# --- labels -----------------------------------------------------------------------------------------------------------


def _cells(text: str) -> int:
    """How many cells of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(c) in ("Mn", "Me") or "\u1160" <= c <= "\u11ff" else 1 + (east_asian_width(c) in "WF")
        for c in text
    )


def _visible(name: str, cells: int) -> str:
    """*name* on one line, without anything a terminal would obey, in at most *cells* cells."""
    if name.isascii() and name.isprintable() and len(name) <= cells:
        return name
    if len(name) > 6 * cells:  # bounds the work, and the length where marks take no cell at all
        name = name[: 3 * cells] + "…" + name[-3 * cells :]
    parts = [c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name]
    if not _cells(parts[0]):  # a mark with nothing of its own to sit on
        parts[0] = parts[0].encode("unicode_escape").decode("ascii")
    widths = [_cells(part) for part in parts]
    if sum(widths) <= cells:
        return "".join(parts)
    head, used = 0, 0
    while used + widths[head] <= cells // 2:
        used += widths[head]
        head += 1
    tail, left = len(parts), cells - used - 1
    while widths[tail - 1] <= left:
        tail -= 1
        left -= widths[tail]
    while not widths[tail]:
        tail += 1
    return "".join([*parts[:head], "…", *parts[tail:]])


def _label(name: str, note: str = "", signs: str = _SIGNS, cells: int = _LABEL_CELLS) -> str:
    text = _visible(name, cells)
    if not text or text != text.strip() or "  " in text or any(c in signs or "─" <= c <= "╿" for c in name):
        text = f'"{text}"'  # what could be taken for a part of the picture is quoted
    return f"{text} ({_visible(note, _LABEL_CELLS)})" if note else text


def _number(n: int) -> str:
    return f"{n:,}".replace(",", " ")


def _count(n: int, noun: str) -> str:
    return f"{_number(n)} {noun}" if n == 1 else f"{_number(n)} {noun}s"


def _wrapped(words: Sequence[str], glues: Sequence[str]) -> list[str]:
    """*words* with *glues* between them, in lines; a continuation line begins with the arrow of its glue, if any."""
    lines, used = [words[0]], _cells(words[0])
    for word, glue in zip(words[1:], glues):
        used += _cells(glue + word)
        if used > _WIDTHS[0]:
            lines.append("  " + (glue + word).lstrip() if glue.strip() else word)
            used = _cells(lines[-1])
        else:
            lines[-1] += glue + word
    return lines


# --- the picture ------------------------------------------------------------------------------------------------------


def _picture(
    tasks: Sequence[str], parents: list[list[int]], notes: Sequence[str], dashed: set[tuple[int, int]], cells: int
) -> list[str] | None:
    """The connected parts one below the other, names in *cells* cells, or None where a picture would not help."""
    if len(tasks) > _MAX_TASKS or sum(map(len, parents)) > _MAX_EDGES:
        return None
    signs = _DASHED_SIGNS if dashed else _SIGNS
    labels = [_label(task, notes[i] if i < len(notes) else "", signs, cells) for i, task in enumerate(tasks)]
    if cells < _LABEL_CELLS and len(set(labels)) < len(set(tasks)):  # two shortened names are equal
        return None
    blocks: list[list[str]] = []
    alone: list[str] = []
    for part in _parts(parents):
        number = {member: k for k, member in enumerate(part)}
        names = [labels[member] for member in part]
        if len(part) == 1:
            alone += names
        elif all(parents[member] == part[max(k - 1, 0) : k] for k, member in enumerate(part)):
            blocks.append(_wrapped(names, [_arrow(edge in dashed) for edge in pairwise(part)]))
        else:
            wiring = [[number[u] for u in parents[member]] for member in part]
            styles = [(number[u], number[v]) for u, v in dashed if v in number]
            block = layout(names, [_cells(name) for name in names], wiring, _WIDTHS, styles)
            if block is None:
                return None
            blocks.append(block)
    if alone:
        blocks.append(_wrapped(alone, ["   "] * (len(alone) - 1)))
    lines = blocks[0]
    for above, block in pairwise(blocks):
        lines = [*lines, *([""] if len(above) > 1 or len(block) > 1 else []), *block]
    return lines


def _arrow(dashed: bool) -> str:
    return " ⇢ " if dashed else " → "


def _parts(parents: list[list[int]]) -> list[list[int]]:
    """The connected parts of a graph, in order of their first tasks."""
    near = [list(ups) for ups in parents]
    for v, ups in enumerate(parents):
        for u in ups:
            near[u].append(v)
    seen: set[int] = set()
    parts = []
    for first in range(len(parents)):
        if first not in seen:
            part = [first]
            seen.add(first)
            for v in part:
                fresh = [w for w in near[v] if w not in seen]
                seen.update(fresh)
                part += fresh
            parts.append(sorted(part))
    return parts


# --- a graph too large to draw ----------------------------------------------------------------------------------------


def _summary(title: str, tasks: Sequence[str], parents: list[list[int]], dashed: set[tuple[int, int]]) -> str:
    """Level by level: who is there, and whom they wait for."""
    levels: list[list[int]] = []
    where: list[int] = []
    for i, ups in enumerate(parents):
        where.append(max((where[u] + 1 for u in ups), default=0))
        if where[i] == len(levels):
            levels.append([])
        levels[where[i]].append(i)

    def label(i: int) -> str:
        return _label(tasks[i], signs=_DASHED_SIGNS if dashed else _SIGNS)

    rows: list[list[int]] = []  # one task that waits for a whole level, and for nothing else, stands behind it
    for level, members in enumerate(levels):
        alone, ups = members[0], sorted(parents[members[0]])
        one_style = len({(u, alone) in dashed for u in ups}) == 1
        if level and len(members) == 1 and ups == levels[level - 1] and one_style:
            rows[-1].append(level)
        else:
            rows.append([level])

    edges, widest = sum(map(len, parents)), max(map(len, levels))
    shape = [_count(len(tasks), "task"), _count(edges, "edge"), _count(len(levels), "level")]
    lines = [f"{title}: {', '.join(shape)} (the widest has {_count(widest, 'task')})", ""]
    margin = len(_number(len(levels)))
    for number, row in enumerate(rows):
        if _HEAD_ROWS <= number < len(rows) - _TAIL_ROWS:
            if number == _HEAD_ROWS:
                lines.append(f"{'⋮':>{margin}}  {_count(rows[-_TAIL_ROWS][0] - row[0], 'more level')}")
            continue
        head = _number(row[0] + 1)
        for text in _members(label, parents, dashed, levels[row[0]], [levels[level][0] for level in row[1:]]):
            lines.append(f"{head:>{margin}}  {text}")
            head = ""
    why = 'Too large or too tangled for a picture: format="mermaid" and format="dot" hold every edge.'
    return "\n".join([*lines, "", *([_LEGEND] if dashed else []), why])


def _members(
    label: Callable[[int], str],
    parents: list[list[int]],
    dashed: set[tuple[int, int]],
    level: list[int],
    behind: list[int],
) -> list[str]:
    """One level's tasks in groups that wait for the same ones, and the chain of tasks *behind* all of them."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}  # by solid and by dashed upstreams
    for i in level:
        solid, order = ([u for u in sorted(parents[i]) if ((u, i) in dashed) is style] for style in (False, True))
        groups.setdefault((tuple(solid), tuple(order)), []).append(i)
    lines: list[str] = []
    for ups, group in list(groups.items())[:_GROUPS]:
        lines.append(_few(label, group))
        for arrow, some in zip("←⇠", ups):
            text = f" {arrow} {_few(label, some)}" if some else ""
            if ups[0] and arrow == "⇠" and _cells(lines[-1] + text) > _WIDTHS[0]:
                lines.append(f" {text}")
            else:
                lines[-1] += text
    if len(groups) > _GROUPS:
        rest = sum(map(len, list(groups.values())[_GROUPS:]))
        lines.append(f"… and {_number(rest)} more, which wait for others")
    if behind:
        links = behind if len(behind) <= 5 else [*behind[:4], behind[-1]]
        words = [label(link) for link in links]
        if len(behind) > 5:
            words[3] = f"… {_number(len(behind) - 4)} more …"
        first = [lines.pop()] if len(lines) == 1 and ((), ()) in groups else [""]
        arrows = [_arrow((parents[link][0], link) in dashed) for link in links]
        lines += [line.strip() for line in _wrapped(first + words, arrows)]
    return lines


def _few(label: Callable[[int], str], members: Sequence[int]) -> str:
    text = label(members[0])
    for shown, i in enumerate(members[1:], 1):
        more = f", {label(i)}"
        if _cells(text + more) > _LABEL_CELLS:
            return f"{text}, … and {_number(len(members) - shown)} more"
        text += more
    return text
