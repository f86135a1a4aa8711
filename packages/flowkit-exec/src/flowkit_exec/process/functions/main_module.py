"""The main script in a worker process: the top-level statements before the first ``run()`` of the calling process.

A worker executes them when it first needs a function or class of ``__main__``, as module ``__mp_main__`` (the name that
`multiprocessing` uses), so that ``if __name__ == "__main__"`` blocks are skipped, and with the output muted. It
executes neither the top-level statement in which the calling process first called ``run()`` nor those after it. Names
that only these bind do not exist in the worker, and a function that reads one of them is refused.
"""

from __future__ import annotations

import os
import sys
from _ast import Module, PyCF_ONLY_AST
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import takewhile
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from flowkit_core._first_run import current_line, first_run_line
from flowkit_core.failures import describe_error
from flowkit_core.pipelines.execution.forbidden_runs import runs_forbidden
from flowkit_exec.process.random_numbers import own_random_numbers

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable


# ---- in the calling process ------------------------------------------------------------------------------------------


def describe_main() -> dict[str, Any] | None:
    """Return how a worker can execute the main script; None for an interactive session or a script without source.

    Returns:
        A dict with the ``"path"`` of the script, or the name of the ``"module"`` that runs as the script, and with
        ``"first_run_line"``: the line at which it first called ``run()``, None if it had ended by then.
    """
    main = sys.modules.get("__main__")
    if isinstance(main, MainModule):  # in a worker: for the workers of a run inside a task
        return main._flowkit_script.description
    spec = getattr(main, "__spec__", None)
    name = getattr(spec, "name", None)
    path = getattr(main, "__file__", None)
    if path is None:  # Python removes it when the main thread leaves the script; other threads may still run
        path = getattr(getattr(main, "__loader__", None), "path", None)
    if (path or "").endswith(".pyc"):
        return None
    if name is not None and name != "__main__":
        return {"module": name, "first_run_line": first_run_line()}
    if not path or not os.path.exists(path):
        return None
    return {"path": os.path.abspath(path), "first_run_line": first_run_line()}


def run_line() -> int | None:
    """Return the line of the main script that the main thread executes; None if the script has ended."""
    main = sys.modules["__main__"]
    return main._flowkit_script.run_line if isinstance(main, MainModule) else current_line(main)


def is_bound_in_workers(name: str) -> bool:
    """Return whether workers have a global name of the main script, with the value that it has in this process.

    They have if statements before the first ``run()`` bind it, and no other statement does.
    """
    main = sys.modules["__main__"]
    description = describe_main()
    if description is None or isinstance(main, MainModule):  # a worker has executed what its own workers execute
        return description is not None and name in vars(main)
    line = description["first_run_line"]
    if (path := description.get("path", description.get("module")), line) not in _bound:
        _bound.clear()
        _bound[path, line] = _names_for_workers(description)
    return name in _bound[path, line]


_bound: dict[tuple[Any, int | None], set[str]] = {}  # script and line of its first run() -> names that workers have


def _names_for_workers(description: dict[str, Any]) -> set[str]:
    from .main_module_analysis import bound_names, is_guard

    try:
        body = read_script(description)
    except (OSError, ImportError, SyntaxError, ValueError):  # the file was removed or edited
        return set()
    line = description["first_run_line"]
    included = list(takewhile(lambda one: line is None or (one.end_lineno or 0) < line, body))
    guards = [statement for statement in included if is_guard(statement)]
    included = [statement for statement in included if statement not in guards]
    return bound_names(included, {}) - bound_names([*guards, *body[len(guards) + len(included) :]], {})


def read_script(description: dict[str, Any]) -> list[ast.stmt]:
    """Return the top-level statements of the script.

    Args:
        description: what :func:`describe_main` has returned.

    Raises:
        OSError, ImportError, SyntaxError, ValueError: its file was removed or edited.
    """
    path, source = _load(description, {})
    tree: Any = compile(source, path, "exec", PyCF_ONLY_AST, dont_inherit=True)
    body: list[ast.stmt] = tree.body
    return body


# ---- in the worker ---------------------------------------------------------------------------------------------------


class ScriptError(AttributeError):
    """The script raised an exception in the worker, before a name was defined."""

    def __init__(self, name: str, failure: str) -> None:
        super().__init__(f"the script, executed in the worker, raised {failure}, before {name!r} was defined")


class NotExecutedError(AttributeError):
    """A name is bound, or its value is changed, by a statement that workers do not execute."""

    def __init__(self, name: str, line: int | None, *, is_changed: bool = False) -> None:
        remedy = "; what changes there, pass with run(params=...)" if is_changed else ""
        super().__init__(
            f"{name!r} is {'changed' if is_changed else 'defined'} at or after the first run() of the script, in line "
            f"{line}: workers execute only the statements before that one, without those under "
            f"if __name__ == '__main__'{remedy}"
        )


class MainModule(ModuleType):
    """Module ``__main__`` of a worker: executes the script when one of its names is first read."""

    def __init__(self, description: dict[str, Any] | None) -> None:
        super().__init__("__mp_main__")
        self._flowkit_script = Script(self, description)

    def __getattr__(self, name: str) -> Any:
        if not (name.startswith("__") and name.endswith("__")):
            self._flowkit_script.execute()
            if name in vars(self):
                return vars(self)[name]
            self._flowkit_script.check_names({name})
        raise AttributeError(
            f"{name!r} is not defined by the part of the script that workers execute: the statements before its first "
            f"run(), without those under if __name__ == '__main__'"
        )


