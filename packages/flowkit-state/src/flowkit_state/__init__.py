"""flowkit-state: a crash-safe key-value store with expiry, and a decorator that caches the results of functions.

`StateManager` stores values in memory, in a JSON file or in a SQLite database, and the record of pipeline runs.
`TaskCache` caches the results of functions, by their code and arguments. flowkit-state requires no other distribution.

    >>> from flowkit_state import StateManager
    >>> state = StateManager()
    >>> state.set("rows", (1, 2, 3))
    >>> state.get("rows")
    (1, 2, 3)
"""

from __future__ import annotations

from flowkit_state.cache import TaskCache
from flowkit_state.errors import (
    CacheKeyError,
    DamagedStateWarning,
    MissingKeyError,
    RestoreError,
    ResumeError,
    RunInUseError,
    StateClosedError,
    StateError,
    StateFileError,
    StateLockedError,
    StateOptionError,
    StateOptionTypeError,
    StateVersionError,
    UnknownRunError,
    UnsupportedValueError,
    UntrustedPickleError,
    ValueTooLargeError,
)
from flowkit_state.manager import StateManager
from flowkit_state.runs import (
    AttemptRecord,
    ElementsRecord,
    ExecutionRecord,
    LogLine,
    Reclaimed,
    RunDiff,
    RunRecord,
    TaskError,
    TaskRecord,
    UnrecordedValue,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        if name == "__version__":  # reading the metadata takes longer than importing the package
            from importlib.metadata import version

            return version("flowkit-state")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AttemptRecord",
    "CacheKeyError",
    "DamagedStateWarning",
    "ElementsRecord",
    "ExecutionRecord",
    "LogLine",
    "MissingKeyError",
    "Reclaimed",
    "RestoreError",
    "ResumeError",
    "RunDiff",
    "RunInUseError",
    "RunRecord",
    "StateClosedError",
    "StateError",
    "StateFileError",
    "StateLockedError",
    "StateManager",
    "StateOptionError",
    "StateOptionTypeError",
    "StateVersionError",
    "TaskCache",
    "TaskError",
    "TaskRecord",
    "UnknownRunError",
    "UnrecordedValue",
    "UnsupportedValueError",
    "UntrustedPickleError",
    "ValueTooLargeError",
]
