"""Tasks that are given by position to DAG, and tasks that are called where their names are meant."""

from __future__ import annotations

import linecache
import sys

import pytest

from flowkit_core import DAG, Group, Task, task

# DAG("etl", load)

POSITIONAL = {
    "task": (lambda a, b: (a,), "write DAG('name', tasks=[a])"),
    "list": (lambda a, b: ([a],), "write DAG('name', tasks=[a])"),
    "tasks": (lambda a, b: (a, b), "write DAG('name', tasks=[a, b])"),
    "list and name": (lambda a, b: ([a, b], "etl"), "write DAG('etl', tasks=[a, b])"),
    "name and task": (lambda a, b: ("etl", a), "write DAG('etl', tasks=[a])"),
    "name and list": (lambda a, b: ("etl", [a, b]), "write DAG('etl', tasks=[a, b])"),
    "name and tuple": (lambda a, b: ("etl", (a, b)), "write DAG('etl', tasks=[a, b])"),
    "name and group": (lambda a, b: ("etl", Group([a])), "write DAG('etl', tasks=[a])"),
    "name and tasks": (lambda a, b: ("etl", a, b), "write DAG('etl', tasks=[a, b])"),
    "name, workers and list": (lambda a, b: ("etl", 4, [a]), "write DAG('etl', tasks=[a])"),
    "name and empty list": (lambda a, b: ("etl", []), "write DAG('etl', tasks=[...])"),
    "name and many": (lambda a, b: ("etl", [a] * 9), "write DAG('etl', tasks=[a, a, a, ...])"),
}


@pytest.mark.parametrize(("given", "example"), POSITIONAL.values(), ids=POSITIONAL)
def test_dag_tasks_by_position_is_type_error_with_keyword(given, example):
    with pytest.raises(TypeError) as caught:
        DAG(*given(Task(int, name="a"), Task(int, name="b")))
    assert str(caught.value).endswith(example)


def test_dag_function_as_name_is_type_error_with_keyword():
    def load():
        """Do nothing."""

    with pytest.raises(TypeError, match=r"but must be a string: to give it tasks, write DAG\('name', tasks=\[load\]\)"):
        DAG(load)


def test_dag_workers_that_are_not_tasks_keep_their_error():
    with pytest.raises(TypeError, match=r"max_workers of 'etl' is '4', but must be an integer"):
        DAG("etl", "4")


def test_dag_tasks_keyword_with_a_task_names_the_list():
    load = Task(int, name="load")
    with pytest.raises(TypeError, match=r"not a list of tasks: write tasks=\[load\]"):
        DAG("etl", tasks=load)


# extract() >> load


@task
def extract():
    """Return rows."""
    return [1, 2]


@task
def nothing():
    """Return an empty list."""
    return []


@task
def count():
    """Return a number."""
    return 3


@task
async def fetch():
    """Return a number, later."""
    return 4


@task
def load(rows=(), other=None):
    """Return a mapping."""
    return {"rows": len(rows), "other": other}


CALLED = {
    "list": (lambda: extract() >> load, "'extract' was called: write extract >> load, not extract() >> load"),
    "empty list": (lambda: nothing() >> load, "'nothing' was called: write nothing >> load, not nothing() >> load"),
    "number": (lambda: count() >> load, "'count' was called: write count >> load, not count() >> load"),
    "mapping": (lambda: load() >> count, "'load' was called: write load >> count, not load() >> count"),
    "coroutine": (lambda: fetch() >> load, "'fetch' was called: write fetch >> load, not fetch() >> load"),
    "right": (lambda: extract >> load(), "'load' was called: write extract >> load, not extract >> load()"),
    "arguments": (lambda: extract >> load([1], other=2), "write extract >> load, not extract >> load([1], other=2)"),
    "task as argument": (lambda: load(other=1) >> count, "write load >> count, not load(other=1) >> count"),
    "in a list": (lambda: [extract(), count] >> load, "write [extract, count] >> load, not [extract(), count] >> load"),
    "in a list, right": (lambda: count >> [load(), extract], "write count >> [load, extract], not count >> [load(), e"),
    "two": (lambda: [extract(), count()] >> load, "'extract' and 'count' were called: write [extract, count] >> load"),
    "chain": (lambda: count >> extract() >> load, "'extract' was called: write count >> extract, not count >> extract"),
    "after": (lambda: load.after(count()), "write load.after(count), not load.after(count())"),
    "after, empty": (lambda: load.after(nothing()), "write load.after(nothing), not load.after(nothing())"),
    "group": (lambda: Group([count(), load]), "write Group([count, load]), not Group([count(), load])"),
    "tasks": (lambda: DAG("etl", tasks=[load()]), "write DAG('etl', tasks=[load]), not DAG('etl', tasks=[load()])"),
    "module": (lambda: sys.modules[__name__].count() >> load, "extract >> load, not extract() >> load"),
}


