"""``@task`` on methods: callable with retries, bound like methods, never discovered, and tasks only when bound."""

from __future__ import annotations

import abc
import dataclasses
import functools

import pytest

from flowkit_core import DAG, Group, Task, task


class Orders:
    """A class with a method that is a task."""

    def __init__(self, rows=(1, 2)):
        self.rows = list(rows)
        self.calls = 0

    @task(retries=2, delay=0, when=lambda factor: factor > 0, trigger="all_done")
    def load(self, factor=10):
        self.calls += 1
        if self.calls < 2:
            raise ValueError("not yet")
        return [row * factor for row in self.rows]

    @task
    def count(self):
        return len(self.rows)

    @task(name="a name of its own")
    def named(self):
        return "named"

    @classmethod
    @task
    def made(cls):
        return cls.__name__

    @property
    @task
    def total(self):
        return sum(self.rows)

    @functools.cached_property
    @task
    def cached_total(self):
        self.calls += 1
        return sum(self.rows)


def shapes():
    """Return a class with static methods; they are tasks of the calling scope."""

    class Shapes:
        @task
        @staticmethod
        def double(x):
            return 2 * x

        @staticmethod
        @task
        def triple(x):
            return 3 * x

    return Shapes


class NewOrders(Orders):
    """A subclass."""


class OtherOrders(Orders):
    """A subclass whose method uses that of its base."""

    @task
    def count(self):
        return super().count() + 100


TWO_CLASSES = """
from flowkit_core import DAG, task

class Orders:
    @task
    def load(self): pass
    @task(retries=1)
    def save(self, rows): pass
    @classmethod
    @task
    def named(cls): pass

class Visits:
    @task
    def load(self): pass

@task
def beside():
    return "beside"

at_top = DAG("bare")

def in_function():
    return DAG("bare")
"""


# Calls


def test_method_is_called_with_its_object_and_retried():
    """Like a method."""
    orders = Orders()
    assert orders.load() == [10, 20]
    assert orders.calls == 2
    assert orders.load(factor=3) == [3, 6]
    assert Orders.load(orders, 2) == [2, 4]


def test_method_condition_plays_no_part_in_call():
    """Conditions belong to pipelines."""
    orders = Orders()
    assert orders.load(-1) == [-1, -2]


def test_method_keeps_name_docstring_and_signature():
    """Seen on the class it is the task; seen on an object it is a bound method."""
    assert isinstance(Orders.load, Task)
    assert Orders.load.__qualname__ == "Orders.load"
    assert Orders().count.__self__.rows == [1, 2]
    assert Orders().count.__name__ == "count"


def test_method_is_inherited_and_overridden():
    """As any method; super() works."""
    assert NewOrders().count() == 2
    assert OtherOrders().count() == 102
    assert OtherOrders().load() == [10, 20]


def test_class_method_is_called():
    """On the class and on an object."""
    assert Orders.made() == "Orders"
    assert NewOrders.made() == "NewOrders"
    assert NewOrders().made() == "NewOrders"


def test_static_method_is_called():
    """In both orders of the decorators."""
    assert shapes().double(2) == 4
    assert shapes().triple(2) == shapes()().triple(2) == 6


def test_static_method_under_task_is_called_on_object():
    """A static method takes no object, on the class and on an instance."""
    assert shapes()().double(2) == 4


def test_method_under_property_is_called_by_access():
    """property and cached_property call what they hold."""
    orders = Orders()
    assert orders.total == 3
    assert orders.cached_total == 3
    assert orders.cached_total == 3
    assert orders.calls == 1


def test_method_under_partialmethod_is_called():
    """functools.partialmethod binds like a method."""

    class Scaled:
        @task
        def scale(self, factor, x):
            return factor * x

        double = functools.partialmethod(scale, 2)

    assert Scaled().double(4) == 8


def test_method_above_classmethod_is_refused_with_right_order():
    """@classmethod goes first."""
    with pytest.raises(TypeError, match="write @classmethod above @task"):

        class _Wrong:
            @task
            @classmethod
            def made(cls):
                pass


def test_method_of_dataclass_and_slots():
    """Classes of all kinds."""

    @dataclasses.dataclass(slots=True)
    class Point:
        x: int

        @task
        def twice(self):
            return self.x * 2

    assert Point(4).twice() == 8


