"""Pools and rates; what all executors have in common is in the checks of `check_executor`."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import weakref

import pytest

from flowkit_core import (
    DAG,
    ExecutorError,
    Outcome,
    PoolBlockedError,
    PoolSizeError,
    Rate,
    Results,
    Retry,
    Run,
    Task,
    TaskOptionError,
    TaskOptionTypeError,
    TaskStarted,
    TaskTimeoutError,
    TaskWaiting,
    UnknownPoolError,
    task,
)
from flowkit_core.runs.limits.admission import Admission, Claim
from flowkit_core.runs.limits.limited_run import LimitedRun
from flowkit_core.testing import VirtualTimeExecutor

# ---- the option of tasks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "amounts"),
    [
        ("db", {"db": 1}),
        (["db", "api"], {"db": 1, "api": 1}),
        (("db",), {"db": 1}),
        ({"gpu": 2, "db": 1}, {"gpu": 2, "db": 1}),
    ],
)
def test_pool_is_a_name_several_or_amounts(given, amounts):
    assert Task(int, pool=given).pool == amounts


@pytest.mark.parametrize("wrong", ["", [], {}, {"db": 0}, {"db": -1}, ["db", "db"], [""]])
def test_pool_out_of_range_is_an_error(wrong):
    with pytest.raises(TaskOptionError, match=r"pool is .*must be the name of a pool"):
        Task(int, pool=wrong)


@pytest.mark.parametrize("wrong", [3, True, [1], {"db": 1.5}, {"db": True}, {1: 1}, object(), {"db": "2"}])
def test_pool_of_a_wrong_type_is_an_error(wrong):
    with pytest.raises(TaskOptionTypeError, match=r"pool is .*must be the name of a pool"):
        Task(int, pool=wrong)


def test_options_are_kept_by_copies_and_pickles():
    one = Task(int, name="one", pool="db", priority=3)
    assert (one.pool, one.priority) == ({"db": 1}, 3)
    assert (Task(int).pool, Task(int, pool=None).pool, Task(int).priority) == (None, None, 0)
    two = one.with_options(name="two", priority=0)
    assert (two.pool, two.priority) == ({"db": 1}, 0)
    assert one.with_options(pool=None).pool is None
    assert pickle.loads(pickle.dumps(one)).pool == {"db": 1}


@pytest.mark.parametrize("wrong", [1.5, "high", None, True])
def test_priority_is_an_integer(wrong):
    with pytest.raises(TaskOptionTypeError, match=r"priority is .*, but must be an integer"):
        Task(int, priority=wrong)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("pools", "use 'pool'"),
        ("max_active_tis_per_dag", "use 'pool'"),
        ("pool_slots", "use pool={'name': 2}"),
        ("rate_limit", "Rate\\(10\\)"),
        ("priority_weight", "use 'priority'"),
    ],
)
def test_options_of_other_tools_have_a_hint(option, hint):
    with pytest.raises(TypeError, match=hint):
        task(**{option: 1})


def test_run_has_hints():
    with pytest.raises(TypeError, match="use 'pools'"):
        DAG("d", tasks=[Task(int)]).run(pool={"db": 2})
    with pytest.raises(TypeError, match="Rate"):
        DAG("d", tasks=[Task(int)]).run(rate_limit=2)


# ---- Rate ------------------------------------------------------------------------------------------------------------


def test_rate_is_a_value():
    assert Rate(10) == Rate(10, per=1.0) != Rate(10, per=2)
    assert len({Rate(1), Rate(1), Rate(2)}) == 2
    assert repr(Rate(5, per=0.5)) == "Rate(5, per=0.5)"
    assert copy.deepcopy(Rate(3)) == pickle.loads(pickle.dumps(Rate(3))) == Rate(3)
    assert Rate(1) != 1


def test_rate_is_checked():
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=r"count is .*at least 1"):
            Rate(wrong)
    for wrong in ("10", None, True):
        with pytest.raises(TypeError, match="count is"):
            Rate(wrong)
    with pytest.raises(TypeError, match=r"for one start in 4 s, write Rate\(1, per=4\)"):
        Rate(0.25)
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"per is .*more than 0"):
            Rate(1, per=wrong)
    for wrong in ("1", None, True):
        with pytest.raises(TypeError, match="per is"):
            Rate(1, per=wrong)


# ---- the pools of runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [["db"], "db", 3, {1: 2}, {"db": 1.5}, {"db": "2"}, {"db": None}, {"db": True}])
def test_pools_of_a_wrong_type_are_an_error(wrong):
    with pytest.raises(TypeError, match=r"run\(\): pools"):
        DAG("d", tasks=[Task(int, pool="db")]).run(pools=wrong)
    with pytest.raises(TypeError, match=r"DAG\('d'\): pools"):
        DAG("d", pools=wrong)


def test_pools_out_of_range_are_an_error():
    for wrong in ({"db": 0}, {"db": -1}, {"": 1}):
        with pytest.raises(ValueError, match=r"run\(\): pools"):
            DAG("d", tasks=[Task(int, pool="db")]).run(pools=wrong)


def test_undefined_pool_is_an_error_before_anything_runs():
    ran = []
    dag = DAG("d", tasks=[Task(lambda: ran.append(1), name="load", pool="databse")])
    with pytest.raises(UnknownPoolError) as caught:
        dag.run(pools={"database": 2, "api": 1})
    error = caught.value
    assert (error.task, error.pool, error.available) == ("load", "databse", ("api", "database"))
    assert str(error) == (
        "task 'load' names the pool 'databse', which is not defined (did you mean 'database'?); there are: api, "
        "database. Define it with run(pools={'databse': 2}), or for every run with DAG(..., pools={'databse': 2})"
    )
    assert ran == []
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_amount_larger_than_the_pool_is_an_error_before_anything_runs():
    ran = []
    for size in (2, Rate(2)):
        with pytest.raises(PoolSizeError, match="takes 3 slots of pool 'gpu', which has 2") as caught:
            DAG("d", tasks=[Task(ran.append, pool={"gpu": 3})]).run(pools={"gpu": size}, params={"object": 1})
        assert (caught.value.amount, caught.value.size) == (3, 2)
    assert ran == []


def test_run_overrides_the_pools_of_the_pipeline_by_name():
    one = Task(lambda: 1, name="one", pool={"db": 2, "api": 1})
    dag = DAG("d", tasks=[one], pools={"db": 1, "api": 1})
    assert dag.pools == {"db": 1, "api": 1}
    with pytest.raises(PoolSizeError):
        dag.run("serial")
    assert dag.run("serial", pools={"db": 2}) == {"one": 1}
    assert copy.deepcopy(dag).run("serial", pools={"db": 2}) == {"one": 1}


def test_given_pool_that_no_task_names_is_a_warning():
    dag = DAG("d", tasks=[Task(lambda: 1, name="one", pool="db")], pools={"unused": 1})
    with pytest.warns(RuntimeWarning, match=r"pool 'dbs', but no task .*did you mean 'db'.* limits nothing"):
        assert dag.run("serial", pools={"db": 1, "dbs": 1}) == {"one": 1}
    with pytest.warns(RuntimeWarning, match="pool 'db', but no task"):
        DAG("d", tasks=[Task(lambda: 1, name="one")]).run("serial", pools={"db": 1})


def test_check_reports_pools():
    undefined = [Task(int, name=f"t{number}", pool="db") for number in range(3)]
    large = Task(int, name="large", pool={"gpu": 4})
    dag = DAG("d", tasks=[*undefined, large], pools={"gpu": 2})
    assert [(each.kind, each.task, type(each.error)) for each in dag.check()] == [
        ("pool", "t0", UnknownPoolError),
        ("pool", "large", PoolSizeError),
    ]
    assert dag.check(pools={"db": 1, "gpu": 4}) == []
    (unused,) = dag.check(pools={"db": 1, "gpu": 4, "api": 1})
    assert (unused.kind, unused.task) == ("pool", None)
    with pytest.raises(TypeError, match="pools"):
        dag.check(pools=["db"])


class NoLane:
    """An executor without a lane."""

    name = "own"

    def execute(self, run):
        ready = list(run.start())
        while ready:
            node = ready.pop()
            ready += run.finish(node, run.call(node).invoke())

    def close(self):
        pass


def test_executor_without_a_lane_cannot_apply_pools():
    one = Task(lambda: 1, name="one", pool="db")
    with pytest.raises(ExecutorError, match="'own' cannot run tasks that name pools, because it has no lane"):
        DAG("d", tasks=[one]).run(NoLane(), pools={"db": 1})
    assert DAG("d", tasks=[Task(lambda: 1, name="one")]).run(NoLane()) == {"one": 1}


# ---- order and visibility --------------------------------------------------------------------------------------------


def starts_of(dag, executor="serial", **options):
    """Return the tasks in the order of their starts."""
    names = []

    def observe(event):
        names.append(event.task)

    observe.events = (TaskStarted,)
    dag.run(executor, observers=[observe], **options)
    return names


def test_priority_comes_before_the_longest_path():
    low = Task(lambda: 1, name="low", priority=-1)
    short = Task(lambda: 1, name="short")
    long, after = Task(lambda: 1, name="long"), Task(lambda x: x, name="after")
    long >> after
    high = Task(lambda: 1, name="high", priority=2)
    dag = DAG("d", tasks=[low, short, after, high])
    assert starts_of(dag) == ["high", "long", "short", "after", "low"]


def test_priority_interrupts_nothing_and_waits_for_upstreams():
    first, second = Task(lambda: 1, name="first"), Task(lambda: 1, name="second")
    urgent = Task(lambda x: x, name="urgent", priority=10)
    first >> urgent
    assert starts_of(DAG("d", tasks=[first, second, urgent])) == ["first", "urgent", "second"]


def test_waiting_is_visible_in_events_logs_and_repr(caplog):
    caplog.set_level(logging.DEBUG, logger="flowkit")
    seen = []
    dag = DAG("d", tasks=[Task(lambda: 1, name=name, pool=["api", "db"]) for name in ("one", "two")])
    options = {"pools": {"api": Rate(1), "db": 5}}
    dag.run(VirtualTimeExecutor(), observers=[seen.append], **options)
    emitted = [(type(event).__name__, event.task) for event in seen if isinstance(event, (TaskWaiting, TaskStarted))]
    assert emitted == [("TaskStarted", "one"), ("TaskWaiting", "two"), ("TaskStarted", "two")]
    (waiting,) = [event for event in seen if isinstance(event, TaskWaiting)]
    assert (waiting.attempt, waiting.pools) == (1, ("api", "db"))
    (record,) = [record for record in caplog.records if getattr(record, "event", "") == "task_waiting"]
    assert (record.levelno, record.pools) == (logging.DEBUG, ["api", "db"])
    assert record.getMessage() == 'Task "two" waits for pools "api" and "db".'


def test_run_counts_tasks_that_wait():
    dag = DAG("d", tasks=[Task(lambda: 1, name=name, pool="db") for name in ("one", "two")])
    run = LimitedRun(dag.graph(), pools={"db": 1})
    one, two = run.start()
    call = run.call(one)
    assert run.mark_started(one) is None
    assert list(run.finish(two, run.mark_started(two))) == []
    assert repr(run) == "<Run d: 2 pending, 1 waiting for a pool>"
    assert run.finish(one, call.invoke()) == [two]
    assert run.mark_started(two) is None
    assert list(run.finish(two, run.call(two).invoke())) == []
    assert repr(run) == "<Run d: 2 succeeded>"


def test_retry_returns_slots_through_on_ready():
    tasks = [Task(lambda: 1 / 0, name="one", pool="db", retries=1), Task(lambda: 1, name="two", pool="db")]
    run = LimitedRun(DAG("d", tasks=tasks).graph(), pools={"db": 1})
    passed_on = []
    run.on_ready = passed_on.extend
    one, two = run.start()
    call = run.call(one)
    run.mark_started(one)
    run.finish(two, run.mark_started(two))
    assert isinstance(run.finish(one, call.invoke()), Retry)
    assert passed_on == [two]


# ---- the order of those that wait ------------------------------------------------------------------------------------


def claims(**amounts):
    """Return a claim for each keyword, in order of rank."""
    return [Claim(name, name, name, needs, (rank,)) for rank, (name, needs) in enumerate(amounts.items())]


def test_task_that_needs_several_slots_is_not_overtaken():
    admission = Admission({"gpu": 2})
    small, big, late = claims(small={"gpu": 1}, big={"gpu": 2}, late={"gpu": 1})
    assert admission.start(small, 1) is True
    assert admission.start(big, 1) is False
    assert admission.start(late, 1) is False  # a slot is free, but `big` comes first
    assert admission.end(small, 1) == ["big"]
    assert admission.start(late, 1) is False
    assert admission.start(big, 1) is True
    assert admission.end(big, 1) == ["late"]


def test_slots_of_several_pools_are_taken_together():
    admission = Admission({"db": 1, "api": 1})
    first, both, db = claims(first={"api": 1}, both={"db": 1, "api": 1}, db={"db": 1})
    assert admission.start(first, 1) is True
    assert admission.start(both, 1) is False  # and holds no slot of db
    assert admission.start(db, 1) is False
    assert admission.end(first, 1) == ["both"]
    assert admission.start(both, 1) is True
    assert admission.end(both, 1) == ["db"]


def test_other_pools_are_not_affected():
    admission = Admission({"db": 1, "api": 1})
    one, two, three = claims(one={"db": 1}, two={"db": 1}, three={"api": 1})
    assert (admission.start(one, 1), admission.start(two, 1), admission.start(three, 1)) == (True, False, True)
    assert (len(admission), admission.end(three, 1), admission.end(one, 1)) == (1, [], ["two"])


def test_elements_go_through_a_chain_one_after_the_other():
    calls = []
    rows = Task(lambda: [0, 1, 2], name="rows")
    parse = Task(lambda x: calls.append(f"parse {x}") or x, name="parse", pool="db")
    clean = Task(lambda x: calls.append(f"clean {x}") or x, name="clean")
    rows >> parse.map() >> clean.map()
    assert DAG("d", tasks=[clean]).run("serial", pools={"db": 1})["clean"] == [0, 1, 2]
    assert calls == ["parse 0", "clean 0", "parse 1", "clean 1", "parse 2", "clean 2"]


def test_event_is_emitted_for_the_first_element_that_waits():
    seen = []
    rows = Task(lambda: list(range(5)), name="rows")
    parse = Task(lambda x: x, name="parse", pool="api")
    rows >> parse.map()
    executor = VirtualTimeExecutor()
    dag = DAG("d", tasks=[parse])
    assert dag.run(executor, pools={"api": Rate(1)}, observers=[seen.append])["parse"] == [0, 1, 2, 3, 4]
    assert executor.seconds == 4
    assert [event.task for event in seen if isinstance(event, TaskWaiting)] == ["parse"]


def test_elements_that_wait_end_when_the_run_stops():
    def fail(x):
        raise ValueError(x)

    rows = Task(lambda: list(range(5)), name="rows")
    parse = Task(fail, name="parse", pool="api")
    rows >> parse.map()
    with pytest.raises(ValueError, match="0") as caught:
        DAG("d", tasks=[parse]).run("serial", pools={"api": Rate(1, per=600)})
    assert caught.value.flowkit_results.elements["parse"].states[0] == "failed"


# ---- abandoned attempts ----------------------------------------------------------------------------------------------


def test_waiting_tasks_fail_if_abandoned_attempts_hold_all_slots(held):
    stuck = Task(lambda: held.wait(60), name="stuck", pool="db", timeout=0.05, priority=1)
    waits = Task(lambda: 1, name="waits", pool="db", timeout=0.1)
    patient = Task(lambda: 1, name="patient", pool="db")
    dag = DAG("d", tasks=[stuck, waits, patient])
    results = dag.run("serial", pools={"db": 1}, fail_fast=False, raise_on_failure=False)
    assert isinstance(results.failed["stuck"], TaskTimeoutError)
    error = results.failed["waits"]
    assert isinstance(error, PoolBlockedError)
    assert (error.task, error.pool, error.timeout, error.holders) == ("waits", "db", 0.1, ("stuck",))
    assert results.failed["patient"].timeout == 0.05  # that of the abandoned attempt


def test_abandoned_attempt_gives_its_slot_back_when_it_ends(held):
    """`release` needs no slot; the slot of `stuck` is free when its thread has ended."""
    stuck = Task(lambda: held.wait(60), name="stuck", pool="db", timeout=0.05, priority=1)
    waits = Task(lambda: "in time", name="waits", pool="db", timeout=60, trigger="all_done")
    release = Task(held.set, name="release", trigger="all_done")
    stuck >> release
    results = DAG("d", tasks=[release, waits]).run("serial", pools={"db": 1}, fail_fast=False, raise_on_failure=False)
    assert results["waits"] == "in time"
    assert list(results.failed) == ["stuck"]


def test_own_retry_uses_the_slot_of_an_abandoned_attempt(held):
    calls = []

    def first_hangs():
        calls.append(1)
        return held.wait(60) if len(calls) == 1 else "second"

    stuck = Task(first_hangs, name="stuck", pool={"db": 2}, timeout=0.2, retries=5, delay=0)
    assert DAG("d", tasks=[stuck]).run("serial", pools={"db": 2}) == {"stuck": "second"}


def test_abandoned_attempt_and_its_end_may_be_noted_in_any_order():
    one, two = claims(one={"db": 1}, two={"db": 1})
    for early in (True, False):
        admission = Admission({"db": 1})
        assert (admission.start(one, 1), admission.start(two, 1)) == (True, False)
        jobs = [*admission.end_abandoned(one, 1)] if early else []
        jobs += admission.end(one, 1, is_abandoned=True)
        jobs += admission.end_abandoned(one, 1)
        jobs += admission.end_abandoned(one, 1)
        assert jobs == ["two"]
        assert admission.start(two, 1) is True


def test_job_that_has_waited_too_long_fails_only_if_it_still_cannot_start():
    for is_free in (True, False):
        now = [0.0]
        admission = Admission({"db": 1}, now=lambda now=now: now[0])
        one, two = claims(one={"db": 1}, two={"db": 1})
        two.timeout = 5.0
        assert admission.start(one, 1) is True
        assert admission.start(two, 1) is False
        assert admission.end(one, 1, is_abandoned=True) == []
        assert admission.seconds_left() == 5.0
        now[0] = 5.0
        assert (admission.due(), admission.due(), admission.seconds_left()) == (["two"], [], None)
        if is_free:  # before a worker takes `two`
            assert admission.end_abandoned(one, 1) == []
            assert admission.start(two, 1) is True
        else:
            assert isinstance(admission.start(two, 1), PoolBlockedError)
            assert len(admission) == 0


def test_own_retry_needs_a_start_of_a_rate_and_no_slot():
    now = [0.0]
    admission = Admission({"db": 1, "api": Rate(1)}, now=lambda: now[0])
    one, two = claims(two={"db": 1}, one={"db": 1, "api": 1})[::-1]
    assert admission.start(one, 1) is True
    assert admission.start(two, 1) is False
    assert admission.end(one, 1, is_abandoned=True) == []
    assert admission.start(one, 2) is False
    assert admission.seconds_left() == 1.0
    now[0] = 1.0
    assert admission.due() == ["one"]
    assert admission.start(one, 2) is True
    assert admission.end(one, 2) == []
    assert admission.end_abandoned(one, 1) == ["two"]


def test_error_of_a_user_is_not_taken_for_an_abandoned_attempt():
    """A TaskTimeoutError of another task, raised in a task, gives the slot back."""
    error = TaskTimeoutError("other", 1.0, "abandoned")

    def fail():
        raise error

    tasks = [Task(fail, name="bad", pool="db", priority=1), Task(lambda: 1, name="good", pool="db")]
    results = DAG("d", tasks=tasks).run("serial", pools={"db": 1}, fail_fast=False, raise_on_failure=False)
    assert results == {"good": 1}


# ---- the end of runs -------------------------------------------------------------------------------------------------


def test_interrupt_ends_tasks_that_wait():
    def interrupt():
        raise KeyboardInterrupt

    first = Task(interrupt, name="first", pool="api", priority=1)
    others = [Task(lambda: 1, name=f"t{number}", pool="api") for number in range(3)]
    with pytest.raises(KeyboardInterrupt) as caught:
        DAG("d", tasks=[first, *others]).run("serial", pools={"api": Rate(1, per=600)})
    assert {caught.value.flowkit_results.states[each.name] for each in others} == {"cancelled"}


def test_failure_ends_tasks_that_wait_for_a_rate():
    def fail():
        raise ValueError("stop")

    others = [Task(lambda: 1, name=f"t{number}", pool="api", priority=1) for number in range(3)]
    with pytest.raises(ValueError, match="stop") as caught:
        DAG("d", tasks=[*others, Task(fail, name="bad")]).run("serial", pools={"api": Rate(1, per=600)})
    states = caught.value.flowkit_results.states
    assert sorted(states[each.name] for each in others) == ["cancelled", "cancelled", "succeeded"]


@pytest.mark.parametrize("is_mapped", [False, True])
def test_retry_that_waits_for_a_pool_when_the_run_stops_ends_as_failed(is_mapped):
    """A job whose retry has left its delay behind, and waits for the pool, still ends with its exception."""
    again = Task(lambda x: 1 // x, name="again", pool="api", retries=1, delay=0)
    bad = Task(lambda: {}["row"], name="bad", pool="late", priority=-1)
    first = Task(lambda: 1, name="first", pool="late", priority=1)
    dag = DAG("d", tasks=[first, again.map("x") if is_mapped else again, bad])
    with pytest.raises(KeyError) as caught:
        params = {"x": [0] if is_mapped else 0}
        dag.run(VirtualTimeExecutor(), params=params, pools={"api": Rate(1, per=600), "late": Rate(1, per=10)})
    results = caught.value.flowkit_results
    assert results.states["again"] == "failed"
    assert isinstance(results.failed["again[0]" if is_mapped else "again"], ZeroDivisionError)


def test_run_with_pools_leaves_no_reference_cycle():
    class Value:
        """Something that a weak reference can refer to."""

    made = []

    def make():
        value = Value()
        made.append(weakref.ref(value))
        return value

    tasks = [Task(make, name=f"t{number}", pool=["db", "api"]) for number in range(3)]
    dag = DAG("d", tasks=tasks)
    gc.collect()
    gc.disable()
    try:
        results = dag.run("serial", pools={"db": 1, "api": Rate(2, per=0.01)})
        assert isinstance(results, Results)
        del results
        assert [each() for each in made] == [None] * 3
    finally:
        gc.enable()


def test_outcome_of_an_abandoned_call_says_that_it_goes_on():
    assert not Outcome(2).goes_on
    assert Run.limits is None
