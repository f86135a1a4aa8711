"""`StateManager.explain()`: why a cached task ran again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from durable_tasks import diamond

from flowkit import DAG, StateManager, Task, TaskCache, UnknownRunError


def explain(box, run_id=None):
    with StateManager(box.db) as state:
        return state.explain(run_id)


ETL = """
from flowkit import DAG, task
from durable_tasks import step

RATE = 10
LIMITS = {"low", "high", "middle", "none"}


def convert(row):
    return adjust(row) * RATE


def adjust(row):
    return row + 0


class Rounding:
    digits = 1

    def apply(self, value):
        return round(value, self.digits)


@task
def rows():
    return [1, 2]


@task(cache=True)
def clean(rows):
    assert "low" in LIMITS
    assert "low" in {"low", "high", "other"}
    return step(FOLDER, "clean", [Rounding().apply(convert(row)) for row in rows])


@task(cache=True)
def total(clean, scale=1):
    return step(FOLDER, "total", sum(clean) * scale)


def unrelated():
    return 1


rows >> clean >> total
etl = DAG("etl", tasks=[total])
"""


@pytest.fixture
def etl(box, load_module):
    """Return a function that runs an edited source, and returns which tasks ran and the explanations."""
    constant = f"FOLDER = {box.folder!r}\n"

    def run(*pairs, **options):
        source = ETL
        for old, new in pairs:
            assert old in source
            source = source.replace(old, new)
        before = len(box.ran)
        # The constant is after the functions, so it does not change their line numbers.
        module = load_module(source.replace("rows >> clean", constant + "rows >> clean"))
        module.etl.run("serial", state=box.db, **options)
        return box.ran[before:], explain(box)

    return run


def test_explain_new_and_reused_results(etl):
    ran, explained = etl()
    assert ran == ["clean", "total"]
    assert explained.keys() == {"clean", "total"}, "those that are cached"
    assert all("never computed before" in text for text in explained.values())
    ran, explained = etl()
    assert ran == []
    assert all(text.startswith("reused") for text in explained.values())


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("* RATE", "* 1 * RATE"), "function etl.convert has changed"),
        (("row + 0", "row - 0"), "function etl.adjust has changed"),
        (("RATE = 10", "RATE = 10.0"), "constant etl.RATE has changed"),
        (('"middle", "none"}', '"middle"}'), "constant etl.LIMITS has changed"),
        (("for row in rows]", "for row in list(rows)]"), "function etl.clean has changed"),
        (("round(value, self.digits)", "round(value + 0, self.digits)"), "etl.Rounding"),
        (("digits = 1", "digits = 2"), "etl.Rounding"),
        (("return [1, 2]", "return [1, 3]"), "input 'rows' has changed"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_explain_changed_code_constant_or_input(etl, pair, reason):
    etl()
    ran, explained = etl(pair)
    assert ran[0] == "clean"
    assert reason in explained["clean"]
    if "total" in ran:
        assert "input 'clean' has changed" in explained["total"]
    else:
        assert explained["total"].startswith("reused")
    ran, explained = etl(pair)
    assert ran == []
    ran, explained = etl()
    assert ran == [], "earlier results are still cached"


@pytest.mark.parametrize(
    "pair",
    [
        ("RATE = 10\n", "\n\n\n# a remark\nRATE = 10  # another\n"),
        ("return adjust(row) * RATE", "return (\n        adjust( row )\n        *  RATE  )  # remark"),
        ('{"low", "high", "middle", "none"}', '{"none", "middle", "high", "low"}'),
        ("def unrelated():\n    return 1", "def unrelated():\n    return 2"),
        ("def unrelated():\n    return 1\n", ""),
        ("@task(cache=True)\ndef clean", "@task(cache=True, retries=3, delay=0.5)\ndef clean"),
        ('DAG("etl"', 'DAG("other"'),
    ],
    ids=["comments", "format", "a set", "unrelated", "unrelated gone", "retries", "pipeline"],
)
def test_irrelevant_edit_keeps_cached_results(etl, pair):
    etl()
    ran, explained = etl(pair)
    assert ran == []
    assert all(text.startswith("reused") for text in explained.values())


def test_explain_refresh(etl):
    etl()
    ran, explained = etl(refresh={"clean"})
    assert ran == ["clean"]
    assert "refresh was requested" in explained["clean"]
    assert explained["total"].startswith("reused")


def test_explain_older_run(box, etl):
    etl()
    etl()
    with StateManager(box.db) as state:
        last, first = state.runs()
        assert "never computed before" in state.explain(first.run_id)["clean"]
        assert state.explain(last.run_id) == state.explain()
        assert state.explain()["clean"].startswith("reused")
        assert first.tasks["clean"].why in state.explain(first.run_id)["clean"]
        with pytest.raises(UnknownRunError):
            state.explain("no such run")


def test_explain_two_changes_names_both(etl):
    etl()
    _, explained = etl(("RATE = 10", "RATE = 11"), ("return [1, 2]", "return [5]"))
    assert "constant etl.RATE" in explained["clean"]
    assert "'rows'" in explained["clean"]


RUN = """
import json, sys
from etl import etl
from flowkit import StateManager

