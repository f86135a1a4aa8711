"""The parameters identify the run that is resumed."""

from __future__ import annotations

import argparse
import re
import warnings
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from durable_tasks import step

from flowkit import DAG, Task


def scaled_pipeline(box):
    folder = box.folder

    def base():
        return step(folder, "base", 2)

    def scale(base, factor):
        return step(folder, "scale", base * factor)

    def last(scale):
        return step(folder, "last", scale + 1)

    tasks = [Task(base), Task(scale), Task(last)]
    tasks[0] >> tasks[1] >> tasks[2]
    return DAG("scaled", tasks=tasks[2:])


def compared(box):
    """Return a pipeline of two tasks, of which the first takes a parameter of the run."""

    def first(value):
        return step(box.folder, "first", 1)

    def last(first):
        return step(box.folder, "last", 2)

    tasks = [Task(first), Task(last)]
    tasks[0] >> tasks[1]
    return DAG("compared", tasks=tasks[1:])


def test_resume_with_other_params_starts_run_of_its_own(box):
    """Each continues the run with the same parameters."""
    pipeline = scaled_pipeline(box)
    box.inject("last", "fail")
    first = box.failing_run(pipeline, params={"factor": 10}, resume=True)
    second = box.failing_run(pipeline, params={"factor": 11}, resume=True)
    assert second.run_id != first.run_id
    box.repair("last")
    for mode, factor, before in (("strict", 10, first), ("force", 11, second)):
        results = pipeline.run("serial", state=box.db, params={"factor": factor}, resume=mode)
        assert results == {"base": 2, "scale": 2 * factor, "last": 2 * factor + 1}
        assert results.run_id == before.run_id
        assert set(results.resumed) == {"base", "scale"}
    assert [record.status for record in box.records()] == ["succeeded", "succeeded"]
    assert pipeline.run("serial", state=box.db, params={"factor": 10}, resume=True).resumed == ()


@pytest.mark.parametrize(
    ("recorded", "given"), [(date(2026, 11, 29), "2026-11-29"), ("2026-11-29", date(2026, 11, 29)), (5, "5")]
)
def test_unfinished_run_with_params_of_other_types_is_named(box, recorded, given):
    """Once there is a run with the given ones, no more."""
    folder = box.folder
    pipeline = DAG("nightly", tasks=[Task(lambda day, limit: step(folder, "load", 1), name="load")])
    box.inject("load", "fail")
    first = box.failing_run(pipeline, params={"day": recorded, "limit": 1}, resume=True)
    kinds = f"'day' is of type {type(recorded).__name__} there and {type(given).__name__} here"
    with pytest.warns(RuntimeWarning, match=f"starts a new run, although run '{first.run_id}' did not finish") as found:
        box.failing_run(pipeline, params={"day": given, "limit": 1}, resume=True)
    assert kinds in str(found[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        box.failing_run(pipeline, params={"day": given, "limit": 1}, resume=True)
        box.failing_run(pipeline, params={"day": given, "limit": 2}, resume=True)
        box.failing_run(pipeline, params={"day": recorded, "limit": 1}, resume=True)


class Connection:
    """A class whose instances cannot be compared."""


@dataclass
class Window:
    first: date
    last: date


class Text(str):
    __slots__ = ("more",)


def pattern_of(text):
    return argparse.Namespace(day=text, limits=(1, Window(date(2026, 11, 1), date(2026, 11, 30))))


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda: "2026-11-30", "2026-11-29"),
        (lambda: date(2026, 11, 30), "2026-11-30"),
        (lambda: 1, True),
        (lambda: [1, {"a": (2, None)}], [1, {"a": [2, None]}]),
        (lambda: float("nan"), None),
        (lambda: Path("a"), "a"),
        (lambda: pattern_of("a"), pattern_of("b")),
        (lambda: Window(date(2026, 1, 1), date(2026, 1, 2)), Window(date(2026, 1, 1), date(2026, 1, 3))),
    ],
    ids=["text", "date", "int", "nested", "nan", "path", "namespace", "dataclass"],
)
def test_params_are_compared_by_content_and_type(box, recwarn, make, other):
    pipeline = compared(box)
    box.inject("last", "fail")
    begun = box.failing_run(pipeline, params={"value": make()}, resume=True)
    assert box.failing_run(pipeline, params={"value": other}, resume=True).run_id != begun.run_id
    box.repair("last")
    results = pipeline.run("serial", state=box.db, params={"value": make()}, resume=True)
    assert (results.run_id, results.resumed) == (begun.run_id, ("first",))
    assert [warned for warned in recwarn if "params with the same texts" not in str(warned.message)] == []


@pytest.mark.parametrize("mode", [True, "strict", "force"])
@pytest.mark.parametrize(
    ("value", "description"),
    [
        (Connection(), r"'value' is of type \S*Connection\."),
        ([{"a": Connection()}], r"'value' contains a \S*Connection\."),
        (Text("2026-11-30"), r"'value' is of type \S*Text\."),
        (iter([1]), r"'value' is of type list_iterator\."),
    ],
    ids=["object", "nested", "subclass of str", "iterator"],
)
def test_params_that_cannot_be_compared_start_new_run_with_warning(box, mode, value, description):
    pipeline = compared(box)
    box.inject("last", "fail")
    begun = box.failing_run(pipeline, params={"value": value})
    box.repair("last")
    assert box.records()[0].params.keys() == {"value"}
    with pytest.warns(RuntimeWarning, match="starts a new run") as caught:
        results = pipeline.run("serial", state=box.db, params={"value": value}, resume=mode)
    (warning,) = caught
    assert "'compared' starts a new run, because these params cannot be compared" in str(warning.message)
    assert re.search(description, str(warning.message))
    assert warning.filename == __file__
    assert results.run_id != begun.run_id
    assert (results, results.resumed) == ({"first": 1, "last": 2}, ())


def test_resume_in_a_folder_that_does_not_exist_warns_and_starts_a_new_run(tmp_path, recwarn):
    """The folder may be misspelt."""
    pipeline = DAG("folders", tasks=[Task(lambda: 1, name="one")])
    path = tmp_path / "recrods" / "runs.db"
    pipeline.run("serial", state=tmp_path / "plain" / "runs.db")
    assert not recwarn.list
    with pytest.warns(RuntimeWarning, match="starts a new run, because the folder .*recrods.* did not exist"):
        pipeline.run("serial", state=path, resume=True)
    pipeline.run("serial", state=path, resume=True)
    assert not recwarn.list
