"""Resuming a run of a pipeline, or with parameters, that have changed."""

from __future__ import annotations

import logging
import pickle
from collections import Counter

import pytest
from durable_tasks import step

from flowkit import DAG, ResumeError, StateError, Task

ETL = """
from flowkit import DAG, task
from durable_tasks import step

RATE = 10
UNUSED = 1


def convert(row):
    return row * RATE


@task
def extract(folder):
    return step(folder, "extract", [1, 2])


@task
def clean(extract, folder):
    return step(folder, "clean", [convert(row) for row in extract])


@task
def audit(extract, folder):
    return step(folder, "audit", len(extract))


@task
def load(clean, audit, folder):
    return step(folder, "load", sum(clean) + audit)


@task
def tidy():
    return None


extract >> [clean, audit] >> load
etl = DAG("etl", tasks=[load])
"""
ETL_RESULTS = {"extract": [1, 2], "clean": [10, 20], "audit": 2, "load": 32}


def fails_at(box, load_module, name, source=ETL):
    """Run the pipeline of a module until a task fails, and repair the task."""
    box.inject(name, "fail")
    results = box.failing_run(load_module(source).etl, params=box.params)
    box.repair(name)
    return results


def edited(*pairs):
    source = ETL
    for old, new in pairs:
        assert old in source
        source = source.replace(old, new)
    return source


def facts(error):
    return {
        "added": tuple(error.added),
        "removed": tuple(error.removed),
        "rewired": tuple(error.rewired),
        "changed": dict(error.changed),
        "params": tuple(error.params),
    }


SAME = {"added": (), "removed": (), "rewired": (), "changed": {}, "params": ()}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (
            [("return row * RATE", "return RATE * row + 0")],
            {"changed": {"clean": ("function etl.convert has changed",)}},
        ),
        ([("RATE = 10", "RATE = 11")], {"changed": {"clean": ("constant etl.RATE has changed",)}}),
        (
            [('"clean", [convert(row)', '"clean", [1 + convert(row)')],
            {"changed": {"clean": ("function etl.clean has changed",)}},
        ),
        (
            [("return row * RATE", "return row + RATE"), ("len(extract)", "1 + len(extract)")],
            {"changed": {"clean": ("function etl.convert has changed",), "audit": ("function etl.audit has changed",)}},
        ),
        ([("[clean, audit] >> load", "[clean, audit] >> load >> tidy"), ("[load]", "[tidy]")], {"added": ("tidy",)}),
        ([("tasks=[load]", "tasks=[clean, audit]")], {"removed": ("load",)}),
        (
            [
                ("load(clean, audit, folder)", "load(clean, folder, audit=2)"),
                ("[clean, audit] >> load", "clean >> load"),
            ],
            {"removed": ("audit",), "rewired": ("load",), "changed": {"load": ("function etl.load has changed",)}},
        ),
        ([("audit, folder):\n", "audit, tidy, folder):\n"), ("audit] >> load", "audit, tidy] >> load")], None),
    ],
    ids=["helper", "constant", "function", "two", "added", "removed", "rewired and removed", "everything"],
)
def test_resume_of_changed_pipeline_raises_and_names_changes(box, load_module, pairs, expected):
    """No task runs, and the unchanged pipeline can still be resumed."""
    first = fails_at(box, load_module, "load")
    ran = box.ran
    with pytest.raises(ResumeError) as caught:
        load_module(edited(*pairs)).etl.run("serial", state=box.db, params=box.params, resume=True)
    error = caught.value
    assert isinstance(error, StateError)
    assert error.run_id == first.run_id
    if expected is not None:
        assert facts(error) == SAME | expected
    else:
        assert (tuple(error.added), tuple(error.rewired)) == (("tidy",), ("load",))
        assert set(error.changed) == {"load"}
    for fact in facts(error).values():
        for name in fact:
            assert name in str(error)
    assert "force" in str(error)
    assert box.ran == ran
    assert facts(pickle.loads(pickle.dumps(error))) == facts(error)
    results = load_module(ETL).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results == ETL_RESULTS
    assert results.run_id == first.run_id
    assert box.ran == [*ran, "load"]


