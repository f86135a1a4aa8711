"""Commands that take a pipeline of the user: `run`, `graph`, `check`, `plan`, `rerun` and `replay`."""

from __future__ import annotations

import html
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from flowkit_core import Event, FlowkitError, Results, RunFinished, UnknownExecutorError
from flowkit_core._text import counted, counts_text, escape_control_chars
from flowkit_core.failures import describe_error
from flowkit_state import StateError
from flowkit_view.texts import run_duration_text

from .exit_codes import FAILED, SUCCEEDED
from .output import (
    json_value,
    print_json,
    print_table,
    print_text,
    results_object,
    stdout_to_stderr,
    write_output,
)
from .parameters import parse_parameters
from .selection import (
    check_name,
    check_progress,
    check_report_name,
    open_records,
    select_element,
    select_run,
    select_run_and_task,
)
from .supervise import supervise
from .targets import load_pipeline, load_recorded_pipeline
from .usage_error import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from types import TracebackType

    from flowkit_core import Pipeline

_PACKAGES = ("flowkit_view", "flowkit_core", "flowkit_exec", "flowkit_flow", "flowkit_state")
"""Packages whose frames are left out of the traceback of a task."""
_FORMATS = {".svg": "svg", ".html": "svg", ".mmd": "mermaid", ".dot": "dot", ".gv": "dot", ".txt": "text"}


def run(options: Namespace) -> int:
    """Run a pipeline."""
    if options.resume and options.state is None:
        raise UsageError("--resume continues a recorded run: give --state, too")
    if options.supervise and options.state is None:
        raise UsageError("--supervise continues the recorded run after a crash: give --state, too")
    if options.state is not None:
        check_name(options.state)
    if options.supervise:
        command = ["--resume" if each == "--supervise" else each for each in options.arguments]
        return supervise(command, options.max_restarts, options.backoff)
    with stdout_to_stderr(active=options.json):
        pipeline = load_pipeline(options.target, options.path)
        params = parse_parameters(pipeline, options.param)
        arguments = {"params": params, "state": options.state, "resume": options.resume}
        run_object, code, failure = _execute(pipeline, options, arguments)
    return _print_run(run_object, code, failure, as_json=options.json)


def rerun(options: Namespace) -> int:
    """Run tasks of a recorded run again, with everything downstream, as a new run."""
    with stdout_to_stderr(active=options.json):
        with open_records(options.state) as state:
            record = select_run(state, options.run)
            for name in options.tasks:
                if name not in record.tasks and any(task.startswith(f"{name}.") for task in record.tasks):
                    continue  # a pipeline that is used as a task
                task, element = select_element(record, name)
                if element is not None:
                    raise UsageError(
                        f"--from {name!r} names an element, but rerun calls all elements of a task again: write "
                        f"--from {task.name!r}; flowkit replay calls one element"
                    )
        pipeline = load_recorded_pipeline(record, options.target, options.path)
        params = parse_parameters(pipeline, options.param, recorded=record.params)
        arguments = {"params": params, "state": options.state, "rerun": options.tasks, "of": record.run_id}
        run_object, code, failure = _execute(pipeline, options, arguments)
    return _print_run(run_object, code, failure, as_json=options.json)


def _execute(
    pipeline: Pipeline, options: Namespace, arguments: dict[str, Any]
) -> tuple[dict[str, Any], int, BaseException | None]:
    """Run a pipeline; return the JSON object of the run, the exit code, and the exception."""
    logger, discarding = logging.getLogger("flowkit"), _Discarding()
    if options.quiet:
        logger.addHandler(discarding)
    else:
        _configure_logging()
    if options.report is not None and not os.path.isdir(os.path.dirname(os.path.abspath(options.report))):
        raise UsageError(f"--report {options.report!r} is in a folder that does not exist")
    if options.report is not None:
        check_report_name("--report", options.report)
    if options.watch:
        check_progress("--watch")
    ends: list[float] = []
    failure: BaseException | None = None
    try:
        results = pipeline.run(
            options.executor,
            max_workers=options.max_workers,
            max_async=options.max_async,
            pools=None if options.pools is None else dict(options.pools),
            fail_fast=not options.keep_going,
            timeout=options.timeout,
            report=options.report,
            progress=options.watch,
            observers=[_EndObserver(ends)],
            **arguments,
        )
    except UnknownExecutorError as error:
        raise UsageError(str(error)) from None
    except (Exception, SystemExit) as error:
        found = Results.from_error(error)
        if found is None or (isinstance(error, SystemExit) and not found.failed):  # nothing ran, or no task raised it
            raise
        failure, results = error, found
    finally:
        logger.removeHandler(discarding)
    code = SUCCEEDED if failure is None else FAILED
    seconds, resumes = _recorded_end(arguments["state"], results.run_id) or (ends[0] if ends else 0.0, 0)
    return results_object(results, pipeline.name, failure, seconds, resumes), code, failure


