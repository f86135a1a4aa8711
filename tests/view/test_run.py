"""`flowkit run`: output, exit codes and options."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from datetime import datetime

import pytest

RUN = ("run", "etl:dag", "-p", "day=2026-11-29")


@pytest.mark.parametrize("name", ["x.txt", "x.json", "", "."])
@pytest.mark.parametrize("option", [[], ["--supervise"]])
def test_state_of_other_file_exits_2_and_names_the_option(etl, flowkit, name, option):
    answer = flowkit("run", "etl:dag", "-q", "-p", "day=2026-11-29", "--state", name, *option)
    assert (answer.code, answer.out) == (2, "")
    message = (
        f"flowkit run: --state {name!r} does not end in .db, .sqlite, .sqlite3: runs are recorded in a SQLite database"
    )
    assert answer.err == f"{message}\n"
    assert sorted(path.name for path in etl.iterdir() if path.is_file()) == ["etl.py"]


def test_run_prints_summary_and_log_lines(etl, flowkit, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # of pytest
    answer = flowkit(*RUN)
    assert answer.code == 0
    assert answer.out.splitlines()[0] == "extracting"
    assert answer.out.splitlines()[1].startswith("etl: succeeded in ")
    assert "3 succeeded (run " in answer.out
    assert 'Task "load" completed successfully' in answer.err


def test_quiet_run_prints_no_log_lines(etl, flowkit):
    assert flowkit(*RUN, "-q").err == ""


def test_failed_run_exits_1_with_traceback_of_task(etl, flowkit):
    (etl / "broken").touch()
    answer = flowkit(*RUN, "-q")
    assert answer.code == 1
    assert "  load: ValueError: bad <row>\n" in answer.out
    assert 'in load\n    raise ValueError("bad <row>")' in answer.err
    assert "flowkit_core" not in answer.err


def test_failed_run_exits_1_also_if_nothing_reads_its_output(etl):
    """As with `head`, which ends early."""
    (etl / "broken").touch()
    source = (etl / "etl.py").read_text()
    (etl / "etl.py").write_text(source.replace('print("extracting")', "pass"))  # only flowkit itself prints
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "flowkit_view", *RUN, "-q"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert "bad <row>" in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_broken_pipe_of_the_module_exits_1(folder, flowkit):
    (folder / "pipe.py").write_text("raise BrokenPipeError('of the module')\n")
    answer = flowkit("run", "pipe")
    assert answer.code == 1
    assert "of the module" in answer.err


def test_json_is_the_only_standard_output(etl, flowkit):
    (etl / "broken").touch()
    answer = flowkit(*RUN, "--json", "-q")
    assert answer.code == 1
    assert answer.json["status"] == "failed"
    assert answer.json["tasks"]["load"] == answer.json["tasks"]["load"] | {
        "state": "failed",
        "attempts": 2,
        "error": "ValueError: bad <row>",
    }
    assert "extracting" in answer.err


def test_executor_process_imports_module_of_pipeline(etl, flowkit):
    answer = flowkit(*RUN, "-q", "-e", "process", "-w", "1", "--json")
    assert (answer.code, answer.json["status"]) == (0, "succeeded")


def test_resume_continues_failed_run(recorded, etl, flowkit):
    (etl / "broken").unlink()
    failed = flowkit("runs", recorded, "--json").json[0]["run_id"]
    answer = flowkit(*RUN, "-q", "--state", recorded, "--resume", "--json")
    assert (answer.code, answer.json["run_id"]) == (0, failed)
    assert "extracting" not in answer.err


def test_interrupted_run_exits_130(folder, flowkit):
    (folder / "stop.py").write_text(
        "from flowkit_core import DAG, task\n@task\ndef stop():\n    raise KeyboardInterrupt\ndag = DAG('stop')\n"
    )
    assert flowkit("run", "stop", "-q", "-e", "serial").code == 130


def test_wrong_wiring_exits_1(folder, flowkit):
    (folder / "wrong.py").write_text(
        "from flowkit_core import DAG, Task\n"
        "a, b = Task(len, name='a'), Task(len, name='b')\n"
        "a >> b >> a\ndag = DAG('wrong', tasks=[a])\n"
    )
    answer = flowkit("run", "wrong:dag")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("flowkit run: ")
    assert "a → b → a" in answer.err


def test_error_in_module_exits_1_with_traceback(folder, flowkit):
    (folder / "broken_module.py").write_text("1 / 0\n")
    answer = flowkit("run", "broken_module:dag")
    assert answer.code == 1
    assert "ZeroDivisionError" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "etl:dag"], "the parameter 'day' is missing, which 'extract' takes: give -p day=..."),
        ([*RUN, "-p", "limt=1"], "no task of 'etl' takes a parameter 'limt' (did you mean 'limit'?)"),
        ([*RUN, "-p", "limit"], "-p 'limit' is not of the form name=value"),
        ([*RUN, "-p", "limit=x"], "-p limit='x' is not of type int"),
        ([*RUN, "-p", "day=2026-11-28"], "-p 'day' is given twice"),
        ([*RUN, "-e", "proces"], "proces"),
        ([*RUN, "--resume"], "--resume continues a recorded run: give --state, too"),
        ([*RUN, "--supervise"], "--supervise continues the recorded run after a crash: give --state, too"),
        ([*RUN, "-w", "0"], "'0' is not an integer of at least 1"),
        ([*RUN, "--timeout", "soon"], "'soon' is not a duration"),
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
    ],
)
def test_wrong_arguments_exit_2(etl, flowkit, arguments, message):
    answer = flowkit(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_rerun_starts_linked_run_of_task_and_downstream(recorded, etl, flowkit):
    (etl / "broken").unlink()
    parent = flowkit("runs", recorded, "--json").json[0]
    answer = flowkit("rerun", recorded, "last", "--from", "load", "-q", "--json")
    assert answer.code == 0
    assert "extracting" not in answer.err
    run = flowkit("show", recorded, "last", "--json").json
    assert (run["run_id"], run["parent"], run["params"]) == (
        answer.json["run_id"],
        parent["run_id"],
        {"day": "2026-11-29"},
    )


LIMITED = """
from flowkit_core import DAG, Task

