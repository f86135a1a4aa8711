"""Programs that are started as workers: only a plain interpreter of the same version may run tasks."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

from flowkit_core import DAG, ExecutorError, Task
from flowkit_exec import ProcessExecutor
from flowkit_exec.process import protocol

pytestmark = pytest.mark.slow

EMBEDDING = """
import os, sys
with open("starts", "ab", buffering=0) as file:
    file.write(b".")
sys.executable = os.path.abspath("launcher")  # as in a program that embeds Python
from flowkit_core import DAG, ExecutorError, Task
from flowkit_exec import ProcessExecutor
def one(): return os.getpid()
tasks = [Task(one, name=f"task_{number}", retries=2) for number in range(4)]
try:
    print(len(DAG("embedded", max_workers=4, tasks=tasks).run("process")))
except ExecutorError as error:
    print(error, flush=True)
"""


def launch(script, tmp_path, launcher, source=EMBEDDING):
    path = tmp_path / "launcher"
    path.write_text(dedent(launcher).format(python=sys.executable, script=tmp_path / "script.py"))
    path.chmod(0o755)
    return script(source, cwd=tmp_path).wait()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("", "ran another program, which used flowkit"),
        ("\nimport time\ntime.sleep(3600)", "ran another program, which used flowkit"),
        ("\nos._exit(0)", "ran another program, which used flowkit"),
    ],
    ids=["exits", "keeps running", "exits at once"],
)
def test_launcher_that_starts_the_program_again_is_one_error(script, tmp_path, end, words):
    source = EMBEDDING
    if end:
        source += f"if {protocol.START_VARIABLE!r} in os.environ:" + end.replace("\n", "\n    ")
    output = launch(script, tmp_path, "#!/bin/sh\nexec {python} {script} >/dev/null 2>&1\n", source)
    assert f"sys.executable is '{tmp_path}/launcher', which is not a Python interpreter that runs workers" in output
    assert words in output
    assert "ProcessExecutor(python='/path/to/python')" in output
    assert (tmp_path / "starts").stat().st_size == 2  # the program, and one worker


@pytest.mark.parametrize(
    ("body", "words"), [("exit 0", "ended with exit code 0"), ("exit 7", "ended with exit code 7")]
)
def test_program_that_ends_without_running_a_worker_is_one_error(script, tmp_path, body, words):
    launcher = f"#!/bin/sh\nprintf . >>{tmp_path}/starts\n{body}\n"
    output = launch(script, tmp_path, launcher)
    assert f"started as a worker, it {words}" in output
    assert (tmp_path / "starts").stat().st_size == 2


def test_launcher_that_runs_the_interpreter_works(script, tmp_path):
    source = EMBEDDING.replace("sys.executable = ", "launcher = ")
    source = source.replace('run("process")', "run(ProcessExecutor(4, python=launcher))")
    output = launch(script, tmp_path, '#!/bin/sh\nprintf . >>starts\nexec {python} "$@"\n', source)
    assert output == "4\n"


def test_interpreter_for_a_program_that_embeds_python_works(script, tmp_path):
    source = EMBEDDING.replace('run("process")', f"run(ProcessExecutor(2, python={sys.executable!r}))")
    assert launch(script, tmp_path, "#!/bin/sh\nexit 3\n", source) == "4\n"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("sys.executable", kind) for kind in ("missing", "folder", "no program", "not executable")),
        ("python", "no program"),  # the others are errors of ProcessExecutor()
    ],
)
def test_path_that_cannot_be_started_is_one_error(monkeypatch, tmp_path, kind, name):
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"\0\1")
        path.chmod(0o755 if kind == "no program" else 0o644)
    if name == "sys.executable":
        monkeypatch.setattr(sys, "executable", str(path))
    with (
        ProcessExecutor(1, python=str(path) if name == "python" else None) as executor,
        pytest.raises(ExecutorError) as caught,
    ):
        DAG("none", tasks=[Task(int, name="zero")]).run(executor)
    assert f"{name} is {str(path)!r}, which cannot be started (" in str(caught.value)
    assert "ProcessExecutor(python='/path/to/python')" in str(caught.value)


def test_run_during_the_start_of_a_worker_is_one_error(script, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        f"import os\nif {protocol.START_VARIABLE!r} in os.environ:\n"
        "    open('starts', 'a').write('.')\n"
        "    from flowkit_core import DAG, Task\n"
        "    DAG('early', tasks=[Task(int, name='zero')]).run('process')\n"
    )
    source = """
    import os, sys
    os.environ["PYTHONPATH"] = os.getcwd() + os.pathsep + os.environ.get("PYTHONPATH", "")
    from flowkit_core import DAG, ExecutorError, Task
    try:
        DAG("late", max_workers=1, tasks=[Task(int, name="zero")]).run("process")
    except ExecutorError as error:
        print(error)
    """
    output = script(source, cwd=tmp_path).wait()
    assert "which is not a Python interpreter that runs workers" in output or "failed to start" in output
    assert (tmp_path / "starts").stat().st_size <= 3


def test_interpreter_of_another_version_is_an_error(script, tmp_path):
    code = "import sys; sys.version_info = (3, 99, 0); exec(sys.argv.pop(1))"
    launcher = f"#!/bin/sh\nwhile [ $1 != -c ]; do shift; done\nshift\nexec {{python}} -c '{code}' \"$@\"\n"
    source = """
    import os
    from flowkit_core import DAG, ExecutorError, Task
    from flowkit_exec import ProcessExecutor
    try:
        DAG("old", tasks=[Task(int, name="zero")]).run(ProcessExecutor(1, python="./launcher"))
    except ExecutorError as error:
        print(error)
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    output = launch(script, tmp_path, launcher, source)
    assert f"is Python 3.99, and this process is Python {version}" in output


def test_subprocess_of_a_task_may_run_pipelines(script):
    source = """
    import subprocess, sys
    from flowkit_core import DAG, Task
    INNER = "from flowkit_core import DAG, Task; print(DAG('in', tasks=[Task(int, name='zero')]).run('process'))"
    def outer():
        return subprocess.run([sys.executable, "-c", INNER], capture_output=True, text=True, check=True).stdout
    print(DAG("out", tasks=[Task(outer)]).run("process")["outer"], end="")
    """
    assert script(source).wait() == "{'zero': 0}\n"
