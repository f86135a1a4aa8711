"""Pictures of a pipeline: box-drawing text for people, Mermaid and Graphviz for other tools.

How to read the text: it flows in the direction of the arrows, every line leads from a task to those that wait for it.
Where lines touch they join (``┼``, ``┬``, ``╯``); where one is interrupted, as in ``─│─``, it passes under the other.

Everything here is a pure function of its arguments, and nothing recurses over the graph.
"""

from __future__ import annotations

from itertools import pairwise

from flowkit_core.layout import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["draw", "html"]

_FORMATS = ("text", "mermaid", "dot")
_WIDTHS = (100, 120)  # a picture should fit the first, and must fit the second
_LABEL_CELLS = 40
_MAX_TASKS, _MAX_EDGES = 200, 600  # in a picture
_HEAD_ROWS, _TAIL_ROWS, _GROUPS = 20, 5, 5  # in a summary: rows before and after the gap, lines for one level


def draw(
    name: str,
    tasks: Sequence[str],
    upstreams: Sequence[Sequence[int]],
    *,
    format: str = "text",
    notes: Sequence[str] = (),
) -> str:
    """Draw a graph of tasks.

    Names are data: control characters, line breaks and terminal or bidirectional codes come out escaped, and very long
    names are shortened in the middle.

    Args:
        name: The pipeline's name.
        tasks: The tasks' names, in topological order.
        upstreams: For each task the indices of its direct upstreams, each smaller than its own.
        format: ``"text"``, a picture at most 120 columns wide; a graph too large for that is described level by level,
            in bounded length. ``"mermaid"`` and ``"dot"`` (Graphviz) always hold every task and every edge.
        notes: For each task a short remark, shown after its name in text (``extract (retries 3)``); may be empty.

    Returns:
        The drawing, without a newline at its end.

    Raises:
        ValueError: *format* is none of the three.

    >>> print(draw("etl", ["extract", "clean", "check", "load"], [[], [0], [0], [1, 2]]))
    etl: 4 tasks
    <BLANKLINE>
    extract ─┬─→ clean ─┬─→ load
             ╰─→ check ─╯
    """
    if format not in _FORMATS:
        raise ValueError(f"visualize() has no format {format!r}: use one of {', '.join(map(repr, _FORMATS))}.")
    parents = [list(dict.fromkeys(ups)) for ups in upstreams]  # an edge declared twice is one edge
    if format == "mermaid":
        return _mermaid(tasks, parents)
    if format == "dot":
        return _dot(name, tasks, parents)
    title = _visible(name, _LABEL_CELLS) or '""'
    if not tasks:
        return f"{title}: no tasks, so there is nothing to draw."
    picture = _picture(tasks, parents, notes)
    if picture is None:
        return _summary(title, tasks, parents)
    return "\n".join([f"{title}: {_count(len(tasks), 'task')}", "", *picture])


def html(text: str) -> str:
    """Wrap a text picture for a notebook: escaped, in a ``<pre>`` whose lines touch and do not wrap.

    >>> html("a → b")
    '<pre style="line-height: 1.2; white-space: pre; overflow-x: auto">a → b</pre>'
    """
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<pre style="line-height: 1.2; white-space: pre; overflow-x: auto">{escaped}</pre>'


# --- other tools ------------------------------------------------------------------------------------------------------


def _mermaid(tasks: Sequence[str], parents: list[list[int]]) -> str:
    # Besides quotes, Mermaid gives meaning to #, backticks, %%{...}%%, fa:..., "1." and tags: keep only what is plain.
    lines = ["flowchart TD"]
    for i, task in enumerate(tasks):
        text = "".join(c if c.isalnum() or c in " _-" or c > "\x7f" else f"#{ord(c)};" for c in _visible(task, 200))
        lines.append(f'    n{i}["{text or " "}"]')
    lines += [f"    n{u} --> n{v}" for v, ups in enumerate(parents) for u in ups]
    return "\n".join(lines)


def _dot(name: str, tasks: Sequence[str], parents: list[list[int]]) -> str:
    def quoted(text: str) -> str:
        text = _visible(text, 200).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text.replace("&", "&amp;")}"'  # Graphviz expands entities

    lines = [f"digraph {quoted(name)} {{", "    rankdir=LR;", "    node [shape=box, style=rounded];"]
    lines += [f"    n{i} [label={quoted(task)}];" for i, task in enumerate(tasks)]
    lines += [f"    n{u} -> n{v};" for v, ups in enumerate(parents) for u in ups]
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


