"""Output of the commands: JSON, plain lines, and tables that fit the terminal."""

from __future__ import annotations

import json
import math
import os
import sys
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from flowkit_core._text import counts_text, escape_control_chars, short_repr
from flowkit_core.failures import describe_error
from flowkit_core.results import RaisedError
from flowkit_view.texts import param_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from flowkit_core import Elements, Results
    from flowkit_state import AttemptRecord, ElementsRecord, ExecutionRecord, RunRecord, TaskError, TaskRecord

STATE_COLORS = {
    "succeeded": "green",
    "failed": "red",
    "interrupted": "yellow",
    "running": "cyan",
    "skipped": "dim",
    "upstream_failed": "magenta",
    "cancelled": "yellow",
    "pending": "dim",
}
TABLE_PARAM_WIDTH = 40
"""Maximum number of characters of the `repr` of a parameter in a table."""
COLORED = ("status", "state")
"""Headings of columns that have the color of the row."""
MAX_FAILED = 100
"""Number of the failed elements of a mapped task that JSON has."""


def write_output(text: str) -> None:
    """Write a text to standard output and flush it; if the reader, such as `head`, has ended, the text is dropped.

    Characters that the encoding of standard output lacks are replaced. If the text cannot be written, because the disk
    is full for example, standard error says so; the exit code is that of the command.
    """
    encoding = getattr(sys.stdout, "encoding", None)
    if encoding and not text.isascii():
        text = text.encode(encoding, "replace").decode(encoding)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"flowkit: standard output cannot be written: {describe_error(error)}\n")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def print_json(value: Any) -> None:
    """Print a value as JSON, on one line per item of the outermost list or object."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    write_output(json.dumps(json_value(value), indent=2, ensure_ascii=not is_unicode) + "\n")


def json_value(value: Any) -> Any:
    """Return a value that JSON has: the value itself, ISO 8601 for dates and times, and a shortened `repr` for others.

    Examples:
        >>> json_value({"day": date(2026, 11, 29), "limit": 3, "of": {1j}})
        {'day': '2026-11-29', 'limit': 3, 'of': '{1j}'}
    """
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is str:
        return value.encode("utf-8", "backslashreplace").decode()
    if type(value) is float:
        return value if math.isfinite(value) else repr(value)
    if type(value) in (list, tuple):
        return [json_value(item) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {json_value(key): json_value(item) for key, item in value.items()}
    if type(value) in (date, datetime, time):
        return value.isoformat()
    if type(value) is timedelta:
        return value.total_seconds()
    return short_repr(value)


def print_text(text: str = "") -> None:
    """Print lines, with their control characters escaped."""
    write_output("\n".join(escape_control_chars(line) for line in text.split("\n")) + "\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str | None] = (),
    details: Sequence[str] = (),
    right: Sequence[str] = (),
) -> None:
    """Print a table: as wide as the terminal at most; without a terminal, as wide as its content.

    Args:
        columns: the headings.
        rows: the cells.
        styles: a color for each row, or None.
        details: headings of columns that are printed below their row if the table does not fit the terminal.
        right: headings of columns that are aligned to the right, such as those of numbers.
    """
    cells = [[escape_control_chars(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        print_text("\n".join("  ".join(line).rstrip() for line in _padded(columns, cells, right)))
        return
    from rich.console import Console

    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    with console.capture() as captured:
        lines = _padded(columns, cells, right)
        below = [column for column, heading in enumerate(columns) if heading in details]
        if _table_width(lines) <= console.width:
            _print_lines(console, columns, lines, styles)
        elif _table_width(lines, below) < console.width:
            left = [column for column in range(len(columns)) if column not in below]
            chosen = [[line[column] for column in left] for line in lines]
            notes = ["; ".join(filter(None, (row[column] for column in below))) for row in cells]
            _print_lines(console, [columns[column] for column in left], chosen, styles, notes)
        else:
            _print_folded(console, columns, cells, styles, right)
    write_output("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _padded(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> list[list[str]]:
    """Return the headings and the rows, with all cells of a column as wide as the widest one."""
    widths = [max(map(text_width, column)) for column in zip(columns, *rows, strict=True)]
    lines = []
    for row in (columns, *rows):
        line = []
        for heading, cell, width in zip(columns, row, widths, strict=True):
            space = " " * (width - text_width(cell))
            line.append(space + cell if heading in right else cell + space)
        lines.append(line)
    return lines


def _table_width(lines: Sequence[Sequence[str]], without: Sequence[int] = ()) -> int:
    widths = [text_width(cell) for column, cell in enumerate(lines[0]) if column not in without]
    return sum(widths) + 2 * (len(widths) - 1)


def _print_lines(
    console: Console,
    columns: Sequence[str],
    lines: Sequence[Sequence[str]],
    styles: Sequence[str | None],
    notes: Sequence[str] = (),
) -> None:
    """Print a table that fits the terminal, with a note below each row that has one."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(Text("  ".join(lines[0]).rstrip(), "bold"))
    for number, line in enumerate(lines[1:]):
        style = styles[number] if number < len(styles) else None
        parts = [(cell, style or "" if heading in COLORED else "") for cell, heading in zip(line, columns, strict=True)]
        console.print(Text("  ").join(Text(*part) for part in parts))
        if notes and notes[number]:
            console.print(Padding(Text(notes[number]), (0, 0, 0, 4)), soft_wrap=False)


