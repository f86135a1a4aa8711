"""Function `recorded`: recorded results of a run as stand-ins for its tasks, for tests."""

from __future__ import annotations

from collections.abc import Mapping

from flowkit_core._checks import checked_names
from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import find
from flowkit_core.errors import Skip

from .faults import SimulatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flowkit_core._typing import Any


class RecordedTasks(Mapping[str, "Callable[..., Any]"]):
    """Stand-ins for the tasks of a recorded run, by name: what :func:`recorded` returns.

    Each is a function that takes any arguments and returns the recorded result, a new object at each call; the one of a
    skipped task raises :class:`Skip`. Tasks without a recorded outcome have none.

    The one of a mapped task, called for an element, returns the result of the element with this number. For one that
    was skipped it raises :class:`Skip`, and for one that failed :class:`SimulatedError`.
    """

    def __init__(self, run: Any, names: Iterable[str]) -> None:
        self._run = run
        self._functions = {name: _stand_in(run.tasks[name]) for name in names}

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """Return the stand-in for a task.

        Raises:
            KeyError: there is none; the message has the reason.
        """
        found = self._functions.get(name)
        if found is None:
            raise KeyError(f"there is no stand-in for task {name!r}: {_reason(self._run, name)}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        return f"<RecordedTasks of run {self._run.run_id}: {', '.join(self._functions) or 'none'}>"


def recorded(run: Any, *, only: Iterable[str] | None = None, skip: Iterable[str] = ()) -> RecordedTasks:
    """Return recorded results of a run as stand-ins for its tasks, for ``simulate(functions=...)`` and ``Task(...)``.

    A test can so run some tasks of a pipeline, with the inputs that they had in a real run, without calling the tasks
    upstream of them. Tasks that failed in the recorded run have no stand-in, and so are called.

    Args:
        run: the record of a run: a ``flowkit_state.RunRecord``, such as ``StateManager.run(run_id)``. Its store must be
            open when a stand-in is called.
        only: names of the tasks to stand in for; None means all that succeeded or were skipped.
        skip: names of tasks that are called themselves.

    Returns:
        The :class:`RecordedTasks`, a mapping of names to functions.

    Raises:
        TypeError: ``run`` is not the record of a run, or names are given as one str.
        ValueError: the run has no task of a name; or one of ``only`` has neither a result nor was skipped.

    Examples:
        >>> from flowkit_core import DAG, Task
        >>> from flowkit_core.testing import recorded, simulate
        >>> from flowkit_state import StateManager
        >>> extract, load = Task(lambda: [3, 1, 2], name="extract"), Task(len, name="load")
        >>> _ = extract >> load
        >>> dag = DAG("etl", tasks=[load])
        >>> with StateManager() as state:
        ...     run_id = dag.run("serial", state=state).run_id
        ...     functions = recorded(state.run(run_id), skip=["load"])
        ...     print(functions, functions["extract"]())
        ...     simulate(dag, functions=functions).results["load"]
        <RecordedTasks of run ...: extract> [3, 1, 2]
        3
    """
    tasks: Any = getattr(run, "tasks", None)
    if not isinstance(tasks, Mapping) or not hasattr(run, "run_id"):
        raise TypeError(
            f"recorded() takes the record of a run, and got {short_repr(run)}: write state.run(run_id), "
            f"or state.runs('name of the pipeline')[0]"
        )
    left_out = checked_names("recorded(skip=...)", skip, run.tasks, "the run")
    if only is None:
        names = [name for name, task in tasks.items() if task.state in _WITH_OUTCOME]
    else:
        names = checked_names("recorded(only=...)", only, run.tasks, "the run")
        for name in names:
            if tasks[name].state not in _WITH_OUTCOME:
                raise ValueError(f"recorded(only=...) names {name!r}, but {_reason(run, name)}")
    return RecordedTasks(run, [name for name in names if name not in left_out])


_WITH_OUTCOME = ("succeeded", "skipped")


def _reason(run: Any, name: str) -> str:
    task = run.tasks.get(name)
    if task is None:
        return f"the run has no such task{did_you_mean(str(name), list(run.tasks))}"
    if task.state in _WITH_OUTCOME:
        return "recorded() has left it out"
    return f"it is {task.state.replace('_', ' ')} in run {run.run_id}, and so has no recorded result"


def _stand_in(task: Any) -> Callable[..., Any]:
    def stand_in(*_args: Any, **_kwargs: Any) -> Any:
        if task.state == "skipped":
            raise Skip(task.reason)
        context = find()
        if task.elements is not None and context is not None and context.element is not None:
            return _of_element(task, context.element)
        return task.result()

    stand_in.__name__ = stand_in.__qualname__ = task.name
    stand_in.__doc__ = f"Return the recorded result of task {task.name!r}."
    return stand_in


def _of_element(task: Any, number: int) -> Any:
    """Return the recorded result of an element of a mapped task, or raise what its outcome was."""
    state = task.elements.states.get(number)
    if state == "skipped":
        raise Skip(task.elements.skipped[number])
    if state == "failed":
        error = task.elements.failed[number]
        raise SimulatedError(f"'{task.name}[{number}]' failed in the recorded run: {error.type}: {error.message}")
    return task.elements.result(number)
