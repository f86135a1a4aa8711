"""Class `Results`: what a run returns."""

from __future__ import annotations

from ._text import counts_text, escape_control_chars, listed, short_repr, similar_or_all
from ._typing import TYPE_CHECKING, Any, TypeVar
from .errors import MissingResultError
from .failures import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike
    from typing import NoReturn

    from .persistence import Store
    from .runs.mapping.elements import Elements
    from .runs.run import Run
    from .runs.run_state import RunSummary


T = TypeVar("T")


class RaisedError(Exception):
    """Placeholder for the raised exception in ``error.flowkit_results.failed``; it avoids a reference cycle.

    :meth:`Results.from_error` returns results with the exception itself.

    Attributes:
        text: class and message of the exception, shortened.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} (placeholder: Results.from_error(error).failed has the exception itself)"


class TaskFacts(dict[str, T]):
    """An attribute of `Results`, such as ``states``: a dict by name of the task, whose errors say what is missing.

    Args:
        values: name of a task -> value.
        attribute: name of the attribute.
        states: name of each task of the run -> its state.
    """

    def __init__(self, values: Mapping[str, T], attribute: str, states: Mapping[str, str]) -> None:
        super().__init__(values)
        self._attribute = attribute
        self._states = None if attribute == "states" else states  # not this object: that is a reference cycle

    def __missing__(self, name: object) -> NoReturn:
        """Raise an error with the reason why a key has no value.

        Raises:
            MissingResultError: always; also a :class:`KeyError`.
        """
        raise MissingResultError(name, self._why_missing(name), self._attribute)

    def _why_missing(self, name: object) -> str:
        states: Mapping[str, Any] = self if self._states is None else self._states
        if not isinstance(name, str):
            own = getattr(name, "name", None)
            return f"write the name of the task, {own!r}" if isinstance(own, str) else "the keys are names of tasks"
        inside = [other for other in states if other.startswith(f"{name}.")]
        if inside:
            shown = [other for other in inside if other in self]
            what = f"write the name of a task in it, {listed(shown)}" if shown else "none of its tasks is in it"
            return f"{name!r} is a pipeline: {what}"
        mapped = name.rpartition("[")[0]
        if mapped in states:
            return f"for elements of the task, see results.elements[{mapped!r}]"
        if name not in states:
            return f"no task of that name was in the run{similar_or_all(name, states)}"
        if self._attribute == "elements":
            return "the task is not mapped"
        if states[name] == "succeeded" and self._attribute in ("durations", "attempts"):
            return "the task did not run in this run, because its result was known; see results.cached and .resumed"
        return f"the state of the task is {states[name]!r}"


class Results(dict[str, Any]):
    """Results of the tasks that succeeded, name -> value in topological order: a dict with facts about the run.

    Attributes:
        run_id: unique id of the run.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def one(): return 1
        >>> results = DAG("numbers", tasks=[one]).run()
        >>> results, results.states
        ({'one': 1}, {'one': 'succeeded'})
    """

    run_id: str = ""
    _summary: RunSummary | None = None
    _place: Store | str | None = None  # of the record of the run: a store, or the path of its file
    _known: dict[str, dict[str, Any]] | None = None  # facts that were read before

    @property
    def _facts(self) -> dict[str, dict[str, Any]]:
        if self._known is None:
            self._known = {}
        return self._known

    @classmethod
    def _of(cls, run: Run) -> Results:
        """Return the results of a run; the facts are computed when they are read."""
        results = cls(run.state.items())
        results.run_id = run.run_id
        results._summary = run.state.summary()
        if (place := run.record_place) is not None:
            results._place = place
        return results

    def _attach(self, error: BaseException) -> None:
        """Set ``error.flowkit_results`` to these results, and replace the error in ``.failed`` by a placeholder."""
        if self._summary is not None:
            self._summary.replace_error(error, RaisedError(describe_error(error)))
        try:
            BaseException.__setattr__(error, "flowkit_results", self)  # also of a frozen dataclass
        except Exception:  # noqa: S110 - an exception without attributes is raised nevertheless
            pass

    @property
    def states(self) -> dict[str, str]:
        """Task name -> "succeeded", "failed", "skipped", "upstream_failed" or "cancelled"."""
        return self._by_task("states")

    @property
    def skipped(self) -> dict[str, str]:
        """Name of each skipped task -> why."""
        return self._by_task("skipped")

    @property
    def failed(self) -> dict[str, BaseException]:
        """Name of each failed task -> the exception that it raised; of elements of mapped tasks as ``"parse[3]"``.

        In ``error.flowkit_results`` a placeholder replaces the raised exception: use :meth:`from_error`.
        """
        return self._by_task("failed")

    @property
    def durations(self) -> dict[str, float]:
        """Name of each task that ran in this run -> seconds its last attempt took."""
        return self._by_task("durations")

    @property
    def attempts(self) -> dict[str, int]:
        """Name of each task that ran in this run -> number of attempts, 1 or more."""
        return self._by_task("attempts")

    @property
    def elements(self) -> dict[str, Elements]:
        """Name of each mapped task -> its elements: counts, failures, skips, durations and attempts."""
        return self._by_task("elements")

    @property
    def cached(self) -> tuple[str, ...]:
        """Names of the tasks whose results came from a cache."""
        return tuple(name for name, source in self._fact("sources").items() if source == "cache")

    @property
    def resumed(self) -> tuple[str, ...]:
        """Names of the tasks that were done before the run was resumed."""
        return tuple(name for name, source in self._fact("sources").items() if source == "resume")

    @property
    def outdated(self) -> dict[str, str]:
        """Name of each task that ran again in a resumed run -> why its recorded result was out of date."""
        return self._by_task("outdated")

    @property
    def unrecorded(self) -> dict[str, BaseException]:
        """Name of each task that ended in this run and could not be recorded -> why.

        Such a task runs again when the run is resumed. In ``error.flowkit_results`` a placeholder replaces the raised
        exception: use :meth:`from_error`.
        """
        return self._by_task("unrecorded")

    def report(self, path: str | PathLike[str]) -> str:
        """Write a report of the run: one HTML file that needs no network, with the history of the tasks in it.

        Args:
            path: the file; an earlier one is replaced.

        Returns:
            The absolute path of the file.

        Raises:
            FlowkitError: the run was not recorded; ``run(report=path)`` needs no record.
            MissingDistributionError: ``flowkit-view`` is not installed.
            OSError: the file cannot be written.
            StateError: of ``flowkit-state``: the record cannot be read.
        """
        from .recorded.reports import write_report

        return write_report(self._place, self.run_id, path)

    @staticmethod
    def from_error(error: BaseException) -> Results | None:
        """Return the results of the run that raised an exception.

        These are ``error.flowkit_results``, with the exception itself in ``.failed`` and ``.unrecorded``.

        Args:
            error: the exception that ``run()`` raised.

        Returns:
            The results; None for an exception that no run raised, and for one that accepts no attributes.

        Examples:
            >>> from flowkit_core import DAG, Results, Task
            >>> extract, load = Task(lambda: 1, name="extract"), Task(lambda rows: 1 / 0, name="load")
            >>> _ = extract >> load
            >>> try:
            ...     DAG("etl", tasks=[load]).run()
            ... except ZeroDivisionError as error:
            ...     results = Results.from_error(error)
            >>> results, results.states["load"], results.failed
            ({'extract': 1}, 'failed', {'load': ZeroDivisionError('division by zero')})
        """
        results = getattr(error, "flowkit_results", None)
        if not isinstance(results, Results):
            return None
        facts = {"failed": results.failed, "unrecorded": results.unrecorded}
        if not any(isinstance(other, RaisedError) for errors in facts.values() for other in errors.values()):
            return results
        whole = results.copy()
        for fact, errors in facts.items():
            whole._facts[fact] = {
                name: error if isinstance(other, RaisedError) else other for name, other in errors.items()
            }
        return whole

    def _repr_html_(self) -> str:
        """Return a table for a notebook: state, duration, name, elements and shortened result of the first tasks."""
        from .drawing import text_as_html

        states, durations, failed, elements = self.states, self.durations, self.failed, self.elements
        names = list({**states, **self})
        rows = []
        for name in names[:_SHOWN]:
            seconds = durations.get(name)
            what = short_repr(self[name]) if name in self else self._fact("reasons").get(name, "")
            error = failed.get(name)
            if error is not None:
                what = error.text if isinstance(error, RaisedError) else describe_error(error)
            if name in elements:
                what = f"{counts_text(elements[name].counts, 'no elements')}: {what}"
            took = "" if seconds is None else f"{seconds:.3f} s"
            state = states.get(name, "").replace("_", " ")
            rows.append((state, took, escape_control_chars(name), escape_control_chars(what)))
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines = [
            f"{state:<{widths[0]}}  {took:>{widths[1]}}  {name:<{widths[2]}}  {what}".rstrip()
            for state, took, name, what in rows
        ]
        if len(names) > _SHOWN:
            lines.append(f"... and {len(names) - _SHOWN:,} more tasks")
        return text_as_html("\n".join(lines) or "no tasks")

    def __await__(self) -> Any:
        """Raise a TypeError that explains how to run a pipeline from a coroutine: ``run()`` is not async."""
        raise TypeError(
            "run() is not async and returns the results: write results = pipeline.run(), or, in a coroutine, "
            "results = await asyncio.to_thread(pipeline.run)"
        )

    def __missing__(self, name: object) -> Any:
        """Raise an error with the reason why a key has no result.

        Raises:
            MissingResultError: always; also a :class:`KeyError`.
        """
        if not isinstance(name, str):
            raise MissingResultError(name, f"results are looked up by the name of the task: {self._advice(name)}")
        task = self._fact("outputs").get(name, name)
        if task not in self.states:
            raise MissingResultError(name, f"no task of that name was in the run{self._others(name)}")
        of_task = "" if task == name else f"it is the result of {task!r}: "
        raise MissingResultError(name, of_task + self._why_missing(name, task))

    def _why_missing(self, name: str, task: str) -> str:
        """Return why a key has no result, given the task whose result it is."""
        if name in self._fact("dropped"):
            return f"it succeeded, but {self._fact('dropped')[name]}"
        state = self.states[task]
        if state == "succeeded":
            return "it succeeded, but its value was not recorded, or was removed from these results"
        error = self.failed.get(task)
        what = escape_control_chars(error.text) if isinstance(error, RaisedError) else short_repr(error)
        reason = self._fact("reasons").get(task) or what
        return f"it ended as {state.replace('_', ' ')} ({reason}){self._way_out(task, state)}"

    def _way_out(self, name: str, state: str) -> str:
        """Return what to write for a task that has no result."""
        if state == "skipped":
            return f"; if it may be skipped, write results.get({name!r})"
        if state == "failed":
            return f"; results.failed[{name!r}] is the exception"
        first = next(iter(self.failed), None)
        return "" if first is None else f"; results.failed[{first!r}] is the exception of the task that failed"

    def _advice(self, key: object) -> str:
        """Return the fix for a key that is not a str."""
        attribute = "name" if hasattr(type(key), "__flowkit_wrapped__") else "__name__"
        name = getattr(key, attribute, None)
        if not isinstance(name, str):
            return f"write a str, not a value of type {type(key).__name__}{self._others(short_repr(key))}"
        if name in self or name in self.states:
            return f"write results[{name!r}]"
        return f"no task named {name!r} was in the run{self._others(name)}"

    def _others(self, name: str) -> str:
        """Return a similar task name, or else a list of the first task names of the run."""
        return similar_or_all(name, {**self.states, **self})

    def _by_task(self, name: str) -> TaskFacts[Any]:
        """Return a fact about the run, as its attribute has it."""
        found = self._facts.get(name)
        if not isinstance(found, TaskFacts):
            found = self._facts[name] = TaskFacts(self._fact(name), name, self._fact("states"))
        return found

    def _fact(self, name: str) -> dict[str, Any]:
        if name not in self._facts:
            self._facts[name] = getattr(self._summary, name)() if self._summary is not None else {}
        return self._facts[name]

    def __reduce__(self) -> tuple[Callable[..., Results], tuple[Any, ...]]:
        facts = {name: dict(self._fact(name)) for name in _FACTS}
        place = self._place if isinstance(self._place, str) else None  # a store may not be picklable
        return _restore, (dict(self), self.run_id, facts, place)

    def copy(self) -> Results:
        """Return a copy with the same facts."""
        facts = {name: dict(self._fact(name)) for name in _FACTS}
        return _restore(dict(self), self.run_id, facts, self._place)


_SHOWN = 50  # maximum number of tasks in a notebook
_FACTS = (
    "states",
    "reasons",
    "skipped",
    "failed",
    "durations",
    "attempts",
    "sources",
    "outdated",
    "unrecorded",
    "dropped",
    "outputs",
    "elements",
)


def _restore(values: dict[str, Any], run_id: str, facts: dict[str, dict[str, Any]], place: Any = None) -> Results:
    results = Results(values)
    results.run_id, results._known, results._place = run_id, facts, place
    return results
