"""The signatures that were promised to users accept the same calls, and methods return the promised types."""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pytest

import flowkit
from flowkit import DAG, Results, Task, task

TEXT = (Path(__file__).parent / "promise" / "blocks.txt").read_text("utf-8")
_, *_parts = re.split(r"^=== (.+)\n", TEXT, flags=re.MULTILINE)
BLOCKS = dict(zip(_parts[::2], _parts[1::2], strict=True))


def promised(name: str) -> Any:
    """Create the class or function that a block of the reference describes, without bodies."""
    source = re.sub(r"^(?=\w+\($)", "def ", BLOCKS[f"api {name}"], flags=re.MULTILINE)
    source = re.sub(r"^( *(?:def .*|\).*)[^(,\n])$", r"\1: ...", source, flags=re.MULTILINE)
    source = re.sub(r"^( *\))$", r"\1: ...", source, flags=re.MULTILINE)
    names: dict[str, Any] = {**vars(typing), **vars(flowkit)}
    exec(source, names)
    return names[name]


def parameters(function: Any) -> list[inspect.Parameter]:
    return [each for each in inspect.signature(function).parameters.values() if each.name != "self"]


def check(real: Any, promise: Any, *, inserted: tuple[str, ...] = (), defaults: dict[str, Any] | None = None) -> None:
    """Compare names, order, kinds and defaults; additional parameters must not affect a promised call."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    wanted = parameters(promise)
    known = {each.name: each for each in parameters(real) if each.name not in inserted}
    for each in wanted:
        default = (defaults or {}).get(each.name, each.default)
        assert each.name in known, f"{each.name} is not in {inspect.signature(real)}"
        found = known[each.name]
        assert (found.kind, found.default) == (each.kind, default), each.name
    order = [name for name in known if name in {each.name for each in wanted}]
    assert order == [each.name for each in wanted]
    positions = [each.name for each in wanted if each.kind in by_position]
    assert [name for name, each in known.items() if each.kind in by_position][: len(positions)] == positions
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for each in parameters(real):
        if each.name not in order and each.kind not in optional:
            assert each.default is not inspect.Parameter.empty, f"{each.name} would have to be given"


METHODS = {
    "Task": ["__init__"],
    "DAG": ["__init__", "run", "visualize"],
    "Flow": ["__init__", "add", "branch", "merge", "run", "visualize"],
    "StateManager": ["__init__", "set", "get", "has", "delete", "clear", "get_all"],
}


@pytest.mark.parametrize(("name", "method"), [(name, method) for name in METHODS for method in METHODS[name]])
def test_method_signature_accepts_documented_calls(name: str, method: str) -> None:
    # the default of run() is None, which means threads if installed: see test_promise.py
    defaults = {"executor": None} if method == "run" else {}
    check(getattr(getattr(flowkit, name), method), vars(promised(name))[method], defaults=defaults)


@pytest.mark.parametrize("name", METHODS)
def test_signatures_of_all_documented_methods_are_compared(name: str) -> None:
    assert [key for key, value in vars(promised(name)).items() if inspect.isfunction(value)] == METHODS[name]


def test_task_signature_accepts_documented_calls() -> None:
    check(task, promised("task"))


def test_configure_logging_signature_accepts_documented_calls() -> None:
    """The blocks give use_colors as a keyword; the reference leaves it out."""
    check(flowkit.configure_logging, promised("configure_logging"), inserted=("use_colors",))
    assert flowkit.configure_logging.__annotations__["return"] == "FlowkitLogger"


def test_methods_return_documented_types() -> None:
    one = Task(lambda: 1, name="one")
    results = DAG("one", tasks=[one]).run()
    assert isinstance(results, dict)
    assert type(results) is Results
    flow = flowkit.Flow()
    assert flow.add(one) is flow
    assert flow.branch(one.with_options(name="two"), one.with_options(name="three")) is flow
    assert flow.merge(one.with_options(name="four")) is flow
    assert flow.run() == {"one": 1, "two": 1, "three": 1, "four": 1}
    assert isinstance(task(retries=1)(lambda: 1), Task)
    assert (DAG().name, flow.name) == ("workflow", "flow")
