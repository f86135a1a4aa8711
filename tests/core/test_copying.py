"""``copy.copy`` and ``copy.deepcopy`` of a DAG: another pipeline with the same tasks."""

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
    """Its graph has been built."""
    _, second, _ = chain()
    dag = DAG("etl", tasks=[second])
    dag.run("serial")
    assert duplicate(dag).run("serial") == {"first": 1, "second": 2}


@both
def test_copy_of_dag_has_the_same_tasks_and_not_copies_of_them(duplicate):
    """Copies of tasks would have no edges."""
    first, second, _ = chain()
    assert duplicate(DAG("etl", tasks=[second])).tasks == (first, second)


@both
def test_copy_of_dag_may_be_renamed(duplicate):
    """The original keeps its name; pictures have the new name."""
    _, second, _ = chain()
    dag = DAG("etl", tasks=[second])
    again = duplicate(dag)
    again.name, again.max_workers = "other", 2
    assert (dag.name, dag.max_workers) == ("etl", None)
    assert "other" in again.visualize()
    assert "etl" in dag.visualize()


@both
def test_copy_of_dag_sees_edges_that_are_added_later(duplicate):
    _, second, _ = chain()
    dag = DAG("etl", tasks=[second])
    again = duplicate(dag)
    Task(lambda: 0, name="before") >> second.with_options(name="unrelated")
    second.after(Task(lambda: 0, name="lock"))
    assert list(dag.run("serial")) == list(again.run("serial")) == ["first", "lock", "second"]


@both
def test_copy_of_bare_dag_has_what_the_function_has(duplicate):
    """Discovery starts from where the original was created."""
    chain()
    again = duplicate(DAG("bare"))
    assert list(again.run("serial")) == ["first", "second"]


@both
def test_copy_of_bare_dag_made_in_another_function_has_tasks_of_first(duplicate):
    """It does not have the tasks of the function that copies."""

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
    """Tasks added to one are not in the other."""
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
    """A list with the same DAG twice."""
    _, second, _ = chain()
    dag = DAG("etl", tasks=[second])
    for again in duplicate({"a": dag, "b": [dag]})["b"]:
        assert again.run("serial") == {"first": 1, "second": 2}


@both
def test_copy_of_subclass_keeps_class_and_attributes(duplicate):

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
    """copy.copy() does the same for other objects."""
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    dag.notes = ["a"]
    assert copy.copy(dag).notes is dag.notes


def test_deepcopy_of_dag_does_not_share_attributes():
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    dag.notes = ["a"]
    copy.deepcopy(dag).notes.append("b")
    assert dag.notes == ["a"]


def test_deepcopy_of_object_that_refers_to_itself_through_dag():
    """The memo of deepcopy() is passed on, so one DAG in two places stays one object."""
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    dag.parts = {"dag": dag}
    again = copy.deepcopy(dag)
    assert again.parts["dag"] is again


def test_deepcopy_of_dag_twice_in_a_structure_is_one_copy():
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    first, second = copy.deepcopy([dag, dag])
    assert first is second
    assert first is not dag


@both
def test_copy_of_results_is_a_dict_with_the_same_values(duplicate):
    results = DAG("etl", tasks=[Task(lambda: [1], name="one")]).run("serial")
    assert duplicate(results) == {"one": [1]}
