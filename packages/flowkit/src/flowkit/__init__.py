"""Small workflows in plain Python: the public names of all distributions of flowkit.

Tasks, DAGs and runs come from `flowkit_core`, threads and processes from `flowkit_exec`, the chainable `Flow` from
`flowkit_flow`, logs and progress from `flowkit_log`, stored state and cached results from `flowkit_state`.

    >>> from flowkit import DAG, task
    >>> @task
    ... def extract():
    ...     return [1, 2, 3]
    >>> @task
    ... def total(rows):
    ...     return sum(rows)
    >>> extract >> total
    <Task total>
    >>> DAG("sums", tasks=[total]).run()
    {'extract': [1, 2, 3], 'total': 6}
"""

from __future__ import annotations

import flowkit_core
import flowkit_exec
from flowkit_core import (
    DAG,
    BindingError,
    ContextError,
    DAGCycleError,
    DiscoveryError,
    DuplicateTaskError,
    Executor,
    ExecutorError,
    FlowkitError,
    Graph,
    Group,
    Mapped,
    MissingDistributionError,
    MissingResultError,
    Node,
    Pipeline,
    RemoteTaskError,
    RetryPolicy,
    RunTimeoutError,
    RunTrace,
    SerialExecutor,
    SerializationError,
    Skip,
    Task,
    TaskContext,
    TaskOptionError,
    TaskOptionTypeError,
    TaskTimeoutError,
    UnknownExecutorError,
    WiringError,
    WorkerDiedError,
    current,
    register_executor,
    task,
)
from flowkit_flow import Flow
from flowkit_log import (
    ConsoleHandler,
    FlowkitLogger,
    JsonFormatter,
    LogLevel,
    Progress,
    TextFormatter,
    configure_logging,
    get_logger,
)
from flowkit_state import (
    AttemptRecord,
    CacheKeyError,
    DamagedStateWarning,
    ElementsRecord,
    ExecutionRecord,
    LogLine,
    MissingKeyError,
    Reclaimed,
    RestoreError,
    ResumeError,
    RunDiff,
    RunInUseError,
    RunRecord,
    StateClosedError,
    StateError,
    StateFileError,
    StateLockedError,
    StateManager,
    StateOptionError,
    StateOptionTypeError,
    StateVersionError,
    TaskCache,
    TaskError,
    TaskRecord,
    UnknownRunError,
    UnrecordedValue,
    UnsupportedValueError,
    UntrustedPickleError,
    ValueTooLargeError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowkit_core import (
        Call,
        ElementEvent,
        ElementFailed,
        ElementNotRun,
        ElementRetrying,
        Elements,
        ElementStarted,
        ElementSucceeded,
        Event,
        MapLengthError,
        MappingTypeError,
        Observer,
        Outcome,
        PoolBlockedError,
        PoolSizeError,
        Rate,
        Results,
        Retry,
        Run,
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
        UnknownPoolError,
    )
    from flowkit_exec import FuturesExecutor, ProcessExecutor, ThreadExecutor

    __version__: str
else:
    _LATER_OF_CORE = (
        "Call",
        "ElementEvent",
        "ElementFailed",
        "ElementNotRun",
        "ElementRetrying",
        "ElementStarted",
        "ElementSucceeded",
        "Elements",
        "Event",
        "MapLengthError",
        "MappingTypeError",
        "Observer",
        "Outcome",
        "PoolBlockedError",
        "PoolSizeError",
        "Rate",
        "Results",
        "Retry",
        "Run",
        "RunFinished",
        "RunStarted",
        "RunStopping",
        "TaskFailed",
        "TaskNotRun",
        "TaskRetrying",
        "TaskReused",
        "TaskStarted",
        "TaskSucceeded",
        "TaskWaiting",
        "UnknownPoolError",
    )

    def __getattr__(name):
        """Return a name that is imported at its first use, with what only runs need; or the version."""
        if name == "__version__":
            from importlib.metadata import PackageNotFoundError, version

            try:
                return version("flowkit")
            except PackageNotFoundError:  # an application without metadata, such as a frozen one
                pass
        if name in _LATER_OF_CORE:
            package = flowkit_core
        elif name in ("FuturesExecutor", "ProcessExecutor", "ThreadExecutor"):
            package = flowkit_exec
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(package, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "DAG",
    "AttemptRecord",
    "BindingError",
    "CacheKeyError",
    "Call",
    "ConsoleHandler",
    "ContextError",
    "DAGCycleError",
    "DamagedStateWarning",
    "DiscoveryError",
    "DuplicateTaskError",
    "ElementEvent",
    "ElementFailed",
    "ElementNotRun",
    "ElementRetrying",
    "ElementStarted",
    "ElementSucceeded",
    "Elements",
    "ElementsRecord",
    "Event",
    "ExecutionRecord",
    "Executor",
    "ExecutorError",
    "Flow",
    "FlowkitError",
    "FlowkitLogger",
    "FuturesExecutor",
    "Graph",
    "Group",
    "JsonFormatter",
    "LogLevel",
    "LogLine",
    "MapLengthError",
    "Mapped",
    "MappingTypeError",
    "MissingDistributionError",
    "MissingKeyError",
    "MissingResultError",
    "Node",
    "Observer",
    "Outcome",
    "Pipeline",
    "PoolBlockedError",
    "PoolSizeError",
    "ProcessExecutor",
    "Progress",
    "Rate",
    "Reclaimed",
    "RemoteTaskError",
    "RestoreError",
    "Results",
    "ResumeError",
    "Retry",
    "RetryPolicy",
    "Run",
    "RunDiff",
    "RunFinished",
    "RunInUseError",
    "RunRecord",
    "RunStarted",
    "RunStopping",
    "RunTimeoutError",
    "RunTrace",
    "SerialExecutor",
    "SerializationError",
    "Skip",
    "StateClosedError",
    "StateError",
    "StateFileError",
    "StateLockedError",
    "StateManager",
    "StateOptionError",
    "StateOptionTypeError",
    "StateVersionError",
    "Task",
    "TaskCache",
    "TaskContext",
    "TaskError",
    "TaskFailed",
    "TaskNotRun",
    "TaskOptionError",
    "TaskOptionTypeError",
    "TaskRecord",
    "TaskRetrying",
    "TaskReused",
    "TaskStarted",
    "TaskSucceeded",
    "TaskTimeoutError",
    "TaskWaiting",
    "TextFormatter",
    "ThreadExecutor",
    "UnknownExecutorError",
    "UnknownPoolError",
    "UnknownRunError",
    "UnrecordedValue",
    "UnsupportedValueError",
    "UntrustedPickleError",
    "ValueTooLargeError",
    "WiringError",
    "WorkerDiedError",
    "configure_logging",
    "current",
    "get_logger",
    "register_executor",
    "task",
]
