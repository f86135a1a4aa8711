"""Class `WorkerOptions`: the options of `ProcessExecutor` for its workers."""

from __future__ import annotations

import errno
import math
import os
import pickle
import shutil
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from flowkit_core import ExecutorError
from flowkit_core._text import short_repr
from flowkit_exec.process import protocol
from flowkit_exec.process.surroundings import encode, encode_name
from flowkit_exec.process.transports import NAMES as TRANSPORTS
from flowkit_exec.process.transports import TRANSPORT_VARIABLE, find_transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_exec.process.transports.interface import Transport

    Initializer = tuple[str, Any, bytes]
    """Kind of reference, reference, pickled arguments."""

_WAY_OUT = (
    "pass the path of a Python interpreter of the same version, ProcessExecutor(python='/path/to/python'), or use "
    "executor='thread'"
)
_NO_PROGRAM = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR, errno.ENOEXEC, errno.ELOOP)
_verified: set[str] = set()  # the interpreters that have started a worker


class WorkerOptions:
    """The options of the workers of one executor, checked.

    Args:
        python: path of the interpreter; None means ``sys.executable``.
        env: environment variables, in addition to those of this process.
        initializer: called in each worker before its first task.
        initargs: arguments of the initializer.
        max_tasks_per_worker: how many tasks a worker may run; None means any number.
        idle_timeout: seconds after which an idle worker ends; None means never.
        transport: name of the transport; None means the one in the environment variable `TRANSPORT_VARIABLE`, or else
            the first one that works on this system.

    Raises:
        ExecutorError: this system lacks what the transport needs.
        TypeError: an option has the wrong type.
        ValueError: it has the right type and a value that is not allowed.
    """

    def __init__(
        self,
        python: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Any = (),
        max_tasks_per_worker: int | None = None,
        idle_timeout: float | None = None,
        transport: str | None = None,
    ) -> None:
        self.transport = _checked_transport(transport)
        self.python = _checked_python(python)
        self.env = _checked_env(env)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer is {short_repr(initializer)}, but must be callable, or None")
        if not isinstance(initargs, Iterable) or isinstance(initargs, (str, bytes)):
            raise TypeError(f"initargs is {short_repr(initargs)}, but must be a tuple: of one argument, (argument,)")
        self.initializer, self.initargs = initializer, tuple(initargs)
        if initializer is None and self.initargs:
            raise ValueError("initargs is given without initializer, whose arguments these are: pass both, or neither")
        self.max_tasks = _checked_number(
            "max_tasks_per_worker", max_tasks_per_worker, (int,), "an integer of at least 1"
        )
        self.idle_timeout = _checked_number("idle_timeout", idle_timeout, (int, float), "a positive number of seconds")

    # ---- the interpreter -----------------------------------------------------------------------------------------

    def executable(self) -> str:
        """Return the path of the interpreter.

        Raises:
            ExecutorError: this program has no interpreter.
        """
        if self.python is not None:
            return self.python
        if not sys.executable or getattr(sys, "frozen", False):
            reason = "this is a frozen application" if sys.executable else "sys.executable is not set"
            raise ExecutorError(f"there is no Python interpreter here to start workers with ({reason}): {_WAY_OUT}")
        return sys.executable

    def is_verified(self) -> bool:
        """Return whether the interpreter has started a worker, or is evidently the interpreter of this process."""
        path = self.executable()
        if path in _verified:
            return True
        is_python = os.path.basename(os.path.realpath(path)).startswith("python")
        if is_python and os.path.realpath("/proc/self/exe") == os.path.realpath(path):
            _verified.add(path)
        return path in _verified

    def verify(self, version: str) -> None:
        """Check the version of Python that a worker runs.

        Raises:
            ExecutorError: it is not the version that this process runs.
        """
        path = self.executable()
        own = protocol.python_version()
        if version != own:
            raise ExecutorError(
                f"{path!r} is Python {version}, and this process is Python {own}: functions and values cannot be "
                f"transferred between them; {_WAY_OUT}"
            )
        _verified.add(path)

    def not_started(self, error: OSError) -> ExecutorError | None:
        """Return the error for a path that is not a program; None if no process starts for another reason."""
        if error.errno not in _NO_PROGRAM:
            return None
        name = "python" if self.python is not None else "sys.executable"
        return ExecutorError(f"{name} is {self.executable()!r}, which cannot be started ({error.strerror}): {_WAY_OUT}")

    def not_an_interpreter(self, how: str) -> ExecutorError:
        """Return the error for a program that is not an interpreter.

        Args:
            how: what it did, such as "ended with exit code 1".
        """
        name = "python" if self.python is not None else "sys.executable"
        return ExecutorError(
            f"{name} is {self.executable()!r}, which is not a Python interpreter that runs workers: started as a "
            f"worker, it {how}. Perhaps this program embeds Python, or is started by a launcher; {_WAY_OUT}"
        )

    # ---- the initializer -----------------------------------------------------------------------------------------

    def pickled_initializer(self) -> Initializer | None:
        """Return the initializer for workers that are spawned; None without one.

        Raises:
            ExecutorError: it cannot be transferred.
        """
        from flowkit_core.failures import describe_error
        from flowkit_core.safe_text import is_interrupt
        from flowkit_exec.process.functions.function_references import by_value, find_cloudpickle, reference_to

        if self.initializer is None:
            return None
        found = reference_to(self.initializer)
        try:
            if isinstance(found, str):
                if find_cloudpickle() is None:
                    raise ExecutorError(
                        f"the initializer cannot be transferred to workers, because it {found}: move it to the top "
                        f"level of a module, or install cloudpickle (flowkit-exec[cloudpickle])"
                    )
                found = "pickle", by_value(self.initializer)
            return *found, pickle.dumps(self.initargs)
        except ExecutorError:
            raise
        except BaseException as error:  # pickling runs the user's code
            if is_interrupt(error):
                raise
            raise ExecutorError(
                f"the initializer, or one of initargs, cannot be pickled ({describe_error(error)}): open what it needs "
                f"in the initializer, and pass plain data"
            ) from error

    def forked_initializer(self) -> Callable[[], object] | None:
        """Return the initializer for workers that are forks of this process; None without one."""
        return partial(self.initializer, *self.initargs) if self.initializer is not None else None


