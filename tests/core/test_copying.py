"""``copy.copy`` and ``copy.deepcopy`` of a DAG: a pipeline of its own, of the same tasks."""

from __future__ import annotations

import copy

import pytest

from flowkit_core import DAG, Task

both = pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])


def chain():
    """Return two tasks that are wired, and the names of the calls that were made."""
    calls = []
    first = Task(lambda: calls.append("first") or 1, name="first")
    second = Task(lambda first: first + 1, name="second")
    first >> second
    return first, second, calls


@both
def test_copy_of_dag_runs_and_draws_alike(duplicate):
    _, second, calls = chain()
    dag = DAG("etl", max_workers=3, tasks=[second])
    again = duplicate(dag)
    assert type(again) is DAG
    assert again is not dag
    assert (again.name, again.max_workers, again.tasks) == (dag.name, 3, dag.tasks)
    assert again.visualize() == dag.visualize()
    assert again.run("serial") == dag.run("serial") == {"first": 1, "second": 2}
    assert calls == ["first"] * 2


@both
def test_copy_of_dag_that_has_run(duplicate):
    """The graph that was built does no harm."""
    _, second, _ = chain()
    dag = DAG("etl", tasks=[second])
    dag.run("serial")
    assert duplicate(dag).run("serial") == {"first": 1, "second": 2}


@both
def test_copy_of_dag_has_the_same_tasks_and_not_copies_of_them(duplicate):
    """A task is what it is: a copy of it would have no edges."""
    first, second, _ = chain()
    assert duplicate(DAG("etl", tasks=[second])).tasks == (first, second)


@both
def test_copy_of_dag_may_be_renamed(duplicate):
    """Without a change of the original, and with its own name in the picture."""
    _, second, _ = chain()
    dag = DAG("etl", tasks=[second])
    again = duplicate(dag)
    again.name, again.max_workers = "other", 2
    assert (dag.name, dag.max_workers) == ("etl", None)
    assert "other" in again.visualize()
    assert "etl" in dag.visualize()


@both
def test_copy_of_dag_sees_edges_that_are_added_later(duplicate):
    """As the original does."""
    _, second, _ = chain()
    dag = DAG("etl", tasks=[second])
    again = duplicate(dag)
    Task(lambda: 0, name="before") >> second.with_options(name="unrelated")
    second.after(Task(lambda: 0, name="lock"))
    assert list(dag.run("serial")) == list(again.run("serial")) == ["first", "lock", "second"]


@both
def test_copy_of_bare_dag_has_what_the_function_has(duplicate):
    """The place in which a DAG was created goes with the copy."""
    chain()
    again = duplicate(DAG("bare"))
    assert list(again.run("serial")) == ["first", "second"]


@both
def test_copy_of_bare_dag_made_in_another_function_has_tasks_of_first(duplicate):
    """Not those of the function that copies, while it runs."""

    def copy_and_run(dag):
        task = Task(lambda: 0, name="elsewhere")
        found = list(duplicate(dag).tasks)
        return task in found, [task.name for task in found]

    chain()
    assert copy_and_run(DAG("bare")) == (False, ["first", "second"])


@both
def test_copy_of_block_runs_alike(duplicate):
    """With the edges of the block."""
    first, second = Task(lambda: 1, name="first"), Task(lambda x: x + 1, name="second")
    with DAG("block") as dag:
        first >> second
    assert duplicate(dag).run("serial") == {"first": 1, "second": 2}


@both
def test_copy_of_block_entered_again_leaves_original_alone(duplicate):
    """What is added to one is not in the other."""
    first = Task(lambda: 1, name="first")
    with DAG("block") as dag:
        first >> Task(lambda x: x + 1, name="second")
    again = duplicate(dag)
    with again:
        first >> Task(lambda x: x + 2, name="third")
    assert list(again.run("serial")) == ["first", "second", "third"]
    assert list(dag.run("serial")) == ["first", "second"]


@both
def test_copy_of_dag_in_a_structure(duplicate):
    """A list of pipelines, twice the same one."""
    _, second, _ = chain()
    dag = DAG("etl", tasks=[second])
    for again in duplicate({"a": dag, "b": [dag]})["b"]:
        assert again.run("serial") == {"first": 1, "second": 2}


@both
def test_copy_of_subclass_keeps_class_and_attributes(duplicate):
    """Attributes of one's own are copied as copy() does."""

    class Own(DAG):
        def __init__(self, name, **options):
            super().__init__(name, **options)
            self.owner = "team"

    _, second, _ = chain()
    again = duplicate(Own("etl", tasks=[second]))
    assert type(again) is Own
    assert again.owner == "team"
    assert again.run("serial") == {"first": 1, "second": 2}


def test_copy_of_dag_shares_attributes():
    """As copy() does."""
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    dag.notes = ["a"]
    assert copy.copy(dag).notes is dag.notes


def test_deepcopy_of_dag_does_not_share_attributes():
    """That is what deepcopy() is for."""
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    dag.notes = ["a"]
    copy.deepcopy(dag).notes.append("b")
    assert dag.notes == ["a"]


def test_deepcopy_of_object_that_refers_to_itself_through_dag():
    """The memo of deepcopy() is kept: one DAG in two places stays one."""
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    dag.parts = {"dag": dag}
    again = copy.deepcopy(dag)
    assert again.parts["dag"] is again


def test_deepcopy_of_dag_twice_in_a_structure_is_one_copy():
    """As for any object."""
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    first, second = copy.deepcopy([dag, dag])
    assert first is second
    assert first is not dag


@both
def test_copy_of_results_is_a_dict_with_the_same_values(duplicate):
    """Results are a dict."""
    results = DAG("etl", tasks=[Task(lambda: [1], name="one")]).run("serial")
    assert duplicate(results) == {"one": [1]}
