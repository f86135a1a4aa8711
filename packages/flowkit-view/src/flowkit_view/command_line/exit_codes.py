"""Exit codes of the commands."""

from __future__ import annotations

SUCCEEDED = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
ANSWERS = (SUCCEEDED, FAILED, USAGE, INTERRUPTED)
"""The exit codes that a command returns itself; any other end of its process is a crash."""
