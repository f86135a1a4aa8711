"""Class `TextFormatter`: log records as lines of text, with control characters escaped.

Names, messages and values can therefore neither imitate a log line nor control the terminal.
"""

from __future__ import annotations

import logging
import re

from ._levels import LogLevel, level_of

# C0 controls, DEL and C1 controls; soft hyphen and zero-width space; line and paragraph separators; bidirectional
# controls; the byte order mark; lone surrogates; tag characters. Joiners are allowed: Persian and emoji need them.
_UNSAFE = (
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)

_TAGS = {level: f"[{level.name}]" for level in LogLevel} | {LogLevel.WARNING: "[WARN]"}
_COLORS = {
    LogLevel.DEBUG: "2",
    LogLevel.INFO: "34",
    LogLevel.SYSTEM: "35",
    LogLevel.SUCCESS: "32",
    LogLevel.WARNING: "33",
    LogLevel.ERROR: "31",
}
_DIM = "2"

# Aligns with the tag. A log line starts with its time, so a line that starts with a space is never taken for one.
_INDENT = " " * 10


def escape(text: str) -> str:
    r"""Return `text` with line breaks, control and bidirectional characters escaped: `\n`, `\x1b`, `\u202e`."""
    # Most texts are printable: they need neither the pattern nor its compilation.
    if text.isprintable():
        return text
    return re.sub(_UNSAFE, lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def safe_str(value: object) -> str:
    """Return `str(value)`, or `unprintable(value)` if that raises."""
    try:
        # str() may return an instance of a subclass of str; str.__str__() returns a str.
        return str.__str__(str(value))
    except Exception:
        return unprintable(value)


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or `unprintable(value)` if that raises."""
    try:
        return str.__str__(repr(value))
    except Exception:
        return unprintable(value)


def unprintable(value: object) -> str:
    """Return a placeholder for a value whose `str` or `repr` raises: `<unprintable Thing>`."""
    return f"<unprintable {type(value).__name__}>"


def message_of(record: logging.LogRecord) -> str:
    """Return the record's message; if formatting raises, the format, the arguments and the error."""
    try:
        return safe_str(record.getMessage())
    except Exception as error:
        message = safe_str(record.msg)
        if not record.args:
            return message
        return f"{message} (arguments {safe_repr(record.args)} do not fit: {safe_str(error)})"


def traceback_of(record: logging.LogRecord) -> str | None:
    """Return the record's traceback as text, or None."""
    if record.exc_info and record.exc_info[1] is not None:
        try:
            return logging.Formatter().formatException(record.exc_info)
        except Exception:
            return f"{type(record.exc_info[1]).__name__}: its traceback cannot be shown"
    return record.exc_text or None


class TextFormatter(logging.Formatter):
    """Formats a record as one line of text: `14:30:05  [INFO] Starting task "load"...`.

    A traceback follows on indented lines. Control characters in names, messages and values are escaped. Keywords that
    were passed to a method of [`FlowkitLogger`][flowkit_log.FlowkitLogger] follow the message as `key=value`.

    Args:
        colors: print the level in color and the time dim, with ANSI escape sequences.
        datefmt: the format of the time, for `time.strftime`. The time is local.

    ```python
    import logging

    from flowkit_log import TextFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter(datefmt="%Y-%m-%d %H:%M:%S"))
    logging.getLogger("flowkit").addHandler(handler)
    ```
    """

    def __init__(self, colors: bool = False, datefmt: str = "%H:%M:%S") -> None:
        super().__init__(datefmt=datefmt)
        self.colors = colors

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, without a trailing newline."""
        return self.render(record, self.colors)

    def render(self, record: logging.LogRecord, colors: bool) -> str:
        """Return the record as text, with or without colors: the parameter overrides the attribute `colors`."""

        def paint(text: str, color: str) -> str:
            return f"\x1b[{color}m{text}\x1b[0m" if colors and text else text

        level = level_of(record.levelno)
        time = paint(self.formatTime(record, self.datefmt), _DIM)
        line = f"{time}  {paint(_TAGS[level], _COLORS[level])} {escape(message_of(record))}"
        if context := getattr(record, "flowkit_context", None):
            line += "  " + paint(_pairs(context), _DIM)
        for block in (traceback_of(record), record.stack_info):
            if block:
                line += "".join(f"\n{_INDENT}{escape(part)}" for part in block.split("\n"))
        return line


def _pairs(context: dict[str, object]) -> str:
    return " ".join(f"{escape(key)}={escape(_value(value))}" for key, value in context.items())


def _value(value: object) -> str:
    if not isinstance(value, str):
        return safe_repr(value)
    # Quoted if it is empty, or has spaces, quotes or equals signs, which would be ambiguous.
    text = safe_str(value)
    return text if text.isprintable() and text and not set(text) & set(" \"'=") else safe_repr(value)
