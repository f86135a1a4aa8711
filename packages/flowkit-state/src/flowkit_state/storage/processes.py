"""Other processes, in one module because each operating system has its own calls: which one an id means, and its state.

Linux has ``/proc``. Windows has calls of its own. Elsewhere, when a process started is unknown.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EPOCH = 116444736000000000  # of Unix, in the units of 100 ns since 1601 that Windows counts
_ACCESS_DENIED = 5


def scope() -> dict[str, str]:
    """Return what process ids are relative to: the machine, its boot, and the namespace of process ids."""
    import platform

    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return {"host": platform.node(), "boot": _read("/proc/sys/kernel/random/boot_id").strip(), "space": space}


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in a unit of the operating system; `None` if that is unknown."""
    if sys.platform == "win32":
        with _WindowsProcess(pid) as process:
            return process.started
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name in parentheses may contain anything
    return int(fields[19]) if len(fields) > 19 else None


def start_time(pid: int) -> float:
    """Return when a process started, in seconds since the epoch; the time now if that is unknown."""
    ticks = start_ticks(pid)
    if ticks is None:
        return time.time()
    if sys.platform == "win32":
        return (ticks - _EPOCH) / 1e7
    uptime = _read("/proc/uptime").split()
    return time.time() - float(uptime[0]) + ticks / os.sysconf("SC_CLK_TCK") if uptime else time.time()


def is_running(pid: int) -> bool:
    """Return whether a process runs; also if it belongs to another user. A zombie does not run."""
    if sys.platform == "win32":
        with _WindowsProcess(pid) as process:
            return process.is_running
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a process of another user
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] != ["Z"]  # zombie: exited, not yet reaped


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class _WindowsProcess:
    """A process, opened to ask Windows about it: ``os.kill(pid, 0)`` would terminate it there.

    Attributes:
        is_running: whether it runs.
        started: when it started, in units of 100 ns since 1601; `None` if that is unknown.
    """

    def __init__(self, pid: int) -> None:
        import ctypes

        windows: Any = ctypes
        self._kernel = windows.WinDLL("kernel32", use_last_error=True)
        self._kernel.OpenProcess.restype = ctypes.c_void_p
        query, synchronize, running = 0x1000, 0x100000, 0x102
        self._handle = ctypes.c_void_p(self._kernel.OpenProcess(query | synchronize, False, pid))
        self.started: int | None = None
        if not self._handle.value:
            self.is_running = windows.get_last_error() == _ACCESS_DENIED  # a process of another user
            return
        self.is_running = self._kernel.WaitForSingleObject(self._handle, 0) == running
        created, ended, kernel, user = (ctypes.c_uint64() for _ in range(4))
        times = map(ctypes.byref, (created, ended, kernel, user))
        if self._kernel.GetProcessTimes(self._handle, *times):
            self.started = created.value

    def __enter__(self) -> _WindowsProcess:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._handle.value:
            self._kernel.CloseHandle(self._handle)
