"""The main example, `docs/examples/stdlib_report.py`, writes a report of its run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "stdlib_report.py"


def test_main_example_ends_with_path_of_report(folder, monkeypatch, capfd):
    (folder / "code").mkdir()
    (folder / "code" / "module.py").write_text("import os\n\ndef work():\n    return os.name\n")
    options = ["--root", "code", "--executor", "serial", "--workers", "1", "--quiet", "--report", "run.html"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capfd.readouterr().out.splitlines()[-1] == "What the run did: run.html"
    text = (folder / "run.html").read_text("utf-8")
    assert "<title>stdlib_report: succeeded</title>" in text
    assert ">measure<" in text
