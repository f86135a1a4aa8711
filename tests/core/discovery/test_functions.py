"""A bare DAG in a function has what this call has made or wired, else the enclosing calls', else the module's."""

from __future__ import annotations

import functools

import pytest

from flowkit_core import DAG, DuplicateTaskError, Task, task


@task
def of_the_module():
    return "module"


def test_function_with_own_tasks_has_only_those():
    """The tasks of the module are not added to those of the call."""

    @task
    def own():
        return "own"

    assert DAG("here").run("serial") == {"own": "own"}


def test_function_without_tasks_has_those_of_its_module():
    """main() that contains only DAG(...).run() runs the pipeline of the module."""
    assert DAG("main").run("serial") == {"of_the_module": "module"}


def test_function_that_wires_a_task_of_the_module_has_it():
    """A wired task counts as one that was made."""

    @task
    def own(of_the_module):
        return of_the_module + "!"

    of_the_module >> own
    assert DAG("here").run("serial") == {"of_the_module": "module", "own": "module!"}


def test_function_that_only_wires_has_what_it_has_wired(script):
    """Wiring alone makes a pipeline; unwired tasks of the module are not in it."""
    module = script(
        """
        @task
        def a(): return 1
        @task
        def b(a): return a + 1
        @task
        def unrelated(): return 0
        def build():
            a >> b
            return DAG("wired")
        """
    )
    for _ in range(3):
        assert module.build().run("serial") == {"a": 1, "b": 2}


def test_function_does_not_have_tasks_of_another_function():
    """Two functions of one module are two pipelines."""

    def one():
        @task
        def first():
            return 1

        return DAG("one")

    def two():
        @task
        def second():
            return 2

        return DAG("two")

    first, second = one(), two()
    assert first.run("serial") == {"first": 1}
    assert second.run("serial") == {"second": 2}


def test_function_has_tasks_that_helpers_made_for_the_module(script):
    """What the top level made with a helper is the module's, also for main()."""
    module = script(
        """
        def fetch(page):
            return Task(lambda: page, name=f"page_{page}")

        pages = [fetch(1), fetch(2)]

        def main():
            return DAG("main").run("serial")
        """
    )
    assert module.main() == {"page_1": 1, "page_2": 2}


@pytest.mark.parametrize("order", ["one after the other", "both first"])
def test_builder_called_twice_gives_two_independent_dags(order):
    """Each call has tasks of its own, and the first DAG keeps working."""

    def build(number):
        @task
        def start():
            return number

        @task
        def double(start):
            return start * 2

        start >> double
        return DAG(f"build_{number}", tasks=None)

    if order == "both first":
        one, two = build(1), build(2)
        results = one.run("serial"), two.run("serial")
    else:
        results = (one := build(1)).run("serial"), build(2).run("serial")
    assert results == ({"start": 1, "double": 2}, {"start": 2, "double": 4})
    assert one.run("serial") == {"start": 1, "double": 2}


def test_builder_that_returns_its_last_task_gives_each_caller_its_own():
    """Tasks that builders return are passed to their caller, each with the edges of its call."""

    def make(number):
        source = Task(lambda: number, name="source")
        double = Task(lambda source: source * 2, name="double")
        return source >> double

    one, two = make(1), make(2)
    assert DAG("one", tasks=[one]).run("serial") == {"source": 1, "double": 2}
    assert DAG("two", tasks=[two]).run("serial") == {"source": 2, "double": 4}
    with pytest.raises(DuplicateTaskError):
        DAG("both").run("serial")


def test_tasks_made_after_the_dag_are_found_by_the_next_run():
    """The rest of the call can go on adding."""
    dag = DAG("growing")

    @task
    def a():
        return 1

    assert dag.run("serial") == {"a": 1}
    assert len(dag.tasks) == 1

    @task
    def b(a):
        return a + 1

    assert dag.tasks == (a, b)
    a >> b
    assert dag.run("serial") == {"a": 1, "b": 2}


def test_dag_may_be_created_first_and_run_by_the_caller():
    """A DAG that is created above its tasks has them after the call, too."""

    def build():
        dag = DAG("first")

        @task
        def a():
            return 1

        return dag

    assert build().run("serial") == {"a": 1}


