"""Fingerprints: all code and every constant of the project that a function reaches, and nothing else."""

from __future__ import annotations

import argparse
import array
import collections
import configparser
import dataclasses
import enum
import functools
import importlib
import inspect
import io
import itertools
import os
import string
import subprocess
import sys
import textwrap
import threading
import types
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_state import UnsupportedValueError
from flowkit_state.fingerprint import changes, components, initial_components, input_components, key, shortened


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write modules of a project, import them anew, and return the first."""
    count = iter(range(1000))

    def load(etl, **others):
        folder = tmp_path / f"project{next(count)}"
        for name, source in {"etl": etl, **others}.items():
            path = folder / (name.replace("__", os.sep) + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
            for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == name.partition("__")[0]]:
                monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return importlib.import_module("etl")

    before = set(sys.modules)
    yield load
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("etl", "helpers", "pkg"):
            del sys.modules[name]


def diff(load, before, after):
    old, new = (
        components(load(**({"etl": source} if isinstance(source, str) else source)).f) for source in (before, after)
    )
    return changes(old, new)


# What does not count

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
FORMATTED = {
    "comments": ("def f(x):\n    return x", "# one\n\n\ndef f(x):  # two\n    # three\n    return x"),
    "docstring": ("def f(x):\n    return x", 'def f(x):\n    """What."""\n    return x'),
    "another docstring": ('def f(x):\n    """A."""\n    return x', 'def f(x):\n    """B."""\n    return x'),
    "docstring alone": ("def f(): pass", 'def f():\n    """What."""'),
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
    "what imported modules have besides": (
        {"etl": "import helpers\ndef f(): return helpers.used()", "helpers": "def used(): return 1"},
        {
            "etl": "import helpers\ndef f(): return helpers.used()",
            "helpers": "def used(): return 1\ndef g(): pass\nX = 1",
        },
    ),
    "the ways of dataclasses, protocols and enums": (CLASSES, CLASSES.replace("# ", "# again ")),
    "the same of the standard library": (
        "import json\ndef f(x): return json.dumps(x)",
        "import json, os\ndef f(x): return json.dumps(x)",
    ),
}


SECTION = (
    "import configparser\nC = configparser.ConfigParser()\nC.read_string('[a]\\nb = 1\\n[c]\\nd = @')\n"
    "A = C['a']\ndef f(): return A.getint('b')"
)
FORMATTED |= {
    "options that are not read": (
        "import argparse\nA = argparse.Namespace(a=1, b=1)\ndef f(): return A.a",
        "import argparse\nA = argparse.Namespace(b=2, a=1, c=3)\ndef f(): return A.a",
    ),
    "the order of options": (
        "import argparse\nA = argparse.Namespace(a=1, b=1)\ndef f(): return A",
        "import argparse\nA = argparse.Namespace(b=1, a=1)\ndef f(): return A",
    ),
    "other sections": (SECTION.replace("@", "1"), SECTION.replace("@", "2")),
    "what a function has found out": (
        "import functools\n@functools.cache\ndef g(): return object()\ng()\ndef f(): return g()",
        "import functools\n@functools.cache\ndef g(): return object()\ndef f(): return g()",
    ),
}


@pytest.mark.parametrize("name", FORMATTED)
def test_what_does_not_count(load, name):
    assert diff(load, *FORMATTED[name]) == []


# What counts

IMPORT = "import helpers\ndef f(x): return helpers.clean(x)"
CHANGED = {
    "code": ("def f(x): return x + 1", "def f(x): return x + 2", ["function etl.f has changed"]),
    "the other branch": (
        "def f(x): return 1 if x else 2",
        "def f(x): return 2 if x else 1",
        ["function etl.f has changed"],
    ),
    "handlers": (
        "def f(x):\n    try: x()\n    except KeyError: pass",
        "def f(x):\n    try: x()\n    except IndexError: pass",
        ["function etl.f has changed"],
    ),
    "what a module re-exports, used as a value": (
        {
            "etl": "import helpers\ndef f():\n    q = helpers\n    return q.run()",
            "helpers": "from pkg.h import run",
            "pkg__h": "def run(): return 1",
        },
        {
            "etl": "import helpers\ndef f():\n    q = helpers\n    return q.run()",
            "helpers": "from pkg.h import run",
            "pkg__h": "def run(): return 2",
        },
        ["function pkg.h.run has changed"],
    ),
    "constants of a class with odd names": (
        "class A:\n    __tablename__ = 'a'\ndef f(): return A.__tablename__",
        "class A:\n    __tablename__ = 'b'\ndef f(): return A.__tablename__",
        ["constant etl.A.__tablename__ has changed"],
    ),
    "what the code changes, as it is in the beginning": (
        "C = {'rate': 1, 'seen': []}\ndef f():\n    C['seen'].append(1)\n    return C['rate']",
        "C = {'rate': 2, 'seen': []}\ndef f():\n    C['seen'].append(1)\n    return C['rate']",
        ["constant etl.C has changed"],
    ),
    "names of keywords": (
        "def f(x): return x(low=1, high=2)",
        "def f(x): return x(high=1, low=2)",
        ["function etl.f has changed"],
    ),
    "part of a package that is imported inside": (
        {"etl": "def f():\n    from pkg import mod\n    return mod.A", "pkg__mod": "A = 1"},
        {"etl": "def f():\n    from pkg import mod\n    return mod.A", "pkg__mod": "A = 2"},
        ["constant pkg.mod.A has changed"],
    ),
    "signature": ("def f(x): return 1", "def f(x, y): return 1", ["function etl.f has changed"]),
    "async": ("def f(x): return 1", "async def f(x): return 1", ["function etl.f has changed"]),
    "types of literals": ("def f(): return 1", "def f(): return 1.0", ["function etl.f has changed"]),
    "signs of zeros": ("def f(): return -0.0", "def f(): return 0.0", ["function etl.f has changed"]),
    "inner code": (
        "def f(x): return [lambda: (y, 1) for y in x]",
        "def f(x): return [lambda: (y, 2) for y in x]",
        ["function etl.f has changed"],
    ),
    "a helper": (
        "def g(x): return x\ndef f(x): return g(x)",
        "def g(x): return -x\ndef f(x): return g(x)",
        ["function etl.g has changed"],
    ),
    "a helper of a helper": (
        "def h(x): return x\ndef g(x): return h(x)\ndef f(x): return [g(y) for y in x]",
        "def h(x): return -x\ndef g(x): return h(x)\ndef f(x): return [g(y) for y in x]",
        ["function etl.h has changed"],
    ),
    "a new helper": (
        "def g(x): return x\ndef f(x): return 1",
        "def g(x): return x\ndef f(x): return g(x)",
        ["function etl.f has changed", "function etl.g is new"],
    ),
    "a constant": ("A = 1\ndef f(): return A", "A = 2\ndef f(): return A", ["constant etl.A has changed"]),
    "a table": (
        "A = {'a': [1]}\ndef f(): return A",
        "A = {'a': [2]}\ndef f(): return A",
        ["constant etl.A has changed"],
    ),
    "a default": ("def f(x=1): return x", "def f(x=2): return x", ["default x of etl.f has changed"]),
    "a keyword default": ("def f(*, x=1): return x", "def f(*, x=2): return x", ["default x of etl.f has changed"]),
    "a closure": (
        "def make(a):\n    def f(): return a\n    return f\nf = make(1)",
        "def make(a):\n    def f(): return a\n    return f\nf = make(2)",
        ["closure a of etl.make.<locals>.f has changed"],
    ),
    "an imported module": (
        {"etl": IMPORT, "helpers": "def clean(x): return x"},
        {"etl": IMPORT, "helpers": "def clean(x): return -x"},
        ["function helpers.clean has changed"],
    ),
    "an imported constant": (
        {"etl": "import helpers\ndef f(x): return helpers.A", "helpers": "A = 1"},
        {"etl": "import helpers\ndef f(x): return helpers.A", "helpers": "A = 2"},
        ["constant helpers.A has changed"],
    ),
    "an import inside": (
        {
            "etl": "def f(x):\n    import helpers as h\n    return h.clean(x)",
            "helpers": "def clean(x): return x\nA = 1",
        },
        {
            "etl": "def f(x):\n    import helpers as h\n    return h.clean(x)",
            "helpers": "def clean(x): return -x\nA = 2",
        },
        ["function helpers.clean has changed"],
    ),
    "an import of a name inside": (
        {
            "etl": "def f(x):\n    from helpers import clean\n    return clean(x)",
            "helpers": "def clean(x): return x\nA = 1",
        },
        {
            "etl": "def f(x):\n    from helpers import clean\n    return clean(x)",
            "helpers": "def clean(x): return -x\nA = 2",
        },
        ["function helpers.clean has changed"],
    ),
    "a module of a package": (
        {"etl": "import pkg.sub.mod\ndef f(x): return pkg.sub.mod.g(x)", "pkg__sub__mod": "def g(x): return 1\nA = 1"},
        {"etl": "import pkg.sub.mod\ndef f(x): return pkg.sub.mod.g(x)", "pkg__sub__mod": "def g(x): return 2\nA = 2"},
        ["function pkg.sub.mod.g has changed"],
    ),
    "a module as a value": (
        {"etl": "import helpers\ndef f(x): return getattr(helpers, x)", "helpers": "def clean(x): return x\nA = 1"},
        {"etl": "import helpers\ndef f(x): return getattr(helpers, x)", "helpers": "def clean(x): return -x\nA = 1"},
        ["function helpers.clean has changed"],
    ),
    "where a name comes from": (
        {"etl": "from helpers import clean\ndef f(x): return clean(x)", "helpers": "def clean(x): return x"},
        "def clean(x): return x\ndef f(x): return clean(x)",
        ["function etl.f has changed", "function etl.clean is new", "function helpers.clean is gone"],
    ),
    "which of two": (
        "a, b = (lambda: 1), (lambda: 2)\ndef f(): return a() - b()",
        "b, a = (lambda: 1), (lambda: 2)\ndef f(): return a() - b()",
        ["function etl.<lambda> has changed", "function etl.<lambda> (2) has changed"],
    ),
    "a method": (
        "class R:\n    def m(self): return 1\ndef f(): return R()",
        "class R:\n    def m(self): return 2\ndef f(): return R()",
        ["function etl.R.m has changed"],
    ),
    "a property": (
        "class R:\n    @property\n    def m(self): return 1\ndef f(): return R()",
        "class R:\n    @property\n    def m(self): return 2\ndef f(): return R()",
        ["function etl.R.m has changed"],
    ),
    "static or class": (
        "class R:\n    @staticmethod\n    def m(a): return a\ndef f(): return R",
        "class R:\n    @classmethod\n    def m(a): return a\ndef f(): return R",
        ["class etl.R has changed"],
    ),
    "a constant of a class": (
        "class R:\n    A = 1\ndef f(): return R.A",
        "class R:\n    A = 2\ndef f(): return R.A",
        ["constant etl.R.A has changed"],
    ),
    "a base": (
        "class B:\n    def m(self): return 1\nclass R(B): pass\ndef f(): return R()",
        "class B:\n    def m(self): return 2\nclass R(B): pass\ndef f(): return R()",
        ["function etl.B.m has changed"],
    ),
    "a metaclass": (
        "class M(type):\n    def m(self): return 1\nclass R(metaclass=M): pass\ndef f(): return R.m()",
        "class M(type):\n    def m(self): return 2\nclass R(metaclass=M): pass\ndef f(): return R.m()",
        ["function etl.M.m has changed"],
    ),
    "super": (
        "class B:\n    def m(self): return 1\nclass R(B):\n    def m(self): return super().m()\nf = R.m",
        "class B:\n    def m(self): return 2\nclass R(B):\n    def m(self): return super().m()\nf = R.m",
        ["function etl.B.m has changed"],
    ),
    "a field": (
        (
            "import dataclasses\n@dataclasses.dataclass\nclass R:\n"
            "    a: list = dataclasses.field(default_factory=list)\ndef f(): return R()"
        ),
        (
            "import dataclasses\n@dataclasses.dataclass\nclass R:\n"
            "    a: list = dataclasses.field(default_factory=set)\ndef f(): return R()"
        ),
        ["constant etl.R.__dataclass_fields__ has changed"],
    ),
    "a frozen dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass R:\n    a: int\n    def m(self): pass\ndef f(): return R(1)",
        (
            "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass R:\n    a: int\n"
            "    def m(self): pass\ndef f(): return R(1)"
        ),
        ["constant etl.R.__dataclass_params__ has changed"],
    ),
    "a named tuple": (
        "import typing\nclass R(typing.NamedTuple):\n    a: int = 1\n    def m(self): return 1\ndef f(): return R()",
        "import typing\nclass R(typing.NamedTuple):\n    a: int = 2\n    def m(self): return 2\ndef f(): return R()",
        ["constant etl.R._field_defaults has changed", "function etl.R.m has changed"],
    ),
    "a member of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\ndef f(): return E.A",
        "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 3\ndef f(): return E.A",
        ["constant etl.E.__members__ has changed"],
    ),
    "a registry": (
        "def a(): return 1\nH = {'a': a, 'b': [len]}\ndef f(x): return H[x]()",
        "def a(): return 2\nH = {'a': a, 'b': [len]}\ndef f(x): return H[x]()",
        ["function etl.a has changed"],
    ),
    "which handler": (
        "def a(): return 1\ndef b(): return 2\nH = {'a': a, 'b': b}\ndef f(x): return H[x]()",
        "def a(): return 1\ndef b(): return 2\nH = {'a': b, 'b': a}\ndef f(x): return H[x]()",
        ["constant etl.H has changed"],
    ),
    "an instance": (
        "class C:\n    def __init__(self, a): self.a = a\n    def m(self): return 1\nc = C(1)\ndef f(): return c.m()",
        "class C:\n    def __init__(self, a): self.a = a\n    def m(self): return 2\nc = C(2)\ndef f(): return c.m()",
        ["constant etl.c has changed", "function etl.C.m has changed"],
    ),
    "slots": (
        "class C:\n    __slots__ = ('a',)\n    def __init__(self, a): self.a = a\nc = C(1)\ndef f(): return c",
        "class C:\n    __slots__ = ('a',)\n    def __init__(self, a): self.a = a\nc = C(2)\ndef f(): return c",
        ["constant etl.c has changed"],
    ),
    "a subclass of a builtin": (
        "class D(dict): pass\nd = D(a=1)\ndef f(): return d",
        "class D(dict): pass\nd = D(a=2)\ndef f(): return d",
        ["constant etl.d has changed"],
    ),
    "a pattern": (
        "import re\nP = re.compile('a')\ndef f(x): return P.match(x)",
        "import re\nP = re.compile('a', re.I)\ndef f(x): return P.match(x)",
        ["constant etl.P has changed"],
    ),
    "a logger": (
        "import logging\nL = logging.getLogger('a')\ndef f(x): L.info(x)",
        "import logging\nL = logging.getLogger('b')\ndef f(x): L.info(x)",
        ["constant etl.L has changed"],
    ),
    "an adapter of a logger": (
        "import logging\nL = logging.LoggerAdapter(logging.getLogger('a'), {'b': 1})\ndef f(x): L.info(x)",
        "import logging\nL = logging.LoggerAdapter(logging.getLogger('a'), {'b': 2})\ndef f(x): L.info(x)",
        ["constant etl.L has changed"],
    ),
    "types": (
        "class R:\n    def m(self): return 1\nT = dict[str, R | None]\ndef f(x): return T",
        "class R:\n    def m(self): return 2\nT = dict[str, R | None]\ndef f(x): return T",
        ["function etl.R.m has changed"],
    ),
    "an attribute of a function": (
        "def g(): pass\ng.rate = 1\ndef f(x): return g.rate",
        "def g(): pass\ng.rate = 2\ndef f(x): return g.rate",
        ["constant etl.g.rate has changed"],
    ),
    "a builtin that is none any more": (
        "def f(x): return len(x)",
        "def len(x): return 1\ndef f(x): return len(x)",
        ["function etl.f has changed", "function etl.len is new"],
    ),
}
# Of the standard library: what differs, and what it is made with; "@" is that
for _name, (_made, _old, _new) in {
    "a command line": ("argparse.Namespace(limit=@)", "10", "20"),
    "a command line in a command line": ("argparse.Namespace(db=argparse.Namespace(limit=@))", "1", "2"),
    "a command line in a table": ("{'a': [argparse.Namespace(limit=@)]}", "1", "2"),
    "a command line of a class of one's own": ("parser.parse_args(['--limit', '@'], namespace=Args())", "1", "2"),
    "an old command line": ("optparse.Values({'limit': @})", "1", "2"),
    "a configuration": ("config(configparser.ConfigParser(), '@')", "[a]\\nb = 1", "[a]\\nb = 2"),
    "a raw configuration": ("config(configparser.RawConfigParser(), '@')", "[a]\\nb = 1", "[a]\\nb = 2"),
    "a configuration of a class of one's own": ("config(Config(), '@')", "[a]\\nb = 1", "[a]\\nb = 2"),
    "the defaults of a configuration": ("config(configparser.ConfigParser(), '[DEFAULT]\\nb = @')", "1", "2"),
    "how a configuration is read": ("config(configparser.ConfigParser(interpolation=@), '')", "None", "Extended()"),
    "a converter": ("config(configparser.ConfigParser(converters={'list': @}), '')", "str.split", "list"),
    "a section": ("config(configparser.ConfigParser(), '[a]\\nb = @')['a']", "1", "2"),
    "a default in a section": ("config(configparser.ConfigParser(), '[DEFAULT]\\nb = @\\n[a]')['a']", "1", "2"),
    "what a section refers to": (
        "config(configparser.ConfigParser(interpolation=Extended()), '[a]\\nb = ${c:d}\\n[c]\\nd = @')['a']",
        "1",
        "2",
    ),
    "a template": ("string.Template('@')", "$a", "$b"),
    "a template of a class of one's own": ("Letter('@')", "%a", "%b"),
    "a request": ("urllib.request.Request('http://localhost', headers={'a': '@'})", "b", "c"),
    "a message": ("email.message_from_string('Subject: @')", "a", "b"),
    "a view": ("types.MappingProxyType({'a': @})", "1", "2"),
    "a chain": ("collections.ChainMap({}, {'a': @})", "1", "2"),
    "a chain of a class of one's own": ("Chain({'a': @})", "1", "2"),
    "a counter": ("collections.Counter('@')", "a", "b"),
    "a counter of a class of one's own": ("Count('@')", "a", "b"),
    "an order": ("collections.OrderedDict.fromkeys('@')", "ab", "ba"),
    "an order of a class of one's own": ("Ordered.fromkeys('@')", "ab", "ba"),
    "a factory of a class of one's own": ("Defaults(@)", "list", "dict"),
    "a queue of a class of one's own": ("Deque([1], @)", "1", "2"),
    "a dictionary": ("collections.UserDict(a=@)", "1", "2"),
    "a list": ("collections.UserList([@])", "1", "2"),
    "a string": ("collections.UserString('@')", "1", "2"),
    "a dictionary of a class of one's own": ("Dictionary(a=@)", "1", "2"),
    "a namespace": ("types.SimpleNamespace(a=@)", "1", "2"),
    "a namespace of a class of one's own": ("Space(a=@)", "1", "2"),
    "an encoder": ("json.JSONEncoder(indent=@)", "1", "2"),
    "a decoder": ("json.JSONDecoder(parse_float=@)", "float", "str"),
    "a record": ("struct.Struct('@')", "<I", "<H"),
    "how to count": ("decimal.Context(prec=@)", "3", "4"),
    "a network": ("ipaddress.ip_network('10.0.0.0/@')", "8", "16"),
}.items():
    CHANGED[f"of the standard library: {_name}"] = (
        *(
            f"""
                import argparse, collections, configparser, decimal, email, ipaddress, json, optparse, string, struct
                import types, urllib.request
                class Args(argparse.Namespace): pass
                class Config(configparser.ConfigParser): pass
                class Letter(string.Template): delimiter = "%"
                class Chain(collections.ChainMap): pass
                class Count(collections.Counter): pass
                class Ordered(collections.OrderedDict): pass
                class Defaults(collections.defaultdict): pass
                class Deque(collections.deque): pass
                class Dictionary(collections.UserDict): pass
                class Space(types.SimpleNamespace): pass
                Extended = configparser.ExtendedInterpolation
                parser = argparse.ArgumentParser()
                parser.add_argument("--limit")
                def config(parser, text):
                    parser.read_string(text)
                    return parser
                A = {_made.replace("@", _value)}
                def f(): return A
            """
            for _value in (_old, _new)
        ),
        ["constant etl.A has changed"],
    )
ARGS = "import argparse\nargs = argparse.Namespace(limit=@, verbose=0, db=argparse.Namespace(name='a', port=@))\n"
for _name, (_tail, _told) in {
    "an option": ("def f(): return args.limit", "constant etl.args.limit"),
    "an option of a command": ("def f(): return args.db.port", "constant etl.args.db.port"),
    "all options of a command": ("def f(): return args.db", "constant etl.args.db"),
    "all options": ("def f(): return vars(args)", "constant etl.args"),
    "an option in a closure": (
        "def make(a):\n    def f(): return a.limit\n    return f\nf = make(args)",
        "closure a.limit of etl.make.<locals>.f",
    ),
    "an option through a helper": ("def g(a): return a.limit\ndef f(): return g(args)", "constant etl.args"),
}.items():
    CHANGED[_name] = ARGS.replace("@", "1") + _tail, ARGS.replace("@", "2") + _tail, [f"{_told} has changed"]
HEAD = "import functools, contextlib\n"
G = "def g(x): return 1\n", "def g(x): return 2\n"
for _name, _tail in {
    "wraps": (
        "def d(h):\n    @functools.wraps(h)\n    def w(*a): return h(*a)\n    return w\nx = d(g)\ndef f(): return x(1)"
    ),
    "partial": "x = functools.partial(g, 1)\ndef f(): return x()",
    "partial method": "class C:\n    m = functools.partialmethod(g)\ndef f(): return C().m()",
    "cached property": "class C:\n    m = functools.cached_property(g)\ndef f(): return C().m",
    "lru_cache": "x = functools.lru_cache(g)\ndef f(): return x(1)",
    "bound method": "class C:\n    m = g\nx = C().m\ndef f(): return x()",
    "context manager": "@contextlib.contextmanager\ndef x(): yield g(1)\ndef f():\n    with x(): pass",
    "single dispatch": "@functools.singledispatch\ndef x(a): pass\nx.register(int, g)\ndef f(): return x(1)",
    "task": "class T:\n    __flowkit_wrapped__ = staticmethod(g)\nx = T()\ndef f(): return x(1)",
    "cached": "from flowkit_state import TaskCache\nx = TaskCache()(g)\ndef f(): return x(1)",
    "default": "def f(x=g): return x(1)",
    "set": "x = {g}\ndef f(): return x",
    "the root itself": "f = functools.partial(functools.lru_cache(g), 1)",
    "inside out": (
        "def f(x):\n    def a():\n        def b():\n            return [g(y) for y in x]\n"
        "        return b\n    return a()()"
    ),
    "class body": "def f():\n    class A:\n        b = g(1)\n    return A",
}.items():
    CHANGED[f"through {_name}"] = HEAD + G[0] + _tail, HEAD + G[1] + _tail, ["function etl.g has changed"]


@pytest.mark.parametrize("name", CHANGED)
def test_what_counts_and_what_it_is_called(load, name):
    before, after, told = CHANGED[name]
    assert sorted(diff(load, before, after)) == sorted(told)
    assert diff(load, before, before) == []


# What the code itself changes

STATE = {
    "an object by its own method": "class C:\n    n = 0\n    def hit(self): self.n += 1\nc = C()\ndef f(): c.hit()",
    "append": "calls = []\ndef f(): calls.append(1)",
    "add": "seen = set()\ndef f(): seen.add(len(seen))",
    "item": "counter = {'n': 0}\ndef f(): counter['n'] += 1",
    "deep item": "counter = {'n': {'m': [0]}}\ndef f(): counter['n']['m'][0] += 1",
    "conditional item": "counter = {}\ndef f(): counter['a' if counter else 'b'] = 2 if counter else 3",
    "item of a call": "counter = {}\ndef f(): counter[str(len(counter))] = max(1, 2)",
    "delete": "rows = [1, 2, 3]\ndef f(): del rows[0]",
    "slice": "rows = [1, 2, 3]\ndef f(): rows[1:] = []",
    "update": "stats = {}\ndef f(): stats.update({len(stats): 1})",
    "global": "n = 0\ndef f():\n    global n\n    n += 1",
    "lazy": "model = None\ndef f():\n    global model\n    if model is None: model = [1]\n    return model",
    "lazy elsewhere": (
        "model = None\ndef get():\n    global model\n    model = model or [1]\ndef f():\n    get()\n    return model"
    ),
    "closure": "def make():\n    calls = []\n    def f(): calls.append(1)\n    return f\nf = make()",
    "nonlocal": "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n    return f\nf = make()",
    "inner function": "calls = []\ndef f():\n    def g(): calls.append(1)\n    g()",
    "comprehension": "calls = []\ndef f(): return [calls.append(x) for x in range(3)]",
    "helper": "calls = []\ndef g(): calls.append(1)\ndef f():\n    g()\n    return len(calls)",
    "handler": (
        "calls = []\ndef f():\n    try: int('x')\n    except ValueError: calls.append(1)\n    finally: calls.append(2)"
    ),
    "registry": "calls = []\ndef g(): calls.append(1)\nH = {'g': g}\ndef f():\n    H['g']()\n    return len(calls)",
    "not there before": "def f():\n    global n\n    n = [1]\n    return n",
    "not there before in a closure": (
        "def make():\n    def f():\n        nonlocal n\n        n = 1\n    if 0: n = 0\n    return f\nf = make()"
    ),
    "in an instance": "class C:\n    n = 0\nc = C()\ndef f(): c.n += 1",
    "of an instance": "class C:\n    def __init__(self): self.rows = []\nc = C()\ndef f(): c.rows.append(1)",
    "of a class": "class C:\n    rows = []\n    n = 0\ndef f():\n    C.rows.append(1)\n    C.n += 1",
    "of a function": "def f(): f.n += 1\nf.n = 0",
    "of a module": {
        "etl": "import helpers\ndef f():\n    helpers.n += 1\n    helpers.rows.append(1)",
        "helpers": "n = 0\nrows = []",
    },
    "two names": {
        "etl": "import helpers\nfrom helpers import rows\ndef f():\n    rows.append(1)\n    return len(helpers.rows)",
        "helpers": "rows = []",
    },
    "lru_cache": "import functools\n@functools.lru_cache\ndef g(x): return [x]\ndef f(): return g(1)",
    "cached property": (
        "import functools\nclass C:\n    @functools.cached_property\n    def p(self): return 1\n"
        "c = C()\ndef f(): return c.p"
    ),
}


@pytest.mark.parametrize("name", STATE)
def test_what_code_changes_is_not_its_input(load, name):
    sources = STATE[name]
    f = load(**({"etl": sources} if isinstance(sources, str) else sources)).f
    before = components(f)
    for _ in range(3):
        f()
        assert changes(before, components(f)) == []


def test_what_others_change_counts(load):
    module = load("rows = [1]\ndef f(): return sum(rows)")
    before = components(module.f)
    module.rows.append(2)
    assert changes(before, components(module.f)) == ["constant etl.rows has changed"]
    module.rows = "other"
    assert changes(before, components(module.f)) == ["constant etl.rows has changed"]


def test_a_helper_that_is_replaced_counts(load, monkeypatch):
    module = load("def g(): return 1\ndef f(): return g()")
    before = components(module.f)
    monkeypatch.setattr(module, "g", lambda: 2)
    assert "function etl.g is gone" in changes(before, components(module.f))


# What has no content

OPAQUE = {
    "socket": ("import socket\nS = socket.socket()\nS.close()\ndef f(): return S", "constant etl.S", "socket.socket"),
    "inside": (
        "import itertools\nA = {'a': [itertools.count()]}\ndef f(): return A",
        "constant etl.A['a'][0]",
        "itertools.count",
    ),
    "instance": (
        "import itertools\nclass C:\n    def __init__(self): self.ids = itertools.count()\nC = C()\ndef f(): return C",
        "constant etl.C.ids",
        "itertools.count",
    ),
    "default": ("import itertools\ndef f(x=itertools.count()): return x", "default x of etl.f", "itertools.count"),
    "closure": (
        "import itertools\ndef make(ids):\n    def f(): return ids\n    return f\nf = make(itertools.count())",
        "closure ids of etl.make.<locals>.f",
        "itertools.count",
    ),
    "base in C": (
        "import threading\nclass T(threading.Thread): pass\nt = T()\ndef f(): return t",
        "constant etl.t",
        "etl.T",
    ),
    "proxy of nothing": (
        (
            "class P:\n    def __getattribute__(self, name): raise RuntimeError(name)\n"
            "    def __call__(self): pass\np = P()\ndef f(): return p.x, p()"
        ),
        "constant etl.p",
        "etl.P",
    ),
    "generator": ("g = (x for x in [])\ndef f(): return g", "constant etl.g", "generator"),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_has_no_content_is_refused_by_name(load, name):
    source, label, type_name = OPAQUE[name]
    f = load(source).f
    with pytest.raises(UnsupportedValueError) as caught:
        components(f)
    assert (caught.value.path, caught.value.type_name) == (label, type_name)
    assert "version" in caught.value.hint
    assert initial_components(f) == initial_components(f)


def test_locks_streams_and_sentinels_count_by_type(load):
    source = """
        import asyncio, contextvars, sys, threading
        A = object(), threading.Lock(), threading.RLock(), threading.Event(), threading.local()
        B = [sys.stdout, sys.stderr, contextvars.ContextVar("v"), ..., NotImplemented, asyncio.Lock()]
        def f(): return A, B
    """
    assert diff(load, source, source) == []


def test_no_addresses(load):
    source = """
        import functools, operator
        class C: pass
        A = [C(), lambda: 1, functools.partial(lambda: 2), C, operator.itemgetter(1)]
        B = [print, "".join, dict.get, C.__init__]
        def f(): return A, B
    """
    assert diff(load, source, source) == []


# What a resume makes of it


def resumed(load, before, after):
    """Return what has changed as a resume sees it, and what it does not see."""
    missed: dict[str, str] = {}
    old, new = (initial_components(load(source).f, missed) for source in (before, after))
    return changes(old, new), [*missed.values()]


@pytest.mark.parametrize(
    ("made", "old", "new"),
    [
        ("itertools.count(@)", "1", "2"),
        ("io.StringIO('@')", "a", "b"),
        ("io.BytesIO(b'@')", "a", "b"),
        ("opened('@')", "a.txt", "b.txt"),
        ("opened('@', 'rb')", "a.txt", "b.txt"),
        ("argparse.Namespace(a=opened('@'))", "a.txt", "b.txt"),
        ("argparse.Namespace(a=[itertools.count(@)])", "1", "2"),
    ],
)
def test_what_moves_on_counts_as_it_began(load, tmp_path, monkeypatch, made, old, new):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).touch()
    source = f"""
        import argparse, io, itertools
        def opened(*where):
            with open(*where) as file: return file
        A = {made}
        def f(): return A
    """
    before, after = source.replace("@", old), source.replace("@", new)
    assert resumed(load, before, after) == (["constant etl.A has changed"], [])
    assert resumed(load, before, before) == ([], [])


def test_what_has_moved_on_is_the_same(load):
    module = load("import io, itertools\nA = itertools.count(1)\nB = io.StringIO('ab')\ndef f(): return A, B")
    before = initial_components(module.f)
    next(module.A)
    module.B.read(1)
    assert changes(before, initial_components(module.f)) == []


@pytest.mark.parametrize(
    "made",
    [
        "threading.Lock()",
        "threading.Thread(name='@')",
        "concurrent.futures.ThreadPoolExecutor(thread_name_prefix='@')",
        "logging.Formatter('%(message)s @')",
        "logging.StreamHandler()",
        "random.Random('@')",
        "queue.Queue(@)",
        "os.environ",
        "sys.version_info",
        "sys.stdout",
        "io.StringIO()",
        "itertools.count()",
        "types.SimpleNamespace(a=[random.Random('@')])",
        "argparse.Namespace(a=random.Random('@'))",
    ],
)
def test_what_belongs_to_a_process_counts_by_type(load, made):
    source = f"""
        import argparse, concurrent.futures, io, itertools, logging, os, queue, random, sys, threading, types
        A = {made}
        def f(): return A
    """
    assert resumed(load, source.replace("@", "1"), source.replace("@", "2")) == ([], [])


@pytest.mark.parametrize(
    ("made", "place", "type_name"),
    [
        ("iter([@])", "constant etl.A", "list_iterator"),
        ("{'a': [iter([@])]}", "constant etl.A['a'][0]", "list_iterator"),
        ("argparse.Namespace(a=iter([@]))", "constant etl.A.a", "list_iterator"),
        ("C(iter([@]))", "constant etl.A.a", "list_iterator"),
        ("[iter([@]), iter([])]", "constant etl.A[0]", "list_iterator"),
        ("E(@)", "constant etl.A", "etl.E"),
        ("T(name='@')", "constant etl.A", "etl.T"),
        ("ValueError(@)", "constant etl.A", "ValueError"),
        ("time.localtime(@)", "constant etl.A", "time.struct_time"),
        ("http.client.HTTPConnection('@')", "constant etl.A", "http.client.HTTPConnection"),
        ("unittest.mock.Mock(a=@)", "constant etl.A", "unittest.mock.Mock"),
        ("P()", "constant etl.A", "etl.P"),
    ],
)
def test_what_cannot_be_compared_is_named(load, made, place, type_name):
    source = f"""
        import argparse, http.client, threading, time, unittest.mock
        class E(Exception): pass
        class T(threading.Thread): pass
        class C:
            def __init__(self, a): self.a = a
        class P:
            def __getattribute__(self, name): raise RuntimeError(name)
        A = {made}
        def f(): return A
    """
    changed, missed = resumed(load, source.replace("@", "1"), source.replace("@", "2"))
    assert changed == []
    assert missed == [f"{place} is of type {type_name}"]


def test_what_the_code_itself_sets_is_not_missed(load):
    source = "c = None\ndef g():\n    global c\n    c = c or iter([])\n    return c\ndef f(): return g()\nf()"
    assert resumed(load, source, source) == ([], [])


def test_options_count_for_a_resume_as_they_were_first_seen(load):
    module = load("import argparse\nargs = argparse.Namespace(a=None)\ndef f(): return args.a")
    before = initial_components(module.f), components(module.f)
    module.args.a = 1
    assert changes(before[0], initial_components(module.f)) == []
    assert changes(before[1], components(module.f)) == ["constant etl.args.a has changed"]


# Size and shape


def test_deep_chains(load):
    source = "def g0(x): return x\n" + "".join(f"def g{n}(x): return g{n - 1}(x)\n" for n in range(1, 3000))
    f = load(source + "def f(x): return g2999(x)").f
    assert len(components(f)) == 3002


def test_deep_chains_of_registries(load):
    source = "def g0(): pass\n" + "".join(f"H{n} = [g{n - 1}]\ndef g{n}(): return H{n}\n" for n in range(1, 300))
    f = load(source + "f = g299").f
    assert len(components(f)) == 300 + 299 + 1


def test_circles(load):
    source = """
        A = [1]
        A.append(A)
        D = {"a": A}
        D["d"] = D
        class N:
            def __init__(self): self.other = self
        n = N()
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def f(x): return even(x), A, D, n, f
    """
    assert diff(load, source, source) == []
    assert diff(load, source, source.replace("A = [1]", "A = [2]")) == [
        "constant etl.A has changed",
        "constant etl.D has changed",
    ]


def test_deep_values(load):
    source = "A = []\nfor _ in range(100): A = [A]\ndef f(): return A"
    assert diff(load, source, source) == []
    with pytest.raises(UnsupportedValueError, match="nested more than 128 levels deep"):
        components(load(source.replace("100", "20_000")).f)


# Whose code it is


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package."""
    site = tmp_path / "venv" / "lib" / "site-packages"
    site.mkdir(parents=True)
    monkeypatch.syspath_prepend(site)

    def install(name, version, source):
        (site / f"{name}.py").write_text(textwrap.dedent(source))
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "top_level.txt").write_text(name)
        importlib.invalidate_caches()
        forget()

    def forget():
        from flowkit_state.fingerprint import provenance

        for cached in (provenance.of_module, provenance._of_file, provenance._distributions, provenance._version):
            cached.cache_clear()

    yield install
    forget()
    for name in ("flowkit_test_pkg",):
        sys.modules.pop(name, None)


