"""Notes on exceptions that are raised because a worker process does not have a global of the caller."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent

import pytest
from subprocess_harness import SECONDS

pytestmark = pytest.mark.slow

TASKS = """
from flowkit_core import DAG, task
import settings

client = None
client_in_use = None
TABLES = {}
config = settings.Config()


class Client:
    def query(self):
        return 1


def helper():
    return connection


@task
def name():
    return connection

@task
def name_in_helper():
    return helper()

@task
def name_in_other_module():
    return settings.read()

@task
def name_as_cause():
    try:
        connection
    except NameError as error:
        raise ValueError("no connection") from error

@task
def builtin():
    return _("text")

@task
def attribute_of_module():
    return settings.region

@task
def name_to_import():
    from settings import region

@task
def attribute_of_none():
    return client.query()

@task
def item_of_none():
    return client[0]

@task
def none_in_other_module():
    return settings.client.query()

@task
def attribute_of_object():
    return config.region

@task
def key():
    return TABLES["orders"]

@task
def misspelt():
    return conection

@task
def local():
    print(connection)
    connection = 1

@task
def free():
    def inner():
        return connection
    if False:
        connection = 1
    return inner()

@task
def builtin_of_module():
    return settings.len

@task
def own_error():
    raise NameError("name 'connection' is not defined")

@task
def other_key():
    return TABLES["customers"]

tasks = [thing for thing in list(globals().values()) if hasattr(thing, "upstream")]


def setup():
    global connection, client
    import builtins
    connection = client = settings.client = Client()
    settings.region = config.region = "eu"
    TABLES["orders"] = 1
    builtins._ = str


def main():
    setup()
    results = DAG("all", tasks=tasks).run("process", fail_fast=False, raise_on_failure=False)
    show(results)


def show(results):
    import json
    notes = {}
    for name, error in results.failed.items():
        error = error.__cause__ if name == "name_as_cause" else error
        notes[name] = [note for note in getattr(error, "__notes__", ()) if "failed on" not in note]
    print(json.dumps(notes))
"""
SETTINGS = """
client = None

class Config:
    pass

def read():
    return region
"""
GUARD = "\nif __name__ == '__main__':\n    main()\n"
MISSING = {
    "name": "'connection' is a global of {owner} in the process that called run(), but not in the worker",
    "name_in_helper": "'connection' is a global of {owner} in",
    "name_in_other_module": "'region' is a global of module 'settings' in",
    "name_as_cause": "'connection' is a global of {owner} in",
    "builtin": "'_' was added to the module builtins in",
    "attribute_of_module": "'region' is a global of module 'settings' in",
    "name_to_import": "'region' is a global of module 'settings' in",
    "attribute_of_none": "the global 'client' of {owner} is None in the worker, but of type Client in",
    "item_of_none": "the global 'client' of {owner} is None in the worker, but of type Client in",
    "none_in_other_module": "the global 'client' of module 'settings' is None in the worker, but of type Client in",
    "attribute_of_object": "the global 'config' of {owner} has the attribute 'region' in",
    "key": "the global 'TABLES' of {owner} has the key 'orders' in",
}
UNRELATED = ("misspelt", "local", "free", "builtin_of_module", "own_error", "other_key")


@pytest.fixture
def notes(tmp_path):
    """Return a function that runs a script, and returns the notes of each failed task, without that on attempts."""

    def run(source, **modules):
        for name, text in {"settings": SETTINGS, **modules}.items():
            (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / "script.py").write_text(dedent(source))
        command = [sys.executable, "script.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.stdout, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.mark.parametrize("owner", ["the script", "module 'jobs'"])
def test_error_of_task_that_lacks_a_global_of_the_caller_says_why(notes, owner):
    """For every kind of error, in scripts and in imported modules; other errors have no such note."""
    if owner == "the script":
        (found,) = notes(TASKS + GUARD)
    else:
        (found,) = notes("import jobs\n" + GUARD.replace("main()", "jobs.main()"), jobs=TASKS)
    for name, words in MISSING.items():
        (note,) = found.pop(name)
        assert note.startswith("flowkit: " + words.format(owner=owner))
        if name == "builtin":
            assert note.endswith(f"add it at the top level of {owner} too")
        else:
            assert "main()" in note
            assert (
                "Pass it as a parameter with run(params=...), make it in the task, or set it at the top level" in note
            )
    assert found == {name: [] for name in UNRELATED}


def test_error_of_task_that_lacks_a_global_set_under_the_guard_names_the_line(notes):
    source = TASKS + "\nif __name__ == '__main__':\n    connection = 1\n" + GUARD
    line = len(source.splitlines()) - 3
    (found,) = notes(
        source.replace("    global connection, client", "    global client").replace("connection = c", "c")
    )
    assert f"line {line}, which sets it, is under if __name__ == '__main__'" in found["name"][0]


def test_error_of_task_that_lacks_a_global_set_after_the_first_run_names_the_line(notes):
    """The global is read by eval(), which is not noticed before the task runs."""
    source = """
    from flowkit_core import DAG, task

    @task
    def dynamic():
        return eval("connection")

    def run():
        results = DAG("late", tasks=[dynamic]).run("process", raise_on_failure=False)
        print(__import__("json").dumps({"dynamic": results.failed["dynamic"].__notes__}))

    run()
    connection = 1
    run()
    """
    first, second = notes(source)
    assert len(first["dynamic"]) == 1
    assert (
        "line 13, which sets it, is not executed in workers: they execute the script up to its first run()"
        in (second["dynamic"][0])
    )


@pytest.mark.forks
def test_forked_worker_has_the_globals_that_main_has_set(notes):
    source = """
    from flowkit_core import DAG, Task

    def main():
        global connection
        connection = 1
        print(DAG("fork", tasks=[Task(lambda: connection, name="task")]).run("process")["task"])

    main()
    """
    assert notes(source) == [1]
