"""A bare DAG in a closure or lambda whose enclosing call has returned, or that other code or another thread calls."""

from __future__ import annotations

import textwrap
import threading

import pytest

from flowkit_core import DAG, DiscoveryError, Task


def outer_with_tasks(of=None):
    Task(lambda: 1, name="of_outer")
    return lambda: DAG("detached").run("serial")


def test_closure_that_outlives_its_enclosing_call_is_an_error():
    """A lambda whose enclosing call has returned never silently runs the module's tasks."""
    with pytest.raises(DiscoveryError, match=r"tasks=\[") as caught:
        outer_with_tasks()()
    assert caught.value.pipeline == "detached"
    assert caught.value.maker == "outer_with_tasks"


MAKER = """
    def make(number, name=None):
        @task(name=name or f"task_{number}")
        def made(): return number
        def run():
            try:
                return DAG("detached").run("serial")
            except DiscoveryError as error:
                return error.maker
        return run
"""
AT_TOP_LEVEL = {
    "one": "results = [make(1)()]",
    "several": "runs = [make(1), make(2)]\nresults = [run() for run in runs]",
    "of one name": "runs = [make(1, 'made'), make(2, 'made')]\nresults = [run() for run in runs]",
    "one after the other": "results = [make(1)(), make(2)()]",
    "in a loop": "results = []\nfor number in range(3):\n    results.append(make(number)())",
    "beside tasks of the module": "of_module = Task(int, name='of_module')\nresults = [make(1)()]",
    "in a class body": "class Config:\n    results = [make(1)()]\nresults = Config.results",
}
IN_FUNCTIONS = {
    "one": "return [make(1)()]",
    "several": "return [run() for run in [make(1), make(2)]]",
    "of one name": "return [run() for run in [make(1, 'made'), make(2, 'made')]]",
    "beside its own tasks": "Task(int, name='own')\n    return [make(1)()]",
    "through a helper": "return [(lambda run: run())(make(1))]",
    "through map": "return list(map(lambda run: run(), [make(1), make(2)]))",
    "through a thread": "from concurrent.futures import ThreadPoolExecutor\n    with ThreadPoolExecutor(1) as pool:\n"
    "        return [pool.submit(make(1)).result()]",
}


@pytest.mark.parametrize("use", AT_TOP_LEVEL.values(), ids=AT_TOP_LEVEL)
def test_closure_that_outlives_its_call_is_an_error_at_top_level(script, use):
    module = script("from flowkit_core import DiscoveryError\n" + textwrap.dedent(MAKER) + use)
    assert set(module.results) == {"make"}


@pytest.mark.parametrize("place", ["imported", "executing"])
@pytest.mark.parametrize("use", IN_FUNCTIONS.values(), ids=IN_FUNCTIONS)
def test_closure_that_outlives_its_call_is_an_error_in_functions(script, use, place):
    source = "from flowkit_core import DiscoveryError\n" + textwrap.dedent(MAKER) + f"def main():\n    {use}\n"
    module = script(source + ("results = main()" if place == "executing" else ""))
    assert set(module.results if place == "executing" else module.main()) == {"make"}


@pytest.mark.parametrize("use", IN_FUNCTIONS.values(), ids=IN_FUNCTIONS)
def test_closure_that_outlives_its_call_is_an_error_within_an_enclosing_call(script, use):
    """The call of the outer function is on the stack, and that of the inner one is not."""
    module = script(f"from flowkit_core import DiscoveryError\ndef main():{MAKER}    {use}\nresults = main()\n")
    assert set(module.results) == {"main.<locals>.make"}


def test_closure_of_a_returned_function_without_tasks_has_those_of_the_enclosing_call():
    def outer():
        Task(lambda: 1, name="a")

        def middle():
            return lambda: DAG("inner").run("serial")

        return middle()()

    assert outer() == {"a": 1}


WITHOUT_TASKS = {
    "has run a closure": "run = lambda: DAG('x').run('serial')\n    run()\n    return run",
    "has named tasks": "DAG('y', tasks=[a]).run('serial')\n    return lambda: DAG('x').run('serial')",
    "has a dag": "DAG('y').run('serial')\n    return lambda: DAG('x').run('serial')",
    "has a block": "with DAG('y'):\n        Task(int)\n    return lambda: DAG('x').run('serial')",
    "has called a task": "a()\n    return lambda: DAG('x').run('serial')",
    "has used the tasks of a helper": "helper()\n    return lambda: DAG('x').run('serial')",
}


