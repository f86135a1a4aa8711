"""Values of NumPy, pandas, polars, pyarrow, pydantic and attrs: stored, cached, and as inputs of cached functions.

These libraries are optional: the session `extras` of nox has them.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import subprocess
import sys
from decimal import Decimal
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest

from flowkit_state import RestoreError, StateManager, TaskCache, UnsupportedValueError

DATES = pd.date_range("2024-01-01", periods=3, freq="D")
MULTI = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["letter", None])


class Color(enum.Enum):
    RED = 1


class Line(pydantic.BaseModel):
    product: str
    price: Decimal = Decimal(1)


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    number: int
    lines: list[Line] = []
    color: Color = Color.RED
    _note: str = pydantic.PrivateAttr(default="private")

    @property
    def total(self):
        return sum(line.price for line in self.lines)


class Frozen(pydantic.BaseModel, frozen=True):
    number: int


class Rows(pydantic.RootModel[list[int]]):
    pass


@attrs.define
class Slotted:
    x: int
    y: list = attrs.field(factory=list)


@attrs.frozen
class Immutable:
    _x: int
    color: Color = Color.RED


@attrs.define(slots=False, cache_hash=True, frozen=True)
class Hashed:
    x: int


STRUCT = np.array([(1, 2.5, b"ab"), (2, float("nan"), b"c")], dtype=[("a", "<i4"), ("b", ">f8"), ("c", "S2")])

ARRAYS = {
    "integers": np.arange(10),
    "two dimensions": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": np.arange(20)[::3],
    "reversed": np.arange(20)[::-1],
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "big endian": np.arange(5, dtype=">i2"),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "half": np.array([1, 2], dtype=np.float16),
    "text": np.array(["a", "längere"]),
    "bytes": np.array([b"a", b"bc"]),
    "empty": np.empty((0, 3)),
    "empty text": np.array([], dtype="U"),
    "no dimension": np.array(5),
    "nan": np.array([float("nan"), float("-inf"), -0.0]),
    "datetime": np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"),
    "timedelta": np.array([1, 2], dtype="timedelta64[ns]"),
    "struct": STRUCT,
    "read only": np.broadcast_to(np.arange(3), (4, 3)),
    "large": np.random.default_rng(1).random(100_000),
}

SCALARS = {
    "float64": np.float64(1.5),
    "float32": np.float32(1.5),
    "int64": np.int64(7),
    "uint8": np.uint8(7),
    "bool": np.bool_(True),
    "text": np.str_("abc"),
    "empty text": np.str_(""),
    "bytes": np.bytes_(b"abc"),
    "datetime": np.datetime64("2024-01-01T12:00", "s"),
    "timedelta": np.timedelta64(3, "h"),
    "complex": np.complex128(1j),
}

FRAMES = {
    "numbers": pd.DataFrame({"a": [1, 2, 3], "b": [1.5, float("nan"), -0.0]}),
    "one dtype": pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=["a", "b", "c"]),
    "text": pd.DataFrame({"a": ["x", None, "z"], "b": ["ä", "", "\0"]}),
    "objects": pd.DataFrame(
        {"a": pd.Series([1, "x", None, Decimal(1), (1, 2), [3], Color.RED, np.float64(1)], dtype=object)}
    ),
    "missing objects": pd.DataFrame({"a": pd.Series([None, float("nan"), pd.NaT, pd.NA], dtype=object)}),
    "dates": pd.DataFrame({"a": DATES, "b": [dt.date(2024, 1, 1), None, dt.date(1, 1, 1)]}),
    "time zone": pd.DataFrame({"a": DATES.tz_localize("Europe/Berlin"), "b": DATES.tz_localize(dt.UTC)}),
    "timedelta": pd.DataFrame({"a": pd.to_timedelta([1, 2, None], unit="s")}),
    "categorical": pd.DataFrame(
        {
            "a": pd.Categorical(["x", None, "y"], categories=["y", "x", "z"], ordered=True),
            "b": pd.Categorical([1, 2, 1]),
        }
    ),
    "nullable": pd.DataFrame(
        {
            "a": pd.array([1, None, 3], dtype="Int64"),
            "b": pd.array([True, None, False], dtype="boolean"),
            "c": pd.array([1.5, None, float("nan")], dtype="Float32"),
            "d": pd.array([1, None, 255], dtype="UInt8"),
        }
    ),
    "strings": pd.DataFrame(
        {
            "a": pd.array(["x", None, "z"], dtype="string[python]"),
            "b": pd.array(["x", None, "z"], dtype="string[pyarrow]"),
            "c": pd.array(["x", None, "z"], dtype=pd.StringDtype("python", na_value=np.nan)),
        }
    ),
    "arrow": pd.DataFrame(
        {
            "a": pd.array([1, None], dtype="int64[pyarrow]"),
            "b": pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int32()))),
        }
    ),
    "period": pd.DataFrame({"a": pd.period_range("2024-01", periods=3, freq="M")}),
    "interval": pd.DataFrame({"a": pd.interval_range(0, 3)}),
    "index": pd.DataFrame({"a": [1, 2, 3]}, index=pd.Index(["x", "y", "x"], name="key")),
    "dates as index": pd.DataFrame({"a": [1, 2, 3]}, index=DATES),
    "multi-index": pd.DataFrame({"a": [1, 2, 3, 4]}, index=MULTI),
    "multi-index of columns": pd.DataFrame(np.arange(8).reshape(2, 4), columns=MULTI),
    "labels": pd.DataFrame([[1, "a", 2.5]], columns=[1, ("x", 2), None]),
    "equal labels": pd.DataFrame([[1, 2.5, "x"]], columns=["a", "a", "b"]),
    "range of columns": pd.DataFrame([[1, 2], [3, 4]]),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="int64"), "b": pd.Series([], dtype=object)}),
    "no columns": pd.DataFrame(index=[1, 2, 3]),
    "empty": pd.DataFrame(),
    "strided": pd.DataFrame(np.arange(40.0).reshape(10, 4)).iloc[::2, ::2],
}

SERIES = {
    "numbers": pd.Series([1, 2, 3], name="n"),
    "text": pd.Series(["a", None]),
    "tuple as name": pd.Series([1.5], name=("a", 1), index=["x"]),
    "categorical": pd.Series(["a", "b"], dtype="category"),
    "of frame": FRAMES["one dtype"]["b"],
}

INDEXES = {
    "range": pd.RangeIndex(2, 20, 3, name="r"),
    "numbers": pd.Index([1, 5, 2]),
    "text": pd.Index(["a", "b"], name="t"),
    "dates": DATES,
    "dates in zone": pd.date_range("2024-03-30", periods=3, freq="D", tz="Europe/Berlin"),
    "multi": MULTI,
    "part of multi": MULTI[1:3],
    "categorical": pd.CategoricalIndex(["a", "b", "a"]),
    "interval": pd.interval_range(0, 3, closed="left"),
    "period": pd.period_range("2024", periods=2, freq="Y"),
    "timedelta": pd.timedelta_range("1h", periods=3, freq="h"),
    "objects": pd.Index([1, "a", None], dtype=object),
}

PANDAS_SCALARS = {
    "timestamp": pd.Timestamp("2024-01-01 12:00:00.123456789"),
    "timestamp of seconds": pd.Timestamp("2024-01-01").as_unit("s"),
    "timestamp in zone": pd.Timestamp("2024-07-01 12:00", tz=ZoneInfo("Europe/Berlin")),
    "first of two hours": pd.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert("Europe/Berlin"),
    "second of two hours": pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("Europe/Berlin"),
    "timedelta": pd.Timedelta(1, "ns"),
    "period": pd.Period("2024-05", freq="M"),
    "interval": pd.Interval(1, 2, closed="both"),
}

POLARS = {
    "mixed": pl.DataFrame({"a": [1, None], "b": ["x", "ä"], "c": [1.5, float("nan")], "d": [[1], []]}),
    "types": pl.DataFrame(
        {
            "date": [dt.date(2024, 1, 1)],
            "datetime": [dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))],
            "duration": [dt.timedelta(seconds=1)],
            "decimal": [Decimal("1.50")],
            "binary": [b"x"],
            "struct": [{"a": 1, "b": "x"}],
        }
    ),
    "categorical": pl.DataFrame({"a": pl.Series(["x", "y", "x"], dtype=pl.Categorical)}),
    "enum": pl.DataFrame({"a": pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"]))}),
    "small": pl.DataFrame({"a": pl.Series([1, 2], dtype=pl.UInt8)}),
    "no rows": pl.DataFrame(schema={"a": pl.Int64, "b": pl.String}),
    "empty": pl.DataFrame(),
    "chunks": pl.concat([pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})], rechunk=False),
}

ARROW = {
    "table": pa.table({"a": [1, None, 3], "b": ["x", "y", None]}),
    "metadata": pa.table({"a": [1]}).replace_schema_metadata({"k": "v"}),
    "chunks": pa.table({"a": pa.chunked_array([[1, 2], [3]])}),
    "dictionary": pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()}),
    "nested": pa.table({"a": [{"x": [1, 2]}, None]}),
    "no rows": pa.table({"a": pa.array([], pa.int8())}),
    "empty": pa.table({}),
    "batch": pa.RecordBatch.from_pydict({"a": [1, 2]}),
    "empty batch": pa.RecordBatch.from_pydict({"a": pa.array([], pa.int8())}),
    "array": pa.array([1, None]),
    "chunked array": pa.chunked_array([[1], [2]]),
    "slice": pa.array(range(100)).slice(10, 5),
}


def order():
    made = Order(number=7, lines=[Line(product="tea", price=Decimal("2.50"))], remark="extra")
    made._note = "changed"
    return made


MODELS = {
    "pydantic": order(),
    "defaults": Order(number=1),
    "frozen": Frozen(number=3),
    "root": Rows([1, 2]),
    "attrs": Slotted(1, [2, {3}]),
    "immutable": Immutable(1),
    "hashed": Hashed(5),
}

ALL = {
    f"{library} {name}": value
    for library, values in {
        "array": ARRAYS,
        "scalar": SCALARS,
        "frame": FRAMES,
        "series": SERIES,
        "index": INDEXES,
        "pandas": PANDAS_SCALARS,
        "polars": POLARS,
        "arrow": ARROW,
        "model": MODELS,
    }.items()
    for name, value in values.items()
}


def assert_same(found, value):
    """Check that two values are equal and of the same types, all the way down."""
    assert type(found) is type(value)
    if isinstance(value, np.ndarray):
        assert found.dtype == value.dtype
        assert found.shape == value.shape
        assert found.tobytes() == value.tobytes()
    elif isinstance(value, np.generic):
        assert found.dtype == value.dtype
        assert found.tobytes() == value.tobytes()
    elif isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(found, value, check_exact=True, check_freq=True, check_column_type=True)
        assert_same(found.index, value.index)
        assert_same(found.columns, value.columns)
        for number in range(value.shape[1]):
            assert_same(found.iloc[:, number], value.iloc[:, number])
    elif isinstance(value, pd.Series):
        pd.testing.assert_series_equal(found, value, check_exact=True, check_freq=True)
        assert type(found.name) is type(value.name)
        if value.dtype == object:
            assert [*map(type, found)] == [*map(type, value)]
    elif isinstance(value, pd.Index):
        pd.testing.assert_index_equal(found, value, exact=True, check_exact=True)
        assert getattr(found, "freq", None) == getattr(value, "freq", None)
    elif isinstance(value, pl.DataFrame):
        assert found.schema == value.schema
        assert found.equals(value, null_equal=True)
    elif isinstance(value, (pa.Table, pa.RecordBatch)):
        assert found.equals(value, check_metadata=True)
    elif isinstance(value, (pa.Array, pa.ChunkedArray)):
        assert found.equals(value)
        assert found.type == value.type
    else:
        assert found == value
        assert repr(found) == repr(value)


@pytest.mark.parametrize("value", ALL.values(), ids=ALL)
def test_value_comes_back_as_it_went_in(make_state, value):
    make_state().set("value", value)
    state = make_state() if make_state().path else None
    if state is None:
        state = make_state()
        state.set("value", value)
    assert_same(state.get("value"), value)
    state.set("nested", {"rows": [(value, 1)], "other": value})
    found = state.get("nested")
    assert_same(found["rows"][0][0], value)
    assert_same(found["other"], value)


@pytest.mark.parametrize("value", ALL.values(), ids=ALL)
def test_value_is_input_of_cached_function_by_content(value):
    calls = []

    @TaskCache()
    def function(argument):
        calls.append(1)
        return 1

    state = StateManager()
    state.set("value", value)
    function(value)
    function(state.get("value"))
    assert function.explain(value).startswith("cached since")
    assert len(calls) == 1
    function([value])
    assert len(calls) == 2


CHANGED = {
    "array": (np.arange(10), np.arange(10) + (np.arange(10) == 9)),
    "large array": (np.zeros(10**6), np.eye(1, 10**6, 999_999)[0]),
    "strided array": (np.zeros((2000, 2000)).T[::2], np.ones((2000, 2000)).T[::2]),
    "dtype": (np.arange(3), np.arange(3.0)),
    "shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "scalar": (np.float64(1), np.float32(1)),
    "frame": (FRAMES["numbers"], FRAMES["numbers"].assign(a=[1, 2, 4])),
    "label": (FRAMES["numbers"], FRAMES["numbers"].rename(columns={"a": "c"})),
    "index": (FRAMES["numbers"], FRAMES["numbers"].set_axis([1, 2, 4])),
    "attrs": (FRAMES["numbers"], FRAMES["numbers"].copy().pipe(lambda f: f.attrs.update(a=1) or f)),
    "category": (SERIES["categorical"], SERIES["categorical"].cat.add_categories("c")),
    "polars": (POLARS["mixed"], POLARS["mixed"].with_columns(a=pl.lit(2))),
    "polars dtype": (POLARS["small"], POLARS["small"].cast(pl.Int8)),
    "polars enum": (POLARS["enum"], pl.DataFrame({"a": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"]))})),
    "arrow": (ARROW["table"], ARROW["table"].set_column(0, "a", pa.array([1, 2, 3]))),
    "pydantic": (order(), order().model_copy(update={"number": 8})),
    "pydantic nested": (Order(number=1, lines=[Line(product="a")]), Order(number=1, lines=[Line(product="b")])),
    "attrs object": (Slotted(1, [2]), Slotted(1, [3])),
}


@pytest.mark.parametrize(("one", "other"), CHANGED.values(), ids=CHANGED)
def test_changed_value_is_another_input(one, other):
    @TaskCache()
    def function(argument):
        return 1

    function(one)
    assert not function.explain(other).startswith("cached since")


LAYOUTS = {
    "order": (np.arange(2e6).reshape(1000, 2000), np.asfortranarray(np.arange(2e6).reshape(1000, 2000))),
    "strides": (np.arange(0, 10**6, 2), np.arange(10**6)[::2]),
    "blocks": (
        pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"]),
        pd.DataFrame({"a": [0.0, 2, 4], "b": [1.0, 3, 5]}),
    ),
    "polars chunks": (POLARS["chunks"], POLARS["chunks"].rechunk()),
    "polars slice": (
        pl.DataFrame({"a": ["x" * 50] * 9 + ["y" * 50]})[5:],
        pl.DataFrame({"a": ["x" * 50] * 4 + ["y" * 50]}),
    ),
    "arrow chunks": (ARROW["chunks"], ARROW["chunks"].combine_chunks()),
    "arrow slice": (pa.table({"a": range(10)}).slice(5), pa.table({"a": range(5, 10)})),
}


@pytest.mark.parametrize(("one", "other"), LAYOUTS.values(), ids=LAYOUTS)
def test_layout_in_memory_does_not_count(one, other):
    @TaskCache()
    def function(argument):
        return 1

    function(one)
    assert function.explain(other).startswith("cached since")


def test_memory_map_is_array(tmp_path):
    np.save(tmp_path / "data.npy", np.arange(10))
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r")
    state = StateManager()
    state.set("mapped", mapped)
    assert_same(state.get("mapped"), np.arange(10))


def test_masked_array_comes_back(make_state):
    state = make_state()
    value = np.ma.MaskedArray([1, 2, 3], mask=[0, 1, 0], fill_value=9)
    state.set("masked", value)
    found = state.get("masked")
    assert found.tolist() == [1, None, 3]
    assert (found.fill_value, found.dtype, type(found)) == (9, value.dtype, type(value))


def test_restored_array_can_be_changed(make_state):
    state = make_state()
    value = np.arange(1000)
    state.set("a", value)
    value[0] = 99
    found = state.get("a")
    assert found[0] == 0
    found[1] = 99
    assert state.get("a")[1] == 1


REFUSED = {
    "object array": (np.array([1, "a"], dtype=object), "only pickle can store"),
    "array of strings": (np.array(["a"], dtype=np.dtypes.StringDType()), "only pickle can store"),
    "matrix": (np.array([[1]]).view(np.matrix), "numpy.matrix"),
    "record array": (STRUCT.view(np.recarray), "recarray"),
    "sparse": (pd.Series(pd.arrays.SparseArray([0, 1])), "Sparse"),
    "object in frame": (pd.DataFrame({"a": [object()]}), "object"),
    "lazy frame": (pl.LazyFrame({"a": [1]}), r"Call \.collect\(\) first"),
    "polars object": (pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}), "dtype Object"),
    "secret": (pydantic.SecretStr("x"), "SecretStr"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_value_that_cannot_be_restored_is_refused(make_state, value, message):
    state = make_state()
    with pytest.raises(UnsupportedValueError, match=message) as caught:
        state.set("a", [value])
    assert caught.value.path.startswith("value[0]")
    assert len(state) == 0


def test_function_that_uses_models_can_be_cached():
    calls = []

    @TaskCache()
    def function(number):
        calls.append(number)
        return Order(number=number), Slotted(number)

    assert function(1) == function(1) == (Order(number=1), Slotted(1))
    assert calls == [1]


OTHER_PROCESS = """
import sys
import numpy, pandas, polars, pyarrow
from flowkit_state import StateManager, TaskCache

