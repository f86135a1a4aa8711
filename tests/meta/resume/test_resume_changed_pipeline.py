"""Resuming a run of a pipeline that has changed."""

from __future__ import annotations

import logging
import pickle
from collections import Counter

import pytest
from durable_tasks import step

from flowkit import DAG, ResumeError, StateError, StateManager, Task

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
    }


SAME = {"added": (), "removed": (), "rewired": (), "changed": {}}


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
def test_strict_resume_of_changed_pipeline_raises_and_names_changes(box, load_module, pairs, expected):
    """No task runs, and the unchanged pipeline can still be resumed."""
    first = fails_at(box, load_module, "load")
    ran = box.ran
    with pytest.raises(ResumeError) as caught:
        load_module(edited(*pairs)).etl.run("serial", state=box.db, params=box.params, resume="strict")
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
    results = load_module(ETL).etl.run("serial", state=box.db, params=box.params, resume="strict")
    assert results == ETL_RESULTS
    assert results.run_id == first.run_id
    assert box.ran == [*ran, "load"]


@pytest.mark.parametrize(
    ("pairs", "outdated", "results"),
    [
        (
            [("return row * RATE", "return RATE * row + 1")],
            {"clean": "function etl.convert has changed"},
            {"clean": [11, 21], "load": 34},
        ),
        (
            [("RATE = 10", "RATE = 11")],
            {"clean": "constant etl.RATE has changed"},
            {"clean": [11, 22], "load": 35},
        ),
        (
            [("[1, 2])", "[1, 2, 3])")],
            {
                "extract": "function etl.extract has changed",
                "clean": "it depends on 'extract'",
                "audit": "it depends on 'extract'",
            },
            {"extract": [1, 2, 3], "clean": [10, 20, 30], "audit": 3, "load": 63},
        ),
        ([("sum(clean) + audit", "sum(clean) - audit")], {}, {"load": 28}),
        (
            [("[clean, audit] >> load", "[clean, audit] >> load >> tidy"), ("[load]", "[tidy]")],
            {},
            {"tidy": None},
        ),
        (
            [
                ("def audit(extract, folder)", "def audit(extract, tidy, folder)"),
                ("extract >> [clean, audit]", "tidy >> audit\nextract >> [clean, audit]"),
            ],
            {"audit": "function etl.audit has changed, it has the new upstream 'tidy'"},
            {"tidy": None},
        ),
        ([("def audit", '@task(trigger="all_success")\ndef audit'), ("@task\n@task", "@task")], {}, {}),
    ],
    ids=["helper", "constant", "first task", "repaired task", "added", "inserted", "trigger"],
)
def test_resume_of_changed_pipeline_runs_changed_tasks_and_downstream_again(
    box, load_module, caplog, pairs, outdated, results
):
    first = fails_at(box, load_module, "load")
    if "trigger" in str(pairs):
        outdated = {"audit": "its trigger is 'all_success', was 'none_failed'"}
    done = ["extract", "clean", "audit"]
    again = load_module(edited(*pairs))
    ran = box.ran
    with caplog.at_level(logging.INFO, "flowkit.state"):
        found = again.etl.run("serial", state=box.db, params=box.params, resume=True)
    assert found == ETL_RESULTS | results
    assert found.run_id == first.run_id
    assert found.outdated == outdated
    assert set(found.resumed) == {*done} - {*outdated}
    assert sorted(box.ran[len(ran) :]) == sorted([*outdated, "load"])
    messages = [record.getMessage() for record in caplog.records if record.name == "flowkit.state"]
    for name, why in outdated.items():
        assert f"'{name}' ({why})" in messages[0]
    (record,) = box.records()
    assert {name: task.why for name, task in record.tasks.items() if task.why} == {
        name: f"ran again: {why}" for name, why in outdated.items()
    }
    assert record.status == "succeeded"


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
    print(DAG("etl", tasks=[load]).run("serial", state="runs.db", resume="strict"))
except ConnectionError as error:
    print(error)
except ResumeError as error:
    print(error.changed)
