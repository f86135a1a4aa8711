"""Tasks: the ways to make one, its options, what it keeps of its function, and calling it."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import math
import operator
import pickle
import random

import pytest

from flowkit_core import DAG, BindingError, FlowkitError, RetryPolicy, Task, TaskOptionError, TaskOptionTypeError, task


@task
def plain(x: int = 20) -> int:
    """Return one more."""
    return x + 1


@task()
def with_parentheses():
    return "parentheses"


@task(name="a name of its own", retries=2, delay=0)
def with_options():
    return "options"


another_plain = plain.with_options(name="another_plain")


class Pipelines:
    """A namespace with a task in it."""

    @task
    @staticmethod
    def nested(x=1):
        return x


class Adder:
    """An object that can be called."""

    def __init__(self, amount):
        self.amount = amount

    def __call__(self, x):
        return x + self.amount


def failing(times, error=ValueError, value="done"):
    """Return a function that fails so many times before it succeeds, and the list of its calls."""
    calls = []

    def flaky(*args):
        calls.append(args)
        if len(calls) <= times:
            raise error(f"failure {len(calls)}")
        return value

    return flaky, calls


# How a task is made


@pytest.mark.parametrize("made", [plain, with_parentheses, with_options, Task(failing)])
def test_decorator_forms_create_task(made):
    """@task, @task(), @task(options) and Task(func)."""
    assert isinstance(made, Task)


def test_task_has_metadata_of_function():
    """Name, docstring, signature, module and __wrapped__."""
    assert plain.name == plain.__name__ == "plain"
    assert plain.__qualname__ == "plain"
    assert plain.__module__ == __name__
    assert plain.__doc__ == "Return one more."
    assert plain.__wrapped__ is plain.func
    assert inspect.signature(plain) == inspect.signature(plain.func)
    assert inspect.unwrap(plain) is plain.func
    assert not isinstance(plain.func, Task)
    assert plain.func(1) == 2


def test_task_name_option():
    """The function keeps its own name."""
    assert with_options.name == "a name of its own"
    assert with_options.func.__name__ == "with_options"


def test_task_defaults_are_documented_ones():
    """One attempt; waits of 1 s, 2 s and 4 s if there were retries."""
    facts = (plain.retries, plain.delay, plain.backoff, plain.when, plain.trigger, plain.retry_on)
    assert facts == (0, 1.0, 2.0, None, "none_failed", None)
    assert (plain.max_delay, plain.jitter) == (3600.0, 0.1)


def test_task_options_are_attributes():

    def condition(x):
        return x > 1

    def func(x):
        return x

    made = Task(
        func,
        name="n",
        retries=3,
        delay=0.5,
        backoff=1.5,
        when=condition,
        max_delay=9,
        jitter=0,
        retry_on=OSError,
        trigger="all_done",
    )
    assert (made.name, made.retries, made.delay, made.backoff, made.when) == ("n", 3, 0.5, 1.5, condition)
    assert (made.max_delay, made.jitter, made.retry_on, made.trigger) == (9, 0, OSError, "all_done")


def test_task_signature_is_documented_one():
    """The function is positional, all options are keywords."""
    kinds = {parameter.name: parameter.kind for parameter in inspect.signature(Task).parameters.values()}
    assert {"retries", "delay", "backoff", "when"} <= set(kinds)
    assert all(kind is inspect.Parameter.KEYWORD_ONLY for name, kind in kinds.items() if name != "func")


def test_task_repr_has_name():
    assert "a name of its own" in repr(with_options)


# What can be a task


def test_task_of_lambda():
    double = Task(lambda x: 2 * x, name="double")
    assert double(21) == 42
    assert DAG("numbers", tasks=[double]).run(params={"x": 4}) == {"double": 8}


def test_task_of_partial_has_name_of_function():
    """A partial has no __name__."""

    def power(base, exponent):
        return base**exponent

    square = Task(functools.partial(power, exponent=2))
    assert square.name == "power"
    assert square(5) == 25


def test_task_of_partial_binds_remaining_parameters():

    @task
    def base():
        return 3

    def power(exponent, base):
        return base**exponent

    cube = Task(functools.partial(power, 3), name="cube")
    base >> cube
    assert DAG("numbers", tasks=[cube]).run() == {"base": 3, "cube": 27}


def test_task_of_callable_object():
    """Its name is that of the class, unless a name is given."""

    @task
    def x():
        return 1

    add_ten = Task(Adder(10), name="add_ten")
    assert Task(Adder(1)).name == "Adder"
    assert add_ten(1) == 11
    x >> add_ten
    assert DAG("numbers", tasks=[add_ten]).run() == {"x": 1, "add_ten": 11}


@pytest.mark.parametrize(
    ("func", "values", "result"),
    [
        (len, ["abc"], 3),
        (operator.add, [1, 2], 3),
        (max, [3, 9, 4], 9),
        (str.upper, ["abc"], "ABC"),
        (dict, [[("a", 1)]], {"a": 1}),
    ],
    ids=["len", "operator.add", "max", "str.upper", "dict"],
)
def test_task_of_builtin_without_signature(func, values, result):
    """Results are passed in order of declaration."""
    sources = [Task(lambda value=value: value, name=f"value_{position}") for position, value in enumerate(values)]
    made = Task(func)
    assert made.name == func.__name__
    sources >> made
    assert DAG("builtins", tasks=[made]).run()[func.__name__] == result


def test_task_of_bound_method():
    words = ["b", "a"]
    append = Task(words.append, name="append")
    append("c")
    assert words == ["b", "a", "c"]


@pytest.mark.parametrize("wrong", [None, 3, "extract", [len]])
def test_task_of_object_that_is_not_callable_is_type_error(wrong):
    """The error shows the object."""
    with pytest.raises(TypeError) as caught:
        Task(wrong)
    assert repr(wrong) in str(caught.value)
    assert "callable" in str(caught.value)


def test_task_of_task_is_type_error_with_advice():
    """The error names with_options()."""
    with pytest.raises(TypeError, match="with_options") as caught:
        task(plain)
    assert "plain" in str(caught.value)


def test_decorator_with_options_by_position_is_type_error():
    """@task(3) is not retries=3."""
    with pytest.raises(TypeError, match="3"):
        task(3)


# Options are checked where they are written


async def _async(*_):
    return False


WRONG_OPTIONS = [
    ("when", _async, TypeError, "a plain function"),
    ("retry_on", _async, TypeError, "a plain function"),
    ("retries", -1, ValueError, "at least 0"),
    ("retries", 1.5, TypeError, "integer"),
    ("retries", 3.0, TypeError, "integer"),
    ("retries", 0.0, TypeError, "integer"),
    ("retries", "3", TypeError, "integer"),
    ("retries", None, TypeError, "integer"),
    ("retries", True, TypeError, "integer"),
    ("retries", False, TypeError, "integer"),
    ("retries", math.inf, TypeError, "integer"),
    ("delay", -0.1, ValueError, "0 or more"),
    ("delay", math.nan, ValueError, "0 or more"),
    ("delay", math.inf, ValueError, "0 or more"),
    ("delay", "1", TypeError, "number"),
    ("delay", None, TypeError, "number"),
    ("delay", True, TypeError, "number"),
    ("backoff", -1, ValueError, "0 or more"),
    ("backoff", math.nan, ValueError, "0 or more"),
    ("backoff", math.inf, ValueError, "0 or more"),
    ("backoff", "2", TypeError, "number"),
    ("max_delay", -1, ValueError, "0 or more"),
    ("max_delay", math.nan, ValueError, "0 or more"),
    ("max_delay", math.inf, ValueError, "0 or more"),
    ("max_delay", "60", TypeError, "number"),
    ("jitter", -0.1, ValueError, "0 to 1"),
    ("jitter", 1.1, ValueError, "0 to 1"),
    ("jitter", math.nan, ValueError, "0 to 1"),
    ("jitter", "0.1", TypeError, "number"),
    ("when", True, TypeError, "function"),
    ("when", "x > 1", TypeError, "function"),
    ("retry_on", 3, TypeError, "exception class"),
    ("retry_on", "OSError", TypeError, "exception class"),
    ("retry_on", int, TypeError, "exception class"),
    ("retry_on", (OSError, int), TypeError, "exception class"),
    ("retry_on", (OSError, "x"), TypeError, "exception class"),
    ("trigger", "always", ValueError, "all_done"),
    ("trigger", None, TypeError, "all_done"),
    ("name", "", ValueError, "at least one character"),
    ("name", 3, TypeError, "string"),
]


@pytest.mark.parametrize("place", ["decorator", "Task", "with_options"])
@pytest.mark.parametrize(("option", "value", "kind", "allowed"), WRONG_OPTIONS, ids=lambda value: repr(value)[:20])
def test_option_error_names_task_option_value_and_allowed_values(place, option, value, kind, allowed):

    def extract():
        return 1

    make = {
        "decorator": lambda options: task(**options)(extract),
        "Task": lambda options: Task(extract, **options),
        "with_options": lambda options: Task(extract).with_options(**options),
    }[place]
    with pytest.raises(kind) as caught:
        make({option: value})
    text = str(caught.value)
    assert "extract" in text
    assert option in text
    assert repr(value) in text or repr(value[1]) in text
    assert allowed in text
    error = caught.value
    assert isinstance(error, FlowkitError)
    assert isinstance(error, TaskOptionTypeError if kind is TypeError else TaskOptionError)
    assert (error.task, error.option) == ("extract", option)


def test_option_error_of_trigger_lists_triggers():
    with pytest.raises(ValueError) as caught:
        task(trigger="all_failed")(lambda: 1)
    for word in ("none_failed", "all_success", "all_done", "one_success", "one_failed"):
        assert word in str(caught.value)


@pytest.mark.parametrize("option", ["retry", "retires", "timeout_s"])
def test_unknown_option_is_type_error_with_its_name(option):
    with pytest.raises(TypeError, match=option):
        task(**{option: 1})(lambda: 1)
    with pytest.raises(TypeError, match=option):
        plain.with_options(**{option: 1})


def test_unknown_option_in_with_options_gets_suggestion():
    """with_options(retires=3)."""
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        plain.with_options(retires=3)


@pytest.mark.parametrize(
    "option",
    [{"delay": 0}, {"backoff": 0}, {"jitter": 0}, {"jitter": 1}, {"max_delay": 0}, {"retries": 0}, {"when": None}],
)
def test_option_at_end_of_range_is_allowed(option):
    """Zero, for example."""
    made = Task(len, **({"retries": 1} | option))
    assert all(getattr(made, name) == value for name, value in option.items())


def test_option_error_of_value_whose_repr_raises():

    class Broken:
        def __repr__(self):
            raise ZeroDivisionError

    with pytest.raises(TypeError, match="Broken"):
        Task(len, retries=Broken())


@pytest.mark.parametrize("wrong", WRONG_OPTIONS, ids=lambda wrong: f"{wrong[0]}={wrong[1]!r}")
def test_option_error_survives_pickling(wrong):
    option, value, kind, _ = wrong
    with pytest.raises(kind) as caught:
        Task(plain.func, **{option: value})
    back = pickle.loads(pickle.dumps(caught.value))
    assert type(back) is type(caught.value)
    assert str(back) == str(caught.value)
    assert (back.task, back.option, back.allowed) == (caught.value.task, caught.value.option, caught.value.allowed)


# Copies


def test_with_options_does_not_change_original():
    changed = plain.with_options(name="changed", retries=5)
    assert (changed.name, changed.retries, changed.func) == ("changed", 5, plain.func)
    assert (plain.name, plain.retries) == ("plain", 0)


def test_with_options_keeps_other_options():
    """Also in a copy of a copy."""
    copied = with_options.with_options(name="second").with_options(delay=7)
    assert (copied.name, copied.retries, copied.delay) == ("second", 2, 7)


def test_with_options_copy_is_unwired():

    @task
    def first():
        return 1

    @task
    def second(x):
        return x

    first >> second
    copied = second.with_options(name="copied")
    assert DAG("lonely", tasks=[copied]).run(params={"x": 5}) == {"copied": 5}
    assert DAG("wired", tasks=[second]).run() == {"first": 1, "second": 1}


# Calling a task


def test_direct_call_calls_function():
    assert plain(41) == 42
    assert plain() == 21
    assert plain(x=1) == 2


def test_direct_call_error_has_note_that_shows_wiring():
    """Only if arguments are missing, not for errors that the function raises."""

    @task
    def load(rows):
        return int(rows, "ten")

    with pytest.raises(TypeError) as caught:
        plain >> load()
    assert caught.value.__notes__ == [
        "flowkit: task 'load' was called: to wire it, write its name without parentheses, upstream >> load"
    ]
    with pytest.raises(TypeError) as caught:
        load("1")
    assert not hasattr(caught.value, "__notes__")


def test_direct_call_retries():
    """It returns the first success."""
    flaky, calls = failing(2)
    assert Task(flaky, retries=2, delay=0)("a") == "done"
    assert calls == [("a",)] * 3


def test_direct_call_with_exhausted_retries_raises_error_of_function():
    """It is the exception object of the last attempt."""
    error = ValueError("always")
    calls = []

    def broken():
        calls.append(1)
        raise error

    with pytest.raises(ValueError) as caught:
        Task(broken, retries=3, delay=0)()
    assert caught.value is error
    assert len(calls) == 4


def test_direct_call_does_not_evaluate_condition():
    assert Task(lambda: "ran", when=lambda: False)() == "ran"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_direct_call_never_retries_interrupt(error):
    """Only an Exception is retried."""
    flaky, calls = failing(1, error)
    with pytest.raises(error):
        Task(flaky, retries=3, delay=0)()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("retry_on", "tries"),
    [
        (None, 3),
        (ValueError, 3),
        (Exception, 3),
        ((OSError, ValueError), 3),
        ([OSError, ValueError], 3),
        (lambda error: "failure" in str(error), 3),
        (OSError, 1),
        ((OSError, KeyError), 1),
        (lambda error: False, 1),
    ],
)
def test_retry_on_selects_exceptions(retry_on, tries):
    """A class, several, or a function of the exception."""
    flaky, calls = failing(9)
    with pytest.raises(ValueError, match=f"failure {tries}"):
        Task(flaky, retries=2, delay=0, retry_on=retry_on)()
    assert len(calls) == tries


@pytest.mark.parametrize("retry_on", [BaseException, KeyboardInterrupt, lambda error: True])
def test_retry_on_never_retries_interrupt(retry_on):
    flaky, calls = failing(1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Task(flaky, retries=3, delay=0, retry_on=retry_on)()
    assert len(calls) == 1


def test_retries_do_not_change_random_state_of_user():
    """Jitter has a generator of its own."""
    random.seed(7)
    expected = random.random()
    random.seed(7)
    flaky, _ = failing(3)
    Task(flaky, retries=3, delay=1e-9)()
    assert random.random() == expected


def test_direct_call_in_another_task():

    @task
    def helper(x):
        return x * 2

    @task
    def main():
        return helper(21)

    assert DAG("nested", tasks=[main]).run() == {"main": 42}


# async def


def test_async_task_is_awaited():
    """The result is the value, never a coroutine."""

    @task
    async def fetch():
        await asyncio.sleep(0)
        return 20

    @task
    async def add(fetch):
        return fetch + 1

    @task
    def show(add):
        return f"{add}"

    fetch >> add >> show
    assert DAG("async", tasks=[show]).run() == {"fetch": 20, "add": 21, "show": "21"}


def test_async_task_error_has_no_context():
    async def fail():
        raise ValueError("in async")

    with pytest.raises(ValueError, match="in async") as caught:
        DAG("async", tasks=[Task(fail)]).run("serial")
    assert caught.value.__context__ is None


def test_async_task_is_retried_and_fails():
    calls = []

    @task(retries=1, delay=0)
    async def broken():
        calls.append(1)
        raise ValueError("async boom")

    with pytest.raises(ValueError, match="async boom"):
        DAG("async", tasks=[broken]).run()
    assert len(calls) == 2


def passed_on(function):
    """Return a function that returns what another returns, be it a coroutine."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def finished(function):
    """Return a plain function that runs a coroutine function to its end."""

    @functools.wraps(function)
    def wrapper(*args):
        return asyncio.run(function(*args))

    return wrapper


