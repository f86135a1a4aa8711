"""Records of async tasks, and of runs that `arun` makes."""

from __future__ import annotations

import asyncio

import pytest

from flowkit import DAG, StateManager, Task

LONG = 30.0


def test_async_tasks_are_recorded_and_resumed(tmp_path):
    """Only the task that failed, and what follows it, runs again."""
    calls = []

    async def first():
        await asyncio.sleep(0)
        calls.append("first")
        return 1

    async def second(first):
        calls.append("second")
        if len(calls) == 2:
            raise OSError("not yet")
        return first + 1

    first, second = Task(first), Task(second)
    first >> second
    dag = DAG("recorded", tasks=[second])
    path = tmp_path / "runs.db"
    with pytest.raises(OSError, match="not yet"):
        dag.run(state=str(path), resume=True)
    assert asyncio.run(dag.arun(state=str(path), resume=True)) == {"first": 1, "second": 2}
    assert calls == ["first", "second", "second"]
    with StateManager(path) as state:
        (run,) = state.runs("recorded")
        assert run.status == "succeeded"


def test_cancelled_arun_is_recorded_as_interrupted_and_resumed(tmp_path):
    started = []

    async def quick():
        return 1

    async def slow(quick):
        started.append(1)
        if len(started) == 1:
            await asyncio.sleep(LONG)
        return quick + 1

    quick, slow = Task(quick), Task(slow)
    quick >> slow
    dag = DAG("cancelled", tasks=[slow])
    path = tmp_path / "runs.db"

    async def main():
        waiting = asyncio.create_task(dag.arun(state=str(path), resume=True))
        while not started:  # noqa: ASYNC110 - the task may run in another loop
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with StateManager(path) as state:
            (run,) = state.runs("cancelled")
            assert run.status == "interrupted"
        results = await dag.arun(state=str(path), resume=True)
        assert results == {"quick": 1, "slow": 2}
        assert set(results.durations) >= {"slow"}

    asyncio.run(main())
    assert len(started) == 2


def test_cached_async_task_is_not_called_again(tmp_path):
    calls = []

    async def number():
        calls.append(1)
        return 5

    dag = DAG("cached", tasks=[Task(number, cache=True)])
    path = str(tmp_path / "runs.db")
    assert dag.run(state=path) == asyncio.run(dag.arun(state=path)) == dag.run("serial", state=path) == {"number": 5}
    assert len(calls) == 1
