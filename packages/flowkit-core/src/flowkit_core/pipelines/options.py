"""Options of tasks: names, defaults, checks, and hints for keywords of other tools."""

from __future__ import annotations

from flowkit_core._text import closest, did_you_mean
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import is_coroutine_function, is_generator_function
from flowkit_core.errors import TaskOptionError, TaskOptionTypeError
from flowkit_core.graphs.parameters import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Literal, TypedDict

    from flowkit_core._typing import Any
    from flowkit_core.events import TaskFailed, TaskNotRun, TaskRetrying, TaskSucceeded
    from flowkit_core.persistence import Cache
    from flowkit_core.pipelines.execution.hooks import Hook

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
_DATES = "flowkit does not schedule: call run(params={'date': ...}) once for each date"
_WIRE = "wire tasks with '>>': first >> second >> third"
_ONE_RESULT = "a task has one result, what its function returns, such as a dict or a tuple"
_PARAMS = "give values to run(params={...}), by the names of the parameters"
_NO_TEXT = "nothing is stored of it: use the name, or a comment"
_WORDS = {
    "schedule": _NO_SCHEDULE,
    "schedule_interval": _NO_SCHEDULE,
    "cron": _NO_SCHEDULE,
    **dict.fromkeys(("start_date", "end_date", "catchup", "depends_on_past", "wait_for_downstream"), _DATES),
    "max_active_runs": "flowkit starts no runs by itself: call run() again when the last run has ended",
    "partitions_def": "call run(params={...}) for each partition, or map a task over them: rows >> parse.map()",
    "default_args": "give each task its options: @task(retries=3)",
    **dict.fromkeys(("chain", "upstream", "depends_on", "ins", "deps"), _WIRE),
    "wait_for": "write load.after(create_table)",
    **dict.fromkeys(("out", "outs", "multiple_outputs"), _ONE_RESULT),
    "dag": "name the task in DAG(tasks=[...])",
    "python_callable": "write @task above the function, or Task(function)",
    "bash_command": "call subprocess.run() in the function",
    "log_prints": "use flowkit.current().logger in the function, instead of print()",
    "provide_context": "call flowkit.current() in the function",
    **dict.fromkeys(("op_args", "op_kwargs", "required_resource_keys", "resource_defs", "config_schema"), _PARAMS),
    **dict.fromkeys(("email", "email_on_failure", "email_on_retry"), "use on_failure=function, which sends the mail"),
    **dict.fromkeys(("owner", "doc_md", "version", "description", "compute_kind", "group_name", "op_tags"), _NO_TEXT),
}
"""Keywords of other tools that no callable of flowkit takes -> hint."""

