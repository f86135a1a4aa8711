"""The life of a nightly job, compared with a model that knows which tasks must run in each night."""

from __future__ import annotations

import random

import pytest
from durable_tasks import step

from flowkit import DAG, Task


class Job:
    """A pipeline of one task for each file, a sum, and a report; each task depends on a constant.

    Attributes:
        files: names of the files.
        constants: task -> constant.
    """

    def __init__(self, box):
        self.box = box
        self.files = ["a", "b"]
        self.constants = {"sum": 0, "report": 0, "clean_up": 0, "a": 0, "b": 0}

    def pipeline(self):
        readers = [self._task(name) for name in self.files]
        total, report, clean_up = self._task("sum"), self._task("report"), self._task("clean_up", trigger="all_done")
        readers >> total >> report >> clean_up
        return DAG("nightly", tasks=[clean_up])

    def upstreams(self):
        """Return the names of the upstreams of each task, in topological order."""
        return dict.fromkeys(self.files, ()) | {"sum": (*self.files,), "report": ("sum",), "clean_up": ("report",)}

    def _task(self, name, **options):
        folder, constant = self.box.folder, self.constants[name]

        def work(*inputs, day):
            return step(folder, name, (name, constant, day, inputs))

        return Task(work, name=name, **options)


@pytest.mark.parametrize("seed", range(6))
def test_nightly_job_runs_what_the_model_expects(box, seed):
    chance = random.Random(seed)
    job, model, ids = Job(box), {}, {}
    for _ in range(40):
        day = chance.choice(["2026-11-28", "2026-11-29", "2026-11-30"])
        broken = [name for name in job.upstreams() if name != "clean_up" and chance.random() < 0.15]
        change = chance.random()
        if change < 0.2:
            job.constants[chance.choice([*job.upstreams()])] += 1
        elif change < 0.3:
            job.files.append(f"file {len(job.constants)}")
            job.constants[job.files[-1]] = 0
        elif change < 0.35 and len(job.files) > 1:
            job.files.remove(chance.choice(job.files))
        expected = expected_runs(model, job, day, broken)
        for name in broken:
            box.inject(name, "fail")
        before = len(box.ran)
        results = job.pipeline().run(
            "serial", state=box.db, params={"day": day}, resume=True, fail_fast=False, raise_on_failure=False
        )
        for name in broken:
            box.repair(name)
        assert sorted(box.ran[before:]) == sorted(expected)
        assert results.run_id == ids.get(day, results.run_id)
        if results.failed:
            ids[day] = results.run_id
        else:
            ids.pop(day, None)
            assert results["report"] == report(job, day)
    statuses = {record.run_id: record.status for record in box.records()}
    assert {run_id for run_id, status in statuses.items() if status == "failed"} == {*ids.values()}


def expected_runs(model, job, day, broken):
    """Return the tasks that must run, and update the model: day -> (plan, recorded tasks) of an unfinished run."""
    plan = {name: (job.constants[name], sources) for name, sources in job.upstreams().items()}
    before, recorded = model.get(day, ({}, set()))
    stale, failed, runs = set(), set(), []
    for name, (constant, sources) in plan.items():
        old = before.get(name)
        rewired = old is None or old[1] != sources
        changed = old is not None and name in recorded and old[0] != constant
        if before and (rewired or changed or stale & {*sources}):
            stale.add(name)
        if name in recorded and name not in stale:
            continue
        if failed & {*sources} and name != "clean_up":
            failed.add(name)
            continue
        runs.append(name)
        if name in broken:
            failed.add(name)
    if failed:
        done = {name for name in plan if name not in failed}
        model[day] = plan, done
    else:
        model.pop(day, None)
    return runs


def report(job, day):
    rows = tuple((name, job.constants[name], day, ()) for name in job.files)
    return ("report", job.constants["report"], day, (("sum", job.constants["sum"], day, rows),))
