"""`elements_record`: the elements of a mapped task as `TaskRecord.elements` shows them."""

from __future__ import annotations

from collections import Counter
from functools import partial

from flowkit_state.errors import RestoreError
from flowkit_state.run_log.elements import LAST_FACTS, LAST_STATES, in_order, size_of
from flowkit_state.runs import Column, ElementsRecord, TaskError
from flowkit_state.serialization.json_text import loads
from flowkit_state.storage.row_check import INTEGER, NUMBER, OPTIONAL, TEXT, check_row, reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from flowkit_state.run_log.elements import RecordedMap, RunMaps
    from flowkit_state.storage.base import Database

_OUTDATED = "outdated"
_COLUMNS = {
    "element": INTEGER,
    "state": TEXT,
    "seconds": NUMBER + OPTIONAL,
    "attempts": INTEGER,
    "label": TEXT + OPTIONAL,
    "reason": TEXT + OPTIONAL,
    "error": TEXT + OPTIONAL,
    "execution": INTEGER,
    "ended": NUMBER,
}


def elements_record(database: Database, maps: RunMaps, shown: Sequence[RecordedMap]) -> ElementsRecord:
    """Return the recorded elements of a mapped task, which are read when they are needed.

    Args:
        database: the database.
        maps: the maps of the run.
        shown: those of the task, see `RunMaps.shown`.
    """
    count, read = partial(_counts, database, shown), partial(_rows, database, shown)
    result, was_given = partial(_result, database, maps, shown), partial(_was_given, maps, shown)
    return ElementsRecord(size_of(shown), count, read, result, was_given)


def _was_given(maps: RunMaps, shown: Sequence[RecordedMap], number: int, value: object) -> bool | None:
    row = maps.rows_of(shown).get(number)
    return None if row is None else maps.has_input(row, value)


def _result(database: Database, maps: RunMaps, shown: Sequence[RecordedMap], number: int) -> Any:
    row = maps.rows_of(shown).get(number)
    name = f"{shown[0].name}[{number}]"
    if row is None or row.state != "succeeded":
        state = "has not ended" if row is None else f"is {row.state}"
        raise LookupError(f"element {name!r} has no result: it {state}.")
    if row.value is None:
        raise LookupError(f"the result of element {name!r} was not recorded.")
    try:
        return maps.value(row)
    except RestoreError as error:
        raise RestoreError(None, error.reason, name, database.path, error.damaged) from error


def _counts(database: Database, shown: Sequence[RecordedMap]) -> dict[str, int]:
    if len(shown) > 1:
        return dict(Counter(row[Column.STATE] for row in _rows(database, shown)))
    counts: dict[str, int] = dict(database.execute("read it", LAST_STATES, (shown[0].id,))[0])
    counts.pop(_OUTDATED, None)
    return counts


def _rows(database: Database, shown: Sequence[RecordedMap]) -> list[Any]:
    rows: dict[int, Any] = {}
    with reading(database.path, f"the record of the elements of task {shown[0].name!r}", "forget() deletes its run."):
        for each in reversed(shown):
            for row in database.execute("read it", LAST_FACTS, (each.id,))[0]:
                check_row(row, _COLUMNS)
                rows[row[Column.NUMBER]] = row
        found = in_order(rows, shown).values()
        at = Column.ERROR
        shown_rows = [row for row in found if row[Column.STATE] != _OUTDATED]
        return [(*row[:at], task_error(row[at]), *row[at + 1 :]) for row in shown_rows]


def task_error(text: str | None) -> TaskError | None:
    """Return the exception that is recorded as a text."""
    if text is None:
        return None
    kind, message, traceback = loads(text)
    return TaskError(type=kind, message=message, traceback=traceback)
