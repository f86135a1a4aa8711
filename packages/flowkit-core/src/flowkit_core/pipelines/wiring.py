"""Operators ``>>`` and ``after()``: their operands, tasks, groups and mapped tasks, and the edges that they declare."""

from __future__ import annotations

import sys
from functools import cache
from types import CoroutineType, FunctionType, MethodType

from flowkit_core._text import did_you_mean, escape_control_chars, short_repr
from flowkit_core._typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, overload
from flowkit_core._warnings import warn
from flowkit_core.coroutines import is_coroutine_function
from flowkit_core.errors import TaskOptionError, TaskOptionTypeError
from flowkit_core.graphs.parameters import Parameters

from .calls import Token, block_for, scope_of
from .edges import METHODS, Origin
from .frames import user_frame
from .options import MAP_ALIASES, MAP_OPTIONS, check_known
from .scopes import entered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType
    from typing import NoReturn

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node_map import MapOptions

    from .scopes import Block, Scope


V = TypeVar("V", bound="Vertex")
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

ERRORS = ("raise", "drop", "return")
"""Values of the option ``errors``."""
VIEWS = Origin("", is_excluded=True)
"""The origin of all views, so that ``>>`` does not take them for tasks of the calling function."""


task_was_called = False
"""Whether a task was called directly in this process.

If not, an empty operand is not reported as the result of such a call.
"""


class Vertex:
    """Base class of `Task`: implements ``>>`` and ``after()``."""

    @overload
    def __rshift__(self, other: V) -> V: ...
    @overload
    def __rshift__(self, other: Iterable[Vertex]) -> Group: ...
    def __rshift__(self, other: Vertex | Iterable[Vertex]) -> Vertex | Group:
        frame = sys._getframe(1)
        if isinstance(other, Vertex):
            token: Any = frame.f_trace
            if type(token) is Token and self._origin is token.origin is other._origin and not entered:
                edges = token.edges
                edges += (self, other)  # fast path: both tasks belong to this call
            else:
                _wire((self,), (other,), frame)
            return other
        group = Group(other)
        _wire((self,), group, frame)
        return group

    def __rrshift__(self: V, other: Iterable[object]) -> V:
        _wire(_vertices(other), (self,), sys._getframe(1))
        return self

    def __lshift__(self, other: object) -> NoReturn:
        raise TypeError(_reversed_operator(self, other))

    def __rlshift__(self, other: object) -> NoReturn:
        raise TypeError(_reversed_operator(other, self))

    def after(self: V, *upstream: Vertex | Iterable[Vertex]) -> V:
        """Make this task wait for others without taking their results.

        If one of them fails, this task does not run, as with any upstream. If one of them is skipped, this task still
        runs.

        Args:
            *upstream: tasks to wait for, and lists or groups of tasks; at least one.

        Returns:
            This task, so that ``a >> b.after(lock) >> c`` is a chain.

        Raises:
            TypeError: an argument is not a task, or there is no argument.

        Examples:
            >>> from flowkit_core import DAG, task
            >>> @task
            ... def create_table(): pass
            >>> @task
            ... def load(table="orders"): return f"rows in {table}"
            >>> DAG("etl", tasks=[load.after(create_table)]).run("serial")
            {'create_table': None, 'load': 'rows in orders'}
        """
        _wire(_listed(upstream), (self,), sys._getframe(1), order_only=True)
        return self

    if not TYPE_CHECKING:

        def __iter__(self):
            """Raise a TypeError whose message shows how to call a task for each item of a result."""
            name = escape_control_chars(getattr(self, "name", "?"))
            raise TypeError(
                f"task {name!r} has no items, because its result exists only while a pipeline runs: to call a task "
                f"for each item of it, write {name} >> parse.map()"
            )

    # Origin: where the task was created; see scopes.py.
    _origin: Origin
    _viewed: Vertex | None = None  # the task, if this is a view of one; see `Mapped`


