"""Values are restored exactly, type included; unsupported values are refused."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import pathlib
import sqlite3
import typing
import uuid
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit_state import RestoreError, StateManager, TaskCache, UnsupportedValueError
from flowkit_state.serialization.trampoline import MAX_DEPTH


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 (an alias)
    BLUE = "blue"


class Outer:
    class Inner(enum.Enum):
        X = 1


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 (both kinds are meant)


class Place(typing.NamedTuple):
    name: str
    at: Point


@dataclasses.dataclass
class Order:
    number: int
    lines: list[str] = dataclasses.field(default_factory=list)
    limit: typing.ClassVar[int] = 3

    def __post_init__(self):
        if self.number < 0:
            raise ValueError("negative")


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    part: str
    made: int = dataclasses.field(init=False, default=0)


def same(a, b):
    """Return whether two values are equal in value, type and sign, recursively."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, decimal.Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        return sorted(map(exact, a)) == sorted(map(exact, b))
    if isinstance(a, (dt.datetime, dt.time)):
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and same(a.tzinfo, b.tzinfo)
    if isinstance(a, dt.timezone):
        return a == b and repr(a) == repr(b)
    if isinstance(a, zoneinfo.ZoneInfo):
        return a is b
    if isinstance(a, range):
        return (a.start, a.stop, a.step) == (b.start, b.stop, b.step)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return bool(a == b)