DECORATORS = {
    "one that passes on": passed_on,
    "two of them": lambda function: passed_on(passed_on(function)),
    "one that runs the loop": finished,
    "one inside a partial": lambda function: functools.partial(passed_on(function)),
    "one around a partial": lambda function: passed_on(functools.partial(function)),
}


@pytest.mark.parametrize("decorator", DECORATORS)
def test_async_task_under_decorator_is_awaited(decorator):
    """Exceptions of the coroutine are retried."""
    calls = []

    async def fetch():
        await asyncio.sleep(0)
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not yet")
        return "fetched"

    fetch = Task(DECORATORS[decorator](fetch), name="fetch", retries=1, delay=0)
    assert DAG("async", tasks=[fetch]).run("serial") == {"fetch": "fetched"}
    assert len(calls) == 2


def test_async_detection_with_cyclic_wrapped():
    """__wrapped__ forms a cycle."""

    def one():
        return 1

    one.__wrapped__ = two = lambda: 2
    two.__wrapped__ = one
    assert DAG("circle", tasks=[Task(one)]).run("serial") == {"one": 1}


def test_async_task_runs_in_running_event_loop():
    """For example, in a notebook."""

    @task
    async def fetch():
        await asyncio.sleep(0)
        return 1

    async def cell():
        return DAG("notebook", tasks=[fetch]).run()

    assert asyncio.run(cell()) == {"fetch": 1}


