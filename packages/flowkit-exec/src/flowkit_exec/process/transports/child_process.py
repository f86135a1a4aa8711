"""Class `ChildProcess`: the process of one worker: whether it has exited, how, and how it is killed."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod


class ChildProcess(ABC):
    """A process that this one has started, and its process group.

    Attributes:
        pid: id of the process.
        exitcode: exit code of the process, negative for a signal; None if it lives or the code is unknown.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exitcode: int | None = None

    @property
    @abstractmethod
    def check_interval(self) -> float | None:
        """Seconds after which to call :meth:`has_exited`; None if a `Waiter` always notices the exit."""

    @abstractmethod
    def has_exited(self, timeout: float = 0.0) -> bool:
        """Wait for the exit of the process, ``timeout`` seconds at most; return whether it has exited."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the process and its group; what it has sent can still be read."""

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Use no descriptor any more."""

    def exit_code(self, timeout: float = 0.0) -> int | None:
        """Wait for the exit of the process, ``timeout`` seconds at most; return its ``exitcode``."""
        self.has_exited(timeout)
        return self.exitcode

    def describe_exit(self) -> str:
        """Return how the process ended, for messages: ``"was killed by SIGKILL"``."""
        name = signal_name(self.exitcode)
        if self.exitcode is None:
            return "ended with an unknown exit code"
        return f"was killed by {name}" if name is not None else f"ended with exit code {self.exitcode}"


def signal_name(exitcode: int | None) -> str | None:
    """Return the name of the signal that killed a process, ``"signal 40"`` if it has none; None if none did."""
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:  # a real-time signal
        return f"signal {-exitcode}"
