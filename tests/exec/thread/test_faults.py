"""What may go wrong in and around threads: interrupts in every phase, starts that fail, guests, and what is left."""

from __future__ import annotations

import contextvars
import decimal
import gc
import signal
import sys
import textwrap
import threading
import weakref

import pytest
from subprocess_harness import Program, guarded, until

from flowkit_core import DAG, ExecutorError, Run, Task, TaskFailed, TaskRetrying, TaskStarted, TaskSucceeded
from flowkit_exec import ThreadExecutor

pytestmark = pytest.mark.slow

SECONDS = 60  # a guard against hanging, never a wait
variable = contextvars.ContextVar("variable", default="untouched")


def nothing(*_inputs):
    """Be a trivial task."""


def run(workers, *tasks, **options):
    """Run tasks and what is upstream of them in so many threads."""
    return DAG("faults", tasks=tasks).run(ThreadExecutor(workers), **options)


def helpers():
    """Return the threads of ours that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("flowkit-") and thread.is_alive()]


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------

PHASES = {
    "in a task of the calling thread": """
        def work():
            say("ready")
            time.sleep(3600)
        tasks = [Task(work)]
    """,
    "while the calling thread rests": """
        both = threading.Barrier(2)
        def part():
            both.wait()
            if threading.current_thread() is not threading.main_thread():
                say("ready")
                stopping.wait()
        tasks = [Task(part, name="one"), Task(part, name="two")]
    """,
    "while all wait for a retry": """
        def fail():
            raise ValueError("boom")
        tasks = [Task(fail, retries=3, delay=3600)]
        observers = [lambda event: isinstance(event, TaskRetrying) and say("ready")]
    """,
    "in a condition": """
        def condition():
            say("ready")
            time.sleep(3600)
        tasks = [Task(lambda: 1, name="one", when=condition)]
    """,
    "in a run inside a task": """
        def inner():
            say("ready")
            time.sleep(3600)
        def outer():
            DAG("inner", tasks=[Task(inner)]).run(ThreadExecutor(2))
        tasks = [Task(outer)]
    """,
}
SCRIPT = """
import os, signal, sys, threading, time
from flowkit_core import DAG, Task, TaskRetrying
from flowkit_exec import ThreadExecutor
from flowkit_exec.thread import driver as thread_driver

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

join, stopping, observers = threading.Thread.join, threading.Event(), []

def stop(thread, timeout=None):
    stopping.set()
    join(thread, timeout)

threading.Thread.join = stop
thread_driver.GRACE = 60.0  # what is told to end, ends: however slow the machine is
{phase}
below = Task(lambda: say("a task started after the stop"), name="below")
tasks >> below
handler = signal.getsignal(signal.SIGINT)
try:
    DAG("interrupted", tasks=[below]).run(ThreadExecutor(2), observers=observers)
except KeyboardInterrupt as error:
    say("interrupted", sorted(set(error.flowkit_results.states.values()) - {{"succeeded"}}))
