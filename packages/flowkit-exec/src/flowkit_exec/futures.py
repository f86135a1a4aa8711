"""Class `FuturesExecutor`: runs tasks in a given pool with ``submit()``, such as those of ``concurrent.futures``."""

from __future__ import annotations

import os
import sys
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from importlib import import_module
from threading import current_thread
from time import perf_counter

from flowkit_core import ExecutorError, Outcome, SerializationError, Task, TaskTimeoutError
from flowkit_core._checks import checked_workers
from flowkit_core._text import short_repr
from flowkit_core.coroutines import CoroutineType, run_coroutine
from flowkit_core.executors.executor import check_open
from flowkit_core.executors.pickling_by_value import (
    CREATE_HINT,
    dumps_by_value,
    find_unpicklable,
    is_importable,
)
from flowkit_core.executors.submitting_lane import SubmittingLane
from flowkit_core.failures import describe_error
from flowkit_core.runs.context_transfer import CarriedContext
from flowkit_core.runs.session import Session
from flowkit_core.runs.states import CANCELLED, FAILED
from flowkit_core.runs.time_limit import TimeLimit, call_in_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from contextvars import Context
    from typing import Any

    from flowkit_core import Call, Node, Run

    Returned = list[Any]
    """Value, seconds, notes, and the name, the process and the host of the worker; see :func:`_outcome_of`."""

LIMIT = 1000
"""Default of the maximum number of calls that are submitted and have not ended."""


class FuturesExecutor:
    """Runs tasks in a given pool: any object with ``submit(function, *args)`` that returns a future.

    The pool may be a ``ThreadPoolExecutor``, a ``ProcessPoolExecutor``, an ``InterpreterPoolExecutor``, the reusable
    executor of loky, or the like. Functions at the top level of a module go to it by name, others are pickled by the
    pool. Conditions (``when``) are evaluated in this process.

    Args:
        pool: the pool. It is not closed by this executor.
        name: name of the executor in logs and messages.
        limit: maximum number of calls that are submitted and have not ended, at least 1; None means 1000. A call that
            waits in the pool cannot be taken back by pools whose futures cannot be cancelled.

    Raises:
        TypeError: ``pool`` has no ``submit``, or ``limit`` is not an integer.
        ValueError: ``limit`` is less than 1.

    Examples:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def one(): return 1
        >>> with ThreadPoolExecutor(2) as pool:
        ...     DAG("numbers", tasks=[one]).run(executor=FuturesExecutor(pool))
        {'one': 1}
    """

    def __init__(self, pool: Any, *, name: str = "futures", limit: int | None = None) -> None:
        if isinstance(pool, type) or not callable(getattr(pool, "submit", None)):
            hint = f": write {pool.__name__}(...), with parentheses" if isinstance(pool, type) else ""
            raise TypeError(
                f"the pool of a FuturesExecutor is {short_repr(pool)}, but must have a method submit(function, *args) "
                f"that returns a future{hint}"
            )
        self.pool = pool
        self.name = name
        self._limit = checked_workers(limit, "limit") or LIMIT
        self._closed = False

    def execute(self, run: Run) -> None:
        """Drive a run to its end.

        Raises:
            ExecutorError: the pool takes no more calls, or this executor is closed.
        """
        Session(run, [self.lane()]).drive()

    def check_nodes(self, nodes: Sequence[Node]) -> list[SerializationError]:
        """Return an error for each node whose function the pool cannot pickle, for ``Pipeline.check()``.

        Only a ``ProcessPoolExecutor`` is known to pickle functions, so there are none for another pool.
        """
        if not _pickles_by_name(self.pool):
            return []
        errors = ((node, _pickling_error(node.func)) for node in nodes)
        hint = "move it to the top level of a module, or use executor='thread'"
        return [
            SerializationError(node.name, "function", f"cannot be pickled ({describe_error(error)})", hint)
            for node, error in errors
            if error is not None
        ]

    def lane(self) -> FuturesLane:
        """Return the lane of one run.

        Raises:
            ExecutorError: this executor is closed.
        """
        check_open(self, is_closed=self._closed)
        return FuturesLane(self.pool, self.name, self._limit)

    def close(self) -> None:
        """Refuse further runs. The pool stays open. Calling it twice is allowed."""
        self._closed = True

    def __enter__(self) -> FuturesExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FuturesExecutor({short_repr(self.pool)})"


