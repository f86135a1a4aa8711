"""Runs with a store: any object that satisfies the protocol, here one with a dictionary."""

from __future__ import annotations

import importlib.util
import pickle
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core import DAG, MissingDistributionError, Task, TaskReused, TaskStarted, task
from flowkit_core.context import idempotency_key


class Store:
    """Keeps records of the last run; fails to prepare what is in `refused`, and to record after `limit` records."""

    def __init__(self, refused=(), limit=None):
        self.run_id = None
        self.records = {}
        self.order = []
        self.status = None
        self.rest = None
        self.kept = {}
        self.refused = refused
        self.limit = limit
        self.names = []
        self.outdated = {}  # task -> why its result is out of date
        self.closed = 0

    def open_run(self, run_id, pipeline, tasks, upstream, params, resume, resume_max_age):
        go_on = resume and self.status != "succeeded" and self.run_id is not None
        if not go_on:
            self.run_id, self.records = run_id, {}
        self.names, self.status = [task.name for task in tasks], "running"
        done = {
            place: SimpleNamespace(**self.records[name])
            for place, name in enumerate(self.names)
            if go_on and self.records.get(name, {}).get("state") in ("succeeded", "skipped")
        }
        return SimpleNamespace(
            run_id=self.run_id,
            done={place: task for place, task in done.items() if self.names[place] not in self.outdated},
            outdated={place: self.outdated[self.names[place]] for place in done if self.names[place] in self.outdated},
            prepare=self.prepare,
            record=self.record,
            close=self.close_run,
        )

    def prepare(self, place, value):
        if self.names[place] in self.refused:
            raise TypeError(f"cannot keep {self.names[place]}")
        return [value]

    def record(self, outcomes):
        if self.limit is not None and len(self.order) + len(outcomes) > self.limit:
            raise OSError("the disk is full")
        for outcome in outcomes:
            name = self.names[outcome.index]
            self.order.append(name)
            facts = {name: getattr(outcome, name) for name in ("state", "reason", "error", "source", "why")}
            value = outcome.stored and outcome.stored[0]
            seconds = outcome.seconds or 0.0
            self.records[name] = {"value": value, "attempts": outcome.number, "seconds": seconds, **facts}

    def close_run(self, status, rest, error):
        self.status, self.rest = status, {self.names[outcome.index]: outcome.state for outcome in rest}

    def cache(self, own=None):
        return Cache(self.kept)

    def close(self):
        self.closed += 1


class Cache:
    """Knows a call by its task and its arguments."""

    def __init__(self, kept):
        self.kept = kept

    def over(self, _state):
        return self

    def find(self, function, args, kwargs, *, name, ignore, refresh):
        key = name, tuple(args), tuple(sorted((k, v) for k, v in kwargs.items() if k not in ignore))
        known = key in self.kept and not refresh
        return SimpleNamespace(known=known, value=self.kept.get(key), token=key, why="the same" if known else "new")

    def keep(self, token, value):
        self.kept[token] = value


@pytest.fixture
def ran():
    return []


def pipeline(ran, **behavior):
    """Return a pipeline a -> b -> c; ``behavior`` maps names of tasks to functions that they call."""

    def make(name):
        def body(*inputs):
            ran.append(name)
            return behavior.get(name, lambda *_: name)(*inputs)

        return body

    a, b, c = (Task(make(name), name=name) for name in "abc")
    a >> b >> c
    return DAG("letters", tasks=[c])


def fail(*_inputs):
    raise ValueError("no")


def test_durations_and_attempts_omit_tasks_that_did_not_run(ran):
    """Results that were taken from a record or a cache."""
    store, broken = Store(), [True]

    def unsteady(*_inputs):
        if broken:
            raise ValueError("no")

    dag = pipeline(ran, b=unsteady)
    with pytest.raises(ValueError):
        dag.run("serial", state=store)
    broken.clear()
    results = dag.run("serial", state=store, resume=True)
    assert results.resumed == ("a",)
    assert set(results.durations) == set(results.attempts) == {"b", "c"}
    cached = DAG("cached", tasks=[Task(lambda: 1, name="one", cache=True)])
    assert cached.run("serial", state=store).attempts == {"one": 1}
    results = cached.run("serial", state=store)
    assert results.cached == ("one",)
    assert (results.durations, results.attempts) == ({}, {})