PACKAGE = """
    import functools
    class Client:
        pass
    LIMIT = [1]
    def clean(x): return Client, LIMIT
    def retry(times):
        def decorate(function):
            @functools.wraps(function)
            def wrapper(*args): return [function(*args) for _ in range(times)]
            return wrapper
        return decorate
"""


@pytest.mark.parametrize(
    "source",
    [
        "import flowkit_test_pkg\ndef f(x): return flowkit_test_pkg.clean(x)",
        "import flowkit_test_pkg as p\ndef f(x): return p",
        "from flowkit_test_pkg import clean\ndef f(x): return clean(x)",
        "from flowkit_test_pkg import Client\ndef f(x): return Client()",
        "from flowkit_test_pkg import Client\nclass C(Client): pass\ndef f(x): return C()",
        "def f(x):\n    import flowkit_test_pkg as p\n    return p.clean(x)",
        "def f(x):\n    from flowkit_test_pkg import clean\n    return clean(x)",
    ],
)
def test_installed_packages_count_by_version(load, installed, source):
    installed("flowkit_test_pkg", "2.31", PACKAGE)
    parts = components(load(source).f)
    assert parts["package flowkit_test_pkg"] == "2.31"
    assert not [label for label in parts if "flowkit_test_pkg." in label]
    newer = {**parts, "package flowkit_test_pkg": "2.32"}
    assert changes(parts, newer) == ["package flowkit_test_pkg is 2.32, was 2.31"]


