"""Tasks that log, imported from here by worker processes."""

from __future__ import annotations

from flowkit_log import get_logger

logger = get_logger("tasks")


def extract():
    logger.info("Received %d records.", 3)
    return [3, 1, 2]
