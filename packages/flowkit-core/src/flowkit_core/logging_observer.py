"""Observer that logs the events of a run to the logger ``flowkit``, with their facts as attributes of the records.

A message is one line, whatever a name or an error in it contains.

This module imports :mod:`logging` only for recorded runs: in a program without it, no logger has a handler.
"""

from __future__ import annotations

import sys

from ._text import counted, counts_text, escape_control_chars
from ._typing import TYPE_CHECKING
from ._warnings import safe_warn
from .context import log_attributes
from .errors import RunTimeoutError
from .events import (
    ElementFailed,
    ElementNotRun,
    ElementRetrying,
    RunFinished,
    RunStarted,
    RunStopping,
    TaskFailed,
    TaskNotRun,
    TaskRetrying,
    TaskReused,
    TaskStarted,
    TaskSucceeded,
    TaskWaiting,
)
from .failures import describe_error
from .log_records import add_task_to_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from logging import Logger

    from ._typing import Any
    from .events import ElementEvent, Event
    from .runs.run import Run

DEBUG, INFO, SYSTEM, SUCCESS, WARNING, ERROR = 10, 20, 22, 25, 30, 40
_MAX_NAMES = 5
"""Maximum number of tasks that a message lists."""


def _logger() -> Logger | None:
    """Return the logger ``flowkit`` if its records reach a handler; else None."""
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "getLogger"):
        return None
    add_task_to_records()
    logger: Logger = logging.getLogger("flowkit")
    logger.__flowkit_where__ = log_attributes  # type: ignore[attr-defined]  # read by flowkit-log
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
    ancestor: Any = logger
    while ancestor is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in ancestor.handlers):
            return logger
        ancestor = ancestor.parent if ancestor.propagate else None
    return None


def log_observer(*, is_recorded: bool, prints_elements: bool) -> list[Callable[[Event], object]]:
    """Return the observers of a run that show its events.

    One logs the events that the level of the logger enables. Where no handler takes errors, another one prints what a
    run waits for that has failed, else the program would seem to hang; and which element a map leaves out first.

    Args:
        is_recorded: whether the record of the run keeps log lines. Warnings and errors are then logged without a
            handler, too.
        prints_elements: whether a run may have elements that a map leaves out, and no other observer shows them.
    """
    if is_recorded:
        import logging
    logger, least = _logger(), DEBUG
    if logger is None:
        if not is_recorded:
            return _printers(prints_elements=prints_elements)
        logger, least = logging.getLogger("flowkit"), WARNING
    events = tuple(kind for kind, (level, _) in _FORMATTERS.items() if level >= least and logger.isEnabledFor(level))
    if least == DEBUG and TaskNotRun not in events and logger.isEnabledFor(INFO):  # some have a higher level
        events = (*events, TaskNotRun)
    observers: list[Callable[[Event], object]] = [_LogObserver(logger, events)] if events else []
    return observers if _shows_errors(logger) else [*observers, *_printers(prints_elements=prints_elements)]


def _shows_errors(logger: Logger) -> bool:
    """Return whether a handler takes the errors that are logged to a logger."""
    import logging

    if not logger.isEnabledFor(ERROR):
        return False
    ancestor: Any = logger
    while ancestor is not None:
        if any(
            handler.level <= ERROR and not isinstance(handler, logging.NullHandler) for handler in ancestor.handlers
        ):
            return True
        ancestor = ancestor.parent if ancestor.propagate else None
    return False


class _StopPrinter:
    """Prints to standard error what a run waits for that has failed."""

    events = (RunStopping,)

    def __call__(self, event: Any) -> None:
        _print(_run_stopping(event)[1])


_stop_printer = _StopPrinter()


class _DropPrinter:
    """Prints to standard error the first element that each map of a run leaves out."""

    events = (ElementFailed,)
    _maps: frozenset[str] = frozenset()  # tasks with an element that was left out

    def __call__(self, event: Any) -> None:
        if event.outcome == "drop" and event.task not in self._maps:
            self._maps |= {event.task}
            failed = _element_failed(event)[1]
            _print(f"{failed} (Others that fail are not printed; results.failed has all of them.)")


def _printers(*, prints_elements: bool) -> list[Callable[[Event], object]]:
    return [_stop_printer, _DropPrinter()] if prints_elements else [_stop_printer]


