"""Random programs of nested calls, compared with a simple model of the rule."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import warnings
from dataclasses import dataclass, field

from hypothesis import assume, given
from hypothesis import strategies as st

from flowkit_core import DAG, Task

SHARED = 3  # how many tasks all calls of a program share

# A program is a list of steps of one call. Numbers choose among the tasks that the call can reach.
steps = st.deferred(lambda: st.lists(step, max_size=6))
choice = st.integers(0, 9)
step = st.one_of(
    st.just(("make",)),
    st.just(("chain",)),
    st.tuples(st.just("wire"), choice, choice),
    st.tuples(st.just("wire"), choice, choice),
    st.tuples(st.just("call"), steps, st.sampled_from(["return", "raise"])),
    st.just(("bare",)),
    st.tuples(st.just("named"), choice),
    st.tuples(st.just("use"), choice),
)


class Stop(Exception):
    """Ends a call of a program."""


# The program on flowkit


class Program:
    """Executes a program with flowkit, and collects what its DAGs have."""

    def __init__(self):
        self.numbers = itertools.count()
        self.shared = [Task(int, name=f"shared_{n}") for n in range(SHARED)]
        self.found = []
        self.dags = []

    def call(self, program, ending, received):
        """Execute the steps of one call; return the tasks that it knows."""
        known = [*received]
        for kind, *details in program:
            if kind == "make":
                known.append(Task(int, name=f"task_{next(self.numbers)}"))
            elif kind in ("wire", "chain"):
                self.wire(known, *details)
            elif kind == "call":
                with contextlib.suppress(Stop):
                    known += self.call(*details, [])
            elif kind == "bare":
                self.look(DAG("bare"))
            elif kind == "named":
                self.look(DAG("named", tasks=[reach(known, self.shared, *details)]))
            else:
                reach(known, self.shared, *details)()
        if ending == "raise":
            raise Stop
        return known

    async def acall(self, program, ending, received):
        """Execute the steps of one call as a coroutine, which gives way to others between the steps."""
        known = [*received]
        for kind, *details in program:
            await asyncio.sleep(0)
            if kind == "make":
                known.append(Task(int, name=f"task_{next(self.numbers)}"))
            elif kind in ("wire", "chain"):
                self.wire(known, *details)
            elif kind == "call":
                with contextlib.suppress(Stop):
                    known += await self.acall(*details, [])
            elif kind == "bare":
                self.look(DAG("bare"))
            elif kind == "named":
                self.look(DAG("named", tasks=[reach(known, self.shared, *details)]))
            else:
                reach(known, self.shared, *details)()
        if ending == "raise":
            raise Stop
        return known

    def wire(self, known, first=None, second=None):
        """Wire two tasks in a helper, or make one and wire it below the last one in this call."""
        if first is None:
            known.append(Task(int, name=f"task_{next(self.numbers)}"))
            first, second = -2, -1
        one, other = reach(known, self.shared, first), reach(known, self.shared, second)
        if order(one.name) < order(other.name):
            one >> other

    def look(self, dag):
        """Keep the DAG, and take down what it has."""
        self.dags.append(dag)
        self.found.append(described(dag))


def described(dag):
    """Return each task of a DAG with its upstreams, by name."""
    graph = dag.graph()
    return {name: {graph.names[index] for index in graph[name].upstream} for name in graph.names}


def reach(known, shared, number):
    """Return the task with a number; negative numbers count back from the last task that is known."""
    everything = [*shared, *known]
    return everything[number % len(everything)]


def order(name):
    """Edges go from tasks made earlier to later ones, with one shared task first, so there are no cycles."""
    kind, number = name.split("_")
    return (-1 if number == "0" else 10**6 + int(number)) if kind == "shared" else int(number)


# The model


@dataclass(eq=False)
class Call:
    """What the model knows of a call."""

    parent: Call | None
    tasks: list = field(default_factory=list)
    edges: list = field(default_factory=list)  # to tasks that the call did not make: [upstream, downstream, used]
    pipelines: list = field(default_factory=list)


class Model:
    """Executes a program by the rule of the contract: every task and edge knows its call, and passes up."""

    def __init__(self):
        self.numbers = itertools.count()
        self.shared = [f"shared_{n}" for n in range(SHARED)]
        self.maker = {}  # task -> call that counts as its maker
        self.own_edges = []  # between tasks of one call: they go with the tasks
        self.used = set()
        self.found = []
        self.all = []  # call and named tasks of each pipeline

    def call(self, program, ending, parent):
        call = Call(parent)
        known = []
        for kind, *details in program:
            if kind == "make":
                known.append(self.make(call))
            elif kind in ("wire", "chain"):
                if kind == "chain":
                    known.append(self.make(call))
                one, other = (reach(known, self.shared, number) for number in details or (-2, -1))
                if order(one) < order(other):
                    self.wire(call, one, other)
            elif kind == "call":
                with contextlib.suppress(Stop):
                    known += self.call(*details, call)
            elif kind in ("bare", "named"):
                named = [reach(known, self.shared, *details)] if kind == "named" else None
                call.pipelines.append((call, named))
                self.all.append((call, named))
                self.found.append(self.pipeline(call, named))
            else:
                self.used.add(reach(known, self.shared, *details))
        if ending == "raise":
            raise Stop
        for pipeline in call.pipelines:
            self.pipeline(*pipeline)
        if parent is not None:
            self.pass_on(call, parent)
        return known

    def make(self, call):
        name = f"task_{next(self.numbers)}"
        self.maker[name] = call
        call.tasks.append(name)
        return name

    def wire(self, call, one, other):
        if self.maker.get(one) is call and self.maker.get(other) is call:
            self.own_edges.append((one, other))
        else:
            call.edges.append([one, other, False])

    def pass_on(self, call, parent):
        parent.pipelines += call.pipelines
        parent.tasks += [name for name in call.tasks if name not in self.used]
        for name, maker in self.maker.items():
            if maker is call:
                self.maker[name] = parent
        for one, other, used in call.edges:
            if not used:
                self.wire(parent, one, other)

    def pipeline(self, call, named):
        seen = []
        at = call
        while at is not None:
            seen += at.edges
            at = at.parent
        edges = {(one, other) for one, other, _ in seen} | set(self.own_edges)
        if named is None:
            tasks = dict.fromkeys([*call.tasks, *(name for edge in call.edges for name in edge[:2])])
        else:
            tasks = dict.fromkeys(named)
        found = list(tasks)
        for name in found:
            for one, other in edges:
                if other == name and one not in found:
                    found.append(one)
                if named is None and one == name and other not in found:
                    found.append(other)
        self.used.update(found)
        for edge in seen:
            if edge[0] in found and edge[1] in found:
                edge[2] = True
        return {name: {one for one, other in edges if other == name} for name in found}


def expected(program):
    """Return what each DAG of a program has when it is created, by the model."""
    return modelled(program).found


def modelled(program):
    """Return the model after it has executed a program."""
    model = Model()
    model.call(program, "return", None)
    return model


def executed(program):
    """Return what has executed a program with flowkit, in a thread of its own, so that nothing passes to the test."""
    (one,) = in_threads([program])
    return one


def in_threads(programs):
    """Execute programs at once, each in a thread of its own."""
    runs = [Program() for _ in programs]
    errors = []

    def run(one, program):
        try:
            one.call(program, "return", [])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(runs, programs, strict=True)]
    with ignored_warnings():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    if errors:
        raise errors[0]
    return runs


def has_dag_in_raising_call(program, is_in_raising_call=False):
    """Return whether a call that raises creates a DAG.

    The test keeps that DAG alive. The rule does not say whether what callers add later then counts as used by it.
    """
    for kind, *details in program:
        if kind == "call" and has_dag_in_raising_call(details[0], is_in_raising_call or details[1] == "raise"):
            return True
        if kind in ("bare", "named") and is_in_raising_call:
            return True
    return False


@contextlib.contextmanager
def ignored_warnings():
    """Ignore the warnings of empty DAGs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@given(steps)
