"""How many processors this process may use: the default number of workers depends on it."""

from __future__ import annotations

import math
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_quotas: list[float] = []  # the quota, once it was read: reading it takes longer than a run of a few tasks


def available_processors() -> int:
    """Return how many processors this process may use.

    The option ``-X cpu_count`` and the variable ``PYTHON_CPU_COUNT`` decide, if they are set, on every version of
    Python. Otherwise it is the number of processors in the affinity mask of this process, or its CPU quota (rounded up)
    if that is less. The quota of its control group, version 1 or 2, is read once.
    """
    if override := _override():
        return override
    if not _quotas:
        _quotas.append(cpu_quota())
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quotas[0]
    return max(1, count if quota >= count else math.ceil(quota))


def _override() -> int:
    """Return the number that the user has set for Python; 0 if there is none."""
    given = sys._xoptions.get("cpu_count") or ("" if sys.flags.ignore_environment else os.getenv("PYTHON_CPU_COUNT"))
    return int(given) if isinstance(given, str) and given.isascii() and given.isdecimal() else 0


def cpu_quota(root: str = "/") -> float:
    """Return how many processors the control groups of this process let it use; infinity if they set no limit.

    Args:
        root: the folder that contains ``proc`` and ``sys``.
    """
    quota = float("inf")
    groups = {}  # controllers, "" for version 2 -> path of the group of this process
    for line in _lines(root, "/proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        groups[controllers] = path
    for line in _lines(root, "/proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        if not kind.startswith("cgroup") or len(fields.split()) < 5:
            continue
        mounted, mount_point = fields.split()[3:5]
        for controllers, path in groups.items():
            is_cpu = "cpu" in controllers.split(",") and "cpu" in options.replace(" ", ",").split(",")
            if kind == "cgroup2" if not controllers else kind == "cgroup" and is_cpu:
                for folder in _folders(mount_point, mounted, path):
                    quota = min(quota, _quota_of(root, folder))
    return quota


def _folders(mount_point: str, mounted: str, path: str) -> Iterator[str]:
    """Yield those folders of a control group, and those above it, that are mounted.

    Args:
        mount_point: the folder where the control groups are mounted.
        mounted: path of the group that is mounted there.
        path: path of the group. In a container it may be a path of the host, which is not mounted.
    """
    mounted = mounted.rstrip("/")
    inner = path[len(mounted) :] if f"{path}/".startswith(f"{mounted}/") else ""
    parts = [part for part in inner.split("/") if part]
    for count in range(len(parts), -1, -1):
        yield "/".join((mount_point, *parts[:count]))


def _quota_of(root: str, folder: str) -> float:
    """Return the quota of one control group as a number of processors; infinity without one."""
    fields = _words(root, f"{folder}/cpu.max")  # version 2
    if not fields:  # version 1
        fields = _words(root, f"{folder}/cpu.cfs_quota_us") + _words(root, f"{folder}/cpu.cfs_period_us")
    try:
        quota, period = map(int, fields)
    except ValueError:  # "max", or no such files
        return float("inf")
    return quota / period if quota > 0 and period > 0 else float("inf")


def _words(root: str, path: str) -> list[str]:
    return [word for line in _lines(root, path) for word in line.split()]


def _lines(root: str, path: str) -> list[str]:
    """Return the lines of a file; none if it cannot be read."""
    try:
        with open(root.rstrip("/") + path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
