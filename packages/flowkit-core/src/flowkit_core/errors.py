"""Exceptions of flowkit.

Each derives from :class:`FlowkitError` and from a built-in class, has its facts as attributes, and can be pickled. Its
message is one line, whatever a name in it contains.
"""

from __future__ import annotations

from ._text import escape_control_chars, short_repr
from ._typing import TYPE_CHECKING
from .coroutines import special_types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._typing import Any


class FlowkitError(Exception):
    """Base class of all exceptions of flowkit.

    Exceptions of your tasks are not wrapped: ``run()`` raises them unchanged.

    Examples:
        >>> from flowkit_core import DAG, FlowkitError
        >>> try:
        ...     DAG("etl", tasks=[]).run(executor="threads")
        ... except FlowkitError as error:
        ...     print(type(error).__name__)
        UnknownExecutorError
    """

    def __init__(self, *facts: Any) -> None:
        super().__init__(escape_control_chars(self.describe(*facts)))
        self._facts = facts

    def describe(self, *facts: Any) -> str:
        """Return the message for these facts."""
        return " ".join(map(str, facts))

    def __reduce__(self) -> tuple[Callable[..., FlowkitError], tuple[Any, ...], dict[str, Any]]:
        return type(self), self._facts, self.__dict__


class TaskOptionError(FlowkitError, ValueError):
    """A task option has a value outside its range. Raised when the task is created.

    Attributes:
        task: name of the task.
        option: name of the option.
        value: value of the option.
        allowed: description of the values that are accepted.

    Examples:
        >>> from flowkit_core import Task, TaskOptionError
        >>> try:
        ...     Task(print, retries=-1)
        ... except TaskOptionError as error:
        ...     print(error)
        task 'print': retries is -1, but must be an integer of at least 0
    """

    def __init__(self, task: str, option: str, value: Any, allowed: str) -> None:
        self.task, self.option, self.value, self.allowed = task, option, value, allowed
        super().__init__(task, option, value, allowed)

    def describe(self, task: str, option: str, value: Any, allowed: str) -> str:
        """Return the message for these facts."""
        return f"task {task!r}: {option} is {short_repr(value)}, but must be {allowed}"


class TaskOptionTypeError(TaskOptionError, TypeError):
    """A task option has a value of the wrong type. Raised when the task is created.

    It has the attributes of :class:`TaskOptionError`.

    Examples:
        >>> from flowkit_core import Task, TaskOptionTypeError
        >>> try:
        ...     Task(print, retries="3")
        ... except TaskOptionTypeError as error:
        ...     print(error)
        task 'print': retries is '3', but must be an integer of at least 0
    """


class DAGCycleError(FlowkitError, ValueError):
    """The tasks of a pipeline have a dependency cycle. Raised by ``graph()``, and so by ``run()`` and ``visualize()``.

    Attributes:
        cycle: the names of the tasks along the edges, a tuple of str; the first is repeated at the end.

    Examples:
        >>> from flowkit_core import DAG, DAGCycleError, Task
        >>> a, b = Task(len, name="a"), Task(list, name="b")
        >>> _ = a >> b >> a
        >>> try:
        ...     DAG("etl", tasks=[a]).graph()
        ... except DAGCycleError as error:
        ...     print(error.cycle)
        ('a', 'b', 'a')
    """

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        super().__init__(self.cycle)

    def describe(self, cycle: Sequence[str]) -> str:
        """Return the message for these facts."""
        shown = list(cycle) if len(cycle) <= 12 else [*cycle[:6], f"({len(cycle) - 10} more)", *cycle[-4:]]
        return f"dependency cycle: {' → '.join(shown)}; remove one of these edges"