def refuse_in_place_of_a_worker() -> None:
    """Raise an error in a program that was started as a worker and is another one: it would start itself endlessly."""
    mark = os.environ.get(protocol.START_VARIABLE)
    if mark is not None:
        with protocol.suppress(OSError, ValueError):
            if mark.isdecimal():  # a descriptor of the POSIX transport; else a path of the portable one
                os.write(int(mark), protocol.frame(protocol.NOT_A_WORKER))
            else:
                from flowkit_exec.process.transports.portable.tickets import refuse

                refuse(mark)
        raise ExecutorError(
            f"this program was started as a worker process of flowkit, and is no Python interpreter that runs workers "
            f"(sys.executable is {sys.executable!r}): pass the path of one, ProcessExecutor(python='/path/to/python'), "
            f"in the program that starts it"
        )


def _checked_transport(name: Any) -> Transport:
    source = "transport"
    if name is None:
        source = f"the environment variable {TRANSPORT_VARIABLE}"
        name = os.environ.get(TRANSPORT_VARIABLE) or None
    elif type(name) is not str:
        raise TypeError(f"transport is {short_repr(name)}, but must be 'posix' or 'portable', or None")
    if name not in (None, *TRANSPORTS):
        raise ValueError(f"{source} is {short_repr(name)}, but must be 'posix' or 'portable'")
    try:
        return find_transport(name)
    except ImportError as error:
        if name == "posix":
            reason, hint = f"{source} is 'posix', and this system lacks what that needs", "use transport='portable'"
        else:
            reason, hint = "this system lacks what worker processes need", "use executor='thread'"
        raise ExecutorError(f"{reason} ({error}): {hint}") from error


def _checked_python(python: Any) -> str | None:
    if python is None:
        return None
    path = os.fspath(python) if isinstance(python, (str, os.PathLike)) else None
    if not isinstance(path, str):
        raise TypeError(f"python is {short_repr(python)}, but must be the path of an interpreter, or None")
    found = shutil.which(path)
    if found is None:
        raise ValueError(
            f"python is {short_repr(python)}, but there is no such program: pass the path of an interpreter"
        )
    return os.path.abspath(found)


def _checked_env(env: Any) -> dict[Any, Any]:
    if env is not None and not isinstance(env, Mapping):
        raise TypeError(
            f"env is {short_repr(env)}, but must be a mapping of names to values, both of them str, or None"
        )
    checked = {}
    for name, value in (env or {}).items():
        if type(name) is not str or type(value) is not str:
            raise TypeError(f"env has {short_repr(name)}: {short_repr(value)}, but names and values must be str")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(
                f"env has {short_repr(name)}, which cannot be set: a name has no '=', and no NUL is allowed"
            )
        checked[encode_name(name)] = encode(value)
    return checked


def _checked_number(name: str, value: Any, types: tuple[type, ...], allowed: str) -> Any:
    if value is None:
        return None
    if type(value) not in types:
        raise TypeError(f"{name} is {short_repr(value)}, but must be {allowed}, or None")
    if not value > 0 or not math.isfinite(value):
        raise ValueError(f"{name} is {short_repr(value)}, but must be {allowed}, or None")
    return value
