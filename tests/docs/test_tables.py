"""The tables of the docs are complete: task options, arguments of run(), attributes of results, events and fields."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import flowkit
from flowkit import DAG, Event, Results, Task

PAGES = Path(__file__).resolve().parents[2] / "docs" / "pages"


def table_rows(page: str, heading: str) -> dict[str, str]:
    """Return the rows of the first table below a heading: name in the first cell -> the rest of the row."""
    _, _, section = (PAGES / page).read_text("utf-8").partition(f"\n## {heading}\n")
    table = re.search(r"^\|.*\n\| ---.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    assert table is not None, f"{page} has no table below {heading!r}"
    rows = [row.strip("|\n ").split(" | ", 1) for row in table[1].splitlines()]
    return {name: rest for cell, rest in rows for name in re.findall(r"`\.?(\w+)`", cell)}


def test_table_of_run_has_every_argument() -> None:
    parameters = inspect.signature(DAG.run).parameters.values()
    arguments = [each.name for each in parameters if each.name != "self" and each.kind is not each.VAR_KEYWORD]
    assert list(table_rows("running.md", "What `run()` takes")) == arguments


def test_table_of_results_has_every_attribute() -> None:
    attributes = {name for name, value in vars(Results).items() if isinstance(value, property) and name[0] != "_"}
    assert set(table_rows("running.md", "Results")) == attributes | {"run_id"}


def test_table_of_events_has_every_event_and_field() -> None:
    public = {name: getattr(flowkit, name) for name in flowkit.__all__}
    events = {name: value for name, value in public.items() if isinstance(value, type) and issubclass(value, Event)}
    rows = table_rows("running.md", "Events")
    assert set(rows) == set(events) - {"Event", "ElementEvent"}
    for name, row in rows.items():
        fields = {field for base in events[name].__mro__[:-2] for field in vars(base).get("__slots__", ())}
        shown = set(re.findall(r"`(\w+)`", row.split(" | ")[1]))
        assert shown == fields, name


def test_table_of_task_options_has_every_option() -> None:
    parameters = inspect.signature(Task).parameters
    assert set(table_rows("tasks.md", "The options")) == set(parameters) - {"func"}
