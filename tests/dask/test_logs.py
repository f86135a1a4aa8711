"""Log records of tasks on a cluster: handled in the process of the run, and kept in its record. What tasks print."""

from __future__ import annotations

import logging
import subprocess
import sys
from functools import partial

import dask_tasks as tasks
import pytest

from flowkit_core import DAG, Task
from flowkit_dask import DaskExecutor
from flowkit_state import StateManager


def run_logged(client, **options):
    return DAG("logged", tasks=[Task(tasks.log_all, name="speak")]).run(DaskExecutor(client), **options)


def of_task(records):
    return [record for record in records if record.name in ("some.library", "flowkit.task")]


def test_records_of_tasks_reach_handlers_with_run_and_task(client, caplog):
    results = run_logged(client)
    found = of_task(caplog.records)
    assert [(record.levelname, record.getMessage()) for record in found] == [
        ("WARNING", "library 0"),
        ("ERROR", "task 0"),
    ]
    assert found[0].size == 0
    for record in found:
        assert (record.task, record.attempt, record.pipeline) == ("speak", 1, "logged")
        assert record.run_id == results.run_id


def test_records_below_the_level_of_a_logger_here_are_made_there(client, caplog):
    before = client.run(tasks.levels, "some.library", "")
    with caplog.at_level(logging.DEBUG, "some.library"):
        run_logged(client)
    assert [record.getMessage() for record in of_task(caplog.records)] == ["step 0", "library 0", "task 0"]
    assert client.run(tasks.levels, "some.library", "") == before


def test_records_of_elements_have_their_numbers(client, caplog):
    dag = DAG("d", tasks=[Task(tasks.log_all, name="each").map("x")])
    dag.run(DaskExecutor(client), params={"x": range(100)})
    found = [(record.element, record.getMessage()) for record in caplog.records if record.name == "some.library"]
    assert sorted(found) == [(number, f"library {number}") for number in range(100)]


def test_record_of_a_run_has_lines_of_its_tasks(client):
    with StateManager() as state:
        results = run_logged(client, state=state)
        lines = state.logs(results.run_id)
    assert [(line.logger, line.task, line.message) for line in lines] == [
        ("some.library", "speak", "library 0"),
        ("flowkit.task", "speak", "task 0"),
    ]


def test_records_of_a_failing_task_come_before_its_end(client, caplog):
    bad = Task(partial(tasks.log_and_fail, "last words"), name="bad")
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="last words"):
        DAG("d", tasks=[bad]).run(DaskExecutor(client))
    messages = [record.getMessage() for record in caplog.records]
    place = messages.index("last words")
    assert "Starting" in messages[place - 1]
    assert "failed" in messages[place + 1]


SCRIPT = """
import logging
from flowkit_core import DAG, task

@task
def speak():
    print("line\\n" * 100_000 + "printed")
    logging.getLogger("library").warning("warned")

DAG("script", tasks=[speak]).run("dask", max_workers=1)
"""


def test_output_of_local_workers_is_that_of_the_script(cluster, tmp_path):
    """It has more than a pipe can hold. A warning is printed once."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    env = {name: value for name, value in cluster.env.items() if not name.startswith("DASK_")}
    done = subprocess.run([sys.executable, path], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "line\n" * 100_000 + "printed\n"
    assert done.stderr == "warned\n"
