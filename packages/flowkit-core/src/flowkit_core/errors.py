"""Every exception of flowkit, in one place.

Each has :class:`FlowkitError` as its root and a familiar built-in class as second parent, builds its sentence from
facts, keeps the facts as attributes, and survives pickling (it may cross a process boundary). A sentence is one line,
whatever a name in it contains: see :func:`plain`.
"""

from __future__ import annotations

from ._text import escape_control_chars, short_repr
from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._typing import Any


class FlowkitError(Exception):
    """The root of every error that flowkit itself raises.

    Errors raised by your own tasks are never wrapped in it: they reach you as they are.
    """

    def __init__(self, *facts: Any) -> None:
        super().__init__(escape_control_chars(self.describe(*facts)))
        self._facts = facts

    def describe(self, *facts: Any) -> str:
        """Return the sentence for these facts."""
        return " ".join(map(str, facts))

    def __reduce__(self) -> tuple[Callable[..., FlowkitError], tuple[Any, ...], dict[str, Any]]:
        return type(self), self._facts, self.__dict__


class TaskOptionError(FlowkitError, ValueError):
    """A task option has a value outside its range. Raised where the option is written.

    Attributes:
        task: name of the task.
        option: name of the option.
        value: what was given.
        allowed: what would be accepted.
    """

    def __init__(self, task: str, option: str, value: Any, allowed: str) -> None:
        self.task, self.option, self.value, self.allowed = task, option, value, allowed
        super().__init__(task, option, value, allowed)

    def describe(self, task: str, option: str, value: Any, allowed: str) -> str:
        """Return the sentence for these facts."""
        return f"task {task!r}: {option} is {short_repr(value)}, but must be {allowed}"


class TaskOptionTypeError(TaskOptionError, TypeError):
    """A task option has a value of the wrong type. Raised where the option is written."""


class DAGCycleError(FlowkitError, ValueError):
    """The wiring runs in a circle, so no task of it could ever be first. Raised when the graph is built.

    Attributes:
        cycle: the names along the circle; the first is repeated at the end.
    """

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        super().__init__(self.cycle)

    def describe(self, cycle: Sequence[str]) -> str:
        """Return the sentence for these facts."""
        road = list(cycle) if len(cycle) <= 12 else [*cycle[:6], f"({len(cycle) - 10} more)", *cycle[-4:]]
        return f"the tasks wait for each other in a circle: {' → '.join(road)}; take one of these edges away"


class WiringError(FlowkitError, ValueError):
    """Two tasks have contradictory edges, or the wiring refers to a task that was redefined. Raised by ``graph()``.

    Contradictory are a data edge (``a >> b``) and an order-only edge (``b.after(a)``) between the same two tasks.

    Attributes:
        pipeline: name of the pipeline.
        tasks: names of the tasks concerned, a tuple of str.

    Examples:
        >>> from flowkit_core import DAG, Task, WiringError
        >>> extract, load = Task(list, name="extract"), Task(len, name="load")
        >>> _ = extract >> load.after(extract)
        >>> try:
        ...     DAG("etl", tasks=[load]).graph()
        ... except WiringError as error:
        ...     print(error.tasks)
        ('extract', 'load')
    """

    def __init__(self, message: str, pipeline: str, tasks: Sequence[str]) -> None:
        self.pipeline, self.tasks = pipeline, tuple(tasks)
        super().__init__(message, pipeline, self.tasks)

    def describe(self, message: str, *facts: Any) -> str:
        """Return the sentence for these facts."""
        return message


