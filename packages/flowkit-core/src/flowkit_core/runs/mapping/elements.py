"""Class `Elements`: the elements of one mapped task in the results of a run."""

from __future__ import annotations

from array import array

from flowkit_core._text import counts_text
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.states import FAILED, SKIPPED, STATES, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CACHED, RESUMED = 1, 2
"""Origins of the results of elements that were not called in this run; 0 for the others."""


class Elements:
    """The elements of one mapped task in one run: ``results.elements["parse"]``. ``len()`` is their number.

    Elements are numbered from 0, by their position in the input. Numbers never change: an element that was skipped or
    dropped keeps its number, although it is not in the list of results.

    Attributes:
        counts: number of elements in each state.
        states: state of each element.
        failed, skipped: the exceptions and the reasons, by number. Elements that failed in the run from which this one
            was started, with ``rerun=``, are not in ``failed``: the record has the texts of their exceptions.
        labels: the labels of failed elements, by number; empty without ``label=``.
        durations, attempts: seconds and number of attempts of each element.
        resumed: numbers of the elements that ended before the run was resumed.
        cached: numbers of the elements whose result was in a cache.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def halves(number): return 6 // number
        >>> dag = DAG("numbers", tasks=[halves.map("number", errors="drop")])
        >>> results = dag.run(params={"number": [1, 0, 3]})
        >>> results, results.elements["halves"]
        ({'halves': [6, 2]}, <3 elements of halves: 2 succeeded, 1 failed>)
        >>> results.elements["halves"].failed
        {1: ZeroDivisionError('integer division or modulo by zero')}
    """

    def __init__(
        self,
        task: str,
        codes: bytearray,
        seconds: Sequence[float],
        attempt_of: Mapping[int, int],
        reason_of: Mapping[int, str],
        error_of: Mapping[int, BaseException],
        origins: Sequence[int] = (),
        labels: Mapping[int, str] | None = None,
    ) -> None:
        self._task = task
        self._codes = codes
        self._seconds = seconds
        self._attempt_of = attempt_of
        self._reason_of = reason_of
        self._error_of = dict(error_of)
        self._origins = origins
        self._labels = labels or {}

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of elements in it, without the states that no element has."""
        return {name: count for code, name in enumerate(STATES) if (count := self._codes.count(code))}

    @property
    def states(self) -> list[str]:
        """State of each element, by number."""
        return [STATES[code] for code in self._codes]

    @property
    def failed(self) -> dict[int, BaseException]:
        """Number of each failed element -> its exception, in the order of failing."""
        return dict(self._error_of)

    @property
    def labels(self) -> dict[int, str]:
        """Number of each failed element -> its label, in the order of failing; empty without ``label=``."""
        return dict(self._labels)

    @property
    def skipped(self) -> dict[int, str]:
        """Number of each skipped element -> why."""
        found = {number: why for number, why in self._reason_of.items() if self._codes[number] == SKIPPED}
        return dict(sorted(found.items()))

    @property
    def durations(self) -> array[float]:
        """Seconds that the last attempt at each element took that returned or failed, by number; 0.0 if none did."""
        return array("d", self._seconds)

    @property
    def attempts(self) -> array[int]:
        """Number of attempts in this run at each element that succeeded or failed; 0 for any other element."""
        called = array("L", [code in (SUCCEEDED, FAILED) for code in self._codes])
        for number, origin in enumerate(self._origins):
            if origin:
                called[number] = 0
        for number, attempts in self._attempt_of.items():
            called[number] = attempts if called[number] else 0
        return called

    @property
    def resumed(self) -> list[int]:
        """Numbers of the elements that ended before the run was resumed, in order. They were not called in this run."""
        return self._of_origin(RESUMED)

    @property
    def cached(self) -> list[int]:
        """Numbers of the elements whose result was in a cache, in order. They were not called in this run."""
        return self._of_origin(CACHED)

    def _of_origin(self, wanted: int) -> list[int]:
        return [number for number, origin in enumerate(self._origins) if origin == wanted]

    def _replace_error(self, error: BaseException, other: BaseException) -> None:
        """Replace an error by another exception."""
        for number, found in self._error_of.items():
            if found is error:
                self._error_of[number] = other

    def __repr__(self) -> str:
        counts = counts_text(self.counts, "")
        elements = "element" if len(self) == 1 else "elements"
        return f"<{len(self)} {elements} of {self._task}{': ' if counts else ''}{counts}>"
