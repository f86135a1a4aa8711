"""Arguments of calls are compared by content and type."""

from __future__ import annotations

import argparse
import array
import collections
import configparser
import dataclasses
import enum
import functools
import inspect
import io
import itertools
import pickle
import string
import sys
import threading
import types
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_state import UnsupportedValueError
from flowkit_state.fingerprint import argument_digest, changes, input_components, key


@dataclasses.dataclass
class Row:
    a: object
    b: int = 2

    def total(self):
        return helper(self.a)


class Color(enum.Enum):
    RED = 1


class Pair(typing.NamedTuple):
    a: int
    b: int


class Handle:
    """It may stand for anything."""


def helper(x):
    return x


def parsed(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser


def given_to(function, *args, **kwargs):
    signature = inspect.signature(function)
    return input_components(signature, signature.bind(*args, **kwargs).arguments)


def test_inputs_are_named_by_parameter_with_defaults():
    def f(a, b=2, *rest, c=3, **more): ...

    assert sorted(given_to(f, 1)) == ["fingerprint format", "input a", "input b", "input c", "input more", "input rest"]
    assert given_to(f, 1) == given_to(f, a=1, b=2, c=3)
    assert changes(given_to(f, 1), given_to(f, 2, 2, c=4)) == ["input 'a' has changed", "input 'c' has changed"]
    signature = inspect.signature(f)
    assert sorted(input_components(signature, {"a": 1}, ignore=("b", "more"))) == [
        "fingerprint format",
        "input a",
        "input c",
        "input rest",
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.integers() | st.text())
        | st.builds(Row, inner)
    ),
)


@given(values, values)
def test_inputs_are_compared_by_content_and_type(a, b):
    from flowkit_state.serialization.json_encoder import encode

    def f(x): ...

    assert (key(given_to(f, a)) == key(given_to(f, b))) == (
        encode(a) == encode(b) and repr(encode(a)) == repr(encode(b))
    )


def test_shared_and_equal_parts_of_inputs_are_the_same():
    row, same = [1], [1]
    assert given_to(helper, [row, row]) == given_to(helper, [row, same])
    deep = [1]
    for _ in range(12):
        deep = [deep, deep]
    assert given_to(helper, deep) == given_to(helper, deep)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (array.array("i", [1, 2]), array.array("i", [1, 3])),
        (array.array("i", [1, 2]), array.array("h", [1, 2])),
        (collections.deque([1]), [1]),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list), collections.defaultdict(set)),
        (functools.partial(helper, 1), functools.partial(helper, 2)),
        (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
        (argparse.Namespace(a=[argparse.Namespace(b=1)]), argparse.Namespace(a=[argparse.Namespace(b=2)])),
        (argparse.Namespace(a=1), types.SimpleNamespace(a=1)),
        (string.Template("$a"), string.Template("$b")),
        (collections.UserDict(a=1), collections.UserDict(a=2)),
        (collections.ChainMap({"a": 1}), collections.ChainMap({"a": 2})),
        (parsed("[a]\nb = 1"), parsed("[a]\nb = 2")),
        (parsed("[a]\nb = 1")["a"], parsed("[a]\nb = 2")["a"]),
        (Row(1), Row(True)),
        (Pair(1, 2), (1, 2)),
        (Color.RED, 1),
        (helper, given_to),
    ],
)
def test_input_of_type_that_no_store_supports_is_compared(a, b):
    assert given_to(helper, a) == given_to(helper, a)
    assert given_to(helper, a)["input x"] != given_to(helper, b)["input x"]


def test_class_of_input_is_a_component():
    name = f"{__name__}."
    assert {f"class {name}Row", f"function {name}Row.total", f"function {name}helper"} <= set(
        given_to(helper, [Row(1)])
    )
    assert f"class {name}Color" in given_to(helper, {"a": Color.RED})
    assert f"class {name}Pair" in given_to(helper, Pair(1, 2))


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Handle(),
        threading.Lock(),
        sys.stdout,
        iter([]),
        (x for x in ()),
        threading.Thread(),
        argparse.ArgumentParser(),
        io.StringIO(),
        itertools.count(),
    ],
)
def test_opaque_input_is_refused_with_its_place(value):
    with pytest.raises(UnsupportedValueError, match=r"argument \"x\"\['a'\]\[0\] is of type"):
        given_to(helper, {"a": [value]})


def test_opaque_default_as_input_is_accepted():
    missing = object()

    def f(x=missing): ...

    assert given_to(f) == given_to(f, missing)


class Elsewhere:
    """A handle of the protocol of flowkit-core: an argument that is in another process, with the digest made there."""

    __flowkit_handle__ = True

    def __init__(self, value, digest=None):
        self.value, self.digest = value, digest
        self.fetched = 0

    def fetch(self):
        self.fetched += 1
        return self.value


@pytest.mark.parametrize(
    "value", [3, "ä", None, [1, [2]], {"a": 1.5}, Row(1, 2), [Row(Color.RED)], Pair(1, 2), range(3), b"x" * 100]
)
def test_digest_of_an_argument_that_is_elsewhere_is_that_of_the_value(value):
    def f(a, *rest, **more):
        pass

    places = [Elsewhere(value, pickle.loads(pickle.dumps(argument_digest(value)))) for _ in range(3)]
    assert given_to(f, places[0], 1, places[1], b=places[2]) == given_to(f, value, 1, value, b=value)
    assert [place.fetched for place in places] == [0, 0, 0]


def test_values_without_a_digest_are_fetched():
    def f(a):
        pass

    assert argument_digest(Handle()) is None
    place = Elsewhere(Row(1), None)
    assert given_to(f, place) == given_to(f, Row(1))
    assert place.fetched == 1


@pytest.mark.parametrize(
    "change",
    [
        {"format": "1"},
        {"packages": {"package steps": "1.0"}},
        {"code": [("class steps.Row", "steps", "Row")]},
        {"code": [("function steps.Row", Row.__module__, "Row")]},
        {"code": [("class steps.Row", Row.__module__, "Row")]},
    ],
    ids=["format", "package", "not imported", "not a function", "another name"],
)
def test_digests_that_refer_to_what_is_not_the_same_here_are_not_used(change):
    def f(a):
        pass

    made = argument_digest(Row(1))
    for name, value in change.items():
        setattr(made, name, value)
    place = Elsewhere(Row(1), made)
    assert given_to(f, place) == given_to(f, Row(1))
    assert place.fetched == 1