class FuturesLane(SubmittingLane):
    """The calls of one run that a pool makes.

    Args:
        pool: the pool.
        name: name of the executor.
        limit: maximum number of calls that have not ended.
    """

    def __init__(self, pool: Any, name: str, limit: int) -> None:
        super().__init__()
        self.name = name
        self._pool = pool
        self._pickles_by_name = _pickles_by_name(pool)
        self._limit = limit
        self._running: dict[Future[Any], tuple[Call, float]] = {}
        self._abandoned: dict[Future[Any], Call] = {}
        self._is_broken = False
        self._sends_by_value = False  # functions of the script, which a process of the pool has not found
        self._pickles: dict[int, tuple[Any, bytes]] = {}  # by id of the function

    @property
    def has_calls(self) -> bool:
        """Whether calls are submitted that have not ended."""
        return bool(self._running)

    def submit_ready(self) -> None:
        """Submit ready nodes, up to the limit."""
        while self.ready and len(self._running) < self._limit:
            self._submit(self.ready.popleft())

    def close(self) -> Sequence[Node]:
        """Cancel calls that have not started; return the nodes whose calls are running."""
        running = [call for future, (call, _) in list(self._running.items()) if self._is_broken or not future.cancel()]
        return [call.node for call in running if self.session.run.is_current(call.node, call.attempt)]

    def _submit(self, node: Node) -> None:
        call = self.session.prepare(node)
        if isinstance(call, Outcome):
            self.finish(node, call)
        else:
            self._send(call)

    def _send(self, call: Call) -> None:
        """Submit a call to the pool; if that cannot take it, its node or the run fails."""
        try:
            data = self._pickled(call) if self._sends_by_value else None
            future = self._pool.submit(_Invocation(call, self.session.context.copy(), data, self._pickles_by_name))
        except Exception as error:
            failure = error if isinstance(error, SerializationError) else _argument_error(call, error)
            if failure is None:
                self.session.fail(self.name, _pool_error(self.name, error))
            else:
                self.finish(call.node, Outcome(FAILED, error=failure, retryable=False), 0.0, call.attempt)
            return
        self._running[future] = call, perf_counter()
        future.add_done_callback(partial(self.call_in_loop, self._pass_on))

    def _pickled(self, call: Call) -> bytes | None:
        """Return the pickle of a function that processes of the pool cannot import; None if they can.

        Raises:
            SerializationError: it cannot be pickled.
        """
        func = call.func
        if is_importable(getattr(func, "__module__", None)) and type(_reference(func)) is _Reference:
            return None
        known = self._pickles.get(id(func))
        if known is None:
            try:
                known = self._pickles[id(func)] = func, dumps_by_value(func)
            except Exception as error:
                raise _function_error(call, error) from error
        return known[1]

    def _pass_on(self, future: Future[Any]) -> None:
        call, began = self._running.pop(future, (None, 0.0))
        if call is None:
            if (given_up := self._abandoned.pop(future, None)) is not None:
                self.session.run.end_abandoned(given_up.node, given_up.attempt)
            return
        seconds = perf_counter() - began
        if not future.cancelled() and isinstance(error := future.exception(), BrokenExecutor):
            self._is_broken = True
            result: Any = Outcome(FAILED, error=_broken_pool_error(self.name, call, error))
        else:
            result, seconds = _outcome_of(future, self.session.run, call, seconds)
            if type(result) is _NotFound:
                result = self._send_by_value(call, result)
                if result is None:
                    return
        self.finish(call.node, result, seconds, call.attempt)

    def _send_by_value(self, call: Call, missing: _NotFound) -> Outcome | None:
        """Send a call again whose function a process of the pool has not found; return an outcome if that is no use.

        The script of that process is another one: from now on, functions of the script are sent by value.
        """
        run = self.session.run
        if missing.is_importable:
            reason = f"could not be loaded in a process of the pool ({missing.reason})"
            hint = "these processes must be able to import its module, in the same version"
            error = SerializationError(call.node.name, "function", reason, hint)
            return Outcome(FAILED, error=error, retryable=False)
        if not run.may_start(call.node):
            return Outcome(CANCELLED, run.stop_reason)
        self._sends_by_value = True
        self._send(call)
        return None

    def stop_calls(self, *, end_calls: bool) -> None:
        """Cancel calls that have not started, except of clean-up tasks; end the nodes of running calls if asked.

        A running call continues in the pool; its result is ignored. The calls of a broken pool end by themselves.
        """
        run = self.session.run
        for future, (call, began) in list(self._running.items()):
            if run.may_start(call.node) or self._is_broken or future.cancel() or future.done() or not end_calls:
                continue
            del self._running[future]
            self._abandoned[future] = call
            reason = f"it was abandoned, because {run.stop_cause}"
            outcome = Outcome(CANCELLED, reason, started=True, goes_on=True)
            self.finish(call.node, outcome, perf_counter() - began, call.attempt)
        if not end_calls:
            going_on = [call.node for future, (call, _) in self._running.items() if not future.done()]
            self.session.report_running(self, going_on)