def test_random_program_finds_what_the_model_finds(program):
    """Every DAG of a program of nested calls has the tasks and edges that the rule gives it."""
    assume(not has_dag_in_raising_call(program))
    assert executed(program).found == expected(program)


@given(steps)
def test_random_program_keeps_its_dags_as_the_model_does(program):
    """When all calls are over, every DAG that was kept has what the rule gives it then."""
    assume("raise" not in repr(program))
    model, run = modelled(program), executed(program)
    with ignored_warnings():
        assert [described(dag) for dag in run.dags] == [model.pipeline(*one) for one in model.all]


@given(st.lists(steps, min_size=2, max_size=4))
def test_random_programs_in_threads_do_not_mix(programs):
    """Several programs at once, in threads, each of which has tasks of its own."""
    assume(not any(map(has_dag_in_raising_call, programs)))
    assert [one.found for one in in_threads(programs)] == [expected(program) for program in programs]


@given(st.lists(steps, min_size=1, max_size=4))
def test_random_programs_in_coroutines_do_not_mix(programs):
    """Several programs at once under gather, which take turns after each step."""
    assume(not any(map(has_dag_in_raising_call, programs)))
    runs = [Program() for _ in programs]

    async def main():
        await asyncio.gather(*[one.acall(program, "return", []) for one, program in zip(runs, programs, strict=True)])

    with ignored_warnings():
        asyncio.run(main())
    assert [one.found for one in runs] == [expected(program) for program in programs]
