"""`Run.progress`, which observers get that have a method `watch_progress`."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, RunStarted, Task


class Observer:
    """Keeps the function that returns the progress."""

    events = (RunStarted,)

    def __init__(self):
        self.progress = None
        self.seen = []

    def watch_progress(self, progress):
        self.progress = progress

    def __call__(self, event):
        self.seen.append(self.progress())


def run(rows, call, tail=None):
    observer = Observer()
    first, second = Task(lambda: rows, name="rows"), Task(lambda row: call(row, observer), name="parse")
    last = second.map()
    first >> last
    if tail is not None:
        last = Task(tail, name="clean").map()
        second.map() >> last
    DAG("etl", tasks=[last]).run("serial", observers=[observer])
    assert observer.progress() == {}, "no task is running"
    return observer.seen


def test_progress_counts_elements_that_have_ended():
    def call(row, observer):
        observer.seen.append(observer.progress())

    seen = run([1, 2, 3], call)
    assert seen == [{}, {"parse": (0, 3)}, {"parse": (1, 3)}, {"parse": (2, 3)}]


def test_progress_of_lazy_input_has_no_total():
    def call(row, observer):
        observer.seen.append(observer.progress())

    seen = run(iter([1, 2]), call)
    assert seen == [{}, {"parse": (0, None)}, {"parse": (1, None)}]


def test_progress_of_chain_has_all_tasks():
    def call(row, observer):
        observer.seen.append(observer.progress())
        return row

    seen = run([1, 2], call, tail=lambda row: row)
    assert seen[1:] == [{"parse": (0, 2), "clean": (0, 2)}, {"parse": (1, 2), "clean": (1, 2)}]


@pytest.mark.parametrize("watch", ["attribute", None])
def test_attribute_that_is_no_method_is_ignored(watch):
    observer = Observer()
    observer.watch_progress = watch
    observer.progress = dict
    DAG("etl", tasks=[Task(list, name="rows")]).run("serial", observers=[observer])
    assert observer.seen == [{}]
