"""Annotations that show before a run that a result cannot be stored: `StateManager.check_results`."""

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from recorded_runs import Money, planned

from flowkit_state import StateManager

if TYPE_CHECKING:
    from nowhere import Unknown


def rows() -> Iterator[int]: ...


def generator() -> Generator[int, None, None]: ...


def pages() -> "AsyncIterator[int]": ...


def rows_or_list() -> "list[int] | Iterator[int]": ...


def function() -> Callable[[Iterator[int]], int]: ...


def functions() -> list[Callable[..., int]]: ...


def unknown() -> "Unknown": ...


def money() -> "Money": ...


def plain() -> dict[str, list[int]]: ...


def without_annotation(): ...


class Rows:
    def method(self) -> Iterator[int]: ...


def check(*tasks):
    planned_tasks = [planned(f"task{index}", each) for index, each in enumerate(tasks)]
    with StateManager() as state:
        return state.check_results(planned_tasks)


@pytest.mark.parametrize("task", [rows, generator, pages, rows_or_list, function, functions, Rows().method])
def test_annotation_of_result_that_cannot_be_stored_is_an_error(task):
    (error,) = check(task).values()
    assert 'the result of task "task0" is of type collections.abc.' in str(error)
    assert "according to its annotation, which cannot be stored" in str(error)
    assert "Return a list, or other plain data." in str(error)


@pytest.mark.parametrize("task", [unknown, money, plain, without_annotation, print, mock.Mock(), mock.Mock(spec=rows)])
def test_other_annotations_are_accepted(task):
    assert check(task) == {}


def test_errors_are_returned_by_task_once_for_each_function():
    assert list(check(plain, rows, rows, pages)) == [1, 3]