def exact(value):
    """Return a text that is equal for two members of sets if they are `same`."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} {sorted(map(exact, value))}"
    if isinstance(value, tuple) and type(value) is tuple:
        return f"tuple {list(map(exact, value))}"
    return f"{type(value).__name__} {value!r}"


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


VALUES = [
    None, True, False, 0, 1, -1, 2**53 + 1, 2**64, -(10**5000), 0.1, -0.0, 1e308, math.inf, -math.inf, math.nan,
    -math.nan,
    "", "text", "nul\0", "\ud800", "\udc00\ud800", "\ud83d\ude00", "😀", "$tuple",
    b"", b"\x00\xff", bytearray(b"abc"), 1j, complex(-0.0, math.nan), range(0), range(10, 0, -3), range(5, 5),
    (), (1,), ((1, [2]),), [], [[]], set(), {1, "1", 1.5, None}, frozenset({(1, 2), frozenset()}),
    {}, {"a": {"b": [1]}}, {1: "int", "1": "str", 1.5: "float", None: "none", (1, 2): "tuple"},
    {True: "bool"}, {1.0: 1},
    {"$tuple": [1]}, {"$unknown": 1}, {"$": 0, "a": 1}, {"\ud83d\ude00": 1, "😀": 2}, {math.nan: 1},
    dt.date.min, dt.date.max, dt.datetime.min, dt.datetime.max,  # noqa: DTZ901
    dt.datetime(2024, 2, 29, 12, 30, 15, 999999),  # noqa: DTZ001
    dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN), dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=-1, microseconds=5), "odd")),
    dt.time(1, 2, 3, 4), dt.time(1, fold=1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    dt.timedelta.min, dt.timedelta.max,
    dt.UTC, dt.timezone(dt.timedelta(0), "Zero"), dt.timezone(dt.timedelta(hours=1), "\ud83d\ude00"), BERLIN,
    decimal.Decimal("1.00"), decimal.Decimal("-0"), decimal.Decimal("NaN123"),
    decimal.Decimal("-Infinity"), decimal.Decimal("1E+999999"),
    fractions.Fraction(-1, 3), fractions.Fraction(10**400, 7), uuid.UUID(int=7),
    pathlib.Path("a/../b"), pathlib.Path("/var/\udcff"), pathlib.PurePosixPath("x"),
    pathlib.PureWindowsPath("c:\\x"),
    Color.RED, Color.CRIMSON, Color.BLUE, Outer.Inner.X, Level.LOW, Access.READ, Access(0), Access.BOTH, ~Access.READ,
    Point(1, [2]), Place("home", Point(0, -0.0)), Order(1, ["a"]), Key("k"), {Key("a"): {Color.RED: Point(1, 2)}},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_supported_value_is_restored_exactly(path, value):
    with StateManager(path) as state:
        state.set("key", value)
        assert same(state.get("key"), value)
        state.set("key", [value], metadata={"it": value})
    with StateManager(path) as state:
        assert same(state.get("key"), [value])
        assert same(state.get_metadata("key"), {"it": value})


def test_json_file_is_strict_ascii_json(tmp_path):
    with StateManager(tmp_path / "state.json") as state, state.batch():
        for number, value in enumerate(VALUES):
            if not (isinstance(value, int) and abs(value) > 10**4000):
                state.set(f"\ud800{number}", value)

    def refuse(word):
        raise AssertionError(word)

    text = (tmp_path / "state.json").read_bytes().decode("ascii")
    assert len(json.loads(text, parse_constant=refuse)["entries"]) == len(VALUES) - 1


floats = st.floats() | st.just(-0.0)


texts = st.text(st.characters(exclude_categories=[])) | st.sampled_from(["$x", "\ud83d\ude00"])


zones = (
    st.timezones() | st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))) | st.none()
)


hashable_decimals = st.decimals().filter(lambda number: not number.is_snan())


hashables = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), floats, texts, st.binary(), st.complex_numbers(), st.dates(),
        st.datetimes(timezones=zones), st.times(), st.timedeltas(), hashable_decimals,
        st.fractions(), st.uuids(),
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


values = st.recursive(
    hashables | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(hashables, inner, max_size=4) | st.sets(hashables, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(values)
def test_random_value_is_restored_exactly(value):
    state = StateManager()
    state.set("key", value)
    assert same(state.get("key"), value)


@settings(max_examples=40)
@given(st.sets(hashables, max_size=6))
def test_equal_sets_are_equal_cache_arguments(members):
    asked = []

    @TaskCache()
    def ask(question):
        asked.append(question)

    ask(members)
    turned = list(members)[::-1]
    ask(set(turned))
    assert len(asked) == 1


WRAPPERS = {
    "list": lambda value: [value],
    "tuple": lambda value: (value,),
    "dict": lambda value: {"a": value},
    "int keys": lambda value: {1: value},
    "dataclass": lambda value: Order(1, value),
}


def nested(wrap, depth):
    value = "bottom"
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_value_nested_up_to_the_limit_is_restored(path, wrap):
    with StateManager(path) as state:
        state.set("deep", nested(wrap, MAX_DEPTH))
    with StateManager(path) as state:
        assert state.get("deep") == nested(wrap, MAX_DEPTH)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_value_nested_beyond_the_limit_is_refused(wrap, depth):
    state = StateManager()
    with pytest.raises(UnsupportedValueError, match="nested more than 128 levels deep") as caught:
        state.set("deep", nested(wrap, depth))
    assert len(str(caught.value)) < 500
    assert state.keys() == []


@pytest.mark.parametrize(("depth", "restored"), [(500, True), (100_000, False)])
def test_deep_value_of_an_earlier_version_is_restored_or_refused(tmp_path, depth, restored):
    path = tmp_path / "state.db"
    with StateManager(path) as state:
        state.set("deep", [])
        state.set("other", 1)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE entries SET value = ? WHERE key = 'deep'", ("[" * depth + "]" * depth,))
    with StateManager(path) as state:
        assert state.get("other") == 1
        if restored:
            value, found = state.get("deep"), 1
            while value:
                (value,), found = value, found + 1
            assert found == depth
        else:
            with pytest.raises(RestoreError, match="nested more deeply than the json module of this Python supports"):
                state.get("deep")


def test_value_containing_itself_is_refused():
    state = StateManager()
    circle = [1]
    circle.append({"again": circle})
    with pytest.raises(UnsupportedValueError, match=r"value\[1\]\['again'\] is of type list, and contains itself"):
        state.set("a", circle)
    order = Order(1)
    order.lines.append(order)
    with pytest.raises(UnsupportedValueError, match="contains itself"):
        state.set("a", order)


def test_shared_objects_are_restored_as_equal_copies():
    state = StateManager()
    row = [1]
    state.set("a", [row, row, (row,)])
    assert state.get("a") == [[1], [1], ([1],)]


def test_value_with_exponential_references_is_refused(monkeypatch):
    monkeypatch.setattr("flowkit_state.serialization.json_encoder._MAX_REPEATS", 1000)
    value = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(UnsupportedValueError, match="referenced more than 1,000 times"):
        StateManager().set("a", value)


class MyDict(dict):
    pass


class MyInt(int):
    pass


class Stamp(dt.datetime):
    pass


class Place3(Place):
    pass


@dataclasses.dataclass
class Listing(list):
    name: str = ""


def with_attribute(value, **attributes):
    vars(value).update(attributes)
    return value


def local_class():
    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local()


def generator():
    yield 1


REFUSED = {
    "object": (object(), "object", "cannot be restored exactly"),
    "function": (generator, "function", "cannot be restored exactly"),
    "generator": (generator(), "generator", "cannot be restored exactly"),
    "class": (Order, "type", "cannot be restored exactly"),
    "module": (json, "module", "cannot be restored exactly"),
    "exception": (ValueError("x"), "ValueError", "cannot be restored exactly"),
    "ordered dict": (collections.OrderedDict(a=1), "collections.OrderedDict", "a subclass of dict"),
    "counter": (collections.Counter("a"), "collections.Counter", "a subclass of dict"),
    "my dict": (MyDict(), "MyDict", "a subclass of dict"),
    "my int": (MyInt(1), "MyInt", "a subclass of int"),
    "stamp": (Stamp(2024, 1, 1), "Stamp", "cannot be restored exactly"),
    "zone without a name": (zoneinfo.ZoneInfo.from_file, "method", ""),
    "local class": (local_class(), "Local", "cannot be looked up by its name"),
    "dataclass on a list": (Listing("a"), "Listing", "inherits from a builtin type"),
    "dataclass with more": (with_attribute(Order(1), extra=1), "Order", "has other data than its fields: extra"),
    "named tuple with more": (
        with_attribute(Place3("a", Point(1, 2)), extra=1),
        "Place3",
        "other data than its fields",
    ),
    "memoryview": (memoryview(b"a"), "memoryview", "cannot be restored exactly"),
    "ellipsis": (..., "ellipsis", "cannot be restored exactly"),
}


@pytest.mark.parametrize(("value", "type_name", "reason"), REFUSED.values(), ids=REFUSED)
def test_unsupported_value_is_refused_and_not_stored(make_state, value, type_name, reason):
    state = make_state()
    state.set("key", "old")
    with pytest.raises(UnsupportedValueError) as caught:
        state.set("key", {"rows": [1, (value,)]})
    error = caught.value
    assert error.key == "key"
    assert error.path == "value['rows'][1][0]"
    assert error.type_name.endswith(type_name)
    assert reason in error.reason
    assert str(error).startswith(
        f"cannot store the value of key 'key': value['rows'][1][0] is of type {error.type_name}, "
    )
    assert str(error).endswith(error.hint)
    assert isinstance(error, TypeError)
    assert state.get_all() == {"key": "old"}
    state.set("next", 1)
    assert state.get("next") == 1


def test_refusal_names_path_inside_value():
    state = StateManager()
    cases = {
        "value key (1, <": {(1, object()): 2},
        "value.lines[0]": Order(1, [object()]),
        "value.at[1]": None,
    }
    for start, value in cases.items():
        if value is not None:
            with pytest.raises(UnsupportedValueError) as caught:
                state.set("a", value)
            assert caught.value.path.startswith(start)
    with pytest.raises(UnsupportedValueError) as caught:
        state.set("a", 1, metadata={"conn": object()})
    assert caught.value.path == "metadata['conn']"


def test_refusal_of_numpy_array_suggests_tolist():
    array = type("ndarray", (), {"__module__": "numpy"})()
    with pytest.raises(UnsupportedValueError, match=r"numpy\.ndarray, .*\.tolist\(\)"):
        StateManager().set("a", array)
