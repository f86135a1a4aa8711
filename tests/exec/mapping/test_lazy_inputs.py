"""Lazy inputs of mapped tasks: when and where elements are pulled, and generators that wait, fail or never end."""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import partial

import map_functions
import pytest

from flowkit_core import DAG, MapLengthError, MissingResultError, RunTimeoutError, Task, current
from flowkit_exec import FuturesExecutor, ProcessExecutor, ThreadExecutor

SECONDS = 20

KINDS = {
    "serial": ("serial", {}, {}),
    "serial with timeout": ("serial", {}, {"timeout": 60}),
    "thread": ("thread", {}, {}),
    "thread, condition": ("thread", {"when": lambda x: True}, {}),
    "thread, element timeout": ("thread", {"timeout": 60}, {}),
    "thread, pool": ("thread", {"pool": "db"}, {"pools": {"db": 2}}),
    "futures": ("futures", {}, {}),
}


@contextmanager
def executor_of(kind):
    if kind == "futures":
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as pool:
            yield FuturesExecutor(pool)
    elif kind == "thread":
        with ThreadExecutor(3) as executor:
            yield executor
    elif kind == "process":
        with ProcessExecutor(2) as executor:
            DAG("start", tasks=[Task(map_functions.no_numbers)]).run(executor)  # a timeout counts the start of workers
            yield executor
    else:
        yield kind


def run_over(source, function, kind="thread", options=None, run_options=None, map_options=None):
    """Return the results of a task that is mapped over the result of another one."""
    if kind == "process":
        map_functions.source, source = source, map_functions.registered
    rows, each = Task(source, name="rows"), Task(function, name="each", **(options or {}))
    rows >> each.map(**(map_options or {}))
    with executor_of(kind) as executor:
        return DAG("lazy", tasks=[each]).run(executor, **(run_options or {}))


async def as_it_is(x):
    return x


class Feedback:
    """A generator that yields each number when the one before has been processed."""

    def __init__(self, count):
        self.count = count
        self.done = [threading.Event() for _ in range(count)]

    def numbers(self):
        for number in range(self.count):
            if number:
                assert self.done[number - 1].wait(SECONDS), f"element {number - 1} has not run"
            yield number

    def process(self, x):
        self.done[x].set()
        return x

    async def process_async(self, x):
        return self.process(x)


@pytest.mark.parametrize("kind", KINDS)
def test_generator_that_waits_for_its_own_elements(kind):
    name, options, run_options = KINDS[kind]
    feedback = Feedback(20)
    assert run_over(feedback.numbers, feedback.process, name, options, run_options) == {"each": list(range(20))}


@pytest.mark.parametrize("error", [None, ValueError("no more rows")], ids=["ends", "raises"])
@pytest.mark.parametrize("kind", ["serial", "thread"])
def test_duration_of_generator_lasts_until_it_has_ended(kind, error):
    spent = []

    def rows():
        began = time.perf_counter()
        yield from range(5)
        spent.append(time.perf_counter() - began)
        if error is not None:
            raise error

    each = Task(lambda x: x, name="each").map()
    Task(rows, name="rows") >> each
    results = DAG("lazy", tasks=[each]).run(kind, raise_on_failure=False)
    assert results.durations["rows"] >= spent[0]


@pytest.mark.parametrize("run_options", [{}, {"max_async": 2}], ids=str)
def test_generator_that_waits_for_its_own_async_elements(run_options):
    feedback = Feedback(20)
    assert run_over(feedback.numbers, feedback.process_async, "thread", {}, run_options) == {"each": list(range(20))}


@pytest.mark.parametrize("options", [{}, {"timeout": 60}], ids=["blocks", "jobs"])
def test_generator_that_waits_for_elements_in_processes(options, tmp_path):
    def numbers():
        for number in range(6):
            until = time.monotonic() + SECONDS
            while number and not (tmp_path / str(number - 1)).exists():
                assert time.monotonic() < until, f"element {number - 1} has not run"
                time.sleep(0.001)
            yield number

    results = run_over(numbers, partial(map_functions.mark, str(tmp_path)), "process", options)
    assert results == {"each": list(range(6))}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "futures"])
