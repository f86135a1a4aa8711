"""Whatever happens to the process, the disk or the file: what was recorded is there, right, and not done again."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from durable_tasks import RESULTS, TIMEOUT, Box, diamond, wait_until

import flowkit_core
import flowkit_state
from flowkit import (
    DAG,
    DamagedStateWarning,
    Results,
    StateFileError,
    StateLockedError,
    StateManager,
    StateVersionError,
    TaskStarted,
)
from flowkit_state.storage import syscalls

pytestmark = pytest.mark.slow


def start(path, *arguments):
    """Start a script, in a session of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, arguments)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process):
    """Wait for the end of a process, and return its exit code and what it printed."""
    out, problem = process.communicate(timeout=2 * TIMEOUT)
    return process.returncode, out, problem


def recorded(state):
    """Return the last run of a file, and what it has of each task that succeeded."""
    runs = state.runs()
    if not runs:
        return None, {}
    return runs[0], {name: item.result() for name, item in runs[0].tasks.items() if item.state == "succeeded"}


# Killed at any instant


SHAPES = {
    "chain": {f"t{number}": [f"t{number - 1}"] if number else [] for number in range(8)},
    "fan": {"t0": [], **{f"t{number}": ["t0"] for number in range(1, 9)}, "t9": [f"t{n}" for n in range(1, 9)]},
}
HEAD = """
import sys
from flowkit import DAG, task
from durable_tasks import record_execution

FOLDER = {folder!r}
SIZE = {size}

def value(number):
    return [number, str(number % 10) * SIZE * (number % 2)]
"""
TASK = """
@task
def {name}({parameters}):
    record_execution(FOLDER, "{name}")
    return value({number} + sum([{numbers}]))
"""
TAIL = """
def never():
    return False

@task(when=never)
def unwanted():
    record_execution(FOLDER, "unwanted")

results = DAG("killed", max_workers=2, tasks=[{last}, unwanted]).run(sys.argv[1], state={db!r}, resume=True)
print({{name: value[0] for name, value in results.items()}})
"""


def written(box, shape, size):
    """Write the script of a pipeline, and return its path and the number that each task should give."""
    source, expected = HEAD.format(folder=box.folder, size=size), {}
    for name, upstream in shape.items():
        number = int(name[1:]) + 1
        expected[name] = number + sum(expected[other] for other in upstream)
        numbers = ", ".join(f"{other}[0]" for other in upstream)
        source += TASK.format(name=name, parameters=", ".join(upstream), number=number, numbers=numbers)
        source += f"{upstream} >> {name}\n".replace("'", "") if upstream else ""
    path = Path(box.folder, "killed.py")
    path.write_text(source + TAIL.format(last=name, db=box.db))
    return path, expected


