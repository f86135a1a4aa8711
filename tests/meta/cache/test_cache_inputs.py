"""What counts as an input of a cached task."""

from __future__ import annotations

import logging

from cache_pipelines import pair, square
from durable_tasks import step

from flowkit import DAG, StateManager, Task, get_logger, task

logger = get_logger("cached").bind(folder="a")


def test_changed_input_runs_again(box):
    for value in (3, 4, 3, 4):
        assert square(box.folder, value).run("serial", state=box.db)["squared"] == value * value
    assert box.ran == ["squared", "squared"]


def test_inputs_are_compared_by_content_and_type(box):
    folder = box.folder

    def kind(value):
        return step(folder, "kind", repr(value))

    pipeline = DAG("kinds", tasks=[Task(kind, cache=True)])
    values = [
        1,
        True,
        1.0,
        "1",
        b"1",
        (1,),
        [1],
        {1},
        {1: 1},
        {"1": 1},
        0.0,
        -0.0,
        None,
        list(range(1000)),
        float("nan"),
    ]
    for _ in range(2):
        for value in values:
            assert pipeline.run("serial", state=box.db, params={"value": value}) == {"kind": repr(value)}
    assert len(box.ran) == len(values)


def test_dict_input_result_matches_insertion_order(box):
    folder = box.folder

    def shown(value):
        return step(folder, "shown", list(value))

    pipeline = DAG("order", tasks=[Task(shown, cache=True)])
    for value in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        assert pipeline.run("serial", state=box.db, params={"value": value}) == {"shown": list(value)}


def test_star_args_are_compared_in_order(box):
    folder = box.folder

    def join(*parts):
        return step(folder, "join", "-".join(parts))

    def pipeline(*values):
        joined = Task(join, cache=True)
        for number, value in enumerate(values):
            Task(lambda value=value: value, name=f"part_{number}") >> joined
        return DAG("join", tasks=[joined])

    for values in (("a", "b"), ("b", "a"), ("a", "b"), ("a",), ("a-b",)):
        assert pipeline(*values).run("serial", state=box.db)["join"] == "-".join(values)
    assert len(box.ran) == 4


def test_changed_default_runs_again(box):
    folder = box.folder

    def make(default):
        def scaled(factor=default):
            return step(folder, "scaled", factor)

        return DAG("defaults", tasks=[Task(scaled, cache=True)])

    assert make(1).run("serial", state=box.db) == {"scaled": 1}
    assert make(2).run("serial", state=box.db) == {"scaled": 2}
    assert make(1).run("serial", state=box.db) == {"scaled": 1}
    assert make(1).run("serial", state=box.db, params={"factor": 3}) == {"scaled": 3}
    assert len(box.ran) == 3


def test_changed_closure_runs_again(box):
    folder = box.folder

    def make(value):
        def scaled():
            return step(folder, "scaled", value)

        return DAG("closures", tasks=[Task(scaled, cache=True)])

    for value in (1, 2, 1):
        assert make(value).run("serial", state=box.db) == {"scaled": value}
    assert len(box.ran) == 2


def test_default_for_skipped_upstream_is_an_input(box):
    folder = box.folder

    def optional():
        return 5

    def use(optional=0):
        return step(folder, "use", optional)

    def pipeline(wanted):
        first, second = Task(optional, when=lambda: wanted), Task(use, cache=True)
        first >> second
        return DAG("optional", tasks=[second])

    for wanted in (True, False, True, False):
        assert pipeline(wanted).run("serial", state=box.db)["use"] == (5 if wanted else 0)
    assert box.ran == ["use", "use"]


def test_input_that_cannot_be_compared_runs_again_and_is_logged_once(box, caplog):
    folder = box.folder

    def made():
        return iter([1])

    def use(made):
        return step(folder, "use", list(made))

    pipeline = pair(made, use, cache=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            results = pipeline.run("serial")
            assert results["use"] == [1]
            assert set(results.cached) == set()
    assert box.ran == ["use"] * 3
    messages = [record.getMessage() for record in caplog.records if "use" in record.getMessage()]
    assert len(messages) == 1
    assert "list_iterator" in messages[0]


OPTIONS = """
import argparse
from configparser import ConfigParser

from flowkit import DAG, task

args = argparse.Namespace(limit=LIMIT, verbose=VERBOSE)
config = ConfigParser()
config.read_string("[etl]\\nrate = RATE")


@task(cache=True)
def extract():
    return args.limit


@task(cache=True)
def clean(extract):
    return extract * config["etl"].getint("rate")


extract >> clean
etl = DAG("etl", tasks=[clean])
"""


def test_argparse_options_and_configparser_are_compared(box, load_module):
    def run(**values):
        source = OPTIONS
        for name, value in values.items():
            source = source.replace(name, str(value))
        results = load_module(source).etl.run("serial", state=box.db)
        with StateManager(box.db) as state:
            return results["clean"], set(results.cached), state.explain()

    assert run(LIMIT=10, VERBOSE=0, RATE=1)[:2] == (10, set())
    assert run(LIMIT=10, VERBOSE=1, RATE=1)[:2] == (10, {"extract", "clean"})
    value, cached, why = run(LIMIT=10, VERBOSE=0, RATE=2)
    assert (value, cached, why["clean"]) == (20, {"extract"}, "constant etl.config has changed")
    value, cached, why = run(LIMIT=20, VERBOSE=0, RATE=2)
    assert (value, cached, why["extract"]) == (40, set(), "constant etl.args.limit has changed")


def test_idempotency_key_is_not_an_input(box):
    """It differs in each run, so every lookup would miss."""
    folder = box.folder

    def pay(idempotency_key):
        return step(folder, "pay", len(idempotency_key) > 0)

    pipeline = DAG("pay", tasks=[Task(pay, cache=True)])
    for _ in range(2):
        assert pipeline.run("serial", state=box.db) == {"pay": True}
    assert box.ran == ["pay"]


def test_logger_is_compared_by_name_and_context(box, monkeypatch):
    @task(cache=True)
    def logs(folder):
        logger.info("here")
        return step(folder, "logs", 1)

    dag = DAG("logs", tasks=[logs])
    for context, ran in (("a", 1), ("a", 1), ("b", 2)):
        monkeypatch.setitem(logger.context, "folder", context)
        dag.run("serial", params=box.params, state=box.db)
        assert box.ran == ["logs"] * ran
