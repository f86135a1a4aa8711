"""Each measure of the benchmarks runs, with few tasks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CELL = Path(__file__).parents[1] / "benchmarks" / "cell.py"


@pytest.mark.sampled(4)
@pytest.mark.skipif(sys.platform == "win32", reason="platform: the benchmarks need POSIX")
@pytest.mark.parametrize(
    "arguments",
    [
        ("array", "flowkit process", "block", "2"),
        ("build", "flowkit", "fanout", "30"),
        ("coroutines", "fanout", "30"),
        ("elements", "thread", "generator", "30"),
        ("elements", "serial", "chain of 3", "30"),
        ("huge", "layers", "30"),
        ("kept", "3"),
        ("logs", "chain", "30"),
        ("memory", "chain", "30"),
        ("once", "flowkit, bare DAG", "layers", "30"),
        ("recording", "2", "chain", "30"),
        ("recording", "2", "map", "30"),
        ("shape", "flowkit process 2", "layers", "30"),
        ("shape", "flowkit serial", "independent", "30"),
        ("shape", "graphlib + threads, wait", "chain", "30"),
        ("three", "flowkit thread", "warm"),
        ("uneven", "flowkit thread", "4", "random", "1", "3"),
    ],
    ids=" ".join,
)
def test_measure_of_benchmarks_returns_values(arguments):
    command = [sys.executable, str(CELL), *arguments]
    done = subprocess.run(command, input="\n", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    ready, values = map(json.loads, done.stdout.splitlines())
    assert ready == {}
    assert all(value >= 0 for value in values["median"].values())