def test_outcome_is_recorded_before_call_that_is_not_known_to_be_short(ran):
    store = Store()
    a, b, c = Task(lambda: "a", name="a"), Task(lambda a: store.order.copy(), name="b"), Task(str, name="c")
    a >> b >> c
    assert DAG("letters", tasks=[c]).run("serial", state=store) == {"a": "a", "b": ["a"], "c": "['a']"}
    assert (store.order, store.status, store.rest, store.closed) == (["a", "b", "c"], "succeeded", {}, 0)


def test_stored_form_may_be_none(ran):
    """The store decides the stored form of a result."""
    store = Store()
    store.prepare = lambda _place, value: value
    pipeline(ran, a=lambda: None).run("serial", state=store)
    assert store.order == ["a", "b", "c"]


def test_resume_continues_failed_run(ran):
    store = Store()
    with pytest.raises(ValueError, match="no"):
        pipeline(ran, b=fail).run("serial", state=store)
    assert (store.status, store.rest) == ("failed", {"c": "upstream_failed"})
    run_id = store.run_id
    ran.clear()
    events = []
    results = pipeline(ran).run("serial", state=store, resume=True, observers=[events.append])
    assert results == {"a": "a", "b": "b", "c": "c"}
    assert (ran, results.resumed, results.run_id) == (["b", "c"], ("a",), run_id)
    assert [event.task for event in events if isinstance(event, TaskReused)] == ["a"]
    assert [event.task for event in events if isinstance(event, TaskStarted)] == ["b", "c"]
    ran.clear()
    assert pipeline(ran).run("serial", state=store, resume=True).resumed == ()
    assert ran == ["a", "b", "c"]


def test_outdated_task_runs_again_and_results_tell_why(ran):
    store = Store()
    store.limit = 2
    with pytest.raises(OSError):
        pipeline(ran).run("serial", state=store)
    store.limit, store.status, store.outdated = None, "failed", {"b": "function b has changed"}
    ran.clear()
    results = pipeline(ran).run("serial", state=store, resume=True)
    assert (ran, results.resumed, results.outdated) == (["b", "c"], ("a",), {"b": "function b has changed"})
    assert {name: facts["why"] for name, facts in store.records.items()} == {
        "a": "",
        "b": "ran again: function b has changed",
        "c": "",
    }
    for copied in (results.copy(), pickle.loads(pickle.dumps(results))):
        assert copied.outdated == results.outdated
    assert pipeline(ran).run("serial", state=store).outdated == {}
    assert pipeline(ran).run("serial").outdated == {}


def test_resume_that_fails_early_keeps_record(ran):
    """The executor cannot start."""

    class Broken:
        name = "broken"

        def execute(self, run):
            raise OSError("no more processes")

        def close(self):
            pass

    store = Store()
    with pytest.raises(ValueError, match="no"):
        pipeline(ran, c=fail).run("serial", state=store)
    with pytest.raises(OSError, match="no more processes") as caught:
        pipeline(ran).run(Broken(), state=store, resume=True)
    assert (store.status, store.rest) == ("interrupted", {"c": "cancelled"})
    assert caught.value.flowkit_results == {"a": "a", "b": "b"}
    assert pipeline(ran).run("serial", state=store, resume=True).resumed == ("a", "b")


def test_retry_that_was_cancelled_is_recorded_as_failure():
    """With the last exception, after its only attempt."""
    store = Store()
    flaky = Task(lambda: 1 / 0, name="flaky", retries=3, delay=3600)
    broken = Task(fail, name="broken")
    with pytest.raises(ValueError, match="no"):
        DAG("durable", tasks=[flaky, broken]).run("serial", state=store)
    record = store.records["flaky"]
    assert (record["state"], record["attempts"], type(record["error"])) == ("failed", 2, ZeroDivisionError)
    assert (store.status, store.rest) == ("failed", {})


