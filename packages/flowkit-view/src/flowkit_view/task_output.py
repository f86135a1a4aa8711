"""Class `TaskOutput`: puts what tasks print above the bars of a terminal, as whole lines."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

from flowkit_log import ConsoleHandler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class LinesAbove:
    """A text stream that takes the place of `sys.stdout` and prints each line above the bars of a console.

    A thread's text is held back until its line ends, or until the thread flushes it.

    Args:
        stream: the stream whose place it takes.
        console: the console with the bars.
    """

    def __init__(self, stream: TextIO, console: ConsoleHandler) -> None:
        self.stream = stream
        self._console: ConsoleHandler | None = console
        self._process = os.getpid()
        self._begun: dict[int, str] = {}  # thread -> the line that it has begun

    def write(self, text: str) -> int:
        """Print the lines that end in a text, and return the number of its characters."""
        console = self._console
        if console is None or os.getpid() != self._process:  # a worker process has no bars
            return self.stream.write(text)
        thread = threading.get_ident()
        ended, newline, begun = (self._begun.pop(thread, "") + text).rpartition("\n")
        if begun:
            self._begun[thread] = begun
        if newline:
            console.print_above(ended + newline)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each text of an iterable."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Print the line that the calling thread has begun, with a line feed."""
        if threading.get_ident() in self._begun and os.getpid() == self._process:
            self.write("\n")
        self.stream.flush()

    def end(self) -> None:
        """Print all lines that have begun; from now on, pass everything on to the stream."""
        console, self._console = self._console, None
        for line in [*self._begun.values()]:
            if console is not None:
                console.print_above(f"{line}\n")
        self._begun.clear()

    def __iter__(self) -> Iterator[str]:
        return iter(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class TaskOutput:
    """Sends `sys.stdout` through `LinesAbove` while runs show bars on the same terminal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._lines: LinesAbove | None = None

    def open(self, name: str) -> bool:
        """Begin for a run whose bars are on a console of the logger with this name, or of one above it.

        Returns:
            Whether the console redraws bars in place.
        """
        with self._lock:
            self._users += 1
            console = next(_consoles(logging.getLogger(name)), None)
            if console is None or not console.live:
                return False
            if self._lines is None and _same_file(sys.stdout, console.stream):
                sys.stdout = self._lines = LinesAbove(sys.stdout, console)
            return True

    def close(self) -> None:
        """End when the last run has ended."""
        with self._lock:
            self._users -= 1
            lines = self._lines
            if not self._users and lines is not None:
                self._lines = None
                lines.end()
                if sys.stdout is lines:
                    sys.stdout = lines.stream


def _consoles(logger: logging.Logger | None) -> Iterator[ConsoleHandler]:
    while logger is not None:
        yield from (handler for handler in logger.handlers if isinstance(handler, ConsoleHandler))
        logger = logger.parent if logger.propagate else None


def _same_file(one: TextIO | None, other: TextIO | None) -> bool:
    """Return whether two streams write to the same file, such as a terminal."""
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())  # type: ignore[union-attr]
    except Exception:
        return False  # a stream that has no file


task_output = TaskOutput()
