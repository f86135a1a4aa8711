"""Class `RunServer`: shows the runs of a file in the browser; for `flowkit serve`."""

from __future__ import annotations

import os
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from markupsafe import Markup

from flowkit_core._text import counts_text, escape_control_chars
from flowkit_core.failures import describe_error
from flowkit_state import UnknownRunError

from .command_line.output import params_text
from .report.from_record import model_of
from .report.page import asset, policy, render_page, template
from .texts import run_duration_text, time_text

if TYPE_CHECKING:
    from flowkit_state import RunRecord, StateManager

HOST = "127.0.0.1"
LISTED = 100
"""Number of runs in the list."""
HEARTBEAT = 15.0
"""Seconds after which an idle stream of events sends a comment, so that a closed browser is noticed."""


class RunServer(ThreadingHTTPServer):
    """A server on this machine that shows recorded runs, and changes nothing.

    Args:
        state: the records.
        path: the path of their file.
        port: the port; 0 for any that is free.
        interval: seconds between two polls of the file, for pages that are open.

    Raises:
        OSError: the port cannot be used.
    """

    daemon_threads = True

    def __init__(self, state: StateManager, path: str, port: int, interval: float = 1.0) -> None:
        self.state = state
        self.path = path
        self.interval = interval
        self.stopped = threading.Event()
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The address of the list of runs."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def server_close(self) -> None:
        """Stop listening, and end the streams of events."""
        self.stopped.set()
        super().server_close()

    def version(self) -> str:
        """Return a text that changes when something is recorded: times and sizes of the file and its log."""
        found = []
        for path in (self.path, f"{self.path}-wal"):
            try:
                status = os.stat(path)
            except OSError:
                found.append("none")
            else:
                found.append(f"{status.st_mtime_ns}.{status.st_size}")
        return "-".join(found)

    def run_page(self, run_id: str) -> str:
        """Return the report of a run. Raises `UnknownRunError`."""
        events = f"/events/{self.version()}"  # before the record is read, so that no change is missed
        return render_page(model_of(self.state, self.state.run(run_id)), served=True, events=events)

    def list_page(self) -> str:
        """Return the page with the list of runs."""
        events = f"/events/{self.version()}"
        page: str = template("runs.html").render(
            events=events,
            title=escape_control_chars(f"Runs of {os.path.basename(self.path)}"),
            policy=policy(events=True),
            runs=[_row(run) for run in self.state.runs(limit=LISTED)],
            style=Markup(asset("report.css")),  # noqa: S704 - files of this package
            live_script=Markup(asset("live.js")),  # noqa: S704
        )
        return page


def _row(run: RunRecord) -> dict[str, str]:
    return {
        "link": f"/run/{quote(run.run_id, safe='')}",
        "run_id": escape_control_chars(run.run_id),
        "pipeline": escape_control_chars(run.pipeline),
        "status": run.status,
        "started": time_text(run.started),
        "took": run_duration_text(run.duration, run.resumes),
        "tasks": counts_text(run.counts),
        "params": escape_control_chars(params_text(run.params)),
    }


class _Handler(BaseHTTPRequestHandler):
    """Answers GET requests for `/`, `/run/<id>` and `/events/<version>`."""

    server: RunServer
    server_version = "flowkit"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a request."""
        if not self._names_this_machine():
            self._send(403, "This server answers only requests to 127.0.0.1 or localhost.", "text/plain")
            return
        path = urlsplit(self.path).path
        first, _, rest = path.removeprefix("/").partition("/")
        try:
            if first == "events" and rest:
                self._send_events(rest)
            else:
                self._send(*self._page(path, unquote(rest) if first == "run" else ""))
        except ConnectionError:
            self.close_connection = True

    def _page(self, path: str, run_id: str) -> tuple[int, str, str]:
        """Return the status, the content and the type of a page."""
        try:
            if path == "/":
                return 200, self.server.list_page(), "text/html"
            if run_id:
                return 200, self.server.run_page(run_id), "text/html"
        except UnknownRunError:
            return 404, "There is no such run.", "text/plain"
        except Exception as error:
            traceback.print_exc()
            return 500, f"This page cannot be shown: {describe_error(error)}", "text/plain"
        return 404, "There is no such page.", "text/plain"

    def _names_this_machine(self) -> bool:
        """Return whether the request names this machine: a page of another site may have its name resolve to it."""
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        return name in (HOST, "localhost")

    def _send(self, status: int, text: str, kind: str) -> None:
        content = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        self._send_headers(f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")

    def _send_events(self, seen: str) -> None:
        """Send an event when something was recorded since a version, until the browser or the server closes the stream.

        Args:
            seen: the version that the page shows.
        """
        server, sent_at = self.server, time.monotonic()
        self.send_response(200)
        self._send_headers("text/event-stream")
        self.end_headers()
        self.wfile.write(b": flowkit\n\n")
        self.wfile.flush()
        while not server.stopped.wait(server.interval):
            now = server.version()
            if now != seen:
                message = b"data: changed\n\n"
            elif time.monotonic() - sent_at > HEARTBEAT:
                message = b": idle\n\n"
            else:
                continue
            seen, sent_at = now, time.monotonic()
            self.wfile.write(message)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Log nothing: requests are of no interest."""
