"""What is measured, how often and how large: the groups of cells that take turns with each other."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from rounds import Cell, take_turns
from shapes import SHAPES
from systems import OURS, SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Iterable

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


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        sizes: tasks per shape, for flowkit and the peers.
        our_sizes: more sizes, for flowkit and the two loops alone.
        once: tasks of pipelines that are defined, built and run once, end to end.
        rounds: how many turns a cell takes at most.
        patience: seconds after which a cell takes no more turns than two.
        limit: seconds that a turn may take; a larger size that would take longer is not tried.
        memory: tasks that are weighed.
        huge: tasks of a graph that is built and run once, to see that it can be; 0 for none.
        prefect: tasks that Prefect runs.
        naps: tasks of uneven length in a graph.
        seeds: how many random graphs of them.
        starts: how many times each import is timed.
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

    @property
    def usual(self) -> int:
        """The size for everything that has one size only."""
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
)


@dataclass
class Bench:
    """The measurement as it goes.

    Attributes:
        plan: how much is measured.
        figures: every cell so far.
        imports: what is imported -> seconds above a bare Python, the median; None where it is not installed.
        programs: name of a whole program -> seconds above a bare Python, the median.
    """

    plan: Plan
    figures: Figures = field(default_factory=dict)
    imports: dict[str, float | None] = field(default_factory=dict)
    programs: dict[str, float | None] = field(default_factory=dict)

    def all(self) -> None:
        """Measure everything."""
        self.imports = self.starts("imports", IMPORTS)
        self.programs = self.starts("whole programs", PROGRAMS)
        for name in SHAPES:
            self.shape(name)
            self.once(name)
            builders = ("flowkit", "slots objects", "graphlib", "dask.delayed")
            self.group(f"building {name}", [("build", who, name, str(self.plan.usual)) for who in builders])
            self.group(f"memory, {name}", [("memory", name, str(self.plan.memory))], rounds=1, warm_up=False, times=10)
        if self.plan.huge:
            keys = [("huge", name, str(self.plan.huge)) for name in ("layers", "independent")]
            self.group("a huge graph", keys, rounds=1, warm_up=False, times=20)
        for name in ("chain", "independent"):
            self.group(
                f"logging, {name}",
                [("logs", name, str(self.plan.usual))],
                rounds=5,
            )
        for name in SHAPES:
            self.group(f"recording, {name}", [("recording", each, name, "10000") for each in ("2", "8")])
        who = ("flowkit serial", "flowkit thread", "flowkit process", "ThreadPoolExecutor", "ProcessPoolExecutor")
        self.group("three tasks", [("three", each, warm) for each in who for warm in ("warm", "cold")])
        for kind, readers in (("numpy", "1"), ("numpy", "2"), ("block", "2")):
            key = (kind, readers)
            self.group(
                f"64 MiB, {kind}, {readers}",
                [("array", each, *key) for each in ("flowkit process", "ProcessPoolExecutor")],
            )
        self.uneven()

    def group(
        self,
        title: str,
        keys: Iterable[tuple[str, ...]],
        rounds: int | None = None,
        *,
        warm_up: bool = True,
        times: float = 1,
    ) -> None:
        """Start some cells, and let them take turns, so many times as long as usual at most."""
        print(f"{title} ...", flush=True)
        cells = [self.figures.setdefault(key, Cell(*key)) for key in keys]
        for cell in cells:
            cell.start(self.plan.limit * times, warm_up=warm_up)
        take_turns(cells, rounds or self.plan.rounds, self.plan.patience, self.plan.limit * times)

    def shape(self, name: str) -> None:
        """Measure a shape in all its sizes at once: so growth is a ratio of neighboring turns as well."""
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
            who = ("plain loop", "graphlib + threads, wait", "flowkit thread 2", "Prefect")
            keys = [("shape", each, name, str(self.plan.prefect)) for each in who]
            self.group(f"{name}, Prefect", keys, rounds=3, times=10)

    def once(self, name: str) -> None:
        """Measure pipelines that are built and run once, size by size: the largest by hand takes several seconds."""
        who = ("flowkit", "flowkit, bare DAG", "graphlib + threads, wait", "graphlib loop")
        for size in self.plan.once:
            keys = [("once", each, name, str(size)) for each in who]
            title = f"once, end to end, {name}, {size}"
            self.group(title, keys, rounds=self.plan.rounds + 2, warm_up=False, times=10)

    def _started(self, key: tuple[str, ...], size: int, earlier: list[tuple[int, Cell]]) -> Cell:
        """Start a cell, unless a smaller one failed, or took so long that this one is hopeless."""
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
        """Measure makespans of uneven tasks: they sleep, so the noise of the machine is no part of it."""
        for kind, seed in [("independent", 0), *(("random", seed) for seed in range(1, self.plan.seeds + 1))]:
            rest = (kind, str(seed), str(self.plan.naps))
            who = [("thread", "threads", "4"), ("process", "processes", "2")]
            for ours, theirs, workers in who:
                systems = (f"flowkit {ours}", f"graphlib + {theirs}")
                self.group(
                    f"uneven tasks, {ours}, {kind} {seed}",
                    [("uneven", each, workers, *rest) for each in systems],
                    rounds=2,
                    warm_up=False,
                )

    def starts(self, title: str, codes: dict[str, str]) -> dict[str, float | None]:
        """Run each code in a new Python, in turns with one that does nothing; return the seconds above that one.

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
        found: dict[str, float | None] = dict.fromkeys(codes)
        for name, times in seconds.items():
            found[name] = median(one - bare for one, bare in zip(times[1:], seconds["nothing"][1:], strict=True))
        return found
