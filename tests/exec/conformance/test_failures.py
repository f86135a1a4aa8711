"""Failures, on every executor."""

from __future__ import annotations

import traceback

import conformance_tasks as p
import pytest
from conformance_checks import copies, fresh, notes

from flowkit_core import (
    DAG,
)


def test_exception_of_the_task_is_raised_with_notes_and_results(executor):
    start, broken, below = fresh(p.one, p.fail, p.after)
    start >> broken >> below
    with pytest.raises(p.OwnError) as caught:
        DAG("etl", tasks=[below]).run(executor)
    error = caught.value
    assert (error.args, error.code) == ((7, "boom"), 7)
    assert "task 'fail' of 'etl' failed on its only attempt" in notes(error)
    assert "1 task had succeeded, 0 were running, 1 did not start" in notes(error)
    assert error.flowkit_results == {"one": 1}
    assert error.flowkit_results.states == {"one": "succeeded", "fail": "failed", "after": "upstream_failed"}


def test_decorated_function_is_called_where_its_name_is_bound_to_a_wrapper(executor, tmp_path):
    (plain,) = fresh(p.plain_one)
    assert DAG("wrapped", tasks=[plain]).run(executor) == {"shifted_one": 1}
    path = tmp_path / "tries"
    with pytest.raises(p.OwnError):
        DAG("own", tasks=fresh(p.stubborn)).run(executor, params={"path": str(path)})
    assert path.stat().st_size == 3


def test_traceback_shows_the_line_of_the_task(executor):
    with pytest.raises(p.OwnError) as caught:
        DAG("etl", tasks=fresh(p.fail)).run(executor)
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise OwnError(7, "boom")' in text
    assert "conformance_tasks.py" in text


def test_causes_and_notes_of_the_exception_are_kept(executor):
    with pytest.raises(ValueError, match="with a cause") as caught:
        DAG("etl", tasks=fresh(p.fail_with_a_cause)).run(executor)
    assert "KeyError: 'key'" in "".join(traceback.format_exception(caught.value))
    assert "a note of the user" in notes(caught.value)


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError"])
def test_interrupt_raised_by_a_task_ends_the_run_without_retry(executor, tmp_path, kind):
    path = tmp_path / "tries"
    (stop,), (below,) = copies(p.stop, "stop", retries=3, delay=0), fresh(p.after)
    stop >> below
    with pytest.raises(p.KINDS[kind]) as caught:
        DAG("etl", tasks=[below]).run(executor, params={"kind": kind, "path": str(path)})
    assert type(caught.value) is p.KINDS[kind]
    assert path.stat().st_size == 1
    assert caught.value.flowkit_results.states["stop"] == "failed"
    assert caught.value.flowkit_results.states["after"] in ("upstream_failed", "cancelled")


@pytest.mark.parametrize(
    "kind", sorted(set(p.KINDS) - {"SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError"})
)
def test_other_base_exceptions_are_retried_and_raised(executor, tmp_path, kind):
    path = tmp_path / "tries"
    with pytest.raises(p.KINDS[kind]) as caught:
        DAG("etl", tasks=copies(p.stop, "stop", retries=1, delay=0)).run(
            executor, params={"kind": kind, "path": str(path)}
        )
    assert type(caught.value) is p.KINDS[kind]
    assert path.stat().st_size == 2
    assert "task 'stop' of 'etl' failed after 2 attempts" in notes(caught.value)


def test_endless_recursion_fails_the_task(executor):
    with pytest.raises(RecursionError):
        DAG("deep", tasks=fresh(p.fail_deep)).run(executor)
    assert DAG("next", tasks=fresh(p.one)).run(executor) == {"one": 1}