def test_two_bare_dags_of_one_call_have_the_same_tasks():
    """The call decides, so both have everything."""
    a = Task(lambda: 1, name="a")
    one = DAG("one")
    b = Task(lambda a: a, name="b")
    a >> b
    two = DAG("two")
    assert one.run("serial") == two.run("serial") == {"a": 1, "b": 1}


def test_loop_that_redefines_a_task_is_an_error():
    """Tasks of one name that one call makes are different tasks, so a bare DAG refuses them."""
    dags = []
    for number in range(2):

        @task
        def value(number=number):
            return number

        dags.append(DAG("loop", tasks=[value]))
    assert [dag.run("serial")["value"] for dag in dags] == [0, 1]
    with pytest.raises(DuplicateTaskError):
        DAG("bare").run("serial")


def test_task_that_its_own_call_has_called_stays_in_its_bare_dag():
    """A direct call governs passing on only."""

    @task
    def a():
        return 1

    assert a() == 1
    assert DAG("called").run("serial") == {"a": 1}


def test_recursive_builder_gives_each_level_its_own_tasks():
    """A builder that calls itself does not lose its tasks to the inner call."""

    def build(depth):
        @task
        def level():
            return depth

        inner = build(depth - 1) if depth else {}
        return {**inner, depth: DAG("level").run("serial")["level"]}

    assert build(3) == {0: 0, 1: 1, 2: 2, 3: 3}


def test_recursive_helper_passes_all_its_tasks_to_the_builder():
    """Levels that make no DAG pass their tasks up, with their edges."""

    def chain(depth):
        made = Task(lambda *_: depth, name=f"level_{depth}")
        if depth:
            chain(depth - 1) >> made
        return made

    chain(3)
    assert list(DAG("chain").run("serial").values()) == [0, 1, 2, 3]


# Lexically enclosing calls


def test_inner_function_without_tasks_has_those_of_the_enclosing_call():
    """A closure that runs while its enclosing call is on the stack sees that call's tasks."""

    def outer():
        @task
        def a():
            return 1

        def inner():
            return DAG("inner").run("serial")

        in_lambda = lambda: DAG("lambda").run("serial")
        (in_list,) = [DAG("list").run("serial") for _ in range(1)]
        return inner(), in_lambda(), in_list

    assert outer() == ({"a": 1},) * 3


def test_nearest_enclosing_call_with_tasks_wins():
    """Enclosing calls are searched from the inside out."""

    def outer():
        Task(int, name="outer")

        def middle():
            Task(int, name="middle")

            def empty():
                def inner():
                    return DAG("inner").run("serial")

                return inner()

            return empty()

        def hollow():
            def inner():
                return DAG("inner").run("serial")

            return inner()

        return middle(), hollow()

    assert outer() == ({"middle": 0}, {"outer": 0})


def test_own_tasks_of_an_inner_function_precede_the_enclosing_ones():
    """A closure with tasks of its own has only those, and what it wires to them."""

    def outer():
        a = Task(lambda: 1, name="a")
        Task(lambda: 2, name="b")

        def inner():
            c = Task(lambda a: a + 10, name="c")
            a >> c
            return DAG("inner").run("serial")

        def alone():
            Task(lambda: 3, name="d")
            return DAG("alone").run("serial")

        return inner(), alone()

    assert outer() == ({"a": 1, "c": 11}, {"d": 3})


def test_closure_called_through_other_code_finds_its_enclosing_call():
    """Functions between the two calls do not matter, as long as the enclosing call is on the stack."""

    def outer():
        Task(lambda: 1, name="a")
        seen = []
        sorted([2, 1], key=lambda x: (seen.append(DAG("sorted").run("serial")), x)[1])
        list(map(lambda _: seen.append(DAG("map").run("serial")), [0]))  # noqa: C417
        functools.reduce(lambda x, y: seen.append(DAG("reduce").run("serial")), [1, 2])
        return seen

    assert outer() == [{"a": 1}] * 4


