"""Class `Invocation`: one call as a worker gets it. It runs with the condition and the time limit of the task."""

from __future__ import annotations

import pickle
import platform
import sys
from contextvars import copy_context
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import TYPE_CHECKING, Any

from distributed import get_worker
from distributed.protocol import serialize

from flowkit_core import Outcome, SerializationError
from flowkit_core.coroutines import CoroutineType, run_coroutine
from flowkit_core.failures import refuse_skip
from flowkit_core.runs.call import Condition
from flowkit_core.runs.states import FAILED as FAILED_STATE
from flowkit_core.runs.states import SKIPPED as SKIPPED_STATE
from flowkit_core.runs.time_limit import Abandonment, TimeLimit, call_in_time

from .code_versions import CodeMismatchError
from .envelope import enclosed, opened
from .errors import CallFailedError, WorkerMismatchError, pack_error, summary
from .pickling import loads_function
from .reporter import ENDED_LATE, FAILED, RETURNED, SKIPPED, SKIPPED_IN_CALL, SUCCEEDED, reporter_of
from .worker_logs import forwarded_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from flowkit_core.runs.context_transfer import CarriedContext

    from .reporter import Reporter

MAX_INLINE = 1 << 16
"""Bytes of an argument, or of the pickle of a function, up to which it is sent with each call, and not once.

The result of an element stays on the cluster if it has more.
"""
MAX_CHECKED = 1 << 20
"""Bytes of a result up to which a worker checks that it can be pickled."""
_ALWAYS_PICKLABLE = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))


class NoResult:
    """Result on the cluster of a call that has no result: its task is skipped, or the call was not made."""


