"""Parameters of a run as they are stored, and the identity that they give the run.

A run is identified by its pipeline and its parameters. A parameter whose content cannot be compared with that of
another process never counts as equal, so a run with such a parameter has no identity.
"""

from __future__ import annotations

from flowkit_state import fingerprint
from flowkit_state.errors import UnsupportedValueError, short_repr
from flowkit_state.serialization.json_encoder import encode
from flowkit_state.serialization.json_text import dumps, loads
from flowkit_state.storage.schema import to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from flowkit_state.serialization.serializer_protocol import Serializer
    from flowkit_state.storage.base import Database

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


def add_identities(database: Database, pipeline: str) -> None:
    """Store the identity of the runs of a pipeline that were recorded before there was one."""
    select = "SELECT id, params FROM runs WHERE pipeline = ? AND identity IS NULL"
    for row, text in database.execute("read it", select, (to_sql(pipeline),))[0]:
        try:
            identity = _identity(loads(text))
        except Exception:  # a damaged row must not prevent the resume of other runs
            identity = NO_IDENTITY
        database.execute("record a run in it", "UPDATE runs SET identity = ? WHERE id = ?", (identity, row))


def _identity(stored: Mapping[str, Sequence[str | None]]) -> str:
    digests = sorted((name, parts[0]) for name, parts in stored.items() if parts[0] is not None)
    return fingerprint.digest(digests) if len(digests) == len(stored) else NO_IDENTITY


def _digest(value: Any, serializers: Sequence[Serializer]) -> str:
    try:
        return fingerprint.digest(encode(value))
    except UnsupportedValueError:
        return fingerprint.key(fingerprint.value_components(value, serializers))