@pytest.mark.parametrize(
    "kind",
    [
        "method",
        "nested class",
        "inner function",
        "list",
        "generator",
        "default",
    ],
)
def test_enclosing_call_is_found_through_every_kind_of_nesting(kind):
    """Between the enclosing function and the code there may be classes, comprehensions and calls that have ended."""

    def outer():
        Task(lambda: 1, name="a")

        class Inner:
            def run(self):
                return DAG("method").run("serial")

            class Deeper:
                @staticmethod
                def run():
                    return DAG("nested").run("serial")

        def middle():
            return lambda: DAG("middle").run("serial")

        if kind == "method":
            return Inner().run()
        if kind == "nested class":
            return Inner.Deeper.run()
        if kind == "inner function":
            return middle()()
        if kind == "list":
            return [lambda: DAG("list").run("serial") for _ in range(1)][0]()  # noqa: RUF015
        if kind == "generator":
            return next((lambda: DAG("generator").run("serial")) for _ in range(1))()

        def default(run=lambda: DAG("default").run("serial")):
            return run()

        return default()

    assert outer() == {"a": 1}


def test_recursive_enclosing_function_gives_the_call_nearest_on_the_stack():
    """Of several calls of the enclosing function, the nearest on the stack counts."""

    def outer(depth):
        Task(lambda: depth, name=f"level_{depth}")
        inner = lambda: DAG("inner").run("serial")
        return [inner(), *(outer(depth - 1) if depth else [])]

    assert outer(2) == [{"level_2": 2}, {"level_1": 1}, {"level_0": 0}]


# exec


@pytest.mark.parametrize(
    "namespace",
    [
        "",
        ", globals()",
        ", globals(), locals()",
        ", {**globals()}",
        ", {'Task': Task}",
    ],
)
def test_exec_in_a_function_belongs_to_the_call(script, namespace):
    """The text of an exec is a part of the call that executes it, with and without a namespace of its own."""
    module = script(
        f"""
        def build():
            exec("for name in 'ab': Task(int, name=name)"{namespace})
            Task(int, name="c")
            return DAG("exec")
        def main():
            return DAG("main").run("serial")
        """
    )
    for _ in range(2):
        assert module.build().run("serial") == {"a": 0, "b": 0, "c": 0}
    with pytest.warns(RuntimeWarning, match="has no tasks"):
        assert module.main() == {}


def test_eval_in_a_function_belongs_to_the_call():
    """So does an expression that is evaluated."""
    eval("[Task(int, name=name) for name in 'ab']")
    assert DAG("eval").run("serial") == {"a": 0, "b": 0}


def test_function_defined_by_exec_is_a_function(script):
    """A function from an exec'd text has a call of its own, and its module is the namespace."""
    names = {"DAG": DAG, "Task": Task, "__name__": "generated"}
    exec("def build(n):\n    Task(lambda: n, name=f'n{n}')\n    return DAG('n')", names)
    one, two = names["build"](1), names["build"](2)
    assert (one.run("serial"), two.run("serial")) == ({"n1": 1}, {"n2": 2})


def test_dag_in_exec_text_has_the_tasks_of_the_call():
    """A bare DAG in the text of an exec is one of the call."""
    Task(lambda: 1, name="a")
    names = {"DAG": DAG, "Task": Task}
    exec("Task(lambda: 2, name='b')\ndag = DAG('exec')", globals(), names)
    assert names["dag"].run("serial") == {"a": 1, "b": 2}


def test_doctest_examples_belong_to_their_namespace():
    """doctest executes examples in a namespace that lasts for the docstring."""
    import doctest

    source = """
    >>> from flowkit_core import DAG, Task
    >>> a = Task(lambda: 1, name="a")
    >>> b = Task(lambda a: a + 1, name="b")
    >>> _ = a >> b
    >>> DAG("d").run("serial")
    {'a': 1, 'b': 2}
    """
    runner = doctest.DocTestRunner(verbose=False)
    for number in range(2):
        example = doctest.DocTestParser().get_doctest(source, {}, f"doc_{number}", "doc.py", 0)
        assert runner.run(example).failed == 0


def test_interactive_interpreter_belongs_to_its_namespace():
    """code.InteractiveInterpreter executes lines in a namespace of its own."""
    import code

    names = {"DAG": DAG, "Task": Task, "__name__": "__console__"}
    console = code.InteractiveInterpreter(names)
    for line in (
        "a = Task(lambda: 1, name='a')",
        "a = Task(lambda: 2, name='a')",
        "b = Task(lambda a: a + 1, name='b')",
        "a >> b",
        "results = DAG('d').run('serial')",
    ):
        assert console.runsource(line, "<console>") is False
    assert names["results"] == {"a": 2, "b": 3}
