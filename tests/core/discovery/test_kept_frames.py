"""Frames and dictionaries of local variables that live on after a call has returned change nothing."""

from __future__ import annotations

import copy
import sys

import pytest

from flowkit_core import DAG, Task


def test_returned_locals_hold_only_local_variables():
    """locals() of a call that made tasks shows no more than its variables, for f(**locals()) at most one more."""

    def build(n):
        a = Task(lambda: n, name="a")
        return {name: value for name, value in locals().items() if name.isidentifier()}

    names = build(1)
    assert set(names) == {"n", "a"}


@pytest.mark.parametrize("how", ["returned", "copied", "deep-copied", "formatted"])
def test_locals_that_are_kept_change_nothing(how):
    """A dictionary of the local variables that lives on, as template engines keep it."""
    kept = []

    def helper(n):
        a = Task(lambda: n, name=f"a{n}")
        text = "value"
        if how == "formatted":
            kept.append("{text}".format(**locals()))
        elif how == "copied":
            kept.append(dict(locals()))
        elif how == "deep-copied":
            kept.append(copy.deepcopy({k: v for k, v in locals().items() if isinstance(v, (str, Task))}))
        del text
        return locals() if how == "returned" else a

    def build(n):
        kept.append(helper(n))
        return DAG("d")

    assert [build(n).run("serial") for n in range(3)] == [{f"a{n}": n} for n in range(3)]


@pytest.mark.parametrize(
    "how",
    ["frame", "f_back", "inspect", "generator frame", "summary"],
)
def test_frames_that_are_kept_change_nothing(how):
    """A frame object of a helper that lives on after its call has returned."""
    import inspect
    import traceback

    kept = []

    def keep():
        if how == "frame":
            kept.append(sys._getframe(1))
        elif how == "f_back":
            kept.append(sys._getframe(0))
        elif how == "inspect":
            kept.append(inspect.stack())
        elif how == "summary":
            kept.append(traceback.extract_stack())
        else:
            kept.append(next(frame for frame in iter([sys._getframe(1)])))

    def helper(n):
        Task(lambda: n, name=f"a{n}")
        keep()

    def build(n):
        helper(n)
        return DAG("d")

    assert [build(n).run("serial") for n in range(3)] == [{f"a{n}": n} for n in range(3)]
