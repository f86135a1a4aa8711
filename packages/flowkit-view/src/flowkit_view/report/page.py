"""Functions `render_page` and `write_page`: the report of a run as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from secrets import token_hex
from statistics import median
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from flowkit_core._text import counted, escape_control_chars
from flowkit_view.texts import duration_text, time_text, version_text

from .cpu import cpu_hint
from .from_record import HISTORY
from .graph_picture import draw_graph
from .run_model import STATES, location_of
from .schedule import Schedule
from .timeline import draw_timeline

if TYPE_CHECKING:
    from .run_model import ElementModel, RunModel, TaskModel

MAX_FAILURES = 50
"""Number of failed tasks whose tracebacks are shown at the top; the table has all."""
MAX_MAPPED = 50
"""Number of mapped tasks whose elements are shown; the table has more."""
MAX_FAILED_SHOWN = 10
"""Number of failed elements of a mapped task whose tracebacks are shown."""
MAX_ELEMENTS = 2000
"""Number of elements in the table."""
MAX_CHANGES = 50
"""Number of changes since the run before that are listed."""
MAIN_CHANGES = 5
"""Number of changes since the run before that are shown at the top."""
MAX_TRACEBACK = 20_000
"""Number of characters of a traceback that are shown; the middle of a longer one is left out."""
MANY_TASKS = 2000
"""Number of tasks from which the table has the durations of 4 earlier runs instead of 10."""


def write_page(run: RunModel, path: str | os.PathLike[str]) -> None:
    """Write the report of a run to a file, which is replaced as a whole.

    Raises:
        OSError: the file cannot be written.
    """
    text = render_page(run)
    path = os.path.abspath(os.fspath(path))
    temporary = os.path.join(os.path.dirname(path), f".flowkit-report-{token_hex(8)}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def policy(*, events: bool = False) -> str:
    """Return the content security policy of a page: only the style and the scripts of this package.

    Args:
        events: whether the page may get server-sent events of its own server.
    """
    scripts = ["report.js", "live.js"] if events else ["report.js"]
    allowed = " ".join(f"'{_hash(asset(name))}'" for name in scripts)
    connect = " connect-src 'self';" if events else ""
    style = _hash(asset("report.css"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src {allowed};{connect} base-uri 'none'; form-action 'none'"
    )


def render_page(run: RunModel, now: datetime | None = None, *, served: bool = False, events: str = "") -> str:
    """Return the report of a run as HTML.

    Args:
        run: the run.
        now: the time of the report; None means the current time.
        served: whether it is a page of `flowkit serve`, and links to the list of runs.
        events: path of the events that update the page while the run goes on, or "".
    """
    events = events if run.status == "running" else ""
    schedule = Schedule(run.tasks)
    outlined = set(schedule.path)
    workers = schedule.least_workers(run.workers_used(), run.seconds)
    is_known = not any(map(_is_unknown, run.tasks)) and not schedule.limited
    predictable = run.status != "running" and is_known and not run.has_overlaps()
    table = schedule.worker_table(workers) if predictable else []
    page: str = template("report.html").render(
        served=served,
        events=events,
        policy=policy(events=bool(events)),
        run=run,
        name=escape_control_chars(run.pipeline),
        title=escape_control_chars(f"{run.pipeline}: {run.status}"),
        verdict=_verdict(run, workers),
        counts=[(state, count, state.replace("_", " ")) for state, count in run.counts().items()],
        failures=_failures(run),
        path_text=escape_control_chars(schedule.path_text(run.seconds, len(run.executions))),
        advice=schedule.advice(workers, run.seconds) if predictable else escape_control_chars(schedule.limits_text()),
        cpu_hint=escape_control_chars(cpu_hint(run)),
        worker_table=[(count, duration_text(seconds)) for count, seconds in table],
        used=workers,
        mapped=_mapped(run),
        timeline=draw_timeline(run, outlined),
        graph=draw_graph(run, outlined),
        previous=escape_control_chars(run.previous_text),
        main_changes=escape_control_chars("; ".join(run.changes[:MAIN_CHANGES])),
        other_changes=len(run.changes) - MAIN_CHANGES,
        changes=[escape_control_chars(change) for change in run.changes[:MAX_CHANGES]],
        more_changes=len(run.changes) - MAX_CHANGES,
        params=[(escape_control_chars(name), escape_control_chars(value)) for name, value in run.params.items()],
        executions=[
            (
                number,
                time_text(each.started, zone=True),
                duration_text(each.ended - each.started),
                each.outcome,
                escape_control_chars(each.where),
            )
            for number, each in enumerate(run.executions, 1)
        ],
        data=Markup(_data(run, schedule)),  # noqa: S704 - JSON in which < and > and & are escaped
        style=Markup(asset("report.css")),  # noqa: S704 - a file of this package
        script=Markup(asset("report.js")),  # noqa: S704
        live_script=Markup(asset("live.js")),  # noqa: S704
        versions=f"flowkit-view {version_text()}, Python {platform.python_version()}",
        written=f"{now or datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    )
    return page


def _verdict(run: RunModel, workers: int) -> str:
    text = f"{'for' if run.status == 'running' else 'in'} {duration_text(run.seconds)}" if run.executions else ""
    where = f"executor {run.executor}" if run.executor else ""
    if workers:
        where = f"{where}, {counted(workers, 'worker')}" if where else counted(workers, "worker")
    started = f", started {time_text(run.executions[0].started, zone=True)}" if run.executions else ""
    python = f", Python {run.python}" if run.python else ""
    return escape_control_chars(f"{text}{f' with {where}' if where else ''}{python}{started}")


def _failures(run: RunModel) -> list[dict[str, Any]]:
    failed = [task for task in run.tasks if task.state == "failed"]
    return [
        {
            "name": escape_control_chars(task.name),
            "error": escape_control_chars(task.error),
            "attempts": counted(len(task.attempts), "attempt"),
            "location": escape_control_chars(task.location),
            "earlier": [escape_control_chars(text) for text in task.earlier_failures[-MAX_FAILED_SHOWN:]],
            "traceback": _escaped_lines(task.traceback),
        }
        for task in failed[:MAX_FAILURES]
    ]


def _is_unknown(task: TaskModel) -> bool:
    """Return whether a task was mapped, and the durations of its elements are not known."""
    return bool(task.elements and task.attempts and not task.spans and task.elements != "no elements")


def _mapped(run: RunModel) -> list[dict[str, Any]]:
    """Return the mapped tasks with failed elements, or with known slowest elements."""
    return [
        {
            "name": escape_control_chars(task.name),
            "counts": escape_control_chars(task.elements),
            "median": duration_text(median(task.spans.values())) if task.spans else "",
            "failures": [
                {
                    "name": _element_name(task, element),
                    "error": escape_control_chars(element.error),
                    "attempts": counted(element.attempts, "attempt"),
                    "location": escape_control_chars(location_of(element.traceback)),
                    "earlier": [],
                    "traceback": _escaped_lines(element.traceback),
                }
                for element in task.failed[:MAX_FAILED_SHOWN]
            ],
            "slowest": [
                (_element_name(task, element), duration_text(element.seconds), element.attempts)
                for element in task.slowest
            ],
        }
        for task in run.tasks
        if task.failed or task.slowest
    ][:MAX_MAPPED]


def _element_name(task: TaskModel, element: ElementModel) -> str:
    label = f" ({element.label})" if element.label else ""
    return escape_control_chars(f"{task.name}[{element.number}]{label}")


def _data(run: RunModel, schedule: Schedule) -> str:
    """Return the data of the table as JSON for an element of HTML: no text can end the element."""
    origin = run.executions[0].started if run.executions else 0.0
    critical = set(schedule.path)
    last = HISTORY if len(run.tasks) <= MANY_TASKS else 4
    rows = [_row(run, task, schedule.slack[index], index in critical, last) for index, task in enumerate(run.tasks)]
    data = {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "status": run.status,
        "params": run.params,
        "started": origin,
        "seconds": _number(run.seconds),
        "states": STATES,
        "columns": [
            "name",
            "state",
            "upstream",
            "attempts",
            "start",
            "waited",
            "took",
            "slack",
            "critical",
            "worker",
            "reason",
            "history",
        ],
        "tasks": rows,
        "elements": [row for task in run.tasks for row in _element_rows(task)][:MAX_ELEMENTS],
    }
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _row(run: RunModel, task: TaskModel, slack: float, critical: bool, last: int) -> list[Any]:
    first = task.attempts[0] if task.attempts else None
    return [
        escape_control_chars(task.name),
        STATES.index(task.state),
        list(task.upstream),
        len(task.attempts),
        None if first is None else _number(run.position(first)),
        None if first is None else _number(task.waited),
        None if task.took is None else _number(task.took),
        None if first is None else _number(slack),
        int(critical),
        "" if first is None else escape_control_chars(task.attempts[-1].worker),
        escape_control_chars("; ".join(filter(None, (task.elements, task.explanation()))))[:200],
        [float(f"{each:.2g}") for each in task.history[-last:]],
    ]


def _element_rows(task: TaskModel) -> list[list[Any]]:
    """Return the rows of the failed elements of a task and of its slowest ones."""
    found = {element.number: element for element in [*task.slowest, *task.failed]}
    return [
        [
            _element_name(task, element),
            STATES.index(element.state),
            None,
            element.attempts,
            None,
            None,
            _number(element.seconds),
            None,
            0,
            "",
            escape_control_chars(element.error)[:200],
            [],
        ]
        for _, element in sorted(found.items())
    ]


def _number(seconds: float) -> float:
    """Return seconds with the digits that a report needs."""
    return round(seconds, 6) if seconds < 0.001 else round(seconds, 4)


def _escaped_lines(text: str) -> str:
    """Return a text of several lines without control characters; the middle of a very long one is left out."""
    if len(text) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        text = f"{text[:half]}\n... ({len(text) - MAX_TRACEBACK} characters left out) ...\n{text[-half:]}"
    return "\n".join(escape_control_chars(line.expandtabs()) for line in text.split("\n"))


def _hash(text: str) -> str:
    """Return the source expression of a content security policy for an inline text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def asset(name: str) -> str:
    """Return the text of a file of this package."""
    return files(__package__).joinpath(name).read_text("utf-8")


@cache
def template(name: str) -> Any:
    """Return a template of this package, which escapes all values."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)
