"""Redefinition at the top level: cells that are run again, modules that are reloaded."""

from __future__ import annotations

import gc
import importlib
import sys
import types

import pytest
from module_sources import ETL, ETL_RESULTS

from flowkit_core import DAG, BindingError, DuplicateTaskError, Task, WiringError


def test_pipeline_grows_cell_by_cell(notebook):
    """Each run sees what has been defined since."""
    notebook.run("@task\ndef extract(): return [1, 2]")
    notebook.run("dag = DAG('notebook')\nresults = dag.run('serial')")
    assert notebook["results"] == {"extract": [1, 2]}
    notebook.run("@task\ndef load(rows): return len(rows)\nextract >> load")
    notebook.run("results = dag.run('serial')")
    assert notebook["results"] == {"extract": [1, 2], "load": 2}


def test_running_every_cell_again_changes_nothing(notebook):
    """'Run all' three times gives the same pipeline."""
    for _ in range(3):
        notebook.run(ETL)
        notebook.run("extract >> transform >> load")
        notebook.run("results = DAG('notebook').run('serial')")
        assert notebook["results"] == ETL_RESULTS


def test_cell_with_the_wiring_run_again_replaces_everything(notebook):
    """One cell with tasks and edges, changed and run again."""
    notebook.run(f"{ETL}\nextract >> transform >> load\ndag = DAG('notebook')")
    notebook.run(f"{ETL.replace('[3, 1, 2]', '[2, 1]')}\nextract >> transform >> load")
    assert notebook["dag"].run("serial") == {"extract": [2, 1], "transform": [1, 2], "load": "2 rows"}


def test_cell_with_the_same_file_name_and_first_line_replaces_its_tasks(notebook):
    """Some front ends give every execution of a cell the same file name."""
    for value in (1, 2):
        exec(compile(f"Task(lambda: {value}, name='a')\ndag = DAG('d')", "<cell>", "exec"), notebook.names)
        assert notebook["dag"].run("serial") == {"a": value}


@pytest.mark.parametrize("side", ["upstream", "downstream"])
def test_redefined_task_that_was_not_wired_again_is_an_error(notebook, side):
    """A task that has lost its only edge on one side raises a WiringError that names both tasks."""
    notebook.run("@task\ndef a(): return 1\n@task\ndef b(x=0): return x + 1")
    notebook.run("a >> b\ndag = DAG('notebook')")
    assert notebook["dag"].run("serial") == {"a": 1, "b": 2}
    source = "@task\ndef a(): return 10" if side == "upstream" else "@task\ndef b(x=0): return x + 10"
    notebook.run(source)
    redefined = "a" if side == "upstream" else "b"
    with pytest.raises(
        WiringError, match=f"lacks a >> b, because '{redefined}' .* was redefined since: write a >> b again"
    ):
        notebook["dag"].run("serial")
    notebook.run("a >> b")
    assert notebook["dag"].run("serial") == ({"a": 10, "b": 11} if side == "upstream" else {"a": 1, "b": 11})


def test_redefined_task_with_another_edge_left_is_a_warning(notebook):
    """A task that still has an edge on that side runs without the dropped one, and a warning says so."""
    notebook.run("a, b = Task(lambda: 1, name='a'), Task(lambda: 2, name='b')")
    notebook.run("total = Task(lambda *x: sum(x), name='total')")
    notebook.run("[a, b] >> total\ndag = DAG('notebook')")
    notebook.run("a = Task(lambda: 10, name='a')")
    with pytest.warns(
        RuntimeWarning, match=r"'notebook' lacks a >> total, because 'a' .* was redefined .*redefine 'total'"
    ):
        assert notebook["dag"].run("serial") == {"b": 2, "total": 2, "a": 10}
    notebook.run("a >> total")
    assert notebook["dag"].run("serial")["total"] == 12


