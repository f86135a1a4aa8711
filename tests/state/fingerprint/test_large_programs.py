"""Long chains of functions, cyclic values and deeply nested values."""

from __future__ import annotations

import pytest

from flowkit_state import UnsupportedValueError
from flowkit_state.fingerprint import components


def test_long_chain_of_functions_is_collected(load):
    source = "def g0(x): return x\n" + "".join(f"def g{n}(x): return g{n - 1}(x)\n" for n in range(1, 3000))
    f = load(source + "def f(x): return g2999(x)").f
    assert len(components(f)) == 3002


def test_long_chain_of_registries_is_collected(load):
    source = "def g0(): pass\n" + "".join(f"H{n} = [g{n - 1}]\ndef g{n}(): return H{n}\n" for n in range(1, 300))
    f = load(source + "f = g299").f
    assert len(components(f)) == 300 + 299 + 1


def test_cyclic_values_and_functions_are_compared(differences):
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
    assert differences(source, source) == []
    assert differences(source, source.replace("A = [1]", "A = [2]")) == [
        "constant etl.A has changed",
        "constant etl.D has changed",
    ]


def test_deeply_nested_value_is_compared(load, differences):
    source = "A = []\nfor _ in range(100): A = [A]\ndef f(): return A"
    assert differences(source, source) == []
    with pytest.raises(UnsupportedValueError, match="nested more than 128 levels deep"):
        components(load(source.replace("100", "20_000")).f)
