"""The command line of flowkit, see `flowkit_view.command_line`, and its reports, see `flowkit_view.report`."""

from __future__ import annotations

from flowkit_view.command_line.main import main

__all__ = ["main"]
