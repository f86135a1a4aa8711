"""Types of the public names in user code: this file is never run, but checked by ``mypy --strict``.

``assert_type`` checks the type of an expression. ``type: ignore[code]`` marks a line that must be an error: mypy
reports an ignore that is not needed, so it reports a signature that accepts too much.
"""

from collections.abc import Mapping
from datetime import date, datetime
from logging import Logger
from pathlib import Path
from random import Random
from typing import Any, assert_type

import flowkit
import flowkit_core
import flowkit_log
import flowkit_state
from flowkit import (
    DAG,
    AttemptRecord,
    DAGCycleError,
    ElementsRecord,
    ExecutionRecord,
    Flow,
    FlowkitError,
    FlowkitLogger,
    Group,
    LogLevel,
    Mapped,
    ProcessExecutor,
    Rate,
    Reclaimed,
    Results,
    RetryPolicy,
    RunDiff,
    RunFinished,
    RunRecord,
    RunTimeoutError,
    SerialExecutor,
    Skip,
    StateManager,
    Task,
    TaskCache,
    TaskContext,
    TaskError,
    TaskFailed,
    TaskTimeoutError,
    ThreadExecutor,
    UnknownPoolError,
    configure_logging,
    current,
    get_logger,
    task,
)
from flowkit.checking import OpenParameter, Problem
from flowkit.testing import (
    Fail,
    Simulation,
    Simulations,
    Verified,
    VirtualTimeExecutor,
    simulate,
    simulate_many,
    verify_resume,
)
from flowkit_core.persistence import Cache, Store

# A task has the types of its function, with every form of the decorator.


@task
def extract() -> list[int]:
    return [1, 2, 3]


@task()
def enrich(rows: list[int], *, lang: str = "en") -> bytes:
    return lang.encode() * len(rows)


@task(name="check", retries=3, delay=0.5, backoff=2.0, max_delay=60.0, jitter=0.1, retry_on=(OSError, ValueError))
def validate(rows: list[int]) -> bool:
    return bool(rows)


@task(when=lambda ok, text: ok and text, trigger="all_success")
def load(ok: bool, text: bytes) -> int:
    return len(text) if ok else 0


assert_type(extract, Task[[], list[int]])
assert_type(extract(), list[int])
assert_type(validate([1]), bool)
assert_type(enrich([1], lang="de"), bytes)
assert_type(extract.name, str)
assert_type(extract.func(), list[int])
assert_type(validate.with_options(name="again", retries=1)([1]), bool)
assert_type(Task(len, name="size")([1]), int)

validate("text")  # type: ignore[arg-type]
validate([1], 2)  # type: ignore[call-arg]
enrich([1], language="de")  # type: ignore[call-arg]
extract.nmae  # type: ignore[attr-defined]


@task(retry=3)  # type: ignore[call-overload, untyped-decorator]
def misspelt() -> None: ...


@task(retries="three")  # type: ignore[call-overload, untyped-decorator]
def mistyped() -> None: ...


# The type of a chain with >> is that of its right operand; a list becomes a group.

assert_type((extract >> validate)([1]), bool)
assert_type(extract >> [validate, enrich], Group)
assert_type(([validate, enrich] >> load)(True, b""), int)
assert_type(((validate, enrich) >> load)(True, b""), int)
(extract >> validate)("text")  # type: ignore[arg-type]
extract >> [validate, enrich] >> load
extract >> [validate, enrich] >> Group([load])
Group([validate, enrich]) >> [load, load]

extract >> print  # type: ignore[operator]
extract >> [validate, print]  # type: ignore[list-item]
[extract] >> [load]  # type: ignore[operator]


# A mapped task is called for each element; its result is a list.


@task
def parse(row: int, scale: float = 1.0) -> float:
    return row * scale


@task
def total(values: list[float]) -> float:
    return sum(values)


