"""A nightly job of tests, and a model that knows which of its tasks must run. Worker scripts import it."""

from __future__ import annotations

import json
from pathlib import Path

from durable_tasks import step

from flowkit import DAG, Task


class Job:
    """A pipeline of one task for each file, a sum, a report and a clean-up; each task depends on a constant.

    Attributes:
        folder: where the tasks record their executions.
        files: names of the files.
        constants: task -> constant.
    """

    def __init__(self, folder):
        self.folder = folder
        self.files = ["a", "b"]
        self.constants = {"sum": 0, "report": 0, "clean_up": 0, "a": 0, "b": 0}

    @classmethod
    def load(cls, folder):
        """Return the job that was saved in a folder."""
        job = cls(folder)
        job.files, job.constants = json.loads(Path(folder, "job.json").read_text())
        return job

    def save(self):
        Path(self.folder, "job.json").write_text(json.dumps([self.files, self.constants]))

    def add_file(self):
        self.files.append(f"file {len(self.constants)}")
        self.constants[self.files[-1]] = 0

    def pipeline(self):
        readers = [self._task(name) for name in self.files]
        total, report, clean_up = self._task("sum"), self._task("report"), self._task("clean_up", trigger="all_done")
        readers >> total >> report >> clean_up
        return DAG("nightly", tasks=[clean_up])

    def run(self, db, params, **options):
        return self.pipeline().run(
            "serial", state=db, params=params, resume=True, fail_fast=False, raise_on_failure=False, **options
        )

    def upstreams(self):
        """Return the names of the upstreams of each task, in topological order."""
        return dict.fromkeys(self.files, ()) | {"sum": (*self.files,), "report": ("sum",), "clean_up": ("report",)}

    def plan(self):
        return {name: (self.constants[name], sources) for name, sources in self.upstreams().items()}

    def report(self, day):
        """Return the result of the report."""
        rows = tuple((name, self.constants[name], day, ()) for name in self.files)
        return ("report", self.constants["report"], day, (("sum", self.constants["sum"], day, rows),))

    def _task(self, name, **options):
        folder, constant = self.folder, self.constants[name]

        def work(*inputs, day):
            return step(folder, name, (name, constant, day, inputs))

        # with other code, no call is known to be short, so what precedes it is committed first
        work.__code__ = work.__code__.replace(co_name=name)
        return Task(work, name=name, **options)


class Model:
    """What is recorded of each unfinished run: key of the run -> its plan, and the tasks that are done."""

    def __init__(self):
        self.unfinished = {}

    def expected(self, job, key, broken=(), lost=()):
        """Return the tasks that must run, and note what is recorded then.

        Args:
            job: the job.
            key: identifies the run.
            broken: tasks that fail.
            lost: tasks that run and are not recorded; nothing runs after them but the clean-up, if that is lost too.
        """
        plan = job.plan()
        before, recorded = self.unfinished.get(key, ({}, set()))
        stale, failed, runs = set(), set(), []
        for name, (constant, sources) in plan.items():
            old = before.get(name)
            rewired = old is None or old[1] != sources
            changed = old is not None and name in recorded and old[0] != constant
            if before and (rewired or changed or stale & {*sources}):
                stale.add(name)
            if name in recorded and name not in stale:
                continue
            if failed & {*sources} and (name != "clean_up" or (lost and name not in lost)):
                failed.add(name)
                continue
            runs.append(name)
            if name in broken or name in lost:
                failed.add(name)
        if failed:
            self.unfinished[key] = plan, {name for name in plan if name not in failed}
        else:
            self.unfinished.pop(key, None)
        return runs
