"""Class `ProgressObserver`: shows the progress of a run with the bars of `flowkit_log`, for `run(progress=True)`."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowkit_core import (
    ElementFailed,
    RunFinished,
    RunStarted,
    TaskFailed,
    TaskNotRun,
    TaskRetrying,
    TaskReused,
    TaskStarted,
    TaskSucceeded,
)
from flowkit_core._text import counted, counts_text, escape_control_chars
from flowkit_core.failures import describe_error
from flowkit_log import ConsoleHandler, Progress, get_logger

from .notebook import new_console
from .sampling import ElementSampler
from .task_output import task_output
from .texts import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core import Event, Run

NAME = "flowkit.progress"
MAX_FAILED = 10
"""Maximum number of failed elements of a mapped task that are printed."""
NAMED = 3  # maximum number of running tasks that the bar of a run names


_NOT_COUNTED = ("pending", "cancelled")
"""States of tasks and elements that bars do not count: they have not ended, or were stopped."""


class TaskBar(Progress[Any]):
    """The bar of a run, which has the number of its tasks that have ended, and the names of those that are running."""

    def status(self, cells: int = 20) -> str:
        """Return the text after the label, with a bar of this length."""
        text = super().status(cells)
        if self._ended and self.count != self.total:
            return text  # the last line has the numbers already
        return f"{text} ({self.count:,} of {self.total:,} tasks)"


class ElementBar(Progress[Any]):
    """The bar of a mapped task, with the rate of its elements and the time left.

    Args:
        label: name of the task.
        total: number of elements, or None if it is not known.
        clock: returns seconds.
        before: number of elements that have ended before; they do not count for the rate.
    """

    def __init__(self, label: str, total: int | None, clock: Callable[[], float], before: int = 0) -> None:
        super().__init__(get_logger(NAME), label, total=total, clock=clock)
        self._began = clock()
        self._before = before

    def status(self, cells: int = 20) -> str:
        """Return the text after the label, with a bar of this length."""
        text = super().status(cells)
        seconds = self._clock() - self._began
        if self.total is not None and not (self._ended and self.count != self.total):
            text += f" ({self.count:,} of {self.total:,})"
        if self.count > self._before and seconds > 0.1:
            rate = (self.count - self._before) / seconds
            text += f", {rate:.3g}/s"
            if self.total is not None and self.count < self.total:
                text += f", {duration_text((self.total - self.count) / rate)} left"
        return text


class OwnConsole:
    """The console that shows progress while no handler of the logger `flowkit` is a console."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._handler: logging.Handler | None = None
        self._level = logging.NOTSET

    def open(self) -> bool:
        """Add the console for a run, unless log lines have one; return whether it was added."""
        if any(isinstance(handler, ConsoleHandler) for handler in logging.getLogger("flowkit").handlers):
            return False
        logger = logging.getLogger(NAME)
        with self._lock:
            self._users += 1
            if self._handler is None:
                self._handler, self._level = new_console(), logger.level
                logger.addHandler(self._handler)
                logger.setLevel(logging.INFO)
                logger.propagate = False
        return True

    def close(self) -> None:
        """Remove the console when the last run that shows progress with it has ended."""
        logger = logging.getLogger(NAME)
        with self._lock:
            self._users -= 1
            if not self._users and self._handler is not None:
                logger.removeHandler(self._handler)
                self._handler.close()
                self._handler = None
                logger.setLevel(self._level)
                logger.propagate = True


own_console = OwnConsole()


