"""The portable transport: how it is chosen, who may connect, and what it leaves behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from process_checks import run
from subprocess_harness import PROC, guarded, until

from flowkit_core import DAG, ExecutorError, Task
from flowkit_exec import ProcessExecutor
from flowkit_exec.process.transports.portable.channel import MAX_GUESTS, PortableChannel
from flowkit_exec.process.transports.portable.handshake import connect
from flowkit_exec.process.transports.portable.resources import PortableResources
from flowkit_exec.process.transports.portable.tickets import CAPACITY, TicketFile
from flowkit_exec.process.transports.portable.transport import PortableTransport

pytestmark = pytest.mark.slow


# ---- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "error"), [("pipes", ValueError), ("", ValueError), (1, TypeError)])
def test_unknown_transport_is_an_error(name, error):
    with pytest.raises(error, match=r"transport is .* but must be 'posix' or 'portable'"):
        ProcessExecutor(transport=name)


def test_unknown_transport_in_the_environment_is_an_error(monkeypatch):
    monkeypatch.setenv("FLOWKIT_TRANSPORT", "pipes")
    with pytest.raises(ValueError, match="variable FLOWKIT_TRANSPORT is 'pipes', but must be 'posix' or 'portable'"):
        ProcessExecutor()


def test_transport_of_the_environment_is_used_where_none_is_given(monkeypatch):
    monkeypatch.setenv("FLOWKIT_TRANSPORT", "portable")
    with ProcessExecutor() as chosen:
        assert chosen.options.transport.name == "portable"


def test_argument_takes_precedence_over_the_environment(monkeypatch):
    monkeypatch.setenv("FLOWKIT_TRANSPORT", "pipes")
    with ProcessExecutor(transport="portable") as chosen:
        assert chosen.options.transport.name == "portable"


WITHOUT_POSIX = """
import sys
sys.modules["flowkit_exec.process.transports.posix.transport"] = None  # as if its imports failed
from flowkit_core import DAG, ExecutorError, Task
from flowkit_exec import ProcessExecutor
dag = DAG("windows", tasks=[Task(int, name="zero")])
print(dag.run("process"))
try:
    ProcessExecutor(transport="posix")
except ExecutorError as error:
    print(error)
"""

WITHOUT_LOCKS = """
import sys
sys.modules["fcntl"] = None
from flowkit_core import DAG, ExecutorError, Task
from flowkit_exec import ProcessExecutor
dag = DAG("neither", tasks=[Task(int, name="zero")])
for attempt in (ProcessExecutor, lambda: dag.run("process")):
    try:
        attempt()
    except ExecutorError as error:
        print(error)
print(dag.run("thread"))
"""


def test_system_that_is_not_posix_uses_the_portable_transport(script):
    results, error = script(WITHOUT_POSIX).wait().splitlines()
    assert results == "{'zero': 0}"
    assert error.startswith("transport is 'posix', and this system lacks what that needs (")
    assert error.endswith("): use transport='portable'")


@pytest.mark.skipif(sys.platform == "win32", reason="platform: Windows has locks of its own")
def test_system_without_locks_is_an_error(script):
    *errors, results = script(WITHOUT_LOCKS).wait().splitlines()
    assert len(errors) == 2
    for error in errors:
        assert error.startswith("this system lacks what worker processes need (")
        assert error.endswith("): use executor='thread'")
    assert results == "{'zero': 0}"


WITHOUT_CLOUDPICKLE = """
import sys
sys.modules["cloudpickle"] = None
from flowkit_core import DAG, SerializationError, Task
from flowkit_exec import ProcessExecutor
try:
    DAG("lambda", tasks=[Task(lambda: 42, name="answer")]).run(ProcessExecutor(1, transport="portable"))
except SerializationError as error:
    print(error)
