"""The order and parallelism of tasks on threads."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subprocess_harness import guarded

from flowkit_core import DAG, Task
from flowkit_exec import ThreadExecutor

SECONDS = 60  # a limit for tests that hang
PAUSE = 2e-3  # seconds that make a task slow

workers = pytest.mark.parametrize("workers", [2, 3, 8])


def nothing(*_inputs):
    """Return at once."""


def pause(*_inputs):
    """Take longer than a slow task."""
    threading.Event().wait(PAUSE)


def warmed_up(tasks):
    """Put a chain of slow tasks before others, after which the queue is ordered, however busy the machine is."""
    chain = [Task(pause, name=f"warm_up_{number}") for number in range(6)]
    for before, after in itertools.pairwise(chain):
        before >> after
    chain[-1] >> [task for task in tasks if not task.upstream]
    return tasks


def meeting(size):
    """Return tasks that can only end when all of them run in parallel."""
    barrier = threading.Barrier(size, timeout=SECONDS)
    return [Task(lambda *_inputs: barrier.wait() is None, name=f"meets_{number}") for number in range(size)]


def run(workers, *tasks, **options):
    """Run tasks, and the tasks upstream of them, in a number of threads."""
    return DAG("schedule", tasks=tasks).run(ThreadExecutor(workers), **options)


# Parallelism


@workers
@guarded
def test_tasks_ready_at_the_start_run_in_parallel(workers):
    assert len(run(workers, *meeting(workers))) == workers


@workers
@guarded
def test_tasks_after_a_cheap_task_run_in_parallel(workers):
    start, ends = Task(nothing), meeting(workers)
    start >> ends
    run(workers, *ends)


@workers
@guarded
def test_tasks_after_a_slow_task_run_in_parallel(workers):
    start, ends = Task(pause), meeting(workers)
    start >> ends
    run(workers, *ends)


@workers
@guarded
def test_clean_up_tasks_after_a_failed_task_run_in_parallel(workers):
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
def test_tasks_after_a_retry_run_in_parallel(workers):
    tries = itertools.count()

    def flaky():
        if not next(tries):
            raise ValueError("boom")

    start, ends = Task(flaky, retries=1, delay=PAUSE), meeting(workers)
    start >> ends
    run(workers, *ends)


@workers
@guarded
def test_tasks_after_a_skipped_task_run_in_parallel(workers):
    start, ends = Task(nothing, name="start", when=lambda: False), meeting(workers)
    ends = [task.with_options(trigger="all_done") for task in ends]
    start >> ends
    run(workers, *ends)


@workers
@guarded
def test_tasks_after_a_long_chain_of_cheap_tasks_run_in_parallel(workers):
    tasks = [Task(nothing, name=f"task_{number}") for number in range(20_000)]
    for before, after in itertools.pairwise(tasks):
        before >> after
    ends, other = meeting(workers), [Task(nothing, name=f"other_{number}") for number in range(workers)]
    tasks[-1] >> ends
    run(workers, *ends, *other)


@workers
@guarded
def test_branches_do_not_wait_for_each_other(workers):
    branches = [[Task(pause, name=f"pause_{number}_{step}") for step in range(number)] for number in range(workers)]
    ends = meeting(workers)
    for branch, end in zip(branches, ends, strict=True):
        for before, after in itertools.pairwise([*branch, end]):
            before >> after
    run(workers, *ends)


@guarded
def test_ready_task_does_not_wait_for_its_level():
    done = threading.Event()
    long = Task(lambda: done.wait(SECONDS), name="long")
    short = [Task(pause, name=f"short_{number}") for number in range(5)]
    last = Task(lambda _input: done.set(), name="last")
    for before, after in itertools.pairwise([*short, last]):
        before >> after
    assert run(2, long, last)["long"] is True


@guarded
def test_waiting_retry_occupies_no_worker():
    tries = itertools.count()

    def flaky():
        if not next(tries):
            raise ValueError("boom")
        return "recovered"

    results = run(2, Task(flaky, retries=1, delay=0.05), *meeting(2))
    assert results["flaky"] == "recovered"


# Order


@st.composite
def graphs(draw):
    """Return the positions of the upstreams of each task."""
    size = draw(st.integers(2, 10))
    return [sorted(draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else [] for number in range(size)]


def heights(graph):
    """Return the length of the longest chain of tasks behind each task."""
    found = [1] * len(graph)
    for number in reversed(range(len(graph))):
        for source in graph[number]:
            found[source] = max(found[source], 1 + found[number])
    return found


@settings(max_examples=30)
@given(graph=graphs())
def test_ready_task_with_the_longest_critical_path_starts_first(graph):
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
def test_chain_behind_a_slow_task_starts_before_queued_tasks():
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
def test_first_task_with_the_longest_critical_path_starts_first():
    order = []

    def work(name):
        return lambda *_inputs: (order.append(name), pause())

    short = [Task(work(f"short_{number}"), name=f"short_{number}") for number in range(5)]
    long = [Task(work(f"long_{number}"), name=f"long_{number}") for number in range(3)]
    long[0] >> long[1] >> long[2]
    run(1, *warmed_up([*short, *long]))
    assert order[:2] == ["long_0", "long_1"]
