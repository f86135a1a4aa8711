"""Failed elements of a mapped task that has succeeded are seen wherever the task is shown."""

from __future__ import annotations

import logging

import pytest

NUMBERS = """
from flowkit_core import DAG, task

@task
def numbers(zeros: int): return [1] * 3 + [0] * zeros

@task
def halves(number): return 6 // number

@task
def total(halves): return sum(halves)

numbers >> halves.map(errors="drop") >> total
dag = DAG("numbers")
"""
ERROR = "ZeroDivisionError: integer division or modulo by zero"


@pytest.fixture
def dropped(folder, flowkit):
    """The file `n.db` with a run without failed elements and a later one with two."""
    (folder / "pipeline.py").write_text(NUMBERS)
    for zeros in (0, 2):
        assert flowkit("run", "pipeline", "-q", "-p", f"zeros={zeros}", "--state", "n.db").code == 0
    return "n.db"


def test_run_prints_the_first_failure(dropped, flowkit):
    answer = flowkit("run", "pipeline", "-q", "-p", "zeros=2")
    assert answer.code == 0
    assert f"halves: 2 of 5 elements failed; the first is halves[3]: {ERROR}" in answer.out
    assert "elements" not in flowkit("run", "pipeline", "-q", "-p", "zeros=0").out


@pytest.mark.parametrize("options", [[], ["--state", "quiet.db"]])
def test_quiet_run_does_not_print_elements_that_are_left_out(folder, flowkit, monkeypatch, options):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    (folder / "pipeline.py").write_text(NUMBERS)
    assert flowkit("run", "pipeline", "-q", "-p", "zeros=2", *options).err == ""


def test_run_of_failed_task_prints_its_error(dropped, flowkit, folder):
    (folder / "strict.py").write_text(NUMBERS.replace('errors="drop"', ""))
    answer = flowkit("run", "strict", "-q", "-p", "zeros=1", "-e", "serial")
    assert answer.code == 1
    assert f"halves: 1 of 4 elements failed; the first is halves[3]: {ERROR}\n" in answer.out


def test_run_as_json_has_counts(dropped, flowkit):
    tasks = flowkit("run", "pipeline", "-q", "-p", "zeros=1", "--json").json["tasks"]
    assert tasks["halves"]["elements"] == {"counts": {"succeeded": 3, "failed": 1}, "failed": {"3": ERROR}}
    assert tasks["total"]["elements"] is None


def test_runs_says_which_runs_have_failed_elements(dropped, flowkit):
    last, first = flowkit("runs", dropped).out.splitlines()[1:]
    assert "3 succeeded; 2 elements failed" in last
    assert "failed" not in first


def test_show_has_a_column_of_elements(dropped, flowkit):
    assert "3 succeeded, 2 failed" in flowkit("show", dropped).out
    tasks = {task["name"]: task for task in flowkit("show", dropped, "--json").json["tasks"]}
    assert tasks["halves"]["elements"]["counts"] == {"succeeded": 3, "failed": 2}
    assert tasks["halves"]["elements"]["failed"] == {"3": ERROR, "4": ERROR}
    assert tasks["numbers"]["elements"] is None


def test_show_without_mapped_tasks_has_no_such_column(recorded, flowkit):
    assert "elements" not in flowkit("show", recorded).out


def test_why_names_failed_elements(dropped, flowkit):
    text = flowkit("why", dropped, "halves").out
    assert "elements: 3 succeeded, 2 failed" in text
    assert f"halves[4] raised {ERROR}" in text


def test_why_of_many_failed_elements_names_the_first(dropped, flowkit):
    assert flowkit("run", "pipeline", "-q", "-p", "zeros=14", "--state", "n.db").code == 0
    text = flowkit("why", dropped, "halves").out
    assert (text.count(" raised "), "and 4 more elements failed" in text) == (10, True)


def test_why_of_an_element_prints_its_traceback(dropped, flowkit):
    text = flowkit("why", dropped, "halves[3]").out
    assert text.startswith("halves[3]: failed in run ")
    assert f"halves[3] raised {ERROR}" in text
    assert "in halves" in text
    (element,) = flowkit("why", dropped, "halves[3]", "--json").json
    facts = [element[key] for key in ("name", "element", "state", "attempt_count")]
    assert facts == ["halves", 3, "failed", 1]
    assert element["error"]["type"] == "ZeroDivisionError"
    (other,) = flowkit("why", dropped, "halves[0]", "--json").json
    assert other["state"] == "succeeded"
    (task,) = flowkit("why", dropped, "halves", "--json").json
    assert [*task] == [*element] == [*other]


def test_replay_calls_one_element(dropped, flowkit):
    assert flowkit("replay", dropped, "last", "halves[1]").out == "6\n"
    assert flowkit("replay", dropped, "last", "halves[3]", "--json").json["error"] == ERROR
    assert "such as 'halves[3]'" in flowkit("replay", dropped, "last", "halves").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["why", "n.db", "halves[5]"], "has no element 5: it has 5"),
        (["replay", "n.db", "last", "total[0]"], "no elements of task 'total' are recorded"),
        (["why", "n.db", "halvs[0]"], "has no task 'halvs[0]'"),
        (["rerun", "n.db", "last", "--from", "halves[3]"], "write --from 'halves'; flowkit replay calls one element"),
    ],
)
def test_wrong_elements_exit_2(dropped, flowkit, arguments, message):
    answer = flowkit(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_diff_compares_counts(dropped, flowkit):
    assert "elements of halves: 3 succeeded → 3 succeeded, 2 failed" in flowkit("diff", dropped, "last~1", "last").out
    found = flowkit("diff", dropped, "last~1", "last", "--json").json
    assert found["elements"] == {"halves": [{"succeeded": 3}, {"succeeded": 3, "failed": 2}]}
