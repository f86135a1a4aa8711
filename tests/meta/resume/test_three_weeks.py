"""Three weeks of a nightly job: no step needs more than `resume=True`, and the record answers what one asks later."""

from __future__ import annotations

import copy
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from durable_tasks import TIMEOUT, wait_until
from nightly_job import Job, Model

from flowkit import RunInUseError, StateManager
from flowkit_state.storage import syscalls

SCRIPT = """
import sys
from nightly_job import Job
Job.load(sys.argv[1]).run(sys.argv[2], {"day": sys.argv[3]})
"""


class Nights:
    """The job, the model, and what each start of the job is expected to leave in the record.

    Attributes:
        starts: day -> a list with, for each execution, its outcome, the failed tasks, and the id of its process.
    """

    def __init__(self, box, monkeypatch):
        self.box, self.monkeypatch = box, monkeypatch
        self.job, self.model, self.starts, self.number = Job(box.folder), Model(), {}, 0
        self.day = ""

    def new_day(self):
        self.number += 1
        self.day = f"2026-11-{self.number:02}"

    def start(self, broken=()):
        """Start the job in this process, and check what ran."""
        expected = self.model.expected(self.job, self.day, broken)
        for name in broken:
            self.box.inject(name, "fail")
        before = len(self.box.ran)
        results = self.job.run(self.box.db, {"day": self.day})
        self.box.repair(*broken)
        assert sorted(self.box.ran[before:]) == sorted(expected)
        assert set(results.failed) == {*broken} & {*expected}
        if not results.failed:
            assert results["report"] == self.job.report(self.day)
        self.note("failed" if results.failed else "succeeded", results.failed, os.getpid())
        return results

    def start_process(self):
        self.job.save()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", SCRIPT, self.box.folder, self.box.db, self.day]
        return subprocess.Popen(command, env=environment)

    def note(self, outcome, failed, process):
        if self.starts.get(self.day, [("failed",)])[-1][0] == "succeeded":
            self.starts[self.day] = []  # a fresh run
        self.starts.setdefault(self.day, []).append((outcome, {*failed}, process))

    def kill(self):
        """Start the job in a process that is killed while it computes the sum."""
        before, expected = len(self.box.ran), self.model.expected(self.job, self.day, lost=["sum"])
        self.box.inject("sum", "die")
        process = self.start_process()
        assert process.wait(TIMEOUT) == -signal.SIGKILL
        self.box.repair("sum")
        assert sorted(self.box.ran[before:]) == sorted(expected)
        self.note("interrupted", (), process.pid)

    def start_twice(self):
        """Start the job while another process runs it."""
        before, expected = len(self.box.ran), self.model.expected(self.job, self.day)
        self.box.inject("report", "wait")
        process = self.start_process()
        wait_until(lambda: "report" in self.box.ran[before:] or process.poll() is not None)
        with pytest.raises(RunInUseError) as caught:
            self.job.run(self.box.db, {"day": self.day})
        assert caught.value.pid == process.pid
        self.box.repair("report")
        assert process.wait(TIMEOUT) == 0
        assert sorted(self.box.ran[before:]) == sorted(expected)
        self.note("succeeded", (), process.pid)

    def fill_disk(self):
        """Start the job while the disk is full from the record of the sum on."""
        expected = self.model.expected(self.job, self.day, lost=["sum", "clean_up"])
        before, is_full = len(self.box.ran), False

        def failing(call):
            def execute(connection, sql, values=()):
                nonlocal is_full
                is_full = is_full or ("INTO attempts" in sql and "sum" in str(values))
                if is_full and not sql.startswith(("SELECT", "PRAGMA", "ROLLBACK")):
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise error
                return call(connection, sql, values)

            return execute

        with self.monkeypatch.context() as patch:
            for name in ("execute", "execute_many"):
                patch.setattr(syscalls, name, failing(getattr(syscalls, name)))
            results = self.job.run(self.box.db, {"day": self.day})
        assert results.unrecorded.keys() == {"sum", "clean_up"}
        assert all("disk is full" in str(error) for error in results.unrecorded.values())
        assert sorted(self.box.ran[before:]) == sorted(expected)
        self.note("interrupted", (), os.getpid())

    def back_up(self):
        shutil.copy(self.box.db, f"{self.box.db}.backup")
        self.saved = copy.deepcopy((self.model, self.starts))

    def restore(self):
        for path in Path(self.box.folder).glob("runs.db-*"):
            path.unlink()
        shutil.copy(f"{self.box.db}.backup", self.box.db)
        self.model, self.starts = copy.deepcopy(self.saved)