def _outcome_of(future: Future[Any], run: Run, call: Call, seconds: float) -> tuple[Any, float]:
    """Return what a future became, as a result or an :class:`Outcome`, and the seconds of the call."""
    if future.cancelled():
        if run.stopping:
            return Outcome(CANCELLED, run.stop_reason), 0.0
        return Outcome(FAILED, error=RuntimeError("the pool cancelled the call")), 0.0
    error = future.exception()
    if error is not None:  # not one of the task, which would be the result of the future
        failure = _argument_error(call, error) or _result_error(call, error)
        return Outcome(FAILED, error=failure or error, retryable=failure is None), seconds
    returned = future.result()
    value, seconds, notes, worker = returned
    returned.clear()  # frames of the pool's thread have it, and the traceback of an error has them: a reference cycle
    run.note_worker(call.node, *worker)
    try:
        if notes and (context := call.context()) is not None:
            for key, note in notes.items():
                context.remember(key, note)
    except Exception as error:  # of the store
        return Outcome(FAILED, error=error), seconds
    if type(value) is not _Raised:
        return value, seconds
    # there is no sign of when an attempt that another process has abandoned ends: it keeps its slots of pools
    goes_on = isinstance(value.error, TaskTimeoutError) and value.error.fate == "abandoned"
    return Outcome(FAILED, error=value.error, goes_on=goes_on and call.timeout is not None), seconds


def _pickles_by_name(pool: Any) -> bool:
    """Return whether a pool is known to send functions with pickle, and not with cloudpickle."""
    module = sys.modules.get("concurrent.futures.process")
    return module is not None and isinstance(pool, module.ProcessPoolExecutor)


def _pool_error(name: str, error: Exception) -> ExecutorError:
    failed = ExecutorError(f"the pool of executor {name!r} takes no more calls: {describe_error(error)}")
    failed.__cause__ = error
    return failed


def _broken_pool_error(name: str, call: Call, error: BaseException) -> ExecutorError:
    failed = ExecutorError(
        f"the pool of executor {name!r} broke before {call.node.name!r} had ended, and a pool does not report which "
        f"call is the cause ({describe_error(error)}): executor='process' does, and replaces workers that die"
    )
    failed.__cause__ = error
    return failed