class WiringError(FlowkitError, ValueError):
    """Two tasks have contradictory edges, a task was redefined, or tasks or edges belong to the block of a caller.

    Contradictory are a data edge (``a >> b``) and an order-only edge (``b.after(a)``) between the same two tasks.
    Raised by ``graph()``, and so by ``run()`` and ``visualize()``.

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
        """Create the error.

        Args:
            message: the text of the error.
            pipeline: name of the pipeline.
            tasks: names of the tasks concerned.
        """
        self.pipeline, self.tasks = pipeline, tuple(tasks)
        super().__init__(message, pipeline, self.tasks)

    def describe(self, message: str, *facts: Any) -> str:
        """Return the message for these facts."""
        return message


class DiscoveryError(FlowkitError, RuntimeError):
    """The tasks of a ``DAG`` without ``tasks=`` cannot be found.

    The DAG was created in a nested function or a lambda; the enclosing function has created tasks or pipelines, but
    its call is not on the stack: it has returned, or it runs in another thread. Name the tasks:
    ``DAG("etl", tasks=[...])``. Raised by ``graph()``, and so by ``run()`` and ``visualize()``.

    Attributes:
        pipeline: name of the pipeline.
        function: qualified name of the function that created the DAG.
        maker: qualified name of the enclosing function, which has created tasks or pipelines.

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
        """Create the error.

        Args:
            pipeline: name of the pipeline.
            function: qualified name of the function that created the DAG.
            maker: qualified name of the enclosing function, which has created tasks or pipelines.
        """
        self.pipeline, self.function, self.maker = pipeline, function, maker
        super().__init__(pipeline, function, maker)

    def describe(self, pipeline: str, function: str, maker: str) -> str:
        """Return the message for these facts."""
        return (
            f"cannot find the tasks of DAG {pipeline!r}: it was created in {function}, which has made no tasks and is "
            f"part of {maker}(); {maker}() has made tasks or pipelines, but its call is not on the stack here (it has "
            f"returned, or runs in another thread or event-loop task): name the tasks, DAG({pipeline!r}, tasks=[...])"
        )


class DuplicateTaskError(FlowkitError, ValueError):
    """Two tasks of a pipeline have the same name, or a task was added to a ``Flow`` twice.

    Raised by ``graph()``, and so by ``run()`` and ``visualize()``; by ``add()``, ``branch()`` and ``merge()`` of a
    ``Flow``.

    Attributes:
        name: the name of the tasks.
        locations: where each task was created, a tuple of ``file:line``; one item if a task was added twice.
        pipeline: name of the pipeline.

    Examples:
        >>> from flowkit_core import DAG, DuplicateTaskError, Task
        >>> try:
        ...     DAG("etl", tasks=[Task(list, name="load"), Task(len, name="load")]).graph()
        ... except DuplicateTaskError as error:
        ...     print(error.name)
        load
    """

    def __init__(self, name: str, locations: Sequence[str], pipeline: str) -> None:
        """Create the error.

        Args:
            name: the name of the tasks.
            locations: where each task was created, as ``file:line``; one item if a task was added twice.
            pipeline: name of the pipeline.
        """
        self.name, self.locations, self.pipeline = name, tuple(locations), pipeline
        super().__init__(name, self.locations, pipeline)

    def describe(self, name: str, locations: Sequence[str], pipeline: str) -> str:
        """Return the message for these facts."""
        if len(locations) == 1:
            return (
                f"{pipeline!r} has the task {name!r} already (from {locations[0]}); a pipeline has each task once: to "
                f"use its function again, add {name}.with_options(name='...')"
            )
        return (
            f"{pipeline!r} has two tasks named {name!r}, one from {locations[0]} and one from {locations[1]}: give one "
            f"another name, with @task(name=...), or with with_options(name=...) where one function is used twice; or "
            f"name the tasks, DAG({pipeline!r}, tasks=[...])"
        )


class BindingError(FlowkitError, TypeError):
    """The upstream results and ``run(params=...)`` do not fit the parameters of a task.

    Raised by ``graph()``, and by ``run()`` before a task runs.

    Attributes:
        task: name of the task; None for a name in ``run(params=...)`` that no task takes.
        parameter: the parameter concerned, or None.
        available: names of the upstreams, or of the parameters that ``params`` can fill; a tuple of str.

    Examples:
        >>> from flowkit_core import DAG, BindingError, Task
        >>> try:
        ...     DAG("etl", tasks=[Task(lambda rows: len(rows), name="load")]).run()
        ... except BindingError as error:
        ...     print(error.task, error.parameter)
        load rows
    """

    def __init__(
        self, message: str, task: str | None = None, parameter: str | None = None, available: Sequence[str] = ()
    ) -> None:
        """Create the error.

        Args:
            message: the text of the error.
            task: name of the task, or None.
            parameter: the parameter concerned, or None.
            available: names of the upstreams, or of the parameters that ``params`` can fill.
        """
        self.task, self.parameter, self.available = task, parameter, tuple(available)
        super().__init__(message, task, parameter, self.available)

    def describe(self, message: str, *facts: Any) -> str:
        """Return the message for these facts."""
        return message


