"""The crawler follows links level by level, retries, and finds each broken link once."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

from flowkit import TaskCache

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "crawler.py"


@pytest.fixture
def crawler() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture
def start(crawler: dict[str, Any]) -> Iterator[str]:
    with crawler["serve"]() as address:
        yield address


def crawl(crawler: dict[str, Any], start: str, cache: TaskCache, depth: int = 9) -> Any:
    return crawler["crawl"](start, cache=cache, depth=depth, workers=4)


def test_crawl_finds_every_page_and_broken_link(crawler: dict[str, Any], start: str) -> None:
    result = crawl(crawler, start, TaskCache())
    paths = {"/" + url.removeprefix(start) for url in result.pages}
    assert paths == {*crawler["SITE"], "/manual.pdf"}
    assert result.fetched == len(result.pages)
    assert {"/" + url.removeprefix(start) for url in result.broken} == {"/team", "/order"}
    assert all(isinstance(error, HTTPError) and error.code == 404 for error in result.broken.values())


def test_crawl_stops_at_the_depth(crawler: dict[str, Any], start: str) -> None:
    assert len(crawl(crawler, start, TaskCache(), depth=0).pages) == 1
    assert len(crawl(crawler, start, TaskCache(), depth=1).pages) == 4


def test_second_crawl_with_a_cache_file_fetches_nothing(crawler: dict[str, Any], start: str, tmp_path: Path) -> None:
    first = crawl(crawler, start, TaskCache(tmp_path / "pages.db", ttl=60))
    second = crawl(crawler, start, TaskCache(tmp_path / "pages.db", ttl=60))
    assert (second.pages, second.fetched) == (first.pages, 0)
    assert set(second.broken) == set(first.broken)
