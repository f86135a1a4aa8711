"""Run cases in one process, each in its own folder: as scripts, or as cells of an interactive session.

Started as ``python -c "import session; session.main()"``, so that ``__main__`` has no file and is empty, or as ``python
-m session``, so that it has a file without the cells. Reads a list of pairs from standard input, as JSON: a folder, and
cells of source.
"""

from __future__ import annotations

import ast
import json
import os
import runpy
import sys
from code import InteractiveInterpreter
from pathlib import Path

from flowkit import Task

END = "--- the end of a case ---"


def statements(cell: str) -> list[str]:
    """Split a cell into statements, as they are typed at a prompt."""
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


def as_a_script(cells: list[str]) -> None:
    Path("script.py").write_text("\n".join(cells), "utf-8")
    runpy.run_path("script.py", run_name="__main__")


def _interpreter() -> InteractiveInterpreter:
    return InteractiveInterpreter(vars(sys.modules["__main__"]))


def in_ipython(cell: str) -> None:
    from IPython.core.interactiveshell import InteractiveShell  # type: ignore[import-not-found, unused-ignore]

    shell = InteractiveShell.instance(ast_node_interactivity="none", xmode="Plain")
    shell.run_cell(cell, store_history=True).raise_error()


def main() -> None:
    how = sys.argv[1]
    sys.displayhook = lambda value: print(repr(value), file=sys.stderr)
    run = {"prompt": at_the_prompt, "cell": as_a_cell, "ipython": in_ipython}.get(how)
    for folder, cells in json.load(sys.stdin):
        os.chdir(folder)
        Task.clear_registry()
        if run is None:
            as_a_script(cells)
        else:
            for cell in cells:
                run(cell)
        print(END, flush=True)


if __name__ == "__main__":
    main()
