"""Records, resumes and caches of mapped tasks."""

from __future__ import annotations

import pytest

from flowkit import DAG, Skip, StateManager, Task


class Counter:
    """Counts calls, and fails for the elements in `bad`."""

    def __init__(self):
        self.calls = []
        self.bad = set()

    def each(self, row):
        self.calls.append(row)
        if row in self.bad:
            raise ValueError(row)
        return 10 * row


@pytest.fixture
def state(tmp_path):
    with StateManager(tmp_path / "runs.db") as state:
        yield state


def test_whole_list_is_taken_over(state):
    counter = Counter()
    rows, each = Task(lambda: [1, 2, 3], name="rows"), Task(counter.each, name="each")
    broken = Task(lambda each: 1 / 0, name="broken")
    rows >> each.map() >> broken
    dag = DAG("mapped", tasks=[broken])
    for resume in (False, True):
        with pytest.raises(ZeroDivisionError):
            dag.run("serial", state=state, resume=resume)
    assert counter.calls == [1, 2, 3]


def test_only_the_missing_elements_of_a_failed_map_run_again(state):
    counter = Counter()
    counter.bad = {2}
    rows, each = Task(lambda: [1, 2, 3], name="rows"), Task(counter.each, name="each")
    rows >> each.map()
    dag = DAG("mapped", tasks=[each])
    with pytest.raises(ValueError, match="2"):
        dag.run("serial", state=state)
    counter.bad = set()
    results = dag.run("serial", state=state, resume=True)
    assert results == {"rows": [1, 2, 3], "each": [10, 20, 30]}
    assert results.resumed == ("rows",)
    assert results.elements["each"].resumed == [0]
    assert list(results.elements["each"].attempts) == [0, 1, 1]
    assert counter.calls == [1, 2, 2, 3]


def test_cached_elements_are_not_called_again(state):
    calls = []

    def double(row):
        calls.append(row)
        return 2 * row

    each = Task(double, name="each", cache=True)
    dag = DAG("cached", tasks=[each.map("row")])
    assert dag.run("serial", state=state, params={"row": [1, 2]})["each"] == [2, 4]
    assert dag.run("serial", state=state, params={"row": [2, 3, 1]})["each"] == [4, 6, 2]
    assert dag.run("thread", state=state, params={"row": range(1, 5)})["each"] == [2, 4, 6, 8]
    assert sorted(calls) == [1, 2, 3, 4]


def test_task_that_is_mapped_now_runs_again(state):
    rows, each, end = Task(lambda: [1, 2], name="rows"), Task(lambda row: row * 2, name="each"), Task(str, name="end")
    broken = Task(lambda end: 1 / 0, name="broken")
    rows >> each >> end >> broken
    with pytest.raises(ZeroDivisionError):
        DAG("changed", tasks=[broken]).run("serial", state=state)
    rows, again, end = Task(rows.func, name="rows"), Task(each.func, name="each"), Task(str, name="end")
    rows >> again.map() >> end
    results = DAG("changed", tasks=[end]).run("serial", state=state, resume=True)
    assert results["end"] == "[2, 4]"
    assert "mapped over row" in results.outdated["each"]


def test_elements_keep_their_numbers_when_another_map_takes_the_recorded_list(state):
    counter = Counter()
    counter.bad = {2}
    fails = [True]

    def fail_once(value):
        if fails:
            fails.pop()
            raise ConnectionError
        return value

    rows, each = Task(lambda: [1, 2, 3], name="rows"), Task(counter.each, name="each")
    gate, second = Task(lambda: 1, name="gate"), Task(fail_once, name="second")
    rows >> each.map(errors="drop") >> second.map()
    second.after(gate)
    dag = DAG("twice", tasks=[second])
    with pytest.raises(ConnectionError):
        dag.run("serial", state=state)
    results = dag.run("serial", state=state, resume=True)
    assert results["second"] == [10, 30]
    assert sorted(results.elements["second"].skipped) == [1]
    assert counter.calls == [1, 2, 3]


def test_generator_is_pulled_and_not_recorded(state):
    def rows():
        yield from (1, 2)

    source, each = Task(rows), Task(lambda row: row, name="each")
    source >> each.map()
    dag = DAG("lazy", tasks=[each])
    results = dag.run("serial", state=state)
    assert results == {"each": [1, 2]}
    assert results.states == {"rows": "succeeded", "each": "succeeded"}
    (record,) = state.runs("lazy")
    assert record.tasks["rows"].state == "succeeded"
    assert record.tasks["each"].elements.size == 2
    with pytest.raises(LookupError, match="an iterator that a mapped task has consumed"):
        record.tasks["rows"].result()


def test_replay_refuses_mapped_tasks(state):
    each = Task(lambda row: row, name="each")
    dag = DAG("mapped", tasks=[each.map("row")])
    dag.run("serial", state=state, params={"row": [1]})
    (record,) = state.runs("mapped")
    with pytest.raises(ValueError, match="task 'each' is mapped"):
        state.replay(record.run_id, "each", pipeline=dag)


@pytest.mark.parametrize("errors", ["drop", "return"])
def test_failed_elements_run_again(state, errors):
    counter = Counter()
    counter.bad = {2}
    rows, each = Task(lambda: [1, 2, 3], name="rows"), Task(counter.each, name="each")
    broken = Task(lambda each: 1 / 0, name="broken")
    rows >> each.map(errors=errors) >> broken
    dag = DAG("mapped", tasks=[broken])
    with pytest.raises(ZeroDivisionError):
        dag.run("serial", state=state)
    counter.bad = set()
    results = dag.run("serial", state=state, resume=True, raise_on_failure=False)
    assert results["each"] == [10, 20, 30]
    assert results.outdated["each"] == "1 of its elements failed"
    assert counter.calls == [1, 2, 3, 2]


def test_pairs_after_a_resume_have_the_numbers_of_the_input(state):
    def skip_at(number):
        def each(row):
            if row == number:
                raise Skip(str(row))
            return row

        return each

    attempts = []

    def pair(left, right):
        attempts.append(None)
        if len(attempts) == 1:
            raise ValueError
        return left, right

    rows = Task(lambda: [1, 2, 3], name="rows")
    left, right = Task(skip_at(1), name="left"), Task(skip_at(3), name="right")
    pairs = Task(pair, name="pairs")
    rows >> [left.map(errors="return"), right.map(errors="return")] >> pairs.map()
    dag = DAG("pairs", tasks=[pairs])
    dag.run("serial", state=state, raise_on_failure=False)
    assert dag.run("serial", state=state, resume=True)["pairs"] == [(2, 2)]
