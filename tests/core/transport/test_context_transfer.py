"""Contexts of tasks in other processes: carried with a call, or asked for, here in one process."""

from __future__ import annotations

import contextvars
import pickle
import threading

import pytest

from flowkit_core import DAG, ContextError, Run, Task, current
from flowkit_core.runs.context_transfer import CarriedContext, RemoteFacts, answer


@pytest.fixture
def run():
    return Run(DAG("etl", tasks=[Task(abs, name="load")]).graph(), params={"day": 3}, run_id="r1")


def carried(context):
    return pickle.loads(pickle.dumps(CarriedContext(context)))


def entered(context, timeout=None):
    """Return the facts, the context and the log of a carried context in other context variables."""
    return contextvars.copy_context().run(lambda: (carried(context).enter(timeout), current()))


def test_carried_context_has_the_facts_of_the_run(run):
    facts, context = entered(run.context_of(run.graph["load"]))
    assert (context.run_id, context.pipeline, context.task, context.attempt) == ("r1", "etl", "load", 1)
    assert dict(context.params) == {"day": 3}
    assert context.element is None
    assert facts.made == {}


def test_timeout_starts_when_carried_context_is_entered(run):
    context = run.context_of(run.graph["load"])
    assert entered(context)[1].deadline is None
    assert entered(context, 60.0)[1].deadline is not None


def test_notes_of_carried_context_are_collected(run):
    context = run.context_of(run.graph["load"])
    context.remember("page", 1)
    facts, there = entered(context)
    assert there.notes["page"] == 1
    there.remember("page", 2)
    assert there.notes["page"] == 2
    assert facts.made == {"page": 2}
    with pytest.raises(Exception, match="pickle"):
        there.remember("lock", threading.Lock())


@pytest.mark.parametrize(
    ("params", "message"),
    [({"lock": threading.Lock()}, "cannot be sent to the process"), ({"blob": bytes(1 << 17)}, "have 131")],
)
def test_parameters_that_are_not_sent_are_refused_when_read(params, message):
    run = Run(DAG("etl", tasks=[Task(abs, name="load")]).graph(), params=params, run_id="r1")
    context = entered(run.context_of(run.graph["load"]))[1]
    with pytest.raises(ContextError, match=message):
        _ = context.params


def test_context_is_asked_for_in_parts(run):
    node, asked = run.graph["load"], []

    def ask(request):
        asked.append(pickle.loads(request)[0])
        return answer(run, node, request)

    facts = RemoteFacts(ask)
    context = facts.context(7)
    assert (context.run_id, context.pipeline, context.task, context.attempt) == ("r1", "etl", "load", 1)
    assert dict(context.params) == dict(context.params) == {"day": 3}
    context.remember("page", 2)
    assert context.notes["page"] == 2
    assert asked == ["context", "params", "remember", "notes"]
    assert run.context_of(node).notes["page"] == 2


def test_request_that_fails_is_a_context_error(run):
    run.release()

    def ask(request):
        return answer(run, None, request)

    with pytest.raises(ContextError, match="could not answer a request for 'context'"):
        RemoteFacts(ask).context(7)
