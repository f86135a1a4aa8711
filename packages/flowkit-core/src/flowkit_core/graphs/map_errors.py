"""Exceptions of mapped tasks."""

from __future__ import annotations

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import FlowkitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MappingTypeError(FlowkitError, TypeError):
    """A task is mapped over a value that has no elements, or whose elements have no order.

    Attributes:
        task: name of the mapped task.
        parameter: name of the parameter that is mapped.
        type_name: name of the type of the value.
        fix: what to write instead.

    Examples:
        >>> from flowkit_core import DAG, MappingTypeError, task
        >>> @task
        ... def names(): return {"Ada", "Grace"}
        >>> @task
        ... def greet(name): return f"Hello, {name}!"
        >>> _ = names >> greet.map()
        >>> try:
        ...     DAG("greet", tasks=[greet]).run()
        ... except MappingTypeError as error:
        ...     print(error.fix)
        in task 'names', return a list of its elements, such as sorted(...)
    """

    def __init__(self, task: str, parameter: str, type_name: str, shown: str, reason: str, fix: str) -> None:
        self.task, self.parameter, self.type_name, self.fix = task, parameter, type_name, fix
        super().__init__(task, parameter, type_name, shown, reason, fix)

    def describe(self, task: str, parameter: str, type_name: str, shown: str, reason: str, fix: str) -> str:
        """Return the message for these facts."""
        return (
            f"task {task!r} cannot be mapped over {parameter!r}, which is {shown}, of type {type_name}: {reason}; {fix}"
        )


class MapLengthError(FlowkitError, ValueError):
    """A task is mapped over several values that do not have the same number of elements.

    Attributes:
        task: name of the mapped task.
        lengths: name of each mapped parameter -> number of elements; of one that was not read to its end, of those that
            were read.
        sources: name of each mapped parameter that is the result of a task -> name of that task.

    Examples:
        >>> from flowkit_core import DAG, MapLengthError, task
        >>> @task
        ... def pair(name, age): return name, age
        >>> dag = DAG("people", tasks=[pair.map("name", "age")])
        >>> try:
        ...     dag.run(params={"name": ["Ada", "Grace"], "age": [36]})
        ... except MapLengthError as error:
        ...     print(error.lengths)
        {'name': 2, 'age': 1}
    """

    def __init__(
        self,
        task: str,
        parameters: Sequence[str],
        numbers: Sequence[int],
        unread: Sequence[str] = (),
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self.task, self.lengths = task, dict(zip(parameters, numbers, strict=True))
        self.sources = dict(sources or {})
        super().__init__(task, parameters, numbers, unread, self.sources)

    def describe(
        self,
        task: str,
        parameters: Sequence[str],
        numbers: Sequence[int],
        unread: Sequence[str],
        sources: Mapping[str, str],
    ) -> str:
        """Return the message for these facts; ``unread`` are the parameters that were not read to their ends."""
        listed = ", ".join(
            f"{count}{' or more' * (name in unread)} of {name!r}"
            + (f" (the result of {sources[name]!r})" if sources.get(name, name) != name else "")
            for name, count in zip(parameters, numbers, strict=True)
        )
        if parameters[0].startswith("*"):
            advice = f"wire it to {task}, and not to {task}.map()"
        else:
            advice = f"name the parameters to map over: {task}.map({parameters[0]!r})"
        return (
            f"task {task!r} is mapped over several parameters, whose elements are paired by index, but their numbers "
            f"differ: {listed}; to use one of the values whole in each call, {advice}"
        )


def mapping_error(task: str, parameter: str, value: object, source: str | None = None) -> MappingTypeError | None:
    """Return the error for a value that a task cannot be mapped over; None if it can be.

    Args:
        task: name of the mapped task.
        parameter: the parameter that is mapped.
        value: the value.
        source: name of the task whose result the value is; None if it is not a result.
    """
    kind = type(value)
    reason, fix, give = "", "", "give" if source is None else "return"
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        reason, fix = "a text or bytes object counts as one value", f"{give} a list, such as [...] or text.splitlines()"
    elif isinstance(value, (set, frozenset)):
        reason, fix = "its elements have no order", f"{give} a list of its elements, such as sorted(...)"
    elif hasattr(kind, "keys") and hasattr(kind, "__getitem__") and hasattr(kind, "items"):
        reason, fix = "iterating it gives its keys only", f"{give} a list, such as list(found.items())"
        if hasattr(kind, "itertuples") or hasattr(kind, "iter_rows"):
            reason, fix = (
                "iterating a table gives its columns",
                f"{give} a list of its rows, such as df.to_dict('records')",
            )
    elif hasattr(kind, "iter_rows"):
        reason, fix = "iterating a table gives its columns", f"{give} a list of its rows, such as df.to_dicts()"
    elif hasattr(kind, "__anext__") or hasattr(kind, "__aiter__"):
        reason, fix = "async iterators are not supported", "collect it into a list in an async task"
    elif not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
        reason, fix = "it has no elements", f"{give} a list, a generator or another iterable"
        if value is None and source is not None:
            fix += "; is a return statement missing?"
    if not reason:
        return None
    if source is not None:
        fix = f"in task {source!r}, {fix}"
        if value is not None:
            fix += "; or, if each call takes the whole value, name the other parameters in map(...)"
    return MappingTypeError(task, parameter, kind.__name__, short_repr(value), reason, fix)
