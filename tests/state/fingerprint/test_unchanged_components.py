"""Edits that have no effect on results do not change the fingerprint."""

from __future__ import annotations

import copyreg

import pytest

from flowkit_state.fingerprint import components

CLASSES = """
import abc, collections, dataclasses, enum, typing
T = typing.TypeVar("T")
class P(typing.Protocol):  # one
    def m(self) -> int: ...
class F(enum.Flag):
    A = 1
    B = 2
class G(typing.Generic[T], abc.ABC):
    @abc.abstractmethod
    def m(self): ...
@dataclasses.dataclass(slots=True, kw_only=True, order=True)
class S:
    a: int = 1  # two
    b: typing.ClassVar[int] = 2
    c: dict = dataclasses.field(default_factory=dict)
class D(typing.TypedDict):
    a: int
class M(type):
    def __call__(cls, *args): return super().__call__(*args)
class R(dict, metaclass=M):
    def register(self, f):
        self[f.__name__] = f
        return f
class E(Exception): pass
N, Q, ALL = typing.NewType("N", int), collections.namedtuple("Q", "a b"), R()
@ALL.register
def g(): raise E
def f(x):
    match x:
        case S(a=1): return P, F.A | F.B, G[int], E, N
    return S(a=2), D(a=1), ALL, Q(1, 2), Q
"""


UNCHANGED = {
    "comments": ("def f(x):\n    return x", "# one\n\n\ndef f(x):  # two\n    # three\n    return x"),
    "docstring": ("def f(x):\n    return x", 'def f(x):\n    """What."""\n    return x'),
    "changed docstring": ('def f(x):\n    """A."""\n    return x', 'def f(x):\n    """B."""\n    return x'),
    "docstring instead of pass": ("def f(): pass", 'def f():\n    """What."""'),
    "one line": ("def f(x):\n    if x: pass", "def f(x):\n    if x:\n        pass"),
    "lines of a loop": (
        "def f(x):\n    return [y for y in x if y > 1 if y < 9]",
        "def f(x):\n    return [\n        y\n        for y in x\n        if y > 1\n        if y < 9\n    ]",
    ),
    "lines of a generator": (
        "def f(x, z):\n    return sum(y in z or y < 3 for y in x)",
        "def f(x, z):\n    return sum(\n        y in z\n        or y < 3\n        for y in x\n    )",
    ),
    "lines of a while": (
        "def f(x):\n    while x and x[0]: x = x[1:]\n    return x or None",
        (
            "def f(x):\n    while (\n        x\n        and x[0]\n    ):\n        x = x[1:]\n    return (\n"
            "        x or\n        None)"
        ),
    ),
    "locals in one line": (
        "def f():\n    a = b = 1; c = a; return c",
        "def f():\n    a = b = 1\n    c = a\n    return c",
    ),
    "inner docstring": (
        "def f(x):\n    def g(): return x\n    return g()",
        'def f(x):\n    def g():\n        """G."""\n        return x\n    return g()',
    ),
    "inner class": (
        "def f():\n    class A:\n        x = 1\n        def m(self): self.b = self.a = 1\n    return A",
        (
            'def f():\n\n    class A:\n        "An A."\n\n        x = 1\n        def m(self):\n'
            "            self.b = self.a = 1\n    return A"
        ),
    ),
    "try": (
        "def f(x):\n    try: return x[0]\n    except (IndexError, KeyError) as e: return e\n    finally: print()",
        (
            "def f(x):\n\n    try:\n        return x[0]\n    except (\n        IndexError,\n"
            "        KeyError) as e:\n        return e\n\n    finally:\n        print()"
        ),
    ),
    "annotations": ("def f(x): return x", "def f(x: int) -> list[str]: return x"),
    "unused names": ("def f(x): return x", "import os\nA = 1\ndef g(): pass\ndef f(x): return x\nB = object()"),
    "order": ("A = 1\ndef g(): pass\ndef f(x): return g, A", "def f(x): return g, A\ndef g(): pass\nA = 1"),
    "class members": (
        "class R:\n    def a(self): pass\n    b = 1\ndef f(): return R",
        'class R:\n    "An R."\n    b = 1\n    def a(self): ...\ndef f(): return R',
    ),
    "unused names of imported modules": (
        {"etl": "import helpers\ndef f(): return helpers.used()", "helpers": "def used(): return 1"},
        {
            "etl": "import helpers\ndef f(): return helpers.used()",
            "helpers": "def used(): return 1\ndef g(): pass\nX = 1",
        },
    ),
    "comments in dataclasses, protocols and enums": (CLASSES, CLASSES.replace("# ", "# again ")),
    "unused module of the standard library": (
        "import json\ndef f(x): return json.dumps(x)",
        "import json, os\ndef f(x): return json.dumps(x)",
    ),
}


SECTION = (
    "import configparser\nC = configparser.ConfigParser()\nC.read_string('[a]\\nb = 1\\n[c]\\nd = @')\n"
    "A = C['a']\ndef f(): return A.getint('b')"
)


UNCHANGED |= {
    "options that are not read": (
        "import argparse\nA = argparse.Namespace(a=1, b=1)\ndef f(): return A.a",
        "import argparse\nA = argparse.Namespace(b=2, a=1, c=3)\ndef f(): return A.a",
    ),
    "the order of options": (
        "import argparse\nA = argparse.Namespace(a=1, b=1)\ndef f(): return A",
        "import argparse\nA = argparse.Namespace(b=1, a=1)\ndef f(): return A",
    ),
    "other sections of a configuration": (SECTION.replace("@", "1"), SECTION.replace("@", "2")),
    "cache of functools.cache": (
        "import functools\n@functools.cache\ndef g(): return object()\ng()\ndef f(): return g()",
        "import functools\n@functools.cache\ndef g(): return object()\ndef f(): return g()",
    ),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_edit_without_effect_keeps_components(differences, name):
    assert differences(*UNCHANGED[name]) == []


def test_pickling_an_instance_does_not_change_the_components_of_its_class(load):
    """``copyreg`` stores the names of the slots in the class."""
    module = load("class A: pass\ndef f(): return A()")
    before = components(module.f)
    copyreg._slotnames(module.A)
    assert components(module.f) == before
