"""A bare DAG at the top level of a module has what the module has made or wired."""

from __future__ import annotations

import threading
import warnings

import pytest
from module_sources import ETL, ETL_RESULTS

from flowkit_core import DAG, Task, task


def test_bare_dag_of_module_has_all_tasks_of_the_module(script):
    """DAG("name") at the top level has every task of the module."""
    module = script(f"{ETL}\nextract >> transform >> load\nresults = DAG('etl').run('serial')")
    assert module.results == ETL_RESULTS


def test_task_without_edges_is_discovered(script):
    """A task that is wired to nothing runs too."""
    module = script("@task\ndef a(): return 1\n@task\ndef b(): return 2\nresults = DAG('two').run('serial')")
    assert module.results == {"a": 1, "b": 2}


def test_tasks_made_by_helper_at_top_level_belong_to_the_module(script):
    """A helper that is called at the top level passes its tasks to the module."""
    module = script(
        """
        def fetch(page):
            @task(name=f"page_{page}")
            def fetcher():
                return page
            return fetcher

        @task
        def total(*pages):
            return sum(pages)

        [fetch(page) for page in (1, 2, 3)] >> total
        fetch(9)
        results = DAG("pages").run("serial")
        """
    )
    assert module.results == {"page_1": 1, "page_2": 2, "page_3": 3, "total": 6, "page_9": 9}


@pytest.mark.parametrize(
    "statement",
    [
        "made = [Task(int, name=name) for name in 'ab']",
        "made = {name: Task(int, name=name) for name in 'ab'}",
        "made = list(Task(int, name=name) for name in 'ab')",
        "made = list(map(lambda name: Task(int, name=name), 'ab'))",
        "class Steps:\n    a, b = Task(int, name='a'), Task(int, name='b')",
        "class Steps:\n    class Inner:\n        made = [Task(int, name=name) for name in 'ab']",
        "exec(\"for name in 'ab': Task(int, name=name)\")",
        "def outer():\n    def inner(name): return Task(int, name=name)\n    return [inner(n) for n in 'ab']\nouter()",
        "def each():\n    for name in 'ab':\n        yield Task(int, name=name)\nmade = list(each())",
        "def each():\n    for name in 'ab':\n        yield Task(int, name=name)\nfor one in each(): pass",
        "import functools\nmade = [functools.partial(Task, int, name=name)() for name in 'ab']",
    ],
)
def test_every_way_to_make_tasks_at_top_level_is_discovered(script, statement):
    """Comprehensions, lambdas, class bodies, exec, generators and partials at the top level are the module's."""
    assert script(f"{statement}\nresults = DAG('ways').run('serial')").results == {"a": 0, "b": 0}


def test_static_function_in_class_body_is_a_task_of_the_module(script):
    """A class body belongs to the code around it."""
    module = script("class Steps:\n    @task\n    def first():\n        return 1\nresults = DAG('steps').run('serial')")
    assert module.results == {"first": 1}


def test_method_task_is_never_discovered(script):
    """@task on methods, of two classes with equal names, does not break the bare DAG of the module."""
    module = script(
        """
        class One:
            @task
            def step(self): return 1
        class Two:
            @task(retries=2)
            def step(self): return 2
            @classmethod
            def build(cls): return cls
        @task
        def own(): return 0
        results = DAG("methods").run("serial")
        calls = One().step(), Two().step()
        """
    )
    assert module.results == {"own": 0}
    assert module.calls == (1, 2)


def test_task_of_a_bound_method_is_discovered(script):
    """Task(obj.method) is a task like any other."""
    module = script(
        """
        class One:
            def __init__(self, value): self.value = value
            @task
            def step(self): return self.value
        made = Task(One(5).step)
        results = DAG("bound").run("serial")
        """
    )
    assert module.results == {"step": 5}


def test_imported_module_contributes_nothing(script):
    """`import other` alone adds no tasks."""
    script("@task\ndef elsewhere(): return 0", name="other")
    module = script("import other\n@task\ndef here(): return 1\nresults = DAG('one').run('serial')")
    assert module.results == {"here": 1}


def test_edges_at_top_level_of_another_module_bring_in_its_tasks(script):
    """An edge brings in a task of another module, and everything upstream of it."""
    script("@task\ndef a(): return 'a'\n@task\ndef b(a): return a + 'b'\na >> b", name="other")
    module = script("from other import b\n@task\ndef c(b): return b + 'c'\nb >> c\nresults = DAG('all').run('serial')")
    assert module.results == {"a": "a", "b": "ab", "c": "abc"}


