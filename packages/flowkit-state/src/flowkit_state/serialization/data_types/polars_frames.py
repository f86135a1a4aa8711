"""Forms of data frames and series of polars. They are stored as Arrow IPC files."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from typing import Any

import polars as pl

from flowkit_state.serialization.class_references import RefusedError
from flowkit_state.serialization.data_types.forms import Binary, Composite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowkit_state.serialization.data_types.forms import Buffer, Form

_ROWS = 1 << 18


def form_of(cls: type) -> Form | None:
    """Return the form of values of a class; `None` if there is none."""
    if cls is pl.DataFrame:
        return FORMS["polars.DataFrame"]
    if cls is pl.Series:
        return FORMS["polars.Series"]
    if cls is pl.LazyFrame:
        return FORMS["polars.LazyFrame"]
    return None


def _check(frame: Any) -> None:
    for name, dtype in frame.schema.items():
        if pl.Object in (dtype, getattr(dtype, "inner", None)):
            reason = f"a frame whose column {name!r} has the dtype Object, which cannot be restored"
            raise RefusedError(reason, "Convert the column first.")


def _dump(frame: Any) -> list[Buffer]:
    _check(frame)
    file = BytesIO()
    frame.write_ipc(file, compression="uncompressed")
    return [file.getbuffer()]


def _load(data: memoryview) -> Any:
    return pl.read_ipc(BytesIO(data))


class _Hasher(BytesIO):
    """A file that computes the digest of what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.hasher = sha256()

    def write(self, data: Any) -> int:
        self.hasher.update(data)
        return len(data)


def _digest(frame: Any) -> list[Any]:
    """Return a digest that does not depend on the chunks of the columns."""
    _check(frame)
    schema = [[name, repr(dtype)] for name, dtype in frame.schema.items()]
    frame = frame.with_columns(pl.selectors.categorical().cast(pl.String))  # codes belong to one process
    hasher = _Hasher()
    for start in range(0, max(frame.height, 1), _ROWS):
        part = frame.slice(start, _ROWS).rechunk()
        part.write_ipc_stream(hasher, compat_level=pl.CompatLevel.oldest())
    return [schema, frame.height, hasher.hasher.hexdigest()]


def _refuse_lazy(_: Any) -> tuple[Any, ...]:
    raise RefusedError("a query that has not been computed", "Call .collect() first.")


FORMS: dict[str, Form] = {
    "polars.DataFrame": Binary("polars.DataFrame", _dump, _load, _digest),
    "polars.Series": Composite(
        "polars.Series",
        lambda series: (series.name, series.alias("").to_frame()),
        lambda name, frame: frame.to_series().alias(name),
    ),
    "polars.LazyFrame": Composite("polars.LazyFrame", _refuse_lazy, _refuse_lazy),
}
