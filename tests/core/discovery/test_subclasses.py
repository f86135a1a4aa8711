"""Subclasses of DAG and Task, factories and partials: the call that uses them counts."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from flowkit_core import DAG, DuplicateTaskError, Task


class Plain(DAG):
    """A subclass without a constructor."""


class Configured(DAG):
    """A subclass with a constructor."""

    def __init__(self, name, owner="unknown"):
        super().__init__(name)
        self.owner = owner


class Deep(Configured):
    """A subclass of a subclass, whose constructor does more."""

    def __init__(self, name):
        prefix = "".join([part.lower() for part in "My "])
        super().__init__(prefix + name, owner=lambda: self)


class This(DAG):
    """A subclass whose constructor does not call its first parameter self."""

    def __init__(this, name):  # noqa: N805
        super().__init__(name)


class Variadic(DAG):
    """A subclass whose constructor takes *args and **kwargs."""

    def __init__(*args, **kwargs):
        super(Variadic, args[0]).__init__(*args[1:], **kwargs)


@dataclasses.dataclass(eq=False)
class Data(DAG):
    """A subclass that is a dataclass."""

    title: str

    def __post_init__(self):
        super().__init__(self.title)


class Mixin:
    """A base class beside DAG."""

    def __init__(self, *args, **kwargs):
        self.mixed = True
        super().__init__(*args, **kwargs)


class Mixed(Mixin, DAG):
    """A subclass with a mixin, whose constructor is called first."""


class Making(DAG):
    """A subclass whose constructor makes tasks."""

    def __init__(self, n):
        super().__init__(f"making {n}")
        source = Task(lambda: n, name="source")
        source >> Task(lambda source: source + 1, name="last")


class WithNew(DAG):
    """A subclass with __new__."""

    def __new__(cls, *args):
        return super().__new__(cls)


MAKERS = [
    pytest.param(DAG, id="DAG"),
    pytest.param(Plain, id="without constructor"),
    pytest.param(Configured, id="with constructor"),
    pytest.param(Deep, id="two constructors"),
    pytest.param(Mixed, id="mixin"),
    pytest.param(WithNew, id="__new__"),
    pytest.param(functools.partial(DAG, max_workers=1), id="partial"),
    pytest.param(functools.partial(functools.partial(Configured), owner="x"), id="partial of a partial"),
    pytest.param(This, id="first parameter not self"),
    pytest.param(Variadic, id="variadic constructor"),
    pytest.param(Data, id="dataclass"),
]


@pytest.mark.parametrize("maker", MAKERS)
def test_subclasses_and_partials_belong_to_the_call_that_uses_them(maker):
    """Constructors of subclasses are skipped."""

    def build(n):
        source = Task(lambda: n, name="source")
        source >> Task(lambda source: source + 1, name="last")
        return maker("d")

    dags = [build(n) for n in (1, 2)]
    assert [dag.run("serial") for dag in dags] == [{"source": 1, "last": 2}, {"source": 2, "last": 3}]


@pytest.mark.parametrize("maker", [DAG, Plain, Configured, Deep, Mixed, WithNew, This, Variadic, Data])
def test_subclasses_as_blocks(maker):
    """A with statement works with every subclass."""
    Task(lambda: 0, name="outside")
    with maker("d") as dag:
        Task(lambda: 1, name="inside")
    assert dag.run("serial") == {"inside": 1}


def test_subclass_whose_constructor_makes_tasks_has_them():
    """Tasks that the constructor makes pass to the call that it is skipped for."""

    def build(n):
        return Making(n)

    one, two = build(1), build(2)
    assert one.run("serial") == {"source": 1, "last": 2}
    assert two.run("serial") == {"source": 2, "last": 3}


def test_subclass_with_an_enter_method():
    """An __enter__ that calls super() enters the block for the call with the with statement."""

    class Entering(DAG):
        def __enter__(self):
            Task(lambda: 0, name="before")
            entered = super().__enter__()
            Task(lambda: 1, name="first")
            return entered

    with Entering("d") as dag:
        Task(lambda: 2, name="second")
    Task(lambda: 3, name="outside")
    assert dag.run("serial") == {"first": 1, "second": 2}


def test_subclass_that_overrides_run():
    """Where run() is called does not matter."""

    class Running(DAG):
        def run(self, *args, **kwargs):
            Task(int, name="of_run")
            return dict(super().run("serial"))

    def build():
        Task(lambda: 1, name="own")
        return Running("d")

    assert build().run() == {"own": 1}


def test_factory_function_makes_a_dag_of_named_tasks():
    """A factory function is a call with its own scope; its DAG has the edges of its callers."""

    def factory(name, *tasks):
        return DAG(name, tasks=tasks)

    def build(n):
        source, last = Task(lambda: n, name="source"), Task(lambda source: source + 1, name="last")
        source >> last
        return factory("d", last)

    assert [build(n).run("serial") for n in (1, 2)] == [{"source": 1, "last": 2}, {"source": 2, "last": 3}]


def test_factory_in_another_package_makes_a_dag_of_named_tasks(script):
    """Shared tasks that the builder wires and a factory of another package runs."""
    script("def factory(name, *tasks):\n    return DAG(name, tasks=tasks)", name="library.factories")
    module = script(
        """
        from library.factories import factory
        eu, us = Task(lambda: 1, name="eu"), Task(lambda: 10, name="us")
        total = Task(lambda *n: sum(n), name="total")
        def build(region):
            region >> total
            return factory("d", total)
        """
    )
    one, two = module.build(module.eu), module.build(module.us)
    assert (one.run("serial"), two.run("serial")) == ({"eu": 1, "total": 1}, {"us": 10, "total": 10})


def test_subclass_of_task_with_a_constructor():
    """Tasks of a subclass belong to the call that makes them."""

    class Own(Task):
        def __init__(self, function, label):
            super().__init__(function, name=f"own_{label}")

    def build(n):
        first = Own(lambda: n, "a")
        first >> Own(lambda own_a: own_a + 1, "b")
        return DAG("d")

    assert [build(n).run("serial") for n in (1, 2)] == [{"own_a": 1, "own_b": 2}, {"own_a": 2, "own_b": 3}]


def test_loop_over_a_subclass_of_task_makes_duplicates():
    """Two tasks of one name are two tasks, whatever class makes them."""

    class Own(Task):
        def __init__(self, function):
            super().__init__(function, name="own")

    for number in range(2):
        Own(lambda number=number: number)
    with pytest.raises(DuplicateTaskError, match="'own'"):
        DAG("own").run("serial")


def test_constructor_of_another_class_that_makes_a_dag_is_a_call_of_its_own():
    """Only constructors of the DAG itself are skipped; that of an object that holds one has its own tasks."""

    class Holder:
        def __init__(self, n):
            source = Task(lambda: n, name="source")
            source >> Task(lambda source: source + 1, name="last")
            self.dag = DAG("held")

    one, two = Holder(1), Holder(2)
    Task(int, name="outside")
    assert one.dag.run("serial") == {"source": 1, "last": 2}
    assert two.dag.run("serial") == {"source": 2, "last": 3}


def test_dag_stored_anywhere_runs_the_same_tasks():
    """In a list, a dictionary, an attribute, an iterator."""

    def build(n):
        source = Task(lambda: n, name="source")
        source >> Task(lambda source: source + 1, name="last")
        return DAG("d")

    class Holder:
        pass

    holder = Holder()
    holder.dag = build(0)
    dags = [holder.dag, {"dag": build(1)}["dag"], [build(2)][0], next(iter([build(3)])), vars(holder)["dag"]]
    assert [dag.run("serial") for dag in dags] == [{"source": n, "last": n + 1} for n in (0, 1, 2, 3, 0)]
