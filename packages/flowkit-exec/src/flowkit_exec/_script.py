"""The user's script in a worker process: executed under another name, silently, up to its first ``run()``.

A worker has no use for the script until a function or a class of ``__main__`` is needed: a task defined there, or an
instance of a class defined there among its arguments. Then the script is executed as module ``__mp_main__`` (the name
that the standard library uses for the same purpose), so that a guarded part does not run; and the first ``run()`` of a
pipeline ends it.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any


class StopImport(BaseException):
    """Raised by ``run()`` to end the execution of a script in a worker process."""


def describe_main() -> dict[str, Any] | None:
    """Return how a worker can execute the script of this process; None for an interactive session."""
    main = sys.modules.get("__main__")
    if isinstance(main, Script):  # in a worker: for the workers of a run inside a task
        return vars(main)["_flowkit_origin"]  # type: ignore[no-any-return]
    spec = getattr(main, "__spec__", None)
    name = getattr(spec, "name", None)
    if name is not None and name != "__main__":
        return {"module": name}
    path = getattr(main, "__file__", None)
    if not path or not os.path.exists(path):
        return None
    return {"path": os.path.abspath(path)}


class Script(ModuleType):
    """Stands for ``__main__`` in a worker, and executes the script when something of it is first asked for."""

    def __init__(self, main: dict[str, Any] | None) -> None:
        super().__init__("__mp_main__")
        vars(self)["_flowkit_origin"] = vars(self)["_flowkit_main"] = main
        vars(self)["_flowkit_failure"] = ""

    def __getattr__(self, name: str) -> Any:
        facts = vars(self)
        main = None if name.startswith("__") and name.endswith("__") else facts.get("_flowkit_main")
        if main is not None:
            facts["_flowkit_main"] = None
            facts["_flowkit_failure"] = execute(self, main)
            if name in facts:
                return facts[name]
        reason = facts.get("_flowkit_failure")
        where = "the script, as a worker sees it (up to its first run(), without what stands under the __main__ guard),"
        raise AttributeError(f"{where} has no {name!r}{f'; it ended early with {reason}' if reason else ''}")


def execute(module: ModuleType, main: dict[str, Any]) -> str:
    """Execute the script in a module; return what ended it early, in words, if anything did."""
    from flowkit_core import pipeline

    facts = vars(module)
    halted, pipeline.halt_import = (
        pipeline.halt_import,
        StopImport("a script that a worker process imports ends at its run()"),
    )
    muted = _mute()
    try:
        code, more = _code(main)
        facts.update(more)
        exec(code, facts)  # noqa: S102 - the user's own script
    except (StopImport, SystemExit):
        pass
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        pipeline.halt_import = halted
        _unmute(muted)
    return ""


def _code(main: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if "module" in main:
        from importlib.util import find_spec

        spec = find_spec(main["module"])
        if spec is None or spec.loader is None:
            raise ImportError(f"module {main['module']!r} is not to be found in the worker")
        loader: Any = spec.loader
        return loader.get_code(main["module"]), {
            "__file__": spec.origin,
            "__package__": spec.parent,
            "__loader__": loader,
        }
    path = main["path"]
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec"), {"__file__": path, "__package__": None, "__cached__": None}


def _mute() -> list[tuple[int, int]]:
    """Send standard output and error nowhere: the script has said all that once."""
    saved = []
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        try:
            saved.append((descriptor, os.dup(descriptor)))
            os.dup2(nowhere, descriptor)
        except OSError:  # it was closed
            continue
    os.close(nowhere)
    return saved


def _unmute(saved: list[tuple[int, int]]) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    for descriptor, copy in saved:
        os.dup2(copy, descriptor)
        os.close(copy)
