"""A run belongs to one process or thread at a time."""

from __future__ import annotations

import os
import pickle
import socket
import threading

import pytest
from durable_tasks import CHAIN, wait_until

from flowkit import RunInUseError, StateError, StateManager


def test_resume_of_running_run_raises(box):
    """Also in the same process."""
    pipeline = box.chain()
    box.inject("c", "fail")
    box.failing_run(pipeline)
    box.repair("c")
    box.inject("c", "wait")
    all_results = []
    thread = threading.Thread(target=lambda: all_results.append(pipeline.run("serial", state=box.db, resume=True)))
    thread.start()
    try:
        wait_until(lambda: box.ran.count("c") == 2)
        with pytest.raises(RunInUseError) as caught:
            pipeline.run("serial", state=box.db, resume=True)
        with pytest.raises(RunInUseError):
            pipeline.run("serial", state=box.db, resume="force")
    finally:
        box.repair("c")
        thread.join()
    error = caught.value
    assert isinstance(error, StateError)
    assert error.run_id == all_results[0].run_id
    assert error.pid == os.getpid()
    assert error.host == socket.gethostname()
    assert str(error.pid) in str(error)
    assert error.started
    assert pickle.loads(pickle.dumps(error)).pid == error.pid
    assert all_results[0] == CHAIN
    assert box.ran == ["a", "b", "c", "c"]


def test_concurrent_new_runs_of_pipeline_are_separate(box):
    pipeline = box.chain()
    box.inject("b", "wait")
    all_results = []
    threads = [
        threading.Thread(target=lambda: all_results.append(pipeline.run("serial", state=box.db))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: box.ran.count("b") == 2)
        assert [record.status for record in box.records()] == ["running", "running"]
    finally:
        box.repair("b")
        for thread in threads:
            thread.join()
    assert all_results == [CHAIN, CHAIN]
    assert {results.run_id for results in all_results} == {record.run_id for record in box.records()}
    assert [record.status for record in box.records()] == ["succeeded", "succeeded"]


def test_release_of_run_without_owner_does_nothing(box):
    pipeline = box.chain()
    box.inject("b", "fail")
    results = box.failing_run(pipeline)
    box.repair("b")
    with StateManager(box.db) as state:
        state.release(results.run_id)
    assert pipeline.run("serial", state=box.db, resume=True).run_id == results.run_id
