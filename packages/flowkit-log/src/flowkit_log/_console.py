"""The console: lines and progress bars on one stream, which may be a terminal, a file, a pipe, or gone."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from contextlib import suppress

from ._text_formatter import TextFormatter, escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    from ._progress import Progress

# Bars by their number. Records carry the number, not the bar, so that they can be pickled and written as JSON.
OPEN_BARS: weakref.WeakValueDictionary[int, Progress[Any]] = weakref.WeakValueDictionary()


class ConsoleHandler(logging.Handler):
    """Prints records to a stream, with colors and with progress bars in place where the stream is a terminal.

    [`configure_logging`][flowkit_log.configure_logging] makes one; make your own to attach it elsewhere, or by
    `logging.config.dictConfig`. A stream that is missing, closed or a broken pipe swallows the lines; characters that
    its encoding does not have are escaped.

    Args:
        stream: where to print. None is whatever `sys.stderr` is at the time of each line, so redirection works.
        use_colors: True and False force it. None colors a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`, and
            everything if `FORCE_COLOR` is set.
        level: the lowest level to print.
        size: returns the columns and rows of the terminal; for tests.

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
        """The stream that the next line goes to."""
        return sys.stderr if self._stream is None else self._stream

    @property
    def live(self) -> bool:
        """Whether progress bars are redrawn in place: the lines are text and the stream is a terminal."""
        return isinstance(self.formatter, TextFormatter) and _obeys_codes(self.stream)

    @property
    def colored(self) -> bool:
        """Whether the next line is colored."""
        if self._use_colors is not None:
            return self._use_colors
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or _obeys_codes(self.stream)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as its formatter writes it."""
        if isinstance(self.formatter, TextFormatter):
            return self.formatter.render(record, self.colored)
        return super().format(record)

    def handle(self, record: logging.LogRecord) -> bool:
        """Print the record, if the handler's filters let it pass.

        The lock is taken later, in `emit`: an argument whose text is made by code that logs could otherwise block two
        threads, each holding the lock of the handler that the other one wants.
        """
        kept: object = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, above the progress bars."""
        try:
            text = self.format(record) + "\n"
            self.acquire()
            try:
                bar = _bar_of(record)
                if bar is not None and self.live:
                    running = _says(record, status="running")
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
        """Redraw the progress bars, if the one with this number is among them."""
        self.acquire()
        try:
            if bar in self._bars:
                self._print("")
        except Exception:
            self.handleError(_bar_record())
        finally:
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Report an error of the handler's own on `sys.stderr`, as `logging.raiseExceptions` says."""
        # The standard one raises where sys.stderr is closed, and a log line must never fail a task.
        with suppress(Exception):
            super().handleError(record)

    def close(self) -> None:
        """Leave the bars that are still there as they are, and the cursor below them."""
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
        """Return whether another handler prints where this one does."""
        other, own = getattr(handler, "stream", None), self.stream
        return other is not None and (other is own or (_is_terminal(other) and _is_terminal(own)))

    def _print(self, lines: str) -> None:
        """Write lines and the bars below them, over what the bars had drawn: one write, so nothing comes in between."""
        erase = ""
        if self._rows_drawn and self._drawn_on is self.stream:
            up = f"\x1b[{self._rows_drawn - 1}A" if self._rows_drawn > 1 else ""
            erase = f"\r{up}\x1b[J"
        bars = self._draw()
        self._rows_drawn, self._drawn_on = len(bars), self.stream if bars else None
        self._write(erase + lines + "\n".join(bars))

    def _draw(self) -> list[str]:
        """Return a row per bar, each narrower than the terminal, for a row that wraps cannot be erased."""
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
                tail = f": {bar.status()}"
                drawn.append(head + _fit(_fit(escape(bar.label), room - len(tail)) + tail, room))
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
            return  # nobody reads any more, which is for the program to notice, not for its log


def _bar_record() -> logging.LogRecord:
    """Return what stands in front of a bar, the time and the level, as a record."""
    return logging.makeLogRecord({"levelno": logging.INFO})


def _bar_of(record: logging.LogRecord) -> int | None:
    """Return the number of the bar that the record is about, if there still is such a bar."""
    number = getattr(record, "progress_id", None)
    return number if isinstance(number, int) and number in OPEN_BARS and _says(record, event="progress") else None


def _says(record: logging.LogRecord, **facts: str) -> bool:
    return all(getattr(record, name, None) == value for name, value in facts.items())


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except Exception:
        return False


def _obeys_codes(stream: object) -> bool:
    """Return whether the stream is a terminal that understands ANSI codes."""
    if not _is_terminal(stream) or os.environ.get("TERM") == "dumb":
        return False
    # An old Windows console prints the codes; the ones that understand them say who they are.
    return os.name != "nt" or any(os.environ.get(name) for name in ("WT_SESSION", "ANSICON", "ConEmuANSI", "TERM"))


def _terminal_size(stream: object) -> tuple[int, int]:
    try:
        columns, rows = os.get_terminal_size(stream.fileno())  # type: ignore[attr-defined]
    except Exception:
        columns, rows = 0, 0
    return columns or 80, rows or 24


def _fit(text: str, columns: int) -> str:
    """Return `text`, shortened to this many columns of a terminal."""
    if _columns(text) <= columns:
        return text
    dots = "..." if columns > 3 else ""
    kept, room = "", columns - len(dots)
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return kept + dots


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
