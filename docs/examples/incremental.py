"""Load the files of a folder into SQLite; later runs read only the files that are new or have changed.

    python incremental.py                            # a folder of its own, loaded three times
    python incremental.py ~/sales --database sales.sqlite3 --state sales.db

The pipeline has one task per step, whatever the number of files:

    find_files → read_file (one call for each file) → load → report

``read_file`` is mapped over the files and cached: the key of a result is the path, the size and the time stamp of the
file. A damaged file is left out and reported, and read again in the next run. ``load`` replaces the rows of all files
in one transaction, so that rows of files which are gone disappear.
"""

from __future__ import annotations

import argparse
import csv
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from flowkit import DAG, Results, task


class File(NamedTuple):
    """One version of a file."""

    path: str
    size: int
    modified: int


class Sale(NamedTuple):
    """One row: a row of the table ``sales``."""

    path: str
    day: str
    amount: float


@task
def find_files(*, folder: str) -> list[File]:
    """Return the CSV files of a folder, in order."""
    found = []
    for path in sorted(Path(folder).glob("*.csv")):
        stat = path.stat()
        found.append(File(str(path), stat.st_size, stat.st_mtime_ns))
    return found


@task(cache=True, retries=2, delay=0.1, retry_on=OSError)
def read_file(file: File) -> list[Sale]:
    """Return the rows of a file; a row that is wrong raises a ValueError."""
    with Path(file.path).open(encoding="utf-8", newline="") as lines:
        return [Sale(file.path, day, float(amount)) for day, amount in csv.reader(lines)]


@task
def load(files: list[list[Sale]], *, database: str) -> dict[str, float]:
    """Replace all rows, and return the sum of each day."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS sales (path TEXT, day TEXT, amount REAL)")
        connection.execute("DELETE FROM sales")
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", [sale for file in files for sale in file])
        return dict(connection.execute("SELECT day, SUM(amount) FROM sales GROUP BY day ORDER BY day"))


@task
def report(load: dict[str, float]) -> str:
    """Return the sums as text."""
    return ", ".join(f"{day}: {amount:.2f}" for day, amount in load.items()) or "no sales"


find_files >> read_file.map(errors="drop", limit=8, label=lambda file: Path(file.path).name) >> load >> report

INCREMENTAL = DAG("incremental", tasks=[report])


def update(folder: Path, database: str, state: str) -> Results:
    """Run the pipeline once, and print what it has done."""
    results = INCREMENTAL.run(params={"folder": str(folder), "database": database}, state=state)
    files = results.elements["read_file"]
    print(f"{len(files)} files, {len(files.failed)} damaged: {results['report']}")
    for number, error in files.failed.items():
        print(f"  {Path(results['find_files'][number].path).name}: {error}")
    return results


def demonstrate(folder: Path) -> None:
    """Load a folder three times: at first, after a change, and after a removal."""
    database, state = str(folder / "sales.sqlite3"), str(folder / "runs.db")
    for number in range(1, 5):
        (folder / f"shop_{number}.csv").write_text(f"monday,{number}\ntuesday,{10 * number}\n", "utf-8")
    update(folder, database, state)
    (folder / "shop_2.csv").write_text("monday,200\ntuesday,none\n", "utf-8")
    update(folder, database, state)
    (folder / "shop_2.csv").write_text("monday,200\n", "utf-8")
    (folder / "shop_4.csv").unlink()
    update(folder, database, state)


def main() -> None:
    """Read the command line, and load a folder."""
    parser = argparse.ArgumentParser(description="Load the new and changed files of a folder.")
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of CSV files: day, amount")
    parser.add_argument("--database", default="sales.sqlite3", metavar="FILE")
    parser.add_argument("--state", default="incremental.db", metavar="FILE", help="results of earlier runs")
    options = parser.parse_args()
    if options.folder is not None:
        update(options.folder, options.database, options.state)
        return
    with tempfile.TemporaryDirectory() as scratch:
        demonstrate(Path(scratch))


if __name__ == "__main__":
    main()
