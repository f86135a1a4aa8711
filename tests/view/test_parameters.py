"""Conversion of `-p name=value` by annotations and defaults."""

from __future__ import annotations

import enum
import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import pytest

from flowkit_core import DAG, Task
from flowkit_view.command_line.parameters import UnsupportedAnnotationError, convert, parse_parameters
from flowkit_view.command_line.usage_error import UsageError


class Color(enum.Enum):
    RED = 1
    BLUE = 2


Region = typing.NewType("Region", str)


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", None, "3"),
        ("3", "NotDefined", "3"),
        ("3", typing.Any, "3"),
        ("3", int, 3),
        ("1e-3", float, 0.001),
        ("3", Decimal, Decimal(3)),
        ("yes", bool, True),
        ("False", bool, False),
        ("2026-11-29", date, date(2026, 11, 29)),
        ("2026-11-29T08:00", datetime, datetime(2026, 11, 29, 8)),  # noqa: DTZ001 - it has no time zone either
        ("1.5h", timedelta, timedelta(minutes=90)),
        ("a/b", Path, Path("a/b")),
        ("12345678123456781234567812345678", UUID, UUID(int=0x12345678123456781234567812345678)),
        ("RED", Color, Color.RED),
        ("2", Color, Color.BLUE),
        ("3", int | None, 3),
        ("none", int | None, None),
        ("x", int | str, "x"),
        ("3", str | int, 3),
        ("b", Literal["a", "b"], "b"),
        ("2", Literal[1, 2], 2),
        ("north", Region, "north"),
        ("3", Annotated[int, "seconds"], 3),
        ("a,b", list[str], ["a", "b"]),
        ("1,2", tuple[int, ...], (1, 2)),
        ("a,2", tuple[str, int], ("a", 2)),
        ("[1, 2.5]", Sequence[float], [1.0, 2.5]),
        ("", list[int], []),
        ("1,1", set[int], {1}),
        ("a,b", list, ["a", "b"]),
        ('{"a": 1}', dict[str, int], {"a": 1}),
        ('{"a": 1}', Mapping, {"a": 1}),
    ],
)
def test_text_is_converted_by_annotation(text, annotation, value):
    converted = convert(text, annotation)
    assert (converted, type(converted)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("x", int),
        ("maybe", bool),
        ("29.11.2026", date),
        ("GREEN", Color),
        ("c", Literal["a", "b"]),
        ("x", int | None),
        ("[1", list[int]),
        ("{}", list[int]),
        ("[1]", dict),
        ("1,2,3", tuple[int, int]),
        ("soon", timedelta),
        ("x", Decimal),
    ],
)
def test_text_of_other_type_is_usage_error(text, annotation):
    def run(value):
        pass

    run.__annotations__["value"] = annotation
    with pytest.raises(UsageError, match="is not of type"):
        parse_parameters(DAG("etl", tasks=[Task(run)]), [f"value={text}"])


def test_type_without_text_form_is_usage_error():
    with pytest.raises(UnsupportedAnnotationError, match="has no text form"):
        convert("x", DAG)


def test_type_of_default_counts_without_annotation():
    def run(limit=10, verbose=False, name=None):
        pass

    params = parse_parameters(DAG("etl", tasks=[Task(run)]), ["limit=3", "verbose=on", "name=7"])
    assert params == {"limit": 3, "verbose": True, "name": "7"}


def test_parameter_of_one_task():
    def one(limit: int):
        pass

    def two(limit: int):
        pass

    dag = DAG("etl", tasks=[Task(one), Task(two)])
    assert parse_parameters(dag, ["one.limit=1", "limit=2"]) == {"one.limit": 1, "limit": 2}
    with pytest.raises(UsageError, match="'limit' is missing, which 'two' takes"):
        parse_parameters(dag, ["one.limit=1"])


def test_value_may_contain_equals_sign():
    def run(query: str):
        pass

    assert parse_parameters(DAG("etl", tasks=[Task(run)]), ["query=a=b"]) == {"query": "a=b"}


def train(lr: float, name: str = "run"):
    return lr, name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr=0.1,0.01", [0.1, 0.01]),
        ("lr=[0.1, 1]", [0.1, 1.0]),
        ("lr=0.1", [0.1]),
        ("lr=", []),
        ("train.lr=1,2", [1.0, 2.0]),
    ],
)
def test_mapped_parameter_is_a_list_of_elements(text, value):
    dag = DAG("sweep", tasks=[Task(train).map("lr")])
    params = parse_parameters(dag, [text, "name=a,b"])
    assert params == {text.partition("=")[0]: value, "name": "a,b"}
    assert dag.run("serial", params=params)["train"] == [(lr, "a,b") for lr in value]


def test_elements_without_annotation_have_the_type_of_those_of_the_default():
    dag = DAG("sweep", tasks=[Task(lambda x=(1, 2): x, name="each").map("x"), Task(lambda y: y, name="other").map("y")])
    assert parse_parameters(dag, ["x=3,4", "y=3,4"]) == {"x": [3, 4], "y": ["3", "4"]}


def test_parameter_of_a_task_that_is_not_mapped_is_one_value():
    dag = DAG("sweep", tasks=[Task(train).map("lr"), Task(train, name="whole")])
    assert parse_parameters(dag, ["whole.lr=0.1", "train.lr=0.1"]) == {"whole.lr": 0.1, "train.lr": [0.1]}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["lr=a,b"], "-p lr='a,b' is not a list of float, over which 'train' is mapped: could not convert"),
        (["lr=[1"], "write a,b or JSON"),
        ([], "the parameter 'lr' is missing, which 'train' takes: give -p lr=a,b"),
    ],
)
def test_error_of_a_mapped_parameter_shows_the_form_of_lists(texts, words):
    with pytest.raises(UsageError) as caught:
        parse_parameters(DAG("sweep", tasks=[Task(train).map("lr")]), texts)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [
        ((0.01, 0.1), "0.1,0.2", (0.1, 0.2)),
        ([1], "3,4", [3, 4]),
        ({1}, "[2]", {2}),
        ((1, 0.5), "1,0.2", (1.0, 0.2)),
        ((), "a,1", ("a", "1")),
        ({"a": 1}, '{"b": "2"}', {"b": 2}),
        ({"a": 1, "b": "c"}, '{"b": 2}', {"b": 2}),
    ],
)
def test_items_are_converted_by_those_of_the_default(default, text, value):
    dag = DAG("d", tasks=[Task(lambda grid=default: grid, name="t")])
    assert parse_parameters(dag, [f"grid={text}"]) == {"grid": value}


def test_keys_and_values_of_a_mapping_are_converted_by_its_annotation():
    assert convert('{"1": "2"}', dict[int, int]) == {1: 2}
    assert convert('{"a": [1]}', Mapping[str, typing.Any]) == {"a": [1]}
    with pytest.raises(ValueError, match="invalid literal"):
        convert('{"a": "x"}', dict[str, int])
