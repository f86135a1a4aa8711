"""Runs code that may hang or crash in processes with a time limit, which print their stacks when it is reached.

As a program, this is the process of ``guarded`` tests: it imports the file of the tests, and calls the tests that it
receives on a pipe, on a warm executor.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import importlib.util
import inspect
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 60  # a limit for tests that hang
LIMIT = 180  # the same for a guarded test, which may wait several times
MARK = "FLOWKIT_TEST_MARK"
PROC = Path("/proc")


def until(condition, seconds=SECONDS):
    """Poll until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{inspect.getsource(condition).strip()} did not come true in {seconds} s"
        time.sleep(0.005)
    return value


# ---- programs --------------------------------------------------------------------------------------------------------


class Program:
    """A Python process in a new session, with its output in a file; an environment variable marks its descendants."""

    def __init__(self, *arguments, stdin=subprocess.DEVNULL, **options):
        self.mark = uuid.uuid4().hex
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1", MARK: self.mark}
        self._output = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed by __exit__
        options = {"stdout": self._output, "stderr": subprocess.STDOUT, "start_new_session": True} | options
        command = [sys.executable, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=stdin, env=environment, **options)

    @property
    def output(self):
        """The output of the process and its workers."""
        # opened again: reading must not move the position at which the program writes
        return Path(self._output.name).read_text(errors="replace")

    def wait(self, code=0, seconds=SECONDS):
        """Wait for the exit of the process and return its output; a timeout or another exit code fails the test."""
        try:
            found = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler shows the stacks of all threads
            self.process.wait()
            pytest.fail(f"it hung:\n{self.output}")
        assert code is None or found == code, f"exit code {found}:\n{self.output}"
        return self.output

    def wait_for_output(self, text):
        """Wait until the process has printed a text."""
        until(lambda: text in self.output or self.process.poll() is not None)
        assert text in self.output, self.output

    def signal(self, number, *, group=False):
        """Send a signal to the process alone, or to its process group, as a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def descendants(self):
        """Return the ids of the living processes of the program, workers and their children included."""
        if not PROC.is_dir():
            pytest.skip("platform: processes are found in /proc")
        found = []
        for folder in PROC.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        if PROC.is_dir():
            for pid in self.descendants():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self._output.close()


# ---- guarded tests ---------------------------------------------------------------------------------------------------


def guarded(function):
    """Return a test that calls the function in another process, with a time limit.

    Args:
        function: takes ``executor``, a warm `ProcessExecutor`, and parameters.
    """
    parameters = [name for name in inspect.signature(function).parameters if name != "executor"]

    @functools.wraps(function)
    def test(guard, **chosen):
        guard.call(function.__name__, chosen)

    names = ["guard", *parameters]
    test.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names])
    test.guarded = function
    return test


class Guard:
    """Starts the process of the guarded tests of one file; again after a timeout or a crash."""

    def __init__(self, path):
        self._path = path
        self._program = None

    def call(self, name, parameters):
        """Call a test in the process; fail if it fails."""
        if self._program is None:
            self._connection, theirs = Pipe()
            descriptor = theirs.fileno()
            self._program = Program(__file__, self._path, descriptor, pass_fds=[descriptor])
            theirs.close()
        try:
            self._connection.send((name, parameters))
            problem = self._connection.recv()
        except (EOFError, ConnectionError):
            problem = f"the process of the test is gone:\n{self._program.wait(code=None)}"
            self.close()
        if problem is not None:
            pytest.fail(problem, pytrace=False)

    def close(self):
        """End the process."""
        if self._program is not None:
            self._connection.close()
            self._program.__exit__()
            self._program = None


def serve(path, descriptor):
    """Body of the process of guarded tests."""
    from flowkit_exec import ProcessExecutor

    spec = importlib.util.spec_from_file_location("tests_under_guard", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    connection = Connection(int(descriptor))
    with ProcessExecutor(max_workers=2) as executor:
        while True:
            try:
                name, parameters = connection.recv()
            except EOFError:
                return
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            function = getattr(module, name).guarded
            if "executor" in inspect.signature(function).parameters:
                parameters["executor"] = executor
            try:
                function(**parameters)
            except BaseException:
                connection.send(traceback.format_exc())
            else:
                connection.send(None)
            faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    serve(*sys.argv[1:])
