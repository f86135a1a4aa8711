"""Elements without a value, inputs that are not read to their end, and odd arguments and exceptions."""

from __future__ import annotations

import logging

import pytest

from flowkit_core import DAG, Skip, Task


class Rows:
    """An iterable that has no length and is not an iterator."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Unequal(list):
    """A list that compares element by element, as arrays do."""

    __hash__ = None

    def __eq__(self, other):
        return Unequal([each == other for each in self])

    def __bool__(self):
        raise ValueError("the truth value of an array is ambiguous")


def test_default_does_not_replace_a_failed_element():
    def parse(row):
        if row == 2:
            raise ValueError(row)
        return row

    fetch, parsed = Task(lambda: [1, 2, 3], name="fetch"), Task(parse, name="parse")
    clean, total = Task(lambda row=-1: row, name="clean"), Task(lambda rows: rows, name="total")
    fetch >> parsed.map() >> clean.map() >> total
    results = DAG("failed", tasks=[total]).run("serial", fail_fast=False, raise_on_failure=False)
    assert results == {"fetch": [1, 2, 3]}
    assert results.states["clean"] == results.states["total"] == "upstream_failed"


def test_iterable_without_length_is_passed_to_other_takers():
    rows, each = Task(lambda: Rows([1, 2]), name="rows"), Task(lambda row: row, name="each")
    other = Task(lambda rows: list(rows), name="other", priority=-1)
    rows >> [each.map(), other]
    results = DAG("rows", tasks=[each, other]).run("serial")
    assert (results["each"], results["other"]) == ([1, 2], [1, 2])


def test_map_whose_input_was_not_read_to_its_end_is_cancelled():
    def endless():
        number = 0
        while True:
            yield number
            number += 1

    def fail_later(row):
        if row == 50:
            raise ValueError(row)
        return row

    rows, each = Task(endless, name="rows"), Task(fail_later, name="each")
    rows >> each.map()
    results = DAG("endless", tasks=[each]).run("serial", raise_on_failure=False)
    assert results.states["each"] in ("failed", "cancelled")
    assert "each" not in results


def test_arguments_are_not_compared():
    config, rows = Task(lambda: Unequal([1, 2]), name="config"), Task(lambda: [1, 2], name="rows")
    score = Task(lambda config, row: sum(config) * row, name="score")
    [config, rows] >> score.map("row")
    assert DAG("arrays", tasks=[score]).run("serial")["score"] == [3, 6]


def test_list_that_changes_while_it_is_mapped():
    def take(rows):
        rows.clear()

    rows, each = Task(lambda: [1, 2, 3], name="rows"), Task(lambda row: row, name="each")
    taker = Task(take, name="taker", priority=1)
    rows >> [each.map(), taker]
    results = DAG("changing", tasks=[each, taker]).run("serial", fail_fast=False)
    assert results["each"] in ([1, 2, 3], [])


def test_skip_in_an_iterator_is_an_error():
    def skip():
        raise Skip("nothing")
        yield

    rows, each = Task(skip, name="rows"), Task(lambda row: row, name="each")
    rows >> each.map()
    with pytest.raises(TypeError, match=r"iterator of task 'rows' raised Skip\('nothing'\)"):
        DAG("skip", tasks=[each]).run("serial")


def test_mapped_clean_up_task_runs_after_a_failure():
    rows, bad = Task(lambda: [1, 2, 3], name="rows"), Task(lambda: 1 / 0, name="bad", priority=-1)
    clean = Task(lambda row: row, name="clean", trigger="all_done")
    rows >> clean.map()
    clean.after(bad)
    results = DAG("clean", tasks=[clean]).run("serial", raise_on_failure=False)
    assert results["clean"] == [1, 2, 3]
    assert list(results.failed) == ["bad"]


class Unreadable(Exception):
    """An exception whose attributes, its class included, cannot be read."""

    def __getattribute__(self, name):
        raise RuntimeError(name)


def test_odd_exception_of_an_element_fails_only_the_element():
    def odd(row):
        if row:
            raise Unreadable
        return row

    rows, odd = Task(lambda: [0, 1], name="rows"), Task(odd)
    rows >> odd.map(errors="drop")
    results = DAG("etl", tasks=[odd]).run("serial")
    assert results["odd"] == [0]
    assert type(results.failed["odd[1]"]) is Unreadable


def test_first_element_that_is_left_out_is_printed_where_no_handler_takes_it(monkeypatch, capsys):
    """The others are in the results."""
    monkeypatch.setattr(logging.getLogger("flowkit"), "propagate", False)
    parse = Task(lambda x: int(x), name="parse")
    results = DAG("d", tasks=[parse.map("x", errors="drop")]).run("serial", params={"x": ["1", "a", "b", "4"]})
    assert results["parse"] == [1, 4]
    assert capsys.readouterr().err == (
        'flowkit: Element "parse[1]" failed after 1 attempt, and is left out: ValueError: invalid literal for int() '
        "with base 10: 'a' (Others that fail are not printed; results.failed has all of them.)\n"
    )


@pytest.mark.parametrize(("ended", "state"), [("failed", "upstream_failed"), ("skipped", "skipped")])
def test_map_over_nothing_ends_like_its_upstream(ended, state):
    def source():
        raise ValueError("no") if ended == "failed" else Skip("no")

    source, work = Task(source), Task(lambda number=0: number, name="work", trigger="all_done")
    source >> work.map("number")
    results = DAG("nothing", tasks=[work]).run("serial", raise_on_failure=False)
    assert results.states == {"source": ended, "work": state}
