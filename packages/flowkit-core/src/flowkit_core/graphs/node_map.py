"""Classes `MapOptions`, `MapRequest` and `NodeMap`: which inputs of a task are mapped, and how."""

from __future__ import annotations

from flowkit_core._text import did_you_mean
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import raise_or_collect
from flowkit_core.errors import BindingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flowkit_core._typing import Any

    from .binding import Binding
    from .parameters import Parameters


class MapOptions:
    """The options of ``Task.map()``.

    Attributes:
        limit: maximum number of elements that are called at once; None means no limit.
        errors: what happens to elements that fail: ``"raise"``, ``"drop"`` or ``"return"``.
        label: function that returns the label of an element, given its mapped values; None for no labels.
        chunk: number of elements that an executor sends to a worker at once; None lets the executor choose.
    """

    __slots__ = ("chunk", "errors", "label", "limit")

    def __init__(
        self,
        limit: int | None = None,
        errors: str = "raise",
        label: Callable[..., object] | None = None,
        chunk: int | None = None,
    ) -> None:
        self.limit = limit
        self.errors = errors
        self.label = label
        self.chunk = chunk

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MapOptions) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.limit, self.errors, self.label, self.chunk

    def __repr__(self) -> str:
        defaults = MapOptions()._key
        given = zip(("limit", "errors", "label", "chunk"), self._key, defaults)
        return ", ".join(f"{name}={_source_of(value)}" for name, value, default in given if value != default)


def _source_of(value: Any) -> str:
    """Return source text for the value of an option: the name of a function, ``repr()`` of other values."""
    return getattr(value, "__name__", None) or repr(value) if callable(value) else repr(value)


class MapRequest:
    """The mapping of one task as a pipeline declares it: which inputs are mapped, and the options.

    Attributes:
        parameters: names of the parameters that are mapped, wherever their values come from.
        sources: positions of the upstreams whose results are mapped, whatever they fill.
        options: the options.
    """

    __slots__ = ("options", "parameters", "sources")

    def __init__(self, parameters: Iterable[str], sources: Iterable[int], options: MapOptions) -> None:
        self.parameters = frozenset(parameters)
        self.sources = frozenset(sources)
        self.options = options

    def moved(self, position: Sequence[int]) -> MapRequest:
        """Return the request with other positions of the upstreams."""
        return MapRequest(self.parameters, [position[source] for source in self.sources], self.options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MapRequest) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.parameters, self.sources, self.options


class NodeMap:
    """Which inputs of a node are mapped: its function is called once for each element of them.

    Attributes:
        parameters: the mapped parameters, in the order of the signature.
        rest: the sources of ``*args`` that are mapped.
        named_rest: the keys of ``**kwargs`` that are mapped.
        options: the options.
    """

    __slots__ = ("named_rest", "options", "parameters", "rest")

    def __init__(
        self, parameters: Sequence[str], rest: Iterable[int], named_rest: Iterable[str], options: MapOptions
    ) -> None:
        self.parameters = tuple(parameters)
        self.rest = frozenset(rest)
        self.named_rest = frozenset(named_rest)
        self.options = options

    @property
    def inputs(self) -> int:
        """Number of mapped inputs."""
        return len(self.parameters) + len(self.rest) + len(self.named_rest)

    def sources(self, binding: Binding) -> list[int]:
        """Return the indices of the nodes whose results are mapped, each once, in order."""
        named = [binding.named[name] for name in self.parameters if name in binding.named]
        rest = [source for source in binding.rest if source in self.rest]
        named_rest = [source for name, source in binding.named_rest.items() if name in self.named_rest]
        return list(dict.fromkeys((*named, *rest, *named_rest)))


def bind_map(task: str, parameters: Parameters, binding: Binding, request: MapRequest) -> NodeMap:
    """Return which inputs of a node are mapped.

    Args:
        task: name of the task.
        parameters: what its function takes.
        binding: the binding of the node.
        request: what is to be mapped.

    Raises:
        BindingError: the function has no parameter of a name, or nothing is mapped.
    """
    for name in sorted(request.parameters - set(parameters.names)):
        guess = did_you_mean(name, parameters.names)
        raise_or_collect(
            BindingError(
                f"task {task!r} is mapped over {name!r}, but its function has no such parameter{guess}; its signature "
                f"is {task}{parameters}",
                task,
                name,
            )
        )
    sources = request.sources
    named = [name for name in parameters.names if name in request.parameters or binding.named.get(name, -1) in sources]
    rest = [source for source in binding.rest if source in sources]
    named_rest = [name for name, source in binding.named_rest.items() if source in sources]
    if not (named or rest or named_rest):
        opened = f"{task}.map({binding.open[0]!r})" if binding.open else ""
        advice = f"to map an open parameter, name it: {opened}" if opened else "leave out .map()"
        if sources:
            reason = f"its function takes none of these results; its signature is {task}{parameters}"
        else:
            reason = f"no edge into it is wired through .map(): wire it as in 'rows >> {task}.map()'"
        raise_or_collect(BindingError(f"task {task!r} is mapped over nothing, because {reason}; {advice}", task))
    return NodeMap(named, rest, named_rest, request.options)


def planned_task(task: Any, mapped: NodeMap) -> Any:
    """Return the copy of a mapped task for a store: its trigger includes how it is mapped, and it has the options."""
    copy = object.__new__(type(task))
    copy.__dict__.update(task.__dict__)
    over = ", ".join([*mapped.parameters, *sorted(mapped.named_rest), *("*args" for _ in mapped.rest)])
    copy.trigger = f"{task.trigger}, mapped over {over}, errors={mapped.options.errors!r}"
    copy.limit = mapped.options.limit
    copy.errors = mapped.options.errors
    return copy
