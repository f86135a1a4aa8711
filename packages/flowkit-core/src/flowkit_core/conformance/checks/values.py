"""Checks of results and arguments."""

from __future__ import annotations

import itertools
import random
from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.pipelines.task import Task
from flowkit_core.pipelines.wiring import Group

from . import tasks
from .trial import check, expect, expect_true, run_on

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial


@check()
def empty_graph_has_no_results(trial: Trial) -> None:
    """A pipeline without tasks ends at once."""
    expect("results", trial.run(), {})


@check()
def task_returns_a_result(trial: Trial) -> None:
    """One task runs, and its result is returned."""
    results = trial.run(Task(tasks.one))
    expect("results", results, {"one": 1})
    expect("states", results.states, {"one": "succeeded"})


@check()
def results_are_in_topological_order(trial: Trial) -> None:
    """The results of independent tasks are in the order in which the tasks were given."""
    names = [f"task_{number}" for number in (7, 3, 5, 1, 8, 2)]
    expect("names", list(trial.run(*(Task(tasks.one, name=name) for name in names))), names)


@check()
def chain_passes_each_result_on(trial: Trial) -> None:
    """Each task of a chain gets the result of the one before."""
    chain: list[Task[..., Any]] = [Task(tasks.one), *(Task(tasks.add_one, name=name) for name in "bcd")]
    _wire(chain)
    expect("results", trial.run(chain[-1]), {"one": 1, "b": 2, "c": 3, "d": 4})


@check()
def only_the_results_to_keep_are_returned(trial: Trial) -> None:
    """With ``keep``, other results are dropped after their last use, retries included, and a lookup says so."""
    one, last = Task(tasks.one), Task(tasks.add_one, name="last")
    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky", retries=2, delay=0)
    one >> flaky >> last
    results = trial.run(last, keep=["last"])
    expect("results", results, {"last": 3})
    expect("states", results.states, {"one": "succeeded", "flaky": "succeeded", "last": "succeeded"})
    try:
        results["flaky"]
    except KeyError as error:
        expect_true("the message", "keep" in str(error), "a message that names keep", str(error))


@check()
def arguments_are_in_the_order_of_the_upstreams(trial: Trial) -> None:
    """Positional parameters get the results of the upstreams in the order in which these were wired."""
    upstreams = [Task(partial(tasks.value_of, name), name=name) for name in ("z", "m", "a")]
    collect, other = Task(tasks.collect), Task(tasks.collect, name="other")
    upstreams >> collect
    [upstreams[2], upstreams[0]] >> other
    results = trial.run(collect, other)
    expect("arguments", (results["collect"], results["other"]), (("z", "m", "a"), ("a", "z")))


@check()
def arguments_are_bound_by_kind_and_name(trial: Trial) -> None:
    """Positional-only, variable and keyword-only parameters, and those that run(params=...) names, get their values."""
    one, bind = Task(tasks.one), Task(tasks.bind)
    others = [Task(partial(tasks.value_of, name), name=name) for name in ("p", "q", "r")]
    [*others, one] >> bind
    expect("arguments", trial.run(bind, params={"limit": 5})["bind"], ("p", "q", ("r",), 1, 5))
    expect("arguments", trial.run(bind)["bind"], ("p", "q", ("r",), 1, 10))


@check()
def default_replaces_the_result_of_a_skipped_task(trial: Trial) -> None:
    """A parameter with a default has it if its upstream was skipped."""
    one = Task(tasks.one)
    skipped = Task(tasks.add_one, name="skipped", when=tasks.is_large)
    last = Task(partial(tasks.value_of, "last"), name="last")
    three = Task(tasks.three)
    one >> skipped
    [one, skipped, last] >> three
    results = trial.run(three)
    expect("arguments", results["three"], (1, "b", "last"))


@check()
def params_reach_tasks_and_conditions(trial: Trial) -> None:
    """Values of run(params=...) reach parameters of functions and of conditions, also those for one task only."""
    made = Task(tasks.value_of, name="made", when=tasks.is_text)
    other = Task(tasks.value_of, name="other", when=tasks.is_text)
    results = trial.run(made, other, params={"value": "text", "other.value": 7})
    expect("results", results, {"made": "text"})
    expect("skipped tasks", set(results.skipped), {"other"})


@check()
def order_edges_pass_no_value(trial: Trial) -> None:
    """A task after another one waits for it, and does not get its result."""
    writers = [Task(partial(tasks.write, trial.path, str(number)), name=f"w{number}") for number in range(8)]
    for before, after in itertools.pairwise(writers):
        after.after(before)
    read = Task(partial(tasks.read, trial.path), name="read").after(Group(writers))
    expect("text that the tasks have written in turn", trial.run(read)["read"], "01234567")


