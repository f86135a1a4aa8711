"""Under pytest the rules are the same as in a program: its frames are never searched, and no plugin is needed."""

from __future__ import annotations

import subprocess
import sys

from flowkit_core import DAG, Task

pytest_plugins = ["pytester"]

TESTS = """
import pytest
from flowkit_core import DAG, Task, task

@task
def of_the_module():
    return 0

shared = Task(lambda *x: sum(x), name="shared")

def make(n):
    source = Task(lambda: n, name="source")
    return source >> Task(lambda source: source + 1, name="last")

@pytest.fixture
def plain():
    return make(1)

@pytest.fixture
def yielding():
    yield make(2)

@pytest.fixture(scope="module")
def wide():
    return make(3)

@pytest.fixture(autouse=True)
def unused():
    Task(int, name="of_autouse")
    yield

@pytest.fixture
def dag():
    make(4)
    return DAG("fixture")

@pytest.fixture
def open_block():
    with DAG("block") as dag:
        make(5)
        yield dag

@pytest.fixture
def failing():
    Task(int, name="failing")
    pytest.xfail("fixture fails")

def wire_shared(n):
    Task(lambda: n, name=f"n{n}") >> shared

@pytest.fixture
def wired():
    wire_shared(7)
    return shared

@pytest.fixture(params=[1, 2])
def parametrized(request):
    return make(request.param), request.param

class TestClass:
    @pytest.fixture
    def method_fixture(self):
        return make(6)

    def setup_method(self):
        self.last = make(8)

    def test_method_fixture(self, method_fixture):
        assert DAG("d", tasks=[method_fixture]).run("serial") == {"source": 6, "last": 7}

    def test_setup_method(self):
        assert DAG("d", tasks=[self.last]).run("serial") == {"source": 8, "last": 9}

def test_plain(plain):
    assert DAG("d", tasks=[plain]).run("serial") == {"source": 1, "last": 2}

def test_yielding(yielding):
    assert DAG("d", tasks=[yielding]).run("serial") == {"source": 2, "last": 3}

def test_bare_dag_has_nothing_of_fixtures(plain, yielding, wide):
    own = Task(lambda: 9, name="own")
    assert DAG("d").run("serial") == {"own": 9}

def test_bare_dag_without_tasks_has_the_module(plain):
    assert DAG("d").run("serial") == {"of_the_module": 0, "shared": 0}

@pytest.mark.parametrize("number", range(3))
def test_wide(wide, number):
    assert DAG("d", tasks=[wide]).run("serial") == {"source": 3, "last": 4}
    own = Task(lambda last: last * number, name="own")
    wide >> own
    assert DAG("d", tasks=[own]).run("serial") == {"source": 3, "last": 4, "own": 4 * number}

def test_dag(dag):
    Task(int, name="own")
    assert dag.run("serial") == {"source": 4, "last": 5}

def test_open_block(open_block):
    Task(int, name="own")
    assert open_block.run("serial") == {"source": 5, "last": 6}
    assert DAG("d").run("serial") == {"own": 0}

def test_failing(failing):
    raise AssertionError

def test_after_failing():
    Task(int, name="own")
    assert DAG("d").run("serial") == {"own": 0}

def test_wiring_a_shared_task():
    wire_shared(1)
    assert DAG("d", tasks=[shared]).run("serial") == {"n1": 1, "shared": 1}

def test_wiring_a_shared_task_again():
    assert DAG("d", tasks=[shared]).run("serial") == {"shared": 0}
    wire_shared(2)
    assert DAG("d", tasks=[shared]).run("serial") == {"n2": 2, "shared": 2}

def test_parametrized(parametrized):
    last, n = parametrized
    assert DAG("d", tasks=[last]).run("serial") == {"source": n, "last": n + 1}

@pytest.mark.xfail
def test_that_fails():
    wire_shared(3)
    Task(int, name="of_failed_test")
    assert False

def test_after_one_that_failed():
    Task(int, name="own")
    assert DAG("d").run("serial") == {"own": 0}
    assert DAG("d", tasks=[shared]).run("serial") == {"shared": 0}
"""


def test_rules_hold_under_pytest(pytester):
    """Fixtures of every kind, failing tests, and shared tasks, without any plugin."""
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-W", "error")
    result.assert_outcomes(passed=17, xfailed=2)


def test_rules_hold_under_pytest_with_the_tests_in_reverse_order(pytester):
    """The order of tests plays no part."""
    pytester.makepyfile(TESTS)
    pytester.makeconftest("def pytest_collection_modifyitems(items):\n    items.reverse()")
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-W", "error")
    result.assert_outcomes(passed=17, xfailed=2)


def test_core_registers_no_pytest_plugin():
    """What is green under pytest is green without it."""
    import importlib.metadata

    points = importlib.metadata.entry_points(group="pytest11")
    assert not [point for point in points if point.value.startswith("flowkit")]


def test_rules_hold_under_unittest(tmp_path):
    """setUp makes tasks, and the tests run them."""
    (tmp_path / "test_it.py").write_text(
        """
import unittest
from flowkit_core import DAG, Task

class Case(unittest.TestCase):
    def setUp(self):
        a, self.b = Task(lambda: 1, name="a"), Task(lambda a: a + 1, name="b")
        a >> self.b

    def test_named(self):
        self.assertEqual(DAG("d", tasks=[self.b]).run("serial"), {"a": 1, "b": 2})

    def test_bare(self):
        Task(int, name="own")
        self.assertEqual(DAG("d").run("serial"), {"own": 0})
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unittest", "-q", "test_it"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_tasks_of_one_test_are_not_in_the_next_part_one():
    """Two tests of this very module."""
    Task(int, name="one")
    assert DAG("d").run("serial") == {"one": 0}


def test_tasks_of_one_test_are_not_in_the_next_part_two():
    """The second of them."""
    Task(int, name="two")
    assert DAG("d").run("serial") == {"two": 0}
