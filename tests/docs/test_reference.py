"""The API reference is complete, and the examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flowkit import Task

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ["flowkit_core", "flowkit_exec", "flowkit_flow", "flowkit_log", "flowkit_state"]


def modules_of(layer: str) -> list[ModuleType]:
    package = importlib.import_module(layer)
    inner = [info.name for info in pkgutil.walk_packages(package.__path__, f"{layer}.") if not info.name.endswith("__")]
    return [package, *(module for name in inner if (module := imported(name)) is not None)]


def imported(name: str) -> ModuleType | None:
    """Return a module; None if it is for an optional package that is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("flowkit"):
            raise
        return None


@pytest.mark.parametrize("layer", LAYERS)
def test_reference_has_every_public_name_once(layer: str) -> None:
    pages = "\n".join(path.read_text("utf-8") for path in ROOT.glob("docs/pages/api/*.md"))
    documented = re.findall(rf"^::: {layer}\.(\w+)$", pages, re.MULTILINE)
    assert sorted(documented) == sorted(importlib.import_module(layer).__all__)


@pytest.mark.parametrize("module", ["flowkit", *LAYERS])
def test_doctests_of_module(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    for each in modules_of(module):
        for example in doctest.DocTestFinder(exclude_empty=True).find(each):
            Task.clear_registry()
            runner.run(example)
    assert not runner.summarize(verbose=False).failed, capsys.readouterr().out
