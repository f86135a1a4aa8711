"""Foreign exceptions and values in words: whatever their classes do when they are asked, these functions never fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowkit_core.failures import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")
    U = TypeVar("U")

LONGEST_TEXT = 1 << 20


def described(error: BaseException) -> str:
    """Return the type and the message of an exception, whatever its class does when it is asked."""
    return safe(lambda: describe_error(error))


def kind_of(value: Any) -> str:
    """Return the name of the type of a value, whatever that does when it is asked."""
    return safe(lambda: type(value).__name__)


def shown(value: Any) -> str:
    """Return ``repr(value)``, whatever it does."""
    return safe(lambda: repr(value))


def safe(text: Callable[[], str], longest: int = LONGEST_TEXT) -> str:
    """Return a text that foreign code makes, as a plain one, whatever that does."""
    return tried(lambda: clipped(str.__str__(str(text())), longest), "<unprintable>")


def tried(make: Callable[[], T], otherwise: U) -> T | U:
    """Return what foreign code makes, or something else where it fails in whatever way."""
    try:
        return make()
    except BaseException:
        return otherwise


def clipped(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text, without its middle if it is longer than ``longest`` characters."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n... ({len(text) - longest} characters left out) ...\n{text[-half:]}"


def is_for_the_program(error: BaseException) -> bool:
    """Say whether an exception came upon the user's code from outside: an interrupt, or out of a signal's handler."""
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
