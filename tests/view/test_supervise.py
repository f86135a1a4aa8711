"""`flowkit run --supervise`: restarts after a crash."""

from __future__ import annotations

import sys

import pytest

from flowkit_view.command_line.supervise import supervise


class Process:
    def __init__(self, code):
        self.code = code

    def wait(self):
        return self.code


def trial(codes, max_restarts=3):
    """Supervise processes that end with these codes; return the exit code, and the waits."""
    waits = []
    ends = iter(codes)
    code = supervise(["run"], max_restarts, 20, start=lambda command: Process(next(ends)), sleep=waits.append)
    return code, waits


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_answer_of_command_is_no_crash(code):
    assert trial([code]) == (code, [])


def test_restarts_after_crash_with_growing_waits():
    assert trial([-9, -11, 137, 0]) == (0, [20, 40, 60])


def test_restarts_after_thousands_of_crashes():
    code, waits = trial([-9] * 2000 + [0], max_restarts=2000)
    assert (code, waits[-1]) == (0, 60)


def test_restarts_are_limited(capsys):
    assert trial([-9] * 4) == (1, [20, 40, 60])
    assert "was ended by signal 9; it was restarted 3 times, so it is not restarted again" in capsys.readouterr().err


def test_child_resumes_and_does_not_supervise(etl, flowkit, monkeypatch):
    commands = []
    monkeypatch.setattr(
        "flowkit_view.command_line.pipeline_commands.supervise", lambda command, *_: commands.append(command) or 0
    )
    assert flowkit("run", "--state", "runs.db", "--supervise", "-p", "a=1", "--", "etl:dag").code == 0
    assert commands == [["run", "--state", "runs.db", "--resume", "-p", "a=1", "--", "etl:dag"]]


def test_abbreviated_options_are_refused(etl, flowkit):
    answer = flowkit("run", "etl:dag", "--state", "runs.db", "--superv")
    assert answer.code == 2
    assert "unrecognized arguments: --superv" in answer.err


def test_crashed_run_is_resumed(etl, flowkit):
    source = (etl / "etl.py").read_text()
    crash = "    if not Path('crashed').exists():\n        Path('crashed').touch()\n        os._exit(9)\n"
    (etl / "etl.py").write_text(source.replace("def report(load):\n", f"def report(load):\n{crash}"))
    run = ("run", "etl:dag", "-q", "-p", "day=2026-11-29", "--state", "runs.db")
    answer = flowkit(*run, "--supervise", "--backoff", "0")
    assert answer.code == 0
    assert "ended with exit code 9; restart 1 of 5 in 0 s" in answer.err
    record = flowkit("show", "runs.db", "--json").json
    assert [execution["outcome"] for execution in record["executions"]] == ["interrupted", "succeeded"]
    assert "flowkit_view" in sys.modules
