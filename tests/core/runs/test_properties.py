"""Properties of random graphs: results, states, events and errors for any order and any outcome."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowkit_core import (
    DAG,
    Outcome,
    Retry,
    Run,
    RunStopping,
    Task,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSucceeded,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*needs the result of:RuntimeWarning")  # random triggers

TRIGGERS = ("none_failed", "all_success", "all_done", "one_success", "one_failed")
CLEAN_UP = ("all_done", "one_failed")
AT_ONCE = ("one_success", "one_failed")  # start when one upstream has ended so: the values that they get depend on time
FINAL = {"succeeded", "failed", "skipped", "upstream_failed", "cancelled"}


@st.composite
def shapes(draw, most=9):
    """Return the upstreams of each node, as positions of earlier nodes, in order of declaration."""
    count = draw(st.integers(1, most))
    return [
        draw(st.permutations(draw(st.lists(st.sampled_from(range(node)), unique=True, max_size=4)))) if node else []
        for node in range(count)
    ]


def function(inputs, wanted, body):
    """Return a function with a number of inputs of a kind: required, defaults, rest (*args) or nothing."""
    names = [f"x{position}" for position in range(wanted)]
    if inputs == "rest":
        return lambda *args: body(args)
    if inputs == "nothing":
        return lambda: body(())
    default = "='default'" if inputs == "defaults" else ""
    parameters = ", ".join(f"{name}{default}" for name in names)
    return eval(f"lambda {parameters}: body(({''.join(f'{name}, ' for name in names)}))", {"body": body})


# Random graphs equal sequential evaluation


@given(shape=shapes(12), data=st.data())
def test_random_graph_equals_sequential_evaluation(shape, data):
    """Tasks and edges are declared in any order."""
    defined = data.draw(st.permutations(range(len(shape))), label="order of definition")
    tasks = {node: Task(lambda *args, node=node: (node, args), name=f"n{node}") for node in defined}
    edges = [(source, node) for node, upstream in enumerate(shape) for source in upstream]
    declared = data.draw(st.permutations(edges), label="order of declaration")
    for source, node in declared:
        tasks[source] >> tasks[node]
    expected = {}
    for node in range(len(shape)):
        expected[f"n{node}"] = (node, tuple(expected[f"n{source}"] for source, target in declared if target == node))
    dag = DAG("random", tasks=data.draw(st.permutations(list(tasks.values())), label="tasks"))
    results = dag.run("serial")
    assert results == expected
    place = {name: position for position, name in enumerate(results)}
    assert all(place[f"n{source}"] < place[f"n{node}"] for source, node in edges)
    assert dag.run("serial") == results
    assert list(dag.run("serial")) == list(results)


@given(shape=shapes(), data=st.data())
def test_random_graph_with_back_edge_is_cycle_error(shape, data):
    """Every cycle that is reported consists of declared edges."""
    from flowkit_core import DAGCycleError

    tasks = [Task(lambda *args: 0, name=f"n{node}") for node in range(len(shape))]
    edges = {(f"n{source}", f"n{node}") for node, upstream in enumerate(shape) for source in upstream}
    for node, upstream in enumerate(shape):
        for source in upstream:
            tasks[source] >> tasks[node]
    late, early = sorted(data.draw(st.tuples(*[st.integers(0, len(shape) - 1)] * 2)), reverse=True)
    tasks[late] >> tasks[early]
    edges.add((f"n{late}", f"n{early}"))
    dag = DAG("random", tasks=tasks)
    reach, frontier = {f"n{early}"}, [f"n{early}"]
    while frontier:
        here = frontier.pop()
        for source, node in edges - {(f"n{late}", f"n{early}")}:
            if source == here and node not in reach:
                reach.add(node)
                frontier.append(node)
    if f"n{late}" not in reach:
        dag.graph()
        return
    try:
        dag.graph()
    except DAGCycleError as error:
        steps = list(zip(error.cycle, error.cycle[1:], strict=False))
        assert set(steps) <= edges
        assert error.cycle[0] == error.cycle[-1]
        assert len(set(steps)) == len(steps) == len(error.cycle) - 1
    else:
        raise AssertionError("no cycle was found")


# Random outcomes equal a reference that is written down plainly


def condition(plan):
    """Return a condition that asks for no arguments."""
    return lambda: plan.condition


class Plan:
    """What a node of a random graph is and does."""

    def __init__(self, inputs, trigger, condition, failures, retries):
        self.inputs = "nothing" if trigger in AT_ONCE else inputs
        self.trigger, self.condition, self.failures, self.retries = trigger, condition, failures, retries

    def __repr__(self):
        return f"Plan({self.inputs!r}, {self.trigger!r}, {self.condition}, {self.failures}, {self.retries})"


plans = st.builds(
    Plan,
    inputs=st.sampled_from(["required", "defaults", "rest", "nothing"]),
    trigger=st.sampled_from(["none_failed", "none_failed", *TRIGGERS]),
    condition=st.sampled_from([None, True, True, False]),
    failures=st.sampled_from([0, 0, 0, 1, 2, 9]),
    retries=st.integers(0, 2),
)


def reference(plan, upstream):
    """Return the state of a node as the contract has it, and its arguments, given (state, value) of each upstream."""
    states = [state for state, _ in upstream]
    bad = [state for state in states if state in ("failed", "upstream_failed")]
    if plan.trigger in ("none_failed", "all_success") and bad:
        return "upstream_failed", None
    if plan.trigger == "all_success" and "skipped" in states:
        return "skipped", None
    if plan.trigger == "one_success" and states and "succeeded" not in states:
        return ("upstream_failed" if bad else "skipped"), None
    if plan.trigger == "one_failed" and not bad:
        return "skipped", None
    if plan.inputs == "required" and set(states) - {"succeeded"}:
        first = next(state for state in states if state != "succeeded")
        return ("skipped" if first == "skipped" else "upstream_failed"), None
    if plan.trigger == "none_failed" and plan.inputs in ("rest", "nothing") and states and set(states) == {"skipped"}:
        return "skipped", None
    if plan.condition is False:
        return "skipped", None
    if plan.failures > plan.retries:
        return "failed", None
    ran = [(state, value) for state, value in upstream if state == "succeeded" or plan.inputs == "defaults"]
    return "succeeded", () if plan.inputs == "nothing" else tuple(
        value if state == "succeeded" else "default" for state, value in ran
    )


def build(shape, wanted):
    """Return the tasks of a random graph, and how often each was called."""
    calls = [0] * len(shape)
    tasks = []
    for node, (upstream, plan) in enumerate(zip(shape, wanted, strict=True)):

        def body(args, node=node, plan=plan):
            calls[node] += 1
            if calls[node] <= plan.failures:
                raise ValueError(f"n{node}")
            return (node, args)

        inputs = plan.inputs if upstream else "nothing"
        when = None if plan.condition is None else condition(plan)
        tasks.append(
            Task(
                function(inputs, len(upstream), body),
                name=f"n{node}",
                when=when,
                trigger=plan.trigger,
                retries=plan.retries,
                delay=0,
            )
        )
        [tasks[source] for source in upstream] >> tasks[node]
    return tasks, calls


@given(shape=shapes(), data=st.data())
def test_random_outcomes_equal_the_contract(shape, data):
    """States, results, reasons and numbers of calls are those of a reference implementation."""
    wanted = [data.draw(plans) for _ in shape]
    tasks, calls = build(shape, wanted)
    expected = {}
    for node, (upstream, plan) in enumerate(zip(shape, wanted, strict=True)):
        kind = plan if upstream else Plan("nothing", plan.trigger, plan.condition, plan.failures, plan.retries)
        state, args = reference(kind, [expected[source] for source in upstream])
        expected[node] = (state, (node, args) if state == "succeeded" else None)
    results = DAG("random", tasks=tasks).run("serial", fail_fast=False, raise_on_failure=False)
    assert results.states == {name: expected[int(name[1:])][0] for name in results.states}
    assert results == {f"n{node}": value for node, (state, value) in expected.items() if state == "succeeded"}
    assert set(results.skipped) == {f"n{node}" for node, (state, _) in expected.items() if state == "skipped"}
    assert all(results.skipped.values())
    assert set(results.failed) == {f"n{node}" for node, (state, _) in expected.items() if state == "failed"}
    for node, plan in enumerate(wanted):
        tries = min(plan.failures, plan.retries) + 1
        assert calls[node] == (tries if expected[node][0] in ("succeeded", "failed") else 0)


@given(shape=shapes(), data=st.data(), fail_fast=st.booleans())
def test_random_run_has_consistent_events(shape, data, fail_fast):
    """Checks order, attempts, and starts after a failure."""
    wanted = [data.draw(plans) for _ in shape]
    tasks, _ = build(shape, wanted)
    seen = []
    results = DAG("random", tasks=tasks).run(
        "serial", fail_fast=fail_fast, raise_on_failure=False, observers=[seen.append]
    )
    attempts, ended = {}, set()
    for event in seen[1:-1]:
        if isinstance(event, RunStopping):
            continue
        node = int(event.task[1:])
        if isinstance(event, TaskStarted):
            assert event.task not in ended
            upstream = [f"n{source}" in ended for source in shape[node]]
            assert any(upstream) or not upstream if wanted[node].trigger in AT_ONCE else all(upstream)
            if fail_fast and any(isinstance(before, TaskFailed) for before in seen[: seen.index(event)]):
                assert wanted[node].trigger in CLEAN_UP
            attempts[event.task] = attempts.get(event.task, 0) + 1
            assert event.attempt == attempts[event.task] <= event.max_attempts == 1 + wanted[node].retries
        elif not isinstance(event, TaskRetrying):
            assert event.task not in ended
            ended.add(event.task)
            assert isinstance(event, TaskSucceeded) == (event.task in results)
    assert ended == set(results.states)
    assert seen[-1].counts == {state: list(results.states.values()).count(state) for state in results.states.values()}


# The state machine, driven by hand through any interleaving


class RunMachine(RuleBasedStateMachine):
    """Hands a run its outcomes in any order, as any executor with any number of workers might."""

    def __init__(self):
        super().__init__()
        self.ready, self.running, self.later, self.ended = [], [], [], {}
        self.handed_out, self.attempts = set(), {}
        self.failed = self.cancelled = False
        self.raised = None

    @initialize(shape=shapes(), data=st.data(), fail_fast=st.booleans())
    def begin(self, shape, data, fail_fast):
        self.shape, self.fail_fast = shape, fail_fast
        self.plans = {f"n{node}": data.draw(plans) for node in range(len(shape))}
        tasks = []
        for node, upstream in enumerate(shape):
            plan = self.plans[f"n{node}"]
            inputs = plan.inputs if upstream else "nothing"
            when = None if plan.condition is None else condition(plan)
            func = function(inputs, len(upstream), self.body)
            tasks.append(Task(func, name=f"n{node}", trigger=plan.trigger, retries=plan.retries, when=when))
            [tasks[source] for source in upstream] >> tasks[node]
        self.graph = DAG("machine", tasks=tasks).graph()
        self.upstream = {f"n{node}": [f"n{source}" for source in upstream] for node, upstream in enumerate(shape)}
        self.run = Run(self.graph, fail_fast=fail_fast)
        self.hand_out(self.run.start())

    def body(self, args):
        if self.raised is not None:
            raise self.raised
        return args

    def hand_out(self, nodes):
        for node in nodes:
            assert node.name not in self.handed_out, "handed out twice"
            self.handed_out.add(node.name)
            if self.plans[node.name].trigger not in AT_ONCE:
                assert set(self.upstream[node.name]) <= set(self.ended), "handed out before its upstreams ended"
            self.ready.append(node)

    def finish(self, node, outcome):
        answer = self.run.finish(node, outcome)
        state = self.run.state.states()[node.name]
        if isinstance(answer, Retry):
            assert state == "pending"
            assert answer.node is node
            assert answer.delay >= 0
            assert not self.cancelled
            self.later.append(node)
            return
        assert node.name not in self.ended, "ended twice"
        assert state in FINAL
        self.ended[node.name] = state
        self.failed = self.failed or state == "failed"
        self.hand_out(answer)

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def call(self, data):
        node = self.ready.pop(data.draw(st.integers(0, len(self.ready) - 1)))
        call = self.run.call(node)
        if isinstance(call, Outcome):
            self.finish(node, call)
            return
        assert not self.cancelled, "started after the cancellation"
        if self.failed and self.fail_fast:
            assert self.plans[node.name].trigger in CLEAN_UP, "started after the failure"
        ending = call.precheck()
        if ending is not None:
            assert self.attempts.get(node.name, 0) == 0, "judged again for a retry"
            self.finish(node, ending)
            return
        self.attempts[node.name] = self.attempts.get(node.name, 0) + 1
        assert call.attempt == self.attempts[node.name] <= 1 + self.plans[node.name].retries
        self.running.append((node, call))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), raised=st.sampled_from([None, None, None, ValueError, ValueError, SystemExit]))
    def end(self, data, raised):
        node, call = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.raised, waiting = raised, len(self.later)
        self.finish(node, call.invoke())
        self.raised = None
        assert (self.ended.get(node.name) == "succeeded") == (raised is None)
        if raised is SystemExit:
            assert len(self.later) == waiting, "an interrupt was retried"
            self.fail_fast = True

    @precondition(lambda self: self.later)
    @rule(data=st.data())
    def wake(self, data):
        self.ready.append(self.later.pop(data.draw(st.integers(0, len(self.later) - 1))))

    @precondition(lambda self: not (self.ready or self.running or self.later))
    @rule()
    def over(self):
        assert self.run.done, "no node is ready, running or waiting, and the run is not done"

    @precondition(lambda self: not self.cancelled)
    @rule(chance=st.integers(0, 19))
    def cancel(self, chance):
        if chance == 0:
            self.run.cancel("enough")
            self.cancelled = True

    @invariant()
    def states_agree(self):
        if not hasattr(self, "run"):
            return
        states = self.run.state.states()
        assert {name: state for name, state in states.items() if state != "pending"} == self.ended
        assert self.run.done == (len(self.ended) == len(self.shape))
        assert set(self.run.state.succeeded()) == {name for name, state in self.ended.items() if state == "succeeded"}
        assert set(self.run.state.failed()) == {name for name, state in self.ended.items() if state == "failed"}
        assert set(self.run.state.skipped()) == {name for name, state in self.ended.items() if state == "skipped"}

    def teardown(self):
        """Drive what is left to its end: no run hangs."""
        if not hasattr(self, "run"):
            return
        while self.ready or self.running or self.later:
            self.ready += self.later
            self.later.clear()
            while self.running:
                node, call = self.running.pop()
                self.finish(node, call.invoke())
            pending, self.ready = self.ready, []
            for node in pending:
                call = self.run.call(node)
                ending = call if isinstance(call, Outcome) else call.precheck()
                if ending is not None:
                    self.finish(node, ending)
                else:
                    self.running.append((node, call))
        self.over()
        assert set(self.ended) == set(self.upstream)
        self.states_agree()


TestRunMachine = RunMachine.TestCase
TestRunMachine.settings = settings(stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])
