"""A web service that builds and runs a pipeline for each request, with the standard library alone.

Try it: without arguments, it sends three requests to itself at the same time, prints the answers and exits.

    python service.py
    python service.py --port 8000        # then open http://127.0.0.1:8000/order?item=tea&count=2
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

from flowkit import DAG, task

PRICES = {"tea": 4.5, "kettle": 39.0}


def order(item: str, count: int) -> DAG:
    """Build the pipeline of one order. Its tasks belong to this call and are freed after the request."""

    @task
    def price() -> float:
        return PRICES[item]

    @task
    def shipping() -> float:
        return 0.0 if count > 1 else 4.0

    @task
    def total(price: float, shipping: float) -> float:
        return price * count + shipping

    @task
    def answer(total: float) -> dict[str, object]:
        return {"item": item, "count": count, "total": total}

    [price, shipping] >> total >> answer
    return DAG("order")


class Handler(BaseHTTPRequestHandler):
    """Answers GET /order?item=tea&count=2; each request is handled in a thread of its own."""

    def do_GET(self) -> None:
        """Run the pipeline of the request, and send the result of its last task."""
        query = parse_qs(urlsplit(self.path).query)
        try:
            dag = order(query["item"][0], int(query.get("count", ["1"])[0]))
            status, body = 200, dag.run("serial")["answer"]
        except (KeyError, ValueError) as error:
            status, body = 400, {"error": f"{type(error).__name__}: {error}"}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests."""


def send_requests(server: ThreadingHTTPServer) -> None:
    """Send three requests at once, and print the answers."""

    def ask(query: str) -> str:
        with urlopen(f"http://127.0.0.1:{server.server_port}/order?{query}") as response:
            return str(response.read(), "utf-8")

    with ThreadPoolExecutor() as pool:
        for answer in pool.map(ask, ["item=tea&count=2", "item=tea", "item=kettle"]):
            print(answer)


def main() -> None:
    """Serve until Ctrl-C; without a port, send three requests to the server and exit."""
    parser = argparse.ArgumentParser(description="Builds and runs a pipeline for each request.")
    parser.add_argument("--port", type=int, help="serve there until Ctrl-C")
    options = parser.parse_args()

    with ThreadingHTTPServer(("127.0.0.1", options.port or 0), Handler) as server:
        if options.port:
            print(f"http://127.0.0.1:{server.server_port}/order?item=tea&count=2")
            with suppress(KeyboardInterrupt):
                server.serve_forever()
            return
        Thread(target=server.serve_forever).start()
        try:
            send_requests(server)
        finally:
            server.shutdown()


if __name__ == "__main__":
    main()