class MissingResultError(FlowkitError, KeyError):
    """A key of :class:`Results` has no value: the task was skipped, failed or did not run, or there is no such task.

    Also for keys of its attributes, such as ``results.states``. ``get(name)`` returns None instead, as for any dict.

    Attributes:
        name: the key, usually a str.
        reason: why there is no value, and what to write.
        attribute: name of the attribute of the results, such as ``"states"``; empty for the results themselves.

    Examples:
        >>> from flowkit_core import DAG, MissingResultError, Task
        >>> results = DAG("etl", tasks=[Task(list, name="extract")]).run()
        >>> try:
        ...     results["extrct"]
        ... except MissingResultError as error:
        ...     print(error.reason)
        no task of that name was in the run (did you mean 'extract'?)
    """

    def __init__(self, name: Any, reason: str, attribute: str = "") -> None:
        """Create the error.

        Args:
            name: the key.
            reason: why there is no value, and what to write.
            attribute: name of the attribute of the results; empty for the results themselves.
        """
        self.name, self.reason, self.attribute = name, reason, attribute
        super().__init__(name, reason, attribute)

    def describe(self, name: Any, reason: str, attribute: str) -> str:
        """Return the message for these facts."""
        if isinstance(name, str) and not attribute:
            return f"task {name!r} has no result: {reason}"
        return f"results{attribute and '.'}{attribute}[{short_repr(name)}]: {reason}"

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownExecutorError(FlowkitError, ValueError):
    """There is no executor of a name.

    Attributes:
        name: the name.
        available: names of the executors that are installed or registered, a tuple of str.
        hint: what to do.

    Examples:
        >>> from flowkit_core import DAG, UnknownExecutorError
        >>> try:
        ...     DAG("etl", tasks=[]).run(executor="threads")
        ... except UnknownExecutorError as error:
        ...     print(error.name, "serial" in error.available)
        threads True
    """

    def __init__(self, name: str, available: Sequence[str], hint: str = "") -> None:
        self.name, self.available, self.hint = name, tuple(available), hint
        super().__init__(name, self.available, hint)

    def describe(self, name: str, available: Sequence[str], hint: str) -> str:
        """Return the message for these facts."""
        names = ", ".join(map(repr, available))
        return f"there is no executor named {name!r}; installed: {names}. {hint}".rstrip()


class SerializationError(FlowkitError, TypeError):
    """A function, an argument or a result cannot be pickled, or cannot be unpickled in the other process.

    Attributes:
        task: name of the task.
        what: ``"function"``, ``"argument"`` or ``"result"``.
        reason: why it cannot be sent.
        hint: what to do.

    Examples:
        >>> from flowkit_core import SerializationError
        >>> print(SerializationError("load", "result", "cannot be pickled", "return plain data"))
        task 'load': its result cannot be pickled; return plain data
    """

    def __init__(self, task: str, what: str, reason: str, hint: str) -> None:
        self.task, self.what, self.reason, self.hint = task, what, reason, hint
        super().__init__(task, what, reason, hint)

    def describe(self, task: str, what: str, reason: str, hint: str) -> str:
        """Return the message for these facts."""
        return f"task {task!r}: its {what} {reason}; {hint}"


