"""Commands that read recorded runs: `runs`, `show`, `why`, `diff`, `watch`, `serve`, `report` and `gc`."""

from __future__ import annotations

import os
import re
from heapq import nlargest
from statistics import median
from typing import TYPE_CHECKING, Any

from flowkit_core._text import counted, counts_text, escape_control_chars
from flowkit_view.changes import change_lines
from flowkit_view.garbage import collection_paused
from flowkit_view.report.from_record import model_of
from flowkit_view.report.schedule import Schedule
from flowkit_view.texts import duration_text, run_duration_text, time_text

from .exit_codes import SUCCEEDED
from .output import (
    STATE_COLORS,
    elements_text,
    error_object,
    execution_object,
    params_text,
    print_json,
    print_table,
    print_text,
    run_object,
    task_object,
)
from .parameters import parse_age
from .selection import (
    check_pipeline,
    check_progress,
    check_report_name,
    open_records,
    parse_since,
    select_element,
    select_run,
    select_run_and_task,
)
from .usage_error import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from flowkit_state import ElementsRecord, RunDiff, RunRecord, StateManager, TaskError, TaskRecord
    from flowkit_view.report.run_model import RunModel, TaskModel

MAX_SHOWN = 100
"""Number of tasks of a run up to which `flowkit show` prints all of them."""
MAX_SLOWEST = 20
"""Number of the slowest tasks that it prints of a larger run."""
SLOWEST = 10
"""Number of tasks whose durations `flowkit diff` prints: those with the largest change."""
_RUNNING = {
    "running": "running, or waiting for a worker",
    "interrupted": "may have been running when the process ended",
}
"""Status of a run -> what is printed of the tasks that could be running."""
FAILED_ELEMENTS = 10
"""Number of failed elements of a mapped task that `flowkit why` prints."""


def runs(options: Namespace) -> int:
    """List recorded runs, newest first."""
    statuses = ["failed", "interrupted"] if options.failed else options.status
    since = None if options.since is None else parse_since(options.since)
    with open_records(options.state) as state:
        found = state.runs(options.pipeline, limit=options.limit or None, status=statuses or None, since=since)
        if not found:
            check_pipeline(state, options.pipeline)
        repairs = {} if options.json else _repairs(state, found)
        outcomes = [] if options.json else [_outcome_text(run, repairs.get(run.run_id)) for run in found]
    if options.json:
        print_json([run_object(run) for run in found])
        return SUCCEEDED
    rows = [
        (
            run.run_id,
            run.pipeline,
            run.status,
            time_text(run.started),
            run_duration_text(run.duration, run.resumes),
            outcome,
            params_text(run.params),
        )
        for run, outcome in zip(found, outcomes, strict=True)
    ]
    if rows:
        columns = ("run", "pipeline", "status", "started", "took", "tasks", "parameters")
        styles = [STATE_COLORS.get(run.status) for run in found]
        print_table(columns, rows, styles, details=("tasks", "parameters"), right=("took",))
    else:
        print_text("no such runs are recorded")
    return SUCCEEDED


def _repairs(state: StateManager, found: Sequence[RunRecord]) -> dict[str, str]:
    """Return, for each run that did not succeed and has been repaired: its id -> id of the run that did it."""
    failed = [run for run in found if run.status in ("failed", "interrupted")]
    if not failed:
        return {}
    later = state.runs(status="succeeded", since=min(run.started for run in failed))
    return {run.parent: run.run_id for run in later if run.parent is not None}


def _outcome_text(run: RunRecord, repair: str | None) -> str:
    """Return the numbers of tasks of a run in each state, of failed elements, and which run has repaired it."""
    elements = sum(map(_failed_elements, run.tasks.values()))
    parts = [counts_text(run.counts)]
    if elements:
        parts.append(f"{counted(elements, 'element')} failed")
    if repair is not None:
        parts.append(f"repaired by {repair}")
    return "; ".join(parts)


