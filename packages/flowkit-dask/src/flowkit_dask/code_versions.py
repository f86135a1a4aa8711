"""Comparison of the user's modules on a worker with those of the client, as far as a function uses them.

The client makes digests of the functions and the constants that a function reaches by name, in modules that are not
installed packages. A worker looks the same names up in its own modules, as it has them in memory.
"""

from __future__ import annotations

import ast
import os
import site
import sys
import sysconfig
from functools import cache, lru_cache, partial
from hashlib import sha256
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from flowkit_core import Task
from flowkit_core.executors.pickling_by_value import is_importable
from flowkit_core.safe_text import try_or

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Names = tuple[str, str]
    """Name of a module, and a dotted name in it."""

INTERPRETER = (*sys.version_info[:3], sys.flags.optimize)
"""Bytecode is compared between equal interpreters."""
_LITERALS = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset, list, dict, set)
_CHANGING = frozenset(("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse"))
_CHANGING |= {"setdefault", "sort", "update"}
"""Methods that change a constant in place, so that it is none."""
_MAX_WRAPPERS = 50


class CodeMismatchError(Exception):
    """Raised on a worker whose copy of a module of the user is not that of the client.

    Args:
        module: name of the module.
        names: what is different in it.
    """

    def __init__(self, module: str, names: list[str]) -> None:
        super().__init__(module, names)
        self.module, self.names = module, names


# ---- on the client ---------------------------------------------------------------------------------------------------


def versions_of(function: Any) -> dict[Names, str]:
    """Return digests of what a function reaches in modules of the user, by name. Does not raise."""
    walk = _Walk(getattr(function, "__module__", None))
    return try_or(lambda: walk.versions_from(function), {})


class _Walk:
    """Collects what a function reaches.

    Args:
        module: name of the module of the function; its package is compared, even if it is installed.
    """

    def __init__(self, module: str | None) -> None:
        self._package = (module or "").partition(".")[0]
        self._found: dict[Names, str] = {}
        self._seen: dict[int, Any] = {}
        self._pending: list[Any] = []

    def versions_from(self, function: Any) -> dict[Names, str]:
        """Return the digests, once."""
        self._add(function)
        while self._pending:
            value = self._pending.pop()
            if isinstance(value, type):
                self._follow_class(value)
            else:
                self._follow_function(value)
        return self._found

    def _add(self, given: Any, module: str = "", name: str = "") -> None:
        """Add a value, and follow it.

        Args:
            given: the value.
            module: name of the module in which it was found; empty if it was not found by name.
            name: its name there.
        """
        if isinstance(given, partial):
            for value in (given.func, *given.args, *given.keywords.values()):
                self._add(value)
            return
        for value in _layers(given):
            is_function = type(value) is FunctionType
            owner = value.__module__ if is_function or isinstance(value, type) else None
            if owner is not None and self._is_own(owner):
                places = [(module, name), (owner, value.__qualname__)] if module else [(owner, value.__qualname__)]
                for place in places:
                    if is_function and is_importable(place[0]) and any(each is value for each in _layers(_at(place))):
                        self._found[place] = _digest(value.__code__)
            elif type(value) is MethodType:
                self._add(value.__self__)
                continue
            elif owner is None and self._is_own(getattr(type(value), "__module__", None)):
                value = type(value)  # noqa: PLW2901
            elif not is_function:
                continue
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                self._pending.append(value)

    def _is_own(self, module: str | None) -> bool:
        if not isinstance(module, str) or module.partition(".")[0].startswith("flowkit"):
            return False
        return not is_importable(module) or module.partition(".")[0] == self._package or _is_of_user(module)

    def _follow_class(self, kind: type) -> None:
        for base in kind.__bases__:
            self._add(base)
        for name, value in vars(kind).items():
            self._note_constant(kind.__module__, f"{kind.__qualname__}.{name}", value)
            for part in ("__func__", "fget", "fset", "func"):
                value = getattr(value, part, value) if not isinstance(value, FunctionType) else value  # noqa: PLW2901
            if type(value) is FunctionType:
                self._add(value, kind.__module__, f"{kind.__qualname__}.{name}")

    def _follow_function(self, function: Any) -> None:
        names = list(dict.fromkeys(_names(function.__code__)))
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # it is empty
                continue
            if type(value) is ModuleType:
                self._follow_module(value, names)
            else:
                self._add(value)
        if not self._is_own(function.__module__):
            return
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._add(value)
        namespace = function.__globals__
        for name in names:
            value = namespace.get(name, sys.modules.get(name))
            if type(value) is ModuleType:
                self._follow_module(value, names)
            elif name in namespace:
                self._follow_name(str(namespace.get("__name__")), name, value)

    def _follow_module(self, module: ModuleType, names: list[str], depth: int = 3) -> None:
        """Follow the attributes of a module that a function may read."""
        if depth and self._is_own(module.__name__):
            for name in names:
                value = vars(module).get(name)
                if type(value) is ModuleType:
                    self._follow_module(value, names, depth - 1)
                elif name in vars(module):
                    self._follow_name(module.__name__, name, value)

    def _follow_name(self, module: str, name: str, value: Any) -> None:
        facts = _source_facts(module)
        if name in facts.rebound:
            return
        self._note_constant(module, name, value)
        if name in facts.imported and isinstance(value, _LITERALS):
            origin, original = facts.imported[name]
            if self._note_constant(origin, original, value) and is_importable(module):
                self._found[module, name] = self._found[origin, original]
        self._add(value, module, name)

    def _note_constant(self, module: str, name: str, value: Any) -> bool:
        """Add a constant that the source of a module sets to a literal; return whether that is so."""
        if not isinstance(value, _LITERALS) or not is_importable(module) or not self._is_own(module):
            return False
        literal = _source_facts(module).literals.get(name)
        if literal is None or literal != _digest_of_literal(value):
            return False
        self._found[module, name] = literal
        return True


