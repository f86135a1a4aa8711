"""Tracers, profilers and debuggers: they replace trace functions and keep frames, and change no pipeline."""

from __future__ import annotations

import asyncio
import bdb
import contextlib
import gc
import io
import pdb  # noqa: T100 - it is under test
import sys
import textwrap
import threading

import pytest

from flowkit_core import DAG, Task

PROGRAM = """
eu, us = Task(lambda: 1, name="eu"), Task(lambda: 10, name="us")
total = Task(lambda *n: sum(n), name="total")

def make(name):
    made = Task(lambda *_: name, name=name)
    return made

def pair(n):
    a = make(f"a{n}")
    b = make(f"b{n}")
    a >> b
    return b

def bare(n):
    pair(n)
    dag = DAG("bare")
    return dag

def helpers():
    one, two = bare(1), bare(2)
    return one.run("serial"), two.run("serial")

def shared(region):
    region >> total
    return DAG("shared", tasks=[total])

def shared_tasks():
    one, two = shared(eu), shared(us)
    return one.run("serial"), two.run("serial")

class P:
    def __init__(self, n):
        self.last = pair(n)
    def run(self):
        return DAG("p", tasks=[self.last]).run("serial")

def methods():
    one, two = P(1), P(2)
    return one.run(), two.run()

def block(n):
    with DAG("block") as dag:
        make(f"a{n}") >> make(f"b{n}")
    make("outside")
    return dag

def blocks():
    one, two = block(1), block(2)
    return one.run("serial"), two.run("serial")

def enclosing():
    Task(lambda: 1, name="outer")
    return (lambda: DAG("inner").run("serial"))()

def each(n):
    for name in "xy":
        yield make(f"{name}{n}")

def generators():
    results = []
    for n in range(2):
        results.append(generated(n).run("serial"))
    return results

def generated(n):
    for _ in each(n):
        pass
    return DAG("generated")

def level(depth):
    own = Task(lambda: depth, name=f"level_{depth}")
    below = level(depth - 1) if depth else {}
    return {**below, **DAG("level").run("serial")}

def recursion():
    result = level(2)
    return result

def failing():
    Task(int, name="failing")
    raise OSError

def inner():
    make("inner")
    return DAG("inner").run("serial")

def suspended():
    steps = stepwise()
    first = next(steps)
    inner()
    for last in steps:
        pass
    first >> last
    dag = DAG("suspended")
    return dag

def stepwise():
    for name in "xyz":
        made = make(name)
        yield made

def suspensions():
    dag = suspended()
    return dag.run("serial")

def advance(steps):
    next(steps)

def resumed():
    steps = stepwise()
    advance(steps)
    advance(steps)
    list(steps)
    dag = DAG("resumed")
    return dag

def resumptions():
    dag = resumed()
    return dag.run("serial")

def fallback():
    try:
        failing()
    except OSError:
        pass
    own = make("own")
    x = 5
    return DAG("fallback").run("serial"), x
"""
X, Y = {"a1": "a1", "b1": "b1"}, {"a2": "a2", "b2": "b2"}
CASES = {
    "helpers": (X, Y),
    "shared_tasks": ({"eu": 1, "total": 1}, {"us": 10, "total": 10}),
    "methods": (X, Y),
    "blocks": (X, Y),
    "enclosing": {"outer": 1},
    "generators": [{"x0": "x0", "y0": "y0"}, {"x1": "x1", "y1": "y1"}],
    "recursion": {"level_0": 0, "level_1": 1, "level_2": 2},
    "suspensions": {"x": "x", "y": "y", "z": "z"},
    "resumptions": {"x": "x", "y": "y", "z": "z"},
    "fallback": ({"own": "own"}, 5),
}


