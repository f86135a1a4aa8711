"""Modules of the user that are not the same on a worker as in the process that calls ``run()``."""

from __future__ import annotations

import importlib
import sys

import cloudpickle
import pytest

from flowkit_core import DAG, SerializationError, Task
from flowkit_dask import DaskExecutor
from flowkit_state import StateManager

HELPERS = """
RATE = {rate}
RATES = {{"tea": {rate}}}


def rate():
    return {rate}


class Price:
    factor = {rate}

    def value(self):
        return self.factor


def unrelated():  # a comment
    return {other}
"""
STEPS = """
from functools import cache

import price_helpers
from price_helpers import RATE, Price, rate

STARTED = []


def rows():
    STARTED.append(1)
    return [1.0, 2.0]


def by_function(rows):
    return [row * rate() for row in rows]


def by_module(rows):
    return [row * price_helpers.rate() for row in rows]


def by_constant(rows):
    return [row * RATE for row in rows]


def by_table(rows):
    return [row * price_helpers.RATES["tea"] for row in rows]


def by_class(rows):
    return [row * Price().value() for row in rows]


@cache
def cached_rate():
    return rate()


def by_cache(rows):
    return [row * cached_rate() for row in rows]


def by_import(rows):
    from price_helpers import rate
    return [row * rate() for row in rows]


def unaffected(rows):
    return rows
"""
USES = ["by_function", "by_module", "by_constant", "by_table", "by_class", "by_cache", "by_import"]


@pytest.fixture
def upload(tmp_path, monkeypatch, client):
    """A function that writes the modules with a rate, imports them, and sends them to the workers if asked."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(rate, *, is_sent, other=0):
        (tmp_path / "price_helpers.py").write_text(HELPERS.format(rate=rate, other=other))
        (tmp_path / "price_steps.py").write_text(STEPS)
        for name in ("price_helpers", "price_steps"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        steps = importlib.import_module("price_steps")
        for name in ("price_helpers", "price_steps") if is_sent else ():
            client.upload_file(str(tmp_path / f"{name}.py"))
        return steps

    yield write
    for name in ("price_helpers", "price_steps"):
        sys.modules.pop(name, None)


def pipeline(steps, name, **options):
    rows, prices = Task(steps.rows), Task(getattr(steps, name), **options)
    rows >> prices
    return DAG("prices", tasks=[prices])


@pytest.mark.parametrize("use", USES)
def test_module_of_worker_is_older_fails_and_caches_nothing(use, upload, client):
    with DaskExecutor(client) as executor, StateManager() as state:
        old = pipeline(upload(10, is_sent=True), use, cache=True)
        assert old.run(executor, state=state)[use] == [10.0, 20.0]
        new = pipeline(upload(2000, is_sent=False), use, cache=True)
        with pytest.raises(SerializationError, match=r"module 'price_\w+', which the worker tcp://") as caught:
            new.run(executor, state=state)
        assert "upload_file('price_" in str(caught.value)
        assert new.run("serial", state=state)[use] == [2000.0, 4000.0]
        new = pipeline(upload(3, is_sent=True), use, cache=True)
        assert new.run(executor, state=state)[use] == [3.0, 6.0]


def test_part_of_a_module_that_the_task_does_not_use_may_differ(upload, client):
    upload(10, is_sent=True)
    with DaskExecutor(client) as executor:
        for use in USES:
            assert pipeline(upload(10, is_sent=False, other=1), use).run(executor)[use] == [10.0, 20.0]
        assert pipeline(upload(11, is_sent=False), "unaffected").run(executor)["unaffected"] == [1.0, 2.0]


def test_module_that_is_sent_by_value_is_not_compared(upload, client):
    upload(10, is_sent=True)
    steps = upload(20, is_sent=False)
    helpers = sys.modules["price_helpers"]
    for module in (steps, helpers):
        cloudpickle.register_pickle_by_value(module)
    try:
        with DaskExecutor(client) as executor:
            assert pipeline(steps, "by_function").run(executor)["by_function"] == [20.0, 40.0]
    finally:
        for module in (steps, helpers):
            cloudpickle.unregister_pickle_by_value(module)


def test_lambda_that_uses_an_older_module_fails(upload, client):
    upload(10, is_sent=True)
    helpers = sys.modules["price_helpers"] if upload(20, is_sent=False) else None
    with DaskExecutor(client) as executor, pytest.raises(SerializationError, match="price_helpers"):
        DAG("prices", tasks=[Task(lambda: helpers.rate(), name="rate")]).run(executor)
