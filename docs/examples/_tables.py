"""A library of a company on top of flowkit: pipelines for its tables, which programs use as tasks.

It needs ``flowkit-core`` only. A program says what is special about a table, and gets one task for it:

    customers = table("customers", read_customers, key="id", required=["name"])
    orders = table("orders", read_orders, key="id", required=["customer", "amount"])
    [customers, orders] >> report

See ``library.py`` for such a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowkit_core import DAG, Task, current

Rows = list[dict[str, Any]]


class TableError(ValueError):
    """The rows of a table break a rule of the company.

    Attributes:
        table: name of the table.
        rows: number of rows that break it.
    """

    def __init__(self, table: str, rule: str, rows: int) -> None:
        super().__init__(f"table {table!r}: {rows} rows {rule}")
        self.table, self.rows = table, rows


def table(
    name: str,
    read: Callable[[str], Rows],
    *,
    key: str,
    required: Sequence[str] = (),
    when: Callable[..., object] | None = None,
) -> Task[..., Any]:
    """Return a task that reads a table, checks it, and returns its rows, the last one of each key.

    It is a pipeline of the tasks ``read``, ``check`` and ``latest``, which takes the parameter ``source``.

    Args:
        name: name of the table, and of the task.
        read: reads the rows of a source; it is repeated after an OSError.
        key: name of the column that identifies a row.
        required: names of the columns that must not be empty.
        when: condition on the source; if it is false, the table is skipped.
    """

    def check(rows: Rows) -> Rows:
        missing = sum(any(not row.get(column) for column in (key, *required)) for row in rows)
        if missing:
            raise TableError(name, f"have no {' or '.join((key, *required))}", missing)
        return rows

    def latest(rows: Rows) -> Rows:
        found = {row[key]: row for row in rows}
        current().logger.info(f"{len(found)} of {len(rows)} rows")
        return list(found.values())

    def read_source(source: str) -> Rows:
        return read(source)

    with DAG(name) as pipeline:
        first = Task(read_source, name="read", retries=3, delay=0.1, retry_on=OSError)
        first >> Task(check) >> Task(latest)
    return pipeline.as_task(when=when)