def test_what_a_package_wraps_counts(load, installed):
    installed("flowkit_test_pkg", "1", PACKAGE)
    source = "from flowkit_test_pkg import retry\n@retry(3)\ndef g(x): return 1\ndef f(x): return g(x)"
    assert diff(load, source, source.replace("return 1", "return 2")) == ["function etl.g has changed"]
    (told,) = diff(load, source, source.replace("retry(3)", "retry(4)"))
    assert told.startswith("closure times of flowkit_test_pkg.retry")


def test_a_module_in_site_packages_that_no_distribution_owns_counts_as_code(load, tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "flowkit_test_loose.py").write_text("def clean(x): return 1")
    monkeypatch.syspath_prepend(folder)
    parts = components(load("import flowkit_test_loose\ndef f(x): return flowkit_test_loose.clean(x)").f)
    assert "function flowkit_test_loose.clean" in parts
    monkeypatch.delitem(sys.modules, "flowkit_test_loose")


def test_the_standard_library_is_python(load):
    source = """
        import collections, json, math, os, os.path as p, re
        from functools import reduce
        from pathlib import Path
        def f(x):
            import sqlite3, email.message
            path = os.sep, p.join, Path
            return json.dumps, math.pi, path, re.match, reduce, collections.OrderedDict, email.message, sqlite3
    """
    assert sorted(components(load(source).f)) == ["fingerprint format", "function etl.f"]


