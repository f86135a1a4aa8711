"""Run the examples as scripts, in an empty folder, without arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(ROOT.glob("docs/examples/[!_]*.py"))
WHOLE = {"nightly.py", "stdlib_report.py"}  # without arguments, these read the standard library
SECONDS = 240


@pytest.mark.parametrize(
    "example",
    [pytest.param(path, marks=[pytest.mark.whole] * (path.name in WHOLE)) for path in EXAMPLES],
    ids=lambda path: path.name,
)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    if run.returncode or not run.stdout.strip():
        pytest.fail(f"{example.name} ended with code {run.returncode} and printed:\n{run.stdout}", pytrace=False)


def test_ci_runs_command_of_readme() -> None:
    command = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1]
    assert command in (ROOT / "README.md").read_text("utf-8").splitlines()