def test_everything_wired_to_the_tasks_is_found_downstream_too(script):
    """A bare DAG follows edges up and down."""
    script("@task\ndef a(): return 1\n@task\ndef b(a): return a + 1\na >> b", name="other")
    module = script(
        "from other import a\n@task\ndef first(): return 0\n@task\ndef c(a): return a\na >> c\n"
        "results = DAG('all').run('serial')"
    )
    assert module.results == {"a": 1, "b": 2, "first": 0, "c": 1}


def test_module_that_only_wires_imported_tasks_has_them(script):
    """The tasks may be in one file and the pipeline in another."""
    script(ETL, name="steps")
    module = script(
        "from steps import extract, load, transform\nextract >> transform >> load\nresults = DAG('etl').run('serial')"
    )
    assert module.results == ETL_RESULTS


def test_module_without_own_tasks_has_those_imported_by_name(script):
    """`from steps import extract; DAG("x").run()` runs the imported task, and what is wired to it."""
    script(f"{ETL}\nextract >> transform >> load", name="steps")
    module = script("from steps import extract\nresults = DAG('etl').run('serial')")
    assert module.results == ETL_RESULTS


@pytest.mark.parametrize(
    "statement", ["import steps", "from steps import extract as other", "import steps as s\nstep = s.extract"]
)
def test_imported_names_count_whatever_they_are(script, statement):
    """An alias is a name of the module; the name of a module is not."""
    script("@task\ndef extract(): return 1", name="steps")
    source = f"{statement}\ndag = DAG('etl')"
    if statement == "import steps":
        with pytest.warns(RuntimeWarning, match="module 'steps', imported there, has extract"):
            assert script(source).dag.run("serial") == {}
    else:
        assert script(source).dag.run("serial") == {"extract": 1}


def test_imported_task_beside_own_tasks_is_named_in_a_warning(script):
    """With tasks of its own, a module does not run an imported one, and a warning names that."""
    script("@task\ndef a(): return 1", name="steps")
    module = script("from steps import a\n@task\ndef own(): return 2\ndag = DAG('x')")
    with pytest.warns(RuntimeWarning, match="'a'"):
        assert module.dag.run("serial") == {"own": 2}


@pytest.mark.parametrize(
    "use", ["a >> own", "copy = a.with_options(name='copy')", "a()", "a.with_options(name='b')()", "own.after(a)"]
)
def test_imported_task_that_is_used_gives_no_warning(script, use):
    """Wiring, copying and calling an imported task are uses of it."""
    script("@task\ndef a(): return 1", name="steps")
    module = script(f"from steps import a\n@task\ndef own(a=0): return 2\n{use}\ndag = DAG('x')")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "own" in module.dag.run("serial")


def test_tasks_below_the_dag_are_found_when_it_runs(script):
    """Discovery happens at each run, not when the DAG is created."""
    module = script("dag = DAG('late')\n@task\ndef a(): return 1\nresults = dag.run('serial')")
    assert module.results == {"a": 1}


def test_dag_of_module_ignores_tasks_of_the_function_that_runs_it(script):
    """The place of DAG(...) decides, not that of run()."""
    module = script(f"{ETL}\nextract >> transform >> load\ndag = DAG('etl')\ndef main():\n    return dag.run('serial')")

    @task
    def local():
        return 0

    assert module.main() == module.dag.run("serial") == ETL_RESULTS


@pytest.mark.parametrize("where", ["top level", "helper"])
def test_dag_of_module_has_the_same_tasks_in_another_thread(script, where):
    """The thread that runs a DAG need not be the one that defined its tasks."""
    body = (
        "@task\ndef a(): return 1\n"
        if where == "top level"
        else "def make():\n    @task\n    def a(): return 1\n    return a\nmake()\n"
    )
    module = script(f"{body}dag = DAG('threads')")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(module.dag.run("serial")))
    thread.start()
    thread.join(60)
    assert seen == [{"a": 1}]


def test_task_called_at_top_level_stays_in_the_dag_of_the_module(script):
    """A direct call governs passing on only: the module's own DAG still has the task."""
    module = script("@task\ndef a(): return 1\nvalue = a()\nresults = DAG('called').run('serial')")
    assert module.results == {"a": 1}


