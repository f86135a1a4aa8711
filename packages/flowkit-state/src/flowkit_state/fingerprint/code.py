"""Analysis of the code of functions: a digest of its syntax tree, and the names that it reads and changes.

A file may have been edited after its import, so its source is used only if it compiles to the code that is running.
Otherwise the digest is that of the bytecode, which differs between versions of Python.
"""

from __future__ import annotations
import __future__

import ast
import linecache
import os
import warnings
import weakref
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from types import CodeType

from flowkit_state.fingerprint.data_flow import FUNCTIONS, DataFlow, loads_of_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from flowkit_state.fingerprint.data_flow import Function, Path

_FUTURES = 0
for _name in __future__.all_feature_names:
    _FUTURES |= getattr(__future__, _name).compiler_flag
_MAX_FILES = 256  # whose code is kept
# Fields of a syntax tree without effect on results. Those of arguments and of functions: annotations.
_IGNORED = {"ctx": ast.AST, "kind": ast.Constant, "type_comment": ast.AST, "returns": ast.AST, "annotation": ast.arg}


class CodeAnalysis:
    """The digest and the data flow of a code object.

    Attributes:
        digest: digest of the source, or of the bytecode.
        loads: the paths that the code, and the code of functions inside it, reads from outside.
        rebinds: the paths that it assigns or deletes.
        changes: the paths whose values it changes in place.
        alters: whether it changes any object at all.
        items, calls, wholes, waits: how it uses the paths, as in `DataFlow`.
        has_source: whether there is source that compiles to this code. Without it, only `digest` and `loads` are known.
    """

    __slots__ = ("alters", "calls", "changes", "digest", "has_source", "items", "loads", "rebinds", "waits", "wholes")

    def __init__(self, code: CodeType, found: tuple[Function, str] | None) -> None:
        self.has_source = found is not None
        if found is None:
            self.digest = _digest(ascii(_bytecode(code)))
            self.loads: tuple[Path, ...] = (*loads_of_code(code),)
            self.rebinds: tuple[Path, ...] = ()
            self.changes: tuple[Path, ...] = ()
            self.alters = False
            self.items: tuple[tuple[Path, str | int | None], ...] = ()
            self.calls: tuple[tuple[Path, str | int | None, int], ...] = ()
            self.wholes: tuple[Path, ...] = ()
            self.waits: frozenset[Path] = frozenset()
        else:
            flow = DataFlow(*found, code.co_freevars)
            if "__class__" in code.co_freevars:  # super() finds it without naming it
                flow.loads["cell", "__class__"] = None
            self.digest = _digest(syntax(found[0]))
            self.loads, self.rebinds, self.changes = (*flow.loads,), (*flow.rebinds,), (*flow.changes,)
            self.alters = flow.alters
            self.items, self.calls, self.wholes = (*flow.items,), (*flow.calls,), (*flow.wholes,)
            self.waits = frozenset(flow.waits)


# By address, because comparing code objects compares their contents. An entry is deleted with its code object.
_analyses: dict[int, tuple[weakref.ref[CodeType], CodeAnalysis]] = {}


def analyze(code: CodeType, namespace: dict[str, Any]) -> CodeAnalysis:
    """Return the analysis of the code of a function with the globals `namespace`, made once for each code object."""
    address = id(code)
    known = _analyses.get(address)
    if known is not None and known[0]() is code:
        return known[1]
    made = CodeAnalysis(code, _find(code, namespace))
    _analyses[address] = (weakref.ref(code, lambda _: _analyses.pop(address, None)), made)
    return made


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


# Syntax trees


