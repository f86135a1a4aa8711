"""Function `check_executor`: runs the checks, and reports all that fail."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from threading import Thread

from flowkit_core._text import did_you_mean, escape_control_chars, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.failures import describe_error

from .checks import (  # noqa: F401 - they define the checks
    async_tasks,
    contexts,
    decisions,
    events,
    failures,
    lanes,
    limits,
    mapping,
    pipeline_tasks,
    records,
    timeouts,
    values,
    whole_runs,
)
from .checks.trial import CHECKS, MismatchError, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flowkit_core._typing import Any
    from flowkit_core.executors.executor import Executor

    from .checks.trial import Check


def executor_checks() -> tuple[str, ...]:
    """Return the names of all checks of :func:`check_executor`, in the order in which they run."""
    return tuple(CHECKS)


def check_executor(
    factory: Callable[[], Executor],
    *,
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    state: Any = None,
    timeout: float | None = 60.0,
) -> tuple[str, ...]:
    """Check that an executor does what flowkit expects of every executor.

    Each check gets a new executor, runs small pipelines on it, and closes it. All checks run, also if some fail. Checks
    that do not apply are left out: those of lanes, if the executor has no ``lane()``; those of objects of this process,
    if its calls run elsewhere; those of recorded runs, without ``state``.

    The functions that the pipelines call are in a module of flowkit, so workers must be able to import flowkit. Those
    that count their attempts write to a file in the temporary folder, which workers must share: see
    :func:`tempfile.gettempdir`.

    Args:
        factory: returns a new executor; called without arguments, once per check.
        only: names of the checks to run, see :func:`executor_checks`; None means all.
        skip: names of checks to leave out.
        state: a store for the checks of recorded runs and caches, such as a ``StateManager``.
        timeout: seconds that one check may take. Each check runs in a thread of its own, which is abandoned after that
            time; with None, checks run in the calling thread, without a limit.

    Returns:
        The names of the checks that passed.

    Raises:
        AssertionError: checks failed. The message lists each with what it expected and what happened; its cause is a
            group of the exceptions that they raised.
        ValueError: there is no check of a name in ``only`` or ``skip``.

    Examples:
        >>> from flowkit_core import SerialExecutor
        >>> from flowkit_core.testing import check_executor
        >>> passed = check_executor(SerialExecutor)
        >>> "chain_passes_each_result_on" in passed
        True
    """
    chosen = _known(executor_checks() if only is None else only)
    skipped = _known(skip)
    passed: list[str] = []
    failed: dict[str, BaseException] = {}
    with _failures_not_printed():
        for name in chosen:
            if name in skipped:
                continue
            try:
                if _run(CHECKS[name], factory, state, timeout):
                    passed.append(name)
            except Exception as error:
                failed[name] = error
    if failed:
        raise AssertionError(_report(factory, passed, failed)) from BaseExceptionGroup(
            "exceptions of the checks", list(failed.values())
        )
    return tuple(passed)


@contextmanager
def _failures_not_printed() -> Iterator[None]:
    """Add a handler that drops records: runs print what they wait for after a failure where no handler takes it."""
    logger, handler = logging.getLogger("flowkit"), _DroppingHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _DroppingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Drop the record."""


def _known(names: Iterable[str]) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if name not in CHECKS:
            raise ValueError(
                f"there is no check {short_repr(name)}{did_you_mean(str(name), CHECKS)}: executor_checks() returns the "
                f"names of all checks"
            )
    return listed


def _run(check: Check, factory: Callable[[], Executor], state: Any, timeout: float | None) -> bool:
    """Run one check; return whether it applies.

    Raises:
        Exception: the check failed.
    """
    ended: list[bool | BaseException] = []

    def work() -> None:
        try:
            ended.append(_run_here(check, factory, state))
        except BaseException as error:
            ended.append(error)

    if timeout is None:
        work()
    else:
        thread = Thread(target=work, name=f"check {check.name}", daemon=True)
        thread.start()
        thread.join(timeout)
        if not ended:
            raise MismatchError("end", f"it ends within {timeout:g} s", f"it goes on; {_place(thread)}")
    (outcome,) = ended
    if outcome is True or outcome is False:
        return outcome
    if isinstance(outcome, Exception):
        raise outcome
    raise RuntimeError(f"run() raised {describe_error(outcome)} unexpectedly") from outcome


def _run_here(check: Check, factory: Callable[[], Executor], state: Any) -> bool:
    with TemporaryDirectory(prefix="flowkit-check-", ignore_cleanup_errors=True) as folder:
        trial = Trial(factory, folder, state)
        try:
            if not check.applies_to(trial):
                return False
            check.function(trial)
        finally:
            trial.executor.close()
    return True


def _place(thread: Thread) -> str:
    """Return which line a thread is executing."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "its thread has ended"
    lines = [f"{entry.filename}:{entry.lineno} in {entry.name}" for entry in traceback.extract_stack(frame)[-3:]]
    return "its thread executes " + ", called by ".join(reversed(lines))


def _report(factory: Any, passed: list[str], failed: dict[str, BaseException]) -> str:
    name = getattr(factory, "__qualname__", None) or short_repr(factory)
    lines = [f"{len(failed)} of {len(passed) + len(failed)} checks of the executor of {name} failed"]
    for check, error in failed.items():
        lines.append(f"\n* {check}: {CHECKS[check].meaning}")
        if isinstance(error, MismatchError):
            lines.append(f"  {error}")
        else:
            lines.append(f"  raised {escape_control_chars(describe_error(error))}")
    return "\n".join(lines)
