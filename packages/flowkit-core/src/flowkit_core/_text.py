"""Text of messages: representations that are safe to show, counts and suggestions."""

from __future__ import annotations

from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    """Return ``repr(value)`` on one line, shortened to a number of characters. Never raises."""
    try:
        text = repr(value)
    except Exception:
        text = f"<unprintable {type(value).__name__}>"
    return escape_control_chars(text if len(text) <= limit else f"{text[: limit - 20]}...{text[-16:]}")


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
