"""Labels of a drawing: names of tasks that are safe to print, and their width in a terminal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTHS = (100, 120)
"""Preferred and maximum width of a picture, in columns."""
LABEL_CELLS, SHORT_CELLS = 40, 20
"""Maximum width of a name; the second is for pictures that would be too wide."""
SIGNS, DASHED_SIGNS = "→↓,…", "→↓,…⇢⇣⇠"
"""Names with these characters are quoted, in pictures without and with dashed edges."""


def cell_width(text: str) -> int:
    """Return the number of terminal cells of a text."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(c) in ("Mn", "Me") or "\u1160" <= c <= "\u11ff" else 1 + (east_asian_width(c) in "WF")
        for c in text
    )


def visible_name(name: str, cells: int) -> str:
    """Return a name on one line, escaped, and shortened in the middle to a number of cells."""
    if name.isascii() and name.isprintable() and len(name) <= cells:
        return name
    if len(name) > 6 * cells:  # limits the work, and the length of names whose characters have no width
        name = name[: 3 * cells] + "…" + name[-3 * cells :]
    parts = [c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name]
    if not cell_width(parts[0]):  # a combining mark without a base character
        parts[0] = parts[0].encode("unicode_escape").decode("ascii")
    widths = [cell_width(part) for part in parts]
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


def make_label(name: str, note: str = "", signs: str = SIGNS, cells: int = LABEL_CELLS) -> str:
    """Return the label of a task: its name and a note; quoted if it could be read as a part of the picture."""
    text = visible_name(name, cells)
    if not text or text != text.strip() or "  " in text or any(c in signs or "─" <= c <= "╿" for c in name):
        text = f'"{text}"'
    return f"{text} ({visible_name(note, LABEL_CELLS)})" if note else text


def format_number(n: int) -> str:
    """Return an integer with spaces between groups of three digits."""
    return f"{n:,}".replace(",", " ")


def format_count(n: int, noun: str) -> str:
    """Return ``"1 task"`` or ``"2 000 tasks"``."""
    return f"{format_number(n)} {noun}" if n == 1 else f"{format_number(n)} {noun}s"


def arrow(dashed: bool) -> str:
    """Return the arrow between two tasks on one line."""
    return " ⇢ " if dashed else " → "


def wrap_words(words: Sequence[str], separators: Sequence[str]) -> list[str]:
    """Return words with separators between them, in lines; a separator that is an arrow begins a continuation line."""
    lines, used = [words[0]], cell_width(words[0])
    for word, separator in zip(words[1:], separators):
        used += cell_width(separator + word)
        if used > WIDTHS[0]:
            lines.append("  " + (separator + word).lstrip() if separator.strip() else word)
            used = cell_width(lines[-1])
        else:
            lines[-1] += separator + word
    return lines
