"""The line at which the main script first called ``run()``."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import pytest

from flowkit_core import DAG, Task
from flowkit_core._first_run import current_line, first_run_line


@pytest.fixture
def main(monkeypatch):
    """A module in place of ``__main__``."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    main.dag = DAG("first run", tasks=[Task(int, name="zero")])
    main.first_run_line = first_run_line
    main.current_line = current_line
    return main


def execute(main, source):
    exec(compile(source, "script.py", "exec"), vars(main))


def test_line_of_the_first_run_is_recorded_once(main):
    execute(main, "\n\ndag.run('serial')\n\ndag.run('serial')\nfound = first_run_line()\n")
    assert main.found == 3


def test_line_of_a_run_inside_a_function_is_that_of_the_top_level(main):
    execute(main, "def main():\n    dag.run('serial')\n\n\nmain()\n")
    assert first_run_line() == 5


def test_line_is_none_after_the_script(main):
    assert first_run_line() is None
    execute(main, "dag.run('serial')")
    assert first_run_line() is None


def test_each_main_script_has_a_line(main, monkeypatch):
    execute(main, "\ndag.run('serial')")
    other = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", other)
    other.dag = main.dag
    execute(other, "\n\n\ndag.run('serial')")
    assert first_run_line() == 4


def test_current_line_is_that_of_the_main_thread(main):
    def look():
        main.found = current_line(main)

    main.thread = threading.Thread(target=look)
    execute(main, "\nthread.start(); thread.join()\n")
    assert main.found == 2
    assert current_line(main) is None


def test_main_module_that_is_not_a_module_is_ignored(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", object())
    assert DAG("first run", tasks=[Task(int, name="zero")]).run("serial") == {"zero": 0}
