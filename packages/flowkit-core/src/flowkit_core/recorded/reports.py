"""What ``flowkit-view`` does for runs: ``run(report=...)``, ``run(progress=True)`` and ``Results.report()``."""

from __future__ import annotations

import os

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import FlowkitError, MissingDistributionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowkit_core._typing import Any
    from flowkit_core.events import Observer
    from flowkit_core.graphs.graph import Graph

REPORT_SUFFIXES = (".html", ".htm")
"""Suffixes of the names of reports."""


def report_observer(path: Any, graph: Graph, params: Mapping[str, Any]) -> Observer:
    """Return the observer that writes the report of a run; see ``Pipeline.run``.

    Raises:
        TypeError: ``path`` is not a path.
        ValueError: its name does not end in ``.html`` or ``.htm``.
        MissingDistributionError: flowkit-view is not installed.
        OSError: the file cannot be there.
    """
    _check_path("run(report=...)", path)
    observer: Observer = _import("report.observer", "run(report=...)").ReportObserver(path, graph, params)
    return observer


def progress_observer() -> Observer:
    """Return the observer that shows the progress of a run; see ``Pipeline.run``.

    Raises:
        MissingDistributionError: flowkit-view or flowkit-log is not installed.
    """
    observer: Observer = _import("progress", "run(progress=True)").ProgressObserver()
    return observer


def write_report(place: Any, run_id: str, path: Any) -> str:
    """Write the report of a recorded run; see ``Results.report``.

    Args:
        place: the ``StateManager`` that has the record, or the path of its file; None if the run was not recorded.
        run_id: id of the run.
        path: the file.
    """
    _check_path("results.report()", path)
    if place is None:
        raise FlowkitError(
            "results.report() needs the record of the run, and this one was not recorded: write run(state='runs.db'), "
            "or have the report written by run(report='run.html')"
        )
    written: str = _import("report.record_report", "results.report()").write_report(place, run_id, path)
    return written


def _check_path(what: str, path: Any) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{what} takes the path of the file to write, such as 'run.html', and got {short_repr(path)}")
    if not os.fsdecode(path).lower().endswith(REPORT_SUFFIXES) and not os.path.isdir(path):
        raise ValueError(f"{what} writes HTML, and got {short_repr(path)}: name a file that ends in .html")


def _import(module: str, wanted: str) -> Any:
    """Return a module of ``flowkit_view``, which the core does not depend on."""
    from importlib import import_module

    try:
        return import_module(f"flowkit_view.{module}")
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("flowkit_view", "flowkit_log"):
            raise
        raise MissingDistributionError(wanted, missing.replace("_", "-")) from None