class WorkerDiedError(FlowkitError, RuntimeError):
    """The worker process that ran a task has ended: it was killed, it crashed, or the task ended it.

    Only that task is affected. The death counts as one failed attempt, so ``retries`` apply.

    Attributes:
        task: name of the task.
        pid: process id of the worker; None if it is unknown.
        exitcode: exit code of the worker, negative for a signal; None if it is unknown.
        signal: name of the signal, such as ``"SIGKILL"``; ``"signal 40"`` for one without a name; None if there was
            none, or if it is unknown.
        worker: address of the worker on a cluster; empty for a worker process of this program.
        deaths: number of workers that have died while they ran the task in this run, at least 1.

    Examples:
        >>> from flowkit_core import WorkerDiedError
        >>> print(WorkerDiedError("load", 4711, 3, None))
        task 'load': its worker process 4711 exited with code 3 while it ran
    """

    def __init__(
        self, task: str, pid: int | None, exitcode: int | None, signal: str | None, worker: str = "", deaths: int = 1
    ) -> None:
        self.task, self.pid, self.exitcode, self.signal = task, pid, exitcode, signal
        self.worker, self.deaths = worker, deaths
        super().__init__(task, pid, exitcode, signal, worker, deaths)

    def describe(self, *_facts: Any) -> str:
        """Return the message for these facts."""
        if self.signal == "SIGKILL":
            ended = "was killed by SIGKILL"
            hint = "; if you did not kill it, the machine may be out of memory: use fewer workers or smaller pieces"
        elif self.signal:
            ended, hint = f"was killed by {self.signal}", "; the standard error output of the worker may show where"
        elif self.exitcode is not None:
            ended, hint = f"exited with code {self.exitcode}", ""
        elif self.worker:
            ended = "ended, or lost its connection,"
            hint = "; its log may show why; if it was out of memory, use smaller pieces, or workers with more memory"
        else:  # it still runs, or another part of the program has collected its exit status
            ended = "closed its connection, or ended with an unknown exit status,"
            hint = "; a task that closes all file descriptors closes the connection"
        process = (f" {self.pid}" if self.pid else "") + (f" at {self.worker}" if self.worker else "")
        others = f"; {self.deaths} workers have died while they ran this task" if self.deaths > 1 else ""
        return f"task {self.task!r}: its worker process{process} {ended} while it ran{others}{hint}"


class RemoteTaskError(FlowkitError, RuntimeError):
    """Replaces an exception of a task that cannot be sent from a worker process.

    Attributes:
        task: name of the task.
        type_name: qualified name of the class of the original exception.
        text: message of the original exception.
        traceback_text: traceback of the original exception.
        reason: why the original exception cannot be sent.

    Examples:
        >>> from flowkit_core import RemoteTaskError
        >>> print(RemoteTaskError("load", "db.Error", "no rows", "Traceback: ...", "it cannot be pickled"))
        task 'load' raised db.Error: no rows (the exception itself could not be sent: it cannot be pickled)
        <BLANKLINE>
        Traceback: ...
    """

    def __init__(self, task: str, type_name: str, text: str, traceback_text: str, reason: str = "") -> None:
        self.task, self.type_name, self.text = task, type_name, text
        self.traceback_text, self.reason = traceback_text, reason
        super().__init__(task, type_name, text, traceback_text, reason)
        self.args = (self.describe(*self._facts),)  # without escapes: Python shows the original like this

    def describe(self, task: str, type_name: str, text: str, traceback_text: str, reason: str) -> str:
        """Return the message for these facts, with the traceback."""
        because = f" (the exception itself could not be sent: {escape_control_chars(reason)})" if reason else ""
        return f"task {task!r} raised {escape_control_chars(type_name)}: {text}{because}\n\n{traceback_text}".rstrip()


class MissingDistributionError(FlowkitError, ImportError):
    """A feature needs a distribution that is not installed.

    Attributes:
        wanted: the feature.
        distribution: name of the distribution to install.

    Examples:
        >>> from flowkit_core import MissingDistributionError
        >>> print(MissingDistributionError("run(state=<a path>)", "flowkit-state"))
        run(state=<a path>) needs the distribution 'flowkit-state', which is not installed: install it with
        pip install ./packages/flowkit-state in a checkout of flowkit
    """

    def __init__(self, wanted: str, distribution: str) -> None:
        self.wanted, self.distribution = wanted, distribution
        super().__init__(wanted, distribution)

    def describe(self, wanted: str, distribution: str) -> str:
        """Return the message for these facts."""
        how = install_command(distribution)
        return f"{wanted} needs the distribution {distribution!r}, which is not installed: install it with {how}"


def install_command(distribution: str) -> str:
    """Return how a distribution is installed: those of this project are not on the public index."""
    if not distribution.startswith("flowkit"):
        return f"pip install {distribution}"
    return f"pip install ./packages/{distribution} in a checkout of flowkit"


