"""``str()`` and ``repr()`` of the user's objects; these functions never raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")
    U = TypeVar("U")

MAX_TEXT = 1 << 20
"""Maximum length of a text, in characters."""


def type_name(value: Any) -> str:
    """Return the name of the type of a value."""
    return safe_str(lambda: type(value).__name__)


def safe_repr(value: Any) -> str:
    """Return ``repr(value)``, or ``"<unprintable>"`` if it raises."""
    return safe_str(lambda: repr(value))


def safe_str(make: Callable[[], str], longest: int = MAX_TEXT) -> str:
    """Return the text that a function returns, as an exact `str`; ``"<unprintable>"`` if it raises."""
    return try_or(lambda: clip(str.__str__(str(make())), longest), "<unprintable>")


def try_or(make: Callable[[], T], otherwise: U) -> T | U:
    """Return what a function returns, or another value if it raises anything."""
    try:
        return make()
    except BaseException:
        return otherwise


def clip(text: str, longest: int = MAX_TEXT) -> str:
    """Return a text, without its middle if it is longer than ``longest`` characters."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n... ({len(text) - longest} characters left out) ...\n{text[-half:]}"


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception is an interrupt: a `KeyboardInterrupt`, or raised by a signal handler.

    The user's code did not raise it, so no task fails because of it.
    """
    if isinstance(error, KeyboardInterrupt):
        return True
    import signal

    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {getattr(getattr(handler, "__func__", handler), "__code__", None) for handler in handlers} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False
