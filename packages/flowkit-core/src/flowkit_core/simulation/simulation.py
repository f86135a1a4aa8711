"""Class `Simulation`: the outcome and the history of one simulated run."""

from __future__ import annotations

from flowkit_core._text import counted, escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.failures import describe_error
from flowkit_core.runs.limits.rate import Rate

from .checker import Checker
from .history import draw_timeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.results import Results

    from .faults import Fault
    from .history import Record


class Simulation:
    """The outcome and the history of one simulated run: what :func:`simulate` returns.

    Attributes:
        seed: the seed.
        results: the results, also of a run that failed; ``results.states`` has the states of all tasks.
        error: the exception that ``run()`` would raise; None if it would return.
        seconds: virtual time that the run took.
        history: the records, in order.
        faults: the faults that were injected, in the order of their injection.
    """

    def __init__(
        self,
        graph: Graph,
        options: Mapping[str, Any],
        *,
        seed: int,
        results: Results,
        error: BaseException | None,
        seconds: float,
        history: Sequence[Record],
        faults: Sequence[Fault],
    ) -> None:
        self._graph = graph
        self._options = options
        self.seed = seed
        self.results = results
        self.error = error
        self.seconds = seconds
        self.history = tuple(history)
        self.faults = tuple(faults)

    def problems(self, *, pure: bool = False) -> list[str]:
        """Return what in the history contradicts the rules of runs; an empty list if nothing does.

        The rules are in the documentation of :meth:`check`.

        Args:
            pure: whether results are also compared with those of a plain evaluation, which calls the functions again.
        """
        return Checker(self._graph, self._options, self.history, self.results, self.error).problems(pure=pure)

    def check(self, *, pure: bool = False) -> None:
        """Check the history against the rules of runs.

        A task starts after its upstreams have ended, as its trigger demands, with their results as arguments. Attempts
        are within ``retries``, after the right waits. After the run is stopped, only clean-up tasks start. Each task
        ends exactly once, in a state that agrees with its attempts and its upstreams. The result of an attempt that was
        given up changes nothing. No more slots of a pool are taken than it has, no more attempts start than a rate
        allows, no task waits that could start, and of the tasks that wait for a pool, none overtakes another.

        The same holds for each element of a mapped task. Elements become ready in the order of the input, and no more
        run at once than the limit of the task allows. Each takes the items of its inputs with its own number. The task
        ends when all its elements have ended, with the list of their results, as ``errors=`` says.

        Args:
            pure: whether results are also compared with those of a plain evaluation, which calls the functions again.

        Raises:
            AssertionError: a rule is broken; the message has the seed and the code that repeats the run.
        """
        problems = self.problems(pure=pure)
        if problems:
            raise AssertionError(self.describe(problems))

    def describe(self, problems: Sequence[str]) -> str:
        """Return a message about problems of this simulation, with the code that repeats it."""
        listed = "".join(f"\n  - {problem}" for problem in problems[:10])
        more = f"\n  - and {len(problems) - 10} more" if len(problems) > 10 else ""
        return (
            f"{self._graph.name!r} with seed {self.seed} has {counted(len(problems), 'problem')}:{listed}{more}\n"
            f"repeat it with: {self._code()}"
        )

    def _code(self) -> str:
        """Return the code that repeats the simulation; options that are not made of literals appear by their names."""
        given = {"seed": self.seed, **self._options["given"]}
        values = [f"{name}={_literal(value) or name}" for name, value in given.items()]
        return f"simulate(pipeline, {', '.join(values)})"

    def timeline(self) -> str:
        """Return a picture of the run in text: a line for each worker, with the attempts that it made.

        An attempt ends with ``x`` if it failed, ``!`` if its worker died, ``~`` if it was given up, ``/`` if it was
        cancelled, and ``|`` otherwise.
        """
        return draw_timeline(self.history, self.seconds)

    def __repr__(self) -> str:
        states = list(self.results.states.values())
        counts = [f"{states.count(state)} {state.replace('_', ' ')}" for state in dict.fromkeys(states)]
        faults = f", {counted(len(self.faults), 'fault')}" if self.faults else ""
        error = f", {describe_error(self.error)}" if self.error is not None else ""
        summary = ", ".join(counts) or "no tasks"
        return escape_control_chars(
            f"<Simulation {self._graph.name} seed={self.seed}: {self.seconds:.3f} s, {summary}{faults}{error}>"
        )


def _literal(value: Any) -> str:
    """Return an expression for a value; an empty string if there is none."""
    from .faults import Fault

    if value is None or isinstance(value, (bool, int, float, str, Rate)):
        return repr(value)
    if isinstance(value, type) and issubclass(value, Fault):
        return value.__name__
    if isinstance(value, Fault):
        return repr(value) if all(_literal(each) for each in vars(value).values()) else ""
    if isinstance(value, dict):
        parts = [(_literal(key), _literal(each)) for key, each in value.items()]
        return f"{{{', '.join(f'{key}: {each}' for key, each in parts)}}}" if all(map(all, parts)) else ""
    if isinstance(value, (list, tuple)):
        items = [_literal(each) for each in value]
        if not all(items):
            return ""
        listed = ", ".join(items)
        return f"[{listed}]" if isinstance(value, list) else f"({listed}{',' if len(items) == 1 else ''})"
    return ""
