"""Measure flowkit against its targets and its peers, and write the page: ``nox -s bench [-- --quick]``.

Tables are written to docs/pages/benchmarks.md, pictures and all values as JSON to the folder next to that page.
``--quick`` writes to .nox/quick-bench instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from plan import PARTS, QUICK, Bench, Plan
from report import pictures, tables
from rounds import Cell
from targets import targets

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "pages" / "benchmarks.md"
PEERS = ("dask", "joblib", "numpy", "prefect")
MARKS = re.compile(r"<!-- bench: (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def machine() -> str:
    """Describe the machine, without its name."""
    model = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists() and (found := re.search(r"model name\s*: (.*)", facts.read_text("utf-8"))):
        model = found[1]
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = platform.system()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    release = ".".join(platform.release().split(".")[:2])
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{model}, {cores} cores, {system} ({platform.system()} {release}), {python}"


def versions() -> str:
    """Return the names and versions of the peers."""
    from importlib.metadata import PackageNotFoundError, version

    known = []
    for name in PEERS:
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            known.append(f"{name} not installed")
    return ", ".join(known)


def load() -> float | None:
    """Return the load average of the last minute, if the system has one."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def to_json(bench: Bench, facts: dict[str, Any]) -> dict[str, Any]:
    """Return all measured values as JSON types."""
    judged = [
        {
            "what": target.what,
            "bound": target.bound,
            "at_least": target.at_least,
            "information": target.information,
            "cases": [asdict(case) for case in target.cases],
        }
        for target in targets(bench)
    ]
    return {
        **facts,
        "plan": asdict(bench.plan),
        "targets": judged,
        "imports": bench.imports,
        "programs": bench.programs,
        "cells": [cell.as_json() for cell in bench.figures.values()],
    }


def from_json(content: dict[str, Any]) -> Bench:
    """Restore the values of an earlier measurement."""
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content["plan"].items()
    }
    plan = Plan(**options)
    bench = Bench(plan, imports=content["imports"], programs=content.get("programs", {}))
    for entry in content["cells"]:
        cell = Cell(entry["measure"], *entry["of"])
        cell.turns = dict(enumerate(entry.get("turns", [])))
        cell.best, cell.problem = entry.get("best", {}), entry.get("problem")
        bench.figures[cell.key] = cell
    return bench


def write(bench: Bench, facts: dict[str, Any], folder: Path) -> None:
    """Write the page, its pictures and the values."""
    beside = folder / PAGE.stem
    beside.mkdir(parents=True, exist_ok=True)
    (beside / "results.json").write_text(json.dumps(to_json(bench, facts), indent=1) + "\n", "utf-8")
    for name, picture in pictures(bench).items():
        (beside / f"{name}.svg").write_text(picture, "utf-8")
    load_before, load_after = facts["load"]
    about = f"Measured on {facts['machine']}; {facts['versions']}. It took {facts['minutes']} minutes"
    about += f"; load of the machine: {load_before} before and {load_after} at the end, with the measurement itself."
    texts = {"machine": about, **tables(bench)}
    page = MARKS.sub(
        lambda mark: f"<!-- bench: {mark['name']} -->\n\n{texts[mark['name']]}\n\n<!-- end -->", PAGE.read_text("utf-8")
    )
    (folder / PAGE.name).write_text(page, "utf-8")
    print(texts["targets"])
    print(f"Written to {folder / PAGE.name} and {beside}")


def main() -> None:
    """Measure and write the page, or only write it again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="measure two minutes, and write to .nox/quick-bench")
    parser.add_argument("--rewrite", action="store_true", help="write the page from its results.json without measuring")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="measure these parts, and take the others from results.json",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for the page and its files")
    options = parser.parse_args()
    folder = options.output or (ROOT / ".nox" / "quick-bench" if options.quick else PAGE.parent)
    plan, values = QUICK if options.quick else Plan(), folder / PAGE.stem / "results.json"
    bench, minutes = Bench(plan), 0.0
    if options.rewrite or (options.only is not PARTS and values.exists()):
        facts = json.loads(values.read_text("utf-8"))
        bench, minutes = from_json(facts), facts["minutes"]
        if options.rewrite:
            write(bench, {name: facts[name] for name in ("machine", "versions", "load", "minutes")}, folder)
            return
        if (facts["machine"], facts["versions"], bench.plan) != (machine(), versions(), plan):
            parser.error(f"{values} was measured on another machine, with other versions, or with another plan")
    before, began = load(), perf_counter()
    bench.measure(options.only)
    facts = {
        "machine": machine(),
        "versions": versions(),
        "load": (before, load()),
        "minutes": round(minutes + (perf_counter() - began) / 60, 1),
    }
    write(bench, facts, folder)


if __name__ == "__main__":
    main()
