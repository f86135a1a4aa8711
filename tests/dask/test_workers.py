"""Workers that cannot run tasks: with other versions, or without a module. Annotations that name workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import dask
import dask_tasks as tasks
import pytest

import flowkit_dask
from flowkit_core import DAG, ExecutorError, Task
from flowkit_dask import DaskExecutor


@pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
def test_worker_with_another_python_is_error(start_cluster, other_python):
    python, version = other_python
    cluster = start_cluster(python=python)
    with DaskExecutor(cluster.address) as executor, pytest.raises(ExecutorError) as caught:
        DAG("d", tasks=[Task(tasks.one)]).run(executor)
    assert f"has CPython {version} and flowkit-dask" in str(caught.value)
    assert f"and the client has CPython 3.{sys.version_info.minor} and flowkit-dask" in str(caught.value)
    assert "install the same versions" in str(caught.value)


def test_worker_with_another_flowkit_is_error(start_cluster, tmp_path):
    """As from a wheel of that version, whose calls have other arguments."""
    package = tmp_path / "flowkit_dask"
    shutil.copytree(Path(flowkit_dask.__file__).parent, package)
    calls = package / "calls.py"
    calls.write_text(calls.read_text("utf-8").replace("        ticket: int,\n", "", 1), "utf-8")
    info = tmp_path / "flowkit_dask-9.8.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flowkit-dask\nVersion: 9.8.7\n")
    cluster = start_cluster(path=[str(tmp_path)])
    with DaskExecutor(cluster.address) as executor, pytest.raises(ExecutorError) as caught:
        DAG("d", tasks=[Task(tasks.one)]).run(executor)
    assert "and flowkit-dask 9.8.7, and the client has CPython" in str(caught.value)
    assert "install the same versions" in str(caught.value)


def test_worker_without_flowkit_is_error(start_cluster, tmp_path):
    (tmp_path / "flowkit_dask").mkdir()
    missing = "raise ModuleNotFoundError(\"No module named 'flowkit_dask'\", name='flowkit_dask')"
    (tmp_path / "flowkit_dask/__init__.py").write_text(missing)
    cluster = start_cluster(path=[str(tmp_path)])
    with DaskExecutor(cluster.address) as executor, pytest.raises(ExecutorError) as caught:
        DAG("d", tasks=[Task(tasks.one)]).run(executor)
    assert "a worker of the Dask cluster cannot import 'flowkit_dask'" in str(caught.value)
    assert "install flowkit-dask on all workers" in str(caught.value)


MODULE_TASK = """
import sys
sys.path.insert(0, {folder!r})
import only_here
from flowkit_core import DAG, Task
from flowkit_dask import DaskExecutor
import cloudpickle
if {by_value}:
    cloudpickle.register_pickle_by_value(only_here)
with DaskExecutor({address!r}) as executor:
    try:
        print(DAG("d", tasks=[Task(only_here.work)]).run(executor))
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("by_value", [False, True])
def test_module_that_workers_lack_is_named(cluster, tmp_path, by_value):
    (tmp_path / "only_here.py").write_text("def work():\n    return 7\n")
    source = MODULE_TASK.format(folder=str(tmp_path), address=cluster.address, by_value=by_value)
    done = subprocess.run([sys.executable, "-c", source], env=cluster.env, capture_output=True, text=True, check=True)
    if by_value:
        assert done.stdout.strip() == "{'work': 7}"
    else:
        assert (
            "SerializationError task 'work': its function needs the module 'only_here', which the worker" in done.stdout
        )
        assert "client.upload_file('only_here.py')" in done.stdout


@pytest.mark.parametrize("options", [{}, {"timeout": 60}])
def test_annotations_apply_to_all_tasks_of_a_run(client, options):
    """Also if another thread than the one that called run() sends the tasks."""
    worker, pid = next(iter(client.run(tasks.pid).items()))
    first, rest = Task(tasks.pid, name="first"), [Task(tasks.pid, name=f"t{number}") for number in range(20)]
    first >> rest
    with dask.annotate(workers=[worker]):
        results = DAG("d", tasks=rest).run(DaskExecutor(client), **options)
    assert set(results.values()) == {pid}
