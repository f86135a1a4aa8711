"""The session of a run: threads, and nodes that become ready when lanes are closed."""

from __future__ import annotations

import threading

from flowkit_core import DAG, Run, Task
from flowkit_core.runs.session import Session


class ThreadLane:
    """A lane that makes its first call in the thread that puts a node, and each other call in a thread of its own."""

    name = "threads"
    has_loop = needs_calling_thread = may_fork = makes_handles = False
    fate_of_unfinished = "abandoned"

    def __init__(self):
        self.calls = 0

    def open(self, session):
        self.session = session

    def put(self, nodes):
        for node in nodes:
            self.calls += 1
            if self.calls == 1:
                self.call(node)
            else:
                threading.Thread(target=self.call, args=(node,)).start()

    def call(self, node):
        call = self.session.begin(node)
        if call is not None:
            self.session.end(node, call.invoke(), attempt=call.attempt)

    def wake(self):
        pass

    def stop(self, *, end_calls):
        pass

    def close(self):
        return ()


def test_retry_before_the_session_waits_starts_no_second_waiting_thread():
    """Of two threads that wait for the end of the run, only one would be woken."""
    threads = []

    def task():
        threads.append([thread.name for thread in threading.enumerate()])
        if len(threads) < 2:
            raise ValueError("the first attempt")
        return "done"

    run = Run(DAG("retry", tasks=[Task(task, name="task", retries=1, delay=0)]).graph())
    Session(run, [ThreadLane()]).drive()
    assert run.state.succeeded() == {"task": "done"}
    assert "flowkit-timers" not in threads[1]


def test_node_that_becomes_ready_after_the_lanes_are_closed_is_dropped():
    first, second = Task(lambda: 1, name="first"), Task(lambda first: first, name="second")
    first >> second
    run = Run(DAG("late", tasks=[second]).graph())
    lane = ThreadLane()
    session = Session(run, [lane])
    lane.put = lambda nodes: session.fail("threads", ValueError("the lane is lost"))
    try:
        session.drive()
    except RuntimeError as error:
        assert "the lane is lost" in str(error)
    session.put(run.graph.nodes)
    assert run.state.counts() == {"cancelled": 2}