def _result_error(call: Call, error: BaseException) -> SerializationError | None:
    """Return the error of a call whose result a pool cannot send back; None for another error of the pool."""
    import pickle

    if not isinstance(error, (pickle.PicklingError, TypeError, AttributeError)):
        return None
    from .process.serialization_errors import result_hint

    described = describe_error(error)
    reason = f"cannot be sent back by the pool ({described})"
    is_generator = "'generator'" in described  # the text is all that a pool sends of the result
    failure = SerializationError(call.node.name, "result", reason, result_hint(call.node, is_generator=is_generator))
    failure.__cause__ = error
    return failure


def _argument_error(call: Call, error: BaseException) -> SerializationError | None:
    """Return the error of a call that a pool has refused because it cannot be pickled; None for another reason."""
    import pickle

    if not isinstance(error, (pickle.PicklingError, TypeError, AttributeError)):
        return None
    what = "function"
    try:
        pickle.dumps(_reference(call.func))
        what = "argument"
        pickle.dumps((call.args, call.kwargs))
    except Exception:
        hint = "pass plain data between tasks, or use executor='thread'"
        failure = SerializationError(
            call.node.name, what, f"cannot be sent by the pool ({describe_error(error)})", hint
        )
        failure.__cause__ = error
        return failure
    return None


def _function_error(call: Call, error: Exception) -> SerializationError:
    """Return the error for a function of the script that cannot be sent by value."""
    if isinstance(error, ModuleNotFoundError):
        reason = "is a part of the script, which the processes of the pool do not execute"
        hint = "move it to the top level of a module, or install cloudpickle, or use executor='thread'"
        return SerializationError(call.node.name, "function", reason, hint)
    reason = find_unpicklable(call.func) or f"cannot be pickled ({describe_error(error)})"
    return SerializationError(call.node.name, "function", reason, CREATE_HINT)


class _Invocation:
    """A call for a pool. In this process, the function sees the context variables of the caller of ``run()``.

    Args:
        call: the call.
        context: the context.
        data: pickle of the function; None if it is sent by name, or as the pool pickles it.
        pickles_by_name: whether the pool is known to use pickle, and not cloudpickle.
    """

    __slots__ = ("_call", "_context", "_data", "_pickles_by_name")

    def __init__(self, call: Call, context: Context, data: bytes | None, pickles_by_name: bool) -> None:
        self._call = call
        self._context = context
        self._data = data
        self._pickles_by_name = pickles_by_name

    def __call__(self) -> Returned:
        return self._context.run(self._invoke)

    def _invoke(self) -> Returned:
        """Make the call in this process, once."""
        began = perf_counter()
        returned = [self._call.invoke()]
        del self._call  # the pool has this object, and an element has the run: see `_outcome_of`
        returned += perf_counter() - began, {}, (current_thread().name, None, None)
        return returned

    def __reduce__(self) -> Any:
        call = self._call
        context = call.context()
        carried = CarriedContext(context) if context is not None else None
        func = _reference(call.func) if self._data is None else _Pickled(self._data, is_importable=True)
        if func is call.func and not self._pickles_by_name:
            with suppress(Exception):  # the pool may know more
                func = _Pickled(dumps_by_value(func), is_importable=True)
        return partial, (_invoke, func, call.args, call.kwargs, call.node.name, call.timeout, carried)


def _invoke(*facts: Any) -> Returned:
    """Make a call in a process of the pool, in a context of its own."""
    return copy_context().run(_invoke_here, *facts)


def _invoke_here(
    func: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    task: str,
    timeout: float | None,
    carried: CarriedContext | None,
) -> Returned:
    """Return the result of a call, or what it raised, its duration, its notes, and where it was made."""
    notes = carried.enter(timeout).made if carried is not None else {}
    began = perf_counter()
    value: Any
    if isinstance(func, (_Reference, _Pickled)):
        func = func.found()
    if type(func) is _NotFound:
        value = func
    else:
        call = partial(_result, func, args, kwargs)
        try:
            value = call() if timeout is None else call_in_time(call, task, timeout)
        except BaseException as error:
            value = _Raised(error, task)
    from platform import node as host_name

    pid = os.getpid()
    return [value, perf_counter() - began, notes, (f"process {pid}", pid, host_name())]