def test_async_task_direct_call_can_be_awaited():
    """With retries."""
    calls = []

    @task(retries=1, delay=0)
    async def fetch(x):
        calls.append(x)
        if len(calls) == 1:
            raise OSError
        return x

    async def main():
        return await fetch(3)

    assert asyncio.run(main()) == 3
    assert calls == [3, 3]


@pytest.mark.parametrize("kind", ["partial", "callable object"])
def test_async_callable_of_other_kinds_is_awaited(kind):
    """A partial of an async function, or an object with an async __call__."""

    async def fetch(x):
        return x

    class Fetcher:
        async def __call__(self):
            return 5

    made = Task(functools.partial(fetch, 5) if kind == "partial" else Fetcher(), name="fetch")
    assert DAG("async", tasks=[made]).run() == {"fetch": 5}


# Pickling


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["plain", "with_options", "another_plain"])
def test_pickle_of_task_of_module(name, protocol, importable):
    """Name, options and function are equal."""
    original = getattr(importable, name)
    back = pickle.loads(pickle.dumps(original, protocol))
    assert (back.name, back.retries, back.func) == (original.name, original.retries, original.func)


def test_pickle_of_decorated_function_is_by_reference(importable):
    """Unpickling returns the same object."""
    text = pickle.dumps(importable.plain)
    assert pickle.loads(text) is importable.plain
    assert len(text) < 200


