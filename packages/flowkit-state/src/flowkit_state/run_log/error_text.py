"""Texts of exceptions, as they are recorded."""

from __future__ import annotations

from flowkit_state.serialization.json_text import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MEMBERS = 10
"""Maximum number of members of an exception group that its text contains."""


def error_json(error: BaseException) -> str:
    """Return type, message and traceback of an exception as JSON text."""
    return dumps([_type_name(error), _message(error), traceback_text(error)])


def traceback_text(error: BaseException) -> str:
    """Return the text of an exception with its traceback; an empty text if a `__str__` raises."""
    import traceback

    return _try(lambda: "".join(traceback.format_exception(error)), "")


def error_text(error: BaseException) -> str:
    """Return type and message of an exception, and of the members of an exception group."""
    texts: list[str] = []
    left = [error]
    while left and len(texts) <= MEMBERS:  # groups may be nested deeper than Python can recurse
        each = left.pop()
        texts.append(f"{_type_name(each)}: {_message(each)}")
        if issubclass(type(each), BaseExceptionGroup):
            left += reversed(each.exceptions[:MEMBERS])  # type: ignore[attr-defined]
    return "; ".join(texts)


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    return _try(lambda: str(error), "<str() failed>")


def _try(make: Callable[[], str], otherwise: str) -> str:
    """Return the text that a function returns, or another one if code of an exception's class raises anything."""
    try:
        return make()
    except KeyboardInterrupt:  # Ctrl-C
        raise
    except BaseException:
        return otherwise


def encodable(text: str) -> str:
    """Return a text with lone surrogates escaped, because SQLite cannot store them."""
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text
