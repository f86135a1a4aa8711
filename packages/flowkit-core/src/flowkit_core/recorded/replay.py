"""Function `replay`: calls one task of a recorded run again, with its recorded inputs."""

from __future__ import annotations

from itertools import islice

from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import TaskContext, idempotency_key
from flowkit_core.coroutines import CoroutineType
from flowkit_core.graphs.parameters import KEY
from flowkit_core.runs.arguments import assemble, call_arguments, collect
from flowkit_core.runs.call import Outcome
from flowkit_core.runs.facts import Facts
from flowkit_core.runs.run_state import RunState
from flowkit_core.runs.states import SKIPPED, STATES, SUCCEEDED

if TYPE_CHECKING:
    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node


def replay(graph: Graph, record: Any, task: str) -> Any:
    """Call a task in this thread, with its recorded inputs, and return what it returns.

    Args:
        graph: the graph of the pipeline.
        record: the record of the run, a ``flowkit_state.RunRecord``.
        task: name of the task; for a mapped task, with the number of an element: ``"parse[3]"``.

    Raises:
        ValueError: there is no such task or element, or an input was not recorded.
        Exception: whatever the task raises.
    """
    name, element = _parsed(graph, task)
    if name not in graph.names:
        guess = did_you_mean(str(name), graph.names)
        raise ValueError(f"replay() names {short_repr(task)}, but {graph.name!r} has no such task{guess}")
    node = graph[name]
    if node.mapped is not None and element is None:
        recorded = record.tasks[name].elements if name in record.tasks else None
        number = next(iter(recorded.failed), 0) if recorded is not None else 0
        raise ValueError(
            f"task {task!r} is mapped, so it was called once for each element: name the one to call it for, such as "
            f"'{name}[{number}]'"
        )
    state = _state(graph, node, record, task, element)
    if element is None:
        bound = call_arguments(node, state, record.params, record.run_id)
        arguments = bound if isinstance(bound, Outcome) else bound[:2]
    else:
        arguments = _arguments_of_element(node, state, record, element)
    if isinstance(arguments, Outcome):
        raise ValueError(f"task {task!r} was not called in run {record.run_id}: {arguments.reason}")  # noqa: TRY004
    args, kwargs = arguments
    lost = [value for value in (*args, *kwargs.values()) if type(value).__name__ == "UnrecordedValue"]
    if lost:
        raise ValueError(f"task {task!r} cannot be called again: it takes {lost[0]!r}")
    facts = Facts(record.run_id, graph.name, record.params, None)
    context = TaskContext(facts, node.index, node.name, 1, element)
    value = context.run(node.func, *args, **kwargs)
    if type(value) is not CoroutineType:
        return value
    from flowkit_core.runs.event_loop.shared_loop import run_in_loop

    return context.run(run_in_loop, value)


def _parsed(graph: Graph, task: str) -> tuple[str, int | None]:
    """Return the name of a task, and the number of an element if one is named."""
    name, bracket, number = task.rpartition("[")
    number = number.removesuffix("]")
    if task in graph.names or not bracket or f"{name}[{number}]" != task or not number.isdecimal():
        return task, None
    if name in graph.names and graph[name].mapped is None:
        raise ValueError(f"replay() names element {task!r}, but task {name!r} is not mapped")
    return name, int(number)


