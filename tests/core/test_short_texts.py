"""Elements in messages: their values are shortened, whatever they are, without looking at all of them."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Task


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


class Counting:
    """Counts how often it is represented."""

    def __init__(self):
        self.count = 0

    def __repr__(self):
        self.count += 1
        return "item"


def note_of(element):
    """Return the note about an element for which a task has failed."""

    def each(x):
        raise ValueError("bad")

    task = Task(each)
    with pytest.raises(ValueError, match="bad") as raised:
        DAG("sweep", tasks=[task.map("x")]).run("serial", params={"x": [element]})
    (note,) = [note for note in raised.value.__notes__ if "element each[0]" in note]
    return note.removeprefix("flowkit: element each[0] is ")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value, value]
    return value


def own_container():
    value = [1]
    value.append(value)
    return value


@pytest.mark.parametrize(
    "element",
    [
        [],
        (1,),
        {"id": 3, "tags": ("a", {"b"}), "none": None},
        [frozenset({1}), set(), {}],
        own_container(),
        {"text": 'it\'s "quoted"', b"key": 1.5},
    ],
)
def test_short_value_is_shown_as_it_is(element):
    assert note_of(element) == repr(element)


@pytest.mark.parametrize(
    "element",
    [
        list(range(1000)),
        tuple("abc" * 100),
        {number: str(number) for number in range(1000)},
        "x" * 1000,
        b"y" * 1000,
        [["z" * 1000], {"key": list(range(100))}],
        {"first": nested(6), "last": list(range(30))},
    ],
)
def test_long_value_is_shown_with_its_beginning_and_its_end(element):
    text = repr(element)
    assert note_of(element) == f"{text[:60]}...{text[-16:]}"


def test_value_that_is_nested_very_deeply_is_shown_with_its_beginning():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert note_of(deep) == f"{'[' * 60}...{']' * 16}"
    assert note_of(nested(200)).startswith("[" * 60)


def test_only_the_parts_that_are_shown_are_looked_at():
    item = Counting()
    assert note_of([item] * 100_000).startswith("[item, item, ")
    assert 0 < item.count < 100


def test_value_that_cannot_be_shown_is_named_by_its_type():
    assert note_of(Unprintable()) == "<unprintable Unprintable>"
    assert note_of([1, Unprintable()]) == "[1, <unprintable Unprintable>]"
    assert note_of({"row": 10**10_000}) == "{'row': <unprintable int>}"
