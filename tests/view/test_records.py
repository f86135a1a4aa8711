"""`flowkit runs`, `show`, `why`, `diff` and `gc`."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial

import pytest


def test_runs_lists_newest_first(recorded, flowkit):
    lines = flowkit("runs", recorded).out.splitlines()
    assert lines[0].split()[:4] == ["run", "pipeline", "status", "started"]
    assert [line.split()[2] for line in lines[1:]] == ["failed", "succeeded"]
    assert lines[1].endswith("day=2026-11-29")


def test_runs_as_json(recorded, flowkit):
    run, _ = flowkit("runs", recorded, "--json").json
    assert {"run_id", "pipeline", "status", "params", "started", "ended"} <= {*run}
    assert (run["pipeline"], run["status"], run["params"]) == ("etl", "failed", {"day": "2026-11-29"})
    assert run["counts"] == {"succeeded": 1, "failed": 1, "upstream_failed": 1}


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--failed"], 1),
        (["--status", "succeeded"], 1),
        (["--pipeline", "etl"], 2),
        (["--limit", "1"], 1),
        (["--limit", "0"], 2),
        (["--since", "1h"], 2),
        (["--since", "2099-01-01"], 0),
    ],
)
def test_runs_are_selected(recorded, flowkit, options, count):
    assert len(flowkit("runs", recorded, "--json", *options).json) == count


def test_runs_without_match_says_so(recorded, flowkit):
    assert flowkit("runs", recorded, "--status", "running")[:2] == (0, "no such runs are recorded\n")


def test_show_prints_task_table(recorded, flowkit):
    answer = flowkit("show", recorded)
    assert answer.code == 0
    assert "parameters: day=2026-11-29" in answer.out
    line = next(line for line in answer.out.splitlines() if line.startswith("load"))
    assert line.split()[:3] == ["load", "failed", "2"]
    assert line.endswith("ValueError: bad <row> (etl.py:16)")


def test_show_has_critical_path_usual_durations_and_changes(recorded, flowkit):
    first = flowkit("runs", recorded, "--json").json[1]["run_id"]
    lines = flowkit("show", recorded).out.splitlines()
    assert "usually" in lines[4].split()
    (path,) = [line for line in lines if line.startswith("critical path: ")]
    assert re.match(r"critical path: extract \(.*\) → load \(.*\) take .* of .*\.$", path)
    (title,) = [number for number, line in enumerate(lines) if line.startswith(f"changed since run {first} of ")]
    assert lines[title].endswith(", which succeeded:")
    assert lines[title + 1 : title + 4] == [
        "  parameter day: 2026-11-28 → 2026-11-29",
        "  task load: succeeded → failed",
        "  task report: succeeded → upstream failed",
    ]


def test_show_of_many_tasks_has_the_failed_and_the_slowest_ones(folder, flowkit):
    (folder / "many.py").write_text(
        "from functools import partial\n"
        "from flowkit_core import DAG, Task\n"
        "def work(number):\n    if number == 77: raise ValueError('bad')\n"
        "dag = DAG('many', tasks=[Task(partial(work, number), name=f'part {number}') for number in range(150)])\n"
    )
    assert flowkit("run", "many", "-q", "-k", "-e", "serial", "--state", "runs.db").code == 1
    out = flowkit("show", "runs.db").out
    assert re.search("^part 77 +failed .* ValueError: bad", out, re.MULTILINE)
    shown = out.count("\npart ")
    assert shown in (20, 21)  # the failed one may be one of the slowest
    assert f"\nand {150 - shown} more tasks, which --all shows\n" in out
    out = flowkit("show", "runs.db", "--all").out
    assert (out.count("\npart "), "more tasks" in out) == (150, False)
    assert len(flowkit("show", "runs.db", "--json").json["tasks"]) == 150


def test_show_of_first_run_compares_with_nothing(recorded, flowkit):
    out = flowkit("show", recorded, "last~1").out
    assert "critical path: " in out
    assert "changed since" not in out
    assert "usually" not in out
    run = flowkit("show", recorded, "last~1", "--json").json
    assert (run["previous"], run["changes"], run["tasks"][0]["usual_duration"]) == (None, [], None)


def test_show_as_json_has_critical_path_and_changes(recorded, flowkit):
    last, first = flowkit("runs", recorded, "--json").json
    run = flowkit("show", recorded, "--json").json
    assert (run["run_id"], run["previous"]) == (last["run_id"], first["run_id"])
    assert run["critical_path"] == ["extract", "load"]
    assert run["changes"][1] == "task load: succeeded → failed"
    first = flowkit("show", recorded, "last~1", "--json").json
    assert [task["usual_duration"] for task in run["tasks"]] == [task["duration"] for task in first["tasks"]]


def test_show_has_the_exception_of_an_attempt_that_was_repeated(folder, flowkit):
    (folder / "flaky.py").write_text(
        "from flowkit_core import DAG, current, task\n"
        "@task(retries=1, delay=0)\n"
        "def fetch():\n    if current().attempt == 1: raise ConnectionError('reset')\n"
        "dag = DAG('flaky')\n"
    )
    assert flowkit("run", "flaky", "-q", "--state", "runs.db").code == 0
    assert flowkit("show", "runs.db").out.splitlines()[4].endswith("attempt 1 failed: ConnectionError: reset")


def test_show_as_json_has_attempts_and_executions(recorded, flowkit):
    run = flowkit("show", recorded, "--json").json
    assert [task["name"] for task in run["tasks"]] == ["extract", "load", "report"]
    assert [attempt["outcome"] for attempt in run["tasks"][1]["attempts"]] == ["failed", "failed"]
    assert run["tasks"][1]["error"]["type"] == "ValueError"
    assert run["executions"][0]["outcome"] == "failed"


def test_run_by_id_prefix_and_position(recorded, flowkit):
    last, first = [run["run_id"] for run in flowkit("runs", recorded, "--json").json]
    for text, found in [(first, first), (first[:6], first), ("last", last), ("last~1", first)]:
        assert flowkit("show", recorded, text, "--json").json["run_id"] == found


def test_why_of_task_that_did_not_run_shows_the_failure_upstream(recorded, flowkit):
    answer = flowkit("why", recorded, "report")
    assert answer.code == 0
    assert "report: upstream failed in run " in answer.out
    assert "load, attempt 2: failed in " in answer.out
    assert "load raised ValueError: bad <row>" in answer.out
    assert 'raise ValueError("bad <row>")' in answer.out
    (report,) = flowkit("why", recorded, "report", "--json").json
    causes = report["caused_by"]
    assert [cause["name"] for cause in causes] == ["load"]


def test_why_without_task_explains_the_failed_ones(recorded, flowkit):
    answer = flowkit("why", recorded)
    assert answer.code == 0
    assert answer.out.startswith("load: failed in run ")
    assert "load raised ValueError: bad <row>" in answer.out
    assert [task["name"] for task in flowkit("why", recorded, "--json").json] == ["load"]


def test_why_of_run_without_failures_says_so(etl, flowkit):
    assert flowkit("run", "etl:dag", "-q", "-p", "day=2026-11-28", "--state", "runs.db").code == 0
    answer = flowkit("why", "runs.db")
    assert answer.code == 0
    assert answer.out.startswith("no task of run ")
    assert answer.out.endswith(" of 'etl' failed; its status is succeeded\n")
    assert flowkit("why", "runs.db", "--json").json == []


KILLED = """
import os, signal
from flowkit_core import DAG, task

