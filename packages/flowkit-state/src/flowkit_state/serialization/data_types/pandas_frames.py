"""Forms of data frames, series, indexes and scalars of pandas.

A frame is stored as its index, its column labels and its columns. Each column has the form that restores its dtype
exactly: a NumPy array, an Arrow array, or a list of the objects in it. So pyarrow is needed only for columns that have
Arrow arrays already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from flowkit_state.serialization.class_references import RefusedError
from flowkit_state.serialization.data_types.forms import Composite, Form


def form_of(cls: type) -> Form | None:
    """Return the form of values of a class; `None` if there is none."""
    for name, form in FORMS.items():
        if cls is getattr(pd, name.partition(".")[2], None):
            return form
    if cls is type(pd.NaT) or cls is type(pd.NA):
        return FORMS["pandas.missing"]
    if issubclass(cls, pd.Index) and cls in _INDEXES:
        return FORMS["pandas.Index"]
    return None


# Arrays: a pair of a kind and its parts


def _array(values: Any) -> tuple[Any, ...]:
    """Return kind and parts of a column: a NumPy array or an array of pandas."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype) or type(values) is pd.arrays.NumpyExtensionArray:
        return _numpy_array(np.asarray(values))
    if isinstance(dtype, pd.CategoricalDtype):
        return "categorical", np.asarray(values.codes), _index(dtype.categories), dtype.ordered
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "datetimetz", np.asarray(values.asi8), dtype.unit, _zone(dtype.tz)
    if isinstance(dtype, pd.PeriodDtype):
        return "period", np.asarray(values.asi8), str(dtype)[len("period[") : -1]
    if isinstance(dtype, pd.IntervalDtype):
        return "interval", _index(pd.Index(values.left)), _index(pd.Index(values.right)), dtype.closed
    if isinstance(dtype, pd.StringDtype) and dtype.storage == "python":
        return "string", "python", dtype.na_value is pd.NA, values.to_numpy(dtype=object, na_value=None).tolist()
    if isinstance(dtype, pd.StringDtype):
        import pyarrow as pa

        return "string", dtype.storage, dtype.na_value is pd.NA, pa.chunked_array(pa.array(values))
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        array = values.__arrow_array__()
        return "arrow", array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    if str(dtype) in _MASKED:
        mask = np.asarray(values.isna())
        data = values.to_numpy(dtype=_MASKED[str(dtype)], na_value=_MASKED[str(dtype)](0))
        return "masked", str(dtype), data, mask
    raise RefusedError(f"data of the dtype {dtype}, which cannot be restored exactly", "Convert it with .astype(...).")


_MASKED = {
    "boolean": np.bool_,
    **{f"{kind}{size}": getattr(np, f"{kind.lower()}{size}") for kind in ("Int", "UInt") for size in (8, 16, 32, 64)},
    "Float32": np.float32,
    "Float64": np.float64,
}


def _numpy_array(array: Any) -> tuple[Any, ...]:
    return ("object", array.tolist()) if array.dtype.hasobject else ("numpy", array)


def _zone(tz: Any) -> Any:
    """Return a time zone that can be stored."""
    key = getattr(tz, "zone", None)  # of pytz
    return ("pytz", key) if isinstance(key, str) and type(tz).__module__.startswith("pytz") else tz


def _restored_zone(zone: Any) -> Any:
    if type(zone) is not tuple:
        return zone
    import pytz

    return pytz.timezone(zone[1])


def _restored_array(kind: str, *parts: Any) -> Any:
    restore: Any = _RESTORE[kind]
    return restore(*parts)


def _restored_objects(items: list[Any]) -> Any:
    array = np.empty(len(items), dtype=object)
    for number, item in enumerate(items):  # not array[:] = items, which looks into sequences
        array[number] = item
    return array


def _restored_categorical(codes: Any, categories: tuple[Any, ...], ordered: bool) -> Any:
    dtype = pd.CategoricalDtype(_restored_index(*categories), ordered)
    return pd.Categorical.from_codes(codes, dtype=dtype)


def _restored_datetimetz(values: Any, unit: str, zone: Any) -> Any:
    times = pd.DatetimeIndex(values.view(f"M8[{unit}]")).tz_localize("UTC")
    return times.tz_convert(_restored_zone(zone)).array


def _restored_period(values: Any, freq: str) -> Any:
    return pd.PeriodIndex.from_ordinals(values, freq=freq).array


def _restored_interval(left: tuple[Any, ...], right: tuple[Any, ...], closed: str) -> Any:
    return pd.arrays.IntervalArray.from_arrays(_restored_index(*left), _restored_index(*right), closed=closed)


def _restored_string(storage: str, is_na: bool, values: Any) -> Any:
    dtype = pd.StringDtype(storage, na_value=pd.NA if is_na else np.nan)
    if storage == "python":
        return pd.array(_restored_objects(values), dtype=dtype)
    return dtype.__from_arrow__(values)


def _restored_arrow(values: Any) -> Any:
    return pd.arrays.ArrowExtensionArray(values)


def _restored_masked(dtype: str, data: Any, mask: Any) -> Any:
    if dtype == "boolean":
        return pd.arrays.BooleanArray(data, mask)
    return (pd.arrays.FloatingArray if dtype.startswith("Float") else pd.arrays.IntegerArray)(data, mask)