db, executor = sys.argv[1:]
if __name__ == "__main__":
    results = etl.run(executor, state=db)
    with StateManager(db) as state:
        print(json.dumps([dict(results), sorted(results.cached), state.explain()]))
"""


@pytest.fixture
def run_process(box, tmp_path, script):
    """Return a function that runs an edited source in a new process."""

    def run(*pairs, executor="serial", **variables):
        source = ETL.replace("rows >> clean", f"FOLDER = {box.folder!r}\nrows >> clean")
        for old, new in pairs:
            assert old in source
            source = source.replace(old, new)
        (tmp_path / "etl.py").write_text(source)
        return json.loads(script(RUN, box.db, executor, **variables))

    return run


def test_cached_result_is_reused_by_other_process(run_process, box):
    """With another hash seed and executor."""
    results, cached, _ = run_process(PYTHONHASHSEED="1")
    assert (results, cached) == ({"rows": [1, 2], "clean": [10, 20], "total": 30}, [])
    for options in (
        {"PYTHONHASHSEED": "2"},
        {"PYTHONHASHSEED": "3", "executor": "thread"},
        {"PYTHONHASHSEED": "4", "executor": "process"},
    ):
        again, cached, explained = run_process(**options)
        assert again == results
        assert cached == ["clean", "total"], explained
    assert box.ran == ["clean", "total"]


def test_changed_helper_and_constant_run_again_in_other_process(run_process, box):
    run_process()
    results, cached, explained = run_process(("RATE = 10", "RATE = 20"))
    assert (results["total"], cached) == (60, [])
    assert "constant etl.RATE has changed" in explained["clean"]
    results, cached, explained = run_process(("row + 0", "row + 1"))
    assert (results["total"], cached) == (50, [])
    assert "function etl.adjust has changed" in explained["clean"]
    results, cached, _ = run_process(("def convert", "# remark\n\ndef convert"))
    assert (results["total"], cached) == (30, ["clean", "total"])


def test_changed_code_of_imported_module_runs_again(box, tmp_path, script):
    helper, source = (
        "FACTOR = {0}\ndef helped(row):\n    return row * FACTOR\n",
        f"""
import helpers
from helpers import helped
from flowkit import DAG, StateManager, task
from durable_tasks import step

@task(cache=True)
def one():
    return step({box.folder!r}, "one", helped(1))

@task(cache=True)
def two():
    return step({box.folder!r}, "two", helpers.helped(2))

results = DAG("modules", tasks=[one, two]).run("serial", state={box.db!r})
print(dict(results), sorted(results.cached))
""",
    )
    for factor, out in ((1, "[]"), (1, "['one', 'two']"), (5, "[]"), (1, "['one', 'two']")):
        (tmp_path / "helpers.py").write_text(helper.format(factor))
        assert script(source) == f"{{'one': {factor}, 'two': {2 * factor}}} {out}\n"
    assert "constant helpers.FACTOR has changed" in explained_after(box, tmp_path, script, source, helper)


def explained_after(box, tmp_path, script, source, helper):
    (tmp_path / "helpers.py").write_text(helper.format(7))
    script(source)
    return explain(box)["two"]


def test_script_and_its_workers_share_cache(box, script):
    """The module of the script is __main__ in the parent only."""
    source = f"""