class TaskTimeoutError(FlowkitError, TimeoutError):
    """An attempt at a task took longer than ``@task(timeout=...)``. It is a failure like any other, and is retried.

    Attributes:
        task: name of the task.
        timeout: seconds that an attempt may take.
        fate: what happened to the attempt: ``"cancelled"``, a coroutine; ``"ended"``, with its worker process; or
            ``"abandoned"``, a thread, or a coroutine that did not end after its cancellation, which goes on.

    Examples:
        >>> print(TaskTimeoutError("fetch", 2.5, "cancelled"))
        task 'fetch' took longer than its timeout of 2.5 s, and was cancelled
    """

    def __init__(self, task: str, timeout: float, fate: str = "abandoned") -> None:
        self.task, self.timeout, self.fate = task, timeout, fate
        super().__init__(task, timeout, fate)

    def describe(self, task: str, timeout: float, fate: str) -> str:
        """Return the sentence for these facts."""
        how = {
            "ended": "its worker process was ended",
            "abandoned": "was abandoned: it cannot be stopped, and its result will be ignored",
        }.get(fate, f"was {fate}")
        return f"task {task!r} took longer than its timeout of {timeout:g} s, and {how}"


class RunTimeoutError(FlowkitError, TimeoutError):
    """A run took longer than ``run(timeout=...)``. Its notes have how many tasks had succeeded and did not start.

    Attributes:
        pipeline: name of the pipeline.
        timeout: seconds that the run may take.

    Examples:
        >>> print(RunTimeoutError("etl", 60))
        the run of 'etl' took longer than its timeout of 60 s
    """

    def __init__(self, pipeline: str, timeout: float) -> None:
        self.pipeline, self.timeout = pipeline, timeout
        super().__init__(pipeline, timeout)

    def describe(self, pipeline: str, timeout: float) -> str:
        """Return the sentence for these facts."""
        return f"the run of {pipeline!r} took longer than its timeout of {timeout:g} s"


class ExecutorError(FlowkitError, RuntimeError):
    """An executor cannot run tasks: no worker starts, or the executor was closed.

    Examples:
        >>> from flowkit_core import DAG, ExecutorError, Task
        >>> class Idle:
        ...     name = "idle"
        ...     def execute(self, run): pass
        ...     def close(self): pass
        >>> try:
        ...     DAG("etl", tasks=[Task(list, name="extract")]).run(executor=Idle())
        ... except ExecutorError as error:
        ...     print(str(error).partition(":")[0])
        executor 'idle' returned before 'etl' was done
    """


class ContextError(FlowkitError, RuntimeError):
    """``current()`` was called where no task is running, or a part of the context cannot be had there.

    Args:
        reason: the reason, a sentence; by default that no task is running.

    Examples:
        >>> from flowkit_core import ContextError, current
        >>> try:
        ...     current()
        ... except ContextError as error:
        ...     print(str(error).partition(":")[0])
        current() was called where no task of a run is running
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(*([reason] if reason else []))

    def describe(self, reason: str = "") -> str:
        """Return the sentence."""
        return reason or (
            "current() was called where no task of a run is running: call it in a task that a pipeline runs, not at "
            "the top of a module or in a direct call of a task; in a thread that a task starts, call the function of "
            "the thread with the context of the task: context = current(), Thread(target=context.run, args=(function,))"
        )


class Skip(Exception):  # noqa: N818 - not an error
    """Raised in a task, skips it: the task ends as skipped, like one whose condition is false, and is not retried.

    It may also be raised in a condition (``when``), and as the only exceptions of an ``ExceptionGroup``. In a direct
    call of the task, it propagates like any exception. Subclasses skip as well.

    Args:
        reason: why, for ``results.skipped`` and the log.

    Examples:
        >>> from flowkit_core import DAG, Skip, task
        >>> @task
        ... def load(files):
        ...     if not files: raise Skip("no new files")
        >>> DAG("nightly", tasks=[load]).run(params={"files": []}).skipped
        {'load': 'no new files'}
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(*([reason] if reason else []))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "<locals>" not in cls.__qualname__:  # a class of a function lives no longer than its last use
            special_types.add(cls)


special_types.add(Skip)
