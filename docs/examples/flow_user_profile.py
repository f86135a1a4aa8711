"""A customer's profile from three queries: the Flow API on a small SQLite database.

Try it, for other customers too:

    python flow_user_profile.py                         # the profile of customer 1
    python flow_user_profile.py 2 --executor process
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from flowkit import Flow, task

SHOP = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE orders (user_id INTEGER, item TEXT, price REAL);
    INSERT INTO users VALUES (1, 'Alice'), (2, 'Bob'), (3, 'Carol');
    INSERT INTO orders VALUES
        (1, 'tea', 4.5), (1, 'kettle', 39.0),
        (2, 'tea', 4.5), (2, 'cups', 24.0), (2, 'honey', 7.25),
        (3, 'kettle', 39.0), (3, 'cups', 24.0), (3, 'kettle', 39.0);
"""


def query(database: str, sql: str, **values: Any) -> list[Any]:
    """Return the rows of one query."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql, values).fetchall()


@task()
def fetch_user(*, database: str, customer: int) -> dict[str, Any]:
    """Find the customer, who must exist."""
    rows = query(database, "SELECT id, name FROM users WHERE id = :customer", customer=customer)
    if not rows:
        raise LookupError(f"the shop has no customer {customer}")
    return {"id": rows[0][0], "name": rows[0][1]}


@task()
def fetch_orders(*, database: str, customer: int) -> list[str]:
    """List what the customer has bought."""
    rows = query(database, "SELECT item FROM orders WHERE user_id = :customer ORDER BY item", customer=customer)
    return [item for (item,) in rows]


@task()
def fetch_recommendations(*, database: str, customer: int) -> list[str]:
    """List what customers with the same purchases also bought, the most frequent first."""
    rows = query(
        database,
        """
        SELECT item FROM orders
        WHERE item NOT IN (SELECT item FROM orders WHERE user_id = :customer)
          AND user_id IN (SELECT user_id FROM orders WHERE item IN (SELECT item FROM orders WHERE user_id = :customer))
        GROUP BY item ORDER BY COUNT(DISTINCT user_id) DESC, item
        """,
        customer=customer,
    )
    return [item for (item,) in rows]


@task()
def combine(fetch_user: dict[str, Any], fetch_orders: list[str], fetch_recommendations: list[str]) -> dict[str, Any]:
    """Combine the profile: each parameter has the name of the task whose result it takes."""
    return {
        "user": fetch_user,
        "orders": fetch_orders,
        "recommendations": fetch_recommendations,
    }


# Build the pipeline with method chaining.
pipeline = (
    Flow("user_pipeline", max_workers=5)
    .add(fetch_user)  # Start
    .branch(fetch_orders, fetch_recommendations)  # Parallel branches
    .merge(combine)  # Merge results
)


def main() -> None:
    """Create a database, run the flow for one customer, and print the profile."""
    parser = argparse.ArgumentParser(description="A customer's profile from three queries.")
    parser.add_argument("customer", nargs="?", type=int, default=1, help="1, 2 or 3")
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default="thread")
    options = parser.parse_args()

    print(pipeline.visualize(), end="\n\n")
    with tempfile.TemporaryDirectory() as scratch:
        database = str(Path(scratch, "shop.sqlite3"))
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(SHOP)
        results = pipeline.run(options.executor, params={"database": database, "customer": options.customer})

    profile = results["combine"]
    print(f"{profile['user']['name']} (customer {profile['user']['id']})")
    print(f"  has ordered   {', '.join(profile['orders']) or 'nothing'}")
    print(f"  may also like {', '.join(profile['recommendations']) or 'nothing'}")


if __name__ == "__main__":
    main()