@pytest.mark.parametrize("size", [1, 2_000_000], ids=["small", "large"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_killed_at_any_instant(tmp_path, executor, shape, size):
    """It comes to its end all the same, with the right results and nothing done twice: forty times on each Python."""
    kill_often(5, signal.SIGKILL, tmp_path, executor, shape, size)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_ended_at_any_instant(tmp_path, executor, number):
    """As a terminal and a service manager do it: the whole group, and with a chance to say goodbye."""
    kill_often(3, getattr(signal, number), tmp_path, executor, "fan", 300_000)


def kill_often(times, number, tmp_path, executor, shape, size):
    seed = os.urandom(4).hex()
    dice = random.Random(seed)
    began = time.monotonic()
    kills = undisturbed = round_ = 0
    while kills < times:
        box = Box(tmp_path / str(round_))
        Path(box.folder).mkdir()
        path, expected = written(box, SHAPES[shape], size)
        process = start(path, executor)
        if round_:  # the first is left in peace, to see how long it takes
            kills += kill_until_done(process, number, path, executor, box, expected, size, dice, undisturbed, seed)
        else:
            assert ended(process) == (0, f"{expected}\n", "")
            undisturbed = time.monotonic() - began
        shutil.rmtree(box.folder)
        round_ += 1


def kill_until_done(process, number, path, executor, box, expected, size, dice, undisturbed, seed):
    """Kill a run again and again until one comes to its end. Returns how often."""
    kills, known, place = 0, {}, 0
    while True:
        wait_for_the_moment(process, box, place, len(expected) - len(known), dice, undisturbed)
        if number == signal.SIGKILL:
            process.kill()
        elif process.poll() is None:
            os.killpg(process.pid, number)
        code, out, problem = ended(process)
        called_off = number == signal.SIGINT and "KeyboardInterrupt" in problem
        assert called_off or code in (0, -number), f"seed {seed}:\n{problem}"
        lines = box.ran
        again = set(lines[place:]) & set(known)
        assert not again, f"seed {seed}: {again} ran again, though recorded"
        place = len(lines)
        with StateManager(box.db) as state:
            run, values = recorded(state)
            assert len(state.runs()) <= 1, f"seed {seed}"
        assert known.keys() <= values.keys(), f"seed {seed}: what was recorded is gone"
        known = {name: value[0] for name, value in values.items()}
        assert known == {name: expected[name] for name in known}, f"seed {seed}"
        assert all(value[1] == str(value[0] % 10) * size * (value[0] % 2) for value in values.values()), f"seed {seed}"
        if code == 0 or (run is not None and run.status == "succeeded"):
            assert known == expected, f"seed {seed}"
            assert code or out == f"{expected}\n", f"seed {seed}"
            return kills
        assert run is None or run.status == "interrupted", f"seed {seed}"
        kills += 1
        process = start(path, executor)


def wait_for_the_moment(process, box, place, tasks, dice, undisturbed):
    """Return at a random instant: at a time, or a little after some of the tasks that are left has begun."""
    if dice.random() < 0.3:
        time.sleep(dice.random() * undisturbed)
        return
    lines = place + dice.randint(1, max(1, tasks))
    # A task takes less than a millisecond: who looks less often comes too late.
    wait_until(lambda: len(box.ran) >= lines or process.poll() is not None, pause=0.0002)
    time.sleep(dice.choice([0, 0.0003, 0.001, 0.003, 0.01]) * dice.random())


# Called off at any instant


INTERRUPTED = """
import random, signal, sys
from flowkit import DAG, StateManager
from flowkit_exec.thread import driver as thread_driver
from durable_tasks import Box

thread_driver.GRACE = 60.0  # a task that was left alone would run when nobody expects it
box, executor, seed = Box(sys.argv[1]), sys.argv[2], sys.argv[3]
dice = random.Random(seed)
armed = False

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

def pipeline():
    tasks = [box.task(f"t{number}", value=str(number) * (300_000 if number == 5 else 1)) for number in range(12)]
    for number in range(1, 12):
        tasks[number - 1 if number % 3 else 0] >> tasks[number]
    return DAG("interrupted", max_workers=2, tasks=tasks)

signal.signal(signal.SIGALRM, interrupt)
known, place, count = set(), 0, 0
with StateManager(box.db) as state:
    while True:
        seconds = 1e-6 + dice.random() * dice.choice([0.005, 0.02, 0.06]) * 1.1**count
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            results = pipeline().run(executor, state=state, resume=True)
            armed = False
        except KeyboardInterrupt:
            armed, results = False, None
            count += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        ran = box.ran
        assert not known & set(ran[place:]), ("ran again", known & set(ran[place:]))
        place = len(ran)
        runs = state.runs()
        if runs:
            assert len(runs) == 1
            assert runs[0].status in ("interrupted", "succeeded"), runs
            known = {name for name, item in runs[0].tasks.items() if item.state == "succeeded"}
            if runs[0].status == "succeeded":
                break
assert len(known) == 12
print(count)
"""


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_interrupted_at_any_instant(tmp_path, script, executor):
    """By Ctrl-C, in a process that lives on with its state: it can always go on, and nothing is done twice."""
    interrupts = 0
    for number in range(8):
        box = Box(tmp_path / str(number))
        Path(box.folder).mkdir()
        interrupts += int(script(INTERRUPTED, box.folder, executor, os.urandom(4).hex()))
    assert interrupts


class Interrupt:
    """Raises KeyboardInterrupt at the n-th line, or return, of flowkit's own code: wherever Ctrl-C may come."""

    folders = tuple(str(Path(module.__file__).parent) for module in (flowkit_core, flowkit_state))

    def __init__(self, place):
        self.left = place
        self.where = None

    def __call__(self, frame, event, argument):
        ours = frame.f_code.co_filename.startswith(self.folders) and frame.f_code.co_name != "__del__"
        return self.local if ours else None

    def local(self, frame, event, argument):
        self.left -= event in ("line", "return")
        if self.left == 0:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}, {event}"
            sys.settrace(None)
            raise KeyboardInterrupt
        return self.local


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a file between open() and its with block
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # or in a generator that is let go
def test_interrupted_at_any_line(tmp_path):
    """The state can be used as before, by this process and by others."""
    place, step = random.randint(1, 8), 8
    while True:
        box = Box(tmp_path / str(place))
        Path(box.folder).mkdir()
        pipeline = DAG("lines", tasks=[box.task("only")])
        with StateManager(box.db) as state, StateManager(box.db, lock_timeout=0.05) as other:
            interrupt, before = Interrupt(place), sys.gettrace()
            sys.settrace(interrupt)
            try:
                pipeline.run("serial", state=state)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before)
            if interrupt.where is None:
                break
            run, values = recorded(other)
            assert run is None or run.status in ("interrupted", "succeeded"), interrupt.where
            ran = len(box.ran)
            try:
                other.set("mine", place)
                assert pipeline.run("serial", state=state, resume=True) == {"only": "only"}, interrupt.where
            except StateFileError as error:
                pytest.fail(f"interrupted at {interrupt.where}: {error}")
            assert other.runs()[0].status == "succeeded", interrupt.where
            again = run is None or run.status == "succeeded" or not values
            assert len(box.ran) - ran == again, interrupt.where
        shutil.rmtree(box.folder)
        place += step
    assert place > 500
    gc.collect()  # what interrupts have left unclosed is complained of here, and not in another test