def test_flowkit_itself_is_a_package(load):
    parts = components(load("import flowkit_state\ndef f(): return flowkit_state.StateManager()").f)
    assert sorted(parts) == ["fingerprint format", "function etl.f", "package flowkit-state"]


def test_foreign_functions_have_no_code_of_the_project():
    assert components(len) == components(len)
    assert components(textwrap.dedent) == {"fingerprint format": "2"}
    assert not [label for label in components(textwrap.dedent) if label.startswith("function")]


def test_an_import_that_fails_is_no_error(load):
    parts = components(load("def f():\n    try: import flowkit_no_such\n    except ImportError: return None").f)
    assert sorted(parts) == ["fingerprint format", "function etl.f"]


# Across processes

SCRIPT = """
import enum, dataclasses, multiprocessing, sys
class Color(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Row:
    color: Color = Color.RED
ROW, NAMES = Row(), {"a", "b", "c", Color.RED, 1.5}
def helper(x): return ROW, NAMES, x in {"x", "y", "z"}
def f(x): return [helper(y) for y in x]
def show(*_):
    from flowkit_state.fingerprint import components, key
    return key(components(f))
if __name__ == "__main__":
    print(show())
    import etl
    print(etl.show())
    if len(sys.argv) > 1:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(*pool.map(show, [1]))
"""