@check()
def results_may_be_any_value(trial: Trial) -> None:
    """None, false and empty values, and exceptions that are returned, are results like others."""
    values: list[Any] = [None, False, 0, "", (), [], ValueError]
    made = [Task(partial(tasks.value_of, value), name=f"made_{number}") for number, value in enumerate(values)]
    error, collect, kind = Task(tasks.return_error), Task(tasks.collect), Task(tasks.type_name)
    made >> collect
    error >> kind
    results = trial.run(collect, kind)
    expect("arguments", results["collect"], tuple(values))
    expect("type of the exception that was returned", results["type_name"], "ValueError")
    expect("states", set(results.states.values()), {"succeeded"})


@check()
def value_without_truth_and_equality_is_passed_on(trial: Trial) -> None:
    """A result whose truth value and ``==`` raise exceptions, such as an array, is passed on."""
    made, kind = Task(tasks.unfriendly), Task(tasks.type_name)
    made >> kind
    expect("type of the argument", trial.run(kind)["type_name"], "Unfriendly")


@check()
def large_values_are_passed_on(trial: Trial) -> None:
    """Results of several megabytes reach several tasks and the results of the run."""
    size = 5_000_000
    made = Task(partial(tasks.large, size), name="made")
    ends = [Task(tasks.size_of, name=f"end_{number}") for number in range(3)]
    made >> ends
    results = trial.run(*ends)
    expect("size of the result", len(results["made"]), size)
    expect("arguments", [results[end.name] for end in ends], [(size, b"x")] * 3)


@check()
def result_that_cannot_be_pickled_ends_the_task(trial: Trial) -> None:
    """A task that returns a generator succeeds, or fails with an exception; other tasks go on."""
    bad, end = Task(tasks.generator), Task(tasks.type_name)
    one, two = Task(tasks.one), Task(tasks.add_one)
    bad >> end
    one >> two
    results = trial.run(end, two, fail_fast=False, raise_on_failure=False)
    expect("result of the other branch", results.get("add_one"), 2)
    state = results.states["generator"]
    expect_true("state of the task", state in ("succeeded", "failed"), "'succeeded' or 'failed'", state)


@check()
def coroutines_are_awaited(trial: Trial) -> None:
    """The result of an async function is what it returns."""
    one, awaited, end = Task(tasks.one), Task(tasks.awaited), Task(tasks.add_one)
    one >> awaited >> end
    expect("results", trial.run(end), {"one": 1, "awaited": 2, "add_one": 3})


@check()
def any_callable_may_be_a_task(trial: Trial) -> None:
    """Partial functions, methods, callable objects and built-in functions are called."""
    scale = tasks.Scale(10)
    chain: list[Task[..., Any]] = [
        Task(partial(tasks.value_of, -2), name="start"),
        Task(scale, name="object"),
        Task(scale.method, name="method"),
        Task(abs, name="builtin"),
    ]
    _wire(chain)
    expect("results", trial.run(chain[-1]), {"start": -2, "object": -20, "method": -200, "builtin": 200})


@check()
def each_task_is_called_once(trial: Trial) -> None:
    """Every function is called exactly once, also where many tasks meet."""
    one = Task(tasks.one)
    middle = [Task(tasks.add_one, name=f"middle_{number}") for number in range(20)]
    meeting = Task(partial(tasks.counted, trial.path), name="meeting")
    ends = [Task(partial(tasks.counted, trial.path), name=f"end_{number}") for number in range(5)]
    one >> middle >> meeting >> ends
    trial.run(*ends)
    expect("number of calls of the 6 tasks at the end", trial.calls(), 6)


@check()
def graph_of_a_thousand_tasks(trial: Trial) -> None:
    """One task fans out to a thousand, whose results go to one."""
    one, collect = Task(tasks.one), Task(tasks.collect)
    middle = [Task(tasks.add_one, name=f"task_{number}") for number in range(1000)]
    one >> middle >> collect
    expect("number of arguments, and their values", *_counts(trial.run(collect)["collect"], (2,) * 1000))


@check()
def chain_of_two_thousand_tasks(trial: Trial) -> None:
    """A long chain runs, without a recursion that grows with its length."""
    chain: list[Task[..., Any]] = [
        Task(tasks.one),
        *(Task(tasks.add_one, name=f"task_{number}") for number in range(2000)),
    ]
    _wire(chain)
    expect("last result", trial.run(chain[-1])["task_1999"], 2001)


@check()
def random_graphs_have_the_results_of_a_serial_run(trial: Trial) -> None:
    """Graphs of all shapes have the same results as in the serial executor."""
    for seed in range(6):
        choose = random.Random(seed)
        made: list[Task[..., Any]] = []
        for number in range((3, 10, 30)[seed % 3]):
            node: Task[..., Any] = Task(partial(tasks.collect, number), name=f"task_{number}")
            for upstream in choose.sample(made, min(len(made), choose.randrange(3))):
                upstream >> node
            made.append(node)
        expect(f"results of the graph of seed {seed}", trial.run(*made), run_on("serial", *made))


def _wire(chain: list[Task[..., Any]]) -> None:
    for before, after in itertools.pairwise(chain):
        before >> after


def _counts(happened: tuple[Any, ...], expected: tuple[Any, ...]) -> tuple[Any, Any]:
    return (len(happened), set(happened)), (len(expected), set(expected))
