"""Which calls of a cached function are computed, and which results are reused."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading

import pytest
from cached_functions import double, results

from flowkit_state import (
    StateManager,
    TaskCache,
)


def test_equal_calls_are_computed_once(calls):
    @TaskCache()
    def add(a, b=2, *rest, scale=1, **more):
        calls.append(a)
        return a + b

    assert add(1) == add(1, 2) == add(1, b=2) == add(a=1, b=2, scale=1) == 3
    assert calls == [1]
    for other in (
        lambda: add(1, 3),
        lambda: add(1, 2, 3),
        lambda: add(1, scale=2),
        lambda: add(1, x=1),
        lambda: add(2),
    ):
        other()
    assert len(calls) == 6


def test_none_result_is_cached(calls):
    @TaskCache()
    def nothing():
        calls.append(1)

    assert nothing() is None
    assert nothing() is None
    assert calls == [1]


def test_arguments_of_different_types_are_different_calls(calls):
    @TaskCache()
    def kind(x):
        calls.append(x)
        return type(x).__name__

    values = [1, True, 1.0, "1", b"1", (1,), [1], {1}, {1: 1}, {"1": 1}, 0.0, -0.0, None]
    for _ in range(2):
        assert [kind(value) for value in values] == [type(value).__name__ for value in values]
    assert len(calls) == len(values)


def test_large_arguments_are_compared_by_content(calls):
    @TaskCache()
    def total(rows):
        calls.append(len(rows))
        return sum(rows)

    assert total(list(range(10_000))) == total(list(range(10_000)))
    total([*range(9_999), 0])
    assert len(calls) == 2


def test_exception_is_not_cached(calls):
    @TaskCache()
    def fail():
        calls.append(1)
        raise ValueError(len(calls))

    for number in (1, 2):
        with pytest.raises(ValueError, match=str(number)):
            fail()


def test_cached_function_has_signature_and_docstring():
    cached = TaskCache()(double)
    assert inspect.isfunction(cached)
    assert (cached.__name__, cached.__doc__, cached.__wrapped__) == ("double", "Twice as much.", double)
    assert inspect.signature(cached) == inspect.signature(double)
    with pytest.raises(TypeError, match=r"double\(\) missing 1 required positional argument: 'x'"):
        cached()


def test_result_expires_after_ttl(calls, clock):
    state = StateManager(clock=clock)

    @TaskCache(state, ttl=10)
    def now():
        calls.append(1)
        return len(calls)

    assert now() == now() == 1
    clock.advance(10)
    assert now() == 2


def test_default_ttl_of_state_applies_to_results(calls, clock):
    @TaskCache(StateManager(default_ttl=5, clock=clock))
    def now():
        calls.append(1)

    now()
    clock.advance(5)
    now()
    assert len(calls) == 2


def test_result_of_other_version_is_not_reused(calls, path):
    for version in (None, 1, 2, (2, "b"), 2):
        with StateManager(path) as state:
            TaskCache(state, version=version)(lambda x: calls.append(x) or x)(1)
    with StateManager(path) as state:
        assert len(results(state)) == 4


def test_results_persist_in_file(path, calls):
    def slow(x):
        calls.append(x)
        return (x, {x})

    with StateManager(path) as state:
        assert TaskCache(state)(slow)(1) == (1, {1})
    cache = TaskCache(path)
    assert cache(slow)(1) == (1, {1})
    assert calls == [1]
    cache.state.close()


SCRIPT = """
import sys
from flowkit_state import TaskCache

@TaskCache(sys.argv[1])
def slow(x, tags=frozenset("abc")):
    print("computing")
    return {x: sorted(tags)}

print(slow(1), slow(2, frozenset("cab")))
"""


def test_other_process_reuses_result(path):
    outputs = []
    for seed in "12":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, path], env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(done.stdout)
    assert outputs[0].count("computing") == 2
    assert outputs[1] == "{1: ['a', 'b', 'c']} {2: ['a', 'b', 'c']}\n"


def test_invalidate_and_clear_delete_results(calls):
    cache = TaskCache()

    @cache
    def f(x):
        calls.append(x)

    @cache
    def g(x):
        calls.append(-x)

    for x in (1, 2, 3):
        f(x)
    g(1)
    assert f.invalidate(x=1) is True
    assert f.invalidate(1) is False
    f(1)
    assert calls == [1, 2, 3, -1, 1]
    assert f.clear() == 3
    assert f.clear() == 0
    f(2)
    g(1)
    assert calls == [1, 2, 3, -1, 1, 2]
    assert cache.clear() == 2
    cache.state.set("mine", 1)
    cache.clear()
    assert cache.state.keys() == ["mine"]


def test_threads_needing_same_result_compute_it_once(calls):
    started, go_on = threading.Event(), threading.Event()

    @TaskCache()
    def slow(x):
        calls.append(x)
        started.set()
        go_on.wait()
        return [x]

    results = []
    threads = [threading.Thread(target=lambda: results.append(slow(1))) for _ in range(5)]
    for thread in threads:
        thread.start()
    started.wait()
    go_on.set()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert results == [[1]] * 5


def test_threads_needing_different_results_do_not_wait(calls):
    both = threading.Barrier(2, timeout=60)

    @TaskCache()
    def meet(x):
        both.wait()
        return x

    threads = [threading.Thread(target=meet, args=(x,)) for x in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [meet(1), meet(2)] == [1, 2]


def test_waiting_thread_computes_after_exception(calls):
    started, go_on = threading.Event(), threading.Event()

    @TaskCache()
    def flaky():
        calls.append(1)
        if len(calls) == 1:
            started.set()
            go_on.wait()
            raise ValueError
        return "done"

    def first():
        with pytest.raises(ValueError):
            flaky()

    results = []
    threads = [threading.Thread(target=first), threading.Thread(target=lambda: results.append(flaky()))]
    threads[0].start()
    started.wait()
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == ["done"]


def test_serializer_defines_content_of_arguments():
    class Frame:
        def __init__(self, rows):
            self.rows = rows

    class FrameSerializer:
        name, type = "frame", Frame

        def dump(self, value):
            return repr(value.rows).encode()

        def load(self, data):
            return Frame(eval(data))

    calls = []

    @TaskCache(StateManager(serializer=FrameSerializer()))
    def total(frame):
        calls.append(1)
        return sum(frame.rows)

    assert [total(Frame([1, 2])), total(Frame([1, 2])), total(Frame([3]))] == [3, 3, 3]
    assert len(calls) == 2
