"""Where the pipeline of a recorded run was created, and with what the run was executed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flowkit import DAG, Flow, StateManager, Task

SOURCE = """
from flowkit import DAG, Flow, Task

class Own(DAG):
    def __init__(self, name):
        super().__init__(name, tasks=[Task(list, name="a")])

def make():
    return DAG("made", tasks=[Task(list, name="a")])

class Maker:
    def make(self):
        return make_locally()

def make_locally():
    def inner():
        return DAG("local", tasks=[Task(list, name="a")])
    return inner()

dag = make()
own = Own("own")
flow = Flow("flow").add(Task(list, name="a"))

if __name__ == "__main__":
    import sys
    dag.run("serial", state=sys.argv[1])
"""


def execution(box, results):
    with StateManager(box.db) as state:
        return state.run(results.run_id).executions[-1]


@pytest.mark.parametrize(
    ("choose", "target"),
    [
        (lambda module: module.dag, "jobs:dag"),
        (lambda module: module.own, "jobs:own"),
        (lambda module: module.flow, "jobs:flow"),
        (lambda module: module.make(), "jobs:make"),
        (lambda module: module.make_locally(), "jobs"),
    ],
    ids=["variable", "subclass", "flow", "function", "inner function"],
)
def test_target_of_pipeline(box, load_module, tmp_path, choose, target):
    found = execution(box, choose(load_module(SOURCE, "jobs")).run("serial", state=box.db))
    assert (found.target, found.folder) == (target, str(tmp_path))


def test_target_in_package(box, load_module, tmp_path):
    module = load_module(SOURCE, "jobs.nightly.etl")
    module.__file__ = str(tmp_path / "jobs" / "nightly" / "etl.py")
    (tmp_path / "jobs" / "nightly").mkdir(parents=True)
    (tmp_path / "jobs" / "nightly" / "etl.py").write_text(SOURCE)
    found = execution(box, module.dag.run("serial", state=box.db))
    assert (found.target, found.folder) == ("jobs.nightly.etl:dag", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "target"), [(["etl.py"], "etl.py:dag"), (["-m", "etl"], "etl:dag")], ids=["script", "module"]
)
def test_target_of_script(box, tmp_path, arguments, target):
    (tmp_path / "etl.py").write_text(SOURCE)
    command = [sys.executable, *arguments, str(box.db)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    with StateManager(box.db) as state:
        (run,) = state.runs()
    assert (run.executions[0].target, run.executions[0].folder) == (target, str(tmp_path))


def test_module_without_file_has_no_target(box, load_module):
    module = load_module(SOURCE, "typed")
    del module.__file__
    found = execution(box, module.dag.run("serial", state=box.db))
    assert (found.target, found.folder) == (None, None)


def test_executor_python_and_cpu_time_are_recorded(box, executor):
    found = execution(box, DAG("etl", tasks=[Task(list, name="a")]).run(executor, state=box.db))
    assert found.executor == executor.name
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.cpu > 0


def test_each_execution_has_its_executor(box):
    box.inject("a", "fail")
    dag = DAG("etl", tasks=[box.task("a")])
    results = dag.run("serial", state=box.db, raise_on_failure=False)
    box.repair("a")
    dag.run("thread", state=box.db, resume=True)
    with StateManager(box.db) as state:
        assert [each.executor for each in state.run(results.run_id).executions] == ["serial", "thread"]


def test_copy_of_pipeline_keeps_its_origin(box, load_module):
    from copy import deepcopy

    module = load_module(SOURCE, "jobs")
    module.second = deepcopy(module.dag)
    assert execution(box, module.second.run("serial", state=box.db)).target == "jobs:second"


def test_flow_without_module_variable(box):
    found = execution(box, Flow("etl").add(Task(list, name="a")).run("serial", state=box.db))
    assert found.target == f"{__name__}:test_flow_without_module_variable"
