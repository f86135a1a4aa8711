"""The elements of mapped tasks in runs: states, failures, skips, inputs, and elements in results."""

import copy
import gc
import pickle
import sys
import time
from contextvars import Context, ContextVar, copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core import (
    DAG,
    ElementEvent,
    ElementFailed,
    ElementNotRun,
    ElementRetrying,
    ElementStarted,
    ElementSucceeded,
    MapLengthError,
    MappingTypeError,
    MissingResultError,
    Results,
    Run,
    SerializationError,
    Skip,
    Task,
    TaskFailed,
    TaskNotRun,
    TaskStarted,
    TaskSucceeded,
    current,
)


def sweep(function, values, **options):
    """Return the results of a task that is mapped over a parameter."""
    run = {name: options.pop(name) for name in ("fail_fast", "observers", "raise_on_failure") if name in options}
    mapping = {name: options.pop(name) for name in ("errors", "label", "limit") if name in options}
    each = Task(function, name="each", **options)
    return DAG("sweep", tasks=[each.map("x", **mapping)]).run("serial", params={"x": values}, **run)


def behave(x):
    """Return, skip or fail, as the element says."""
    if x == "skip":
        raise Skip("asked to")
    if x == "fail":
        raise ValueError("asked to")
    return x


@pytest.mark.parametrize("errors", ["drop", "return"])
def test_failed_elements_have_their_labels(errors):
    results = sweep(behave, ["a", "fail", "skip", "fail"], errors=errors, label=str.upper)
    assert list(results.elements["each"].failed) == [1, 3]
    assert results.elements["each"].labels == {1: "FAIL", 3: "FAIL"}
    assert sweep(behave, ["fail"], errors=errors).elements["each"].labels == {}


class Source:
    """An iterable without a length."""

    def __iter__(self):
        return iter([1, 2])


@pytest.mark.parametrize(
    "values", [[1, 2], (1, 2), range(1, 3), {1: "a", 2: "b"}.keys(), Source(), iter([1, 2]), map(int, "12")]
)
def test_iterables(values):
    assert sweep(lambda x: x, values) == {"each": [1, 2]}


@pytest.mark.parametrize("value", ["text", b"bytes", bytearray(b"x"), {1, 2}, frozenset((1,)), {"a": 1}, 5, None])
def test_values_that_cannot_be_mapped(value):
    with pytest.raises(MappingTypeError, match="task 'each' cannot be mapped over 'x'") as raised:
        sweep(lambda x: x, value)
    assert (raised.value.task, raised.value.parameter) == ("each", "x")
    assert raised.value.type_name == type(value).__name__
    copied = pickle.loads(pickle.dumps(raised.value))
    assert str(copied) == str(raised.value)


WHOLE = "; or, if each call takes the whole value, name the other parameters in map(...)"


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        (None, "in task 'rows', return a list, a generator or another iterable; is a return statement missing?"),
        (5, "in task 'rows', return a list, a generator or another iterable" + WHOLE),
        ("text", "in task 'rows', return a list, such as [...] or text.splitlines()" + WHOLE),
    ],
)
def test_task_that_returned_what_cannot_be_mapped_is_named(value, fix):
    each = Task(lambda x: x, name="each")
    Task(lambda: value, name="rows") >> each.map()
    with pytest.raises(MappingTypeError, match="task 'each' cannot be mapped over 'x'") as raised:
        DAG("sweep", tasks=[each]).run("serial")
    assert raised.value.fix == fix
    assert str(raised.value).endswith(fix)


def test_lengths_must_be_equal():
    pair = Task(lambda a, b: (a, b), name="pair").map("a", "b")
    with pytest.raises(MapLengthError, match="3 of 'a', 2 of 'b'") as raised:
        DAG("pairs", tasks=[pair]).run("serial", params={"a": [1, 2, 3], "b": iter([1, 2])})
    assert raised.value.lengths == {"a": 3, "b": 2}
    assert pickle.loads(pickle.dumps(raised.value)).lengths == raised.value.lengths


