"""How functions are sent to worker processes."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from contextvars import ContextVar
from functools import partial
from textwrap import dedent

import faulty_tasks as faults
import pytest
from process_checks import run
from script_sources import WITH_A_THREAD
from subprocess_harness import guarded

from flowkit_core import (
    SerializationError,
    Task,
)

pytestmark = pytest.mark.slow


@guarded
def test_falsy_callables_and_methods_are_sent_beside_a_second_thread(executor):
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        tasks = [
            Task(faults.Empty(), name="callable"),
            Task(faults.Empty().method, name="method"),
            Task(faults.Empty.of_class, name="of_class"),
        ]
        assert run(executor, *tasks) == {"callable": "called", "method": "method", "of_class": "Empty"}
    finally:
        stop.set()
        thread.join()


@guarded
def test_function_that_cannot_be_sent_is_an_error_before_the_run(executor):
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)  # beside it, a fork is not safe
    thread.start()
    try:
        sys.modules["cloudpickle"] = None
        for function, words in (
            (lambda: 1, "is a lambda"),
            (
                partial(faults.ok, faults.Trap("pickling", "mute")),
                "that cannot be pickled (NoText: <unprintable>)",
            ),
        ):
            with pytest.raises(SerializationError) as caught:
                run(executor, Task(faults.ok), Task(function, name="local"))
            assert (caught.value.task, caught.value.what) == ("local", "function")
            assert words in str(caught.value)
            assert "executor='thread'" in str(caught.value)
            assert caught.value.flowkit_results == {}
    finally:
        del sys.modules["cloudpickle"]
        stop.set()
        thread.join()


setting: ContextVar[str] = ContextVar("setting", default="unset")


@guarded
def test_conditions_and_retry_on_are_evaluated_in_the_calling_process(executor, tmp_path):
    setting.set("set")
    start = Task(faults.ok)
    yes = Task(faults.pid, name="yes", when=lambda value: value == "ok" and setting.get() == "set")
    no = Task(faults.pid, name="no", when=lambda: setting.get() == "unset")
    again = Task(faults.count_before, retries=5, delay=0, retry_on=lambda error: error.code < 3)
    start >> yes
    params = {"path": str(tmp_path / "tries"), "fails": 9}
    results = run(executor, yes, no, again, fail_fast=False, raise_on_failure=False, params=params)
    assert results.states == {"ok": "succeeded", "yes": "succeeded", "no": "skipped", "count_before": "failed"}
    assert results.failed["count_before"].code == 3


@guarded
def test_function_sent_by_value_is_dropped_after_the_run(executor):
    seen = []

    def call_by_value(number):
        call = partial(faults.echo, faults.Point(number, 0))
        seen.append(weakref.ref(call))
        assert run(executor, Task(call, name="call"))["call"] == faults.Point(number, 0)

    for number in range(3):
        call_by_value(number)
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3


def test_reloaded_module_is_used_and_changed_file_is_an_error(script, tmp_path):
    source = """
    import importlib, os, sys
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.getcwd())
    from flowkit_core import DAG, SerializationError, Task
    from flowkit_exec import ProcessExecutor
    def edit(text):
        with open("jobs.py", "w") as file:
            file.write(f"text = {text!r} # {len(text)}\\ndef job(): return text, {text!r}")
    def run(executor):
        return "+".join(DAG("jobs", tasks=[Task(jobs.job)]).run(executor)["job"])
    if __name__ == "__main__":
        edit("old")
        import jobs
        with ProcessExecutor(1) as executor:
            print(run(executor))
            edit("newer")
            importlib.reload(jobs)
            print(run(executor), run(executor))
            edit("newest")
            print(run(executor))
        try:
            run("process")
        except SerializationError as error:
            print(error)
    """
    lines = script(source, cwd=tmp_path).wait().splitlines()
    assert lines[:3] == ["old+old", "newer+newer newer+newer", "newer+newer"]
    assert "job is another function there: its code is not the same; perhaps it was defined again" in lines[3]


def test_function_behind_functools_cache_is_sent_by_name(script):
    source = """
    import functools
    from flowkit_core import DAG, task
    @task
    @functools.cache
    def kept():
        return 1
    """
    run = 'print(DAG("kept", tasks=[kept]).run("process"))\n'
    assert script(dedent(source) + WITH_A_THREAD + run).wait() == "{'kept': 1}\n"
    other = dedent(source).replace(
        "@functools.cache", "@(lambda f: f if os.environ.get('FLOWKIT_DEPTH') else functools.cache(f))"
    )
    output = script("import os\n" + other + WITH_A_THREAD + run, name="other.py").wait(code=1)
    assert "kept is another function there" in output
