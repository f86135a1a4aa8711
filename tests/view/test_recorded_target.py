"""The pipeline of a recorded run: `flowkit rerun` and `flowkit replay` find it without `--target`."""

from __future__ import annotations

import sqlite3
import sys

import pytest

from flowkit_core import DAG, Task
from flowkit_state import StateManager


def forget_module(name="etl"):
    """Have the module be imported again, and from where the command looks for it."""
    sys.modules.pop(name, None)
    sys.path[:] = [folder for folder in sys.path if folder != "jobs"]


def set_target(path, target):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE executions SET target = ?", (target,))
    database.close()


def test_pipeline_is_found_from_another_folder(recorded, folder, flowkit, monkeypatch, tmp_path_factory):
    (folder / "broken").unlink()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    forget_module()
    answer = flowkit("replay", folder / recorded, "last", "load")
    assert (answer.code, answer.out) == (0, "3\n"), answer.err


def test_moved_module_is_found_with_path(recorded, folder, flowkit):
    (folder / "broken").unlink()
    moved = folder / "moved"
    moved.mkdir()
    (folder / "etl.py").rename(moved / "etl.py")
    forget_module()
    answer = flowkit("replay", recorded, "last", "load")
    assert answer.code == 2
    assert "has recorded that its pipeline is 'etl:dag'" in answer.err
    assert "give --path, or give --target MODULE:NAME" in answer.err
    answer = flowkit("replay", recorded, "last", "load", "--path", "moved")
    assert (answer.code, answer.out) == (0, "3\n"), answer.err


def test_pipeline_with_another_name_exits_2(recorded, folder, flowkit):
    source = (folder / "etl.py").read_text()
    (folder / "etl.py").write_text(source.replace('DAG("etl")', 'DAG("renamed")'))
    forget_module()
    answer = flowkit("rerun", recorded, "last", "--from", "load")
    assert answer.code == 2
    assert "is the pipeline 'renamed' now" in answer.err


def test_run_without_target_needs_the_option(recorded, flowkit):
    set_target(recorded, None)
    answer = flowkit("rerun", recorded, "last", "--from", "load")
    assert answer.code == 2
    assert "was created is not recorded: give --target MODULE:NAME" in answer.err


@pytest.mark.parametrize(("name", "code"), [("etl", 0), ("other", 2)])
def test_module_with_several_pipelines(recorded, folder, flowkit, name, code):
    """The record has no name in the module: the pipeline of the same name is the one."""
    (folder / "broken").unlink()
    source = (folder / "etl.py").read_text()
    (folder / "etl.py").write_text(f"{source}\nsecond = DAG({name + '2'!r}, tasks=[extract])\n")
    set_target(recorded, "etl")
    with sqlite3.connect(recorded) as database:
        database.execute("UPDATE runs SET pipeline = ?", (name,))
    database.close()
    forget_module()
    answer = flowkit("replay", recorded, "last", "load")
    assert answer.code == code
    if code:
        assert "has 2 pipelines: write one, as in etl:dag" in answer.err


def test_function_with_arguments_exits_2(recorded, folder, flowkit):
    (folder / "etl.py").write_text("from flowkit_core import DAG\ndef dag(day):\n    return DAG('etl')\n")
    forget_module()
    answer = flowkit("rerun", recorded, "last", "--from", "load")
    assert answer.code == 2
    assert "is a function that needs the arguments day" in answer.err


def test_run_of_a_function_is_found_again(folder, flowkit, monkeypatch):
    (folder / "jobs.py").write_text(
        "from flowkit_core import DAG, Task\n"
        "def make():\n"
        "    return DAG('made', tasks=[Task(list, name='a')])\n"
        "if __name__ == '__main__':\n"
        "    make().run('serial', state='runs.db')\n"
    )
    assert flowkit("run", "jobs:make", "-q", "--state", "runs.db").code == 0
    forget_module("jobs")
    answer = flowkit("rerun", "runs.db", "last", "--from", "a", "-q", "--json")
    assert answer.code == 0, answer.err


def test_executor_of_each_execution_is_shown(recorded, flowkit):
    assert flowkit("run", "etl:dag", "-q", "-e", "serial", "-p", "day=2026-11-29", "--state", recorded, "--resume").code
    answer = flowkit("show", recorded)
    first, second = [line for line in answer.out.splitlines() if line.startswith("execution")]
    assert "executor thread" in first or "executor serial" in first
    assert "executor serial" in second
    executions = flowkit("show", recorded, "--json").json["executions"]
    assert {"executor", "target", "folder", "python", "cpu"} <= {*executions[0]}


def test_report_is_named_after_pipeline_and_run(folder, flowkit):
    results = DAG("my/e t.l", tasks=[Task(list, name="a")]).run("serial", state="runs.db")
    answer = flowkit("report", "runs.db")
    name = f"my_e_t_l-{results.run_id}.html"
    assert (answer.code, answer.out.startswith(f"{name}: report of run ")) == (0, True)
    assert "my/e t.l" in (folder / name).read_text()
    assert flowkit("report", "runs.db", "--json").json["path"] == str(folder / name)


def test_report_names_executor(folder, flowkit):
    path = folder / "runs.db"
    DAG("etl", tasks=[Task(list, name="a")]).run("serial", state=path)
    assert flowkit("report", path, "-o", "run.html").code == 0
    text = (folder / "run.html").read_text()
    assert "with executor serial" in text
    with StateManager(path) as state:
        python = state.runs()[0].executions[0].python
    assert f"Python {python}" in text
