"""Constants without comparable content are refused, or compared by type."""

from __future__ import annotations

import pytest

from flowkit_state import UnsupportedValueError
from flowkit_state.fingerprint import components, initial_components

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
def test_opaque_constant_is_refused_with_its_place(load, name):
    source, label, type_name = OPAQUE[name]
    f = load(source).f
    with pytest.raises(UnsupportedValueError) as caught:
        components(f)
    assert (caught.value.path, caught.value.type_name) == (label, type_name)
    assert "version" in caught.value.hint
    assert initial_components(f) == initial_components(f)


def test_output_streams_and_sentinels_are_compared_by_type(differences):
    source = """
        import sys
        A = object()
        B = [sys.stdout, sys.stderr, ..., NotImplemented]
        def f(): return A, B
    """
    assert differences(source, source) == []


def test_process_state_is_compared_by_type_if_runs_in_two_processes_are_compared(load):
    source = """
        import asyncio, contextvars, os, sys, threading
        A = threading.Lock(), threading.RLock(), threading.Event(), threading.local()
        B = [sys.stdin, contextvars.ContextVar("v"), asyncio.Lock()]
        def f(): return A, B, os.getcwd(), input()
    """
    missed = {}
    assert initial_components(load(source).f, missed) == initial_components(load(source).f)
    assert missed == {}


def test_components_contain_no_addresses(differences):
    source = """
        import functools, operator
        class C: pass
        A = [C(), lambda: 1, functools.partial(lambda: 2), C, operator.itemgetter(1)]
        B = [print, "".join, dict.get, C.__init__]
        def f(): return A, B
    """
    assert differences(source, source) == []
