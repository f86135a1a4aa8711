"""`run(progress=True)`: bars on a terminal, lines elsewhere, and log lines that stay whole."""

from __future__ import annotations

import io
import logging
import re
import threading

import pytest

from flowkit_core import DAG, ElementStarted, ElementSucceeded, Task, task
from flowkit_log import configure_logging, get_logger
from flowkit_state import StateManager
from flowkit_view.progress import NAME, ElementBar, ProgressObserver


class Terminal(io.StringIO):
    def isatty(self):
        return True


@task
def numbers():
    return list(range(8))


@task
def double(number):
    if number == 5:
        get_logger().warning("five")
    return 2 * number


@task
def fail(double):
    raise ValueError("bad\x1b[2J")


def pipeline():
    first, second, third = numbers.with_options(), double.with_options(), fail.with_options()
    first >> second.map() >> third
    return DAG("mapped", tasks=[third])


def messages(text):
    return [re.sub(r", [\d.e+]+/s.*|in [\d.]+ .?s$", "", line[10:]) for line in text.splitlines()]


def test_lines_without_terminal(capsys):
    pipeline().run("serial", progress=True, raise_on_failure=False)
    lines = messages(capsys.readouterr().err)
    assert lines[0] == "[INFO] mapped: [                    ] 0% (0 of 3 tasks)"
    assert "[INFO] double: [====================] 100% (8 of 8)" in lines
    assert r'[ERROR] Task "fail" failed after 1 attempt: ValueError: bad\x1b[2J' in lines
    assert lines[-2:] == [
        "[INFO] mapped: [====================] 100% (3 of 3 tasks)",
        "[INFO] mapped: 2 succeeded, 1 failed ",
    ]


def test_console_is_removed_when_the_run_has_ended(capsys):
    pipeline().run("serial", progress=True, raise_on_failure=False)
    logger = logging.getLogger(NAME)
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)


def test_console_is_shared_by_runs_at_the_same_time(capsys):
    inner = DAG("inner", tasks=[Task(list, name="inner task")])
    outer = DAG("outer", tasks=[Task(lambda: inner.run("serial", progress=True) and None, name="outer task")])
    outer.run("serial", progress=True)
    lines = messages(capsys.readouterr().err)
    assert sum("inner: 1 succeeded" in line for line in lines) == 1
    assert sum("outer: 1 succeeded" in line for line in lines) == 1
    assert logging.getLogger(NAME).handlers == []


def test_bars_are_below_whole_log_lines():
    terminal = Terminal()
    configure_logging(use_colors=False, stream=terminal)
    pipeline().run("serial", progress=True, raise_on_failure=False)
    text = terminal.getvalue()
    lines = [re.sub(r"\x1b\[\d*[A-Za-z]", "", line.rpartition("\r")[2]) for line in text.split("\n")]
    assert [line[10:] for line in lines if "five" in line] == ["[WARN] five"]
    assert any(re.search(r"\[INFO\] mapped: double: \[=* *\] 33% \(1 of 3 tasks\)$", line) for line in lines)
    assert text.count('Task "fail" failed') == 1
    assert text.endswith("\n")


@pytest.mark.parametrize("options", [{"resume": True}, {}])
def test_resumed_and_skipped_tasks_count(tmp_path, capsys, options):
    broken = [True]

    def load(extract):
        if broken:
            raise OSError

    extract, last = Task(list, name="extract"), Task(load)
    extract >> last
    dag = DAG("etl", tasks=[last])
    dag.run("serial", state=tmp_path / "runs.db", raise_on_failure=False)
    broken.clear()
    capsys.readouterr()
    dag.run("serial", state=tmp_path / "runs.db", progress=True, **options)
    assert "100% (2 of 2 tasks)" in capsys.readouterr().err


def test_bar_of_elements_has_rate_and_time_left():
    now = [0.0]
    bar = ElementBar("parse", 40, lambda: now[0])
    bar.advance(10)
    assert bar.status() == "[=====               ] 25% (10 of 40)"
    now[0] = 5.0
    assert bar.status() == "[=====               ] 25% (10 of 40), 2/s, 15.0 s left"
    assert ElementBar("parse", None, lambda: now[0]).status() == "0"
    bar.finish()


