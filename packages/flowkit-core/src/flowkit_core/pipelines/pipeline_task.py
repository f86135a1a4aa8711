"""Class `PipelineTask`: a pipeline as a task of another pipeline; base class `UsableAsTask` of pipelines."""

from __future__ import annotations

import sys
from functools import partial

from flowkit_core._text import did_you_mean
from flowkit_core._typing import TYPE_CHECKING

from . import wiring
from .edges import serials
from .frames import user_frame
from .options import OPTIONS, check_condition_type, check_name
from .task import Task, _register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

    from flowkit_core._typing import Any

_IN_THE_PIPELINE = "give it to tasks of the pipeline: @task({option}=...)"
_REFUSED = {
    **dict.fromkeys(OPTIONS, _IN_THE_PIPELINE),
    "retries": (
        "the pipeline has no call of its own that could be repeated, and results of its tasks are not thrown away: "
        + _IN_THE_PIPELINE
    ),
    "timeout": "its tasks share the workers of the run with others, so no time counts as its own: " + _IN_THE_PIPELINE,
    "cache": "each of its tasks is cached by its own code and inputs: " + _IN_THE_PIPELINE,
    "trigger": "its tasks start when all upstreams have succeeded; to decide otherwise, " + _IN_THE_PIPELINE,
    "params": "give it to run(params={'name.parameter': ...}), or wire a task to it",
    "max_workers": "its tasks share the workers of the run: give it to run()",
    "executor": "its tasks share the workers of the run: give it to run(), or " + _IN_THE_PIPELINE,
}
"""Options of tasks that a pipeline task does not have -> the reason, and what to write."""
_NO_MAP = (
    "a pipeline cannot be mapped, because its tasks are tasks of the pipeline around it, each with one result: map the "
    "tasks inside, or call pipeline.run() in a task and map that"
)


class PipelineTask(Task[..., "Any"]):
    """A pipeline as a task of other pipelines, which ``pipeline.as_task()`` returns.

    Calling it runs the pipeline with the arguments as ``params``, and returns the output.
    """

    _is_copy = True  # so that it has the location of its creation; several may have one name in a module

    def __init__(
        self, pipeline: Any, output: str | None, name: str, when: Callable[..., Any] | None, frame: Any
    ) -> None:
        self._pipeline, self._output = pipeline, output
        self.func = partial(_run, pipeline, output)
        self.name = self.__name__ = self.__qualname__ = name
        self.__module__ = str(frame.f_globals.get("__name__", "?"))
        self.__doc__ = f"The pipeline {pipeline.name!r}."
        if when is not None:
            check_condition_type(name, when)
            self.when = when
        self._code, self._lasti = frame.f_code, frame.f_lasti
        self._serial = next(serials)
        _register(self, frame)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pipeline, with the arguments as values of its open parameters, and return the output.

        Raises:
            TypeError: there are more arguments than open parameters, or two for one.
            Exception: what ``run()`` raises.
        """
        self._used = wiring.task_was_called = True
        return _run(self._pipeline, self._output, *args, **kwargs)

    def with_options(self, **changed: Any) -> Task[..., Any]:
        """Return the same pipeline as another task: with another ``name``, ``when`` or ``output``."""
        options = {"output": self._output, "name": self.name, "when": self.when, **changed}
        made: Task[..., Any] = self._pipeline.as_task(**options)
        return made

    def map(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise a TypeError: a pipeline cannot be mapped."""
        raise TypeError(f"task {self.name!r}: {_NO_MAP}")

    def _new_gate(self) -> Task[..., Any] | None:
        """Return a task that succeeds if the condition is true; None without a condition."""
        if self.when is None:
            return None
        gate: Task[..., Any] = Task.__new__(Task)
        gate._set_up(partial(_passed), f"{self.name}.when", {"when": self.when})
        gate._is_gate = True
        gate._origin, gate._code, gate._lasti, gate._is_copy = self._origin, self._code, self._lasti, True
        return gate

    def __reduce__(self) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for part, value in vars(found).items() if found is not None else ():
            if value is self:
                return _attribute, (self.__module__, part)
        raise TypeError(
            f"task {self.name!r} is a pipeline, and cannot be pickled unless it is a global variable of its module"
        )


def _attribute(module: str, name: str) -> Any:
    from importlib import import_module

    return getattr(import_module(module), name)


def _passed() -> bool:
    """Return True: the result of a condition that lets a pipeline run."""
    return True