@task
def extract(): return 1

@task
def train(extract): os.kill(os.getpid(), signal.SIGKILL)

@task
def report(train): return train

extract >> train >> report
dag = DAG("killed")
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX")
def test_tasks_that_may_have_been_running_when_the_process_died_are_named(folder, flowkit):
    (folder / "killed.py").write_text(KILLED)
    command = [sys.executable, "-m", "flowkit_view", "run", "killed", "-q", "-e", "serial", "--state", "runs.db"]
    assert subprocess.run(command, check=False).returncode == -9
    text = "may have been running when the process ended"
    lines = {line.split()[0]: line for line in flowkit("show", "runs.db").out.splitlines() if line}
    assert (text in lines["train"], text in lines["report"], text in lines["extract"]) == (True, False, False)
    assert text in flowkit("why", "runs.db", "train").out
    assert flowkit("why", "runs.db").out.splitlines()[1:] == [f"train: {text}"]
    assert [task["name"] for task in flowkit("why", "runs.db", "--json").json] == ["train"]
    tasks = flowkit("show", "runs.db", "--json").json["tasks"]
    assert [(task["name"], task["may_be_running"]) for task in tasks] == [
        ("extract", False),
        ("train", True),
        ("report", False),
    ]


def test_diff_compares_the_last_two_runs(recorded, flowkit):
    assert flowkit("diff", recorded).out == flowkit("diff", recorded, "last~1", "last").out
    assert "no difference in parameters, tasks, " in flowkit("diff", recorded, "last").out