def test_lengths_of_items_of_args_must_be_equal():
    one, two = Task(lambda: [1, 2, 3], name="one"), Task(lambda: [1], name="two")
    each = Task(lambda *rows: rows, name="each")
    [one, two] >> each.map()
    message = (
        r"3 of '\*args\[0\]' \(the result of 'one'\), 1 of '\*args\[1\]' \(the result of 'two'\); "
        r".* wire it to each, and not to each\.map\(\)"
    )
    with pytest.raises(MapLengthError, match=message) as raised:
        DAG("pairs", tasks=[each]).run("serial")
    assert raised.value.sources == {"*args[0]": "one", "*args[1]": "two"}


@pytest.mark.parametrize("kind", [list, iter])
def test_error_for_unequal_lengths_names_the_tasks_whose_results_they_are(kind):
    names, ages = Task(lambda: kind(["Ada", "Grace"]), name="names"), Task(lambda: [36], name="ages")
    person = Task(lambda name, age: (name, age), name="person")
    [names, ages] >> person.map()
    with pytest.raises(
        MapLengthError, match=r"of 'name' \(the result of 'names'\), 1 of 'age' \(the result of 'ages'\)"
    ):
        DAG("people", tasks=[person]).run("serial")


actions = st.lists(st.sampled_from([1, 2, "skip", "fail"]), max_size=12)


@given(actions, st.sampled_from(["drop", "return", "raise"]), st.integers(0, 2), st.booleans(), st.booleans())
def test_chains_are_what_loops_are(values, errors, length, is_lazy, has_condition):
    """A chain of mapped tasks has the results of loops, with skips, failures, defaults and every option ``errors``."""
    condition = (lambda x: x != 2) if has_condition else None
    first = Task(behave, name="first", when=condition)
    source = Task(lambda: iter(values) if is_lazy else values, name="source")
    source >> first.map(errors=errors)
    chain, expected, kept = first, [], {}
    for number, value in enumerate(values):
        if value == "skip" or (has_condition and value == 2):
            continue
        if value == "fail":
            if errors == "return":
                kept[number] = "ValueError"
            continue
        kept[number] = value
    for stage in range(length):
        default = "default" if stage == 1 else None
        after = Task(_with_default if default else _as_it_is, name=f"stage_{stage}")
        chain >> after.map()
        chain = after
    results = DAG("chain", tasks=[chain]).run("serial", fail_fast=False, raise_on_failure=False)
    fails = errors == "raise" and "fail" in values
    assert results.states["first"] == ("failed" if fails else "succeeded")
    assert results.elements["first"].states == [_state(value, has_condition) for value in values]
    if fails:
        return
    if length == 2:
        expected = [_name(kept.get(number, "default")) for number in range(len(values))]
    else:
        expected = [_name(kept[number]) for number in sorted(kept)]
    assert [_name(value) for value in results[chain.name]] == expected


def _as_it_is(x):
    return x


def _with_default(x="default"):
    return x


def _name(value):
    return type(value).__name__ if isinstance(value, Exception) else value


def _state(value, has_condition):
    if value == "skip" or (has_condition and value == 2):
        return "skipped"
    return "failed" if value == "fail" else "succeeded"


def test_empty_input_and_all_skipped():
    assert sweep(behave, []) == {"each": []}
    results = sweep(behave, ["skip", "skip"])
    assert results == {"each": []}
    assert results.states == {"each": "succeeded"}
    assert results.elements["each"].skipped == {0: "asked to", 1: "asked to"}


def test_failure_names_element_and_label():
    with pytest.raises(ValueError, match="asked to") as raised:
        sweep(behave, [1, "fail", 2], label=lambda x: f"row {x}")
    notes = "\n".join(raised.value.__notes__)
    assert "task 'each[1] (row fail)' of 'sweep' failed" in notes
    assert "element each[1] (row fail) is 'fail'" in notes
    results = Results.from_error(raised.value)
    assert results.failed == {"each": raised.value, "each[1]": raised.value}
    assert results.elements["each"].states == ["succeeded", "failed", "cancelled"]


def test_label_that_raises_is_no_failure():
    results = sweep(behave, ["fail"], label=lambda x: x["id"], errors="drop")
    assert results == {"each": []}


def test_all_failures_without_fail_fast():
    with pytest.raises(ExceptionGroup, match=r"2 tasks of 'sweep' failed: 'each\[0\]', 'each\[2\]'") as raised:
        sweep(behave, ["fail", 1, "fail"], fail_fast=False)
    assert len(raised.value.exceptions) == 2


