"""The service: requests that are handled at the same time do not mix, and leave nothing behind."""

from __future__ import annotations

import gc
import json
import runpy
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "examples" / "service.py"))


@pytest.fixture
def address() -> Iterator[str]:
    with SERVICE["ThreadingHTTPServer"](("127.0.0.1", 0), SERVICE["Handler"]) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/order"
        finally:
            server.shutdown()
            thread.join()


def ask(url: str) -> Any:
    with urlopen(url) as response:  # noqa: S310 - the address of the fixture
        return json.load(response)


def test_concurrent_requests_get_their_own_answers(address: str) -> None:
    counts = range(2, 102)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [f"{address}?item=tea&count={count}" for count in counts]))
    assert answers == [{"item": "tea", "count": count, "total": 4.5 * count} for count in counts]


def test_request_for_an_unknown_item_is_an_error_and_the_next_one_works(address: str) -> None:
    with pytest.raises(HTTPError) as caught:
        ask(f"{address}?item=sofa")
    with caught.value as error:
        assert error.code == 400
        assert json.load(error) == {"error": "KeyError: 'sofa'"}
    assert ask(f"{address}?item=tea")["total"] == 8.5


def test_pipeline_of_a_request_is_freed_when_it_is_over() -> None:
    dag = SERVICE["order"]("tea", 1)
    dag.run("serial")
    tasks = [weakref.ref(task) for task in dag.tasks]
    assert tasks
    del dag
    gc.collect()
    assert [task() for task in tasks] == [None] * len(tasks)
