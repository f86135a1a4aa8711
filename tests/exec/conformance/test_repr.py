"""Representations of executors and of what drives a run."""

from __future__ import annotations

import re

from flowkit_core import DAG, Run, Task
from flowkit_exec import ProcessExecutor, ThreadExecutor
from flowkit_exec.process.workers.handle import WorkerHandle
from flowkit_exec.ready_queue import ReadyQueue
from flowkit_exec.thread.lane import ThreadLane


def one():
    return 1


def test_repr_of_executors_shows_counts():
    assert repr(ThreadExecutor(max_workers=3)) == "ThreadExecutor(max_workers=3)"
    with ProcessExecutor(max_workers=3) as executor:
        assert repr(executor) == "ProcessExecutor(max_workers=3, idle_workers=0)"
        DAG("one", tasks=[Task(int)]).run(executor)
        assert repr(executor) == "ProcessExecutor(max_workers=3, idle_workers=1)"
    assert repr(executor) == "ProcessExecutor(max_workers=3, closed)"


def test_repr_of_lanes_shows_counts():
    run = Run(DAG("one", tasks=[Task(one)]).graph())
    assert repr(ThreadLane(2)) == "<ThreadLane threads=1 active=1 ready=0>"
    queue = ReadyQueue(run.graph.nodes, run.graph)
    assert repr(queue) == "<ReadyQueue of 1, FIFO>"
    worker = WorkerHandle()
    try:
        assert re.fullmatch(r"<WorkerHandle pid=\d+ held=0 functions=0>", repr(worker))
    finally:
        worker.kill_and_release()
