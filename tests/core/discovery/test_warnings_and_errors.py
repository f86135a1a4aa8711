"""What a user reads where a DAG has no tasks, other tasks than expected, or two tasks of one name."""

from __future__ import annotations

import contextlib
import functools
import gc
import textwrap
import warnings

import pytest

from flowkit_core import DAG, BindingError, DuplicateTaskError, FlowkitError, Task, task


@contextlib.contextmanager
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Nothing found


def test_dag_without_tasks_is_an_empty_run_with_a_visible_warning(script):
    """The warning names the DAG, the function and the module that were searched."""
    module = script("def main():\n    return DAG('etl').run('serial')")
    with pytest.warns(RuntimeWarning) as caught:
        assert module.main() == {}
    (warning,) = caught
    assert str(warning.message).startswith("DAG 'etl' has no tasks: none was made in main() or in module 'script'")
    assert warning.filename == module.__file__
    assert warning.lineno == 3


def test_dag_without_tasks_at_top_level_names_the_module(script):
    """There is no function that could have been searched."""
    with pytest.warns(RuntimeWarning, match=r"DAG 'etl' has no tasks: none was made in module 'script': create tasks"):
        assert script("results = DAG('etl').run('serial')").results == {}


@pytest.mark.parametrize("where", ["module", "function"])
def test_dag_without_tasks_names_an_imported_module_that_has_tasks(script, where):
    """A module that is imported at the top level or in the function, and what to write."""
    script("@task\ndef extract(): return 1\n@task\ndef load(extract): return 2\nextract >> load", name="steps")
    text = r"module 'steps', imported there, has extract, load: write DAG\('etl', tasks=\[steps\.load\]\)"
    if where == "module":
        module = script("import steps\ndef main():\n    return DAG('etl').run('serial')")
    else:
        module = script("def main():\n    import steps\n    return DAG('etl').run('serial')")
    with pytest.warns(RuntimeWarning, match=text):
        assert module.main() == {}


def test_dag_without_tasks_is_visible_without_any_setting(program):
    """A RuntimeWarning is printed by default."""
    lines = program(
        """
        import warnings
        warnings.resetwarnings()
        warnings.showwarning = lambda message, category, *_: print(category.__name__, message)
        print(DAG("etl").run("serial"))
        """
    )
    assert lines[0].startswith("RuntimeWarning DAG 'etl' has no tasks: none was made in module '__main__'")
    assert lines[1:] == ["{}"]


@pytest.mark.parametrize("use", ["run", "visualize", "tasks", "graph"])
def test_dag_without_tasks_warns_in_run_visualize_graph_and_tasks(script, use):
    """run(), visualize(), graph() and tasks."""
    module = script("dag = DAG('etl')")
    with pytest.warns(RuntimeWarning, match="has no tasks"):
        {
            "run": lambda: module.dag.run("serial"),
            "visualize": module.dag.visualize,
            "tasks": lambda: module.dag.tasks,
            "graph": module.dag.graph,
        }[use]()


def test_dag_without_tasks_says_how_to_name_tasks(script):
    with pytest.warns(
        RuntimeWarning, match=r": create tasks with @task before, or write DAG\('etl', tasks=\[\.\.\.\]\)$"
    ):
        script("results = DAG('etl').run('serial')")


BLOCK = """
with DAG("etl"):
    @task
    def extract(): return 1
    load = Task(int, name="load")
    extract >> load
"""
OF_BLOCK = (
    r"; tasks of a 'with' block \(extract, load\) are only in .*: write with DAG\('etl'\) as dag: ..., and dag.run"
)


@pytest.mark.parametrize("run", ["DAG('etl').run('serial')", "DAG('etl').visualize()", "dag = DAG('etl')\ndag.tasks"])
def test_dag_without_tasks_after_a_block_without_a_name_shows_with_as_at_top_level(script, run):
    with pytest.warns(RuntimeWarning, match=OF_BLOCK):
        script(BLOCK + run)


def test_dag_without_tasks_after_a_block_without_a_name_shows_with_as_in_a_function(script):
    module = script("def main():\n" + textwrap.indent(BLOCK, "    ") + "    return DAG('etl').run('serial')")
    with pytest.warns(RuntimeWarning, match=OF_BLOCK):
        assert module.main() == {}


def test_dag_without_tasks_in_a_function_after_a_block_of_the_module_shows_with_as(script):
    module = script(BLOCK + "def main():\n    return DAG('etl').run('serial')")
    with pytest.warns(RuntimeWarning, match=OF_BLOCK):
        assert module.main() == {}


