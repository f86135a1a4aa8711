"""`elements_record`: the elements of a mapped task as `TaskRecord.elements` shows them."""

from __future__ import annotations

from functools import partial

from flowkit_state.errors import RestoreError
from flowkit_state.run_log.elements import LAST_FACTS, LAST_STATES
from flowkit_state.runs import ElementsRecord, TaskError
from flowkit_state.serialization.json_text import loads
from flowkit_state.storage.row_check import INTEGER, NUMBER, OPTIONAL, TEXT, check_row, reading

TYPE_CHECKING = False
if TYPE_CHECKING:
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


def elements_record(database: Database, maps: RunMaps, last: RecordedMap) -> ElementsRecord:
    """Return the recorded elements of a mapped task, which are read when they are asked for.

    Args:
        database: the database.
        maps: the maps of the run.
        last: the last map of the task.
    """
    count, read = partial(_counts, database, last), partial(_rows, database, last)
    return ElementsRecord(
        last.size, count, read, partial(_result, database, maps, last), partial(_was_given, maps, last)
    )


def _was_given(maps: RunMaps, last: RecordedMap, number: int, value: object) -> bool | None:
    row = maps.rows(last).get(number)
    return None if row is None else maps.has_input(row, value)


def _result(database: Database, maps: RunMaps, last: RecordedMap, number: int) -> Any:
    row = maps.rows(last).get(number)
    name = f"{last.name}[{number}]"
    if row is None or row.state != "succeeded":
        state = "has not ended" if row is None else f"is {row.state}"
        raise LookupError(f"element {name!r} has no result: it {state}.")
    if row.value is None:
        raise LookupError(f"the result of element {name!r} was not recorded.")
    try:
        return maps.value(row)
    except RestoreError as error:
        raise RestoreError(None, error.reason, name, database.path) from error


def _counts(database: Database, last: RecordedMap) -> dict[str, int]:
    counts: dict[str, int] = dict(database.execute("read it", LAST_STATES, (last.id,))[0])
    counts.pop(_OUTDATED, None)
    return counts


def _rows(database: Database, last: RecordedMap) -> list[Any]:
    rows = []
    with reading(database.path, f"the record of the elements of task {last.name!r}", "forget() deletes its run."):
        for row in database.execute("read it", LAST_FACTS, (last.id,))[0]:
            check_row(row, _COLUMNS)
            if row[1] != _OUTDATED:
                rows.append((*row[:6], task_error(row[6]), *row[7:]))
    return rows


def task_error(text: str | None) -> TaskError | None:
    """Return the exception that is recorded as a text."""
    if text is None:
        return None
    kind, message, traceback = loads(text)
    return TaskError(type=kind, message=message, traceback=traceback)