def test_scripts_workers_and_importers_agree(tmp_path):
    (tmp_path / "etl.py").write_text(SCRIPT)
    seen = []
    for number, command in enumerate((["etl.py", "pool"], ["-m", "etl"], ["-c", "import etl; print(etl.show())"])):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": str(number)}
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        seen += done.stdout.split()
    assert len(seen) == 6
    assert len(set(seen)) == 1


# Inputs


@dataclasses.dataclass
class Row:
    a: object
    b: int = 2

    def total(self):
        return helper(self.a)


class Color(enum.Enum):
    RED = 1


class Pair(typing.NamedTuple):
    a: int
    b: int


class Handle:
    """It may stand for anything."""


def helper(x):
    return x


def parsed(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser


def given_to(function, *args, **kwargs):
    signature = inspect.signature(function)
    return input_components(signature, signature.bind(*args, **kwargs).arguments)


def test_inputs_are_by_name_with_defaults():
    def f(a, b=2, *rest, c=3, **more): ...

    assert sorted(given_to(f, 1)) == ["fingerprint format", "input a", "input b", "input c", "input more", "input rest"]
    assert given_to(f, 1) == given_to(f, a=1, b=2, c=3)
    assert changes(given_to(f, 1), given_to(f, 2, 2, c=4)) == ["input 'a' has changed", "input 'c' has changed"]
    signature = inspect.signature(f)
    assert sorted(input_components(signature, {"a": 1}, ignore=("b", "more"))) == [
        "fingerprint format",
        "input a",
        "input c",
        "input rest",
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.integers() | st.text())
        | st.builds(Row, inner)
    ),
)


