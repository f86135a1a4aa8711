"""Tasks with a fault at one place, for the tests of all places."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from importlib import import_module
from pathlib import Path

from faulty_tasks import count, crash, spring, wait_for


def import_deadly(fault):
    """Return a function of a module whose import has a fault in worker processes, where IN_WORKER is set."""
    return import_module(f"deadly_{fault}").function


def write_deadly(folder, fault, spring_fault):
    """Write the module of :func:`import_deadly`."""
    source = f"""
    import os
    from faulty_tasks import spring
    if "IN_WORKER" in os.environ:
        spring({spring_fault!r})
    def function():
        return "ok"
    """
    Path(folder, f"deadly_{fault}.py").write_text(textwrap.dedent(source))


def end_with_fault(fault):
    """Have this process run into a fault when it ends."""
    atexit.register(spring, fault)
    return os.getpid()


def crash_when(path, how):
    """Have this process crash while it is idle, when a file exists."""

    def wait():
        wait_for(path)
        crash(how)

    threading.Thread(target=wait, daemon=True).start()
    return os.getpid()


def resist(path, how):
    """Count the call, and never end."""
    Path(f"{path}.pid").write_text(str(os.getpid()))
    if how == "blocks signals":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    elif how == "leaves a child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], close_fds=False)
    count(path)
    if how == "holds the GIL":
        ctypes.PyDLL(None).pause()
    elif how == "is suspended":
        os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


def die_when(path, released, how):
    """Count the call, and die when a file exists."""
    count(path)
    wait_for(released)
    crash(how)
