"""Conditions: which arguments ``when`` gets, and which results are errors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect

import pytest

from flowkit_core import DAG, BindingError, Task, TaskOptionTypeError


def value(name, result=None):
    """Return a task without parameters that returns a value, by default its own name."""
    return Task(lambda: name if result is None else result, name=name)


def run(*tasks, **options):
    """Run everything upstream of these tasks, one after the other."""
    return DAG("conditions", tasks=tasks).run("serial", **options)


def condition(shape, seen):
    """Return a condition with the signature of another function, which notes what its parameters get."""
    signature = inspect.signature(shape)

    def when(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        seen.append(dict(bound.arguments))
        return True

    when.__signature__ = signature
    return when


def seen_by(shape, func, upstream="abc", **options):
    """Return what the parameters of a condition get, for a task that stands after the named upstreams."""
    seen = []
    sink = Task(func, name="sink", when=condition(shape, seen))
    [value(name) for name in upstream] >> sink
    run(sink, **options)
    assert len(seen) == 1
    return seen[0]


# By name


def test_condition_parameter_named_like_parameter_of_task_gets_that_argument():
    """The condition of a dry run must not get the rows."""
    loaded = []
    load = Task(
        lambda rows, dry_run=False: loaded.append(rows) or "loaded", name="load", when=lambda dry_run: not dry_run
    )
    value("extract") >> load
    assert run(load, params={"dry_run": True}).skipped == {"load": "its condition was false"}
    assert loaded == []
    assert run(load, params={"dry_run": False})["load"] == "loaded"
    assert run(load)["load"] == "loaded"
    assert run(load, params={"load.dry_run": True}).states["load"] == "skipped"


def three(x, y, z):
    pass


def defaults(x, y=2, *, z=3):
    pass


def keyword_only(*, x, y):
    pass


def star(x, *rest):
    pass


def stars(x, **named):
    pass


def only_stars(**named):
    pass


def positional_only(x, y, /):
    pass


@pytest.mark.parametrize(
    ("shape", "func", "upstream", "expected"),
    [
        # by name, whatever the order
        (lambda z: 0, three, "abc", {"z": "c"}),
        (lambda z, x: 0, three, "abc", {"z": "c", "x": "a"}),
        (lambda y, z, x: 0, three, "abc", {"y": "b", "z": "c", "x": "a"}),
        # partly by name: the others take what remains, in order
        (lambda first, y: 0, three, "abc", {"first": "a", "y": "b"}),
        (lambda y, first: 0, three, "abc", {"y": "b", "first": "a"}),
        (lambda first, x, second: 0, three, "abc", {"first": "b", "x": "a", "second": "c"}),
        (lambda z, *others: 0, three, "abc", {"z": "c", "others": ("a", "b")}),
        # by order
        (lambda first: 0, three, "abc", {"first": "a"}),
        (lambda first, second: 0, three, "abc", {"first": "a", "second": "b"}),
        (lambda *args: 0, three, "abc", {"args": ("a", "b", "c")}),
        (lambda: 0, three, "abc", {}),
        # one with a default is filled by name only
        (lambda limit=5: 0, three, "abc", {"limit": 5}),
        (lambda first, limit=5: 0, three, "abc", {"first": "a", "limit": 5}),
        (lambda y=5: 0, three, "abc", {"y": "b"}),
        (lambda first, y=5, limit=6: 0, three, "abc", {"first": "a", "y": "b", "limit": 6}),
        (lambda limit=5, z=6: 0, three, "abc", {"limit": 5, "z": "c"}),
        (lambda limit=5, *, z: 0, three, "abc", {"limit": 5, "z": "c"}),
        # defaults of the task
        (lambda y: 0, defaults, "a", {"y": 2}),
        (lambda z, y: 0, defaults, "a", {"z": 3, "y": 2}),
        (lambda first, second: 0, defaults, "a", {"first": "a", "second": 2}),
        (lambda first, second, third: 0, defaults, "a", {"first": "a", "second": 2, "third": 3}),
        # keyword-only
        (lambda *, y: 0, keyword_only, "xy", {"y": "y"}),
        (lambda *, other: 0, keyword_only, "xy", {"other": "x"}),
        (lambda first, *, y: 0, keyword_only, "xy", {"first": "x", "y": "y"}),
        (lambda *, limit=1: 0, keyword_only, "xy", {"limit": 1}),
        (lambda first, *, x: 0, three, "abc", {"first": "b", "x": "a"}),
        # *args of the task
        (lambda x: 0, star, "abc", {"x": "a"}),
        (lambda first, second: 0, star, "abc", {"first": "a", "second": "b"}),
        (lambda second, x: 0, star, "abc", {"second": "b", "x": "a"}),
        (lambda x, *others: 0, star, "abc", {"x": "a", "others": ("b", "c")}),
        (lambda first, second, third: 0, lambda *args: 0, "abc", {"first": "a", "second": "b", "third": "c"}),
        # **kwargs
        (lambda **named: 0, three, "abc", {"named": {"x": "a", "y": "b", "z": "c"}}),
        (lambda y, **named: 0, three, "abc", {"y": "b", "named": {"x": "a", "z": "c"}}),
        (lambda x, b: 0, stars, "abc", {"x": "a", "b": "b"}),
        (lambda c: 0, only_stars, "abc", {"c": "c"}),
        (lambda **named: 0, only_stars, "abc", {"named": {"a": "a", "b": "b", "c": "c"}}),
        # positional-only
        (lambda y, /: 0, three, "abc", {"y": "b"}),
        (lambda y, first, /: 0, three, "abc", {"y": "b", "first": "a"}),
        (lambda first, /, y: 0, three, "abc", {"first": "a", "y": "b"}),
        (lambda limit=5, y=6, /: 0, three, "abc", {"limit": 5, "y": "b"}),
        (lambda y, x: 0, positional_only, "ab", {"y": "b", "x": "a"}),
        (lambda first: 0, positional_only, "ab", {"first": "a"}),
    ],
)
def test_condition_is_bound_like_the_task(shape, func, upstream, expected):
    """By name; the others without a default take the remaining arguments in order; defaults are filled by name."""
    assert seen_by(shape, func, upstream) == expected


def test_condition_sees_params():
    """What run(params=...) gives is an argument like others."""
    assert seen_by(lambda mode, day: 0, lambda rows, day, mode="a": 0, "r", params={"day": 1, "mode": "w"}) == {
        "mode": "w",
        "day": 1,
    }


def test_condition_sees_default_in_place_of_skipped_upstream():
    """By name and by order."""
    seen = []
    gone = Task(lambda: 1, name="gone", when=lambda: False)
    sink = Task(lambda x=5, y=6: (x, y), name="sink", when=condition(lambda y, first: 0, seen))
    [gone, value("b")] >> sink
    assert run(sink)["sink"] == (5, "b")
    assert seen == [{"y": "b", "first": 5}]


def test_condition_parameter_named_like_upstream_is_filled_by_order():
    """Names are those of the parameters of the task; upstreams have other names."""
    assert seen_by(lambda b: 0, three, "abc") == {"b": "a"}


def test_condition_with_args_and_kwargs_gets_each_argument_once():
    """A task with both gets the results in *args; so does a condition."""
    assert seen_by(lambda *args, **kwargs: 0, three) == {"args": ("a", "b", "c"), "kwargs": {}}


def test_condition_under_decorator_without_wraps_is_called_as_without():
    """A decorator that passes *args and **kwargs on."""

    def logged(func):
        def wrapper(*args, **kwargs):
            return func(*args, **kwargs)

        return wrapper

    sink = Task(lambda rows: rows, name="sink", when=logged(lambda rows: rows == "a"))
    value("a") >> sink
    assert run(sink)["sink"] == "a"


# Callables of other kinds


class Limit:
    """Conditions that belong to an object."""

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, rows):
        return len(rows) > self.limit

    def method(self, rows):
        return len(rows) > self.limit

    @classmethod
    def of_class(cls, rows):
        return len(rows) > 2

    @staticmethod
    def static(rows):
        return len(rows) > 2


CONDITIONS = {
    "method": Limit(2).method,
    "class method": Limit.of_class,
    "static method": Limit.static,
    "callable object": Limit(2),
    "partial, by position": functools.partial(lambda limit, rows: len(rows) > limit, 2),
    "partial, by name": functools.partial(lambda rows, bound: len(rows) > bound, bound=2),
    "partial of partial": functools.partial(functools.partial(lambda a, b, rows: len(rows) > a + b, 1), 1),
    "partial of method": functools.partial(Limit(2).method),
    "wraps": functools.wraps(Limit.static)(lambda *args, **kwargs: Limit.static(*args, **kwargs)),
    "lru_cache": functools.lru_cache(lambda rows: len(rows) > 2),
    "lambda with default": lambda rows, bound=2: len(rows) > bound,
    "builtin method": "abc".__eq__,
}


@pytest.mark.parametrize("when", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize(("rows", "runs"), [("abc", True), ("ab", False)])
def test_condition_of_any_kind_gets_its_argument(when, rows, runs):
    """The second parameter of the task is the one that counts, and has the name."""
    func = (lambda rows: 0) if when is CONDITIONS["builtin method"] else (lambda limit, rows: 0)
    sink = Task(func, name="sink", when=when)
    start = [value("rows", rows)] if when is CONDITIONS["builtin method"] else [value("other"), value("rows", rows)]
    start >> sink
    assert run(sink).states["sink"] == ("succeeded" if runs else "skipped")


@pytest.mark.parametrize(
    ("when", "given", "runs"), [(len, "", False), (len, "a", True), (any, (0, 0), False), (any, (0, 1), True)]
)
def test_condition_may_be_builtin(when, given, runs):
    """Whether inspect knows its signature or not."""
    sink = Task(lambda rows: rows, name="sink", when=when)
    value("start", given) >> sink
    assert run(sink).states["sink"] == ("succeeded" if runs else "skipped")


def test_condition_bool_judges_first_argument():
    """The name of a positional-only parameter of a builtin can match nothing."""
    sink = Task(lambda rows: rows, name="sink", when=bool)
    value("start", [1]) >> sink
    assert run(sink).states["sink"] == "succeeded"


@pytest.mark.parametrize("when", [list, float, tuple])
def test_condition_builtin_class_judges_first_argument(when):
    """The same in every version."""
    sink = Task(lambda rows: rows, name="sink", when=when)
    value("start", "123") >> sink
    assert run(sink).states["sink"] == "succeeded"


def test_condition_partial_keeps_what_it_has_bound():
    """As for tasks: a run gives no other value to what a partial has bound by name."""
    when = functools.partial(lambda rows, limit: len(rows) > limit, limit=2)
    sink = Task(lambda rows, limit=10: rows, name="sink", when=when)
    value("rows", "abc") >> sink
    assert run(sink).states["sink"] == "succeeded"


# Too many parameters


@pytest.mark.parametrize(
    ("when", "func", "upstream", "parameter"),
    [
        (lambda x: x, lambda: 1, "", "x"),
        (lambda a, b: a, lambda rows: 1, "r", "b"),
        (lambda a, b, c: a, lambda x, y: 1, "xy", "c"),
        (lambda *, mode: mode, lambda: 1, "", "mode"),
        (lambda a, *, mode: mode, lambda rows: 1, "r", "mode"),
        (lambda a, b, c: a, lambda *args: 1, "ab", "c"),
        (lambda rows, more: rows, lambda rows: 1, "r", "more"),
        (lambda a, rows, b: rows, lambda rows, x=1: 1, "r", "b"),
    ],
)
def test_condition_with_too_many_parameters_is_found_when_built(when, func, upstream, parameter):
    """Nothing runs, and the error names task, parameter and both signatures."""
    ran = []
    sink = Task(func, name="sink", when=when)
    [Task(lambda: ran.append(1), name=name) for name in upstream] >> sink
    for use in (lambda dag: dag.graph(), lambda dag: dag.visualize(), lambda dag: dag.run("serial")):
        with pytest.raises(BindingError, match=r"condition \(when=\) of task 'sink'") as caught:
            use(DAG("conditions", tasks=[sink]))
        assert (caught.value.task, caught.value.parameter) == ("sink", parameter)
        assert repr(parameter) in str(caught.value)
    assert ran == []


def test_condition_with_misspelled_parameter_gets_suggestion():
    """The near miss among the parameters of the task."""
    sink = Task(lambda rows, dry_run=False: 1, name="sink", when=lambda rows, dry_rum, more: 1)
    value("rows") >> sink
    with pytest.raises(BindingError) as caught:
        run(sink)
    assert "(rows, dry_run=...)" in str(caught.value)


# Results that are neither true nor false


def true_generator():
    yield True


class Holder:
    """Generator functions in disguise."""

    def __call__(self):
        yield True

    def method(self):
        yield True


@pytest.mark.parametrize(
    "when",
    [true_generator, Holder(), Holder().method, functools.partial(true_generator)],
    ids=["function", "callable object", "method", "partial"],
)
def test_condition_generator_function_is_refused_where_declared(when):
    """Calling it gives a generator, which is always true."""
    with pytest.raises(TaskOptionTypeError, match="generator function"):
        Task(lambda: 1, name="made", when=when)


class AsyncHolder:
    """Coroutine functions in disguise."""

    async def __call__(self):
        return False

    async def method(self):
        return False


async def coroutine_function():
    return False


@pytest.mark.parametrize(
    "when",
    [coroutine_function, AsyncHolder(), AsyncHolder().method, functools.partial(coroutine_function)],
    ids=["function", "callable object", "method", "partial"],
)
def test_condition_coroutine_function_is_refused_where_declared(when):
    """Calling it gives a coroutine, which is always true."""
    with pytest.raises(TaskOptionTypeError, match="async"):
        Task(lambda: 1, name="made", when=when)


class Awaitable:
    """An awaitable of one's own."""

    def __await__(self):
        yield


