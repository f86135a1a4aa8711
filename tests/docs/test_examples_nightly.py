"""The nightly job: after a kill and a resume, its report is that of an undisturbed run."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flowkit import RunRecord, StateManager

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "nightly.py"
EXECUTORS = ["serial", "thread", "process"]
SECONDS = 120


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create a folder of forty files, nine of them copies of others, and of eight files that the job ignores."""
    for number in range(40):
        path = tmp_path / "tree" / f"{number % 3}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"line\n" * (number if number < 31 else number - 31 + 20))
    for number in range(8):
        path = tmp_path / "tree" / ("__pycache__" if number % 2 else "site-packages") / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"skip")
    return tmp_path / "tree"


def night(folder: Path, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the job in a folder."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), "--root", str(root), "--day", "2026-11-30", *options],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


def succeeded_in_first_execution(run: RunRecord) -> set[int]:
    """Return the numbers of the files that were read before the job was killed, and not again, and are recorded."""
    elements = run.tasks["read_file"].elements
    if elements is None:
        return set()
    return {
        number for number, state in elements.states.items() if (state, elements.executions[number]) == ("succeeded", 1)
    }


@pytest.mark.parametrize("executor", EXECUTORS)
def test_killed_job_resumes_without_reading_files_twice(tmp_path: Path, root: Path, executor: str) -> None:
    if executor == "process" and os.name != "posix":
        pytest.skip("processes need POSIX")
    undisturbed = night(tmp_path / "undisturbed", root, "--executor", executor)
    assert undisturbed.returncode == 0, undisturbed.stderr

    killed = night(tmp_path / "killed", root, "--executor", executor, "--crash-after", "25")
    assert killed.returncode == (-signal.SIGKILL if os.name == "posix" else 9), killed.stderr
    assert killed.stdout == ""
    with StateManager(tmp_path / "killed" / "nightly.db") as state:
        (run,) = state.runs()
        known = succeeded_in_first_execution(run)  # the outcomes of short tasks are committed in groups
        assert run.status == "interrupted"

    resumed = night(tmp_path / "killed", root, "--executor", executor)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == undisturbed.stdout
    with StateManager(tmp_path / "killed" / "nightly.db") as state:
        (again,) = state.runs()
        assert (again.run_id, again.status, again.resumes) == (run.run_id, "succeeded", 1)
        assert again.tasks["read_file"].elements.counts == {"succeeded": 40}
        assert succeeded_in_first_execution(again) == known


def test_report_counts_files_and_duplicates(tmp_path: Path, root: Path) -> None:
    size = sum(path.stat().st_size for path in root.rglob("*.txt"))
    copies = sum(5 * (number - 11) for number in range(31, 40))
    assert night(tmp_path / "job", root).stdout.splitlines()[:3] == [
        f"Night 1: 40 files (+0), {size:,} bytes (+0).",
        f"Duplicates: 9 files, with {copies:,} redundant bytes.",
        "   2 times       140 bytes  0/39.txt",
    ]
    (root / "0" / "0.txt").unlink()
    (root / "new.txt").write_text("new")
    (root / "newer.txt").write_text("newer")
    assert night(tmp_path / "job", root).stdout.startswith(f"Night 2: 41 files (+1), {size + 8:,} bytes (+8).")
    with closing(sqlite3.connect(tmp_path / "job" / "inventory.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM files").fetchone() == (41,)


def test_each_day_and_each_folder_has_run_of_its_own(tmp_path: Path, root: Path) -> None:
    job = tmp_path / "job"
    night(job, root, "--crash-after", "1")
    for folder, options in ((root / "0", ()), (root, ("--day", "2026-12-01")), (root, ())):
        assert night(job, folder, *options).returncode == 0
    with StateManager(job / "nightly.db") as state:
        assert [(run.status, run.resumes) for run in state.runs()] == [
            ("succeeded", 0),
            ("succeeded", 0),
            ("succeeded", 1),
        ]
    with closing(sqlite3.connect(job / "inventory.db")) as connection:
        days = [day for (day,) in connection.execute("SELECT day FROM diary ORDER BY rowid")]
    assert days == ["2026-11-30", "2026-12-01", "2026-11-30"]