"""


def test_function_that_needs_a_fork_is_one_error(script):
    assert script(WITHOUT_CLOUDPICKLE).wait() == (
        "task 'answer': its function is a lambda, which has no name to find it by, and the portable transport does not "
        "fork this process; move it to the top level of a module, or install cloudpickle (flowkit-exec[cloudpickle]), "
        "or use executor='thread'\n"
    )


# ---- who may connect -------------------------------------------------------------------------------------------------


@pytest.fixture
def channel():
    """A channel whose worker was not started."""
    resources = PortableResources()
    yield PortableChannel(resources)
    resources.close()


def let_in(channel, worker):
    """Receive on a channel until the worker, in a thread, has ended."""
    until(lambda: channel.receive() and not worker.is_alive())
    worker.join()


def in_thread(function, *arguments):
    """Start a thread that calls a function; return it."""
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def test_channel_listens_on_the_loopback_interface(channel):
    (listener,) = channel.sockets()
    assert listener.getsockname() == ("127.0.0.1", channel.port)


@pytest.mark.parametrize("says", [b"", b"GET / HTTP/1.1\r\n", b"x" * 32, b"x" * 64, b"x" * 100_000])
@pytest.mark.parametrize("leaves", [False, True])
def test_stranger_is_not_let_in_and_hinders_no_worker(channel, says, leaves):
    with socket.create_connection(("127.0.0.1", channel.port)) as stranger:
        stranger.settimeout(60)
        stranger.sendall(says)
        if leaves:
            stranger.shutdown(socket.SHUT_WR)
        assert channel.receive()
        assert channel.connection is None
        connected = []
        let_in(channel, in_thread(lambda: connected.append(connect(channel.port, channel.key))))
        until(lambda: channel.receive() and channel.connection is not None)
        received = b""
        try:
            while data := stranger.recv(100):
                received += data
        except ConnectionResetError:
            pass
        assert channel.key not in received
        assert channel.frames() == type(channel.frames())()
        with connected[0] as worker:
            channel.send(b"to the worker")
            assert worker.recv(100) == b"to the worker"


def test_many_strangers_are_bounded(channel):
    strangers = [socket.create_connection(("127.0.0.1", channel.port)) for _ in range(3 * MAX_GUESTS)]
    try:
        for _ in strangers:
            assert channel.receive()
        assert len(channel.sockets()) <= MAX_GUESTS + 1
        connected = []
        let_in(channel, in_thread(lambda: connected.append(connect(channel.port, channel.key))))
        until(lambda: channel.receive() and channel.connection is not None)
        connected[0].close()
    finally:
        for stranger in strangers:
            stranger.close()


def test_worker_with_another_key_is_not_let_in(channel):
    errors = []

    def join():
        try:
            connect(channel.port, bytes(32))
        except (ConnectionError, EOFError) as error:
            errors.append(error)

    let_in(channel, in_thread(join))
    assert "has not started this worker process" in str(errors[0])
    assert channel.receive()
    assert channel.connection is None


def test_nothing_but_the_worker_can_connect_once_it_has(channel):
    connected = []
    let_in(channel, in_thread(lambda: connected.append(connect(channel.port, channel.key))))
    until(lambda: channel.receive() and channel.connection is not None)
    with connected[0], pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", channel.port))


def test_worker_does_not_trust_another_program_on_its_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(bytes(64))
                connection.recv(100)

        thread = in_thread(answer)
        with pytest.raises(ConnectionError, match="has not started this worker process"):
            connect(port, bytes(32))
        thread.join()


def facts():
    """Return what other users, and the processes that a task starts, can see of this worker."""
    seen = [Path(f"/proc/self/{name}").read_bytes() for name in ("cmdline", "environ")]
    seen.append(repr(dict(os.environ)).encode())
    seen.append(
        subprocess.run([sys.executable, "-c", "import os; print(os.environ)"], capture_output=True, check=True).stdout
    )
    seen.append(sys.stdin.buffer.read())
    return b"".join(seen)


@pytest.mark.skipif(not PROC.is_dir(), reason="platform: command lines are found in /proc")
def test_key_is_neither_on_the_command_line_nor_in_the_environment():
    with ProcessExecutor(1, transport="portable") as executor:
        seen = run(executor, Task(facts))["facts"]
        key = executor._idle[0].channel.key
    assert len(key) == 32
    for form in (key, key.hex().encode(), repr(key).encode()):
        assert form not in seen


# ---- tickets ---------------------------------------------------------------------------------------------------------

TAKE = """
import sys
from flowkit_exec.process.transports.portable.tickets import TicketFile
tickets = TicketFile(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while (ticket := tickets.take()) is not None:
    print(ticket)
"""


def test_no_ticket_is_taken_twice(tmp_path):
    path = str(tmp_path / "tickets")
    tickets = TicketFile(path, create=True)
    for first in range(1, 5 * CAPACITY, CAPACITY):  # the ring is used several times
        tickets.issue(range(first, first + CAPACITY))
        takers = [
            subprocess.Popen(
                [sys.executable, "-c", TAKE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for taker in takers:
            assert taker.stdout.readline() == "ready\n"
        for taker in takers:
            taker.stdin.write("\n")
            taker.stdin.flush()
        withdrawn = [tickets.take() for _ in range(10)] + tickets.take_all()
        taken = [int(line) for taker in takers for line in taker.communicate()[0].split()]
        assert Counter(taken + withdrawn) - Counter({None: 10}) == Counter(range(first, first + CAPACITY))
    tickets.close()


def test_ticket_file_recovers_from_an_exception_of_a_signal_handler(tmp_path):
    path = str(tmp_path / "tickets")
    mine, theirs = TicketFile(path, create=True), TicketFile(path)
    mine.issue([1, 2])
    mine._acquire()  # and then an exception is raised before the lock is released
    assert mine.take() == 1
    assert theirs.take() == 2
    mine.close()
    theirs.close()


# ---- what it leaves behind -------------------------------------------------------------------------------------------

LEAVES = """
import os, signal, sys, tempfile
from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor
def large(): return b"x" * 1_000_000
def size(large): return len(large)
def waits():
    print("waits", flush=True)
    while True:
        signal.pause()
start, end = Task(large), Task(size)
start >> end
with ProcessExecutor(2, transport="portable") as executor:
    print(DAG("large", tasks=[end]).run(executor)["size"])
    folder, = os.listdir(tempfile.gettempdir())
    print(len([name for name in os.listdir(os.path.join(tempfile.gettempdir(), folder)) if len(name) == 16]))
    if sys.argv[1:]:
        DAG("waits", tasks=[Task(waits)]).run(executor)
"""


def test_files_of_large_values_are_deleted_after_the_run_and_the_folder_at_the_end(script, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    assert script(LEAVES).wait() == "1000000\n0\n"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_workers_of_a_killed_program_delete_its_folder(script, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    program = script(LEAVES, "waits")
    program.wait_for_output("waits")
    program.process.kill()
    program.process.wait()
    until(lambda: list((tmp_path / "temporary").iterdir()) == [])
    until(lambda: not program.descendants())


@guarded
def test_worker_that_does_not_start_is_noticed():
    transport, resources = PortableTransport(), PortableResources()
    channel, process = transport.spawn(resources, sys.executable, {"PYTHONHOME": "/nowhere"})
    until(lambda: process.has_exited())
    assert channel.receive()
    assert process.exit_code() == 1
    resources.release()
    assert not Path(channel.tickets.path).exists()


def test_executor_error_names_too_long_a_command(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, *["x" * 100_000] * 100])
    with ProcessExecutor(1, transport="portable") as executor, pytest.raises(ExecutorError, match="import path"):
        DAG("long", tasks=[Task(int, name="zero")]).run(executor)