def test_pickle_of_wired_task_excludes_pipeline(importable):
    """Its size does not depend on the chain."""
    previous = importable.plain
    for position in range(10_000):
        following = importable.plain.with_options(name=f"plain_{position}")
        previous >> following
        previous = following
    assert len(pickle.dumps(importable.plain)) < 200
    assert len(pickle.dumps(previous)) < 1_000


def test_unpickled_task_is_not_discovered(importable):
    text = pickle.dumps(importable.another_plain)
    made = Task(lambda: 1, name="made")
    pickle.loads(text)
    assert DAG("after").tasks == (made,)


@pytest.fixture
def importable(monkeypatch, tmp_path):
    """A module that can be imported by name, with three tasks."""
    import importlib
    import sys

    (tmp_path / "pickled_tasks.py").write_text(
        "from flowkit_core import task\n"
        "@task\ndef plain(x=1): return x\n"
        "@task(name='other', retries=2)\ndef with_options(): return 1\n"
        "another_plain = plain.with_options(name='another_plain', retries=4)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("pickled_tasks")
    sys.modules.pop("pickled_tasks", None)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy_of_task_can_be_called(duplicate):
    """copy(), deepcopy() and pickle of a structure with tasks."""
    assert duplicate({"step": plain})["step"](1) == 2


# RetryPolicy


def test_retry_policy_schedule_is_documented_one():
    """1 s, 2 s, 4 s, 8 s, 16 s."""
    policy = RetryPolicy(retries=5, jitter=0)
    assert [policy.wait(k) for k in range(1, 6)] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({"delay": 2.0, "backoff": 3.0}, [2, 6, 18]),
        ({"delay": 0}, [0, 0, 0]),
        ({"backoff": 1}, [1, 1, 1]),
        ({"backoff": 0}, [1, 0, 0]),
        ({"backoff": 0.5}, [1, 0.5, 0.25]),
        ({"delay": 100, "backoff": 10, "max_delay": 500}, [100, 500, 500]),
        ({"delay": 9000}, [3600, 3600, 3600]),
    ],
)
def test_retry_policy_wait_is_at_most_max_delay(options, waits):
    """delay * backoff**(k-1), capped."""
    policy = RetryPolicy(retries=3, jitter=0, **options)
    assert [policy.wait(k) for k in (1, 2, 3)] == waits


