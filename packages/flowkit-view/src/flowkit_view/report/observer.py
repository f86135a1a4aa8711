"""Class `ReportObserver`: writes the report of a run as it goes, from its events and without a record."""

from __future__ import annotations

import os
import platform
import traceback
import warnings
from threading import current_thread, get_ident
from time import monotonic, process_time, thread_time, time
from typing import TYPE_CHECKING, Any

from flowkit_core import (
    ElementFailed,
    ElementRetrying,
    RunFinished,
    RunStarted,
    TaskFailed,
    TaskNotRun,
    TaskRetrying,
    TaskReused,
    TaskStarted,
    TaskSucceeded,
)
from flowkit_core.failures import describe_error
from flowkit_view.sampling import ElementSampler
from flowkit_view.texts import LONG_PARAM_WIDTH, param_text

from .elements import MAX_FAILED, add_progress, take_elements
from .page import write_page
from .run_model import AttemptModel, ElementModel, ExecutionModel, RunModel, TaskModel, location_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowkit_core import Event, Graph, Run

INTERVAL = 2.0
"""Least seconds between two writes of the report of a run that is running."""
SHARE = 0.02
"""Greatest part of the time that these writes may take."""


class ReportObserver:
    """An observer that writes the report of a run: during the run from time to time, and when it has ended.

    Args:
        path: the file.
        graph: the graph of the run.
        params: its parameters.
        clock: returns seconds since the epoch; for tests.

    Raises:
        FileNotFoundError, IsADirectoryError: the file cannot be there.
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
        ElementRetrying,
        RunFinished,
    )

    def __init__(
        self, path: str | os.PathLike[str], graph: Graph, params: Mapping[str, Any], clock: Callable[[], float] = time
    ) -> None:
        self._path = os.path.abspath(os.fspath(path))
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"run(report={os.fspath(path)!r}) is in a folder that does not exist: {folder!r}")
        if os.path.isdir(self._path):
            raise IsADirectoryError(f"run(report={os.fspath(path)!r}) is a folder: name a file, such as 'run.html'")
        self._clock = clock
        self._index = {name: index for index, name in enumerate(graph.names)}
        self._ended: dict[int, float] = {}
        self._retries: dict[str, dict[int, list[tuple[float, float]]]] = {}  # of elements: when, and the wait
        self._due = 0.0
        self._has_warned = False
        self._sampler = ElementSampler(self._count)
        self._run: Run | None = None
        self._cpu = process_time()
        self._starts: dict[int, tuple[int, float]] = {}  # index -> thread that calls the task, and its CPU time before
        self.model = RunModel(
            pipeline=graph.name,
            run_id="",
            status="running",
            executions=[],
            tasks=[
                TaskModel(
                    node.name,
                    node.upstream,
                    is_async=node.mapped is not None and node.task.is_async,
                    limited=node.task.pool is not None
                    or (node.mapped is not None and node.mapped.options.limit is not None),
                )
                for node in graph.nodes
            ],
            params={name: param_text(value, LONG_PARAM_WIDTH) for name, value in params.items()},
            python=platform.python_version(),
        )

    def watch_run(self, run: Run) -> None:
        """Take the run, which has the elements of its mapped tasks."""
        self._run = run
        self._sampler.watch(run)

    def __call__(self, event: Event) -> None:
        """Take an event into the model, and write the report if it is due."""
        self._take(event, self._clock())
        if monotonic() >= self._due and type(event) is not RunFinished:
            began = monotonic()
            self._write()
            if not self._has_warned:
                self._due = monotonic() + max(INTERVAL, (monotonic() - began) / SHARE)
            if type(event) is RunStarted:  # the duration of the run counts from when its observers have returned
                self.model.executions[0].started = self._clock()

    def _take(self, event: Event, now: float) -> None:
        match event:
            case RunStarted():
                self._start_run(event, now)
            case ElementFailed():  # before the events of tasks, whose classes are bases of those of elements
                self._fail_element(event)
            case ElementRetrying():
                retries = self._retries.setdefault(event.task, {})
                retries.setdefault(event.element or 0, []).append((now, event.delay))
            case TaskStarted():
                self._start(event, now)
            case TaskSucceeded():
                self._end(event.task, "succeeded", event.duration, now)
            case TaskReused():
                self._reuse(event, now)
            case TaskRetrying():
                self._retry(event, now)
            case TaskFailed():
                self._fail(event, now)
            case TaskNotRun():
                self._end_without_success(event, now)
            case RunFinished():
                self._end_run(event, now)

    def _write(self) -> None:
        now = self._clock()
        for task in self.model.tasks:
            if task.state == "running":
                task.attempts[-1].ended = now
        if self.model.status == "running":
            self.model.executions[0].ended = now
        try:
            write_page(self.model, self._path)
        except OSError as error:
            self._due = float("inf")  # it is tried once more when the run has ended
            if not self._has_warned:
                self._has_warned = True
                reason = error.strerror or describe_error(error)
                warnings.warn(
                    f"the report {self._path!r} cannot be written: {reason}; the run goes on without it",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _start_run(self, event: RunStarted, now: float) -> None:
        self.model.run_id, self.model.executor = event.run_id, event.executor
        self.model.executions = [ExecutionModel(now, now, "running", f"process {os.getpid()}")]
        self._cpu = process_time()

    def _start(self, event: TaskStarted, now: float) -> None:
        index = self._index[event.task]
        task = self.model.tasks[index]
        began = self.model.executions[0].started
        ready = max((self._ended.get(each, began) for each in task.upstream), default=began)
        if task.attempts:
            ready = self._ended.get(index, ready)  # when the retry was due
        task.state = "running"
        task.attempts.append(AttemptModel(now, now, ready, event.worker or "mapped tasks", "running"))
        if not event.worker:
            task.elements = "elements"
            self._sampler.start(event.task)
        elif event.worker == current_thread().name:  # the thread that calls it
            self._starts[index] = get_ident(), thread_time()

    def _reuse(self, event: TaskReused, now: float) -> None:
        task = self.model.tasks[self._index[event.task]]
        if task.state == "running":  # a cache was asked in its first attempt
            task.attempts.pop()
        task.state, task.source = "succeeded", event.source
        task.reason = "its result was cached" if event.source == "cache" else "it was done before the run was resumed"
        self._ended[self._index[event.task]] = now

    def _retry(self, event: TaskRetrying, now: float) -> None:
        task = self._end(event.task, "pending", None, now)
        if task.attempts:
            task.attempts[-1].outcome, task.attempts[-1].error = "failed", describe_error(event.error)
        self._ended[self._index[event.task]] = now + event.delay

    def _fail(self, event: TaskFailed, now: float) -> None:
        task = self._end(event.task, "failed", event.duration, now)
        task.error = describe_error(event.error)
        task.traceback = "".join(traceback.format_exception(event.error))
        task.location = location_of(task.traceback)

    def _end_without_success(self, event: TaskNotRun, now: float) -> None:
        task = self.model.tasks[self._index[event.task]]
        if task.state == "running":
            self._end(event.task, "failed", None, now)
        task.state, task.reason = event.state, event.reason
        self._ended[self._index[event.task]] = now

    def _fail_element(self, event: ElementFailed) -> None:
        task = self.model.tasks[self._index[event.task]]
        if len(task.failed) < MAX_FAILED:
            text = "".join(traceback.format_exception(event.error))
            times = event.duration or 0.0, event.attempt
            error = describe_error(event.error)
            task.failed.append(ElementModel(event.element or 0, event.label or "", "failed", *times, error, text))

    def _count(self, name: str, count: int) -> None:
        """Note how many elements of a mapped task have ended."""
        add_progress(self.model.tasks[self._index[name]], self._clock(), count)

    def _take_elements(self, task: TaskModel, now: float) -> None:
        """Take what is known of the elements of a mapped task when it has ended."""
        self._sampler.end(task.name)
        elements = None if self._run is None else self._run.elements(task.name)
        if elements is not None:
            take_elements(task, elements, self._retries.get(task.name))
            add_progress(task, now, len(elements) - elements.counts.get("pending", 0))

    def _end_run(self, event: RunFinished, now: float) -> None:
        error = event.error
        failed = error is not None or any(task.state in ("failed", "upstream_failed") for task in self.model.tasks)
        self.model.status = "failed" if failed else "succeeded"
        if error is not None and not isinstance(error, Exception):
            self.model.status = "interrupted"
        if error is not None:
            self.model.error = describe_error(error)
        execution = self.model.executions[0]
        execution.ended, execution.outcome = execution.started + event.duration, self.model.status
        self.model.cpu = process_time() - self._cpu
        for task in self.model.tasks:
            if task.state == "running":
                task.state, task.attempts[-1].outcome = "cancelled", "failed"
                task.attempts[-1].ended = now
        self._sampler.drop_run()
        self._run = None
        self._write()

    def _end(self, name: str, state: str, seconds: float | None, now: float) -> TaskModel:
        """End the attempt of a task. It started `seconds` before, but not before its event came."""
        index = self._index[name]
        task = self.model.tasks[index]
        task.state = state
        thread, cpu = self._starts.pop(index, (None, 0.0))
        if thread == get_ident():
            task.cpu = (task.cpu or 0.0) + thread_time() - cpu
        if task.elements:
            self._take_elements(task, now)
        if task.attempts and task.attempts[-1].outcome == "running":
            attempt = task.attempts[-1]
            attempt.ended, attempt.outcome = now, state
            if seconds is not None:
                attempt.started = max(attempt.started, now - seconds)
        self._ended[index] = now
        return task
