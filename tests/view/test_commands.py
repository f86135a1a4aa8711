"""What holds for all commands: exit codes, JSON of a documented shape, examples that parse, and errors that help."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest

import flowkit_view.server
from flowkit_view.command_line.parser import make_parser

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "command-line.md"
DAY = ["-p", "day=2026-11-29"]

# A call of each command that answers, in a folder with the fixture `answered`.
CALLS = {
    "run": ["etl:dag", "-q", *DAY],
    "graph": ["etl:dag"],
    "check": ["etl:dag", *DAY],
    "plan": ["etl:dag", "runs.db", *DAY],
    "rerun": ["runs.db", "last", "--from", "load", "-q"],
    "replay": ["runs.db", "last~1", "report"],
    "runs": ["runs.db"],
    "show": ["runs.db"],
    "why": ["runs.db", "report"],
    "logs": ["runs.db"],
    "diff": ["runs.db"],
    "watch": ["runs.db"],
    "serve": ["runs.db", "--port", "0"],
    "report": ["runs.db", "-o", "run.html"],
    "gc": ["runs.db"],
}
WITH_FILE = [name for name, arguments in CALLS.items() if "runs.db" in arguments]
WITH_TARGET = [name for name, arguments in CALLS.items() if "etl:dag" in arguments]

# Calls with a wrong run, task or target, and what the message says.
UNKNOWN_RUN = {
    "rerun": ["runs.db", "nope", "--from", "load"],
    "replay": ["runs.db", "nope", "load"],
    "show": ["runs.db", "nope"],
    "why": ["runs.db", "load", "nope"],
    "logs": ["runs.db", "nope"],
    "diff": ["runs.db", "last", "nope"],
    "watch": ["runs.db", "nope"],
    "report": ["runs.db", "nope"],
}
UNKNOWN_TASK = {
    "rerun": ["runs.db", "last", "--from", "lod"],
    "replay": ["runs.db", "last", "lod"],
    "why": ["runs.db", "lod"],
    "logs": ["runs.db", "last", "lod"],
}


@pytest.fixture
def answered(recorded, etl, monkeypatch):
    """The file `runs.db` of a pipeline that works again; `flowkit serve` is stopped at once."""

    def stop(server):
        raise KeyboardInterrupt

    (etl / "broken").unlink()
    monkeypatch.setattr(flowkit_view.server.RunServer, "serve_forever", stop)
    return etl


def documented():
    """Return the keys of the JSON of each command, by the table of the documentation: those of a list in a list."""
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (an? \w+)[^|]*\| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {name: (kind, re.findall(r"`(\w+)`", keys)) for name, kind, keys in rows}


def test_all_commands_are_called_here():
    (commands,) = make_parser(print)._subparsers._group_actions
    assert {*commands.choices} == {*CALLS, "completion"}
    assert {*documented()} == {*CALLS}


@pytest.mark.parametrize("command", CALLS)
def test_command_that_answers_exits_0(answered, flowkit, command):
    answer = flowkit(command, *CALLS[command])
    assert answer.code == 0
    assert answer.out.strip()
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("command", CALLS)
def test_json_has_the_documented_keys_and_nothing_else_is_on_standard_output(answered, flowkit, command):
    answer = flowkit(command, *CALLS[command], "--json")
    kind, keys = documented()[command]
    assert answer.code == 0
    found = json.loads(answer.out)
    assert type(found) is {"a list": list, "an object": dict}[kind]
    for each in found if type(found) is list else [found]:
        assert [*each] == keys


def test_json_of_check_has_the_documented_keys_of_a_problem(folder, flowkit):
    alarm = "from flowkit_core import DAG, task\n@task(trigger='one_failed')\ndef alert(): pass\ndag = DAG('alarm')\n"
    (folder / "alarm.py").write_text(alarm)
    answer = flowkit("check", "alarm", "--json")
    assert (answer.code, [[*each] for each in answer.json]) == (1, [documented()["check"][1]])


@pytest.mark.parametrize("command", [*CALLS, "completion"])
def test_example_of_help_is_a_valid_command(flowkit, command):
    example = flowkit(command, "--help").out.partition("example:\n")[2].strip()
    words = shlex.split(example.partition(" > ")[0])
    assert words[:2] == ["flowkit", command]
    options = make_parser(print).parse_args(words[1:])
    assert isinstance(options, argparse.Namespace)


@pytest.mark.parametrize("command", WITH_FILE)
@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_missing_file_exits_2(etl, flowkit, command, json_option):
    answer = flowkit(command, *CALLS[command], *json_option)
    assert (answer.code, answer.out) == (2, "")
    assert f"flowkit {command}: there is no file 'runs.db'" in answer.err
    assert not (etl / "runs.db").exists()


@pytest.mark.parametrize("command", UNKNOWN_RUN)
def test_unknown_run_exits_2(recorded, flowkit, command):
    answer = flowkit(command, *UNKNOWN_RUN[command])
    assert (answer.code, answer.out) == (2, "")
    assert f"flowkit {command}: there is no run 'nope': flowkit runs lists the recorded runs" in answer.err


@pytest.mark.parametrize("command", UNKNOWN_TASK)
def test_unknown_task_exits_2_and_names_a_similar_one(recorded, flowkit, command):
    answer = flowkit(command, *UNKNOWN_TASK[command])
    assert (answer.code, answer.out) == (2, "")
    assert "has no task 'lod' (did you mean 'load'?)" in answer.err


@pytest.mark.parametrize("command", [*WITH_TARGET, "rerun", "replay"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("etll:dag", "no module 'etll': run it where etll.py is, or give --path"),
        ("etl:dog", "module 'etl' has no 'dog' (did you mean 'dag'?)"),
        ("etl.py:extract", "'etl.py:extract' is of type Task, and not a pipeline"),
        ("none.py:dag", "there is no file 'none.py'"),
    ],
)
def test_unknown_target_exits_2(answered, flowkit, command, target, message):
    given = CALLS[command]
    if command in WITH_TARGET:
        arguments = [target if each == "etl:dag" else each for each in given]
    else:
        arguments = [*given, "--target", target]
    answer = flowkit(command, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


@pytest.mark.parametrize("command", [*CALLS, "completion"])
def test_unknown_option_exits_2(flowkit, command):
    answer = flowkit(command, *CALLS.get(command, ["bash"]), "--no-such-option")
    assert (answer.code, answer.out) == (2, "")
    assert "--no-such-option" in answer.err


def test_unknown_command_exits_2(flowkit):
    answer = flowkit("shwo")
    assert (answer.code, answer.out) == (2, "")
    assert "shwo" in answer.err
