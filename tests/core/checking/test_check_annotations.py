"""`Pipeline.check`: annotations along edges that contradict each other, and those that may fit."""

from __future__ import annotations

import abc
import asyncio
import datetime as dt
import decimal
import enum
import functools
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from flowkit_core import DAG, Task

MISSING = object()


class Base:
    pass


class Derived(Base):
    pass


class Other:
    pass


class Color(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Abstract(abc.ABC):
    @abc.abstractmethod
    def run(self) -> int: ...


class Structural(typing.Protocol):
    def run(self) -> int: ...


class Record(typing.TypedDict):
    name: str


class Pair(typing.NamedTuple):
    left: int


class AnyMeta(type):
    def __instancecheck__(cls, value):
        return True


class Everything(metaclass=AnyMeta):
    pass


UserId = typing.NewType("UserId", int)
T = typing.TypeVar("T")


def annotated(returned=MISSING, taken=MISSING, default=MISSING):
    """Return two wired functions of the tasks 'extract' and 'load' with annotations."""

    def extract():
        raise AssertionError("check() calls nothing")

    def load(rows):
        raise AssertionError("check() calls nothing")

    if default is not MISSING:
        load.__defaults__ = (default,)
    if returned is not MISSING:
        extract.__annotations__["return"] = returned
    if taken is not MISSING:
        load.__annotations__["rows"] = taken
    return extract, load


def problems(extract, load, **options):
    first, second = Task(extract, name="rows"), Task(load, name="load", **options)
    first >> second
    return DAG("annotations", tasks=[second]).check()


@pytest.mark.parametrize(
    ("returned", "taken"),
    [
        (int, str),
        (str, int),
        (float, int),
        (list, dict),
        (dict, list),
        (str, bytes),
        (bytes, str),
        (Base, Other),
        (Derived, Other),
        (Color, str),
        (Color, int),
        (Pair, dict),
        (Path, str),
        (dt.datetime, str),
        (None, int),
        (type(None), list),
        (int, None),
        ("int", "str"),
        ("'Base'", "Other"),
        ("Base", Other),
    ],
)
def test_unrelated_plain_classes_are_a_problem(returned, taken):
    if returned == "'Base'":
        returned = "Base"
    (problem,) = problems(*annotated(returned, taken))
    assert (problem.kind, problem.task, problem.error) == ("annotation", "load", None)
    assert "as 'rows', which is annotated" in problem.message
    assert "correct the wrong one of the two annotations" in problem.message
    assert problem.location is not None


@pytest.mark.parametrize(
    ("returned", "taken"),
    [
        (MISSING, int),
        (int, MISSING),
        (int, int),
        (bool, int),
        (Derived, Base),
        (Base, Derived),  # the value may be one
        (int, object),
        (object, int),
        (int, float),
        (int, complex),
        (float, complex),
        (decimal.Decimal, float),
        (Number, int),
        (Number, float),
        (bytearray, bytes),
        (memoryview, bytes),
        (Pair, tuple),
        (tuple, Pair),
        (dt.datetime, dt.date),
        (int, typing.Any),
        (typing.Any, str),
        (int, str | None),
        (int | str, str),
        (typing.Optional[int], str),  # noqa: UP045 - both forms
        (typing.Union[int, bytes], str),  # noqa: UP007
        (list[int], dict),
        (list[int], list[str]),
        (list, dict[str, int]),
        (list[int], Sequence),
        (int, Iterable),
        (Iterable, int),
        (int, Abstract),
        (Abstract, int),
        (Other, Structural),
        (Structural, int),
        (Record, list),
        (dict, Record),
        (UserId, str),
        (int, UserId),
        (T, str),
        (int, T),
        (typing.Literal["a"], int),
        (typing.Annotated[int, "unit"], str),
        (typing.Callable, int),
        (Everything, int),
        (int, Everything),
        (typing.NoReturn, int),
        ("Unknown", "str"),
        ("int", "Unknown"),
        ("int +", "str"),
        ("1 / 0", str),
        ("'int'", "str"),
        (3, str),
        (int, "json"),
    ],
)
def test_annotations_that_may_fit_are_no_problem(returned, taken):
    assert problems(*annotated(returned, taken)) == []


def test_default_of_another_class_is_accepted():
    assert problems(*annotated(None, int, default=None)) == []
    assert problems(*annotated(str, int, default="all")) == []
    assert len(problems(*annotated(str, int, default=0))) == 1


def test_decorated_functions_are_not_compared():
    """A decorator may convert what a function takes and returns, and copies its annotations."""
    extract, load = annotated(int, str)

    def converting(func):
        @functools.wraps(func)
        def wrapper(*args):
            return func(*args)

        return wrapper

    assert len(problems(extract, load)) == 1
    assert problems(converting(extract), load) == problems(extract, converting(load)) == []


def test_other_callables_are_not_compared():
    class Called:
        def __call__(self, rows: str) -> str:
            return rows

    extract, load = annotated(int, str)
    assert problems(extract, Called()) == problems(int, load) == problems(extract, str.upper) == []


def test_methods_and_partials_are_compared():
    class Steps:
        def load(self, rows: str, limit: int) -> None: ...

    extract, _ = annotated(int, str)
    assert len(problems(extract, functools.partial(Steps().load, limit=3))) == 1


def test_async_functions_are_compared():
    async def extract() -> int:
        await asyncio.sleep(0)
        return 1

    assert len(problems(extract, annotated(taken=str)[1])) == 1
    assert problems(extract, annotated(taken=int)[1]) == []


def test_classes_of_enclosing_functions_are_found():
    class Local:
        pass

    def extract() -> Local:
        return Local()

    def load(rows: Local) -> Local:
        return rows

    def wrong(rows: int) -> int:
        return rows

    def unused(rows) -> Local:  # its annotation is a text that cannot be evaluated
        return rows

    assert problems(extract, load) == problems(unused, wrong) == []
    assert len(problems(extract, wrong)) == 1


def test_every_edge_is_compared():
    def a() -> int: ...

    def b() -> str: ...

    def by_name(b: int, a: str) -> None: ...

    def by_order(x: int, y: int) -> None: ...

    def only_keyword(*, a: bytes, b: str = "") -> None: ...

    def rest(x: int, *others: int) -> None: ...

    first, second = Task(a), Task(b)
    sinks = [Task(by_name), Task(by_order), Task(only_keyword), Task(rest)]
    for sink in sinks:
        [first, second] >> sink
    found = DAG("edges", tasks=sinks).check()
    assert [(problem.task, problem.message.split("'")[5]) for problem in found] == [
        ("by_name", "b"),
        ("by_name", "a"),
        ("by_order", "y"),
        ("only_keyword", "a"),
    ]


def test_order_only_edges_are_not_compared():
    def create() -> None: ...

    def load(rows: int = 0) -> None: ...

    loading = Task(load).after(Task(create))
    assert DAG("order", tasks=[loading]).check() == []


def test_none_by_order_is_one_problem():
    def create() -> None: ...

    def load(rows: int) -> None: ...

    Task(create) >> Task(load)
    (problem,) = DAG("none").check()
    assert problem.kind == "binding"
