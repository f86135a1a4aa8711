"""Ctrl-C while a worker runs the elements of a mapped task in a loop."""

from __future__ import annotations

import sys

import pytest

from flowkit_core import DAG, ElementFailed, ElementNotRun, Results, Task
from flowkit_core.runs.mapping import mapped_loop

SIZE = 3


def chain(length):
    first = last = Task(abs, name="task0").map("x")
    for number in range(1, length):
        following = Task(abs, name=f"task{number}").map("x")
        _ = last >> following
        last = following
    return DAG("numbers", tasks=[first, last])


class Interrupt:
    """Trace function that raises KeyboardInterrupt at one line of the loop, as a signal handler could.

    Attributes:
        lines: number of lines until then; negative when it was raised.
    """

    def __init__(self, lines):
        self.lines = lines

    def __call__(self, frame, event, argument):
        if frame.f_globals is not vars(mapped_loop):
            return None
        if event == "line":
            self.lines -= 1
            if self.lines < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("length", [1, 2])
def test_interrupt_at_any_line_ends_the_run(length):
    dag = chain(length)
    for lines in range(10_000):
        interrupt, before = Interrupt(lines), sys.gettrace()
        sys.settrace(interrupt)
        try:
            dag.run("serial", params={"x": range(SIZE)})
        except KeyboardInterrupt:
            continue
        finally:
            sys.settrace(before)
        assert interrupt.lines >= 0, f"the interrupt at line {lines} was lost"
        break
    assert lines > 20 * SIZE


@pytest.mark.parametrize("errors", ["raise", "drop", "return"])
@pytest.mark.parametrize("options", [{}, {"retries": 2, "delay": 0}])
def test_interrupted_element_has_not_failed(errors, options):
    def each(x):
        if x == 1:
            raise KeyboardInterrupt
        return x

    events = []
    observer = Collector(events)
    dag = DAG("sweep", tasks=[Task(each, **options).map("x", errors=errors)])
    with pytest.raises(KeyboardInterrupt) as raised:
        dag.run("serial", params={"x": [0, 1, 2]}, observers=[observer])
    results = Results.from_error(raised.value)
    assert results.elements["each"].states == ["succeeded", "cancelled", "cancelled"]
    assert results.elements["each"].failed == {}
    assert [(type(event), event.element) for event in events][:1] == [(ElementNotRun, 1)]


class Collector:
    events = (ElementFailed, ElementNotRun)

    def __init__(self, found):
        self.found = found

    def __call__(self, event):
        self.found.append(event)
