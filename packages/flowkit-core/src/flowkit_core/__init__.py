"""flowkit's core: tasks, graphs, runs and the serial executor, without a single dependency.

>>> from flowkit_core import DAG, task
>>> @task
... def extract(): return [3, 1, 2]
>>> @task
... def transform(rows): return sorted(rows)
>>> _ = extract >> transform
>>> DAG("etl", tasks=[transform]).run()
{'extract': [3, 1, 2], 'transform': [1, 2, 3]}
"""

from . import _initial_environment  # noqa: F401 - before the program changes what it began with
from .context import RunTrace, TaskContext, current
from .errors import (
    BindingError,
    ContextError,
    DAGCycleError,
    DiscoveryError,
    DuplicateTaskError,
    ExecutorError,
    FlowkitError,
    MissingDistributionError,
    MissingResultError,
    RemoteTaskError,
    RunTimeoutError,
    SerializationError,
    Skip,
    TaskOptionError,
    TaskOptionTypeError,
    TaskTimeoutError,
    UnknownExecutorError,
    WiringError,
    WorkerDiedError,
)
from .executors.executor import Executor, SerialExecutor
from .executors.registry import register_executor
from .graphs.graph import Graph
from .graphs.node import Node
from .pipelines.dag import DAG
from .pipelines.pipeline import Pipeline
from .pipelines.task import Task, task
from .pipelines.wiring import Group, Mapped
from .retry import RetryPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import (
        ElementEvent,
        ElementFailed,
        ElementNotRun,
        ElementRetrying,
        ElementStarted,
        ElementSucceeded,
        Event,
        Observer,
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
    from .graphs.map_errors import MapLengthError, MappingTypeError
    from .results import Results
    from .runs.call import Call, Outcome, Retry
    from .runs.limits.errors import PoolBlockedError, PoolSizeError, UnknownPoolError
    from .runs.limits.rate import Rate
    from .runs.mapping.elements import Elements
    from .runs.run import Run

    __version__: str
else:
    _LATER = {
        "Call": "runs.call",
        "ElementEvent": "events",
        "ElementFailed": "events",
        "ElementNotRun": "events",
        "ElementRetrying": "events",
        "ElementStarted": "events",
        "ElementSucceeded": "events",
        "Elements": "runs.mapping.elements",
        "Event": "events",
        "MapLengthError": "graphs.map_errors",
        "MappingTypeError": "graphs.map_errors",
        "Observer": "events",
        "Outcome": "runs.call",
        "PoolBlockedError": "runs.limits.errors",
        "PoolSizeError": "runs.limits.errors",
        "Rate": "runs.limits.rate",
        "Results": "results",
        "Retry": "runs.call",
        "Run": "runs.run",
        "RunFinished": "events",
        "RunStarted": "events",
        "RunStopping": "events",
        "TaskFailed": "events",
        "TaskNotRun": "events",
        "TaskRetrying": "events",
        "TaskReused": "events",
        "TaskStarted": "events",
        "TaskSucceeded": "events",
        "TaskWaiting": "events",
        "UnknownPoolError": "runs.limits.errors",
    }

    def __getattr__(name):
        """Import a name at its first use, with what only runs need; or return the version."""
        if name in _LATER:
            from importlib import import_module

            found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
            return found
        if name == "__version__":  # reading the metadata takes longer than importing the package
            from importlib.metadata import PackageNotFoundError, version

            try:
                return version("flowkit-core")
            except PackageNotFoundError:  # an application without metadata, such as a frozen one
                pass
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "DAG",
    "BindingError",
    "Call",
    "ContextError",
    "DAGCycleError",
    "DiscoveryError",
    "DuplicateTaskError",
    "ElementEvent",
    "ElementFailed",
    "ElementNotRun",
    "ElementRetrying",
    "ElementStarted",
    "ElementSucceeded",
    "Elements",
    "Event",
    "Executor",
    "ExecutorError",
    "FlowkitError",
    "Graph",
    "Group",
    "MapLengthError",
    "Mapped",
    "MappingTypeError",
    "MissingDistributionError",
    "MissingResultError",
    "Node",
    "Observer",
    "Outcome",
    "Pipeline",
    "PoolBlockedError",
    "PoolSizeError",
    "Rate",
    "RemoteTaskError",
    "Results",
    "Retry",
    "RetryPolicy",
    "Run",
    "RunFinished",
    "RunStarted",
    "RunStopping",
    "RunTimeoutError",
    "RunTrace",
    "SerialExecutor",
    "SerializationError",
    "Skip",
    "Task",
    "TaskContext",
    "TaskFailed",
    "TaskNotRun",
    "TaskOptionError",
    "TaskOptionTypeError",
    "TaskRetrying",
    "TaskReused",
    "TaskStarted",
    "TaskSucceeded",
    "TaskTimeoutError",
    "TaskWaiting",
    "UnknownExecutorError",
    "UnknownPoolError",
    "WiringError",
    "WorkerDiedError",
    "current",
    "register_executor",
    "task",
]
