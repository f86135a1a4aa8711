"""Edits that have an effect on results change the fingerprint, and the label of the component names them."""

from __future__ import annotations

import pytest

from flowkit_state.fingerprint import changes, components

IMPORT = "import helpers\ndef f(x): return helpers.clean(x)"


CHANGED = {
    "code": ("def f(x): return x + 1", "def f(x): return x + 2", ["function etl.f has changed"]),
    "swapped branches": (
        "def f(x): return 1 if x else 2",
        "def f(x): return 2 if x else 1",
        ["function etl.f has changed"],
    ),
    "exception handler": (
        "def f(x):\n    try: x()\n    except KeyError: pass",
        "def f(x):\n    try: x()\n    except IndexError: pass",
        ["function etl.f has changed"],
    ),
    "function re-exported by a module that is used as a value": (
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
    "annotation of a class": (
        "class A:\n    day: int\ndef f(): return A.__annotations__",
        "class A:\n    day: str\ndef f(): return A.__annotations__",
        ["constant etl.A.__annotations__ has changed"],
    ),
    "type of a field of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    day: int\ndef f(): return dataclasses.fields(A)",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    day: str\ndef f(): return dataclasses.fields(A)",
        ["constant etl.A.__annotations__ has changed"],
    ),
    "type of a key of a TypedDict": (
        "import typing\nclass A(typing.TypedDict):\n    day: int\ndef f(): return typing.get_type_hints(A)",
        "import typing\nclass A(typing.TypedDict):\n    day: str\ndef f(): return typing.get_type_hints(A)",
        ["constant etl.A.__annotations__ has changed"],
    ),
    "dunder list of a class": (
        "class A:\n    __columns__ = ['a']\ndef f(): return A.__columns__",
        "class A:\n    __columns__ = ['b']\ndef f(): return A.__columns__",
        ["constant etl.A.__columns__ has changed"],
    ),
    "dunder constant of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    __table__ = 'a'\ndef f(): return A.__table__",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    __table__ = 'b'\ndef f(): return A.__table__",
        ["constant etl.A.__table__ has changed"],
    ),
    "attribute of a class that is named like one of namedtuples": (
        "class A:\n    _fields = ['a']\ndef f(): return A._fields",
        "class A:\n    _fields = ['b']\ndef f(): return A._fields",
        ["constant etl.A._fields has changed"],
    ),
    "dunder constant of a class": (
        "class A:\n    __tablename__ = 'a'\ndef f(): return A.__tablename__",
        "class A:\n    __tablename__ = 'b'\ndef f(): return A.__tablename__",
        ["constant etl.A.__tablename__ has changed"],
    ),
    "initial value of what the code changes": (
        "C = {'rate': 1, 'seen': []}\ndef f():\n    C['seen'].append(1)\n    return C['rate']",
        "C = {'rate': 2, 'seen': []}\ndef f():\n    C['seen'].append(1)\n    return C['rate']",
        ["constant etl.C has changed"],
    ),
    "keywords of a call": (
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
    "module that a name is imported from": (
        {"etl": "from helpers import clean\ndef f(x): return clean(x)", "helpers": "def clean(x): return x"},
        "def clean(x): return x\ndef f(x): return clean(x)",
        ["function etl.f has changed", "function etl.clean is new", "function helpers.clean is gone"],
    ),
    "order of two lambdas": (
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
    "order in a registry": (
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
    "a function that hides a builtin": (
        "def f(x): return len(x)",
        "def len(x): return 1\ndef f(x): return len(x)",
        ["function etl.f has changed", "function etl.len is new"],
    ),
}


HEAD = "import functools, contextlib\n"


G = "def g(x): return 1\n", "def g(x): return 2\n"


USES = {
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
}


@pytest.mark.parametrize("name", USES)
def test_edit_of_function_used_in_another_way_changes_component(differences, name):
    before, after = (HEAD + helper + USES[name] for helper in G)
    assert differences(before, before) == []
    assert differences(before, after) == ["function etl.g has changed"]


@pytest.mark.parametrize("name", CHANGED)
def test_edit_with_effect_changes_component(differences, name):
    before, after, expected = CHANGED[name]
    assert sorted(differences(before, after)) == sorted(expected)
    assert differences(before, before) == []


def test_value_changed_by_other_code_changes_component(load):
    module = load("rows = [1]\ndef f(): return sum(rows)")
    before = components(module.f)
    module.rows.append(2)
    assert changes(before, components(module.f)) == ["constant etl.rows has changed"]
    module.rows = "other"
    assert changes(before, components(module.f)) == ["constant etl.rows has changed"]


def test_replaced_helper_changes_components(load, monkeypatch):
    module = load("def g(): return 1\ndef f(): return g()")
    before = components(module.f)
    monkeypatch.setattr(module, "g", lambda: 2)
    assert "function etl.g is gone" in changes(before, components(module.f))
