"""Class `Resources`: what one worker takes of the operating system, released after any interrupt."""

from __future__ import annotations

import errno
import os
import threading
from _thread import start_new_thread
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from flowkit_core import ExecutorError

if TYPE_CHECKING:
    from collections.abc import Callable


class Resources(ABC):
    """OS resources of one worker. A finalizer releases them if an interrupt skips the normal path.

    Attributes:
        owner: id of the process that owns the resources; a fork of it must not kill the worker.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._acquiring = threading.Lock()
        self._is_released = False

    @abstractmethod
    def close(self) -> None:
        """Close everything but the process. May be called more than once."""

    @abstractmethod
    def end_process(self) -> None:
        """Kill the process and its group, and reap it, if it is running."""

    def acquire(self, work: Callable[[], None]) -> None:
        """Call a function that acquires resources, in another thread: no signal handler runs between two of its steps.

        Args:
            work: acquires resources and stores each in an attribute.
        """
        errors: list[BaseException] = []
        done = threading.Lock()
        done.acquire()

        def run() -> None:
            try:
                with self._acquiring:
                    if not self._is_released:
                        work()
            except BaseException as error:
                errors.append(error)
            finally:
                done.release()

        try:
            start_new_thread(run, ())
        except RuntimeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # a signal handler has raised it
            run()  # the system cannot start more threads
        done.acquire()
        if errors:
            raise errors.pop()

    def release(self) -> None:
        """Close everything, and kill the process and its group."""
        if self.owner != os.getpid():  # this process is a fork of the owner
            self.close()
            return
        with self._acquiring:
            self._is_released = True
        self.close()
        self.end_process()


def start_error(error: OSError) -> ExecutorError:
    """Return the error for a process that the operating system does not start."""
    hint = "use fewer max_workers"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        hint += ", or let this process open more files (ulimit -n)"
    elif error.errno in (errno.EAGAIN, errno.ENOMEM):
        hint += ", or let this user have more processes or memory (ulimit -u, -v)"
    elif error.errno == errno.E2BIG or getattr(error, "winerror", None) == _COMMAND_TOO_LONG:
        hint = "make the import path (sys.path) or the environment variables shorter, or use executor='thread'"
    return ExecutorError(f"no worker process could be started ({error}): {hint}")


_COMMAND_TOO_LONG = 206  # on Windows
