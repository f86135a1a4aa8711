"""Copies are discovered like any task; an original that is wired to nothing and has copies is a template."""

from __future__ import annotations

import copy
import pickle

import pytest

from flowkit_core import DAG, DuplicateTaskError, Task, task


def fetch_page(page=0):
    return page


@pytest.mark.parametrize("where", ["module", "function", "helper"])
def test_copies_are_discovered_and_their_template_is_not(script, where):
    """An original that is wired to nothing and has copies is not in the DAG."""
    body = (
        "@task\ndef fetch(page=0):\n    return page\n"
        "first = fetch.with_options(name='first')\nsecond = fetch.with_options(name='second', retries=1)\n"
    )
    inner = "    " + body.replace("\n", "\n    ")
    source = {
        "module": f"{body}results = DAG('copies').run('serial')",
        "function": f"def build():\n{inner}\n    return DAG('copies').run('serial')\nresults = build()",
        "helper": f"def make():\n{inner}\ndef build():\n    make()\n    return DAG('copies').run('serial')\n"
        "results = build()",
    }
    assert script(source[where]).results == {"first": 0, "second": 0}


def test_original_that_is_wired_is_no_template(script):
    """Once it is wired, the original is a task like others."""
    module = script(
        """
        @task
        def start(): return 1
        @task
        def step(x): return x + 1
        start >> step >> step.with_options(name="again")
        results = DAG("copies").run("serial")
        """
    )
    assert module.results == {"start": 1, "step": 2, "again": 3}


def test_original_that_is_wired_with_after_is_no_template():
    """An order-only edge is an edge."""
    start, step = Task(lambda: 1, name="start"), Task(lambda: 2, name="step")
    step.with_options(name="again")
    step.after(start)
    assert DAG("d").run("serial") == {"start": 1, "step": 2, "again": 2}


def test_one_function_twice_in_a_pipeline():
    """Two copies of one task, in a block, in a bare DAG and in a named one."""

    @task
    def source():
        return 5

    @task
    def add(x, y=1):
        return x + y

    expected = {"source": 5, "once": 6, "twice": 7}
    with DAG("twice") as dag:
        source >> add.with_options(name="once") >> add.with_options(name="twice")
    assert dag.run("serial") == expected

    def bare():
        last = source >> add.with_options(name="once") >> add.with_options(name="twice")
        return DAG("bare", tasks=[last]).run("serial"), DAG("bare").run("serial")

    assert bare() == (expected, expected)


def test_copy_of_a_copy():
    """A copy that has copies and is wired to nothing is a template, too."""
    first = Task(lambda: 1, name="first")
    second = first.with_options(name="second")
    second.with_options(name="third")
    assert DAG("d").run("serial") == {"third": 1}


def test_copy_with_the_same_name_takes_the_place_of_its_template(script):
    """extract = extract.with_options(retries=3) is the changed one."""
    module = script(
        """
        @task
        def extract():
            return 1

        extract = extract.with_options(retries=3)
        dag = DAG("one")
        results = dag.run("serial")
        """
    )
    assert module.results == {"extract": 1}
    assert [one.retries for one in module.dag.tasks] == [3]


def test_copy_of_the_same_name_beside_its_wired_original_is_a_duplicate():
    """The error says what to do."""

    @task
    def step(x=0):
        return x

    with pytest.raises(DuplicateTaskError, match="with_options"):
        DAG("twice", tasks=[step >> step.with_options(retries=1)]).run("serial")


def test_copy_in_a_builder_belongs_to_the_builder(script):
    """Copies of module-level tasks are the call's own, with their edges."""
    module = script(
        """
        @task
        def merge(*parts): return parts
        def build(folder):
            last = merge.with_options(name="own")
            Task(lambda: folder, name=folder) >> last
            return last
        def main():
            return [DAG(one.name, tasks=[one]).run("serial") for one in [build("a"), build("b")]]
        def bare(folder):
            build(folder)
            return DAG("bare").run("serial")
        """
    )
    expected = [{"a": "a", "own": ("a",)}, {"b": "b", "own": ("b",)}]
    assert module.main() == expected == [module.bare("a"), module.bare("b")]


def test_copy_is_unwired():
    """A copy has no edges of its original."""
    a, b = Task(lambda: 1, name="a"), Task(lambda *x: sum(x), name="b")
    a >> b
    changed = b.with_options(name="changed")
    assert DAG("d", tasks=[changed]).run("serial") == {"changed": 0}


def test_template_that_is_named_is_in_the_dag():
    """tasks=[...] means those tasks."""
    template = Task(lambda: 1, name="template")
    template.with_options(name="copy")
    assert DAG("named", tasks=[template]).run("serial") == {"template": 1}


def test_template_in_a_block_is_left_out():
    """A block follows the same rule."""
    with DAG("block") as dag:
        template = Task(lambda: 1, name="template")
        template.with_options(name="copy")
    assert dag.run("serial") == {"copy": 1}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copied_dag_has_the_same_tasks(duplicate):
    """copy.copy and copy.deepcopy of a DAG give a DAG of the same call, block or names."""

    def build(kind):
        a, b = Task(lambda: 1, name="a"), Task(lambda a: a + 1, name="b")
        a >> b
        if kind == "block":
            with DAG("d") as dag:
                a >> b
            return dag
        return DAG("d", tasks=[b] if kind == "named" else None)

    for kind in ("bare", "named", "block"):
        dag = build(kind)
        assert duplicate(dag).run("serial") == dag.run("serial") == {"a": 1, "b": 2}


def test_copied_tasks_are_the_tasks_themselves():
    """copy.copy and copy.deepcopy of a task give the task, so that containers of tasks can be copied."""
    a, b = Task(lambda: 1, name="a"), Task(lambda a: a + 1, name="b")
    a >> b
    tasks = copy.deepcopy({"last": [b]})
    assert DAG("d", tasks=tasks["last"]).run("serial") == {"a": 1, "b": 2}
    assert copy.copy(b) is b


def test_unpickled_task_is_in_no_bare_dag():
    """A task that comes from a pickle is found by its name, or belongs to no call."""
    Task(lambda: 1, name="own")
    pickle.loads(pickle.dumps(Task(fetch_page, name="pickled")))
    assert set(DAG("d").run("serial")) == {"own", "pickled"}

    def other():
        kept = pickle.loads(data)
        Task(lambda: 2, name="other")
        return DAG("d").run("serial"), kept

    data = pickle.dumps(Task(fetch_page, name="pickled again"))
    assert other()[0] == {"other": 2}