def _print(message: str) -> None:
    """Print a message to standard error, if that is possible."""
    try:
        sys.stderr.write(f"flowkit: {escape_control_chars(message)}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # it is None, or closed
        return


def warn_empty(run: Run) -> None:
    """Log that a pipeline has no tasks."""
    logger = _logger()
    if logger is not None and logger.isEnabledFor(WARNING):
        message = (
            f'Run "{run.graph.name}" found no tasks: define tasks before run(), or name them with DAG(tasks=[...]).'
        )
        facts = {"event": "empty_run", "run_id": run.run_id, "pipeline": run.graph.name}
        logger.warning("%s", escape_control_chars(message), extra=facts)


def log_failed_hook(event: Any, message: str, error: BaseException) -> None:
    """Log that a hook raised an exception; issue a warning if the records of flowkit reach no handler."""
    logger = _logger()
    if logger is None or not logger.isEnabledFor(ERROR):
        safe_warn(message)
        return
    facts = {"event": "hook_failed", "run_id": event.run_id, "pipeline": event.pipeline, "error": describe_error(error)}
    if hasattr(event, "task"):
        facts["task"] = event.task
    exc_info = (type(error), error, error.__traceback__)
    logger.error("%s", escape_control_chars(message), exc_info=exc_info, extra=facts)


class _LogObserver:
    """Logs events of some classes to a logger."""

    def __init__(self, logger: Logger, events: tuple[type[Event], ...]) -> None:
        self._logger = logger
        self.events = events
        import logging

        for level, name in ((SYSTEM, "SYSTEM"), (SUCCESS, "SUCCESS")):
            if logging.getLevelName(level) == f"Level {level}":
                logging.addLevelName(level, name)

    def __call__(self, event: Any) -> None:
        level, formatter = _FORMATTERS[type(event)]
        if type(event) is TaskNotRun and (event.started or event.state == "skipped"):
            level = INFO
        if self._logger.isEnabledFor(level):
            name, message, facts = formatter(event)
            facts |= {"event": name, "run_id": event.run_id, "pipeline": event.pipeline}
            if hasattr(event, "task"):
                facts["task"] = event.task
            self._logger.log(level, "%s", escape_control_chars(message), extra=facts)


# Each of these functions returns, for one class of events, the name of the event, the message, and further attributes.


def _run_started(event: RunStarted) -> tuple[str, str, dict[str, Any]]:
    tasks = counted(event.tasks, "task")
    text = f"resumed: {tasks}, {event.done} of them done before" if event.done else f"started: {tasks}"
    message = f'Run "{event.pipeline}" {text}, executor {event.executor}.'
    return "run_started", message, {"executor": event.executor, "done": event.done}


def _task_waiting(event: TaskWaiting) -> tuple[str, str, dict[str, Any]]:
    pools = " and ".join(f'"{pool}"' for pool in event.pools)
    message = f'Task "{event.task}" waits for {"pool" if len(event.pools) == 1 else "pools"} {pools}.'
    return "task_waiting", message, {"attempt": event.attempt, "pools": list(event.pools)}


def _task_started(event: TaskStarted) -> tuple[str, str, dict[str, Any]]:
    facts: dict[str, Any] = {"attempt": event.attempt, "max_attempts": event.max_attempts}
    over = ""
    if event.elements is not None:
        facts["elements"] = event.elements
        over = f" for {counted(event.elements, 'element')}"
    return "task_started", f'Starting task "{event.task}"{over}...', facts


def _task_retrying(event: TaskRetrying) -> tuple[str, str, dict[str, Any]]:
    error = describe_error(event.error)
    facts = {"attempt": event.attempt, "max_attempts": event.max_attempts, "delay": event.delay, "error": error}
    retry = f"retry {event.attempt} of {event.max_attempts - 1} in {event.delay:.2f} s"
    return "task_retrying", f'Task "{event.task}" failed ({error}); {retry}.', facts


def _task_succeeded(event: TaskSucceeded) -> tuple[str, str, dict[str, Any]]:
    facts: dict[str, Any] = {"attempt": event.attempt, "duration": event.duration}
    counts = ""
    if event.elements is not None:
        facts["elements"] = dict(event.elements)
        counts = f": {_element_counts(event.elements)}"
    message = f'Task "{event.task}" completed successfully in {event.duration:.2f} s{counts}.'
    return "task_succeeded", message, facts


def _task_reused(event: TaskReused) -> tuple[str, str, dict[str, Any]]:
    source = "the cache" if event.source == "cache" else "the record of this run"
    message = f'Task "{event.task}" not run: its result was found in {source}.'
    return "task_reused", message, {"source": event.source}


def _task_failed(event: TaskFailed) -> tuple[str, str, dict[str, Any]]:
    error = describe_error(event.error)
    facts: dict[str, Any] = {"attempt": event.attempt, "duration": event.duration, "error": error}
    if event.elements is not None:
        facts["elements"] = dict(event.elements)
        return "task_failed", f'Task "{event.task}" failed ({_element_counts(event.elements)}): {error}', facts
    message = f'Task "{event.task}" failed after {counted(event.attempt, "attempt")}: {error}'
    return "task_failed", message, facts


def _element_counts(counts: Mapping[str, int]) -> str:
    """Return the numbers of elements in each state as text."""
    if not counts:
        return "no elements"
    return f"{counted(sum(counts.values()), 'element')}, {counts_text(counts)}"


def _element(event: ElementEvent) -> tuple[str, dict[str, Any]]:
    """Return the name of an element with its label, and both as facts."""
    label = "" if event.label is None else f" ({event.label})"
    return f'"{event.task}[{event.element}]"{label}', {"element": event.element, "label": event.label}


def _element_retrying(event: ElementRetrying) -> tuple[str, str, dict[str, Any]]:
    name, facts = _element(event)
    error = describe_error(event.error)
    facts |= {"attempt": event.attempt, "max_attempts": event.max_attempts, "delay": event.delay, "error": error}
    retry = f"retry {event.attempt} of {event.max_attempts - 1} in {event.delay:.2f} s"
    return "element_retrying", f"Element {name} failed ({error}); {retry}.", facts


def _element_failed(event: ElementFailed) -> tuple[str, str, dict[str, Any]]:
    name, facts = _element(event)
    error = describe_error(event.error)
    facts |= {"attempt": event.attempt, "duration": event.duration, "error": error, "outcome": event.outcome}
    then = {"drop": ", and is left out", "return": ", and its exception is in the result"}.get(event.outcome, "")
    return "element_failed", f"Element {name} failed after {counted(event.attempt, 'attempt')}{then}: {error}", facts


def _element_not_run(event: ElementNotRun) -> tuple[str, str, dict[str, Any]]:
    name, facts = _element(event)
    facts["reason"] = event.reason
    text = "skipped" if event.state == "skipped" else "was stopped" if event.started else "did not run"
    return f"element_{event.state}", f"Element {name} {text}: {event.reason}.", facts


def _task_not_run(event: TaskNotRun) -> tuple[str, str, dict[str, Any]]:
    facts = {"reason": event.reason}
    if event.state == "skipped":
        return "task_skipped", f'Task "{event.task}" skipped: {event.reason}.', facts
    text = "was stopped" if event.started else "did not run"
    return f"task_{event.state}", f'Task "{event.task}" {text}: {event.reason}.', facts


def _run_stopping(event: RunStopping) -> tuple[str, str, dict[str, Any]]:
    names = [f'"{name}"' for name in event.running[:_MAX_NAMES]]
    if (rest := len(event.running) - _MAX_NAMES) > 0:
        names.append(f"{rest} more")
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
    error = describe_error(event.error)
    why = f'task "{event.failed}" failed'
    if event.failed is None:
        why = "it took too long" if isinstance(event.error, RunTimeoutError) else "it could not be recorded"
    message = (
        f'Run "{event.pipeline}" is stopping, because {why} ({error}). Running tasks are waited for: {listed}. '
        f"Ctrl-C ends the wait."
    )
    return "run_stopping", message, {"failed": event.failed, "error": error, "running": list(event.running)}


def _run_finished(event: RunFinished) -> tuple[str, str, dict[str, Any]]:
    counts = counts_text(event.counts, "nothing to do")
    message = f'Run "{event.pipeline}" finished in {event.duration:.2f} s: {counts}.'
    return "run_finished", message, {"duration": event.duration, "counts": dict(event.counts)}


_FORMATTERS: dict[type[Event], tuple[int, Callable[[Any], tuple[str, str, dict[str, Any]]]]] = {
    RunStarted: (SYSTEM, _run_started),
    TaskWaiting: (DEBUG, _task_waiting),
    TaskStarted: (INFO, _task_started),
    TaskRetrying: (WARNING, _task_retrying),
    TaskSucceeded: (SUCCESS, _task_succeeded),
    TaskReused: (INFO, _task_reused),
    TaskNotRun: (DEBUG, _task_not_run),
    TaskFailed: (ERROR, _task_failed),
    ElementRetrying: (WARNING, _element_retrying),
    ElementNotRun: (DEBUG, _element_not_run),
    ElementFailed: (WARNING, _element_failed),
    RunStopping: (ERROR, _run_stopping),
    RunFinished: (SYSTEM, _run_finished),
}
