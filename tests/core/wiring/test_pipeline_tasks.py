"""Pipelines that are used as tasks: names, edges, parameters, conditions, options, errors."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core import (
    DAG,
    BindingError,
    DAGCycleError,
    DuplicateTaskError,
    MissingResultError,
    Pipeline,
    Skip,
    Task,
    TaskOptionTypeError,
    UnknownPoolError,
    WiringError,
)
from flowkit_core.testing import simulate_many


def add(x, y=0):
    return x + y


def build(*, name="inner", **options):
    """Return a pipeline of two tasks: ``first(path, mode="r") >> second``."""
    first = Task(lambda path, mode="r": f"{path}:{mode}", name="first", **options)
    second = Task(lambda first: first.upper(), name="second")
    first >> second
    return DAG(name, tasks=[second])


def run(*ends, **options):
    return DAG("outer", tasks=ends).run("serial", **options)


# ---- names and results -----------------------------------------------------------------------------------------------


def test_tasks_have_the_name_of_the_pipeline_before_theirs():
    inner = build().as_task(name="clean")
    last = Task(len, name="last")
    inner >> last
    results = run(last, params={"path": "a"})
    assert results == {"clean.first": "a:r", "clean.second": "A:R", "clean": "A:R", "last": 3}
    assert list(results) == ["clean.first", "clean.second", "clean", "last"]
    assert list(results.states) == ["clean.first", "clean.second", "last"]


def test_name_is_that_of_the_pipeline_by_default():
    assert build(name="clean").as_task().name == "clean"


def test_keep_names_the_output_or_a_task_inside():
    inner = build().as_task(name="clean")
    assert run(inner, params={"path": "a"}, keep=["clean"]) == {"clean": "A:R"}
    results = run(inner, params={"path": "a"}, keep=["clean.first"])
    assert results == {"clean.first": "a:r"}
    with pytest.raises(MissingResultError, match=r"does not name it"):
        results["clean"]
    with pytest.raises(ValueError, match=r"names 'clea', .*did you mean 'clean'"):
        run(inner, params={"path": "a"}, keep=["clea"])


def test_missing_output_says_what_its_task_ended_as():
    skipped = Task(lambda: 1, name="skipped", when=lambda: False)
    results = run(DAG("d", tasks=[skipped]).as_task(name="clean"))
    with pytest.raises(MissingResultError, match=r"'clean.*result of 'clean.skipped': it ended as skipped"):
        results["clean"]
    copied = pickle.loads(pickle.dumps(results))
    with pytest.raises(MissingResultError, match=r"result of 'clean.skipped'"):
        copied["clean"]


def test_output_in_the_middle():
    inner = build().as_task("first", name="clean")
    assert run(inner, params={"path": "a"})["clean"] == "a:r"


def test_output_of_a_pipeline_task():
    middle = DAG("middle", tasks=[build().as_task(name="clean")])
    results = run(middle.as_task("clean"), params={"path": "a"})
    assert results["middle"] == results["middle.clean"] == "A:R"


def test_two_uses_and_several_levels():
    inner = build()
    left, right = inner.as_task(name="left"), inner.as_task(name="right")
    left >> right
    deep = DAG("deep", tasks=[right])
    results = run(deep.as_task(), params={"deep.left.path": "a"})
    assert results["deep"] == "A:R:R"
    assert list(results.states) == ["deep.left.first", "deep.left.second", "deep.right.first", "deep.right.second"]


def test_subclass_of_pipeline_with_a_graph():
    class Wrapped(Pipeline):
        def graph(self):
            return build().graph()

    assert run(Wrapped("w").as_task(), params={"path": "a"})["w"] == "A:R"


def test_direct_call_runs_the_pipeline():
    inner = build().as_task()
    assert inner("a", mode="w") == inner(path="a", mode="w") == "A:W"
    with pytest.raises(TypeError, match="takes path, mode, but was called with 3"):
        inner(1, 2, 3)
    with pytest.raises(TypeError, match="two values for 'path'"):
        inner(1, path=2)


# ---- parameters and upstreams ----------------------------------------------------------------------------------------


def test_upstreams_fill_open_parameters_by_name_then_by_order():
    mode, source = Task(lambda: "w", name="mode"), Task(lambda: "a", name="source")
    inner = build().as_task()
    [mode, source] >> inner
    assert run(inner)["inner"] == "A:W"


def test_one_upstream_fills_a_parameter_of_several_tasks():
    one, two = Task(lambda day: day, name="one"), Task(lambda day, one: (day, one), name="two")
    one >> two
    day = Task(lambda: "monday", name="today")
    inner = DAG("inner", tasks=[two]).as_task()
    day >> inner
    assert run(inner)["inner"] == ("monday", "monday")


def test_too_many_upstreams_are_an_error():
    ups = [Task(lambda: 1, name=name) for name in "abc"]
    inner = build().as_task()
    ups >> inner
    with pytest.raises(BindingError, match=r"task 'inner' takes 2 arguments, .*but 3 upstream results arrive"):
        run(inner)


def test_params_by_parameter_by_pipeline_and_by_task():
    inner = build()
    one, two, three = (inner.as_task(name=name) for name in ("one", "two", "three"))
    results = run(
        one, two, three, params={"path": "a", "two.path": "b", "two.first.mode": "w", "three.first.path": "c"}
    )
    assert [results[name] for name in ("one", "two", "three")] == ["A:R", "B:W", "C:R"]
    both = run(one, params={"one.path": "wide", "one.first.path": "narrow"})
    assert both["one"] == "NARROW:R"


def test_params_of_a_pipeline_task_are_those_of_its_condition():
    middle = DAG("middle", tasks=[build().as_task(when=lambda path: path == "a")])
    for name in ("path", "outer.path", "outer.inner.path"):
        assert run(middle.as_task(name="outer"), params={name: "a"})["outer"] == "A:R"


def test_unknown_parameter_of_a_pipeline_task():
    with pytest.raises(BindingError, match=r"'inner.pat'.*did you mean 'inner.path'"):
        run(build().as_task(), params={"inner.pat": 1, "path": 2})
    with pytest.raises(BindingError, match=r"task 'inner.first' takes 'path'"):
        run(build().as_task())


def test_parameters_lists_what_is_open_inside():
    parameters = DAG("outer", tasks=[build().as_task()]).parameters
    assert [str(each) for each in parameters.values()] == [
        "path, required by inner.first",
        "mode='r', taken by inner.first",
    ]


def test_upstream_without_a_parameter_is_waited_for():
    order = []
    lock = Task(lambda: order.append("lock"), name="lock")
    inside = Task(lambda: order.append("inside"), name="inside")
    inner = DAG("inner", tasks=[inside]).as_task()
    lock >> inner
    run(inner)
    assert order == ["lock", "inside"]


def test_after_in_both_directions():
    order = []
    one, two, three = (Task(lambda name=name: order.append(name), name=name) for name in ("one", "two", "three"))
    inner = DAG("inner", tasks=[two]).as_task()
    three.after(inner.after(one))
    run(three)
    assert order == ["one", "two", "three"]


def test_rule_of_the_inner_pipeline_is_kept():
    """A name of a task outside is not seen inside, and the other way round."""
    first_outside = Task(lambda: "outside", name="first")
    inner = build().as_task()
    first_outside >> inner  # fills `path`, not the parameter `first` of `second`
    assert run(inner)["inner"] == "OUTSIDE:R"


def test_group_of_pipeline_tasks():
    inner = build()
    both = [inner.as_task(name="left"), inner.as_task(name="right")]
    start, last = Task(lambda: "a", name="start"), Task(lambda left, right: left + right, name="last")
    start >> both >> last
    assert run(last)["last"] == "A:RA:R"


def test_task_downstream_waits_for_all_ends_of_a_pipeline():
    output, other = Task(lambda: 1, name="output"), Task(lambda: 1 / 0, name="other")
    inner = DAG("inner", tasks=[output, other]).as_task("output")
    last = Task(add, name="last")
    inner >> last
    states = run(last, raise_on_failure=False, fail_fast=False).states
    assert states == {"inner.output": "succeeded", "inner.other": "failed", "last": "upstream_failed"}


@pytest.mark.parametrize(
    ("trigger", "state"),
    [("all_done", "succeeded"), ("one_failed", "succeeded"), ("all_failed", "skipped"), ("one_success", "succeeded")],
)
def test_triggers_downstream_of_a_pipeline_with_a_failed_end(trigger, state):
    """For ``all_failed`` and ``one_success``, a pipeline counts as its output."""
    output, other = Task(lambda: 1, name="output"), Task(lambda: 1 / 0, name="other")
    inner = DAG("inner", tasks=[output, other]).as_task("output")
    last = Task(lambda: None, name="last", trigger=trigger)
    inner >> last
    assert run(last, raise_on_failure=False, fail_fast=False).states["last"] == state


# ---- skipping and failing --------------------------------------------------------------------------------------------


def with_clean_up(calls):
    """Return a pipeline with a task that has a default and one that runs whatever happens."""
    first = Task(lambda path: path, name="first")
    second = Task(lambda first="none": calls.append(first) or first, name="second")
    always = Task(lambda: calls.append("always"), name="always", trigger="all_done")
    first >> second
    always.after(second)
    return DAG("inner", tasks=[always])


def test_false_condition_skips_all_of_it():
    calls = []
    inner = with_clean_up(calls).as_task("second", when=lambda path: path != "no")
    last = Task(lambda inner="default": inner, name="last")
    inner >> last
    results = run(last, params={"path": "no"})
    assert results == {"last": "default"}
    assert set(results.skipped) == {"inner.when", "inner.first", "inner.second", "inner.always"}
    assert calls == []
    assert run(last, params={"path": "yes"})["last"] == "yes"
    assert calls == ["yes", "always"]


def test_condition_is_evaluated_once():
    calls = []
    parts = [Task(lambda: 1, name=name) for name in "abc"]
    inner = DAG("inner", tasks=parts).as_task("a", when=lambda: calls.append(1) or True)
    assert run(inner)["inner.when"] is True
    assert calls == [1]


def test_condition_that_raises_is_a_failure_of_its_own():
    inner = build().as_task(when=lambda path: 1 / 0)
    results = run(inner, params={"path": "a"}, raise_on_failure=False, fail_fast=False)
    assert results.states == {
        "inner.when": "failed",
        "inner.first": "upstream_failed",
        "inner.second": "upstream_failed",
    }


def test_skipped_upstream_skips_all_of_it():
    calls = []

    def nothing():
        raise Skip("no new files")

    new = Task(nothing, name="new")
    inner = with_clean_up(calls).as_task("second")
    new >> inner
    assert run(inner).states == dict.fromkeys(["new", "inner.first", "inner.second", "inner.always"], "skipped")
    assert calls == []


def test_parameter_with_a_default_takes_it_if_its_source_was_skipped():
    mode = Task(lambda: "w", name="mode", when=lambda: False)
    inner = build().as_task()
    mode >> inner
    assert run(inner, params={"path": "a"})["inner"] == "A:R"


def test_failed_upstream_starts_nothing_of_it():
    calls = []
    broken = Task(lambda: 1 / 0, name="broken")
    inner = with_clean_up(calls).as_task("second")
    broken >> inner
    states = run(inner, raise_on_failure=False, fail_fast=False).states
    assert set(states.values()) == {"failed", "upstream_failed"}
    assert calls == []


def test_clean_up_inside_runs_after_a_failure_inside():
    calls = []
    first = Task(lambda: 1 / 0, name="first")
    always = Task(lambda: calls.append("always"), name="always", trigger="all_done")
    always.after(first)
    inner = DAG("inner", tasks=[always]).as_task("first")
    with pytest.raises(ZeroDivisionError) as caught:
        run(inner)
    assert calls == ["always"]
    assert "task 'inner.first' of 'outer' failed" in caught.value.__notes__[0]


def test_condition_of_an_outer_pipeline_skips_pipelines_inside():
    middle = DAG("middle", tasks=[build().as_task(when=lambda path: True)])
    results = run(middle.as_task(when=lambda path: False), params={"path": "a"})
    assert set(results.states.values()) == {"skipped"}


def test_options_of_tasks_inside_are_kept():
    tries = []

    def flaky(path):
        tries.append(path)
        if len(tries) < 3:
            raise OSError
        return path

    first = Task(flaky, name="first", retries=2, delay=0)
    assert run(DAG("inner", tasks=[first]).as_task(), params={"path": "a"}).attempts == {"inner.first": 3}


def test_hooks_of_tasks_inside_are_called_and_those_of_the_pipeline_are_warned_of():
    """Hooks of the pipeline are called in its own runs only; the outer pipeline may have them, too."""
    seen = []
    first = Task(lambda: 1, name="first", on_success=lambda event: seen.append(event.task))
    inner = DAG("inner", tasks=[first], on_success=lambda event: seen.append("inner"))
    with pytest.warns(RuntimeWarning, match="the pipeline of task 'inner' has on_success, .* give 'outer' on_success"):
        DAG("outer", tasks=[inner.as_task()]).run("serial")
    assert seen == ["inner.first"]
    DAG("outer", tasks=[inner.as_task()], on_success=lambda event: seen.append("outer")).run("serial")
    assert seen == ["inner.first", "inner.first", "outer"]


def test_mapped_tasks_inside_and_around():
    rows, parse, total = Task(list, name="rows"), Task(int, name="parse"), Task(sum, name="total")
    rows >> parse.map(errors="drop") >> total
    inner = DAG("inner", tasks=[total]).as_task("parse", when=lambda iterable: iterable != "")
    double = Task(lambda number: 2 * number, name="double")
    inner >> double.map()
    results = run(double, params={"iterable": "12x"})
    assert (results["inner"], results["inner.total"], results["double"]) == ([1, 2], 3, [2, 4])
    assert run(double, params={"iterable": ""}).skipped.keys() == {
        *("inner.when", "inner.rows", "inner.parse", "inner.total", "double")
    }


def test_pools_are_those_of_the_outer_run():
    one = Task(lambda: 1, name="one", pool="db")
    inner = DAG("inner", tasks=[one], pools={"db": 1}).as_task()
    with pytest.raises(UnknownPoolError, match=r"task 'inner\.one' names the pool 'db', which is not defined"):
        run(inner)
    assert run(inner, pools={"db": 1})["inner"] == 1


# ---- refusals and errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option", ["retries", "timeout", "cache", "trigger", "executor", "pool", "priority", "max_workers", "params"]
)
def test_options_that_are_refused_say_why(option):
    with pytest.raises(TypeError, match=rf"as_task\(\) of 'inner' has no option '{option}': \w+.*; there are: output"):
        build().as_task(**{option: 1})


def test_misspelt_option():
    with pytest.raises(TypeError, match=r"no option 'outptu' \(did you mean 'output'\?\)"):
        build().as_task(outptu="second")


def test_map_is_refused():
    with pytest.raises(TypeError, match="'inner': a pipeline cannot be mapped, because"):
        build().as_task().map()


def test_output_is_the_only_end_or_must_be_named():
    several = DAG("inner", tasks=[Task(lambda: 1, name=name) for name in "abc"])
    with pytest.raises(ValueError, match=r"several ends: a, b, c; write as_task\(output='c'\)"):
        several.as_task()
    with pytest.raises(ValueError, match=r"'inner' has no such task \(did you mean 'second'\?\)"):
        build().as_task("secnd")
    with pytest.raises(ValueError, match=r"to name the pipeline task, write as_task\(name='group'\)"):
        build().as_task("group")
    with pytest.raises(TypeError, match="write output='second'"):
        build().as_task(build().tasks[1])
    with pytest.raises(ValueError, match="'empty' has no tasks, so it has no output"):
        DAG("empty", tasks=[]).as_task()


def test_output_that_goes_away_later_is_a_problem():
    first, second = Task(lambda: 1, name="first"), Task(lambda first: 1, name="second")
    with DAG("inner") as inner:
        first >> second
    outer = DAG("outer", tasks=[inner.as_task()])
    with inner:
        Task(lambda: 1, name="third")
    assert [(each.kind, each.message[:38]) for each in outer.check()] == [
        ("wiring", "as_task() of 'inner' needs the name of")
    ]
    with pytest.raises(WiringError, match="several ends: "):
        outer.run("serial")


def test_name_and_condition_are_checked():
    with pytest.raises(TaskOptionTypeError, match="when"):
        build().as_task(when=True)
    with pytest.raises(TaskOptionTypeError, match="name"):
        build().as_task(name=3)


def test_two_tasks_of_one_name():
    inner = build()
    with pytest.raises(DuplicateTaskError, match="'inner'"):
        run(inner.as_task(), inner.as_task())
    with pytest.raises(DuplicateTaskError, match=r"'inner\.first'"):
        run(inner.as_task(), Task(len, name="inner.first"), params={"path": 1, "obj": []})


def test_with_options_gives_another_use():
    inner = build().as_task()
    other = inner.with_options(name="other", output="first")
    assert run(inner, other, params={"path": "a"})["other"] == "a:r"
    with pytest.raises(TypeError, match="no option 'retries'"):
        inner.with_options(retries=3)


def test_problem_of_the_inner_pipeline_is_raised_where_it_is_made_a_task():
    one, two = Task(len, name="one"), Task(len, name="two")
    one >> two >> one
    with pytest.raises(DAGCycleError, match="one → two → one"):
        DAG("inner", tasks=[two]).as_task()


def test_cycle_of_pipelines():
    with DAG("a") as a:
        Task(lambda: 1, name="one")
    with DAG("b") as b:
        Task(lambda: 1, name="two")
        a.as_task(name="a", output="one")
    with a:
        b.as_task("two", name="b")
    with pytest.raises(DAGCycleError, match=r"b → a → b|a → b → a"):
        a.run("serial")


def test_pickled_by_reference():
    with pytest.raises(TypeError, match="cannot be pickled unless it is a global variable"):
        pickle.dumps(build().as_task())
    assert pickle.loads(pickle.dumps(_GLOBAL)) is _GLOBAL


_GLOBAL = DAG("inner", tasks=[Task(lambda: 1, name="one")]).as_task()


# ---- pictures, checks, simulation ------------------------------------------------------------------------------------


def test_pictures_show_the_tasks_inside():
    inner, last = build().as_task(name="clean", when=lambda path: True), Task(len, name="last")
    inner >> last
    picture = DAG("outer", tasks=[last]).visualize()
    assert picture.splitlines()[2:3] == ["clean.when (when) ⇢ clean.first → clean.second → last"]


def test_check_finds_nothing_in_a_good_pipeline_and_problems_inside():
    start, inner = Task(lambda: "a", name="start"), with_clean_up([]).as_task("second", when=lambda path: True)
    start >> inner
    assert DAG("outer", tasks=[inner]).check("serial", params={}) == []
    problems = DAG("outer", tasks=[build().as_task()]).check(params={})
    assert [(each.kind, each.task) for each in problems] == [("parameter", "inner.first")]


@pytest.mark.parametrize("fail_fast", [True, False])
@pytest.mark.parametrize("faults", [0.0, 0.3])
def test_random_schedules_are_right(fail_fast, faults):
    start = Task(lambda: "a", name="start", retries=1, delay=1)
    inner = with_clean_up([])
    middle = DAG("middle", tasks=[inner.as_task("second", when=lambda path: True)]).as_task("inner")
    other = build().as_task(name="other", when=lambda path: False)
    last = Task(lambda middle, other="none": (middle, other), name="last")
    start >> [middle, other] >> last
    simulate_many(DAG("outer", tasks=[last]), seeds=range(50), fault_rate=faults, fail_fast=fail_fast)


@given(st.lists(st.lists(st.integers(0, 7), max_size=3, unique=True), min_size=1, max_size=8), st.integers(1, 3))
def test_tasks_inside_do_what_they_do_alone(wiring, depth):
    """Any pipeline, any number of levels deep: equal results under longer names, in the same order."""
    tasks = [Task(lambda *args, number=number: (number, args), name=f"t{number}") for number in range(len(wiring))]
    for number, upstream in enumerate(wiring):
        for other in upstream:
            if other < number:
                tasks[other] >> tasks[number]
    pipeline = DAG("inner", tasks=tasks)
    alone = pipeline.run("serial")
    prefix = ""
    for level in range(depth):
        output = f"{prefix}t{len(wiring) - 1}" if not level else f"p{level - 1}"
        pipeline = DAG(f"level {level}", tasks=[pipeline.as_task(output, name=f"p{level}")])
        prefix = f"p{level}.{prefix}"
    results = pipeline.run("serial")
    names = [name for name in results.states if name.startswith(prefix)]
    assert [(name.removeprefix(prefix), results[name]) for name in names] == list(alone.items())
    assert results[f"p{depth - 1}"] == alone[f"t{len(wiring) - 1}"]


def test_only_end_may_be_a_pipeline_task_with_several_ends_inside():
    write, log = Task(lambda source: source + 1, name="write"), Task(lambda: "logged", name="log")
    log.after(write)
    source, load = Task(lambda: 2, name="source"), DAG("load", tasks=[log]).as_task(output="write")
    source >> load
    assert DAG("table", tasks=[load]).as_task()() == 3
