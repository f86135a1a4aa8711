"""The ported Airflow DAG and the program with a library of its own, run as scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowkit_core import DAG, Task

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SECONDS = 120


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


def test_backfill_with_a_day_that_fails_and_is_cleared(tmp_path: Path) -> None:
    week = run(tmp_path, "ported_from_airflow.py", "--folder", "sales", "--fail-on", "2026-11-04")
    assert week.returncode == 1
    lines = week.stdout.splitlines()
    assert lines[:3] == ["2026-11-02:    60.00", "2026-11-03:    63.00", "2026-11-04: failed in quality.check_keys"]
    assert lines[-1] == "2026-11-08: no orders"
    assert week.stderr == "ALERT: sales: order 2026-11-04/1 is there twice\n"

    cleared = run(tmp_path, "ported_from_airflow.py", "--folder", "sales", "--clear", "2026-11-04")
    assert (cleared.returncode, cleared.stdout, cleared.stderr) == (0, "2026-11-04:    66.00\n", "")

    again = run(tmp_path, "ported_from_airflow.py", "--folder", "sales")
    assert (again.returncode, len(again.stdout.splitlines())) == (0, 7), again.stdout + again.stderr


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_library_of_tables(tmp_path: Path, executor: str) -> None:
    if executor == "process" and os.name != "posix":
        pytest.skip("processes need POSIX")
    result = run(tmp_path, "library.py", "--executor", executor)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == ["Ada Lovelace    27.50", "Alan             5.00"]


def test_library_skips_a_table_without_a_source(tmp_path: Path) -> None:
    result = run(tmp_path, "library.py", "--without", "orders")
    assert result.returncode == 0, result.stderr
    assert "Ada Lovelace     0.00" in result.stdout
    assert result.stdout.count("skipped: orders.") == 4


def test_incremental_load_of_a_folder(tmp_path: Path) -> None:
    result = run(tmp_path, "incremental.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "4 files, 0 damaged: monday: 10.00, tuesday: 100.00",
        "4 files, 1 damaged: monday: 8.00, tuesday: 80.00",
        "  shop_2.csv: could not convert string to float: 'none'",
        "3 files, 0 damaged: monday: 204.00, tuesday: 40.00",
    ]


def test_incremental_load_reads_only_files_that_have_changed(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("north", "south"):
        (folder / f"{name}.csv").write_text("monday,1\n", "utf-8")
    assert run(tmp_path, "incremental.py", str(folder)).stdout == "2 files, 0 damaged: monday: 2.00\n"
    north = (folder / "north.csv").stat()
    (folder / "north.csv").write_text("monday,9\n", "utf-8")  # a change that cannot be seen: as long as before ...
    os.utime(folder / "north.csv", ns=(north.st_atime_ns, north.st_mtime_ns))  # ... and with the same time stamp
    (folder / "south.csv").write_text("monday,5.5\n", "utf-8")
    assert run(tmp_path, "incremental.py", str(folder)).stdout == "2 files, 0 damaged: monday: 6.50\n"


def test_table_of_the_library_in_a_block_of_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    from _tables import table

    with DAG("mine") as mine:
        customers = table("customers", lambda source: [{"id": 1, "name": source}], key="id")
        customers >> Task(len, name="count")
    assert [task.name for task in mine.tasks] == ["customers", "count"]
    assert mine.run("serial", params={"source": "a"})["count"] == 1
