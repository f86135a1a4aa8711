"""Text of messages: representations that are safe to show, counts and suggestions."""

from __future__ import annotations

from itertools import islice

from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ._typing import Any


def escape_control_chars(text: str) -> str:
    r"""Return a text with control and format characters escaped, as in ``\n``, ``\x1b`` or ``\u202e``.

    The result is one line, and contains no terminal codes and no characters that change the direction of writing.
    """
    if text.isprintable():
        return text
    from unicodedata import category

    return "".join(
        char.encode("unicode_escape").decode()
        if category(char) in _UNSAFE_CATEGORIES and char not in _JOINERS
        else char
        for char in text
    )


_UNSAFE_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogate, line and paragraph separator
_JOINERS = "\u200c\u200d"  # required in Persian text and in emoji


def short_repr(value: Any, limit: int = 80) -> str:
    """Return ``repr(value)`` on one line, shortened to a number of characters. Never raises.

    Of large built-in values, only the shown parts are formatted.
    """
    try:
        text = _repr_of(value, limit)
    except Exception:
        text = f"<unprintable {type(value).__name__}>"
    return escape_control_chars(text if len(text) <= limit else f"{text[: limit - 20]}...{text[-16:]}")


def _repr_of(value: Any, limit: int) -> str:
    """Return ``repr(value)``; if it has more characters than the limit, its beginning and its end."""
    if type(value) not in _BRACKETS:
        return _repr_of_part(value, limit, backwards=False) + (
            _repr_of_part(value, limit, backwards=True) if _is_long(value, limit) else ""
        )
    head = _first_pieces(value, limit, backwards=False)
    if sum(map(len, head)) <= limit:
        return "".join(head)
    return "".join([*head, *reversed(_first_pieces(value, limit, backwards=True))])


def _first_pieces(value: Any, limit: int, *, backwards: bool) -> list[str]:
    """Return the first parts that :func:`_pieces` yields, until they have more characters than the limit."""
    found, size = [], 0
    for piece in _pieces(value, limit, (), backwards=backwards):
        found.append(piece)
        size += len(piece)
        if size > limit:
            break
    return found


def _pieces(value: Any, limit: int, outer: tuple[int, ...], *, backwards: bool) -> Iterator[str]:
    """Yield the parts of ``repr(value)``, from the end if it is to be read backwards.

    Args:
        value: the value.
        limit: number of characters that are needed.
        outer: the ids of the containers that it is in.
        backwards: whether the last part comes first.
    """
    kind = type(value)
    brackets = _BRACKETS.get(kind)
    if brackets is None or not value:
        yield _repr_of_part(value, limit, backwards=backwards)
        return
    start, end = brackets
    if id(value) in outer:
        yield f"{start}...{end}"
        return
    if kind is tuple and len(value) == 1:
        end = ",)"
    items: Any = value.items() if kind is dict else value
    if backwards:
        start, end = end, start
        items = reversed([*islice(items, limit)]) if kind in (set, frozenset) else reversed(items)
    yield start
    separator = ""
    for item in items:
        yield separator
        separator = ", "
        parts = item if kind is dict else (item,)
        for number, part in enumerate(reversed(parts) if backwards else parts):
            if number:
                yield ": "
            yield from _pieces(part, limit, (*outer, id(value)), backwards=backwards)
    yield end


def _repr_of_part(value: Any, limit: int, *, backwards: bool) -> str:
    """Return the repr of a value that is not a container; of a long text, that of its beginning or of its end."""
    try:
        if _is_long(value, limit):
            return repr(value[-limit:] if backwards else value[:limit])
        return repr(value)
    except Exception:
        return f"<unprintable {type(value).__name__}>"


def _is_long(value: Any, limit: int) -> bool:
    return type(value) in (str, bytes, bytearray) and len(value) > 2 * limit


_BRACKETS: dict[Any, Sequence[str]] = {list: "[]", tuple: "()", dict: "{}", set: "{}", frozenset: ("frozenset({", "})")}


def closest(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the candidate that is most similar to *name*; None if no ratio of :mod:`difflib` reaches the cutoff."""
    from difflib import get_close_matches

    found = get_close_matches(name, list(candidates), 1, cutoff)
    return found[0] if found else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the candidate most similar to ``name``; empty without one."""
    found = closest(name, candidates)
    return "" if found is None else f" (did you mean {found!r}?)"


def similar_or_all(name: str, candidates: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"``, or else the first candidates: ``"; there are: a, b"``."""
    names = list(candidates)
    return did_you_mean(name, names) or (f"; there are: {listed(names)}" if names else "")


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names separated by commas, ``most`` at most, and how many more there are."""
    found = list(names)
    return ", ".join(found[:most]) + (f", ... ({len(found) - most} more)" if len(found) > most else "")


def counted(count: int, noun: str) -> str:
    """Return ``"1 task"`` or ``"2 tasks"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def counts_text(counts: Mapping[str, int], none: str = "no tasks") -> str:
    """Return the numbers of tasks or elements in each state, as in ``"1 failed, 2 upstream failed"``; else ``none``."""
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items()) or none
