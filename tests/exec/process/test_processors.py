"""The number of processors, on which the default number of workers depends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flowkit_exec import ProcessExecutor, ThreadExecutor, processors
from flowkit_exec.processors import available_processors, cpu_quota

V2 = "25 1 0:2 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"


def put(root, files):
    """Write files below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return str(root)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/a/b/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/a/cpu.max": "50000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 0.5),
        ({"sys/fs/cgroup/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "400000 100000"}, 3.0),
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000"}, float("inf")),
        ({"sys/fs/cgroup/a/b/cpu.max": "nonsense"}, float("inf")),
        ({"sys/fs/cgroup/other/cpu.max": "100000 100000"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_quota_of_version_2_is_the_smallest_of_the_group_and_those_above(tmp_path, files, expected):
    files = {"proc/self/cgroup": "0::/a/b", "proc/self/mountinfo": V2, **files}
    assert cpu_quota(put(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("mounted", "group", "folder"), [("/", "/a", "/a"), ("/docker/x", "/docker/x", ""), ("/", "/of/the/host", "")]
)
@pytest.mark.parametrize(("quota", "expected"), [("250000", 2.5), ("-1", float("inf"))])
def test_quota_of_version_1(tmp_path, mounted, group, folder, quota, expected):
    base = "sys/fs/cgroup/cpu,cpuacct" + folder
    files = {
        "proc/self/cgroup": f"4:memory:/m\n2:cpu,cpuacct:{group}\n0::/",
        "proc/self/mountinfo": V1.format(root=mounted),
        f"{base}/cpu.cfs_quota_us": quota,
        f"{base}/cpu.cfs_period_us": "100000",
    }
    assert cpu_quota(put(tmp_path, files)) == expected


@pytest.mark.parametrize("groups", ["", "garbage", "0::", "::::"])
def test_quota_of_unreadable_files_is_infinite(tmp_path, groups):
    assert cpu_quota(put(tmp_path, {"proc/self/cgroup": groups, "proc/self/mountinfo": "garbage - cgroup2"})) > 1e9


@pytest.mark.parametrize(("quota", "expected"), [(0.2, 1), (1.0, 1), (2.5, 3), (100.0, 8), (float("inf"), 8)])
def test_default_number_of_workers_respects_quota_and_affinity(monkeypatch, quota, expected):
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(processors, "_quotas", [quota])
    assert available_processors() == ProcessExecutor().max_workers == expected
    assert ThreadExecutor().max_workers == expected + 4


def test_variable_sets_the_number_of_processors(monkeypatch):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "3")
    assert (ProcessExecutor().max_workers, ThreadExecutor().max_workers) == (3, 7)
    for ignored in ("default", "", "0", "many", "-2"):
        monkeypatch.setenv("PYTHON_CPU_COUNT", ignored)
        assert available_processors() == len(os.sched_getaffinity(0)) or processors._quotas[0] < os.cpu_count()
    monkeypatch.setenv("PYTHON_CPU_COUNT", "100")
    assert ThreadExecutor().max_workers == 32


def test_interpreter_option_sets_the_number_of_processors():
    code = "from flowkit_exec.processors import available_processors as count; print(count())"
    command = [sys.executable, "-X", "cpu_count=5", "-c", code]
    environment = {**os.environ, "PYTHON_CPU_COUNT": "3"}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "5\n"
