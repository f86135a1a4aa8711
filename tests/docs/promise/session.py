"""A session as in a notebook: cells run one after another in an interactive ``__main__``, each case in its own folder.

Started as ``python -c "import session; session.main()"``, so that ``__main__`` is no file and empty, with a list of pairs
on standard input as JSON: a folder, and cells of source.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from code import InteractiveInterpreter
from typing import TYPE_CHECKING, Any

from flowkit import Task

if TYPE_CHECKING:
    from collections.abc import Callable

END = "--- the end of a case ---"


def statements(cell: str) -> list[str]:
    """Part a cell into statements, as they are typed at a prompt."""
    lines = cell.splitlines()
    parts = []
    for node in ast.parse(cell).body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        parts.append("\n".join(lines[first - 1 : node.end_lineno]) + "\n")
    return parts


def at_the_prompt(cell: str) -> None:
    for statement in statements(cell):
        _interpreter().runsource(statement, "<stdin>", "single")


def as_a_cell(cell: str) -> None:
    _interpreter().runsource(cell, "<cell>", "exec")


def _interpreter() -> InteractiveInterpreter:
    return InteractiveInterpreter(vars(sys.modules["__main__"]))


def _ipython() -> Callable[[str], object]:
    from IPython.core.interactiveshell import InteractiveShell  # type: ignore[import-not-found, unused-ignore]

    shell: Any = InteractiveShell.instance(ast_node_interactivity="none", colors="NoColor")
    return lambda cell: shell.run_cell(cell, store_history=True).raise_error()


def main() -> None:
    how = sys.argv[1]
    run = {"prompt": at_the_prompt, "cell": as_a_cell}.get(how) or _ipython()
    sys.displayhook = lambda value: print(repr(value), file=sys.stderr)
    for folder, cells in json.load(sys.stdin):
        os.chdir(folder)
        Task.clear_registry()
        for cell in cells:
            run(cell)
        print(END, flush=True)