def test_system_exit_is_never_dropped():
    def leave(x):
        raise SystemExit(x)

    with pytest.raises(SystemExit):
        sweep(leave, [3], errors="drop")


def test_function_that_cannot_be_sent_is_never_dropped():
    def fail(x):
        raise SerializationError("each", "function", "cannot be pickled", "move it")

    with pytest.raises(SerializationError):
        sweep(fail, [3], errors="drop")


def test_elements_of_results():
    results = sweep(behave, [1, "fail", "skip"], errors="drop", retries=1, delay=0)
    elements = results.elements["each"]
    assert (len(elements), elements.counts) == (3, {"succeeded": 1, "failed": 1, "skipped": 1})
    assert list(elements.attempts) == [1, 2, 0]
    assert elements.durations[0] > 0
    assert elements.durations[2] == 0
    assert repr(elements) == "<3 elements of each: 1 succeeded, 1 failed, 1 skipped>"
    assert list(results.failed) == ["each[1]"]
    for other in (copy.copy(results), results.copy(), pickle.loads(pickle.dumps(results))):
        assert other.elements["each"].counts == elements.counts
        assert list(other.failed) == ["each[1]"]


def test_generator_is_consumed():
    source, each = Task(lambda: (number for number in range(3)), name="source"), Task(_as_it_is, name="each")
    source >> each.map()
    results = DAG("lazy", tasks=[each]).run("serial")
    assert results == {"each": [0, 1, 2]}
    with pytest.raises(MissingResultError, match="which 'each' has consumed"):
        results["source"]


def test_generator_is_not_ahead_of_the_elements():
    seen = []

    def numbers():
        for number in range(3):
            seen.append(f"made {number}")
            yield number

    source, each = Task(numbers), Task(lambda x: seen.append(f"took {x}"), name="each")
    source >> each.map()
    DAG("lazy", tasks=[each]).run("serial")
    assert seen == ["made 0", "took 0", "made 1", "took 1", "made 2", "took 2"]


def test_generator_for_several_takers_is_a_list():
    source = Task(lambda: iter([1, 2]), name="source")
    each, whole = Task(_as_it_is, name="each"), Task(list, name="whole")
    source >> [each.map(), whole]
    results = DAG("lazy", tasks=[each, whole]).run("serial")
    assert results == {"source": [1, 2], "each": [1, 2], "whole": [1, 2]}


def test_generator_among_several_inputs_is_pulled_in_step():
    def numbers(size):
        yield from [1, 2]
        if size == 3:
            raise ValueError("no third number")

    source, words = Task(numbers, name="source"), Task(lambda: ["a", "b"], name="words")
    each = Task(lambda source, words: (source, words), name="each")
    [source, words] >> each.map("source", "words")
    dag = DAG("pairs", tasks=[each])
    results = dag.run("serial", params={"size": 2})
    assert results == {"words": ["a", "b"], "each": [(1, "a"), (2, "b")]}
    with pytest.raises(MissingResultError, match="which 'each' has consumed"):
        results["source"]
    states = dag.run("serial", params={"size": 3}, raise_on_failure=False).states
    assert (states["source"], states["each"]) == ("failed", "upstream_failed")


def test_generator_that_fails_has_one_end():
    seen = []

    def numbers():
        yield 1
        raise ValueError("no more")

    hooks = {"on_success": lambda event: seen.append("succeeded"), "on_failure": lambda event: seen.append("failed")}
    source, each = Task(numbers, name="source", **hooks), Task(_as_it_is, name="each")
    source >> each.map()
    ends = []
    with pytest.raises(ValueError, match="no more"):
        DAG("lazy", tasks=[each]).run("serial", observers=[ends.append])
    kinds = (TaskSucceeded, TaskFailed, TaskNotRun)
    assert [(type(event), event.task) for event in ends if isinstance(event, kinds)] == [
        (TaskFailed, "source"),
        (TaskNotRun, "each"),
    ]
    assert seen == ["failed"]


