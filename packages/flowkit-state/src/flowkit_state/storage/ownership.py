"""Claims: which process owns a run, or a blob file that is being written, and whether that process is alive."""

from __future__ import annotations

import os
import weakref

from flowkit_state.errors import RunInUseError
from flowkit_state.serialization.json_text import dumps, loads
from flowkit_state.storage import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_PID = 1 << 31
_MAX_TIME = 1e11  # seconds since the epoch, which `datetime` supports
_claims: weakref.WeakValueDictionary[str, Claim] = weakref.WeakValueDictionary()  # of this process, by token


class Claim:
    """A claim of this process. It ends with `release`, when the object is deleted, or with the process.

    Attributes:
        token: a text that is unique among all claims.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.token = os.urandom(8).hex()
        _claims[self.token] = self

    def text(self) -> str:
        """Return the text to store. The process is identified by its id and its start time, as ids are reused."""
        pid = self._pid
        facts = {"token": self.token, "pid": pid, "ticks": processes.start_ticks(pid)}
        facts |= {"since": processes.start_time(pid), **processes.scope()}
        return dumps(facts)

    def is_of(self, pid: int) -> bool:
        """Return whether the process made this claim; a fork of that process only has a copy of it."""
        return self._pid == pid

    def release(self) -> None:
        """End the claim."""
        _claims.pop(self.token, None)


def release(text: str) -> None:
    """End the claim with that text, if it is one of this process."""
    claim = _facts(text)
    if claim is not None:
        _claims.pop(claim["token"], None)


def live_claim(text: str | None) -> dict[str, Any] | None:
    """Return the facts of a claim, or `None` if there is none, it is damaged, or its process has ended.

    A process that is not visible from here, on another machine or in another container, counts as alive.
    """
    claim = None if text is None else _facts(text)
    return claim if claim is not None and _is_live(claim) else None


def check_claim(text: str | None) -> None:
    """Raise `ValueError` if there is a claim and it is damaged."""
    if text is not None and _facts(text) is None:
        raise ValueError("the process that owns it cannot be read")


def _facts(text: str) -> dict[str, Any] | None:
    """Return the facts of a claim; `None` if they are damaged."""
    try:
        claim = loads(text)
        valid = all(type(claim[name]) is str for name in ("token", "host", "boot", "space"))
        valid = valid and type(claim["pid"]) is int and 0 < claim["pid"] < _MAX_PID
        valid = valid and type(claim["ticks"]) in (int, type(None)) and abs(float(claim["since"])) < _MAX_TIME
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError):
        return None
    return claim if valid else None


def check_not_in_use(owner: str | None, run_id: str, pipeline: str) -> None:
    """Raise `RunInUseError` if the claim `owner` on a run is live."""
    claim = live_claim(owner)
    if claim is not None:
        from datetime import UTC, datetime

        raise RunInUseError(run_id, pipeline, claim["pid"], datetime.fromtimestamp(claim["since"], UTC), claim["host"])


def is_visible(claim: dict[str, Any]) -> bool:
    """Return whether the process of a claim is visible from here."""
    scope = processes.scope()
    return (claim["boot"], claim["space"]) == (scope["boot"], scope["space"])


def _is_live(claim: dict[str, Any]) -> bool:
    scope = processes.scope()
    if claim["host"] == scope["host"] and claim["boot"] != scope["boot"]:
        return False  # this machine has rebooted
    if not is_visible(claim):
        return True
    pid = claim["pid"]
    if pid == os.getpid() and claim["ticks"] == processes.start_ticks(pid):
        own = _claims.get(claim["token"])
        return own is not None and own.is_of(pid)
    return processes.is_running(pid) and bool(processes.start_ticks(pid) == claim["ticks"])
