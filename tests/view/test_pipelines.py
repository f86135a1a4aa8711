"""`flowkit graph`, `check` and `plan`, and the argument that denotes a pipeline."""

from __future__ import annotations

import sys

import pytest


def test_graph_prints_picture(etl, flowkit):
    answer = flowkit("graph", "etl:dag")
    assert (answer.code, answer.out.splitlines()[-1]) == (0, "extract → load (retries 1) → report")


def test_graph_as_json_has_edges_and_parameters(etl, flowkit):
    graph = flowkit("graph", "etl:dag", "--json").json
    assert [(task["name"], task["upstream"]) for task in graph["tasks"]] == [
        ("extract", []),
        ("load", ["extract"]),
        ("report", ["load"]),
    ]
    assert graph["tasks"][0]["location"].endswith("etl.py:8")
    assert graph["parameters"]["day"] == {"required": True, "tasks": ["extract"], "mapped": []}


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("e.svg", "<svg"),
        ("e.html", "<!doctype html>"),
        ("e.mmd", "flowchart"),
        ("e.dot", "digraph"),
        ("e.txt", "etl: 3 tasks"),
    ],
)
def test_graph_writes_file(etl, flowkit, name, start):
    answer = flowkit("graph", "etl:dag", "-o", name)
    assert (answer.code, answer.out) == (0, f"{name}: 3 tasks of etl\n")
    assert (etl / name).read_text("utf-8").startswith(start)


@pytest.mark.parametrize(
    ("name", "message"), [("e.png", "ends in none of .svg, .html, .mmd"), ("no/e.mmd", "cannot be written")]
)
def test_graph_to_impossible_file_exits_2(etl, flowkit, name, message):
    answer = flowkit("graph", "etl:dag", "-o", name)
    assert answer.code == 2
    assert message in answer.err


def test_check_of_sound_pipeline_exits_0(etl, flowkit):
    needs = "etl: no problems\na run needs values of these parameters: day\n"
    assert flowkit("check", "etl:dag")[:2] == (0, needs)
    assert flowkit("check", "etl:dag", "-p", "day=2026-11-29")[:2] == (0, "etl: no problems\n")
    assert flowkit("check", "etl:dag", "--json").json == []


def test_check_with_problems_exits_1(folder, flowkit):
    (folder / "alarm.py").write_text(
        "from flowkit_core import DAG, task\n@task(trigger='one_failed')\ndef alert(): pass\ndag = DAG('alarm')\n"
    )
    assert flowkit("check", "alarm").code == 1
    assert [problem["kind"] for problem in flowkit("check", "alarm", "--json").json] == ["trigger"]


def test_plan_shows_what_resume_would_do(recorded, flowkit):
    answer = flowkit("plan", "etl:dag", recorded, "-p", "day=2026-11-29")
    assert answer.code == 0
    assert answer.out.splitlines()[2].split(maxsplit=3) == ["take", "over", "extract", "it succeeded"]
    plan = flowkit("plan", "etl:dag", recorded, "-p", "day=2026-11-29", "--json").json
    assert [(task["name"], task["action"]) for task in plan["tasks"]] == [
        ("extract", "take over"),
        ("load", "run"),
        ("report", "run"),
    ]


@pytest.mark.parametrize("target", ["etl:dag", "etl", "etl.py", "etl.py:dag", "./etl.py:dag"])
def test_target_by_module_or_file(etl, flowkit, target):
    assert flowkit("graph", target).code == 0


def test_target_in_other_folder(etl, flowkit, monkeypatch):
    (etl / "empty").mkdir()
    monkeypatch.chdir(etl / "empty")
    assert flowkit("graph", "etl:dag").code == 2
    assert flowkit("graph", "etl:dag", "--path", "..").code == 0


def test_target_may_be_function_or_attribute(folder, flowkit):
    (folder / "many.py").write_text(
        "from flowkit_core import DAG, Task\n"
        "def make():\n    return DAG('made', tasks=[Task(list)])\n"
        "class Jobs:\n    nightly = make()\n"
        "one = make()\nother = make()\n"
    )
    assert flowkit("graph", "many:make").out.startswith("made: 1 task")
    assert flowkit("graph", "many:Jobs.nightly").code == 0
    answer = flowkit("graph", "many")
    assert (answer.code, "has 2 pipelines: write one, as in many:one" in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing:dag", "no module 'missing': run it where missing.py is, or give --path"),
        ("missing.py:dag", "there is no file 'missing.py'"),
        ("etl:dog", "module 'etl' has no 'dog' (did you mean 'dag'?)"),
        ("etl:extract", "'etl:extract' is of type Task, and not a pipeline"),
        ("et l:dag", "is not the name of a module"),
    ],
)
def test_unknown_target_exits_2(etl, flowkit, target, message):
    answer = flowkit("run", target)
    assert answer.code == 2
    assert message in answer.err


def test_file_named_like_imported_module_is_refused(folder, flowkit):
    (folder / "pytest.py").write_text("")
    answer = flowkit("run", "pytest.py:dag")
    assert answer.code == 2
    assert "rename the file" in answer.err


def test_missing_module_that_the_module_imports_is_shown(folder, flowkit):
    (folder / "needy.py").write_text("import no_such_library\n")
    answer = flowkit("run", "needy:dag")
    assert answer.code == 1
    assert "No module named 'no_such_library'" in answer.err


def test_target_folder_is_searched_first(etl, flowkit):
    assert flowkit("graph", "etl").code == 0
    assert sys.path[0] == str(etl)
