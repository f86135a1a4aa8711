"""The life of a nightly job, compared with a model that knows which tasks must run in each night."""

from __future__ import annotations

import random

import pytest
from nightly_job import Job, Model


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(6))
def test_nightly_job_runs_what_the_model_expects(box, seed):
    chance = random.Random(seed)
    job, model, ids = Job(box.folder), Model(), {}
    for _ in range(40):
        day = chance.choice(["2026-11-28", "2026-11-29", "2026-11-30"])
        broken = [name for name in job.upstreams() if name != "clean_up" and chance.random() < 0.15]
        change = chance.random()
        if change < 0.2:
            job.constants[chance.choice([*job.upstreams()])] += 1
        elif change < 0.3:
            job.add_file()
        elif change < 0.35 and len(job.files) > 1:
            job.files.remove(chance.choice(job.files))
        expected = model.expected(job, day, broken)
        for name in broken:
            box.inject(name, "fail")
        before = len(box.ran)
        results = job.run(box.db, {"day": day})
        for name in broken:
            box.repair(name)
        assert sorted(box.ran[before:]) == sorted(expected)
        assert results.run_id == ids.get(day, results.run_id)
        if results.failed:
            ids[day] = results.run_id
        else:
            ids.pop(day, None)
            assert results["report"] == job.report(day)
    statuses = {record.run_id: record.status for record in box.records()}
    assert {run_id for run_id, status in statuses.items() if status == "failed"} == {*ids.values()}