def test_resume_continues_interrupted_run(ran):
    def interrupt(*_):
        raise KeyboardInterrupt

    store = Store()
    with pytest.raises(KeyboardInterrupt):
        pipeline(ran, c=interrupt).run("serial", state=store)
    assert store.status == "interrupted"
    assert pipeline(ran).run("serial", state=store, resume=True).resumed == ("a", "b")


def test_result_that_cannot_be_recorded_stops_run_and_is_returned(ran):
    store = Store(refused="b")
    with pytest.raises(TypeError, match="cannot keep b") as caught:
        pipeline(ran).run("serial", state=store, state_errors="raise")
    assert caught.value.flowkit_results == {"a": "a", "b": "b"}
    assert "'b' of 'letters' could not be recorded" in caught.value.__notes__[0]
    assert ran == ["a", "b"]
    results = pipeline(ran).run("serial", state=store, state_errors="raise", raise_on_failure=False)
    assert results == {"a": "a", "b": "b"}
    assert str(results.unrecorded["b"]) == "cannot keep b"


def test_result_that_cannot_be_recorded_is_warning(ran):
    with pytest.warns(RuntimeWarning, match="'b' of 'letters' could not be recorded, and runs again on resume"):
        assert pipeline(ran).run("serial", state=Store(refused="b")) == {"a": "a", "b": "b", "c": "c"}


def test_state_errors_warn_continues_without_record(ran):
    store = Store(refused="b")
    with pytest.warns(RuntimeWarning, match="'b'"):
        assert pipeline(ran).run("serial", state=store, state_errors="warn") == {"a": "a", "b": "b", "c": "c"}
    assert store.order == ["a", "b", "c"]  # b without its value
    full = Store(limit=1)
    with pytest.warns(RuntimeWarning, match="and no other task of this run will be"):
        pipeline(ran).run("serial", state=full, state_errors="warn")
    assert full.order == ["a"]


def test_record_warning_turned_into_error_does_not_stop_run(ran, capsys):
    assert pipeline(ran).run("serial", state=Store(refused="b"), state_errors="warn") == {"a": "a", "b": "b", "c": "c"}
    assert "RuntimeWarning: task 'b' of" in capsys.readouterr().err


def test_record_warning_shows_line_of_caller(ran):
    with pytest.warns(RuntimeWarning) as caught:
        pipeline(ran).run("serial", state=Store(refused="b"), state_errors="warn")
    assert caught[0].filename == __file__


def test_cached_task_is_not_run_again(ran):
    @task
    def numbers():
        return 3

    @task(cache=True)
    def total(numbers, *, idempotency_key):
        ran.append("total")
        return numbers * 2

    numbers >> total
    dag, store = DAG("sums", tasks=[total]), Store()
    assert dag.run("serial", state=store).cached == ()
    again = dag.run("serial", state=store)
    assert (again, again.cached, again.states) == (
        {"numbers": 3, "total": 6},
        ("total",),
        {"numbers": "succeeded", "total": "succeeded"},
    )
    assert store.records["total"]["source"] == "cache"
    assert store.records["total"]["why"] == "reused: the same"
    dag.run("serial", state=store, refresh={"total"})
    dag.run("serial", state=store, refresh=True)
    assert len(ran) == 3


def test_cache_with_check_is_checked_when_task_is_created():
    """With function, name and ignored parameters; other caches and True have no check."""
    calls = []

    class Checking(Cache):
        def check(self, function, name, *, ignore):
            calls.append((function, name, ignore))
            raise ValueError(name)

    with pytest.raises(ValueError, match="lengths"):
        Task(len, name="lengths", cache=Checking({}))
    assert calls == [(len, "lengths", ("idempotency_key",))]
    Task(len, name="lengths", cache=Cache({}))
    Task(len, name="lengths", cache=True)


