"""Texts of exceptions, as they are recorded."""

from __future__ import annotations

from flowkit_state.serialization.json_text import dumps


def error_json(error: BaseException) -> str:
    """Return type, message and traceback of an exception as JSON text."""
    return dumps([_type_name(error), _message(error), traceback_text(error)])


def traceback_text(error: BaseException) -> str:
    """Return the text of an exception with its traceback; an empty text if a `__str__` raises."""
    import traceback

    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return ""


def error_text(error: BaseException) -> str:
    """Return type and message of an exception, and of the members of an exception group."""
    text = f"{_type_name(error)}: {_message(error)}"
    if isinstance(error, BaseExceptionGroup):
        text += "".join(f"; {error_text(member)}" for member in error.exceptions[:10])
    return text


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<str() failed>"


def encodable(text: str) -> str:
    """Return a text with lone surrogates escaped, because SQLite cannot store them."""
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text