@given(values, values)
def test_inputs_are_compared_by_content_and_type(a, b):
    from flowkit_state.serialization.json_encoder import encode

    def f(x): ...

    assert (key(given_to(f, a)) == key(given_to(f, b))) == (
        encode(a) == encode(b) and repr(encode(a)) == repr(encode(b))
    )


def test_sharing_does_not_count():
    row, same = [1], [1]
    assert given_to(helper, [row, row]) == given_to(helper, [row, same])
    deep = [1]
    for _ in range(12):
        deep = [deep, deep]
    assert given_to(helper, deep) == given_to(helper, deep)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (array.array("i", [1, 2]), array.array("i", [1, 3])),
        (array.array("i", [1, 2]), array.array("h", [1, 2])),
        (collections.deque([1]), [1]),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list), collections.defaultdict(set)),
        (functools.partial(helper, 1), functools.partial(helper, 2)),
        (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
        (argparse.Namespace(a=[argparse.Namespace(b=1)]), argparse.Namespace(a=[argparse.Namespace(b=2)])),
        (argparse.Namespace(a=1), types.SimpleNamespace(a=1)),
        (string.Template("$a"), string.Template("$b")),
        (collections.UserDict(a=1), collections.UserDict(a=2)),
        (collections.ChainMap({"a": 1}), collections.ChainMap({"a": 2})),
        (parsed("[a]\nb = 1"), parsed("[a]\nb = 2")),
        (parsed("[a]\nb = 1")["a"], parsed("[a]\nb = 2")["a"]),
        (Row(1), Row(True)),
        (Pair(1, 2), (1, 2)),
        (Color.RED, 1),
        (helper, given_to),
    ],
)
def test_more_than_a_store_keeps(a, b):
    assert given_to(helper, a) == given_to(helper, a)
    assert given_to(helper, a)["input x"] != given_to(helper, b)["input x"]


