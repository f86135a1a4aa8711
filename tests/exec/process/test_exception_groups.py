"""Exception groups and chains of exceptions from worker processes."""

from __future__ import annotations

import faulty_exceptions
import faulty_tasks as faults
import pytest
from process_checks import outcome, raised
from subprocess_harness import guarded

from flowkit_core import (
    RemoteTaskError,
    Task,
)

pytestmark = pytest.mark.slow


@guarded
def test_members_of_a_group_keep_type_notes_and_causes(executor):
    error = outcome(executor, Task(faulty_exceptions.raise_group))
    assert (type(error), error.message) == (ExceptionGroup, "several")
    odd, plain, (local,) = *error.exceptions[:2], error.exceptions[2].exceptions
    assert (type(odd), str(odd), odd.code) == (faulty_exceptions.TwoArguments, "7: odd", 7)
    assert (type(plain), str(plain)) == (ValueError, "plain")
    assert [type(member.__cause__) for member in (odd, plain)] == [KeyError, KeyError]
    assert [member.__notes__ for member in (odd, plain)] == [["a note on TwoArguments"], ["a note on ValueError"]]
    assert isinstance(local, RemoteTaskError)
    assert isinstance(local, LookupError)
    assert (local.task, local.text) == ("raise_group", "local")
    assert "faulty_exceptions.py" in str(error.__cause__)


@guarded
def test_shared_members_of_groups_stay_shared(executor):
    error = raised(
        executor,
        """
        error = ValueError("x")
        for level in range(100):
            error = ExceptionGroup(f"level {level}", [error, error])
        raise error
        """,
    )
    for level in reversed(range(100)):
        assert (type(error), error.message) == (ExceptionGroup, f"level {level}")
        first, second = error.exceptions
        assert first is second
        error = first
    assert (type(error), error.args) == (ValueError, ("x",))


@guarded
def test_shared_causes_and_contexts_stay_shared(executor):
    error = raised(
        executor,
        """
        def attempt(left):
            errors = []
            for mirror in ("a", "b"):
                try:
                    raise ConnectionError(mirror)
                except ConnectionError as error:
                    errors.append(error)
            try:
                raise ExceptionGroup(f"{left} left", errors)
            except ExceptionGroup:
                if not left:
                    raise
                attempt(left - 1)

        attempt(50)
        """,
    )
    for left in range(50):
        assert error.message == f"{left} left"
        assert [member.args for member in error.exceptions] == [("a",), ("b",)]
        assert {id(member.__context__) for member in error.exceptions} == {id(error.__context__)}
        error = error.__context__
    text = str(error.__cause__)
    assert [text.count(f": {left} left (2 sub-exceptions)\n") for left in range(51)] == [1] * 51
    assert text.count("During handling of the above exception, another exception occurred:") == 50
    shared = raised(
        executor,
        """
        members = [ValueError("one"), KeyError("two")]
        members[0].__cause__ = members[1].__cause__ = OSError("reason")
        raise ExceptionGroup("both", members)
        """,
    )
    one, two = shared.exceptions
    assert one.__cause__ is two.__cause__
    assert type(one.__cause__) is OSError


@guarded
def test_groups_nested_deeper_than_the_recursion_limit(executor):
    error = raised(
        executor,
        """
        error = ValueError("x")
        for level in range(990):
            error = ExceptionGroup("one of many", [error])
        raise error
        """,
    )
    depth = 0
    while isinstance(error, ExceptionGroup):
        (error,), depth = error.exceptions, depth + 1
    assert (type(error), error.args, depth) == (ValueError, ("x",), 990)


@pytest.mark.parametrize("how", ["deep", "wide", "causes"])
@guarded
def test_note_lists_exceptions_beyond_the_maximum(executor, how):
    error = raised(
        executor,
        f"""
        how = {how!r}
        error = ValueError(0)
        for number in range(1, 3000):
            one = ValueError(number) if how != "deep" else ExceptionGroup(f"number {{number}}", [error])
            one.__cause__ = error if how == "causes" else None
            error = one
        raise error if how != "wide" else ExceptionGroup("wide", [ValueError(number) for number in range(3000)])
        """,
    )
    (note, *listed), found = error.__notes__[0].splitlines(), 1
    if how == "wide":
        assert [member.args for member in error.exceptions] == [(number,) for number in range(len(error.exceptions))]
        found += len(error.exceptions)
    while how == "deep" and isinstance(error, ExceptionGroup):
        (error,), found = error.exceptions, found + 1
    while how == "causes" and error.args[0] in range(3000):
        error, found = error.__cause__, found + 1
    found -= how == "causes"  # the last cause is the traceback
    there = 3001 if how == "wide" else 3000
    assert note == f"flowkit: {there - found} more exceptions belong to this one, too many to be sent from the worker:"
    assert 100 <= found < there
    assert listed[-1] == ("ValueError: 2999" if how == "wide" else "ValueError: 0")


OWN_GROUP = """
class Own(ExceptionGroup):
    __module__ = "faulty_tasks"

    def __new__(cls, code, errors):
        group = super().__new__(cls, f"code {code}", errors)
        group.code = code
        return group

    def __init__(self, code, errors):
        pass
"""


@guarded
def test_group_with_another_signature(executor):
    source = f"{OWN_GROUP}\nerror = Own(7, [ValueError('one'), KeyError('two')])\nerror.add_note('a note')\nraise error"
    error = raised(executor, source)
    assert (type(error), error.message, error.args[1]) == (ExceptionGroup, "code 7", [*error.exceptions])
    assert [(type(one), one.args) for one in error.exceptions] == [(ValueError, ("one",)), (KeyError, ("two",))]
    assert error.__notes__[0] == "a note"
    assert error.__notes__[1].startswith(
        "flowkit: it replaces faulty_tasks.Own, which cannot be sent from the worker: "
    )
    assert "faulty_tasks.Own: code 7 (2 sub-exceptions)" in str(error.__cause__)
    caught = []
    try:
        raise error
    except* KeyError as group:
        caught.extend(group.exceptions)
    except* ValueError as group:
        caught.extend(group.exceptions)
    assert caught == [*reversed(error.exceptions)]
    found = {}
    exec(OWN_GROUP, found)
    faults.Own = found["Own"]
    try:
        error = raised(
            executor, source.replace("error = Own", "import faulty_tasks\nfaulty_tasks.Own = Own\nerror = Own")
        )
    finally:
        del faults.Own
    assert (type(error), error.message, error.code) == (found["Own"], "code 7", 7)
    assert [type(member) for member in error.exceptions] == [ValueError, KeyError]
    assert error.__notes__[0] == "a note"