class _Discarding(logging.Handler):
    """Handler that prints nothing. A run prints its failures itself where no handler takes them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Do nothing."""


class _EndObserver:
    """Observer that keeps the duration of a run."""

    events = (RunFinished,)

    def __init__(self, ends: list[float]) -> None:
        self._ends = ends

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._ends.append(event.duration)


def _recorded_end(path: str | None, run_id: str) -> tuple[float, int] | None:
    """Return the duration and the number of resumes of a run as recorded; None if it is not, or not as ended."""
    if path is None:
        return None
    try:
        with open_records(path) as state:
            record = state.run(run_id)
    except (StateError, UsageError):
        return None
    return None if record.duration is None else (record.duration, record.resumes)


def _print_run(run: dict[str, Any], code: int, failure: BaseException | None, *, as_json: bool) -> int:
    if as_json:
        print_json(run)
        return code
    if failure is not None:
        _print_traceback(failure)
    states = [task["state"] for task in run["tasks"].values()]
    counts = counts_text({state: states.count(state) for state in dict.fromkeys(states)})
    took = run_duration_text(run["duration"], run["resumes"])
    print_text(f"{escape_control_chars(run['pipeline'])}: {run['status']} in {took}: {counts} (run {run['run_id']})")
    for name, task in run["tasks"].items():
        if task["error"] is not None:
            print_text(f"  {escape_control_chars(name)}: {escape_control_chars(task['error'])}")
        elements = task["elements"]
        if elements is not None and elements["failed"]:
            number, error = next(iter(elements["failed"].items()))
            first = f"the first is {name}[{number}]: {error}"
            total, failed = sum(elements["counts"].values()), elements["counts"]["failed"]
            print_text(f"  {escape_control_chars(f'{name}: {failed:,} of {total:,} elements failed; {first}')}")
    return code


def _print_traceback(error: BaseException) -> None:
    """Print an exception without the frames of flowkit that called the task."""
    write_output("")
    traceback.print_exception(type(error), error, _own_frames(error.__traceback__), file=sys.stderr)


def _own_frames(found: TracebackType | None) -> TracebackType | None:
    """Return a traceback from its first frame that is not one of flowkit; None if all are."""
    while found is not None and found.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _PACKAGES:
        found = found.tb_next
    return found


def _configure_logging() -> None:
    """Show the log records of runs, unless the module of the pipeline has set up logging."""
    handlers = [*logging.getLogger("flowkit").handlers, *logging.getLogger().handlers]
    if not all(isinstance(handler, logging.NullHandler) for handler in handlers):
        return
    try:
        from flowkit_log import configure_logging
    except ModuleNotFoundError:
        logging.basicConfig(level=logging.INFO)
    else:
        configure_logging()


def graph(options: Namespace) -> int:
    """Draw the graph of a pipeline."""
    with stdout_to_stderr(active=options.json or options.output is None):
        pipeline = load_pipeline(options.target, options.path)
    count = len(pipeline.graph().nodes)
    if options.output is not None:
        _write_picture(pipeline, options.output)
    if options.json:
        print_json(_graph_object(pipeline))
    elif options.output is None:
        print_text(pipeline.visualize())
    else:
        print_text(f"{options.output}: {counted(count, 'task')} of {escape_control_chars(pipeline.name)}")
    return SUCCEEDED


