"""Notebooks that a kernel executes: pipelines, results and running runs show themselves, also as text."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

SET_UP = """
from flowkit import DAG, Flow, task
@task
def extract(): return [1, 2, 0]
@task
def invert(number): return 1 / number
@task
def load(invert): return len(invert)
extract >> invert.map(errors="drop") >> load
dag = DAG("etl", tasks=[load])
"""
WAITS = """
import threading
named, kind = threading.Event(), type(get_ipython().display_pub)
publish = kind.publish
def note(self, data, *args, **kwargs):
    publish(self, data, *args, **kwargs)
    if "waits: waits_for_display" in data["text/plain"]:
        named.set()
kind.publish = note
@task
def waits_for_display(): return named.wait(60)
DAG("waits", tasks=[waits_for_display]).run(progress=True)
"""
CELLS = {
    "set up": SET_UP,
    "dag": "dag",
    "flow": "Flow('chain').add(extract).add(load)",
    "results": "dag.run('serial')",
    "progress": "dag.run('serial', progress=True)",
    "goes on": WAITS,
    "failure": "DAG('bad', tasks=[task(name='look')(lambda: {}['<b>'])]).run(progress=True, raise_on_failure=False)",
    "prints": "DAG('loud', tasks=[task(name='speak')(lambda: print('hello'))]).run('serial', progress=True);0",
}
KERNEL = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The outputs of each cell, executed in a kernel of this Python, whose files are in a folder of its own."""
    folder = tmp_path_factory.mktemp("jupyter")
    (folder / "kernels" / "own").mkdir(parents=True)
    (folder / "kernels" / "own" / "kernel.json").write_text(json.dumps({**KERNEL, "display_name": "own"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name))
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS.values()])
        here = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="own", resources=here).execute()
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells), strict=True))


def test_dag_is_a_picture(outputs):
    (output,) = outputs["dag"]
    assert (output.output_type, {*output.data}) == ("execute_result", {"text/plain", "text/html", "image/svg+xml"})
    assert output.data["text/plain"].startswith("<DAG etl")
    assert output.data["image/svg+xml"].startswith("<svg")
    assert all(name in output.data["text/html"] for name in ("<svg", "extract", "invert", "load"))


def test_flow_is_a_picture(outputs):
    (output,) = outputs["flow"]
    assert output.data["text/plain"].startswith("<Flow chain")
    assert "<svg" in output.data["text/html"]
    assert "load" in output.data["image/svg+xml"]


def test_results_are_a_table(outputs):
    (output,) = [each for each in outputs["results"] if each.output_type != "stream"]
    assert {*output.data} == {"text/plain", "text/html"}
    assert output.data["text/plain"].startswith("{'extract': [1, 2, 0], 'invert': [1.0, 0.5]")
    assert output.data["text/html"].startswith("<pre")
    assert re.search(r"succeeded +\d\.\d{3} s +invert +2 succeeded, 1 failed", output.data["text/html"])


def test_run_with_progress_is_one_output_that_is_replaced(outputs):
    output, result = outputs["progress"]
    assert (output.output_type, result.output_type) == ("display_data", "execute_result")
    assert {*output.data} == {"text/plain", "text/html"}
    lines = [line.partition("  ")[2] for line in output.data["text/plain"].splitlines()]
    warning, *_, bar, end = lines
    assert warning == '[WARN] Element "invert[2]" failed: ZeroDivisionError: division by zero'
    assert bar.startswith("[INFO] etl: [====================] 100%")
    assert re.fullmatch(r"\[INFO\] etl: 3 succeeded in .*s", end)
    assert 'Element "invert[2]" failed' in output.data["text/html"].replace("&quot;", '"')


def test_run_that_goes_on_shows_its_tasks(outputs):
    """The output is published while the task runs: the task waits until it has been."""
    output, result = outputs["goes on"]
    assert result.data["text/plain"] == "{'waits_for_display': True}"
    assert "waits: 1 succeeded in " in output.data["text/plain"]


def test_failure_is_shown_above_the_bars(outputs):
    output, result = outputs["failure"]
    assert "Task \"look\" failed after 1 attempt: KeyError: '<b>'" in output.data["text/plain"]
    assert "&lt;b&gt;" in output.data["text/html"]
    assert "<b>" not in output.data["text/html"]
    assert "failed" in result.data["text/html"]


def test_printed_lines_of_tasks_are_a_separate_output(outputs):
    found = outputs["prints"]
    streams = [each for each in found if each.output_type == "stream"]
    assert [(each.name, each.text) for each in streams] == [("stdout", "hello\n")]
    assert [each.output_type for each in found if each not in streams] == ["display_data", "execute_result"]