class _SourceFacts:
    """What the source of a module says about its globals.

    Args:
        source: the source.
        package: the package that its relative imports begin in.

    Attributes:
        literals: digests of the literals that constants are set to, by name.
        imported: module and name there of what ``from module import name`` binds, by name.
        rebound: names that functions assign.
    """

    def __init__(self, source: str, package: str) -> None:
        self.literals: dict[str, str] = {}
        self.imported: dict[str, Names] = {}
        self.rebound: set[str] = set()
        changed: set[str] = set()
        tree = ast.parse(source)
        self._read(tree.body, "")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                parents = package.split(".")[: -node.level + 1 or None] if node.level else []
                module = ".".join([*parents, *filter(None, [node.module])])
                self.imported.update({alias.asname or alias.name: (module, alias.name) for alias in node.names})
            elif isinstance(node, ast.Global):
                self.rebound.update(node.names)
            else:
                is_changed = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
                if is_changed or (isinstance(node, ast.Attribute) and node.attr in _CHANGING):
                    changed.update(ast.unparse(node.value).split("."))  # type: ignore[attr-defined]
        for name in list(self.literals):
            if name in self.rebound or name.rpartition(".")[2] in changed:
                del self.literals[name]

    def _read(self, body: list[ast.stmt], prefix: str) -> None:
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                self._read(statement.body, f"{prefix}{statement.name}.")
                continue
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            for target in targets if isinstance(statement, (ast.Assign, ast.AnnAssign)) else ():
                try:
                    value = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
                except (ValueError, TypeError):
                    continue
                if isinstance(target, ast.Name) and (value or not isinstance(value, (list, dict, set))):
                    self.literals[f"{prefix}{target.id}"] = _digest_of_literal(value)


def _source_facts(module: str) -> _SourceFacts:
    found = sys.modules.get(module)
    path, package = getattr(found, "__file__", None), getattr(found, "__package__", None)
    try:
        status = os.stat(path or "")
        return _source_facts_of(str(path), package or "", status.st_mtime_ns, status.st_size)
    except (OSError, ValueError, SyntaxError, RecursionError):
        return _SourceFacts("", "")


@lru_cache(256)
def _source_facts_of(path: str, package: str, _changed_at: int, _size: int) -> _SourceFacts:
    import tokenize

    with tokenize.open(path) as file:
        return _SourceFacts(file.read(), package)


def _is_of_user(module: str) -> bool:
    """Return whether a module is neither installed nor a part of Python, and its code is that of its file."""
    found = sys.modules.get(module)
    path, loader = getattr(found, "__file__", None), getattr(found, "__loader__", None)
    if not isinstance(path, str) or type(loader).__module__ not in ("_frozen_importlib_external", "zipimport"):
        return False
    return not os.path.realpath(path).startswith(_installed())


@cache
def _installed() -> tuple[str, ...]:
    paths = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    return tuple({os.path.join(os.path.realpath(path), "") for path in paths})


# ---- on a worker -----------------------------------------------------------------------------------------------------


def check_versions(versions: Mapping[Names, str]) -> None:
    """Compare the modules of this process with those of the client.

    Raises:
        CodeMismatchError: a function or a constant is another one here.
    """
    different = sorted(
        {(module, name) for (module, name), digest in versions.items() if not _is_same(module, name, digest)}
    )
    if different:
        module = different[0][0]
        raise CodeMismatchError(module, [name for each, name in different if each == module])


def _is_same(module: str, name: str, digest: str) -> bool:
    from importlib import import_module

    try:
        import_module(module)
    except Exception:  # the call needs it, or not
        return True
    found = _at((module, name))
    codes = [value.__code__ for value in _layers(found) if type(value) is FunctionType]
    return digest in map(_digest, codes) if codes else digest == _digest_of_literal(found)


# ---- on both sides ---------------------------------------------------------------------------------------------------


def _at(place: Names) -> Any:
    """Return what has a name; None if nothing has it."""
    found: Any = sys.modules.get(place[0])
    for part in place[1].split("."):
        holder = found
        found = vars(holder).get(part) if isinstance(holder, type) else None
        found = getattr(holder, part, None) if found is None else found
    return found


def _layers(given: Any) -> Iterator[Any]:
    """Yield a value without the task, descriptor or method around it, and what it wraps."""
    value = given
    for _ in range(_MAX_WRAPPERS):
        if isinstance(value, Task):
            value = value.func
        elif isinstance(value, (staticmethod, classmethod, MethodType)):
            if isinstance(value, MethodType):
                yield value
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        else:
            yield value
            value = getattr(value, "__wrapped__", None) if callable(value) and not isinstance(value, type) else None
            if value is None:
                return


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _digest(code: CodeType) -> str:
    """Return a digest of instructions, names and constants that is the same in every process."""
    facts = [repr((code.co_names, code.co_varnames, code.co_freevars, code.co_flags))]
    facts += [_digest(value) if isinstance(value, CodeType) else _text(value) for value in code.co_consts]
    return _short(code.co_code + code.co_exceptiontable + "\n".join(facts).encode(errors="surrogatepass"))


def _short(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def _digest_of_literal(value: Any) -> str:
    return _short(_text(value).encode(errors="surrogatepass"))


def _text(value: Any) -> str:
    """Return the text of a literal; that of a set is the same in every process."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({sorted(map(repr, value))})"
    return f"{type(value).__name__} {value!r}" if isinstance(value, _LITERALS) or value is ... else type(value).__name__
