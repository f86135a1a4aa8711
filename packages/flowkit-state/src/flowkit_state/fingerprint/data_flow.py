"""The names that the source of a function reads from outside, and those that it changes.

A path is where a value comes from and the attributes that follow: `("global", "helpers", "clean")`. It begins with
"global", "cell" (a variable of an enclosing function), "module" (`from a.b import ...` gives the module `a.b`),
"package" (`import a.b` gives the package `a`) or "loaded" (the module of that name, if it has been imported).
"""

from __future__ import annotations

import ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import CodeType
    from typing import Any

    Path = tuple[str, ...]
    Paths = dict[Path, None]  # in order, each once
    Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
MUTATORS = frozenset(
    [
        "__delitem__",
        "__ior__",
        "__iadd__",
        "__setitem__",
        "add",
        "append",
        "appendleft",
        "clear",
        "difference_update",
        "discard",
        "extend",
        "extendleft",
        "insert",
        "intersection_update",
        "move_to_end",
        "pop",
        "popitem",
        "popleft",
        "put",
        "put_nowait",
        "remove",
        "reverse",
        "rotate",
        "setdefault",
        "sort",
        "subtract",
        "symmetric_difference_update",
        "update",
        "write",
        "writelines",
    ]
)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_CAPTURES = (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)


class DataFlow:
    """The data flow of a function and of all functions, classes and comprehensions inside it.

    Attributes: `loads`, the paths that it reads; `rebinds`, the paths that it assigns or deletes; `changes`, the paths
    whose values it changes in place; `alters`, whether it changes any object, known or not. How it uses what it reads:
    `items`, paths and the constant text or number that is looked up in them, else `None`; `calls`, the paths that it
    calls, the first argument likewise, and the number of arguments; `wholes`, the paths that it uses in other ways.
    Of all these, `waits` are the paths that it uses only in `with path:`, as `path(...)` whose result it discards, or
    as `path().logger`.
    """

    def __init__(self, function: Function, class_name: str, free: Sequence[str]) -> None:
        self.loads: Paths = {}
        self.rebinds: Paths = {}
        self.changes: Paths = {}
        self.alters = False
        self.items: dict[tuple[Path, str | int | None], None] = {}
        self.calls: dict[tuple[Path, str | int | None, int], None] = {}
        self.wholes: Paths = {}
        self.waits: Paths = {}
        self._waiting: set[int] = set()  # addresses of nodes that are used so
        self._uses: Paths = {}  # all other paths
        self._parts: set[int] = set()  # addresses of nodes that are the container of an item, or the function of a call
        self._free = free
        self._unused: dict[tuple[_Scope, str], list[Path]] = {}  # imports that no expression reads
        self._todo: list[tuple[ast.AST, _Scope]] = []
        self._enter(function, _Scope(None, class_name))
        while self._todo:
            node, scope = self._todo.pop()
            visit = _VISITORS.get(type(node), DataFlow._children)
            visit(self, node, scope)
        self.waits = dict.fromkeys(path for path in self.waits if path not in self._uses)
        for paths in self._unused.values():
            self.loads.update(dict.fromkeys(paths))  # imported for its side effects

    # Scopes

    def _enter(self, node: Function | ast.ClassDef, outer: _Scope) -> None:
        if isinstance(node, ast.ClassDef):
            scope = _Scope(outer, node.name, is_class=True)
        else:
            scope = _Scope(outer, outer.class_name)
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            scope.names.update(scope.mangled(each.arg) for each in every if each is not None)
        body = node.body if isinstance(node.body, list) else [node.body]
        scope.names.update(getattr(each, "name", "") for each in getattr(node, "type_params", ()))
        scope.bind(body)
        for name in sorted(scope.names & (scope.globals | scope.nonlocals)):
            kind, holder = self._resolve(name, scope)
            if holder is None:
                self.rebinds[kind, name] = None
                self.loads.update(dict.fromkeys(scope.imports.pop(name, ())))
        self._unused.update(((scope, name), paths) for name, paths in scope.imports.items())
        self._push(body, scope)

    def _resolve(self, name: str, scope: _Scope | None) -> tuple[str, _Scope | None]:
        """Return the scope inside this function that binds a name; or None, and where it is bound outside."""
        first = scope
        while scope is not None:
            if name in scope.globals:
                return "global", None
            if name in scope.names and name not in scope.nonlocals and (scope is first or not scope.is_class):
                return "local", scope
            scope = scope.outer
        return ("cell" if name in self._free else "global"), None

    # Expressions

    def _starts(self, name: str, scope: _Scope) -> list[Path]:
        """Return the paths that a name may stand for: an outside variable, or the modules that it was imported from."""
        name = scope.mangled(name)
        kind, holder = self._resolve(name, scope)
        if holder is None:
            return [(kind, name)]
        self._unused.pop((holder, name), None)
        found = [*holder.imports.get(name, ())]
        if holder.is_class:  # before the class body binds it, the name means the one outside
            outer = holder.outer
            while outer is not None and outer.is_class:
                outer = outer.outer
            kind, holder = self._resolve(name, outer)
            if holder is None:
                found.append((kind, name))
        return found

    def _paths(self, node: ast.AST, scope: _Scope, *, items: bool = True) -> list[Path]:
        """Return the paths of an expression. With `items`, an item of a container counts as the container."""
        attributes: list[str] = []
        while not isinstance(node, ast.Name):
            if isinstance(node, ast.Attribute):
                attributes.append(scope.mangled(node.attr))
            elif isinstance(node, ast.Call) and (name := self._constant_attribute(node, scope)):
                attributes.append(name)
                node = node.args[0]
                continue
            elif not (items and isinstance(node, ast.Subscript)):
                return []
            node = node.value
        return [(*start, *reversed(attributes)) for start in self._starts(node.id, scope)]

    def _push(self, nodes: Iterable[ast.AST | None], scope: _Scope) -> None:
        self._todo.extend((node, scope) for node in reversed([*nodes]) if node is not None)

    def _children(self, node: ast.AST, scope: _Scope) -> None:
        self._push(ast.iter_child_nodes(node), scope)

    def _name(self, node: ast.Name, scope: _Scope) -> None:
        if isinstance(node.ctx, ast.Load):
            paths = self._starts(node.id, scope)
            self._load(node, paths)
            self.alters |= node.id in MUTATORS  # append = rows.append

    def _attribute(self, node: ast.Attribute, scope: _Scope) -> None:
        owners = self._paths(node.value, scope)
        if not isinstance(node.ctx, ast.Load):
            self.alters = True
            self.rebinds.update(((*owner, scope.mangled(node.attr)), None) for owner in owners)
        elif node.attr in MUTATORS:
            self.alters = True
            self.changes.update(dict.fromkeys(owners))
        if node.attr == "logger" and isinstance(node.value, ast.Call):
            self._waiting.add(id(node.value.func))
        paths = self._paths(node, scope, items=False) if isinstance(node.ctx, ast.Load) else []
        self._load(node, paths)
        if not paths:
            self._push([node.value], scope)
        elif isinstance(node.value, ast.Attribute):
            self._note_mutators(node.value, scope)

    def _load(self, node: ast.AST, paths: list[Path]) -> None:
        found = dict.fromkeys(paths)
        self.loads.update(found)
        (self.waits if id(node) in self._waiting else self._uses).update(found)
        if id(node) not in self._parts:
            self.wholes.update(found)

    def _note_mutators(self, node: ast.AST, scope: _Scope) -> None:
        while isinstance(node, ast.Attribute):
            if node.attr in MUTATORS:
                self.alters = True
                self.changes.update(dict.fromkeys(self._paths(node.value, scope)))
            node = node.value

    def _subscript(self, node: ast.Subscript, scope: _Scope) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.alters = True
            self.changes.update(dict.fromkeys(self._paths(node.value, scope)))
            self._parts.add(id(node.value))
        else:
            self._item(node.value, node.slice, scope)
        self._push([node.value, node.slice], scope)

    def _compare(self, node: ast.Compare, scope: _Scope) -> None:
        for operator, key, container in zip(node.ops, [node.left, *node.comparators], node.comparators):
            if isinstance(operator, (ast.In, ast.NotIn)):
                self._item(container, key, scope)
        self._children(node, scope)

    def _item(self, container: ast.AST, key: ast.AST, scope: _Scope) -> None:
        self._parts.add(id(container))
        self.items.update(((path, _constant(key)), None) for path in self._paths(container, scope, items=False))

    def _constant_attribute(self, node: ast.Call, scope: _Scope) -> str:
        """Return the attribute that `getattr(value, "name")` reads; empty for any other call."""
        is_getattr = isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1
        name = _constant(node.args[1]) if is_getattr else None
        is_read = isinstance(name, str) and self._resolve("getattr", scope) == ("global", None)
        return str(name) if is_read else ""

    def _call(self, node: ast.Call, scope: _Scope) -> None:
        if name := self._constant_attribute(node, scope):
            if name in MUTATORS:
                self.alters = True
                self.changes.update(dict.fromkeys(self._paths(node.args[0], scope)))
            paths = self._paths(node, scope, items=False)
            self._load(node, paths)
            self._push(node.args[1 if paths else 0 :], scope)
            return
        self._parts.add(id(node.func))
        count = len(node.args) + len(node.keywords)
        key = _constant(node.args[0]) if node.args else None
        self.calls.update(((path, key, count), None) for path in self._paths(node.func, scope, items=False))
        self._children(node, scope)

    # Statements

    def _with(self, node: ast.With | ast.AsyncWith, scope: _Scope) -> None:
        self._waiting.update(id(item.context_expr) for item in node.items if item.optional_vars is None)
        self._children(node, scope)

    def _statement(self, node: ast.Expr, scope: _Scope) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Call):
            self._waiting.add(id(value.func))
        self._children(node, scope)

    def _augmented(self, node: ast.AugAssign, scope: _Scope) -> None:
        read = [] if isinstance(node.target, ast.Subscript) else self._paths(node.target, scope, items=False)
        if read and isinstance(node.target, ast.Attribute):
            self.alters = True
            self.rebinds.update(dict.fromkeys(read))
        self.loads.update(dict.fromkeys(read))
        self._push([None if read else node.target, node.value], scope)

    def _annotated(self, node: ast.AnnAssign, scope: _Scope) -> None:
        self._push([node.annotation if scope.is_class else None, node.target, node.value], scope)

    def _function(self, node: Function, scope: _Scope) -> None:
        decorators: Sequence[ast.AST] = getattr(node, "decorator_list", ())
        self._enter(node, scope)
        self._push([*decorators, *node.args.defaults, *node.args.kw_defaults], scope)

    def _class(self, node: ast.ClassDef, scope: _Scope) -> None:
        self._enter(node, scope)
        self._push([*node.decorator_list, *node.bases, *node.keywords], scope)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, outer: _Scope) -> None:
        scope = _Scope(outer, outer.class_name)
        scope.bind([each.target for each in node.generators])
        first, *others = node.generators
        elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._push([first.target, *first.ifs, *others, *elements], scope)
        self._push([first.iter], outer)


