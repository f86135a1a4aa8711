"""Tasks that log; worker processes import them from here."""

from __future__ import annotations

import threading

from flowkit import DAG, Task, get_logger

logger = get_logger("lines")


def synchronous():
    logger.info("first", rows=3)
    logger.info("named", task="mine")
    return 1


async def asynchronous(synchronous):
    logger.info("second")
    return synchronous


def nesting(asynchronous):
    thread = threading.Thread(target=lambda: logger.info("other thread"))
    thread.start()
    thread.join()
    return DAG("inner", tasks=[Task(inner)]).run("serial").run_id


def inner():
    logger.info("nested")


def pipeline():
    """Return a chain of three tasks, the last of which runs another pipeline."""
    first, second, third = Task(synchronous), Task(asynchronous), Task(nesting)
    first >> second >> third
    return DAG("outer", tasks=[third])
