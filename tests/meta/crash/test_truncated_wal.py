"""A database whose write-ahead log was truncated, as by a power failure."""

from __future__ import annotations

import shutil
import struct
from collections import Counter
from pathlib import Path

import pytest
from crash_scripts import last_run
from durable_tasks import RESULTS, diamond

from flowkit import StateManager

pytestmark = [pytest.mark.slow, pytest.mark.sampled(2)]

RECORD = """
import os, sys
from flowkit import StateManager
from durable_tasks import Box, diamond

box = Box(sys.argv[1])
if sys.argv[2] == "used":
    diamond().run("serial", state=box.db, params=box.params)
state = StateManager(box.db)
diamond().run("serial", state=state, params=box.params)
os._exit(0)
"""


@pytest.mark.parametrize("before", ["new", "used"])
def test_truncated_wal_opens_and_run_is_resumed(box, tmp_path, script, before):
    """At every boundary of a frame and within each frame."""
    script(RECORD, box.folder, before)
    log = Path(box.db + "-wal").read_bytes()
    (page,) = struct.unpack(">I", log[8:12])
    boundaries = range(32, len(log) + 1, page + 24)
    assert len(boundaries) > 5
    cuts = sorted({0, 16, *boundaries, *(cut + page // 2 for cut in boundaries[:-1])})
    recorded = 0
    finished = before == "used"
    for cut in cuts:
        copy = tmp_path / f"cut {cut}"
        copy.mkdir()
        shutil.copy(box.db, copy / "runs.db")
        (copy / "runs.db-wal").write_bytes(log[:cut])
        ran = len(box.ran)
        with StateManager(copy / "runs.db") as state:
            run, values = last_run(state)
            assert values == {name: RESULTS[name] for name in values}
            if run is not None and not (finished and len(state.runs()) == 1):
                assert len(values) >= recorded, f"cut at {cut}: fewer results than with a shorter log"
                recorded = len(values)
                assert run.status == ("succeeded" if run.ended else "interrupted")
            results = diamond().run("serial", state=state, params=box.params, resume=True)
            assert results == RESULTS, f"cut at {cut}"
            expected = set(RESULTS) if run is None or run.status == "succeeded" else set(RESULTS) - set(values)
            assert Counter(box.ran[ran:]) == dict.fromkeys(expected, 1), f"cut at {cut}"
            assert state.runs()[0].status == "succeeded"
        shutil.rmtree(copy)
    assert recorded == len(RESULTS)