import sys
from flowkit import DAG, task
from durable_tasks import step

RATE = 3

def helped(value):
    return value * RATE

@task(cache=True)
def one():
    return step({box.folder!r}, "one", helped(1))

@task(cache=True)
def two(one):
    return step({box.folder!r}, "two", helped(one))

one >> two
results = DAG("script", tasks=[two]).run(sys.argv[1], state={box.db!r})
print(dict(results), sorted(results.cached))
"""
    for executor, cached in (("process", []), ("serial", ["one", "two"]), ("thread", ["one", "two"])):
        assert script(source, executor) == f"{{'one': 3, 'two': 9}} {cached}\n"
    assert len(box.ran) == 2


def test_concurrent_processes_share_cache(box, tmp_path):
    source = """
import sys
from durable_tasks import Box, diamond, RESULTS
box = Box(sys.argv[1])
for number in range(5):
    results = diamond(f"numbers {sys.argv[2]}", cache=True).run("thread", state=box.db, params=box.params)
    assert results == RESULTS, results
    print(len(results.cached))
"""
    path = tmp_path / "sharing.py"
    path.write_text(source)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, path, box.folder]
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen([*command, str(number)], **options) for number in range(3)]
    for process in started:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        assert out.splitlines()[1:] == ["4"] * 4
    assert max(Counter(box.ran).values()) <= 3
    results = diamond(cache=True).run("serial", state=box.db, params=box.params)
    assert len(results.cached) == 4
    with StateManager(box.db) as state:
        assert len(state.runs()) == 16


class Scaler:
    def __init__(self, factor):
        self.factor = factor
        self.name = "scaler"

    def scale(self, x):
        return self.factor * x

    def __call__(self, x):
        return self.factor + x


@pytest.mark.parametrize("make", [lambda factor: Scaler(factor).scale, Scaler])
def test_changed_attribute_of_the_object_of_a_method_is_named(make):
    with StateManager() as state:
        for factor in (2, 3):
            DAG("scaled", tasks=[Task(make(factor), name="scale", cache=True)]).run(
                "serial", state=state, params={"x": 1}
            )
        assert state.explain() == {"scale": 'attribute "factor" of Scaler has changed'}


@pytest.mark.parametrize("mapped", [False, True])
def test_result_of_the_same_inputs_is_compared_and_not_the_last_one(mapped):
    def run(factor, *rows):
        scale = Task(lambda row: [number * factor for number in row], name="scale", cache=True)
        dag = DAG("scaled", tasks=[scale.map("row") if mapped else scale])
        dag.run("serial", state=state, params={"row": [[row] for row in rows] if mapped else list(rows)})
        return state.explain()["scale"].removeprefix("element 0 was called: ")

    with StateManager() as state:
        new, edited = "there is no result for its inputs" if mapped else "input 'row' has changed", "closure factor"
        run(1, 1)
        assert run(1, 2, 3) == new
        assert run(2, 1).startswith(edited), "the last result is of other inputs"
        assert run(2, 2, 3).startswith(edited), "the last result is of the same code"
        assert run(1, 1).startswith("reused")
        assert run(1, 4) == new, "the last result is of other code, but there are results of this code"
        assert run(3, 5).startswith(f"{new}; {edited}")


def test_decorated_function_names_what_has_changed_since_a_result_of_the_same_inputs():
    state = StateManager()

    def made(version):
        return TaskCache(state, version=version)(half)

    for version, number in ((1, 2), (1, 3), (2, 3)):
        made(version)(number)
    assert made(2).explain(2) == "version of the cache has changed"
    assert made(2).explain(4) == "input 'number' has changed"
    assert made(3).explain(4) == "input 'number' has changed; version of the cache has changed"


def half(number):
    return number / 2