def syntax(function: Function) -> str:
    """Return the syntax tree of a function as text, the same in every version of Python.

    Left out is what has no effect on the result: the name of the function, its decorators and defaults, which are
    components of their own, positions, docstrings, annotations other than those in class bodies, `pass`, statements
    that are a constant, and empty fields.
    """
    out: list[str] = [type(function).__name__]
    todo: list[tuple[Any, bool]] = [(function.body, False), (_parameters(function.args), False)]
    while todo:
        value, in_class = todo.pop()
        if type(value) is _Text:
            out.append(value)
        elif isinstance(value, list):
            todo.append((_Text("]"), False))
            todo.extend((each, in_class) for each in reversed(value) if not _is_idle(each))
            out.append("[")
        elif isinstance(value, ast.AST):
            out.append(f"({type(value).__name__}")
            todo.append((_Text(")"), False))
            inside = in_class if not isinstance(value, (*FUNCTIONS, ast.ClassDef)) else isinstance(value, ast.ClassDef)
            for name, field in reversed(_fields(value, in_class)):
                todo += (field, inside), (_Text(f" {name}="), False)
        else:
            out.append(
                f" {hex(value) if type(value) is int else ascii(value)}"
            )  # `repr` raises ValueError for huge integers
    return "".join(out)


class _Text(str):
    """Text to write as it is, among values to write as constants."""

    __slots__ = ()


def _parameters(given: ast.arguments) -> ast.arguments:
    return ast.arguments(given.posonlyargs, given.args, given.vararg, given.kwonlyargs, [], given.kwarg, [])


def _is_idle(node: object) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _fields(node: ast.AST, in_class: bool) -> list[tuple[str, Any]]:
    """Return the fields of a node that count."""
    fields = []
    for name in node._fields:
        value: Any = getattr(node, name, None)
        if (value is None and not isinstance(node, ast.Constant)) or (type(value) is list and not value):
            continue
        if isinstance(node, _IGNORED.get(name, ())):
            continue
        if isinstance(node, ast.AnnAssign) and not in_class and name in ("annotation", "simple"):
            continue
        fields.append((name, _joined(value) if isinstance(node, ast.JoinedStr) else value))
    return fields


