"""Warnings of async tasks that block their event loop, and of `run()` in an event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings

import pytest

from flowkit_core import DAG, Task

LONG = 30.0


@pytest.fixture
def warned(monkeypatch):
    """Return an event that is set at the first warning, and the list of messages, file names and lines."""
    monkeypatch.setattr("flowkit_core.runs.event_loop.watchdog.BLOCKED_AFTER", 0.02)
    monkeypatch.setattr("flowkit_core.runs.event_loop.lane.INTERVAL", 0.01)
    event, found = threading.Event(), []

    def show(message, category, filename, lineno, *_):
        found.append((str(message), filename, lineno))
        event.set()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        yield event, found


def block(event):
    assert event.wait(LONG)


async def blocking(event):
    await asyncio.sleep(0)
    block(event)


LINE = blocking.__code__.co_firstlineno + 2


@pytest.mark.parametrize("in_coroutine", [False, True])
def test_task_that_blocks_the_loop_is_named(warned, in_coroutine):
    event, found = warned
    dag = DAG("blocked", tasks=[Task(lambda: 1, name="plain"), Task(blocking, name="blocking")])
    options = {"params": {"event": event}}
    asyncio.run(dag.arun(**options)) if in_coroutine else dag.run(**options)
    ((message, filename, line),) = found
    assert message.startswith("async task 'blocking' blocks its event loop: what this line calls has not returned")
    assert message.endswith("await it, or call it in a thread: asyncio.to_thread()")
    assert (filename, line) == (__file__, LINE)


def test_task_that_runs_a_pipeline_is_named(warned):
    event, found = warned

    async def outer():
        await asyncio.sleep(0)
        DAG("inner", tasks=[Task(lambda: block(event), name="inner")]).run("serial")

    DAG("outer", tasks=[Task(outer)]).run()
    ((message, *_),) = found
    assert "async task 'outer'" in message
    assert message.endswith("write await pipeline.arun()")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="platform: tasks of the loop have no get_context()")
def test_subtask_that_blocks_the_loop_has_the_name_of_its_task(warned):
    event, found = warned

    async def outer():
        await asyncio.create_task(blocking(event))

    DAG("outer", tasks=[Task(outer)]).run()
    ((message, *_),) = found
    assert "async task 'outer'" in message


def test_tasks_that_wait_are_not_named(warned, monkeypatch):
    """The check is made many times meanwhile."""
    monkeypatch.setattr("flowkit_core.runs.event_loop.watchdog.BLOCKED_AFTER", 0.5)  # no step takes so long
    _, found = warned

    async def wait():
        for _ in range(60):
            await asyncio.sleep(0.01)

    DAG("waits", tasks=[Task(wait, name=f"wait_{number}") for number in range(3)]).run()
    assert found == []


def test_run_that_blocks_an_event_loop_with_other_tasks_warns(monkeypatch):
    monkeypatch.setattr("flowkit_core.runs.event_loop.watchdog.BLOCKED_AFTER", 0.0)
    dag = DAG("inner", tasks=[Task(lambda: 1, name="one")])

    async def alone():
        return dag.run()

    async def beside_others():
        other = asyncio.create_task(asyncio.sleep(0))
        with pytest.warns(RuntimeWarning, match=r"run\(\) has blocked the event loop .* 1 other task") as caught:
            dag.run()
        assert caught[0].filename == __file__
        await other

    assert asyncio.run(alone()) == {"one": 1}
    asyncio.run(beside_others())
