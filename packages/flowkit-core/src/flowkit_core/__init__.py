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

from . import _start  # noqa: F401 - before the program changes what it began with
from .dag import DAG
from .errors import (
    BindingError,
    DAGCycleError,
    DuplicateTaskError,
    ExecutorError,
    FlowkitError,
    MissingDistributionError,
    MissingResultError,
    RemoteTaskError,
    SerializationError,
    TaskOptionError,
    TaskOptionTypeError,
    UnknownExecutorError,
    WorkerDiedError,
)
from .events import (
    Event,
    Observer,
    RunFinished,
    RunStarted,
    TaskFailed,
    TaskNotRun,
    TaskRetrying,
    TaskReused,
    TaskStarted,
    TaskSucceeded,
)
from .executor import Executor, SerialExecutor, register_executor
from .graph import Graph, Node
from .outcome import Call, Ending, Later
from .pipeline import Pipeline
from .results import Results
from .retry import RetryPolicy
from .run import Run
from .task import Task, task
from .wiring import Group

__all__ = [
    "DAG",
    "BindingError",
    "Call",
    "DAGCycleError",
    "DuplicateTaskError",
    "Ending",
    "Event",
    "Executor",
    "ExecutorError",
    "FlowkitError",
    "Graph",
    "Group",
    "Later",
    "MissingDistributionError",
    "MissingResultError",
    "Node",
    "Observer",
    "Pipeline",
    "RemoteTaskError",
    "Results",
    "RetryPolicy",
    "Run",
    "RunFinished",
    "RunStarted",
    "SerialExecutor",
    "SerializationError",
    "Task",
    "TaskFailed",
    "TaskNotRun",
    "TaskOptionError",
    "TaskOptionTypeError",
    "TaskRetrying",
    "TaskReused",
    "TaskStarted",
    "TaskSucceeded",
    "UnknownExecutorError",
    "WorkerDiedError",
    "register_executor",
    "task",
]
