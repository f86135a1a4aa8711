"""Exceptions on their way from a worker in another process to the process of the run, here in one process."""

from __future__ import annotations

import io
import pickle
import threading
import traceback

import pytest

from flowkit_core import RemoteTaskError
from flowkit_core.runs.exception_transport import MAX_EXCEPTIONS, pack_error, reduce_error, unpack_error


class FormattingError(ValueError):
    """An exception whose `__init__` formats its message, so that pickle would format it twice."""

    def __init__(self, row):
        super().__init__(f"row {row} is wrong")
        self.row = row


class SlotError(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__("failed")
        self.code = code


class TwoArgumentsError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class BrokenTextError(LookupError):
    def __str__(self):
        raise RuntimeError("no text")


class UnpicklableError(OSError):
    def __reduce__(self):
        raise TypeError("no pickle")

    def __reduce_ex__(self, protocol):
        raise TypeError("no pickle")

    def __init_subclass__(cls):
        raise TypeError("no subclass")


def sent(error, **options):
    """Return an exception as it arrives."""
    explain = options.pop("explain", None)
    return unpack_error(pack_error(error, **options), "load", explain)


def fail(error, cause=None):
    """Raise an exception, from another one or with the context that it has."""
    if cause is not None:
        raise error from cause
    raise error


def raised(error, cause=None):
    """Return an exception with the traceback of `fail`."""
    try:
        fail(error, cause)
    except BaseException as found:
        return found


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no", 3),
        KeyError("missing"),
        FormattingError(7),
        SlotError(3),
        TwoArgumentsError("a", "b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        FileNotFoundError(2, "No such file", "data.csv"),
        StopIteration(5),
        SystemExit(3),
        KeyboardInterrupt(),
        ImportError("no module", name="polars"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exception_arrives_with_class_arguments_and_attributes(error):
    found = sent(raised(error))
    assert type(found) is type(error)
    assert found.args == error.args
    assert str(found) == str(error)
    assert vars(found) == vars(error)
    for name in ("code", "filename", "errno", "value", "name", "reason"):
        assert getattr(found, name, None) == getattr(error, name, None)


def test_traceback_of_worker_is_the_cause():
    found = sent(raised(ValueError("no")))
    text = "".join(traceback.format_exception(found))
    assert "in fail" in text
    assert "raise error" in str(found.__cause__)
    assert text.endswith("ValueError: no\n")


def test_notes_arrive_in_order():
    error = ValueError("no")
    error.add_note("first")
    error.add_note("second")
    assert sent(error).__notes__ == ["first", "second"]
    error.__notes__ = 5
    assert not hasattr(sent(error), "__notes__") or sent(error).__notes__ == []


def test_facts_of_worker_become_a_note():
    found = sent(
        ValueError("no"), find_facts=lambda error: ("module", "etl"), explain=lambda facts: f"{facts[1]} is lost"
    )
    assert found.__notes__ == ["etl is lost"]
    assert not hasattr(sent(ValueError("no"), find_facts=lambda _: None, explain=str), "__notes__")
    broken = sent(ValueError("no"), find_facts=lambda _: 1 / 0, explain=str)
    assert str(broken) == "no"


def test_causes_and_contexts_arrive():
    third = raised(ValueError("third"))
    third.__context__ = raised(OSError("second"), cause=raised(KeyError("first")))
    found = sent(third)
    assert repr(found.__context__) == "OSError('second')"
    assert repr(found.__context__.__cause__) == "KeyError('first')"
    text = str(found.__context__.__cause__.__cause__)
    assert text.index("KeyError: 'first'") < text.index("direct cause") < text.index("OSError: second")
    assert text.index("During handling") < text.index("ValueError: third")


def test_suppressed_context_is_not_sent():
    error = raised(ValueError("second"))
    error.__context__, error.__suppress_context__ = raised(KeyError("first")), True
    found = sent(error)
    assert found.__context__ is None
    assert "KeyError" not in str(found.__cause__)


def test_cycle_of_causes_is_cut():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    found = sent(one)
    assert str(found.__cause__) == "two"
    assert type(found.__cause__.__cause__).__name__ == "RemoteTraceback"


def test_groups_arrive_with_their_members():
    shared = raised(ValueError("shared"))
    inner = ExceptionGroup("inner", [shared, raised(KeyError("k"))])
    found = sent(raised(ExceptionGroup("outer", [inner, shared])))
    assert type(found) is ExceptionGroup
    assert (found.message, [type(each) for each in found.exceptions]) == ("outer", [ExceptionGroup, ValueError])
    assert found.exceptions[0].exceptions[0] is found.exceptions[1]
    assert repr(found.exceptions[0].exceptions[1]) == "KeyError('k')"
    assert type(sent(BaseExceptionGroup("base", [SystemExit(1)]))) is BaseExceptionGroup


def test_deep_chain_arrives_up_to_limit():
    error = None
    for number in range(MAX_EXCEPTIONS + 5):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    found = sent(error)
    (note,) = found.__notes__
    assert note.startswith("flowkit: 5 more exceptions belong to this one")
    depth = 0
    while isinstance(found, ValueError):
        depth, found = depth + 1, found.__cause__
    assert depth == MAX_EXCEPTIONS


def test_parts_that_cannot_be_pickled_are_left_out_and_named():
    error = ValueError("no", threading.Lock())
    error.lock, error.row = threading.Lock(), 7
    found = sent(error)
    assert type(found) is ValueError
    assert (found.args[0], found.row, found.lock) == ("no", 7, None)
    assert found.args[1].startswith("<unlocked _thread.lock")
    assert found.__notes__ == ["flowkit: not sent from the worker process, because it cannot be pickled: args[1], lock"]


def test_local_class_is_replaced_by_an_error_that_except_catches():
    class LocalError(FormattingError):
        pass

    found = sent(raised(LocalError(7)))
    assert isinstance(found, RemoteTaskError)
    assert isinstance(found, FormattingError)
    assert found.task == "load"
    assert found.type_name.endswith("LocalError")
    assert found.text == "row 7 is wrong"
    assert "raise error" in found.traceback_text
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is RemoteTaskError
    assert again.text == found.text


def test_class_without_subclasses_is_replaced_by_its_next_base():
    class LocalError(OSError):
        pass

    found = sent(LocalError(2, "No such file"))
    assert isinstance(found, RemoteTaskError)
    assert isinstance(found, OSError)
    found = sent(UnpicklableError("no"))
    assert isinstance(found, UnpicklableError)  # rebuilt from its parts


def test_local_group_is_replaced_by_a_plain_one():
    class LocalGroup(ExceptionGroup):
        pass

    found = sent(LocalGroup("many", [ValueError("one")]))
    assert type(found) is ExceptionGroup
    assert repr(found.exceptions) == "(ValueError('one'),)"
    assert "it replaces" in found.__notes__[0]
    assert "LocalGroup" in found.__notes__[0]


def test_text_that_raises_is_replaced():
    found = sent(raised(BrokenTextError("key")), dumps=lambda _: 1 / 0)
    assert isinstance(found, RemoteTaskError)
    assert found.text == "<unprintable>"
    assert "BrokenTextError: <exception str() failed>" in found.traceback_text


def test_hostile_attributes_do_not_prevent_the_transport():
    class Hostile(Exception):
        def __getattribute__(self, name):
            raise SystemExit(name)

    found = sent(Hostile())
    assert isinstance(found, RemoteTaskError)
    assert found.type_name.endswith("Hostile")


def test_large_text_is_shortened():
    found = sent(ValueError("x" * 3_000_000), dumps=lambda _: 1 / 0)
    assert "characters left out" in found.text
    assert len(found.text) < 1_100_000


@pytest.mark.parametrize(
    "error", [TwoArgumentsError("a", "b"), BrokenTextError("x"), ExceptionGroup("two", [OSError()])]
)
def test_exception_that_is_a_value_is_packed_once(error):
    """The pickler that packs it also pickles its parts."""
    count = []

    class Pickler(pickle.Pickler):
        def reducer_override(self, value):
            count.append(value)
            return reduce_error(value, dumps) if isinstance(value, BaseException) else NotImplemented

    def dumps(value):
        file = io.BytesIO()
        Pickler(file, 5).dump(value)
        return file.getvalue()

    found = pickle.loads(dumps([error]))[0]
    assert type(found) is type(error)
    assert repr(found.args) == repr(error.args)
    assert sum(value is error for value in count) <= 3