def test_diff_names_what_has_changed(recorded, flowkit):
    answer = flowkit("diff", recorded, "last~1", "last")
    assert answer.code == 0
    assert "parameter day: 2026-11-28 → 2026-11-29" in answer.out
    assert "task load: succeeded → failed" in answer.out
    found = flowkit("diff", recorded, "last~1", "last", "--json").json
    assert found["states"]["load"] == ["succeeded", "failed"]
    assert found["params"]["day"] == ["2026-11-28", "2026-11-29"]


def test_gc_deletes_old_runs(recorded, flowkit):
    assert flowkit("gc", recorded)[:2] == (0, "deleted 0 runs and 0 files of results (0 bytes)\n")
    assert flowkit("gc", recorded, "--older-than", "0s", "--json").json["runs"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "runs.db", "nope"], "there is no run 'nope'"),
        (["show", "runs.db", "last~7"], "there is no run 'last~7': 2 runs are recorded"),
        (["show", "runs.db", "--pipeline", "x"], "--pipeline 'x': no run of it is recorded; there are runs of etl"),
        (["runs", "runs.db", "--pipeline", "elt"], "--pipeline 'elt': no run of it is recorded (did you mean 'etl'?)"),
        (
            ["runs", "runs.db", "--failed", "--status", "failed"],
            "argument --status: not allowed with argument --failed",
        ),
        (["gc", "runs.db", "--older-than", "90"], "'90' has no unit: write 90d for days, 90h for hours, or 90s for"),
        (["runs", "runs.db", "--since", "3"], "--since '3' has no unit: write 3d for days"),
        (["report", "runs.db", "-o", "run.pdf"], "-o 'run.pdf': a report is HTML; name a file that ends in .html"),
        (
            ["run", "etl", "-p", "day=2026-11-28", "--report", "run.pdf"],
            "--report 'run.pdf': a report is HTML; name a file that ends in .html",
        ),
        (["why", "runs.db", "lod"], "has no task 'lod' (did you mean 'load'?)"),
        (["runs", "missing.db"], "there is no file 'missing.db'"),
        (["runs", "etl.py"], "'etl.py' is not a file of recorded runs, such as runs.db"),
        (["runs", "runs.db", "--since", "monday"], "--since 'monday' is neither a duration, such as 7d, nor a date"),
        (["gc", "runs.db", "--older-than", "old"], "'old' is not a duration"),
        (["gc", "runs.db", "--keep", "-1"], "'-1' is not an integer of at least 0"),
    ],
)
def test_wrong_arguments_exit_2(recorded, flowkit, arguments, message):
    answer = flowkit(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_run_of_another_pipeline_is_named(etl, flowkit):
    source = "from flowkit_core import DAG, Task\ndag = DAG('other', tasks=[Task(list, name='call')])\n"
    (etl / "other.py").write_text(source)
    assert flowkit("run", "etl:dag", "-q", "-p", "day=2026-11-28", "--state", "runs.db").code == 0
    assert flowkit("run", "other", "-q", "--state", "runs.db").code == 0
    other, first = [run["run_id"] for run in flowkit("runs", "runs.db", "--json").json]
    message = f"run {first} is one of 'etl', and not of --pipeline 'other'"
    assert message in flowkit("show", "runs.db", first[:8], "--pipeline", "other").err
    assert flowkit("run", "etl:dag", "-q", "-p", "day=2026-11-29", "--state", "runs.db").code == 0
    compared = [run["run_id"] for run in flowkit("diff", "runs.db", "--json").json["runs"]]
    assert (compared[0], other in compared) == (first, False)


@pytest.mark.parametrize(
    ("arguments", "first_line"),
    [
        (["why", "last~1", "load"], "load: succeeded in run {first} of 'etl'"),
        (["why", "load", "last~1"], "load: succeeded in run {first} of 'etl'"),
        (["why", "last~1"], "no task of run {first} of 'etl' failed; its status is succeeded"),
        (["logs", "extract", "last~1"], "no log lines of task 'extract' of run {first} are recorded"),
        (["logs", "extract"], "no log lines of task 'extract' of run {last} are recorded"),
        (["logs", "extract", "--level", "info"], "no log lines of task 'extract' of run {last} are recorded"),
    ],
)
def test_run_and_task_may_be_in_any_order(recorded, flowkit, arguments, first_line):
    last, first = [run["run_id"] for run in flowkit("runs", recorded, "--json").json]
    with closing(sqlite3.connect(recorded)) as database, database:
        database.execute("DELETE FROM logs")
    command, *others = arguments
    answer = flowkit(command, recorded, *others)
    assert answer.code == 0
    assert answer.out.startswith(first_line.format(first=first, last=last))


def test_why_has_the_exceptions_of_earlier_attempts(folder, flowkit):
    (folder / "flaky.py").write_text(
        "from flowkit_core import DAG, current, task\n"
        "@task(retries=2, delay=0)\n"
        "def fetch():\n    if current().attempt < 3: raise ConnectionError(f'reset {current().attempt}')\n"
        "@task(retries=1, delay=0)\n"
        "def load(fetch):\n    raise OSError(f'full {current().attempt}')\n"
        "fetch >> load\n"
        "dag = DAG('flaky')\n"
    )
    assert flowkit("run", "flaky", "-q", "--state", "runs.db").code == 1
    lines = flowkit("why", "runs.db", "fetch").out.splitlines()
    assert lines[2::2] == ["    it raised ConnectionError: reset 1", "    it raised ConnectionError: reset 2"]
    out = flowkit("why", "runs.db", "load").out
    assert (out.count("it raised OSError: full 1"), out.count("OSError: full 2")) == (1, 2)
    assert flowkit("report", "runs.db", "-o", "run.html").code == 0
    text = (folder / "run.html").read_text("utf-8")
    assert '<p class="quiet">attempt 1 failed: OSError: full 1</p>' in text
    assert "attempt 1 failed: ConnectionError: reset 1; attempt 2 failed: ConnectionError: reset 2" in text


def test_characters_that_the_output_lacks_are_replaced(recorded):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "flowkit_view"]
    run = partial(subprocess.run, capture_output=True, check=True, env=environment)
    assert b"extract" in run([*command, "show", recorded]).stdout
    assert (
        json.loads(run([*command, "show", recorded, "--json"]).stdout)["changes"][1] == "task load: succeeded → failed"
    )