def test_classes_of_inputs_are_components():
    name = f"{__name__}."
    assert {f"class {name}Row", f"function {name}Row.total", f"function {name}helper"} <= set(
        given_to(helper, [Row(1)])
    )
    assert f"class {name}Color" in given_to(helper, {"a": Color.RED})
    assert f"class {name}Pair" in given_to(helper, Pair(1, 2))


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Handle(),
        threading.Lock(),
        sys.stdout,
        iter([]),
        (x for x in ()),
        threading.Thread(),
        argparse.ArgumentParser(),
        io.StringIO(),
        itertools.count(),
    ],
)
def test_inputs_without_content_are_refused(value):
    with pytest.raises(UnsupportedValueError, match=r"argument \"x\"\['a'\]\[0\] is of type"):
        given_to(helper, {"a": [value]})


def test_a_default_without_content_is_the_default():
    missing = object()

    def f(x=missing): ...

    assert given_to(f) == given_to(f, missing)


class Array:
    """As much of a numpy array as is looked at."""

    def __init__(self, data, kind, hasobject=False):
        self.data, self.shape, self.dtype = (
            data,
            (len(data),),
            types.SimpleNamespace(names=None, str=kind, hasobject=hasobject),
        )

    def tobytes(self):
        return bytes(self.data)