assert_type((extract >> parse.map() >> total)([1.0]), float)
assert_type((extract >> parse.map("row", limit=4, errors="drop", label=str)).limit, int | None)
assert_type(([extract, validate] >> parse.map()).parameters, tuple[str, ...])
extract >> [parse.map(), validate] >> total
DAG("mapped", tasks=[parse.map("row"), total])
Flow("mapped").add(extract).map(parse, over="extract", limit=2).add(total.map()).branch(parse.map(), validate)
parse.map(errors="ignore")  # type: ignore[arg-type]
parse.map(limit="4")  # type: ignore[arg-type]
assert_type(Results().elements["parse"].failed, dict[int, BaseException])


# after() returns the type of the task that waits.

assert_type(load.after(extract)(True, text=b""), int)
assert_type(load.after(extract, validate)(True, text=b""), int)
assert_type(load.after([extract, validate], enrich)(True, text=b""), int)
assert_type(load.after(Group([extract]), (validate, enrich))(True, text=b""), int)
assert_type((extract >> validate.after(load))([1]), bool)
assert_type(Group([validate, enrich]).after(extract), Group)
assert_type((extract >> [validate, enrich]).after(load), Group)
load.after(extract)("text")  # type: ignore[call-arg, arg-type]
extract >> validate.after(load) >> enrich

load.after("extract")  # type: ignore[arg-type]
load.after(print)  # type: ignore[arg-type]
load.after([print])  # type: ignore[list-item]
Group([load]).after(3)  # type: ignore[arg-type]
load.after(upstream=extract)  # type: ignore[call-arg]


# A method is called with the arguments of its class; a bound method can become a task.


class Orders:
    @task
    def load(self, rows: list[int]) -> int:
        return len(rows)


made = Task(Orders().load, name="load_orders", retries=2)
extract >> made
assert_type(Task(bytes.upper, name="upper")(b"a"), bytes)


# Conditions get arguments of the task by name; params may have the form "task.parameter".


@task(when=lambda dry_run: not dry_run)
def upload(rows: list[int], dry_run: bool = False) -> None: ...


assert_type(DAG("etl", tasks=[upload]).run(params={"upload.dry_run": True, "rows": [1]}), Results)
DAG("etl", tasks=[upload]).run(params=["rows"])  # type: ignore[arg-type]
DAG("etl", tasks=[upload]).run(params={1: [1]})  # type: ignore[dict-item]
task(when="rows")  # type: ignore[call-overload]
validate.with_options(retry=1)  # type: ignore[call-arg]
validate.with_options(retries="three")  # type: ignore[arg-type]
Task(len, retry=3)  # type: ignore[call-arg]


# DAG and Flow have the same methods and results.

dag = DAG("etl", max_workers=4, tasks=[load])
flow = Flow("etl", max_workers=4).add(extract).branch(validate, enrich).merge(load)
assert_type(flow, Flow)

with DAG("block") as block:
    extract >> validate
assert_type(block, DAG)

results = dag.run()


async def in_a_coroutine() -> None:
    assert_type(await dag.arun("thread", params={"rows": [1]}, max_async=10), Results)
    assert_type(await flow.arun(), Results)
    await dag.arun(workers=4)  # type: ignore[arg-type]
    dag.run(max_async="many")  # type: ignore[arg-type]


assert_type(results, Results)
assert_type(flow.run("process", params={"rows": [1]}, fail_fast=False, raise_on_failure=False), Results)
assert_type(dag.run(executor=ThreadExecutor(max_workers=2)), Results)
assert_type(dag.run(executor=SerialExecutor()), Results)
assert_type(dag.visualize(), str)
assert_type(dag.as_task(), Task[..., Any])
assert_type(flow.as_task("load", name="inner", when=lambda day: bool(day)), Task[..., Any])
dag.as_task(3)  # type: ignore[arg-type]
assert_type(dag.check(), list[Problem])
assert_type(flow.check({"default": "thread", "cpu": ThreadExecutor(2)}, params={"rows": [1]})[0].location, str | None)
assert_type(dag.check("process")[0].message, str)
assert_type(dag.check("process")[0].error, FlowkitError | None)
dag.check(params=[1])  # type: ignore[arg-type]
assert_type(dag.parameters, Mapping[str, OpenParameter])
assert_type(flow.parameters["day"].tasks, tuple[str, ...])
assert_type(flow.parameters["day"].required, bool)
dag.parameters["day"] = flow.parameters["day"]  # type: ignore[index]
assert_type(flow.visualize(format="mermaid"), str)
with ProcessExecutor(max_workers=2) as executor:
    dag.run(executor)

