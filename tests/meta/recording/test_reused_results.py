"""A result from the cache is reused: it is no success of this run."""

from __future__ import annotations

from flowkit import DAG, Task


def test_hook_on_success_is_not_called_for_a_reused_result():
    seen = []
    dag = DAG("cached", tasks=[Task(lambda: 1, name="one", cache=True, on_success=seen.append)])
    dag.run("serial")
    assert [event.task for event in seen] == ["one"]
    assert dag.run("serial").cached == ("one",)
    assert len(seen) == 1
