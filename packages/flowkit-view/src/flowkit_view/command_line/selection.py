"""Functions `open_records` and `select_run`: the file of recorded runs, and the run that an argument denotes."""

from __future__ import annotations

import os
import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from flowkit_core import MissingDistributionError
from flowkit_core._text import did_you_mean
from flowkit_core.recorded.reports import REPORT_SUFFIXES
from flowkit_state import StateManager, StateOptionError, UnknownRunError
from flowkit_state._validation import SQLITE_SUFFIXES

from .parameters import parse_age, parse_seconds
from .usage_error import UsageError

if TYPE_CHECKING:
    from flowkit_state import RunRecord, TaskRecord


def check_name(path: str) -> None:
    """Raise `UsageError` if runs cannot be recorded in a file of this name."""
    if not path.lower().endswith(SQLITE_SUFFIXES):
        raise UsageError(
            f"--state {path!r} does not end in {', '.join(SQLITE_SUFFIXES)}: runs are recorded in a SQLite database"
        )


def check_progress(wanted: str) -> None:
    """Raise `UsageError` if what shows progress, `wanted`, lacks the distribution that has the bars."""
    try:
        import flowkit_log  # noqa: F401
    except ModuleNotFoundError:
        raise UsageError(str(MissingDistributionError(wanted, "flowkit-log"))) from None


def check_report_name(option: str, path: str) -> None:
    """Raise `UsageError` if a report, which is HTML, would get another name."""
    if not path.lower().endswith(REPORT_SUFFIXES):
        raise UsageError(f"{option} {path!r}: a report is HTML; name a file that ends in .html")


def open_records(path: str) -> StateManager:
    """Open a file of recorded runs.

    Raises:
        UsageError: there is no such file, and opening it must not create one; or it is another kind of file.
        StateFileError: it is not a file of flowkit-state.
    """
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {path!r}: runs are recorded with run(state=...) or flowkit run --state")
    try:
        return StateManager(path)
    except StateOptionError:
        raise UsageError(f"{path!r} is not a file of recorded runs, such as runs.db") from None


def select_run(state: StateManager, text: str, pipeline: str | None = None) -> RunRecord:
    """Return a recorded run.

    Args:
        state: the records.
        text: the id of the run, the first characters of it, `last`, or `last~N`: the Nth run before the last one.
        pipeline: name of a pipeline; only its runs count for `last`.

    Raises:
        UsageError: there is no such run, or several.
    """
    match = re.fullmatch(r"last(?:~(\d+))?", text)
    if match is not None:
        number = int(match[1] or 0)
        runs = state.runs(pipeline, limit=number + 1)
        if len(runs) <= number:
            check_pipeline(state, pipeline)
            of = "" if pipeline is None else f" of {pipeline!r}"
            recorded = "1 run is" if len(runs) == 1 else f"{len(runs) or 'no'} runs are"
            raise UsageError(f"there is no run {text!r}{of}: {recorded} recorded")
        return runs[number]
    try:
        return state.run(text)
    except UnknownRunError:
        found = [run for run in state.runs(pipeline) if text and run.run_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} runs begin with {text!r}: {', '.join(run.run_id for run in found[:3])}")
    others = [run for run in state.runs() if text and run.run_id.startswith(text)] if pipeline else []
    if others:
        raise UsageError(f"run {others[0].run_id} is one of {others[0].pipeline!r}, and not of --pipeline {pipeline!r}")
    raise UsageError(f"there is no run {text!r}: flowkit runs lists the recorded runs")


def select_run_and_task(
    state: StateManager, text: str, task: str | None, pipeline: str | None = None
) -> tuple[RunRecord, str | None]:
    """Return the run and the name of the task that two arguments denote, also if they are in the other order.

    Args:
        state: the records.
        text: the argument for the run, as for `select_run`.
        task: the argument for the task or the element, or None if it is not given.
        pipeline: name of a pipeline; only its runs count.

    Raises:
        UsageError: there is no such run; or one argument denotes a run, and the other none of its tasks.
    """
    try:
        run = select_run(state, text, pipeline)
    except UsageError as error:
        try:
            run = select_run(state, task or "last", pipeline)
        except UsageError:
            raise error from None
        try:
            select_element(run, text)
        except UsageError as no_task:
            raise (error if task is None else no_task) from None
        return run, text
    if task is None or text != "last":
        return run, task
    try:
        select_element(run, task)
    except UsageError:
        try:
            return select_run(state, task, pipeline), None
        except UsageError:
            pass
    return run, task


def check_pipeline(state: StateManager, pipeline: str | None) -> None:
    """Raise `UsageError` if no run of a pipeline is recorded, and runs of others are."""
    if pipeline is None or state.runs(pipeline, limit=1):
        return
    names = [*dict.fromkeys(run.pipeline for run in state.runs())]
    if names:
        guess = did_you_mean(pipeline, names) or f"; there are runs of {', '.join(names[:12])}"
        raise UsageError(f"--pipeline {pipeline!r}: no run of it is recorded{guess}")


def select_task(run: RunRecord, name: str) -> TaskRecord:
    """Return the record of a task. Raises `UsageError` if the run has no such task."""
    if name not in run.tasks:
        guess = did_you_mean(name, run.tasks) or f"; there are: {', '.join([*run.tasks][:12])}"
        raise UsageError(f"run {run.run_id} of {run.pipeline!r} has no task {name!r}{guess}")
    return run.tasks[name]


def select_element(run: RunRecord, name: str) -> tuple[TaskRecord, int | None]:
    """Return the record of a task, and the number of the element that `name` denotes, as in `parse[3]`, or None.

    Raises:
        UsageError: the run has no such task, or the task has no such recorded element.
    """
    match = re.fullmatch(r"(.+)\[(\d+)\]", name, re.DOTALL)
    if name in run.tasks or match is None or match[1] not in run.tasks:
        return select_task(run, name), None
    task, number = run.tasks[match[1]], int(match[2])
    if task.elements is None:
        raise UsageError(f"no elements of task {task.name!r} are recorded in run {run.run_id}: write {task.name!r}")
    if task.elements.size is not None and number >= task.elements.size:
        raise UsageError(f"task {task.name!r} of run {run.run_id} has no element {number}: it has {task.elements.size}")
    return task, number


def parse_since(text: str) -> datetime | date | timedelta:
    """Return the start of a range: a duration before now, as in `7d`, a date, or a date and time in ISO 8601.

    Raises:
        UsageError: the text is none of these.
    """
    try:
        parse_seconds(text)
    except ValueError:
        pass
    else:
        try:
            return timedelta(seconds=parse_age(text))
        except ValueError as error:
            raise UsageError(f"--since {error}") from None
    try:
        return date.fromisoformat(text) if len(text) == len("2026-11-29") else datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since {text!r} is neither a duration, such as 7d, nor a date, such as 2026-11-29"
        ) from None