@pytest.fixture(scope="module", autouse=True)
def frames_are_freed():
    """Free the frames that debuggers have kept: as long as they are there, each DAG looks at them."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def no_collection_calls_a_tracer_in_python_3_11():
    """Python 3.11 crashes if a collection starts when a frame is made, and tracing is turned off in a weakref callback.

    Then the interpreter calls the trace function that it has just freed.
    """
    if sys.version_info < (3, 12):
        gc.disable()
    yield
    gc.enable()


@pytest.fixture
def program(script):
    """The module with a function for each of CASES."""
    return script(PROGRAM)


@contextlib.contextmanager
def tracing(function):
    """Set a trace function, and afterwards the one that was there before."""
    before = sys.gettrace()
    sys.settrace(function)
    try:
        yield
    finally:
        sys.settrace(before)


class Keeper:
    """A trace function that keeps every frame that it sees."""

    def __init__(self):
        self.frames = []

    def __call__(self, frame, event, arg):
        self.frames.append(frame)
        return self


def nothing(*_):
    return None


def lines(*_):
    return lines


def opcodes(frame, *_):
    frame.f_trace_opcodes = True
    return opcodes


def reads_locals(frame, *_):
    dict(frame.f_locals)
    return reads_locals


def lambda_per_frame(*_):
    return lambda *_: None


def coverage_like(frame, event, arg):
    return coverage_like if "script" in frame.f_code.co_filename else None


def profile(function, keep):
    """Call a function under sys.setprofile."""
    kept = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, *_: kept.append(frame) if keep else None)
    try:
        return function()
    finally:
        sys.setprofile(before)


def cprofile(function):
    """Call a function under the profiler of the standard library."""
    import cProfile

    before = sys.getprofile()
    try:
        return cProfile.Profile().runcall(function)
    finally:
        sys.setprofile(before)


def counted(function):
    """Call a function under trace.Trace, which counts lines."""
    import trace

    with tracing(sys.gettrace()):
        return trace.Trace(count=1, trace=0).runfunc(function)


def traced(function, tracer):
    """Call a function while a trace function is set."""
    with tracing(tracer):
        return function()


TOOLS = {
    "none": lambda function: function(),
    "nothing": lambda function: traced(function, nothing),
    "lines": lambda function: traced(function, lines),
    "opcodes": lambda function: traced(function, opcodes),
    "reads locals": lambda function: traced(function, reads_locals),
    "lambda per frame": lambda function: traced(function, lambda_per_frame),
    "coverage": lambda function: traced(function, coverage_like),
    "keeps frames": lambda function: traced(function, Keeper()),
    "profile": lambda function: profile(function, False),
    "profile keeps frames": lambda function: profile(function, True),
    "cProfile": cprofile,
    "trace.Trace": counted,
}


def with_cases(tools):
    """Return parameters for each tool and each of CASES.

    Each tool is tried with tasks of helpers, with generators, and with one other case in turn; the rest is slow.
    """
    params = []
    for number, tool in enumerate(tools):
        for place, case in enumerate(CASES):
            is_slow = case not in ("helpers", "generators") and number % len(CASES) != place
            params.append(pytest.param(tool, case, marks=pytest.mark.slow if is_slow else ()))
    return params


@pytest.mark.parametrize(("tool", "case"), with_cases(TOOLS))
def test_tracers_and_profilers_change_nothing(program, tool, case):
    """The result is the same under every kind of trace function, twice."""
    function = getattr(program, case)
    assert (TOOLS[tool](function), TOOLS[tool](function)) == (CASES[case],) * 2


def test_collection_in_a_trace_function_keeps_local_variables():
    """When a trace function returns, Python 3.11 and 3.12 assign frame.f_locals to the variables of the frame."""

    def build():
        first = Task(lambda: 1, name="first")
        text = "a"
        return first.name, text

    def collect(frame, *_):
        if frame.f_code is build.__code__:
            gc.collect()
            return collect
        return None

    assert traced(build, collect) == ("first", "a")


@pytest.mark.parametrize("case", CASES)
def test_threading_settrace_changes_nothing(program, case):
    """Debuggers trace threads, too."""
    seen = []
    before = threading.gettrace()
    threading.settrace(lines)
    try:
        threads = [threading.Thread(target=lambda: seen.append(getattr(program, case)())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        threading.settrace(before)
    assert seen == [CASES[case]] * 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="platform: sys.monitoring is there from Python 3.12")
@pytest.mark.parametrize("case", CASES)
def test_monitoring_changes_nothing(program, case):
    """sys.monitoring, which newer debuggers and coverage use."""
    monitoring = sys.monitoring
    tool = next(number for number in (3, 4, 5, 2) if monitoring.get_tool(number) is None)
    monitoring.use_tool_id(tool, "test")
    events = monitoring.events.LINE | monitoring.events.PY_RETURN | monitoring.events.PY_START
    for event in (monitoring.events.LINE, monitoring.events.PY_RETURN, monitoring.events.PY_START):
        monitoring.register_callback(tool, event, lambda *_: None)
    try:
        monitoring.set_events(tool, events)
        assert getattr(program, case)() == CASES[case]
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


def test_tracing_that_begins_and_ends_in_a_builder(script):
    """Between two tasks of one call."""
    module = script(
        """
        import sys
        def tracer(*_): return tracer
        def make(name): return Task(lambda *_: name, name=name)
        def build(n):
            a = make(f"a{n}")
            sys.settrace(tracer)
            b = make(f"b{n}")
            sys.settrace(None)
            c = make(f"c{n}")
            a >> b >> c
            return DAG("d")
        """
    )
    with tracing(None):
        found = [list(module.build(n).run("serial")) for n in range(3)]
    assert found == [[f"a{n}", f"b{n}", f"c{n}"] for n in range(3)]


# pdb and bdb


class Stepper(bdb.Bdb):
    """A debugger that steps through everything, and may keep the frames that it sees."""

    def __init__(self, how, keep=False):
        super().__init__(skip=["flowkit_core.*", "pytest*", "_pytest*"])
        self.how, self.keep, self.kept, self.stops = how, keep, [], 0

    def _go(self, frame):
        self.stops += 1
        if self.keep:
            self.kept.append(frame)
        dict(frame.f_locals)
        if self.how == "step":
            self.set_step()
        elif self.how == "next":
            self.set_next(frame)
        elif self.how == "return":
            self.set_return(frame)
        else:
            self.set_continue()

    def user_call(self, frame, argument_list):
        self._go(frame)

    def user_line(self, frame):
        self._go(frame)

    def user_return(self, frame, return_value):
        self._go(frame)

    def user_exception(self, frame, exc_info):
        self._go(frame)


@pytest.mark.parametrize(
    ("how", "case"),
    with_cases([(how, keep) for how in ("step", "next", "return", "continue") for keep in (False, True)]),
)
def test_stepping_with_bdb_changes_nothing(program, how, case):
    """A subclass of Bdb that steps, with or without keeping frames."""
    debugger = Stepper(how[0], keep=how[1])
    with tracing(None):
        assert debugger.runcall(getattr(program, case)) == CASES[case]
    assert debugger.stops > 0


def run_pdb(commands, function, *args):
    """Run a function under pdb, with scripted commands; return its result and the output of pdb."""
    out = io.StringIO()
    debugger = pdb.Pdb(stdin=io.StringIO("\n".join(commands) + "\n"), stdout=out, nosigint=True, readrc=False)
    debugger.use_rawinput = False
    debugger.prompt = ""
    with tracing(None):
        try:
            return debugger.runcall(function, *args), out.getvalue()
        except bdb.BdbQuit:
            raise AssertionError(out.getvalue()) from None
        finally:
            debugger.clear_all_breaks()


END = ["c"] * 60
SESSIONS = {
    "continue": ["c"],
    "next": ["n"] * 60,
    "step": ["s"] * 300,
    "a few steps": ["s"] * 30,
    "step and return": ["s", "s", "r", "n", "s", "s", "r"] * 5,
    "breakpoint in a builder": ["b script.bare", "c", "n", "n", "c", "up", "p 1", "down"],
    "breakpoint in a helper": ["b script.pair", *["c", "up", "up", "down", "n", "r"] * 3],
    "breakpoint and return": ["b script.make", *["c", "w", "r"] * 12],
    "up and down": ["b script.make", *["c", "up", "p locals()", "up", "p sorted(locals())", "down"] * 12],
    "breakpoint before an exception": ["b script.failing", *["c", "s", "s", "n", "s"] * 3],
    "temporary breakpoint": ["tbreak script.shared", "c", "n", "n", "n", "n"],
    "breakpoint in a generator": ["b script.each", *["c", "n", "s", "n"] * 6],
    "breakpoint in recursion": ["b script.level", *["c", "up", "down", "n"] * 6],
    "commands": ["b script.pair", "commands 1", "silent", "w", "c", "end"],
}


@pytest.mark.parametrize(("session", "case"), with_cases(SESSIONS))
def test_scripted_pdb_changes_nothing(program, session, case):
    """Breakpoints, n, s, r, c, up and down, in the builder and in helpers."""
    result, _ = run_pdb(SESSIONS[session] + END, getattr(program, case))
    assert result == CASES[case]


def test_breakpoint_in_a_builder_changes_nothing(script, monkeypatch):
    """pdb.set_trace() between the tasks, after which the user steps to the end of the builder."""
    module = script(
        """
        def make(name): return Task(lambda *_: name, name=name)
        def build(n):
            a = make(f"a{n}")
            breakpoint()
            b = make(f"b{n}")
            a >> b
            dag = DAG("d")
            return dag
        """
    )

    def hook():
        debugger = pdb.Pdb(
            stdin=io.StringIO("\n".join(commands + END) + "\n"), stdout=io.StringIO(), nosigint=True, readrc=False
        )
        debugger.use_rawinput = False
        debugger.set_trace(sys._getframe(1))

    monkeypatch.setattr(sys, "breakpointhook", hook)
    for commands in (["c"], ["n", "n"], ["s"] * 5, ["n"] * 5, ["r"], ["up", "down"]):  # noqa: B007 - read by hook()
        with tracing(None):
            dags = [module.build(n) for n in range(3)]
        assert [list(dag.run("serial")) for dag in dags] == [[f"a{n}", f"b{n}"] for n in range(3)]


def test_tasks_made_at_the_prompt_of_a_debugger_belong_to_the_call():
    """pdb executes statements in the frame that is shown: exec in a function belongs to the call."""

    def build():
        a = Task(lambda: 1, name="a")
        dag = DAG("d")
        return dag, a

    (dag, _), _ = run_pdb(["s", "n", "n", "!Task(lambda: 2, name='typed')", "c"], build)
    assert dag.run("serial")["a"] == 1


@pytest.mark.parametrize("make_tracer", [lambda: lines, Keeper], ids=["lines", "keeper"])
def test_coroutines_under_a_tracer(make_tracer):
    """Requests under gather while tracing is on."""

    async def make(n):
        source = Task(lambda: n, name="source")
        await asyncio.sleep(0)
        source >> Task(lambda source: source + 1, name="last")

    async def handler(n):
        await make(n)
        await asyncio.sleep(0)
        return DAG("d").run("serial")

    async def main():
        return await asyncio.gather(*[handler(n) for n in range(3)])

    with tracing(make_tracer()):
        assert asyncio.run(main()) == [{"source": n, "last": n + 1} for n in range(3)]


def test_top_level_of_a_module_under_a_tracer(script):
    """A module that is imported while tracing is on."""
    for number, tracer in enumerate((lines, reads_locals, Keeper())):
        with tracing(tracer):
            module = script(
                textwrap.dedent(
                    """
                    def make(name): return Task(lambda *_: name, name=name)
                    a, b = make("a"), make("b")
                    a >> b
                    def build():
                        make("c") >> make("d")
                        return DAG("built").run("serial")
                    built = build()
                    results = DAG("d").run("serial")
                    """
                ),
                name=f"traced_{number}",
            )
        assert module.results == {"a": "a", "b": "b"}
        assert module.built == {"c": "c", "d": "d"}
