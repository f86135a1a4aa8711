"""``flowkit`` exports the public names of all other distributions, and no other name."""

from __future__ import annotations

import importlib
import pickle
from collections import Counter

import pytest

import flowkit

LAYERS = ["flowkit_core", "flowkit_exec", "flowkit_flow", "flowkit_log", "flowkit_state"]
NAMES = {layer: importlib.import_module(layer).__all__ for layer in LAYERS}


def constants_classes_functions(name: str) -> tuple[bool, bool, str]:
    """Sort key of ruff for ``__all__``."""
    return not name.isupper(), name[0].islower(), name


@pytest.mark.parametrize("layer", LAYERS)
def test_public_name_of_layer_is_exported_once(layer: str) -> None:
    times = Counter(flowkit.__all__)
    assert {name: times[name] for name in NAMES[layer] if times[name] != 1} == {}


@pytest.mark.parametrize("layer", LAYERS)
def test_exported_name_is_object_of_layer(layer: str) -> None:
    module = importlib.import_module(layer)
    assert [name for name in NAMES[layer] if getattr(flowkit, name, None) is not getattr(module, name)] == []


def test_public_names_of_layers_are_distinct() -> None:
    times = Counter(name for names in NAMES.values() for name in names)
    assert [name for name, count in times.items() if count > 1] == []


def test_flowkit_has_no_other_name() -> None:
    assert set(flowkit.__all__) <= {name for names in NAMES.values() for name in names}


@pytest.mark.parametrize("module", ["flowkit", *LAYERS])
def test_public_names_are_sorted_and_defined(module: str) -> None:
    imported = importlib.import_module(module)
    assert imported.__all__ == sorted(imported.__all__, key=constants_classes_functions)
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


@pytest.mark.parametrize("module", ["flowkit", *LAYERS])
def test_public_names_have_docstrings(module: str) -> None:
    imported = importlib.import_module(module)
    assert imported.__doc__
    public = {name: getattr(imported, name) for name in imported.__all__}
    assert [name for name, value in public.items() if callable(value) and not (value.__doc__ or "").strip()] == []


@pytest.mark.parametrize("name", ["DAG", "Flow", "LogLevel", "StateManager", "Task", "task"])
def test_pickle_refers_to_layer(name: str) -> None:
    value = getattr(flowkit, name)
    assert value.__module__.split(".")[0] in LAYERS
    assert pickle.loads(pickle.dumps(value)) is value


def test_version_of_flowkit_is_that_of_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"flowkit": "1.2.3"}.__getitem__)
    assert flowkit.__version__ == "1.2.3"
