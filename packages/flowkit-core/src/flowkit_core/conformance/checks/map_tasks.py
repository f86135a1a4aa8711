"""Functions that the checks of mapped tasks run, at the top level of a module."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import current
from flowkit_core.errors import Skip

from .tasks import OwnError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowkit_core._typing import Any


def rows() -> list[int]:
    """Return three rows."""
    return [3, 1, 2]


def small() -> list[int]:
    """Return six rows."""
    return list(range(6))


def many() -> list[int]:
    """Return more rows than lanes are given at once."""
    return list(range(300))


def words() -> list[str]:
    """Return three words."""
    return ["a", "b", "c"]


def nothing() -> list[int]:
    """Return no rows."""
    return []


def generated() -> Iterator[int]:
    """Yield the rows."""
    yield from range(300)


def failing_generator() -> Iterator[int]:
    """Yield two rows, then raise."""
    yield 1
    yield 2
    raise OwnError(9, "generator")


def a_text() -> str:
    """Return a text."""
    return "abc"


def a_set() -> set[int]:
    """Return a set."""
    return {1, 2}


def a_mapping() -> dict[str, int]:
    """Return a mapping."""
    return {"a": 1}


def total(values: list[int]) -> int:
    """Return the sum."""
    return sum(values)


def scaled(row: int, words: Any, factor: int = 1) -> tuple[int, Any]:
    """Return a row times a factor, and the words."""
    return row * factor, words


def paired(row: int, word: str, other: Any = None) -> tuple[int, str, Any]:
    """Return the arguments."""
    return row, word, other


def pair_of(left: Any, right: Any) -> tuple[Any, Any]:
    """Return the arguments."""
    return left, right


def is_even(x: int) -> bool:
    """Condition: the number is even."""
    return x % 2 == 0


def is_not_two(value: int) -> bool:
    """Condition: the number is not 2."""
    return value != 2


def skip_multiples_of_four(row: int) -> int:
    """Return the row; skip multiples of four."""
    if row % 4 == 0:
        raise Skip("a multiple of four")
    return row


def default_or_value(even: Any = "default") -> Any:
    """Return the argument."""
    return even


def flaky_element(path: str, failures: int, row: int) -> int:
    """Fail a number of times for each row, then return ten times the row."""
    own = Path(f"{path}-{row}")
    with own.open("ab") as file:
        file.write(b".")
    if own.stat().st_size <= failures:
        raise ConnectionError(f"row {row}")
    return 10 * row


def fail_at_five(row: int) -> int:
    """Return the row; fail for the sixth."""
    if row == 5:
        raise OwnError(9, "five")
    return row


def fail_odd(row: int) -> int:
    """Return the row; fail if it is odd."""
    if row % 2:
        raise OwnError(9, f"odd {row}")
    return row


def label_of(row: int) -> str:
    """Return the label of a row."""
    return f"row {row}"


def type_names(values: Sequence[Any]) -> list[str]:
    """Return the names of the types of the items."""
    return [type(value).__name__ for value in values]


def alone(path: str, row: int) -> int:
    """Return the row; fail if another element runs at the same time."""
    lock = os.open(path + "-lock", os.O_CREAT | os.O_EXCL)
    try:
        time.sleep(0.01)
    finally:
        os.close(lock)
        os.remove(path + "-lock")
    return row


def where(row: int) -> tuple[str, int | None, str]:
    """Return task, element and idempotency key of this call."""
    context = current()
    return context.task, context.element, context.idempotency_key


def counted_element(path: str, row: int) -> int:
    """Count the call in a file, and return the row."""
    with open(path, "ab") as file:
        file.write(b".")
    return row


def fail_at_three(path: str, row: int) -> int:
    """Count the call in a file, and return the row; fail for the fourth until there is another file."""
    counted_element(path, row)
    if row == 3 and not os.path.exists(f"{path}-repaired"):
        raise OwnError(3, "three")
    return row


def skip_or_fail(row: int) -> int:
    """Return the row; skip 1, fail for 2."""
    if row == 1:
        raise Skip("one")
    if row == 2:
        raise OwnError(2, "two")
    return row
