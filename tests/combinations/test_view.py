"""The command line, whatever else is installed beside the core and state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import shop_tasks

SUPPORT = str(Path(__file__).parent / "support")


def flowkit(*arguments):
    """Call the command; return its exit code, and what it has printed."""
    command = [sys.executable, "-m", "flowkit_view", *map(str, arguments)]
    done = subprocess.run(command, check=False, cwd=SUPPORT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_recorded_run_is_shown_and_reported(tmp_path):
    store, page = tmp_path / "runs.db", tmp_path / "run.html"
    shop_tasks.pipeline().run("serial", state=store)
    code, text = flowkit("show", store)
    assert code == 0
    assert "largest" in text
    assert flowkit("report", store, "-o", page)[0] == 0
    assert "largest" in page.read_text("utf-8")


@pytest.mark.parametrize("name", ["thread", "process", "dask"])
def test_command_names_distribution_of_an_absent_executor(name, executors):
    code, text = flowkit("run", "shop_tasks:pipeline", "--executor", name)
    if name in executors:
        assert code == 0
        assert "report" in text
    else:
        assert code != 0
        assert "pip install ./packages/flowkit-" + ("dask" if name == "dask" else "exec") in text


def test_watching_a_run_needs_log(installed, tmp_path):
    store = tmp_path / "runs.db"
    shop_tasks.pipeline().run("serial", state=store)
    code, text = flowkit("watch", store)
    if "log" in installed:
        assert code == 0
        assert "succeeded" in text
    else:
        assert code != 0
        assert "pip install ./packages/flowkit-log" in text


def test_run_that_is_watched_needs_log(installed):
    code, text = flowkit("run", "shop_tasks:pipeline", "--executor", "serial", "--watch")
    if "log" in installed:
        assert code == 0
        assert "succeeded" in text
    else:
        assert code == 2
        assert "pip install ./packages/flowkit-log" in text
