"""Options of tasks: names, defaults, checks, and hints for keywords of other tools."""

from __future__ import annotations

from flowkit_core._text import closest, did_you_mean
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import is_coroutine_function, is_generator_function
from flowkit_core.errors import TaskOptionError, TaskOptionTypeError
from flowkit_core.graphs.parameters import KEY
from flowkit_core.hooks import ALLOWED, HOOK_OPTIONS, is_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Literal, TypedDict

    from flowkit_core._typing import Any
    from flowkit_core.events import TaskFailed, TaskNotRun, TaskRetrying, TaskSucceeded
    from flowkit_core.hooks import Hook
    from flowkit_core.persistence import Cache

    Trigger = Literal["none_failed", "all_success", "all_done", "one_success", "one_failed", "all_failed"]
    PoolOption = str | Sequence[str] | Mapping[str, int] | None
    RetryOn = type[BaseException] | Sequence[type[BaseException]] | Callable[[BaseException], object] | None

    class TaskOptions(TypedDict, total=False):
        """The options of a task, for type checkers; see `DEFAULT_OF`."""

        name: str
        retries: int
        delay: float
        backoff: float
        when: Callable[..., Any] | None
        max_delay: float
        jitter: float
        retry_on: RetryOn
        trigger: Trigger
        cache: bool | Cache | None
        executor: str | None
        timeout: float | None
        pool: PoolOption
        priority: int
        on_success: Hook[TaskSucceeded]
        on_failure: Hook[TaskFailed]
        on_retry: Hook[TaskRetrying]
        on_skip: Hook[TaskNotRun]
        record: bool


TRIGGERS = ("none_failed", "all_success", "all_done", "one_success", "one_failed", "all_failed")
RETRY_OPTIONS = ("retries", "delay", "backoff", "max_delay", "jitter", "retry_on")


class _Default(int):
    """The default of ``retries``: equal to 0, but distinguishable by identity from a 0 that was given."""

    __slots__ = ()


NO_RETRIES = _Default(0)
DELAY, BACKOFF, MAX_DELAY, JITTER = float("1"), float("2"), float("3600"), float("0.1")  # compared by identity


class _DefaultTrigger(str):
    """The default of ``trigger``: distinguishable by identity from an equal str that was given."""

    __slots__ = ()


NONE_FAILED: Any = _DefaultTrigger("none_failed")

DEFAULT_OF: dict[str, Any] = {
    "name": None,
    "retries": NO_RETRIES,
    "delay": DELAY,
    "backoff": BACKOFF,
    "when": None,
    "max_delay": MAX_DELAY,
    "jitter": JITTER,
    "retry_on": None,
    "trigger": NONE_FAILED,
    "cache": None,
    "executor": None,
    "timeout": None,
    "pool": None,
    "priority": 0,
    "on_success": None,
    "on_failure": None,
    "on_retry": None,
    "on_skip": None,
    "record": True,
}
"""The options of tasks, in the order of the signature of `task` -> default. A new option is added here, to that
signature, to `TaskOptions` and to `OptionAttributes`; a test compares them."""
OPTIONS = tuple(DEFAULT_OF)
_DEFAULTS = tuple(DEFAULT_OF.values())

