"""Targets of the benchmarks; each is compared with the worst measured case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from elements import INPUTS
from shapes import SHAPES, edges
from uneven import best_greedy, blind_greedy, graph_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plan import Bench
    from rounds import Cell


SPAWN = "ProcessPoolExecutor, spawn"

_CHECKS = "names, parameters and cycles are checked when the graph is built"
_ROW = "a row has the times, the worker and the value of a task, and SQLite itself takes part of the time"

_GROWTH = "the values of more tasks than a processor cache holds are fetched from memory"

REASONS = {
    "processes ÷ graphlib + processes": "run and worker each need a processor, and in layers each value is sent "
    "three times",
    "uneven tasks ÷ greedy schedule that knows the durations": "no scheduler knows the durations in advance",
    "processes ÷ joblib loky, independent": "joblib sends thousands of calls in one batch, whose results come back "
    "together; flowkit returns each result as soon as it is there",
    "growth per task": _GROWTH,
    "recording a task, fan-out, layers and independent": _ROW,
    "recording a chain ÷ bare SQLite commits": _ROW,
    "recording an element of a map": _ROW,
    "mapped element of a list, serial and threads": "each element has its own state, duration, context variables and "
    "error handling",
    "mapped element, 2 processes ÷ joblib loky": "elements are sent as workers become free, not in blocks of one size",
    "mapped element of a generator": "one thread at a time can pull a generator, so threads wait for each other",
    "once, end to end ÷ graphlib + threads with wait, chain": _CHECKS,
    "once, end to end ÷ graphlib + threads with wait, layers": _CHECKS,
    "once, end to end ÷ graphlib + threads with wait, fan-out and independent": _CHECKS,
    "defining one task": "a task has options, and keeps where it was defined",
    "wiring one edge": "an edge belongs to the call that declared it",
    "building the graph, per task": _CHECKS,
}
"""Start of a target's description -> why flowkit may miss it; shown beside a target that is missed."""


@dataclass(frozen=True)
class Case:
    """A measured ratio or quantity, and the description of its cell."""

    where: str
    value: float


@dataclass(frozen=True)
class Target:
    """A target and its measured cases.

    Attributes:
        what: description of the value, such as the two sides of a ratio.
        bound: the target, in the unit of the cases.
        unit: format of the numbers: ``ratio``, ``ms``, ``µs`` or ``B``.
        cases: the measured values.
        at_least: whether the bound is a minimum.
        information: whether the target is for information only, because short times depend on the machine.
    """

    what: str
    bound: float
    cases: tuple[Case, ...]
    unit: str = "ratio"
    at_least: bool = False
    information: bool = False

    @property
    def worst(self) -> Case | None:
        """The worst case."""
        choose: Callable[..., Case] = min if self.at_least else max
        return choose(self.cases, key=lambda case: case.value) if self.cases else None

    @property
    def met(self) -> int:
        """Number of cases that meet the target."""
        return sum(case.value >= self.bound if self.at_least else case.value <= self.bound for case in self.cases)

    @property
    def miss(self) -> float | None:
        """Ratio of the worst case to the target; less than 1 meets it."""
        if self.worst is None:
            return None
        return self.bound / self.worst.value if self.at_least else self.worst.value / self.bound


def spaced(number: float) -> str:
    """Format an integer with spaces between the thousands."""
    return f"{number:,.0f}".replace(",", " ")


def tasks_of(name: str, size: str) -> int:
    """Return the number of tasks of a shape, or of elements of a map."""
    return int(size) if name == "map" else len(SHAPES[name](int(size)))