def _print_folded(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str | None],
    right: Sequence[str],
) -> None:
    """Print a table whose long cells take several lines."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in columns:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for number, row in enumerate(rows):
        style = styles[number] if number < len(styles) else None
        table.add_row(
            *(Text(cell, style or "" if heading in COLORED else "") for cell, heading in zip(row, columns, strict=True))
        )
    console.print(table)


def text_width(text: str) -> int:
    """Return the width of a text in columns of a terminal: wide characters of East Asia take two.

    Examples:
        >>> text_width("Größe"), text_width("日本")
        (5, 4)
    """
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


@contextmanager
def stdout_to_stderr(*, active: bool) -> Iterator[None]:
    """Send what the tasks and their processes print to standard error, so that standard output has only JSON."""
    if not active:
        yield
        return
    write_output("")
    try:
        descriptor = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # there are no such descriptors
        descriptor = None
    output, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = output
        if descriptor is not None:
            os.dup2(descriptor, 1)
            os.close(descriptor)


def params_text(params: Mapping[str, Any]) -> str:
    """Return the parameters of a run as `name=value`."""
    return " ".join(f"{name}={param_text(value, TABLE_PARAM_WIDTH)}" for name, value in params.items())


def run_object(run: RunRecord) -> dict[str, Any]:
    """Return the JSON object of a run, without its tasks."""
    return {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "status": run.status,
        "params": run.params,
        "started": run.started,
        "ended": run.ended,
        "duration": run.duration,
        "resumes": run.resumes,
        "parent": run.parent,
        "counts": run.counts,
        "error": run.error,
    }


def task_object(task: TaskRecord) -> dict[str, Any]:
    """Return the JSON object of a task of a run."""
    return {
        "name": task.name,
        "state": task.state,
        "started": task.started,
        "duration": task.duration,
        "reason": task.reason,
        "source": task.source,
        "why": task.why,
        "error": error_object(task.error),
        "elements": _elements_object(task.elements),
        "attempts": [_attempt_object(attempt) for attempt in task.attempts],
    }


def execution_object(execution: ExecutionRecord) -> dict[str, Any]:
    """Return the JSON object of an execution of a run."""
    when = ("number", "started", "ended", "outcome", "error")
    names = (*when, "process", "host", "executor", "target", "folder", "python", "cpu")
    return {name: getattr(execution, name) for name in names}


def _attempt_object(attempt: AttemptRecord) -> dict[str, Any]:
    names = ("execution", "number", "ready", "started", "ended", "duration", "waited", "process", "host", "worker")
    return {
        **{name: getattr(attempt, name) for name in names},
        "outcome": attempt.outcome,
        "error": error_object(attempt.error),
    }


def elements_text(counts: Mapping[str, int]) -> str:
    """Return the number of elements in each state.

    Examples:
        >>> elements_text({"succeeded": 3, "failed": 2, "skipped": 0})
        '3 succeeded, 2 failed'
    """
    return counts_text(_ordered(counts), "no elements")


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the numbers that are not 0, in the order of the states."""
    states = dict.fromkeys(["succeeded", "failed", "skipped", *counts])
    return {state: counts[state] for state in states if counts.get(state)}


def _elements_object(elements: ElementsRecord | Elements | None) -> dict[str, Any] | None:
    """Return the JSON object of the elements of a mapped task, with the first `MAX_FAILED` failed ones."""
    if elements is None:
        return None
    counts = _ordered(elements.counts)
    failed: Mapping[int, BaseException | TaskError] = elements.failed if "failed" in counts else {}
    return {
        "counts": counts,
        "failed": {str(number): _text_of(failed[number]) for number in sorted(failed)[:MAX_FAILED]},
    }


def _text_of(error: BaseException | TaskError) -> str:
    if isinstance(error, RaisedError):
        return error.text
    return describe_error(error) if isinstance(error, BaseException) else str(error)


def error_object(error: TaskError | None) -> dict[str, Any] | None:
    """Return the JSON object of a recorded exception."""
    return None if error is None else {"type": error.type, "message": error.message, "traceback": error.traceback}


def results_object(
    results: Results, pipeline: str, error: BaseException | None, seconds: float, resumes: int
) -> dict[str, Any]:
    """Return the JSON object of a run that has just ended."""
    failed = {name: describe_error(each) for name, each in results.failed.items()}
    return {
        "run_id": results.run_id,
        "pipeline": pipeline,
        "status": "succeeded" if error is None else "failed",
        "duration": seconds,
        "resumes": resumes,
        "error": None if error is None else describe_error(error),
        "tasks": {
            name: {
                "state": state,
                "duration": results.durations.get(name),
                "attempts": results.attempts.get(name, 0),
                "error": failed.get(name),
                "elements": _elements_object(results.elements.get(name)),
            }
            for name, state in results.states.items()
        },
    }