assert signal.getsignal(signal.SIGINT) is handler
say("left", [thread.name for thread in threading.enumerate() if thread.name.startswith("flowkit-")])
say("next", DAG("next", tasks=[Task(lambda: 1, name=name) for name in "ab"]).run(ThreadExecutor(2)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="platform: Ctrl-C cannot be sent to one process")
@pytest.mark.parametrize("phase", PHASES)
def test_one_ctrl_c_ends_the_run(phase):
    """Nothing new starts, KeyboardInterrupt comes out, no thread is left, and the next run works."""
    script = SCRIPT.format(phase=textwrap.dedent(PHASES[phase]))
    with Program("-c", script) as program:
        program.says("ready")
        program.signal(signal.SIGINT)
        output = program.wait()
    assert "interrupted" in output
    assert "left []" in output
    assert "after the stop" not in output
    assert "next {'a': 1, 'b': 1}" in output


@pytest.mark.skipif(sys.platform == "win32", reason="platform: Ctrl-C cannot be sent to one process")
def test_a_second_ctrl_c_ends_the_wait_for_a_task_that_goes_on():
    """It need not be waited for; a thread that cannot be stopped does not keep the process alive either."""
    phase = "thread_driver.GRACE = 3600.0\n" + textwrap.dedent(PHASES["while the calling thread rests"])
    script = SCRIPT.format(phase=phase.replace("stopping.wait()", "threading.Event().wait()"))
    script = script.replace('say("left"', 'sys.exit(7); say("left"')
    with Program("-c", script) as program:
        program.says("ready")

        def ended():
            if program.process.poll() is None:
                program.signal(signal.SIGINT)
            return program.process.poll() is not None

        until(ended)
        assert program.process.returncode in (7, 1, -signal.SIGINT), program.output
        assert "Fatal" not in program.output


@pytest.mark.skipif(sys.platform == "win32", reason="platform: there is no interval timer")
def test_ctrl_c_at_any_moment():
    """At 300 random moments: each run ends with all results or with KeyboardInterrupt, and no thread is left."""
    script = """
        import random, signal, sys, threading, time
        from flowkit_core import DAG, Task
        from flowkit_exec import ThreadExecutor

        sys.setswitchinterval(1e-6)
        armed = False
        def interrupt(*_):
            if armed:
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        sys.unraisablehook = lambda _: None  # some arrive while Python cleans up, and are lost there
        def nap(*_):
            time.sleep(1e-4)
        chosen = random.Random(0)
        interrupted = 0
        for _ in range(300):
            tasks = []
            for number in range(20):
                tasks.append(Task(chosen.choice((nap, lambda *_: None)), name=f"task_{number}"))
                for above in chosen.sample(tasks[:-1], min(len(tasks) - 1, 2)):
                    above >> tasks[-1]
            dag = DAG("interrupted", tasks=tasks)
            dag.graph()
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, chosen.uniform(1e-5, 2e-3))
                results = dag.run(ThreadExecutor(chosen.choice((1, 2, 4))))
                armed = False
            except KeyboardInterrupt:
                interrupted += 1
            else:
                assert len(results) == 20
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        end = time.monotonic() + 60
        while [thread for thread in threading.enumerate() if thread.name.startswith("flowkit-") and thread.is_alive()]:
            assert time.monotonic() < end, threading.enumerate()
            time.sleep(0.001)
        print("interrupted" if interrupted else "never interrupted")
    """
    with Program("-c", textwrap.dedent(script)) as program:
        assert program.wait().endswith("interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="platform: a process cannot send itself SIGINT")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_ignored_ctrl_c_stays_ignored(workers):
    """As under nohup: the library installs no handler of its own."""
    script = f"""
        import os, signal
        from flowkit_core import DAG, Task
        from flowkit_exec import ThreadExecutor

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        tasks = [Task(lambda: os.kill(os.getpid(), signal.SIGINT), name=f"task_{{n}}") for n in range(3)]
        assert len(DAG("ignored", tasks=tasks).run(ThreadExecutor({workers}))) == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        print("all ran")
    """
    with Program("-c", textwrap.dedent(script)) as program:
        assert program.wait() == "all ran\n"


@pytest.mark.skipif(sys.platform == "win32", reason="platform: SIGTERM cannot be handled")
def test_a_handler_that_exits_leaves_other_threads_a_grace():
    """The usual handler of SIGTERM raises SystemExit in the task of the calling thread, and another task never ends."""
    script = """
        import os, signal, sys, threading, time
        from flowkit_core import DAG, Task
        from flowkit_exec import ThreadExecutor
        from flowkit_exec.thread import driver as thread_driver

        thread_driver.GRACE = 1.0  # enough for clean-up to begin on a busy machine
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
        both = threading.Barrier(2)

        def part():
            both.wait()
            if threading.current_thread() is threading.main_thread():
                os.write(1, b"ready\\n")
            time.sleep(3600)

        def clean_up():
            time.sleep(1.5)  # more than the grace that running tasks have
            print("cleaned up")

        parts = [Task(part, name=name) for name in ("one", "two")]
        after = Task(lambda *_: print("a task started after the stop"), name="after")
        parts >> after
        for one in parts:
            one >> Task(clean_up, name=f"clean up after {one.name}", trigger="all_done")
        try:
            DAG("terminated").run(ThreadExecutor(2))
        except SystemExit as error:
            print(sorted(error.flowkit_results.states.values()))
            raise
    """
    with Program("-c", textwrap.dedent(script)) as program:
        program.says("ready")
        program.signal(signal.SIGTERM)
        output = program.wait(3)
    assert "after the stop" not in output
    assert output.count("cleaned up") == 1
    assert "['cancelled', 'cancelled', 'cancelled', 'failed', 'succeeded']" in output


@guarded
def test_a_task_that_interrupts_from_a_helper_ends_a_caller_that_rests():
    """The caller has been idle for long when it happens, and something waits downstream."""
    caller, both = threading.current_thread(), threading.Barrier(2, timeout=SECONDS)

    def part():
        both.wait()
        if threading.current_thread() is not caller:
            threading.Event().wait(0.3)
            raise KeyboardInterrupt

    parts = [Task(part, name=name) for name in "ab"]
    below = [Task(lambda _input: None, name=f"below_{number}") for number in range(6)]
    parts[0] >> below[:3]
    parts[1] >> below[3:]
    with pytest.raises(KeyboardInterrupt) as caught:
        run(2, *below)
    assert sorted(caught.value.flowkit_results.states.values())[:3] == ["cancelled"] * 3
    assert not helpers()


@pytest.mark.skipif(sys.platform == "win32", reason="platform: Ctrl-C cannot be sent to one process")
@pytest.mark.parametrize("workers", ["ThreadExecutor(2)", "ProcessExecutor(2)"])
def test_an_interrupt_says_what_was_running(workers):
    """In a note, in the states, and in the events: how else would one find what hangs?"""
    script = f"""
        import os, sys, time
        from flowkit_core import DAG, Task, TaskNotRun, TaskStarted
        from flowkit_exec import ProcessExecutor, ThreadExecutor
        from flowkit_exec.thread import driver as thread_driver

        thread_driver.GRACE = 0.2
        def first():
            return 1
        def stuck(_):
            os.write(1, b"stuck\\n")
            time.sleep(3600)
        def after(_):
            return 2
        ends, started = {{}}, []
        def listen(event):
            if isinstance(event, TaskNotRun):
                ends[event.task] = event.started
            elif isinstance(event, TaskStarted):
                started.append(event.task)
        first, stucks = Task(first), [Task(stuck, name=name) for name in ("stuck", "stuck too", "stuck three")]
        first >> stucks
        for one in stucks:
            one >> Task(after, name="after " + one.name)
        if __name__ == "__main__":
            try:
                DAG("h").run({workers}, observers=[listen])
            except KeyboardInterrupt as error:
                print(*error.__notes__)
                states = error.flowkit_results.states
                print({{states[name] for name in states if name.startswith("after")}})
                print(sorted(name for name in started if name not in (*ends, "first", *error.flowkit_results.failed)))
    """
    with Program("-c", textwrap.dedent(script)) as program:
        until(lambda: program.output.count("stuck") == 2)
        program.signal(signal.SIGINT)
        output = program.wait()
    assert "1 task had succeeded" in output
    assert "did not start; 'stuck" in output
    assert ("left alone" if "Thread" in workers else "were ended") in output
    assert "{{'cancelled'}}\n[]".format() in output


@guarded
def test_what_an_abandoned_task_does_later_changes_no_result():
    """The facts beside the results are those of the moment when the run was given up."""
    from flowkit_exec.thread import driver as thread_driver

    grace, thread_driver.GRACE = thread_driver.GRACE, 0.0
    caller, both, go = threading.current_thread(), threading.Barrier(2, timeout=SECONDS), threading.Event()

    def part():
        both.wait()
        if threading.current_thread() is caller:
            raise KeyboardInterrupt
        go.wait(SECONDS)
        return "late"

    with pytest.raises(KeyboardInterrupt) as caught:
        run(2, *[Task(part, name=name) for name in "ab"])
    thread_driver.GRACE = grace
    left = helpers()
    go.set()
    for thread in left:
        thread.join(SECONDS)
    results = caught.value.flowkit_results
    assert results == {}
    assert sorted(results.states.values()) == ["cancelled", "failed"]
    assert len(results.durations) == 1


@guarded
def test_a_task_whose_condition_held_does_not_start_after_a_failure():
    """Another one fails while its condition is judged."""
    judging, failed, started = threading.Event(), threading.Event(), []

    def fail():
        judging.wait(SECONDS)
        raise ValueError("boom")

    def condition():
        judging.set()
        return failed.wait(SECONDS)

    def observer(event):
        if isinstance(event, TaskFailed):
            failed.set()
        elif isinstance(event, TaskStarted):
            started.append(event.task)

    with pytest.raises(ValueError) as caught:
        run(2, Task(fail), Task(lambda: started.append("ran"), name="other", when=condition), observers=[observer])
    assert started == ["fail"]
    assert caught.value.flowkit_results.states == {"fail": "failed", "other": "cancelled"}


# ---- stopping a run from outside -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
@guarded
def test_a_run_is_canceled_while_all_wait_for_a_retry(workers):
    """From another thread, though the next try is an hour away."""
    waiting = threading.Event()
    tasks = [Task(lambda: 1 / 0, name=name, retries=1, delay=3600) for name in "ab"]
    graph = DAG("canceled", tasks=tasks).graph()
    canceled = Run(graph, observers=[lambda event: isinstance(event, TaskRetrying) and waiting.set()])

    def cancel():
        waiting.wait(SECONDS)
        threading.Event().wait(0.3)  # until they look up but rarely
        canceled.cancel("enough")

    other = threading.Thread(target=cancel)
    other.start()
    ThreadExecutor(workers).execute(canceled)
    other.join()
    assert canceled.done
    assert set(canceled.state.states().values()) == {"cancelled"}
    assert not helpers()


@pytest.mark.parametrize("workers", [1, 2, 8])
@guarded
def test_an_observer_cancels_the_run(workers):
    """Whatever thread it is called in."""
    tasks = [Task(nothing, name=f"task_{number}") for number in range(50)]
    graph = DAG("canceled", tasks=tasks).graph()
    succeeded = []

    def observer(event):
        if isinstance(event, TaskSucceeded):
            succeeded.append(event.task)
            if len(succeeded) == 10:
                canceled.cancel("enough")

    canceled = Run(graph, observers=[observer])
    ThreadExecutor(workers).execute(canceled)
    states = list(canceled.state.states().values())
    assert canceled.done
    assert set(states) == {"succeeded", "cancelled"}
    assert 10 <= states.count("succeeded") < 10 + workers


# ---- threads that do not start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("available", [0, 1, 3])
@guarded
def test_where_threads_are_short_the_run_makes_do(available):
    """Limits of containers and users: what cannot be started is done without."""
    start, left = threading.Thread.start, [available]

    def limited(thread):
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    threading.Thread.start = limited
    try:
        first = Task(lambda: threading.Event().wait(1e-3), name="first")
        tasks = [Task(lambda *_inputs: threading.Event().wait(1e-3), name=f"task_{number}") for number in range(20)]
        first >> tasks
        assert len(run(8, *tasks, *[Task(nothing, name=name) for name in "ab"])) == 23
    finally:
        threading.Thread.start = start
    assert not helpers()


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("how", ["a tracer", "another run()"])
@guarded
def test_a_thread_that_ends_before_it_has_begun(how, workers):
    """One error says so; nobody waits for it."""

    def end(*_arguments):
        raise RuntimeError("not here")

    def trace(frame, _event, _argument):
        if frame.f_code is threading.Thread.run.__code__:
            raise RuntimeError("not here")

    tasks = [Task(lambda: threading.Event().wait(1e-3), name=f"task_{number}") for number in range(20)]
    method, hook, threading.excepthook = threading.Thread.run, threading.excepthook, nothing
    if how == "a tracer":
        threading.settrace(trace)
    else:
        threading.Thread.run = end
    try:
        with pytest.raises(
            ExecutorError, match=r"worker thread 'flowkit-\d' ended before it could take part"
        ) as caught:
            run(workers, *tasks)
        assert set(caught.value.flowkit_results.states.values()) <= {"succeeded", "cancelled"}
    finally:
        threading.settrace(None)
        threading.Thread.run, threading.excepthook = method, hook
    assert not helpers()
    assert len(run(workers, *tasks)) == 20


def test_a_run_at_the_exit_of_the_interpreter():
    """Where new versions of Python start no threads any more."""
    script = """
        import atexit, time
        from flowkit_core import DAG, Task
        from flowkit_exec import ThreadExecutor

        def late():
            tasks = [Task(lambda: time.sleep(1e-3), name=f"task_{n}") for n in range(20)]
            print(len(DAG("late", tasks=tasks).run(ThreadExecutor(4))))
        atexit.register(late)
    """
    with Program("-c", textwrap.dedent(script)) as program:
        assert program.wait() == "20\n"


# ---- guests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
@guarded
def test_an_observer_that_raises_changes_nothing(workers):
    def observer(event):
        raise StopIteration(event)

    tasks = [Task(nothing, name=f"task_{number}") for number in range(20)]
    with pytest.warns(RuntimeWarning, match="observer"):
        assert len(run(workers, *tasks, observers=[observer])) == 20


@guarded
def test_an_observer_runs_a_pipeline():
    """Of its own, on the same executor, in whatever thread it is called."""
    inner = []

    def observer(event):
        if isinstance(event, TaskStarted):
            inner.append(DAG("inner", tasks=[Task(lambda: 1, name=name) for name in "xyz"]).run(executor))

    executor = ThreadExecutor(4)
    tasks = [Task(nothing, name=f"task_{number}") for number in range(20)]
    DAG("outer", tasks=tasks).run(executor, observers=[observer])
    assert inner == [{"x": 1, "y": 1, "z": 1}] * 20


@guarded
def test_tasks_wire_and_forget_while_they_run():
    """A run goes by the graph that it started with, whatever becomes of tasks, wires and the registry."""

    def meddle(*_inputs):
        extra = Task(nothing, name="extra")
        tasks[0] >> extra
        extra >> tasks[-1]
        Task.clear_registry()
        return "meddled"

    tasks = [Task(meddle, name=f"task_{number}") for number in range(30)]
    for number in range(1, 30):
        tasks[number // 2] >> tasks[number]
    results = run(4, *tasks)
    assert list(results.values()) == ["meddled"] * 30


@guarded
def test_pipelines_are_wired_and_run_in_many_threads_at_once():
    """Each thread its own tasks below a shared one: no run sees half of another's wiring."""
    shared = Task(lambda: 1, name="shared")
    problems = []

    def work(letter):
        try:
            for turn in range(30):
                end = Task(lambda shared: shared + 1, name=f"{letter}_{turn}")
                shared >> end
                assert run(2, end) == {"shared": 1, end.name: 2}
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not problems


@guarded
def test_one_worker_runs_runs_in_runs():
    """There is no pool that could be exhausted."""
    executor = ThreadExecutor(1)

    def nested(depth):
        if depth:
            return DAG("nested", tasks=[Task(lambda: nested(depth - 1), name="inner")]).run(executor)["inner"] + 1
        return 0

    assert nested(15) == 15


# ---- what a task may change ------------------------------------------------------------------------------------------


def clean(*_inputs):
    """Return what the context variable is, then change it."""
    found = variable.get()
    variable.set("changed")
    return found


def restored(*_inputs):
    """Change and restore it: the context is as empty as before."""
    found = variable.get()
    variable.reset(variable.set("changed"))
    return found


def broken(*_inputs):
    """Change it, and fail."""
    variable.set("changed")
    raise ValueError("boom")


def precise(*_inputs):
    """Change the context of decimal arithmetic: a context variable too, which comes into being when it is asked for."""
    found = decimal.getcontext().prec
    decimal.getcontext().prec = 3
    return found


@pytest.mark.parametrize("inherited", [False, True])
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("workers", [1, 4])
@guarded
def test_no_task_sees_the_context_of_another(inherited, watched, workers):
    """An untouched empty context is used again, a touched one never is."""
    functions = [clean, restored, clean, restored, restored] + [precise] * (not inherited)
    functions = functions * 5 + [broken, clean] * 5
    tasks = [Task(function, name=f"{function.__name__}_{turn}") for turn, function in enumerate(functions)]

    def go():
        if inherited:
            variable.set("inherited")
        expected = variable.get()
        observers = [nothing] if watched else []
        results = run(workers, *tasks, fail_fast=False, raise_on_failure=False, observers=observers)
        for name, found in results.items():
            assert found == (decimal.DefaultContext.prec if name.startswith("precise") else expected), name
        assert variable.get() == expected
        assert len(results.failed) == 5

    contextvars.Context().run(go)


# ---- what is left ----------------------------------------------------------------------------------------------------


class Value:
    """Something that can be referred to weakly."""


@pytest.mark.parametrize("workers", [1, 2, 8])
@guarded
def test_results_live_as_long_as_somebody_holds_them(workers):
    """Not a moment longer, and without the help of the collector of garbage."""
    seen = []

    def make(*_inputs):
        value = Value()
        seen.append(weakref.ref(value))
        return value

    gc.collect()
    gc.disable()
    try:
        first = Task(make, name="first")
        tasks = [Task(make, name=f"task_{number}") for number in range(20)]
        first >> tasks
        results = run(workers, *tasks)
        kept = results["first"]
        assert sum(reference() is not None for reference in seen) == 21
        results.clear()
        assert [reference() for reference in seen if reference() is not None] == [kept]
    finally:
        gc.enable()


@pytest.mark.parametrize("workers", [1, 2])
@guarded
def test_errors_of_attempts_that_were_repeated_are_let_go(workers):
    """Only the last one counts, and it goes with whoever caught it."""
    seen = []

    class OwnError(Exception):
        pass

    def fail():
        error = OwnError("boom")
        seen.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    def alive():
        gc.collect()
        return sum(reference() is not None for reference in seen)

    counts = []

    def observer(event):
        if isinstance(event, (TaskRetrying, TaskFailed)):
            counts.append(alive())

    with pytest.raises(OwnError) as caught:
        run(workers, Task(fail, retries=3, delay=0), observers=[observer])
    assert counts == [1] * 4
    del caught
    assert not alive()


@pytest.mark.parametrize("workers", [2, 8])
@guarded
def test_threads_have_names_and_end_with_the_run(workers):
    """They are the caller and helpers called after us; what a task keeps in a thread-local is gone with its thread."""
    names, local, kept = set(), threading.local(), []
    both = threading.Barrier(workers, timeout=SECONDS)

    def work():
        both.wait()
        names.add(threading.current_thread().name)
        if threading.current_thread() is not threading.main_thread():
            local.value = Value()
            kept.append(weakref.ref(local.value))

    run(workers, *[Task(work, name=f"task_{number}") for number in range(workers)])
    assert names == {"MainThread", *(f"flowkit-{number}" for number in range(1, workers))}
    assert not helpers()
    gc.collect()
    assert not any(reference() for reference in kept)


# ---- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
@guarded
def test_a_wide_fan_in_of_conditions(workers):
    """Ten thousand tasks, each third one skipped, into one."""
    keep = [Task(lambda: 1, name=f"task_{number}", when=lambda number=number: number % 3) for number in range(10_000)]
    total = Task(lambda *values: sum(values), name="total")
    keep >> total
    results = run(workers, total)
    assert results["total"] == sum(number % 3 > 0 for number in range(10_000))
    assert len(results.skipped) == 3334


@guarded
def test_several_runs_of_one_executor_at_once():
    """From many threads; each ends with its own results, and is told to its own observer."""
    executor = ThreadExecutor(4)
    tasks = [Task(lambda *values: 1 + sum(values), name=f"task_{number}") for number in range(60)]
    for number in range(1, 60):
        tasks[number // 2] >> tasks[number]
    dag = DAG("shared", tasks=tasks)
    expected, outcomes = dag.run("serial"), []

    def work():
        for _ in range(10):
            told = []
            results = dag.run(executor, observers=[told.append])
            outcomes.append(results == expected and told[-1].counts == {"succeeded": 60})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert outcomes == [True] * 60
    assert not helpers()
