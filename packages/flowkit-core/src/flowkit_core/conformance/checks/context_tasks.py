"""Functions that the checks of contexts run, at the top level of a module, so that every executor can import them."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from threading import Thread

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import current
from flowkit_core.errors import ContextError
from flowkit_core.pipelines.dag import DAG
from flowkit_core.pipelines.task import Task

from .tasks import OwnError, flaky

if TYPE_CHECKING:
    from flowkit_core._typing import Any


def facts(*_args: Any) -> tuple[Any, ...]:
    """Return what the context has, besides the random numbers."""
    context = current()
    return (
        context.run_id,
        context.pipeline,
        context.task,
        context.element,
        context.attempt,
        dict(context.params),
        context.deadline,
        context.idempotency_key,
    )


def place() -> tuple[str, str]:
    """Return pipeline and task of the context."""
    return current().pipeline, current().task


def is_in_task(task: Any = None) -> bool:
    """Return whether the context is that of the task ``conditional``."""
    return current().task == "conditional"


def draw() -> list[float]:
    """Return two random numbers of the context."""
    return [current().random.random(), current().random.random()]


def fail_until_third_attempt() -> list[Any]:
    """Raise twice; return the notes that the attempts have made, and the number of the last."""
    context = current()
    context.remember("attempts", [*context.notes.get("attempts", []), context.attempt])
    context.remember("key", context.notes.get("key", context.idempotency_key))
    if context.attempt < 3:
        raise OwnError(context.attempt, "again")
    return [context.notes["attempts"], context.notes["key"] == context.idempotency_key, context.attempt]


def remember_attempts(path: str, failures: int) -> list[int]:
    """Fail a number of times; return the numbers of the attempts, as remembered."""
    context = current()
    context.remember("attempts", [*context.notes.get("attempts", []), context.attempt])
    flaky(path, failures)
    attempts: list[int] = context.notes["attempts"]
    return attempts


async def gathered() -> list[tuple[str, str]]:
    """Return the places of coroutines, of a task of the event loop and of its thread."""

    async def inner() -> tuple[str, str]:
        await asyncio.sleep(0)
        return place()

    return list(await asyncio.gather(inner(), asyncio.create_task(inner()), asyncio.to_thread(place)))


def nested() -> list[Any]:
    """Return the places before a run inside the task, in it, and after it."""
    inside = Task(place, name="inside")
    inner = [DAG("inner", tasks=[inside]).run("serial")["inside"] for _ in range(2)]
    observed = DAG("inner", tasks=[inside]).run("serial", observers=[lambda event: None])["inside"]
    return [place(), *inner, observed, place()]


def nested_unseen() -> list[Any]:
    """Return the place in a run inside the task, and after it, without asking before."""
    inside = DAG("inner", tasks=[Task(place, name="inside")]).run("serial")["inside"]
    return [inside, place()]


def in_threads() -> list[Any]:
    """Return the places in a thread with a copy of the context, in one with ``run()``, and in one without context."""
    copied = copy_context()
    context = current()
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(place())
        except ContextError:
            found.append(None)

    for target in (lambda: copied.run(ask), lambda: context.run(ask), ask):
        thread = Thread(target=target)
        thread.start()
        thread.join()
    return found