def test_abstract_method_keeps_class_abstract():
    """With @task above or below @abstractmethod."""

    class Base(abc.ABC):
        @abc.abstractmethod
        @task
        def load(self):
            pass

    class Concrete(Base):
        @task
        def load(self):
            return 1

    with pytest.raises(TypeError, match="abstract"):
        Base()
    assert Concrete().load() == 1


def test_abstract_method_under_task_keeps_class_abstract():
    """As under functools.cached_property."""

    class Base(abc.ABC):
        @task
        @abc.abstractmethod
        def load(self):
            pass

    with pytest.raises(TypeError, match="abstract"):
        Base()


async def _use(sink):
    return await sink.load()


def test_async_method_is_awaited():
    """In a call and in a pipeline."""
    import asyncio

    class Sink:
        @task(retries=1, delay=0)
        async def load(self, x=1):
            return x + 1

    sink = Sink()
    assert asyncio.run(_use(sink)) == 2
    assert DAG("async", tasks=[Task(sink.load)]).run("serial") == {"load": 2}


# Discovery


def test_method_is_not_discovered_by_bare_dag_of_module():
    """Two methods of one name are no duplicates either."""
    namespace = {"__name__": "shop"}
    exec(compile(TWO_CLASSES, "shop.py", "exec"), namespace)
    assert namespace["at_top"].run("serial") == {"beside": "beside"}
    assert namespace["in_function"]().run("serial") == {"beside": "beside"}


def test_method_is_not_discovered_by_bare_dag_of_function():
    """A class in a function; two with the same method."""

    class One:
        @task
        def load(self):
            return 1

    class Two:
        @task
        def load(self, rows):
            return 2

        class Inner:
            @task
            def load(self):
                return 3

    @task
    def alone():
        return One().load() + Two().load(0) + Two.Inner().load()

    assert DAG("bare").run("serial") == {"alone": 6}


def test_method_is_not_discovered_in_block():
    """A class that is defined in a block."""
    with DAG("block") as block:

        class One:
            @task
            def load(self):
                return 1

        Task(One().load, name="one")
    assert block.run("serial") == {"one": 1}


MODULE = """
import functools
from flowkit_core import DAG, task

def logged(func):
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        return func(*args, **kwargs)
    return wrapper

@task
def extract():
    return 1

class Shop:
    {method}

def main():
    return DAG("bare").run("serial")
"""
METHODS = {
    "decorated": "@task\n    @logged\n    def load(self): pass",
    "lru_cache": "@task\n    @functools.lru_cache\n    def load(self): pass",
    "singledispatchmethod": "@task\n    @functools.singledispatch\n    def load(self): pass",
    "positional-only": "@task\n    def load(self, /): pass",
    "Task(...) in class": "def _load(self): pass\n    load = Task(_load)",
    "async": "@task\n    async def load(self): pass",
    "with options": "@task(retries=2)\n    def load(self, rows=1): pass",
    "copy": "@task\n    def load(self): pass\n    again = load.with_options(name='again')",
    "metaclass": "@task\n    def load(cls): pass",
}


@pytest.mark.parametrize("name", METHODS)
def test_method_of_any_kind_is_not_discovered(name):
    """Whatever the decorators below."""
    namespace = {"__name__": "shop", "Task": Task}
    exec(compile(MODULE.replace("{method}", METHODS[name]), "shop.py", "exec"), namespace)
    assert namespace["main"]() == {"extract": 1}


def test_static_method_in_class_is_a_task_like_others():
    """It needs no object."""
    start = Task(lambda: 4, name="start")
    double, triple = shapes().double, shapes().triple
    start >> double >> triple
    assert DAG("static", tasks=[triple]).run("serial") == {"start": 4, "double": 8, "triple": 24}


# Next to >> and in tasks=[...]

WRONG = {
    "right of >>": lambda a, method: a >> method,
    "left of >>": lambda a, method: method >> a,
    "in a list, right": lambda a, method: a >> [method],
    "in a list, left": lambda a, method: [method] >> a,
    "in a group": lambda a, method: Group([method]) >> a,
    "after": lambda a, method: a.after(method),
    "after in a list": lambda a, method: a.after([method]),
    "tasks=": lambda a, method: DAG("wrong", tasks=[a, method]),
}


