"""Warnings of tasks in worker processes are shown as in this process, by its filters and at the line of the task."""

from __future__ import annotations

import subprocess
import sys
import warnings
from textwrap import dedent

import faulty_tasks as faults
import pytest
from process_checks import run
from script_sources import FORKS

from flowkit_core import Task
from flowkit_exec import ProcessExecutor

START = """
import sys, warnings
from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor, ThreadExecutor
def run(*functions, **options):
    made = ProcessExecutor if sys.argv[1] == "process" else ThreadExecutor
    names = [f"{function.__name__}_{number}" for number, function in enumerate(functions)]
    tasks = [Task(function, name=name, trigger="all_done") for name, function in zip(names, functions)]
    for one, after in zip(tasks, tasks[1:]):
        after.after(one)
    with made(max_workers=2, **options) as executor:
        results = DAG("warn", tasks=tasks).run(executor, fail_fast=False, raise_on_failure=False)
    print({name: type(error).__name__ for name, error in results.failed.items()})
"""

SCRIPTS = {
    "deprecation": ("", "DeprecationWarning: old"),
    "simplefilter error": ("warnings.simplefilter('error')", "{'old_0': 'DeprecationWarning'}"),
    "simplefilter ignore": ("warnings.simplefilter('ignore')", "{}\n"),
    "simplefilter always": ("warnings.simplefilter('always')", "DeprecationWarning: old"),
    "filter of a message": ("warnings.filterwarnings('ignore', message='ol')", "{}\n"),
    "filter of the script": ("warnings.filterwarnings('error', module='__main__')", "{'old_0': 'DeprecationWarning'}"),
    "filter of a module": ("warnings.filterwarnings('error', module='other')", "DeprecationWarning: old"),
    "filter of a line": ("warnings.filterwarnings('error', lineno=1)", "DeprecationWarning: old"),
    "hook": (
        "warnings.showwarning = lambda message, category, *rest: print('hook', category.__name__, message)",
        "hook DeprecationWarning old",
    ),
    "format": ("warnings.formatwarning = lambda message, *rest: f'formatted {message}\\n'", "formatted old"),
    "log": ("import logging; logging.basicConfig(); logging.captureWarnings(True)", "WARNING:py.warnings:"),
}


def compare(script, source, *, expected):
    """Run a script on threads and on processes; return the output, which must be the same."""
    in_threads, in_processes = (script(START + dedent(source), place).wait() for place in ("thread", "process"))
    assert in_processes == in_threads
    assert expected in in_threads
    return in_threads


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", SCRIPTS)
def test_warning_is_shown_as_with_threads(script, case):
    top, expected = SCRIPTS[case]
    source = f"""
    {top}
    def old():
        warnings.warn("old", DeprecationWarning)
    run(old)
    """
    compare(script, source, expected=expected)


def test_warning_of_several_workers_is_shown_once(script):
    source = """
    def old():
        warnings.warn("old", DeprecationWarning)
    run(old, old, old)
    run(old, old)
    """
    assert compare(script, source, expected="old").count("DeprecationWarning: old") == 1


def test_warning_is_shown_each_time_with_always(script):
    source = """
    warnings.simplefilter("always")
    def old():
        warnings.warn("old", DeprecationWarning)
    run(old, old, old)
    """
    assert compare(script, source, expected="old").count("DeprecationWarning: old") == 3


@pytest.mark.sampled(3)
@pytest.mark.parametrize("action", ["ignore", "error", "always"])
@pytest.mark.parametrize("made", ["class OwnWarning(DeprecationWarning): pass", "from own import OwnWarning"])
def test_filter_of_a_category_of_the_user(script, tmp_path, action, made):
    (tmp_path / "own.py").write_text("class OwnWarning(DeprecationWarning):\n    pass\n")
    source = f"""
    {made}
    warnings.filterwarnings({action!r}, category=OwnWarning)
    def own():
        warnings.warn(OwnWarning("own"))
    def old():
        warnings.warn("old", DeprecationWarning)
    run(own, old, own)
    """
    output = compare(script, source, expected="DeprecationWarning: old")
    assert output.count("OwnWarning: own") == (2 if action == "always" else 0)
    assert output.count("'OwnWarning'") == (2 if action == "error" else 0)


def test_warning_that_takes_other_arguments(script):
    source = """
    class Odd(UserWarning):
        def __init__(self, one, two):
            self.two = two
        def __str__(self):
            return f"odd {self.two}"
    def odd():
        warnings.warn(Odd(1, 2))
    run(odd)
    """
    path = script(START + dedent(source), "process")
    assert "UserWarning: odd 2\n" in path.wait()


def test_filters_of_the_block_around_run_apply(script):
    source = """
    def old():
        warnings.warn("old", DeprecationWarning)
    for _ in range(2):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("default")
            run(old, old)
        print([(str(each.message), each.category.__name__, each.lineno) for each in seen])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(old)
    run(old)
    """
    assert compare(script, source, expected="'DeprecationWarning'").count("('old', 'DeprecationWarning', ") == 2