class DiscoveryError(FlowkitError, RuntimeError):
    """The tasks of a ``DAG`` without ``tasks=`` cannot be found. Raised by ``graph()``.

    The DAG was created in a nested function or a lambda; the enclosing function has created tasks, but its call is not
    on the stack: it has returned, or it runs in another thread. Name the tasks: ``DAG("etl", tasks=[...])``.

    Attributes:
        pipeline: name of the pipeline.
        function: qualified name of the function that created the DAG.
        maker: qualified name of the enclosing function, which has created tasks.

    Examples:
        >>> from flowkit_core import DAG, DiscoveryError, task
        >>> def build():
        ...     @task
        ...     def extract(): return 1
        ...     return lambda: DAG("etl").graph()
        >>> try:
        ...     build()()
        ... except DiscoveryError as error:
        ...     print(error.maker)
        build
    """

    def __init__(self, pipeline: str, function: str, maker: str) -> None:
        self.pipeline, self.function, self.maker = pipeline, function, maker
        super().__init__(pipeline, function, maker)

    def describe(self, pipeline: str, function: str, maker: str) -> str:
        """Return the sentence for these facts."""
        return (
            f"cannot find the tasks of DAG {pipeline!r}: it was created in {function}, which has made no tasks and is "
            f"part of {maker}(); {maker}() has made tasks or pipelines, but its call is not on the stack here (it has "
            f"returned, or runs in another thread): name the tasks, DAG({pipeline!r}, tasks=[...])"
        )


class DuplicateTaskError(FlowkitError, ValueError):
    """Two tasks of one graph have the same name, so one result would hide the other; or one task is in it twice.

    Attributes:
        name: the name they share.
        places: where each was made, as ``file:line``; one place only, where it is one task.
        pipeline: name of the pipeline.
    """

    def __init__(self, name: str, places: Sequence[str], pipeline: str) -> None:
        self.name, self.places, self.pipeline = name, tuple(places), pipeline
        super().__init__(name, self.places, pipeline)

    def describe(self, name: str, places: Sequence[str], pipeline: str) -> str:
        """Return the sentence for these facts."""
        if len(places) == 1:
            return (
                f"{pipeline!r} has the task {name!r} already (from {places[0]}), and a task stands only once in a "
                f"pipeline: to use its function again, add {name}.with_options(name='...')"
            )
        return (
            f"{pipeline!r} has two tasks named {name!r}, one from {places[0]} and one from {places[1]}: give one "
            f"another name, with @task(name=...), or with with_options(name=...) where one function is used twice; or "
            f"say which tasks are meant, with DAG(tasks=[...]) or 'with DAG(...):'"
        )


class BindingError(FlowkitError, TypeError):
    """The results that reach a task do not fit the parameters of its function. Raised before anything runs.

    Attributes:
        task: name of the task, or None where the fault is in ``run(params=...)`` as a whole.
        parameter: the parameter concerned, or None.
        available: the upstream names that were to be used.
    """

    def __init__(
        self, message: str, task: str | None = None, parameter: str | None = None, available: Sequence[str] = ()
    ) -> None:
        self.task, self.parameter, self.available = task, parameter, tuple(available)
        super().__init__(message, task, parameter, self.available)

    def describe(self, message: str, *facts: Any) -> str:
        """Return the sentence for these facts."""
        return message


