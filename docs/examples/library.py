"""A program that uses a library of its own on top of flowkit: the tables of ``_tables.py``, as tasks of one pipeline.

    python library.py
    python library.py --executor serial --without orders     # a table without a source is skipped

The library builds a small pipeline for each table. Each is one task here, and its tasks run beside those of the others:

    customers.read → customers.check → customers.latest ─┬─ revenue
    orders.read    → orders.check    → orders.latest ────┘
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from _tables import Rows, table

from flowkit import DAG, task

ROWS: dict[str, Rows] = {
    "customers": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Alan"}, {"id": 1, "name": "Ada Lovelace"}],
    "orders": [
        {"id": 7, "customer": 1, "amount": 20.0},
        {"id": 8, "customer": 2, "amount": 5.0},
        {"id": 9, "customer": 1, "amount": 7.5},
    ],
}


def read_json(source: str) -> Any:
    """Read the rows of a table from a file."""
    return json.loads(Path(source).read_text("utf-8"))


def has_source(source: str) -> bool:
    """Return whether the file of a table exists."""
    return Path(source).exists()


customers = table("customers", read_json, key="id", required=["name"])
orders = table("orders", read_json, key="id", required=["customer", "amount"], when=has_source)


@task
def revenue(customers: Rows, orders: Rows | None = None) -> dict[str, float]:
    """Return the revenue of each customer; without orders, it is zero."""
    total = dict.fromkeys([row["name"] for row in customers], 0.0)
    names = {row["id"]: row["name"] for row in customers}
    for row in orders or []:
        total[names[row["customer"]]] += row["amount"]
    return total


[customers, orders] >> revenue

REVENUE = DAG("revenue", tasks=[revenue])


def main() -> None:
    """Read the command line, write the tables, run the pipeline, and print the revenue."""
    parser = argparse.ArgumentParser(description="Report the revenue of each customer.")
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default="thread")
    parser.add_argument("--without", action="append", default=[], choices=["orders"], help="a table without a source")
    options = parser.parse_args()

    print(REVENUE.visualize(), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        params = {}
        for name, rows in ROWS.items():
            params[f"{name}.source"] = str(Path(folder, f"{name}.json"))
            if name not in options.without:
                Path(folder, f"{name}.json").write_text(json.dumps(rows), "utf-8")
        results = REVENUE.run(options.executor, params=params, keep=["revenue"])
    for name, amount in results["revenue"].items():
        print(f"{name:<14} {amount:6.2f}")
    for name, reason in results.skipped.items():
        print(f"skipped: {name} ({reason})")


if __name__ == "__main__":
    main()
