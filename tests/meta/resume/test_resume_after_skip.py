"""A task that raises Skip is recorded as skipped: a resumed run does not run it again, a new run does."""

from __future__ import annotations

import pytest

from flowkit import DAG, Skip, StateManager, task


def test_skip_is_taken_over_and_not_cached(tmp_path):
    calls = []

    @task(cache=True)
    def load():
        calls.append("load")
        raise Skip("no new files")

    @task
    def report(load=0):
        calls.append("report")
        if calls.count("report") == 1:
            raise ValueError("no server")
        return load

    load >> report
    dag = DAG("nightly", tasks=[report])
    with StateManager(tmp_path / "runs.db") as state:
        with pytest.raises(ValueError, match="no server"):
            dag.run("serial", state=state)
        results = dag.run("serial", state=state, resume=True)
        assert (results, results.skipped, results.resumed) == ({"report": 0}, {"load": "no new files"}, ("load",))
        record = state.run(results.run_id).tasks["load"]
        assert (record.state, record.reason) == ("skipped", "no new files")
        assert calls == ["load", "report", "report"]
        assert dag.run("serial", state=state).skipped == {"load": "no new files"}
        assert calls[3:] == ["load", "report"]
