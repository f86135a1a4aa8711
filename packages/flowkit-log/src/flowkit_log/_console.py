"""Class `ConsoleHandler`: prints log lines, and draws progress bars if its stream is a terminal."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

from ._bars import OPEN_BARS
from ._text_formatter import TextFormatter, escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_SHORT_BAR = 10  # cells of a bar whose row is wider than the terminal


class ConsoleHandler(logging.Handler):
    """Prints records to a stream; on a terminal, with colors and with progress bars that are redrawn in place.

    [`configure_logging`][flowkit_log.configure_logging] installs one. Create your own to attach it to another logger,
    or with `logging.config.dictConfig`. Lines for a stream that is missing, closed or a broken pipe are dropped.
    Characters that the encoding of the stream lacks are escaped.

    Args:
        stream: the text stream to print to. None means `sys.stderr`, looked up for each line, so redirection works.
        use_colors: True turns colors on, False turns them off. None turns them on for a terminal, unless `NO_COLOR` is
            set or `TERM` is `dumb`, and for any stream if `FORCE_COLOR` is set.
        level: the lowest level to print.
        size: a function that returns the columns and rows of the terminal; for tests.

    ```python
    import logging
    import sys

    from flowkit_log import ConsoleHandler

    logging.getLogger("flowkit").addHandler(ConsoleHandler(sys.stdout, use_colors=False))
    ```
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        use_colors: bool | None = None,
        level: int | str = logging.NOTSET,
        *,
        size: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(level)
        self.setFormatter(TextFormatter())
        self._stream = stream
        self._use_colors = use_colors
        self._size = size
        self._bars: list[int] = []
        self._rows_drawn = 0
        self._drawn_on: object = None

    @property
    def stream(self) -> TextIO | None:
        """The stream to which the next line is printed."""
        return sys.stderr if self._stream is None else self._stream

    @property
    def live(self) -> bool:
        """Whether progress bars are redrawn in place: the lines are text and the stream is a terminal."""
        return isinstance(self.formatter, TextFormatter) and _supports_ansi(self.stream)

    @property
    def colored(self) -> bool:
        """Whether the next line is colored."""
        if self._use_colors is not None:
            return self._use_colors
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or _supports_ansi(self.stream)

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record."""
        if isinstance(self.formatter, TextFormatter):
            return self.formatter.render(record, self.colored)
        return super().format(record)

    def handle(self, record: logging.LogRecord) -> bool:
        """Print the record, unless a filter of the handler rejects it.

        `emit` takes the lock after formatting, because formatting calls `str()` on arguments: if that logs, two threads
        could deadlock, each holding the lock of the handler that the other needs.
        """
        filtered: object = self.filter(record)
        if filtered:
            self.emit(filtered if isinstance(filtered, logging.LogRecord) else record)
        return bool(filtered)

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, above the progress bars."""
        try:
            text = self.format(record) + "\n"
            self.acquire()
            try:
                bar = _bar_of(record)
                if bar is not None and self.live:
                    running = _has(record, status="running")
                    if running:
                        text = ""
                    if running != (bar in self._bars):
                        (self._bars.append if running else self._bars.remove)(bar)
                self._print(text)
            finally:
                self.release()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def refresh(self, bar: int) -> None:
        """Redraw the progress bars, if the bar with this number is among them."""
        self.acquire()
        try:
            if bar in self._bars:
                self._print("")
        except Exception:
            self.handleError(_bar_record())
        finally:
            self.release()

    def print_above(self, text: str) -> None:
        r"""Print whole lines of text, such as those that a task prints, above the progress bars.

        Args:
            text: the lines, each with its line feed.

        ```python
        import sys

        from flowkit_log import ConsoleHandler

        ConsoleHandler(sys.stdout).print_above("3 rows\n")
        ```
        """
        self.acquire()
        try:
            self._print(text)
        except Exception:
            self.handleError(_bar_record())
        finally:
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Print an error of the handler itself to `sys.stderr`, if `logging.raiseExceptions` is true."""
        # The method of the base class raises if sys.stderr is closed, and a log line must never fail a task.
        with suppress(Exception):
            super().handleError(record)

    def close(self) -> None:
        """Close the handler; the bars that are still drawn stay on the screen, with the cursor below them."""
        self.acquire()
        try:
            if self._rows_drawn:
                self._rows_drawn = 0
                self._bars.clear()
                with suppress(Exception):
                    self._write("\n")
        finally:
            self.release()
        super().close()

    def shares_terminal(self, handler: logging.Handler) -> bool:
        """Return whether another handler has the same stream, or both streams are terminals."""
        other, own = getattr(handler, "stream", None), self.stream
        return other is not None and (other is own or (_is_terminal(other) and _is_terminal(own)))

    def _print(self, lines: str) -> None:
        """Replace the drawn bars by the lines with the bars below them, in a single write."""
        erase = ""
        if self._rows_drawn and self._drawn_on is self.stream:
            up = f"\x1b[{self._rows_drawn - 1}A" if self._rows_drawn > 1 else ""
            erase = f"\r{up}\x1b[J"
        bars = self._draw()
        self._rows_drawn, self._drawn_on = len(bars), self.stream if bars else None
        self._write(erase + lines + "\n".join(bars))

    def _draw(self) -> list[str]:
        """Return one row per bar, narrower than the terminal because a row that wraps cannot be erased."""
        self._bars = [bar for bar in self._bars if bar in OPEN_BARS]
        if not self._bars or not self.live or not isinstance(self.formatter, TextFormatter):
            return []
        columns, rows = self._size() if self._size else _terminal_size(self.stream)
        record = _bar_record()
        head = self.formatter.render(record, self.colored)
        room = columns - 1 - _columns(self.formatter.render(record, colors=False))
        if room < 1:
            return []
        drawn = []
        for bar in [OPEN_BARS.get(bar) for bar in self._bars[: max(rows - 1, 1)]]:
            if bar is not None:
                label = escape(bar.label)
                tail = f": {bar.status()}"
                if _columns(label) + len(tail) > room:
                    tail = f": {bar.status(_SHORT_BAR)}"
                drawn.append(head + _fit(_fit(label, max(room - len(tail), room // 4)) + tail, room))
        return drawn

    def _write(self, text: str) -> None:
        stream = self.stream
        if stream is None or getattr(stream, "closed", False):
            return
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = getattr(stream, "encoding", None) or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            if flush := getattr(stream, "flush", None):
                flush()
        except BrokenPipeError:
            return  # the program notices a closed pipe by its own writes; its log lines must not raise


def _bar_record() -> logging.LogRecord:
    """Return a record without a message, which is formatted as the prefix of a bar: time and level."""
    return logging.makeLogRecord({"levelno": logging.INFO})


def _bar_of(record: logging.LogRecord) -> int | None:
    """Return the number of the bar that logged the record, or None if there is no open bar of that number."""
    number = getattr(record, "progress_id", None)
    return number if isinstance(number, int) and number in OPEN_BARS and _has(record, event="progress") else None


def _has(record: logging.LogRecord, **attributes: str) -> bool:
    return all(getattr(record, name, None) == value for name, value in attributes.items())


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except Exception:
        return False


def _supports_ansi(stream: object) -> bool:
    """Return whether the stream is a terminal that interprets ANSI escape sequences."""
    if not _is_terminal(stream) or os.environ.get("TERM") == "dumb":
        return False
    # Old Windows consoles print escape sequences as text; those that interpret them set one of these variables.
    return os.name != "nt" or any(os.environ.get(name) for name in ("WT_SESSION", "ANSICON", "ConEmuANSI", "TERM"))


def _terminal_size(stream: object) -> tuple[int, int]:
    try:
        columns, rows = os.get_terminal_size(stream.fileno())  # type: ignore[attr-defined]
    except Exception:
        columns, rows = 0, 0
    return columns or 80, rows or 24


def _fit(text: str, columns: int) -> str:
    """Return `text`, truncated to this many columns of a terminal."""
    if _columns(text) <= columns:
        return text
    ellipsis = "..." if columns > 3 else ""
    head, room = "", columns - len(ellipsis)
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        head += character
    return head + ellipsis


def _columns(text: str) -> int:
    """Return the width of `text` in columns: East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