@pytest.mark.parametrize(
    "edge",
    [
        "a >> b.map()",
        "a >> b.map('x', limit=5, errors='drop')",
        "a >> b.map(label=str)",
        "a.map('x') >> b",
        "a.map('x') >> b.map()",
        "b.map('x').after(a)",
        "b.after(a.map('x'))",
    ],
)
@pytest.mark.parametrize("redefined", ["a", "b"])
def test_dropped_edge_of_a_mapped_task_is_shown_as_it_was_written(notebook, edge, redefined):
    """The pipeline is the same after the edge has been written as the message says."""
    notebook.run("@task\ndef a(x=1): return [x]\n@task\ndef b(x=0): return x")
    notebook.run(f"{edge}\ndag = DAG('notebook')")
    params = {"x": [3, 4]} if "map('x')" in edge else None
    before = notebook["dag"].run("serial", params=params)
    source = "@task\ndef a(x=1): return [x]" if redefined == "a" else "@task\ndef b(x=0): return x"
    notebook.run(source)
    with pytest.raises(WiringError) as caught:
        notebook["dag"].run("serial")
    written = str(caught.value).partition("redefined since: write ")[2].partition(" again (in")[0]
    assert written == edge
    notebook.run(written)
    assert notebook["dag"].run("serial", params=params) == before


def test_edge_that_is_written_again_with_other_options_replaces_the_dropped_one(notebook):
    notebook.run("@task\ndef a(): return [1, 2]\n@task\ndef b(x=0): return x")
    notebook.run("a >> b.map(limit=2)\ndag = DAG('notebook')")
    notebook.run("@task\ndef b(x=0): return -x")
    notebook.run("a >> b.map(limit=3)")
    assert notebook["dag"].run("serial")["b"] == [-1, -2]


def test_dropped_edges_are_listed_in_one_message(notebook):
    for name in "abc":
        notebook.run(f"{name} = Task(lambda *x: x, name='{name}')")
    notebook.run("a >> [b, c]\nc.after(b)\ndag = DAG('notebook')")
    notebook.run("b = Task(lambda: 2, name='b')")
    with pytest.warns(RuntimeWarning, match=r"lacks a >> b and c.after\(b\), because 'b' .* was redefined"):
        notebook["dag"].run("serial")
    notebook.run("a = Task(lambda: 1, name='a')")
    with pytest.raises(
        WiringError,
        match=r"lacks c.after\(b\) and a >> c, because 'b' .* and 'a' .* were redefined .*redefine 'c' as well",
    ):
        notebook["dag"].run("serial")


def test_dropped_downstream_edge_does_not_matter_to_a_dag_of_upstreams(notebook):
    notebook.run("a = Task(lambda: 1, name='a')\nb = Task(lambda x: x, name='b')\na >> b")
    notebook.run("b = Task(lambda x=0: x, name='b')")
    notebook.run("results = DAG('only a', tasks=[a]).run('serial')")
    assert notebook["results"] == {"a": 1}


def test_redefined_task_that_is_named_without_its_upstream_is_a_warning(notebook):
    """``tasks=[...]`` does not reach the surviving upstream, so the new task has the record of the edge as well."""
    notebook.run("a = Task(lambda: 1, name='a')\nb = Task(lambda x=0: x, name='b')\na >> b")
    notebook.run("b = Task(lambda x=0: x, name='b')\ndag = DAG('named', tasks=[b])")
    with pytest.warns(
        RuntimeWarning, match="'named' lacks a >> b, because 'b' .* was redefined since: write a >> b again"
    ):
        assert notebook["dag"].run("serial") == {"b": 0}
    notebook.run("a >> b")
    assert notebook["dag"].run("serial") == {"a": 1, "b": 1}


