"""Elements that a task changes in place are recorded as they were: inputs before the call, results after it."""

from __future__ import annotations

import pytest

from flowkit import DAG, Skip, StateManager, Task

KINDS = ("serial", "thread")


@pytest.fixture
def state(tmp_path):
    with StateManager(tmp_path / "runs.db") as state:
        yield state


def rows_as_generator():
    yield from ({"id": number} for number in range(40))


def rows_as_list():
    return [{"id": number} for number in range(40)]


def changing_pipeline(rows, failing, seen, **options):
    """Return a pipeline with a task that removes what identifies its element, and then fails for some elements."""

    def take(row):
        number = row.pop("id")
        seen.append(number)
        row["is_taken"] = True
        if number in failing:
            raise ValueError(number)
        return number

    source, each = Task(rows, name="rows"), Task(take, **options)
    source >> each.map(label=lambda row: f"row {row['id']}")
    return DAG("changing", tasks=[each])


@pytest.mark.parametrize("kind", KINDS)
def test_element_changed_in_place_is_taken_over_by_its_original_value(state, kind):
    failing, seen = {30}, []
    dag = changing_pipeline(rows_as_generator, failing, seen)
    first = dag.run(kind, state=state, raise_on_failure=False)
    ended = set(seen) - {30}
    failing.clear()
    seen.clear()
    results = dag.run(kind, state=state, resume=True)
    assert first.elements["take"].counts["failed"] == 1
    assert results["take"] == list(range(40))
    assert set(seen) == set(range(40)) - ended


@pytest.mark.parametrize("kind", KINDS)
def test_element_equal_to_what_a_call_made_of_another_one_is_not_taken_over(state, kind):
    def rows():
        yield from ({"count": first + number} for number in range(4))

    def take(row):
        row["count"] += 1
        if row["count"] == 4 and not repaired:
            raise ValueError(row)
        return row["count"]

    first, repaired = 0, []
    source, each = Task(rows), Task(take)
    source >> each.map()
    dag = DAG("counts", tasks=[each])
    dag.run(kind, state=state, raise_on_failure=False)
    first = 1
    repaired.append(True)
    assert dag.run(kind, state=state, resume=True)["take"] == [2, 3, 4, 5]


@pytest.mark.parametrize("rows", [rows_as_generator, rows_as_list])
@pytest.mark.parametrize("kind", KINDS)
def test_label_of_element_changed_in_place_is_recorded_from_before_the_call(state, kind, rows):
    dag = changing_pipeline(rows, {3}, [])
    results = dag.run(kind, state=state, raise_on_failure=False)
    recorded = state.run(results.run_id).tasks["take"].elements
    assert recorded.labels[3] == "row 3"
    assert recorded.labels[0] == "row 0"


@pytest.mark.parametrize("kind", KINDS)
def test_element_changed_by_a_failed_attempt_is_taken_over_by_its_original_value(state, kind):
    def take(row):
        row["attempts"] = row.get("attempts", 0) + 1
        seen.append(row["id"])
        if row["attempts"] == 1 or row["id"] in failing:
            raise ConnectionError(row["id"])
        return row["id"]

    failing, seen = {7}, []
    source, each = Task(rows_as_generator, name="rows"), Task(take, retries=1, delay=0)
    source >> each.map()
    dag = DAG("again", tasks=[each])
    dag.run(kind, state=state, raise_on_failure=False)
    ended = {number for number in seen if seen.count(number) == 2} - {7}
    assert ended
    failing.clear()
    seen.clear()
    assert dag.run(kind, state=state, resume=True)["take"] == list(range(40))
    assert not ended & set(seen)


def test_skipped_element_changed_in_place_is_taken_over(state):
    def take(row):
        number = row.pop("id")
        seen.append(number)
        if number == 1:
            raise Skip("not wanted")
        if number == 2 and not repaired:
            raise ValueError(number)
        return number

    seen, repaired = [], []
    source, each = Task(rows_as_generator, name="rows"), Task(take)
    source >> each.map()
    dag = DAG("skips", tasks=[each])
    dag.run("serial", state=state, raise_on_failure=False)
    repaired.append(True)
    dag.run("serial", state=state, resume=True)
    assert (seen.count(0), seen.count(1), seen.count(2)) == (1, 1, 2)


@pytest.mark.parametrize("rows", [rows_as_generator, rows_as_list])
@pytest.mark.parametrize("kind", [*KINDS, "process"])
def test_result_that_the_next_stage_changes_is_recorded_as_it_was_returned(state, kind, rows):
    source, parse, clean = Task(rows, name="rows"), Task(parsed, name="parse"), Task(cleaned, name="clean")
    source >> parse.map() >> clean.map()
    results = DAG("stages", tasks=[clean]).run(kind, state=state)
    recorded = state.run(results.run_id).tasks
    assert recorded["parse"].elements.result(5) == {"id": 5, "steps": ["parsed"]}
    assert recorded["clean"].elements.result(5) == {"id": 5, "steps": ["parsed", "cleaned"]}
    assert results["clean"][5] == {"id": 5, "steps": ["parsed", "cleaned"]}


def test_results_of_a_chain_in_worker_processes_are_as_they_were_returned():
    source = Task(rows_as_list, name="rows")
    parse, clean = Task(parsed, name="parse"), Task(cleaned, name="clean")
    source >> parse.map(chunk=10) >> clean.map()
    results = DAG("stages", tasks=[clean]).run("process")
    assert results["parse"] == [{"id": number, "steps": ["parsed"]} for number in range(40)]
    assert results["clean"] == [{"id": number, "steps": ["parsed", "cleaned"]} for number in range(40)]


@pytest.mark.parametrize("kind", KINDS)
def test_result_of_a_task_that_the_next_task_changes_is_recorded_as_it_was_returned(state, kind):
    load = Task(lambda: {"steps": ["loaded"]}, name="load")
    clean = Task(cleaned, name="clean")
    load >> clean
    results = DAG("tasks", tasks=[clean]).run(kind, state=state)
    recorded = state.run(results.run_id).tasks
    assert recorded["load"].result() == {"steps": ["loaded"]}
    assert recorded["clean"].result() == {"steps": ["loaded", "cleaned"]}


def parsed(row):
    return {**row, "steps": ["parsed"]}


def cleaned(row):
    row["steps"].append("cleaned")
    return row