def show(options: Namespace) -> int:
    """Show one run: the outcome of each task, the critical path, and what has changed since the run before."""
    with collection_paused(), open_records(options.state) as state:
        run = select_run(state, options.run, options.pipeline)
        model = model_of(state, run)
    if options.json:
        tasks = [_task_object(run, task, model.tasks[index]) for index, task in enumerate(run.tasks.values())]
        path = [model.tasks[index].name for index in Schedule(model.tasks).path]
        facts = {"executions": [*map(execution_object, run.executions)], "tasks": tasks, "critical_path": path}
        print_json(run_object(run) | facts | {"previous": model.previous or None, "changes": model.changes})
    else:
        _show(run, model, show_all=options.all)
    return SUCCEEDED


def _task_object(run: RunRecord, task: TaskRecord, model: TaskModel) -> dict[str, Any]:
    """Return the JSON object of a task of a run, compared with earlier runs."""
    usual = median(model.history) if model.history else None
    return {**task_object(task), "usual_duration": usual, "may_be_running": _may_be_running(run, task)}


def _show(run: RunRecord, model: RunModel, *, show_all: bool) -> None:
    _print_run(run)
    _print_tasks(run, model, [*run.tasks] if show_all else _most_important(run))
    schedule = Schedule(model.tasks)
    path = schedule.path_text(model.seconds, len(model.executions))
    if path:
        print_text(f"\ncritical path: {escape_control_chars(' '.join(filter(None, (path, schedule.limits_text()))))}")
    if model.previous:
        print_text(f"\nchanged since run {model.previous} {model.previous_text}:")
        print_text("\n".join(f"  {escape_control_chars(line)}" for line in model.changes or ["nothing"]))


def _print_run(run: RunRecord) -> None:
    """Print the outcome of a run, its parameters and its executions."""
    took = f" in {run_duration_text(run.duration, run.resumes)}" if run.duration is not None else ""
    print_text(
        f"{escape_control_chars(run.pipeline)}: {run.status}{took}: {counts_text(run.counts)} (run {run.run_id})"
    )
    if run.params:
        print_text(f"parameters: {escape_control_chars(params_text(run.params))}")
    if run.parent is not None:
        print_text(f"started from run {run.parent}")
    for execution in run.executions:
        where = f" in process {execution.process} on {execution.host}" if execution.process else ""
        using = f" with executor {execution.executor}" if execution.executor else ""
        started = time_text(execution.started)
        print_text(f"execution {execution.number}: {started}{where}{using}, {execution.outcome}")
    print_text()


def _print_tasks(run: RunRecord, model: RunModel, shown: list[str]) -> None:
    """Print a table of tasks, and how many tasks are not in it."""
    columns: tuple[str, ...] = ("task", "state", "attempts", "waited", "took", "usually", "elements", "reason")
    index_of = {name: index for index, name in enumerate(run.tasks)}
    rows = [_task_row(run, run.tasks[name], model.tasks[index_of[name]]) for name in shown]
    for heading in ("usually", "elements"):
        column = columns.index(heading)
        if not any(row[column] for row in rows):
            columns, *rows = [(*row[:column], *row[column + 1 :]) for row in (columns, *rows)]
    styles = [STATE_COLORS.get(run.tasks[name].state) for name in shown]
    numbers = ("attempts", "waited", "took", "usually")
    print_table(columns, rows, styles, details=("elements", "reason"), right=numbers)
    if len(shown) < len(run.tasks):
        print_text(f"and {counted(len(run.tasks) - len(shown), 'more task')}, which --all shows")


def _most_important(run: RunRecord) -> list[str]:
    """Return the names of the tasks of a run; of many only those that failed, may be running or took longest."""
    if len(run.tasks) <= MAX_SHOWN:
        return [*run.tasks]
    called = [task for task in run.tasks.values() if task.duration is not None]
    slowest = {task.name for task in nlargest(MAX_SLOWEST, called, key=lambda task: task.duration or 0.0)}
    failed = [name for name, task in run.tasks.items() if _needs_explanation(run, task)]
    chosen = slowest.union(failed[: MAX_SHOWN - MAX_SLOWEST])
    return [name for name in run.tasks if name in chosen]