def test_dag_without_tasks_after_a_block_in_a_function_leaves_no_task(script):
    module = script(
        """
        import weakref
        def main():
            with DAG("etl"):
                extract = Task(lambda: 1, name="extract")
            DAG("etl").run("serial")
            return weakref.ref(extract)
        """
    )
    with pytest.warns(RuntimeWarning, match=r"tasks of a 'with' block \(extract\)"):
        found = module.main()
    gc.collect()
    assert found() is None


def test_dag_without_tasks_after_clear_registry_names_the_removed_tasks(program):
    lines = program(
        """
        import warnings
        load = Task(int, name="load")
        Task.clear_registry()
        warnings.showwarning = lambda message, *_: print(message)
        warnings.simplefilter("always")
        DAG("etl").run("serial")
        """
    )
    assert "; Task.clear_registry() has removed load: create new ones, or write DAG('etl', tasks=[...])" in lines[0]


def test_empty_names_and_empty_blocks_give_no_warning():
    """tasks=[] and an empty block mean nothing, and no warning."""
    with no_warnings():
        assert DAG("none", tasks=[]).run("serial") == {}
        with DAG("block") as dag:
            pass
        assert dag.run("serial") == {}


def test_lambda_that_finds_nothing_warns(script):
    """A DAG in a lambda is never silently empty."""
    module = script("run = lambda: DAG('etl').run('serial')")
    with pytest.warns(RuntimeWarning, match="has no tasks"):
        assert module.run() == {}


# Unused tasks of callers


def test_helper_without_tasks_that_runs_those_of_the_module_warns_of_its_callers_tasks(script):
    """A visible warning names both tasks and suggests tasks=[...]."""
    module = script(
        """
        @task
        def of_the_module(): return 0
        def execute():
            return DAG("etl").run("serial")
        def main():
            a, b = Task(int, name="a"), Task(int, name="b")
            return execute()
        """
    )
    with pytest.warns(RuntimeWarning) as caught:
        assert module.main() == {"of_the_module": 0}
    assert caught[0].lineno == 6
    text = str(caught[0].message)
    assert all(part in text for part in ("'etl'", "execute()", "of_the_module", "main()", "a, b", "tasks=[...]"))


def test_warning_of_unused_tasks_of_callers_is_issued_once(script):
    """Once for each DAG, at the line that runs it."""
    module = script(
        """
        @task
        def of_the_module(): return 0
        def execute():
            return DAG("etl").run("serial")
        def main():
            made = Task(int, name="made")
            return execute()
        """
    )
    with pytest.warns(RuntimeWarning) as caught:
        module.main()
    assert len(caught) == 1


def test_helper_without_tasks_where_the_module_has_none_names_its_callers_tasks(script):
    """The DAG is empty, and the warning says what the caller has made."""
    module = script(
        """
        def execute(): return DAG("etl").run("serial")
        def main():
            made = Task(int, name="made")
            return execute()
        """
    )
    with pytest.warns(RuntimeWarning, match=r"main\(\) has made made: write DAG\('etl', tasks=\[\.\.\.\]\)"):
        assert module.main() == {}


@pytest.mark.parametrize("use", ["DAG('x')", "made()", "DAG('x', tasks=[made])"])
def test_used_tasks_of_callers_give_no_warning(script, use):
    """A caller whose tasks are in a pipeline, or were called, does not matter."""
    module = script(
        f"""
        @task
        def of_the_module(): return 0
        def execute():
            return DAG("etl").run("serial")
        def main():
            made = Task(int, name="made")
            kept = {use}
            if isinstance(kept, DAG): kept.run("serial")
            return execute()
        """
    )
    with no_warnings():
        assert module.main() == {"of_the_module": 0}


def test_unused_tasks_of_callers_in_other_packages_give_no_warning(script):
    """Frames of other packages are never searched."""
    script("@task\ndef a(): return 1\ndef execute(): return DAG('etl').run('serial')", name="own.jobs")
    module = script(
        "from own.jobs import execute\ndef main():\n    made = Task(int, name='made')\n    return execute()",
        name="framework.server",
    )
    with no_warnings():
        assert module.main() == {"a": 1}


# Two tasks of one name


@pytest.mark.parametrize("use", ["run", "visualize", "graph"])
def test_two_tasks_of_one_name_are_an_error_that_names_both_places(script, use):
    """The error gives file and line of each, and the ways out."""
    module = script(
        """
        @task(name="step")
        def first():
            return 1

        @task(name="step")
        def second():
            return 2

        dag = DAG("etl")
        """
    )
    with pytest.raises(DuplicateTaskError) as caught:
        getattr(module.dag, use)()
    text = str(caught.value)
    for part in ("'step'", f"{module.__file__}:3", f"{module.__file__}:7", "with_options(name=", "@task(name="):
        assert part in text
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FlowkitError)
    assert caught.value.name == "step"


