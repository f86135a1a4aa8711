"""The record of runs, without a pipeline: what a store does for `run(state=...)`, and the upkeep of its file."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from flowkit_state import (
    Reclaimed,
    RestoreError,
    ResumeError,
    RunInUseError,
    StateFileError,
    StateManager,
    StateOptionError,
    StateOptionTypeError,
    TaskCache,
    UnknownRunError,
    UnsupportedValueError,
    UntrustedPickleError,
)

LARGE = bytes(range(256)) * 2000


def extract():
    return [1, 2, 3]


def transform(rows):
    return sorted(rows)


def other(rows):
    return sorted(rows, reverse=True)


def planned(name, func, trigger="none_failed"):
    return SimpleNamespace(name=name, func=func, when=None, trigger=trigger)


TASKS = [planned("extract", extract), planned("transform", transform)]
UPSTREAM = [(), (0,)]


def begin(state, run_id="a", *, tasks=TASKS, upstream=UPSTREAM, params=None, resume=False):
    return state.open_run(run_id, "etl", tasks, upstream, params or {}, resume)


def record(journal, place, value, state="succeeded", **facts):
    facts = {"attempts": 1, "seconds": 0.5, "reason": "", "error": None, "source": "run", "why": ""} | facts
    stored = journal.prepare(place, value) if state == "succeeded" else None
    journal.record(place, state, stored, **facts)


@pytest.fixture(params=["file", "memory"])
def state(request, tmp_path):
    with StateManager(tmp_path / "runs.db" if request.param == "file" else None) as manager:
        yield manager


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


# Runs


def test_a_run_from_beginning_to_end(state):
    journal = begin(state)
    assert (journal.run_id, dict(journal.done)) == ("a", {})
    record(journal, 0, [1, 2])
    assert state.run("a").status == "running"
    assert state.run("a").tasks["transform"].state == "pending"
    record(journal, 1, None, "failed", attempts=3, error=ValueError("no"))
    journal.close("failed", [], ValueError("no"))
    found = state.run("a")
    assert (found.status, found.pipeline, found.error, found.resumes) == ("failed", "etl", "ValueError: no", 0)
    assert found.ended >= found.started
    assert found.counts == {"succeeded": 1, "failed": 1}
    assert found.tasks["extract"].result() == [1, 2]
    assert (found.tasks["transform"].attempts, found.tasks["transform"].duration) == (3, 0.5)
    assert str(found.tasks["transform"].error) == "ValueError: no"
    with pytest.raises(LookupError, match="'transform' has no result: it is failed"):
        found.tasks["transform"].result()


def test_the_last_run_goes_on_unless_it_has_finished(state):
    journal = begin(state)
    record(journal, 0, (1, 2))
    record(journal, 1, None, "skipped", reason="its condition was false")
    journal.close("interrupted", [], None)
    again = begin(state, "b", resume=True)
    assert again.run_id == "a"
    assert {place: (done.state, done.value) for place, done in again.done.items()} == {
        0: ("succeeded", (1, 2)),
        1: ("skipped", None),
    }
    again.close("succeeded", [], None)
    assert state.run("a").resumes == 1
    fresh = begin(state, "b", resume=True)
    assert (fresh.run_id, dict(fresh.done)) == ("b", {})
    fresh.close("succeeded", [], None)
    assert [run.run_id for run in state.runs("etl")] == ["b", "a"]
    assert state.runs("another") == []


def test_what_did_not_run_never_replaces_what_did(state):
    journal = begin(state)
    record(journal, 0, [1])
    journal.close("interrupted", [(0, "cancelled", "called off"), (1, "cancelled", "called off")], None)
    assert {name: task.state for name, task in state.run("a").tasks.items()} == {
        "extract": "succeeded",
        "transform": "cancelled",
    }


def test_a_run_that_is_in_hand_is_refused(state):
    journal = begin(state)
    with pytest.raises(RunInUseError) as caught:
        begin(state, "b", resume=True)
    assert (caught.value.run_id, caught.value.pid, caught.value.pipeline) == ("a", os.getpid(), "etl")
    with pytest.raises(RunInUseError):
        state.forget("a")
    journal.close("failed", [], None)
    assert begin(state, "b", resume=True).run_id == "a"


def test_a_journal_that_was_forgotten_holds_nothing(state):
    journal = begin(state)
    del journal
    assert state.run("a").status == "interrupted"
    assert begin(state, "b", resume=True).run_id == "a"


def test_release(state):
    journal = begin(state)
    state.release("a")
    assert begin(state, "b", resume=True).run_id == "a"
    journal.close("failed", [], None)


def test_the_run_of_a_dead_process_goes_on(path):
    """The process is killed while it has the run; its number and its start tell that it is gone."""
    source = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_runs import *
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


def test_a_process_number_that_was_used_again_is_no_owner(path):
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


def test_a_process_that_cannot_be_seen_keeps_its_run(path):
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


# Pipelines that have changed


@pytest.mark.parametrize(
    ("tasks", "upstream", "facts"),
    [
        ([*TASKS, planned("load", extract)], [(), (0,), (1,)], {"added": ("load",)}),
        (TASKS[:1], [()], {"removed": ("transform",)}),
        (TASKS, [(), ()], {"rewired": ("transform",)}),
        ([TASKS[0], planned("transform", transform, "all_done")], UPSTREAM, {"rewired": ("transform",)}),
        ([TASKS[0], planned("transform", other)], UPSTREAM, {"changed": ("transform",)}),
    ],
    ids=["added", "removed", "rewired", "another trigger", "changed"],
)
def test_a_changed_pipeline_is_refused(state, tasks, upstream, facts):
    journal = begin(state)
    record(journal, 0, [3])
    journal.close("interrupted", [], None)
    with pytest.raises(ResumeError) as caught:
        begin(state, "b", tasks=tasks, upstream=upstream, resume=True)
    error = caught.value
    told = {name: tuple(getattr(error, name)) for name in ("added", "removed", "rewired", "changed")}
    assert told == {"added": (), "removed": (), "rewired": (), "changed": ()} | facts
    assert (error.run_id, error.keeps, error.recorded) == ("a", 1, 1)
    assert 'resume="force"' in str(error)
    again = begin(state, "b", resume=True)  # the pipeline as it was: nothing was lost
    assert again.done[0].value == [3]
    again.close("interrupted", [], None)
    forced = begin(state, "b", tasks=tasks, upstream=upstream, resume="force")
    assert {place: done.value for place, done in forced.done.items()} == {0: [3]}


def test_what_a_program_changes_as_it_goes_is_no_code(state):
    """The lists and objects that it has; and not even a constant, in a task that is to run anyway."""
    settings, money = {"fail": True}, Money(1)

    def tasks(limit, settings=settings):
        def first():
            return settings["fail"], money.cents

        def second(rows):
            return rows, limit

        return [planned("first", first), planned("second", second)]

    journal = begin(state, tasks=tasks(1))
    record(journal, 0, 1)
    journal.close("failed", [], None)
    settings["fail"], money.cents = False, 2
    again = begin(state, "b", tasks=tasks(2), resume=True)
    assert again.done[0].value == 1
    record(again, 1, 2)
    again.close("failed", [], None)
    with pytest.raises(ResumeError) as caught:
        begin(state, "c", tasks=tasks(3, {"fail": None}), resume=True)
    assert {name: [why.partition(" of ")[0] for why in whys] for name, whys in caught.value.changed.items()} == {
        "first": ["closure settings"],
        "second": ["closure limit"],
    }


def test_what_follows_from_a_changed_task_is_not_taken_over(state):
    journal = begin(state)
    record(journal, 0, [3])
    record(journal, 1, [3])
    journal.close("failed", [], None)
    tasks = [planned("extract", other), TASKS[1]]
    assert dict(begin(state, "b", tasks=tasks, resume="force").done) == {}


def test_parameters_count(state):
    journal = begin(state, params={"limit": 3, "log": print})
    record(journal, 0, [3])
    journal.close("failed", [], None)
    with pytest.raises(ResumeError, match="'limit'") as caught:
        begin(state, "b", params={"limit": 4, "log": len}, resume=True)
    assert caught.value.params == ("limit",)
    assert begin(state, "b", params={"limit": 3, "log": len}, resume=True).run_id == "a"


def test_another_order_of_declaration_is_no_change(state):
    tasks = [planned("a", extract), planned("b", transform)]
    journal = begin(state, tasks=tasks, upstream=[(), ()])
    record(journal, 0, "of a")
    journal.close("failed", [], None)
    again = begin(state, "b", tasks=tasks[::-1], upstream=[(), ()], resume=True)
    assert {place: done.value for place, done in again.done.items()} == {1: "of a"}
    again.close("failed", [], None)
    assert state.run("a").tasks["a"].result() == "of a"


# What can be kept


class Money:
    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return self.cents == other.cents

    __hash__ = None


class MoneySerializer:
    name, type = "money", Money

    def dump(self, value):
        return str(value.cents).encode()

    def load(self, data):
        return Money(int(data))


def test_a_serializer_for_a_type(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path, serializer=MoneySerializer()) as state:
        state.set("price", {"net": [Money(5)], "tax": Money(1)})
        assert state.get("price") == {"net": [Money(5)], "tax": Money(1)}
    with StateManager(path) as state:
        with pytest.raises(
            RestoreError, match="it was stored by the serializer 'money', which this StateManager does not have"
        ):
            state.get("price")
        with pytest.raises(UnsupportedValueError):
            state.set("price", Money(5))


def test_a_serializer_that_fails(tmp_path):
    class Broken(MoneySerializer):
        def dump(self, value):
            raise ValueError("no change")

        def load(self, data):
            raise ValueError("no change")

    class Wrong(MoneySerializer):
        def dump(self, value):
            return "text"

    state = StateManager(serializer=[Broken()])
    with pytest.raises(UnsupportedValueError, match=r"serializer 'money' failed to dump .ValueError: no change"):
        state.set("price", Money(5))
    with pytest.raises(UnsupportedValueError, match="returned a str"):
        StateManager(serializer=Wrong()).set("price", Money(5))
    path = tmp_path / "state.db"
    with StateManager(path, serializer=MoneySerializer()) as state:
        state.set("price", Money(5))
    with StateManager(path, serializer=Broken()) as state, pytest.raises(RestoreError, match="cannot load it"):
        state.get("price")


def test_serializers_are_checked():
    with pytest.raises(StateOptionTypeError, match="serializer"):
        StateManager(serializer=MoneySerializer)
    with pytest.raises(StateOptionTypeError, match="serializer"):
        StateManager(serializer=7)
    with pytest.raises(StateOptionError, match="different names"):
        StateManager(serializer=[MoneySerializer(), MoneySerializer()])


def test_a_result_that_cannot_be_kept(state):
    journal = begin(state)
    with pytest.raises(UnsupportedValueError, match='the result of task "extract" is of type builtin_function'):
        journal.prepare(0, print)


def test_pickled_results(path):
    with StateManager(path, serializer="pickle") as state:
        journal = begin(state)
        record(journal, 0, Money(7))
        record(journal, 1, [Money(1)] * 100_000)
        journal.close("failed", [], None)
        assert state.run("a").tasks["extract"].result() == Money(7)
        assert len(state.run("a").tasks["transform"].result()) == 100_000


def test_pickles_that_could_not_be_loaded_again_are_refused_before_the_run(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with StateManager(folder / "runs.db", serializer="pickle") as state:
        with pytest.raises(UntrustedPickleError, match="can be written by other users"):
            begin(state)
        folder.chmod(0o700)
        begin(state).close("succeeded", [], None)


def test_classes_of_a_script_are_those_of_its_module(tmp_path):
    """What a script has recorded, a program that imports it can read, and the other way round."""
    (tmp_path / "shop.py").write_text(
        """
