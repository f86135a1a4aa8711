"""Class `VisibleNames`: resolves names to objects as the interpreter does, but without running code of the objects."""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

from flowkit_state.fingerprint.provenance import of_module
from flowkit_state.module_names import module_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowkit_state.fingerprint.data_flow import Path

    Slot = tuple[int, str]  # a variable or an attribute: the address of its namespace, cell or owner, and its name

WRAPPED = "__flowkit_wrapped__"
"""The attribute of tasks and cached functions that is the function inside."""

_MODULE_METADATA = frozenset(["__name__", "__doc__", "__package__", "__spec__", "__loader__", "__builtins__"])
UNSET: Any = type("Unset", (), {"__repr__": lambda self: "<unset>"})()


class VisibleNames:
    """The variables that are visible in a function."""

    __slots__ = ("cells", "function", "globals", "owner")

    def __init__(self, function: FunctionType, owner: str) -> None:
        self.function, self.globals, self.owner = function, function.__globals__, owner
        self.cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))

    def slot(self, path: Path) -> Slot:
        """Return the variable that a path begins with; it may not exist yet."""
        kind, name = path[:2]
        return (id(self.cells.get(name)), "") if kind == "cell" else (id(self.globals), name)

    def start(self, path: Path) -> tuple[Any, str, Slot] | None:
        """Return the value of the variable that a path begins with, its label as a constant, and the variable itself.

        None if it does not exist or has no value. For an import inside the function, the value is the module, which is
        imported now if it is a module of the project.
        """
        kind, name = path[:2]
        if kind == "global":
            if name not in self.globals or name in _MODULE_METADATA:
                return None
            return self.globals[name], f"constant {module_label(self.globals)}.{name}", self.slot(path)
        if kind == "cell":
            cell = self.cells.get(name)
            try:
                return (
                    None if cell is None else (cell.cell_contents, f"closure {name} of {self.owner}", self.slot(path))
                )
            except ValueError:  # the variable has no value yet
                return None
        module = _loaded(name) if kind == "loaded" else imported(kind, name, self.globals)
        return None if module is None else (module, "", (id(module), ""))

    def value(self, path: Path) -> Any:
        """Return the value of a path; `UNSET` if it cannot be found without running code."""
        found = self.start(path)
        value = UNSET if found is None else found[0]
        for name in path[2:]:
            if is_a(value, ModuleType) and of_module(value.__name__) is not None:
                return UNSET
            inner = attribute(value, name)
            if inner is UNSET:
                return UNSET if is_a(value, (ModuleType, type)) else value
            value = inner
        return value


def is_a(value: object, kinds: type | tuple[type, ...]) -> bool:
    """Return whether `value` is an instance, by its type alone: the `__class__` of a proxy is that of its target."""
    return issubclass(type(value), kinds)


def attribute(holder: Any, name: str) -> Any:
    """Return the attribute of a module, class or instance (also a dotted one), or `UNSET`."""
    for part in name.split("."):
        places: list[Any] = [holder]
        if is_a(holder, type):
            places = list(holder.__mro__)
        elif not is_a(holder, (ModuleType, FunctionType)):
            places += type(holder).__mro__
        for place in places:
            found = _namespace(place).get(part, UNSET)
            if found is not UNSET:
                break
        else:
            found = _loaded_on_access(holder, part) if is_a(holder, ModuleType) else UNSET
        holder = found
    return holder


def _namespace(place: Any) -> dict[str, Any]:
    try:
        return place.__dict__  # type: ignore[no-any-return]
    except Exception:  # it has slots, or is a proxy without a target
        return {}


def _loaded_on_access(module: ModuleType, name: str) -> Any:
    """Return a submodule, imported now if it is of the project, or what `__getattr__` of the module returns."""
    from importlib import import_module
    from importlib.util import find_spec

    full = f"{module.__name__}.{name}"
    part = sys.modules.get(full)
    if part is not None:
        return part
    try:
        if "__path__" in vars(module) and of_module(full) is None and find_spec(full) is not None:
            return import_module(full)
        return getattr(module, name)
    except Exception:
        return UNSET


def imported(kind: str, name: str, namespace: dict[str, Any]) -> ModuleType | None:
    """Return the module of an import statement; None if it cannot be imported.

    A foreign module is not imported: if it has not been, the result is an empty module of the same name.
    """
    from importlib import import_module
    from importlib.util import resolve_name

    try:
        full = resolve_name(name, namespace.get("__package__") or namespace.get("__name__"))
        if of_module(full) is not None:
            full = full.partition(".")[0] if kind == "package" else full
            return sys.modules.get(full) or ModuleType(full)
        module = import_module(full)
    except Exception:  # the function gets the same exception when it runs, and may handle it
        return None
    return sys.modules[full.partition(".")[0]] if kind == "package" else module


def _loaded(name: str) -> ModuleType | None:
    """Return the module of the project with this name, if it has been imported."""
    module = sys.modules.get(name)
    return module if module is not None and of_module(name) is None else None


def public_name(value: Any) -> str | None:
    """Return `module:name` of a foreign object that can be found by that name; None for any other."""
    try:
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
        module = getattr(value, "__module__", None) or type(value).__module__
    except Exception:  # a proxy without a target
        return None
    if not isinstance(name, str) or not isinstance(module, str) or module not in sys.modules:
        return None
    if attribute(sys.modules[module], name) is not value or of_module(module) is None:
        return None
    return f"{module}:{name}"


def unwrapped(value: Any) -> Any:
    """Return the function of a task, of a cached function or of a `functools.lru_cache`; any other value as it is."""
    while True:
        if is_a(value, FunctionType):
            attributes = vars(value)
            wrapped = attributes.get(WRAPPED)
            # functools.wraps copies the attribute to functions that do more than the wrapped one.
            if wrapped is None or attributes.get("__wrapped__") is not wrapped:
                return value
            value = wrapped
        elif hasattr(type(value), WRAPPED):
            value = getattr(value, WRAPPED)
        elif type(value).__qualname__ == "_lru_cache_wrapper":
            value = value.__wrapped__
        else:
            return value
