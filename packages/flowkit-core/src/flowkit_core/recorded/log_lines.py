"""Class `LogLines`: the log lines of a run, which are committed to its record."""

from __future__ import annotations

from _thread import allocate_lock
from time import monotonic

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import safe_warn
from flowkit_core.failures import describe_error
from flowkit_core.log_records import CONTEXT
from flowkit_core.persistence import LogLine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import LogRecord

    from flowkit_core._typing import Any
    from flowkit_core.persistence import LogJournal

MAX_LINES = 10_000
"""Maximum number of lines that are kept of an execution of a run."""
MAX_CHARACTERS = 8_000
"""Maximum length of a message; the rest of a longer one is left out."""
INTERVAL = 0.5
"""Seconds after a commit in which further lines wait for the next outcome of a task, or for a line after that time."""
PROGRESS = "flowkit.progress"
"""Name of the logger of ``run(progress=True)``, whose lines say nothing that the record lacks."""
_WARNING = 30


class LogLines:
    """The log lines of one execution of a run.

    A line is committed at once if none was committed in the last half second; others wait for the next line after that,
    the next outcome of a task, or the end of the run.

    Args:
        journal: the record of the run.
        pipeline: name of the pipeline, for warnings.
    """

    def __init__(self, journal: LogJournal, pipeline: str) -> None:
        self._journal: LogJournal | None = journal
        self._pipeline = pipeline
        self._lines: list[LogLine] = []
        self._lock = allocate_lock()  # held while lines are committed
        self._due = 0.0
        self._left = MAX_LINES

    def add(self, record: LogRecord, facts: Mapping[str, Any]) -> None:
        """Keep a log record.

        Those of events that the record of the run has are left out, unless they are warnings, and those of progress.

        Args:
            record: the log record.
            facts: its attributes of the run: task, element, attempt; the event, if it is about one; and its context.
        """
        if self._left < 0 or record.name == PROGRESS or ("event" in facts and record.levelno < _WARNING):
            return
        self._left -= 1
        if self._left < 0:
            text = f"the record keeps {MAX_LINES:,} log lines of an execution: further ones are left out"
            self._lines.append(LogLine(record.created, "WARNING", _WARNING, "flowkit", text))
        else:
            line = LogLine(
                record.created, record.levelname, record.levelno, record.name, _message(record, facts.get(CONTEXT))
            )
            line.task, line.element, line.attempt = facts.get("task"), facts.get("element"), facts.get("attempt")
            self._lines.append(line)
        if monotonic() >= self._due:
            self.flush()

    def flush(self, *, is_last: bool = False) -> None:
        """Commit the lines, unless another call does so at the moment.

        Args:
            is_last: whether to wait for that call, and keep no more lines after this one.
        """
        if not self._lines and not is_last:
            return
        if not self._lock.acquire(is_last, 10.0 if is_last else -1):
            return
        try:
            journal, lines = self._journal, self._lines
            if journal is None:
                return
            count = len(lines)
            if count and journal.log(lines[:count]):
                del lines[:count]
                self._due = monotonic() + INTERVAL
        except Exception as error:
            self._journal = None
            safe_warn(
                f"log lines of {self._pipeline!r} could not be recorded, and no more will be: {describe_error(error)}"
            )
        finally:
            if is_last:
                self._journal = None
            self._lock.release()


def _message(record: LogRecord, context: Mapping[str, Any] | None) -> str:
    """Return the message of a log record with its context and the traceback, or the error of formatting it."""
    try:
        text = record.getMessage()
        if context:
            text = f"{text}  {' '.join(f'{key}={value}' for key, value in context.items())}"
        if record.exc_info:
            from logging import Formatter

            text = f"{text}\n{Formatter().formatException(record.exc_info)}"
        elif record.exc_text:
            text = f"{text}\n{record.exc_text}"
    except Exception as error:
        text = f"{record.msg} (its arguments do not fit: {describe_error(error)})"
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
