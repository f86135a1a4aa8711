"""Exceptions of tasks in worker processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.error import HTTPError

import faulty_exceptions
import faulty_tasks as faults
import pytest
from process_checks import formatted, outcome, raised, run
from subprocess_harness import guarded

from flowkit_core import (
    DAG,
    RemoteTaskError,
    Task,
    WorkerDiedError,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "args", "expected"),
    [
        ("TwoArguments", (7, "boom"), ("7: boom",)),
        ("OwnMessage", ("it",), ("no such thing: it",)),
        ("OwnReduce", (1, 2), (1, 2)),
        ("Holder", ("held",), ("held",)),
        ("NoText", (1,), (1,)),
        ("ExitText", (1,), (1,)),
        ("NoAttributes", ("x", 1), ("x", 1)),
        ("NoState", ("x",), ("x",)),
        ("NoReduce", ("x",), ("x",)),
        ("OddText", ("x",), ("x",)),
    ],
)
@guarded
def test_odd_exception_is_raised_with_its_type_and_attributes(executor, kind, args, expected):
    error = outcome(executor, Task(faulty_exceptions.raise_it), params={"kind": kind, "args": args})
    assert type(error) is getattr(faulty_exceptions, kind)
    assert error.args == expected
    if kind == "TwoArguments":
        assert error.code == 7
    if kind == "OwnMessage":
        assert error.name == "it"
    if kind == "OwnReduce":
        assert "a note of the user" in error.__notes__
    if kind == "Holder":
        assert error.number == 7
        assert "lock" in error.__notes__[0]
    if kind not in ("NoText", "ExitText"):
        assert "faulty_exceptions.py" in formatted(error)


@pytest.mark.parametrize(
    ("task", "params"),
    [
        (faulty_exceptions.raise_local, {}),
        (faulty_exceptions.raise_it, {"kind": "NoName", "args": ("x",)}),
        (faulty_exceptions.raise_it, {"kind": "Exotic", "args": None}),
    ],
    ids=["local", "no name", "exotic"],
)
@guarded
def test_unpicklable_exception_is_replaced_by_remote_task_error(executor, task, params):
    if "args" in params:
        params = params | {"args": params["args"] or (os.getpid(),)}
    error = outcome(executor, Task(task), params=params)
    assert isinstance(error, RemoteTaskError)
    assert error.task == task.__name__
    if task is faulty_exceptions.raise_local:
        assert isinstance(error, ValueError)
        assert (error.type_name, error.text) == ("faulty_exceptions.raise_local.<locals>.Local", "from a function")
        assert 'raise Local("from a function")' in error.traceback_text


@guarded
def test_remote_task_error_is_an_instance_of_the_nearest_importable_base_class(executor, tmp_path):
    params = {"path": str(tmp_path / "tries"), "failures": 2}
    task = Task(faults.raise_local_until, retries=2, delay=0, retry_on=ValueError)
    assert outcome(executor, task, params=params) == 3
    params["path"] += "_not"
    error = outcome(executor, task.with_options(retry_on=KeyError), params=params)
    assert isinstance(error, ValueError)
    assert Path(params["path"]).stat().st_size == 1
    error = outcome(executor, Task(faulty_exceptions.raise_local_mixed))
    assert isinstance(error, RemoteTaskError)
    assert isinstance(error, faulty_exceptions.OwnMessage)
    assert not isinstance(error, faulty_exceptions.NoException)


@guarded
def test_exception_with_slots_keeps_picklable_slots(executor):
    error = outcome(executor, Task(faulty_exceptions.raise_slotted), params={"locked": False})
    assert type(error) is faulty_exceptions.Slotted
    assert (error.args, error.code, error.private(), error.note) == (("slotted",), 9, 8, "in the dict")
    assert not hasattr(error, "unset")
    assert not any("not sent from the worker" in note for note in error.__notes__)
    error = outcome(executor, Task(faulty_exceptions.raise_slotted), params={"locked": True})
    assert (error.args, error.code, error.private(), error.note) == (("slotted",), 9, 8, "in the dict")
    assert error.lock is None
    assert "not sent from the worker process, because it cannot be pickled: lock" in error.__notes__[0]


@guarded
def test_exception_whose_pickling_exits_the_process_fails_only_its_task(executor):
    error = outcome(executor, Task(faulty_exceptions.raise_it), params={"kind": "Dying", "args": ("x",)})
    assert (type(error), error.exitcode) == (WorkerDiedError, 5)


@guarded
def test_exception_that_needs_an_unpicklable_attribute_can_be_formatted(executor):
    task = Task(faults.raise_http, retries=2, delay=0, retry_on=lambda error: error.code >= 500)
    results = run(executor, task, raise_on_failure=False)
    error = results.failed["raise_http"]
    assert type(error) is HTTPError
    assert (error.code, error.url, error.reason, hasattr(error, "nothing")) == (503, "http://localhost", "busy", False)
    assert results.attempts == {"raise_http": 3}
    assert (
        "HTTP Error 503: busy\nflowkit: not sent from the worker process, because it cannot be pickled: "
        in formatted(error)
    )


@guarded
def test_note_lists_unpicklable_parts_of_an_exception(executor):
    error = outcome(executor, Task(faulty_exceptions.raise_locked))
    assert type(error) is ValueError
    assert error.args[0] == "locked"
    assert "lock" in error.args[1]
    assert "args[1]" in error.__notes__[0]


@guarded
def test_causes_and_contexts_are_exceptions(executor):
    error = outcome(executor, Task(faulty_exceptions.raise_chain))
    assert type(error) is TypeError
    assert type(error.__context__) is faulty_exceptions.OwnMessage
    assert type(error.__context__.__cause__) is KeyError
    circle = outcome(executor, Task(faulty_exceptions.raise_circle))
    assert (type(circle), circle.args) == (ValueError, ("one",))


@guarded
def test_message_of_20_megabytes_is_complete(executor):
    error = outcome(executor, Task(faulty_exceptions.raise_long))
    assert type(error) is ValueError
    assert len(str(error)) == 20_000_000


@guarded
def test_system_exit_in_a_condition_is_raised(executor):
    with pytest.raises(SystemExit):
        run(executor, Task(faults.ok, when=lambda: sys.exit(3)))


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ("None", []),
        ("5", []),
        ("'text'", []),
        ("('a', 'b')", ["a", "b"]),
        ("['a', Text('b'), 5]", ["a", "b", "5"]),
        ("['a', Bad(), 'c']", ["a", "<unprintable>", "c"]),
    ],
)
@guarded
def test_invalid_notes_are_dropped(executor, notes, expected):
    error = raised(
        executor,
        f"""
        class Text(str):
            pass

        class Bad:
            def __str__(self):
                raise SystemExit("no text")

        error = ValueError("x")
        error.__notes__ = {notes}
        raise error
        """,
    )
    assert (type(error), error.args) == (ValueError, ("x",))
    assert error.__notes__[:-1] == expected
    assert error.__notes__[-1].startswith("flowkit: task 'source' of 'faults' failed")
    assert "Traceback (most recent call last):" in str(error.__cause__)


@pytest.mark.parametrize(
    "odd",
    [
        "class Odd(ValueError):\n    def __getattr__(self, name): raise RuntimeError(name)",
        "class Odd(ValueError):\n    def __getattribute__(self, name): raise RuntimeError(name)",
        "class Odd(ValueError):\n    __dict__ = __cause__ = __notes__ = property(lambda self: 1 / 0)",
        "class Meta(type):\n    def __getattribute__(cls, name): 1 / 0\nclass Odd(ValueError, metaclass=Meta): pass",
    ],
    ids=["getattr", "getattribute", "properties", "metaclass"],
)
@guarded
def test_exception_class_with_failing_attributes_is_replaced(executor, odd):
    error = raised(executor, f"{odd}\nraise Odd('x') from KeyError('reason')")
    assert isinstance(error, ValueError)
    assert isinstance(error, RemoteTaskError)
    assert (error.type_name.rpartition(".")[2], error.text) == ("Odd", "x")
    assert 'File "<string>", line' in error.traceback_text
    assert (type(error.__cause__), error.__cause__.args) == (KeyError, ("reason",))


@guarded
def test_exception_whose_attributes_cannot_be_read_ends_no_worker(executor):
    before, bad = Task(os.getpid, name="before"), Task(faulty_exceptions.raise_it)
    after = Task(os.getpid, name="after", trigger="all_done").after(bad.after(before))
    dag = DAG("odd", tasks=[after], max_workers=1)
    results = dag.run(executor, params={"kind": "Unreadable", "args": ()}, raise_on_failure=False)
    assert results.states == {"before": "succeeded", "raise_it": "failed", "after": "succeeded"}
    assert results["before"] == results["after"] != os.getpid()


@pytest.mark.parametrize(
    ("source", "kind", "expected"),
    [
        ("nothing_here", NameError, {"name": "nothing_here"}),
        ("[].nothing_here", AttributeError, {"name": "nothing_here"}),
        ("import nothing_here", ModuleNotFoundError, {"name": "nothing_here", "path": None}),
        ("from os import nothing_here", ImportError, {"name": "os", "path": os.__file__}),
        ("error = OSError('x')\nerror.filename = 'file'\nraise error", OSError, {"errno": None, "filename": "file"}),
        ("import faulty_tasks\nfaulty_tasks.raise_http()", HTTPError, {"filename": "http://localhost", "errno": None}),
        ("b'\\xff'.decode()", UnicodeDecodeError, {"object": b"\xff", "start": 0, "end": 1}),
        ("compile('a b', 'file', 'exec')", SyntaxError, {"filename": "file", "lineno": 1}),
        ("raise StopIteration(5)", StopIteration, {"value": 5}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@guarded
def test_attributes_of_builtin_exceptions_are_kept(executor, source, kind, expected):
    error = raised(executor, source)
    assert type(error) is kind
    assert {name: getattr(error, name) for name in expected} == expected


@guarded
def test_unpicklable_cause_is_replaced(executor):
    error = raised(
        executor,
        """
        import faulty_tasks

        try:
            try:
                {}["key"]
            except KeyError:
                faulty_tasks.raise_local()
        except ValueError as local:
            raise TypeError("top") from local
        """,
    )
    assert type(error) is TypeError
    assert isinstance(error.__cause__, RemoteTaskError)
    assert isinstance(error.__cause__, ValueError)
    assert 'raise Local("from a function")' in error.__cause__.traceback_text
    assert type(error.__cause__.__context__) is KeyError
