"""The package: its public names, what its import loads, and its errors."""

from __future__ import annotations

import doctest
import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import flowkit_state
from flowkit_state import (
    CacheKeyError,
    RestoreError,
    StateClosedError,
    StateError,
    StateFileError,
    StateLockedError,
    StateOptionError,
    StateOptionTypeError,
    StateVersionError,
    UnsupportedValueError,
    UntrustedPickleError,
)

ERRORS = [
    StateError("words"),
    StateOptionError("ttl", -1, "0 or more"),
    StateOptionTypeError("ttl", "x", "a number"),
    CacheKeyError("ask", "(query)", "(connection, query)", "it does not take 'connection'"),
    UnsupportedValueError("k", "value[0]", "object", "which cannot be restored exactly", "Convert it."),
    RestoreError("k", "it is damaged."),
    StateClosedError("/a/state.db"),
    StateFileError("/a/state.db", "it is gone.", 2),
    StateLockedError("/a/state.db", "it is locked.", 11),
    StateVersionError("/a/state.db", 3, 1),
    UntrustedPickleError("/a/state.db", "it is not yours."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_pickled_with_attributes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    facts = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    assert {name: getattr(copy, name) for name in facts} == facts
    assert isinstance(error, StateError)
    if isinstance(error, OSError):
        assert (copy.errno, copy.filename) == (error.errno, "/a/state.db")


def test_public_names_are_sorted_and_exist():
    assert flowkit_state.__all__ == sorted(flowkit_state.__all__)
    for name in flowkit_state.__all__:
        assert getattr(flowkit_state, name).__name__ == name
    errors = {name for name, item in vars(flowkit_state.errors).items() if isinstance(item, type)}
    assert errors <= set(flowkit_state.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Statemanager'"):
        _ = flowkit_state.Statemanager


def test_import_loads_no_heavy_modules():
    heavy = "json sqlite3 pickle datetime decimal hashlib tempfile zoneinfo typing dataclasses inspect logging re json"
    code = f"import flowkit_state, sys; print([name for name in {heavy.split()!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(Path(flowkit_state.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "name", ["flowkit_state", "flowkit_state.manager", "flowkit_state.cache", "flowkit_state.result_cache"]
)
def test_examples_in_docstrings_pass(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0