def test_no_element_is_pulled_before_a_worker_is_free(kind):
    """Elements that never end are pulled by three workers, or as many as the pool lets start and one that waits."""
    name, options, run_options = KINDS[kind]
    pulled, running = [], []
    release, full = threading.Event(), threading.Event()
    most = {"serial": 1, "serial with timeout": 1}.get(kind, 3)
    at_once = 2 if "pool" in kind else most

    def numbers():
        for number in range(50):
            pulled.append(number)
            yield number

    def block(x):
        if not release.is_set():
            running.append(x)
            if len(running) == at_once:
                full.set()
            assert release.wait(SECONDS)
        return x

    def look():
        assert full.wait(SECONDS)
        found = len(pulled)
        release.set()
        return found

    with closing(_InThread(look)) as watcher:
        assert run_over(numbers, block, name, options, run_options)["each"] == list(range(50))
    assert watcher.result <= most


class _InThread:
    """Calls a function in a thread."""

    def __init__(self, function):
        self.result = None
        self._function = function
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        self.result = self._function()

    def close(self):
        self._thread.join()


def test_limit_bounds_the_pulled_elements_of_async_tasks():
    pulled = []

    def numbers():
        for number in range(100):
            pulled.append(number)
            yield number

    async def process(x):
        await asyncio.sleep(0)
        return len(pulled) - x

    ahead = run_over(numbers, process, run_options={"max_async": 3})["each"]
    assert max(ahead) <= 4  # itself and the two that may run with it; one that was pulled since it was started


# Threads


def database_rows(count):
    with closing(sqlite3.connect(":memory:")) as connection:
        yield from connection.execute(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i < ?) select i from n", (count - 1,)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_runs_a_generator(kind):
    name, options, run_options = KINDS[kind]
    threads = set()

    def numbers():
        try:
            for row in database_rows(500):
                threads.add(threading.get_ident())
                yield row
        finally:
            threads.add(threading.get_ident())

    results = run_over(numbers, lambda row: row[0], name, options, run_options)
    assert results == {"each": list(range(500))}
    assert len(threads) == 1
    assert (threading.get_ident() in threads) is (kind == "serial")


