"""The core's voice in the standard ``logging`` tree: logger ``flowkit``, with the facts of a run as record attributes.

A message is one line, whatever a name or an error in it contains, for any handler; the facts are what they are.

Nothing is imported and nothing is made unless somebody listens: a program in which no one imported :mod:`logging`
cannot have a handler.
"""

from __future__ import annotations

import sys

from ._text import escape_control_chars
from ._typing import TYPE_CHECKING
from .events import (
    RunFinished,
    RunStarted,
    TaskFailed,
    TaskNotRun,
    TaskRetrying,
    TaskReused,
    TaskStarted,
    TaskSucceeded,
)
from .failures import describe_error
from .runs.worker import current_worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

    from ._typing import Any
    from .events import Event
    from .runs.run import Run

DEBUG, INFO, SYSTEM, SUCCESS, WARNING, ERROR = 10, 20, 22, 25, 30, 40
_LEVELS: dict[type[Event], int] = {
    RunStarted: SYSTEM,
    TaskStarted: INFO,
    TaskRetrying: WARNING,
    TaskSucceeded: SUCCESS,
    TaskReused: INFO,
    TaskNotRun: DEBUG,
    TaskFailed: ERROR,
    RunFinished: SYSTEM,
}


def _logger() -> Logger | None:
    """Return the logger ``flowkit`` if anybody listens to it."""
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "getLogger"):
        return None
    logger: Logger = logging.getLogger("flowkit")
    logger.__flowkit_where__ = where  # type: ignore[attr-defined]  # read by flowkit-log
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
    place: Any = logger
    while place is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in place.handlers):
            return logger
        place = place.parent if place.propagate else None
    return None


def where() -> dict[str, str]:
    """Return run id, pipeline and task of the calling thread, as attributes of a log record; empty outside of tasks."""
    worker = current_worker()
    if worker is None or worker.node is None:
        return {}
    run = worker.run
    return {"run_id": run.run_id, "pipeline": run.graph.name, "task": worker.node.name}


def log_observer() -> list[Callable[[Event], object]]:
    """Return an observer that logs what the level of the logger lets through; none if nothing would be heard."""
    logger = _logger()
    if logger is None:
        return []
    events = tuple(
        kind
        for kind, level in _LEVELS.items()
        if logger.isEnabledFor(level) or (kind is TaskNotRun and logger.isEnabledFor(INFO))
    )
    return [_LogObserver(logger, events)] if events else []


def warn_empty(run: Run) -> None:
    """Say that a pipeline has no tasks."""
    logger = _logger()
    if logger is not None and logger.isEnabledFor(WARNING):
        message = (
            f'Run "{run.graph.name}" found no tasks: define tasks before run(), or name them with DAG(tasks=[...]).'
        )
        logger.warning(
            "%s",
            escape_control_chars(message),
            extra={"event": "empty_run", "run_id": run.run_id, "pipeline": run.graph.name},
        )


class _LogObserver:
    def __init__(self, logger: Logger, events: tuple[type[Event], ...]) -> None:
        self._logger = logger
        self.events = events
        import logging

        for level, name in ((SYSTEM, "SYSTEM"), (SUCCESS, "SUCCESS")):
            if logging.getLevelName(level) == f"Level {level}":
                logging.addLevelName(level, name)

    def __call__(self, event: Any) -> None:
        kind = type(event)
        level, name, message, facts = getattr(self, f"_{kind.__name__}")(event)
        if self._logger.isEnabledFor(level):
            facts |= {"event": name, "run_id": event.run_id, "pipeline": event.pipeline}
            if hasattr(event, "task"):
                facts["task"] = event.task
            self._logger.log(level, "%s", escape_control_chars(message), extra=facts)

    def _RunStarted(self, event: RunStarted) -> tuple[int, str, str, dict[str, Any]]:
        count = f"{event.tasks} task{'s' * (event.tasks != 1)}"
        how = f"resumed: {count}, {event.done} of them done before" if event.done else f"started: {count}"
        message = f'Run "{event.pipeline}" {how}, executor {event.executor}.'
        return SYSTEM, "run_started", message, {"executor": event.executor, "done": event.done}

    def _TaskStarted(self, event: TaskStarted) -> tuple[int, str, str, dict[str, Any]]:
        facts = {"attempt": event.attempt, "max_attempts": event.max_attempts}
        return INFO, "task_started", f'Starting task "{event.task}"...', facts

    def _TaskRetrying(self, event: TaskRetrying) -> tuple[int, str, str, dict[str, Any]]:
        error = describe_error(event.error)
        facts = {"attempt": event.attempt, "max_attempts": event.max_attempts, "delay": event.delay, "error": error}
        retry = f"retry {event.attempt} of {event.max_attempts - 1} in {event.delay:.2f} s"
        return WARNING, "task_retrying", f'Task "{event.task}" failed ({error}); {retry}.', facts

    def _TaskSucceeded(self, event: TaskSucceeded) -> tuple[int, str, str, dict[str, Any]]:
        facts = {"attempt": event.attempt, "duration": event.duration}
        return (
            SUCCESS,
            "task_succeeded",
            f'Task "{event.task}" completed successfully in {event.duration:.2f} s.',
            facts,
        )

    def _TaskReused(self, event: TaskReused) -> tuple[int, str, str, dict[str, Any]]:
        place = "the cache" if event.source == "cache" else "the record of this run"
        message = f'Task "{event.task}" not run: its result is known from {place}.'
        return INFO, "task_reused", message, {"source": event.source}

    def _TaskFailed(self, event: TaskFailed) -> tuple[int, str, str, dict[str, Any]]:
        error = describe_error(event.error)
        facts = {"attempt": event.attempt, "duration": event.duration, "error": error}
        after = f"after {event.attempt} attempt{'s' * (event.attempt != 1)}"
        return ERROR, "task_failed", f'Task "{event.task}" failed {after}: {error}', facts

    def _TaskNotRun(self, event: TaskNotRun) -> tuple[int, str, str, dict[str, Any]]:
        if event.state == "skipped":
            return INFO, "task_skipped", f'Task "{event.task}" skipped: {event.reason}.', {"reason": event.reason}
        how = "was stopped" if event.started else "did not run"
        level = INFO if event.started else DEBUG
        text = f'Task "{event.task}" {how}: {event.reason}.'
        return level, f"task_{event.state}", text, {"reason": event.reason}

    def _RunFinished(self, event: RunFinished) -> tuple[int, str, str, dict[str, Any]]:
        counts = (
            ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in event.counts.items()) or "nothing to do"
        )
        facts = {"duration": event.duration, "counts": dict(event.counts)}
        return SYSTEM, "run_finished", f'Run "{event.pipeline}" finished in {event.duration:.2f} s: {counts}.', facts