_NO_SCHEDULE = "flowkit does not schedule: call run() from cron or a systemd timer"
_WORKERS = dict.fromkeys(("workers", "n_jobs", "num_workers", "concurrency", "max_threads"), "use 'max_workers'")
_TIMEOUTS = dict.fromkeys(
    ("timeout_seconds", "time_limit", "execution_timeout", "dagrun_timeout", "max_runtime", "deadline"),
    "use 'timeout', in seconds",
)
_POOLS = "use 'pool', and give its size to run(pools={'name': 2})"
_RATES = "use pool='name', and run(pools={'name': Rate(10)})"
_PIPELINE_TIMEOUTS = dict.fromkeys(
    ("timeout", *_TIMEOUTS), "give it to run(timeout=...), or each attempt at a task one, @task(timeout=...)"
)
RUN_OPTIONS = (  # the parameters of `Pipeline.run`; a test compares them
    "executor",
    "max_workers",
    "max_async",
    "params",
    "keep",
    "fail_fast",
    "raise_on_failure",
    "grace",
    "timeout",
    "pools",
    "observers",
    "report",
    "progress",
    "state",
    "resume",
    "resume_max_age",
    "refresh",
    "rerun",
    "of",
    "state_errors",
)
OPTION_ALIASES = {
    "retry": "use 'retries'",
    "max_retries": "use 'retries'",
    "attempts": "use 'retries', which does not count the first attempt",
    "max_retry_delay": "use 'max_delay', in seconds",
    "retry_delay": "use 'delay', in seconds",
    "retry_delay_seconds": "use 'delay', in seconds",
    "condition": "use 'when'",
    "on_failure_callback": "use 'on_failure'",
    "on_success_callback": "use 'on_success'",
    "on_retry_callback": "use 'on_retry'",
    "on_skipped_callback": "use 'on_skip'",
    "on_completion": "use 'on_success' and 'on_failure'",
    "skip_if": "use 'when', with the opposite result",
    "trigger_rule": "use 'trigger'",
    "task_id": "use 'name'",
    "upstream": "wire tasks with '>>': upstream >> downstream",
    "depends_on": "wire tasks with '>>': upstream >> downstream",
    "cache_key_fn": "use cache=TaskCache(key=...)",
    "persist_result": "use run(state=...)",
    "exceptions": "use 'retry_on'",
    "retry_exceptions": "use 'retry_on'",
    "autoretry_for": "use 'retry_on'",
    "retry_condition_fn": "use 'retry_on', a function of the exception",
    **_TIMEOUTS,
    **dict.fromkeys(("pools", "concurrency", "max_concurrency", "max_active_tis_per_dag"), _POOLS),
    **dict.fromkeys(("rate", "rate_limit", "rate_limit_per_second"), _RATES),
    **dict.fromkeys(("pool_slots", "resources"), "use pool={'name': 2}, with the number of slots"),
    "priority_weight": "use 'priority'",
    "tags": "tasks have no tags: use the name",
    "schedule": _NO_SCHEDULE,
}
PIPELINE_ALIASES = {
    **{option: f"it is an option of tasks: @task({option}=...)" for option in OPTIONS},
    **{option: f"give it to run({option}=...)" for option in RUN_OPTIONS},
    **_WORKERS,
    **_PIPELINE_TIMEOUTS,
    "max_active_tasks": "use 'max_workers'",
    "on_failure_callback": "use 'on_failure'",
    "on_success_callback": "use 'on_success'",
    "on_completion": "use 'on_success' and 'on_failure'",
    "dag_id": "the name is the first argument: DAG('etl')",
    "flow_name": "the name is the first argument: Flow('etl')",
    "task": "for a DAG use tasks=[...], for a Flow add(task)",
    "steps": "for a DAG use tasks=[...], for a Flow add(task)",
    "tasks": "add tasks with add(), branch() and merge()",
    "schedule": _NO_SCHEDULE,
    "schedule_interval": _NO_SCHEDULE,
    "cron": _NO_SCHEDULE,
    "start_date": "flowkit does not schedule: give the date to run(params={'date': ...})",
    "catchup": "flowkit does not schedule: call run() once for each date",
    "default_args": "give each task its options: @task(retries=3)",
    **dict.fromkeys(("retries", "retry"), "retries are an option of tasks: @task(retries=3)"),
    "description": "use the name, or a comment",
    "tags": "pipelines have no tags: use the name",
    "params": "give them to run(params={...})",
}
TASK_METHODS = {
    "expand": ": write rows >> parse.map()",
    "submit": ": tasks run in a pipeline, DAG(...).run(), or are called",
    "run": ": call the task, or run a pipeline, DAG('name', tasks=[...]).run()",
    "set_upstream": ": wire tasks with '>>': upstream >> downstream",
    "set_downstream": ": wire tasks with '>>': upstream >> downstream",
    "partial": ": use functools.partial of the function, Task(partial(f, x))",
}
PIPELINE_METHODS = {
    "map": ": wire a mapped task, rows >> parse.map(), or loop over the inputs and call run(params={...}) for each",
    "schedule": f": {_NO_SCHEDULE}",
    "serve": f": {_NO_SCHEDULE}",
    "deploy": f": {_NO_SCHEDULE}",
    "submit": ": use run()",
    "start": ": use run()",
    "execute": ": use run()",
    "compute": ": use run()",
    "test": ": use run('serial')",
    "validate": ": use check()",
    "lint": ": use check()",
    "add_task": ": wire tasks with '>>', or name them, DAG(tasks=[...])",
}
RUN_ALIASES = {
    **_WORKERS,
    **_TIMEOUTS,
    "scheduler": "use 'executor'",
    "backend": "use 'executor'",
    "parallel": "use executor='thread', 'process' or 'serial'",
    "date": "give it to the tasks that take it, params={'date': ...}",
    "day": "give it to the tasks that take it, params={'day': ...}",
    "ds": "give the date to the tasks that take it, params={'date': ...}",
    "logical_date": "give the date to the tasks that take it, params={'date': ...}",
    "execution_date": "give the date to the tasks that take it, params={'date': ...}",
    "parameters": "use 'params'",
    "inputs": "use 'params'",
    "conf": "use 'params'",
    "config": "use 'params'",
    "kwargs": "use 'params'",
    "raise_on_error": "use 'raise_on_failure'",
    "continue_on_failure": "use fail_fast=False",
    "keep_going": "use fail_fast=False",
    "callbacks": "use 'observers'",
    "hooks": "use 'observers', or hooks of tasks and pipelines: DAG(on_failure=...)",
    **dict.fromkeys(HOOK_OPTIONS, "it is an option of tasks and pipelines: @task(on_failure=...), DAG(on_failure=...)"),
    **dict.fromkeys(("pool", "limits", "resources", "concurrency_limits"), "use 'pools'"),
    **dict.fromkeys(("rates", "rate_limit"), "use pools={'name': Rate(10)}, for tasks with pool='name'"),
    "priority": "it is an option of tasks: @task(priority=...)",
    "store": "use 'state'",
    "db": "use 'state'",
    "checkpoint": "use 'state'",
    "restart": "use resume=True",
    "tasks": "use DAG(tasks=[...])",
    "tags": "runs have no tags: use params",
    "schedule": _NO_SCHEDULE,
    "retries": "retries belong to tasks: @task(retries=3)",
}


