"""Class `ElementSampler`: counts the elements of mapped tasks from time to time, while they run."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core import Run

INTERVAL = 0.2
"""Seconds between two counts."""


class ElementSampler:
    """Passes on how many elements of each running mapped task have ended, from a thread that exists while any runs.

    Args:
        take: called with the name of a task and the number of its elements that have ended; by one thread at a time.
        redraw: called by the thread from time to time, after the elements have been counted.
    """

    def __init__(self, take: Callable[[str, int], object], redraw: Callable[[], object] = lambda: None) -> None:
        self._take = take
        self._redraw = redraw
        self._run: Run | None = None
        self._running: set[str | None] = set()
        self._lock = threading.Lock()  # held while elements are counted
        self._all_ended: threading.Event | None = None  # set when no mapped task is running; None without the thread

    def watch(self, run: Run) -> None:
        """Take the run, which counts the elements."""
        self._run = run

    def start(self, task: str | None) -> None:
        """Count the elements of a task from now on; None starts the thread without a task."""
        self._running.add(task)
        if self._all_ended is None:
            self._all_ended = threading.Event()
            arguments = (self._all_ended,)
            threading.Thread(target=self._work, args=arguments, name="flowkit-sampler", daemon=True).start()

    def end(self, task: str) -> None:
        """Count the elements of a task no more."""
        self._running.discard(task)
        if not self._running:
            self.close()

    def close(self) -> None:
        """End the thread."""
        if self._all_ended is not None:
            self._all_ended.set()
            self._all_ended = None

    def drop_run(self) -> None:
        """End the thread, and drop the reference to the run."""
        self.close()
        self._run = None

    def sample(self) -> None:
        """Count the elements now."""
        run = self._run
        if run is None or self._running <= {None}:
            return
        with self._lock:
            for name, (ended, _) in run.progress().items():
                if name in self._running:
                    self._take(name, ended)

    def _work(self, all_ended: threading.Event) -> None:
        """Count the elements until an event is set: the body of the thread."""
        while not all_ended.wait(INTERVAL):
            self.sample()
            self._redraw()
