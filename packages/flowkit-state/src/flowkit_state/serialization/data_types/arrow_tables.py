"""Forms of tables, record batches and arrays of pyarrow. They are stored as Arrow IPC streams."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pyarrow as pa

from flowkit_state.serialization.data_types.forms import Binary, Composite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowkit_state.serialization.data_types.forms import Buffer, Form

_ROWS = 1 << 16
_COLUMN = "value"


def form_of(cls: type) -> Form | None:
    """Return the form of values of a class; `None` if there is none."""
    if cls is pa.Table:
        return FORMS["pyarrow.Table"]
    if cls is pa.RecordBatch:
        return FORMS["pyarrow.RecordBatch"]
    if cls is pa.ChunkedArray:
        return FORMS["pyarrow.ChunkedArray"]
    if issubclass(cls, pa.Array):
        return FORMS["pyarrow.Array"]
    if cls is pa.Schema:
        return FORMS["pyarrow.Schema"]
    return None


class _Hasher:
    """A file that computes the digest of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.hasher = sha256()

    def write(self, data: Any) -> int:
        self.hasher.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _dump(table: Any) -> list[Buffer]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return [memoryview(sink.getvalue())]


def _load(data: memoryview) -> Any:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_all()


def _digest(table: Any) -> str:
    """Return a digest that does not depend on the chunks of the columns."""
    table = table.unify_dictionaries()
    hasher = _Hasher()
    with (
        pa.PythonFile(hasher, mode="w") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        for start in range(0, table.num_rows, _ROWS):
            for batch in table.slice(start, _ROWS).combine_chunks().to_batches():
                writer.write_batch(batch)
    return hasher.hasher.hexdigest()


def _load_batch(table: Any) -> Any:
    schema = table.schema
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema)


def _load_array(table: Any) -> Any:
    chunks = table.column(0).combine_chunks()
    return chunks.combine_chunks() if isinstance(chunks, pa.ChunkedArray) else chunks


def _table_of(array: Any) -> Any:
    return pa.table({_COLUMN: array})


FORMS: dict[str, Form] = {
    "pyarrow.Table": Binary("pyarrow.Table", _dump, _load, _digest),
    "pyarrow.RecordBatch": Composite(
        "pyarrow.RecordBatch", lambda batch: (pa.Table.from_batches([batch]),), _load_batch
    ),
    "pyarrow.ChunkedArray": Composite(
        "pyarrow.ChunkedArray", lambda array: (_table_of(array),), lambda table: table.column(0)
    ),
    "pyarrow.Array": Composite("pyarrow.Array", lambda array: (_table_of(array),), _load_array),
    "pyarrow.Schema": Composite("pyarrow.Schema", lambda schema: (schema.empty_table(),), lambda table: table.schema),
}