_WORKERS = dict.fromkeys(
    (
        *("workers", "n_workers", "n_jobs", "num_workers", "nthreads", "threads_per_worker", "max_threads"),
        *("concurrency", "parallelism", "max_active_tasks"),
    ),
    "use 'max_workers'",
)
_TIMEOUTS = dict.fromkeys(
    ("timeout_seconds", "time_limit", "execution_timeout", "dagrun_timeout", "max_runtime", "deadline", "sla"),
    "use 'timeout', in seconds",
)
_POOLS = "use 'pool', and give its size to run(pools={'name': 2})"
_RATES = "use pool='name', and run(pools={'name': Rate(10)})"
_PIPELINE_TIMEOUTS = dict.fromkeys(
    ("timeout", *_TIMEOUTS), "give it to run(timeout=...), or each attempt at a task one, @task(timeout=...)"
)
HOOK_OPTIONS = ("on_success", "on_failure", "on_retry", "on_skip")
RESUME_MAX_AGE = 43_200.0
"""Default of the option ``resume_max_age`` of ``run()``, in seconds."""
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
_TASK_WORDS = {
    **dict.fromkeys(("retry", "max_retries"), "use 'retries'"),
    "attempts": "use 'retries', which does not count the first attempt",
    "max_retry_delay": "use 'max_delay', in seconds",
    "retry_delay": "use 'delay', in seconds",
    "retry_delay_seconds": "use 'delay', in seconds",
    "retry_exponential_backoff": "use 'backoff'",
    "retry_jitter_factor": "use 'jitter'",
    "condition": "use 'when'",
    "on_failure_callback": "use 'on_failure'",
    "on_success_callback": "use 'on_success'",
    "on_retry_callback": "use 'on_retry'",
    "on_skipped_callback": "use 'on_skip'",
    "on_completion": "use 'on_success' and 'on_failure'",
    "skip_if": "use 'when', with the opposite result",
    "trigger_rule": "use 'trigger'",
    **dict.fromkeys(("task_id", "dask_key_name"), "use 'name'"),
    **dict.fromkeys(("task_run_name", "map_index_template"), "use 'name', or map(label=...) for elements"),
    "queue": "use 'executor', the name of one in run(executor={...})",
    **dict.fromkeys(("cache_key_fn", "cache_policy"), "use cache=TaskCache(key=...)"),
    **dict.fromkeys(("cache_expiration", "cache_ttl", "ttl"), "use cache=TaskCache(ttl=seconds)"),
    "pure": "use cache=True",
    "do_xcom_push": "use record=False for a result that is not to be stored",
    **dict.fromkeys(("exceptions", "retry_exceptions", "autoretry_for"), "use 'retry_on'"),
    "retry_condition_fn": "use 'retry_on', a function of the exception",
    **_TIMEOUTS,
    **dict.fromkeys(("pools", "concurrency", "max_concurrency", "max_active_tis_per_dag"), _POOLS),
    **dict.fromkeys(("rate", "rate_limit", "rate_limit_per_second"), _RATES),
    **dict.fromkeys(("pool_slots", "resources"), "use pool={'name': 2}, with the number of slots"),
    "priority_weight": "use 'priority'",
    **dict.fromkeys(("batch_size", "chunksize", "pre_dispatch"), "use map(chunk=...)"),
    "tags": "tasks have no tags: use the name",
}
_PARAM_WORDS = dict.fromkeys(("parameters", "inputs", "conf", "config", "kwargs"), "use 'params'")
_RUN_WORDS = {
    **_WORKERS,
    **_TIMEOUTS,
    **dict.fromkeys(("scheduler", "backend", "task_runner"), "use 'executor'"),
    "client": "use executor=DaskExecutor(client)",
    "parallel": "use executor='thread', 'process' or 'serial'",
    "date": "give it to the tasks that take it, params={'date': ...}",
    "day": "give it to the tasks that take it, params={'day': ...}",
    "ds": "give the date to the tasks that take it, params={'date': ...}",
    "logical_date": "give the date to the tasks that take it, params={'date': ...}",
    "execution_date": "give the date to the tasks that take it, params={'date': ...}",
    **_PARAM_WORDS,
    "raise_on_error": "use 'raise_on_failure'",
    "return_state": "use raise_on_failure=False",
    "continue_on_failure": "use fail_fast=False",
    "keep_going": "use fail_fast=False",
    "callbacks": "use 'observers'",
    "verbose": "use 'progress'",
    "hooks": "use 'observers', or hooks of tasks and pipelines: DAG(on_failure=...)",
    **dict.fromkeys(HOOK_OPTIONS, "it is an option of tasks and pipelines: @task(on_failure=...), DAG(on_failure=...)"),
    **dict.fromkeys(("pool", "limits", "resources", "concurrency_limits"), "use 'pools'"),
    **dict.fromkeys(("rates", "rate_limit"), "use pools={'name': Rate(10)}, for tasks with pool='name'"),
    **dict.fromkeys(("store", "db", "checkpoint", "io_manager_key"), "use 'state'"),
    **dict.fromkeys(("persist_result", "result_storage", "result_serializer", "result_storage_key"), "use 'state'"),
    **dict.fromkeys(("flow_run_name", "run_name"), "runs have an id, results.run_id, and params"),
    "restart": "use resume=True",
    "refresh_cache": "use 'refresh'",
    "tasks": "use DAG(tasks=[...])",
    "tags": "runs have no tags: use params",
    "retries": "retries belong to tasks: @task(retries=3)",
}
_OF_TASKS = {option: f"it is an option of tasks: @task({option}=...)" for option in OPTIONS}
_OF_TASKS |= {word: f"it belongs to tasks: {hint}" for word, hint in _TASK_WORDS.items()}
_OF_RUNS = {option: f"give it to run({option}=...)" for option in RUN_OPTIONS}
_OF_RUNS |= {word: f"it belongs to run(): {hint}" for word, hint in _RUN_WORDS.items()}
OPTION_ALIASES = {**_OF_RUNS, **_WORDS, **_TASK_WORDS}
"""Keyword that tasks do not take -> hint."""
PIPELINE_ALIASES = {
    **_OF_RUNS,
    **_OF_TASKS,
    **_WORDS,
    **{option: f"give it to run({option}=...)" for option in RUN_OPTIONS},
    **_WORKERS,
    **_PIPELINE_TIMEOUTS,
    "on_failure_callback": "use 'on_failure'",
    "on_success_callback": "use 'on_success'",
    "on_completion": "use 'on_success' and 'on_failure'",
    "dag_id": "the name is the first argument: DAG('etl')",
    "flow_name": "the name is the first argument: Flow('etl')",
    "task": "for a DAG use tasks=[...], for a Flow add(task)",
    "steps": "for a DAG use tasks=[...], for a Flow add(task)",
    "tasks": "add tasks with add(), branch() and merge()",
    **dict.fromkeys(("retries", "retry"), "retries are an option of tasks: @task(retries=3)"),
    "tags": "pipelines have no tags: use the name",
    "params": "give them to run(params={...})",
}
"""Keyword that pipelines do not take -> hint."""
RUN_ALIASES = {**_OF_TASKS, **_WORDS, **_RUN_WORDS}
"""Keyword that ``run()`` does not take -> hint."""
VISUALIZE_ALIASES = {**RUN_ALIASES, **_OF_RUNS}
"""Keyword that ``visualize()`` does not take -> hint."""
CHECK_ALIASES = {**VISUALIZE_ALIASES, **_PARAM_WORDS}
"""Keyword that ``check()``, ``plan()`` or ``simulate()``, which take ``params``, does not take -> hint."""
_TASK_OPTIONS = {option: f"it is an option of the task: @task({option}=...)" for option in OPTIONS}
MAP_OPTIONS = ("limit", "errors", "label", "chunk")
MAP_ALIASES = {
    **_TASK_OPTIONS,
    **{word: f"it belongs to the task: {hint}" for word, hint in _TASK_WORDS.items()},
    **_OF_RUNS,
    **dict.fromkeys((*_WORKERS, "max_concurrency", "max_active_tis_per_dag"), "use 'limit'"),
    **_TASK_OPTIONS,
    **dict.fromkeys(("chunksize", "chunk_size", "batch_size", "pre_dispatch"), "use 'chunk'"),
    **dict.fromkeys(("on_error", "raise_on_error", "raise_on_failure"), "use 'errors': 'raise', 'drop' or 'return'"),
    "return_exceptions": "use errors='return'",
    **dict.fromkeys(("task_run_name", "map_index_template", "names"), "use 'label', a function of the element"),
    "over": "wire what is mapped, rows >> parse.map(); only Flow.map() takes 'over'",
}
"""Keyword that ``map()`` does not take -> hint."""
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
    **dict.fromkeys(("then", "next", "pipe", "step"), ": wire tasks with '>>', or use Flow.add(task)"),
    **dict.fromkeys(("parallel", "fan_out", "add_many"), ": wire tasks, a >> [b, c], or use Flow.branch(b, c)"),
    **dict.fromkeys(("join", "fan_in", "gather"), ": wire tasks, [a, b] >> c, or use Flow.merge(c)"),
    **dict.fromkeys(("map_parallel", "foreach", "for_each"), ": wire rows >> parse.map(), or use Flow.map(parse)"),
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
        if "params" in known and name not in _RUN_WORDS:
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
    from .execution.hooks import ALLOWED, is_hook

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
