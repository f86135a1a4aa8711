"""Processes that resume the same run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from crash_scripts import start_script, wait_for_exit
from durable_tasks import RESULTS, diamond, wait_until

from flowkit import StateManager

pytestmark = pytest.mark.slow

RESUME = """
import sys
from pathlib import Path
from flowkit import RunInUseError
from durable_tasks import Box, diamond

box, me = Box(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
try:
    results = diamond().run("thread", state=box.db, params=box.params, resume=True)
    print(dict(results))
except RunInUseError as error:
    print(error.pid)
    Path(box.folder, f"refused-{me}").touch()
"""


def test_concurrent_resume_runs_in_one_process_and_raises_in_others(box, tmp_path):
    box.inject("report", "fail")
    diamond().run("serial", state=box.db, params=box.params, raise_on_failure=False)
    box.inject("report", "wait")
    path = tmp_path / "resume.py"
    path.write_text(RESUME)
    processes = [start_script(path, box.folder, number) for number in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    wait_until(
        lambda: len(list(Path(box.folder).glob("refused-*"))) == 3 or all(p.poll() is not None for p in processes)
    )
    box.repair("report")
    outputs = {process.pid: wait_for_exit(process) for process in processes}
    assert all(code == 0 for code, _, _ in outputs.values()), outputs
    (winner,) = [pid for pid, (_, out, _) in outputs.items() if out == f"{RESULTS}\n"]
    assert {out for pid, (_, out, _) in outputs.items() if pid != winner} == {f"{winner}\n"}
    assert Counter(box.ran) == {"extract": 1, "double": 1, "count": 1, "report": 2}


def test_run_of_killed_process_can_be_resumed_at_once(box, tmp_path):
    path = tmp_path / "resume.py"
    path.write_text(RESUME)
    for name in ("extract", "double", "report"):
        box.inject(name, "wait")
        before = len(box.ran)
        process = start_script(path, box.folder, name)
        process.stdin.write("go\n")
        process.stdin.flush()
        wait_until(lambda: name in box.ran[before:] or process.poll() is not None)  # noqa: B023 - called at once
        process.kill()
        assert wait_for_exit(process)[0] == -9
        box.repair(name)
    results = diamond().run("serial", state=box.db, params=box.params, resume=True)
    assert results == RESULTS
    with StateManager(box.db) as state:
        (record,) = state.runs()
    assert (record.status, record.resumes) == ("succeeded", 3)
