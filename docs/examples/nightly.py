"""Take stock of a folder every night: a checksum of each file, an inventory in SQLite, a report of what is there twice.

    python nightly.py                                       # the library of the Python that runs this
    python nightly.py --root ~/photos --executor process
    python nightly.py --crash-after 3                       # the power fails when three parts are done ...
    python nightly.py --resume                              # ... and the run goes on with the fourth

The pipeline lists the files, reads them in parts, writes the inventory, makes a line in the diary, and reports:

    list_files ─┬─ part 1 ─┬─ take_stock ─── write_diary ─── report
                ├─ part 2 ─┤
                └─ ...    ─┘

Each task is recorded in a file of its own, ``--state``, when it ends. What writes elsewhere may run twice, if the
process dies just before its end is recorded, so it is written that way:

* ``take_stock`` puts rows in by a key, the path, in one transaction. Twice gives the same as once.
* ``write_diary`` appends. It has no key of its own, and takes the ``idempotency_key`` of the run.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

from flowkit import (
    DAG,
    Event,
    LogLevel,
    ResumeError,
    RunInUseError,
    Task,
    TaskSucceeded,
    configure_logging,
    get_logger,
    task,
)

PARTS = 8
PART = "part "
TOP = 5
NOT_OURS = {"__pycache__", "site-packages", "dist-packages"}
SCHEMA = """
    CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS diary (key TEXT PRIMARY KEY, files INTEGER NOT NULL, bytes INTEGER NOT NULL);
"""
TWINS = """
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
    """Return the paths of the files below a folder, in order; but for installed packages, and what Python compiled."""
    found = [path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()]
    paths = sorted(path.as_posix() for path in found if NOT_OURS.isdisjoint(path.parts))
    get_logger().info(f"Found {len(paths):,} files.")
    return paths


def read_part(paths: Sequence[str], *, root: str, part: int, parts: int) -> list[File]:
    """Return the size and the checksum of every ``parts``-th file."""
    read = []
    for path in paths[part::parts]:
        with Path(root, path).open("rb") as file:
            checksum = file_digest(file, "sha256").hexdigest()
            read.append(File(path, file.tell(), checksum))
    return read


@task(retries=3, delay=0.2, retry_on=sqlite3.OperationalError)
def take_stock(*parts: list[File], database: str) -> dict[str, int]:
    """Bring the inventory up to date, in one transaction, and return how much there is."""
    files = [file for part in parts for file in part]
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
def write_diary(stock: dict[str, int], *, database: str, idempotency_key: str) -> int:
    """Write down how much there is tonight, once, and return how many nights have been."""
    with closing(connect(database)) as connection, connection:
        entry = (idempotency_key, stock["files"], stock["bytes"])
        connection.execute("INSERT OR IGNORE INTO diary VALUES (?, ?, ?)", entry)
        (nights,) = connection.execute("SELECT COUNT(*) FROM diary").fetchone()
    return int(nights)


@task
def report(night: int, *, database: str) -> str:
    """Return how much there is, how that has changed, and which files are there more than once."""
    with closing(connect(database)) as connection:
        diary = connection.execute("SELECT files, bytes FROM diary ORDER BY rowid").fetchall()
        twins = connection.execute(TWINS).fetchall()
    files, size = diary[-1]
    before = diary[-2] if len(diary) > 1 else diary[-1]
    spare = sum((copies - 1) * size for copies, size, _ in twins)
    lines = [
        f"Night {night}: {files:,} files ({files - before[0]:+,}), {size:,} bytes ({size - before[1]:+,}).",
        f"There more than once: {len(twins):,} files, with {spare:,} bytes to spare.",
        *(f"{copies:>4} times {size:>9,} bytes  {path}" for copies, size, path in twins[:TOP]),
    ]
    return "\n".join(lines)


def connect(database: str) -> sqlite3.Connection:
    """Open the inventory, with its tables."""
    connection = sqlite3.connect(database, timeout=10)
    connection.executescript(SCHEMA)
    return connection


# --- The pipeline -----------------------------------------------------------------------------------------------


def build() -> DAG:
    """Wire the tasks."""
    readers = [
        Task(partial(read_part, part=part, parts=PARTS), name=f"{PART}{part + 1}", retries=2, retry_on=OSError)
        for part in range(PARTS)
    ]
    list_files >> readers >> take_stock >> write_diary >> report
    return DAG("nightly", tasks=[report])


def crash_after(parts: int) -> Callable[[Event], None]:
    """Return an observer that kills this process as soon as so many parts are done: nothing is tidied up, as ever."""
    done = []

    def observe(event: Event) -> None:
        if isinstance(event, TaskSucceeded) and event.task.startswith(PART):
            done.append(event.task)
            if len(done) == parts:
                os.kill(os.getpid(), 9)  # SIGKILL, where there are signals

    return observe


def main() -> None:
    """Read the command line, run the pipeline or go on with it, and print its report."""
    parser = argparse.ArgumentParser(description="Take stock of a folder, and go on where the last run died.")
    parser.add_argument("--root", default=str(Path(os.__file__).parent), metavar="FOLDER", help="take stock of this")
    parser.add_argument("--database", default="inventory.db", metavar="FILE", help="keep the inventory here")
    parser.add_argument("--state", default="nightly.db", metavar="FILE", help="record the run here")
    parser.add_argument("--resume", action="store_true", help="go on with the last run, if it did not finish")
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default="thread")
    parser.add_argument("--crash-after", type=int, metavar="N", help="kill this process when so many parts are done")
    options = parser.parse_args()

    configure_logging(LogLevel.INFO)
    try:
        results = build().run(
            options.executor,
            params={"root": options.root, "database": options.database},
            observers=[crash_after(options.crash_after)] if options.crash_after else [],
            state=options.state,
            resume=options.resume,
        )
    except (ResumeError, RunInUseError) as error:
        sys.exit(str(error))
    print(results["report"])


if __name__ == "__main__":
    main()