def test_generator_ends_in_its_thread_when_the_run_stops():
    threads = set()

    def numbers():
        try:
            for number in range(10**9):
                threads.add(threading.get_ident())
                yield number
        finally:
            threads.add(threading.get_ident())
            ended.set()

    ended = threading.Event()
    with pytest.raises(ZeroDivisionError):
        run_over(numbers, lambda x: 1 // (50 - x))
    assert ended.is_set()
    assert len(threads) == 1


def test_error_about_a_thread_says_what_to_write():
    """A cursor that a task returns was made in another thread; it does here what one of sqlite3 does."""

    def rows():
        made_in = threading.get_ident()

        def read(row):
            if threading.get_ident() != made_in:
                raise sqlite3.ProgrammingError(
                    "SQLite objects created in a thread can only be used in that same thread"
                )
            return row

        return map(read, [1])

    assert run_over(rows, lambda row: row, "serial") == {"each": [1]}
    with pytest.raises(sqlite3.ProgrammingError) as raised:
        run_over(rows, lambda row: row)
    assert "open the connection in a generator function" in "\n".join(raised.value.__notes__)


place = ContextVar("place", default="outside")


@pytest.mark.parametrize("run_options", [{}, {"keep": ["rows", "each"]}, {"timeout": 60}], ids=str)
@pytest.mark.parametrize("kind", ["serial", "thread", "thread, condition"])
def test_generator_has_the_context_of_its_task_and_elements_have_their_own(kind, run_options):
    seen = []

    def numbers():
        for number in range(3):
            seen.append((current().task, current().element, place.get()))
            place.set("generator")
            yield number

    def facts(number):
        found = current().task, current().element, place.get()
        place.set("element")
        return found

    executor, options, _ = KINDS[kind]
    results = run_over(numbers, facts, executor, options, run_options)
    assert seen == [("rows", None, "outside"), ("rows", None, "generator"), ("rows", None, "generator")]
    assert results["each"] == [("each", number, "outside") for number in range(3)]
    assert place.get() == "outside"


def test_serial_elements_with_a_condition_leave_the_generator_its_context():
    def numbers():
        yield current().task
        yield current().task

    assert run_over(numbers, as_given, "serial", {"when": bool})["each"] == ["rows", "rows"]


def as_given(x):
    return x


def test_generator_resets_a_context_variable_when_it_is_closed_early():
    reset = []

    def numbers():
        token = place.set("generator")
        try:
            yield 1
            yield 2
        finally:
            place.reset(token)
            reset.append(place.get())

    with pytest.raises(ZeroDivisionError):
        run_over(numbers, lambda number: 1 // 0, "serial")
    assert reset == ["outside"]


# Generators that wait


def warns_of_blocked():
    return pytest.warns(RuntimeWarning, match="iterator of task 'rows' did not yield or end")


class Blocked:
    """A generator that yields one number, then waits until the test ends."""

    def __init__(self):
        self.waits, self.release = threading.Event(), threading.Event()

    def numbers(self):
        yield 0
        self.waits.set()
        self.release.wait(SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.release.set()


@pytest.mark.parametrize("kind", ["serial", "thread", "process", "async"])
def test_timeout_of_the_run_ends_a_blocked_generator(kind):
    function = as_it_is if kind == "async" else map_functions.add_one
    name = "thread" if kind == "async" else kind
    limits = {"timeout": 1.0, "grace": 0.01}
    with Blocked() as blocked, warns_of_blocked(), pytest.raises(RunTimeoutError) as raised:
        run_over(blocked.numbers, function, name, {}, limits)
    assert "'rows' did not end in time, and was abandoned" in "\n".join(raised.value.__notes__)
    results = raised.value.flowkit_results
    assert results.states == {"rows": "succeeded", "each": "cancelled"}


@pytest.mark.parametrize("options", [{}, {"when": lambda x: True}], ids=["loop", "jobs"])
def test_failure_ends_a_blocked_generator(options):
    def fail(x):
        assert blocked.waits.wait(SECONDS)
        raise ValueError(x)

    with Blocked() as blocked, warns_of_blocked(), pytest.raises(ValueError, match="0"):
        run_over(blocked.numbers, fail, "thread", options, {"grace": 0.01})


def test_failure_of_another_task_ends_a_blocked_generator():
    def fail():
        assert blocked.waits.wait(SECONDS)
        raise ValueError("other")

    blocked = Blocked()
    rows, each, other = Task(blocked.numbers, name="rows"), Task(lambda x: x, name="each"), Task(fail)
    rows >> each.map()
    dag = DAG("lazy", tasks=[each, other])
    with blocked, ThreadExecutor(2) as executor, warns_of_blocked(), pytest.raises(ValueError, match="other") as raised:
        dag.run(executor, grace=0.01)
    assert raised.value.flowkit_results.states == {"rows": "succeeded", "each": "cancelled", "fail": "failed"}


@pytest.mark.parametrize("executor", ["serial", "thread"])
@pytest.mark.parametrize("function", [as_it_is, lambda x: x], ids=["async", "sync"])
def test_cancellation_of_arun_ends_a_blocked_generator(executor, function):
    blocked = Blocked()
    rows, each = Task(blocked.numbers, name="rows"), Task(function, name="each")
    rows >> each.map()
    dag = DAG("lazy", tasks=[each])

    async def main():
        run = asyncio.create_task(dag.arun(executor, grace=0.01))
        assert await asyncio.to_thread(blocked.waits.wait, SECONDS)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    with blocked, warns_of_blocked():
        asyncio.run(main())


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="platform: no pthread_kill")
def test_interrupt_ends_a_blocked_generator():
    main_thread, handled = threading.main_thread().ident, threading.Event()

    def handle(_number, _frame):
        if not handled.is_set():
            handled.set()
            raise KeyboardInterrupt

    def interrupt():
        assert blocked.waits.wait(SECONDS)
        while not handled.wait(0.05):  # a signal just before a lock is acquired is handled after the next one
            signal.pthread_kill(main_thread, signal.SIGINT)

    blocked = Blocked()
    before = signal.signal(signal.SIGINT, handle)
    try:
        with blocked, closing(_InThread(interrupt)), warns_of_blocked(), pytest.raises(KeyboardInterrupt):
            run_over(blocked.numbers, lambda x: x, "thread", {}, {"grace": 0.01})
    finally:
        signal.signal(signal.SIGINT, before)


# Generators that fail


@pytest.mark.parametrize("count", [0, 1, 700])
@pytest.mark.parametrize("kind", [*KINDS, "process", "async"])
def test_generator_that_fails(kind, count):
    """Its task has failed; the elements that it has yielded have run."""
    name, options, run_options = KINDS.get(kind, (kind, {}, {}))

    def numbers():
        yield from range(count)
        raise ValueError("no more")

    function = as_it_is if kind == "async" else map_functions.add_one
    with pytest.raises(ValueError, match="no more") as raised:
        run_over(numbers, function, "thread" if kind == "async" else name, options, run_options)
    notes = "\n".join(raised.value.__notes__)
    assert "task 'rows' of 'lazy' failed" in notes
    assert f"the iterator raised this after {count} element" in notes
    results = raised.value.flowkit_results
    assert results.states == {"rows": "failed", "each": "upstream_failed"}
    assert results.elements["each"].states == ["succeeded"] * count


def test_iterator_parameter_that_fails_fails_the_mapped_task():
    def numbers():
        yield 1
        raise ValueError("no more")

    each = Task(lambda x: x, name="each")
    with ThreadExecutor(2) as executor, pytest.raises(ValueError, match="no more") as raised:
        DAG("lazy", tasks=[each.map("x")]).run(executor, params={"x": numbers()})
    assert "task 'each' of 'lazy' failed" in "\n".join(raised.value.__notes__)


# Several inputs


@pytest.mark.parametrize("kind", ["serial", "thread", "futures"])
@pytest.mark.parametrize("words", [["a", "b", "c"], lambda: iter("abc")], ids=["list", "iterator"])
def test_paired_inputs_are_pulled_in_step(kind, words):
    feedback = Feedback(3)
    rows, texts = Task(feedback.numbers, name="rows"), Task(words if callable(words) else lambda: words, name="texts")
    pair = Task(lambda rows, texts: (feedback.process(rows), texts), name="pair")
    [rows, texts] >> pair.map()
    with executor_of(kind) as executor:
        results = DAG("pairs", tasks=[pair]).run(executor)
    assert results["pair"] == [(0, "a"), (1, "b"), (2, "c")]
    with pytest.raises(MissingResultError, match="which 'pair' has consumed"):
        results["rows"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (lambda: iter(range(5)), lambda: [1, 2], "3 or more of 'first', 2 of 'second'"),
        (lambda: iter(range(2)), lambda: [1, 2, 3], "2 of 'first', 3 of 'second'"),
        (lambda: iter(range(2)), lambda: iter(range(3)), "2 of 'first', 3 or more of 'second'"),
    ],
)
def test_lengths_of_lazy_inputs_are_compared_at_the_end(first, second, message):
    pair = Task(lambda first, second: (first, second), name="pair")
    [Task(first, name="first"), Task(second, name="second")] >> pair.map()
    with ThreadExecutor(2) as executor, pytest.raises(MapLengthError, match=message) as raised:
        DAG("pairs", tasks=[pair]).run(executor)
    assert raised.value.flowkit_results.states["pair"] == "failed"
    assert raised.value.flowkit_results.elements["pair"].states == ["succeeded", "succeeded"]


def test_error_of_a_paired_generator_names_its_task():
    def second():
        yield 1
        raise ValueError("no more")

    pair = Task(lambda first, second: (first, second), name="pair")
    [Task(lambda: iter("abc"), name="first"), Task(second)] >> pair.map()
    with ThreadExecutor(2) as executor, pytest.raises(ValueError, match="no more") as raised:
        DAG("pairs", tasks=[pair]).run(executor)
    states = raised.value.flowkit_results.states
    assert states == {"first": "succeeded", "second": "failed", "pair": "upstream_failed"}


# Memory


class Counted:
    """An object that counts how many there are, and how many there have been at most."""

    alive = most = 0
    lock = threading.Lock()

    def __init__(self, number):
        self.number = number
        with self.lock:
            Counted.alive += 1
            Counted.most = max(Counted.most, Counted.alive)

    def __del__(self):
        with self.lock:
            Counted.alive -= 1


@pytest.mark.parametrize("kind", ["serial", "thread", "thread, condition", "async"])
def test_elements_of_a_generator_are_not_kept(kind):
    """With ``keep=``, too."""
    name, options, run_options = KINDS.get(kind, ("thread", {}, {"max_async": 3}))
    gc.collect()
    Counted.most = Counted.alive = 0
    size = 20_000 if kind in ("serial", "thread") else 1000
    rows = Task(lambda: map(Counted, range(size)), name="rows")
    number_of = _number_of if kind == "async" else lambda row: row.number
    each, total = Task(number_of, name="each", **options), Task(sum, name="total")
    rows >> each.map() >> total
    with executor_of(name) as executor:
        assert DAG("lazy", tasks=[total]).run(executor, keep=["total"], **run_options) == {"total": sum(range(size))}
    assert Counted.alive == 0
    assert Counted.most <= 4096 + 10 if kind == "thread" else Counted.most <= 10


async def _number_of(row):
    return row.number


def test_kept_iterator_is_a_list():
    rows, each = Task(lambda: iter([1, 2]), name="rows"), Task(lambda x: x, name="each")
    rows >> each.map()
    with ThreadExecutor(2) as executor:
        assert DAG("lazy", tasks=[each]).run(executor, keep=["rows", "each"]) == {"rows": [1, 2], "each": [1, 2]}
