"""The page on Dask: its pipeline runs on worker processes of this machine, and prints what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import flowkit_dask

PAGES = Path(__file__).parents[2] / "docs/pages"
PAGE = (PAGES / "dask.md").read_text("utf-8")


def test_reference_has_every_public_name_once():
    reference = (PAGES / "api/dask.md").read_text("utf-8")
    assert re.findall(r"^::: flowkit_dask\.(\w+)$", reference, re.MULTILINE) == flowkit_dask.__all__


def test_pipeline_of_page_prints_its_output(cluster, tmp_path):
    (module,) = re.findall(r'```python title="etl.py"\n(.*?)```', PAGE, re.DOTALL)
    (script,) = re.findall(r"```python\n(from etl import etl\n.*?)```", PAGE, re.DOTALL)
    (output,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "etl.py").write_text(module)
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(command, env=cluster.env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (output, "")
