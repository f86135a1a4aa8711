"""Creation of tasks: by decorator or by class, from functions and other callables, with any name."""

from __future__ import annotations

import functools
import inspect
import operator

import pytest

from flowkit_core import DAG, BindingError, Task, task


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


class Adder:
    """An object that can be called."""

    def __init__(self, amount):
        self.amount = amount

    def __call__(self, x):
        return x + self.amount


@pytest.mark.parametrize("made", [plain, with_parentheses, with_options, Task(len)])
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
