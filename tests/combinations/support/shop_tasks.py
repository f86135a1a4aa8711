"""Tasks that worker processes import from here."""

from __future__ import annotations

from pathlib import Path

from flowkit_core import DAG, Task


def extract():
    return [3, 1, 2]


def total(rows):
    return sum(rows)


def largest(rows):
    return max(rows)


def report(total, largest):
    return f"{largest} of {total}"


def refund(rows):
    return -1


def never(rows):
    return False


def divide(rows):
    return rows[0] / 0


def unstable(path):
    """Fail at the first call, given a path that does not exist yet."""
    if not Path(path).exists():
        Path(path).touch()
        raise OSError("no answer")
    return "answer"


def pipeline():
    """Return a pipeline with two branches, one of which has a task that is skipped."""
    first, last, skipped = Task(extract), Task(report), Task(refund, when=never)
    first >> [Task(total), Task(largest)] >> last
    first >> skipped
    return DAG("shop", tasks=[last, skipped])
