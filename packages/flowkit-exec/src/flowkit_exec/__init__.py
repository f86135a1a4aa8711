"""Executors of flowkit: threads and processes.

``run(executor="thread")`` and ``run(executor="process")`` find them by name. Create an executor object to choose its
options, or to keep process workers warm between runs.
"""

import sys

from flowkit_core import register_executor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .futures import FuturesExecutor
    from .process.executor import ProcessExecutor
    from .thread.executor import ThreadExecutor
else:

    def __getattr__(name):
        """Import an executor at its first use."""
        if name == "ThreadExecutor":
            from .thread import executor as module
        elif name == "ProcessExecutor":
            from .process import executor as module
        elif name == "FuturesExecutor":
            from . import futures as module
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(module, name)
        return found


_module = sys.modules[__name__]  # an import in each run would cost more than an attribute


def _thread_executor(max_workers: int | None = None) -> "ThreadExecutor":
    return _module.ThreadExecutor(max_workers)  # type: ignore[no-any-return]


def _process_executor(max_workers: int | None = None) -> "ProcessExecutor":
    return _module.ProcessExecutor(max_workers)  # type: ignore[no-any-return]


# registered here, so that no metadata of installed distributions has to be read
register_executor("thread", _thread_executor)
register_executor("process", _process_executor)

__all__ = ["FuturesExecutor", "ProcessExecutor", "ThreadExecutor"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