_RESTORE = {
    "numpy": lambda array: array,
    "object": _restored_objects,
    "categorical": _restored_categorical,
    "datetimetz": _restored_datetimetz,
    "period": _restored_period,
    "interval": _restored_interval,
    "string": _restored_string,
    "arrow": _restored_arrow,
    "masked": _restored_masked,
}


# Indexes: a tuple of kind, names and parts

_INDEXES = (
    pd.Index,
    pd.RangeIndex,
    pd.MultiIndex,
    pd.DatetimeIndex,
    pd.TimedeltaIndex,
    pd.PeriodIndex,
    pd.IntervalIndex,
    pd.CategoricalIndex,
)


def _index(index: Any) -> tuple[Any, ...]:
    if type(index) is pd.RangeIndex:
        return "range", index.name, index.start, index.stop, index.step
    if type(index) is pd.MultiIndex:
        levels = [_index(level) for level in index.levels]
        return "multi", list(index.names), levels, [np.asarray(codes) for codes in index.codes]
    freq = getattr(index, "freqstr", None) if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None
    return "index", index.name, freq, _array(index.array)


def _restored_index(kind: str, name: Any, *parts: Any) -> Any:
    if kind == "range":
        return pd.RangeIndex(*parts, name=name)
    if kind == "multi":
        levels, codes = parts
        return pd.MultiIndex([_restored_index(*level) for level in levels], codes, names=name)
    freq, array = parts
    values = _restored_array(*array)
    index = pd.Index(values, name=name, dtype=values.dtype, tupleize_cols=False)
    if freq is not None:
        index.freq = freq
    return index


# Frames and series


def _check_attributes(value: Any) -> None:
    if not value.flags.allows_duplicate_labels:
        raise RefusedError(
            "whose flags cannot be restored", "Reset them with .set_flags(allows_duplicate_labels=True)."
        )


def _reduce_frame(frame: Any) -> tuple[Any, ...]:
    _check_attributes(frame)
    dtypes = set(frame.dtypes)
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    if isinstance(dtype, np.dtype) and not dtype.hasobject:
        columns: Any = frame.to_numpy()
    else:
        columns = [_array(frame.iloc[:, number].array) for number in range(frame.shape[1])]
    return _index(frame.index), _index(frame.columns), columns, dict(frame.attrs)


def _restore_frame(index: tuple[Any, ...], labels: tuple[Any, ...], columns: Any, attrs: dict[Any, Any]) -> Any:
    rows, names = _restored_index(*index), _restored_index(*labels)
    if isinstance(columns, np.ndarray):
        frame = pd.DataFrame(columns, index=rows, columns=names, copy=False)
    else:
        arrays = {number: _restored_array(*column) for number, column in enumerate(columns)}
        series = {number: pd.Series(array, index=rows, dtype=array.dtype) for number, array in arrays.items()}
        frame = pd.DataFrame(series, index=rows)
        frame.columns = names
    frame.attrs.update(attrs)
    return frame


def _reduce_series(series: Any) -> tuple[Any, ...]:
    _check_attributes(series)
    return _index(series.index), series.name, _array(series.array), dict(series.attrs)


def _restore_series(index: tuple[Any, ...], name: Any, values: tuple[Any, ...], attrs: dict[Any, Any]) -> Any:
    array = _restored_array(*values)
    series = pd.Series(array, index=_restored_index(*index), name=name, dtype=array.dtype)
    series.attrs.update(attrs)
    return series


# Scalars


def _reduce_timestamp(value: Any) -> tuple[Any, ...]:
    zone = None if value.tz is None else _zone(value.tz)
    return int(value.asm8.view("i8")), value.unit, zone, value.fold


def _restore_timestamp(number: int, unit: str, zone: Any, fold: int) -> Any:
    value = pd.Timestamp(np.datetime64(number, unit)).as_unit(unit)
    if zone is not None:
        value = value.tz_localize("UTC").tz_convert(_restored_zone(zone))
    return value.replace(fold=fold) if fold != value.fold else value


def _reduce_timedelta(value: Any) -> tuple[Any, ...]:
    return int(value.asm8.view("i8")), value.unit


def _restore_timedelta(number: int, unit: str) -> Any:
    return pd.Timedelta(np.timedelta64(number, unit)).as_unit(unit)


def _restore_missing(name: str) -> Any:
    return {"NaT": pd.NaT, "NA": pd.NA}[name]


FORMS: dict[str, Form] = {
    "pandas.DataFrame": Composite("pandas.DataFrame", _reduce_frame, _restore_frame),
    "pandas.Series": Composite("pandas.Series", _reduce_series, _restore_series),
    "pandas.Index": Composite("pandas.Index", _index, _restored_index),
    "pandas.Timestamp": Composite("pandas.Timestamp", _reduce_timestamp, _restore_timestamp),
    "pandas.Timedelta": Composite("pandas.Timedelta", _reduce_timedelta, _restore_timedelta),
    "pandas.Period": Composite(
        "pandas.Period",
        lambda value: (value.ordinal, value.freqstr),
        lambda ordinal, freq: pd.Period(ordinal=ordinal, freq=freq),
    ),
    "pandas.Interval": Composite("pandas.Interval", lambda value: (value.left, value.right, value.closed), pd.Interval),
    "pandas.missing": Composite(
        "pandas.missing", lambda value: ("NaT" if value is pd.NaT else "NA",), _restore_missing
    ),
}
