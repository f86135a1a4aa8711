"""A task that keeps a note; worker processes import it from here."""

from __future__ import annotations

from flowkit import current


def submit():
    """Start a job, and fail in the first call."""
    job = current().notes.get("job")
    if job is None:
        current().remember("job", "job-17")
        raise ConnectionError("job-17 does not answer")
    return f"went on with {job}"
