"""Options of tasks: they are checked when the task is created, and copied by `with_options()`."""

from __future__ import annotations

import math
import pickle

import pytest

from flowkit_core import DAG, FlowkitError, Task, TaskOptionError, TaskOptionTypeError, task


@task
def plain(x: int = 20) -> int:
    """Return one more."""
    return x + 1


@task(name="a name of its own", retries=2, delay=0)
def with_options():
    return "options"


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
        task(trigger="any_failed")(lambda: 1)
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
