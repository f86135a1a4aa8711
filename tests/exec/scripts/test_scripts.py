"""Scripts that run pipelines in worker processes."""

from __future__ import annotations

import subprocess
from textwrap import dedent

import pytest
from script_sources import RESULTS, RUN, TASKS, WITH_A_THREAD
from subprocess_harness import Program

pytestmark = [pytest.mark.slow, pytest.mark.sampled(2)]


@pytest.mark.parametrize(
    "source",
    [
        TASKS + RUN,
        TASKS + WITH_A_THREAD + RUN,
        TASKS + "if __name__ == '__main__':\n    print(dag.run('process'))\n",
        TASKS + "def main():\n    print(dag.run('process'))\nif __name__ == '__main__':\n    main()\n",
        "import sys\nprint(end='')\n" + TASKS + "sys.stdout.write(str(dag.run('process')) + chr(10))\nsys.exit(0)\n",
        TASKS
        + "import threading\nthread = threading.Thread(target=lambda: print(dag.run('process')))\n"
        + "thread.start()\nthread.join()\n",
        TASKS
        + "import threading\ndone = threading.Event()\n"
        + "threading.Thread(target=lambda: (print(dag.run('process')), done.set())).start()\ndone.wait()\n",
        TASKS
        + "from flowkit_exec import ProcessExecutor\nwith ProcessExecutor(2) as executor:\n"
        + "    dag.run(executor)\n    print(dag.run(executor))\n",
    ],
    ids=["unguarded", "beside a thread", "guarded", "main()", "exits", "in a thread", "waits for a thread", "warm"],
)
def test_script_with_and_without_guard(script, source):
    assert script(source).wait() == RESULTS


def test_script_that_prints_and_reads_does_so_once(script):
    source = "name = input()\nprint('hello', name)\n" + WITH_A_THREAD
    program = script(TASKS + source + RUN, stdin=subprocess.PIPE)
    program.process.stdin.write(b"Ada\nmore\n")
    program.process.stdin.close()
    assert program.wait() == "hello Ada\n" + RESULTS


def test_script_with_arguments_has_them_in_workers(script):
    source = """
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, required=True)
    options = parser.parse_args()
    from flowkit_core import DAG, task
    @task
    def size():
        return options.size
    print(DAG("arguments", tasks=[size]).run("process"))
    """
    assert script(source, "--size", "7").wait() == "{'size': 7}\n"


@pytest.mark.parametrize("guard", ["", "if __name__ == '__main__':\n    "])
def test_classes_of_the_script_are_the_same_in_results_and_exceptions(script, guard):
    source = """
    import dataclasses, enum, typing
    from flowkit_core import DAG, Task, task

    class Color(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int
        color: Color = Color.RED

    class __Hidden(typing.NamedTuple):
        y: int

    class Wrong(Exception):
        def __init__(self, name):
            super().__init__(f"wrong: {name}")

    @task
    def make(point):
        assert type(point) is Point and point.color is Color.RED
        return Point(point.x + 1), __Hidden(2), Color.RED

    @task
    def check(make):
        assert [type(value) for value in make] == [Point, __Hidden, Color]
        raise Wrong("x")

    make >> check
    """
    run = """
    results = DAG("classes", tasks=[check]).run("process", params={"point": Point(1)}, raise_on_failure=False)
    error = results.failed["check"]
    print(results["make"] == (Point(2), __Hidden(2), Color.RED), type(error) is Wrong, error)
    """
    body = dedent(run).strip().replace("\n", "\n    " if guard else "\n")
    assert script(dedent(source) + WITH_A_THREAD + guard + body).wait() == "True True wrong: x\n"


def test_module_run_with_python_m(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tools.py").write_text("def add(x):\n    return x + 1\n")
    source = """
    from flowkit_core import DAG, task
    from .tools import add
    @task
    def three():
        return add(2)
    @task
    def nested():
        return DAG("nested", tasks=[three.with_options(name="inner")]).run("process")["inner"]
    """
    run = "print(DAG('module', tasks=[three, nested]).run('process'))\n"
    for name in ("__main__", "module"):
        (package / f"{name}.py").write_text(dedent(source) + WITH_A_THREAD + run)
    for name in ("package", "package.module"):
        with Program("-m", name, cwd=tmp_path) as program:
            assert program.wait() == "{'three': 3, 'nested': 3}\n"


def test_unguarded_script_that_spawns_processes_does_not_recurse(script):
    source = """
    import multiprocessing, sys
    from flowkit_core import DAG, task
    print("imported")
    def square(x):
        return x * x
    @task
    def pool():
        process = multiprocessing.get_context("spawn").Process(target=square, args=(2,))
        process.start()
        process.join()
        return process.exitcode
    print(DAG("bomb", max_workers=1, tasks=[pool]).run("process"))
    """
    output = script(source).wait()
    assert output.count("imported") <= 2
    assert output.endswith("}\n")


@pytest.mark.parametrize(
    "change",
    [
        "os.chdir('..')",
        "os.mkdir('below') if not os.path.isdir('below') else None\nos.chdir('below')",
        "del sys.argv[1]",
        "os.environ['ADDED'] = os.environ.get('ADDED', '') + '+'",
    ],
)
def test_script_that_changes_folder_or_environment_changes_them_once(script, tmp_path, change):
    source = """
    from flowkit_core import DAG, task
    import os, sys
    CHANGE
    @task
    def seen():
        return os.getcwd(), sys.argv, os.environ.get("ADDED")
    print(DAG("surroundings", tasks=[seen]).run("process")["seen"] == (os.getcwd(), sys.argv, os.environ.get("ADDED")))
    """
    (tmp_path / "here").mkdir()
    program = script(dedent(source).replace("CHANGE", change) + WITH_A_THREAD, "an argument", cwd=tmp_path / "here")
    assert program.wait() == "True\n"


def test_two_scripts_in_one_process_have_classes_of_their_own(script, tmp_path):
    for name, more in (("first", ""), ("second", "y: int = 7")):
        source = f"""
        import dataclasses
        from flowkit_core import DAG, task
        @dataclasses.dataclass
        class Point:
            x: int
            {more}
        @task
        def point():
            return Point(1)
        value = DAG("point", tasks=[point]).run("process")["point"]
        print(value, type(value) is Point)
        """
        (tmp_path / f"{name}.py").write_text(dedent(source))
    source = "import runpy\nfor name in ('first.py', 'second.py'):\n    runpy.run_path(name, run_name='__main__')\n"
    assert script(source, cwd=tmp_path).wait() == "Point(x=1) True\nPoint(x=1, y=7) True\n"


def test_script_keeps_its_future_imports(script):
    source = """
    from flowkit_core import DAG, task
    def typed(x: int): ...
    @task
    def kind():
        return type(typed.__annotations__["x"]).__name__
    print(DAG("future", tasks=[kind]).run("process")["kind"])
    """
    assert script(source).wait() == "type\n"
    assert script("from __future__ import annotations\n" + dedent(source)).wait() == "str\n"