def test_missing_file_is_not_created(folder, flowkit):
    assert flowkit("runs", "missing.db").code == 2
    assert list(folder.iterdir()) == []


def test_names_are_printed_without_terminal_codes(folder, flowkit):
    (folder / "hostile.py").write_text(
        "from flowkit_core import DAG, Task\n"
        "def fail():\n    raise ValueError('\\x1b[31m[red]')\n"
        "dag = DAG('\\x1b[2J', tasks=[Task(fail, name='[bold]\\x1b]0;title')])\n"
    )
    assert flowkit("run", "hostile", "-q", "--state", "h.db").code == 1
    for command in (["runs"], ["show"], ["why"]):
        arguments = [*command, "h.db", *(["[bold]\x1b]0;title"] if command == ["why"] else [])]
        answer = flowkit(*arguments)
        assert (answer.code, "\x1b" in answer.out) == (0, False)
    assert r"[bold]\x1b]0;title" in flowkit("show", "h.db").out


def test_message_about_one_recorded_run_is_in_the_singular(etl, flowkit):
    assert flowkit("run", "etl:dag", "-q", "-p", "day=2026-11-28", "--state", "runs.db").code == 0
    assert "there is no run 'last~1': 1 run is recorded\n" in flowkit("show", "runs.db", "last~1").err


@pytest.mark.parametrize("command", ["show", "why", "report", "check", "plan", "graph", "run"])
def test_name_with_a_newline_is_escaped(folder, flowkit, command):
    source = (
        "from flowkit_core import DAG, Task\nbad = Task(lambda: 1 / 0, name='a\\nb')\ndag = DAG('x\\ny', tasks=[bad])\n"
    )
    (folder / "odd.py").write_text(source)
    flowkit("run", "odd:dag", "-q", "--state", "runs.db")
    arguments = {"check": ["odd:dag"], "plan": ["odd:dag", "runs.db"], "graph": ["odd:dag", "-o", "g.svg"]}
    arguments["run"] = ["odd:dag", "-q"]
    lines = flowkit(command, *arguments.get(command, ["runs.db"])).out.splitlines()
    assert lines
    assert not [line for line in lines if line.startswith(("y", "b"))]
