"""Function `follow`: shows the progress of a recorded run that goes on in another process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flowkit_core._text import escape_control_chars
from flowkit_log import get_logger

from .progress import MAX_FAILED, NAME, ElementBar, TaskBar, own_console

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_state import RunRecord, StateManager

INTERVAL = 0.5
"""Seconds between two polls of the record, at least."""
SHARE = 0.1
"""Greatest part of the time that reading the record may take."""


def follow(
    state: StateManager, run: RunRecord, *, quiet: bool = False, sleep: Callable[[float], object] = time.sleep
) -> RunRecord:
    """Show the progress of a run until it ends, and return its record then.

    Args:
        state: the records.
        run: the run.
        quiet: whether nothing is printed.
        sleep: waits; for tests.
    """
    if run.status != "running":
        return run
    owns_console = not quiet and own_console.open()
    bar = TaskBar(get_logger(NAME), escape_control_chars(run.pipeline), total=len(run.tasks))
    failed: set[str] = set()
    mapped: dict[str, ElementBar] = {}
    failed_elements: dict[str, set[int]] = {}
    try:
        while True:
            if not quiet:
                _show(run, bar, failed)
                _show_elements(run, mapped)
                _show_failed_elements(run, failed_elements)
            if run.status != "running":
                return run
            began = time.monotonic()
            sleep(INTERVAL)
            run = state.run(run.run_id)
            took = time.monotonic() - began - INTERVAL
            if took > INTERVAL * SHARE:
                sleep(took / SHARE)
    finally:
        if not quiet:
            for each in (*mapped.values(), bar):
                each.finish()
        if owns_console:
            own_console.close()


def _show(run: RunRecord, bar: TaskBar, failed: set[str]) -> None:
    """Print the failures that are new, and advance the bar to the number of tasks that have ended."""
    for name, task in run.tasks.items():
        if task.state == "failed" and name not in failed:
            failed.add(name)
            get_logger(NAME).error(
                'Task "%s" failed: %s', escape_control_chars(name), escape_control_chars(str(task.error))
            )
    ended = sum(task.state != "pending" for task in run.tasks.values())
    bar.advance(max(0, ended - bar.count))


def _show_failed_elements(run: RunRecord, shown: dict[str, set[int]]) -> None:
    """Print the failures of elements that are new, unless many of the task have been printed.

    Args:
        run: the run.
        shown: name of a mapped task -> numbers of the failed elements that have been printed.
    """
    for name, task in run.tasks.items():
        printed = shown.setdefault(name, set())
        if task.elements is None or task.elements.counts.get("failed", 0) <= len(printed) or len(printed) >= MAX_FAILED:
            continue
        labels = task.elements.labels
        for number, error in task.elements.failed.items():
            if number not in printed and len(printed) < MAX_FAILED:
                printed.add(number)
                label = f" ({labels[number]})" if number in labels else ""
                more = "; further failures of its elements are only counted" if len(printed) == MAX_FAILED else ""
                text = escape_control_chars(f"{name}[{number}]{label} failed: {error}")
                get_logger(NAME).warning("Element %s%s", text, more)


def _show_elements(run: RunRecord, bars: dict[str, ElementBar]) -> None:
    """Advance the bar of each mapped task that is running to the number of its elements that have ended.

    Args:
        run: the run.
        bars: name of a mapped task that is running -> its bar.
    """
    for name, task in run.tasks.items():
        if task.elements is None or (task.state != "pending" and name not in bars):
            continue
        counts = task.elements.counts
        ended = sum(counts.values()) - counts.get("pending", 0)
        if name not in bars:
            bars[name] = ElementBar(escape_control_chars(name), task.elements.size, time.monotonic, ended)
        bars[name].advance(max(0, ended - bars[name].count))
        if task.state != "pending":
            bars.pop(name).finish()
