"""Which process owns a run, and when another one may continue it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_runs import TASKS, begin, record

from flowkit_state import (
    RunInUseError,
    StateFileError,
    StateManager,
)

SUPPORT = Path(__file__).parents[1] / "support"


def test_run_in_use_is_refused(state):
    journal = begin(state)
    with pytest.raises(RunInUseError) as caught:
        begin(state, "b", resume=True)
    assert (caught.value.run_id, caught.value.pid, caught.value.pipeline) == ("a", os.getpid(), "etl")
    with pytest.raises(RunInUseError):
        state.forget("a")
    journal.close("failed", [], None)
    assert begin(state, "b", resume=True).run_id == "a"


def test_deleted_journal_releases_run(state):
    journal = begin(state)
    del journal
    assert state.run("a").status == "interrupted"
    assert begin(state, "b", resume=True).run_id == "a"


def test_release_ends_claim_on_run(state):
    journal = begin(state)
    state.release("a")
    assert begin(state, "b", resume=True).run_id == "a"
    journal.close("failed", [], None)


def test_run_of_killed_process_can_be_resumed(path):
    source = f"""
        import sys
        sys.path.insert(0, {str(SUPPORT)!r})
        from flowkit_state import StateManager
        from recorded_runs import begin, record
        state = StateManager({str(path)!r})
        journal = begin(state)
        record(journal, 0, [1, 2])
        print("ready", flush=True)
        sys.stdin.read()
    """
    source = "\n".join(line.strip() for line in source.splitlines())
    process = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "ready\n"
        with StateManager(path) as state:
            with pytest.raises(RunInUseError) as caught:
                begin(state, "b", resume=True, tasks=TASKS)
            assert caught.value.pid == process.pid
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert state.run("a").status == "interrupted"
            assert begin(state, "b", resume="force").run_id == "a"


def test_process_with_reused_id_does_not_own_run(path):
    with StateManager(path) as state:
        begin(state)
    with sqlite3.connect(path) as database:
        (owner,) = database.execute("SELECT owner FROM runs").fetchone()
        claim = json.loads(owner)
        ticks = claim["ticks"]
        claim |= {"pid": os.getppid(), "ticks": (ticks or 0) + 12345}
        database.execute("UPDATE runs SET owner = ?", (json.dumps(claim),))
    database.close()
    if ticks is None:
        pytest.skip("platform: when a process started cannot be known here")
    with StateManager(path) as state:
        assert begin(state, "b", resume=True).run_id == "a"


def test_process_of_other_machine_owns_run_until_release(path):
    with StateManager(path) as state:
        begin(state)
    with sqlite3.connect(path) as database:
        (owner,) = database.execute("SELECT owner FROM runs").fetchone()
        claim = json.loads(owner) | {"host": "far away", "boot": "another", "space": "another"}
        database.execute("UPDATE runs SET owner = ?", (json.dumps(claim),))
    database.close()
    with StateManager(path) as state:
        with pytest.raises(RunInUseError, match="far away"):
            begin(state, "b", resume=True)
        state.release("a")
        assert begin(state, "b", resume=True).run_id == "a"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: there is no fork")
def test_forked_process_cannot_record(path):
    with StateManager(path) as state:
        journal = begin(state)
        child = os.fork()
        if not child:
            try:
                record(journal, 0, "by the child")
            except StateFileError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert state.run("a").tasks["extract"].state == "pending"
        journal.close("failed", [], None)