def test_task_that_a_helper_made_and_called_does_not_pass_to_the_module(script):
    """A helper's task that it has called directly is used, so it stays with the helper."""
    module = script(
        "def ask():\n    @task\n    def inner(): return 1\n    return inner()\n"
        "value = ask()\n@task\ndef own(): return 2\nresults = DAG('called').run('serial')"
    )
    assert (module.value, module.results) == (1, {"own": 2})


def test_tasks_of_a_pipeline_built_at_top_level_do_not_pass_to_the_module(script):
    """A builder that makes a DAG keeps its tasks, whether its DAG is kept or not."""
    module = script(
        """
        def build(n):
            @task(name=f"part_{n}")
            def part(): return n
            return DAG(f"part {n}")

        kept = build(1)
        build(2).run("serial")
        @task
        def own(): return 0
        results = DAG("own").run("serial")
        parts = kept.run("serial")
        """
    )
    assert (module.results, module.parts) == ({"own": 0}, {"part_1": 1})


def test_clear_registry_forgets_the_tasks_of_modules(script):
    """After clear_registry() a DAG of a module is empty, and what is defined next is found."""
    module = script(f"{ETL}\nextract >> transform >> load\ndag, again = DAG('etl'), DAG('again')")
    assert module.dag.run("serial") == ETL_RESULTS
    Task.clear_registry()
    with pytest.warns(RuntimeWarning, match="has no tasks"):
        assert module.again.run("serial") == {}


def test_dag_that_has_run_and_lost_its_tasks_by_clear_registry_warns_once(notebook):
    notebook.run("a = Task(lambda: 1, name='a')\ndag = DAG('d')")
    assert notebook["dag"].run("serial") == {"a": 1}
    Task.clear_registry()
    with pytest.warns(RuntimeWarning, match=r"DAG 'd' has no tasks.*clear_registry\(\) has removed a"):
        assert notebook["dag"].run("serial") == {}
    assert notebook["dag"].run("serial") == {}
    notebook.run("b = Task(lambda: 2, name='b')")
    assert notebook["dag"].run("serial") == {"b": 2}
    Task.clear_registry()
    with pytest.warns(RuntimeWarning, match="has no tasks"):
        assert notebook["dag"].run("serial") == {}


def test_tasks_defined_after_clear_registry_are_found(notebook):
    """What is defined next is found, and equal names are no redefinition."""
    notebook.run("a, b = Task(lambda: 1, name='a'), Task(lambda: 2, name='b')\ndag = DAG('d')")
    assert notebook["dag"].run("serial") == {"a": 1, "b": 2}
    Task.clear_registry()
    notebook.run("a = Task(lambda: 3, name='a')")
    assert notebook["dag"].run("serial") == {"a": 3}


def test_tasks_of_cleared_registry_run_where_they_are_named(script):
    """Clearing concerns discovery: named tasks keep their edges."""
    module = script("@task\ndef first(): return 1\n@task\ndef second(first): return first + 1\nfirst >> second")
    Task.clear_registry()
    assert DAG("given", tasks=[module.second]).run("serial") == {"first": 1, "second": 2}


def test_module_executed_by_runpy_is_a_module(program, tmp_path):
    """runpy executes a module: what it makes is not the caller's."""
    (tmp_path / "job.py").write_text(
        "from flowkit_core import DAG, task\n@task\ndef of_job(): return 1\nprint(DAG('job').run('serial'))\n"
    )
    assert program(
        """
        import runpy
        def main():
            @task
            def own(): return 0
            runpy.run_module("job", run_name="__main__")
            runpy.run_path("job.py")
            print(DAG("main").run("serial"))
        main()
        """
    ) == ["{'of_job': 1}", "{'of_job': 1}", "{'own': 0}"]


def test_import_inside_a_function_keeps_the_tasks_in_the_imported_module(script):
    """An import executes a module, not a part of the call that imports it."""
    script("@task\ndef elsewhere(): return 0", name="other")

    def build():
        import other  # noqa: F401

        @task
        def own():
            return 1

        return DAG("own")

    assert build().run("serial") == {"own": 1}


def test_script_run_as_main_has_its_own_tasks(program):
    """The same holds for the main module of a program, and for -m style guards."""
    assert (
        program(
            """
        @task
        def a(): return 1
        @task
        def b(a): return a + 1
        a >> b
        def main():
            print(DAG("main").run("serial"))
        if __name__ == "__main__":
            main()
            print(DAG("top").run("serial"))
        """
        )
        == ["{'a': 1, 'b': 2}"] * 2
    )
