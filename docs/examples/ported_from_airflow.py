"""A DAG that was written for Airflow, ported: daily sales, with a sensor, a branch, a task group, and a backfill.

    python ported_from_airflow.py                                     # a week, in a folder of its own
    python ported_from_airflow.py --from 2026-11-02 --to 2026-11-08
    python ported_from_airflow.py --folder sales --fail-on 2026-11-04 # one day fails, the others are loaded ...
    python ported_from_airflow.py --folder sales --clear 2026-11-04   # ... and is read again, from "extract" on

What Airflow has, and what is here in its place:

    FileSensor(poke_interval=0.01)        a task that raises while the file is missing, with retries and delay
    @task.branch                          raise Skip(...), and defaults for what was skipped
    TaskGroup("quality")                  the pipeline QUALITY, used with as_task()
    execution_timeout=                    timeout=
    trigger_rule="all_done"               trigger="all_done"
    on_failure_callback=                  on_failure=
    XCom, ds                              arguments, params={"day": ...}
    airflow dags backfill                 a loop over the days, and run(state=..., resume=True)
    airflow tasks clear                   run(rerun={"extract"}, of=...)
"""

from __future__ import annotations

import argparse
import csv
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

from flowkit import DAG, RunFinished, Skip, StateManager, current, task

Row = dict[str, str]


class NotThereError(Exception):
    """The file of a day has not arrived yet."""


# --- The tasks --------------------------------------------------------------------------------------------------


@task(retries=50, delay=0.01, backoff=1, retry_on=NotThereError)
def wait_for_file(*, folder: str, day: str) -> str:
    """Return the path of the file of a day, as soon as it is there: between two attempts, no worker waits."""
    path = Path(folder, f"{day}.csv")
    if not path.exists():
        raise NotThereError(path.name)
    return str(path)


@task(retries=2, delay=0.1, retry_on=OSError)
def extract(path: str) -> list[Row]:
    """Read the orders of a day; there are none on a holiday, and then the rest is skipped."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise Skip("no orders on this day")
    return rows


@task
def check_amounts(orders: list[Row]) -> list[Row]:
    """Leave out orders without an amount."""
    return [row for row in orders if row["amount"]]


@task
def check_keys(orders: list[Row]) -> None:
    """Raise if an order is there twice."""
    keys = [row["order"] for row in orders]
    if len(set(keys)) < len(keys):
        raise ValueError(f"order {next(key for key in keys if keys.count(key) > 1)} is there twice")


QUALITY = DAG("quality", tasks=[check_amounts, check_keys])
quality = QUALITY.as_task("check_amounts")


@task(timeout=30, retries=3, delay=0.1, retry_on=sqlite3.OperationalError)
def load(orders: list[Row], *, day: str, database: str) -> float:
    """Replace the orders of a day, in one transaction, and return their sum."""
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, day TEXT, amount REAL)")
        connection.execute("DELETE FROM orders WHERE day = ?", (day,))
        rows = [(row["order"], day, float(row["amount"])) for row in orders]
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    return sum(amount for _, _, amount in rows)


@task
def report(load: float | None = None, *, day: str) -> str:
    """Return a line about the day, whether or not there were orders."""
    return f"{day}: no orders" if load is None else f"{day}: {load:8.2f}"


@task(trigger="all_done")
def clean_up() -> None:
    """Log the end of a day, whatever has happened."""
    current().logger.info("The day is over.")


def alert(event: RunFinished) -> None:
    """Print what has failed; a real job would send a message."""
    print(f"ALERT: {event.pipeline}: {event.error}", file=sys.stderr)


wait_for_file >> extract >> quality >> load >> report
clean_up.after(load)

SALES = DAG("sales", tasks=[report, clean_up], on_failure=alert)


# --- Backfill ---------------------------------------------------------------------------------------------------


def days(first: date, last: date) -> Iterator[str]:
    """Yield the days from the first to the last one."""
    for number in range((last - first).days + 1):
        yield (first + timedelta(days=number)).isoformat()


def write_orders(folder: Path, day: str, *, broken: bool) -> None:
    """Write the file of a day, as another system would: no orders on Sundays, twice the same one in a broken file."""
    weekday = date.fromisoformat(day).weekday()
    orders = [] if weekday == 6 else [f"{day}/{number},{10 * number + weekday}" for number in range(1, 4)]
    lines = ["order,amount", *orders, *([f"{day}/0,"] if orders else []), *(orders[:1] if broken else [])]
    (folder / f"{day}.csv").write_text("\n".join(lines) + "\n", "utf-8")


def backfill(first: date, last: date, folder: Path, fail_on: str | None) -> int:
    """Run the DAG for each day, continue the runs that have failed, and return the number of failures."""
    failures = 0
    for day in days(first, last):
        write_orders(folder, day, broken=day == fail_on)
        results = SALES.run(
            params={"day": day, "folder": str(folder), "database": str(folder / "sales.sqlite3")},
            state=str(folder / "runs.db"),
            resume=True,
            resume_max_age=None,
            raise_on_failure=False,
        )
        failures += bool(results.failed)
        print(results.get("report", f"{day}: failed in {', '.join(results.failed)}"))
    return failures


def clear(day: str, folder: Path) -> int:
    """Run the tasks of a day again from ``extract`` on, because its file has changed; return the number of failures."""
    write_orders(folder, day, broken=False)
    with StateManager(folder / "runs.db") as state:
        run = next(run for run in state.runs("sales") if run.params["day"] == day)
        results = SALES.run(state=state, of=run.run_id, rerun={"extract"}, raise_on_failure=False)
    print(results.get("report", f"{day}: failed in {', '.join(results.failed)}"))
    return len(results.failed)


def main() -> None:
    """Read the command line, and load the days."""
    parser = argparse.ArgumentParser(description="Load the sales of some days.")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2026, 11, 2), metavar="DAY")
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2026, 11, 8), metavar="DAY")
    parser.add_argument("--folder", help="keep files, database and record here")
    parser.add_argument("--fail-on", metavar="DAY", help="a day whose file is broken")
    parser.add_argument("--clear", metavar="DAY", help="run a day again; needs the folder of an earlier call")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.folder or scratch)
        folder.mkdir(exist_ok=True)
        if options.clear:
            failures = clear(options.clear, folder)
        else:
            failures = backfill(options.first, options.last, folder, options.fail_on)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
