"""`Binary` and `Composite`: how values of a type are stored and compared; and how these forms are found."""

from __future__ import annotations

import sys
from importlib import import_module

from flowkit_state.serialization.class_references import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Buffer = bytes | memoryview

BLOCK = 1 << 20
"""Bytes of data that are copied at a time to compute a digest."""


class Binary:
    """The form of values that are stored as bytes.

    Args:
        name: identifies the form in files.
        dump: returns for a value the buffers that contain it; raises `RefusedError` if it could not be restored.
        load: returns the value for the bytes of these buffers.
        digest: returns for a value a digest of its content, which is the same for equal values in all processes.
    """

    __slots__ = ("digest", "dump", "load", "name")

    def __init__(
        self,
        name: str,
        dump: Callable[[Any], Iterable[Buffer]],
        load: Callable[[memoryview], Any],
        digest: Callable[[Any], Any],
    ) -> None:
        self.name, self.dump, self.load, self.digest = name, dump, load, digest


class Composite:
    """The form of values that are stored as other values.

    Args:
        name: identifies the form in files.
        reduce: returns for a value the parts that it is made of: a tuple of values that can be stored.
        restore: returns the value for these parts.
    """

    __slots__ = ("name", "reduce", "restore")

    def __init__(self, name: str, reduce: Callable[[Any], tuple[Any, ...]], restore: Callable[..., Any]) -> None:
        self.name, self.reduce, self.restore = name, reduce, restore


Form = Binary | Composite

_MODULES = {
    "numpy": "numpy_arrays",
    "pandas": "pandas_frames",
    "polars": "polars_frames",
    "pyarrow": "arrow_tables",
}
_found: dict[type, Form | None] = {}


def form_of(cls: type) -> Form | None:
    """Return the form of values of a class; `None` if it is not a class of a data library."""
    try:
        return _found[cls]
    except KeyError:
        pass
    library = (getattr(cls, "__module__", None) or "").partition(".")[0]
    form: Form | None = None
    if library in _MODULES and library in sys.modules:  # else it is another module of that name
        form = _module(library).form_of(cls)
    _found[cls] = form
    return form


def is_without_form(cls: type) -> bool:
    """Return whether a class belongs to a data library, and its values cannot be stored."""
    library = cls.__module__.partition(".")[0]
    return library in _MODULES and (form_of(cls) is None or cls.__name__ == "LazyFrame")


def form_named(name: str) -> Form:
    """Return the form with a name, such as `"numpy.ndarray"`. Raises `NotFoundError`."""
    library = name.partition(".")[0]
    forms: dict[str, Form] = {}
    if library in _MODULES:
        try:
            forms = _module(library).FORMS
        except ImportError as error:
            raise NotFoundError(f"it is a {name}, and {error.name} is not installed here; install it.") from error
    if name not in forms:
        raise NotFoundError(f"it has the unknown form {name}; a newer version may have written it.")
    return forms[name]


def _module(library: str) -> Any:
    return import_module(f"flowkit_state.serialization.data_types.{_MODULES[library]}")
