"""Starts the process of a worker: a new interpreter (`spawn`), or a fork of this process (`fork`)."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from flowkit_exec.process import protocol
from flowkit_exec.process.functions.main_module import describe_main
from flowkit_exec.process.surroundings import nesting_depth
from flowkit_exec.process.transports.interpreter import environment_of_worker, interpreter_command

from .channel import close_inherited_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .channel import PosixChannel
    from .resources import PosixResources


def spawn(channel: PosixChannel, resources: PosixResources, executable: str, env: Mapping[bytes, bytes]) -> int:
    """Start a new interpreter that runs a worker; return the id of the process.

    Args:
        channel: the connections.
        resources: receives the id of the process as soon as it is started.
        executable: path of the interpreter.
        env: environment variables, in addition to those of this process.
    """
    socket, outcomes, lifeline = channel.worker_ends
    arguments = socket, outcomes, channel.tickets, lifeline, describe_main()
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        interpreter_command(executable, "flowkit_exec.process.transports.posix.endpoint", arguments),
        stdin=subprocess.DEVNULL,
        pass_fds=(socket, outcomes, channel.tickets, lifeline),
        env=environment_of_worker(env, str(outcomes)),
        process_group=0,
    )
    resources.pid = process.pid
    process.returncode = 0  # reaped by `ChildProcess`, not by subprocess
    return process.pid


def fork(
    channel: PosixChannel, resources: PosixResources, functions: Mapping[int, Callable[..., Any]], signals: set[int]
) -> int:
    """Fork this process; return the id of the fork in this process, and serve in the fork.

    Args:
        channel: the connections.
        resources: receives the id of the process as soon as it is started.
        functions: function number -> function.
        signals: the signals that are blocked in the worker; in this process, all are blocked meanwhile.
    """
    socket, outcomes, lifeline = channel.worker_ends
    pid = resources.pid = os.fork()
    if pid:
        with protocol.suppress(OSError):  # both processes do it, so that it is done when either continues
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        os.environ[protocol.DEPTH_VARIABLE] = str(nesting_depth() + 1)
        tickets = os.dup(channel.tickets)
        for descriptor in channel.worker_ends:
            resources.descriptors.remove(descriptor)
        close_inherited_channels()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)  # tasks must not read the terminal: stdin is /dev/null, as in a spawned worker
        from flowkit_exec.process.worker import Worker, set_up_process
        from flowkit_exec.process.worker_exit import end_fork, forget_inherited

        from .endpoint import PosixEndpoint

        set_up_process()
        forget_inherited()
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        Worker(PosixEndpoint(socket, outcomes, tickets, lifeline), dict(functions)).serve()
        end_fork()
    finally:
        os._exit(1)
