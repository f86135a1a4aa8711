"""Conditions, skips and triggers: which tasks run, their arguments, and the reasons of those that do not run."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, BindingError, Task, task


def value(name, result=None, **options):
    """Return a task without parameters that returns a value, by default its name."""
    return Task(lambda: name if result is None else result, name=name, **options)


def skipped(name):
    """Return a task that is always skipped."""
    return Task(lambda: name, name=name, when=lambda: False)


def failing(name, error=None):
    """Return a task that fails."""

    def fail():
        raise error or ValueError(name)

    return Task(fail, name=name)


def run(*tasks, **options):
    """Run everything upstream of these tasks, one by one."""
    return DAG("conditions", tasks=tasks).run("serial", **options)


# when


@pytest.mark.parametrize(
    ("func", "when", "seen"),
    [
        (lambda x: x, lambda x: x, ("a",)),
        (lambda x, y, z: 0, lambda x: x, ("a",)),
        (lambda x, y, z: 0, lambda x, y: x, ("a", "b")),
        (lambda x, y, z: 0, lambda *args: args, ("a", "b", "c")),
        (lambda x, y, z: 0, lambda: 1, ()),
        (lambda *args: 0, lambda *args: args, ("a", "b", "c")),
        (lambda *args: 0, lambda first, second: first, ("a", "b")),
        (lambda x, *args: 0, lambda x, y: x, ("a", "b")),
        (lambda c, b, a: 0, lambda first, second, third: first, ("c", "b", "a")),
        (lambda b, *args: 0, lambda *args: args, ("b", "a", "c")),
        (lambda x, y, z, limit=5: 0, lambda x, y, z, limit: limit, ("a", "b", "c", 5)),
    ],
)
def test_condition_gets_as_many_arguments_of_task_as_it_accepts(func, when, seen):
    """In order of the task's parameters, not of its upstreams."""
    import functools

    calls = []

    @functools.wraps(when)
    def condition(*args):
        calls.append(args)
        return True

    sink = Task(func, name="sink", when=condition)
    count = func.__code__.co_argcount or 3
    names = "abc"[:1] if count == 1 and not func.__code__.co_flags & 0x04 else "abc"
    [value(name) for name in names] >> sink
    run(sink)
    assert calls == [seen]


def test_condition_gets_params_and_defaults():
    """The arguments are those of the task's own call."""
    calls = []
    made = Task(lambda day, limit=3: day, name="made", when=lambda day, limit: calls.append((day, limit)))
    assert run(made, params={"day": "monday"}) == {}
    assert calls == [("monday", 3)]


def test_condition_gets_default_in_place_of_skipped_upstream():
    calls = []
    made = Task(lambda a=1, b=2: (a, b), name="made", when=lambda *args: calls.append(args) or True)
    [skipped("a"), value("b")] >> made
    assert run(made) == {"b": "b", "made": (1, "b")}
    assert calls == [(1, "b")]


@pytest.mark.parametrize(
    ("answer", "runs"), [(True, True), (False, False), (None, False), (0, False), ([], False), (1, True), ("no", True)]
)
def test_condition_result_counts_by_its_truth(answer, runs):
    """It need not be a bool."""
    results = run(Task(lambda: "ran", name="made", when=lambda: answer))
    assert results == ({"made": "ran"} if runs else {})
    assert results.states == {"made": "succeeded" if runs else "skipped"}


def test_condition_false_skips_task_with_reason():
    results = run(skipped("a"))
    assert results.skipped == {"a": "its condition was false"}
    assert "a" not in results
    assert results.durations == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(None, "its condition returned None"), ([], "its condition was false"), (0, "its condition was false")],
    ids=repr,
)
def test_condition_without_return_skips_task_with_reason(answer, reason):
    results = run(Task(int, name="a", when=lambda: answer))
    assert results.skipped == {"a": reason}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, TypeError])
def test_condition_that_raises_fails_task(error):
    """The exception object is raised, and the function does not run."""
    ran = []
    raised = error("in the condition")

    def condition():
        raise raised

    made = Task(lambda: ran.append(1), name="made", when=condition)
    with pytest.raises(error) as caught:
        run(made)
    assert caught.value is raised
    assert ran == []
    assert caught.value.flowkit_results.states == {"made": "failed"}


def test_condition_result_whose_truth_raises_fails_task():
    """For example, an array."""

    class Array:
        def __bool__(self):
            raise ValueError("the truth value of an array is ambiguous")

    with pytest.raises(ValueError, match="ambiguous"):
        run(Task(lambda: 1, name="made", when=Array))


def test_condition_with_too_many_parameters_is_error():
    """The task has fewer arguments."""
    with pytest.raises(TypeError):
        run(Task(lambda: 1, name="made", when=lambda x: x))