def test_retry_policy_huge_backoff_does_not_overflow():
    """The wait before the thousandth retry is max_delay."""
    policy = RetryPolicy(retries=5000, backoff=10.0, jitter=0)
    assert policy.wait(5000) == 3600.0


@pytest.mark.parametrize("jitter", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("drawn", [0.0, 0.25, 0.5, 0.999])
def test_retry_policy_jitter_is_within_its_range(jitter, drawn):
    """The factor is in [1 - jitter, 1 + jitter]."""
    waited = RetryPolicy(retries=1, delay=10, jitter=jitter).wait(1, lambda: drawn)
    assert 10 * (1 - jitter) <= waited <= 10 * (1 + jitter)


def test_retry_policies_compare_by_value():
    """The repr shows their options."""
    assert RetryPolicy(3, 1.0) == RetryPolicy(retries=3, delay=1)
    assert RetryPolicy(3) != RetryPolicy(4)
    assert hash(RetryPolicy(3, 1.0)) == hash(RetryPolicy(retries=3, delay=1))
    assert "retries=3" in repr(RetryPolicy(3))


# Names are data


@pytest.mark.parametrize(
    "name", ["ünïcödé 名前", "two\nlines", "nul\0byte", "\x1b[31mred", "%s %d {} {0}", "../../etc/passwd", "x" * 10_000]
)
def test_task_name_may_be_any_string(name):
    """Any string that is not empty is a key of the results and appears in errors."""
    named = Task(lambda: 1, name=name)
    broken = Task(lambda: 1 / 0, name=f"{name}!")
    assert DAG("names", tasks=[named]).run() == {name: 1}
    assert DAG("names", tasks=[named]).visualize()
    with pytest.raises(ZeroDivisionError):
        DAG(name, tasks=[broken]).run()


def test_binding_error_with_percent_signs_is_formatted_once():
    odd = Task(lambda x: x, name="100%s {x}")
    with pytest.raises(BindingError) as caught:
        DAG("names", tasks=[odd]).run()
    assert "100%s {x}" in str(caught.value)
