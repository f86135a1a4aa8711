"""When a call returns, what no pipeline has used passes to the call that made it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools

import pytest

from flowkit_core import DAG, Task, task

HELPERS = """
import contextlib, functools

def make(name, value=1):
    return Task(lambda *_: value, name=name)

def chain(*tasks):
    for one, other in zip(tasks, tasks[1:]):
        one >> other
    return tasks[-1]

def make_chain(*names):
    return chain(*[make(name) for name in names])

def run_all(last):
    return DAG("helper", tasks=[last]).run("serial")

def passing(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def serve(handler, requests):
    return [handler(request) for request in requests]
"""


@pytest.fixture(params=["same module", "module of the package", "module of another package"])
def helpers(script, request):
    """Helper functions, in the module of the builders or in another, and the module of the builders."""

    def write(source):
        if request.param == "same module":
            return script(f"{HELPERS}\n{source}", name="own.builders")
        name = "own.helpers" if request.param == "module of the package" else "foreign.helpers"
        script(HELPERS, name=name)
        return script(f"from {name} import *\n{source}", name="own.builders")

    return write


def write_lines(*lines):
    return "\n".join(lines)


def test_tasks_of_a_helper_are_in_the_dag_of_the_builder(helpers):
    """A builder has what helpers made for it, wherever they are written."""
    module = helpers(
        write_lines(
            "def build(names):",
            "    make_chain(*names)",
            "    return DAG('built')",
            "def outside():",
            "    make('unrelated')",
        )
    )
    module.outside()
    one, two = module.build("ab"), module.build("cd")
    assert list(one.run("serial")) == ["a", "b"]
    assert list(two.run("serial")) == ["c", "d"]


def test_helper_wires_tasks_of_the_builder(helpers):
    """An edge that a helper declares between tasks of its caller is one of the caller."""
    module = helpers(
        write_lines(
            "def build():",
            "    a, b = Task(lambda: 1, name='a'), Task(lambda a: a + 1, name='b')",
            "    chain(a, b)",
            "    return DAG('wired'), DAG('named', tasks=[b])",
        )
    )
    for _ in range(2):
        bare, named = module.build()
        assert bare.run("serial") == named.run("serial") == {"a": 1, "b": 2}


def test_helper_wires_tasks_of_the_module(helpers):
    """An edge that a helper declares between shared tasks belongs to the call, then to its caller."""
    module = helpers(
        write_lines(
            "eu, us = Task(lambda: 1, name='eu'), Task(lambda: 10, name='us')",
            "total = Task(lambda *n: sum(n), name='total')",
            "def build(regions):",
            "    for region in regions: chain(region, total)",
            "    return DAG('sum', tasks=[total])",
            "def bare(regions):",
            "    for region in regions: chain(region, total)",
            "    return DAG('sum')",
        )
    )
    for build in (module.build, module.bare):
        both, one, other = build([module.eu, module.us]), build([module.eu]), build([module.us])
        assert [dag.run("serial")["total"] for dag in (both, one, other, both)] == [11, 1, 10, 11]
    assert DAG("none", tasks=[module.total]).run("serial") == {"total": 0}


def test_helper_runs_tasks_of_its_caller(helpers):
    """A DAG that is made in a helper has the edges of the calls that it is in."""
    module = helpers(
        write_lines(
            "shared = Task(lambda: 5, name='shared')",
            "def main():",
            "    a = Task(lambda: 1, name='a'); b = Task(lambda *x: sum(x), name='b')",
            "    a >> b; shared >> b",
            "    return run_all(b)",
        )
    )
    assert module.main() == module.main() == {"shared": 5, "a": 1, "b": 6}


def test_tasks_made_by_one_helper_and_run_by_another(helpers):
    """What one helper returns, another may run."""
    module = helpers("def main(): return run_all(make_chain('a', 'b'))\nlast = make_chain('c', 'd')")
    assert module.main() == {"a": 1, "b": 1}
    assert module.run_all(module.last) == {"c": 1, "d": 1}


def test_tasks_pass_through_a_decorator(helpers):
    """A decorator between a helper and the builder passes on what returns through it."""
    module = helpers(
        write_lines(
            "@passing",
            "def part(): Task(int, name='p1') >> Task(lambda x: x, name='p2')",
            "@passing",
            "@passing",
            "def build():",
            "    part()",
            "    return DAG('decorated')",
        )
    )
    for _ in range(2):
        assert module.build().run("serial") == {"p1": 0, "p2": 0}


def test_handlers_of_a_synchronous_server_do_not_mix(helpers):
    """A loop of a framework calls a handler that wires shared tasks, once for each request."""
    module = helpers(
        write_lines(
            "eu, us = Task(lambda: 1, name='eu'), Task(lambda: 10, name='us')",
            "total = Task(lambda *n: sum(n), name='total')",
            "def handler(region):",
            "    region >> total",
            "    Task(lambda total: -total, name='own')",
            "    total >> Task(lambda total: total, name='report')",
            "    return DAG('request', tasks=[total]).run('serial')",
            "def main(): return serve(handler, [eu, us, eu])",
        )
    )
    assert [one["total"] for one in module.main()] == [1, 10, 1]


def test_task_that_a_helper_called_directly_does_not_pass_to_the_builder(helpers):
    """Called directly is used, so it stays with the call that made it."""
    module = helpers(
        write_lines(
            "def ask():",
            "    inner = Task(lambda: 1, name='inner')",
            "    return inner()",
            "def build():",
            "    ask()",
            "    Task(lambda: 2, name='own')",
            "    return DAG('own')",
        )
    )
    assert module.build().run("serial") == {"own": 2}


def test_tasks_of_a_helper_with_its_own_dag_do_not_pass_to_the_builder(helpers):
    """A helper that made a DAG has used its tasks, in whichever form the DAG was made."""
    module = helpers(
        write_lines(
            "def bare(): make('x1'); return DAG('inner')",
            "def named(): return DAG('inner', tasks=[make('x2')])",
            "def block():",
            "    with DAG('inner') as dag: make('x3')",
            "    return dag",
            "def build(keep):",
            "    kept = [one() for one in (bare, named, block)]",
            "    results = [dag.run('serial') for dag in kept]",
            "    if not keep: del kept",
            "    make('own')",
            "    return results, DAG('own')",
        )
    )
    for keep in (True, False):
        results, dag = module.build(keep)
        assert results == [{"x1": 1}, {"x2": 1}, {"x3": 1}]
        assert dag.run("serial") == {"own": 1}


def test_dag_that_was_dropped_without_a_run_has_used_its_tasks():
    """Used means in a DAG; the DAG need not have run, nor be kept."""

    def helper():
        Task(int, name="inner")
        DAG("dropped")

    def named():
        DAG("dropped", tasks=[Task(int, name="named")])

    helper()
    named()
    Task(lambda: 1, name="own")
    assert DAG("own").run("serial") == {"own": 1}


# Classes


def test_pipeline_objects_of_one_class_do_not_mix(script):
    """Tasks are made in a method, and the DAG in another: each object has its own."""
    module = script(
        """
        class Pipeline:
            def __init__(self, n):
                self.n = n

            def tasks(self):
                source = Task(lambda: self.n, name="source")
                return source >> Task(lambda source: source * 2, name="double")

            def run(self):
                self.tasks()
                return DAG("bare").run("serial")

        one, two = Pipeline(1), Pipeline(2)
        results = one.run(), two.run(), one.run()
        """
    )
    first, second = {"source": 1, "double": 2}, {"source": 2, "double": 4}
    assert module.results == (first, second, first)
    assert (module.one.run(), module.two.run()) == (first, second)


@pytest.mark.parametrize("where", ["function", "module"])
def test_class_wires_in_its_constructor_and_runs_in_a_method(script, where):
    """Edges between tasks of one call go wherever the tasks go."""
    main = "def main():\n    return [p.run() for p in [P(1), P(2), Child(3)]]\n"
    run = "results = main()" if where == "function" else "ps = P(1), P(2), Child(3)\nresults = [p.run() for p in ps]"
    module = script(
        f"""
class P:
    def __init__(self, n):
        self.source = Task(lambda: n, name="source")
        self.last = Task(lambda source: source + 1, name="last")
        self.source >> self.last
    def run(self):
        return DAG("p", tasks=[self.last]).run("serial")

class Child(P):
    def __init__(self, n):
        super().__init__(n)
        end = Task(lambda last: last * 10, name="end")
        self.last >> end
        self.last = end

{main}{run}
"""
    )
    assert module.results == [
        {"source": 1, "last": 2},
        {"source": 2, "last": 3},
        {"source": 3, "last": 4, "end": 40},
    ]


def test_methods_that_wire_in_one_call_and_run_in_another(script):
    """The object is made in main(), wired in a second method, and run in a third."""
    module = script(
        """
        class P:
            def __init__(self):
                self.a, self.b = Task(lambda: 1, name="a"), Task(lambda a: a + 1, name="b")
            def wire(self):
                self.a >> self.b
            def dag(self):
                return DAG("p", tasks=[self.b])

        def main():
            p = P()
            p.wire()
            return p.dag().run("serial")

        def made_elsewhere():
            p = P()
            p.wire()
            return p

        def other():
            return made_elsewhere().dag().run("serial")
        """
    )
    assert module.main() == module.other() == {"a": 1, "b": 2}
    assert module.made_elsewhere().dag().run("serial") == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", ["property", "functools.cached_property", "staticmethod", "classmethod", "function"])
def test_tasks_made_by_every_kind_of_method_pass_to_the_caller(script, kind):
    """Properties and class methods are calls like others."""
    decorator = "" if kind == "function" else f"@{kind}"
    parameter = "" if kind == "staticmethod" else "self"
    use = "P().make" if "property" in kind else "P().make()"
    module = script(
        f"""
import functools
class P:
    {decorator}
    def make({parameter}):
        return Task(int, name="a") >> Task(lambda a: a, name="b")
def build():
    {use}
    return DAG("method")
"""
    )
    for _ in range(2):
        assert module.build().run("serial") == {"a": 0, "b": 0}


@pytest.mark.parametrize("method", ["__call__", "__enter__", "__getitem__", "__iter__", "__init_subclass__", "__new__"])
def test_tasks_made_by_special_methods_pass_to_the_caller(script, method):
    """Methods that the interpreter calls are calls like others."""
    uses = {
        "__call__": "P()()",
        "__enter__": "with P(): pass",
        "__getitem__": "P()[0]",
        "__iter__": "iter(P())",
        "__init_subclass__": "class Child(P): pass",
        "__new__": "P()",
    }
    value = {"__iter__": "iter(())", "__new__": "object.__new__(P)"}.get(method, "None")
    module = script(
        f"""
class P:
    def {method}(*args, **kwargs):
        Task(int, name="made")
        return {value}
    def __exit__(self, *error): pass
def build():
    {uses[method]}
    return DAG("special")
"""
    )
    for _ in range(2):
        assert module.build().run("serial") == {"made": 0}


def test_dataclass_makes_and_wires_tasks_in_post_init():
    """The generated constructor of a dataclass passes on what __post_init__ made."""

    @dataclasses.dataclass
    class P:
        n: int
        source: Task = dataclasses.field(init=False)
        last: Task = dataclasses.field(init=False)

        def __post_init__(self):
            self.source = Task(lambda: self.n, name="source")
            self.last = Task(lambda source: source + 1, name="last")
            self.source >> self.last

        def run(self):
            return DAG("p", tasks=[self.last]).run("serial")

    one, two = P(1), P(2)
    assert (one.run(), two.run()) == ({"source": 1, "last": 2}, {"source": 2, "last": 3})

    def build():
        P(3)
        return DAG("bare").run("serial")

    assert build() == build() == {"source": 3, "last": 4}


def test_dataclass_default_factory_makes_tasks():
    """A default factory is called by the generated constructor."""

    @dataclasses.dataclass
    class P:
        made: Task = dataclasses.field(default_factory=lambda: Task(lambda: 1, name="made"))

    P()
    assert DAG("factory").run("serial") == {"made": 1}


# Functions of the standard library between


@pytest.mark.parametrize(
    "call",
    [
        lambda make: make(),
        lambda make: functools.partial(make)(),
        lambda make: list(map(lambda _: make(), [0])),  # noqa: C417
        lambda make: [make() for _ in range(1)],
        lambda make: {make() for _ in range(1)},
        lambda make: tuple(make() for _ in range(1)),
        lambda make: functools.lru_cache(make)(),
        lambda make: functools.reduce(lambda x, _: make(), [0, 1]),
        lambda make: sorted([0], key=lambda _: (make(), 0)[1]),
        lambda make: max([0], key=lambda _: (make(), 0)[1]),
        lambda make: contextlib.closing(type("C", (), {"close": lambda self: make()})()).__exit__(None, None, None),
        lambda make: eval("make()", {"make": make}),
        lambda make: exec("make()", {"make": make}),
        lambda make: type("C", (), {"made": make()}),
        lambda make: functools.singledispatch(lambda _: make())(0),
        lambda make: __import__("contextvars").copy_context().run(make),
        lambda make: __import__("timeit").timeit(make, number=1),
        lambda make: __import__("re").sub("a", lambda _: make() and "", "a"),
    ],
)
def test_tasks_made_through_the_standard_library_pass_to_the_caller(call):
    """Calls between that are written in C or in another package only pass on."""

    def make():
        first = Task(lambda: 1, name="first")
        second = Task(lambda first: first + 1, name="second")
        first >> second
        return second

    def build():
        call(make)
        return DAG("through")

    assert build().run("serial") == {"first": 1, "second": 2}


def test_exit_stack_callback_passes_tasks_to_the_call_that_closes_it():
    """Callbacks run in the call that leaves the stack."""
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: Task(lambda: 1, name="late"))
        Task(lambda: 2, name="early")
    assert DAG("stack").run("serial") == {"late": 1, "early": 2}


def test_context_manager_function_passes_its_tasks_while_it_is_suspended_or_ended():
    """A contextmanager keeps its tasks while it is suspended, and passes them on when it ends."""

    @contextlib.contextmanager
    def resources():
        opened = Task(lambda: 1, name="opened")
        yield opened
        Task(lambda: 2, name="closed")

    with resources() as opened:
        use = Task(lambda opened: opened + 1, name="use")
        opened >> use
        assert DAG("inside", tasks=[use]).run("serial") == {"opened": 1, "use": 2}
    assert "closed" in DAG("after").run("serial")


def test_lru_cached_builder_returns_one_dag():
    """A cached builder makes its pipeline once."""

    @functools.lru_cache
    def build(n):
        Task(lambda: n, name="value")
        return DAG("cached")

    assert build(1) is build(1)
    assert build(1).run("serial") == {"value": 1}
    assert build(2).run("serial") == {"value": 2}
    assert build(1).run("serial") == {"value": 1}


def test_lru_cached_helper_returns_tasks_of_its_first_caller(script):
    """A task of a cached helper belongs to its first caller; others name it or wire it."""
    module = script(
        """
        import functools
        @functools.cache
        def source():
            return Task(lambda: 1, name="source")
        def build(n):
            own = Task(lambda source: source + n, name="own")
            source() >> own
            return DAG("cached", tasks=[own])
        """
    )
    assert [module.build(n).run("serial") for n in (1, 2)] == [{"source": 1, "own": 2}, {"source": 1, "own": 3}]


def test_fluent_interface_builds_step_by_step():
    """A builder object whose methods each add one task, wired to the last."""

    class Builder:
        def __init__(self):
            self.last = None

        def step(self, name):
            made = Task(lambda *_: name, name=name)
            if self.last is not None:
                self.last >> made
            self.last = made
            return self

        def build(self):
            return DAG("fluent", tasks=[self.last])

    def one():
        return Builder().step("a").step("b").step("c").build()

    assert list(one().run("serial")) == ["a", "b", "c"]
    builder = Builder().step("x")
    assert list(builder.step("y").build().run("serial")) == ["x", "y"]


def test_registration_decorator_collects_tasks():
    """A decorator of one's own that makes a task is a helper."""

    def registered(registry):
        def decorate(function):
            made = task(function)
            registry.append(made)
            return made

        return decorate

    registry = []

    @registered(registry)
    def a():
        return 1

    @registered(registry)
    def b():
        return 2

    assert DAG("registered").run("serial") == DAG("named", tasks=registry).run("serial") == {"a": 1, "b": 2}
