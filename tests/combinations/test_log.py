"""Lines of a program's own, whatever else is installed."""

from __future__ import annotations

import io
import json
import logging

from flowkit_log import JsonFormatter, get_logger


def test_line_of_program_has_its_facts_as_json():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("flowkit")
    logger.addHandler(handler)
    try:
        get_logger("program").warning("Received %d records.", 3, table="orders")
    finally:
        logger.removeHandler(handler)
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert line["message"] == "Received 3 records."
    assert line["table"] == "orders"
