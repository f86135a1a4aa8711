"""Exception tables of code objects: which instructions have a handler, and which code has an ``except`` clause."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType


def may_bind_exceptions(code: CodeType) -> bool:
    """Return whether a function has an ``except`` clause of a class, which may store the exception in a variable."""
    if not code.co_exceptiontable:
        return False
    from opcode import opmap

    clauses = (opmap[name] for name in ("CHECK_EXC_MATCH", "CHECK_EG_MATCH"))
    return not set(clauses).isdisjoint(code.co_code[::2])


def is_handled(code: CodeType, offset: int) -> bool:
    """Return whether an exception at an instruction would reach an ``except``, ``finally`` or ``with`` of the code.

    Args:
        code: the code of the frame.
        offset: offset of the instruction in bytes, as in ``frame.f_lasti``.
    """
    from opcode import opname

    while True:
        handler = _handler(code, offset)
        if handler < 0 or opname[code.co_code[handler]] == "PUSH_EXC_INFO":
            return handler >= 0
        offset = handler  # the interpreter's own: the end of a comprehension, of an await or of a generator


def _handler(code: CodeType, offset: int) -> int:
    """Return the offset of the handler of an instruction; -1 if there is none."""
    numbers = _numbers(code.co_exceptiontable)
    for start, length, handler, _depth in zip(numbers, numbers, numbers, numbers, strict=True):
        if start * 2 <= offset < (start + length) * 2:
            return handler * 2
    return -1


def _numbers(table: bytes) -> Iterator[int]:
    """Yield the numbers of an exception table, which CPython stores in groups of six bits, the highest first."""
    number = 0
    for byte in table:
        number = number << 6 | byte & 0x3F
        if not byte & 0x40:
            yield number
            number = 0
