"""Fixtures: a folder with a pipeline in `etl.py`, and the command `flowkit`, called in this process."""

from __future__ import annotations

import json
import logging
import sys
from typing import NamedTuple

import pytest

from flowkit_view import main

ETL = """
import json
import os
from datetime import date
from pathlib import Path
from flowkit_core import DAG, task

@task
def extract(day: date, limit: int = 3):
    print("extracting")
    return [f"{day:%d} {number}" for number in range(limit)]

@task(retries=1, delay=0)
def load(extract):
    if Path("broken").exists():
        raise ValueError("bad <row>")
    return len(extract)

@task
def report(load):
    return f"{load} rows"

extract >> load >> report
dag = DAG("etl")
"""


class Answer(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder whose modules are imported by this test only, and logging that nothing has set up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    loaded = {*sys.modules}
    logger = logging.getLogger("flowkit")
    before = [*logger.handlers], logger.level, logger.propagate
    yield tmp_path
    logger.handlers[:], logger.level, logger.propagate = before
    for name in {*sys.modules} - loaded:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def etl(folder):
    (folder / "etl.py").write_text(ETL)
    return folder


@pytest.fixture
def flowkit(capfd):
    """Call the command `flowkit` with arguments."""

    def call(*arguments):
        capfd.readouterr()
        try:
            code = main([*map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture
def recorded(etl, flowkit):
    """The file `runs.db` with a run that succeeded and a later one that failed."""
    assert flowkit("run", "etl:dag", "-q", "-p", "day=2026-11-28", "--state", "runs.db").code == 0
    (etl / "broken").touch()
    assert flowkit("run", "etl:dag", "-q", "-p", "day=2026-11-29", "--state", "runs.db").code == 1
    return "runs.db"