def test_condition_is_evaluated_once_with_retries():
    asked, tries = [], []

    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError
        return "done"

    made = Task(flaky, name="made", when=lambda: asked.append(1) or True, retries=5, delay=0)
    assert run(made) == {"made": "done"}
    assert (len(asked), len(tries)) == (1, 3)


def test_condition_that_raises_is_not_retried():
    asked = []
    made = Task(lambda: 1, name="made", when=lambda: asked.append(1) or 1 / 0, retries=3, delay=0)
    with pytest.raises(ZeroDivisionError):
        run(made)
    assert len(asked) == 1


def test_condition_of_task_that_cannot_run_is_not_evaluated():
    """An upstream failed, or an argument is missing."""
    asked = []
    made = Task(lambda x: x, name="made", when=lambda x: asked.append(x) or True)
    skipped("a") >> made
    assert run(made) == {}
    failing("b") >> made.with_options(name="other")
    assert asked == []


def test_condition_of_documented_example():
    """check_data >> [handle_large_data, handle_small_data]."""

    @task
    def check_data():
        return 1500

    @task(when=lambda x: x > 1000)
    def handle_large_data(value):
        return f"Processing large dataset: {value}"

    @task(when=lambda x: x <= 1000)
    def handle_small_data(value):
        return f"Processing small dataset: {value}"

    check_data >> [handle_large_data, handle_small_data]
    results = run(handle_large_data, handle_small_data)
    assert results == {"check_data": 1500, "handle_large_data": "Processing large dataset: 1500"}
    assert list(results.skipped) == ["handle_small_data"]


@pytest.mark.parametrize(("size", "approval"), [(1200, "MANUAL_APPROVAL"), (800, "AUTO_APPROVED")])
def test_conditions_of_documented_approval_workflow(size, approval):
    """One of two approvals is skipped, and its parameter takes the default."""

    @task()
    def extract():
        return size

    @task()
    def transform(data_size):
        return data_size * 2

    @task(when=lambda x: x > 2000)
    def require_manual_approval(size):
        return "MANUAL_APPROVAL"

    @task(when=lambda x: x <= 2000)
    def auto_approve(size):
        return "AUTO_APPROVED"

    @task()
    def load(transform_result, manual=None, auto=None):
        return f"LOADED_{transform_result}_{manual or auto}"

    extract >> transform
    transform >> [require_manual_approval, auto_approve]
    [transform, require_manual_approval, auto_approve] >> load
    results = run(load)
    assert results["load"] == f"LOADED_{size * 2}_{approval}"
    assert len(results) == 4


# What a skip means downstream


def test_result_none_is_present_and_skipped_task_is_absent():
    none, gone = Task(lambda: None, name="none"), skipped("gone")
    results = run(none, gone)
    assert results == {"none": None}
    assert results.states == {"none": "succeeded", "gone": "skipped"}


def test_result_none_is_not_replaced_by_default():
    none, sink = Task(lambda: None, name="none"), Task(lambda x="default": [x], name="sink")
    none >> sink
    assert run(sink)["sink"] == [None]


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (lambda a=1, b=2, c=3: (a, b, c), ("a", 2, "c")),
        (lambda a, b=2, c=3: (a, b, c), ("a", 2, "c")),
        (lambda a, b=2, *, c: (a, b, c), ("a", 2, "c")),
        (lambda a, c, b=2: (a, c, b), ("a", "c", 2)),
        (lambda a=1, b=2, c=3, /: (a, b, c), ("a", 2, "c")),
        (lambda a, *, b=2, c: (a, b, c), ("a", 2, "c")),
        (lambda a, b=2, *rest: (a, b, rest), ("a", 2, ("c",))),
        (lambda *args: args, ("a", "c")),
        (lambda a, *args: (a, args), ("a", ("c",))),
        (lambda **kwargs: kwargs, {"a": "a", "c": "c"}),
    ],
)
def test_parameter_with_default_of_skipped_upstream_takes_default(func, expected):
    """The other parameters keep their sources; ``*args`` takes the results of upstreams that ran."""
    sink = Task(func, name="sink")
    [value("a"), skipped("b"), value("c")] >> sink
    results = run(sink)
    assert results["sink"] == expected
    assert list(results.skipped) == ["b"]


@pytest.mark.parametrize(
    "func", [lambda a, b, c: 0, lambda a, b, c=1: 0, lambda b, *rest: 0, lambda a, *, b, c: 0, lambda a, b, /, c: 0]
)
def test_parameter_without_default_of_skipped_upstream_skips_task(func):
    """The reason names the parameter and the upstream."""
    sink = Task(func, name="sink")
    [value("a"), skipped("b"), value("c")] >> sink
    results = run(sink)
    assert results.states["sink"] == "skipped"
    assert '"b"' in results.skipped["sink"]
    assert "default" in results.skipped["sink"]


