"""Function `write_report`: writes the report of a recorded run."""

from __future__ import annotations

import os

from flowkit_state import StateManager
from flowkit_view.garbage import collection_paused

from .from_record import model_of
from .page import write_page


def write_report(records: StateManager | str | os.PathLike[str], run_id: str, path: str | os.PathLike[str]) -> str:
    """Write the report of a recorded run, and return the absolute path of the file.

    Args:
        records: the records, or the path of their file.
        run_id: id of the run.
        path: the file to write.

    Raises:
        UnknownRunError: no run has this id.
        OSError: the file cannot be written.
    """
    target = os.path.abspath(os.fspath(path))
    if not isinstance(records, StateManager):
        with StateManager(records) as state:
            return write_report(state, run_id, target)
    with collection_paused():
        write_page(model_of(records, records.run(run_id)), target)
    return target
