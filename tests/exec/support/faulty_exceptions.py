"""Exceptions that are hard to pickle, and tasks that raise them, in a module that worker processes can import."""

from __future__ import annotations

import os
import sys
import threading


class NoException:
    """A base class of an exception that is not an exception itself."""


class TwoArguments(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class OwnMessage(Exception):
    def __init__(self, name):
        super().__init__(f"no such thing: {name}")
        self.name = name


class OwnReduce(Exception):
    def __reduce__(self):
        return OwnReduce, self.args


class Holder(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()
        self.number = 7


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitText(NoText):
    def __str__(self):  # noqa: PLE0307 - it never returns
        sys.exit("no text")

    __repr__ = __str__


class NoAttributes(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


class NoState(Exception):
    def __getstate__(self):
        raise KeyboardInterrupt


class NoReduce(Exception):
    def __reduce__(self):
        raise SystemExit(3)


class Meta(type):
    def __getattribute__(cls, name):
        if name in ("__module__", "__qualname__"):
            raise RuntimeError("no name")
        return super().__getattribute__(name)


class NoName(Exception, metaclass=Meta):
    pass


class FragileText(str):
    __slots__ = ()

    def __str__(self):
        return self

    def __reduce_ex__(self, protocol):
        raise RuntimeError("no pickle")


class OddText(Exception):
    def __str__(self):
        return FragileText("odd")


class Dying(Exception):
    def __reduce__(self):
        os._exit(5)


class Exotic(Exception):
    """Can be unpickled in a worker, and not in the calling process."""

    def __init__(self, home):
        super().__init__(home)
        if os.getpid() == home:
            raise RuntimeError("not at home")


class Unreadable(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(name)


class Slotted(Exception):
    __slots__ = ("__private", "code", "lock", "unset")

    def __init__(self, text):
        super().__init__(text)
        self.code, self.__private = 7, 8

    def private(self):
        return self.__private


def raise_slotted(*, locked):
    error = Slotted("slotted")
    error.code, error.note = 9, "in the dict"
    if locked:
        error.lock = threading.Lock()
    raise error


def raise_it(kind, args):
    error = globals()[kind](*args)
    if kind == "OwnReduce":
        error.add_note("a note of the user")
    raise error


def raise_local():
    class Local(ValueError):
        pass

    raise Local("from a function")


def raise_local_mixed():
    """Raise a local class whose base classes are two importable exceptions and an importable class that is none."""

    class Local(NoException, OwnMessage, KeyError):
        def __init__(self):
            Exception.__init__(self, "mixed")

    raise Local


def raise_group():
    """Raise a group with a nested group, and with members that have notes, causes and unusual signatures."""

    class Local(LookupError):
        pass

    members = [TwoArguments(7, "odd"), ValueError("plain")]
    for error in members:
        error.__cause__ = KeyError("reason")
        error.add_note(f"a note on {type(error).__name__}")
    raise ExceptionGroup("several", [*members, ExceptionGroup("inner", [Local("local")])])


def raise_locked():
    raise ValueError("locked", threading.Lock())


def raise_chain():
    try:
        try:
            {}["key"]
        except KeyError as error:
            raise OwnMessage("cause") from error
    except OwnMessage:
        raise TypeError("context")  # noqa: B904


def raise_circle():
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


def raise_long():
    raise ValueError("x" * 20_000_000)
