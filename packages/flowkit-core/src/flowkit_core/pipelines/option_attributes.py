"""Class `OptionAttributes`: the options of a task, checked, as attributes."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import warn
from flowkit_core.retry import RetryPolicy, text_of_idle_options

from .options import (
    HOOK_OPTIONS,
    RETRY_OPTIONS,
    check_cache,
    check_condition_type,
    check_executor_name,
    check_hook,
    check_priority,
    check_record,
    check_trigger,
    checked_timeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowkit_core._typing import Any
    from flowkit_core.events import TaskFailed, TaskNotRun, TaskRetrying, TaskSucceeded
    from flowkit_core.persistence import Cache
    from flowkit_core.pipelines.execution.hooks import Hook

    from .options import TaskOptions, Trigger

_NO_RETRIES = RetryPolicy()


class OptionAttributes:
    """Base class of `Task` for its options besides the name; those that are not given are class attributes."""

    if TYPE_CHECKING:
        func: Callable[..., Any]
        name: str
    retry = _NO_RETRIES
    when: Callable[..., Any] | None = None
    trigger: Trigger = "none_failed"
    cache: bool | Cache | None = None
    executor: str | None = None
    timeout: float | None = None
    pool: Mapping[str, int] | None = None
    priority = 0
    on_success: Hook[TaskSucceeded] = None
    on_failure: Hook[TaskFailed] = None
    on_retry: Hook[TaskRetrying] = None
    on_skip: Hook[TaskNotRun] = None
    has_hooks = False
    record = True
    _has_options = False
    _idle_options: tuple[str, ...] = ()  # options of retries that were given without retries

    def _apply(self, options: TaskOptions) -> None:
        """Check the options that were given, and set the attributes for them."""
        name = self.name
        self._has_options = True
        retry: Any = {option: value for option, value in options.items() if option in RETRY_OPTIONS}
        if retry:
            self.retry = RetryPolicy(**retry, task=name)
            given = [option for option in retry if retry[option] is not None]
            if given and "retries" not in retry:
                self._idle_options = tuple(given)
                warn(text_of_idle_options(name, given), task=name)
        when: Any = options.get("when")
        if when is not None:
            check_condition_type(name, when)
            self.when = when
        if "trigger" in options:
            check_trigger(name, options["trigger"])
            self.trigger = options["trigger"]
        cache = options.get("cache")
        if cache is not None and cache is not False:
            check_cache(name, cache, self.func)
            self.cache = cache
        executor: Any = options.get("executor")
        if executor is not None:
            check_executor_name(name, executor)
            self.executor = executor
        if options.get("timeout") is not None:
            self.timeout = checked_timeout(name, options["timeout"])
        if options.get("pool") is not None:
            from flowkit_core.runs.limits.definitions import checked_pool

            self.pool = checked_pool(name, options["pool"])
        if "priority" in options:
            check_priority(name, options["priority"])
            self.priority = options["priority"]
        for option in HOOK_OPTIONS:
            hook = options.get(option)
            if hook is not None:
                check_hook(name, option, hook)
                setattr(self, option, hook)
                self.has_hooks = True
        if "record" in options:
            check_record(name, options["record"])
            self.record = options["record"]

    @property
    def retries(self) -> int:
        """Maximum number of retries."""
        return self.retry.retries

    @property
    def delay(self) -> float:
        """Seconds before the first retry."""
        return self.retry.delay

    @property
    def backoff(self) -> float:
        """Factor from one wait to the next."""
        return self.retry.backoff

    @property
    def max_delay(self) -> float:
        """Longest wait between two attempts, in seconds."""
        return self.retry.max_delay

    @property
    def jitter(self) -> float:
        """Width of the random factor on each wait."""
        return self.retry.jitter

    @property
    def retry_on(self) -> Any:
        """Which exceptions are retried: a class, a sequence of classes, or a function of the exception; None: all."""
        return self.retry.retry_on

    def _options(self) -> TaskOptions:
        """Return the options beside the name that differ from those of ``Task(func)``."""
        options: Any = {}
        if self.retry is not _NO_RETRIES:
            options |= {option: getattr(self.retry, option) for option in RETRY_OPTIONS}
        for option in ("when", "trigger", "cache", "executor", "timeout", "pool", "priority", "record", *HOOK_OPTIONS):
            if option in self.__dict__:
                options[option] = self.__dict__[option]
        return options  # type: ignore[no-any-return]