def test_cell_that_is_run_many_times_keeps_one_old_task(monkeypatch):
    module = types.ModuleType("notebook_of_many_runs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    cells = ["b = Task(lambda x=0: x, name='b')", *["a = Task(lambda: 1, name='run again')\na >> b"] * 50]
    module.Task = Task
    for number, cell in enumerate(cells):
        exec(compile(cell, f"<cell {number}>", "exec"), vars(module))
    gc.collect()
    found = [task for task in gc.get_objects() if isinstance(task, Task) and task.name == "run again"]
    assert len(found) == 2  # the current one, and the one that the dropped edge names


def test_redefined_middle_of_a_chain_names_both_ends(notebook):
    """Both neighbors of a replaced task have to be wired again."""
    notebook.run(ETL)
    notebook.run("extract >> transform >> load\ndag = DAG('notebook')")
    notebook.run("@task\ndef transform(rows): return rows[:1]")
    with pytest.raises(WiringError):
        notebook["dag"].run("serial")
    notebook.run("extract >> transform")
    with pytest.raises(WiringError, match="'load'"):
        notebook["dag"].run("serial")
    notebook.run("transform >> load")
    assert notebook["dag"].run("serial")["load"] == "1 rows"


def test_order_only_edge_to_a_redefined_task_has_to_be_wired_again(notebook):
    """after() follows the same rule."""
    notebook.run("a = Task(lambda: 1, name='a')")
    notebook.run("b = Task(lambda: 2, name='b')\nb.after(a)\ndag = DAG('notebook')")
    notebook.run("a = Task(lambda: 10, name='a')")
    with pytest.raises(WiringError):
        notebook["dag"].run("serial")
    notebook.run("b.after(a)")
    assert notebook["dag"].run("serial") == {"a": 10, "b": 2}


def test_replaced_upstream_wired_again_comes_after_the_edges_that_stayed(notebook):
    """The edge to the new task is declared last, so its argument comes last."""
    notebook.run(
        "a, b, join = Task(lambda: 'a', name='a'), Task(lambda: 'b', name='b'), Task(lambda *x: x, name='join')"
    )
    notebook.run("[a, b] >> join\ndag = DAG('notebook')")
    notebook.run("a = Task(lambda: 'A', name='a')")
    notebook.run("[a, b] >> join")
    assert set(notebook["dag"].run("serial")["join"]) == {"A", "b"}


def test_mistake_in_a_cell_does_not_harm_the_next_run(notebook):
    """A wiring error disappears after the wiring is corrected."""
    notebook.run("@task\ndef load(rows): return len(rows)\ndag = DAG('notebook')")
    with pytest.raises(BindingError):
        notebook["dag"].run("serial")
    notebook.run("@task\ndef extract(): return [1]\nextract >> load")
    assert notebook["dag"].run("serial") == {"extract": [1], "load": 1}


def test_cell_that_raised_keeps_the_tasks_before_the_error(notebook):
    """The top level of a module is no call: what it made before an exception is there."""
    with pytest.raises(ZeroDivisionError):
        notebook.run("a = Task(lambda: 1, name='a')\n1 / 0")
    notebook.run("results = DAG('notebook').run('serial')")
    assert notebook["results"] == {"a": 1}
    notebook.run("a = Task(lambda: 2, name='a')\nresults = DAG('notebook').run('serial')")
    assert notebook["results"] == {"a": 2}


def test_function_in_a_notebook_has_its_own_tasks(notebook):
    """A function in a cell is a function, and the notebook is its module."""
    notebook.run("@task\ndef of_the_notebook(): return 1")
    notebook.run("def build():\n    @task\n    def own(): return 2\n    return DAG('own')")
    notebook.run("def main(): return DAG('main')")
    notebook.run("results = build().run('serial'), build().run('serial'), main().run('serial')")
    assert notebook["results"] == ({"own": 2}, {"own": 2}, {"of_the_notebook": 1})


def test_helper_called_in_two_cells_replaces_its_task(notebook):
    """A cell that is run again calls its helper again: the qualified name is the same, the execution another."""
    notebook.run("def make(value):\n    @task\n    def part(): return value\n    return part")
    notebook.run("part = make(1)\ndag = DAG('notebook')")
    assert notebook["dag"].run("serial") == {"part": 1}
    notebook.run("part = make(2)")
    assert notebook["dag"].run("serial") == {"part": 2}


@pytest.mark.parametrize("pipeline", ["DAG('d', tasks=[end])", "DAG('d')"])
def test_cell_that_wires_tasks_of_a_helper_may_be_run_again(notebook, pipeline):
    """New tasks of the helper take the place of those that the earlier execution has wired."""
    notebook.run("end = Task(lambda *x: list(x), name='end')\ndag = None")
    helper = "def make(number):\n    return Task(lambda: number, name=f'part {number % 10}')\n"
    for first in (10, 20, 30):
        notebook.run(f"{helper}[make(number) for number in range({first}, {first + 2})] >> end\ndag = {pipeline}")
        assert notebook["dag"].run("serial")["end"] == [first, first + 1]


def test_helper_of_a_cell_that_is_not_wired_again_keeps_the_old_task(notebook):
    """Without new edges, a pipeline with named ends has the tasks that were wired."""
    notebook.run("end = Task(lambda *x: list(x), name='end')")
    make = "def make(number):\n    return Task(lambda: number, name='part')\npart = make({})"
    notebook.run(make.format(1))
    notebook.run("part >> end\ndag = DAG('d', tasks=[end])")
    notebook.run(make.format(2))
    assert notebook["dag"].run("serial") == {"part": 1, "end": [1]}


def test_loop_in_one_cell_makes_two_tasks_of_one_name(notebook):
    """By the same execution, two tasks of one name; running the cell again repairs it."""
    notebook.run("dag = DAG('cells')\nfor part in 'ab': Task(lambda: part, name='part')")
    with pytest.raises(DuplicateTaskError):
        notebook["dag"].run("serial")
    notebook.run("Task(lambda: 'c', name='part')")
    assert notebook["dag"].run("serial") == {"part": "c"}


def test_helper_called_twice_in_one_cell_makes_two_tasks_of_one_name(notebook):
    """Neither of the two is lost silently."""
    notebook.run("def make(n):\n    @task\n    def part(): return n\n    return part")
    notebook.run("made = make(1), make(2)\ndag = DAG('twice')")
    with pytest.raises(DuplicateTaskError):
        notebook["dag"].run("serial")


def test_different_functions_of_one_name_are_duplicates(notebook):
    """Another qualified name is another task."""
    notebook.run("def make():\n    @task(name='part')\n    def inner(): return 1\nmake()")
    notebook.run("@task\ndef part(): return 2\ndag = DAG('notebook')")
    with pytest.raises(DuplicateTaskError):
        notebook["dag"].run("serial")


def test_named_replaced_task_is_an_error(notebook):
    """A DAG whose tasks= contains a replaced task raises a WiringError."""
    notebook.run("a, b = Task(lambda: 1, name='a'), Task(lambda *x: sum(x), name='b')\na >> b")
    notebook.run("dag = DAG('named', tasks=[b])")
    notebook.run("b = Task(lambda *x: -sum(x), name='b')")
    with pytest.raises(WiringError, match=r"'b'.*has since been redefined"):
        notebook["dag"].run("serial")
    notebook.run("dag = DAG('named', tasks=[b])\na >> b")
    assert notebook["dag"].run("serial") == {"a": 1, "b": -1}


def test_block_in_a_cell_run_again_is_a_new_pipeline(notebook):
    """A cell with a with block makes a new DAG each time."""
    for value in (1, 2):
        notebook.run(
            f"with DAG('block') as dag:\n    a = Task(lambda: {value}, name='a')\n    a >> Task(lambda a: -a, name='b')"
        )
        assert notebook["dag"].run("serial") == {"a": value, "b": -value}


def test_cell_that_adds_to_a_block_replaces_its_tasks_when_it_is_run_again(notebook):
    """A cell that enters the block of an earlier cell may be changed and run again."""
    notebook.run("with DAG('block') as dag:\n    a = Task(lambda: 1, name='a')")
    for factor in (2, 3):
        notebook.run(f"with dag:\n    b = Task(lambda a: {factor} * a, name='b')\n    a >> b")
        assert notebook["dag"].run("serial") == {"a": 1, "b": factor}
    notebook.run("with dag:\n    c = Task(lambda b: -b, name='c')\n    b >> c")
    assert notebook["dag"].run("serial") == {"a": 1, "b": 3, "c": -3}


def test_cell_that_adds_tasks_of_a_helper_to_a_block_may_be_run_again(notebook):
    """As without a block: the new tasks take the place of the old ones."""
    notebook.run("with DAG('block') as dag:\n    end = Task(lambda *x: list(x), name='end')")
    helper = "def make(number):\n    return Task(lambda: number, name=f'part {number % 10}')\n"
    for first in (10, 20, 30):
        notebook.run(f"{helper}with dag:\n    [make(number) for number in range({first}, {first + 2})] >> end")
        assert notebook["dag"].run("serial")["end"] == [first, first + 1]


def test_task_of_a_block_that_was_redefined_and_not_wired_again_is_warned_of(notebook):
    """The warning names the edge that is missing."""
    notebook.run("with DAG('block') as dag:\n    a = Task(lambda: 1, name='a')")
    notebook.run("with dag:\n    b = Task(lambda a=0: a, name='b')")
    notebook.run("with dag:\n    a >> b")
    notebook.run("with dag:\n    b = Task(lambda a=0: -a, name='b')")
    with pytest.warns(RuntimeWarning, match="'block' lacks a >> b, because 'b' .* was redefined since"):
        notebook["dag"].run("serial")


def test_block_entered_twice_by_one_cell_makes_two_tasks_of_one_name(notebook):
    """Tasks of one execution do not replace each other."""
    notebook.run("dag = DAG('block')\nfor part in 'ab':\n    with dag: Task(lambda: part, name='part')")
    with pytest.raises(DuplicateTaskError):
        notebook["dag"].run("serial")


def test_await_in_a_cell_belongs_to_the_notebook(notebook):
    """A cell with top-level await is executed as a coroutine in the namespace of the notebook."""
    import ast
    import asyncio

    source = (
        "import asyncio\na = Task(lambda: 1, name='a')\nawait asyncio.sleep(0)\nb = Task(lambda a: a, name='b')\na >> b"
    )
    for _ in range(2):
        code = compile(source, f"<async cell {notebook.cells}>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        notebook.cells += 1
        asyncio.run(eval(code, notebook.names))
        notebook.run("results = DAG('notebook').run('serial')")
        assert notebook["results"] == {"a": 1, "b": 1}


def test_cells_run_by_functions_of_a_package_belong_to_the_notebook(script, notebook):
    """IPython executes cells in functions with a namespace of their own; the namespace is a module."""
    runner = script("def run_cell(code, names):\n    exec(code, names)", name="fake_ipython.shell")
    sys.modules["fake_main"] = main = type(sys)("fake_main")
    try:
        vars(main).update(notebook.names, __name__="fake_main")
        for number in range(2):
            code = compile(f"a = Task(lambda: {number}, name='a')\ndag = DAG('cells')", f"<cell {number}>", "exec")
            runner.run_cell(code, vars(main))
        assert main.dag.run("serial") == {"a": 1}
    finally:
        del sys.modules["fake_main"]


# Reload


def test_reloaded_module_replaces_its_tasks(script):
    """importlib.reload gives the new definitions, once."""
    module = script(f"{ETL}\nextract >> transform >> load\ndag = DAG('etl')")
    for _ in range(3):
        module = importlib.reload(module)
        assert module.dag.run("serial") == ETL_RESULTS


def test_reload_of_a_changed_module(script):
    """A task that is gone from the source stays in the module's namespace, like any name."""
    module = script("a = Task(lambda: 1, name='a')\nb = Task(lambda a: a, name='b')\na >> b\ndag = DAG('d')")
    script("a = Task(lambda: 2, name='a')\nb = Task(lambda a: -a, name='b')\na >> b\ndag = DAG('d')")
    sys.modules["script"] = module
    module = importlib.reload(module)
    assert module.dag.run("serial")["a"] in (1, 2)


def test_reloaded_module_that_wires_imported_tasks_replaces_its_edges(script):
    """Edges of a replaced task go with it, also those to tasks of other modules."""
    script("@task\ndef a(): return 1", name="steps")
    module = script("from steps import a\n@task\ndef b(a): return a\na >> b\ndag = DAG('d')")
    for _ in range(2):
        module = importlib.reload(module)
        assert module.dag.run("serial") == {"a": 1, "b": 1}


def test_cell_that_wires_imported_tasks_replaces_its_edges(script, notebook):
    """The same in a notebook: the cell with the wiring is run again."""
    script("@task\ndef a(): return 1", name="steps")
    notebook.run("from steps import a")
    for value in (1, 2):
        notebook.run(f"@task\ndef b(a): return a + {value}\na >> b\ndag = DAG('d')")
        assert notebook["dag"].run("serial") == {"a": 1, "b": 1 + value}


def test_edge_to_a_task_of_a_reloaded_module_replaces_the_old_one(script):
    """The new edge takes the place of the edge to the task that was replaced."""
    steps = script("@task\ndef rows(): return [1, 2]\n", name="reloaded_steps")
    user = script(
        """
        import reloaded_steps
        @task
        def count(rows): return len(rows)
        reloaded_steps.rows >> count
        """
    )
    importlib.reload(steps)
    with pytest.raises(WiringError):
        DAG("d", tasks=[user.count]).run("serial")
    exec("reloaded_steps.rows >> count", vars(user))
    assert DAG("d", tasks=[user.count]).run("serial")["count"] == 2


def test_task_imported_from_a_module_that_was_reloaded_is_an_error(script):
    """A DAG with a replaced task that another module had imported raises a WiringError."""
    steps = script("@task\ndef a(): return 1", name="steps")
    module = script("from steps import a\n@task\ndef b(a): return a\na >> b\ndag = DAG('d')")
    assert module.dag.run("serial") == {"a": 1, "b": 1}
    importlib.reload(steps)
    with pytest.raises(WiringError, match=r"'a'.*since been redefined"):
        module.dag.run("serial")


def test_modules_reloaded_one_after_the_other_are_repaired(script):
    """After the module with the tasks, the module that imports them is reloaded."""
    steps = script("@task\ndef a(): return 1", name="steps")
    module = script("from steps import a\n@task\ndef b(a): return a\na >> b\ndag = DAG('d')")
    importlib.reload(steps)
    assert importlib.reload(module).dag.run("serial") == {"a": 1, "b": 1}


def test_reload_inside_a_function(script):
    """A reload executes a module wherever it is called."""
    module = script(f"{ETL}\nextract >> transform >> load\ndag = DAG('etl')")

    def main():
        own = Task(lambda: 1, name="own")
        importlib.reload(module)
        return DAG("main").run("serial"), own

    assert main()[0] == {"own": 1}
    assert module.dag.run("serial") == ETL_RESULTS


def test_exec_of_a_whole_script_twice_in_one_namespace():
    """A server that executes a configuration file again."""
    names = {"__name__": "configuration"}
    for value in (1, 2):
        source = f"from flowkit_core import DAG, task\n@task\ndef a(): return {value}\ndag = DAG('d')"
        exec(compile(source, "configuration.py", "exec"), names)
        assert names["dag"].run("serial") == {"a": value}


def test_redefinition_in_a_function_is_a_duplicate():
    """Redefinition is a matter of the top level: in a function, both tasks are there."""

    def build():
        for value in (1, 2):
            Task(lambda value=value: value, name="a")
        return DAG("d")

    with pytest.raises(DuplicateTaskError):
        build().run("serial")
