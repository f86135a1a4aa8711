"""Mapped tasks in worker threads: elements at once, limits, retries, stops and lazy inputs."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from flowkit_core import DAG, ElementStarted, ElementSucceeded, Task, current
from flowkit_exec import ThreadExecutor

SECONDS = 20


def sweep(function, values, *, workers=4, map_options=None, run_options=None, **options):
    each = Task(function, name="each", **options)
    dag = DAG("sweep", tasks=[each.map("x", **(map_options or {}))])
    with ThreadExecutor(workers) as executor:
        return dag.run(executor, params={"x": values}, **(run_options or {}))


def test_elements_run_at_once():
    barrier = threading.Barrier(4, timeout=SECONDS)

    def meet(x):
        barrier.wait()
        return x

    assert sweep(meet, range(8)) == {"each": list(range(8))}


def test_elements_of_a_lazy_input_run_at_once():
    barrier = threading.Barrier(3, timeout=SECONDS)

    def meet(x):
        barrier.wait()
        return x

    assert sweep(meet, iter(range(6)), workers=3) == {"each": list(range(6))}


class Gauge:
    """Counts how many calls run at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error):
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize("when", [None, lambda x: True], ids=["loop", "jobs"])
def test_limit(when):
    gauge, barrier = Gauge(), threading.Barrier(2, timeout=SECONDS)

    def meet(x):
        with gauge:
            barrier.wait()
        return x

    assert sweep(meet, range(10), map_options={"limit": 2}, when=when) == {"each": list(range(10))}
    assert gauge.most == 2


def test_limit_of_a_later_task():
    gauge = Gauge()
    barrier = threading.Barrier(4, timeout=SECONDS)

    def first(x):
        barrier.wait()
        return x

    def second(y):
        with gauge:
            return y + 1

    one, two = Task(first), Task(second)
    one.map("x") >> two.map(limit=1)
    with ThreadExecutor(4) as executor:
        results = DAG("limited", tasks=[two]).run(executor, params={"x": range(8)})
    assert results["second"] == list(range(1, 9))
    assert gauge.most == 1


def test_every_element_is_called_once():
    calls = Counter()
    lock = threading.Lock()

    def count(x):
        with lock:
            calls[x] += 1
        return x

    for values in (range(20_000), iter(range(20_000))):
        calls.clear()
        assert sweep(count, values, workers=8) == {"each": list(range(20_000))}
        assert set(calls.values()) == {1}
        assert len(calls) == 20_000


def test_elements_wait_for_their_retries_apart():
    tried = Counter()
    lock = threading.Lock()

    def flaky(x):
        with lock:
            tried[x] += 1
        if x % 7 == 0 and tried[x] < 3:
            raise ConnectionError(x)
        return x

    results = sweep(flaky, range(100), retries=2, delay=0.01)
    assert results == {"each": list(range(100))}
    attempts = results.elements["each"].attempts
    assert [attempts[number] for number in (0, 1, 7, 8)] == [3, 1, 3, 1]


def test_failure_stops_the_other_elements():
    started = threading.Event()
    calls = []

    def fail(x):
        calls.append(x)
        if x == 0:
            started.wait(SECONDS)
            raise ValueError("zero")
        started.set()
        return x

    with pytest.raises(ValueError, match="zero") as raised:
        sweep(fail, iter(range(10**9)), workers=2)
    elements = raised.value.flowkit_results.elements["each"]
    assert elements.failed.keys() == {0}
    assert len(elements) == len(calls)


def test_grace_abandons_elements():
    release, running = threading.Event(), threading.Event()

    def hang(x):
        if x == 0:
            running.wait(SECONDS)
            raise ValueError("zero")
        running.set()
        release.wait(SECONDS)
        return x

    try:
        with pytest.raises(ValueError, match="zero") as raised:
            sweep(hang, range(2), workers=2, run_options={"grace": 0.01})
        assert raised.value.flowkit_results.elements["each"].states == ["failed", "cancelled"]
    finally:
        release.set()


def test_timeout_of_elements():
    release = threading.Event()

    def hang(x):
        return release.wait(SECONDS) if x == 1 else x

    try:
        results = sweep(hang, range(3), timeout=0.05, map_options={"errors": "drop"})
        assert results == {"each": [0, 2]}
        assert list(results.failed) == ["each[1]"]
    finally:
        release.set()


