"""Parameters of a run as they are stored, and the identity that they give the run.

A run is identified by its pipeline and its parameters. A parameter whose content cannot be compared with that of
another process never counts as equal, so a run with such a parameter has no identity.
"""

from __future__ import annotations

from flowkit_state import fingerprint
from flowkit_state.errors import StateError, StateOptionTypeError, UnsupportedValueError, short_repr
from flowkit_state.runs import UnrecordedValue
from flowkit_state.serialization.json_encoder import encode
from flowkit_state.serialization.json_text import dumps, loads
from flowkit_state.storage.schema import from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from flowkit_state.serialization.serializer_protocol import Serializer
    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Database
    from flowkit_state.storage.ownership import Claim

_PARAMETER = "INSERT INTO params (run, name, value, beside) VALUES (?, ?, ?, ?)"
NO_IDENTITY = ""
"""The stored identity of a run with a parameter that cannot be compared."""


class RunParameters:
    """The parameters of one run.

    Args:
        params: name -> value.
        serializers: the user's serializers.

    Attributes:
        identity: digest of names and values, or `NO_IDENTITY`.
        incomparable: descriptions of the parameters that cannot be compared.
    """

    def __init__(self, params: Mapping[str, Any], serializers: Sequence[Serializer] = ()) -> None:
        self.incomparable: list[str] = []
        self._params = params
        self._stored: dict[str, tuple[str | None, str]] = {}
        for name, value in params.items():
            try:
                digest = _digest(value, serializers)
            except UnsupportedValueError as error:
                digest = None
                what = f"is of type {error.type_name}" if error.path == "value" else f"contains a {error.type_name}"
                self.incomparable.append(f"{short_repr(name)} {what}")
            self._stored[name] = digest, short_repr(value, 200)
        self.identity = _identity(self._stored)

    def text(self) -> str:
        """Return the text to store."""
        return dumps(self._stored)

    def store(self, database: Database, serialization: Serialization, row: int, claim: Claim) -> None:
        """Store the values for a run, except those that cannot be restored."""
        for name, value in self._params.items():
            try:
                payload = serialization.dump(None, value)
            except UnsupportedValueError:
                continue
            stored, blob = database.write_blob(payload, claim)
            database.execute("record a run in it", _PARAMETER, (row, to_sql(name), stored, blob))
            if blob is not None:
                database.unpin(blob, claim)


def add_identities(database: Database, pipeline: str) -> None:
    """Store the identity of the runs of a pipeline that were recorded before there was one."""
    select = "SELECT id, params FROM runs WHERE pipeline = ? AND identity IS NULL"
    for row, text in database.execute("read it", select, (to_sql(pipeline),))[0]:
        try:
            identity = _identity(loads(text))
        except Exception:  # a damaged row must not prevent the resume of other runs
            identity = NO_IDENTITY
        database.execute("record a run in it", "UPDATE runs SET identity = ? WHERE id = ?", (identity, row))


def stored_values(database: Database, serialization: Serialization, row: int, text: str) -> dict[str, Any]:
    """Return the values of the parameters of a run; an `UnrecordedValue` for each that cannot be restored."""
    select = "SELECT name, value, beside FROM params WHERE run = ?"
    payloads = {from_sql(name): (value, blob) for name, value, blob in database.execute("read it", select, (row,))[0]}
    values: dict[str, Any] = {}
    for name, (_, shown) in loads(text).items():
        if name not in payloads:
            values[name] = UnrecordedValue(text=shown, reason="its value was not stored")
            continue
        try:
            values[name] = serialization.load(None, database.read_payload(*payloads[name]))
        except StateError as error:
            values[name] = UnrecordedValue(text=shown, reason=str(error))
    return values


def other_types(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return which parameters differ only in that one value is the text of the other; none if any other one differs."""
    found = []
    for name, value in given.items():
        other = recorded[name]
        if type(value) is type(other):
            if value != other:
                return []
        elif str in (type(value), type(other)) and str(value) == str(other):
            found.append(f"{short_repr(name)} is of type {type(other).__name__} there and {type(value).__name__} here")
        else:
            return []
    return found


def parameter_digests(params: Mapping[str, Any], serializers: Sequence[Serializer]) -> dict[str, str]:
    """Return the digest of each value. Raises `StateOptionTypeError` if one cannot be compared."""
    digests = {}
    for name, value in params.items():
        try:
            digests[name] = _digest(value, serializers)
        except UnsupportedValueError as error:
            allowed = f"plain data, because a {error.type_name} cannot be compared with recorded parameters"
            raise StateOptionTypeError(f"params[{short_repr(name)}]", value, allowed) from error
    return digests


def changed_parameters(
    recorded: Mapping[str, Any], given: Mapping[str, Any], serializers: Sequence[Serializer]
) -> frozenset[str]:
    """Return the names of given parameters whose values differ from the recorded ones, or cannot be compared."""

    def digest(value: Any) -> str | None:
        try:
            return _digest(value, serializers)
        except UnsupportedValueError:
            return None

    changed = set()
    for name, value in given.items():
        new = digest(value)
        if new is None or name not in recorded or digest(recorded[name]) != new:
            changed.add(name)
    return frozenset(changed)


def has_digests(text: str, digests: Mapping[str, str]) -> bool:
    """Return whether parameters that were stored as `text` have the values with these digests."""
    if not digests:
        return True
    try:
        stored = loads(text)
        return all(name in stored and stored[name][0] == digest for name, digest in digests.items())
    except (LookupError, TypeError, ValueError):  # a damaged row
        return False


def _identity(stored: Mapping[str, Sequence[str | None]]) -> str:
    digests = sorted((name, parts[0]) for name, parts in stored.items() if parts[0] is not None)
    return fingerprint.digest(digests) if len(digests) == len(stored) else NO_IDENTITY


def _digest(value: Any, serializers: Sequence[Serializer]) -> str:
    try:
        return fingerprint.digest(encode(value))
    except UnsupportedValueError:
        return fingerprint.key(fingerprint.value_components(value, serializers))
