"""Function `observers_of_run`: the observers of a run: given ones, and those of its log lines, report and progress."""

from __future__ import annotations

from flowkit_core._checks import check_switch
from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import is_async_generator_function, is_coroutine_function, is_generator_function
from flowkit_core.events import Event
from flowkit_core.logging_observer import log_observer

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from flowkit_core._typing import Any
    from flowkit_core.events import Observer
    from flowkit_core.graphs.graph import Graph


def observers_of_run(
    observers: Any,
    report: str | os.PathLike[str] | None,
    progress: bool,
    graph: Graph,
    params: Mapping[str, Any] | None,
    *,
    is_recorded: bool,
) -> list[Observer]:
    """Return the observers of a run.

    Args:
        observers: the argument of ``run()``.
        report: the argument of ``run()``.
        progress: the argument of ``run()``.
        graph: the graph of the run.
        params: the parameters of the run.
        is_recorded: whether the run is recorded.

    Raises:
        TypeError: ``observers`` is not an iterable of observers, ``report`` not a path, or ``progress`` not a bool.
        MissingDistributionError: a report or progress is wanted, and flowkit-view is not installed.
        OSError: the file of the report cannot be there.
    """
    if progress is not False:
        check_switch("progress", progress)
    found = checked_observers(observers)
    found += log_observer(is_recorded=is_recorded, prints_elements=bool(graph.mapped) and not progress)
    if report is not None:
        from flowkit_core.recorded.reports import report_observer

        found.append(report_observer(report, graph, params or {}))
    if progress:
        from flowkit_core.recorded.reports import progress_observer

        found.append(progress_observer())
    return found


def checked_observers(observers: Any) -> list[Observer]:
    """Return the argument ``observers`` of ``run()`` as a list.

    Raises:
        TypeError: it is not an iterable of observers.
    """
    if callable(observers) and not hasattr(observers, "__iter__"):
        raise TypeError(f"observers is {short_repr(observers)}, but must be a list: write observers=[...] also for one")
    found = list(observers)
    for observer in found:
        _check(observer)
    return found


def _check(observer: Any) -> None:
    """Raise a TypeError if a value is not an observer."""
    shown = f"observers has {short_repr(observer)}"
    if not callable(observer) or isinstance(observer, type):
        raise TypeError(f"{shown}, but its items must be functions, or other callables, that take an event")
    if is_coroutine_function(observer) or is_generator_function(observer) or is_async_generator_function(observer):
        raise TypeError(f"{shown}, but observers are not awaited, or iterated: write a plain function")
    events = getattr(observer, "events", None)
    if events is None:
        return
    if not isinstance(events, (tuple, list, set, frozenset)) or not all(map(_is_event_class, events)):
        raise TypeError(
            f"{shown}, whose attribute events is {short_repr(events)}, but must be a tuple of classes of events, "
            f"such as (TaskFailed,)"
        )


def _is_event_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Event)
