"""Class `NotebookConsole`: shows the progress of runs as an output of a cell, which is replaced as the run goes on."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowkit_core.drawing import text_as_html
from flowkit_log import ConsoleHandler

if TYPE_CHECKING:
    import logging
    from typing import TextIO

MAX_LINES = 100
"""Number of lines above the bars that are kept: the last ones."""
SIZE = (100, 40)
"""Columns and rows that the bars may take."""


class CellOutput:
    """What a cell shows: lines of text, as plain text and as HTML."""

    def __init__(self) -> None:
        self.text = ""

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return text_as_html(self.text)


class NotebookConsole(ConsoleHandler):
    """A console whose lines and bars are one output of the cell that is running."""

    def __init__(self) -> None:
        super().__init__(use_colors=False, size=lambda: SIZE)
        self._lines: list[str] = []
        self._output = CellOutput()
        self._handle: Any = None  # of IPython, which replaces the output

    @property
    def stream(self) -> TextIO | None:
        """None: what tasks print is an output of its own."""
        return None

    @property
    def live(self) -> bool:
        """True: bars are redrawn in place."""
        return True

    def _print(self, lines: str) -> None:
        """Replace the output by the last lines with the bars below them."""
        self._lines = [*self._lines, *lines.splitlines()][-MAX_LINES:]
        text = "\n".join([*self._lines, *self._draw()])
        if text == self._output.text:
            return
        self._output.text = text
        if self._handle is None:
            self._handle = import_module("IPython.display").display(self._output, display_id=True)
        else:
            self._handle.update(self._output)


def new_console() -> logging.Handler:
    """Return the console for the progress of runs: a `NotebookConsole` in a notebook, else a `ConsoleHandler`."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return ConsoleHandler() if getattr(shell, "kernel", None) is None else NotebookConsole()