class Group(tuple[Vertex, ...]):
    """A tuple of tasks that are wired together; ``a >> [b, c]`` returns one.

    Write ``Group`` explicitly only to wire a list to a list, because Python has no ``>>`` for two lists.

    Args:
        tasks: the tasks.

    Raises:
        TypeError: an item is not a task.

    Examples:
        >>> from flowkit_core import task
        >>> @task
        ... def a(): return 1
        >>> @task
        ... def b(): return 2
        >>> @task
        ... def total(a, b): return a + b
        >>> @task
        ... def product(a, b): return a * b
        >>> Group([a, b]) >> [total, product]
        Group([total, product])
    """

    __slots__ = ()

    def __new__(cls, tasks: Iterable[Vertex]) -> Group:  # noqa: D102 - see the class
        return super().__new__(cls, _vertices(tasks))

    @overload
    def __rshift__(self, other: V) -> V: ...
    @overload
    def __rshift__(self, other: Iterable[Vertex]) -> Group: ...
    def __rshift__(self, other: Vertex | Iterable[Vertex]) -> Vertex | Group:
        downstream = (other,) if isinstance(other, Vertex) else Group(other)
        if not self:
            after = ", ".join(repr(getattr(each, "name", "?")) for each in downstream) or "what follows"
            warn(
                f"a list between two '>>' is empty, so nothing connects the tasks before it with {after}: where it may "
                f"be empty, wire them with each other as well, finish.after(start); to call a task for each item of "
                f"a result, write rows >> parse.map()"
            )
        _wire(self, downstream, sys._getframe(1))
        return other if isinstance(other, Vertex) else downstream  # type: ignore[return-value]

    def __rrshift__(self, other: Iterable[object]) -> Group:
        _wire(_vertices(other), self, sys._getframe(1))
        return self

    def after(self, *upstream: Vertex | Iterable[Vertex]) -> Group:
        """Make each task of the group wait for others without taking their results; see :meth:`Task.after`.

        Args:
            *upstream: tasks to wait for, and lists or groups of tasks; at least one.

        Returns:
            This group.

        Raises:
            TypeError: an argument is not a task, or there is no argument.

        Examples:
            >>> from flowkit_core import DAG, Task
            >>> lock, north, south = (Task(int, name=name) for name in ("lock", "north", "south"))
            >>> Group([north, south]).after(lock)
            Group([north, south])
            >>> north.upstream
            (<Task lock>,)
        """
        _wire(_listed(upstream), self, sys._getframe(1), order_only=True)
        return self

    def __repr__(self) -> str:
        return f"Group([{', '.join(escape_control_chars(getattr(item, 'name', '?')) for item in self)}])"