async def async_generator():
    yield True


ANSWERS = {
    "generator expression": lambda: (x for x in [False]),
    "generator": lambda: true_generator(),
    "wrapped generator function": functools.wraps(true_generator)(lambda: true_generator()),
    "coroutine": lambda: coroutine_function(),
    "wrapped coroutine function": functools.wraps(coroutine_function)(lambda: coroutine_function()),
    "own awaitable": Awaitable,
    "asyncio future": lambda: asyncio.Future(loop=LOOP),
    "async generator": lambda: async_generator(),
}
LOOP = asyncio.new_event_loop()
LOOP.close()


@pytest.mark.parametrize("when", ANSWERS.values(), ids=ANSWERS)
def test_condition_answer_that_is_always_true_fails_the_task(when):
    """The error names the task and says what to write; the function does not run, and nothing is tried again."""
    ran, asked = [], []

    @functools.wraps(when, assigned=(), updated=())
    def counted():
        asked.append(1)
        return when()

    del counted.__wrapped__
    made = Task(lambda: ran.append(1), name="made", when=counted, retries=2, delay=0)
    with pytest.raises(TypeError, match=r"condition \(when=\) of task 'made'.*neither true nor false") as caught:
        run(made)
    assert caught.value.flowkit_results.states == {"made": "failed"}
    assert (ran, len(asked)) == ([], 1)