@pytest.mark.parametrize("ending", ["consumed", "skipped", "stopped"])
def test_generator_ends_before_its_taker(ending):
    """Also if it is not consumed, because its taker is skipped or the run stops."""

    def stop(x):
        raise ValueError("stop")

    source = Task(lambda: iter([1, 2]), name="source", on_success=lambda event: seen.append("hook"))
    each = Task(stop if ending == "stopped" else _as_it_is, name="each")
    seen = []
    source >> each.map()
    if ending == "skipped":
        each.after(Task(lambda: None, name="off", when=lambda: False))
    kinds = (TaskSucceeded, TaskFailed, TaskNotRun)
    for observers in ([lambda event: seen.append(event.task) if isinstance(event, kinds) else None], []):
        seen.clear()
        DAG("lazy", tasks=[each]).run("serial", observers=observers, raise_on_failure=False)
        expected = (["off"] if ending == "skipped" else []) + ["source", "each"] if observers else []
        assert [name for name in seen if name != "hook"] == expected
        assert seen.count("hook") == 1


def test_generator_of_an_attempt_that_was_given_up_is_not_consumed():
    pulled = []
    source = Task(lambda: map(pulled.append, [1]), name="source", timeout=1)
    one, two = Task(_as_it_is, name="one"), Task(_as_it_is, name="two")
    source >> [one.map(), two.map()]
    run = Run(DAG("lazy", tasks=[one, two]).graph())
    (node,) = run.start()
    call = run.call(node)
    run.mark_started(node)
    run.expire(node, call.attempt, 1)
    assert list(run.finish(node, map(pulled.append, [1]), attempt=call.attempt)) == []
    assert pulled == []


def test_label_is_not_called_for_an_element_without_a_value():
    labelled = []
    parse = Task(behave, name="parse")
    clean = Task(_as_it_is, name="clean")
    Task(lambda: [1, "skip"], name="rows") >> parse.map() >> clean.map(label=lambda x: labelled.append(x) or str(x))
    recorder = Recorder(ElementNotRun, ElementSucceeded)
    DAG("labels", tasks=[clean]).run("serial", observers=[recorder])
    assert labelled == [1]
    assert [event.label for event in recorder.seen if event.task == "clean"] == ["1", None]


def test_chain_runs_depth_first():
    seen = []
    first = Task(lambda x: seen.append(f"first {x}") or x, name="first")
    second = Task(lambda x: seen.append(f"second {x}"), name="second", retries=1)
    Task(lambda: [0, 1], name="source") >> first.map() >> second.map()
    DAG("chain", tasks=[second]).run("serial")
    assert seen == ["first 0", "second 0", "first 1", "second 1"]


def test_keep_drops_the_values_of_stages():
    first, second = Task(lambda x: x + 1, name="first"), Task(lambda x: x + 1, name="second")
    first.map("x") >> second.map()
    results = DAG("kept", tasks=[second]).run("serial", params={"x": [1, 2]}, keep=["second"])
    assert results == {"second": [3, 4]}


class Counted:
    """An object that counts how many there are."""

    alive = 0

    def __init__(self):
        Counted.alive += 1

    def __del__(self):
        Counted.alive -= 1


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize("when", [None, lambda x: True], ids=["loop", "jobs"])
def test_runs_leave_no_reference_cycles(fails, is_lazy, when):
    def make():
        values = [Counted() for _ in range(5)]
        return iter(values) if is_lazy else values

    def finish(x):
        if fails:
            raise ValueError
        return Counted()

    first, last = Task(_as_it_is, name="first", when=when), Task(finish, name="last")
    Task(make, name="source") >> first.map() >> last.map()
    dag = DAG("cycles", tasks=[last])
    gc.collect()
    gc.disable()
    try:
        results = dag.run("serial", raise_on_failure=False)
        assert results.states["last"] == ("failed" if fails else "succeeded")
        del results
        assert Counted.alive == 0
    finally:
        gc.enable()


def test_context_of_elements():
    found = sweep(lambda x: (current().task, current().element, current().attempt), [5, 6])["each"]
    assert found == [("each", 0, 1), ("each", 1, 1)]


def test_idempotency_keys_are_distinct():
    def key(x, idempotency_key):
        return idempotency_key == current().idempotency_key, idempotency_key

    found = sweep(key, [5, 6])["each"]
    assert [same for same, _ in found] == [True, True]
    assert len(set(found)) == 2


