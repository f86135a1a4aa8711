"""The command line of flowkit, see `flowkit_view.command_line`, its reports, see `flowkit_view.report`, and traces.

`OpenTelemetry` and `nest_spans` require the packages of the extra ``otel``; see `flowkit_view.opentelemetry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit_view.command_line.main import main

if TYPE_CHECKING:
    from typing import Any

    from flowkit_view.opentelemetry import OpenTelemetry, nest_spans

__all__ = ["OpenTelemetry", "main", "nest_spans"]


def __getattr__(name: str) -> Any:
    if name not in ("OpenTelemetry", "nest_spans"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from flowkit_view import opentelemetry
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        from flowkit_core import MissingDistributionError

        raise MissingDistributionError(f"flowkit_view.{name}", "opentelemetry-sdk") from None
    return getattr(opentelemetry, name)
