"""The user's script in a worker process: executed under another name, silently, up to its first ``run()``.

A worker has no use for the script until a function or a class of ``__main__`` is needed: a task defined there, or an
instance of a class defined there among its arguments. Then the script is executed as module ``__mp_main__`` (the
name that the standard library uses for the same purpose), so that a guarded part does not run; and the first
``run()`` of a pipeline ends it, without what the statements around it do on the way out. The statement that calls
``run()`` may be a loop that waits for the right time, or call a function that does: such a statement is executed only
if a name is still missing.
"""

from __future__ import annotations
import __future__

import os
import sys
import threading
from _ast import Module, PyCF_ONLY_AST
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from flowkit_core.pipelines import pipeline

from .safe_text import described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType


class StopImport(BaseException):
    """Raised by ``run()`` to end the execution of a script in a worker process."""


_strays: WeakSet[threading.Thread] = WeakSet()


@contextmanager
def importing(reason: str) -> Iterator[None]:
    """Let no pipeline run, in this worker, while the user's code is imported; nor later in a thread that it starts."""
    before, outer = set(threading.enumerate()), pipeline.forbidden
    pipeline.forbidden = lambda: StopImport(reason)
    hook, threading.excepthook = threading.excepthook, _quiet(threading.excepthook)
    try:
        yield
    finally:
        _strays.update(set(threading.enumerate()) - before)
        pipeline.forbidden = outer or (lambda: StopImport(reason) if threading.current_thread() in _strays else None)
        if not _strays:
            threading.excepthook = hook


def _quiet(hook: Callable[[threading.ExceptHookArgs], object]) -> Callable[[threading.ExceptHookArgs], object]:
    """Return a hook that says nothing of a thread which ended at its ``run()``, as it was to."""
    return lambda facts: None if facts.exc_type is StopImport else hook(facts)


def describe_main() -> dict[str, Any] | None:
    """Return how a worker can execute the script of this process; None for an interactive session."""
    main = sys.modules.get("__main__")
    if isinstance(main, Script):  # in a worker: for the workers of a run inside a task
        return main._flowkit_main
    spec = getattr(main, "__spec__", None)
    name = getattr(spec, "name", None)
    if name is not None and name != "__main__":
        return {"module": name, "line": _line(main)}
    path = getattr(main, "__file__", None)
    if not path or not os.path.exists(path):
        return None
    return {"path": os.path.abspath(path), "line": _line(main)}


def _line(main: ModuleType | None) -> int | None:
    """Return the line that the script is at, whatever thread asks; None if it is at its end."""
    frame: FrameType | None = sys._current_frames().get(threading.main_thread().ident or 0)
    line = None
    while frame is not None:
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            line = frame.f_lineno  # the outermost: there may be an exec() in the script
        frame = frame.f_back
    return line


class EndedEarlyError(AttributeError):
    """The script cannot be executed once more as far as it was executed in the process that runs the pipeline."""

    def __init__(self, name: str, failure: str) -> None:
        super().__init__(f"the script, executed once more in a worker, ended with {failure}, before {name!r} was made")


class Script(ModuleType):
    """Stands for ``__main__`` in a worker, and executes the script when something of it is first asked for."""

    def __init__(self, main: dict[str, Any] | None) -> None:
        super().__init__("__mp_main__")
        self._flowkit_main = main
        self._flowkit_body: list[Any] = []  # the statements of the first part
        self._flowkit_around: Callable[[], AbstractContextManager[None]] = nullcontext
        self._flowkit_parts = _parts(main, vars(self)) if main is not None else iter(())
        self._flowkit_failure = self._flowkit_end = ""
        self._flowkit_late: set[str] = set()  # what it would have made or changed, had it not ended there

    def __getattr__(self, name: str) -> Any:
        facts = vars(self)
        if not (name.startswith("__") and name.endswith("__")):
            while not facts["_flowkit_failure"] and execute(self):
                if name in facts:
                    return facts[name]
        if facts["_flowkit_failure"]:
            raise EndedEarlyError(name, facts["_flowkit_failure"])
        raise AttributeError(
            f"the script, as a worker sees it (up to its first run(), without what stands under the __main__ guard), "
            f"has no {name!r}"
        )


def check(script: Script, function: Any) -> None:
    """Refuse a function that reads what the script would have made or changed, had it not ended before."""
    if script._flowkit_late:
        from .main_module_analysis import read

        for name in sorted(script._flowkit_late & read(function, vars(script))):
            raise EndedEarlyError(name, script._flowkit_end)


