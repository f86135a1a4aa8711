"""Make an inventory of a folder every night: a checksum of each file, a table in SQLite, a report of duplicate files.

    python nightly.py                                       # the library of the Python that runs this
    python nightly.py --root ~/photos --executor process
    python nightly.py --crash-after 300                     # the process is killed when 300 files are read ...
    python nightly.py                                       # ... and the run continues with the others
    python nightly.py --day 2026-11-29                      # continue the run of a day that failed

The pipeline lists the files, reads each of them, writes the inventory, appends a line to the diary, and reports:

    list_files ── read_file (mapped) ── take_stock ── write_diary ── report

When a file is read, or another task ends, its result is recorded in the file ``--state``. The parameters identify a
run: each day has one of its own, and the same command continues it after a failure: it reads only the files that are
missing. A task that was repaired meanwhile runs again, and so does what depends on it. A task may run twice, if the
process dies just before its result is recorded. So the tasks that write have the same effect if they run twice:

* ``take_stock`` updates rows by a key, the path, in one transaction.
* ``write_diary`` appends a row. It uses the ``idempotency_key`` of the task as the key of this row.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from contextlib import closing
from hashlib import file_digest
from pathlib import Path
from time import strftime
from typing import NamedTuple

from flowkit import DAG, ElementSucceeded, LogLevel, RunInUseError, configure_logging, get_logger, task

TOP = 5
NOT_OURS = {"__pycache__", "site-packages", "dist-packages"}
SCHEMA = """
    CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS diary
        (key TEXT PRIMARY KEY, day TEXT NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL);
"""
DUPLICATES = """
    SELECT COUNT(*) AS copies, size, MIN(path) FROM files WHERE size > 0
    GROUP BY sha256, size HAVING copies > 1 ORDER BY size * (copies - 1) DESC, MIN(path)
"""


class File(NamedTuple):
    """One file: a row of the table ``files``."""

    path: str
    size: int
    sha256: str


# --- The tasks --------------------------------------------------------------------------------------------------


@task
def list_files(*, root: str) -> list[str]:
    """Return the paths of the files below a folder, in order, without installed packages and compiled files."""
    found = [path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()]
    paths = sorted(path.as_posix() for path in found if NOT_OURS.isdisjoint(path.parts))
    get_logger().info(f"Found {len(paths):,} files.")
    return paths


@task(retries=2, delay=0.2, retry_on=OSError)
def read_file(path: str, *, root: str) -> File:
    """Return the size and the checksum of a file."""
    with Path(root, path).open("rb") as file:
        checksum = file_digest(file, "sha256").hexdigest()
        return File(path, file.tell(), checksum)


@task(retries=3, delay=0.2, retry_on=sqlite3.OperationalError)
def take_stock(files: list[File], *, database: str) -> dict[str, int]:
    """Update the inventory in one transaction, and return the number of files and bytes."""
    with closing(connect(database)) as connection, connection:
        connection.execute("CREATE TEMPORARY TABLE seen (path TEXT PRIMARY KEY)")
        connection.executemany("INSERT INTO seen VALUES (?)", [(file.path,) for file in files])
        connection.execute("DELETE FROM files WHERE path NOT IN (SELECT path FROM seen)")
        connection.executemany(
            "INSERT INTO files VALUES (?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET size = excluded.size, sha256 = excluded.sha256",
            files,
        )
    return {"files": len(files), "bytes": sum(file.size for file in files)}


@task(retries=3, delay=0.2, retry_on=sqlite3.OperationalError)
def write_diary(stock: dict[str, int], *, database: str, day: str, idempotency_key: str) -> int:
    """Write the numbers of this night once, and return the number of nights."""
    with closing(connect(database)) as connection, connection:
        entry = (idempotency_key, day, stock["files"], stock["bytes"])
        connection.execute("INSERT OR IGNORE INTO diary VALUES (?, ?, ?, ?)", entry)
        (nights,) = connection.execute("SELECT COUNT(*) FROM diary").fetchone()
    return int(nights)


@task
def report(night: int, *, database: str) -> str:
    """Return the numbers of this night, how they have changed, and the largest duplicate files."""
    with closing(connect(database)) as connection:
        diary = connection.execute("SELECT files, bytes FROM diary ORDER BY rowid").fetchall()
        duplicates = connection.execute(DUPLICATES).fetchall()
    files, size = diary[-1]
    before = diary[-2] if len(diary) > 1 else diary[-1]
    spare = sum((copies - 1) * size for copies, size, _ in duplicates)
    lines = [
        f"Night {night}: {files:,} files ({files - before[0]:+,}), {size:,} bytes ({size - before[1]:+,}).",
        f"Duplicates: {len(duplicates):,} files, with {spare:,} redundant bytes.",
        *(f"{copies:>4} times {size:>9,} bytes  {path}" for copies, size, path in duplicates[:TOP]),
    ]
    return "\n".join(lines)


def connect(database: str) -> sqlite3.Connection:
    """Open the database, and create its tables if they do not exist."""
    connection = sqlite3.connect(database, timeout=10)
    connection.executescript(SCHEMA)
    return connection


# --- The pipeline -----------------------------------------------------------------------------------------------


list_files >> read_file.map() >> take_stock >> write_diary >> report
NIGHTLY = DAG("nightly", tasks=[report])


class CrashAfter:
    """An observer that kills this process, without any cleaning up, when a number of files has been read."""

    events = (ElementSucceeded,)

    def __init__(self, files: int) -> None:
        self.left = files

    def __call__(self, event: ElementSucceeded) -> None:
        """Count a file."""
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), 9)  # SIGKILL on POSIX


def main() -> None:
    """Read the command line, run or resume the pipeline, and print its report."""
    parser = argparse.ArgumentParser(description="Make an inventory of a folder, and continue an interrupted run.")
    parser.add_argument("--root", default=str(Path(os.__file__).parent), metavar="FOLDER", help="the folder to read")
    parser.add_argument("--database", default="inventory.db", metavar="FILE", help="the file of the inventory")
    parser.add_argument("--state", default="nightly.db", metavar="FILE", help="the file in which the run is recorded")
    parser.add_argument("--day", default=strftime("%Y-%m-%d"), help="the day to run, or to finish")
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default="thread")
    parser.add_argument("--crash-after", type=int, metavar="N", help="kill this process when N files are read")
    options = parser.parse_args()

    configure_logging(LogLevel.INFO)
    try:
        results = NIGHTLY.run(
            options.executor,
            params={"root": options.root, "database": options.database, "day": options.day},
            observers=[CrashAfter(options.crash_after)] if options.crash_after else [],
            state=options.state,
            resume=True,
        )
    except RunInUseError as error:
        sys.exit(str(error))
    print(results["report"])


if __name__ == "__main__":
    main()
