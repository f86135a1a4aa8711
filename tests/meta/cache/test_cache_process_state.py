"""Cached tasks that read state of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from contextvars import ContextVar

import pytest

from flowkit import DAG, Task, current, task

user = ContextVar("user")


def run(function, executor, **options):
    return DAG("profiles", tasks=[task(cache=True)(function)]).run(executor, **options)


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_context_variable_is_never_stale(executor):
    def profile():
        return f"profile of {user.get()}"

    found = []
    for name in ("Ada", "Bob"):
        user.set(name)
        found.append(run(profile, executor)["profile"])
    assert found == ["profile of Ada", "profile of Bob"]


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_environment_variable_is_never_stale_and_cached(executor, monkeypatch, tmp_path):
    def target():
        return os.environ["TARGET"], sys.argv[1]

    found = []
    for value in ("a", "b", "a"):
        monkeypatch.setenv("TARGET", value)
        monkeypatch.setattr(sys, "argv", ["job", value])
        results = run(target, executor, state=tmp_path / "runs.db")
        found.append((results["target"], results.cached))
    assert found == [(("a", "a"), ()), (("b", "b"), ()), (("a", "a"), ("target",))]


def by_default(context=current):
    return context().params["day"]


def by_attribute():
    import flowkit

    return flowkit.current().params["day"]


def by_alias():
    context = current
    return context().params["day"]


def by_random():
    return current().random.random()


@pytest.mark.parametrize("executor", ["serial", "thread"])
@pytest.mark.parametrize("function", [by_default, by_attribute, by_alias, by_random])
def test_task_that_reads_the_context_is_not_cached(executor, function, tmp_path):
    def helper():
        return function()

    extract, show = Task(helper, name="extract", cache=True), Task(lambda extract, day: extract, name="show")
    extract >> show
    found = []
    for day in ("mon", "tue"):
        results = DAG("days", tasks=[show]).run(executor, state=tmp_path / "runs.db", params={"day": day})
        assert results.cached == ()
        found.append(results["show"])
    assert found[0] != found[1]


def test_task_that_reads_only_the_logger_of_the_context_is_cached(tmp_path):
    def clean():
        current().logger.info("cleaning")
        log = current().logger
        log.info("clean")
        return 1

    run(clean, "serial", state=tmp_path / "runs.db")
    assert run(clean, "serial", state=tmp_path / "runs.db").cached == ("clean",)


SCRIPT = """
from contextvars import ContextVar
from flowkit import DAG, task

user = ContextVar("user", default="Ada")

@task(cache=True)
def profile():
    return user.get()

DAG("profiles", tasks=[profile]).run("serial")
DAG("profiles", tasks=[profile]).run("serial")
"""


def test_task_that_cannot_be_cached_warns_once_without_logging(tmp_path):
    path = tmp_path / "job.py"
    path.write_text(SCRIPT)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert done.stderr.count("RuntimeWarning") == 1
    assert 'A call of "profile" is not cached: constant job.user is of type _contextvars.ContextVar' in done.stderr
    assert "pass the value as an argument" in done.stderr