class Mapped(Vertex, Generic[P, R_co]):
    """A task that is called once for each element of its inputs: what :meth:`Task.map` returns.

    It is a view of the task, and not another one: it is wired like a task, has its name in results and pictures, and
    ``parse`` and ``parse.map()`` in one pipeline are one task.

    Attributes:
        task: the task.
        parameters: names of the parameters that are mapped; empty for all that the edges into the view fill.
        limit: maximum number of elements that are called at once; None means no limit.
        errors: what happens to elements that fail: ``"raise"``, ``"drop"`` or ``"return"``.
        label: function that returns the label of an element; None for no labels.
        chunk: number of elements that are sent to a worker process at once; None lets the executor choose.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def fetch(): return ["1", "2"]
        >>> @task
        ... def parse(text): return int(text)
        >>> _ = fetch >> parse.map()
        >>> DAG("numbers", tasks=[parse]).run()
        {'fetch': ['1', '2'], 'parse': [1, 2]}
    """

    _origin = VIEWS
    _is_used = False  # whether it was wired, or given to a pipeline

    def __init__(self, task: Any, parameters: Sequence[str], options: MapOptions) -> None:
        self.task: Any = task
        self._viewed = task
        self.parameters = tuple(parameters)
        self._options = options

    @property
    def name(self) -> str:
        """Name of the task."""
        name: str = self.task.name
        return name

    @property
    def limit(self) -> int | None:
        """Maximum number of elements that are called at once; None means no limit."""
        return self._options.limit

    @property
    def errors(self) -> str:
        """What happens to elements that fail."""
        return self._options.errors

    @property
    def label(self) -> Callable[..., object] | None:
        """Function that returns the label of an element, given its mapped values; None for no labels."""
        return self._options.label

    @property
    def chunk(self) -> int | None:
        """Number of elements that are sent to a worker process at once; None lets the executor choose."""
        return self._options.chunk

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise a TypeError: a mapped task is called by pipelines only."""
        raise TypeError(
            f"{self.name}.map() is called by pipelines only: write [{self.name}(each) for each in ...], or wire it, "
            f"rows >> {self.name}.map()"
        )

    @property
    def source_text(self) -> str:
        """The call that returns this view, as source text."""
        given = [*map(repr, self.parameters), *filter(None, [repr(self._options)])]
        return f"{escape_control_chars(self.name)}.map({', '.join(given)})"

    def _use(self) -> Any:
        """Note that this view is part of a pipeline; return the task."""
        self._is_used = True
        return self.task

    def __del__(self) -> None:
        """Issue a warning if nothing has used the view: the task is not mapped."""
        if self._is_used or self._viewed is None or sys.is_finalizing():
            return
        call = self.source_text
        warn(
            f"{call} was not used, so task {self.name!r} is not mapped: wire it, rows >> {call}, or give it to "
            f"the pipeline, DAG(..., tasks=[{call}])"
        )

    if not TYPE_CHECKING:

        def __getattr__(self, attribute):
            """Raise an AttributeError that names the task, whose attributes a view does not have."""
            if attribute.startswith("__") or "task" not in self.__dict__:
                raise AttributeError(attribute)
            task = self.task
            if hasattr(type(task), attribute) or attribute in vars(task):
                advice = f": it is an attribute of the task, so write it before .map(): {task.name}.{attribute}"
            else:
                advice = did_you_mean(attribute, [name for name in dir(type(self)) if name[0] != "_"])
            raise AttributeError(f"{task.name}.map() has no attribute {attribute!r}{advice}", name=attribute)

    def __repr__(self) -> str:
        over = f" over {', '.join(self.parameters)}" if self.parameters else ""
        return f"<Task {escape_control_chars(self.name)}, mapped{over}>"


def checked_map(
    task: Any, parameters: Sequence[Any], limit: Any, errors: Any, label: Any, chunk: Any, unknown: Mapping[str, Any]
) -> MapOptions:
    """Return the options of a view of a task, after a check of the arguments of ``map()``.

    Raises:
        TypeError: a parameter is not a str, the function has no such parameter, or there is no such option.
        TaskOptionError, TaskOptionTypeError: an option has an invalid value.
    """
    names = Parameters(task.func)
    for name, value in unknown.items():
        if name in names.names:
            raise TypeError(f"{task.name}.map() takes no values of parameters: {_mapping_over(task, value, name)}")
    if unknown:
        check_known(f"{task.name}.map()", unknown, MAP_OPTIONS, MAP_ALIASES)
    _check_mapped_names(task, parameters, names)
    _check_count(task.name, "map(limit=)", limit)
    _check_count(task.name, "map(chunk=)", chunk)
    if errors not in ERRORS:
        kind = TaskOptionError if isinstance(errors, str) else TaskOptionTypeError
        guess = did_you_mean(errors, ERRORS) if isinstance(errors, str) else ""
        raise kind(task.name, "map(errors=)", errors, f"'raise', 'drop' or 'return'{guess}")
    _check_label(task.name, label)
    from flowkit_core.graphs.node_map import MapOptions

    return MapOptions(limit, errors, label, chunk)


def _check_mapped_names(task: Any, parameters: Sequence[Any], names: Parameters) -> None:
    """Check that the arguments of ``map()`` are names of parameters of the function."""
    for name in parameters:
        if not isinstance(name, str):
            first = next(iter(names.names), "row")
            raise TypeError(
                f"{task.name}.map() takes names of parameters, and got {short_repr(name)}: "
                f"{_mapping_over(task, name, first)}"
            )
        if name not in names.names:
            guess = did_you_mean(name, names.names)
            raise TypeError(
                f"{task.name}.map() names {name!r}, but the function has no such parameter{guess}; its signature is "
                f"{task.name}{names}"
            )


def _check_count(task: str, option: str, value: Any) -> None:
    allowed = "an integer of at least 1, or None"
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TaskOptionTypeError(task, option, value, allowed)
    if value is not None and value < 1:
        raise TaskOptionError(task, option, value, allowed)


def _check_label(task: str, label: Any) -> None:
    if label is not None and not callable(label):
        raise TaskOptionTypeError(task, "map(label=)", label, "a function of the mapped value, or None")
    if label is not None and is_coroutine_function(label):
        raise TaskOptionTypeError(task, "map(label=)", label, "a plain function, not an async one: it is not awaited")


def _mapping_over(task: Any, value: Any, parameter: str) -> str:
    """Return how a task is mapped over a value that was given to ``map()``."""
    call = f"{escape_control_chars(task.name)}.map({parameter!r})"
    source = _source_of(value, "")
    if source:
        return f"to map over a result, wire it, {source} >> {call}"
    return f"wire the task that returns it, rows >> {call}, or write {call} and run(params={{{parameter!r}: [...]}})"


def _wire(
    upstream: Sequence[Vertex], downstream: Sequence[Vertex], frame: FrameType | None, *, order_only: bool = False
) -> None:
    """Declare an edge from each upstream to each downstream, for the call that a frame executes."""
    token: Any = None if frame is None else frame.f_trace
    if type(token) is Token and not entered:  # fast path: the frame has created tasks, and no block is open
        target: Block | Scope = token.call.scope
    else:
        found = user_frame(frame)
        target = block_for(found) or scope_of(found)
    for after in downstream:
        later = after._viewed or after
        if later._origin is METHODS:
            raise TypeError(no_task(later))
        for before in upstream:
            earlier = before._viewed or before
            if earlier._origin is METHODS:
                raise TypeError(no_task(earlier))
            views = None
            if later is not after or earlier is not before:
                views = before if earlier is not before else None, after if later is not after else None
                for view in views:
                    if isinstance(view, Mapped):
                        view._use()
            target.wire(earlier, later, order_only, views)


def _reversed_operator(downstream: object, upstream: object) -> str:
    """Return the error text for ``downstream << upstream``."""
    names = [_source_of(each, other) for each, other in ((upstream, "upstream"), (downstream, "downstream"))]
    return f"tasks are wired with '>>', in the direction in which results go: write {' >> '.join(names)}"


def _source_of(operand: object, default: str) -> str:
    """Return source text for a task, or for a list of tasks."""
    if isinstance(operand, Vertex):
        return escape_control_chars(getattr(operand, "name", default))
    if isinstance(operand, (list, tuple)) and operand and all(isinstance(each, Vertex) for each in operand):
        return f"[{', '.join(_source_of(each, default) for each in operand)}]"
    return default


def no_task(method: Vertex) -> str:
    """Return the error text for a method that is used as a task."""
    name = getattr(method, "name", "?")
    owner = getattr(method, "__qualname__", name).rpartition(".")[0]
    return (
        f"{owner or 'the class'}.{name} is a method, which needs an object, and so is not a task: "
        f"make a task of a bound method, {name} = Task(obj.{name}), and wire that"
    )


def _listed(given: Iterable[object]) -> list[Vertex]:
    """Return the arguments of after() as a flat list of tasks."""
    found: list[Vertex] = []
    for item in given:
        if isinstance(item, Vertex):
            found.append(item)
        else:
            found += _vertices(item, "after() got", "a list given to after()")
    if not found:
        raise TypeError("after() needs at least one task to wait for: write load.after(create_table)")
    return found


def _vertices(items: Any, where: str = "an operand of '>>' is", place: str = "a list operand of '>>'") -> list[Vertex]:
    """Return the tasks of a list, or raise; ``where`` and ``place`` describe the list in the error."""
    if isinstance(items, (str, bytes)) or not hasattr(type(items), "__iter__"):
        raise TypeError(f"{where} {described_operand(items)}")
    vertices = []
    for position, item in enumerate(items):
        if not isinstance(item, Vertex):
            raise TypeError(f"item {position} of {place} is {described_operand(item)}")
        vertices.append(item)
    if not vertices and task_was_called and (advice := _advice_for_call()):
        raise TypeError(f"{where} {short_repr(items)}, which has no tasks: {advice}")
    return vertices


def described_operand(item: Any) -> str:
    """Return a description of an operand that is not a task, with the fix."""
    shown = "a coroutine" if type(item) is CoroutineType else f"{short_repr(item)}, of type {type(item).__name__}"
    return f"{shown}, not a task: {advice_for(item)}"


def advice_for(item: Any) -> str:
    """Return the fix for an operand that is not a task."""
    method: Any = item.__func__ if type(item) is MethodType else None
    if method is not None and isinstance(item.__self__, Vertex):
        name = escape_control_chars(getattr(item.__self__, "name", "?"))
        return f"it is the method {method.__name__}() of task {name!r}: write {name}.{method.__name__}() to call it"
    if isinstance(method, Vertex):
        name = escape_control_chars(getattr(method, "name", "?"))
        return f"it is a bound method: make a task of it, {name} = Task(obj.{name}), and use that"
    if isinstance(item, (list, tuple)) and any(isinstance(inner, Vertex) for inner in item):
        return "nested lists cannot be wired: write one flat list"
    kind = type(item)
    if callable(getattr(kind, "visualize", None)) and callable(getattr(kind, "graph", None)):
        return "a pipeline cannot be wired: write as_task() after it, which returns it as a task, or wire its tasks"
    if kind is CoroutineType:
        item.close()
        without = "calling an async function returns a coroutine: write the task's name without parentheses"
        return _advice_for_call() or without
    if (inner := wrapped_task(item)) is not None:
        name = escape_control_chars(getattr(inner, "name", "?"))
        return f"it is a function that wraps the task {name!r}: write @task above the other decorator, not below it"
    if callable(item):
        if type(item) is FunctionType and item.__name__ != "<lambda>":
            return f"it is a function, not yet a task: write @task above 'def {escape_control_chars(item.__name__)}'"
        return "it is a callable, not yet a task: make one of it with Task(...), as @task does for a function"
    return _advice_for_call() or (
        "decorate a function with @task, and write its name without parentheses: extract >> load, not extract() >> load"
    )


WRAPPERS = FunctionType, type(cache(int))
"""Types of what a decorator makes of a function."""


def wrapped_task(item: Any) -> Vertex | None:
    """Return the task that a function wraps, as a decorator above ``@task`` makes it; None if it wraps none."""
    while type(item) in WRAPPERS:
        item = item.__dict__.get("__wrapped__")
    return item if isinstance(item, Vertex) else None


def _advice_for_call() -> str:
    """Return the fix if the statement of the user calls a task where it should name the task; else an empty string."""
    from .source_text import called_tasks

    found = called_tasks(user_frame(sys._getframe(1)), lambda value: isinstance(value, Vertex))
    if found is None:
        return ""
    tasks, written, corrected = found
    names = " and ".join(repr(getattr(task, "name", "?")) for task in dict.fromkeys(tasks))
    called = f"{names} {'was' if len(set(tasks)) == 1 else 'were'} called"
    if len(written) > _LONG:
        return f"{called}: write the name of a task without parentheses"
    return f"{called}: write {escape_control_chars(corrected)}, not {escape_control_chars(written)}"


_LONG = 100  # characters of an expression that an error repeats
