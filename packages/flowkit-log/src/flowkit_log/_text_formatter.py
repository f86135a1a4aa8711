"""Log records as lines of text, in which names, messages and values can neither forge a line nor drive a terminal."""

from __future__ import annotations

import logging
import re

from ._levels import LogLevel, level_of

# C0 with newline, tab and escape; DEL and C1; soft hyphen and zero-width space; line and paragraph separators; what
# turns the direction of writing; the byte order mark; lone surrogates; invisible tags. Joiners stay: Persian and emoji
# need them.
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

# Under the tag of the line above. A log line starts with its time, so what starts with a space cannot pass for one.
_INDENT = " " * 10


def escape(text: str) -> str:
    r"""Return `text` on one line and harmless to a terminal: what is not becomes `\n`, `\x1b`, `\u202e`."""
    # Most texts are printable, and do not even pay for the pattern to be compiled.
    if text.isprintable():
        return text
    return re.sub(_UNSAFE, lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def safe_str(value: object) -> str:
    """Return `str(value)`, or a text that says what it was if that raises."""
    try:
        # Twice, for the first may return a subclass of str with methods of its own.
        return str.__str__(str(value))
    except Exception:
        return unprintable(value)


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or a text that says what it was if that raises."""
    try:
        return str.__str__(repr(value))
    except Exception:
        return unprintable(value)


def unprintable(value: object) -> str:
    """Return what stands in for a value that cannot show itself."""
    return f"<unprintable {type(value).__name__}>"


def message_of(record: logging.LogRecord) -> str:
    """Return the record's message, or, where its arguments do not fit, both of them and the reason."""
    try:
        return safe_str(record.getMessage())
    except Exception as error:
        message = safe_str(record.msg)
        if not record.args:
            return message
        return f"{message} (arguments {safe_repr(record.args)} do not fit: {safe_str(error)})"


def traceback_of(record: logging.LogRecord) -> str | None:
    """Return the record's traceback as text, or None if it has none."""
    if record.exc_info and record.exc_info[1] is not None:
        try:
            return logging.Formatter().formatException(record.exc_info)
        except Exception:
            return f"{type(record.exc_info[1]).__name__}: its traceback cannot be shown"
    return record.exc_text or None


class TextFormatter(logging.Formatter):
    """Formats records as flowkit prints them: `14:30:05  [INFO] Starting task "load"...`.

    A record is one line, followed by the traceback, if there is one, indented so that it cannot pass for a line of its
    own. Control characters in names, messages and values are shown as escapes. Context given to a
    [`FlowkitLogger`][flowkit_log.FlowkitLogger] as keywords follows the message as `key=value`.

    Args:
        colors: color the level and dim the time, with ANSI codes.
        datefmt: the format of the time, as `time.strftime` takes it. The time is local.

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
        """Return the record as text, without a newline at the end."""
        return self.render(record, self.colors)

    def render(self, record: logging.LogRecord, colors: bool) -> str:
        """Return the record as text, with or without colors, whatever the formatter was made with."""

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
    # Quotes where the value could not be told from what is around it.
    text = safe_str(value)
    return text if text.isprintable() and text and not set(text) & set(" \"'=") else safe_repr(value)
