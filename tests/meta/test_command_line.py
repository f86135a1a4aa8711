"""`python -m flowkit`: the command of flowkit-view, or what to install."""

from __future__ import annotations

import runpy
import sys
from types import ModuleType

import pytest


@pytest.fixture
def command_module(monkeypatch):
    """Return an empty module in place of the one that has the command."""
    for name in ("flowkit_view", "flowkit_view.command_line", "flowkit_view.command_line.main"):
        module = ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    return module


def exit_code():
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("flowkit", run_name="__main__")
    return caught.value.code


def test_missing_command_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "flowkit_view", None)
    assert exit_code() == 2
    assert "install it with pip install ./packages/flowkit-view" in capsys.readouterr().err


def test_command_returns_the_exit_code(command_module):
    command_module.main = lambda: 1
    assert exit_code() == 1


def test_other_missing_modules_are_errors(command_module):
    def load(name):
        raise ModuleNotFoundError("no module 'other'", name="other")

    command_module.__getattr__ = load
    with pytest.raises(ModuleNotFoundError, match="other"):
        runpy.run_module("flowkit", run_name="__main__")
