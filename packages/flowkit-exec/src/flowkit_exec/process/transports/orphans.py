"""Reaps the processes that tasks have left, where this process inherits them; only POSIX systems have zombies."""

from __future__ import annotations

import os
from time import sleep

_groups: set[int] = set()  # process groups of ended workers, some of whose processes may not be reaped


def reap_group(group: int) -> None:
    """Reap what tasks have left, if this process inherits it: as process 1 of a container, or as a "subreaper"."""
    _groups.add(group)
    for number in tuple(_groups):
        try:
            for _ in range(10):  # killed processes end soon, not at once
                while os.waitpid(-number, os.WNOHANG)[0]:
                    pass
                sleep(0.001)
        except ChildProcessError:  # none is left
            _groups.discard(number)


def forget_group(group: int) -> None:
    """Forget a process group, because another one has its id now."""
    _groups.discard(group)