class Recorder:
    def __init__(self, *events):
        self.events = events
        self.seen = []

    def __call__(self, event):
        self.seen.append(event)


def test_element_events_for_observers_that_ask():
    kinds = (ElementStarted, ElementSucceeded, ElementFailed, ElementRetrying, ElementNotRun)
    asking, general = Recorder(*kinds), []
    sweep(
        behave,
        [1, "fail", "skip"],
        errors="drop",
        retries=1,
        delay=0,
        label=str,
        observers=[asking, general.append],
    )
    story = [(type(event).__name__, event.element, event.label) for event in asking.seen]
    assert sorted(story) == [
        ("ElementFailed", 1, "fail"),
        ("ElementNotRun", 2, "skip"),
        ("ElementRetrying", 1, "fail"),
        ("ElementStarted", 0, "1"),
        ("ElementStarted", 1, "fail"),
        ("ElementStarted", 1, "fail"),
        ("ElementStarted", 2, "skip"),
        ("ElementSucceeded", 0, "1"),
    ]
    assert not any(isinstance(event, ElementEvent) for event in general)
    (started,) = [event for event in general if isinstance(event, TaskStarted)]
    (ended,) = [event for event in general if isinstance(event, TaskSucceeded)]
    assert started.elements == 3
    assert ended.elements == {"succeeded": 1, "failed": 1, "skipped": 1}


def test_mapped_task_inside_a_pipeline_task():
    source, each = Task(lambda: [1, 2], name="source"), Task(_as_it_is, name="each")
    source >> each.map()
    inner = DAG("inner", tasks=[each]).as_task()
    end = Task(sum, name="end")
    inner >> end
    assert DAG("outer", tasks=[end]).run("serial")["end"] == 3


class Incomparable:
    """A value that cannot be compared, as arrays cannot."""

    def __eq__(self, other):
        raise ValueError("ambiguous")

    __hash__ = None


@pytest.mark.parametrize("make", [list, Incomparable])
@pytest.mark.parametrize("is_chain", [False, True])
def test_elements_see_the_context_of_the_caller(make, is_chain):
    """Not what another element has set, also if that is equal to the caller's value."""
    variable, other = ContextVar("variable"), ContextVar("other")
    callers = make()

    def replace(x):
        found = variable.get(), other.get(None)
        if x % 2:
            variable.set(make())
        if x % 3 == 0:
            other.set(x)
        return found

    first = Task(replace, name="first").map("x")
    wired = first >> Task(lambda found: (*found, variable.get()), name="second").map() if is_chain else first

    def run():
        variable.set(callers)
        return DAG("sweep", tasks=[wired]).run("serial", params={"x": range(20)})

    results = copy_context().run(run)
    assert all(found[0] is callers and found[1] is None for found in results["first"])


def test_context_variables_of_the_caller_cost_elements_little():
    """Fewer than three calls of functions for each element, more than without any."""

    def count(*variables):
        for variable in variables:
            variable.set([])
        calls = 0

        def profile(frame, event, arg):
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(profile)
        try:
            sweep(abs, range(5000))
        finally:
            sys.setprofile(None)
        return calls

    Context().run(count)  # imports
    without = Context().run(count)
    with_two = Context().run(count, ContextVar("one"), ContextVar("two"))
    assert without > 5000
    assert with_two - without < 5000 * 3


def test_label_with_control_characters_is_one_line():
    each = Task(lambda x: 1 // x, name="each")
    dag = DAG("sweep", tasks=[each.map("x", label=lambda x: f"row\n{x}\x1b[31m")])
    with pytest.raises(ZeroDivisionError) as raised:
        dag.run("serial", params={"x": [1, 0]})
    assert "flowkit: element each[1] (row\\n0\\x1b[31m) is 0" in raised.value.__notes__


def wait(x):
    time.sleep(0.05)
    return x


@pytest.mark.parametrize("options", [{}, {"timeout": 60}], ids=["in a loop", "one by one"])
def test_duration_of_a_task_of_a_chain_begins_with_its_first_element(options):
    first, second = Task(wait, name="first"), Task(lambda first: first, name="second", **options)
    first.map("x") >> second.map()
    results = DAG("chain", tasks=[second]).run("serial", params={"x": [1]})
    assert results.durations["second"] < results.durations["first"] >= 0.05
