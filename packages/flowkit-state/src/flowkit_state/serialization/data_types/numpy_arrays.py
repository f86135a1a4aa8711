"""Forms of NumPy arrays, masked arrays and scalars. An array is stored in the format `.npy`, without pickle."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
from numpy.lib import format as npy

from flowkit_state.serialization.class_references import RefusedError
from flowkit_state.serialization.data_types.forms import BLOCK, Binary, Composite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowkit_state.serialization.data_types.forms import Buffer, Form


def form_of(cls: type) -> Form | None:
    """Return the form of values of a class; `None` if there is none."""
    if cls is np.ndarray or cls is np.memmap:
        return FORMS["numpy.ndarray"]
    if cls is np.ma.MaskedArray:
        return FORMS["numpy.ma"]
    if issubclass(cls, np.generic) and not issubclass(cls, (np.void, np.object_)):
        return FORMS["numpy.generic"]
    return None


def _check_dtype(dtype: Any) -> None:
    """Raise `RefusedError` if the format `.npy` does not store arrays of a dtype exactly."""
    if dtype.hasobject:
        hint = "Convert it first, for example with .tolist() or .astype(str)."
        raise RefusedError(f"an array of the dtype {dtype}, which only pickle can store", hint)
    if npy.descr_to_dtype(npy.dtype_to_descr(dtype)) != dtype:
        raise RefusedError(f"an array of the dtype {dtype}, which cannot be restored exactly", "Convert it first.")


def _dump(array: Any) -> list[Buffer]:
    _check_dtype(array.dtype)
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = np.ascontiguousarray(array)
    header = BytesIO()
    facts = npy.header_data_from_array_1_0(array)
    _write_header(header, facts)
    return [header.getvalue(), _bytes_of(array)]


def _write_header(file: BytesIO, facts: dict[str, Any]) -> None:
    try:
        npy.write_array_header_1_0(file, facts)
    except ValueError:  # a structured dtype with many fields
        npy.write_array_header_2_0(file, facts)


def _bytes_of(array: Any) -> memoryview:
    """Return the bytes of a contiguous array, in the order in which they are in memory."""
    if array.nbytes == 0:
        return memoryview(b"")
    flat = array.reshape(-1, order="A")  # a view
    return memoryview(flat.view(np.uint8))


def _load(data: memoryview) -> Any:
    header = BytesIO(data[: 1 << 16])
    version = npy.read_magic(header)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(header)
    if dtype.hasobject:
        raise ValueError("an array of objects, which only pickle can load")
    count = 1
    for size in shape:
        count *= size
    content = data[header.tell() :]
    if len(content) != count * dtype.itemsize:
        raise ValueError("the array is truncated")
    array = np.empty(shape, dtype, order="F" if fortran_order else "C")
    if len(content):
        _bytes_of(array)[:] = content
    return array


def _digest(array: Any) -> list[Any]:
    if array.dtype.hasobject:
        raise RefusedError(f"an array of the dtype {array.dtype}, whose content cannot be compared")
    dtype = repr(array.dtype.descr if array.dtype.names else array.dtype.str)
    return ["ndarray", dtype, list(array.shape), digest_of_bytes(array)]


def digest_of_bytes(array: Any) -> str:
    """Return the digest of the bytes of an array in C order, whatever its order in memory is."""
    hasher = sha256()
    _update(hasher, array)
    return hasher.hexdigest()


def _update(hasher: Any, array: Any) -> None:
    if array.flags.c_contiguous:
        hasher.update(_bytes_of(array))
    elif array.nbytes <= BLOCK:
        hasher.update(_bytes_of(np.ascontiguousarray(array)))
    else:
        rows = max(1, BLOCK * len(array) // array.nbytes)
        for start in range(0, len(array), rows):
            block = array[start : start + rows]
            if block.nbytes > 2 * BLOCK:
                for row in block:
                    _update(hasher, row)
            else:
                hasher.update(_bytes_of(np.ascontiguousarray(block)))


def _reduce_scalar(scalar: Any) -> tuple[Any, ...]:
    if isinstance(scalar, np.str_):
        return "str", str(scalar)
    if isinstance(scalar, np.bytes_):
        return "bytes", bytes(scalar)
    _check_dtype(scalar.dtype)
    return scalar.dtype.str, scalar.tobytes()


def _restore_scalar(dtype: str, data: Any) -> Any:
    if dtype in ("str", "bytes"):
        return np.str_(data) if dtype == "str" else np.bytes_(data)
    restored = np.dtype(dtype)
    if restored.hasobject or restored.itemsize != len(data):
        raise ValueError("a scalar of another dtype")
    return np.frombuffer(data, restored)[0]


def _reduce_masked(array: Any) -> tuple[Any, ...]:
    mask = None if array.mask is np.ma.nomask else np.asarray(array.mask)
    return np.asarray(array.data), mask, np.asarray(array.fill_value), bool(array.hardmask)


def _restore_masked(data: Any, mask: Any, fill_value: Any, hard: bool) -> Any:
    masked = np.ma.nomask if mask is None else mask
    return np.ma.MaskedArray(data, masked, fill_value=fill_value[()], hard_mask=hard)


FORMS: dict[str, Form] = {
    "numpy.ndarray": Binary("numpy.ndarray", _dump, _load, _digest),
    "numpy.generic": Composite("numpy.generic", _reduce_scalar, _restore_scalar),
    "numpy.ma": Composite("numpy.ma", _reduce_masked, _restore_masked),
}
