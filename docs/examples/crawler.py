"""Crawl a web site and list its broken links: a run for each level of the site, because links are found as it goes.

Without arguments, it crawls a small site that it serves itself:

    python crawler.py
    python crawler.py https://example.org/ --depth 2 --cache pages.db    # pages are fetched once an hour at most

``fetch`` is mapped over the pages of a level, which are fetched in parallel, each with retries; the links in them are
the next level. A page that cannot be fetched is left out, and reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import urlopen

from flowkit import DAG, TaskCache, task


class Crawl(NamedTuple):
    """The result of a crawl: the links of each page, the error of each broken link, and the number of fetched pages."""

    pages: dict[str, list[str]]
    broken: dict[str, BaseException]
    fetched: int


class Links(HTMLParser):
    """Collects the links of a page, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of a link."""
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def may_pass(error: BaseException) -> bool:
    """Return whether a request may succeed if it is sent again."""
    if isinstance(error, HTTPError):
        return error.code in {429, 500, 502, 503, 504}
    return isinstance(error, (URLError, ConnectionError, TimeoutError))


@task(retries=3, delay=0.1, retry_on=may_pass)
def fetch(url: str) -> tuple[str, list[str]]:
    """Return the address of a page, and the addresses that it links to, each once."""
    try:
        response = urlopen(url, timeout=10)  # noqa: S310 - the user names the address
    except HTTPError as error:
        error.close()  # an HTTPError is an open response
        raise
    with response:
        if response.headers.get_content_type() != "text/html":
            return url, []
        parser = Links()
        parser.feed(response.read().decode("utf-8", "replace"))
    links = (urldefrag(urljoin(url, link)).url for link in parser.found)
    return url, list(dict.fromkeys(link for link in links if link.startswith(("http:", "https:"))))


def crawl(start: str, *, cache: TaskCache, depth: int, workers: int) -> Crawl:
    """Crawl the pages of the host of ``start``, down to a depth."""
    fetch_page = fetch.with_options(cache=cache)
    pages_of_level = DAG("level", tasks=[fetch_page.map("url", errors="drop", label=str, limit=workers)])
    result = Crawl({}, {}, 0)
    seen, level = {start}, [start]
    for _ in range(depth + 1):
        if not level:
            break
        results = pages_of_level.run(params={"url": level}, max_workers=workers)
        pages, elements = dict(results["fetch"]), results.elements["fetch"]
        result.pages.update(pages)
        result.broken.update({level[number]: error for number, error in elements.failed.items()})
        result = result._replace(fetched=result.fetched + len(pages) - len(elements.cached))
        links = dict.fromkeys(link for found in pages.values() for link in found)
        level = [link for link in links if link not in seen and urlsplit(link).netloc == urlsplit(start).netloc]
        seen.update(level)
    return result


SITE = {
    "/": ["/products", "/about", "/news"],
    "/products": ["/products/tea", "/products/kettle", "/"],
    "/products/tea": ["/products", "/order"],
    "/products/kettle": ["/products", "/manual.pdf"],
    "/about": ["/", "/team"],
    "/news": ["/products/tea"],
}


class Site(BaseHTTPRequestHandler):
    """A small site with two missing pages, a file that is not HTML, and a page that is too busy at first."""

    busy = True

    def do_GET(self) -> None:
        """Send a page."""
        if self.path == "/about" and Site.busy:
            Site.busy = False
            self.send_error(503)
        elif self.path in SITE:
            self.answer("text/html", "".join(f'<a href="{link}">{link}</a>' for link in SITE[self.path]))
        elif self.path == "/manual.pdf":
            self.answer("application/pdf", "")
        else:
            self.send_error(404)

    def answer(self, kind: str, body: str) -> None:
        """Send a page that exists."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests."""


@contextmanager
def serve() -> Iterator[str]:
    """Serve the site at a free port of this machine, and yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def main() -> None:
    """Read the command line, crawl, and print the pages and the broken links."""
    parser = argparse.ArgumentParser(description="Crawl a web site and list its broken links.")
    parser.add_argument("start", nargs="?", help="the first page; by default, that of a small site on this machine")
    parser.add_argument("--depth", type=int, default=3, help="how many links to follow from the first page")
    parser.add_argument("--workers", type=int, default=8, help="how many pages to fetch at the same time")
    parser.add_argument("--cache", metavar="FILE", help="a SQLite file (.db) for the pages; by default, in memory")
    options = parser.parse_args()

    with nullcontext(options.start) if options.start else serve() as start:
        cache = TaskCache(options.cache, ttl=3600)
        result = crawl(start, cache=cache, depth=options.depth, workers=options.workers)
    for url, links in result.pages.items():
        print(f"{urlsplit(url).path or '/'}  {len(links)} links")
    for url, error in result.broken.items():
        sources = [urlsplit(page).path for page, links in result.pages.items() if url in links]
        print(f"broken: {urlsplit(url).path} ({error}), linked from {', '.join(sources) or 'the command line'}")
    print(f"{len(result.pages)} pages, {result.fetched} of them fetched, {len(result.broken)} broken links")


if __name__ == "__main__":
    main()