def _state(graph: Graph, node: Node, record: Any, task: str, element: int | None) -> RunState:
    """Return a state with the recorded results that a task takes; for an element, with its items of mapped inputs."""
    state = RunState(graph)
    mapped = node.mapped.sources(node.binding) if node.mapped is not None and node.binding is not None else ()
    for index in node.upstream:
        name = graph.names[index]
        source = record.tasks.get(name)
        try:
            if element is not None and index in mapped and graph.nodes[index].mapped is not None:
                code, value = _of_element(graph.nodes[index], source, element)
            elif source is not None and source.state == STATES[SUCCEEDED]:
                code, value = SUCCEEDED, None
                if element is not None and index in mapped:
                    value = _element_of(graph, node, record, name, element)
                elif index not in node.waits:
                    value = source.result()
            elif source is not None and source.state == STATES[SKIPPED]:
                code, value = SKIPPED, None
            else:
                outcome = "not part of it" if source is None else source.state.replace("_", " ")
                raise LookupError(f"{name!r} has no recorded result, because it is {outcome}")
        except LookupError as error:
            if index in node.waits:
                continue
            raise ValueError(
                f"task {task!r} cannot be called again with the inputs of run {record.run_id}: {error}"
            ) from None
        state.codes[index] = code
        if code == SUCCEEDED:
            state.values[index] = value
    return state


def _of_element(node: Node, source: Any, element: int) -> tuple[int, Any]:
    """Return the state and the value of an element of a mapped task, for what is mapped over that."""
    elements = None if source is None else source.elements
    if elements is None:
        raise LookupError(f"the elements of {node.name!r} are not recorded")
    state = elements.states.get(element)
    if state == "skipped" or (state == "failed" and node.mapped is not None and node.mapped.options.errors == "drop"):
        return SKIPPED, None
    return SUCCEEDED, elements.result(element)


def _element_of(graph: Graph, node: Node, record: Any, source: str, element: int) -> Any:
    """Return an element of the result of a task. A generator is not recorded, so its function is called again."""
    from inspect import isgeneratorfunction

    try:
        return _item(record.tasks[source].result(), element, source)
    except LookupError:
        if not isgeneratorfunction(graph[source].func):
            raise
    return _made_again(graph, node, record, source, element)


def _made_again(graph: Graph, node: Node, record: Any, source: str, element: int) -> Any:
    """Return an element of a generator, whose function is called again with its recorded inputs.

    Raises:
        LookupError: the generator has fewer elements now, or yields another value than in the run.
    """
    iterator = replay(graph, record, source)
    facts = Facts(record.run_id, graph.name, record.params, None)
    context = TaskContext(facts, graph[source].index, source, 1)
    items = context.run(lambda: [*islice(iterator, element, element + 1)])
    iterator.close()
    if not items:
        raise LookupError(f"the generator of {source!r}, which was called again, has fewer elements now")
    elements = record.tasks[node.name].elements if node.name in record.tasks else None
    is_alone = node.mapped is not None and node.mapped.inputs == 1
    was_given = getattr(elements, "was_given", None) if is_alone else None
    if was_given is not None and was_given(element, items[0]) is False:
        raise LookupError(
            f"the generator of {source!r}, which was called again, yields {short_repr(items[0])} for element {element},"
            f" which is another value than in the run"
        )
    return items[0]


def _item(value: Any, element: int, name: str) -> Any:
    items = list(value)
    if element >= len(items):
        raise LookupError(f"{name!r} has {len(items)} elements")
    return items[element]


def _arguments_of_element(
    node: Node, state: RunState, record: Any, element: int
) -> Outcome | tuple[list[Any], dict[str, Any]]:
    """Return the arguments of an element; or how it ended without being called."""
    given = collect(node, state, record.params, record.run_id)
    if isinstance(given, Outcome):
        return given
    named, parameters = given.named, node.parameters
    for parameter in node.mapped.parameters if node.mapped is not None else ():
        if node.binding is not None and parameter not in node.binding.named:
            value = named[parameter] if parameter in named else parameters.defaults[parameter]
            try:
                named[parameter] = _item(value, element, parameter)
            except LookupError as error:
                raise ValueError(f"there is no element '{node.name}[{element}]': {error}") from None
    if KEY in named and parameters.keyed:
        named[KEY] = idempotency_key(record.run_id, f"{node.name}[{element}]")
    args, kwargs = assemble(parameters, named, given.rest)
    return args, kwargs | given.extra
