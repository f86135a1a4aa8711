"""Checks of what a database contains: types of columns, and errors that damaged contents cause."""

from __future__ import annotations

from contextlib import contextmanager
from math import isfinite

from flowkit_state.errors import RestoreError, StateError, StateFileError, short_repr
from flowkit_state.storage.base import Entry
from flowkit_state.storage.schema import from_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

TEXT, NUMBER, INTEGER, BINARY = "text", "number", "integer", "text or binary"
"""Types of columns."""

OPTIONAL = " or NULL"
"""Suffix of the types of columns that may be NULL."""

_ENTRY = {
    "value": BINARY,
    "stored": NUMBER,
    "expires": NUMBER + OPTIONAL,
    "metadata": TEXT + OPTIONAL,
    "beside": TEXT + OPTIONAL,
}
_DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
_MAX_INTEGER = 1 << 31


def check_row(row: Sequence[Any], columns: Mapping[str, str]) -> None:
    """Check the types of a row. Raises `ValueError`, whose message names the column.

    Args:
        row: the values.
        columns: name -> type of each column, in the order of the values.
    """
    for value, (name, kind) in zip(row, columns.items(), strict=True):
        if value is None and kind.endswith(OPTIONAL):
            continue
        base = kind.removesuffix(OPTIONAL)
        if base == TEXT:
            valid = isinstance(value, str)
        elif base == BINARY:
            valid = isinstance(value, (str, bytes))
        elif base == NUMBER:
            valid = isinstance(value, (int, float)) and isfinite(value)
        else:
            valid = isinstance(value, int) and 0 <= value < _MAX_INTEGER
        if not valid:
            raise ValueError(f"its column {name} is {short_repr(value, 40)}, but must be {kind}")


def entry_of(path: str, row: Sequence[Any]) -> tuple[str, Entry]:
    """Return key and entry of a row of the table `entries`. Raises `RestoreError` if the row is damaged."""
    try:
        key = from_sql(row[0])
    except (AttributeError, ValueError):
        reason = f"its key is {short_repr(row[0], 40)}; clear() removes it with all other entries."
        raise RestoreError(None, reason, None, path, damaged=True) from None
    try:
        check_row(row[1:], _ENTRY)
    except ValueError as error:
        reason = f"the stored entry is damaged: {error}; delete({short_repr(key)}) removes it."
        raise RestoreError(key, reason, None, path, damaged=True) from None
    return key, Entry(*row[1:])


@contextmanager
def reading(path: str | None, what: str, way_out: str) -> Iterator[None]:
    """Context manager that raises `StateFileError` for errors that damaged contents cause.

    Args:
        path: the path of the file; `None` for a database in memory.
        what: what is read, the subject of the message.
        way_out: what the user can do.
    """
    try:
        yield
    except StateError:
        raise
    except _DAMAGE as error:
        cause = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise StateFileError(path or "(in memory)", f"{what} is damaged ({cause}); {way_out}") from error
