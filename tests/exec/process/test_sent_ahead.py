"""Which nodes are queued, and which were sent to a worker ahead of time."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Outcome, Run, Task
from flowkit_core.runs.session import Session
from flowkit_core.runs.states import FAILED
from flowkit_exec import ProcessExecutor
from flowkit_exec.process.schedule import Schedule


class HandleDouble:
    """Stands for a `WorkerHandle` and its channel: calls that it holds, and tickets that the worker has not read."""

    def __init__(self):
        self.channel = self
        self.held, self.attempts = {}, {}
        self.unread = []
        self.has_discarded_calls = False

    def withdraw_tickets(self):
        tickets, self.unread = self.unread, []
        return tickets


def identity(value=None):
    return value


@pytest.fixture
def chain():
    """A schedule of a chain of three nodes, which a worker holds: the first is ready, the others are sent ahead."""
    tasks = [Task(identity, name=name) for name in "abc"]
    tasks[0] >> tasks[1] >> tasks[2]
    run = Run(DAG("chain", tasks=[tasks[2]]).graph())
    lane = ProcessExecutor(1).lane()
    schedule, worker = Schedule(Session(run, [lane]), lane), HandleDouble()
    nodes = [schedule.ready.take(), *run.graph.nodes[1:]]
    worker.held = dict(enumerate(nodes, start=1))
    schedule.sent_ahead.update(node.index for node in nodes[1:])
    return schedule, worker, nodes


def queued(schedule):
    names = []
    while schedule.ready:
        names.append(schedule.ready.take().name)
    return names


def test_node_sent_ahead_is_not_queued_when_it_becomes_ready(chain):
    schedule, worker, (_, second, third) = chain
    schedule.finish(worker.held.pop(1), 1)
    assert queued(schedule) == []
    assert schedule.sent_ahead == {third.index}
    assert schedule.ready_nodes_of(worker) == [(second, 1)]


def test_node_that_a_worker_returns_is_queued_when_it_becomes_ready(chain):
    schedule, worker, (first, *_) = chain
    worker.unread = [2, 3]
    schedule.withdraw(worker)
    assert worker.held == {1: first}
    assert schedule.sent_ahead == set()
    assert queued(schedule) == []
    schedule.finish(first, 1)
    assert queued(schedule) == ["b"]


def test_ready_node_that_a_worker_returns_is_queued(chain):
    schedule, worker, _ = chain
    worker.unread = [1, 2, 3]
    schedule.withdraw(worker)
    assert worker.held == {}
    assert queued(schedule) == ["a"]


def test_node_sent_ahead_of_a_failed_node_is_queued_when_the_worker_returns_it(chain):
    schedule, worker, _ = chain
    schedule.finish(worker.held.pop(1), Outcome(FAILED, error=ValueError()))
    for ticket in (2, 3):
        schedule.put_back(worker.held.pop(ticket), 1)
    assert queued(schedule) == ["b"]
    assert schedule.sent_ahead == set()


def test_discarded_chain_keeps_its_tickets(chain):
    schedule, worker, (first, *_) = chain
    schedule.discard_chain(worker, first)
    assert worker.held == {1: first, 2: None, 3: None}
    assert worker.has_discarded_calls
    assert schedule.sent_ahead == set()


def test_surplus_is_a_ready_node_besides_the_running_one(chain):
    schedule, worker, (_, second, _) = chain
    assert not schedule.has_surplus(worker)
    schedule.sent_ahead.discard(second.index)
    assert schedule.has_surplus(worker)


def test_nodes_sent_ahead_to_an_ended_worker_are_forgotten(chain):
    schedule, worker, _ = chain
    schedule.forget(worker)
    assert schedule.sent_ahead == set()
