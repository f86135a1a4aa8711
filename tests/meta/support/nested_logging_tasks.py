"""Tasks that log; worker processes import them from here."""

from __future__ import annotations

import asyncio
import logging
import threading

from flowkit import DAG, Task, current, get_logger

logger = get_logger("lines")
other_logger = logging.getLogger("some.library")


def synchronous():
    logger.info("first", rows=3)
    logger.info("named", task="mine")
    other_logger.info("library")
    other_logger.info("library with extra", extra={"task": "mine", "rows": 3})
    return 1


async def asynchronous(synchronous):
    logger.info("second")
    await asyncio.gather(asyncio.to_thread(other_logger.info, "library in a thread"), log_later())
    return synchronous


async def log_later():
    await asyncio.sleep(0)
    other_logger.info("library in a coroutine")


def nesting(asynchronous):
    thread = threading.Thread(target=lambda: logger.info("other thread"))
    thread.start()
    thread.join()
    run_id = DAG("inner", tasks=[Task(inner)]).run("serial").run_id
    other_logger.info("library after the nested run")
    return run_id


def inner():
    logger.info("nested")
    other_logger.info("library in the nested run")


def retried(asynchronous):
    other_logger.info("attempt %d", current().attempt)
    if current().attempt == 1:
        raise ConnectionError("first attempt")


def attributes_of_own_record():
    """Return the attributes of a record that a handler of this process gets."""
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = found.append
    other_logger.addHandler(handler)
    other_logger.warning("in a pool")
    other_logger.removeHandler(handler)
    return [getattr(found[0], name) for name in ("run_id", "pipeline", "task", "element", "attempt")]


def pipeline():
    """Return a chain of tasks, of which one runs another pipeline and the last is retried."""
    first, second, third = Task(synchronous), Task(asynchronous), Task(nesting)
    fourth = Task(retried, retries=1, delay=0)
    first >> second >> third
    second >> fourth
    fourth.after(third)
    return DAG("outer", tasks=[fourth])