def execute(script: Script) -> bool:
    """Execute the next part of the script; say whether there was one."""
    muted = _mute()
    try:
        part = next(script._flowkit_parts, None)
        if part is not None:
            with script._flowkit_around(), importing("in a worker process, a script ends at its run()"):
                exec(part, vars(script))  # noqa: S102 - the user's own script
    except StopImport as stop:
        _stop(script, stop)
    except BaseException as error:
        main = script._flowkit_main or {}
        if isinstance(error, SystemExit) and not main["line"]:  # the run began when the script had come to its end
            script._flowkit_parts = iter(())
        else:
            _fail(script, error)
    else:
        return part is not None
    finally:
        _unmute(muted)
    return True


def _stop(script: Script, stop: StopImport) -> None:
    """Take note that the script came to a ``run()``, and of what it has made between that and the present one."""
    from .main_module_analysis import made

    script._flowkit_parts = iter(())
    line, present = _line_of(script, stop), (script._flowkit_main or {}).get("line") or sys.maxsize
    script._flowkit_late = made(script._flowkit_body, line, present)
    script._flowkit_end = f"its first run(), in line {line}"


def _fail(script: Script, error: BaseException) -> None:
    """Take note of why the script ended early, and of what it lacks for that."""
    from .main_module_analysis import changed

    line = _line_of(script, error)
    script._flowkit_failure = script._flowkit_end = described(error) + (f" in line {line}" if line else "")
    rest = [part for part in script._flowkit_body if part.end_lineno >= line]
    facts = vars(script)
    script._flowkit_late = changed(rest, facts) if script._flowkit_body else set(facts)  # compiled only: it may be any


def _line_of(script: Script, error: BaseException) -> int:
    """Return the line of the script where an exception came from."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        at_top = trace.tb_frame.f_globals is vars(script) and trace.tb_frame.f_code.co_name == "<module>"
        line = trace.tb_lineno if at_top else line
        trace = trace.tb_next
    return line


def _parts(main: dict[str, Any], facts: dict[str, Any]) -> Iterator[CodeType]:
    """Yield the script as far as it can be executed without fear, then the statement that may never end, if any."""
    if "module" in main:
        from importlib.util import find_spec

        spec = find_spec(main["module"])
        if spec is None or spec.loader is None:
            raise ImportError(f"module {main['module']!r} is not to be found in the worker")
        loader: Any = spec.loader
        facts.update(__file__=spec.origin, __package__=spec.parent, __loader__=loader)
        path, source = spec.origin or main["module"], loader.get_source(main["module"])
        if source is None:  # compiled only
            yield loader.get_code(main["module"])
            return
    else:
        path = main["path"]
        facts.update(__file__=path, __package__=None, __cached__=None)
        if path.endswith(".pyc"):
            from importlib.machinery import SourcelessFileLoader

            compiled: Any = SourcelessFileLoader("__mp_main__", path).get_code("__mp_main__")
            yield compiled
            return
        with open(path, "rb") as file:
            source = file.read()
    tree: Any = compile(source, path, "exec", PyCF_ONLY_AST, dont_inherit=True)
    line = main["line"] or 0
    until = len(tree.body)
    for place, statement in enumerate(tree.body):
        if statement.lineno <= line <= statement.end_lineno and type(statement).__name__ in ("Expr", "While"):
            until = place
    body = facts["_flowkit_body"] = tree.body[:until]
    code: CodeType = compile(Module(_without_way_out(body, facts), []), path, "exec", dont_inherit=True)
    yield code
    if until < len(tree.body):
        last = tree.body[until : until + 1]
        facts["_flowkit_body"] = body + last
        flags = code.co_flags & __future__.annotations.compiler_flag
        yield compile(Module(_without_way_out(last, facts), []), path, "exec", flags, dont_inherit=True)


def _without_way_out(body: list[Any], facts: dict[str, Any]) -> list[Any]:
    """Return statements that a ``run()`` leaves without anything else being done for that."""
    if not any(map(_has_way_out, body)):
        return body
    from .main_module_analysis import without_way_out

    return [without_way_out(statement, StopImport, facts) for statement in body]


def _has_way_out(statement: Any) -> bool:
    """Say whether leaving a statement does something: most do not, and what changes them takes long to load."""
    kind = type(statement).__name__
    if kind in ("Try", "TryStar", "With", "For"):
        return True
    if kind in ("FunctionDef", "AsyncFunctionDef"):
        return False
    within = [part for field in ("body", "orelse", "cases") for part in getattr(statement, field, ())]
    return any(map(_has_way_out, within))


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