class NoTruth:
    """Neither true nor false, as an array of two elements."""

    def __bool__(self):
        raise ValueError("ambiguous")


@pytest.mark.parametrize("is_mapped", [False, True])
def test_condition_answer_whose_truth_raises_fails_only_its_task(is_mapped):
    rows, made, other = Task(lambda: [1], name="rows"), Task(str, name="made", when=lambda _: NoTruth()), Task(int)
    rows >> (made.map() if is_mapped else made)
    results = DAG("odd", tasks=[made, other]).run("serial", fail_fast=False, raise_on_failure=False)
    assert results.states == {"rows": "succeeded", "int": "succeeded", "made": "failed"}
    assert results.failed["made"].args == ("ambiguous",)
    assert any("the condition (when=) of task 'made" in note for note in results.failed["made"].__notes__)


@pytest.mark.parametrize("future", [concurrent.futures.Future(), object()], ids=["future", "object"])
def test_condition_answer_of_any_other_kind_counts_by_its_truth(future):
    """What is no awaitable and no generator is a value."""
    assert run(Task(lambda: 1, name="made", when=lambda: future)) == {"made": 1}


@pytest.mark.parametrize(
    ("when", "warned"),
    [(lambda amont: amont == 2, True), (lambda amount: amount == 2, False), (lambda value: value == 1, False)],
)
def test_misspelt_parameter_of_a_condition_is_a_warning(recwarn, when, warned):
    order, amount = Task(lambda: 1, name="order"), Task(lambda: 2, name="amount")
    load = Task(lambda order, amount: order + amount, name="load", when=when)
    [order, amount] >> load
    DAG("d", tasks=[load]).run("serial")
    found = [str(each.message) for each in recwarn]
    assert ["'amount' is more similar" in text for text in found] == [True] * warned
