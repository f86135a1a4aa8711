"""What code reads from the process: environment variables, the command line and the clock."""

from __future__ import annotations

import datetime as dt
import os
import os as system
import sys
import time
from datetime import date, datetime
from functools import partial
from os import environ, getenv
from os import environ as env
from sys import argv
from time import strftime

import pytest

from flowkit_state import fingerprint
from flowkit_state.fingerprint.process_reads import ProcessReads

lookup = os.environ.get
alias = os.environ


def item():
    return os.environ["DAY"]


def item_of_imported():
    return environ["DAY"], env["NIGHT"], alias["WEEK"]


def method():
    return os.environ.get("DAY", ""), environ.setdefault("NIGHT", "x"), lookup("WEEK")


def function():
    return os.getenv("DAY"), getenv("NIGHT", "x"), system.getenv("WEEK")


def membership():
    return "DAY" in os.environ, "NIGHT" not in environ


def import_inside():
    import os as inside
    from os import environ as local

    return local["DAY"], inside.getenv("NIGHT")


def helper():
    return item()


def nested():
    def inner():
        return [os.environ["DAY"] for _ in range(2)]

    return inner, lambda: environ["NIGHT"]


class Settings:
    def day(self):
        return os.environ["DAY"]


def of_class():
    return Settings().day()


def copies():
    return {**os.environ}, environ.copy()


def variable_name(name):
    return os.environ[name]


def passed_on():
    return [*map(os.getenv, ["DAY"])]


def writes():
    os.environ["DAY"] = "1"
    del environ["NIGHT"]


def unrelated():
    return os.fspath("DAY"), {"DAY": 1}["DAY"], date.fromisoformat("2026-11-30"), time.monotonic()


def arguments():
    return sys.argv[1], argv[2]


def all_arguments():
    return sys.argv[1:]


def last_argument():
    return argv[-1]


def days():
    return (
        date.today(),  # noqa: DTZ011 - each spelling counts
        dt.date.today,
        datetime.now(dt.UTC),
        dt.datetime.utcnow,
        datetime.today(),  # noqa: DTZ002
    )


def seconds():
    from time import time as now

    return now(), time.time_ns(), time.strftime("%Y"), time.localtime()


def default_factory():
    return [*map(time.ctime, ())], datetime.now


today = date.today
TABLE = {"today": today, "zone": time.localtime}


class Clock:
    now = time.time

    def __init__(self):
        self.day = date.today


CLOCK = Clock()


def by_default(clock=time.ctime):
    return clock()


def by_helper():
    return by_default()


def by_alias():
    return today()


def by_table():
    return TABLE["today"]()


def by_object():
    return CLOCK.day()


def by_getattr():
    return getattr(time, "time")(), getattr(dt.date, "today")()  # noqa: B009 - each spelling counts


def by_computed_name(name):
    return getattr(time, name)()


def by_partial():
    return partial(time.strftime, "%Y")()


def without_source():
    scope = {"time": time, "date": date}
    exec("def f():\n    return time.time(), date.today()", scope)
    return scope["f"]


def no_clock():
    year = strftime("%Y", time.gmtime(0))
    return year, time.localtime(0), time.sleep(0), time.monotonic(), datetime.fromtimestamp(0, dt.UTC)


def reads(function, key=b"key"):
    found = ProcessReads(key)
    missed = {}
    components = fingerprint.initial_components(function, missed, found)
    assert found.components.items() <= components.items()
    return found, missed


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (item, ["DAY"]),
        (item_of_imported, ["DAY", "NIGHT", "WEEK"]),
        (method, ["DAY", "NIGHT", "WEEK"]),
        (function, ["DAY", "NIGHT", "WEEK"]),
        (membership, ["DAY", "NIGHT"]),
        (import_inside, ["DAY", "NIGHT"]),
        (helper, ["DAY"]),
        (nested, ["DAY", "NIGHT"]),
        (of_class, ["DAY"]),
        (writes, []),
        (unrelated, []),
    ],
)
def test_environment_variables_are_found_by_constant_name(function, names):
    found, missed = reads(function)
    assert list(found.components) == [f"environment variable {name}" for name in names]
    assert (found.clock, missed) == ([], {})


@pytest.mark.parametrize("function", [copies, variable_name, passed_on])
def test_environment_as_a_whole_does_not_count_but_is_described(function):
    found, missed = reads(function)
    assert found.components == {}
    assert [*missed.values()] == ["os.environ as a whole"]


@pytest.mark.parametrize(
    ("function", "labels"),
    [
        (arguments, ["sys.argv[1]", "sys.argv[2]"]),
        (all_arguments, ["sys.argv"]),
        (last_argument, ["sys.argv"]),
    ],
)
def test_arguments_are_found(function, labels):
    found, missed = reads(function)
    assert ([*found.components], missed) == (labels, {})


@pytest.mark.parametrize(
    ("function", "clock"),
    [
        (days, ["date.today()", "datetime.now()", "datetime.utcnow()", "datetime.today()"]),
        (seconds, ["time.time()", "time.time_ns()", "time.strftime()", "time.localtime()"]),
        (default_factory, ["time.ctime()", "datetime.now()"]),
        (by_default, ["time.ctime()"]),
        (by_helper, ["time.ctime()"]),
        (by_alias, ["date.today()"]),
        (by_table, ["date.today()", "time.localtime()"]),
        (by_object, ["date.today()", "time.time()"]),
        (by_getattr, ["date.today()", "time.time()"]),
        (by_computed_name, ["time"]),
        (by_partial, ["time.strftime()"]),
        (without_source(), ["date.today()", "time.time()"]),
        (no_clock, []),
    ],
)
def test_clock_is_found(function, clock):
    found, _ = reads(function)
    assert sorted(found.clock) == sorted(clock)
    assert found.components == {}


def test_digest_depends_on_value_and_key_and_does_not_contain_value(monkeypatch):
    monkeypatch.delenv("DAY", raising=False)
    label = "environment variable DAY"
    unset = reads(item)[0].components[label]
    monkeypatch.setenv("DAY", "monday")
    monday = reads(item)[0].components[label]
    assert len({unset, monday, reads(item, b"other key")[0].components[label]}) == 3
    assert "monday" not in monday
    assert reads(item)[0].components[label] == monday


@pytest.mark.parametrize(
    ("function", "before", "after", "same"),
    [
        (arguments, ["job", "1", "2"], ["job", "1", "2", "--verbose"], True),
        (arguments, ["job", "1", "2"], ["job", "1"], False),
        (all_arguments, ["job", "1"], ["./job", "1"], True),
        (all_arguments, ["job", "1"], ["job", "1", "--verbose"], False),
    ],
)
def test_arguments_count_by_index_unless_all_are_read(monkeypatch, function, before, after, same):
    monkeypatch.setattr(sys, "argv", argv)  # the list that was imported above
    found = []
    for arguments in (before, after):
        monkeypatch.setattr(sys, "argv", argv)
        argv[:], kept = arguments, argv[:]
        try:
            found.append(reads(function)[0].components)
        finally:
            argv[:] = kept
    assert (found[0] == found[1]) == same


def test_key_may_be_a_function_that_is_called_when_needed():
    asked = []

    def key():
        asked.append(1)
        return b"key"

    assert not reads(unrelated, key)[0].components
    assert not asked
    assert reads(item, key)[0].components == reads(item, b"key")[0].components
