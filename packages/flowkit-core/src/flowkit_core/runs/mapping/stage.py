"""Class `Stage`: the elements of one mapped node in one run, with their values and states."""

from __future__ import annotations

from array import array
from collections import deque

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import idempotency_key
from flowkit_core.errors import ExecutorError, SerializationError
from flowkit_core.failures import Failure, describe_error
from flowkit_core.graphs.binding import bind_condition
from flowkit_core.graphs.parameters import KEY, Parameters
from flowkit_core.runs.arguments import assemble
from flowkit_core.runs.call import Condition, Outcome
from flowkit_core.runs.handle import ListHandle, fetched, release
from flowkit_core.runs.run_state import ABSENT, fetch_in_place
from flowkit_core.runs.states import CANCELLED, FAILED, PENDING, SKIPPED, STATES, SUCCEEDED, UPSTREAM_FAILED

from .block_calls import Template
from .elements import RESUMED, Elements
from .inputs import Missing, PartialColumn
from .span import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.arguments import Given


class Stage:
    """The elements of one mapped node, by number.

    Args:
        node: the node.
        shared: the arguments that are not mapped, the same for all elements.
        columns: the mapped parameters, or positions in ``*args``, in order. The mapped values of an element are given
            in this order: one value for one column, a tuple for several.
        size: number of elements; 0 if it is not known, for a lazy input.

    Attributes:
        node, columns: see above.
        values: result of each element, `ABSENT` unless it succeeded; the exception, with ``errors="return"``.
        codes: state of each element.
        seconds: duration of the last attempt at each element.
        attempt_of, reason_of, error_of, retry_of: as in `RunState`, by number of the element.
        labels: labels of elements that have been named in an event or a message, by number.
        lost: numbers of the elements whose first attempt was in a block that returned no results.
        active: number of jobs that are in this stage: they are called, or wait for a retry; see `Region.active`.
        has_handles: whether results are handles.
        head: the first stage of its region, whose elements feed this one; None for the first stage itself.
        parked: `Element` jobs that wait because of the limit.
        record: the `MapRecord` of the elements; None if they are not recorded.
        sources: the elements of the mapped nodes that this node is mapped over, if it is recorded.
        span: when the first call has started, and when the last one has ended, on the clock of `MappedNodes`.
        ended_at: when the last call has ended, or the node if there was no call (seconds since 1970; 0.0 before).
        origins: for each element 0 if it was called in this run, or `CACHED` or `RESUMED`; without zeros at the end.
    """

    __slots__ = (
        "_shared",
        "_when",
        "active",
        "attempt_of",
        "codes",
        "columns",
        "ended_at",
        "error_of",
        "has_handles",
        "head",
        "labels",
        "lost",
        "node",
        "origins",
        "parked",
        "reason_of",
        "record",
        "retry_of",
        "seconds",
        "sources",
        "span",
        "values",
    )

    def __init__(self, node: Node, shared: Given | None, columns: Sequence[str | int], size: int) -> None:
        self.node = node
        self.columns = tuple(columns)
        self._shared: Any = shared
        self._when: Parameters | None = None
        self.values: list[Any] = [ABSENT] * size
        self.codes = bytearray(size)
        self.seconds = array("d", bytes(8 * size))
        self.attempt_of: dict[int, int] = {}
        self.reason_of: dict[int, str] = {}
        self.error_of: dict[int, BaseException] = {}
        self.retry_of: dict[int, BaseException] = {}
        self.labels: dict[int, str] = {}
        self.lost: set[int] = set()
        self.active = 0
        self.has_handles = False
        self.head: Stage | None = None
        self.parked: deque[Any] = deque()
        self.record: Any = None
        self.sources: tuple[Stage, ...] = ()
        self.origins = bytearray()
        self.span = Span()
        self.ended_at = 0.0

    @property
    def limit(self) -> int | None:
        """Maximum number of elements that are called at once; None means no limit."""
        return self.node.mapped.options.limit if self.node.mapped is not None else None

    @property
    def has_label(self) -> bool:
        """Whether the elements have labels."""
        return self.node.mapped is not None and self.node.mapped.options.label is not None

    @property
    def errors(self) -> str:
        """What happens to elements that fail."""
        return self.node.mapped.options.errors if self.node.mapped is not None else "raise"

    # ---- elements that are not called --------------------------------------------------------------------------------

    def mark(self, number: int, origin: int) -> None:
        """Note that an element was not called in this run."""
        if len(self.origins) <= number:
            self.origins.extend(bytes(len(self.codes) - len(self.origins)))
        self.origins[number] = origin

    def is_resumed(self, number: int) -> bool:
        """Return whether an element ended before the run was resumed."""
        return number < len(self.origins) and self.origins[number] == RESUMED

    def take_over(self, number: int, code: int, value: Any, reason: str) -> None:
        """Set the state of an element that ended before the run was resumed."""
        self.mark(number, RESUMED)
        if code == SUCCEEDED:
            self.values[number] = value
        else:
            self.reason_of[number] = reason
        self.codes[number] = code

    def succeed(self, start: int, results: Sequence[Any], seconds: array[float]) -> None:
        """Set the results of elements with consecutive numbers."""
        end = start + len(results)
        self.values[start:end] = results
        self.seconds[start:end] = seconds
        self.codes[start:end] = bytes([SUCCEEDED]) * len(results)

    # ---- arguments ---------------------------------------------------------------------------------------------------

    def caller(self) -> Callable[[Any], Any]:
        """Return a function that calls the function of the task with the mapped values of an element."""
        return self.template().caller(self.node.func)

    def template(self) -> Template:
        """Return how the function is called for an element."""
        marks = [object() for _ in self.columns]
        args, kwargs = self._arguments(marks)
        places = [(number, place) for number, mark in enumerate(marks) for place, arg in enumerate(args) if arg is mark]
        names = [(number, name) for number, mark in enumerate(marks) for name in kwargs if kwargs[name] is mark]
        for _, place in places:
            args[place] = None
        for _, name in names:
            kwargs[name] = None
        return Template(len(marks), args, kwargs, places, names)

    def shared_arguments(self) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
        """Return the arguments that are the same for all elements: by name, for ``*args`` and for ``**kwargs``."""
        return dict(self._shared.named), list(self._shared.rest), dict(self._shared.extra)

    def _arguments(self, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of an element, given its mapped values; without those that are missing."""
        named, rest, extra = self._filled(values)
        args, kwargs = assemble(self.node.parameters, named, rest)
        return args, kwargs | extra

    def _filled(self, values: Sequence[Any]) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
        """Return the shared arguments together with the mapped values of an element, without those that are missing."""
        shared, parameters = self._shared, self.node.parameters
        named, rest, extra = shared.named.copy(), shared.rest, shared.extra
        removed = []
        for column, value in zip(self.columns, values, strict=True):
            if isinstance(column, int):
                rest = rest.copy() if rest is shared.rest else rest
                rest[column] = value
                if type(value) is Missing:
                    removed.append(column)
            elif type(value) is Missing:
                continue
            elif column in parameters.names:
                named[column] = value
            else:
                extra = {**extra, column: value}
        return named, [each for place, each in enumerate(rest) if place not in removed] if removed else rest, extra

    def call_of(
        self, number: int, mapped: Any, run_id: str, *, is_first: bool
    ) -> Outcome | tuple[Sequence[Any], dict[str, Any], Condition | None]:
        """Return the arguments and the bound condition of an element; or how it ends if a value is missing.

        Args:
            number: number of the element.
            mapped: its mapped value, or a tuple of several.
            run_id: id of the run, for the idempotency key.
            is_first: whether this is the first attempt, before which the condition is evaluated.
        """
        values = (mapped,) if len(self.columns) == 1 else mapped
        parameters = self.node.parameters
        for column, value in zip(self.columns, values, strict=True):
            if type(value) is Missing and value.state != SKIPPED:
                return Outcome(value.state, value.reason)
            if type(value) is not Missing or isinstance(column, int) or column not in parameters.names:
                continue
            if column not in parameters.defaults:
                return Outcome(value.state, f"its parameter {column!r} has no default, and {value.reason}")
        missing = [value for value in values if type(value) is Missing]
        if len(missing) == len(values) and all(isinstance(column, int) for column in self.columns):
            return Outcome(missing[0].state, missing[0].reason)
        named, rest, extra = self._filled(values)
        if parameters.keyed and KEY in named:
            named[KEY] = idempotency_key(run_id, f"{self.node.name}[{number}]")
        args, kwargs = assemble(parameters, named, rest)
        kwargs |= extra
        when = self.node.task.when
        if when is None or not is_first:
            return args, kwargs, None
        if self._when is None:
            self._when = Parameters(when)
        known = {name: named.get(name, parameters.defaults.get(name)) for name in parameters.names} | extra
        when_args, when_kwargs = bind_condition(self._when, known, [*parameters.names, *extra], rest)
        return args, kwargs, Condition(when, when_args, when_kwargs)

    def value_for_next(self, number: int) -> Any:
        """Return the value of an element that has ended, for the next stage; a `Missing` if it has none."""
        code = self.codes[number]
        if code == SUCCEEDED or self.values[number] is not ABSENT:
            return self.values[number]
        name = f"{escape_control_chars(self.node.name)}[{number}]"
        if code == SKIPPED:
            return Missing(SKIPPED, f'"{name}" was skipped')
        if code == FAILED and self.errors == "drop":
            return Missing(SKIPPED, f'"{name}" failed and was dropped')
        if code == CANCELLED:
            return Missing(CANCELLED, f'"{name}" did not run')
        return Missing(UPSTREAM_FAILED, f'"{name}" failed' if code == FAILED else f'"{name}" could not run')

    def column(self) -> list[Any]:
        """Return the values of all elements by number, with a `Missing` for each that has none."""
        if self.codes.count(SUCCEEDED) == len(self.codes):
            return self.values
        return PartialColumn(self.value_for_next(number) for number in range(len(self.codes)))

    def drop(self) -> None:
        """Drop the values."""
        self.values = []

    def fetch_handles(self) -> None:
        """Replace handles by their values; an element whose value is lost has failed."""
        if self.has_handles:
            self.has_handles = False
            fetch_in_place(self.values, self.codes, self.error_of)

    def release_handles(self) -> None:
        """Release the results that are handles, unless they are those of the result of the task."""
        if self.has_handles:
            self.has_handles = False
            release(self.values)

    def lengthen(self, count: int) -> None:
        """Add elements."""
        self.values.extend([ABSENT] * count)
        self.seconds.extend([0.0] * count)
        self.codes.extend(bytes(count))

    def copy_arrays(self) -> None:
        """Replace values, states and durations by copies, so that loops which were given up change nothing."""
        self.values, self.codes, self.seconds = self.values[:], self.codes[:], self.seconds[:]

    def shorten(self, size: int, *, is_final: bool) -> None:
        """Drop the elements from a number on; none of them has started.

        Args:
            size: the number.
            is_final: whether no elements will be added any more; those that are added have no effect.
        """
        if is_final:
            del self.values[size:], self.codes[size:], self.seconds[size:]
            del self.origins[size:]
        else:
            self.values, self.codes, self.seconds = self.values[:size], self.codes[:size], self.seconds[:size]
            self.origins = self.origins[:size]

    # ---- the end -----------------------------------------------------------------------------------------------------

    def note_label(self, number: int, mapped: Any) -> None:
        """Compute the label of an element, given its mapped value or values, and keep it for messages."""
        label = self.label_of(number, mapped)
        if label is not None:
            self.labels[number] = label

    def label_of(self, number: int, mapped: Any) -> str | None:
        """Return the label of an element, given its mapped value or values; None if it has none."""
        label: Any = self.node.mapped.options.label if self.node.mapped is not None else None
        if label is None or number in self.labels:
            return self.labels.get(number)
        values = (mapped,) if len(self.columns) == 1 else mapped
        if any(type(value) is Missing for value in values):
            return None
        try:
            text = str(label(*map(fetched, values)))
        except Exception as error:
            text = f"its label= raised {describe_error(error)}"
        return escape_control_chars(text if len(text) <= _LONG else f"{text[:_LONG]}...")

    def display_name(self, number: int) -> str:
        """Return the name of an element with its label, if it has one."""
        label = self.labels.get(number)
        return f"{self.node.name}[{number}]" + ("" if label is None else f" ({label})")

    def raises(self, error: BaseException) -> bool:
        """Return whether an exception makes the task fail.

        With ``errors="raise"``, any does; else an ExecutorError, a function that cannot be pickled, and one that is no
        Exception.
        """
        kind = type(error)  # isinstance() would read __class__, which may be overridden
        if issubclass(kind, ExecutorError):
            return True
        if issubclass(kind, SerializationError) and error.what in ("function", "script"):  # type: ignore[attr-defined]
            return True
        return self.errors == "raise" or not issubclass(kind, Exception)

    def failures(self, index_error: BaseException) -> list[Failure]:
        """Return the failed elements that made the task fail; the task itself, if there are none."""
        retries = self.node.task.retries
        found = [
            Failure(self.display_name(number), error, self.attempt_of.get(number, 1), retries)
            for number, error in self.error_of.items()
            if self.raises(error)
        ]
        return found or [Failure(self.node.name, index_error, 1, 0)]

    def outcome(self, stop_reason: str, input_outcome: Outcome | None) -> Any:
        """Return the result of the task when all its elements have ended, or how it ends.

        Args:
            stop_reason: why elements did not start.
            input_outcome: how the task ends because of its input; None if that was read to the end.
        """
        result = self._outcome(stop_reason, input_outcome)
        if not self.has_handles:
            return result
        if type(result) is Outcome:
            self.release_handles()
            return result
        self.has_handles = False  # they are those of the list
        return ListHandle(result)

    def _outcome(self, stop_reason: str, input_outcome: Outcome | None) -> Any:
        """Like :meth:`outcome`, but without a `ListHandle` around handles."""
        codes = self.codes
        codes[:] = codes.replace(bytes([PENDING]), bytes([CANCELLED]))  # they have not started
        error = next((error for error in self.error_of.values() if self.raises(error)), None)
        if error is not None:
            return Outcome(FAILED, error=error, retryable=False)
        if input_outcome is not None:
            return input_outcome
        if CANCELLED in codes:
            return Outcome(CANCELLED, stop_reason)
        if UPSTREAM_FAILED in codes:
            number = codes.index(UPSTREAM_FAILED)
            return Outcome(UPSTREAM_FAILED, self.reason_of.get(number, "an element of its upstream failed"))
        if codes.count(SUCCEEDED) == len(codes):
            return self.values
        return [value for value in self.values if value is not ABSENT]

    @property
    def is_running(self) -> bool:
        """Whether elements have started and have not ended."""
        return self.active > 0 or (self.head is not None and self.head.active > 0)

    @property
    def is_partial(self) -> bool:
        """Whether elements have no value, so that the result of the task does not show the numbers of the others."""
        return any(value is ABSENT for value in self.values)

    def elements(self) -> Elements:
        """Return the elements for the results of the run; they share the large arrays, and no values."""
        failed = {number: error for number, error in self.error_of.items() if self.codes[number] == FAILED}
        labels = {number: self.labels[number] for number in failed if number in self.labels}
        name, origins = self.node.name, self.origins
        return Elements(name, self.codes, self.seconds, self.attempt_of, self.reason_of, failed, origins, labels)

    def counts(self) -> dict[str, int]:
        """Return the number of elements in each state, without the states that no element has."""
        return {name: count for code, name in enumerate(STATES) if (count := self.codes.count(code))}


_LONG = 80  # characters of a label
