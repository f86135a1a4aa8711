"""From laptop to cluster: a year of readings of sensors, of which only a small report comes back.

The same pipeline runs in threads, in worker processes of this machine, and on a Dask cluster:

    python cluster.py
    python cluster.py --executor process
    python cluster.py --executor dask                  a scheduler and workers on this machine, for this run
    python cluster.py --scheduler tcp://scheduler:8786

The last two need flowkit-dask. The readings stay on the cluster, whatever their size: results are passed from worker to
worker, and ``keep`` names the only one that is brought here.
"""

from __future__ import annotations

import argparse
from array import array
from functools import partial
from random import Random
from typing import Any

from flowkit import DAG, Task, task

REGIONS = ["north", "east", "south", "west"]
PER_DAY = 144


def read(region: str, days: int) -> array[float]:
    """Return the readings of a region, one every ten minutes; a sensor that is broken sends -999."""
    random = Random(region)
    return array("d", [-999.0 if random.random() < 0.01 else random.gauss(15, 8) for _ in range(days * PER_DAY)])


def clean(readings: array[float]) -> array[float]:
    """Return the readings without those of broken sensors."""
    return array("d", [reading for reading in readings if reading > -100])


def summarize(region: str, readings: array[float]) -> dict[str, Any]:
    """Return the mean and the hottest reading of a region."""
    return {"region": region, "count": len(readings), "mean": sum(readings) / len(readings), "max": max(readings)}


@task
def report(*summaries: dict[str, Any]) -> list[str]:
    """Return a line for each region, the hottest first."""
    ordered = sorted(summaries, key=lambda each: -float(each["mean"]))
    return [f"{each['region']:6} {each['count']:6} readings, {each['mean']:.2f} on average" for each in ordered]


def build() -> DAG:
    """Return the pipeline: three tasks for each region, and the report."""
    for region in REGIONS:
        readings: Task[..., array[float]] = Task(partial(read, region), name=f"read_{region}")
        cleaned = Task(clean, name=f"clean_{region}", when=lambda readings: len(readings) > 0)
        summary = Task(partial(summarize, region), name=f"summarize_{region}")
        readings >> cleaned >> summary >> report
    return DAG("sensors", tasks=[report])


def main() -> None:
    """Run the pipeline, and print the report."""
    parser = argparse.ArgumentParser(description="Summarize readings of sensors, on a laptop or on a cluster.")
    parser.add_argument("--executor", choices=["thread", "process", "dask"], default="thread")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="run on the Dask cluster of this scheduler")
    parser.add_argument("--days", type=int, default=365, help="days of readings (365)")
    options = parser.parse_args()

    executor: Any = options.executor
    if options.scheduler is not None:
        from flowkit_dask import DaskExecutor

        executor = DaskExecutor(options.scheduler)
    results = build().run(executor=executor, params={"days": options.days}, keep=["report"])
    print("\n".join(results["report"]))


if __name__ == "__main__":
    main()
