"""`Run.progress` and `Run.elements`, for observers with a method `watch_run`."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, RunStarted, Task, TaskSucceeded


class Observer:
    """Keeps the run."""

    events = (RunStarted,)

    def __init__(self):
        self.run = None
        self.seen = []

    def watch_run(self, run):
        self.run = run

    def progress(self):
        return self.run.progress()

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


def test_elements_of_running_and_ended_task():
    def call(row, observer):
        found = observer.run.elements("parse")
        observer.seen.append((len(found), found.counts))

    class Ended(Observer):
        events = (RunStarted, TaskSucceeded)

        def __call__(self, event):
            if type(event) is TaskSucceeded:
                found = self.run.elements(event.task)
                self.seen.append(found and (found.counts, len(found.durations)))

    observer = Ended()
    first, second = Task(lambda: [1, 2], name="rows"), Task(lambda row: call(row, observer), name="parse")
    first >> second.map()
    DAG("etl", tasks=[second.map()]).run("serial", observers=[observer])
    assert observer.seen == [
        None,
        (2, {"pending": 2}),
        (2, {"pending": 1, "succeeded": 1}),
        ({"succeeded": 2}, 2),
    ]


@pytest.mark.parametrize("watch", ["attribute", None])
def test_attribute_that_is_no_method_is_ignored(watch):
    observer = Observer()
    observer.watch_run = watch
    observer.progress = dict
    DAG("etl", tasks=[Task(list, name="rows")]).run("serial", observers=[observer])
    assert observer.seen == [{}]