class ProgressObserver:
    """An observer that shows the progress of a run.

    On a terminal and in a notebook, a bar has the number of tasks that have ended and the names of those that are
    running, and each mapped task that is running has a bar with rate and time left. Elsewhere, a line is printed from
    time to time. If `configure_logging` has been called, the bars are below its log lines; otherwise failures are
    printed, too. What tasks print in this process is above the bars, as whole lines.

    The elements of mapped tasks are not observed one by one, but counted from time to time, by a thread that exists
    while mapped tasks run; on a terminal it exists during the whole run, and redraws the bars.

    Args:
        clock: returns seconds; for tests.
    """

    events = (
        RunStarted,
        TaskStarted,
        TaskSucceeded,
        TaskReused,
        TaskRetrying,
        TaskFailed,
        TaskNotRun,
        ElementFailed,
        RunFinished,
    )

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._bar: TaskBar | None = None
        self._maps: dict[str, ElementBar] = {}
        self._running: dict[str, None] = {}
        self._owns_console = False
        self._live = False  # whether the bars are redrawn in place
        self._failed: dict[str, int] = {}  # number of elements that have failed, by task
        self.sampler = ElementSampler(self._count, self._redraw)

    def watch_run(self, run: Run) -> None:
        """Take the run, which counts the elements of its mapped tasks."""
        self.sampler.watch(run)

    def _count(self, task: str, ended: int) -> None:
        """Advance the bar of a mapped task to the number of elements that have ended."""
        bar = self._maps.get(task)
        if bar is not None:
            bar.advance(max(0, ended - bar.count))

    def _redraw(self) -> None:
        """Draw the bar of the run, whose label may have changed too soon after the last drawing."""
        bar = self._bar
        if self._live and bar is not None:
            bar.advance(0)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case RunStarted():
                self._owns_console = own_console.open()
                self._live = task_output.open(NAME)
                self._bar = TaskBar(get_logger(NAME), event.pipeline, total=event.tasks, clock=self._clock)
                self._bar.advance(event.done)
                if self._live:
                    self.sampler.start(None)
            case TaskStarted():
                self._start(event)
            case ElementFailed():
                self._fail_element(event)
            case TaskRetrying():
                self._running.pop(event.task, None)
                self._relabel(event.pipeline, 0)
            case TaskReused() if event.source == "resume":  # counted by RunStarted
                pass
            case TaskSucceeded() | TaskReused() | TaskFailed() | TaskNotRun():
                self._end(event)
            case RunFinished():
                self._finish(event)

    def _start(self, event: TaskStarted) -> None:
        self._running[event.task] = None
        if not event.worker and event.task not in self._maps:  # a mapped task
            self._maps[event.task] = ElementBar(escape_control_chars(event.task), event.elements, self._clock)
            self._maps[event.task].advance(0)
            self.sampler.start(event.task)
        self._relabel(event.pipeline, 0)

    def _fail_element(self, event: ElementFailed) -> None:
        """Print the failure of an element, unless many have been printed."""
        count = self._failed[event.task] = self._failed.get(event.task, 0) + 1
        if self._owns_console and count <= MAX_FAILED:
            label = "" if event.label is None else f" ({escape_control_chars(event.label)})"
            name, error = escape_control_chars(event.task), escape_control_chars(describe_error(event.error))
            more = "; further failures of its elements are only counted" if count == MAX_FAILED else ""
            get_logger(NAME).warning('Element "%s[%d]"%s failed: %s%s', name, event.element, label, error, more)

    def _end(self, event: TaskSucceeded | TaskReused | TaskFailed | TaskNotRun) -> None:
        self._running.pop(event.task, None)
        bar = self._maps.pop(event.task, None)
        if bar is not None:
            self.sampler.end(event.task)
            counts = getattr(event, "elements", None) or {}
            ended = sum(count for state, count in counts.items() if state not in _NOT_COUNTED)
            bar.advance(max(0, ended - bar.count))
            bar.finish()
        if self._owns_console and isinstance(event, TaskFailed):
            name, error = escape_control_chars(event.task), escape_control_chars(describe_error(event.error))
            get_logger(NAME).error('Task "%s" failed after %s: %s', name, counted(event.attempt, "attempt"), error)
        self._relabel(event.pipeline, int(getattr(event, "state", "") not in _NOT_COUNTED))

    def _relabel(self, pipeline: str, ended: int) -> None:
        """Name the running tasks in the bar of the run, and count the tasks that have ended."""
        if self._bar is None:
            return
        names = [escape_control_chars(name) for name in [*self._running][:NAMED]]
        more = len(self._running) - NAMED
        listed = ", ".join(names) + (f" and {more} more" if more > 0 else "")
        self._bar.label = f"{escape_control_chars(pipeline)}: {listed}" if listed else escape_control_chars(pipeline)
        self._bar.advance(ended)

    def _finish(self, event: RunFinished) -> None:
        for bar in [*self._maps.values(), self._bar]:
            if bar is not None:
                bar.finish()
        self._maps.clear()
        self.sampler.drop_run()
        task_output.close()
        self._bar = None
        if self._owns_console:
            counts, took = counts_text(event.counts), duration_text(event.duration)
            get_logger(NAME).info("%s: %s in %s", escape_control_chars(event.pipeline), counts, took)
            own_console.close()
