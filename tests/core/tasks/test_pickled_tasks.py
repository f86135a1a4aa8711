"""Pickles and copies of tasks."""

from __future__ import annotations

import copy
import pickle

import pytest

from flowkit_core import DAG, Task, task


@task
def plain(x: int = 20) -> int:
    """Return one more."""
    return x + 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["plain", "with_options", "another_plain"])
def test_pickle_of_task_of_module(name, protocol, importable):
    """Name, options and function are equal."""
    original = getattr(importable, name)
    back = pickle.loads(pickle.dumps(original, protocol))
    assert (back.name, back.retries, back.func) == (original.name, original.retries, original.func)


def test_pickle_of_decorated_function_is_by_reference(importable):
    """Unpickling returns the same object."""
    text = pickle.dumps(importable.plain)
    assert pickle.loads(text) is importable.plain
    assert len(text) < 200


def test_pickle_of_wired_task_excludes_pipeline(importable):
    """Its size does not depend on the chain."""
    previous = importable.plain
    for position in range(10_000):
        following = importable.plain.with_options(name=f"plain_{position}")
        previous >> following
        previous = following
    assert len(pickle.dumps(importable.plain)) < 200
    assert len(pickle.dumps(previous)) < 1_000


def test_unpickled_task_is_not_discovered(importable):
    text = pickle.dumps(importable.another_plain)
    made = Task(lambda: 1, name="made")
    pickle.loads(text)
    assert DAG("after").tasks == (made,)


@pytest.fixture
def importable(monkeypatch, tmp_path):
    """A module that can be imported by name, with three tasks."""
    import importlib
    import sys

    (tmp_path / "pickled_tasks.py").write_text(
        "from flowkit_core import task\n"
        "@task\ndef plain(x=1): return x\n"
        "@task(name='other', retries=2)\ndef with_options(): return 1\n"
        "another_plain = plain.with_options(name='another_plain', retries=4)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("pickled_tasks")
    sys.modules.pop("pickled_tasks", None)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy_of_task_can_be_called(duplicate):
    """copy() and deepcopy() of a structure with tasks."""
    assert duplicate({"step": plain})["step"](1) == 2
