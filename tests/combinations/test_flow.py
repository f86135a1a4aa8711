"""Flows, with each executor that is installed."""

from __future__ import annotations

import shop_tasks

from flowkit_core import Task
from flowkit_flow import Flow


def test_flow_runs_with_any_executor(executor):
    flow = Flow("shop").add(Task(shop_tasks.extract)).add(Task(shop_tasks.largest))
    assert flow.run(executor) == {"extract": [3, 1, 2], "largest": 3}
