"""Workers that are forks of this process, after async tasks have run in its event loop."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, sys
sys.modules["cloudpickle"] = None  # a function of a script that cannot be imported goes to workers with a fork
from flowkit_core import DAG, Task

async def loop():
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop())

def run():
    return DAG("async", tasks=[Task(loop)]).run()["loop"]

before = run()
offset = 40
print(DAG("forked", tasks=[Task(lambda: offset + 2, name="answer")]).run("process"))
beside = Task(lambda: offset + 3, name="beside", executor="process")
print(DAG("both", tasks=[beside, Task(loop, name="other")]).run()["beside"])
print(run() == before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="platform: workers are forked on Linux only")
@pytest.mark.skipif("FLOWKIT_TRANSPORT" in os.environ, reason="platform: this transport does not fork")
def test_process_with_an_idle_event_loop_can_be_forked():
    """Its thread is ended for that; the loop itself is kept."""
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout == "{'answer': 42}\n43\nTrue\n"
