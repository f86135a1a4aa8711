"""Function `supervise`: runs a command in a child process, and starts it again after a crash."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from flowkit_core._text import counted

from .exit_codes import ANSWERS, INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_BACKOFF = 60.0
"""Longest wait before a restart, in seconds."""


def supervise(
    arguments: Sequence[str],
    max_restarts: int,
    backoff: float,
    *,
    start: Callable[[Sequence[str]], Any] = subprocess.Popen,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Run a command of flowkit in a process, and start it again if that process crashes. Return its exit code.

    A crash is an end by a signal, or with an exit code that the command does not return itself. The wait before a
    restart is `backoff` seconds, and doubles with each restart.

    Args:
        arguments: the command and its options.
        max_restarts: maximum number of restarts.
        backoff: seconds before the first restart.
        start: starts a process; for tests.
        sleep: waits; for tests.
    """
    command = [sys.executable, "-m", "flowkit_view", *arguments]
    wait = backoff
    for restarts in range(max_restarts + 1):
        code = _run(command, start)
        if code in ANSWERS:
            return code
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if restarts == max_restarts:
            times = counted(restarts, "time")
            _log(f"the process of the run {how}; it was restarted {times}, so it is not restarted again")
            break
        wait = min(wait, MAX_BACKOFF)
        _log(f"the process of the run {how}; restart {restarts + 1} of {max_restarts} in {wait:g} s")
        try:
            sleep(wait)
        except KeyboardInterrupt:
            return INTERRUPTED
        wait *= 2
    return 1


def _run(command: Sequence[str], start: Callable[[Sequence[str]], Any]) -> int:
    """Run a process to its end. Ctrl-C reaches it too, and SIGTERM is passed on; this process waits for its end."""
    interrupted = terminated = False
    process: subprocess.Popen[bytes] | None = None

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True

    def terminate(*_: object) -> None:
        nonlocal terminated
        terminated = True
        if process is not None:
            process.terminate()

    before = {signal.SIGINT: signal.signal(signal.SIGINT, interrupt)}
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, terminate)
    try:
        process = start(command)
        if terminated:
            process.terminate()
        code: int = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return INTERRUPTED if (interrupted or terminated) and code not in ANSWERS else code


def _log(message: str) -> None:
    sys.stderr.write(f"flowkit: {message}\n")
    sys.stderr.flush()