def _task_row(run: RunRecord, task: TaskRecord, model: TaskModel) -> tuple[str, ...]:
    waited = sum(attempt.waited or 0.0 for attempt in task.attempts)
    reason = model.explanation(os.path.basename(model.location))
    if _may_be_running(run, task):
        reason = _RUNNING[run.status]
    return (
        task.name,
        task.state.replace("_", " "),
        str(len(task.attempts) or ""),
        duration_text(waited) if task.attempts else "",
        duration_text(task.duration),
        duration_text(median(model.history)) if model.history else "",
        "" if task.elements is None else elements_text(task.elements.counts),
        reason,
    )


def why(options: Namespace) -> int:
    """Explain the outcome of a task in a run, or of all that failed: reason, attempts, and the failure upstream."""
    with open_records(options.state) as state:
        run, name = select_run_and_task(state, options.run, options.task, options.pipeline)
        if name is None:
            chosen = [task for task in run.tasks.values() if _needs_explanation(run, task)]
            if options.json:
                print_json([_explanation(run, task) for task in chosen])
            else:
                _explain_failures(run, chosen)
            return SUCCEEDED
        task, element = select_element(run, name)
        if element is not None and task.elements is not None:
            facts = _element_explanation(run, task, task.elements, element)
            if options.json:
                print_json([facts])
            else:
                _explain_element(facts, task.elements.failed.get(element))
        elif options.json:
            print_json([_explanation(run, task)])
        else:
            _explain(run, task)
    return SUCCEEDED


def _needs_explanation(run: RunRecord, task: TaskRecord) -> bool:
    """Return whether a task has failed, or elements of it, or it may have been running when the process ended."""
    return task.state == "failed" or _failed_elements(task) > 0 or _may_be_running(run, task)


def _explain_failures(run: RunRecord, chosen: list[TaskRecord]) -> None:
    """Explain the tasks of a run that need an explanation."""
    running = [task for task in chosen if _may_be_running(run, task) and not _failed_elements(task)]
    if len(running) == len(chosen):
        print_text(f"no task of run {run.run_id} of {run.pipeline!r} failed; its status is {run.status}")
        if run.error is not None:
            print_text(f"  {escape_control_chars(run.error)}")
    for task in running:
        print_text(f"{escape_control_chars(task.name)}: {_RUNNING[run.status]}")
    for task in chosen:
        if task not in running:
            _explain(run, task)


def _may_be_running(run: RunRecord, task: TaskRecord) -> bool:
    """Return whether a task could be running, or was when the process died: starts of attempts are not recorded."""
    if run.status not in _RUNNING or task.state != "pending":
        return False
    upstream = [run.tasks[name].state for name in task.upstream if name in run.tasks]
    return task.elements is not None or "pending" not in upstream


def _failed_elements(task: TaskRecord) -> int:
    return 0 if task.elements is None else task.elements.counts.get("failed", 0)


def _explanation(run: RunRecord, task: TaskRecord) -> dict[str, Any]:
    """Return the JSON object that explains a task."""
    return {
        **_identity_object(run, task),
        **task_object(task),
        "attempt_count": len(task.attempts),
        "may_be_running": _may_be_running(run, task),
        "caused_by": [task_object(run.tasks[name]) for name in _causes(run, task)],
    }


def _identity_object(run: RunRecord, task: TaskRecord) -> dict[str, Any]:
    return {"run_id": run.run_id, "pipeline": run.pipeline, "name": task.name, "element": None, "label": None}


def _element_explanation(run: RunRecord, task: TaskRecord, elements: ElementsRecord, number: int) -> dict[str, Any]:
    """Return the JSON object that explains an element: with the keys of the object of a task."""
    return {
        **_identity_object(run, task),
        "element": number,
        "label": elements.labels.get(number),
        "state": elements.states.get(number, "pending"),
        "started": None,
        "duration": elements.durations.get(number),
        "reason": elements.skipped.get(number, ""),
        "source": "run",
        "why": "",
        "error": error_object(elements.failed.get(number)),
        "elements": None,
        "attempts": [],
        "attempt_count": elements.attempts.get(number, 0),
        "may_be_running": False,
        "caused_by": [],
    }


