"""Twenty thousand runs on one executor do not make this process or its workers grow."""

from __future__ import annotations

import json

import pytest
from subprocess_harness import PROC

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

SOURCE = """
import gc, json, os, sys, threading
from pathlib import Path
from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor, ThreadExecutor
import faulty_tasks as faults

RUNS = 20_000
WARM_UP = 2_000

def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

def children():
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]

def facts():
    gc.collect()
    pids = children()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "descriptors of workers": [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids],
        "threads": threading.active_count(),
        "processes": len(pids),
        "objects": len(gc.get_objects()),
        "memory": resident("self"),
        "memory of workers": sum(map(resident, pids)),
    }

def run(executor, number):
    start, end = Task(faults.ok, name="start"), Task(faults.fail if number % 10 == 0 else faults.ok, name="end")
    start >> end
    results = DAG("growth", tasks=[end]).run(executor, raise_on_failure=False)
    assert results.states == {"start": "succeeded", "end": "succeeded" if number % 10 else "failed"}

made = ProcessExecutor if sys.argv[1] == "process" else ThreadExecutor
with made(max_workers=2) as executor:
    for number in range(WARM_UP):
        run(executor, number)
    before = facts()
    for number in range(WARM_UP, RUNS):
        run(executor, number)
    after = facts()
print(json.dumps([before, after]))
"""


@pytest.mark.skipif(not PROC.is_dir(), reason="platform: memory and descriptors are read in /proc")
@pytest.mark.parametrize("place", ["thread", "process"])
def test_twenty_thousand_runs_do_not_grow(script, place):
    before, after = json.loads(script(SOURCE, place).wait(seconds=900))
    same = ("descriptors", "descriptors of workers", "threads", "processes")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["objects"] < before["objects"] + 200
    assert after["memory"] < before["memory"] + 3_000_000  # 170 bytes a run
    assert after["memory of workers"] < before["memory of workers"] + 4_000_000
