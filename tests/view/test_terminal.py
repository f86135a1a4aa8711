"""Progress in a real pseudo-terminal: what a person sees on its screen, at several widths, and without a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

if os.name != "posix":
    pytest.skip("platform: there are no pseudo-terminals", allow_module_level=True)
pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")

TIMEOUT = 120
ROWS = 24
LONG = "a task with a name that fits in two hundred columns but not in eighty"
PIPELINE = f"""
import asyncio
from pathlib import Path
from flowkit_core import DAG, task
from flowkit_log import get_logger

def wait_for(gate):
    with open(gate, "rb", buffering=0) as file:
        file.read(1)

@task
def numbers():
    return list(range(8))

@task
def double(number):
    if number == 4:
        wait_for("before the print")
        print("printed by", "double")
        print("begun", end="")
        get_logger("etl").warning("element four")
        wait_for("element")
    return 2 * number

@task
async def fetch():
    await asyncio.to_thread(wait_for, "fetch")

@task(name={LONG!r})
def load(double, fetch):
    wait_for("load")
    if Path("broken").exists():
        raise ValueError("bad\\x1b[2J row")

numbers >> double.map() >> load
fetch >> load
dag = DAG("etl")
"""
GATES = ("before the print", "element", "fetch", "load")
LINE = re.compile(r"\d\d:\d\d:\d\d +\[\w+\] +")
RUN = ("run", "etl:dag", "--watch", "--max-workers", "1")


class Gates:
    """Named pipes, at which the tasks of the pipeline wait until the test opens them."""

    def __init__(self):
        self.pipes = {}
        for gate in GATES:
            os.mkfifo(gate)
            self.pipes[gate] = os.open(gate, os.O_RDWR)

    def open(self, *names):
        for name in names:
            os.write(self.pipes[name], b"x")

    def close(self):
        for pipe in self.pipes.values():
            os.close(pipe)


class Screen:
    """The screen of a terminal in which a command runs."""

    def __init__(self, *arguments, columns=80, env=()):
        self.text = b""  # all that the command has written
        self.screen = pyte.Screen(columns, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path), **dict(env)}
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "flowkit_view", *arguments],
            dimensions=(ROWS, columns),
            timeout=TIMEOUT,
            env={name: value for name, value in environment.items() if value is not None},
        )

    @property
    def rows(self):
        return [row.rstrip() for row in self.screen.display if row.strip()]

    @property
    def messages(self):
        """The rows of the screen, without time and level."""
        return [LINE.sub("", row) for row in self.rows]

    def resize(self, columns):
        self.process.setwinsize(ROWS, columns)  # the process gets SIGWINCH
        self.screen.resize(ROWS, columns)

    def wait_for(self, shown, *more):
        """Read until rows of the screen have these texts."""
        until = time.monotonic() + TIMEOUT  # the bars of elements are drawn again and again
        texts = (shown, *more)
        while not all(any(text in row for row in self.rows) for text in texts):
            try:
                self._read()
            except pexpect.ExceptionPexpect as error:
                pytest.fail(f"{texts} is not on the screen ({type(error).__name__}):\n" + "\n".join(self.rows))
            if time.monotonic() > until:
                pytest.fail(f"{texts} is not on the screen in {TIMEOUT} s:\n" + "\n".join(self.rows))

    def end(self):
        """Read until the command has ended, and return its exit code."""
        try:
            while True:
                self._read()
        except pexpect.EOF:
            self.process.close()
            return self.process.exitstatus

    def _read(self):
        text = self.process.read_nonblocking(65536)
        self.text += text
        self.stream.feed(text)


@pytest.fixture
def gates(folder):
    (folder / "etl.py").write_text(PIPELINE)
    gates = Gates()
    yield gates
    gates.close()


@pytest.fixture
def terminal(gates):
    """Run a command of flowkit in a terminal of this test."""
    screens = []

    def start(*arguments, **options):
        screens.append(Screen(*arguments, **options))
        return screens[-1]

    yield start
    for screen in screens:
        screen.process.close(force=True)


@pytest.mark.parametrize("columns", [80, 200])
def test_bars_are_below_what_is_logged_and_printed(terminal, gates, columns):
    screen = terminal(*RUN, "-q", columns=columns)
    screen.wait_for("25% (1 of 4 tasks)", "50% (4 of 8)")
    gates.open("before the print")
    screen.wait_for("printed by double")
    screen.wait_for("25% (1 of 4 tasks)", "50% (4 of 8)")  # drawn again, below the line
    assert (screen.messages[0], len(screen.rows)) == ("printed by double", 3)
    run, elements = screen.messages[-2:]
    assert re.match(r"etl: (fetch, double|double, fetch): \[=+ +\] 25% \(1 of 4 tasks\)$", run)
    assert re.match(r"double: \[=+ +\] 50% \(4 of 8\)", elements)
    gates.open("fetch", "element")
    screen.wait_for(
        f"etl: {LONG}: [===============     ] 75%" if columns == 200 else "...: [=======   ] 75% (3 of 4 tasks)"
    )
    gates.open("load")
    assert screen.end() == 0
    messages = [re.sub(r", [\d.e+]+/s$| in .*", "", message) for message in screen.messages]
    assert messages == [
        "printed by double",
        "double: [====================] 100% (8 of 8)",
        "etl: [====================] 100% (4 of 4 tasks)",
        "begun",  # when the run has ended
        "etl: 4 succeeded",
        "etl: succeeded",
    ]


def test_log_lines_of_the_run_stay_whole(terminal, gates):
    screen = terminal(*RUN, columns=120)
    screen.wait_for("25% (1 of 4 tasks)", "50% (4 of 8)")
    gates.open(*GATES)
    assert screen.end() == 0
    for line in (
        'Run "etl" started: 4 tasks, executor thread, async.',
        'Starting task "double" for 8 elements...',
        "element four",
    ):
        assert screen.messages.count(line) == 1
    assert sum("%" in message for message in screen.messages) == 2  # the last line of each bar


def test_bars_fit_the_terminal_when_it_is_resized(terminal, gates):
    screen = terminal(*RUN, "-q", columns=200)
    gates.open("before the print", "element", "fetch")
    screen.wait_for(f"etl: {LONG}: [===============     ] 75%")
    screen.resize(80)
    gates.open("load")
    assert screen.end() == 0
    assert screen.messages.count("etl: [====================] 100% (4 of 4 tasks)") == 1
    assert sum("etl: " in message for message in screen.messages) == 3


def test_bars_are_drawn_again_in_the_width_of_a_resized_terminal(terminal, gates):
    screen = terminal(*RUN, "-q", columns=60)
    gates.open("before the print", "fetch")
    screen.wait_for("50% (4 of 8)", "printed by double")
    screen.resize(200)
    gates.open("element")
    screen.wait_for(f"etl: {LONG}: [===============     ] 75%")
    gates.open("load")
    assert screen.end() == 0


def test_failure_is_shown_above_the_bars(terminal, gates, folder):
    (folder / "broken").touch()
    gates.open(*GATES)
    screen = terminal(*RUN, "-q", columns=200)
    assert screen.end() == 1
    shown = f'Task "{LONG}" failed after 1 attempt: ValueError: bad\\x1b[2J row'
    assert screen.text.count(shown.encode()) == 1
    assert screen.messages[-1].endswith(r"ValueError: bad\x1b[2J row")
    assert b"etl: 3 succeeded, 1 failed in" in screen.text


def test_interrupt_leaves_whole_lines(terminal, gates):
    screen = terminal(*RUN, "-q")
    screen.wait_for("25% (1 of 4 tasks)", "50% (4 of 8)")
    screen.process.sendintr()
    gates.open(*GATES)  # threads end before the process does
    assert screen.end() == 130
    assert "flowkit: interrupted" in screen.messages


@pytest.mark.parametrize(
    ("env", "colored", "redrawn"),
    [
        ({"NO_COLOR": None, "FORCE_COLOR": None}, True, True),
        ({"NO_COLOR": "1"}, False, True),
        ({"NO_COLOR": None, "FORCE_COLOR": None, "TERM": "dumb"}, False, False),
    ],
)
def test_colors_and_bars_depend_on_the_terminal(terminal, gates, env, colored, redrawn):
    gates.open(*GATES)
    screen = terminal(*RUN, columns=200, env=env)
    assert screen.end() == 0
    assert (b"m[INFO]" in re.sub(rb"\x1b\[[\d;]*m", b"m", screen.text)) == colored
    assert (re.search(rb"\x1b\[[\d;]*m", screen.text) is not None) == colored
    assert (b"\x1b[J" in screen.text) == redrawn
    assert "etl: [====================] 100% (4 of 4 tasks)" in screen.messages


def test_lines_without_terminal_have_no_codes(gates):
    gates.open(*GATES)
    command = [sys.executable, "-m", "flowkit_view", *RUN, "-q"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True, env=environment)
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stdout + done.stderr
    assert b"etl: [====================] 100% (4 of 4 tasks)\n" in done.stderr
    assert done.stdout.startswith(b"printed by double\nbegun")


@pytest.mark.parametrize("columns", [80, 200])
def test_watch_shows_a_run_of_another_process(terminal, gates, folder, columns):
    (folder / "broken").touch()
    run = terminal(*RUN, "-q", "--state", "runs.db")
    run.wait_for("50% (4 of 8)")
    watch = terminal("watch", "runs.db", columns=columns)
    watch.wait_for("etl: [=====               ] 25% (1 of 4 tasks)", "double: [")
    assert len(watch.rows) == 2
    gates.open(*GATES)
    assert (run.end(), watch.end()) == (1, 0)
    assert watch.text.count(f'Task "{LONG}" failed: ValueError: bad\\x1b[2J row'.encode()) == 1
    assert watch.messages[-1].startswith("etl: failed in ")


@pytest.mark.parametrize(("columns", "row_has_reason"), [(80, False), (200, True)])
@pytest.mark.parametrize("env", [{"NO_COLOR": None}, {"NO_COLOR": "1"}])
def test_long_cells_of_a_table_are_below_their_row_if_they_do_not_fit(recorded, columns, row_has_reason, env):
    screen = Screen("show", recorded, columns=columns, env=env)
    assert screen.end() == 0
    (place,) = [number for number, row in enumerate(screen.rows) if re.match("load +failed +2 ", row)]
    reason = "ValueError: bad <row> (etl.py:16)"
    if row_has_reason:
        assert screen.rows[place].endswith(f"  {reason}")
    else:
        assert screen.rows[place + 1] == f"    {reason}"
    assert (b"\x1b[31mfailed" in screen.text) == (env["NO_COLOR"] is None)


def test_table_that_is_much_wider_than_the_terminal_is_folded(recorded):
    screen = Screen("runs", recorded, columns=40)
    assert screen.end() == 0
    assert all(len(row) <= 40 for row in screen.rows)
    assert len(screen.rows) > 8
