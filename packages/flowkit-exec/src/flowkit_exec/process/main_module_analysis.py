"""Halves of a script: what one lacks of the other, and how the other ends without doing what is not its business."""

from __future__ import annotations

import ast
import dis
import sys
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeVar

    T = TypeVar("T")


_READS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


def changed(statements: Iterable[ast.stmt], facts: Mapping[str, Any]) -> set[str]:
    """Return the global names that statements may make or change: rather too many than too few."""
    names = made(statements := list(statements))
    for node in _within(statements):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # rates.update(...)
            base = _base(node.func)
            if not isinstance(facts.get(base), ModuleType):
                names.add(base)
    return names


def made(statements: Iterable[ast.stmt], after: int = 0, before: int = sys.maxsize) -> set[str]:
    """Return the names that statements bind between two lines, or bind attributes or items of."""
    names: set[str] = set()
    for node in _within(statements):
        if not after < getattr(node, "lineno", 0) < before:
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)):
            names.add(node.name or "")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            names.add(_base(node))
    return names


def _within(statements: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    for statement in statements:
        yield from ast.walk(statement)


def _base(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def read(function: Any, facts: Mapping[str, Any]) -> set[str]:
    """Return the global names that a function reads, itself or by way of what it calls of the same script."""
    names: set[str] = set()
    todo = [function]
    while todo:
        for code in _codes(todo.pop()):
            new = {step.argval for step in dis.get_instructions(code) if step.opname in _READS} - names
            names |= new
            todo += [facts[name] for name in new if name in facts and not isinstance(facts[name], ModuleType)]
    return names


def _codes(thing: Any) -> Iterator[CodeType]:
    """Yield the code of a function, of a task or another wrapper around one, or of the methods of a class."""
    todo = [thing, *(vars(thing).values() if isinstance(thing, type) else ())]
    for part in todo:
        inner = getattr(part, "__wrapped__", None)
        if inner is not None and inner is not part:
            todo.append(inner)
        if isinstance(part, FunctionType):
            todo.append(part.__code__)
        elif isinstance(part, CodeType):
            yield part
            todo += [constant for constant in part.co_consts if isinstance(constant, CodeType)]


def without_way_out(statement: ast.stmt, stop: type[BaseException], facts: dict[str, Any]) -> ast.stmt:
    """Return a statement that an exception leaves without ``finally``, handlers and ends of ``with`` being executed.

    Args:
        statement: the statement, at the top level of a script.
        stop: the class of the exception.
        facts: the globals of the script, which are given what the statement needs for that.
    """
    facts["__flowkit_stop__"] = stop
    facts["__flowkit_goes_on__"] = lambda: not isinstance(sys.exception(), stop)
    facts["__flowkit_left_open__"] = lambda manager: _LeftOpen(manager, stop)
    facts["__flowkit_kept__"] = lambda values: _kept(iter(values))
    changed: ast.stmt = _WithoutWayOut().visit(statement)
    return ast.fix_missing_locations(changed)


class _LeftOpen:
    """A context manager that an exception of one class leaves open."""

    def __init__(self, manager: Any, stop: type[BaseException]) -> None:
        self._manager = _kept(manager)
        self._stop = stop

    def __enter__(self) -> Any:
        return self._manager.__enter__()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> Any:
        return kind is not self._stop and self._manager.__exit__(kind, *rest)


_everything: list[Any] = []


def _kept(thing: T) -> T:
    """Keep a thing for ever: a generator that is thrown away comes to its end, too."""
    _everything.append(thing)
    return thing


class _WithoutWayOut(ast.NodeTransformer):
    def _as_it_is(self, node: Any) -> Any:
        return node  # it has to remain what it is in the process that runs the pipeline

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _as_it_is  # noqa: N815 - their names are ast's

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        node.iter = ast.Call(ast.Name("__flowkit_kept__", ast.Load()), [node.iter], [])
        return node

    def visit_Try(self, node: Any) -> Any:
        self.generic_visit(node)
        if node.handlers:
            stop = ast.Name("__flowkit_stop__", ast.Load())
            node.handlers.insert(0, ast.ExceptHandler(stop, None, [ast.Raise(None, None)]))
        return self._guarded(node)

    def visit_TryStar(self, node: Any) -> Any:
        self.generic_visit(node)
        return self._guarded(node)

    def _guarded(self, node: Any) -> Any:
        if node.finalbody:
            goes_on = ast.Call(ast.Name("__flowkit_goes_on__", ast.Load()), [], [])
            node.finalbody = [ast.If(goes_on, node.finalbody, [])]
        return node

    def visit_With(self, node: ast.With) -> ast.With:
        self.generic_visit(node)
        for item in node.items:
            item.context_expr = ast.Call(ast.Name("__flowkit_left_open__", ast.Load()), [item.context_expr], [])
        return node
