"""Extract, transform, load and notify: over HTTP, into SQLite, with a server that fails at first.

Try it, with data of your own too, a list of {"id": ..., "value": ...}:

    python etl.py                                           # starts a small API, which answers 503 once
    python etl.py prices.json --database prices.sqlite3     # reads a file; an address will do as well
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from flowkit import DAG, configure_logging, get_logger, task


@task(retries=3, delay=0.1)
def extract_from_api(*, source: str) -> Any:
    """Extract data from the API."""
    with urlopen(source, timeout=10) as response:  # noqa: S310 - a file is as welcome as an API
        return json.load(response)


@task()
def transform_data(raw_data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Clean and transform data: drop items without a value, double the values of the others."""
    usable = [item for item in raw_data if item["value"] is not None]
    get_logger().info(f"{len(usable)} of {len(raw_data)} items are usable.")
    return [{"id": item["id"], "value": item["value"] * 2, "timestamp": datetime.now(UTC)} for item in usable]


@task(retries=3, delay=0.1, retry_on=sqlite3.OperationalError)
def load_to_database(transformed_data: list[dict[str, Any]], *, database: str) -> str:
    """Load data into the database, in one transaction; an existing item is replaced."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, value REAL, timestamp TEXT)")
        connection.executemany(
            "INSERT OR REPLACE INTO items VALUES (:id, :value, :timestamp)",
            [item | {"timestamp": item["timestamp"].isoformat(timespec="seconds")} for item in transformed_data],
        )
    return f"Loaded {len(transformed_data)} records"


@task()
def send_notification(result: str, *, outbox: str) -> str:
    """Notify completion: append a line to the outbox; a real job would send a mail."""
    with Path(outbox).open("a", encoding="utf-8") as file:
        file.write(f"ETL completed: {result}\n")
    return "Notification sent"


# Build the pipeline.
extract_from_api >> transform_data >> load_to_database >> send_notification

ITEMS = [{"id": number, "value": None if number == 3 else number * 10} for number in range(1, 7)]


class FlakyAPI(BaseHTTPRequestHandler):
    """A small API that is too busy for the first request."""

    requests = 0

    def do_GET(self) -> None:
        """Answer 503 to the first request, and the items to all others."""
        type(self).requests += 1
        body = b"" if self.requests == 1 else json.dumps(ITEMS).encode()
        self.send_response(200 if body else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: the log is about the pipeline."""


@contextmanager
def flaky_api() -> Iterator[str]:
    """Serve the API on this machine, at a free port, and yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), FlakyAPI) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/data"
        finally:
            server.shutdown()


def address_of(source: str) -> str:
    """Return a URL unchanged, and the path of a file as a URL."""
    return source if "://" in source else Path(source).resolve().as_uri()


def main() -> None:
    """Read the command line, run the pipeline, and print the notification and the database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", help="a JSON file or a URL; by default, a server that starts for it")
    parser.add_argument("--database", metavar="FILE", help="keep the database here")
    parser.add_argument("--outbox", metavar="FILE", help="write the notification here")
    parser.add_argument("--executor", choices=["serial", "thread", "process"], default="thread")
    options = parser.parse_args()
    configure_logging()

    api = nullcontext(address_of(options.source)) if options.source else flaky_api()
    with api as source, tempfile.TemporaryDirectory() as scratch:
        database = options.database or str(Path(scratch, "etl.sqlite3"))
        outbox = options.outbox or str(Path(scratch, "outbox.txt"))

        dag = DAG("etl_pipeline", max_workers=2)
        results = dag.run(options.executor, params={"source": source, "database": database, "outbox": outbox})

        *_, message = Path(outbox).read_text("utf-8").splitlines()
        print(f"{results['send_notification']}: {message}")
        with closing(sqlite3.connect(database)) as connection:
            for number, value, timestamp in connection.execute("SELECT * FROM items ORDER BY id"):
                print(f"  item {number}: {value:6.1f}  at {timestamp}")


if __name__ == "__main__":
    main()