def _explain(run: RunRecord, task: TaskRecord) -> None:
    causes = [run.tasks[name] for name in _causes(run, task)]
    print_text(
        f"{escape_control_chars(task.name)}: {task.state.replace('_', ' ')} in run {run.run_id} of {run.pipeline!r}"
    )
    for reason in dict.fromkeys(filter(None, (task.reason, task.why))):
        print_text(f"  {escape_control_chars(reason)}")
    if _may_be_running(run, task):
        print_text(f"  {_RUNNING[run.status]}")
    if task.source == "cache":
        print_text("  its result was in the cache")
    for each in [task, *causes]:
        _print_elements(each)
        _print_attempts(each)


def _explain_element(facts: dict[str, Any], error: TaskError | None) -> None:
    name = f"{facts['name']}[{facts['element']}]" + ("" if facts["label"] is None else f" ({facts['label']})")
    print_text(f"{escape_control_chars(name)}: {facts['state']} in run {facts['run_id']} of {facts['pipeline']!r}")
    if facts["reason"]:
        print_text(f"  {escape_control_chars(facts['reason'])}")
    if facts["attempt_count"]:
        attempts = counted(facts["attempt_count"], "attempt")
        print_text(f"  {attempts}, the last one took {duration_text(facts['duration'])}")
    _print_error(name, error)


def _causes(run: RunRecord, task: TaskRecord) -> list[str]:
    """Return the tasks upstream of a task that did not run which have failed."""
    if task.state not in ("upstream_failed", "cancelled", "skipped", "pending"):
        return []
    seen: set[str] = set()
    waiting = list(task.upstream)
    while waiting:
        name = waiting.pop()
        if name not in seen and name in run.tasks:
            seen.add(name)
            waiting += run.tasks[name].upstream
    return [name for name in run.tasks if name in seen and run.tasks[name].state == "failed"]


def _print_elements(task: TaskRecord) -> None:
    """Print how many elements of a mapped task are in each state, and the first failures."""
    if task.elements is None:
        return
    counts = task.elements.counts
    print_text(f"  elements: {elements_text(counts)}")
    if counts.get("failed"):
        labels = task.elements.labels
        for number, error in list(task.elements.failed.items())[:FAILED_ELEMENTS]:
            label = f" ({labels[number]})" if number in labels else ""
            print_text(f"  {escape_control_chars(f'{task.name}[{number}]{label} raised {error}')}")
        if counts["failed"] > FAILED_ELEMENTS:
            print_text(f"  and {counts['failed'] - FAILED_ELEMENTS:,} more elements failed")


def _print_attempts(task: TaskRecord) -> None:
    for attempt in task.attempts:
        where = f", worker {attempt.worker}" if attempt.worker else ""
        which = f"attempt {attempt.number}" + (f" of execution {attempt.execution}" if attempt.execution > 1 else "")
        print_text(
            f"  {escape_control_chars(task.name)}, {which}: {attempt.outcome} in {duration_text(attempt.duration)}, "
            f"started {time_text(attempt.started)}{escape_control_chars(where)}"
        )
        if attempt.error is not None and (attempt is not task.attempts[-1] or task.error is None):
            print_text(f"    it raised {escape_control_chars(str(attempt.error))}")
    _print_error(task.name, task.error)


def _print_error(name: str, error: TaskError | None) -> None:
    if error is not None:
        print_text(f"  {escape_control_chars(name)} raised {escape_control_chars(str(error))}")
        print_text("\n".join(f"    {line}" for line in error.traceback.rstrip().split("\n")))


