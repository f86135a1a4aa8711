"""A task that reads a global of the script which a function has changed gets the old value in workers: a warning."""

from __future__ import annotations

from textwrap import dedent

import pytest

START = """
import sys, time
from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor
def run(*functions, executor=None):
    tasks = [Task(function) for function in functions]
    print(DAG("globals", max_workers=1, tasks=tasks).run(executor or sys.argv[1]))
"""

CHANGED = {
    "text": ("MODE = 'old'", "global MODE; MODE = 'secret'"),
    "None": ("MODE = None", "global MODE; MODE = 'secret'"),
    "annotated": ("MODE: int = 1", "global MODE; MODE = 2"),
    "type": ("MODE = 1", "global MODE; MODE = True"),
    "item of a dict": ("MODE = {'level': 1}", "MODE['level'] = 2"),
    "list": ("MODE = [1, 2]", "MODE.append(3)"),
    "object": ("MODE = 0", "global MODE; MODE = object()"),
    "two names": ("MODE = OTHER = 'old'", "global MODE; MODE = 'secret'"),
    "value with an equality that fails": ("MODE = 0", "global MODE; MODE = Odd()"),
}

UNCHANGED = {
    "equal value": ("MODE = 'old'", "global MODE; MODE = 'old'"),
    "no literal": ("MODE = time.time()", "global MODE; MODE = 2"),
    "empty dict": ("MODE = {}", "MODE['a'] = 1"),
    "other name": ("MODE, OTHER = 1, 2", "global OTHER; OTHER = 3"),
}


def source_of(top, change, read="return str(MODE)"):
    """Return a script whose main() changes a global before it runs a task that reads it."""
    return START + dedent(f"""
    class Odd:
        def __eq__(self, other):
            raise RuntimeError("no answer")
        __hash__ = None
    {top}
    def read():
        {read}
    def main():
        {change}
        run(read)
    if __name__ == "__main__":
        main()
    """)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", CHANGED)
def test_changed_global_is_warned_of(script, case):
    output = script(source_of(*CHANGED[case]), "process").wait()
    assert output.count("RuntimeWarning: task 'read' reads the global 'MODE', which was changed after") == 1
    assert "run(params=...)" in output
    assert "secret" not in output
    assert "RuntimeWarning" not in script(source_of(*CHANGED[case]), "thread").wait()


@pytest.mark.parametrize("change", ["global MODE; MODE = ['new']", "MODE.append('new')"])
def test_global_that_the_top_level_changes_by_a_call_is_not_warned_of(script, change):
    """Workers call the function, too."""
    source = f"""
    MODE = ['old']
    def boot():
        {change}
    def read():
        return MODE[-1]
    boot()
    if __name__ == "__main__":
        run(read)
    """
    output = script(START + dedent(source), "process").wait()
    assert "'read': 'new'" in output
    assert "RuntimeWarning" not in output


@pytest.mark.parametrize("case", UNCHANGED)
def test_global_that_may_be_as_it_is_there_is_not_warned_of(script, case):
    assert "RuntimeWarning" not in script(source_of(*UNCHANGED[case]), "process").wait()


def test_global_that_tasks_set_is_not_warned_of(script):
    source = """
    COUNT = 0
    def read():
        global COUNT
        COUNT += 1
        return COUNT
    if __name__ == "__main__":
        read()
        run(read)
    """
    assert script(START + dedent(source), "process").wait() == "{'read': 1}\n"


def test_global_that_an_initializer_sets_is_not_warned_of(script):
    source = """
    MODE = "old"
    def set_mode(mode):
        global MODE
        MODE = mode
    def read():
        return MODE
    def main():
        set_mode("new")
        with ProcessExecutor(1, initializer=set_mode, initargs=("new",)) as executor:
            run(read, executor=executor)
    if __name__ == "__main__":
        main()
    """
    assert script(START + dedent(source), "process").wait() == "{'read': 'new'}\n"


def test_global_that_a_called_function_reads_is_warned_of(script):
    source = """
    MODE = "old"
    def inner():
        return [MODE for _ in range(1)]
    def read():
        return inner()
    def other():
        return 1
    def main():
        global MODE
        MODE = "new"
        run(read, other)
    if __name__ == "__main__":
        main()
    """
    output = script(START + dedent(source), "process").wait()
    assert output.count("RuntimeWarning") == 1
    assert "task 'read' reads the global 'MODE'" in output
