"""A recorded run that failed."""

from __future__ import annotations

import pytest
from durable_tasks import diamond


@pytest.fixture
def failed_box(box):
    """A box whose run failed in its last task, which is repaired."""
    box.inject("report", "fail")
    diamond().run("serial", state=box.db, params=box.params, raise_on_failure=False)
    box.repair("report")
    return box