def _run(pipeline: Any, output: str | None, /, *args: Any, **kwargs: Any) -> Any:
    """Run a pipeline with arguments for its open parameters, and return its output."""
    from flowkit_core.graphs.inlining import open_parameters_of, output_of

    graph = pipeline.graph()
    names = open_parameters_of(graph).positional
    if len(args) > len(names):
        takes = f"takes {', '.join(names)}" if names else "has no open parameters"
        raise TypeError(f"pipeline {pipeline.name!r} {takes}, but was called with {len(args)} arguments by position")
    given = dict(zip(names, args))
    if twice := sorted(given.keys() & kwargs.keys()):
        raise TypeError(f"pipeline {pipeline.name!r} was called with two values for {twice[0]!r}")
    return pipeline.run(params={**given, **kwargs} or None)[graph.names[output_of(graph, output)]]


class UsableAsTask:
    """Base class of `Pipeline` for the method :meth:`as_task`."""

    if TYPE_CHECKING:
        name: str

    def as_task(
        self,
        output: str | None = None,
        *,
        name: str | None = None,
        when: Callable[..., Any] | None = None,
        **refused: Any,
    ) -> Task[..., Any]:
        """Return this pipeline as a task of another pipeline, which is wired like any task.

        The tasks of this pipeline become tasks of the other one when its graph is built: for ``name="clean"`` they are
        ``clean.extract`` and so on, in logs, states, pictures and the record. ``results["clean"]`` is the output. The
        parameters that are open in this pipeline are the parameters of the task; those that no upstream fills take
        ``run(params=...)``, as ``"parameter"``, ``"clean.parameter"`` or ``"clean.extract.parameter"``. Upstreams of
        the task are upstreams of the whole pipeline, and a task downstream of it waits for all its ends.

        Later changes of this pipeline count, with one exception: a bare ``DAG("name")`` has the tasks that it finds
        when ``as_task()`` is called, because later ones may be those of the other pipeline.

        Args:
            output: name of the task whose result is the output; None means the only end, the task without downstreams.
            name: name of the task; None means the name of the pipeline.
            when: function that is called with arguments of the task, as for any task; a false result skips the whole
                pipeline. Its result is that of a task ``clean.when``.
            **refused: raises TypeError; the message says why there is no such option, or what to write.

        Returns:
            The task. Calling it runs the pipeline, and returns the output.

        Raises:
            WiringError: there is no task ``output``; or it is None, and there are no tasks or several ends (a
                :class:`ValueError`).
            TypeError: an option does not exist.
            TaskOptionTypeError: ``when`` is not a function, or ``name`` not a str.
            FlowkitError: the graph of this pipeline cannot be built.

        Examples:
            >>> from flowkit_core import DAG, task
            >>> @task
            ... def extract(path): return [1, None, 3]
            >>> @task
            ... def drop_empty(rows): return [row for row in rows if row is not None]
            >>> @task
            ... def total(clean): return sum(clean)
            >>> _ = extract >> drop_empty
            >>> clean = DAG("clean", tasks=[drop_empty]).as_task()
            >>> _ = clean >> total
            >>> DAG("report", tasks=[total]).run("serial", params={"path": "a.csv"})
            {'clean.extract': [1, None, 3], 'clean.drop_empty': [1, 3], 'clean': [1, 3], 'total': 4}
        """
        own = self.name if name is None else name
        check_name("as_task()", own)
        for option in refused:
            why = _REFUSED.get(option)
            known = ("output", "name", "when")
            reason = f": {why.replace('{option}', option)}" if why is not None else did_you_mean(option, known)
            raise TypeError(
                f"as_task() of {self.name!r} has no option {option!r}{reason}; there are: {', '.join(known)}"
            )
        given: Any = output
        if given is not None and not isinstance(given, str):
            shown = getattr(given, "name", None)
            write = f": write output={shown!r}" if isinstance(shown, str) else ""
            raise TypeError(
                f"as_task(output=...) is of type {type(given).__name__}, but must be the name of a task{write}"
            )
        from flowkit_core.graphs.inlining import graph_of, output_of

        made = PipelineTask.__new__(PipelineTask)
        made._pipeline = self._with_fixed_tasks(own)
        output_of(graph_of(made), output)
        made.__init__(made._pipeline, output, own, when, user_frame(sys._getframe(1)))  # type: ignore[misc]
        return made

    def _with_fixed_tasks(self, name: str) -> Any:
        """Return this pipeline; or, if it searches for tasks again at each run, one with its current tasks.

        Tasks that are wired to an earlier task of this name and this pipeline are not among these: they belong to the
        outer pipeline, and are found when the cell of a notebook is executed again.
        """
        return self

    def _members(self) -> Iterable[Any]:
        """Return the tasks of this pipeline, with pipeline tasks and without the tasks of these."""
        return ()
