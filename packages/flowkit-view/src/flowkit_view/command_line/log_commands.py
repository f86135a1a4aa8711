"""Command `logs`: prints what a recorded run has logged."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from flowkit_core._text import escape_control_chars
from flowkit_view.texts import time_text

from .exit_codes import SUCCEEDED
from .output import json_value, print_json, print_text, write_output
from .selection import open_records, select_element, select_run_and_task
from .usage_error import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from flowkit_state import LogLine, StateManager

INTERVAL = 0.5
"""Seconds between two polls of `flowkit logs --follow`."""
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def logs(options: Namespace) -> int:
    """Print what a run has logged, and with --follow what it logs until it ends."""
    level = _level(options.level)
    with open_records(options.state) as state:
        run, name = select_run_and_task(state, options.run, options.task, options.pipeline)
        task, element = (None, None) if name is None else select_element(run, name)

        def recorded(level: int, after: int = 0) -> list[LogLine]:
            lines = state.logs(run.run_id, None if task is None else task.name, level=level, after=after)
            return [line for line in lines if element is None or line.element == element]

        if options.follow:
            _follow(state, run.run_id, partial(recorded, level), as_json=options.json)
            return SUCCEEDED
        lines = recorded(level)
        if options.json:
            print_json([_line_object(line) for line in lines])
        elif lines:
            print_text("\n".join(map(_line_text, lines)))
        else:
            print_text(_nothing(run.run_id, name, options.level if recorded(0) else None))
    return SUCCEEDED


def _follow(state: StateManager, run_id: str, recorded: Callable[[int], list[LogLine]], *, as_json: bool) -> None:
    """Print the lines of a run as they are recorded, until it ends.

    Args:
        state: the records.
        run_id: id of the run.
        recorded: returns the lines after the one with a number.
        as_json: whether each line is printed as a JSON object.
    """
    last = 0
    while True:
        is_running = state.run(run_id).status == "running"  # before the lines are read, so that none is missed
        for line in recorded(last):
            last = line.number
            if as_json:
                write_output(json.dumps(json_value(_line_object(line)), ensure_ascii=False) + "\n")
            else:
                print_text(_line_text(line))
        if not is_running:
            return
        time.sleep(INTERVAL)


def _level(text: str) -> int:
    level = int(text) if text.isdecimal() else _LEVELS.get(text.lower())
    if level is None:
        raise UsageError(f"--level {text!r} is none of {', '.join(_LEVELS)}, and no number")
    return level


def _nothing(run_id: str, task: str | None, level: str | None) -> str:
    """Return that there are no lines, or, with a level, that there are only lines of lower levels."""
    of = f"run {run_id}" if task is None else f"task {task!r} of run {run_id}"
    if level is not None:
        return f"no log lines of {of} have the level {level} or a higher one; without --level there are some"
    return f"no log lines of {of} are recorded; flowkit show has its tasks, and flowkit why the traceback of one"


def _line_text(line: LogLine) -> str:
    """Return a line as it is printed; the further lines of its message are indented."""
    element = "" if line.element is None else f"[{line.element}]"
    where = "" if line.task is None else f"{line.task}{element}: "
    first, *rest = line.message.split("\n")
    head = f"{time_text(line.time)}  [{line.level}] {where}{first}"
    return "\n".join(escape_control_chars(each) for each in [head, *(f"    {each}" for each in rest)])


def _line_object(line: LogLine) -> dict[str, Any]:
    names = ("number", "execution", "time", "level", "levelno", "logger", "task", "element", "attempt", "message")
    return {name: getattr(line, name) for name in names}
