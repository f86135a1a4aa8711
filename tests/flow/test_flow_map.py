"""Mapped tasks in flows: `Flow.map`, and views given to `add`, `branch` and `merge`."""

from __future__ import annotations

import pytest

from flowkit_core import DuplicateTaskError, MappingTypeError, Task, TaskOptionError
from flowkit_flow import Flow


@pytest.fixture
def words():
    return Task(lambda: ["to", "be"], name="words")


@pytest.fixture
def size():
    return Task(lambda word: len(word), name="size")


def test_map_calls_the_task_for_each_element_of_the_previous_result(words, size):
    total = Task(lambda sizes: sum(sizes), name="total")
    results = Flow("count").add(words).map(size).add(total).run("serial")
    assert results == {"words": ["to", "be"], "size": [2, 2], "total": 4}


def test_maps_in_a_row_are_element_wise(words, size):
    double = Task(lambda number: 2 * number, name="double")
    assert Flow("chain").add(words).map(size).map(double).run("serial")["double"] == [4, 4]


def test_map_over_names_an_earlier_task(words, size):
    prefix = Task(lambda words: ">", name="prefix")
    results = Flow("over").add(words).add(prefix).map(size, over="words").run("serial")
    assert results["size"] == [2, 2]


def test_map_over_several_tasks_pairs_their_elements(words):
    numbers, last = Task(lambda words: [1, 2], name="numbers"), Task(lambda numbers: None, name="last")
    repeat = Task(lambda words, numbers: words * numbers, name="repeat")
    flow = Flow("pairs").add(words).add(numbers).add(last).map(repeat, over=["words", "numbers"])
    assert flow.run("serial")["repeat"] == ["to", "bebe"]


def test_views_are_accepted_by_add_branch_and_merge(words, size):
    upper = Task(lambda word: word.upper(), name="upper")
    join = Task(lambda size, upper: f"{upper}{size}", name="join")
    flow = Flow("views").add(words).branch(size.map(), upper.map()).merge(join.map())
    assert flow.run("serial")["join"] == ["TO2", "BE2"]


def test_options_of_map(words):
    def check(word):
        if word == "to":
            raise ValueError(word)
        return word

    flow = Flow("options").add(words).map(Task(check, name="check"), errors="drop", limit=1, label=str, chunk=1)
    results = flow.run("serial")
    assert results["check"] == ["be"]
    assert list(results.failed) == ["check[0]"]


def test_copy_of_a_flow_keeps_its_mapped_tasks(words, size):
    import copy

    flow = Flow("original").add(words).map(size)
    assert copy.copy(flow).run("serial") == flow.run("serial") == {"words": ["to", "be"], "size": [2, 2]}


def test_unknown_name_in_over_is_an_error(words, size):
    with pytest.raises(ValueError, match=r"map\(size, over='wrods'\) names 'wrods', but no earlier task .*'words'"):
        Flow("typo").add(words).map(size, over="wrods")


def test_wrong_arguments_of_map_are_errors(words, size):
    flow = Flow("wrong").add(words)
    with pytest.raises(TypeError, match=r"map\(\) got size\.map\(\): write map\(size\), or add\(\) it"):
        flow.map(view := size.map())
    flow.add(view)
    with pytest.raises(TypeError, match=r"map\(\) got .*not a task"):
        flow.map(len)
    with pytest.raises(DuplicateTaskError):
        flow.map(words)
    with pytest.raises(TaskOptionError, match="limit"):
        flow.map(Task(str, name="text"), limit=0)


def test_result_that_cannot_be_mapped_is_an_error(size):
    text = Task(lambda: "text", name="text")
    with pytest.raises(MappingTypeError, match="'size' cannot be mapped"):
        Flow("text").add(text).map(size).run("serial")