def _label(name: str, note: str = "") -> str:
    text = _visible(name, _LABEL_CELLS)
    if not text or text != text.strip() or "  " in text or any(c in "→↓,…" or "─" <= c <= "╿" for c in name):
        text = f'"{text}"'  # what could be taken for a part of the picture is quoted
    return f"{text} ({_visible(note, _LABEL_CELLS)})" if note else text


def _number(n: int) -> str:
    return f"{n:,}".replace(",", " ")


def _count(n: int, noun: str) -> str:
    return f"{_number(n)} {noun}" if n == 1 else f"{_number(n)} {noun}s"


def _wrapped(words: Sequence[str], glue: str) -> list[str]:
    """*words* with *glue* between them, in lines; a line that goes on begins with what *glue* shows."""
    lines, used = [words[0]], _cells(words[0])
    for word in words[1:]:
        used += _cells(glue + word)
        if used > _WIDTHS[0]:
            lines.append("  " + (glue + word).lstrip() if glue.strip() else word)
            used = _cells(lines[-1])
        else:
            lines[-1] += glue + word
    return lines


# --- the picture ------------------------------------------------------------------------------------------------------


def _picture(tasks: Sequence[str], parents: list[list[int]], notes: Sequence[str]) -> list[str] | None:
    """The connected parts one below the other, or None where a picture would not help."""
    if len(tasks) > _MAX_TASKS or sum(map(len, parents)) > _MAX_EDGES:
        return None
    labels = [_label(task, notes[i] if i < len(notes) else "") for i, task in enumerate(tasks)]
    blocks: list[list[str]] = []
    alone: list[str] = []
    for part in _parts(parents):
        number = {member: k for k, member in enumerate(part)}
        names = [labels[member] for member in part]
        if len(part) == 1:
            alone += names
        elif all(parents[member] == part[max(k - 1, 0) : k] for k, member in enumerate(part)):
            blocks.append(_wrapped(names, " → "))
        else:
            wiring = [[number[u] for u in parents[member]] for member in part]
            block = layout(names, [_cells(name) for name in names], wiring, _WIDTHS)
            if block is None:
                return None
            blocks.append(block)
    if alone:
        blocks.append(_wrapped(alone, "   "))
    lines = blocks[0]
    for above, block in pairwise(blocks):
        lines = [*lines, *([""] if len(above) > 1 or len(block) > 1 else []), *block]
    return lines


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


def _summary(title: str, tasks: Sequence[str], parents: list[list[int]]) -> str:
    """Level by level: who is there, and whom they wait for."""
    levels: list[list[int]] = []
    where: list[int] = []
    for i, ups in enumerate(parents):
        where.append(max((where[u] + 1 for u in ups), default=0))
        if where[i] == len(levels):
            levels.append([])
        levels[where[i]].append(i)
    rows: list[list[int]] = []  # one task that waits for a whole level, and for nothing else, stands behind it
    for level, members in enumerate(levels):
        if level and len(members) == 1 and sorted(parents[members[0]]) == levels[level - 1]:
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
        for text in _members(tasks, parents, levels[row[0]], [tasks[levels[level][0]] for level in row[1:]]):
            lines.append(f"{head:>{margin}}  {text}")
            head = ""
    why = 'Too large or too tangled for a picture: format="mermaid" and format="dot" hold every edge.'
    return "\n".join([*lines, "", why])


def _members(tasks: Sequence[str], parents: list[list[int]], level: list[int], behind: list[str]) -> list[str]:
    """One level's tasks in groups that wait for the same ones, and the chain of tasks *behind* all of them."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in level:
        groups.setdefault(tuple(sorted(parents[i])), []).append(i)
    lines = [_few(tasks, group) + (f" ← {_few(tasks, ups)}" if ups else "") for ups, group in groups.items()]
    if len(lines) > _GROUPS:
        rest = sum(map(len, list(groups.values())[_GROUPS:]))
        lines[_GROUPS:] = [f"… and {_number(rest)} more, which wait for others"]
    if behind:
        links = behind if len(behind) <= 5 else [*behind[:3], "", behind[-1]]
        words = [_label(link) for link in links]
        if len(behind) > 5:
            words[3] = f"… {_number(len(behind) - 4)} more …"
        first = [lines.pop()] if len(lines) == 1 and () in groups else [""]
        lines += [line.strip() for line in _wrapped(first + words, " → ")]
    return lines


def _few(tasks: Sequence[str], members: Sequence[int]) -> str:
    text = _label(tasks[members[0]])
    for shown, i in enumerate(members[1:], 1):
        more = f", {_label(tasks[i])}"
        if _cells(text + more) > _LABEL_CELLS:
            return f"{text}, … and {_number(len(members) - shown)} more"
        text += more
    return text
