"""Class `Facts`: the facts about a run that the contexts of its tasks keep, in the process of the run."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import ContextError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowkit_core._typing import Any
    from flowkit_core.context import RunTrace

    from .recording.recorder import RunRecorder


class Facts:
    """The facts about a run that the contexts of its tasks keep: id, name, parameters, notes and trace; nothing else.

    Args:
        run_id: id of the run.
        pipeline: name of the pipeline.
        params: the argument ``params`` of ``run()``.
        recorder: the record of the run, which keeps notes; None if there is none.

    Attributes:
        run_id, pipeline, params: see above.
        trace: the span of the run in a distributed trace; None if it has none.
    """

    trace: RunTrace | None = None
    _is_over = False

    def __init__(self, run_id: str, pipeline: str, params: Mapping[str, Any], recorder: RunRecorder | None) -> None:
        self.run_id = run_id
        self.pipeline = pipeline
        self.params = params
        self._recorder = recorder
        self._notes: dict[tuple[int, int | None], dict[str, Any]] = {}

    def notes(self, index: int, element: int | None) -> Mapping[str, Any]:
        """Return the notes of a task, also those of earlier executions of the run."""
        known = self._notes.get((index, element))
        if known is None:
            recorded = self._recorder.notes(index, element) if self._recorder is not None else {}
            known = self._notes.setdefault((index, element), dict(recorded))
        return known

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        """Keep a note of a task; it is committed when this returns, if the run is recorded.

        Raises:
            ContextError: the run has ended.
            Exception: the value cannot be stored.
        """
        if self._is_over:
            raise ContextError(f"the note {key!r} cannot be kept: run {self.run_id!r} of {self.pipeline!r} has ended")
        self.notes(index, element)
        if self._recorder is not None:
            self._recorder.remember(index, element, key, value)
        self._notes[index, element][key] = value

    def close(self) -> None:
        """Keep no more notes, and drop the notes and the reference to the record."""
        self._is_over = True
        self._recorder = None
        self._notes = {}
