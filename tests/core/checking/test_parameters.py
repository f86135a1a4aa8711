"""`Pipeline.parameters`: the parameters that no upstream fills."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import partial

import pytest

from flowkit_core import DAG, DAGCycleError, Task, task
from flowkit_core.checking import REQUIRED, OpenParameter


def named(name, func, **options):
    return Task(func, name=name, **options)


def shown(dag):
    return [str(parameter) for parameter in dag.parameters.values()]


def test_open_parameters_with_types_and_defaults():
    @task
    def extract(day: str, limit: int = 10): ...

    @task
    def load(extract, table="orders", *, lang: list[int] | None = None): ...

    extract >> load
    parameters = DAG("etl", tasks=[load]).parameters
    assert list(parameters) == ["day", "limit", "table", "lang"]
    assert shown(DAG("etl", tasks=[load])) == [
        "day: str, required by extract",
        "limit: int = 10, taken by extract",
        "table='orders', taken by load",
        "lang: list[int] | None = None, taken by load",
    ]
    day, limit, table, lang = parameters.values()
    assert (day.name, day.annotation, day.default, day.required, day.tasks) == (
        "day",
        str,
        REQUIRED,
        True,
        ("extract",),
    )
    assert (limit.annotation, limit.default, limit.required) == (int, 10, False)
    assert (table.annotation, table.default) == (None, "orders")
    assert lang.annotation == list[int] | None
    assert repr(parameters["day"]) == "<OpenParameter day: str, required by extract>"


def test_pipeline_without_open_parameters():
    extract = named("extract", lambda: 1)
    load = named("load", lambda rows, idempotency_key: rows)
    extract >> load
    assert dict(DAG("etl", tasks=[load]).parameters) == {}
    assert dict(DAG("etl", tasks=[named("bound", partial(lambda a: a, a=1))]).parameters) == {}


def test_parameter_that_several_tasks_take():
    tasks = [
        named("first", lambda day=1, x=None: 1),
        named("second", lambda day: 1),
        named("third", lambda day=3, x=2: 1),
    ]
    tasks[2].func.__annotations__["day"] = int
    day, x = DAG("several", tasks=tasks).parameters.values()
    assert (day.tasks, day.default, day.annotation) == (("first", "second", "third"), REQUIRED, int)
    assert (x.tasks, x.default, x.required) == (("first", "third"), None, False)


def test_annotation_that_cannot_be_evaluated_is_a_text():
    func = lambda day, limit: 1
    func.__annotations__.update(day="Unknown", limit="1 / 0")
    assert shown(DAG("texts", tasks=[named("load", func)])) == [
        "day: Unknown, required by load",
        "limit: 1 / 0, required by load",
    ]


def test_mapping_is_read_only_and_changes_with_the_pipeline():
    first, second = named("first", lambda: 1), named("second", lambda first, day: 1)
    dag = DAG("changing", tasks=[second])
    before = dag.parameters
    assert list(before) == ["first", "day"]
    with pytest.raises(TypeError):
        before["day"] = 1
    first >> second
    assert list(dag.parameters) == ["day"]
    assert list(before) == ["first", "day"]


def test_wrong_pipeline_raises_as_its_graph_does():
    a, b = named("a", lambda b: b), named("b", lambda a: a)
    a >> b >> a
    with pytest.raises(DAGCycleError):
        DAG("cycle", tasks=[a]).parameters


def test_required_is_one_object():
    assert repr(REQUIRED) == "REQUIRED"
    assert pickle.loads(pickle.dumps(REQUIRED)) is REQUIRED
    assert OpenParameter("day", None, REQUIRED, ["load"]).required
    assert str(OpenParameter("day", None, None, ["a", "b"])) == "day=None, taken by a, b"


def test_program_can_offer_the_parameters_as_arguments():
    @task
    def report(day: str, limit: int = 10):
        return f"{limit} lines of {day}"

    dag = DAG("report", tasks=[report])
    given = {"day": "monday", "limit": "3"}
    params = {
        name: parameter.annotation(given[name]) if parameter.annotation else given[name]
        for name, parameter in dag.parameters.items()
    }
    assert dag.run("serial", params=params) == {"report": "3 lines of monday"}


def test_checking_is_imported_when_it_is_used():
    code = (
        "import sys; from flowkit_core import DAG, Task; d = DAG('d', tasks=[Task(int, name='t')]);"
        "d.run(); before = 'flowkit_core.checking' in sys.modules; d.check();"
        "print(before, 'flowkit_core.checking' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_mapped_parameter_has_the_annotation_of_an_element():
    def train(lr: float): ...

    parameter = DAG("sweep", tasks=[Task(train).map("lr"), Task(train, name="whole")]).parameters["lr"]
    assert (parameter.annotation, parameter.tasks, parameter.mapped) == (float, ("train", "whole"), ("train",))
    assert str(parameter) == "lr: float, required by each element of train, whole"