def test_skip_propagates_down_a_chain():
    """Each reason names the task's own upstream."""
    a = skipped("a")
    b, c = Task(lambda x: x, name="b"), Task(lambda x: x, name="c")
    a >> b >> c
    results = run(c)
    assert results == {}
    assert results.states == {"a": "skipped", "b": "skipped", "c": "skipped"}
    assert '"a"' in results.skipped["b"]
    assert '"b"' in results.skipped["c"]


@pytest.mark.parametrize("func", [lambda *args: args, lambda: ()], ids=["only *args", "no inputs"])
@pytest.mark.parametrize(
    ("upstream", "runs"), [("ss", False), ("sv", True), ("vs", True), ("vv", True), ("s", False), ("", True)]
)
def test_task_with_star_args_is_skipped_if_all_upstreams_are(func, upstream, runs):
    """One upstream that ran is enough; a task without upstreams always runs."""
    tasks = [skipped(f"t{i}") if kind == "s" else value(f"t{i}") for i, kind in enumerate(upstream)]
    sink = Task(func, name="sink")
    tasks >> sink
    results = run(sink)
    assert results.states["sink"] == ("succeeded" if runs else "skipped")
    if runs and func.__code__.co_flags & 0x04:
        assert results["sink"] == tuple(f"t{i}" for i, kind in enumerate(upstream) if kind == "v")
    if not runs:
        assert "skipped" in results.skipped["sink"]


@pytest.mark.parametrize("func", [lambda a=1: a, lambda x=1: x, lambda *, a=1: a, lambda a=1, *rest: a])
def test_task_with_defaults_runs_if_all_upstreams_are_skipped(func):
    sink = Task(func, name="sink")
    skipped("a") >> sink
    assert run(sink) == {"sink": 1}


def test_params_do_not_replace_skipped_upstream():
    """The parameter takes its default."""
    sink = Task(lambda a="default", day=0: (a, day), name="sink")
    skipped("a") >> sink
    assert run(sink, params={"day": 3}) == {"sink": ("default", 3)}


def test_skipped_upstream_is_never_passed_as_none():
    """Nor is a failed or cancelled one."""
    seen = []

    def note(*args, **kwargs):
        seen.extend(args)

    cleaners = [
        Task(note, name=f"cleaner_{trigger}", trigger=trigger) for trigger in ("all_done", "one_success", "one_failed")
    ]
    [value("v"), skipped("s"), failing("f")] >> Task(
        lambda v, s=1, f=2: note(v, s, f), name="named", trigger="all_done"
    )
    with pytest.raises(ValueError):
        run(*[(Task(lambda: "x", name=f"x{i}") >> cleaner) for i, cleaner in enumerate(cleaners)], failing("g"))
    sink = Task(note, name="sink", trigger="all_done")
    [value("a"), skipped("b"), failing("c")] >> sink
    with pytest.raises(ValueError):
        run(sink, fail_fast=True)
    assert None not in seen


# Triggers

OUTCOMES = {"v": value, "s": skipped, "f": failing}

RUNS = {
    "none_failed": {"": 1, "v": 1, "s": 0, "f": 0, "vv": 1, "vs": 1, "ss": 0, "vf": 0, "sf": 0, "ff": 0},
    "all_success": {"": 1, "v": 1, "s": 0, "f": 0, "vv": 1, "vs": 0, "ss": 0, "vf": 0, "sf": 0, "ff": 0},
    "all_done": {"": 1, "v": 1, "s": 1, "f": 1, "vv": 1, "vs": 1, "ss": 1, "vf": 1, "sf": 1, "ff": 1},
    "one_success": {"v": 1, "s": 0, "f": 0, "vv": 1, "vs": 1, "ss": 0, "vf": 1, "sf": 0, "ff": 0},
    "one_failed": {"v": 0, "s": 0, "f": 1, "vv": 0, "vs": 0, "ss": 0, "vf": 1, "sf": 1, "ff": 1},
}


@pytest.mark.parametrize("func", [lambda: "ran", lambda *args: "ran"], ids=["no inputs", "only *args"])
@pytest.mark.parametrize(
    ("trigger", "upstream", "runs"), [(t, u, bool(r)) for t, row in RUNS.items() for u, r in row.items()]
)
def test_trigger_decides_by_states_of_upstreams(trigger, upstream, runs, func):
    """Every trigger with every mixture of succeeded (v), skipped (s) and failed (f) upstreams."""
    tasks = [OUTCOMES[kind](f"{kind}{i}") for i, kind in enumerate(upstream)]
    sink = Task(func, name="sink", trigger=trigger)
    tasks >> sink
    results = run(sink, fail_fast=False, raise_on_failure=False)
    state = results.states["sink"]
    assert (state == "succeeded") == runs, state
    if not runs:
        expected = (
            {"skipped", "upstream_failed"}
            if trigger in ("one_success", "all_success")
            else {"upstream_failed" if "f" in upstream else "skipped"}
        )
        assert state in expected
    if state == "skipped":
        assert results.skipped["sink"]


