"""The recorded elements of mapped tasks: `MapRecord` writes and finds them, `RunMaps` reads those of a run."""

from __future__ import annotations

import time
from hashlib import blake2b

from flowkit_state.errors import StateError, UnsupportedValueError, UntrustedPickleError, short_repr
from flowkit_state.run_log.error_text import encodable, error_json
from flowkit_state.storage.blobs import INLINE_LIMIT
from flowkit_state.storage.row_check import BINARY, INTEGER, NUMBER, OPTIONAL, TEXT, check_row, reading
from flowkit_state.storage.schema import from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, Protocol, TypeVar

    T = TypeVar("T")

    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database
    from flowkit_state.storage.ownership import Claim

    class ElementOutcome(Protocol):
        """How an element ended. `flowkit_core.persistence.ElementOutcome` describes the attributes."""

        number: int
        state: str
        value: Any
        fingerprint: Any
        ended: float
        seconds: float | None
        attempts: int
        label: str | None
        reason: str
        error: BaseException | None


_WAY_OUT = "forget() deletes its run."
RECORD_ELEMENT = (
    "INSERT OR REPLACE INTO elements (map, element, execution, state, ended, seconds, attempts, label, reason, error, "
    "fingerprint, origin, beside, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
"""Records a row that `MapRecord` has made. OR REPLACE: an element that was out of date has run in this execution."""
RECORD_PLAIN_ELEMENT = (
    "INSERT OR REPLACE INTO elements (map, element, execution, state, ended, seconds, attempts, fingerprint, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
"""Records what `plain_rows` returns: binding None takes several times as long as a value."""
_MAX_TEXT_INT = 10**12
"""Integers below it are their own fingerprints, as text."""
BLOB_OF_ROW = 12
"""Position of the name of the blob file in a row for `RECORD_ELEMENT`."""
_BEGIN_MAP = "INSERT INTO maps (run, name, execution, code, inputs, common, size) VALUES (?, ?, ?, ?, ?, ?, ?)"
_NEW_MAP = "SELECT max(id) FROM maps WHERE run = ? AND name = ?"
SIZE = "UPDATE maps SET size = ? WHERE id = ?"
"""Records the number of elements of a map."""
_MAPS = "SELECT id, name, execution, code, inputs, common, size FROM maps WHERE run = ? ORDER BY id"
_MAP_COLUMNS = {
    "id": INTEGER,
    "name": BINARY,
    "execution": INTEGER,
    "code": TEXT,
    "inputs": TEXT + OPTIONAL,
    "common": BINARY + OPTIONAL,
    "size": INTEGER + OPTIONAL,
}
_ELEMENTS = (
    "SELECT map, element, state, ended, seconds, attempts, reason, fingerprint, origin, beside, value FROM elements "
    "WHERE map = ? ORDER BY element, execution"
)
_ELEMENT_COLUMNS = {
    "map": INTEGER,
    "element": INTEGER,
    "state": TEXT,
    "ended": NUMBER,
    "seconds": NUMBER + OPTIONAL,
    "attempts": INTEGER,
    "reason": TEXT + OPTIONAL,
    "fingerprint": BINARY + OPTIONAL,
    "origin": INTEGER + OPTIONAL,
    "beside": TEXT + OPTIONAL,
    "value": BINARY + OPTIONAL,
}
_LAST = (
    "FROM elements e WHERE map = ? AND execution = "
    "(SELECT max(execution) FROM elements WHERE map = e.map AND element = e.element)"
)
_HAS_VALUES = (
    "SELECT NOT EXISTS (SELECT 1 FROM elements WHERE map = ? AND state = 'succeeded' AND value IS NULL AND "
    "origin IS NULL)"
)
_ELEMENT_COUNT = "SELECT count(DISTINCT element) FROM elements WHERE map = ?"
_HAS_ELEMENTS = "SELECT 1 FROM elements WHERE map = ? LIMIT 1"
LAST_STATES = f"SELECT state, count(*) {_LAST} GROUP BY state"
"""Number of elements in each state, of one map."""
LAST_FACTS = (
    f"SELECT element, state, seconds, attempts, label, reason, error, execution, ended {_LAST} ORDER BY element"
)
"""What a view of the elements shows, of one map."""
_COPY_MAP = (
    "INSERT INTO maps (run, name, execution, code, common, size) SELECT ?, name, 1, code, common, size FROM maps "
    "WHERE id = ?"
)
_COPY_ELEMENTS = (
    "INSERT OR REPLACE INTO elements (map, element, execution, state, ended, seconds, attempts, label, reason, error, "
    "fingerprint, origin, beside, value) SELECT ?, e.element, 1, e.state, e.ended, e.seconds, e.attempts, "
    "e.label, e.reason, e.error, e.fingerprint, NULL, coalesce(e.beside, o.beside), coalesce(e.value, o.value) "
    "FROM elements e LEFT JOIN elements o ON o.map = e.origin AND o.element = e.element WHERE e.map = ? "
    "ORDER BY e.element, e.execution, o.execution"
)


class RecordedMap:
    """A row of the table `maps`."""

    __slots__ = ("code", "common", "execution", "id", "inputs", "name", "size")

    def __init__(
        self,
        row: int,
        name: str | bytes,
        execution: int,
        code: str,
        inputs: str | None,
        common: str | bytes | None,
        size: int | None,
    ) -> None:
        self.id = row
        self.name = from_sql(name)
        self.execution = execution
        self.code = code
        self.inputs = inputs
        self.common = common
        self.size = size


def in_order(rows: dict[int, T], maps: Sequence[RecordedMap]) -> dict[int, T]:
    """Return the rows of several maps by number, in order, without numbers that the last map does not have."""
    if len(maps) == 1:
        return rows
    size = maps[0].size
    return {number: rows[number] for number in sorted(rows) if size is None or number < size}


def size_of(maps: Iterable[RecordedMap]) -> int | None:
    """Return the number of elements, of the first map with a known number; `None` if there is none."""
    return next((each.size for each in maps if each.size is not None), None)


class ElementRow:
    """The last row of an element; with its value, also if another map has that."""

    __slots__ = (
        "attempts",
        "blob",
        "element",
        "ended",
        "fingerprint",
        "map",
        "origin",
        "reason",
        "seconds",
        "state",
        "value",
    )

    def __init__(
        self,
        map: int,
        element: int,
        state: str,
        ended: float,
        seconds: float | None,
        attempts: int,
        reason: str | None,
        fingerprint: str | bytes | None,
        origin: int | None,
        blob: str | None,
        value: str | bytes | None,
    ) -> None:
        self.map = map
        self.element = element
        self.state = state
        self.ended = ended
        self.seconds = seconds
        self.attempts = attempts
        self.reason = reason
        self.fingerprint = fingerprint
        self.origin = origin
        self.blob = blob
        self.value = value

    @property
    def is_usable(self) -> bool:
        """Whether the element has ended, and has a value if it succeeded."""
        return self.state == "skipped" or (self.state == "succeeded" and self.value is not None)


class RecordedElement:
    """An element that ended in an earlier execution of a resumed run.

    Attributes:
        state: `"succeeded"` or `"skipped"`; `"outdated"` if it runs again, because its input has changed.
        value: its result, if it succeeded.
        reason: why it was skipped.
        row: what is to be recorded for it in this execution, or `None`.
    """

    __slots__ = ("reason", "row", "state", "value")

    def __init__(self, state: str, value: Any, reason: str, row: Any = None) -> None:
        self.state = state
        self.value = value
        self.reason = reason
        self.row = row


class RecordedElements:
    """All elements of a mapped task that does not run again.

    Attributes:
        states: state of each element; `"failed"` if `errors="drop"` left it out in the recorded run, and it is not
            called again.
        values: number -> result of each element that succeeded.
        reasons: number -> why the element was skipped.
        map: the map that has them.
    """

    def __init__(self, states: Sequence[str], values: Mapping[int, Any], reasons: Mapping[int, str], map: int) -> None:
        self.states = states
        self.values = values
        self.reasons = reasons
        self.map = map

    def result(self) -> list[Any]:
        """Return the result of the task: the results of the elements that succeeded, in order."""
        return list(self.values.values())


class RunMaps:
    """The maps of a run, and their elements.

    Args:
        database: the database.
        serialization: restores results.
        run: the row of the run; `None` for one that is new, and has no maps.
    """

    def __init__(self, database: Database, serialization: Serialization, run: int | None) -> None:
        self._database = database
        self._serialization = serialization
        self.by_name: dict[str, list[RecordedMap]] = {}
        if run is None:
            return
        with reading(database.path, "the record of a mapped task", _WAY_OUT):
            for line in database.execute("read it", _MAPS, (run,))[0]:
                check_row(line, _MAP_COLUMNS)
                found = RecordedMap(*line)
                self.by_name.setdefault(found.name, []).append(found)

    def last(self, name: str) -> RecordedMap | None:
        """Return the last map of a task that has elements or an empty input, else its last map; `None` if it has none.

        Any other map belongs to an execution that has not compared the elements of earlier ones with its input yet.
        """
        maps = self.by_name.get(name)
        return self._last_of(maps) if maps else None

    def _last_of(self, maps: Sequence[RecordedMap]) -> RecordedMap:
        for found in reversed(maps) if len(maps) > 1 else ():
            if found.size == 0 or self._database.execute("read it", _HAS_ELEMENTS, (found.id,))[0]:
                return found
        return maps[-1]

    def shown(self, name: str) -> list[RecordedMap]:
        """Return the maps of a task whose elements a view shows, the last one first; empty if the task has none.

        While elements of the last map are missing, these are also the maps from which its execution takes over
        elements: it has not compared all of them with its input yet.
        """
        known = self.by_name.get(name, [])
        maps: list[RecordedMap] = []
        for each in reversed(known) if len(known) > 1 else ():
            if not maps or (each.code == maps[0].code and each.common == maps[0].common is not None):
                maps.append(each)
                if each.size is not None and self._element_count(each) >= each.size:
                    break
        return maps or known

    def _element_count(self, of: RecordedMap) -> int:
        count: int = self._database.execute("read it", _ELEMENT_COUNT, (of.id,))[0][0][0]
        return count

    def rows_of(self, maps: Sequence[RecordedMap]) -> dict[int, ElementRow]:
        """Return the last row of each element of the maps that :meth:`shown` returns, by number."""
        found: dict[int, ElementRow] = {}
        for each in reversed(maps):
            found |= self.rows(each)
        return in_order(found, maps)

    def counts(self, of: RecordedMap) -> dict[str, int]:
        """Return the number of elements of a map in each state."""
        return dict(self._database.execute("read it", LAST_STATES, (of.id,))[0])

    def failed(self, name: str) -> int:
        """Return the number of elements of a task that have failed, in its last map."""
        last = self.last(name)
        return 0 if last is None else self.counts(last).get("failed", 0)

    def has_values(self, name: str) -> bool:
        """Return whether the results of elements of a task are recorded, in its last map."""
        last = self.last(name)
        return last is not None and bool(self._database.execute("read it", _HAS_VALUES, (last.id,))[0][0][0])

    def rows(self, of: RecordedMap) -> dict[int, ElementRow]:
        """Return the last row of each element of a map, by number."""
        return self._rows(of.id, of.name)

    def _rows(self, row_of_map: int, name: str) -> dict[int, ElementRow]:
        found: dict[int, ElementRow] = {}
        origins: set[int] = set()
        with reading(self._database.path, f"the record of the elements of task {short_repr(name)}", _WAY_OUT):
            for line in self._database.execute("read it", _ELEMENTS, (row_of_map,))[0]:
                check_row(line, _ELEMENT_COLUMNS)
                row = ElementRow(*line)
                found[row.element] = row
                if row.origin is not None:
                    origins.add(row.origin)
        values = {origin: self._rows(origin, name) for origin in origins if origin < row_of_map}
        for number, row in found.items():
            if row.origin is not None and (source := values.get(row.origin, {}).get(number)) is not None:
                row.blob, row.value = source.blob, source.value
        return found

    def restored(self, name: str, *, with_failed: bool = False) -> RecordedElements | None:
        """Return all elements of a task; `None` if some have not ended, have failed or have no recorded value.

        Args:
            name: name of the task.
            with_failed: whether elements that have failed are returned, too.

        Raises:
            RestoreError: a value cannot be restored in this process.
        """
        last = self.last(name)
        if last is None or last.size is None:
            return None
        rows = self.rows(last)
        if len(rows) != last.size or not all(
            row.is_usable or (with_failed and row.state == "failed") for row in rows.values()
        ):
            return None
        states, values, reasons = [], {}, {}
        for number in range(last.size):
            row = rows[number]
            states.append(row.state)
            if row.state == "succeeded":
                values[number] = self.value(row)
            elif row.state == "skipped":
                reasons[number] = row.reason or ""
        return RecordedElements(states, values, reasons, last.id)

    def value(self, row: ElementRow) -> Any:
        """Return the recorded value of an element. Raises `RestoreError` if it cannot be restored in this process."""
        return self._serialization.load(None, self._database.read_payload(row.value or "", row.blob))

    def has_input(self, row: ElementRow, value: object) -> bool | None:
        """Return whether a value was the input of an element; `None` if that is not known."""
        fingerprint = None if row.fingerprint is None else fingerprint_of(self._serialization, value)
        return None if fingerprint is None else fingerprint == row.fingerprint

    def recorded_count(self, name: str) -> str:
        """Return how many elements of a task are recorded, in words: those that a resumed run may take over."""
        maps = self.shown(name)
        done, size = sum(row.is_usable for row in self.rows_of(maps).values()), size_of(maps)
        return f"{done} elements are recorded" if size is None else f"{done} of {size} elements are recorded"

    def copy(self, name: str, run: int) -> None:
        """Record the maps of a task that :meth:`shown` returns, and their elements, as those of another run."""
        for each in reversed(self.shown(name)):
            self._database.execute("record a run in it", _COPY_MAP, (run, each.id))
            new = self._database.execute("read it", _NEW_MAP, (run, to_sql(name)))[0][0][0]
            self._database.execute("record a run in it", _COPY_ELEMENTS, (new, each.id))


class MapRecord:
    """The record of the elements of one mapped task in one execution of a run. `open_map` returns it.

    Args:
        maps: reads the elements of earlier executions.
        database: the database.
        serialization: converts values.
        claim: the claim of the process on the run.
        name: name of the task.
        execution: number of the execution.
        row: the row of the map.
        same: elements that were recorded for the same input, by number.
        others: elements that were recorded for other inputs, by number and fingerprint.
        has_values: whether values are recorded.
    """

    def __init__(
        self,
        maps: RunMaps,
        database: Database,
        serialization: Serialization,
        claim: Claim,
        name: str,
        execution: int,
        row: int,
        same: dict[int, ElementRow],
        others: dict[tuple[int, Any], ElementRow],
        *,
        has_values: bool,
    ) -> None:
        self._maps = maps
        self._database = database
        self._serialization = serialization
        self._claim = claim
        self._name = name
        self._execution = execution
        self.id = row
        self._same = same
        self._others = others
        self._has_values = has_values
        self._has_logged = False

    @property
    def has_recorded(self) -> bool:
        """Whether there are elements of earlier executions that were not found yet."""
        return bool(self._same or self._others)

    def fingerprint(self, given: Any) -> bytes | None:
        """Return a digest of the mapped value of an element, or of the tuple of several.

        It is called before the function of the task, which may change the values.
        """
        return fingerprint_of(self._serialization, given)

    def prepare(self, outcome: ElementOutcome) -> tuple[Any, ...]:
        """Return what is to be recorded for an element that has ended. A large result is written to a blob file.

        Raises:
            UnsupportedValueError: the result could not be restored exactly.
            StateFileError: the blob file cannot be written.
        """
        value: Any = None
        blob = label = reason = error = None
        if outcome.state == "succeeded":
            if self._has_values:
                value = self._payload(outcome)
                if len(value) > INLINE_LIMIT:
                    value, blob = self._database.write_blob(value, self._claim)
        elif outcome.error is not None:
            error = error_json(outcome.error)
        elif outcome.reason:
            reason = encodable(outcome.reason)
        if outcome.label is not None:
            label = encodable(outcome.label)
        return (
            self.id,
            outcome.number,
            self._execution,
            outcome.state,
            outcome.ended,
            outcome.seconds,
            outcome.attempts,
            label,
            reason,
            error,
            outcome.fingerprint,
            None,
            blob,
            value,
        )

    def _payload(self, outcome: ElementOutcome) -> str | bytes:
        """Return the stored form of a result."""
        try:
            return self._serialization.dump(None, outcome.value)
        except UnsupportedValueError:  # the name takes long to make
            root = f'the result of task "{self._name}[{outcome.number}]"'
            return self._serialization.dump(None, outcome.value, root)

    def find(self, number: int, given: Any, *, is_same: bool) -> RecordedElement | None:
        """Return the recorded outcome of an element, if its inputs are those for which it was recorded.

        Args:
            number: number of the element.
            given: its mapped value, or a tuple of several.
            is_same: whether its input is known to be the same if the input of the whole map is.

        Returns:
            What is taken over; `None` if the element is to be called.
        """
        same = row = self._same.pop(number, None)
        if row is None or not is_same:
            fingerprint = fingerprint_of(self._serialization, given)
            if row is None or fingerprint is None or row.fingerprint != fingerprint:
                row = self._others.pop((number, fingerprint), None)
            if row is None:
                return None if same is None or same.map != self.id else self._outdated(same)
        try:
            value = self._maps.value(row) if row.state == "succeeded" else None
        except UntrustedPickleError:
            raise
        except StateError as error:
            self._log(number, error)
            return None
        taken = None if row.map == self.id else self._taken_over(row)
        return RecordedElement(row.state, value, row.reason or "", taken)

    def _outdated(self, row: ElementRow) -> RecordedElement:
        """Return a placeholder that records that an element runs again: later executions must not use its result."""
        line = (self.id, row.element, self._execution, "outdated", time.time(), None, 0, *[None] * 7)
        return RecordedElement("outdated", None, "its input has changed", line)

    def _taken_over(self, row: ElementRow) -> tuple[Any, ...]:
        origin = row.map if row.origin is None else row.origin
        facts = (self.id, row.element, self._execution, row.state, row.ended, row.seconds, row.attempts)
        return (*facts, None, row.reason, None, row.fingerprint, origin, None, None)

    def _log(self, number: int, error: StateError) -> None:
        if not self._has_logged:
            import logging

            self._has_logged = True
            message = "The recorded result of %s[%s] cannot be restored, so the element runs again: %s"
            logging.getLogger("flowkit.state").warning(message, short_repr(self._name), number, error)

    def note_size(self, size: int) -> None:
        """Record the number of elements.

        Raises:
            StateFileError: it cannot be committed.
        """
        self._database.execute("record a map in it", SIZE, (size, self.id))


def plain_rows(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]] | None:
    """Return rows for `RECORD_PLAIN_ELEMENT`; `None` if any has a label, a reason, an error, an origin or a blob file.

    Args:
        rows: rows for `RECORD_ELEMENT`.
    """
    plain = [(*row[:7], row[10], row[13]) for row in rows if row[7] is row[8] is row[9] is row[11] is row[12] is None]
    return plain if len(plain) == len(rows) else None


def begin_map(
    database: Database,
    run: int,
    execution: int,
    name: str,
    code: str,
    inputs: str | None,
    common: bytes | None,
    size: int | None,
) -> int:
    """Record a new map, and return its row."""
    facts = (run, to_sql(name), execution, code, inputs, common, size)
    database.execute("record a map in it", _BEGIN_MAP, facts)
    row: int = database.execute("read it", _NEW_MAP, (run, to_sql(name)))[0][0][0]
    return row


def fingerprint_of(serialization: Serialization, value: Any) -> bytes | None:
    """Return a digest of a value; `None` if the value cannot be stored, and so not be compared.

    That of a small integer is its text, which is shorter than the digests of other values.
    """
    if type(value) is int and -_MAX_TEXT_INT < value < _MAX_TEXT_INT:
        return b"%d" % value
    try:
        payload = serialization.comparable(value)
    except StateError:
        return None
    return blake2b(payload if isinstance(payload, bytes) else payload.encode(), digest_size=16).digest()


def usable(rows: Mapping[int, ElementRow], oldest: float | None) -> Iterator[ElementRow]:
    """Yield the elements that need not run again; `oldest` is a time before which results are out of date."""
    for row in rows.values():
        if row.is_usable and (oldest is None or row.ended >= oldest):
            yield row
