"""Tasks that fail, exit or misbehave, and values that cannot be pickled, in a module that workers can import."""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import faulthandler
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import warnings
from pathlib import Path

from faulty_exceptions import NoText, TwoArguments, raise_local

from flowkit_core import DAG, Task

LARGE = 200_000  # bytes, enough to travel in shared memory


def count(path):
    """Append a byte to a file, and return how many it has."""
    with Path(path).open("ab", buffering=0) as file:  # so that two at once cannot get the same number
        file.write(b".")
        return file.tell()


def size_at(path):
    """Return how many bytes a file has, 0 without one."""
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def wait_for(path, size=1, seconds=60):
    """Wait until a file has a number of bytes."""
    end = time.monotonic() + seconds
    while size_at(path) < size:
        if time.monotonic() > end:
            raise TimeoutError(f"{path} does not get to {size} bytes")
        time.sleep(0.002)


# Exits of a worker


def crash(how):
    """End this process."""
    if how == "SIGSEGV":
        faulthandler.disable()  # a stack for each would hide what matters in the output of the tests
        ctypes.string_at(0)
    if how == "SIGABRT":
        faulthandler.disable()
        os.abort()
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how, None) or int(how.removeprefix("SIG")))
    os._exit(int(how))


def victim(how):
    crash(how)


def slow_victim(how):
    """End the worker after a fifth of a second."""
    time.sleep(0.2)
    crash(how)


def warn_of_old_way():
    """Issue a DeprecationWarning."""
    warnings.warn("the old way", DeprecationWarning, stacklevel=1)


def ok(*_args):
    return "ok"


def fail(*_args):
    raise ValueError("failed")


def end_with(_value, *, large, deadly):
    """Return the size of a large value, or exit the worker."""
    if deadly:
        os._exit(3)
    return len(large.data)


def tally(*_args, tallies):
    return count(tallies)


def mortal(tries, deaths):
    """Exit the worker in the first attempts, then return the number of the attempt."""
    number = count(tries)
    if number <= deaths:
        os._exit(9)
    return number


def interpreter():
    return sys.executable


def pid(*_args):
    return os.getpid()


def sleep_endlessly(*_args, started):
    Path(f"{started}.pid").write_text(str(os.getpid()))
    count(started)
    while True:
        time.sleep(60)


def nap(*_args):
    time.sleep(0.2)


def end_slowly(*_args, started):
    try:
        count(started)
        time.sleep(0.7)
    finally:
        Path(f"{started}.finally").touch()
    return "ended"


def fail_when(*_args, started, size=1):
    wait_for(started, size)
    raise ValueError("failed")


def end_when_released(started, released):
    try:
        count(started)
        wait_for(released)
    finally:
        count(f"{started}.finally")
    return "ended"


def slow_clean_up(*_args):
    time.sleep(0.7)  # longer than the grace period of the tests
    return "clean"


# Pickling


class Trap:
    """A value with a fault while it is pickled or unpickled, in this process or in another."""

    def __init__(self, place, fault):
        self.place, self.fault, self.home = place, fault, os.getpid()

    def __reduce__(self):
        if self.place == "pickling":
            spring(self.fault)
        return rebuild, (self.place, self.fault, self.home)


def rebuild(place, fault, home):
    if place == "unpickling" and os.getpid() != home:
        spring(fault)
    trap = Trap(place, fault)
    trap.home = home
    return trap


def spring(fault):
    if fault == "raise":
        raise RuntimeError("sprung")
    if fault == "exit":
        sys.exit("sprung")
    if fault == "interrupt":
        raise KeyboardInterrupt
    if fault == "mute":
        raise NoText
    if fault.startswith("hang"):
        count(fault.partition(":")[2])
        time.sleep(3600)
    crash(fault)


def take(value):
    return type(value).__name__


def run_into(fault):
    spring(fault)


def make_trap(place, fault):
    return Trap(place, fault)


class Counted:
    """A large value that counts how often this process pickles it."""

    pickled = 0

    def __init__(self, size=LARGE):
        self.data = bytes(size)

    def __reduce__(self):
        Counted.pickled += 1
        return Counted, (len(self.data),), {"data": self.data}


def size(*args, **kwargs):
    return sum(len(value.data) for value in (*args, *kwargs.values()))


def sizes(large, same, small):
    return [len(value.data) for value in (large, same, small)]


def size_of(*, value):
    return len(value.data)


class Relic:
    """An object whose finalizer hangs or crashes the process."""

    def __del__(self):
        crash("SIGKILL") if self.fault == "crash" else time.sleep(3600)


def leave_relic(fault):
    import atexit

    relic = Relic()
    relic.fault = fault
    leave_relic.relic = relic
    atexit.register(relic.__del__)
    if fault == "hang":
        threading.Thread(target=time.sleep, args=(3600,)).start()
    return fault


class Lethal:
    """A value that kills the process that has made it, when it is freed there."""

    def __init__(self, how, home=None):
        self.how, self.home = how, os.getpid() if home is None else home

    def __reduce__(self):
        return Lethal, (self.how, 0)

    def __del__(self):
        if os.getpid() == self.home:
            crash(self.how)


def lethal(how):
    return Lethal(how)


def take_lethal(value, how):
    value.home = os.getpid()
    return type(value).__name__


def raise_lethal(how):
    error = ValueError("failed")
    error.lethal = Lethal(how)
    raise error


# Exceptions