def _write_picture(pipeline: Pipeline, path: str) -> None:
    """Draw the graph of a pipeline in a file, in the format of its suffix."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _FORMATS:
        raise UsageError(f"-o {path!r} ends in none of {', '.join(_FORMATS)}")
    try:
        with open(path, "w", encoding="utf-8") as file:
            picture = pipeline.visualize(_FORMATS[suffix])
            file.write((_page(pipeline.name, picture) if suffix == ".html" else picture) + "\n")
    except OSError as error:
        raise UsageError(f"-o {path!r} cannot be written: {error.strerror}") from None


def _graph_object(pipeline: Pipeline) -> dict[str, Any]:
    """Return the JSON object of a pipeline: its tasks and its parameters."""
    nodes = pipeline.graph().nodes
    names = [node.name for node in nodes]
    tasks = [
        {
            "name": node.name,
            "upstream": [names[index] for index in node.upstream],
            "order_only": [names[index] for index in node.waits],
            "location": node.task.location,
            "retries": node.task.retries,
            "trigger": node.task.trigger,
        }
        for node in nodes
    ]
    parameters = {
        name: {"required": each.required, "tasks": list(each.tasks), "mapped": list(each.mapped)}
        for name, each in pipeline.parameters.items()
    }
    return {"pipeline": pipeline.name, "tasks": tasks, "parameters": parameters}


def _page(name: str, picture: str) -> str:
    """Return a picture as an HTML page that loads nothing."""
    title = html.escape(escape_control_chars(name))
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    return f'<!doctype html>\n<meta charset="utf-8">\n{policy}\n<title>{title}</title>\n{picture}'


def check(options: Namespace) -> int:
    """Print the problems of a pipeline that can be found without running it."""
    with stdout_to_stderr(active=options.json):
        pipeline = load_pipeline(options.target, options.path)
        try:
            params = parse_parameters(pipeline, options.param) if options.param else None
        except FlowkitError:
            params = None  # check() finds what is wrong with the graph
        try:
            problems = pipeline.check(options.executor, params=params)
        except UnknownExecutorError as error:
            raise UsageError(str(error)) from None
    if options.json:
        names = ("kind", "task", "message", "location")
        print_json([{name: getattr(problem, name) for name in names} for problem in problems])
    else:
        for problem in problems:
            print_text(f"{problem}")
        print_text(
            f"{escape_control_chars(pipeline.name)}: {counted(len(problems), 'problem') if problems else 'no problems'}"
        )
        missing = [] if problems else [name for name, each in pipeline.parameters.items() if each.required]
        missing = [name for name in missing if name not in (params or {})]
        if missing:
            print_text(f"a run needs values of these parameters: {escape_control_chars(', '.join(missing))}")
    return FAILED if problems else SUCCEEDED


def plan(options: Namespace) -> int:
    """Print which tasks a run with `--resume` would call, and why."""
    with stdout_to_stderr(active=options.json):
        pipeline = load_pipeline(options.target, options.path)
        params = parse_parameters(pipeline, options.param)
        with open_records(options.state) as state:
            found = pipeline.plan(state=state, params=params)
    actions = [(name, "run") for name in found.runs]
    actions += [(name, "take over") for name in found.resumed]
    actions += [(name, "reuse") for name in found.cached]
    order = {name: index for index, name in enumerate(found.why)}
    actions.sort(key=lambda item: order[item[0]])
    if options.json:
        tasks = [{"name": name, "action": action, "why": found.why[name]} for name, action in actions]
        print_json({"pipeline": found.pipeline, "run_id": found.run_id, "tasks": tasks})
        return SUCCEEDED
    title = f"continues run {found.run_id}" if found.run_id is not None else "starts a new run"
    print_text(f"{escape_control_chars(pipeline.name)}: flowkit run --resume {title}")
    print_table(
        ("action", "task", "why"), [(action, name, found.why[name]) for name, action in actions], details=["why"]
    )
    return SUCCEEDED


def replay(options: Namespace) -> int:
    """Call a task of a recorded run again, with its recorded inputs, and print what it returns."""
    with stdout_to_stderr(active=options.json), open_records(options.state) as state:
        record, name = select_run_and_task(state, options.run, options.task)
        name = name or options.task
        select_element(record, name)
        pipeline = load_recorded_pipeline(record, options.target, options.path)
        value, failure = None, None
        try:
            value = state.replay(record.run_id, name, pipeline=pipeline)
        except (Exception, SystemExit) as error:
            if _own_frames(error.__traceback__) is None:  # it comes from flowkit, before the task was called
                if isinstance(error, ValueError):
                    raise UsageError(str(error)) from None
                raise
            failure = describe_error(error)
            _print_traceback(error)
            if options.pdb:
                import pdb  # noqa: T100 - it is what --pdb is for

                pdb.post_mortem(error.__traceback__)
    if options.json:
        print_json({"run_id": record.run_id, "task": name, "value": json_value(value), "error": failure})
    elif failure is None:
        print_text(repr(value))
    return SUCCEEDED if failure is None else FAILED