def targets(bench: Bench) -> list[Target]:
    """Return all targets with their measured cases."""
    plan, figures = bench.plan, bench.figures
    sizes = sorted({*plan.sizes, *plan.our_sizes})

    def against(ours: tuple[str, ...], theirs: str, shapes: tuple[str, ...] = tuple(SHAPES)) -> tuple[Case, ...]:
        return tuple(
            Case(f"{shape}, {spaced(size)}, {us.removeprefix('flowkit ')}", ratio)
            for shape in shapes
            for size in sizes
            for us in ours
            if (
                ratio := _ratio(
                    figures.get(("shape", us, shape, str(size))), figures.get(("shape", theirs, shape, str(size)))
                )
            )
        )

    span = f"{spaced(sizes[0])} to {spaced(sizes[-1])}"
    threads = ("flowkit thread 2", "flowkit thread 8")
    processes = ("flowkit process 2",)
    others = ("fanout", "layers", "independent")
    return [
        Target("serial ÷ graphlib loop", 1.0, against(("flowkit serial",), "graphlib loop")),
        Target(
            "threads ÷ graphlib + threads with wait, chain",
            1 / 20,
            against(threads, "graphlib + threads, wait", ("chain",)),
        ),
        Target(
            "threads ÷ graphlib + threads with wait, other shapes",
            1 / 10,
            against(threads, "graphlib + threads, wait", others),
        ),
        Target(
            "threads ÷ graphlib + threads with a queue, chain",
            1 / 20,
            against(threads, "graphlib + threads, queue", ("chain",)),
        ),
        Target(
            "threads ÷ graphlib + threads with a queue, other shapes",
            1 / 10,
            against(threads, "graphlib + threads, queue", others),
        ),
        Target("threads ÷ dask.threaded", 1 / 20, against(threads, "dask threaded")),
        Target("processes ÷ graphlib + processes with wait", 1 / 20, against(processes, "graphlib + processes, wait")),
        Target(
            "processes ÷ graphlib + processes with a queue", 1 / 20, against(processes, "graphlib + processes, queue")
        ),
        Target("processes ÷ joblib loky, independent", 1.0, against(processes, "joblib loky", ("independent",))),
        Target(f"growth per task, {span}", 1.3, tuple(_growth(bench, sizes[0], sizes[-1]))),
        Target(
            f"growth per task, {span}, without the plain loop's",
            1.3,
            tuple(_growth(bench, sizes[0], sizes[-1], own=True)),
        ),
        Target("memory per task at the peak", 1024, tuple(_memory(bench)), "B"),
        Target("uneven tasks ÷ greedy schedule that knows the durations", 1.05, tuple(_uneven(bench, best_greedy))),
        Target("uneven tasks ÷ greedy schedule that knows the graph alone", 1.05, tuple(_uneven(bench, blind_greedy))),
        Target("64 MiB to the next task: speed ÷ ProcessPoolExecutor", 5.0, tuple(_arrays(bench)), at_least=True),
        Target("import flowkit_core", 15e-3, _imported(bench, "flowkit_core"), "ms"),
        Target("import flowkit", 40e-3, _imported(bench, "flowkit"), "ms"),
        Target("a run of three tasks, threads", 1e-3, tuple(_three(bench)), "ms"),
        Target("logging at WARNING ÷ none", 1.2, tuple(_logs(bench))),
        Target("processes from a cold start ÷ ProcessPoolExecutor with spawn", 1.0, tuple(_cold(bench))),
        Target("peak of a chain of 39 large values with keep= ÷ a loop", 1.5, tuple(_kept(bench))),
        Target("recording a task, fan-out, layers and independent", 20e-6, tuple(_recording(bench, *others)), "µs"),
        Target("recording a chain ÷ bare SQLite commits", 1.6, tuple(_recorded_chain(bench))),
        Target("recording an element of a map", 5e-6, tuple(_recording(bench, "map")), "µs"),
        Target("coroutines that sleep ÷ asyncio.gather", 1.1, tuple(_coroutines(bench, "sleep"))),
        Target("trivial coroutines ÷ asyncio.TaskGroup, CPU", 1.4, tuple(_coroutines(bench, "independent", "fanout"))),
        Target("mapped element of a list, serial and threads", 0.35e-6, _elements(bench, "flowkit", "list"), "µs"),
        Target("mapped element of a generator", 0.55e-6, _elements(bench, "flowkit", "generator"), "µs"),
        Target("mapped element, bytes without its values", 120, _elements(bench, "bytes", *INPUTS), "B"),
        Target("mapped element, 2 processes ÷ joblib loky", 1.0, tuple(_elements_by_joblib(bench))),
        *_once_targets(bench),
    ]


def _ratio(one: Cell | None, other: Cell | None, lap: str = "run") -> float | None:
    return one.ratio(other, lap) if one is not None and other is not None else None


def _once_targets(bench: Bench) -> Iterator[Target]:
    """Yield the targets of a pipeline that is built and run once."""
    by_hand = "once, end to end ÷ graphlib + threads with wait"
    for words, bound, shapes in (
        ("chain", 1 / 8, ("chain",)),
        ("layers", 1 / 2.5, ("layers",)),
        ("fan-out and independent", 1 / 3, ("fanout", "independent")),
    ):
        yield Target(f"{by_hand}, {words}", bound, tuple(_once(bench, shapes)))
    yield Target("defining one task", 1.2e-6, tuple(_steps(bench, "tasks", "task")), "µs", information=True)
    yield Target("wiring one edge", 0.3e-6, tuple(_steps(bench, "wiring", "edge")), "µs", information=True)
    yield Target("building the graph, per task", 1e-6, tuple(_steps(bench, "graph", "task")), "µs", information=True)


def _once(bench: Bench, shapes: tuple[str, ...]) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "once" and key[1].startswith("flowkit") and key[2] in shapes:
            ratio = _ratio(cell, bench.figures.get(("once", "graphlib + threads, wait", *key[2:])))
            if ratio is not None:
                how = ", bare DAG" if key[1].endswith("bare DAG") else ""
                yield Case(f"{key[2]}, {spaced(int(key[3]))}{how}", ratio)


