"""Exception `UsageError`: the arguments of a command are wrong."""

from __future__ import annotations


class UsageError(Exception):
    """The arguments of a command are wrong: the command ends with exit code 2. The message is one sentence."""
