"""Values that the code itself changes do not count."""

from __future__ import annotations

import pytest

from flowkit_state.fingerprint import changes, components

CHANGED_BY_CODE = {
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


@pytest.mark.parametrize("name", CHANGED_BY_CODE)
def test_value_changed_by_the_code_keeps_components(load, name):
    sources = CHANGED_BY_CODE[name]
    f = load(**({"etl": sources} if isinstance(sources, str) else sources)).f
    before = components(f)
    for _ in range(3):
        f()
        assert changes(before, components(f)) == []