class Slot:
    """Placeholder among the arguments of a call for a value on the cluster.

    Args:
        number: number of the value.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return Slot, (self.number,)


class SlotList:
    """Placeholder among the arguments of a call for a list, some of whose items are on the cluster.

    Args:
        items: the items, or slots.
    """

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __reduce__(self) -> Any:
        return SlotList, (self.items,)


@cache
def own_environment() -> tuple[str, str]:
    """Return the versions that must be the same on workers and on the client: of Python and of flowkit-dask."""
    try:
        own = version("flowkit-dask")
    except PackageNotFoundError:  # a frozen application, or sources that are not installed
        own = "of an unknown version"
    return f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]}", own


class Invocation:
    """One call of a task, for a worker. Dask calls it with the values that :class:`Slot` objects stand for.

    Args:
        environment: what :func:`own_environment` returns on the client.
        run: key of the run.
        topic: topic of reports.
        ticket: number of the call.
        task: name of the task.
        func: pickle of the function; None if it is the first value.
        condition: pickle of the condition; None if there is none.
        args: pickle of positional and keyword arguments of the function and of the condition; None if the values are
            the positional arguments.
        timeout: seconds that the attempt may take; None means no limit.
        context: pickle of the context of the call.
        is_cleanup: whether the task runs also if the run is stopped.
        is_suspect: whether workers have died that had the call, without a report that it had started: its arrival is
            reported.
        reports_late: whether the report that it has succeeded may wait for others: see `Reporter`.
        probe: pickle of a function that is called with the result; what it returns is reported. None if there is none.
        logs: from `logging_of_client`; None if log records are not sent to the client.
    """

    __slots__ = (
        "args",
        "condition",
        "context",
        "environment",
        "func",
        "is_cleanup",
        "is_suspect",
        "logs",
        "probe",
        "reports_late",
        "run",
        "task",
        "ticket",
        "timeout",
        "topic",
    )

    def __new__(cls, environment: tuple[str, str], *_facts: Any) -> Self:
        """Check the versions when a worker unpickles the call: other versions may have other arguments.

        Raises:
            WorkerMismatchError: the worker has other versions.
        """
        if environment != own_environment():
            theirs, ours = " and flowkit-dask ".join(own_environment()), " and flowkit-dask ".join(environment)
            raise WorkerMismatchError(f"the worker {get_worker().address} has {theirs}, and the client has {ours}")
        return super().__new__(cls)

    def __init__(
        self,
        environment: tuple[str, str],
        run: str,
        topic: str,
        ticket: int,
        task: str,
        func: bytes | None,
        condition: bytes | None,
        args: bytes | None,
        timeout: float | None,
        context: bytes,
        is_cleanup: bool,
        is_suspect: bool,
        probe: bytes | None,
        logs: bytes | None,
        reports_late: bool = False,
    ) -> None:
        self.environment, self.run, self.topic, self.ticket = environment, run, topic, ticket
        self.task, self.func, self.condition, self.args = task, func, condition, args
        self.timeout, self.context, self.is_cleanup, self.is_suspect = timeout, context, is_cleanup, is_suspect
        self.probe, self.logs, self.reports_late = probe, logs, reports_late

    def __reduce__(self) -> Any:
        first = self.environment, self.run, self.topic, self.ticket, self.task, self.func, self.condition
        rest = self.args, self.timeout, self.context, self.is_cleanup, self.is_suspect, self.probe, self.logs
        return type(self), (*first, *rest, self.reports_late)

    def __call__(self, *values: Any) -> Any:
        """Make the call on a worker; return its result, or a :class:`NoResult`.

        Raises:
            CallFailedError: the call, or what comes before and after it, has raised an exception.
        """
        reporter = reporter_of(get_worker(), self.topic)
        if not reporter.may_start(self) or any(type(value) is NoResult for value in values):
            reporter.end(self, RETURNED)
            return NoResult()
        if self.is_suspect:
            reporter.report_arrival(self)
        with forwarded_records(self.logs, partial(reporter.log, self)):
            return copy_context().run(self._invoke, reporter, [opened(value) for value in values])

    def _invoke(self, reporter: Reporter, values: list[Any]) -> Any:
        """Make the call in a context of its own, and report how it ends."""
        notes: dict[str, Any] = {}
        error: BaseException | None = None  # handled outside of ``except``: no context of the exception that Dask gets
        try:
            call, condition, carried = self._load(values)
        except SerializationError as raised:
            error = raised
        if error is not None:
            return self._end(reporter, Outcome(FAILED_STATE, error=error, retryable=False), 0.0, notes)
        if condition is not None:
            notes = carried.enter().made
            outcome = condition.outcome(self.task)
            if outcome is not None:
                return self._end(reporter, outcome, 0.0, notes)
        if not reporter.start(self):
            reporter.end(self, RETURNED)
            return NoResult()
        made = carried.enter(self.timeout).made
        abandonment = Abandonment(partial(reporter.end, self, ENDED_LATE))
        began = perf_counter()
        value: Any = None
        try:
            value = call() if self.timeout is None else call_in_time(call, self.task, self.timeout, abandonment)
            seconds = perf_counter() - began
            check_result(self.task, value)
        except BaseException as raised:
            error, seconds = raised, perf_counter() - began
        if error is not None:
            outcome = Outcome(FAILED_STATE, error=error)
            return self._end(reporter, outcome, seconds, notes | made, is_started=True)
        answer = None if self.probe is None else _answer(self.probe, value)
        reporter.end(self, SUCCEEDED, seconds, _packed(notes | made, answer))
        return enclosed(value)

    def _load(self, values: list[Any]) -> tuple[Callable[..., Any], Condition | None, CarriedContext]:
        """Return the function with its arguments, the condition, and the context.

        Raises:
            SerializationError: one of them cannot be unpickled here.
        """
        carried: CarriedContext = pickle.loads(self.context)
        what = "function"
        try:
            func = loads_function(values.pop(0) if self.func is None else self.func)
            when = loads_function(self.condition) if self.condition is not None else None
            what = "argument"
            if self.args is None:
                return partial(_result, func, values, {}), None, carried
            args, kwargs, when_args, when_kwargs = pickle.loads(self.args)
        except BaseException as error:
            raise load_error(self.task, what, error) from error
        call = partial(_result, func, filled(args, values), filled_by_name(kwargs, values))
        if when is None:
            return call, None, carried
        return call, Condition(when, filled(when_args, values), filled_by_name(when_kwargs, values)), carried

    def _end(
        self, reporter: Reporter, outcome: Outcome, seconds: float, notes: dict[str, Any], *, is_started: bool = False
    ) -> NoResult:
        """Report a call without a result.

        Args:
            reporter: the reporter.
            outcome: how it ended: skipped or failed.
            seconds: duration of the call.
            notes: the notes of the task.
            is_started: whether the function was called.

        Raises:
            CallFailedError: it has failed.
        """
        outcome = outcome.or_skip()
        if outcome.state == SKIPPED_STATE:
            reporter.end(self, SKIPPED_IN_CALL if is_started else SKIPPED, seconds, outcome.reason)
            return NoResult()
        error = outcome.error if outcome.error is not None else RuntimeError("there is no exception")
        failed = CallFailedError(pack_error(error), outcome.retryable, f"task {self.task!r} raised {summary(error)}")
        reporter.end(self, FAILED, seconds, _packed(notes))
        raise failed


def _result(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], limit: TimeLimit | None = None
) -> Any:
    value = func(*args, **kwargs)
    if type(value) is CoroutineType:
        value = run_coroutine(value) if limit is None else limit.run_coroutine(value)
    return value


def filled(args: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return arguments with values in place of slots."""
    return [_filled(arg, values) for arg in args]