def test_filters_of_a_task_apply(script):
    source = """
    def show():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for _ in range(2):
                warnings.warn("shown", ImportWarning)
    def hide():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.warn("hidden")
    def record():
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            warnings.warn("recorded")
        assert len(seen) == 1
    run(show, hide, record)
    """
    output = compare(script, source, expected="shown")
    assert (output.count("ImportWarning: shown"), output.count("hidden"), output.count("recorded")) == (2, 0, 0)


def test_stacklevel_names_the_line_of_the_caller(script, tmp_path):
    (tmp_path / "helper.py").write_text(
        "import warnings\n"
        "def deprecated(level):\n"
        "    warnings.warn('use another', DeprecationWarning, stacklevel=level)\n"
    )
    source = """
    import helper
    def direct():
        helper.deprecated(2)
    def inside():
        helper.deprecated(1)
    run(direct, inside)
    """
    output = compare(script, source, expected="script.py")
    assert output.count("DeprecationWarning: use another") == 1
    assert "helper.deprecated(2)\n" in output


def test_warning_at_import_is_shown_once(script, tmp_path):
    (tmp_path / "noisy.py").write_text("import warnings\nwarnings.warn('noisy')\ndef function():\n    pass\n")
    source = """
    import noisy
    warnings.warn("top")
    def other():
        pass
    run(noisy.function, other)
    """
    output = compare(script, source, expected="UserWarning: noisy")
    assert (output.count("UserWarning: noisy"), output.count("UserWarning: top")) == (1, 1)


def test_warning_of_a_run_inside_a_task(script):
    source = """
    def old():
        warnings.warn("old", DeprecationWarning)
    def outer():
        DAG("inner", tasks=[Task(old)]).run(sys.argv[1])
    run(outer)
    """
    compare(script, source, expected="DeprecationWarning: old")


def test_filters_of_the_initializer_apply(script):
    source = """
    def old():
        warnings.warn("old", DeprecationWarning)
    def quiet():
        warnings.simplefilter("ignore")
    run(old, old, initializer=quiet)
    """
    assert script(START + dedent(source), "process").wait() == "{}\n"


def test_warning_when_the_worker_ends(script):
    source = """
    import atexit
    def late():
        warnings.warn("late", DeprecationWarning)
    def old():
        atexit.register(late)
        atexit.register(warnings.warn, "without a frame", DeprecationWarning)
    warnings.simplefilter("always")
    run(old)
    """
    output = script(START + dedent(source), "process").wait()
    assert "DeprecationWarning: late" in output
    assert ": DeprecationWarning: without a frame" in output


def test_warning_in_a_process_that_a_task_has_forked(script):
    source = """
    import os
    def old():
        if (pid := os.fork()) == 0:
            warnings.warn("forked", UserWarning)
            os._exit(0)
        os.waitpid(pid, 0)
    run(old)
    """
    assert "UserWarning: forked" in script(START + dedent(source), "process").wait()


@FORKS
def test_warning_of_a_forked_worker(script):
    source = """
    sys.modules["cloudpickle"] = None
    run(lambda: warnings.warn("lambda", DeprecationWarning))
    """
    compare(script, source, expected="DeprecationWarning: lambda")


def test_option_of_the_interpreter(tmp_path):
    path = tmp_path / "script.py"
    source = """
    def old():
        warnings.warn("old", DeprecationWarning)
    run(old)
    """
    path.write_text(START + dedent(source))
    outputs = []
    for flags, expected in ((["-W", "error::DeprecationWarning"], "'DeprecationWarning'"), (["-W", "ignore"], "{}\n")):
        for place in ("thread", "process"):
            done = subprocess.run([sys.executable, *flags, path, place], capture_output=True, text=True, check=True)
            outputs.append(done.stdout + done.stderr)
        assert outputs[-1] == outputs[-2]
        assert expected in outputs[-1]


def test_warning_is_caught_by_pytest():
    with ProcessExecutor(max_workers=1) as executor:
        for _ in range(2):
            with pytest.warns(DeprecationWarning, match="old way"):
                run(executor, Task(faults.warn_of_old_way))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            results = run(executor, Task(faults.warn_of_old_way), raise_on_failure=False)
            assert type(results.failed["warn_of_old_way"]) is DeprecationWarning


def test_handler_of_warnings_that_fails_is_reported():
    def fail(*_args):
        raise OSError("the disk is full")

    with ProcessExecutor(max_workers=1) as executor, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        show = warnings.showwarning
        warnings.showwarning = lambda message, category, *rest, **options: (
            fail() if category is DeprecationWarning else show(message, category, *rest, **options)
        )
        run(executor, Task(faults.warn_of_old_way))
    assert "could not be shown: OSError: the disk is full" in str(seen[0].message)