@pytest.mark.parametrize(("wire", "advice"), CALLED.values(), ids=CALLED)
def test_called_task_as_operand_is_type_error_with_corrected_source(wire, advice):
    with pytest.raises(TypeError) as caught:
        wire()
    assert "not a task" in str(caught.value) or "has no tasks" in str(caught.value)
    assert advice in str(caught.value)


def test_called_async_task_is_shown_as_a_coroutine():
    with pytest.raises(TypeError, match=r"^an operand of '>>' is a coroutine, not a task: 'fetch' was called"):
        fetch() >> load


def test_called_task_of_a_module_is_named_with_the_module():
    module = sys.modules[__name__]
    with pytest.raises(TypeError, match=r"write module\.count >> load, not module\.count\(\) >> load"):
        module.count() >> load


def test_called_local_task_on_several_lines_is_named():
    @task
    def größe():  # noqa: PLC2401 - offsets of instructions count bytes, not characters
        return {"ä": 1}

    with pytest.raises(TypeError, match=r"'größe' was called: write \[größe, load\] >> extract, not \[größe\(\), load"):
        (
            [
                größe(),  # an umlaut before the end of the operand
                load,
            ]
            >> extract
        )


def test_called_task_in_a_long_expression_is_not_repeated():
    with pytest.raises(TypeError) as caught:
        load([1111111111, 2222222222, 3333333333, 4444444444], "5555555555 6666666666 7777777777 8888888888") >> count
    assert str(caught.value).endswith("'load' was called: write the name of a task without parentheses")


def test_called_task_in_a_file_that_was_edited_gets_the_general_advice(tmp_path):
    path = tmp_path / "edited.py"
    path.write_text("wire = lambda: extract() >> load\n")
    names = {"extract": extract, "load": load}
    exec(compile(path.read_text(), str(path), "exec"), names)
    for text in ("", "wire = lambda: (" + "(" * 5000, "wire = lambda: extract() >>", "wire = None"):
        path.write_text(text)
        linecache.clearcache()
        with pytest.raises(TypeError, match=r"not a task: decorate a function with @task"):
            names["wire"]()


def test_called_task_without_source_gets_the_general_advice():
    names = {"extract": extract, "load": load}
    with pytest.raises(TypeError, match=r"without parentheses: extract >> load, not extract\(\) >> load$"):
        exec("extract() >> load", names)


def test_call_of_a_function_is_not_taken_for_a_task():
    with pytest.raises(TypeError) as caught:
        len("abc") >> load
    assert "was called" not in str(caught.value)
    with pytest.raises(TypeError) as caught:
        [len(extract())] >> load
    assert "was called" not in str(caught.value)


def test_empty_list_as_operand_declares_no_edge():
    upstream = [each for each in (extract, count) if each is load]
    assert upstream >> load is load
    assert list() >> load is load  # noqa: C408 - a call that is not of a task


# load << extract

REVERSED = {
    "tasks": (lambda: load << extract, "write extract >> load"),
    "list on the right": (lambda: load << [extract, count], "write [extract, count] >> load"),
    "list on the left": (lambda: [load, count] << extract, "write extract >> [load, count]"),
    "group": (lambda: Group([load]) << extract, "write extract >> [load]"),
    "result": (lambda: load << extract(), "write upstream >> load"),
    "number": (lambda: 1 << load, "write load >> downstream"),
}


@pytest.mark.parametrize(("wire", "advice"), REVERSED.values(), ids=REVERSED)
def test_reversed_operator_is_type_error_with_corrected_source(wire, advice):
    with pytest.raises(TypeError) as caught:
        wire()
    assert str(caught.value) == f"tasks are wired with '>>', in the direction in which results go: {advice}"
