"""Several threads, several processes, and processes that are killed: nothing is lost, nothing is half."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowkit_state import StateManager

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


def test_processes_that_write_one_file_lose_nothing(path):
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


def test_threads_that_share_a_manager_lose_nothing(make_state):
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


def test_killed_at_any_moment_the_file_is_whole(path):
    told = 0
    for _ in range(6):
        writer = start(ENDLESS, path)
        lines = [writer.stdout.readline() for _ in range(3)]
        writer.kill()
        with writer:
            lines += [line for line in writer.stdout if line.endswith("\n")]
        told = int(lines[-1])
        with StateManager(path) as state:
            number = state.get("number")
            assert number in (told, told + 1), "what set() returned for is there"
            assert state.get("twice") == [number] * 200
            told = number
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


def test_a_lock_does_not_outlive_its_process(path):
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
if sys.argv[1].endswith(".json"):  # SQLite itself forbids a fork within a transaction
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
def test_a_forked_child_goes_on_with_the_manager(path):
    code = FORK.replace("sys.stdin.readline()", "os.read(0, 1)")
    process = start(code, path)
    assert process.stdout.readline() == "read\n"
    out, _ = process.communicate("\n\n")
    assert (out, process.returncode) == ("done\n", 0)


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="platform: there is no /proc")
def test_no_connection_is_left_behind_by_threads(tmp_path):
    with StateManager(tmp_path / "state.db") as state:
        state.set("a", 1)
        before = len(list(OPEN_FILES.iterdir())) + 1  # SQLite keeps one for the next to come
        for _ in range(10):
            thread = threading.Thread(target=state.get, args=("a",))
            thread.start()
            thread.join()
        assert len(list(OPEN_FILES.iterdir())) <= before
    assert len(list(OPEN_FILES.iterdir())) < before
