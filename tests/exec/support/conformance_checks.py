"""Helpers of the tests that every executor passes."""

from __future__ import annotations

SECONDS = 60  # a limit for tests that hang


def copies(original, *names, **options):
    """Return copies of a task without edges, one for each name."""
    return [original.with_options(name=name, **options) for name in names]


def fresh(*originals):
    """Return a copy of each task without edges, with the same name."""
    return [original.with_options(name=original.name) for original in originals]


def notes(error):
    """Return all notes of an exception as one text."""
    return "\n".join(getattr(error, "__notes__", ()))
