"""Which statements of a script are executed in worker processes."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest
from script_sources import RESULTS, RUN, TASKS, WITH_A_THREAD

pytestmark = [pytest.mark.slow, pytest.mark.sampled(3)]


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (
            "print(dag.run('process'))\n@task\ndef late():\n    return 1\nDAG('late', tasks=[late]).run('process')\n",
            "'late' is defined at or after the first run() of the script, in line ",
        ),
        (
            (
                "if __name__ == '__main__':\n    @task\n    def late():\n        return 1\n"
                "    DAG('late', tasks=[late]).run('process')\n"
            ),
            "without those under if __name__ == '__main__'",
        ),
        (
            (
                "import os\nif os.environ.get('FLOWKIT_DEPTH'):\n    1 / 0\n@task\ndef late():\n    return 1\n"
                "DAG('late', tasks=[late]).run('process')\n"
            ),
            "ZeroDivisionError",
        ),
        (
            (
                "import os\nclass Mute(Exception):\n    def __str__(self):\n        raise RuntimeError\n"
                "if os.environ.get('FLOWKIT_DEPTH'):\n    raise Mute\n@task\ndef late():\n    return 1\n"
                "DAG('late', tasks=[late]).run('process')\n"
            ),
            "raised Mute: <unprintable> in line",
        ),
    ],
    ids=["after a run", "under the guard", "after an error", "after an error without a text"],
)
def test_task_that_workers_do_not_define_is_an_error(script, late, words):
    output = script(TASKS + WITH_A_THREAD + "import sys\nsys.modules['cloudpickle'] = None\n" + late).wait(code=1)
    assert "SerializationError: task 'late': its function could not be found in the worker" in output
    assert words in output


@pytest.mark.parametrize(
    ("once", "why"),
    [
        ("os.mkdir('made once')", "FileExistsError"),
        ("sys.exit(0) if os.path.exists('here') else open('here', 'x')", "SystemExit"),
    ],
    ids=["an error", "an exit"],
)
def test_global_bound_below_a_line_that_raises_in_workers_is_an_error(script, tmp_path, once, why):
    source = f"""
    import os, sys
    from flowkit_core import DAG, task
    factor = 1
    def scale(number):
        return number * factor
    @task
    def scaled():
        return scale(10)
    {once}
    factor = 5
    print(DAG("half").run(sys.argv[1]))
    """
    assert script(source, "thread", cwd=tmp_path).wait() == "{'scaled': 50}\n"
    for path in (tmp_path / "made once", tmp_path / "here"):
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
    output = script(source, "process", cwd=tmp_path).wait(code=1)
    assert "task 'scaled': its function could not be found in the worker" in output
    assert f"executed in the worker, raised {why}" in output
    assert "in line 10, before 'factor' was defined" in output
    assert "under if __name__ == '__main__', into a task, or after run()" in output


def test_classes_that_refuse_access_do_not_affect_other_tasks(script):
    source = """
    from flowkit_core import DAG, task
    class Frozen(type):
        def __setattr__(cls, name, value):
            raise AttributeError("frozen")
    class Node(metaclass=Frozen):
        pass
    type.__setattr__(Node, "parent", Node)
    class Lazy(type):
        def __getattribute__(cls, name):
            if name == "__module__":
                raise RuntimeError("not configured")
            return type.__getattribute__(cls, name)
    class Settings(metaclass=Lazy):
        pass
    @task
    def one():
        return 1
    print(DAG("odd").run("process"))
    """
    assert script(source).wait() == "{'one': 1}\n"


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_imported_module_that_runs_a_pipeline_is_an_error(script, tmp_path, executor):
    count = "with open('imports', 'a') as file:\n    file.write('.')\n"
    module = count + TASKS + f"try:\n    print(dag.run({executor!r}))\nexcept TypeError as error:\n    print(error)\n"
    (tmp_path / "jobs.py").write_text(module)
    source = "import jobs\nprint(jobs.dag.run('process', raise_on_failure=False).failed['start'])\n"
    lines = script(WITH_A_THREAD + source, cwd=tmp_path).wait().splitlines()
    words = "could not be found in the worker (RunDuringImport: importing its module runs a pipeline: put that under if"
    assert words in lines[1]
    assert lines[0] == RESULTS.strip() if executor == "thread" else words in lines[0]
    assert (tmp_path / "imports").stat().st_size <= 1 + 2 * (1 + (executor == "process"))


@pytest.mark.parametrize(
    "when",
    [
        (
            "while True:\n    if not os.environ.get('FLOWKIT_DEPTH'):\n        print(dag.run('process'))\n"
            "        break\n    time.sleep(1)\n"
        ),
        (
            "def forever():\n    if not os.environ.get('FLOWKIT_DEPTH'):\n        return print(dag.run('process'))\n"
            "    time.sleep(3600)\nforever()\n"
        ),
    ],
    ids=["loop", "call"],
)
def test_statement_of_the_first_run_that_blocks_is_not_executed(script, when):
    assert script("import os, time\n" + TASKS + WITH_A_THREAD + when).wait() == RESULTS


@pytest.mark.parametrize(
    "around",
    [
        "try:\n    {run}\nexcept ValueError:\n    pass\nfinally:\n    shutil.rmtree('work')",
        "try:\n    try:\n        {run}\n    except:\n        shutil.rmtree('work')\n        raise\nfinally:\n    pass",
        "with folder():\n    {run}",
        "with contextlib.ExitStack() as stack:\n    stack.callback(shutil.rmtree, 'work')\n    {run}",
        "for data in folders():\n    {run}",
    ],
    ids=["finally", "except", "with", "stack", "generator"],
)
def test_statement_around_the_first_run_is_not_executed(script, tmp_path, around):
    """The statement would delete a folder that the tasks use."""
    source = """
    import contextlib, os, shutil
    from flowkit_core import DAG, task

    @contextlib.contextmanager
    def folder():
        try:
            yield "data"
        finally:
            shutil.rmtree("work")

    def folders():
        try:
            yield 2
        finally:
            shutil.rmtree("work")

    @task
    def write():
        with open("work/a", "w") as file:
            file.write("a")

    @task
    def read(write):
        with open("work/a") as file:
            return file.read()

    write >> read
    os.makedirs("work", exist_ok=True)
    """
    run = "print(DAG('around', max_workers=1, tasks=[read]).run('process')['read'])"
    program = script(dedent(source) + WITH_A_THREAD + around.format(run=run), cwd=tmp_path)
    assert program.wait() == "a\n"
    assert not (tmp_path / "work").exists() or "except" in around


@pytest.mark.parametrize(
    "source",
    [
        "DAG('first', tasks=[one]).run('serial')\nrate = 5\n{run}",
        "DAG('first', tasks=[one]).run('serial')\nrates.append(5)\nrates[0] = 5\n{run}",
        "DAG('first', tasks=[one]).run('serial')\nif True:\n    rate = 5\n    {run}",
        "DAG('first', tasks=[one]).run('serial'); rate = 5; {run}",
        "try:\n    DAG('first', tasks=[one]).run()\n    rate = 5\n    {run}\nfinally:\n    pass",
        "with open(__file__) as rate:\n    {run}",
        "for rate in (2, 3):\n    {run}",
        "if (rate := 2):\n    {run}",
        "with ProcessExecutor(1) as executor:\n    rate = 5\n    {run}",
        "executor = ProcessExecutor(1)\nDAG('first', tasks=[one]).run(executor)\nrate = 5\n{run}",
    ],
)
def test_global_bound_at_or_after_the_first_run_is_an_error(script, tmp_path, source):
    """A task must not read the value that was assigned before."""
    head = """
    from flowkit_core import DAG, task
    from flowkit_exec import ProcessExecutor
    rate, rates = 1, [1]
    @task
    def one():
        return rate, rates
    """
    run = f"DAG('one', tasks=[one]).run({'executor' if 'executor' in source else repr('process')})"
    output = script(dedent(head) + WITH_A_THREAD + source.format(run=run), cwd=tmp_path).wait(code=1)
    assert "SerializationError: task 'one': its function could not be found in the worker" in output
    assert re.search("'rates?' is changed at or after the first run\\(\\) of the script, in line ", output)


@pytest.mark.parametrize(
    "source",
    [
        "rate = print({run})",
        "import os\nprint({run})",
        "print({run})\nrate = 5",
        "results = {run}\nimport os\nos.altsep = None\nprint({run})",
    ],
    ids=["binds its result", "imports again before", "binds later", "imports again between"],
)
def test_global_that_is_rebound_after_the_run_is_found(script, source):
    head = """
    import os
    from flowkit_core import DAG, task
    rate = 1
    @task
    def one():
        return rate, os.sep
    """
    run = "DAG('one', tasks=[one]).run('process')['one']"
    assert script(dedent(head) + WITH_A_THREAD + source.format(run=run)).wait() == "(1, '/')\n"


def test_task_in_the_statement_of_the_first_run_is_an_error(script):
    source = """
    from flowkit_core import DAG, task
    with open(__file__) as file:
        @task
        def one():
            return 1
        DAG("whole", tasks=[one]).run("process")
    """
    output = script(WITH_A_THREAD + dedent(source)).wait(code=1)
    assert "'one' is defined at or after the first run() of the script, in line " in output


@pytest.mark.parametrize(
    "source",
    [
        "while True:\n    try:\n        print(dag.run('process'))\n        break\n    except:\n        pass\n",
        "for _ in range(9):\n    try:\n        print(dag.run('process'))\n        break\n    except:\n        pass\n",
    ],
    ids=["while", "for"],
)
def test_loop_around_the_first_run_is_not_executed(script, source):
    assert script(TASKS + WITH_A_THREAD + source).wait() == RESULTS


def test_script_that_takes_long_in_a_worker_warns(script):
    """The worker waits for a lock that the warning releases."""
    source = """
    import fcntl, warnings
    lock = open(__file__)
    fcntl.flock(lock, fcntl.LOCK_EX)
    warnings.showwarning = lambda message, *_: (print(message), fcntl.flock(lock, fcntl.LOCK_UN))
    """
    output = script(dedent(source) + TASKS + WITH_A_THREAD + RUN).wait()
    assert "has been executing the script for 5 s, up to its first run(), to define its tasks" in output
    assert output.endswith(RESULTS)