dag.run(workers=4)  # type: ignore[arg-type]
dag.run(date="2026-01-01")  # type: ignore[arg-type]
dag.run(fail_fast="no")  # type: ignore[arg-type]
flow.run(raise_on_failure="no")  # type: ignore[arg-type]
DAG("etl", workers=4)  # type: ignore[arg-type]
DAG("etl", schedule="@daily")  # type: ignore[arg-type]
DAG("etl", tasks=load)  # type: ignore[arg-type]
Flow("etl", tags=["a"])  # type: ignore[arg-type]
Flow("etl", tasks=[load])  # type: ignore[arg-type]
dag.run(executor=4)  # type: ignore[arg-type]
DAG("etl", max_workers="four")  # type: ignore[arg-type]
flow.add("extract")  # type: ignore[arg-type]
flow.branch(extract, print)  # type: ignore[arg-type]

whole: dict[str, Any] = results
assert_type(results["load"], Any)
assert_type(results.states["load"], str)
assert_type(results.skipped["load"], str)
assert_type(results.durations["load"], float)
assert_type(results.run_id, str)
failure: BaseException = results.failed["load"]

try:
    dag.run()
except DAGCycleError as error:
    assert_type(error.cycle, tuple[str, ...])
except FlowkitError:
    pass


# State.


def store(path: Path, when: datetime) -> None:
    state = StateManager(storage_path=path, default_ttl=3600)
    state.set("rows", (1, 2, 3), ttl=60.0, metadata={"made": when})
    assert_type(state.has("rows"), bool)
    assert_type(state.delete("rows"), bool)
    assert_type(state.get_all(), dict[str, Any])
    assert_type(state.add("rows", 1, ttl=60, metadata={}), bool)
    assert_type(state.incr("count", 2, default=1, ttl=60), int)
    assert_type(state.decr("count"), int)
    assert_type(state.touch("rows", 60), bool)
    assert_type(state.expire(), int)
    assert_type(state.pop("rows", None), Any)
    assert_type(len(state), int)
    assert_type("rows" in state, bool)
    keys = list(state)
    assert_type(keys, list[str])
    state["rows"] = state["rows"]
    del state["rows"]
    StateManager(max_entries=10, max_bytes=1000)
    StateManager(max_entries="10")  # type: ignore[arg-type]
    state.incr("count", 1.5)  # type: ignore[arg-type]
    StateManager(default_ttl="soon")  # type: ignore[arg-type]
    state.set(1, "rows")  # type: ignore[arg-type]


@TaskCache()
def measured(path: str, *, scale: float = 1.0) -> float:
    return len(path) * scale


assert_type(measured("a", scale=2.0), float)
measured(1)  # type: ignore[arg-type]


# Durable runs.


@task(cache=True)
def cached() -> int:
    return 1


@task(cache=TaskCache(ttl=60, key=lambda rows: len(rows), version=2))
def cached_by_key(rows: list[int]) -> int:
    return sum(rows)


assert_type(cached, Task[[], int])
assert_type(cached_by_key([1]), int)
task(cache="yes")  # type: ignore[call-overload]


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


class MoneySerializer:
    name = "money"
    type = Money

    def dump(self, value: Money) -> bytes:
        return str(value.cents).encode()

    def load(self, data: bytes) -> Money:
        return Money(int(data))