def test_contexts_do_not_mix():
    barrier = threading.Barrier(4, timeout=SECONDS)

    def where(x):
        barrier.wait()
        return current().element == x

    assert sweep(where, range(16)) == {"each": [True] * 16}


def test_order_by_height_keeps_all_elements():
    """Long tasks make the queue a heap, which must keep elements apart."""
    barrier = threading.Barrier(4, timeout=SECONDS)

    def slow(x):
        barrier.wait()
        threading.Event().wait(0.002)
        return x

    one, two = Task(slow, when=lambda x: True), Task(lambda y: y + 1, name="two", when=lambda y: True)
    one.map("x") >> two.map()
    with ThreadExecutor(4) as executor:
        results = DAG("heap", tasks=[two]).run(executor, params={"x": range(16)})
    assert results["two"] == list(range(1, 17))


@pytest.mark.parametrize("limit", [1, 2])
def test_limit_with_retries_reaches_every_element(limit):
    """An element that waits for its retry counts, and those that it keeps waiting go on after it."""
    tried = Counter()

    def flaky(x):
        tried[x] += 1
        if tried[x] == 1:
            raise ConnectionError(x)
        return x

    results = sweep(flaky, range(20), map_options={"limit": limit}, retries=1, delay=0.001)
    assert results == {"each": list(range(20))}


def test_mapped_clean_up_task_runs_after_a_failure_in_threads():
    rows, bad = Task(lambda: [1, 2, 3], name="rows"), Task(lambda: 1 / 0, name="bad", priority=-1)
    clean = Task(lambda row: row, name="clean", trigger="all_done")
    rows >> clean.map()
    clean.after(bad)
    results = DAG("clean", tasks=[clean]).run("thread", raise_on_failure=False)
    assert results["clean"] == [1, 2, 3]
    assert list(results.failed) == ["bad"]


def test_map_whose_input_was_not_read_to_its_end_is_not_a_success_in_threads():
    def fail_later(row):
        if row == 50:
            raise ValueError(row)
        return row

    rows, each = Task(lambda: iter(range(10**9)), name="rows"), Task(fail_later, name="each")
    rows >> each.map()
    results = DAG("endless", tasks=[each]).run("thread", raise_on_failure=False)
    assert results.states["each"] in ("failed", "cancelled")
    assert "each" not in results


@pytest.mark.parametrize("errors", ["drop", "return", "raise"])
def test_element_that_waits_for_a_retry_when_the_run_stops(errors):
    """It has not run to its end: it is neither dropped nor returned as failed."""
    waits = threading.Event()

    def flaky(x):
        raise ConnectionError(x)

    def fail():
        assert waits.wait(SECONDS)
        raise ValueError("other")

    each = Task(flaky, name="each", retries=1, delay=1000, on_retry=lambda event: waits.set())
    dag = DAG("stopped", tasks=[each.map("x", errors=errors), Task(fail)])
    with ThreadExecutor(2) as executor:
        results = dag.run(executor, params={"x": [1]}, raise_on_failure=False)
    expected = "failed" if errors == "raise" else "cancelled"
    assert results.elements["each"].states == [expected]
    assert results.states["each"] == expected
    assert list(results.failed) == (["fail", "each", "each[0]"] if errors == "raise" else ["fail"])


def test_failed_element_is_represented_without_the_lock_of_the_run():
    """The representation of one element waits for the end of another one, which needs the lock for its events."""

    class Slow:
        def __repr__(self):
            assert has_ended.wait(60)
            return "slow"

    def each(x):
        return 1 // x  # a TypeError for Slow

    def observe(event):
        if isinstance(event, ElementSucceeded):
            has_ended.set()

    has_ended = threading.Event()
    observe.events = (ElementStarted, ElementSucceeded)
    dag = DAG("sweep", tasks=[Task(each).map("x", errors="drop")])
    with ThreadExecutor(2) as executor:
        results = dag.run(executor, params={"x": [Slow(), 1]}, observers=[observe])
    assert results == {"each": [1]}
    assert "flowkit: element each[0] is slow" in results.elements["each"].failed[0].__notes__