import sys
from dataclasses import dataclass
from flowkit_state import StateManager

@dataclass
class Order:
    number: int

def main():
    with StateManager("shop.db") as state:
        print(state.get("order"))
        state.set("order", Order(7))

if __name__ == "__main__":
    main()
"""
    )
    commands = [["shop.py"], ["-c", "import shop; shop.main()"], ["shop.py"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    told = [
        subprocess.check_output([sys.executable, *command], cwd=tmp_path, env=environment, text=True)
        for command in commands
    ]
    assert told == ["None\n", "Order(number=7)\n", "Order(number=7)\n"]


# Large results


def files(path):
    return sorted(found for found in Path(f"{path}.files").rglob("*") if found.is_file())


def test_large_results_lie_beside_the_database(path):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, LARGE)
        record(journal, 1, LARGE)
        (found,) = files(path)  # one content, one file
        assert found.stat().st_mode & 0o077 == 0
        journal.close("failed", [], None)
        assert begin(state, "b", resume=True).done[1].value == LARGE
    assert path.stat().st_size < 100_000


def test_a_large_result_that_is_gone_or_damaged(path):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, LARGE)
        journal.close("failed", [], None)
        (found,) = files(path)
        found.write_bytes(b"something else")
        with pytest.raises(RestoreError, match=r"'extract'.*is damaged"):
            begin(state, "b", resume=True)
        found.unlink()
        with pytest.raises(RestoreError, match=r"'extract'.*is missing.*force"):
            begin(state, "b", resume=True)
        assert dict(begin(state, "b", resume="force").done) == {}


def test_gc(path):
    with StateManager(path) as state:
        for number in range(3):
            journal = begin(state, str(number))
            record(journal, 0, LARGE + bytes([number]))
            journal.close("succeeded", [], None)
        calls = []

        @TaskCache(state)
        def cached():
            calls.append(1)
            return LARGE + b"cached"

        cached()
        assert cached() == LARGE + b"cached"
        assert calls == [1]
        assert len(files(path)) == 4
        assert state.gc().files == 0
        reclaimed = state.gc(keep=1)
        assert (reclaimed.runs, reclaimed.files) == (2, 2)
        assert reclaimed.bytes > 2 * len(LARGE)
        assert [run.run_id for run in state.runs()] == ["2"]
        assert state.run("2").tasks["extract"].result() == LARGE + b"\x02"
        state.forget("2")
        cached.clear()
        assert state.gc().files == 2
        assert files(path) == []


def test_gc_leaves_what_a_run_in_progress_has_set_down(path):
    with StateManager(path) as state:
        journal = begin(state)
        stored = journal.prepare(0, LARGE)  # the file is there, and no row names it yet
        assert state.gc(keep=0).files == 0
        assert len(files(path)) == 1
        journal.record(0, "succeeded", stored, attempts=1, seconds=0.0, reason="", error=None, source="run", why="")
        journal.close("failed", [], None)
        assert state.run("a").tasks["extract"].result() == LARGE


def test_gc_takes_what_a_dead_run_has_set_down(path):
    with StateManager(path) as state:
        begin(state).prepare(0, LARGE)
        assert state.gc().files == 1


def test_gc_by_age(path):
    now = 1_800_000_000.0
    with StateManager(path, clock=lambda: now) as state:
        begin(state, "old").close("succeeded", [], None)
        cached = TaskCache(state)(lambda: 1)
        cached()
        assert state.gc(older_than=10**9).runs == 0
        now += 100
        state.set("mine", 1)
        assert state.gc(older_than=50).runs == 1
        assert state.keys() == ["mine"]


def test_gc_takes_what_a_dead_writer_had_not_renamed(path):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, LARGE)
        (found,) = files(path)
        found.with_name(f"{found.name}.123-abc.tmp").write_bytes(b"half")
        assert state.gc().files == 1
        assert files(path) == [found]
        journal.close("succeeded", [], None)


def test_gc_is_checked(state):
    with pytest.raises(StateOptionError):
        state.gc(keep=-1)
    with pytest.raises(StateOptionTypeError):
        state.gc(keep="all")
    assert repr(state.gc()) == "Reclaimed(runs=0, files=0, bytes=0)"
    assert isinstance(state.gc(), Reclaimed)


# Files


def test_unknown_runs(state):
    for ask in (state.run, state.forget, state.release, state.explain):
        with pytest.raises(UnknownRunError, match="no run 'x'"):
            ask("x")
    assert state.explain() == {}


def test_json_files_record_no_runs(tmp_path):
    state = StateManager(tmp_path / "state.json")
    with pytest.raises(StateOptionError, match="runs are recorded in a SQLite database"):
        begin(state)
    with pytest.raises(StateOptionError):
        state.runs()


def test_a_file_of_the_first_version_is_brought_up_to_date(path):
    database = sqlite3.connect(path)
    database.executescript("""
        PRAGMA journal_mode = WAL;
        CREATE TABLE entries (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL,
            metadata TEXT);
        CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
        INSERT INTO entries VALUES ('rows', '{"$tuple":[1,2]}', 1700000000.0, NULL, '{"from":"before"}');
        PRAGMA application_id = 1718382455;
        PRAGMA user_version = 1;
    """)
    database.close()
    managers = [StateManager(path) for _ in range(2)]
    for state in managers:
        assert state.get("rows") == (1, 2)
        assert state.get_metadata("rows") == {"from": "before"}
    journal = begin(managers[0])
    record(journal, 0, [1])
    journal.close("failed", [], None)
    assert managers[1].run("a").tasks["extract"].result() == [1]
    for state in managers:
        state.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_gone_when_the_run_ends(path, replaced):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, [1])
        path.rename(path.with_name("elsewhere.db"))
        if replaced:
            path.write_bytes(b"")
        with pytest.raises(StateFileError, match="moved, removed or replaced"):
            journal.close("succeeded", [], None)


def test_a_batch_that_a_task_leaves_open_is_an_error(path):
    with StateManager(path) as state:
        journal = begin(state)
        batch = state.batch()
        batch.__enter__()
        with pytest.raises(StateFileError, match="left a batch"):
            record(journal, 0, [1])
        batch.__exit__(None, None, None)
        record(journal, 0, [1])
        journal.close("failed", [], None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: there is no fork")
def test_a_copy_of_the_process_records_nothing(path):
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


def test_threads_that_open_a_new_file_at_once(path):
    problems = []

    def use(number):
        try:
            with StateManager(path) as state:
                journal = begin(state, str(number))
                record(journal, 0, number)
                journal.close("succeeded", [], None)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with StateManager(path) as state:
        assert {run.run_id: run.tasks["extract"].result() for run in state.runs()} == {str(n): n for n in range(8)}


def test_records_are_whole_or_not_there(path, monkeypatch):
    """The n-th call to the database fails, for every n: what was recorded before it is there, and the file opens."""
    from flowkit_state.storage import syscalls

    execute = syscalls.execute
    for limit in range(1, 100):
        count = 0

        def failing(connection, sql, values=(), limit=limit):
            nonlocal count
            count += 1
            if count == limit:
                raise sqlite3.OperationalError("disk I/O error")
            return execute(connection, sql, values)

        place = path.with_name(f"{limit}.db")
        recorded = []
        StateManager(place).close()
        with monkeypatch.context() as patch:
            patch.setattr(syscalls, "execute", failing)
            try:
                with StateManager(place) as state:
                    journal = begin(state)
                    for number, value in enumerate(([1], LARGE)):
                        record(journal, number, value)
                        recorded.append(value)
                    journal.close("succeeded", [], None)
                    recorded.append("end")
            except StateFileError:
                journal = None  # as if the process had ended
        with StateManager(place) as state:
            runs = state.runs()
            assert len(runs) == 1 or not recorded
            if runs:
                tasks = runs[0].tasks.values()
                found = [task.result() for task in tasks if task.state == "succeeded"]
                assert found[: len(recorded)] == [value for value in recorded if value != "end"]
                assert (runs[0].status == "succeeded") >= ("end" in recorded)
                assert begin(state, "b", resume="force").run_id == ("b" if runs[0].status == "succeeded" else "a")
        if count < limit:
            return
    pytest.fail("the record never came to an end")