def given_options(values: tuple[Any, ...]) -> TaskOptions:
    """Return the options that differ from their defaults, given all values in the order of OPTIONS."""
    given: Any = {option: value for option, value, default in zip(OPTIONS, values, _DEFAULTS) if value is not default}
    return given  # type: ignore[no-any-return]


_SIMILAR = 0.8  # ratio of difflib from which a keyword counts as a keyword of another tool, misspelt


def check_known(owner: str, given: Iterable[str], known: Sequence[str], aliases: Mapping[str, str]) -> None:
    """Raise a :class:`TypeError` with a hint for the first unknown keyword, if there is one.

    Args:
        owner: the callable, as it is shown in the message: ``"DAG('etl')"``.
        given: the keywords that were given.
        known: the accepted keywords.
        aliases: keyword of another tool -> hint.
    """
    for name in given:
        if name in known:
            continue
        similar = name if name in aliases else closest(name, [*known, *aliases], _SIMILAR)
        guess = did_you_mean(name, known) if similar is None or similar in known else f": {aliases[similar]}"
        if name not in aliases and "params" in known:
            guess += f"; if it is a parameter of a task, use params={{{name!r}: ...}}"
        raise TypeError(f"{owner} has no option {name!r}{guess}; there are: {', '.join(known)}")


def check_condition_type(task: str, when: Any) -> None:
    """Raise if ``when`` is not a plain function."""
    if not callable(when):
        raise TaskOptionTypeError(task, "when", when, "a function of the task's arguments, or None")
    if is_coroutine_function(when):
        raise TaskOptionTypeError(task, "when", when, "a plain function, not an async one: conditions are not awaited")
    if is_generator_function(when):
        raise TaskOptionTypeError(task, "when", when, "a function that returns true or false, not a generator function")


def check_trigger(task: str, trigger: Any) -> None:
    """Raise if ``trigger`` is not in TRIGGERS."""
    if type(trigger) is not str or trigger not in TRIGGERS:
        kind = TaskOptionError if type(trigger) is str else TaskOptionTypeError
        guess = did_you_mean(trigger, TRIGGERS) if type(trigger) is str else ""
        raise kind(task, "trigger", trigger, f"one of {', '.join(map(repr, TRIGGERS))}{guess}")


def check_cache(task: str, cache: Any, func: Callable[..., Any]) -> None:
    """Raise if ``cache`` is neither a bool, None nor a cache, or does not fit the function."""
    if cache is True:
        return
    parts = ("over", "find", "keep")
    if isinstance(cache, type) or not all(callable(getattr(cache, part, None)) for part in parts):
        raise TaskOptionTypeError(task, "cache", cache, "True, a TaskCache such as TaskCache(ttl=3600), or None")
    check_fit = getattr(cache, "check", None)
    if callable(check_fit):
        check_fit(func, task, ignore=(KEY,))


def check_executor_name(task: str, executor: Any) -> None:
    """Raise if ``executor`` is not the name of an executor."""
    allowed = "the name of an executor, such as 'process', or None; executor objects are given to run(executor={...})"
    if not isinstance(executor, str):
        raise TaskOptionTypeError(task, "executor", executor, allowed)
    if not executor:
        raise TaskOptionError(task, "executor", executor, allowed)


def check_hook(task: str, option: str, hook: Any) -> None:
    """Raise if the value of ``on_success`` and so on is neither a function, several, nor None."""
    if not is_hook(hook):
        raise TaskOptionTypeError(task, option, hook, ALLOWED)


def checked_timeout(task: str, timeout: Any) -> float:
    """Return ``timeout``, if it is a positive, finite number."""
    allowed = "a number of seconds, more than 0, or None"
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TaskOptionTypeError(task, "timeout", timeout, allowed)
    if not 0 < timeout < float("inf"):
        raise TaskOptionError(task, "timeout", timeout, allowed)
    return timeout


def check_priority(task: str, priority: Any) -> None:
    """Raise if ``priority`` is not an integer."""
    if type(priority) is not int:
        raise TaskOptionTypeError(task, "priority", priority, "an integer; tasks with a higher one start first")


def check_record(task: str, record: Any) -> None:
    """Raise if ``record`` is not a bool."""
    if type(record) is not bool:
        raise TaskOptionTypeError(task, "record", record, "True or False")


def check_name(natural: str, name: Any) -> None:
    """Raise if ``name`` is not a str, or is empty."""
    if not isinstance(name, str):
        raise TaskOptionTypeError(natural, "name", name, "a string of at least one character")
    if not name:
        raise TaskOptionError(natural, "name", name, "a string of at least one character")