def durable(path: Path) -> None:
    state = StateManager(path, serializer=MoneySerializer())
    StateManager(path, serializer=[MoneySerializer()])
    StateManager(path, serializers=[MoneySerializer()])
    StateManager(path, serializer="yaml")  # type: ignore[arg-type]
    dag.run(state=path)
    dag.run(state="runs.db", resume=True, refresh={"cached"}, state_errors="warn")
    dag.run(state=state, resume="strict", resume_max_age=None)
    dag.run(keep=["load"])
    dag.run(keep={"load"})
    assert_type(dag.run(timeout=60), Results)
    assert_type(dag.run(timeout=1.5, grace=0), Results)
    dag.run(timeout="60")  # type: ignore[arg-type]
    results = dag.run(state=state, resume="force", resume_max_age=3600, refresh=True)
    assert_type(results.outdated, dict[str, str])
    assert_type(results.resumed, tuple[str, ...])
    assert_type(results.cached, tuple[str, ...])
    dag.run(resume="perhaps")  # type: ignore[arg-type]
    dag.run(state="runs.db", state_errors=None)
    task(record=False)
    task(record="no")  # type: ignore[call-overload]
    dag.run(state=7)  # type: ignore[arg-type]
    assert_type(results.unrecorded, dict[str, BaseException])
    assert_type(state.runs("etl"), list[RunRecord])
    state.runs(status=("failed", "interrupted"), since=date(2026, 11, 1), params={"day": "2026-11-29"}, limit=3)
    state.runs(status=7)  # type: ignore[arg-type]
    record = state.run(results.run_id)
    assert_type(record.executions, tuple[ExecutionRecord, ...])
    assert_type(record.executions[0].error, str | None)
    assert_type(record.tasks["cached"].attempts, tuple[AttemptRecord, ...])
    elements = record.tasks["cached"].elements
    assert_type(elements, ElementsRecord | None)
    if elements is not None:
        assert_type(elements.counts, dict[str, int])
        assert_type(elements.failed, dict[int, TaskError])
        assert_type(elements.skipped, dict[int, str])
        assert_type(elements.size, int | None)
    assert_type(results.elements["cached"].resumed, list[int])
    assert_type(results.elements["cached"].labels, dict[int, str])
    assert_type(record.tasks["cached"].attempts[0].waited, float | None)
    assert_type(record.params, dict[str, Any])
    assert_type(record.parent, str | None)
    assert_type(record.diff(record), RunDiff)
    record.diff(results)  # type: ignore[arg-type]
    plan = dag.plan(state=state, params={"day": "2026-11-29"}, refresh=["cached"], resume_max_age=None)
    assert_type(plan.runs, tuple[str, ...])
    assert_type(plan.why, dict[str, str])
    Flow("etl").plan(state=path)
    dag.plan(rerun={"clean"})  # type: ignore[arg-type]
    assert_type(dag.run(state=state, rerun={"clean"}, of=record.run_id, params={"day": "2026-11-30"}), Results)
    dag.run(state=state, rerun="clean")
    dag.run(state=state, rerun=7)  # type: ignore[arg-type]
    assert_type(state.replay(record.run_id, "cached", pipeline=dag), Any)
    assert_type(record.tasks["cached"].error, TaskError | None)
    assert_type(record.counts, dict[str, int])
    assert_type(state.explain(), dict[str, str])
    assert_type(state.gc(keep=3), Reclaimed)
    assert_type(verify_resume(dag), Verified)
    assert_type(simulate(dag, seed=1, faults=[Fail("load")], durations={"load": 5.0}, workers=2), Simulation)
    assert_type(simulate_many(dag, seeds=range(3), check=lambda simulation: simulation.seconds), Simulations)
    assert_type(simulate(dag).error, BaseException | None)
    simulate(dag, faults=["load"])  # type: ignore[list-item]


# The context of a task.


@task(retries=1)
def with_context(day: str) -> str:
    context = current()
    assert_type(context, TaskContext)
    assert_type(context.run_id, str)
    assert_type(context.element, int | None)
    assert_type(context.attempt, int)
    assert_type(context.params, Mapping[str, Any])
    assert_type(context.deadline, float | None)
    assert_type(context.random, Random)
    assert_type(context.logger, Logger)
    assert_type(context.notes, Mapping[str, Any])
    assert_type(context.run(len, "abc"), int)
    context.run(len, 3)  # type: ignore[arg-type]
    context.remember("job", 17)
    context.remember(17, "job")  # type: ignore[arg-type]
    context.attempt_number  # type: ignore[attr-defined]
    if day == "Sunday":
        raise Skip("no data on Sundays")
    return context.idempotency_key


# Hooks.


def alert(event: TaskFailed) -> None:
    assert_type(event.error, BaseException)


def report(event: RunFinished) -> None:
    assert_type(event.error, BaseException | None)