Array.__module__ = "flowkit_state"  # of a package, not of the project


@pytest.fixture
def numpy(monkeypatch):
    module = types.SimpleNamespace(ndarray=Array, dtype=type("dtype", (), {}), generic=type("generic", (), {}))
    monkeypatch.setitem(sys.modules, "numpy", module)


@pytest.mark.usefixtures("numpy")
def test_arrays_count_by_content():
    one = given_to(helper, [Array([1, 2], "<i8")])["input x"]
    assert one == given_to(helper, [Array([1, 2], "<i8")])["input x"]
    for other in (Array([1, 3], "<i8"), Array([1, 2], "<u8"), Array([1, 2, 3], "<i8")):
        assert given_to(helper, [other])["input x"] != one
    with pytest.raises(UnsupportedValueError):
        given_to(helper, Array([1], "O", hasobject=True))


# In words


def test_changes_are_sentences():
    old = {
        "python": "3.11",
        "function etl.f": "a" * 64,
        "package requests": "2.31",
        "input rows": "b" * 64,
        "constant etl.A": "1",
    }
    new = {
        "python": "3.12",
        "function etl.f": "c" * 64,
        "package requests": "2.32",
        "input rows": "d" * 64,
        "function etl.g": "2",
    }
    told = [
        "python is 3.12, was 3.11",
        "function etl.f has changed",
        "package requests is 2.32, was 2.31",
        "input 'rows' has changed",
        "function etl.g is new",
        "constant etl.A is gone",
    ]
    assert changes(old, new) == changes(shortened(old), new) == changes(old, shortened(new)) == told
    assert changes(old, old) == changes(old, shortened(old)) == []