@pytest.mark.parametrize("place", ["imported", "executing"])
@pytest.mark.parametrize("body", WITHOUT_TASKS.values(), ids=WITHOUT_TASKS)
def test_closure_of_a_function_that_has_only_used_pipelines_has_the_tasks_of_the_module(script, body, place):
    source = f"""
@task
def a(): return 1
def helper():
    return DAG("z", tasks=[Task(int)]).run("serial")
def outer():
    {body}
"""
    module = script(source + ("results = outer()()" if place == "executing" else ""))
    for _ in range(2):
        assert (module.results if place == "executing" else module.outer()()) == {"a": 1}


def test_closure_of_a_function_that_makes_tasks_in_some_calls_is_an_error():
    def outer(make):
        if make:
            Task(int, name="made")
        return lambda: DAG("x").run("serial")

    for make in (True, False):
        with pytest.raises(DiscoveryError):
            outer(make)()


def test_closure_of_a_call_that_another_thread_executes_is_an_error():
    inside, leave = threading.Event(), threading.Event()
    found = []

    def outer():
        found.append(lambda: DAG("x").run("serial"))
        Task(int, name="made")
        inside.set()
        leave.wait(60)

    thread = threading.Thread(target=outer)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(DiscoveryError):
        found[0]()
    leave.set()
    thread.join(60)
    with pytest.raises(DiscoveryError):
        found[0]()


def test_closure_of_a_function_without_tasks_has_those_of_the_executing_module(script):
    module = script(
        """
        @task
        def a(): return 1
        def outer():
            return lambda: DAG("lambda").run("serial")
        results = [outer()(), (lambda: outer()())()]
        """
    )
    assert module.results == [{"a": 1}] * 2


def test_closure_that_names_its_tasks_runs_those_of_its_own_call(script):
    module = script(
        """
        def make(number):
            @task
            def made(): return number
            return lambda: DAG("named", tasks=[made]).run("serial")
        runs = [make(1), make(2)]
        results = [run() for run in runs]
        """
    )
    assert module.results == [{"made": 1}, {"made": 2}]


def test_closure_that_another_thread_runs_is_an_error():
    """In another thread the enclosing call is not on the stack, even if it has not returned."""

    def outer():
        Task(lambda: 1, name="a")
        seen = []

        def work():
            try:
                DAG("thread").run("serial")
            except DiscoveryError as error:
                seen.append(error.maker)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        return seen

    (maker,) = outer()
    assert maker.endswith("outer")


def test_closure_of_a_function_without_tasks_has_those_of_the_module(script):
    """A detached closure is no problem where the enclosing function has made nothing."""
    module = script(
        """
        @task
        def a(): return 1
        def outer():
            return lambda: DAG("lambda").run("serial")
        """
    )
    assert module.outer()() == {"a": 1}


@pytest.mark.parametrize(
    "call",
    [
        "__import__('timeit').timeit(lambda: seen.append(DAG('d').run('serial')), number=1)",
        "t = __import__('threading').Thread(target=lambda: seen.append(DAG('d').run('serial'))); t.start(); t.join()",
        "pool.submit(lambda: seen.append(DAG('d').run('serial'))).result()",
        "list(pool.map(lambda _: seen.append(DAG('d').run('serial')), [0]))",
        "list(map(lambda _: seen.append(DAG('d').run('serial')), [0]))",
        "__import__('functools').partial(lambda: seen.append(DAG('d').run('serial')))()",
        "t = __import__('threading').Timer(0, lambda: seen.append(DAG('d').run('serial'))); t.start(); t.join()",
        "__import__('contextvars').copy_context().run(lambda: seen.append(DAG('d').run('serial')))",
        "__import__('weakref').finalize(type('X', (), {})(), lambda: seen.append(DAG('d').run('serial')))()",
        "asyncio.run(asyncio.to_thread(lambda: seen.append(DAG('d').run('serial'))))",
    ],
)
def test_lambda_of_the_top_level_that_other_code_calls_has_tasks_of_the_module(script, call):
    """timeit, threads, pools, timers and partials run the lambda; its line is in the module."""
    module = script(
        f"import asyncio\nfrom concurrent.futures import ThreadPoolExecutor\nseen = []\n@task\ndef a(): return 1\n"
        f"with ThreadPoolExecutor(1) as pool:\n    {call}\n"
    )
    assert module.seen == [{"a": 1}]


def test_lambda_run_by_atexit_has_tasks_of_the_module(program):
    """At exit the stack is empty, and the lambda still belongs to its module."""
    lines = program(
        """
        import atexit
        @task
        def a(): return 1
        atexit.register(lambda: print(DAG("exit").run("serial")))
        """
    )
    assert lines == ["{'a': 1}"]


def test_timeit_of_a_lambda_in_a_function_finds_the_tasks_of_the_call():
    """timeit calls the lambda while the enclosing call is on the stack."""
    import timeit

    Task(lambda: 1, name="a")
    seen = []
    timeit.timeit(lambda: seen.append(DAG("timed").run("serial")), number=2)
    assert seen == [{"a": 1}] * 2
