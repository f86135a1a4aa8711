"""``run(keep=..., resume=True)``: recorded results that are not returned are taken over where they are needed."""

from __future__ import annotations

import pytest

from flowkit import DAG, Task


def test_resume_with_keep_takes_over_what_is_needed(tmp_path):
    """The results that are not returned are recorded as well."""
    calls = []
    broken = [True]

    def load(middle):
        if broken[0]:
            raise OSError("not yet")
        return middle + 1

    first = Task(lambda: calls.append("first") or 1, name="first")
    middle = Task(lambda first: calls.append("middle") or first + 1, name="middle")
    last = Task(load, name="last")
    first >> middle >> last
    dag = DAG("keep", tasks=[last])
    state = tmp_path / "runs.db"
    with pytest.raises(OSError, match="not yet"):
        dag.run(state=state, keep=["last"])
    broken[0] = False
    results = dag.run(state=state, keep=["last"], resume="force")
    assert results == {"last": 3}
    assert calls == ["first", "middle"]
    assert set(results.resumed) == {"first", "middle"}
