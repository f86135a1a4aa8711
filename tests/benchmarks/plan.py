"""The plan of the benchmarks: sizes, numbers of turns, and the groups of cells that take turns."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from coroutines import KINDS
from elements import BY_HAND, INPUTS
from rounds import Cell, take_turns
from shapes import SHAPES
from systems import OURS, SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

Figures = dict[tuple[str, ...], Cell]

IMPORTS = {
    "nothing": "pass",
    "flowkit_core": "import flowkit_core",
    "flowkit": "import flowkit",
    "graphlib and concurrent.futures": "import concurrent.futures.process, concurrent.futures.thread, graphlib",
    "joblib": "import joblib",
    "dask": "import dask.threaded",
    "prefect": "import prefect",
}

PROGRAM_OF_FLOWKIT = """
from flowkit import DAG, Task

def add(*numbers):
    return 1 + sum(numbers)

def main():
    tasks = [Task(add, name=f"t{number}") for number in range(100)]
    for task in tasks[1:-1]:
        tasks[0] >> task >> tasks[-1]
    return DAG("once").run(max_workers=2)["t99"]

assert main() == 197
"""

PROGRAM_BY_HAND = """
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter

def add(*numbers):
    return 1 + sum(numbers)

def main():
    inputs = [[], *[[0]] * 98, list(range(1, 99))]
    sorter = TopologicalSorter(dict(enumerate(inputs)))
    sorter.prepare()
    values, pending = {}, {}
    with ThreadPoolExecutor(2) as pool:
        while sorter.is_active():
            for number in sorter.get_ready():
                pending[pool.submit(add, *[values[source] for source in inputs[number]])] = number
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                number = pending.pop(future)
                values[number] = future.result()
                sorter.done(number)
    return values[99]

