"""Cached tasks that read state of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from contextvars import ContextVar

import pytest

from flowkit import DAG, task

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
