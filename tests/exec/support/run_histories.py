"""Histories of runs, in a file that every process appends to, and a checker of histories."""

from __future__ import annotations

import functools
import os
from collections import Counter, defaultdict
from pathlib import Path

from flowkit_core import DAG, Run, Task, TaskFailed, TaskNotRun, TaskRetrying, TaskStarted, TaskSucceeded

FINAL = {TaskSucceeded: "succeeded", TaskFailed: "failed", TaskNotRun: "not run"}
CLEAN_UP = ("all_done", "one_failed", "all_failed")
EARLY = {"one_success": {"TaskSucceeded"}, "one_failed": {"TaskFailed", "TaskNotRun"}}


def note(path, *words):
    """Append a line in one write, so that the lines of several processes are in order."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def work(path, name, failures, *_inputs):
    """Record begin and end of a call; fail in the first attempts."""
    note(path, "begin", name)
    try:
        if Path(path).read_text("utf-8").splitlines().count(f"begin {name}") <= failures:
            raise ValueError(name)
        return name
    finally:
        note(path, "end", name)


def never(*_inputs):
    """Condition that is false."""
    return False


class History:
    """The history of a run of a random pipeline, in order: lines of a kind and the name of a task.

    Kinds are ``begin`` and ``end``, written where the function runs, and the names of events of the run.
    """

    def __init__(self, path, tasks):
        self.path = path
        self.tasks = {task.name: task for task in tasks}
        self.lines = []

    def __call__(self, event):
        """Observe the run."""
        if hasattr(event, "task"):
            note(self.path, type(event).__name__, event.task)

    def read(self):
        """Read the lines from the file."""
        self.lines = [tuple(line.split(" ", 1)) for line in self.path.read_text("utf-8").splitlines()]
        return self


def pipeline(path, plan):
    """Return the tasks of a plan, which has upstreams, failures, retries, trigger and skip of each task."""
    path.unlink(missing_ok=True)
    path.touch()
    tasks = []
    for number, (sources, failures, retries, trigger, skipped) in enumerate(plan):
        name = f"task_{number}"
        function = functools.partial(work, str(path), name, failures)
        when = never if skipped else None
        tasks.append(Task(function, name=name, retries=retries, delay=0, trigger=trigger, when=when))
        for source in sorted({source % number for source in sources} if number else ()):
            tasks[source] >> tasks[-1]
    return tasks


def recorded(path, plan, executor, *, fail_fast):
    """Run a plan and return its history and its run."""
    tasks = pipeline(path, plan)
    history = History(path, tasks)
    run = Run(DAG("history", tasks=tasks).graph(), fail_fast=fail_fast, observers=[history])
    executor.execute(run)
    return history.read(), run


def check(history, run, workers, *, fail_fast):
    """Yield a sentence for each error in a history."""
    return [*_once(history), *_attempts(history), *_order(history), *_width(history, workers),
            *(_stop(history) if fail_fast else ()), *_results(history, run)]  # fmt: skip


def _once(history):
    finals = Counter(name for kind, name in history.lines if kind in {kind.__name__ for kind in FINAL})
    for name in history.tasks:
        if finals[name] != 1:
            yield f"{name} ended {finals[name]} times"


def _attempts(history):
    inside = set()
    counts = defaultdict(Counter)
    for kind, name in history.lines:
        counts[name][kind] += 1
        if kind == "begin":
            if name in inside:
                yield f"{name} began while it was running"
            inside.add(name)
        elif kind == "end":
            inside.discard(name)
        elif kind == TaskRetrying.__name__ and counts[name]["end"] != counts[name][kind]:
            yield f"{name} was to be repeated without having failed"
        elif kind in {kind.__name__ for kind in FINAL} and name in inside:
            yield f"{name} was said to have ended while it was running"
    for name, task in history.tasks.items():
        count = counts[name]
        if count["begin"] > 1 + task.retries:
            yield f"{name} ran {count['begin']} times"
        if count["begin"] and count[TaskNotRun.__name__]:
            yield f"{name} began, but was said not to have run"
        told = count[TaskStarted.__name__]
        if not count["begin"] == count["end"] == told:
            yield f"{name} began {count['begin']} and ended {count['end']} times, told {told} times"


def _order(history):
    finals = {kind.__name__ for kind in FINAL}
    ended, left, lines = set(), set(), set()
    for kind, name in history.lines:
        lines.add((kind, name))
        above = {task.name for task in history.tasks[name].upstream}
        if any((how, other) in lines for how in EARLY.get(history.tasks[name].trigger, ()) for other in above):
            above = set()  # one upstream is enough
        if kind == "end":
            left.add(name)
        elif kind in finals:
            ended.add(name)
            if not above <= ended:
                yield f"{name} ended before {sorted(above - ended)}"
        elif kind == TaskStarted.__name__ and not above <= ended:
            yield f"{name} started before {sorted(above - ended)} ended"
        elif kind == "begin" and (early := {other for other in above if ("begin", other) in history.lines} - left):
            yield f"{name} began before {sorted(early)} was left"


def _width(history, workers):
    running = 0
    for kind, name in history.lines:
        running += (kind == "begin") - (kind == "end")
        if running > workers:
            yield f"{running} tasks ran at once when {name} began"


def _stop(history):
    stopped = None
    for kind, name in history.lines:
        if kind == TaskFailed.__name__:
            stopped = stopped or name
        elif kind == TaskStarted.__name__ and stopped and history.tasks[name].trigger not in CLEAN_UP:
            yield f"{name} started after {stopped} had failed"


def _results(history, run):
    told = {name for kind, name in history.lines if kind == TaskSucceeded.__name__}
    if run.state.succeeded() != {name: name for name in told}:
        yield f"results are {run.state.succeeded()}, told were {sorted(told)}"
    states = run.state.states()
    for kind, name in history.lines:
        expected = {TaskSucceeded.__name__: "succeeded", TaskFailed.__name__: "failed"}.get(kind)
        if expected and states[name] != expected:
            yield f"{name} {expected}, but its state is {states[name]}"
    if not run.done:
        yield "the run is not done"