@pytest.mark.parametrize("use", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(
    "method",
    [Orders.load, Orders().load, NewOrders().load, Orders.made],
    ids=["class", "object", "subclass", "classmethod"],
)
def test_method_as_operand_is_type_error_with_advice(use, method):
    """Orders.load needs an object; orders.load must be made a task."""
    a = Task(lambda: 1, name="a")
    with pytest.raises(TypeError, match=r"method.*Task\(.*\)"):
        use(a, method)
    assert DAG("clean", tasks=[a]).run("serial") == {"a": 1}


def test_method_that_was_called_is_type_error():
    """orders.count() is a number."""
    with pytest.raises(TypeError, match="without parentheses"):
        Task(lambda: 1, name="a") >> [Orders().count()]


def test_method_itself_after_raises():
    """Orders.load.after(a): the method has no object."""
    with pytest.raises(TypeError, match=r"method.*Task\("):
        Orders.count.after(Task(lambda: 1, name="a"))


# Task(obj.method)


def test_task_of_bound_method_keeps_options():
    """retries, when, trigger and the others are those of the method."""
    orders = Orders()
    made = Task(orders.load)
    assert (made.name, made.retries, made.delay, made.trigger) == ("load", 2, 0, "all_done")
    assert made.when is Orders.load.when
    assert DAG("methods", tasks=[made]).run("serial") == {"load": [10, 20]}
    assert orders.calls == 2


def test_task_of_bound_method_is_not_retried_twice():
    """Its retries are those of the task, not of the task times those of the method."""
    orders = Orders()
    orders.calls = -10
    with pytest.raises(ValueError, match="not yet"):
        DAG("methods", tasks=[Task(orders.load)]).run("serial")
    assert orders.calls == -7


def test_task_of_bound_method_takes_changed_options():
    """What is given goes before what the method has."""
    made = Task(Orders().load, name="twice", retries=5, trigger="all_success")
    assert (made.name, made.retries, made.delay, made.trigger) == ("twice", 5, 0, "all_success")


def test_task_of_bound_method_takes_default_trigger():
    """An explicit trigger goes before that of the method."""
    assert Task(Orders().load, trigger="none_failed").trigger == "none_failed"


def test_task_of_bound_method_takes_retries_zero():
    """An explicit 0 is given, too."""
    assert Task(Orders().load, retries=0).retries == 0


def test_task_of_bound_method_keeps_name():
    """Task(obj.method) keeps its options, and the name is one."""
    assert Task(Orders().named).name == "a name of its own"


def test_task_of_bound_method_is_wired_and_discovered():
    """With data in and out; two objects side by side."""
    one, two = Orders([1]), Orders([2, 3])
    factor = Task(lambda: 2, name="factor")
    first, second = Task(one.load, name="first"), Task(two.load, name="second")
    end = Task(lambda first, second: first + second, name="end")
    factor >> [first, second] >> end
    assert DAG("bare").run("serial") == {"factor": 2, "first": [2], "second": [4, 6], "end": [2, 4, 6]}


def test_task_of_bound_method_in_function_of_class():
    """A class that wires its own methods."""

    class Pipeline(Orders):
        def build(self):
            count, load = Task(self.count), Task(self.load)
            count >> load
            return DAG("own")

    assert Pipeline([1, 2, 3]).build().run("serial") == {"count": 3, "load": [3, 6, 9]}
    assert Pipeline([1]).build().run("serial") == {"count": 1, "load": [1]}


def test_task_of_inherited_method_uses_object_of_subclass():
    """Overridden, with super()."""
    assert DAG("sub", tasks=[Task(OtherOrders().count)]).run("serial") == {"count": 102}
    assert DAG("sub", tasks=[Task(NewOrders().count)]).run("serial") == {"count": 2}


def test_task_of_class_method_runs():
    """Bound to the class."""
    assert DAG("class", tasks=[Task(NewOrders.made)]).run("serial") == {"made": "NewOrders"}


def test_task_of_plain_method_is_the_same():
    """A method without @task."""

    class Plain:
        def load(self, rows=1):
            return rows

    assert DAG("plain", tasks=[Task(Plain().load)]).run("serial") == {"load": 1}


def test_task_of_bound_method_condition_is_bound_without_self():
    """The condition gets the arguments of the call."""
    factor, made = Task(lambda: 0, name="factor"), Task(Orders().load)
    factor >> made
    assert DAG("when", tasks=[made]).run("serial").states["load"] == "skipped"


def test_unbound_method_that_got_into_a_pipeline_says_what_to_do():
    """Task(Orders.load.func): a plain function with self."""
    with pytest.raises(TypeError, match=r"Task\("):
        DAG("wrong", tasks=[Task(Orders.count.func, name="count")]).run("serial")