@pytest.mark.parametrize(
    ("trigger", "state"),
    [("all_success", "succeeded"), ("all_done", "succeeded"), ("one_success", "succeeded"), ("one_failed", "skipped")],
)
@pytest.mark.parametrize("first", [value, skipped, failing])
def test_trigger_without_upstreams_runs_task(trigger, state, first):
    """Except one_failed."""
    other = first("other")
    root = Task(lambda: "ran", name="root", trigger=trigger)
    results = run(other, root, fail_fast=False, raise_on_failure=False)
    assert results.states["root"] == state


@pytest.mark.parametrize("trigger", ["all_done", "one_failed"])
def test_trigger_one_failed_fires_for_upstream_failed(trigger):
    """The failure is further up; the direct upstream ends as upstream_failed."""
    first, second = failing("first"), Task(lambda x: x, name="second")
    alert = Task(lambda: "rang", name="alert", trigger=trigger)
    first >> second >> alert
    results = run(alert, raise_on_failure=False)
    assert results == {"alert": "rang"}
    assert results.states == {"first": "failed", "second": "upstream_failed", "alert": "succeeded"}


def test_trigger_does_not_fill_missing_arguments():
    """With all_done, a parameter of a failed upstream takes its default, or the task does not run."""
    broken = failing("broken")
    with_default = Task(lambda x="default": x, name="with_default", trigger="all_done")
    without = Task(lambda x: x, name="without", trigger="all_done")
    broken >> [with_default, without]
    with pytest.warns(RuntimeWarning, match="'without' .* does not run after a failure: .* 'x' .* 'broken'"):
        results = run(with_default, without, raise_on_failure=False)
    assert results == {"with_default": "default"}
    assert results.states["without"] == "upstream_failed"


def test_star_args_of_clean_up_task_take_results_that_exist():
    """In order of declaration."""
    sink = Task(lambda *args: args, name="sink", trigger="all_done")
    [value("a"), failing("b"), skipped("c"), value("d")] >> sink
    results = run(sink, fail_fast=False, raise_on_failure=False)
    assert results["sink"] == ("a", "d")


def test_trigger_is_evaluated_before_condition():
    asked = []
    sink = Task(lambda: "ran", name="sink", trigger="one_failed", when=lambda: asked.append(1))
    value("a") >> sink
    other = sink.with_options(name="other")
    failing("b") >> other
    results = run(sink, other, fail_fast=False, raise_on_failure=False)
    assert results.states["sink"] == results.states["other"] == "skipped"
    assert results.skipped["sink"] != results.skipped["other"] == "its condition returned None"
    assert asked == [1]


def test_downstream_of_clean_up_task_follows_default_trigger():
    """A task that needs the result of an alert that did not run is skipped."""
    alert = Task(lambda: "rang", name="alert", trigger="one_failed")
    follow = Task(lambda alert: alert, name="follow")
    value("fine") >> alert >> follow
    assert run(follow).states == {"fine": "succeeded", "alert": "skipped", "follow": "skipped"}


# Invalid conditions


@pytest.mark.parametrize(
    ("func", "when", "most"),
    [
        (lambda slow: slow, lambda a, b: a > b, 1),
        (lambda: 1, lambda a: a, 0),
        (lambda slow, *, fast=1: slow, lambda a, b, c: a, 2),
    ],
    ids=["one more", "of a task without parameters", "with one by keyword"],
)
def test_condition_with_too_many_parameters_is_found_before_run(func, when, most):
    ran = []
    slow, then = Task(lambda: ran.append("slow"), name="slow"), Task(func, name="then", when=when)
    slow >> then
    with pytest.raises(BindingError, match=f"the condition .* of task 'then' takes .* take {most} at most"):
        run(then)
    assert ran == []


@pytest.mark.parametrize(
    ("func", "when"),
    [
        (lambda *all_: all_, lambda a, b: True),
        (lambda slow: slow, lambda a, b=2: True),
        (lambda slow: slow, lambda *all_: True),
        (lambda slow: slow, max),
        (lambda slow, **others: slow, lambda a, b: True),
    ],
)
def test_condition_that_may_fit_is_accepted(func, when):
    sources, then = [value(name) for name in ("slow", "fast")], Task(func, name="then", when=when)
    sources[: 2 if func.__code__.co_flags & 0x0C else 1] >> then
    assert "then" in run(then)


def test_condition_that_raises_adds_note():
    def when():
        raise ValueError("the truth of an array is ambiguous")

    with pytest.raises(ValueError, match="ambiguous") as caught:
        run(value("a", when=when))
    assert caught.value.__notes__[0] == "flowkit: the condition (when=) of task 'a' raised this"