OPTIONS = """
import argparse
import configparser

from flowkit import DAG, ResumeError, task

parser = argparse.ArgumentParser()
parser.add_argument("--fail", action="store_true")
parser.add_argument("--limit", type=int)
parser.add_argument("--rate", default="1")
args = parser.parse_args()
config = configparser.ConfigParser()
config.read_string(f"[etl]\\nrate = {args.rate}")


@task
def extract():
    return args.limit


@task
def clean(extract):
    return extract * config["etl"].getint("rate")


@task
def load(clean):
    if args.fail:
        raise ConnectionError("no route")
    return clean


extract >> clean >> load
try:
    print(DAG("etl", tasks=[load]).run("serial", state="runs.db", resume=True))
except ConnectionError as error:
    print(error)
except ResumeError as error:
    print(error.changed)
"""


def test_resume_of_script_with_changed_argument_raises_if_finished_tasks_read_it(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script(OPTIONS, "--fail", "--limit", 10) == "no route\n"
    assert script(OPTIONS, "--limit", 20) == "{'extract': ('constant script.args.limit has changed',)}\n"
    assert script(OPTIONS, "--limit", 10, "--rate", 2) == "{'clean': ('constant script.config has changed',)}\n"
    assert script(OPTIONS, "--limit", 10) == "{'extract': 10, 'clean': 10, 'load': 10}\n"


def test_inserted_task_is_added_and_rewires_downstream(box):
    a, b = box.task("a"), box.task("b")
    a >> b
    box.inject("b", "fail")
    box.failing_run(DAG("chain", tasks=[b]))
    a, between, b = box.task("a"), box.task("between"), box.task("b")
    a >> between >> b
    with pytest.raises(ResumeError) as caught:
        DAG("chain", tasks=[b]).run("serial", state=box.db, resume=True)
    assert facts(caught.value) == SAME | {"added": ("between",), "rewired": ("b",)}


def test_renamed_task_is_removed_and_added(box):
    box.inject("b", "fail")
    box.failing_run(box.chain("ab"))
    with pytest.raises(ResumeError) as caught:
        box.chain("xb").run("serial", state=box.db, resume=True)
    assert (tuple(caught.value.added), tuple(caught.value.removed)) == (("x",), ("a",))


@pytest.mark.parametrize(
    "pairs",
    [
        [("RATE = 10\n", "RATE = 10  # percent\n\n\n# a comment\n")],
        [("return row * RATE", "return (\n        row\n        * RATE\n    )")],
        [("UNUSED = 1", "UNUSED = 2")],
        [("def tidy():\n    return None", "def tidy():\n    return 1")],
        [("@task\ndef load", "@task(retries=3, delay=0.5)\ndef load")],
        [("extract >> [clean, audit] >> load", "extract >> [clean, audit]\n[clean, audit] >> load\nextract >> clean")],
        [('DAG("etl", tasks', 'DAG("etl", max_workers=3, tasks')],
    ],
    ids=["comments", "format", "unused constant", "unused task", "retries", "same wiring", "workers"],
)
def test_irrelevant_edit_does_not_prevent_resume(box, load_module, pairs):
    fails_at(box, load_module, "load")
    results = load_module(edited(*pairs)).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results == ETL_RESULTS
    assert box.ran == ["extract", "clean", "audit", "load", "load"]


def test_finished_run_does_not_limit_changes(box, load_module):
    load_module(ETL).etl.run("serial", state=box.db, params=box.params)
    source = edited(("RATE = 10", "RATE = 20"))
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results["load"] == 62
    assert set(results.resumed) == set()


def test_force_reuses_results_of_unchanged_tasks(box, load_module):
    first = fails_at(box, load_module, "load")
    source = edited(("RATE = 10", "RATE = 20"))
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == {"extract": [1, 2], "clean": [20, 40], "audit": 2, "load": 62}
    assert results.run_id == first.run_id
    assert set(results.resumed) == {"extract", "audit"}
    assert Counter(box.ran) == {"extract": 1, "audit": 1, "clean": 2, "load": 2}
    (record,) = box.records()
    assert record.status == "succeeded"
    assert record.tasks["clean"].result() == [20, 40]


def test_force_runs_downstream_of_changed_task(box, load_module):
    fails_at(box, load_module, "load")
    source = edited(("[1, 2])", "[1, 2, 3])"))
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == {"extract": [1, 2, 3], "clean": [10, 20, 30], "audit": 3, "load": 63}
    assert set(results.resumed) == set()


def test_force_with_added_and_removed_tasks(box, load_module):
    fails_at(box, load_module, "load")
    source = edited(
        ("load(clean, audit, folder)", "load(clean, folder, audit=2)"),
        ("[clean, audit] >> load", "clean >> load >> tidy"),
        ("[load]", "[tidy]"),
    )
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == {"extract": [1, 2], "clean": [10, 20], "load": 32, "tidy": None}
    assert set(results.resumed) == {"extract", "clean"}
    again = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert again.run_id != results.run_id, "the run of the changed pipeline is finished"


def test_forced_run_that_failed_is_resumed_as_changed_pipeline(box, load_module):
    fails_at(box, load_module, "load")
    source = edited(("RATE = 10", "RATE = 20"))
    box.inject("load", "fail")
    box.failing_run(load_module(source).etl, params=box.params, resume="force")
    box.repair("load")
    ran = box.ran
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results == {"extract": [1, 2], "clean": [20, 40], "audit": 2, "load": 62}
    assert box.ran == [*ran, "load"]


def test_force_of_unchanged_pipeline_resumes(box, load_module):
    fails_at(box, load_module, "load")
    results = load_module(ETL).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == ETL_RESULTS
    assert set(results.resumed) == {"extract", "clean", "audit"}


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


def test_resume_with_changed_params_raises(box):
    pipeline = scaled_pipeline(box)
    box.inject("last", "fail")
    first = box.failing_run(pipeline, params={"factor": 10})
    box.repair("last")
    with pytest.raises(ResumeError) as caught:
        pipeline.run("serial", state=box.db, params={"factor": 11}, resume=True)
    assert facts(caught.value) == SAME | {"params": ("factor",)}
    assert "factor" in str(caught.value)
    results = pipeline.run("serial", state=box.db, params={"factor": 10}, resume=True)
    assert results == {"base": 2, "scale": 20, "last": 21}
    assert results.run_id == first.run_id
    assert box.ran == ["base", "scale", "last", "last"]


def test_force_with_changed_params_runs_tasks_that_take_them(box):
    pipeline = scaled_pipeline(box)
    box.inject("last", "fail")
    box.failing_run(pipeline, params={"factor": 10})
    box.repair("last")
    results = pipeline.run("serial", state=box.db, params={"factor": 100}, resume="force")
    assert results == {"base": 2, "scale": 200, "last": 201}
    assert "scale" not in results.resumed
    assert "base" in results.resumed


def test_unstorable_params_do_not_fail_run(box):
    class Connection:
        pass

    folder = box.folder

    def use(connection):
        return step(folder, "use", type(connection).__name__)

    def last(use):
        return step(folder, "last", use.lower())

    first, second = Task(use), Task(last)
    first >> second
    pipeline = DAG("connection", tasks=[second])
    box.inject("last", "fail")
    box.failing_run(pipeline, params={"connection": Connection()})
    box.repair("last")
    assert box.records()[0].params.keys() == {"connection"}
    results = pipeline.run("serial", state=box.db, params={"connection": Connection()}, resume="force")
    assert results == {"use": "Connection", "last": "connection"}


UNSEEN = """
from flowkit import DAG, task
from durable_tasks import step

rows, other, ours = iter([1]), iter([2]), None


def source():
    global ours
    ours = ours or iter([3])
    return rows


@task
def extract(folder):
    return step(folder, "extract", source() is None)


@task
def clean(extract, folder):
    return step(folder, "clean", rows is None)


@task
def load(clean, folder):
    return step(folder, "load", other is None)


extract >> clean >> load
etl = DAG("etl", tasks=[load])
"""


def test_values_that_cannot_be_compared_are_logged_once_per_resume(box, load_module, caplog):
    """Only those that resumed tasks read."""

    def run(fails, **options):
        box.inject(fails, "fail")
        caplog.clear()
        results = box.failing_run(load_module(UNSEEN).etl, params=box.params, **options)
        box.repair(fails)
        return results.run_id, [record.getMessage() for record in caplog.records if record.name == "flowkit.state"]

    with caplog.at_level(logging.WARNING, "flowkit.state"):
        assert run("extract", resume=True)[1] == []
        assert run("load", resume=True)[1] == []
        run_id, messages = run("load", resume=True)
        (sentence,) = messages
        assert sentence == (
            f"Run {run_id} of 'etl' reuses recorded results of tasks that read values which cannot be compared with "
            "those of the earlier process: constant etl.rows is of type list_iterator. If one of them has changed, "
            "start a new run with resume=False."
        )
        assert run("load", resume=True)[1] == []