hooked = task(on_failure=alert, on_retry=[lambda event: event.delay], on_skip=None)(extract.func)
assert_type(hooked, Task[[], list[int]])
hooked.with_options(on_failure=[alert, print])
hooked.with_options(on_success=alert)  # type: ignore[arg-type]
DAG("hooked", tasks=[hooked], on_failure=report, on_success=[report])
Flow("hooked", on_failure=report)
DAG("hooked", on_failure=alert)  # type: ignore[arg-type]
task(on_failure="mail")  # type: ignore[arg-type]


# Logs.

logger = configure_logging(level=LogLevel.DEBUG, use_colors=None, json_output=False)
assert_type(logger, FlowkitLogger)
assert_type(get_logger(), FlowkitLogger)
logger.info("Received %d records.", 14502)
logger.success("Task completed.")
logger.system("Worker released.")
configure_logging(colour=True)  # type: ignore[call-arg]


# Executors, observers and stores are protocols, which classes satisfy without importing flowkit_core.

serial: flowkit_core.Executor = SerialExecutor()
threads: flowkit_core.Executor = ThreadExecutor()
processes: flowkit_core.Executor = ProcessExecutor()
portable: flowkit_core.Executor = ProcessExecutor(2, transport="portable")
runs: Store = StateManager("runs.db")
cache: Cache = TaskCache()


class Recorder:
    def __init__(self) -> None:
        self.seen: list[flowkit_core.Event] = []

    def __call__(self, event: flowkit_core.Event) -> None:
        self.seen.append(event)


dag.run(observers=[Recorder(), print])
dag.run(observers=[len])  # type: ignore[list-item]


# flowkit exports the objects of the other distributions.

assert_type(task(extract.func), Task[[], list[int]])
same_state: type[flowkit_state.StateManager] = StateManager
same_level: type[flowkit_log.LogLevel] = LogLevel
policy = RetryPolicy(retries=3, delay=1.0)
assert_type(policy.retries, int)

flowkit.tsak  # type: ignore[attr-defined]


@task(pool="db", priority=3)
def pooled(x: int) -> int:
    return x


def sum_of(numbers: list[int]) -> int:
    return sum(numbers)


def pools_and_priorities() -> None:
    assert_type(pooled.pool, Mapping[str, int] | None)
    assert_type(pooled.priority, int)
    assert_type(Task(sum_of, pool=["db", "api"])([1]), int)
    assert_type(task(pool={"gpu": 2})(sum_of)([1]), int)
    assert_type(pooled.with_options(pool=None, priority=0)(1), int)
    task(pool=3)  # type: ignore[call-overload]
    task(pool={"gpu": "2"})  # type: ignore[dict-item]
    task(priority="high")  # type: ignore[call-overload]
    assert_type(DAG("d", pools={"db": 2, "api": Rate(10)}).run(pools={"db": 3, "api": Rate(1, per=0.5)}), Results)
    assert_type(Flow("f", pools={"db": 2}).run(pools=None), Results)
    DAG("d").run(pools={"db": "2"})  # type: ignore[dict-item]
    Rate(0.5)  # type: ignore[arg-type]
    assert_type((Rate(1).count, Rate(1).per), tuple[int, float])
    error = UnknownPoolError("a", "b", ["c"])
    assert_type((error.task, error.pool, error.available), tuple[str, str, tuple[str, ...]])
    executor = VirtualTimeExecutor()
    assert_type(DAG("d").run(executor), Results)
    assert_type(executor.seconds, float)


@task(timeout=2.5, retries=1)
def limited(rows: list[int]) -> int:
    return sum(rows)


def timeouts() -> None:
    assert_type(limited.timeout, float | None)
    assert_type(limited([1]), int)
    assert_type(limited.with_options(timeout=None)([1]), int)
    task(timeout="2")  # type: ignore[call-overload]
    error = TaskTimeoutError("limited", 2.5, "ended")
    assert_type((error.task, error.timeout, error.fate), tuple[str, float, str])
    builtin: TimeoutError = error
    run_error: TimeoutError = RunTimeoutError("etl", 60)
    print(builtin, run_error)
