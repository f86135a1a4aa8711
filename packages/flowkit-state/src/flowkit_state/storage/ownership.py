"""Who has a run: a process, known by its number and by when it started, for numbers are used again."""

from __future__ import annotations

import os
import sys
import weakref

from flowkit_state.serialization.json_text import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_held: weakref.WeakValueDictionary[str, Claim] = weakref.WeakValueDictionary()


class Claim:
    """A claim of this process on a run, good until it is let go, or forgotten, or the process ends.

    Attributes:
        token: a text that no other claim has.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.token = os.urandom(8).hex()
        _held[self.token] = self

    def text(self) -> str:
        """Return what tells others of it."""
        pid = self._pid
        facts = {"token": self.token, "pid": pid, "ticks": _ticks(pid), "since": _since(pid), **_realm()}
        return dumps(facts)

    def is_of(self, pid: int) -> bool:
        """Say whether a process has it: not a fork of the one that does, which has only a copy."""
        return self._pid == pid

    def let_go(self) -> None:
        """Give it up."""
        _held.pop(self.token, None)


def let_go(text: str) -> None:
    """Give up the claim of that text, if it is one of this process."""
    _held.pop(loads(text)["token"], None)


def holder(text: str | None) -> dict[str, Any] | None:
    """Return the facts of a claim if its owner may still be at work; None if surely not, as its process is gone.

    What cannot be seen from here, a process of another machine or container, counts as at work.
    """
    if text is None:
        return None
    claim: dict[str, Any] = loads(text)
    return claim if _holds(claim) else None


def is_here(claim: dict[str, Any]) -> bool:
    """Say whether the process of a claim can be seen from here."""
    realm = _realm()
    return (claim["boot"], claim["space"]) == (realm["boot"], realm["space"])


def _holds(claim: dict[str, Any]) -> bool:
    realm = _realm()
    if claim["host"] == realm["host"] and claim["boot"] != realm["boot"]:
        return False  # this machine has been started anew since
    if not is_here(claim):
        return True
    pid = claim["pid"]
    if pid == os.getpid() and claim["ticks"] == _ticks(pid):
        own = _held.get(claim["token"])
        return own is not None and own.is_of(pid)
    return _lives(pid) and bool(_ticks(pid) == claim["ticks"])


def _realm() -> dict[str, Any]:
    """Return what process numbers are relative to: the machine, when it was started, the namespace of numbers."""
    import platform

    boot = _read("/proc/sys/kernel/random/boot_id").strip()
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return {"host": platform.node(), "boot": boot, "space": space}


def _ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the machine did; None where that cannot be known."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # its name may contain anything
    return int(fields[19]) if len(fields) > 19 else None


def _since(pid: int) -> float:
    """Return when a process started, in seconds since the epoch; now, where that cannot be known."""
    import time

    ticks = _ticks(pid)
    uptime = _read("/proc/uptime").split()
    if ticks is None or not uptime:
        return time.time()
    return time.time() - float(uptime[0]) + ticks / os.sysconf("SC_CLK_TCK")


def _lives(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # there, asking by signal would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] != ["Z"]  # it has ended, and nobody has looked


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