def counting(observer, until=4):
    """Return a pipeline whose mapped task counts the elements that have ended before its element `until`."""

    def double(number):
        if number == until:
            observer.sampler.sample()
        return 2 * number

    first, second = numbers.with_options(), Task(double)
    first >> second.map()
    return DAG("mapped", tasks=[second.map()])


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_elements_are_counted_while_they_run(capsys, executor):
    observer = ProgressObserver()
    counting(observer).run(executor, max_workers=1, observers=[observer])
    lines = messages(capsys.readouterr().err)
    assert "[INFO] double: [==========          ] 50% (4 of 8)" in lines
    assert "[INFO] double: [====================] 100% (8 of 8)" in lines


def test_thread_counts_elements_until_they_have_ended(monkeypatch):
    monkeypatch.setattr("flowkit_view.sampling.INTERVAL", 0.001)
    seen = threading.Event()

    def double(number):
        if number == 4:
            threads.extend(thread.name for thread in threading.enumerate())
            assert seen.wait(60)
        return 2 * number

    class Error:
        """Standard error, on which the line of the fourth element is waited for."""

        def write(self, text):
            printed.append(text)
            if "50% (4 of 8)" in text:
                seen.set()

    threads, printed = [], []
    monkeypatch.setattr("sys.stderr", Error())
    first, second = numbers.with_options(), Task(double)
    first >> second.map()
    DAG("mapped", tasks=[second.map()]).run("serial", progress=True)
    assert "flowkit-sampler" in threads
    assert "[INFO] double: [====================] 100% (8 of 8)" in messages("".join(printed))


def test_progress_does_not_observe_each_element():
    """So workers call the elements of mapped tasks in a loop, or in blocks."""
    assert not {ElementStarted, ElementSucceeded} & {*ProgressObserver.events}


def test_failed_elements_are_printed_and_then_counted(capsys):
    def check(number):
        raise ValueError(f"bad\x1b[2J {number}")

    each = Task(check).map(errors="return", label=lambda number: f"row {number}")
    Task(lambda: list(range(15)), name="numbers") >> each
    DAG("mapped", tasks=[each]).run("serial", progress=True)
    lines = [line for line in messages(capsys.readouterr().err) if line.startswith("[WARN")]
    assert len(lines) == 10
    assert 'Element "check[0]" (row 0) failed' in lines[0]
    assert r"failed: ValueError: bad\x1b[2J 0" in lines[0]
    assert lines[9].endswith("further failures of its elements are only counted")


def test_observer_takes_events_of_all_kinds():
    assert all(isinstance(kind, type) for kind in ProgressObserver.events)


def test_watch_shows_progress_on_standard_error(etl, flowkit):
    answer = flowkit("run", "etl:dag", "-q", "-p", "day=2026-11-29", "--watch")
    assert answer.code == 0
    assert "etl: [====================] 100% (3 of 3 tasks)" in answer.err
    assert "%" not in answer.out


def test_lines_of_progress_are_not_recorded():
    with StateManager() as state:
        dag = pipeline()
        results = dag.run("serial", state=state, progress=True, raise_on_failure=False)
        messages = [line.message for line in state.logs(results.run_id)]
        assert [text for text in messages if "tasks)" in text or "100%" in text] == []
        assert "five" in messages


def test_bars_of_interrupted_run_do_not_count_what_was_cancelled(capsys):
    def each(x):
        if x == 1:
            raise KeyboardInterrupt
        return x

    first, last = Task(each), Task(len, name="last")
    first.map("x", errors="drop") >> last
    with pytest.raises(KeyboardInterrupt):
        DAG("sweep", tasks=[last]).run("serial", params={"x": [0, 1, 2, 3]}, progress=True)
    lines = messages(capsys.readouterr().err)
    assert not [line for line in lines if "100%" in line]
    assert [line for line in lines if "each: [" in line and "25%" in line]
    assert [line for line in lines if "sweep: [" in line and "50% (1 of 2 tasks)" in line]