running, most = [], []

def work():
    running.append(1)
    most.append(len(running))
    running.pop()

dag = DAG("limited", tasks=[Task(work, name=f"t{number}", pool="db") for number in range(6)])
"""


def test_options_give_pools_and_limits(folder, flowkit):
    (folder / "limited.py").write_text(LIMITED)
    assert "pool" in flowkit("run", "limited", "-q").err, "the pool has no slots"
    answer = flowkit("run", "limited", "-q", "-w", "4", "--pool", "db=1", "--max-async", "2")
    assert answer.code == 0
    assert max(sys.modules["limited"].most) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pool", "db"], "'db' is not of the form NAME=SLOTS, such as db=2"),
        (["--pool", "db=0"], "'0' is not an integer of at least 1"),
        (["--max-async", "0"], "'0' is not an integer of at least 1"),
    ],
)
def test_wrong_limits_exit_2(etl, flowkit, options, message):
    answer = flowkit("run", "etl", *options)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_runs_says_which_run_has_repaired_a_failed_one(recorded, etl, flowkit):
    assert "repaired" not in flowkit("runs", recorded, "--failed").out
    (etl / "broken").unlink()
    repair = flowkit("rerun", recorded, "last", "--from", "load", "-q", "--json").json["run_id"]
    (line,) = flowkit("runs", recorded, "--failed").out.splitlines()[1:]
    assert f"; repaired by {repair}" in line


def test_rerun_from_a_pipeline_that_is_used_as_a_task(folder, flowkit):
    (folder / "outer.py").write_text(
        "from flowkit_core import DAG, Task\n"
        "source, load = Task(lambda: 2, name='source'), Task(lambda inner: inner, name='load')\n"
        "first, second = Task(lambda value: value, name='first'), Task(lambda first: first, name='second')\n"
        "first >> second\n"
        "source >> DAG('inner', tasks=[second]).as_task() >> load\n"
        "dag = DAG('outer', tasks=[load])\n"
    )
    assert flowkit("run", "outer", "-q", "--state", "o.db").code == 0
    answer = flowkit("rerun", "o.db", "last", "--from", "inner", "-q", "--json")
    assert answer.code == 0
    tasks = flowkit("show", "o.db", "--json").json["tasks"]
    assert [task["name"] for task in tasks if task["source"] == "run"] == ["inner.first", "inner.second", "load"]
    assert "has no task 'iner'" in flowkit("rerun", "o.db", "last", "--from", "iner").err


def test_rerun_of_unknown_task_exits_2(recorded, flowkit):
    answer = flowkit("rerun", recorded, "last", "--from", "lod")
    assert answer.code == 2
    assert "has no task 'lod' (did you mean 'load'?)" in answer.err


def test_rerun_with_other_pipeline_exits_2(recorded, folder, flowkit):
    (folder / "other.py").write_text("from flowkit_core import DAG, Task\ndag = DAG('other', tasks=[Task(list)])\n")
    answer = flowkit("rerun", recorded, "last", "--from", "load", "--target", "other")
    assert answer.code == 2
    assert "is one of 'etl', and --target is 'other'" in answer.err


def test_replay_prints_value_of_task(recorded, etl, flowkit):
    (etl / "broken").unlink()
    answer = flowkit("replay", recorded, "last", "load")
    assert (answer.code, answer.out) == (0, "3\n")
    assert flowkit("replay", recorded, "last", "load", "--target", "etl", "--json").json["value"] == 3


def test_replay_of_failing_task_exits_1_with_traceback(recorded, flowkit):
    answer = flowkit("replay", recorded, "last", "load", "--target", "etl", "--json")
    assert (answer.code, answer.json["error"]) == (1, "ValueError: bad <row>")
    assert "in load" in answer.err


def test_replay_without_recorded_input_exits_2(recorded, flowkit):
    answer = flowkit("replay", recorded, "last", "report")
    assert answer.code == 2
    assert "'load' has no recorded result" in answer.err


UNPRINTABLE = """
from flowkit_core import DAG, task

