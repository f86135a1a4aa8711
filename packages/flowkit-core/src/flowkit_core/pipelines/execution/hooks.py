"""Class `Hooks`: calls the hooks of tasks and of their pipeline in one run; and the check of these options."""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections import deque
from contextvars import copy_context

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING, TypeVar
from flowkit_core.context import variable, workers
from flowkit_core.coroutines import (
    CoroutineType,
    is_async_generator_function,
    is_coroutine_function,
    is_generator_function,
)
from flowkit_core.events import (
    ElementFailed,
    ElementNotRun,
    ElementRetrying,
    ElementSucceeded,
    Event,
    RunFinished,
    TaskFailed,
    TaskNotRun,
    TaskRetrying,
    TaskSucceeded,
)
from flowkit_core.failures import describe_error
from flowkit_core.graphs.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from flowkit_core._typing import Any

    T = TypeVar("T")
    Hook = Callable[[T], object] | Sequence[Callable[[T], object]] | None

ALLOWED = "a function that takes the event and is not async, or a list of such functions"
_KINDS: dict[type[Event], str] = {
    TaskSucceeded: "on_success",
    TaskFailed: "on_failure",
    TaskRetrying: "on_retry",
    TaskNotRun: "on_skip",
    ElementSucceeded: "on_success",
    ElementFailed: "on_failure",
    ElementRetrying: "on_retry",
    ElementNotRun: "on_skip",
}
_LAST_WAIT = 5.0  # seconds that the end of a run waits for a hook in an abandoned thread


def hooks_of(given: Any) -> tuple[Callable[[Any], object], ...]:
    """Return the functions of an option."""
    if given is None:
        return ()
    return tuple(given) if isinstance(given, (list, tuple)) else (given,)


def is_hook(given: Any) -> bool:
    """Return whether a value is allowed for the options of hooks."""
    return all(map(_is_function_of_one, hooks_of(given)))


def _is_function_of_one(func: Any) -> bool:
    """Return whether a value is a function that executes its body when it is called with one argument."""
    if not callable(func) or isinstance(func, type):
        return False
    if is_coroutine_function(func) or is_generator_function(func) or is_async_generator_function(func):
        return False
    takes = Parameters(func)
    required = [name for name in takes.names if name not in takes.defaults]
    return bool(takes.positional or takes.rest) and len(required) <= 1 and set(required) <= set(takes.positional)


def check_pipeline_hooks(pipeline: str, given: Mapping[str, Any]) -> None:
    """Raise a TypeError if an option of a pipeline is not a hook."""
    for option, value in given.items():
        if not is_hook(value):
            raise TypeError(f"{option} of pipeline {pipeline!r} is {short_repr(value)}, but must be {ALLOWED}")


class Hooks:
    """An observer that collects the hooks to call. :meth:`call` calls them, without the lock of the run.

    Args:
        of_pipeline: option -> value, for the pipeline.
        of_tasks: name of a task -> option -> value.
        mapped: names of the mapped tasks, whose hooks are called for each element, too.
    """

    def __init__(
        self, of_pipeline: Mapping[str, Any], of_tasks: Mapping[str, Mapping[str, Any]], mapped: Collection[str] = ()
    ) -> None:
        self._of_pipeline = {option: hooks_of(value) for option, value in of_pipeline.items() if value is not None}
        self._of_tasks = {
            (name, option): hooks_of(value)
            for name, given in of_tasks.items()
            for option, value in given.items()
            if value is not None
        }
        of_each = {"on_retry", "on_skip"} & self._of_pipeline.keys()
        options = {option for _, option in self._of_tasks} | of_each
        of_elements = {option for name, option in self._of_tasks if name in mapped} | (of_each if mapped else set())
        kinds = [kind for kind, option in _KINDS.items() if option in (of_elements if kind.is_of_element else options)]
        if {"on_success", "on_failure"} & self._of_pipeline.keys():
            kinds.append(RunFinished)
        self.events = tuple(kinds)
        self._pending: deque[tuple[str, Callable[[Any], object], Event]] = deque()
        self._lock = allocate_lock()

    def __call__(self, event: Any) -> None:
        """Collect the hooks for an event."""
        if isinstance(event, RunFinished):
            option = "on_success" if event.error is None else "on_failure"
            found = self._of_pipeline.get(option, ())
        else:
            if isinstance(event, TaskNotRun) and event.state != "skipped":
                return
            option = _KINDS[type(event)]
            found = self._of_tasks.get((event.task, option), ())
            if option in ("on_retry", "on_skip"):
                found += self._of_pipeline.get(option, ())
        self._pending.extend([(option, hook, event) for hook in found])

    def call(self) -> None:
        """Call the collected hooks, in order, unless another thread does it already."""
        while self._pending and self._lock.acquire(blocking=False):
            try:
                self._call_pending()
            finally:
                self._lock.release()

    def call_last(self) -> None:
        """Call the hooks that are left at the end of the run, also if one is still running in an abandoned thread."""
        is_locked = self._lock.acquire(timeout=_LAST_WAIT)
        try:
            self._call_pending()
        finally:
            if is_locked:
                self._lock.release()

    def _call_pending(self) -> None:
        if not self._pending:
            return
        thread = get_ident()
        worker = workers.pop(thread, None)  # a hook is not part of the task that has ended
        try:
            while self._pending:
                option, hook, event = self._pending.popleft()
                copy_context().run(_call, option, hook, event)
        finally:
            if worker is not None:
                workers[thread] = worker


def _call(option: str, hook: Callable[[Any], object], event: Any) -> None:
    """Call a hook, and log what it raises, or that it returned a coroutine."""
    from flowkit_core.logging_observer import log_failed_hook

    variable.set(None)
    try:
        returned = hook(event)
        if type(returned) is CoroutineType:
            returned.close()
            raise TypeError("it returned a coroutine, and hooks are not awaited")
    except (Exception, SystemExit) as error:
        owner = f"task {event.task!r}" if hasattr(event, "task") else f"pipeline {event.pipeline!r}"
        if getattr(event, "element", None) is not None:
            owner = f"element {event.element} of {owner}"
        log_failed_hook(event, f"{option} of {owner}, {short_repr(hook)}, raised {describe_error(error)}", error)