# Cut at any place


RECORD = """
import os, sys
from flowkit import StateManager
from durable_tasks import Box, diamond

box = Box(sys.argv[1])
if sys.argv[2] == "used":
    diamond().run("serial", state=box.db, params=box.params)
state = StateManager(box.db)
diamond().run("serial", state=state, params=box.params)
os._exit(0)
"""


@pytest.mark.parametrize("before", ["new", "used"])
def test_a_log_that_was_cut_anywhere(box, tmp_path, script, before):
    """Between any two writes and within each: the file opens, knows so much and no more, and the run goes on."""
    script(RECORD, box.folder, before)
    log = Path(box.db + "-wal").read_bytes()
    (page,) = struct.unpack(">I", log[8:12])
    boundaries = range(32, len(log) + 1, page + 24)
    assert len(boundaries) > 5
    cuts = sorted({0, 16, *boundaries, *(cut + page // 2 for cut in boundaries[:-1])})
    known = 0
    finished = before == "used"
    for cut in cuts:
        copy = tmp_path / f"cut {cut}"
        copy.mkdir()
        shutil.copy(box.db, copy / "runs.db")
        (copy / "runs.db-wal").write_bytes(log[:cut])
        ran = len(box.ran)
        with StateManager(copy / "runs.db") as state:
            run, values = recorded(state)
            assert values == {name: RESULTS[name] for name in values}
            if run is not None and not (finished and len(state.runs()) == 1):
                assert len(values) >= known, f"cut at {cut}: less is known than before"
                known = len(values)
                assert run.status == ("succeeded" if run.ended else "interrupted")
            results = diamond().run("serial", state=state, params=box.params, resume=True)
            assert results == RESULTS, f"cut at {cut}"
            expected = set(RESULTS) if run is None or run.status == "succeeded" else set(RESULTS) - set(values)
            assert Counter(box.ran[ran:]) == dict.fromkeys(expected, 1), f"cut at {cut}"
            assert state.runs()[0].status == "succeeded"
        shutil.rmtree(copy)
    assert known == len(RESULTS)


# Several that want one run


RESUME = """
import sys
from pathlib import Path
from flowkit import RunInUseError
from durable_tasks import Box, diamond

box, me = Box(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
try:
    results = diamond().run("thread", state=box.db, params=box.params, resume=True)
    print(dict(results))
except RunInUseError as error:
    print(error.pid)
    Path(box.folder, f"refused-{me}").touch()
"""


def test_processes_that_resume_one_run_at_once(box, tmp_path):
    """One does it, the others learn who has it."""
    box.inject("report", "fail")
    diamond().run("serial", state=box.db, params=box.params, raise_on_failure=False)
    box.inject("report", "wait")
    path = tmp_path / "resume.py"
    path.write_text(RESUME)
    processes = [start(path, box.folder, number) for number in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    wait_until(
        lambda: len(list(Path(box.folder).glob("refused-*"))) == 3 or all(p.poll() is not None for p in processes)
    )
    box.repair("report")
    outputs = {process.pid: ended(process) for process in processes}
    assert all(code == 0 for code, _, _ in outputs.values()), outputs
    (winner,) = [pid for pid, (_, out, _) in outputs.items() if out == f"{RESULTS}\n"]
    assert {out for pid, (_, out, _) in outputs.items() if pid != winner} == {f"{winner}\n"}
    assert Counter(box.ran) == {"extract": 1, "double": 1, "count": 1, "report": 2}


def test_a_run_can_be_taken_over_as_soon_as_its_process_is_dead(box, tmp_path):
    """However many have died of it."""
    path = tmp_path / "resume.py"
    path.write_text(RESUME)
    for name in ("extract", "double", "report"):
        box.inject(name, "wait")
        before = len(box.ran)
        process = start(path, box.folder, name)
        process.stdin.write("go\n")
        process.stdin.flush()
        wait_until(lambda: name in box.ran[before:] or process.poll() is not None)  # noqa: B023 - called at once
        process.kill()
        assert ended(process)[0] == -9
        box.repair(name)
    results = diamond().run("serial", state=box.db, params=box.params, resume=True)
    assert results == RESULTS
    with StateManager(box.db) as state:
        (record,) = state.runs()
    assert (record.status, record.resumes) == ("succeeded", 3)


# Files that cannot be used


@pytest.fixture
def failed(box):
    """A file with a run that failed in its last task, which is mended."""
    box.inject("report", "fail")
    diamond().run("serial", state=box.db, params=box.params, raise_on_failure=False)
    box.repair("report")
    return box


def resumed(box, state=None):
    """Resume the run of ``failed``: nothing that it had recorded was lost."""
    results = diamond().run("serial", state=state or box.db, params=box.params, resume=True)
    assert results == RESULTS
    assert set(results.resumed) == {"extract", "double", "count"}
    assert Counter(box.ran) == {"extract": 1, "double": 1, "count": 1, "report": 2}


@pytest.mark.parametrize("resume", [False, True])
def test_a_place_where_nothing_can_be_written(box, resume):
    """Is found before anything runs."""
    file, folder = Path(box.folder, "file"), Path(box.folder, "folder.db")
    file.touch()
    folder.mkdir()
    for path in (file / "runs.db", folder, *([Path("/proc/flowkit/runs.db")] if Path("/proc/self").exists() else [])):
        with pytest.raises(StateFileError) as caught:
            diamond().run("serial", state=path, params=box.params, resume=resume)
        assert str(path) in str(caught.value)
    assert box.ran == []


def test_a_folder_that_is_read_only(failed):
    if os.geteuid() == 0:
        pytest.skip("platform: root may write everywhere")
    folder = Path(failed.folder)
    state = folder / "closed"
    state.mkdir()
    for path in folder.glob("runs.db*"):
        shutil.move(path, state / path.name)
    state.chmod(0o500)
    try:
        with pytest.raises(StateFileError, match=r"runs\.db"):
            diamond().run("serial", state=state / "runs.db", params=failed.params, resume=True)
    finally:
        state.chmod(0o700)
    resumed(failed, state / "runs.db")


@pytest.mark.parametrize("content", [b"this is no database, only text. " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database(box, content):
    """An error, or a warning that names the place where it was put aside; it is never written over."""
    Path(box.db).write_bytes(content)
    try:
        with pytest.warns(DamagedStateWarning, match=r"runs\.db"):
            results = diamond().run("serial", state=box.db, params=box.params, resume=True)
    except StateFileError:
        assert box.ran == []
    else:
        assert results == RESULTS
    assert content in [path.read_bytes() for path in Path(box.folder).iterdir() if path.is_file()]


def test_a_database_of_another_program(box):
    connection = sqlite3.connect(box.db)
    connection.execute("CREATE TABLE runs (run_id TEXT)")
    connection.commit()
    connection.close()
    before = Path(box.db).read_bytes()
    with pytest.raises(StateFileError, match="another program"):
        diamond().run("serial", state=box.db, params=box.params)
    assert Path(box.db).read_bytes() == before
    assert box.ran == []


def test_a_file_of_a_newer_version(failed):
    connection = sqlite3.connect(failed.db)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    ran = failed.ran
    for resume in (False, True, "force"):
        with pytest.raises(StateVersionError) as caught:
            diamond().run("serial", state=failed.db, params=failed.params, resume=resume)
        assert (caught.value.found, caught.value.supported) == (99, version)
    assert failed.ran == ran
    connection = sqlite3.connect(failed.db)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    resumed(failed)


@pytest.mark.parametrize("days", [-10_000, -1, 10_000])
def test_a_clock_that_was_set(failed, days):
    with StateManager(failed.db, clock=lambda: time.time() + days * 86_400) as state:
        resumed(failed, state)
        (record,) = state.runs()
        assert record.duration >= 0
        fresh = diamond().run("serial", state=state, params=failed.params)
        assert state.runs()[0].run_id == fresh.run_id


# A file that another process has locked


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@pytest.fixture
def locker(box):
    """A process that locks the file, and lets it go at the latest when the test is over."""
    locker = Locker(box)
    yield locker
    if locker.process is not None:
        locker.unlock()


class Locker:
    """An observer that lets another process lock the file when a task starts."""

    events = (TaskStarted,)

    def __init__(self, box):
        self.path = Path(box.folder, "lock.py")
        self.path.write_text(LOCK)
        self.db = box.db
        self.task = None
        self.process = None

    def __call__(self, event):
        if event.task == self.task and self.process is None:
            self.lock()

    def lock(self):
        self.process = start(self.path, self.db)
        assert self.process.stdout.readline() == "locked\n"

    def unlock(self):
        process, self.process, self.task = self.process, None, None
        assert ended(process)[0] == 0


def test_a_file_that_is_locked_from_the_start(failed, locker):
    locker.lock()
    ran = failed.ran
    with StateManager(failed.db, lock_timeout=0.05) as state, pytest.raises(StateLockedError, match=r"runs\.db"):
        diamond().run("serial", state=state, params=failed.params, resume=True)
    locker.unlock()
    assert failed.ran == ran
    resumed(failed)


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_a_file_that_is_locked_while_a_task_runs(box, locker, executor):
    """Its work is not thrown away, and what had been recorded is there."""
    locker.task = "report"
    with StateManager(box.db, lock_timeout=0.05) as state:
        with pytest.raises(StateLockedError) as caught:
            diamond().run(executor, state=state, params=box.params, observers=[locker])
        assert any("report" in note for note in caught.value.__notes__)
        assert caught.value.flowkit_results == RESULTS
        locker.unlock()
        assert Counter(box.ran) == dict.fromkeys(RESULTS, 1)
        resumed(box, state)


def test_a_cleanup_runs_though_the_file_is_locked(box, locker):
    work, after, tidy = box.task("work"), box.task("after"), box.task("tidy", trigger="all_done")
    work >> after >> tidy
    pipeline = DAG("cleanup", tasks=[tidy])
    locker.task = "work"
    with StateManager(box.db, lock_timeout=0.05) as state:
        with pytest.raises(StateLockedError) as caught:
            pipeline.run("serial", state=state, observers=[locker])
        locker.unlock()
        assert box.ran == ["work", "tidy"]
        assert caught.value.flowkit_results["work"] == "work"
        results = pipeline.run("serial", state=state, resume=True)
    assert {"work", "after"} <= set(results)
    assert Counter(box.ran) == {"work": 2, "after": 1, "tidy": 2}


def test_a_run_that_may_go_on_without_its_file(box, locker):
    """It warns, names a task, and returns what it should."""
    locker.task = "double"
    with StateManager(box.db, lock_timeout=0.05) as state:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            results = diamond().run("serial", state=state, params=box.params, observers=[locker], state_errors="warn")
        warned = [warning for warning in warned if warning.category is not ResourceWarning]  # of what is left of others
        assert {warning.category for warning in warned} == {RuntimeWarning}
        assert "'double'" in str(warned[0].message)
        assert "locked" in str(warned[0].message)
        assert results == RESULTS
        assert results.states == dict.fromkeys(RESULTS, "succeeded")
        locker.unlock()
        assert Counter(box.ran) == dict.fromkeys(RESULTS, 1)
        assert diamond().run("serial", state=state, params=box.params, resume=True) == RESULTS
    assert box.ran.count("extract") == 1


def test_a_task_that_may_go_unrecorded_is_run_again_on_resume(box, locker):
    """Though the file is free again when the run ends, and all that it has recorded is taken."""

    def unlock(event):
        if event.task == "count" and locker.process is not None:
            locker.unlock()

    unlock.events = (TaskStarted,)
    locker.task = "double"
    box.inject("report", "fail")
    with StateManager(box.db, lock_timeout=0.05) as state:
        with pytest.warns(RuntimeWarning, match="'double'"):
            diamond().run(
                "serial",
                state=state,
                params=box.params,
                observers=[locker, unlock],
                state_errors="warn",
                raise_on_failure=False,
            )
        box.repair("report")
        known = {name for name, item in state.runs()[0].tasks.items() if item.state == "succeeded"}
        assert "extract" in known
        assert "double" not in known
        results = diamond().run("serial", state=state, params=box.params, resume=True)
    assert results == RESULTS
    assert set(results.resumed) == known
    assert all(box.ran.count(name) == 1 for name in known)
    assert box.ran.count("double") == 2


# The n-th call to the operating system fails


class Faults:
    """Fails the n-th call to the operating system: once, or from then on."""

    def __init__(self, monkeypatch):
        self.left = None
        for name, call in vars(syscalls).copy().items():
            if callable(call) and call.__module__ == syscalls.__name__:
                monkeypatch.setattr(syscalls, name, self.wrap(name, call))

    def wrap(self, name, call):
        def wrapped(*arguments):
            if self.left is not None:
                self.left -= 1
                if self.left == 0 or (self.lasting and self.left < 0):
                    if name == "close":
                        call(*arguments)  # the descriptor is gone, whatever close() says
                    if name in ("connect", "execute"):
                        raise sqlite3.OperationalError("disk I/O error")
                    raise OSError(errno.ENOSPC, "No space left on device")
            return call(*arguments)

        return wrapped

    def arm(self, place, *, lasting):
        self.left, self.lasting = place, lasting

    def disarm(self):
        hit, self.left = self.left <= 0, None
        return hit


@pytest.mark.parametrize("state_errors", ["raise", "warn"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("executor", ["serial", "thread"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_nth_call_to_the_system_fails(tmp_path, monkeypatch, executor, lasting, state_errors):
    """Nothing recorded is lost or done again, nothing computed is thrown away, and the error names the file."""
    faults = Faults(monkeypatch)
    expected = {"large": "x" * 300_000, "cached": 2, "last": 4}
    # In threads the calls are the same, and it is those after a failure that matter: every third will do.
    step = 1 if executor == "serial" else 3
    for place in itertools.count(random.randint(1, step), step):
        box = Box(tmp_path / str(place))
        Path(box.folder).mkdir()
        large, cached = box.task("large", value=expected["large"]), box.task("cached", value=2, cache=True)
        skipped, last = box.task("skipped", when=lambda: False), box.task("last", value=4)
        large >> cached >> last
        pipeline = DAG("faults", tasks=[last, skipped])
        faults.arm(place, lasting=lasting)
        try:
            results = pipeline.run(executor, state=box.db, state_errors=state_errors)
        except StateFileError as error:
            results = Results.from_error(error) or {}
            failed = True
            assert box.folder in str(error)
        else:
            failed = False
            assert results == expected
        hit = faults.disarm()
        assert set(results) == set(box.ran), f"call {place}"
        with StateManager(box.db) as state:
            run, values = recorded(state)
            assert values == {name: expected[name] for name in values}, f"call {place}"
            assert run is None or run.status != "running", f"call {place}"
            finished = run is not None and run.status == "succeeded"
            assert not (failed and finished), f"call {place}"
            ran = len(box.ran)
            assert pipeline.run(executor, state=state, resume=True) == expected, f"call {place}"
            assert finished or not set(values) & set(box.ran[ran:]), f"call {place}"
        shutil.rmtree(box.folder)
        if not hit:
            break
    assert place > 10


# A disk that is full


FILL = """
import json, resource, sys
from flowkit import StateError
from durable_tasks import Box
from filling import pipeline

box = Box(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    pipeline(box, int(sys.argv[2])).run("thread", state=box.db)
except StateError as error:
    print(json.dumps([type(error).__name__, str(error), error.__notes__, list(error.flowkit_results)]))
"""
PIPELINE = """
from flowkit import DAG

def pipeline(box, size):
    tasks = [box.task(f"t{number}", value=str(number) * size) for number in range(20)]
    for before, after in zip(tasks, tasks[1:]):
        before >> after
    return DAG("filling", max_workers=1, tasks=tasks[-1:])
"""


@pytest.mark.parametrize(("size", "limit"), [(40_000, 500_000), (300_000, 400_000)], ids=["database", "files"])
def test_a_disk_that_is_full(box, tmp_path, script, load, size, limit):
    """The limit of a file's size stands for it: writing fails as there, once there is so much."""
    pytest.importorskip("resource", reason="platform: there are no limits for a process")
    pipeline = load(PIPELINE, "filling").pipeline
    out = script(FILL, box.folder, size, limit)
    kind, text, notes, results = json.loads(out)
    ran = box.ran
    assert kind == "StateFileError"
    assert "runs.db" in text
    assert any(ran[-1] in note for note in notes)
    assert results == ran, "also what could not be recorded"
    assert 1 <= len(ran) < 20
    with StateManager(box.db) as state:
        _, known = recorded(state)
        assert list(known) == ran[:-1]
        results = pipeline(box, size).run("serial", state=state, resume=True)
    assert results == {f"t{number}": str(number) * size for number in range(20)}
    assert set(results.resumed) == set(known)
    assert Counter(box.ran) == {name: 1 + (name == ran[-1]) for name in results}
    assert not list(Path(box.folder).rglob("*.tmp"))
