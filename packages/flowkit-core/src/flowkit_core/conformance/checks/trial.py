"""Class `Check`: one check of executors; class `Trial`: what a check works with; functions that compare."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.failures import describe_error
from flowkit_core.pipelines.dag import DAG
from flowkit_core.pipelines.task import Task

from . import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core._typing import Any
    from flowkit_core.executors.executor import Executor
    from flowkit_core.pipelines.wiring import Mapped
    from flowkit_core.results import Results

LIMIT = 300
"""Maximum length of a value in a message, in characters."""

CHECKS: dict[str, Check] = {}
"""Name -> check, in the order in which they run."""


class Check:
    """One check.

    Attributes:
        name: its name, that of its function.
        function: takes a :class:`Trial`; raises an exception if the check fails.
        meaning: what it checks, in one sentence.
        needs: ``"lane"``: an executor with ``lane()``; ``"local"``: one whose calls see the objects of this process;
            ``"state"``: a store; ``"history"``: one with the methods of ``StateManager``; empty: nothing.
    """

    def __init__(self, function: Callable[[Trial], None], needs: str) -> None:
        self.name = function.__name__
        self.function = function
        self.meaning = (function.__doc__ or "").strip().splitlines()[0]
        self.needs = needs

    def applies_to(self, trial: Trial) -> bool:
        """Return whether the check applies to an executor."""
        if self.needs == "lane":
            return callable(getattr(trial.executor, "lane", None))
        if self.needs == "local":
            return trial.is_local()
        if self.needs == "history":
            return hasattr(trial.state, "runs")
        return self.needs != "state" or trial.state is not None


def check(needs: str = "") -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Return a decorator that adds a function to the checks."""

    def add(function: Callable[[Trial], None]) -> Callable[[Trial], None]:
        CHECKS[function.__name__] = Check(function, needs)
        return function

    return add


class Trial:
    """What one check works with.

    Args:
        factory: returns a new executor.
        folder: an empty folder.
        state: a store; None if there is none.

    Attributes:
        factory: see above.
        executor: a new executor.
        path: a file in the folder that does not exist, as a str.
        state: see above.
    """

    def __init__(self, factory: Callable[[], Executor], folder: str, state: Any = None) -> None:
        self.factory = factory
        self.executor = factory()
        self.path = os.path.join(folder, "calls")
        self.state = state

    def run(self, *ends: Task[..., Any] | Mapped[..., Any], **options: Any) -> Results:
        """Run tasks and the tasks upstream of them on the executor."""
        return run_on(self.executor, *ends, **options)

    def raised(self, kind: type[BaseException], *ends: Task[..., Any] | Mapped[..., Any], **options: Any) -> Any:
        """Run tasks; return the exception of a type that ``run()`` raises."""
        try:
            results = self.run(*ends, **options)
        except kind as error:
            return error
        except Exception as error:
            raise MismatchError("run() raises", kind.__name__, describe_error(error)) from error
        raise MismatchError(
            "run() raises", kind.__name__, f"it returned {_text(results)}, with states {results.states}"
        )

    def calls(self) -> int:
        """Return how many calls have counted themselves in the file."""
        return Path(self.path).stat().st_size if os.path.exists(self.path) else 0

    def is_local(self) -> bool:
        """Return whether calls see the objects of this process."""
        tasks.MARK = uuid.uuid4().hex
        return bool(self.run(Task(tasks.read_mark))["read_mark"] == (os.getpid(), tasks.MARK))


def run_on(executor: Any, *ends: Task[..., Any] | Mapped[..., Any], **options: Any) -> Results:
    """Run tasks and the tasks upstream of them."""
    return DAG("check", tasks=ends).run(executor, **options)


class MismatchError(AssertionError):
    """Something is not as it should be.

    Args:
        what: the thing.
        expected: what it should be.
        happened: what it is.
    """

    def __init__(self, what: str, expected: str, happened: str) -> None:
        super().__init__(f"{what}\n    expected: {expected}\n    happened: {happened}")


def expect(what: str, happened: Any, expected: Any) -> None:
    """Raise MismatchError unless two values are equal."""
    if happened != expected:
        raise MismatchError(what, _text(expected), _text(happened))


def expect_true(what: str, condition: Any, expected: str, happened: Any) -> None:
    """Raise MismatchError unless a condition is true."""
    if not condition:
        raise MismatchError(what, expected, happened if isinstance(happened, str) else _text(happened))


def notes_of(error: BaseException) -> str:
    """Return all notes of an exception as one text."""
    return "\n".join(getattr(error, "__notes__", ()))


def _text(value: Any) -> str:
    return short_repr(value, LIMIT)