def test_three_weeks_of_a_nightly_job(box, monkeypatch):
    nights = Nights(box, monkeypatch)
    job = nights.job
    plans = [
        "ok",
        "fail and repair",
        "ok",
        "kill",
        "fail twice",
        "new file",
        "ok",
        "code",
        "two at once",
        "full disk",
        "ok",
        "back up",
        "fail, another day, repair",
        "restore",
        "kill twice",
        "fail, new file",
        "again",
        "full disk",
        "two at once",
        "fail and repair",
        "ok",
    ]
    assert len(plans) == 21
    for plan in plans:
        nights.new_day()
        if plan in ("ok", "again"):
            nights.start()
        elif plan == "fail and repair":
            nights.start(["report"])
            job.constants["report"] += 1
            assert nights.start().outdated == {}, "it failed, so it has no result that could be out of date"
        elif plan == "fail twice":
            nights.start(["a"])
            nights.start(["a", "b"])
            nights.start()
        elif plan == "new file":
            job.add_file()
            nights.start()
        elif plan == "code":
            nights.start(["report"])
            job.constants["b"] += 1
            assert nights.start().outdated.keys() == {"b", "sum", "clean_up"}
        elif plan in ("kill", "kill twice"):
            for _ in range(1 + (plan == "kill twice")):
                nights.kill()
            nights.start()
        elif plan == "two at once":
            nights.start_twice()
        elif plan == "full disk":
            nights.fill_disk()
            nights.start()
        elif plan == "back up":
            nights.start(["sum"])
            nights.back_up()
            nights.start()
        elif plan == "fail, another day, repair":
            nights.start(["b"])
            failed, nights.day = nights.day, "2026-12-24"
            nights.start()
            nights.day = failed
            nights.start()
        elif plan == "restore":
            nights.restore()
            lost, nights.day = nights.day, "2026-11-12"
            nights.start()
            nights.day = lost
            nights.start()
        elif plan == "fail, new file":
            nights.start(["sum"])
            job.add_file()
            nights.start()
        if plan == "again":
            before = len(box.ran)
            nights.start()
            assert len(box.ran) - before == len(job.upstreams()), "a day that succeeded starts a fresh run"
    check_the_morning_after(nights)


def check_the_morning_after(nights):
    """What failed, why, how often, how long, who repaired it, and what changed?"""
    with StateManager(nights.box.db) as state:
        for day, starts in nights.starts.items():
            run = state.runs("nightly", params={"day": day}, limit=1)[0]
            found = [(each.outcome, each.process) for each in run.executions]
            assert found == [(outcome, process) for outcome, _, process in starts]
            assert run.status == "succeeded"
            for execution, (outcome, failed, _) in zip(run.executions, starts, strict=True):
                attempts = {
                    name: [each for each in task.attempts if each.execution == execution.number]
                    for name, task in run.tasks.items()
                }
                errors = {name: each[-1].error for name, each in attempts.items() if each and each[-1].error}
                assert errors.keys() == failed
                assert all(error.message == f"{name} is broken" for name, error in errors.items())
                assert all("ValueError" in error.traceback for error in errors.values())
                assert (execution.error is None) == (outcome != "failed")
                for each in (each for several in attempts.values() for each in several):
                    assert execution.started <= each.ended
                    assert each.duration >= 0
                    assert each.process == execution.process
                    assert each.started <= each.ended
                    assert each.worker
            repaired = run.executions[-1]
            assert (repaired.outcome, repaired.process) == (starts[-1][0], starts[-1][2])
            assert repaired.ended >= repaired.started
            assert {each.host for each in run.executions} == {platform.node()}
            assert run.duration >= sum(task.attempts[-1].duration for task in run.tasks.values() if len(starts) == 1)
        repaired = state.runs(params={"day": "2026-11-08"})[0]
        assert {name for name, task in repaired.tasks.items() if "constant" in task.why} == {"b"}
        assert repaired.tasks["sum"].why == "ran again: it depends on 'b'"
        assert state.runs(status=("failed", "running", "interrupted")) == []
        before, after = (state.runs(params={"day": f"2026-11-{number:02}"})[0] for number in (19, 20))
        assert before.diff(after).params == {"day": ("2026-11-19", "2026-11-20")}
        assert before.diff(after).changed.keys() == {"report"}
        assert state.gc(keep=5).runs == len(nights.starts) + 1 - 5
