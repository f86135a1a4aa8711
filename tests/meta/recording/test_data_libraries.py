"""Results of data libraries in recorded and cached runs. The session `extras` of nox has these libraries."""

from __future__ import annotations

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest

from flowkit import DAG, StateManager, Task, UnsupportedValueError, task


class Order(pydantic.BaseModel):
    number: int


@attrs.define
class Item:
    price: float


VALUES = {
    "array": np.arange(100_000.0),
    "scalar": np.float64(2.5),
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "polars": pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "arrow": pa.table({"a": [1, 2]}),
    "pydantic": [Order(number=1)],
    "attrs": {"item": Item(1.5)},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_result_is_reused_on_resume(tmp_path, executor, value):
    calls = []

    def extract():
        calls.append("extract")
        return value

    def load(data):
        calls.append("load")
        if len(calls) == 2:
            raise ConnectionError
        return str(data)

    first, second = Task(extract), Task(load)
    first >> second
    pipeline = DAG("etl", tasks=[second])
    state = tmp_path / "runs.db"
    with pytest.raises(ConnectionError):
        pipeline.run(executor, state=state)
    results = pipeline.run(executor, state=state, resume=True)
    assert calls == ["extract", "load", "load"]
    assert results["load"] == str(value)
    with StateManager(state) as manager:
        assert str(manager.runs()[0].tasks["extract"].result()) == str(value)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_result_is_input_of_cached_task(tmp_path, value):
    calls = []

    def extract():
        return value

    def describe(data):
        calls.append(1)
        return str(data)

    first, second = Task(extract), Task(describe, cache=True)
    first >> second
    pipeline = DAG("etl", tasks=[second])
    for _ in range(2):
        results = pipeline.run("serial", state=tmp_path / "runs.db")
    assert calls == [1]
    assert list(results.cached) == ["describe"]


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_parameters_of_equal_content_identify_run(tmp_path, value):
    calls = []

    @task
    def work(data):
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError
        return 1

    pipeline = DAG("params", tasks=[work])
    with pytest.raises(ConnectionError):
        pipeline.run("serial", state=tmp_path / "runs.db", params={"data": value})
    pipeline.run("serial", state=tmp_path / "runs.db", params={"data": value}, resume=True)
    with StateManager(tmp_path / "runs.db") as manager:
        (run,) = manager.runs()
        assert (run.resumes, run.status) == (1, "succeeded")


@pytest.mark.parametrize(
    "annotation", [np.ndarray, pd.DataFrame, list[pl.DataFrame], pa.Table, "pd.Series | None", Order]
)
def test_annotation_of_data_library_is_accepted(tmp_path, annotation):
    def work():
        return None

    work.__annotations__["return"] = annotation
    DAG("annotated", tasks=[Task(work)]).run("serial", state=tmp_path / "runs.db")


@pytest.mark.parametrize("annotation", [pl.LazyFrame, np.matrix, list[np.recarray]])
def test_annotation_of_value_that_cannot_be_stored_is_known_before_run(tmp_path, annotation):
    calls = []

    def work():
        calls.append(1)

    work.__annotations__["return"] = annotation
    pipeline = DAG("annotated", tasks=[Task(work)])
    with pytest.raises(UnsupportedValueError, match="according to its annotation"):
        pipeline.run("serial", state=tmp_path / "runs.db", state_errors="raise")
    assert calls == []
