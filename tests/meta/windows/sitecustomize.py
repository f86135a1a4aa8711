"""Makes Python on a POSIX system look like Python on Windows, to flowkit, in this and child processes.

Python imports this module when it starts, if the folder is in ``PYTHONPATH``. The standard library keeps what it needs;
all other modules get `os`, `signal`, `select`, `socket`, `time` and `mmap` without what Windows lacks, and cannot
import `fcntl` and the like. What flowkit uses of Windows alone is imitated: ``msvcrt.locking()``, the creation flags of
subprocesses, and the functions of kernel32 that tell whether a process runs. Files that a process has mapped cannot be
deleted, and ``select()`` takes sockets only, and at least one.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - these modules are imported before the platform changes: they would import Windows code
import concurrent.futures.process  # noqa: F401
import ctypes
import errno
import fcntl
import functools
import logging.handlers  # noqa: F401
import mmap
import multiprocessing.connection  # noqa: F401
import os
import platform  # noqa: F401
import select
import selectors
import shutil  # noqa: F401
import signal
import socket
import sqlite3  # noqa: F401
import stat
import subprocess
import sys
import tempfile  # noqa: F401
import threading
import time
import types
import uuid  # noqa: F401
import webbrowser  # noqa: F401
import zipfile  # noqa: F401
from pathlib import Path

MISSING_MODULES = "fcntl resource termios pwd grp tty pty syslog readline _posixsubprocess".split()
MISSING = {
    os: """
        fork forkpty register_at_fork killpg setpgid getpgid getpgrp setpgrp setsid getsid tcgetpgrp tcsetpgrp
        getuid geteuid getgid getegid getgroups setuid seteuid setgid setegid getresuid chown lchown fchown fchmod
        chroot pread pwrite preadv pwritev readv writev sendfile copy_file_range splice memfd_create MFD_CLOEXEC
        pidfd_open waitid wait wait3 wait4 WNOHANG WUNTRACED WCONTINUED WEXITED WSTOPPED WNOWAIT P_PID P_PGID P_ALL
        WIFSIGNALED WIFEXITED WIFSTOPPED WTERMSIG WEXITSTATUS WSTOPSIG WCOREDUMP environb getenvb set_blocking
        get_blocking O_CLOEXEC O_NOFOLLOW O_DIRECTORY O_NONBLOCK O_NDELAY O_ASYNC O_SYNC O_NOCTTY uname sysconf confstr
        ctermid mkfifo mknod nice getpriority setpriority sched_getaffinity sched_setaffinity sched_yield statvfs
        fstatvfs sync lockf eventfd pipe2 openpty ttyname getloadavg getrandom posix_spawn posix_spawnp posix_fallocate
        fdatasync initgroups login_tty getxattr setxattr listxattr
    """.split(),
    signal: """
        pthread_sigmask pthread_kill sigwait sigwaitinfo sigtimedwait sigpending setitimer getitimer alarm pause
        siginterrupt ITIMER_REAL ITIMER_VIRTUAL ITIMER_PROF SIG_BLOCK SIG_UNBLOCK SIG_SETMASK
    """.split()
    + [
        name
        for name in dir(signal)
        if name.startswith("SIG")
        and not name.startswith("SIG_")
        and name not in ("SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV")
    ],
    select: [name for name in dir(select) if "poll" in name.lower() or name in ("kqueue", "PIPE_BUF")],
    socket: """
        AF_UNIX send_fds recv_fds SCM_RIGHTS SCM_CREDENTIALS MSG_NOSIGNAL MSG_CMSG_CLOEXEC MSG_DONTWAIT CMSG_SPACE
        CMSG_LEN SOCK_CLOEXEC SOCK_NONBLOCK
    """.split(),
    time: ["tzset", "clock_settime", "pthread_getcpuclockid"],
    mmap: ["MAP_PRIVATE", "MAP_SHARED", "MAP_ANON", "MAP_ANONYMOUS", "PROT_READ", "PROT_WRITE", "PROT_EXEC"],
    threading: [],
}
SHARED_FOLDER = "flowkit-"
CREATE_NEW_PROCESS_GROUP = 0x200


def copy(module):
    """Return a copy of a module, for the standard library."""
    made = types.ModuleType(module.__name__)
    made.__dict__.update(module.__dict__)
    return made


real = {module: copy(module) for module in MISSING}
real_os, real_select = real[os], real[select]


def is_mapped(path):
    """Return whether a process has mapped a file."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if path in maps.read_text(errors="replace"):
                return True
        except OSError:
            continue
    return False