assert main() == 197
"""

PROGRAMS = {
    "nothing": "pass",
    "flowkit": PROGRAM_OF_FLOWKIT,
    "flowkit, the import alone": "from flowkit import DAG, Task",
    "graphlib + threads, wait": PROGRAM_BY_HAND,
    "graphlib + threads, the imports alone": "import concurrent.futures.thread, graphlib",
}
"""Whole programs: a fan-out of 100 tasks in a new Python, imports included."""


SMALL = (
    "flowkit serial",
    "flowkit thread",
    "flowkit process",
    "ThreadPoolExecutor",
    "ProcessPoolExecutor",
    "ProcessPoolExecutor, spawn",
)
"""What runs three tasks."""

PARTS = (
    "start",
    "shape",
    "once",
    "build",
    "memory",
    "kept",
    "huge",
    "logs",
    "coroutines",
    "elements",
    "recording",
    "three",
    "array",
    "uneven",
)
"""The parts of a measurement: methods of `Bench`, and, but for "start", the measures of their cells."""


@dataclass(frozen=True)
class Plan:
    """Sizes and limits of the measurement.

    Attributes:
        sizes: numbers of tasks per shape, for all systems.
        our_sizes: further sizes, for flowkit and the two loops only.
        once: numbers of tasks of pipelines that are defined, built and run once, end to end.
        rounds: maximum number of turns of a cell.
        patience: seconds after which a cell takes at most two turns.
        limit: maximum duration of a turn, in seconds; sizes that would take longer are not measured.
        memory: number of tasks for the measurement of memory.
        huge: number of tasks of a large graph that is built and run once; 0 for none.
        prefect: number of tasks for Prefect; 0 for none.
        naps: number of tasks in a graph of uneven tasks.
        seeds: number of random graphs of uneven tasks.
        elements: numbers of elements of a mapped task.
        starts: number of times that each import is timed.
    """

    sizes: tuple[int, ...] = (1_000, 10_000, 100_000)
    our_sizes: tuple[int, ...] = ()
    once: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    rounds: int = 3
    patience: float = 1.5
    limit: float = 4.0
    memory: int = 100_000
    huge: int = 1_000_000
    prefect: int = 20
    naps: int = 30
    seeds: int = 1
    starts: int = 15
    elements: tuple[int, ...] = (10_000, 100_000)

    @property
    def usual(self) -> int:
        """The size of measures that have only one."""
        return min(10_000, self.sizes[-1])


QUICK = Plan(
    sizes=(1_000,),
    our_sizes=(10_000,),
    once=(100, 1_000),
    rounds=2,
    patience=0.5,
    limit=5.0,
    memory=10_000,
    huge=0,
    prefect=0,
    naps=20,
    seeds=1,
    starts=5,
    elements=(10_000,),
)


@dataclass
class Bench:
    """A measurement, and its values so far.

    Attributes:
        plan: sizes and limits.
        figures: the cells.
        imports: import statement -> median of the seconds above a bare Python; None if it is not installed.
        programs: name of a whole program -> median of the seconds above a bare Python.
    """

    plan: Plan
    figures: Figures = field(default_factory=dict)
    imports: dict[str, float | None] = field(default_factory=dict)
    programs: dict[str, float | None] = field(default_factory=dict)

    def measure(self, parts: Container[str]) -> None:
        """Measure some of the PARTS."""
        for part in PARTS:
            if part in parts:
                self.figures = {key: cell for key, cell in self.figures.items() if key[0] != part}
                getattr(self, part)()

    def start(self) -> None:
        """Measure imports and whole programs."""
        self.imports = self.starts("imports", IMPORTS)
        self.programs = self.starts("whole programs", PROGRAMS)

    def shape(self) -> None:
        """Measure trivial tasks."""
        for name in SHAPES:
            self._shape(name)

    def once(self) -> None:
        """Measure pipelines that are built and run once."""
        for name in SHAPES:
            self._once(name)

    def build(self) -> None:
        """Measure the steps before the first result."""
        builders = ("flowkit", "slots objects", "graphlib", "dask.delayed")
        for name in SHAPES:
            self.group(f"building {name}", [("build", systems, name, str(self.plan.usual)) for systems in builders])

    def memory(self) -> None:
        """Measure the memory of a task."""
        for name in SHAPES:
            self.group(f"memory, {name}", [("memory", name, str(self.plan.memory))], rounds=1, warm_up=False, times=10)

    def kept(self) -> None:
        """Measure the memory of a chain with ``keep=``."""
        self.group("memory with keep=", [("kept", "39")], rounds=1, warm_up=False)

    def huge(self) -> None:
        """Measure a large graph."""
        if self.plan.huge:
            keys = [("huge", name, str(self.plan.huge)) for name in ("layers", "independent")]
            self.group("a huge graph", keys, rounds=1, warm_up=False, times=20)

    def logs(self) -> None:
        """Measure the cost of logging."""
        for name in ("chain", "independent"):
            self.group(f"logging, {name}", [("logs", name, str(self.plan.usual))], rounds=5)

    def coroutines(self) -> None:
        """Measure coroutines."""
        for kind in KINDS:
            size = 10_000 if kind == "sleep" else self.plan.usual
            self.group(f"coroutines, {kind}", [("coroutines", kind, str(size))], rounds=5, times=2)

    def elements(self) -> None:
        """Measure mapped elements."""
        for kind in INPUTS:
            for size in self.plan.elements:
                mapped = [("elements", each, kind, str(size)) for each in BY_HAND]
                self.group(f"mapped elements, {kind}, {size}", mapped, times=max(1.0, size / 25_000))

    def recording(self) -> None:
        """Measure recorded runs."""
        for name in (*SHAPES, "map"):
            self.group(f"recording, {name}", [("recording", each, name, "10000") for each in ("2", "8")], rounds=5)

    def three(self) -> None:
        """Measure runs of three tasks."""
        self.group("three tasks", [("three", each, warm) for each in SMALL for warm in ("warm", "cold")])

    def array(self) -> None:
        """Measure large values."""
        for key in (("numpy", "1"), ("numpy", "2"), ("block", "2")):
            systems = ("flowkit process", "ProcessPoolExecutor")
            self.group(f"64 MiB, {', '.join(key)}", [("array", each, *key) for each in systems])

    def group(
        self,
        title: str,
        keys: Iterable[tuple[str, ...]],
        rounds: int | None = None,
        *,
        warm_up: bool = True,
        times: float = 1,
    ) -> None:
        """Start cells, and let them take turns; `times` multiplies the limit of a turn."""
        print(f"{title} ...", flush=True)
        cells = [self.figures.setdefault(key, Cell(*key)) for key in keys]
        for cell in cells:
            cell.start(self.plan.limit * times, warm_up=warm_up)
        take_turns(cells, rounds or self.plan.rounds, self.plan.patience, self.plan.limit * times)

    def _shape(self, name: str) -> None:
        """Measure all sizes of a shape together, so that growth is a ratio of consecutive turns."""
        print(f"{name} ...", flush=True)
        sizes = [*self.plan.sizes, *self.plan.our_sizes]
        cells = []
        for system in SYSTEMS:
            few = system not in (*OURS, "plain loop", "graphlib loop")
            earlier: list[tuple[int, Cell]] = []
            for size in self.plan.sizes if few else sizes:
                if system != "Prefect":
                    cell = self._started(("shape", system, name, str(size)), size, earlier)
                    earlier.append((size, cell))
                    cells.append(cell)
        take_turns(cells, self.plan.rounds, self.plan.patience, self.plan.limit)
        if self.plan.prefect:
            systems = ("plain loop", "graphlib + threads, wait", "flowkit thread 2", "Prefect")
            keys = [("shape", each, name, str(self.plan.prefect)) for each in systems]
            self.group(f"{name}, Prefect", keys, rounds=3, times=10)

    def _once(self, name: str) -> None:
        """Measure pipelines that are built and run once, one size after the other: the largest takes seconds."""
        systems = ("flowkit", "flowkit, bare DAG", "graphlib + threads, wait", "graphlib loop")
        for size in self.plan.once:
            keys = [("once", each, name, str(size)) for each in systems]
            title = f"once, end to end, {name}, {size}"
            self.group(title, keys, rounds=self.plan.rounds + 2, warm_up=False, times=10)

    def _started(self, key: tuple[str, ...], size: int, earlier: list[tuple[int, Cell]]) -> Cell:
        """Start a cell, unless a smaller one failed, or its duration predicts one above the limit."""
        cell = self.figures[key] = Cell(*key)
        if earlier:
            before, last = earlier[-1]
            if last.problem:
                cell.problem = last.problem if last.problem.startswith("not ") else f"not tried, as it {last.problem}"
                return cell
            times = size / before
            if len(earlier) > 1:
                times = max(times, last.warm_up["run"] / earlier[-2][1].warm_up["run"])
            if (expected := last.warm_up["run"] * times) > self.plan.limit:
                cell.problem = f"not run: it would take about {expected:.0f} s"
                return cell
        cell.start(self.plan.limit)
        return cell

    def uneven(self) -> None:
        """Measure makespans of uneven tasks, which sleep, so other load of the machine has no effect."""
        for kind, seed in [("independent", 0), *(("random", seed) for seed in range(1, self.plan.seeds + 1))]:
            rest = (kind, str(seed), str(self.plan.naps))
            for ours, theirs, workers in ("thread", "threads", "4"), ("process", "processes", "2"):
                systems = (f"flowkit {ours}", f"graphlib + {theirs}")
                self.group(
                    f"uneven tasks, {ours}, {kind} {seed}",
                    [("uneven", each, workers, *rest) for each in systems],
                    rounds=2,
                    warm_up=False,
                )

    def starts(self, title: str, codes: dict[str, str]) -> dict[str, float | None]:
        """Run each program in a new Python, in turns with an empty one; return the seconds above the empty one.

        The value is the median of ``plan.starts`` turns, and None for a code that fails, such as the import of a
        package that is not installed.
        """
        print(f"{title} ...", flush=True)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        seconds: dict[str, list[float]] = {}
        for number in range(self.plan.starts + 1):
            for name, code in codes.items():
                if number and name not in seconds:
                    continue
                began = perf_counter()
                ended = subprocess.run(
                    [sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL, env=environment
                )
                if ended.returncode == 0:
                    seconds.setdefault(name, []).append(perf_counter() - began)
        medians: dict[str, float | None] = dict.fromkeys(codes)
        for name, times in seconds.items():
            medians[name] = median(one - bare for one, bare in zip(times[1:], seconds["nothing"][1:], strict=True))
        return medians