class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")

@task
def odd():
    raise Odd

@task
def empty():
    raise ValueError

dag = DAG("faults", tasks=[odd, empty])
"""


def test_error_without_a_text_is_named_by_its_class(folder, flowkit):
    (folder / "faults.py").write_text(UNPRINTABLE)
    answer = flowkit("run", "faults", "-q", "-e", "serial", "--keep-going", "--state", "runs.db")
    assert answer.code == 1
    assert "  odd: Odd: <unprintable>\n  empty: ValueError\n" in answer.out
    answer = flowkit("run", "faults", "-q", "-e", "serial", "--json")
    assert (answer.json["error"], answer.json["tasks"]["odd"]["error"]) == ("Odd: <unprintable>",) * 2
    assert flowkit("replay", "runs.db", "last", "odd", "--json").json["error"] == "Odd: <unprintable>"


EXITS = """
import sys
from flowkit_core import DAG, task

@task
def leave(): sys.exit(0)

@task
def after(leave): return 1

leave >> after
dag = DAG("exits")
"""


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_task_that_calls_sys_exit_has_failed(folder, flowkit, executor):
    (folder / "exits.py").write_text(EXITS)
    answer = flowkit("run", "exits", "-q", "-e", executor)
    assert answer.code == 1
    assert "exits: failed in " in answer.out
    assert "  leave: SystemExit: 0\n" in answer.out
    assert "in leave" in answer.err


def test_task_that_calls_sys_exit_has_failed_as_json(folder, flowkit):
    (folder / "exits.py").write_text(EXITS)
    answer = flowkit("run", "exits", "-q", "--json")
    assert answer.code == 1
    assert (answer.json["status"], answer.json["error"]) == ("failed", "SystemExit: 0")


def test_supervised_task_that_calls_sys_exit_has_failed(folder):
    (folder / "exits.py").write_text(EXITS)
    command = [sys.executable, "-m", "flowkit_view", "run", "exits", "-q", "--state", "x.db", "--supervise"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "leave: SystemExit: 0" in done.stdout
    assert "restart" not in done.stderr


def test_replay_of_task_that_calls_sys_exit_has_failed(folder, flowkit):
    (folder / "exits.py").write_text(EXITS)
    flowkit("run", "exits", "-q", "--state", "x.db")
    answer = flowkit("replay", "x.db", "last", "leave", "--json")
    assert (answer.code, answer.json["error"]) == (1, "SystemExit: 0")


def test_module_that_calls_sys_exit_has_failed(folder, flowkit):
    (folder / "exits.py").write_text(EXITS + "sys.exit(0)\n")
    answer = flowkit("run", "exits", "-q")
    assert answer.code == 1
    assert "SystemExit: 0" in answer.err


def test_duration_of_a_run_is_that_of_its_last_execution_everywhere(etl, flowkit):
    (etl / "broken").touch()
    assert flowkit(*RUN, "-q", "--state", "d.db").code == 1
    (etl / "broken").unlink()
    printed = flowkit(*RUN, "-q", "--state", "d.db", "--resume", "--json").json
    shown, (listed,) = flowkit("show", "d.db", "--json").json, flowkit("runs", "d.db", "--json").json
    last = shown["executions"][-1]
    seconds = (datetime.fromisoformat(last["ended"]) - datetime.fromisoformat(last["started"])).total_seconds()
    assert printed["duration"] == shown["duration"] == listed["duration"] == pytest.approx(seconds)
    assert printed["resumes"] == shown["resumes"] == listed["resumes"] == 1
    for command in ("show", "runs"):
        assert " (execution 2)" in flowkit(command, "d.db").out


def test_resumed_run_prints_the_number_of_its_execution(etl, flowkit):
    (etl / "broken").touch()
    assert "(execution" not in flowkit(*RUN, "-q", "--state", "d.db").out
    (etl / "broken").unlink()
    assert " (execution 2): 3 succeeded" in flowkit(*RUN, "-q", "--state", "d.db", "--resume").out


@pytest.mark.parametrize("command", [["run"], ["graph"], ["check"], ["plan"]])
@pytest.mark.parametrize("target", ["job", "job.py", "job:dag", "caller:dag"])
def test_module_whose_import_runs_a_pipeline_exits_2_without_running_it(folder, flowkit, command, target):
    source = """
        from pathlib import Path
        from flowkit_core import DAG, task

        @task
        def load():
            Path("loaded").touch()

        dag = DAG("job", tasks=[load])

        def main():
            try:
                dag.run()
            except Exception:
                pass

        main()
    """
    (folder / "job.py").write_text(textwrap.dedent(source))
    (folder / "caller.py").write_text("from job import dag\n")
    (folder / "runs.db").touch()
    answer = flowkit(*command, target, *(["runs.db"] if command == ["plan"] else []))
    assert (answer.code, answer.out) == (2, "")
    place = f"{folder / 'job.py'}:17"
    assert f"runs a pipeline, by the statement at {place}, and a command imports a module only to find" in answer.err
    assert not (folder / "loaded").exists()


def test_function_that_runs_a_pipeline_may_return_one(folder, flowkit):
    source = """
        from flowkit_core import DAG, Task

        def make():
            name = DAG("names", tasks=[Task(lambda: "made", name="name")]).run("serial")["name"]
            return DAG(name, tasks=[Task(lambda: 1, name="one")])
    """
    (folder / "job.py").write_text(textwrap.dedent(source))
    assert flowkit("run", "job:make", "-q").out.startswith("made: succeeded")


@pytest.mark.skipif(sys.platform == "win32", reason="platform: a shell of POSIX")
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", ">/dev/full"])
@pytest.mark.parametrize("options", [[], ["--json"], ["--supervise"]])
def test_closed_or_full_standard_streams_do_not_change_the_exit_code(etl, redirection, options):
    def call(*arguments):
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "flowkit_view", *arguments]
        return subprocess.run(shell, timeout=120, check=False, capture_output=True, text=True)

    source = (etl / "etl.py").read_text()
    (etl / "etl.py").write_text(source.replace('print("extracting")', "pass"))  # a task that cannot print has failed
    assert call(*RUN, "--state", "runs.db", *options).returncode == 0
    answer = call("runs", "runs.db")
    assert answer.returncode == 0
    full = "flowkit: standard output cannot be written: OSError"
    assert answer.stderr.startswith(full if redirection == ">/dev/full" else "")
    assert "Traceback" not in answer.stderr