def filled_by_name(args: Mapping[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """Return keyword arguments with values in place of slots."""
    return {name: _filled(arg, values) for name, arg in args.items()}


def _filled(arg: Any, values: Sequence[Any]) -> Any:
    if type(arg) is SlotList:
        return filled(arg.items, values)
    return values[arg.number] if type(arg) is Slot else arg


def condition_is_true() -> bool:
    """Return True: the function of a call that evaluates a condition only."""
    return True


def is_large(value: Any) -> bool:
    """Return whether the result of an element is so large that it stays on the cluster."""
    from dask.sizeof import sizeof

    return bool(sizeof(value) > MAX_INLINE)


def _answer(probe: bytes, value: Any) -> Any:
    """Return what a function returns for a result; None if it raises, or if this worker cannot import it."""
    try:
        return loads_function(probe)(value)
    except Exception:
        return None


def _packed(notes: dict[str, Any], answer: Any = None) -> bytes | None:
    return pickle.dumps((notes, answer)) if notes or answer is not None else None


def check_result(task: str, value: Any) -> None:
    """Check that a result can be sent to another worker, unless it is large, which would take long.

    Raises:
        SerializationError: it cannot be pickled.
        TypeError: it is a `Skip`, which must be raised.
    """
    if type(value) in _ALWAYS_PICKLABLE:
        return
    refuse_skip(task, value)
    from dask.sizeof import sizeof

    try:
        if sizeof(value) > MAX_CHECKED:
            return
        serialize(enclosed(value), on_error="raise")
    except Exception as error:
        reason = f"is a {type(value).__name__}, which cannot be pickled ({summary(error)})"
        raise SerializationError(task, "result", reason, "return plain data, or use executor='thread'") from None


def load_error(task: str, what: str, error: BaseException) -> SerializationError:
    """Return the error for a function or an argument that cannot be unpickled on this worker."""
    address = get_worker().address
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
        return SerializationError(
            task,
            what,
            f"needs the module {error.name!r}, which the worker {address} cannot import",
            f"install it on all workers, or send it to them: client.upload_file('{name}.py') for a file, or "
            f"cloudpickle.register_pickle_by_value({name}) before run()",
        )
    if isinstance(error, CodeMismatchError):
        name = error.module
        return SerializationError(
            task,
            what,
            f"uses {', '.join(map(repr, error.names))} of the module {name!r}, which the worker {address} has in "
            f"another version than the process that calls run()",
            f"send the new version to all workers: client.upload_file('{name}.py') for a file, or "
            f"cloudpickle.register_pickle_by_value({name}) before run(), or install it there and restart them",
        )
    hint = "workers must have the same versions of the code and its libraries as the process that calls run()"
    return SerializationError(task, what, f"could not be unpickled on the worker {address} ({summary(error)})", hint)
