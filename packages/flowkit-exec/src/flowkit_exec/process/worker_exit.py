"""How a worker process ends.

A spawned worker ends like any Python program: threads are joined, exit functions and finalizers run, files are flushed.
A fork of the calling process must not run or flush what belongs to that process: it forgets what it has inherited, and
at its end does the same for what was registered and opened since.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
import threading
import weakref
from _io import _IOBase
from contextlib import suppress
from typing import Any

from .random_numbers import seed


def exit_now(code: int) -> None:
    """Exit without running exit functions and finalizers and without waiting for threads."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(code)


def forget_inherited() -> None:
    """In a fork: forget exit functions, finalizers, child processes, files and random seeds of the calling process."""
    seed("numpy.random")  # Python does it for `random`
    atexit._clear()
    registry: Any = weakref.finalize
    for finalizer in list(registry._registry):
        finalizer.detach()
    registry._registered_with_atexit = False  # the next finalizer registers again
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import process, util

        process._children.clear()  # type: ignore[attr-defined]
        util._finalizer_registry.clear()  # type: ignore[attr-defined]
        atexit.register(util._exit_function)  # type: ignore[attr-defined]
    gc.freeze()  # gc.get_objects() leaves out what exists by now


def end_fork() -> None:
    """In a fork: join threads, run the exit functions, write the files that were opened since the fork, and exit."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _write_files()
    exit_now(0)


def _write_files() -> None:
    """Write what is buffered in the files that this process has opened since :func:`forget_inherited`."""
    files: list[Any] = [found for found in gc.get_objects() if issubclass(type(found), _IOBase)]
    texts = [file.flush for file in files if isinstance(file, io.TextIOWrapper)]
    others = [file.close for file in files if type(file).__module__ != "_io"]  # gzip, for example, writes a trailer
    buffers = [file.flush for file in files if isinstance(file, (io.BufferedWriter, io.BufferedRandom))]
    for write in (*texts, *others, *buffers):  # the outer ones first
        with suppress(Exception):  # it is closed, or the disk is full
            write()
