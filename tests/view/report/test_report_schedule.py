"""Critical path, slack and predicted durations of the report, against runs by the scheduler itself."""

from __future__ import annotations

from heapq import heappop, heappush
from time import sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core import DAG, Outcome, Retry, Run, Task
from flowkit_core.runs.states import FAILED
from flowkit_exec.ready_queue import ReadyQueue
from flowkit_state import StateManager
from flowkit_view.report.from_record import model_of
from flowkit_view.report.run_model import AttemptModel, TaskModel
from flowkit_view.report.schedule import Schedule


def task(seconds, *upstream, start=0.0, attempts=1, delay=0.0):
    """Return a task whose attempts each take some seconds."""
    found = []
    for number in range(attempts):
        begin = start + number * (seconds + delay)
        found.append(AttemptModel(begin, begin + seconds, begin))
    return TaskModel("task", upstream, "succeeded", found)


DIAMOND = [task(1), task(2, 0), task(5, 0), task(1, 1, 2)]


def test_critical_path_is_longest_chain():
    schedule = Schedule(DIAMOND)
    assert (schedule.path, schedule.seconds) == ((0, 2, 3), 7)
    assert schedule.slack == [0, 3, 0, 0]


@pytest.mark.parametrize(("workers", "seconds"), [(1, 9), (2, 7), (3, 7)])
def test_prediction_for_workers(workers, seconds):
    assert Schedule(DIAMOND).predict(workers) == seconds


def test_wait_for_retry_counts_but_holds_no_worker():
    tasks = [task(1, attempts=2, delay=10), task(8)]
    assert Schedule(tasks).seconds == 12
    assert Schedule(tasks).predict(1) == 12


def test_retry_without_edges_is_behind_the_tasks_that_are_ready():
    """Two workers: the retry is due at 4 s, and one of them is free at 5 s."""
    tasks = [task(1), task(1, attempts=2, delay=3), task(4), task(5), task(2)]
    assert Schedule(tasks).predict(2) == 7


def test_tasks_that_were_not_called_take_no_time():
    tasks = [TaskModel("skipped"), task(2, 0), TaskModel("cached", (1,), "succeeded"), task(3, 2)]
    assert Schedule(tasks).path == (1, 3)
    assert Schedule(tasks).predict(1) == 5


def test_run_without_calls_has_no_path_and_no_advice():
    schedule = Schedule([TaskModel("skipped")])
    assert (schedule.path, schedule.worker_table(0), schedule.advice(0, 1.0)) == ((), [], "")


@pytest.mark.parametrize(
    ("tasks", "used", "seconds", "sentence"),
    [
        ([task(2)] * 8, 2, 8.0, "With 8 workers instead of 2, it would take about 2.00 s instead of 8.00 s."),
        (DIAMOND, 8, 7.0, "More workers would not make it faster; 2 would do as well as 8."),
        (DIAMOND, 2, 7.0, "More workers would not make it faster."),
        (DIAMOND, 2, 70.0, "More workers would not make it faster: the tasks need 7.00 s of 1 min 10 s."),
    ],
)
def test_advice(tasks, used, seconds, sentence):
    assert Schedule(tasks).advice(used, seconds) == sentence


def test_table_has_the_number_used():
    assert [count for count, _ in Schedule([task(1)] * 12).worker_table(5)] == [1, 2, 4, 5, 8, 12, 16]


@st.composite
def pipelines(draw):
    """A pipeline with random edges, and for each task the durations of its attempts."""
    count = draw(st.integers(1, 14))
    tasks, durations = [], {}
    for number in range(count):
        lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=2))
        tasks.append(Task(lambda *_: None, name=f"t{number}", retries=len(lengths) - 1, delay=3, jitter=0))
        durations[f"t{number}"] = lengths
        for source in draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else ():
            tasks[source] >> tasks[number]
    return DAG("random", tasks=tasks), durations


def run_in_virtual_time(dag, durations, workers):
    """Run a pipeline with the scheduler of flowkit and the ready queue of its executors; return the recorded tasks."""
    graph = dag.graph()
    run = Run(graph)
    queue = ReadyQueue(run.start(), graph)
    queue.order_by_height()
    models = [TaskModel(node.name, node.upstream, "succeeded") for node in graph.nodes]
    events, now, free = [], 0.0, workers
    ready_at = dict.fromkeys(range(len(models)), 0.0)
    while not run.done:
        while len(queue) and free:
            node = queue.take()
            call = run.call(node)
            end = now + durations[node.name][call.attempt - 1]
            models[node.index].attempts.append(AttemptModel(now, end, ready_at[node.index]))
            heappush(events, (end, 0, node.index, call.attempt))
            free -= 1
        now, kind, index, attempt = heappop(events)
        node = graph.nodes[index]
        if kind:
            queue.put(node)
            continue
        free += 1
        failed = attempt < len(durations[node.name])
        step = run.finish(node, Outcome(FAILED, error=OSError()) if failed else None)
        if isinstance(step, Retry):
            ready_at[index] = now + step.delay
            heappush(events, (now + step.delay, 1, index, attempt))
            continue
        for each in step:
            ready_at[each.index] = now
        queue.extend(step)
    return models, now


@given(pipelines(), st.integers(1, 4), st.integers(1, 6))
def test_prediction_is_within_a_tenth_of_the_run_with_that_many_workers(pipeline, recorded, workers):
    dag, durations = pipeline
    models, seconds = run_in_virtual_time(dag, durations, recorded)
    schedule = Schedule(models)
    assert schedule.predict(recorded) == pytest.approx(seconds, rel=0.1)
    assert schedule.predict(workers) == pytest.approx(run_in_virtual_time(dag, durations, workers)[1], rel=0.1)
    assert schedule.predict(len(models)) == pytest.approx(schedule.seconds)


def test_prediction_from_real_run_is_not_longer_than_real_run():
    """A busy machine can only make the runs longer, never shorter."""
    first = Task(lambda: sleep(0.03), name="first")
    parts = [Task(lambda _: sleep(0.03), name=f"part {number}") for number in range(6)]
    first >> parts
    dag = DAG("sleepy", tasks=parts)
    with StateManager() as state:
        dag.run("thread", max_workers=1, state=state)
        dag.run("thread", max_workers=3, state=state)
        three, one = state.runs()
        schedule = Schedule(model_of(state, one).tasks)
    assert schedule.predict(1) <= one.duration * 1.02
    assert 0.06 <= schedule.seconds <= schedule.predict(3) <= schedule.predict(1)
    assert three.duration >= 0.09
