"""The parameter `idempotency_key`."""

from __future__ import annotations

import durable_tasks
from durable_tasks import record_execution, step

from flowkit import DAG, Flow, Task


def test_idempotency_key_is_equal_in_attempts_and_resumes_of_run(box):
    folder = box.folder

    def pay(idempotency_key):
        record_execution(folder, idempotency_key)
        return step(folder, "pay", idempotency_key)

    def ship(pay, idempotency_key):
        return step(folder, "ship", [pay, idempotency_key])

    first, second = Task(pay, retries=1, delay=0), Task(ship)
    first >> second
    pipeline = DAG("shop", tasks=[second])
    box.inject("pay", "fail")
    run_id = box.failing_run(pipeline).run_id
    box.repair("pay")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results.run_id == run_id
    keys = [line for line in box.ran if line not in ("pay", "ship")]
    assert len(keys) == 3
    assert set(keys) == {results["pay"]}
    assert type(results["pay"]) is str
    assert results["ship"][1] not in (results["pay"], "")
    again = pipeline.run("serial", state=box.db)
    assert again["pay"] != results["pay"], "each run has its own key"


def test_idempotency_key_without_state_differs_by_task_and_run(box):
    pipeline = DAG("keys", tasks=[Task(durable_tasks.return_key), Task(durable_tasks.return_key, name="other")])
    results = pipeline.run("thread", params=box.params)
    assert all(type(value) is str and value for value in results.values())
    assert results["return_key"] != results["other"]
    assert pipeline.run("thread", params=box.params)["return_key"] != results["return_key"]


def test_idempotency_key_of_flow_replaces_default(box):
    folder = box.folder

    def first():
        return step(folder, "first", 1)

    def second(first, *, idempotency_key=None):
        return step(folder, "second", idempotency_key)

    results = Flow("keys").add(Task(first)).add(Task(second)).run("serial", state=box.db)
    assert type(results["second"]) is str


def test_idempotency_key_from_upstream_or_params_takes_precedence(box):
    def own(idempotency_key):
        return idempotency_key

    upstream = Task(lambda: "from upstream", name="idempotency_key")
    bound = Task(own, name="bound")
    upstream >> bound
    assert DAG("keys", tasks=[bound]).run("serial", state=box.db)["bound"] == "from upstream"
    free = DAG("free", tasks=[Task(own)])
    assert free.run("serial", state=box.db, params={"idempotency_key": "mine"}) == {"own": "mine"}