class Script:
    """The main script in a worker.

    Args:
        module: the module in which the script is executed.
        description: what `describe_main` returned in the calling process.

    Attributes:
        run_line: the line of the script that called the current ``run()``, None if it had ended by then.
        surroundings: returns a context manager that restores the surroundings that the script began with.
    """

    def __init__(self, module: ModuleType, description: dict[str, Any] | None) -> None:
        self.description = description
        self.run_line: int | None = None
        self.surroundings: Callable[[], AbstractContextManager[None]] = nullcontext
        self._module_dict = vars(module)
        self._is_executed = description is None
        self._body: list[ast.stmt] = []
        self._excluded: list[ast.stmt] = []  # the statements that were not executed
        self._failure = ""  # the exception that ended the execution

    def execute(self) -> None:
        """Execute the statements before the first ``run()``, unless this was done before."""
        if self._is_executed:
            return
        self._is_executed = True
        saved = _mute()
        try:
            with (
                self.surroundings(),
                own_random_numbers(),
                runs_forbidden("a worker process executes the script only to define its tasks"),
            ):
                self._execute()
        except BaseException as error:
            self._note_failure(error)
        finally:
            _rename_module(self._module_dict)
            _unmute(saved)

    def _execute(self) -> None:
        path, source = _load(self.description or {}, self._module_dict)
        tree: Any = compile(source, path, "exec", PyCF_ONLY_AST, dont_inherit=True)
        self._body, line = tree.body, self._first_run_line
        included = list(takewhile(lambda one: line is None or one.end_lineno < line, tree.body))
        self._excluded = tree.body[len(included) :]
        exec(compile(Module(included, []), path, "exec", dont_inherit=True), self._module_dict)  # noqa: S102

    def _note_failure(self, error: BaseException) -> None:
        if isinstance(error, SystemExit) and self._first_run_line is None:  # the end of the script
            return
        line = self._line_of(error)
        self._failure = describe_error(error) + (f" in line {line}" if line else "")
        self._excluded = [statement for statement in self._body if (statement.end_lineno or 0) >= line]

    def clear(self) -> None:
        """Free the globals in order, as Python does with those of a script: a file is closed before what it writes to.

        They are parts of reference cycles with the module, which the garbage collector would free in any order.
        """
        names = [name for name in self._module_dict if not name.startswith("__")]
        for name in sorted(names, key=lambda name: not name.startswith("_")):  # Python frees private names first
            self._module_dict[name] = None

    def check(self, function: Any) -> None:
        """Raise an error if a function reads a name that the calling process has bound and this process has not."""
        begun = list(_begun(self._excluded, self.run_line))
        if begun:
            from .main_module_analysis import bound_names, names_read

            if names := bound_names(begun, self._module_dict):
                self._refuse(names & names_read(function, self._module_dict))

    def check_names(self, names: set[str]) -> None:
        """Raise an error if one of the names, which do not exist, is bound by a statement that was not executed."""
        from .main_module_analysis import bound_names

        self._refuse(names if self._failure else names & bound_names(self._excluded, self._module_dict))

    def _refuse(self, names: set[str]) -> None:
        for name in sorted(names):
            if self._failure:
                raise ScriptError(name, self._failure)
            raise NotExecutedError(name, self._first_run_line, is_changed=name in self._module_dict)

    @property
    def _first_run_line(self) -> int | None:
        line: int | None = (self.description or {}).get("first_run_line")
        return line

    def _line_of(self, error: BaseException) -> int:
        """Return the line of the script at which an exception was raised; 0 if it was not raised in the script."""
        line, trace = 0, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals is self._module_dict and trace.tb_frame.f_code.co_name == "<module>":
                line = trace.tb_lineno
            trace = trace.tb_next
        return line


def _rename_module(module_dict: dict[str, Any]) -> None:
    """Set the module of classes and functions to ``__main__``: the next program can load what a task pickles."""
    pending: list[Any] = [*module_dict.values()]
    seen: set[int] = set()
    for value in pending:  # it grows
        if id(value) in seen or not issubclass(type(value), (type, FunctionType)):
            continue
        seen.add(id(value))
        with suppress(Exception):  # a metaclass may refuse anything
            if value.__module__ == "__mp_main__":
                pending += () if isinstance(value, FunctionType) else vars(value).values()
                value.__module__ = "__main__"


def _begun(statements: list[ast.stmt], line: int | None) -> list[ast.stmt]:
    """Return the statements that the calling process has begun to execute when a line of the script calls ``run()``.

    A simple statement that calls ``run()`` is left out: it binds its names afterwards.
    """
    if line is None:
        return statements
    begun = [statement for statement in statements if statement.lineno <= line]
    is_compound = begun and (hasattr(begun[-1], "body") or hasattr(begun[-1], "cases"))
    return begun if not begun or is_compound or (begun[-1].end_lineno or 0) < line else begun[:-1]


def _load(description: dict[str, Any], module_dict: dict[str, Any]) -> tuple[str, str | bytes]:
    """Return path and source of the script, and set the attributes of its module."""
    if "path" in description:
        path = description["path"]
        module_dict.update(__file__=path, __package__=None, __cached__=None)
        with open(path, "rb") as file:
            return path, file.read()
    from importlib.util import find_spec

    name = description["module"]
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"module {name!r} is not found in the worker")
    loader: Any = spec.loader
    module_dict.update(__file__=spec.origin, __package__=spec.parent, __loader__=loader)
    return spec.origin or name, loader.get_source(name)


def _mute() -> list[tuple[int, int]]:
    """Redirect standard output and error to /dev/null: the calling process has printed it; return what to restore."""
    saved = []
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        try:
            saved.append((descriptor, os.dup(descriptor)))
            os.dup2(null, descriptor)
        except OSError:  # it is closed
            continue
    os.close(null)
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