def _result(
    func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], limit: TimeLimit | None = None
) -> Any:
    value = func(*args, **kwargs)
    if type(value) is CoroutineType:
        value = run_coroutine(value) if limit is None else limit.run_coroutine(value)
    return value


class _Raised:
    """An exception that a call raised. Any exception can be pickled in it; a pool breaks if it cannot unpickle one."""

    __slots__ = ("error", "task")

    def __init__(self, error: BaseException, task: str) -> None:
        self.error = error
        self.task = task

    def __reduce__(self) -> Any:
        from .process.exception_transport import pack_error

        return _unpickled, (pack_error(self.error), self.task)


def _unpickled(packed: bytes, task: str) -> _Raised:
    from .process.exception_transport import unpack_error

    return _Raised(unpack_error(packed, task), task)


class _NotFound:
    """Result of a call that was not made, because a process of the pool does not have its function.

    Args:
        reason: why.
        is_importable: whether it should have it: the function is not a part of the script.
    """

    __slots__ = ("is_importable", "reason")

    def __init__(self, reason: str, is_importable: bool) -> None:
        self.reason, self.is_importable = reason, is_importable

    def __reduce__(self) -> Any:
        return type(self), (self.reason, self.is_importable)


class _Reference:
    """A function of a module or of the script, by name: the name may refer to the task of the function there.

    Args:
        module: name of the module.
        qualname: qualified name of the function.
        identity: what distinguishes it from another function of the name; None for one of a module.
    """

    __slots__ = ("identity", "module", "qualname")

    def __init__(self, module: str, qualname: str, identity: Any) -> None:
        self.module, self.qualname, self.identity = module, qualname, identity

    def __reduce__(self) -> Any:
        return type(self), (self.module, self.qualname, self.identity)

    def found(self) -> Any:
        """Return the function, or a `_NotFound`: the script of a process may be another one."""
        try:
            found = _found(import_module(self.module), self.qualname)
        except Exception as error:
            return _NotFound(describe_error(error), is_importable(self.module))
        if found is None or (self.identity is not None and self.identity != _identity(found)):
            return _NotFound(f"module {self.module!r} has no such {self.qualname!r}", is_importable(self.module))
        return found


class _Pickled:
    """A function as a pickle, which the call loads: a pool breaks if it cannot unpickle what it gets.

    Args:
        data: the pickle.
        is_importable: whether each process should be able to load it: it does not refer to the script by name.
    """

    __slots__ = ("data", "is_importable")

    def __init__(self, data: bytes, is_importable: bool) -> None:
        self.data, self.is_importable = data, is_importable

    def __reduce__(self) -> Any:
        return type(self), (self.data, self.is_importable)

    def found(self) -> Any:
        """Return the function, or a `_NotFound`."""
        import pickle

        try:
            return pickle.loads(self.data)
        except Exception as error:
            return _NotFound(describe_error(error), self.is_importable)


def _reference(func: Callable[..., Any]) -> Any:
    """Return a function by its name, if it can be found by that; or as a pickle; else the function."""
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    found = sys.modules.get(module) if isinstance(module, str) else None
    if found is not None and module and qualname and _found(found, qualname) is func:
        return _Reference(module, qualname, None if is_importable(module) else _identity(func))
    import pickle

    try:
        data = pickle.dumps(func)
        return _Pickled(data, is_importable=b"__main__" not in data)
    except Exception:
        return func


def _identity(func: Any) -> Any:
    """Return what distinguishes a function of a script from a function of another script."""
    from .process.functions.function_references import code_identity

    return code_identity(func) or type(func).__name__


def _pickling_error(func: Callable[..., Any]) -> Exception | None:
    """Return the exception that a pool gets when it pickles a function; None if there is none."""
    import pickle

    try:
        pickle.dumps(_reference(func))
    except Exception as error:
        return error
    return None


def _found(module: Any, qualname: str) -> Any:
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found.func if isinstance(found, Task) else found