def test_idempotency_key_is_stable_across_attempts(ran):
    @task
    def one(idempotency_key):
        ran.append(idempotency_key)
        if len(ran) == 1:
            raise ValueError("again")
        return idempotency_key

    @task
    def other(one, *, idempotency_key):
        return idempotency_key

    one >> other
    store = Store()
    dag = DAG("keys", tasks=[other])
    with pytest.raises(ValueError, match="again"):
        dag.run("serial", state=store)
    results = dag.run("serial", state=store, resume=True)
    assert ran[0] == ran[1] == idempotency_key(store.run_id, "one")
    assert len({*ran, results["other"], *dag.run("serial").values()}) == 4
    assert dag.run("serial", params={"idempotency_key": "mine"}) == {"one": "mine", "other": "mine"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"resume": True},
            "run(resume=True) requires a record of earlier runs: write run(state='runs.db', resume=True)",
        ),
        ({"resume": 1}, "run(resume=...) is 1, but must be True, False, 'strict' or 'force'"),
        ({"resume_max_age": -1}, "run(resume_max_age=...) is -1, but must be a number of seconds, 0 or more, or None"),
        ({"resume_max_age": "12h"}, "run(resume_max_age=...) is '12h', but must be a number of seconds, or None"),
        ({"resume": "yes"}, "run(resume=...) is 'yes'"),
        ({"state": 7}, "state is 7, but must be a path"),
        ({"state": Store}, "but must be a path"),
        ({"state_errors": "ignore"}, "run(state_errors=...) is 'ignore', but must be 'raise', 'warn' or None"),
        ({"refresh": 1.5}, "run(refresh=...) is 1.5, but must be True"),
        ({"refresh": {"d"}}, "run(refresh=...) names 'd', but 'letters' has no such task"),
        ({"refresh": "a"}, "run(refresh=...) names 'a', which is not cached"),
    ],
)
def test_invalid_durable_option_is_error(ran, options, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        pipeline(ran).run("serial", **options)
    assert ran == []


if importlib.util.find_spec("flowkit_state") is None:

    def test_state_path_needs_flowkit_state(ran):
        with pytest.raises(MissingDistributionError, match="needs the distribution 'flowkit-state'") as caught:
            pipeline(ran).run("serial", state="runs.db")
        assert caught.value.distribution == "flowkit-state"
        assert ran == []


TRIGGERS = st.sampled_from(["none_failed", "all_success", "all_done", "one_success", "one_failed"])


@given(st.data())
def test_resume_after_any_interruption_gives_same_results(data):
    """With any graph, triggers, skips and failures: recorded tasks never run again."""
    count = data.draw(st.integers(1, 8))
    upstream = [
        sorted(data.draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else [] for number in range(count)
    ]
    triggers = [data.draw(TRIGGERS) for _ in range(count)]
    skipped = data.draw(st.sets(st.integers(0, count - 1), max_size=2))
    bad, ran = data.draw(st.sets(st.integers(0, count - 1), max_size=2)), []

    def make(number):
        def body(*inputs):
            ran.append(number)
            if number in bad:
                raise ValueError(number)
            return number

        return Task(body, name=f"t{number}", trigger=triggers[number], when=lambda *_: number not in skipped)

    tasks = [make(number) for number in range(count)]
    for number, sources in enumerate(upstream):
        for source in sources:
            tasks[source] >> tasks[number]
    dag, store = DAG("random", tasks=tasks), Store()
    options = {"state": store, "raise_on_failure": False, "fail_fast": data.draw(st.booleans())}
    dag.run("serial", **options)
    recorded = {name for name, record in store.records.items() if record["state"] in ("succeeded", "skipped")}
    finished = store.status == "succeeded"
    bad.clear()
    ran.clear()
    results = dag.run("serial", resume=True, **options)
    assert store.status == "succeeded"
    assert set(results.states.values()) <= {"succeeded", "skipped"}
    if not finished:
        assert recorded.isdisjoint(f"t{number}" for number in ran)
        assert set(results.resumed) == recorded
