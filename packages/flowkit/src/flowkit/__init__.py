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

from flowkit_core import (
    DAG,
    BindingError,
    Call,
    ContextError,
    DAGCycleError,
    DiscoveryError,
    DuplicateTaskError,
    ElementEvent,
    ElementFailed,
    ElementNotRun,
    ElementRetrying,
    Elements,
    ElementStarted,
    ElementSucceeded,
    Event,
    Executor,
    ExecutorError,
    FlowkitError,
    Graph,
    Group,
    MapLengthError,
    Mapped,
    MappingTypeError,
    MissingDistributionError,
    MissingResultError,
    Node,
    Observer,
    Outcome,
    Pipeline,
    PoolBlockedError,
    PoolSizeError,
    Rate,
    RemoteTaskError,
    Results,
    Retry,
    RetryPolicy,
    Run,
    RunFinished,
    RunStarted,
    RunStopping,
    RunTimeoutError,
    RunTrace,
    SerialExecutor,
    SerializationError,
    Skip,
    Task,
    TaskContext,
    TaskFailed,
    TaskNotRun,
    TaskOptionError,
    TaskOptionTypeError,
    TaskRetrying,
    TaskReused,
    TaskStarted,
    TaskSucceeded,
    TaskTimeoutError,
    TaskWaiting,
    UnknownExecutorError,
    UnknownPoolError,
    WiringError,
    WorkerDiedError,
    current,
    register_executor,
    task,
)
from flowkit_exec import ThreadExecutor
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
    from flowkit_exec import FuturesExecutor, ProcessExecutor

    __version__: str
else:

    def __getattr__(name):
        """Return an executor or `__version__`: each takes longer to import than all other names together."""
        if name == "__version__":
            from importlib.metadata import PackageNotFoundError, version

            try:
                return version("flowkit")
            except PackageNotFoundError:  # an application without metadata, such as a frozen one
                pass
        if name not in ("FuturesExecutor", "ProcessExecutor"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import flowkit_exec

        globals()[name] = getattr(flowkit_exec, name)
        return globals()[name]


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