class MissingResultError(FlowkitError, KeyError):
    """Results were asked for a task that has none: it was skipped, failed, or is not there.

    Attributes:
        name: the name asked for.
        reason: why there is no result.
    """

    def __init__(self, name: Any, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(name, reason)

    def describe(self, name: Any, reason: str) -> str:
        """Return the sentence for these facts."""
        return (
            f"task {name!r} has no result: {reason}"
            if isinstance(name, str)
            else f"results[{short_repr(name)}]: {reason}"
        )

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownExecutorError(FlowkitError, ValueError):
    """No executor of that name is installed.

    Attributes:
        name: what was asked for.
        available: the names there are.
    """

    def __init__(self, name: str, available: Sequence[str], hint: str = "") -> None:
        self.name, self.available, self.hint = name, tuple(available), hint
        super().__init__(name, self.available, hint)

    def describe(self, name: str, available: Sequence[str], hint: str) -> str:
        """Return the sentence for these facts."""
        names = ", ".join(map(repr, available))
        return f"there is no executor named {name!r}; installed: {names}. {hint}".rstrip()


class SerializationError(FlowkitError, TypeError):
    """Something that has to travel between processes cannot be pickled, or cannot be rebuilt where it arrives.

    Attributes:
        task: name of the task.
        what: which part: "function", "argument" or "result".
        reason: why it cannot travel.
    """

    def __init__(self, task: str, what: str, reason: str, hint: str) -> None:
        self.task, self.what, self.reason, self.hint = task, what, reason, hint
        super().__init__(task, what, reason, hint)

    def describe(self, task: str, what: str, reason: str, hint: str) -> str:
        """Return the sentence for these facts."""
        return f"task {task!r}: its {what} {reason}; {hint}"


class WorkerDiedError(FlowkitError, RuntimeError):
    """The worker process that ran a task is gone: killed, crashed or ended by the task itself.

    Only the task it held is concerned. It counts as one failed attempt, so ``retries`` apply.

    Attributes:
        task: name of the task.
        pid: process id of the dead worker.
        exitcode: its exit code, negative for a signal.
        signal: name of the signal, such as ``"SIGKILL"``, or None.
    """

    def __init__(self, task: str, pid: int, exitcode: int | None, signal: str | None) -> None:
        self.task, self.pid, self.exitcode, self.signal = task, pid, exitcode, signal
        super().__init__(task, pid, exitcode, signal)

    def describe(self, task: str, pid: int, exitcode: int | None, signal: str | None) -> str:
        """Return the sentence for these facts."""
        how = f"was ended by {signal}" if signal else f"exited with code {exitcode}"
        if exitcode is None:  # it lives, or whoever waited for it has not said how it ended
            how = "ended in a way that is not known, or closed its connection,"
        hint = "; a task that closes all file descriptors does the latter" if exitcode is None else ""
        if signal == "SIGKILL":
            hint = "; if nobody killed it, the machine probably ran out of memory: use fewer workers or smaller pieces"
        elif signal:
            hint = "; the standard error output of the worker may show where"
        return f"task {task!r}: its worker process {pid} {how} while it ran{hint}"


class RemoteTaskError(FlowkitError, RuntimeError):
    """Stands for an exception of a task that could not be brought back from a worker process as it was.

    Attributes:
        task: name of the task.
        type_name: the qualified name of the original's type.
        text: the original's message.
        traceback_text: the original's traceback.
    """

    def __init__(self, task: str, type_name: str, text: str, traceback_text: str, reason: str = "") -> None:
        self.task, self.type_name, self.text = task, type_name, text
        self.traceback_text, self.reason = traceback_text, reason
        super().__init__(task, type_name, text, traceback_text, reason)
        self.args = (self.describe(*self._facts),)  # what the original says is shown as Python would have shown it

    def describe(self, task: str, type_name: str, text: str, traceback_text: str, reason: str) -> str:
        """Return the sentence for these facts, and the traceback."""
        because = f" (the exception itself could not travel: {escape_control_chars(reason)})" if reason else ""
        return f"task {task!r} raised {escape_control_chars(type_name)}: {text}{because}\n\n{traceback_text}".rstrip()


class MissingDistributionError(FlowkitError, ImportError):
    """Something was asked for that a distribution brings which is not installed.

    Attributes:
        wanted: what was asked for.
        distribution: what to install.
    """

    def __init__(self, wanted: str, distribution: str) -> None:
        self.wanted, self.distribution = wanted, distribution
        super().__init__(wanted, distribution)

    def describe(self, wanted: str, distribution: str) -> str:
        """Return the sentence for these facts."""
        return f"{wanted} needs the distribution {distribution!r}, which is not installed: install that"


class ExecutorError(FlowkitError, RuntimeError):
    """An executor cannot do its work, through no fault of a task: no worker starts, or it was closed."""
