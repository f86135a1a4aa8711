"""Helpers of the tests that every executor passes."""

from __future__ import annotations

SECONDS = 60  # a guard against hanging, never a wait


def copies(original, *names, **options):
    """Return unwired copies of a task, one for each name."""
    return [original.with_options(name=name, **options) for name in names]


def fresh(*originals):
    """Return an unwired copy of each task, under its own name."""
    return [original.with_options(name=original.name) for original in originals]


def notes(error):
    """Return all notes of an exception as one text."""
    return "\n".join(getattr(error, "__notes__", ()))