def diff(options: Namespace) -> int:
    """Show what is different between two runs."""
    with open_records(options.state) as state:
        second = select_run(state, options.other, options.pipeline)
        is_default = (options.run, options.other) == ("last~1", "last")
        first = select_run(state, options.run, second.pipeline if is_default else options.pipeline)
        found = first.diff(second)
    if options.json:
        print_json(_diff_object(found, first, second))
        return SUCCEEDED
    print_text(f"{first.pipeline}: run {first.run_id} of {time_text(first.started)}, {first.status}")
    print_text(f"{second.pipeline}: run {second.run_id} of {time_text(second.started)}, {second.status}")
    lines = change_lines(first, second, found)
    lines = lines or ["no difference in parameters, tasks, code, states, elements and results"]
    print_text("\n".join(map(escape_control_chars, lines)))
    slower = sorted(found.durations.items(), key=lambda item: abs(item[1][1] - item[1][0]), reverse=True)[:SLOWEST]
    if slower:
        print_text()
        rows = [
            (name, duration_text(before), duration_text(after), _change(before, after))
            for name, (before, after) in slower
        ]
        print_table(("task", "took", "then took", "change"), rows, right=("took", "then took", "change"))
    return SUCCEEDED


def _change(before: float, after: float) -> str:
    return ("-" if after < before else "+") + duration_text(abs(after - before))


def _diff_object(found: RunDiff, first: RunRecord, second: RunRecord) -> dict[str, Any]:
    return {
        "runs": [run_object(first), run_object(second)],
        **{
            name: getattr(found, name)
            for name in ("params", "added", "removed", "changed", "states", "elements", "results")
        },
        "durations": found.durations,
    }


def watch(options: Namespace) -> int:
    """Follow a run that goes on in another process until it ends, and print how it ended."""
    check_progress("it")
    from flowkit_view.follow import follow

    with open_records(options.state) as state:
        run = follow(state, select_run(state, options.run, options.pipeline), quiet=options.json)
    if options.json:
        print_json(run_object(run))
    else:
        took = f" in {run_duration_text(run.duration, run.resumes)}" if run.duration is not None else ""
        print_text(
            f"{escape_control_chars(run.pipeline)}: {run.status}{took}: {counts_text(run.counts)} (run {run.run_id})"
        )
    return SUCCEEDED


def serve(options: Namespace) -> int:
    """Show recorded runs in the browser, on this machine only, until Ctrl-C."""
    from flowkit_view.server import RunServer

    with open_records(options.state) as state:
        try:
            server = RunServer(state, options.state, options.port)
        except OSError as error:
            raise UsageError(f"port {options.port} cannot be used: {error.strerror}; choose another --port") from None
        with server:
            if options.json:
                print_json({"url": server.url})
            else:
                print_text(f"{options.state} is shown at {server.url} until Ctrl-C")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                pass
    return SUCCEEDED


def report(options: Namespace) -> int:
    """Write the report of a run: one HTML file that needs no network."""
    from flowkit_view.report.record_report import write_report

    if options.output is not None:
        check_report_name("-o", options.output)
    with open_records(options.state) as state:
        run = select_run(state, options.run, options.pipeline)
        try:
            output = options.output or _report_name(run)
            path = write_report(state, run.run_id, output)
        except OSError as error:
            raise UsageError(f"-o {output!r} cannot be written: {error.strerror}") from None
    if options.json:
        print_json({"run_id": run.run_id, "path": path})
    else:
        print_text(f"{output}: report of run {run.run_id} of {escape_control_chars(run.pipeline)}")
    return SUCCEEDED


def _report_name(run: RunRecord) -> str:
    """Return the default name of the file of a report, without the characters that a name of a file may not have."""
    pipeline = re.sub(r"[^\w-]+", "_", run.pipeline)[:100]
    return f"{pipeline}-{run.run_id}.html"


def gc(options: Namespace) -> int:
    """Delete old runs, and files of results that no run and no cache refers to."""
    try:
        older_than = None if options.older_than is None else parse_age(options.older_than)
    except ValueError as error:
        raise UsageError(f"--older-than: {error}") from None
    with open_records(options.state) as state:
        reclaimed = state.gc(keep=options.keep, older_than=older_than)
    if options.json:
        print_json({name: getattr(reclaimed, name) for name in ("runs", "files", "bytes")})
    else:
        files = f"{counted(reclaimed.files, 'file')} of results ({reclaimed.bytes:,} bytes)"
        print_text(f"deleted {counted(reclaimed.runs, 'run')} and {files}")
    return SUCCEEDED