@TaskCache(sys.argv[1])
def rows(value):
    print("computing", type(value).__name__)
    return value

def main():
    for value in (
        numpy.arange(1000.0).reshape(10, 100),
        pandas.DataFrame({"a": [1, 2], "b": ["x", None]}),
        polars.DataFrame({"a": [1, 2], "b": polars.Series(["x", "y"], dtype=polars.Categorical)}),
        pyarrow.table({"a": [1]}),
    ):
        assert str(rows(value)) == str(value)

main()
"""


def test_processes_share_cached_values(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(OTHER_PROCESS)
    outputs = []
    for _ in range(2):
        command = [sys.executable, str(script), str(tmp_path / "cache.db")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.split())
    assert outputs == [
        ["computing", "ndarray", "computing", "DataFrame", "computing", "DataFrame", "computing", "Table"],
        [],
    ]


DAMAGED = {
    "truncated": lambda data: data[:-100],
    "header": lambda data: data[:20] + b"x" + data[21:],
    "length": lambda data: data[:8] + b"\xff" * 8 + data[16:],
    "npy": lambda data: data.replace(b"NUMPY", b"NUMPX"),
    "shape": lambda data: data.replace(b"(1000,)", b"(9999,)"),
    "objects": lambda data: data.replace(b"'<f8'", b"'|O8'"),
    "code": lambda data: data.replace(b"(1000,)", b"exit(1)"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_array_is_restore_error(tmp_path, damage):
    with StateManager(tmp_path / "state.db") as state:
        state.set("a", np.arange(1000.0))
        ((data,),), _ = state._store.execute("read it", "SELECT value FROM entries")
        state._store.execute("write it", "UPDATE entries SET value = ?", (damage(data),))
        with pytest.raises(RestoreError, match=r"state\.db: .*damaged") as caught:
            state.get("a")
        assert (caught.value.key, caught.value.path, caught.value.damaged) == ("a", state.path, True)


def test_array_is_stored_as_npy_in_json_file(tmp_path):
    from base64 import b64decode
    from io import BytesIO

    with StateManager(tmp_path / "state.json") as state:
        state.set("a", np.arange(3))
    (entry,) = json.loads((tmp_path / "state.json").read_text())["entries"]
    name, text = entry["value"]["$data"]
    assert name == "numpy.ndarray"
    assert np.load(BytesIO(b64decode(text)), allow_pickle=False).tolist() == [0, 1, 2]