class _Scope:
    """The names that a function, a class body or a comprehension binds."""

    def __init__(self, outer: _Scope | None, class_name: str, *, is_class: bool = False) -> None:
        self.outer, self.class_name, self.is_class = outer, class_name, is_class
        self.names: set[str] = set()
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.imports: dict[str, list[Path]] = {}

    def mangled(self, name: str) -> str:
        """Return a name as the compiler stores it: `__rows` in a class `Table` is `_Table__rows`."""
        owner = self.class_name.lstrip("_")
        return f"_{owner}{name}" if owner and name.startswith("__") and not name.endswith("__") else name

    def bind(self, nodes: Sequence[ast.AST]) -> None:
        """Add the names that statements bind in this scope, not in those inside it."""
        todo = [*nodes]
        for node in todo:  # which grows meanwhile
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                if not isinstance(node, ast.Lambda):
                    self.names.add(self.mangled(node.name))
                    todo += node.decorator_list
                if isinstance(node, ast.ClassDef):
                    todo += [*node.bases, *node.keywords]
                else:
                    todo += [each for each in (*node.args.defaults, *node.args.kw_defaults) if each is not None]
            elif isinstance(node, _COMPREHENSIONS):
                todo += [each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
            else:
                self._bind_one(node)
                todo.extend(ast.iter_child_nodes(node))

    def _bind_one(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                self.names.add(self.mangled(node.id))
        elif isinstance(node, _CAPTURES):
            self.names.update([self.mangled(node.name)] if node.name else ())
        elif isinstance(node, ast.MatchMapping):
            self.names.update([node.rest] if node.rest else ())
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                name, path = _imported(node, alias)
                self.names.add(self.mangled(name))
                self.imports.setdefault(self.mangled(name), []).append(path)
        elif isinstance(node, ast.Global):
            self.globals.update(map(self.mangled, node.names))
        elif isinstance(node, ast.Nonlocal):
            self.nonlocals.update(map(self.mangled, node.names))


def _imported(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> tuple[str, Path]:
    """Return the name that an import binds, and the path that it stands for."""
    if isinstance(node, ast.ImportFrom):
        return alias.asname or alias.name, ("module", "." * node.level + (node.module or ""), alias.name)
    top, *parts = alias.name.split(".")
    return (alias.asname, ("package", alias.name, *parts)) if alias.asname else (top, ("package", alias.name))


def _constant(node: ast.AST) -> str | int | None:
    """Return the value of a text or a number in source; None for any other expression."""
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, (str, int)) else None


def loads_of_code(code: CodeType) -> Paths:
    """Return every path that code without source may read: all its names, whatever they are used for."""
    loads: Paths = dict.fromkeys(("cell", name) for name in code.co_freevars)
    todo = [code]
    while todo:
        each = todo.pop()
        for name in each.co_names:
            loads["global", name] = loads["loaded", name] = None
        todo += [inner for inner in each.co_consts if hasattr(inner, "co_names")]
    return loads


_VISITORS: dict[type, Callable[[DataFlow, Any, _Scope], None]] = {
    ast.Name: DataFlow._name,
    ast.Attribute: DataFlow._attribute,
    ast.Subscript: DataFlow._subscript,
    ast.Compare: DataFlow._compare,
    ast.Call: DataFlow._call,
    ast.With: DataFlow._with,
    ast.AsyncWith: DataFlow._with,
    ast.Expr: DataFlow._statement,
    ast.AugAssign: DataFlow._augmented,
    ast.AnnAssign: DataFlow._annotated,
    ast.ClassDef: DataFlow._class,
    **dict.fromkeys(FUNCTIONS, DataFlow._function),
    **dict.fromkeys(_COMPREHENSIONS, DataFlow._comprehension),
}
