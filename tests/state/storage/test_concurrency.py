"""State files used by several threads and processes, some of which are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowkit_state import StateLockedError, StateManager
from flowkit_state.storage import syscalls

OPEN_FILES = Path("/proc/self/fd")


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: there is no fork")


WRITER = """
import sys
from flowkit_state import StateManager
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
state = StateManager(path)
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    state.set(f"{name} {number}", [name, number])
    with state.batch():
        state.set("count", state.get("count", 0) + 1)
print("done", flush=True)
"""


def test_tables_that_another_process_creates_meanwhile_are_accepted(tmp_path, monkeypatch):
    path = tmp_path / "state.db"
    execute = syscalls.execute

    def then_create(connection, sql, values=()):
        cursor = execute(connection, sql, values)
        if sql == "ROLLBACK":  # it has found that there are no tables
            monkeypatch.undo()
            StateManager(path).close()
        return cursor

    monkeypatch.setattr(syscalls, "execute", then_create)
    with StateManager(path) as state:
        state.set("a", 1)
        assert syscalls.execute is execute
        assert state.get("a") == 1


ENDLESS = """
import sys
from flowkit_state import StateManager
state = StateManager(sys.argv[1])
number = state.get("number", 0)
while True:
    number += 1
    with state.batch():
        state.set("number", number)
        state.set("twice", [number] * 200)
    print(number, flush=True)
"""


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_concurrent_processes_lose_no_changes(path):
    writers = [start(WRITER, path, name, 25) for name in ("one", "two", "three")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        out, _ = writer.communicate()
        assert (out, writer.returncode) == ("done\n", 0)
    with StateManager(path) as state:
        found = state.get_all()
    assert found.pop("count") == 75
    assert found == {f"{name} {n}": [name, n] for name in ("one", "two", "three") for n in range(25)}


def test_concurrent_threads_lose_no_changes(make_state):
    state = make_state()
    state.set("count", 0)

    def work(name):
        for number in range(20):
            state.set(f"{name} {number}", number)
            with state.batch():
                state.set("count", state.get("count") + 1)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.get("count") == 100
    assert len(state.keys()) == 101


def test_killed_writer_leaves_complete_file(path):
    printed = 0
    for _ in range(6):
        writer = start(ENDLESS, path)
        lines = [writer.stdout.readline() for _ in range(3)]
        writer.kill()
        with writer:
            lines += [line for line in writer.stdout if line.endswith("\n")]
        printed = int(lines[-1])
        with StateManager(path) as state:
            number = state.get("number")
            assert number in (printed, printed + 1), "a change is in the file when the batch has ended"
            assert state.get("twice") == [number] * 200
            printed = number
    with StateManager(path) as state:
        state.set("after", 1)
    assert not list(path.parent.glob("*.tmp"))


HOLDER = """
import sys
from flowkit_state import StateManager
with StateManager(sys.argv[1]) as state, state.batch():
    state.set("a", 1)
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_lock_is_released_when_process_dies(path):
    holder = start(HOLDER, path)
    assert holder.stdout.readline() == "locked\n"
    holder.kill()
    holder.communicate()
    with StateManager(path, lock_timeout=5) as state:
        state.set("b", 2)
        assert state.get_all() == {"b": 2}


FORK = """
import os, sys, threading
from flowkit_state import StateManager
state = StateManager(sys.argv[1])
state.set("parent", 1)
inside, leave = threading.Event(), threading.Event()

def hold():
    with state.batch():
        state.set("held", 1)
        inside.set()
        leave.wait()

thread = threading.Thread(target=hold)
thread.start()
if sys.argv[1].endswith(".json"):  # SQLite does not support a fork inside a transaction
    inside.wait()
else:
    leave.set()
    thread.join()
child = os.fork()
if child == 0:
    assert state.get("parent") == 1, "a lock held by a thread of the parent must not stop the child"
    assert state.get("held") == (1 if leave.is_set() else None)
    os.write(1, b"read\\n")
    sys.stdin.readline()
    state.set("child", 2)
    os._exit(0)
assert os.read(0, 1) == b"\\n"
leave.set()
thread.join()
os.waitpid(child, 0)
assert sorted(state.keys()) == ["child", "held", "parent"], state.keys()
state.close()
print("done")
"""


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_can_use_manager(path):
    code = FORK.replace("sys.stdin.readline()", "os.read(0, 1)")
    process = start(code, path)
    assert process.stdout.readline() == "read\n"
    out, _ = process.communicate("\n\n")
    assert (out, process.returncode) == ("done\n", 0)


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="platform: there is no /proc")
def test_connections_of_ended_threads_are_closed(tmp_path):
    with StateManager(tmp_path / "state.db") as state:
        state.set("a", 1)
        before = len(list(OPEN_FILES.iterdir())) + 1  # SQLite keeps one descriptor open for reuse
        for _ in range(10):
            thread = threading.Thread(target=state.get, args=("a",))
            thread.start()
            thread.join()
        assert len(list(OPEN_FILES.iterdir())) <= before
    assert len(list(OPEN_FILES.iterdir())) < before


def test_locked_file_raises_state_locked_error_after_timeout(path):
    with StateManager(path) as holder, StateManager(path, lock_timeout=0.05) as state:
        with holder.batch():
            holder.set("a", 1)
            failed = []

            def attempt():
                try:
                    state.set("b", 2)
                except StateLockedError as error:
                    failed.append(error)

            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()
            assert "locked for 0.05 s" in str(failed[0])
            assert isinstance(failed[0], TimeoutError)
        state.set("b", 2)
        assert holder.get_all() == {"a": 1, "b": 2}


ATOMIC = """
import sys
from flowkit_state import StateManager
path, name = sys.argv[1:]
state = StateManager(path)
print("ready", flush=True)
sys.stdin.readline()
added = sum(state.add(f"job {number}", name) for number in range(20))
popped = sum(state.pop(f"token {number}") is not None for number in range(20))
for _ in range(20):
    state.incr("count", 2)
    state.decr("count")
    state.touch("count", 1000)
print(added, popped, flush=True)
"""


def test_atomic_methods_of_processes_lose_no_changes(path):
    with StateManager(path) as state:
        for number in range(20):
            state.set(f"token {number}", number)
    processes = [start(ATOMIC, path, name) for name in ("one", "two", "three")]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = []
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        counts.append([int(part) for part in out.split()])
    assert [sum(column) for column in zip(*counts, strict=True)] == [20, 20]
    with StateManager(path) as state:
        assert state.get("count") == 60
        assert len(state) == 21
