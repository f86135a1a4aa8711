"""Stored references to classes: what they resolve to, and what they cannot do."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
import types

import pytest

from flowkit_state import (
    RestoreError,
    StateManager,
)


@pytest.fixture
def shop():
    """An empty module, which tests fill, change and remove."""
    module = types.ModuleType("shop_of_the_test")
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


def define(module, source):
    exec(f"import dataclasses, enum, collections\n{source}", module.__dict__)


ITEM = "@dataclasses.dataclass\nclass Item:\n    name: str\n    def __post_init__(self): raise RuntimeError('ran')\n"


def item(module, name):
    made = object.__new__(module.Item)
    made.name = name
    return made


def test_restoring_object_runs_no_code_of_its_class(shop):
    define(shop, ITEM)
    state = StateManager()
    state.set("a", item(shop, "x"))
    assert state.get("a").name == "x"


def test_class_of_module_that_is_not_imported_is_named_in_error(shop, path):
    define(shop, ITEM)
    with StateManager(path) as state:
        state.set("a", item(shop, "x"))
        del sys.modules[shop.__name__]
        assert state.has("a")
        with pytest.raises(RestoreError, match="shop_of_the_test is not imported here; import it first") as raised:
            state.get("a")
        assert not raised.value.damaged
        sys.modules[shop.__name__] = shop
        assert state.get("a").name == "x"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (ITEM, ITEM.replace("name: str", "name: str\n    price: int"), "no longer a dataclass with the fields name"),
        (ITEM, "", "has no such class"),
        (ITEM, "class Item: pass", "no longer a dataclass"),
        (ITEM, "Item = 7", "has no such class"),
        ("class Item(enum.Enum):\n    A = 1", "class Item(enum.Enum):\n    B = 1", "has no member A"),
        ("class Item(enum.Enum):\n    A = 1", ITEM, "is not an enum"),
        (
            "Item = collections.namedtuple('Item', 'a b')",
            "Item = collections.namedtuple('Item', 'b a')",
            "no longer a named tuple",
        ),
    ],
)
def test_changed_class_is_named_in_error(shop, before, after, words):
    define(shop, before)
    Item = shop.Item  # noqa: N806
    value = Item.A if issubclass(Item, enum.Enum) else Item(1, 2) if issubclass(Item, tuple) else item(shop, "x")
    state = StateManager()
    state.set("a", value)
    del shop.Item
    define(shop, after)
    with pytest.raises(RestoreError, match=words):
        state.get("a")


def test_file_cannot_import_modules_or_call_functions(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", "HERE")
    text = path.read_text()
    for evil in (
        '{"$dataclass": ["antigravity:x", {}]}',
        '{"$enum": ["os:system", "true"]}',
        '{"$namedtuple": ["os:_exit", [], [1]]}',
        '{"$dataclass": ["subprocess:Popen", {"args": "true"}]}',
        '{"$dataclass": [7, 7]}',
        '{"$enum": []}',
        '{"$zoneinfo": "../../etc/passwd"}',
        '{"$path": ["__builtins__", "x"]}',
        '{"$range": [1, 2, 0]}',
        '{"$bytes": "*"}',
        '{"$tuple": null}',
        '{"$set": [[1]]}',
        '{"$dict": [[1]]}',
        '{"$nothing": 1}',
    ):
        path.write_text(text.replace('"HERE"', evil))
        with (
            StateManager(path) as state,
            pytest.raises(RestoreError, match=r"cannot restore the value of key 'a' in .*state.json: "),
        ):
            state.get("a")
    assert "antigravity" not in sys.modules


def test_class_of_script_equals_class_of_imported_module(tmp_path):
    (tmp_path / "shop.py").write_text(
        """
import sys
from dataclasses import dataclass
from flowkit_state import StateManager

@dataclass
class Order:
    number: int

def main():
    with StateManager("shop.db") as state:
        print(state.get("order"))
        state.set("order", Order(7))

if __name__ == "__main__":
    main()
"""
    )
    commands = [["shop.py"], ["-c", "import shop; shop.main()"], ["shop.py"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    outputs = [
        subprocess.check_output([sys.executable, *command], cwd=tmp_path, env=environment, text=True)
        for command in commands
    ]
    assert outputs == ["None\n", "Order(number=7)\n", "Order(number=7)\n"]