class NamelessMeta(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")


class Nameless(metaclass=NamelessMeta):
    """A value that cannot be pickled, and whose type has no name to say so by."""

    def __reduce__(self):
        raise NoText


def make_nameless():
    return Nameless()


def raise_local_until(path, failures):
    """Fail in the first attempts."""
    if (number := count(path)) <= failures:
        raise_local()
    return number


def log_while_sending():
    """Start a timer whose handler logs, so that it logs while the exception is sent."""

    def tick(*_):
        logging.getLogger("flowkit").warning("tick")
        count_down.append(1)
        if len(count_down) > 20:
            signal.setitimer(signal.ITIMER_REAL, 0)

    count_down = []
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    raise ValueError("x" * 40_000_000)


# Values


class Buffer:
    """A value with a large buffer that pickle takes out of band, as an array has."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Buffer, (pickle.PickleBuffer(self.data),)


def buffer(fill=1):
    return Buffer(bytearray([fill]) * LARGE)


def spoil(value):
    """Change the argument, and return its first byte before."""
    before = value.data[0]
    value.data[:1000] = bytes(1000)
    return before


def total(*values):
    return sum(value.data[0] for value in values)


def double(data):
    return data + data


def echo(value):
    return value


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Empty:
    """A callable that is falsy."""

    def __len__(self):
        return 0

    def __call__(self):
        return "called"

    def method(self):
        return "method"

    @classmethod
    def of_class(cls):
        return cls.__name__


# Side effects


def close_streams():
    sys.stdout.close()
    sys.stderr.close()
    return "closed"


def close_descriptors():
    sys.stderr = None  # the worker's last words about it would only look like a defect
    os.closerange(3, 300)
    return "closed"


def surroundings():
    return str(Path.cwd()), dict(os.environ), list(sys.path), list(sys.argv)


def move_away(*_args, path):
    """Change what a worker has of the process that runs the pipeline; its folder is gone afterwards."""
    Path(path).mkdir()
    os.chdir(path)
    Path(path).rmdir()
    os.environ["FLOWKIT_TEST_MOVED"] = "1"
    os.environ["FLOWKIT_DEPTH"] = "9"
    del os.environ["PATH"]
    sys.path.insert(0, path)
    sys.argv.append(path)
    return os.getpid()


def is_moved(*_args):
    return os.environ.get("FLOWKIT_TEST_MOVED")


def move(folder):
    os.chdir(folder)
    os.environ["FLOWKIT_TEST_MOVED"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return os.getpid()


def shout():
    print("x" * 5_000_000)
    print("y" * 1_000_000, file=sys.stderr)
    return "shouted"


def recurse():
    return recurse()


def limited(name, soft):
    """Return a large value where a resource is short."""
    which = getattr(resource, name)
    old = resource.getrlimit(which)
    resource.setrlimit(which, (soft or max(int(path.name) for path in Path("/dev/fd").iterdir()), old[1]))
    return bytes(LARGE) if name != "RLIMIT_AS" else len(bytearray(2 << 30))


def fork_and_return():
    child = os.fork()
    if not child:
        return "child"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_exit():
    child = os.fork()
    if not child:
        sys.exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def pool(method):
    with multiprocessing.get_context(method).Pool(1) as workers:
        return workers.map(abs, [-1, -2])


def leave_child(path, how):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(path).write_text(str(child.pid))
    if how != "live":
        crash(how)
    return child.pid


def nested(levels):
    if not levels:
        return [os.getpid()]
    inner = Task(nested, name="inner")
    return [os.getpid(), *DAG("inner", 1, tasks=[inner]).run("process", params={"levels": levels - 1})["inner"]]


def speak(name, level, text):
    logging.getLogger(name).log(level, text)
    return "spoke"


def speak_of_a_trap(place, fault):
    logging.getLogger("app").error("hello", extra={"trap": Trap(place, fault)})
    return "spoke"


def wait_for_others(*_args, tallies, others):
    """Return when the other tasks have ended."""
    wait_for(tallies, others)
    return "last"


def meet(*_args, path, mark="."):
    """Write a mark to a file, and return when it has two."""
    with Path(path).open("a") as file:
        file.write(mark)
    wait_for(path, 2)


def in_a_daemon(connection):
    """Run a pipeline in a daemonic process of multiprocessing."""
    connection.send(DAG("daemon", 1, tasks=[Task(ok)]).run("process")["ok"])


def count_before(path, fails):
    """Fail in the first attempts, with an exception that has a code."""
    number = count(path)
    if number <= fails:
        raise TwoArguments(number, "again")
    return number


def hand_over_trap():
    """Return a value that the caller cannot unpickle."""
    return Trap("unpickling", "raise")


def endless(_value):
    time.sleep(3600)


def count_arguments(*args):
    return len(args)


class Shared:
    """A class with one instance in each process, whose pickle is large."""

    def __reduce__(self):
        return the_shared, (bytes(LARGE),)


def the_shared(_ballast):
    return _SHARED


_SHARED = Shared()


def flyweight():
    return _SHARED


def large():
    return bytes(LARGE)


def log_until(_first, *, path, size):
    """Log continuously until a file has a number of bytes."""
    end = time.monotonic() + 60
    while size_at(path) < size:
        logging.getLogger("faulty_tasks").info("still here")
        if time.monotonic() > end:
            raise TimeoutError("no other task has run")
    return "heard"


def raise_http():
    with Path(os.devnull).open("rb") as body:
        raise urllib.error.HTTPError("http://localhost", 503, "busy", {}, body)
