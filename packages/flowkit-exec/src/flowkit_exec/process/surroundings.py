"""The surroundings of the calling process that tasks may depend on: current folder, import path, environment.

The calling process takes them for each run, and sends them in the frame RUN; a worker sets its own accordingly.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from flowkit_core import _initial_environment

from . import protocol
from .warning_forwarding import current_filters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowkit_core import Run


ENVIRONMENT: Any = getattr(os, "environb", os.environ)
"""The environment variables of this process: bytes on POSIX systems, text on Windows."""


def encode(text: str) -> Any:
    """Return a name or a value as `ENVIRONMENT` has it."""
    return os.fsencode(text) if hasattr(os, "environb") else text


def encode_name(name: str) -> Any:
    """Return the name of a variable as `ENVIRONMENT` has it: on Windows, in capitals."""
    return os.fsencode(name) if hasattr(os, "environb") else name.upper()


def nesting_depth() -> int:
    """Return how many process workers this process is nested in."""
    found = os.environ.get(protocol.DEPTH_VARIABLE, "")
    return int(found) if found.isdecimal() else 0


def import_path() -> list[str]:
    """Return the text entries of ``sys.path``: other objects can be used in this process only."""
    entries: list[Any] = list(sys.path)
    return [entry for entry in entries if isinstance(entry, str)]


def surroundings_of(run: Run, env: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the facts about this process and the run that a worker needs, for the frame RUN.

    Args:
        run: the run.
        env: environment variables that workers have in addition to those of this process.
    """
    from .functions.main_module import run_line  # here and not above: workers do not need it

    depth = {encode(protocol.DEPTH_VARIABLE): encode(str(nesting_depth() + 1))}
    at_start = _initial_environment.captured
    log_levels = {}
    if "logging" in sys.modules:
        from flowkit_core.executors.log_transport import configured_levels

        log_levels = configured_levels()
    return {
        "reports_starts": run.has_task_observers,
        "cwd": _current_folder(),
        "path": import_path(),
        "environment": {**_environment(), **env, **depth},
        "argv": list(sys.argv),
        "at_start": {**at_start, "environment": {**at_start["environment"], **env}},
        "run_line": run_line(),
        "log_levels": log_levels,
        "warning_filters": current_filters(),
        "fail_fast": run.fail_fast,
    }


def enter(surroundings: dict[str, Any]) -> None:
    """In a worker: set the arguments, environment and current folder of this process."""
    sys.argv[:] = surroundings["argv"]
    environment = surroundings["environment"]
    if _environment() != environment:
        zone = os.environ.get("TZ")
        for name in _environment().keys() - environment.keys():
            del ENVIRONMENT[name]
        ENVIRONMENT.update(environment)
        if os.environ.get("TZ") != zone and hasattr(time, "tzset"):
            time.tzset()
    if surroundings["cwd"] not in (None, _current_folder()):
        os.chdir(surroundings["cwd"])


def _current_folder() -> str | None:
    """Return the current folder; None if it was removed."""
    with protocol.suppress(OSError):
        return os.getcwd()
    return None


def _environment() -> Mapping[Any, Any]:
    """Return the environment variables as CPython stores them: copying ``os.environ`` takes fifty times as long."""
    stored: Mapping[Any, Any] = getattr(ENVIRONMENT, "_data", ENVIRONMENT)
    return stored