@pytest.mark.parametrize(
    "make",
    [
        "Task(partial(read, part), name='read')",
        "Task(lambda: part)",
        "Task(read, name='part')",
        "Task(Reader(), name='read')",
        "Task(Reader().read)",
        "template.with_options(name='part')",
    ],
)
@pytest.mark.parametrize("where", ["module", "function", "helper"])
def test_loop_that_makes_tasks_of_one_name_is_an_error(script, make, where):
    """None of them is lost silently."""
    loop = f"for part in 'ab': {make}"
    body = {
        "module": f"{loop}\ndag = DAG('parts')",
        "function": f"def build():\n    {loop}\n    return DAG('parts')\ndag = build()",
        "helper": f"def build():\n    {loop}\nbuild()\ndag = DAG('parts')",
    }[where]
    source = (
        "from functools import partial\n"
        "def read(part=None):\n    return part\n"
        "class Reader:\n    def __call__(self): return 1\n    def read(self): return 1\n"
        "template = Task(read)\n"
    )
    with pytest.raises(DuplicateTaskError, match=r"script.py:\d+ and one from .*script.py:\d+: give one another name"):
        script(source + body).dag.run("serial")


def test_duplicate_in_two_modules_names_both_files(script):
    """Both places are named when an edge brings in another task of the name."""
    other = script("@task\ndef extract(): return 1", name="other")
    module = script(
        """
        import other
        @task
        def extract(): return 2
        @task
        def load(*rows): return rows
        [other.extract, extract] >> load
        dag = DAG("etl")
        """
    )
    with pytest.raises(DuplicateTaskError) as caught:
        module.dag.run("serial")
    assert other.__file__ in str(caught.value)
    assert module.__file__ in str(caught.value)


def test_loop_whose_dags_name_their_tasks_is_no_error():
    """Tasks of one name in different graphs are fine."""
    dags = []
    for number in range(2):
        source = Task(lambda number=number: number, name="source")
        count = Task(lambda source: source + 1, name="count")
        source >> count
        dags.append(DAG(f"number {number}", tasks=[count]))
    assert [dag.run("serial") for dag in dags] == [{"source": 0, "count": 1}, {"source": 1, "count": 2}]


def test_loop_at_top_level_whose_dags_name_their_tasks_is_no_error(script):
    """The same at the top level of a script, for as many rounds as there are."""
    module = script(
        """
        dags = []
        for number in range(5):
            source = Task(lambda number=number: number, name="source")
            count = Task(lambda source: source + 1, name="count")
            source >> count
            dags.append(DAG(f"number {number}", tasks=[count]))
        results = [dag.run("serial") for dag in dags]
        """
    )
    assert module.results == [{"source": n, "count": n + 1} for n in range(5)]


def test_error_of_one_run_does_not_spoil_the_next():
    """The pipeline runs after its names were corrected."""

    def build(*names):
        for name in names:
            Task(int, name=name)
        return DAG("d")

    with pytest.raises(DuplicateTaskError):
        build("a", "a").run("serial")
    assert build("a", "b").run("serial") == {"a": 0, "b": 0}


def test_tasks_that_were_all_called_and_are_not_wired_are_a_warning(recwarn):
    @task
    def extract():
        return [1]

    @task
    def load(rows=None):
        return rows

    load(extract())
    DAG("called").run("serial")
    (found,) = [str(each.message) for each in recwarn]
    assert found.startswith("DAG 'called' runs extract, load again, which were called before")


def test_error_for_an_open_parameter_says_that_the_task_was_called():
    @task
    def extract():
        return [1]

    @task
    def load(rows):
        return rows

    load(extract())
    with pytest.raises(BindingError, match=r"'load' was called, which runs it and wires nothing"):
        DAG("called", tasks=[load]).run("serial")


def timed(function):
    """A decorator of a user."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@pytest.mark.parametrize("decorator", [timed, functools.cache])
def test_decorator_above_task_is_a_warning(decorator):
    """The run calls the task without the decorator; a wrapper of a task that another variable holds is none."""

    @decorator
    @task
    def extract():
        return 1

    with pytest.warns(RuntimeWarning, match="runs the task 'extract' without the decorator that is above its @task"):
        assert DAG("etl").run("serial") == {"extract": 1}
    with pytest.raises(TypeError, match="write @task above the other decorator"):
        Task(int, name="load") >> extract


def test_decorator_below_task_and_wrapper_beside_a_task_are_no_warning():
    @task
    @timed
    def extract():
        return 1

    _beside = timed(extract)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DAG("etl").run("serial") == {"extract": 1}