"""


def test_resume_of_script_runs_tasks_that_read_changed_arguments_again(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script(OPTIONS, "--fail", "--limit", 10) == "no route\n"
    shown = OPTIONS.replace("print(DAG(", "print((results := DAG(").replace(
        'resume="strict"))', "resume=True)).outdated)"
    )
    assert script(shown, "--fail", "--limit", 10) == "no route\n"
    assert script(shown, "--limit", 10, "--rate", 2) == "{'clean': 'constant script.config has changed'}\n"


def test_strict_resume_of_script_with_changed_argument_raises_if_finished_tasks_read_it(script, tmp_path, monkeypatch):
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
        DAG("chain", tasks=[b]).run("serial", state=box.db, resume="strict")
    assert facts(caught.value) == SAME | {"added": ("between",), "rewired": ("b",)}


def test_renamed_task_is_removed_and_added(box):
    box.inject("b", "fail")
    box.failing_run(box.chain("ab"))
    with pytest.raises(ResumeError) as caught:
        box.chain("xb").run("serial", state=box.db, resume="strict")
    assert (tuple(caught.value.added), tuple(caught.value.removed)) == (("x",), ("a",))
    box.repair("b")
    assert box.chain("xb").run("serial", state=box.db, resume=True).resumed == ()


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
    results = load_module(edited(*pairs)).etl.run("serial", state=box.db, params=box.params, resume="strict")
    assert results == ETL_RESULTS
    assert box.ran == ["extract", "clean", "audit", "load", "load"]


def test_finished_run_does_not_limit_changes(box, load_module):
    load_module(ETL).etl.run("serial", state=box.db, params=box.params)
    source = edited(("RATE = 10", "RATE = 20"))
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results["load"] == 62
    assert set(results.resumed) == set()


def test_force_uses_every_recorded_result(box, load_module, caplog):
    first = fails_at(box, load_module, "load")
    source = edited(("RATE = 10", "RATE = 20"), ("[1, 2])", "[1, 2, 3])"))
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == ETL_RESULTS
    assert results.run_id == first.run_id
    assert set(results.resumed) == {"extract", "clean", "audit"}
    assert results.outdated == {}
    assert Counter(box.ran) == {"extract": 1, "audit": 1, "clean": 1, "load": 2}
    (record,) = box.records()
    assert record.status == "succeeded"
    assert record.tasks["clean"].result() == [10, 20]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    for text in ("function etl.extract has changed", "constant etl.RATE has changed", 'resume="force"'):
        assert text in warning.getMessage()


def test_resume_with_added_and_removed_tasks(box, load_module):
    fails_at(box, load_module, "load")
    source = edited(
        ("load(clean, audit, folder)", "load(clean, folder, audit=2)"),
        ("[clean, audit] >> load", "clean >> load >> tidy"),
        ("[load]", "[tidy]"),
    )
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results == {"extract": [1, 2], "clean": [10, 20], "load": 32, "tidy": None}
    assert set(results.resumed) == {"extract", "clean"}
    again = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert again.run_id != results.run_id, "the run of the changed pipeline is finished"


def test_resumed_run_of_changed_pipeline_that_failed_is_resumed(box, load_module):
    """Results of the changed pipeline are up to date from then on."""
    fails_at(box, load_module, "load")
    source = edited(("RATE = 10", "RATE = 20"))
    box.inject("load", "fail")
    box.failing_run(load_module(source).etl, params=box.params, resume=True)
    box.repair("load")
    ran = box.ran
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results == {"extract": [1, 2], "clean": [20, 40], "audit": 2, "load": 62}
    assert box.ran == [*ran, "load"]
    assert results.outdated == {}


def test_grown_fan_out_runs_new_tasks(box):
    def pipeline(*names):
        readers, total = [box.task(name) for name in names], box.task("total")
        readers >> total
        return DAG("files", tasks=[total])

    box.inject("total", "fail")
    box.failing_run(pipeline("a", "b"))
    box.repair("total")
    results = pipeline("a", "b", "c").run("serial", state=box.db, resume=True)
    assert results["total"] == "total(a, b, c)"
    assert results.resumed == ("a", "b")
    assert box.ran == ["a", "b", "total", "c", "total"]


def test_grown_fan_out_runs_recorded_collector_again(box):
    """So does a fan-out that has shrunk."""

    def pipeline(*names):
        readers, total, last = [box.task(name) for name in names], box.task("total"), box.task("last")
        readers >> total >> last
        return DAG("files", tasks=[last])

    box.inject("last", "fail")
    box.failing_run(pipeline("a", "b"))
    results = box.failing_run(pipeline("a", "b", "c"), resume=True)
    assert results["total"] == "total(a, b, c)"
    assert results.outdated == {"total": "it has the new upstream 'c'"}
    box.repair("last")
    results = pipeline("a", "c").run("serial", state=box.db, resume=True)
    assert results["total"] == "total(a, c)"
    assert results.outdated == {"total": "it no longer has the upstream 'b'"}
    assert results.resumed == ("a", "c")


def test_clean_up_that_ran_after_failure_runs_again_if_failed_task_was_repaired_only(box):
    """Its result is out of date when a task upstream of it has changed, but not when another task has."""

    def pipeline(load, other):
        tasks = [Task(box.task("extract").func, name="extract"), Task(load, name="load"), Task(other, name="other")]
        clean_up = box.task("clean_up", trigger="all_done")
        tasks[0] >> tasks[1] >> clean_up
        return DAG("etl", tasks=[clean_up, tasks[2]])

    folder = box.folder

    def load(extract):
        return step(folder, "load", 1)

    def repaired(extract):
        return step(folder, "load", 2)

    def other():
        return 1

    def another():
        return 2

    box.inject("load", "fail")
    box.failing_run(pipeline(load, other), fail_fast=False)
    again = box.failing_run(pipeline(load, another), fail_fast=False, resume=True)
    assert set(again.resumed) == {"extract", "clean_up"}
    assert set(again.outdated) == {"other"}
    box.repair("load")
    results = pipeline(repaired, another).run("serial", state=box.db, resume=True)
    assert results.outdated == {"clean_up": "it depends on 'load'"}
    assert set(results.resumed) == {"extract", "other"}


def test_force_of_unchanged_pipeline_resumes(box, load_module):
    fails_at(box, load_module, "load")
    results = load_module(ETL).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == ETL_RESULTS
    assert set(results.resumed) == {"extract", "clean", "audit"}


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


def test_run_of_another_pipeline_with_the_same_name_is_not_resumed(tmp_path):
    """Each of two pipelines that share a name resumes its own runs, and a warning says that they share it."""
    path = tmp_path / "runs.db"
    first = DAG("shared", tasks=[Task(lambda broken: 1 // (1 - broken), name="a")])
    second = DAG("shared", tasks=[Task(lambda broken: broken, name="b")])
    failed = first.run(state=path, params={"broken": 1}, raise_on_failure=False)
    with pytest.warns(RuntimeWarning, match=f"{failed.run_id}.*no task in common"):
        other = second.run(state=path, params={"broken": 1}, resume=True)
    assert other.run_id != failed.run_id
    with StateManager(path) as state:
        assert {run.run_id: run.status for run in state.runs()} == {
            failed.run_id: "failed",
            other.run_id: "succeeded",
        }
    assert first.run(state=path, params={"broken": 1}, resume=True, raise_on_failure=False).run_id == failed.run_id
