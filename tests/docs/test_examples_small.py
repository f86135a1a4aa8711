"""Output, stored data and leftover files of the smaller examples, run as scripts."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytestmark = pytest.mark.sampled(3)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
EXECUTORS = ["serial", "thread", "process"]


def run(folder: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run an example in a folder of its own, with a folder of its own for temporary files."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        cwd=folder,
        env=inherited | {"TMPDIR": str(scratch), "TEMP": str(scratch), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def log_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the log lines, without their times."""
    return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize("script", ["etl.py", "approval.py", "parallel.py", "flow_user_profile.py", "word_count.py"])
def test_example_without_arguments_leaves_nothing_behind(tmp_path: Path, script: str) -> None:
    done = run(tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert [path.name for path in tmp_path.rglob("*")] == ["scratch"]


# --- etl.py -----------------------------------------------------------------------------------------------------


def items(database: Path) -> list[tuple[int, float]]:
    """Return the items of the database, after checking their timestamps."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT id, value, timestamp FROM items ORDER BY id").fetchall()
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=5) < datetime.fromisoformat(timestamp) <= now for _, _, timestamp in rows)
    return [(number, value) for number, value, _ in rows]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_etl_with_busy_server_retries(tmp_path: Path, executor: str) -> None:
    database, outbox = tmp_path / "etl.sqlite3", tmp_path / "outbox.txt"
    done = run(tmp_path, "etl.py", "--executor", executor, "--database", database, "--outbox", outbox)
    assert done.returncode == 0, done.stderr

    expected = [(1, 20.0), (2, 40.0), (4, 80.0), (5, 100.0), (6, 120.0)]
    assert items(database) == expected
    assert outbox.read_text("utf-8") == "ETL completed: Loaded 5 records\n"

    first, *lines = done.stdout.splitlines()
    assert first == "Notification sent: ETL completed: Loaded 5 records"
    assert [re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$", "TIME", line) for line in lines] == [
        f"  item {number}: {value:6.1f}  at TIME" for number, value in expected
    ]

    retries = [line for line in log_of(done) if line.startswith("[WARN]")]
    assert len(retries) == 1
    busy = 'Task "extract_from_api" failed (HTTPError: HTTP Error 503: Service Unavailable); retry 1 of 3 in'
    assert re.fullmatch(rf"\[WARN\] {re.escape(busy)} 0\.\d\d s\.", retries[0])
    assert sum(line.startswith('[SUCCESS] Task "') for line in log_of(done)) == 4


def test_etl_log_has_events_in_order(tmp_path: Path) -> None:
    done = run(tmp_path, "etl.py", "--executor", "serial")
    assert [re.sub(r"\d+\.\d\d s", "N s", line) for line in log_of(done)] == [
        '[SYSTEM] Run "etl_pipeline" started: 4 tasks, executor serial.',
        '[INFO] Starting task "extract_from_api"...',
        '[WARN] Task "extract_from_api" failed (HTTPError: HTTP Error 503: Service Unavailable); retry 1 of 3 in N s.',
        '[INFO] Starting task "extract_from_api"...',
        '[SUCCESS] Task "extract_from_api" completed successfully in N s.',
        '[INFO] Starting task "transform_data"...',
        "[INFO] 5 of 6 items are usable.",
        '[SUCCESS] Task "transform_data" completed successfully in N s.',
        '[INFO] Starting task "load_to_database"...',
        '[SUCCESS] Task "load_to_database" completed successfully in N s.',
        '[INFO] Starting task "send_notification"...',
        '[SUCCESS] Task "send_notification" completed successfully in N s.',
        '[SYSTEM] Run "etl_pipeline" finished in N s: 4 succeeded.',
    ]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_etl_of_file_replaces_earlier_items(tmp_path: Path, executor: str) -> None:
    database, outbox, source = tmp_path / "etl.sqlite3", tmp_path / "outbox.txt", tmp_path / "my prices.json"
    for value in (1.5, 2.5):
        source.write_text(json.dumps([{"id": 7, "value": value}, {"id": 8, "value": None}]), "utf-8")
        done = run(tmp_path, "etl.py", source.name, "--executor", executor, "--database", database, "--outbox", outbox)
        assert done.returncode == 0, done.stderr
    assert items(database) == [(7, 5.0)]
    assert outbox.read_text("utf-8") == "ETL completed: Loaded 1 records\n" * 2


def test_etl_with_invalid_file_fails_with_error_of_task(tmp_path: Path) -> None:
    source = tmp_path / "data.json"
    source.write_text("[{]", "utf-8")
    outbox = tmp_path / "outbox.txt"
    done = run(tmp_path, "etl.py", source, "--executor", "serial", "--outbox", outbox)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "json.decoder.JSONDecodeError: Expecting property name" in done.stderr
    failure = '[ERROR] Task "extract_from_api" failed after 4 attempts: JSONDecodeError'
    assert any(line.startswith(failure) for line in log_of(done))
    assert not outbox.exists()
    assert list((tmp_path / "scratch").iterdir()) == []


# --- approval.py ------------------------------------------------------------------------------------------------

APPROVAL_PICTURE = """\
approval_workflow: 5 tasks

                      ╭─→ require_manual_approval (when) ─╮
extract ─→ transform ─┼─→ auto_approve (when) ────────────┼─→ load
                      ╰───────────────────────────────────╯
"""
SMALL = """
Incoming: {0}
Small dataset ({1}) - auto-approved
Loading {1} with AUTO_APPROVED
Results: {{'extract': {0}, 'transform': {1}, 'auto_approve': 'AUTO_APPROVED', 'load': 'LOADED_AUTO_APPROVED'}}
Skipped: require_manual_approval, because its condition was false
"""
LARGE = """
Incoming: {0}
Large dataset ({1}) - manual approval required
Loading {1} with MANUAL_APPROVAL
Results: {{'extract': {0}, 'transform': {1}, 'require_manual_approval': 'MANUAL_APPROVAL', \
'load': 'LOADED_MANUAL_APPROVAL'}}
Skipped: auto_approve, because its condition was false
"""


@pytest.mark.parametrize("executor", EXECUTORS)
def test_approval_runs_one_branch_and_skips_the_other(tmp_path: Path, executor: str) -> None:
    done = run(tmp_path, "approval.py", "--executor", executor)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == APPROVAL_PICTURE + SMALL.format(800, 1600) + LARGE.format(1500, 3000)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_approval_at_limit_is_automatic(tmp_path: Path, executor: str) -> None:
    done = run(tmp_path, "approval.py", 1000, 1001, "--executor", executor)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == APPROVAL_PICTURE + SMALL.format(1000, 2000) + LARGE.format(1001, 2002)


# --- parallel.py ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", EXECUTORS)
def test_parallel_total_is_sum_of_batches(tmp_path: Path, executor: str) -> None:
    done = run(tmp_path, "parallel.py", "--executor", executor)
    assert (done.returncode, done.stderr) == (0, "")
    batches = [sum(range(333)), sum(range(333, 666)), sum(range(666, 1000))]
    expected = f"""\
parallel_processing: 5 tasks

            ╭─→ process_batch_1 ─╮
fetch_data ─┼─→ process_batch_2 ─┼─→ aggregate_results
            ├─→ process_batch_3 ─┤
            ╰────────────────────╯

fetch_data         range(0, 1000)
process_batch_1    {batches[0]}
process_batch_2    {batches[1]}
process_batch_3    {batches[2]}
aggregate_results  Total: {sum(range(1000))}
"""
    assert done.stdout == expected


# --- flow_user_profile.py ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    ("customer", "profile"),
    [
        (1, "Alice (customer 1)\n  has ordered   kettle, tea\n  may also like cups, honey\n"),
        (2, "Bob (customer 2)\n  has ordered   cups, honey, tea\n  may also like kettle\n"),
        (3, "Carol (customer 3)\n  has ordered   cups, kettle, kettle\n  may also like tea, honey\n"),
    ],
    ids=["Alice", "Bob", "Carol"],
)
def test_flow_profile_combines_queries(tmp_path: Path, executor: str, customer: int, profile: str) -> None:
    done = run(tmp_path, "flow_user_profile.py", customer, "--executor", executor)
    assert (done.returncode, done.stderr) == (0, "")
    expected = f"""\
user_pipeline: 4 tasks

fetch_user ─┬─→ fetch_orders ──────────┬─→ combine
            ╰─→ fetch_recommendations ─╯

{profile}"""
    assert done.stdout == expected


@pytest.mark.parametrize("executor", EXECUTORS)
def test_flow_with_unknown_customer_fails(tmp_path: Path, executor: str) -> None:
    done = run(tmp_path, "flow_user_profile.py", 4, "--executor", executor)
    assert done.returncode == 1
    assert "LookupError: the shop has no customer 4" in done.stderr
    assert "task 'fetch_user' of 'user_pipeline'" in done.stderr
    assert list((tmp_path / "scratch").iterdir()) == []
