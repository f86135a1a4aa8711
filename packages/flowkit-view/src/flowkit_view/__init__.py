"""The command line of flowkit, see `flowkit_view.command_line`, its reports, see `flowkit_view.report`, and traces.

`OpenTelemetry`, `nest_spans` and `export_run` require the packages of the extra ``otel``; see
`flowkit_view.opentelemetry` and `flowkit_view.recorded_spans`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from flowkit_view.command_line.main import main

if TYPE_CHECKING:
    from typing import Any

    from flowkit_view.opentelemetry import OpenTelemetry, nest_spans
    from flowkit_view.recorded_spans import export_run

__all__ = ["OpenTelemetry", "export_run", "main", "nest_spans"]

_MODULES = {"OpenTelemetry": "opentelemetry", "nest_spans": "opentelemetry", "export_run": "recorded_spans"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        from flowkit_core import MissingDistributionError

        raise MissingDistributionError(f"flowkit_view.{name}", "opentelemetry-sdk") from None
