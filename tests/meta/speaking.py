"""Tasks that log, in a module that worker processes can import."""

from __future__ import annotations

import threading

from flowkit import DAG, Task, get_logger

logger = get_logger("lines")


def speaks():
    logger.info("first", rows=3)
    logger.info("named", task="mine")
    return 1


async def awaited(speaks):
    logger.info("second")
    return speaks


def runs(awaited):
    thread = threading.Thread(target=lambda: logger.info("elsewhere"))
    thread.start()
    thread.join()
    return DAG("inner", tasks=[Task(inner)]).run("serial").run_id


def inner():
    logger.info("inside")


def pipeline():
    """Return a chain of three tasks, the last of which runs another pipeline."""
    first, second, third = Task(speaks), Task(awaited), Task(runs)
    first >> second >> third
    return DAG("outer", tasks=[third])
