"""The tables and pictures of the page on benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elements import BY_HAND
from picture import Row, dots
from shapes import SHAPES, edges
from systems import SYSTEMS
from targets import REASONS, spaced, targets, tasks_of
from uneven import best_greedy, blind_greedy, graph_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plan import Bench
    from rounds import Cell
    from targets import Target

NOTHING = "-"


def tables(bench: Bench) -> dict[str, str]:
    """Return each table of the page, in Markdown, by name."""
    return {
        "targets": _targets(targets(bench)),
        **{f"shape-{name}": _shape(bench, name) for name in SHAPES},
        "prefect": _prefect(bench),
        "once": _once(bench),
        "programs": _programs(bench),
        "build": _build(bench),
        "memory": _memory(bench),
        "kept": _kept(bench),
        "huge": _huge(bench),
        "three": _three(bench),
        "uneven": _uneven(bench),
        "array": _arrays(bench),
        "imports": _imports(bench),
        "logs": _logs(bench),
        "recording": _recording(bench),
        "coroutines": _coroutines(bench),
        "elements": _elements(bench),
    }


def pictures(bench: Bench) -> dict[str, str]:
    """Return each picture of the page, as SVG, by name."""
    rows = [
        Row(target.what, (target.miss,), f"{target.met} of {len(target.cases)}", strong=target.miss > 1)
        for target in targets(bench)
        if target.miss is not None
    ]
    title = "The worst case of each target"
    drawn = {
        "targets": dots(
            title, "times the target: left of the line it is met; at each dot, how many cases meet it", rows, line=1.0
        )
    }
    sizes = _sizes(bench)
    for name in SHAPES:
        rows = []
        for system in SYSTEMS:
            cells = [bench.figures.get(("shape", system, name, str(size))) for size in sizes]
            values = tuple(_per_task(cell) for cell in cells)
            if any(values):
                rows.append(
                    Row(
                        system,
                        values,
                        _digits(next(value for value in reversed(values) if value)),
                        strong=system.startswith("flowkit"),
                    )
                )
        if rows:
            which = ", ".join(spaced(size) for size in sizes)
            drawn[name] = dots(
                name.capitalize(), f"microseconds per task, median; a dot each for {which} tasks, faint to strong", rows
            )
    return drawn


# ---- numbers ---------------------------------------------------------------------------------------------------------


def _digits(value: float) -> str:
    """Format a number with three significant digits."""
    if value >= 100:
        return spaced(value)
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _milli(seconds: float | None) -> str:
    return NOTHING if seconds is None else _digits(seconds * 1e3)


def _sizes(bench: Bench) -> list[int]:
    return sorted({*bench.plan.sizes, *bench.plan.our_sizes})


def _tasks(cell: Cell) -> int:
    return tasks_of(cell.key[-2], cell.key[-1])


def _per_task(cell: Cell | None, lap: str = "run") -> float | None:
    """Return microseconds per task."""
    seconds = cell.median(lap) if cell is not None else None
    return seconds / _tasks(cell) * 1e6 if cell is not None and seconds is not None else None


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, marks, *rows])


def _bold(text: str) -> str:
    return f"**{text}**" if text.startswith("flowkit") else text


# ---- tables ----------------------------------------------------------------------------------------------------------


def _targets(measured: Sequence[Target]) -> str:
    rows = []
    for target in measured:
        sign = "≥" if target.at_least else "≤"
        if target.worst is None:
            rows.append([target.what, f"{sign} {_bound(target, target.bound)}", "", "", "not measured"])
            continue
        every = len(target.cases)
        verdict = (
            "met" if target.met == every else "**not met**" if not target.met else f"**met in {target.met} of {every}**"
        )
        reason = next((why for what, why in REASONS.items() if target.what.startswith(what)), None)
        if target.met < every and reason is not None:
            verdict += f": {reason}"
        if target.information:
            verdict += " (for information)"
        rows.append(
            [
                target.what,
                f"{sign} {_bound(target, target.bound)}",
                _bound(target, target.worst.value),
                target.worst.where,
                verdict,
            ]
        )
    return _table(["what", "target", "worst", "where", "verdict"], rows, left=5)


def _bound(target: Target, value: float) -> str:
    if target.unit == "ms":
        return f"{_milli(value)} ms"
    if target.unit == "µs":
        return f"{_digits(value * 1e6)} µs"
    if target.unit == "B":
        return f"{spaced(value)} B"
    return f"1/{1 / value:.1f}" if value < 0.5 else f"{value:.2f}"


def _shape(bench: Bench, name: str) -> str:
    sizes = _sizes(bench)
    rows = []
    for system in SYSTEMS:
        cells = [bench.figures.get(("shape", system, name, str(size))) for size in sizes]
        if any(cells):
            rows.append([_bold(system), *map(_both, cells)])
    return _table(["microseconds per task", *(f"{spaced(size)} tasks" for size in sizes)], rows)


def _both(cell: Cell | None) -> str:
    """Format the median, and the best in brackets; or the problem."""
    if cell is None:
        return NOTHING
    value = _per_task(cell)
    return (
        f"{_digits(value)} ({_digits(cell.best['run'] / _tasks(cell) * 1e6)})"
        if value is not None
        else cell.problem or NOTHING
    )


def _prefect(bench: Bench) -> str:
    if not bench.plan.prefect:
        return "Prefect was not measured."
    systems = [key[1] for key in bench.figures if key[0] == "shape" and key[2:] == ("chain", str(bench.plan.prefect))]
    rows = [
        [
            _bold(system),
            *(_both(bench.figures.get(("shape", system, name, str(bench.plan.prefect)))) for name in SHAPES),
        ]
        for system in systems
    ]
    return _table([f"microseconds per task, {bench.plan.prefect} tasks", *SHAPES], rows)


def _build(bench: Bench) -> str:
    laps = ("tasks", "wiring", "graph", "first run", "later run")
    rows = []
    for key, cell in bench.figures.items():
        if key[0] == "build":
            values = [_per_task(cell, lap) if lap in cell.best else None for lap in laps]
            values.insert(2, _per_edge(cell))
            numbers = (
                [NOTHING if value is None else _digits(value) for value in values]
                if cell.best
                else [cell.problem or "", *[""] * len(laps)]
            )
            rows.append([key[2], _bold(key[1]), *numbers])
    head = [f"microseconds per task, {spaced(bench.plan.usual)} tasks", "", *laps[:2], "one edge", *laps[2:]]
    return _table(head, rows, left=2)


def _per_edge(cell: Cell) -> float | None:
    """Return the microseconds of wiring one edge; None for graphlib and dask, which add a task with all its edges."""
    count = edges(SHAPES[cell.key[-2]](int(cell.key[-1])))
    seconds = cell.median("wiring") if "wiring" in cell.best else None
    if not count or seconds is None or cell.key[1] not in ("flowkit", "slots objects"):
        return None
    return seconds / count * 1e6


def _once(bench: Bench) -> str:
    """Format microseconds per task, and their ratio to a hand-written pool; one row for each shape and size."""
    cells = {key[1:]: cell for key, cell in bench.figures.items() if key[0] == "once"}
    if not cells:
        return "It was not measured."
    ours, theirs = ("flowkit", "flowkit, bare DAG"), "graphlib + threads, wait"
    systems = (*ours, theirs, "graphlib loop")
    rows = []
    for name, size in dict.fromkeys(key[1:] for key in cells):
        row = {system: cells[system, name, size] for system in systems}
        ratios = [row[system].ratio(row[theirs]) for system in ours]
        numbers = [_both(row[system]) for system in systems]
        rows.append([name, spaced(int(size)), *numbers, *("" if each is None else f"{each:.2f}" for each in ratios)])
    head = ["microseconds per task", "tasks", *map(_bold, systems), "flowkit ÷ threads", "bare DAG ÷ threads"]
    return _table(head, rows)


def _programs(bench: Bench) -> str:
    if not bench.programs:
        return "It was not measured."
    rows = [[_bold(name), _milli(seconds)] for name, seconds in bench.programs.items() if name != "nothing"]
    return _table(["a fan-out of 100 tasks", "milliseconds above a bare Python"], rows)


def _memory(bench: Bench) -> str:
    cells = [cell for key, cell in bench.figures.items() if key[0] == "memory" and cell.best]
    rows = [[cell.key[1], *(spaced(round(value / _tasks(cell))) for value in cell.best.values())] for cell in cells]
    return _table([f"bytes per task, {spaced(bench.plan.memory)} tasks", *(cells[0].best if cells else ())], rows)


def _kept(bench: Bench) -> str:
    rows = [
        [f"{key[1]} tasks", *(_digits((cell.median(lap) or 0.0) / 2**20) for lap in ("flowkit", "by hand"))]
        for key, cell in bench.figures.items()
        if key[0] == "kept" and cell.best
    ]
    return _table(["a chain of values of 20 MiB, MiB at the peak", "flowkit with `keep=`", "a loop"], rows)


def _huge(bench: Bench) -> str:
    rows = []
    for key, cell in bench.figures.items():
        if key[0] == "huge":
            seconds = [_digits(cell.best[lap]) if cell.best else "" for lap in ("tasks and wiring", "graph", "run")]
            peak = _digits(cell.best["peak"] / 2**30) if cell.best else cell.problem or NOTHING
            rows.append([key[1], *seconds, peak])
    if not rows:
        return "It was not measured."
    head = [f"seconds, {spaced(bench.plan.huge)} tasks", "tasks and wiring", "graph", "run", "process at its peak, GiB"]
    return _table(head, rows)


def _three(bench: Bench) -> str:
    cells = {key[1:]: cell for key, cell in bench.figures.items() if key[0] == "three"}
    systems = dict.fromkeys(system for system, _ in cells)
    rows = [[_bold(system), *(_milli(cells[system, warm].median()) for warm in ("warm", "cold"))] for system in systems]
    return _table(["milliseconds for a run of three tasks", "executor kept", "executor made for the run"], rows)


def _uneven(bench: Bench) -> str:
    rows = []
    for key, cell in bench.figures.items():
        if key[0] == "uneven":
            _, system, workers, kind, seed, size = key
            graph = graph_of(kind, int(seed), int(size))
            seconds = cell.median()
            if seconds is None:
                continue
            ratios = [seconds / schedule(*graph, int(workers)) for schedule in (best_greedy, blind_greedy)]
            rows.append(
                [
                    f"{kind} {seed}, {workers} workers",
                    _bold(system),
                    f"{seconds:.2f}",
                    *(f"{ratio:.3f}" for ratio in ratios),
                ]
            )
    head = [
        f"{bench.plan.naps} tasks of 10 ms to 1 s",
        "",
        "makespan, s",
        "÷ greedy that knows durations",
        "÷ greedy that knows the graph",
    ]
    return _table(head, rows, left=2)


def _arrays(bench: Bench) -> str:
    rows = []
    for key, cell in bench.figures.items():
        if key[0] == "array":
            whole, handing = cell.median("whole"), cell.median("handing over")
            speed = spaced(64 / handing) if handing else cell.problem or NOTHING
            rows.append(
                [
                    f"{key[2]}, {key[3]} {'reader' if key[3] == '1' else 'readers'}",
                    _bold(key[1]),
                    _milli(whole),
                    _milli(handing),
                    speed,
                ]
            )
    return _table(["64 MiB", "", "everything, ms", "handing over, ms", "MiB/s"], rows, left=2)


def _imports(bench: Bench) -> str:
    rows = [
        [_bold(name), "not installed" if seconds is None else _milli(seconds)]
        for name, seconds in bench.imports.items()
        if name != "nothing"
    ]
    return _table(["import", "milliseconds above a bare Python"], rows)


def _recording(bench: Bench) -> str:
    rows = [
        [key[2], f"{key[1]} workers", *[_digits(_per_task(cell, lap) or 0) for lap in cell.best]]
        for key, cell in bench.figures.items()
        if key[0] == "recording"
    ]
    heads = ["10 000 tasks, microseconds per task", "", "without a record", "with", "added", "bare SQLite commits"]
    return _table(heads, rows, left=2)


def _coroutines(bench: Bench) -> str:
    rows = []
    for key, cell in bench.figures.items():
        if key[0] == "coroutines" and (seconds := cell.median("flowkit")) is not None:
            ratio, theirs = cell.ratio(cell, "flowkit", "asyncio"), cell.median("asyncio") or 0.0
            words = "sleep 1 s, seconds" if key[1] == "sleep" else f"{key[1]}, CPU, microseconds each"
            unit = 1.0 if key[1] == "sleep" else 1e6 / int(key[2])
            shown = [f"{value * unit:.2f}" for value in (seconds, theirs)]
            rows.append([f"{spaced(int(key[2]))} coroutines, {words}", *shown, f"{ratio:.2f}" if ratio else NOTHING])
    return _table(["", "flowkit", "asyncio", "flowkit ÷ asyncio"], rows)


def _elements(bench: Bench) -> str:
    rows = []
    for key, cell in bench.figures.items():
        if key[0] == "elements" and cell.best:
            times = [f"{(cell.median(lap) or 0.0) * 1e6:.2f}" for lap in ("flowkit", "by hand")]
            theirs = NOTHING if key[1] != "process" else f"{(cell.median('joblib') or 0.0) * 1e6:.2f}"
            kept = NOTHING if key[1] == "process" else f"{cell.median('bytes') or 0.0:.0f}"
            rows.append([f"{spaced(int(key[3]))}, {key[2]}", key[1], times[0], BY_HAND[key[1]], times[1], theirs, kept])
        elif key[0] == "elements":
            rows.append([f"{spaced(int(key[3]))}, {key[2]}", key[1], cell.problem or NOTHING, "", "", "", ""])
    heads = ["executor", "flowkit, microseconds each", "by hand", "microseconds each", "joblib loky", "bytes each"]
    return _table(["elements", *heads], rows, left=2)


def _logs(bench: Bench) -> str:
    rows = []
    for key, cell in bench.figures.items():
        if key[0] == "logs":
            for setup, words in (
                ("none", "logging not configured"),
                ("flowkit", "`configure_logging(level=WARNING)`"),
                ("standard", "`logging.basicConfig`"),
            ):
                ratio = cell.ratio(cell, setup, "none")
                rows.append([key[1], words, _digits(_per_task(cell, setup) or 0), f"{ratio:.2f}" if ratio else NOTHING])
    return _table(
        [f"{spaced(bench.plan.usual)} tasks, 2 threads", "", "microseconds per task", "÷ no logging"], rows, left=2
    )