def unlink(path, **options):
    """Delete a file, unless it is mapped."""
    if SHARED_FOLDER in os.fspath(path) and is_mapped(os.fspath(path)):
        raise PermissionError(errno.EACCES, "The process cannot access the file", path)
    real_os.unlink(path, **options)


def select_sockets(readers, writers, errors, timeout=None):
    """Wait for sockets; nothing else is accepted, and not no socket."""
    for each in (*readers, *writers, *errors):
        if not stat.S_ISSOCK(real_os.fstat(each if type(each) is int else each.fileno()).st_mode):
            raise OSError(errno.ENOTSOCK, "An operation was attempted on something that is not a socket")
    if not (readers or writers or errors):
        raise OSError(errno.EINVAL, "An invalid argument was supplied")
    return real_select.select(readers, writers, errors, timeout)


def locking(descriptor, mode, size):
    """Lock a file, or unlock it."""
    if mode == msvcrt.LK_UNLCK:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


class Kernel32:
    """The functions of Windows that tell about processes."""

    def __init__(self, _name, use_last_error=False):
        self.OpenProcess = lambda _access, _inherit, pid: pid if Path(f"/proc/{pid}").exists() else None
        self.OpenProcess.restype = None

    def WaitForSingleObject(self, handle, _milliseconds):  # noqa: N802
        """Return 0 if a process has ended, WAIT_TIMEOUT if it runs."""
        return 0 if self._fields(handle)[0] in "ZX" else 0x102

    def GetProcessTimes(self, handle, created, *_times):  # noqa: N802
        """Set the time when a process started."""
        created._obj.value = 133000000000000000 + int(self._fields(handle)[19])
        return 1

    def CloseHandle(self, _handle):  # noqa: N802
        """Do nothing."""

    def _fields(self, handle):
        return Path(f"/proc/{handle.value}/stat").read_text().rpartition(")")[2].split()


def upper(name):
    """Return the name of an environment variable as Windows has it."""
    return name.upper()


variables = {name.upper(): value for name, value in os.environ.items()}
os.environ = os._Environ(variables, upper, str, str, str)  # noqa: B003 - the environment stays as it is
start = subprocess.Popen.__init__


def start_process(self, *arguments, creationflags=0, **options):
    """Start a process; its own group is one of POSIX."""
    if options.get("pass_fds") or options.get("process_group") or options.get("preexec_fn"):
        raise ValueError("not supported on Windows platforms")
    start(self, *arguments, process_group=0 if creationflags & CREATE_NEW_PROCESS_GROUP else None, **options)


for module in list(sys.modules.values()):
    for original, kept in real.items():
        if (
            module is not None
            and vars(module).get(original.__name__) is original
            and module is not sys.modules[__name__]
        ):
            setattr(module, original.__name__, kept)
for module, names in MISSING.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in MISSING_MODULES:
    sys.modules[name] = None
os.unlink = os.remove = unlink
socket.socketpair = real[socket].socketpair = functools.partial(socket.socketpair, real[socket].AF_UNIX)
select.select = select_sockets
selectors.DefaultSelector = selectors.SelectSelector
selectors.SelectSelector._select = staticmethod(select_sockets)
subprocess.Popen.__init__ = start_process
subprocess.CREATE_NEW_PROCESS_GROUP = CREATE_NEW_PROCESS_GROUP
ctypes.WinDLL, ctypes.get_last_error = Kernel32, lambda: 0
msvcrt = sys.modules["msvcrt"] = types.ModuleType("msvcrt")
msvcrt.LK_UNLCK, msvcrt.LK_LOCK, msvcrt.LK_NBLCK = range(3)
msvcrt.locking = locking
sys.platform = "win32"
