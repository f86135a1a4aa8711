"""Who runs when, in threads: the longest road first, and nobody idle while something is ready. No clock decides."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subprocess_harness import guarded

from flowkit_core import DAG, Task
from flowkit_exec import ThreadExecutor

SECONDS = 60  # a guard against hanging, never a wait
PAUSE = 2e-3  # what makes a task slow, in the sense that its end is worth looking up for

workers = pytest.mark.parametrize("workers", [2, 3, 8])


def nothing(*_inputs):
    """Be a trivial task."""


def pause(*_inputs):
    """Be a slow task."""
    threading.Event().wait(PAUSE)


def warmed_up(tasks):
    """Put slow tasks before others, one after the other: order is kept from then on, however busy the machine is."""
    chain = [Task(pause, name=f"warm_up_{number}") for number in range(6)]
    for before, after in itertools.pairwise(chain):
        before >> after
    chain[-1] >> [task for task in tasks if not task.upstream]
    return tasks


def meeting(size):
    """Return so many tasks that can only end when all of them run at once."""
    barrier = threading.Barrier(size, timeout=SECONDS)
    return [Task(lambda *_inputs: barrier.wait() is None, name=f"meets_{number}") for number in range(size)]


def run(workers, *tasks, **options):
    """Run tasks and what is upstream of them in so many threads."""
    return DAG("schedule", tasks=tasks).run(ThreadExecutor(workers), **options)


# Nobody is idle while a task is ready


@workers
@guarded
def test_tasks_that_are_ready_at_once_run_at_once(workers):
    assert len(run(workers, *meeting(workers))) == workers


@workers
@guarded
def test_tasks_behind_a_trivial_one_run_at_once(workers):
    start, ends = Task(nothing), meeting(workers)
    start >> ends
    run(workers, *ends)


@workers
@guarded
def test_tasks_behind_a_slow_one_run_at_once(workers):
    start, ends = Task(pause), meeting(workers)
    start >> ends
    run(workers, *ends)


@workers
@guarded
def test_tasks_behind_a_failed_one_run_at_once(workers):
    """Helpers have rested for a while when it fails, and fall to work on the clean-up tasks."""

    def fail():
        threading.Event().wait(0.2)
        raise ValueError("boom")

    start, other = Task(fail, name="start"), Task(nothing, name="other")
    ends = [task.with_options(trigger="all_done") for task in meeting(workers)]
    start >> ends
    results = run(workers, *ends, other, raise_on_failure=False)
    assert list(results.failed) == ["start"]


@workers
@guarded
def test_tasks_behind_a_retry_run_at_once(workers):
    tries = itertools.count()

    def flaky():
        if not next(tries):
            raise ValueError("boom")

    start, ends = Task(flaky, retries=1, delay=PAUSE), meeting(workers)
    start >> ends
    run(workers, *ends)


@workers
@guarded
def test_tasks_behind_a_skipped_one_run_at_once(workers):
    start, ends = Task(nothing, name="start", when=lambda: False), meeting(workers)
    ends = [task.with_options(trigger="all_done") for task in ends]
    start >> ends
    run(workers, *ends)


@workers
@guarded
def test_tasks_behind_a_long_chain_of_trivial_ones_run_at_once(workers):
    """Helpers have nothing to do for so long that they look up but rarely."""
    tasks = [Task(nothing, name=f"task_{number}") for number in range(20_000)]
    for before, after in itertools.pairwise(tasks):
        before >> after
    ends, other = meeting(workers), [Task(nothing, name=f"other_{number}") for number in range(workers)]
    tasks[-1] >> ends
    run(workers, *ends, *other)


@workers
@guarded
def test_several_branches_meet_again_and_again(workers):
    """No level waits for another: each branch goes on as soon as its own road is free."""
    branches = [[Task(pause, name=f"pause_{number}_{step}") for step in range(number)] for number in range(workers)]
    ends = meeting(workers)
    for branch, end in zip(branches, ends, strict=True):
        for before, after in itertools.pairwise([*branch, end]):
            before >> after
    run(workers, *ends)


@guarded
def test_a_ready_task_does_not_wait_for_the_end_of_its_level():
    """The short branch is done before the long task beside it may end."""
    done = threading.Event()
    long = Task(lambda: done.wait(SECONDS), name="long")
    short = [Task(pause, name=f"short_{number}") for number in range(5)]
    last = Task(lambda _input: done.set(), name="last")
    for before, after in itertools.pairwise([*short, last]):
        before >> after
    assert run(2, long, last)["long"] is True


@guarded
def test_a_retry_wait_holds_up_no_worker():
    """While one waits for its next try, its worker runs the others, and all of them at once."""
    tries = itertools.count()

    def flaky():
        if not next(tries):
            raise ValueError("boom")
        return "recovered"

    results = run(2, Task(flaky, retries=1, delay=0.05), *meeting(2))
    assert results["flaky"] == "recovered"


# The longest road first


@st.composite
def graphs(draw):
    """Return for each task the positions of its upstreams."""
    size = draw(st.integers(2, 10))
    return [sorted(draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else [] for number in range(size)]


def heights(graph):
    """Return how many tasks follow one another from each to an end."""
    found = [1] * len(graph)
    for number in reversed(range(len(graph))):
        for source in graph[number]:
            found[source] = max(found[source], 1 + found[number])
    return found


@settings(max_examples=30)
@given(graph=graphs())
def test_one_worker_always_takes_the_task_with_the_longest_road(graph):
    """Of slow tasks, the one that is started is never lower than another one that is ready."""
    started = []

    def work(number):
        return lambda *_inputs: (started.append(number), pause())

    tasks = [Task(work(number), name=f"task_{number}") for number in range(len(graph))]
    for number, sources in enumerate(graph):
        for source in sources:
            tasks[source] >> tasks[number]
    run(1, *warmed_up(tasks))
    height = heights(graph)
    for turn, number in enumerate(started):
        done = started[:turn]
        ready = [other for other in range(len(graph)) if other not in done and set(graph[other]) <= set(done)]
        assert height[number] == max(height[other] for other in ready), (started, graph)


@guarded
def test_a_chain_that_fell_behind_comes_first():
    """When its slow first task is over, the longest road is taken up at once, not at the end of the queue."""
    order, behind, over = [], threading.Event(), threading.Event()

    def work(name):
        def function(*_inputs):
            order.append(name)
            if name == "a1":  # held until the others are two tasks ahead
                behind.wait(SECONDS)
                pause()
            elif name == "c2":  # holds the second worker until the first has chosen
                behind.set()
                over.wait(SECONDS)
            elif "c2" in order:
                over.set()

        return function

    names = [f"{letter}{number}" for number in range(1, 5) for letter in "abc"]
    tasks = {name: Task(work(name), name=name) for name in names}
    for letter in "abc":
        tasks[f"{letter}1"] >> tasks[f"{letter}2"] >> tasks[f"{letter}3"] >> tasks[f"{letter}4"]
    run(2, *warmed_up(list(tasks.values())))
    assert order[order.index("c2") + 1] == "a2", f"{order}"


@guarded
def test_the_longest_of_the_first_tasks_is_taken_first():
    """And the rest of its road too, whatever the order of declaration."""
    order = []

    def work(name):
        return lambda *_inputs: (order.append(name), pause())

    short = [Task(work(f"short_{number}"), name=f"short_{number}") for number in range(5)]
    long = [Task(work(f"long_{number}"), name=f"long_{number}") for number in range(3)]
    long[0] >> long[1] >> long[2]
    run(1, *warmed_up([*short, *long]))
    assert order[:2] == ["long_0", "long_1"]