def _steps(bench: Bench, lap: str, unit: str) -> Iterator[Case]:
    """Yield seconds per task or edge, with the ratio to plain objects with slots where they have the same step."""
    for key, cell in bench.figures.items():
        if key[:2] == ("build", "flowkit") and (seconds := cell.median(lap)) is not None:
            inputs = SHAPES[key[2]](int(key[3]))
            count = len(inputs) if unit == "task" else edges(inputs)
            if count:
                slots = bench.figures.get(("build", "slots objects", *key[2:]))
                ratio = _ratio(cell, slots, lap) if slots is not None and lap in slots.best else None
                than = f", {ratio:.1f} times a plain object" if ratio is not None else ""
                yield Case(f"{key[2]}{than}", seconds / count)


def _growth(bench: Bench, small: int, large: int, *, own: bool = False) -> Iterator[Case]:
    """Yield the ratio of the cost of a task in a large run to that in a small run; ``own`` subtracts the plain loop."""
    for shape in SHAPES:
        for system in ("flowkit serial", "flowkit thread 2", "flowkit process 2"):
            costs = []
            for size in (large, small):
                cell, bare = (bench.figures.get(("shape", name, shape, str(size))) for name in (system, "plain loop"))
                cost, base = cell and cell.median(), bare and bare.median()
                if cost and base:
                    costs.append((cost - base * own) / len(SHAPES[shape](size)))
            if len(costs) == 2:
                yield Case(f"{shape}, {system.removeprefix('flowkit ')}", costs[0] / costs[1])


def _memory(bench: Bench) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "memory" and cell.best:
            yield Case(key[1], cell.best["everything at the peak"] / len(SHAPES[key[1]](int(key[2]))))


def _uneven(bench: Bench, schedule: Callable[..., float]) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "uneven" and key[1].startswith("flowkit") and (seconds := cell.median()):
            _, system, workers, kind, seed, size = key
            ideal = schedule(*graph_of(kind, int(seed), int(size)), int(workers))
            yield Case(f"{system.removeprefix('flowkit ')}, {kind} {seed}", seconds / ideal)


def _arrays(bench: Bench) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "array" and key[1] == "flowkit process":
            ratio = _ratio(bench.figures.get(("array", "ProcessPoolExecutor", *key[2:])), cell, "handing over")
            if ratio is not None:
                yield Case(f"{key[2]}, {key[3]} {'reader' if key[3] == '1' else 'readers'}", ratio)


def _imported(bench: Bench, name: str) -> tuple[Case, ...]:
    seconds = bench.imports.get(name)
    return (Case("median", seconds),) if seconds is not None else ()


def _three(bench: Bench) -> Iterator[Case]:
    cell = bench.figures.get(("three", "flowkit thread", "warm"))
    if cell is not None and (seconds := cell.median()):
        yield Case("median", seconds)


def _cold(bench: Bench) -> Iterator[Case]:
    ours, theirs = (bench.figures.get(("three", name, "cold")) for name in ("flowkit process", SPAWN))
    if (ratio := _ratio(ours, theirs)) is not None:
        yield Case("three tasks", ratio)


def _kept(bench: Bench) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "kept" and (ratio := cell.ratio(cell, "flowkit", "by hand")) is not None:
            yield Case("threads", ratio)


def _recording(bench: Bench, *names: str) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "recording" and key[2] in names and (seconds := cell.median("record")) is not None:
            yield Case(f"{key[2]}, thread {key[1]}", seconds / tasks_of(*key[2:]))


def _recorded_chain(bench: Bench) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "recording" and key[2] == "chain":
            ratio = cell.ratio(cell, "record", "by hand")
            if ratio is not None:
                yield Case(f"thread {key[1]}", ratio)


def _coroutines(bench: Bench, *kinds: str) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "coroutines" and key[1] in kinds:
            ratio = cell.ratio(cell, "flowkit", "asyncio")
            if ratio is not None:
                yield Case(f"{key[1]}, {spaced(int(key[2]))}", ratio)


def _elements(bench: Bench, lap: str, *kinds: str) -> tuple[Case, ...]:
    cells = [(key, cell) for key, cell in bench.figures.items() if key[0] == "elements" and key[2] in kinds]
    return tuple(
        Case(f"{key[2]}, {spaced(int(key[3]))}, {key[1]}", value)
        for key, cell in cells
        if key[1] != "process" and (value := cell.median(lap)) is not None
    )


def _elements_by_joblib(bench: Bench) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "elements" and key[1] == "process":
            ratio = cell.ratio(cell, "flowkit", "joblib")
            if ratio is not None:
                yield Case(f"{key[2]}, {spaced(int(key[3]))}", ratio)


def _logs(bench: Bench) -> Iterator[Case]:
    for key, cell in bench.figures.items():
        if key[0] == "logs":
            for setup in ("flowkit", "standard"):
                ratio = cell.ratio(cell, setup, "none")
                if ratio is not None:
                    yield Case(f"{setup}, {key[1]}", ratio)
