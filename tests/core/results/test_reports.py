"""``run(report=...)`` and ``results.report()`` where flowkit-view is missing, and the workers that events name."""

from __future__ import annotations

import sys

import pytest

from flowkit_core import DAG, FlowkitError, MissingDistributionError, Task, TaskStarted


@pytest.fixture
def without_view(monkeypatch):
    monkeypatch.setitem(sys.modules, "flowkit_view", None)
    for name in [*sys.modules]:
        if name.startswith("flowkit_view."):
            monkeypatch.delitem(sys.modules, name)


def test_report_without_flowkit_view_names_it_before_anything_runs(without_view, tmp_path):
    called = []
    dag = DAG("etl", tasks=[Task(lambda: called.append(1), name="load")])
    with pytest.raises(
        MissingDistributionError, match=r"run\(report=...\) needs the distribution 'flowkit-view'"
    ) as caught:
        dag.run("serial", report=tmp_path / "run.html")
    assert str(caught.value).endswith(": install it with pip install ./packages/flowkit-view in a checkout of flowkit")
    assert str(MissingDistributionError("it", "numpy")).endswith(": install it with pip install numpy")
    assert called == []


def test_progress_without_flowkit_view_names_it(without_view):
    with pytest.raises(MissingDistributionError, match=r"run\(progress=True\) needs the distribution 'flowkit-view'"):
        DAG("etl", tasks=[Task(list, name="load")]).run("serial", progress=True)


def test_progress_must_be_a_bool():
    with pytest.raises(TypeError, match="progress"):
        DAG("etl", tasks=[Task(list, name="load")]).run("serial", progress="yes")


def test_report_of_results_without_record_is_an_error(without_view, tmp_path):
    results = DAG("etl", tasks=[Task(list, name="load")]).run("serial")
    with pytest.raises(FlowkitError, match="this one was not recorded"):
        results.report(tmp_path / "run.html")


@pytest.mark.parametrize("path", [True, 1, b"run.html"])
def test_report_must_be_a_path(path):
    with pytest.raises(TypeError, match=r"run\(report=...\) takes the path of the file to write"):
        DAG("etl", tasks=[Task(list, name="load")]).run("serial", report=path)


def test_start_names_the_worker():
    workers = []

    def observe(event):
        workers.append(event.worker)

    observe.events = (TaskStarted,)
    DAG("etl", tasks=[Task(list, name="load")]).run("serial", observers=[observe])
    assert workers == ["MainThread"]