def _joined(parts: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string with each text in one piece: where it is split depends on the Python version."""
    out: list[ast.expr] = []
    for part in parts:
        before = out[-1] if out else None
        if isinstance(part, ast.Constant) and isinstance(before, ast.Constant):
            out[-1] = ast.Constant(str(before.value) + str(part.value))
        elif not (isinstance(part, ast.Constant) and part.value == ""):
            out.append(part)
    return out


# Source


class _Module:
    """The source of a file and the code that it compiles to. Its syntax tree is not kept, because it is large."""

    def __init__(self, lines: list[str], flags: int) -> None:
        self.lines, self.flags = lines, flags
        text = "".join(lines)
        with _silent():
            tree = ast.parse(text)
            # Statements of notebooks may await.
            compiled = compile(tree, "", "exec", flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        self._blocks = [*_blocks(tree.body, text.split("\n"))]
        self._codes: dict[str, list[CodeType]] = {}
        codes = [compiled]
        while codes:
            code = codes.pop()
            self._codes.setdefault(code.co_qualname, []).append(code)
            codes += [each for each in code.co_consts if isinstance(each, CodeType)]

    def find(self, code: CodeType) -> tuple[Function, str] | None:
        """Return the function that compiles to `code`, and the name of the class around it; None if there is none.

        Where several do, it is the one at the same place. It may have moved in the file.
        """
        bare = _without_positions(code)
        found = [each for each in self._codes.get(code.co_qualname, ()) if _without_positions(each) == bare]
        place = code.co_firstlineno, code.co_linetable
        found.sort(key=lambda each: (each.co_firstlineno != place[0], each.co_linetable != place[1]))
        return self._node(found[0]) if found else None

    def _node(self, code: CodeType) -> tuple[Function, str] | None:
        line = code.co_firstlineno
        block = next((text, first) for first, last, text in self._blocks if first <= line <= last)
        nodes = [
            (function, class_name)
            for first, name, function, class_name in _functions(*block)
            if first == line and name == code.co_name
        ]
        if len(nodes) > 1:  # several lambdas on one line
            nodes = [each for each in nodes if _contains(each[0], code)]
            nodes.sort(key=lambda each: _span(each[0]))
        return nodes[-1] if nodes else None  # the innermost lambda begins last


def _blocks(statements: list[ast.stmt], lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the first and the last line and the text of each statement, or of several that share a line."""
    first = last = 0
    for statement in statements:
        begin = _first_line(statement)
        if begin > last:
            if last:
                yield first, last, "\n".join(lines[first - 1 : last])
            first = begin
        last = max(last, statement.end_lineno or begin)
    if last:
        yield first, last, "\n".join(lines[first - 1 : last])


@lru_cache(maxsize=32)
def _functions(text: str, first_line: int) -> list[tuple[int, str, Function, str]]:
    """Return the first line, the name, the node and the name of the class of each function in statements."""
    with _silent():
        todo: list[tuple[ast.AST, str]] = [(ast.parse("\n" * (first_line - 1) + text), "")]
    found = []
    while todo:
        node, class_name = todo.pop()
        if isinstance(node, FUNCTIONS):
            found.append((_first_line(node), getattr(node, "name", "<lambda>"), node, class_name))
        inside = node.name if isinstance(node, ast.ClassDef) else class_name
        todo.extend((child, inside) for child in ast.iter_child_nodes(node))
    return found


_modules: dict[str, _Module] = {}
_lock = Lock()  # `catch_warnings` is not thread-safe


@contextmanager
def _silent() -> Iterator[None]:
    """Ignore warnings: those about the syntax of a file were given when it was imported."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _renew_lock() -> None:
    """Replace the lock in a forked process: another thread of its parent may have held it."""
    global _lock
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _find(code: CodeType, namespace: dict[str, Any]) -> tuple[Function, str] | None:
    """Return the syntax tree of running code and the name of the class around it; None without matching source."""
    file, flags = code.co_filename, code.co_flags & _FUTURES
    linecache.checkcache(file)
    lines = linecache.getlines(file, namespace)
    try:
        known = _modules.get(file)
        if known is None or known.lines is not lines or known.flags != flags:
            known = _modules[file] = _Module(lines, flags)
            while len(_modules) > _MAX_FILES:
                _modules.pop(next(iter(_modules)), None)
        return known.find(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it is being edited, or nested too deep
        return None


def _first_line(node: Any) -> int:
    """Return the line on which the code of a statement or a function begins."""
    decorators = getattr(node, "decorator_list", None)
    line: int = (decorators[0] if decorators else node).lineno
    return line


def _without_positions(code: CodeType) -> CodeType:
    constants = tuple(_without_positions(each) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_firstlineno=1, co_linetable=b"", co_consts=constants)


def _operations(code: CodeType) -> tuple[object, ...]:
    return code.co_code, code.co_consts, code.co_names, code.co_varnames


def _span(node: Function) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where the body of a lambda begins and ends."""
    body: Any = node.body
    return (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)


def _contains(node: Function, code: CodeType) -> bool:
    """Return whether the positions of code are in the body of a lambda."""
    first, last = _span(node)
    places = [place for place in code.co_positions() if None not in place and place[3]]
    if not places:  # in Python 3.12, code that only returns a constant has no positions
        expression: Any = ast.Expression(node)  # type: ignore[arg-type]
        constants = compile(expression, "", "eval", dont_inherit=True).co_consts
        alone = [each for each in constants if isinstance(each, CodeType)][-1]  # the first ones are of its defaults
        return _operations(alone) == _operations(code)
    return all(first <= (line, column) and (end, stop) <= last for line, end, column, stop in places)


# Bytecode


def _bytecode(code: CodeType) -> list[object]:
    """Return the parts of a code object but its positions, as objects with the same `repr` in every process."""
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars
    return [code.co_name, counts, names, code.co_code, code.co_exceptiontable, _literal(code.co_consts)]


def _literal(value: object) -> object:
    if isinstance(value, CodeType):
        return _bytecode(value)
    if type(value) is tuple:
        return tuple(map(_literal, value))
    if type(value) is int:
        return ["int", hex(value)]  # `repr` raises ValueError for huge integers
    if type(value) is frozenset:
        return ["frozenset", *sorted(repr(_literal(item)) for item in value)]
    return value
