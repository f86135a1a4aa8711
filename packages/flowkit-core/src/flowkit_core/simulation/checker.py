"""Class `Checker`: checks the history of a simulated run against the rules of runs.

It replays the history and decides by itself what may happen next. It uses the graph and the options of the tasks, and
no code of `Run`.
"""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.failures import describe_error, skip_reason
from flowkit_core.graphs.map_errors import MapLengthError
from flowkit_core.graphs.open_parameters import params_of
from flowkit_core.runs.call import Outcome
from flowkit_core.runs.limits.errors import PoolBlockedError
from flowkit_core.runs.time_limit import STOP_GRACE

from .clock import StuckError
from .handles import is_result
from .history import ENDS
from .limit_checker import LimitChecker, home_of
from .map_checker import UNKNOWN, MapModel, is_iterator, raises
from .reference import Reference, sources_of
from .results_checker import ResultsChecker, error_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Entry, Node
    from flowkit_core.results import Results
    from flowkit_core.retry import RetryPolicy

    from .history import Record

_CLEANUP = ("all_done", "one_failed", "all_failed")
_STOPS = ("interrupted", "executor_lost", "run_timed_out")
_BAD = ("failed", "upstream_failed", "cancelled")
_TOLERANCE = 1e-6  # seconds


class Checker:
    """Checks one history.

    Args:
        graph: the graph.
        options: the options of the simulation.
        history: the records.
        results: the results of the run.
        error: the exception of the run; None if it returned.
    """

    def __init__(
        self,
        graph: Graph,
        options: Mapping[str, Any],
        history: Sequence[Record],
        results: Results,
        error: BaseException | None,
    ) -> None:
        self._graph = graph
        self._options = options
        self._history = history
        self._results = results
        self._error = error
        self._found: list[str] = []
        self._ended: dict[str, str] = {}  # task -> state
        self._ended_at: dict[int, float] = {}  # index of a node -> time
        self._values: dict[str, Any] = {}  # task -> result
        self._arguments: dict[str, tuple[Sequence[Any], dict[str, Any]]] = {}
        self._missing: dict[str, set[int]] = {}  # task -> indices of upstreams that had not ended when it started
        self._errors: list[BaseException] = []  # of failed tasks and elements, in order
        self._expanded: set[str] = set()  # mapped tasks whose elements were to run, first ones of their chains
        self._current: dict[str, int] = {}  # task -> its attempt that is running and has not been given up
        self._attempts: dict[str, int] = {}  # task -> number of the last attempt
        self._ready: dict[str, int] = {}  # task -> number of the attempt for which it was ready last
        self._due: dict[str, float] = {}  # task that waits for a retry -> when that is due
        self._conditions: dict[str, Any] = {}  # task -> what its condition returned or raised
        self._parked: set[str] = set()  # tasks that wait for a pool, and are not in an executor
        self._given_up: set[tuple[str, int]] = set()
        self._grace: float | None = options["grace"]
        self._started_at: dict[str, float] = {}
        self._timed_out = False  # whether the timeout of the run has stopped it
        self._stopped_at: float | None = None
        self._grace_ends: float | None = None  # when running attempts of a stopped run are ended
        self._cancelled = False
        self._maps = MapModel(graph, options["params"] or {}, self._ended, self._values)
        self._limits = LimitChecker(graph, options["pools"], options["workers"], self._maps.heads, self._report)

    def problems(self, *, pure: bool) -> list[str]:
        """Return what contradicts the rules."""
        error = self._error
        if isinstance(error, StuckError):
            waiting = [name for name in self._graph.names if not self._has_ended(name)]
            return [f"the run got stuck: {', '.join(waiting[:5])} did not end, and nothing was running"]
        for record in self._history:
            self._replay(record)
        for name in self._graph.names:
            if name not in self._ended:
                self._found.append(f"{name!r} has not ended")
        results = ResultsChecker(self._graph, self._results, self._maps, self._ended, self._values, self._attempts)
        self._found += results.problems()
        wrong = error_problem(
            error,
            self._errors,
            {record.what for record in self._history},
            timed_out=self._timed_out,
            fail_fast=self._options["fail_fast"],
            has_maps=bool(self._graph.mapped),
        )
        self._found += [] if wrong is None else [wrong]
        if pure and not self._found:
            reference = Reference(self._graph, self._options, self._maps, self._values, self._arguments, self._missing)
            difference = reference.problem()
            self._found += [] if difference is None else [difference]
        return self._found

    def _has_ended(self, name: str) -> bool:
        return any(
            record.name == name and record.what in ENDS and record.what != "cancelled" for record in self._history
        )

    def _replay(self, record: Record) -> None:
        self._record = record
        if record.element is not None and record.what == "ready":
            self._check_order(record)
        self._limits.replay(record, is_running=self._stopped_at is None)
        if record.what in _STOPS:
            self._replay_stop(record)
        else:
            self._replay_node(self._graph[record.task], record)

    def _replay_stop(self, record: Record) -> None:
        if record.what == "run_timed_out":
            self._timed_out = self._stopped_at is None
            if self._grace_ends is None:
                self._grace_ends = record.time + (STOP_GRACE if self._grace is None else self._grace)
        else:
            self._cancelled = True
        self._stopped_at = record.time if self._stopped_at is None else self._stopped_at

    def _replay_node(self, node: Node, record: Record) -> None:
        if record.what in ENDS:
            self._end(node, record)
        elif record.what == "ready":
            self._become_ready(node, record)
        elif record.what == "condition":
            if record.name in self._conditions:
                self._report("its condition was evaluated again")
            self._conditions[record.name] = record._data
        elif record.what == "waiting":
            self._wait(record)
        elif record.what == "started":
            self._start(node, record)
        elif record.what == "expanded":
            self._expand(node, record)
        elif record.what == "retrying":
            self._retry(node, record)
        elif record.what == "timed_out":
            self._given_up.add((record.name, record.attempt))
        elif record.what == "not_released":
            self._report(record.detail)
        elif record.what == "ignored" and self._current.get(record.name) == record.attempt:
            self._report("the outcome of its current attempt was ignored")

    def _report(self, problem: str) -> None:
        record = self._record
        attempt = f" (attempt {record.attempt})" if record.attempt > 1 else ""
        self._found.append(f"at {record.time:.3f} s, {record.name!r}{attempt}: {problem}")

    def _wait(self, record: Record) -> None:
        if self._ready.get(record.name) != record.attempt:
            self._report("it waits for a pool without being ready")
        self._parked.add(record.name)
        self._ready[record.name] = record.attempt - 1  # it becomes ready again

    # ---- starts ----------------------------------------------------------------------------------------------------

    def _become_ready(self, node: Node, record: Record) -> None:
        name = record.name
        if name in self._ended:
            self._report("it became ready after it had ended")
        if self._ready.get(name, 0) >= record.attempt:
            self._report("it became ready twice")
        self._ready[name] = record.attempt
        if name in self._parked:  # it has waited for a pool
            self._parked.discard(name)
            return
        for upstream in self._running_upstreams(node, record.element):
            self._report(f"it became ready before its upstream {upstream!r} had ended")
        fired_at = self._fired_at(node)
        if (
            record.element is None
            and fired_at is not None
            and record.attempt == 1
            and record.time > fired_at + _TOLERANCE
        ):
            self._report(f"it became ready late: its trigger {node.task.trigger!r} was fulfilled at {fired_at:.3f} s")
        due = self._due.get(name)
        if due is not None and abs(due - record.time) > _TOLERANCE and (self._may_start(node) or record.time > due):
            self._report(f"its retry was due at {due:.3f} s")
        home = home_of(node)
        if record.detail != home:
            self._report(f"it was passed to the executor {record.detail!r}, and not to {home!r}")

    def _start(self, node: Node, record: Record) -> None:
        name = record.name
        if name in self._ended:
            self._report(f"it started after it had ended as {self._ended[name]}")
        if name in self._current:
            self._report(f"it started while attempt {self._current[name]} was running")
        if record.attempt != self._attempts.get(name, 0) + 1:
            self._report(f"the attempt before was number {self._attempts.get(name, 0)}")
        if record.attempt > node.task.retries + 1:
            self._report(f"it has retries={node.task.retries}, so that there are {node.task.retries + 1} attempts")
        if self._ready.get(name) != record.attempt:
            self._report("it started without being ready")
        if not self._may_start(node):
            how = "was cancelled" if self._cancelled else "had been stopped"
            self._report(f"it started after the run {how}")
        if record.time < self._due.pop(name, 0.0) - _TOLERANCE:
            self._report("it started before its retry was due")
        running = self._running_upstreams(node, record.element)
        for upstream in running:
            self._report(f"it started before its upstream {upstream!r} had ended")
        expected = "started" if running else self._decide(node, record.element)
        if expected != "started":
            self._report(f"it started, but with trigger {node.task.trigger!r} it ends as {expected}")
        if self._conditions.get(name, True) is not True:
            self._report("it started, although its condition was not true")
        if node.task.when is not None and name not in self._conditions:
            self._report("it started before its condition was evaluated")
        self._missing[name] = {index for index in node.upstream if self._graph.names[index] not in self._ended}
        self._current[name] = self._attempts[name] = record.attempt
        self._started_at[name] = record.time
        self._arguments[name] = record._data
        if not running:
            self._check_arguments(node, record)
        if record.element is not None:
            self._check_limit(node)

    def _retry(self, node: Node, record: Record) -> None:
        name = record.name
        delay, error = record._data
        if self._current.pop(name, None) != record.attempt:
            self._report("an attempt that was not running is repeated")
        if not self._should_retry(node, record.attempt, error):
            self._report(f"it is repeated after {describe_error(error)}, but should not be")
        policy = node.task.retry
        answer = _answer(policy.retry_on, error)
        if isinstance(answer, float):
            if delay != answer:
                self._report(f"it is repeated after {delay:.3f} s, and not after {answer:.3f} s, as retry_on says")
            self._due[name] = record.time + delay
            return
        wait = _wait_before_retry(policy, record.attempt)
        if not wait * (1 - policy.jitter) - _TOLERANCE <= delay <= wait * (1 + policy.jitter) + _TOLERANCE:
            self._report(f"it is repeated after {delay:.3f} s, and not after about {wait:.3f} s")
        self._due[name] = record.time + delay

    def _expand(self, node: Node, record: Record) -> None:
        """Check that the elements of a mapped task may start."""
        if node.name in self._expanded:
            self._report("its elements are to run again")
        if node.mapped is None or record.name in self._ended or self._ready.get(record.name) != record.attempt + 1:
            self._report("its elements are to run, but it was not ready")
            return
        if not self._may_start(node):
            self._report("its elements are to run, although the run was stopped")
        expected = self._decide(node, None)
        if expected != "started":
            self._report(f"its elements are to run, but it ends as {expected}")
        error_class = self._maps.input_error(node)
        if error_class is not None:
            self._report(f"its elements are to run, although it fails with {error_class.__name__}")
        self._maps.open(node, node)
        self._expanded.add(node.name)

    def _check_order(self, record: Record) -> None:
        """Check that the elements of the first task of a chain become ready in their order, and others at once."""
        node, element = self._graph[record.task], record.element or 0
        if record.attempt == 1 and record.name not in self._parked:
            following = self._maps.sizes.get(node.name, 0)
            if node.name in self._expanded and element != following:
                self._report(f"element {following} is the next")
        self._maps.note_element(node, element)
        if node.name not in self._expanded and (self._maps.heads[node.name] is node or self._ready.get(node.name)):
            self._report("it became ready, although the elements of its task are not to run")

    def _check_limit(self, node: Node) -> None:
        limit = node.mapped.options.limit if node.mapped is not None else None
        size = self._maps.sizes.get(node.name, 0)
        running = sum(f"{node.name}[{number}]" in self._current for number in range(size))
        if limit is not None and running > limit:
            self._report(f"{running} elements run at once, and the limit is {limit}")

    def _running_upstreams(self, node: Node, element: int | None) -> list[str]:
        """Return the upstreams that a node, or an element, has to wait for, and that have not ended."""
        if element is not None:
            return self._maps.pending_sources(node, element)
        if self._fired_at(node) is not None:
            return []
        names = self._graph.names
        return [names[index] for index in node.upstream if names[index] not in self._ended]

    def _fired_at(self, node: Node) -> float | None:
        """Return when the first upstream ended in a state that is enough for the trigger of a node; None before."""
        enough = {"one_success": ("succeeded",), "one_failed": ("failed", "upstream_failed")}.get(node.task.trigger, ())
        fulfilling = [index for index in node.upstream if self._state(node, index) in enough]
        return min((self._ended_at[index] for index in fulfilling), default=None)

    def _state(self, node: Node, index: int) -> str:
        """Return the state of an upstream as it counts for a node; "pending" before it has ended."""
        state = self._ended.get(self._graph.names[index], "pending")
        return "succeeded" if index in node.waits and state == "skipped" else state

    def _may_start(self, node: Node) -> bool:
        return self._stopped_at is None or (not self._cancelled and node.task.trigger in _CLEANUP)

    def _should_retry(self, node: Node, attempt: int, error: BaseException) -> bool:
        if skip_reason(error) is not None:
            return False
        if not isinstance(error, Exception) or attempt > node.task.retries or not self._may_start(node):
            return False
        return _answer(node.task.retry.retry_on, error) is not False

    # ---- ends ------------------------------------------------------------------------------------------------------

    def _end(self, node: Node, record: Record) -> None:
        name, state, element = record.name, record.what, record.element
        if state == "failed" and self._ended.get(name) == "succeeded" and is_iterator(self._values.get(name)):
            self._ended[name] = state  # its iterator has raised
            self._add_error(record, record._data.error)
            return
        if element is not None:
            self._maps.note_element(node, element)
        if name in self._ended:
            self._report(f"it ended as {state}, after it had ended as {self._ended[name]}")
            return
        current = self._current.pop(name, None)
        if element is None and node.mapped is not None and not self._ready.get(name):  # it ends with its chain
            self._maps.open(node, self._maps.head_of(node))
        if element is None and node.name in self._maps.heads:
            self._end_map(node, record)
            self._ended_at[node.index] = record.time
            return
        for upstream in self._running_upstreams(node, element) if not self._cancelled else ():
            self._report(f"it ended before its upstream {upstream!r} had ended")
        if node.mapped is not None and element is None and state == "failed":
            self._fail_map(node, record)
        elif state == "succeeded":
            self._succeed(node, record, current)
        elif state == "failed":
            self._fail(node, record, current)
        elif state == "cancelled":
            self._cancel(node, record, current)
        elif current is not None:
            if state != "skipped" or not _is_skip(record._data):
                self._report(f"it ended as {state} while it was running")
        elif not self._cancelled and not self._running_upstreams(node, element):
            self._end_without_call(node, record)
        self._ended[name] = state
        if element is None:
            self._ended_at[node.index] = record.time

    def _end_without_call(self, node: Node, record: Record) -> None:
        """Check the end of a task, or an element, whose function was not called."""
        state, element, answer = record.what, record.element, self._conditions.get(record.name)
        expected = self._decide(node, element)
        has_raised = _is_skip(record._data) and record._data.error is answer
        if expected == "started" and (answer is False or has_raised):
            expected = "skipped"
        if state != expected and (self._may_start(node) or state != "upstream_failed"):
            self._report(f"it ended as {state}, and not as {expected}")

    def _end_map(self, node: Node, record: Record) -> None:
        """Check the end of a mapped task whose elements were to run."""
        size = self._maps.size(node)
        names = [f"{node.name}[{number}]" for number in range(size or self._maps.sizes.get(node.name, 0))]
        for name in names:
            if name in self._current:
                self._report(f"it ended while {name!r} was running")
            if name not in self._ended and self._may_start(node):
                self._report(f"it ended before {name!r} had ended")
        if self._cancelled and record.what == "cancelled":
            self._ended[node.name] = record.what
            return
        error = record._data.error if isinstance(record._data, Outcome) else None
        if isinstance(error, MapLengthError) and self._maps.may_be_unequal(node):
            self._add_error(record, error)
            self._ended[node.name] = record.what
            return
        expected, value = self._maps.outcome(node)
        if record.what != expected and not (record.what == "cancelled" and self._is_cut_short(node)):
            self._report(f"it ended as {record.what}, and not as {expected}")
        if record.what == expected == "succeeded":
            same = isinstance(record._data, list) and len(record._data) == len(value)
            if not same or any(one is not other for one, other in zip(record._data, value, strict=True)):
                self._report("its result is not the list of the results of its elements")
            self._values[node.name] = record._data
        self._ended[node.name] = record.what

    def _is_cut_short(self, node: Node) -> bool:
        """Return whether a run has stopped before it knew how many elements a mapped task has."""
        return self._maps.size(node) is None and not self._may_start(node)

    def _fail_map(self, node: Node, record: Record) -> None:
        """Check the failure of a mapped task because of what it is mapped over."""
        error = record._data.error if isinstance(record._data, Outcome) else None
        error_class = self._maps.input_error(node)
        if error is None or error_class is None or not isinstance(error, error_class):
            expected = "no exception" if error_class is None else error_class.__name__
            self._report(f"it failed with {'no exception' if error is None else describe_error(error)}, not {expected}")
        if error is not None:
            self._add_error(record, error)

    def _succeed(self, node: Node, record: Record, current: int | None) -> None:
        if current != record.attempt:
            self._report(f"the result of attempt {record.attempt} counts, which was not running")
        if (record.name, record.attempt) in self._given_up:
            self._report("the late result of an attempt that had been given up counts")
        if isinstance(record._data, Outcome):
            self._report("it ended as succeeded, but its attempt did not return")
        self._check_grace(node)
        timeout = node.task.timeout
        if timeout is not None and record.time > self._started_at.get(record.name, 0.0) + timeout + _TOLERANCE:
            self._report(f"its result counts, although it took longer than its timeout of {timeout} s")
        self._values[record.name] = record._data

    def _fail(self, node: Node, record: Record, current: int | None) -> None:
        name = record.name
        error = record._data.error if isinstance(record._data, Outcome) else None
        if isinstance(error, PoolBlockedError):  # checked by `LimitChecker`; the attempt that has waited counts
            self._attempts[name] = self._ready.get(name, 1)
            self._conditions[name] = error
            self._due.pop(name, None)
        waited = name in self._due  # for a retry, when the run was stopped
        if waited:
            if self._may_start(node):
                self._report("it failed while it waited for a retry, and the run was not stopped")
        elif current is None:
            if error is None or self._conditions.get(name) is not error:
                self._report("it failed without an attempt")
        else:
            if current != record.attempt:
                self._report(f"the failure of attempt {record.attempt} counts, which was not running")
            if error is not None and self._should_retry(node, record.attempt, error):
                self._report(f"it failed with {describe_error(error)}, but should be repeated")
            self._check_grace(node)
        error = self._results.failed.get(name) if waited else error
        if error is None:
            self._report("it failed without an exception")
            return
        if skip_reason(error) is not None:
            self._report(f"it failed with {describe_error(error)}, but should be skipped")
        if record.element is not None:
            self._maps.errors[name] = error
            if not raises(node, error):
                return
        self._add_error(record, error)

    def _add_error(self, record: Record, error: BaseException) -> None:
        """Note an exception that makes the run fail."""
        self._errors.append(error)
        if self._options["fail_fast"] or not isinstance(error, Exception):
            self._stop(record.time)
        self._cancelled |= isinstance(error, KeyboardInterrupt)
        if not isinstance(error, Exception) and self._grace_ends is None:
            self._grace_ends = record.time + STOP_GRACE

    def _stop(self, time: float) -> None:
        if self._stopped_at is None:
            self._stopped_at = time
            self._grace_ends = None if self._grace is None else time + self._grace

    def _cancel(self, node: Node, record: Record, current: int | None) -> None:
        element = self._record.element
        follows = current is None and not self._running_upstreams(node, element)
        follows = follows and self._decide(node, element) == "cancelled"
        if self._may_start(node) and not follows:
            self._report("it was cancelled, but the run was not stopped")
        in_grace = self._grace_ends is None or record.time < self._grace_ends - _TOLERANCE
        if current is not None and not self._cancelled and in_grace:
            self._report("it was cancelled while it was running, before the grace period was over")

    def _check_grace(self, node: Node) -> None:
        ends = self._grace_ends
        if ends is None or node.task.trigger in _CLEANUP or self._cancelled:
            return
        if self._record.time > ends + _TOLERANCE:
            self._report(f"it was running longer than the grace period, which ended at {ends:.3f} s")

    def _decide(self, node: Node, element: int | None = None) -> str:
        """Return the next state of a ready node, unless the run is stopped: "started", or that with which it ends."""
        if element is not None:
            return self._maps.decide(node, element)
        if node.entry is not None and (state := self._decide_entry(node.entry)) != "started":
            return state
        names, trigger = self._graph.names, node.task.trigger
        states = [self._state(node, index) for index in node.upstream]
        bad = [state for state in states if state in _BAD]
        if trigger in ("none_failed", "all_success") and bad:
            return "cancelled" if set(bad) == {"cancelled"} else "upstream_failed"
        if trigger == "all_success" and "skipped" in states:
            return "skipped"
        if trigger == "one_success" and states and "succeeded" not in states:
            return "upstream_failed" if bad else "skipped"
        failed = {"failed", "upstream_failed"}
        if trigger in ("one_failed", "all_failed") and not failed.intersection(states):
            return "skipped"
        if trigger == "all_failed" and not failed.issuperset(states):
            return "skipped"
        named, _, _ = sources_of(node)
        for parameter, source in named.items():
            state = self._ended.get(names[source], "pending")
            if state != "succeeded" and parameter not in node.parameters.defaults:
                return state if state in ("skipped", "cancelled") else "upstream_failed"
        data = [self._ended.get(names[index]) for index in node.upstream if index not in node.waits]
        if trigger == "none_failed" and not named and data and set(data) == {"skipped"}:
            return "skipped"
        return self._maps.decide_without_input(node) if node.mapped is not None else "started"

    def _decide_entry(self, entry: Entry) -> str:
        """Return the next state of the nodes of a pipeline that is used as a task: see :meth:`_decide`."""
        if entry.outer is not None and (state := self._decide_entry(entry.outer)) != "started":
            return state
        if entry.gate is None:
            return self._decide(entry.node)
        state = self._ended.get(self._graph.names[entry.gate], "pending")
        ends = {"succeeded": "started", "failed": "upstream_failed"}
        return ends.get(state, state)

    # ---- values ----------------------------------------------------------------------------------------------------

    def _check_arguments(self, node: Node, record: Record) -> None:
        """Check that the arguments of an attempt are the very results of the upstreams, or items of them."""
        args, kwargs = self._arguments[record.name]
        if node.task._is_gate:
            if args or kwargs:
                self._report("it takes arguments, which only its condition needs")
            return
        positional, names, nodes = node.parameters.positional, self._graph.names, self._graph.nodes
        given = dict(zip(positional, args)) | kwargs
        named, rest, named_rest = sources_of(node)
        values: dict[int, Any] = {
            index: self._values[names[index]] for index in node.upstream if names[index] in self._values
        }
        own = dict(params_of(node, self._options["params"] or {}))
        if record.element is not None:
            self._maps.take_items(node, record.element, values, own)
        for parameter, source in (*named.items(), *named_rest.items()):
            if source in values:
                value, is_known = values[source], values[source] is not UNKNOWN
                if parameter not in given or (is_known and not is_result(given[parameter], nodes[source], value)):
                    self._report(f"its argument {parameter!r} is not the result of {names[source]!r}")
            elif parameter in given and given[parameter] is not node.parameters.defaults.get(parameter):
                self._report(f"its argument {parameter!r} is not the default, but {names[source]!r} has no result")
        for parameter in node.binding.open if node.binding is not None else ():
            if parameter in own and (
                parameter not in given or (own[parameter] is not UNKNOWN and given[parameter] is not own[parameter])
            ):
                self._report(f"its argument {parameter!r} is not that of params")
        items = [source for source in rest if source in values]
        others = args[len(positional) :]
        if len(others) != len(items) or any(
            values[source] is not UNKNOWN and not is_result(other, nodes[source], values[source])
            for other, source in zip(others, items)
        ):
            self._report("its arguments *args are not the results of its upstreams")


def _wait_before_retry(policy: RetryPolicy, retry: int) -> float:
    """Return the seconds before a retry, without jitter: what `RetryPolicy.wait` is compared with."""
    try:
        return min(policy.delay * policy.backoff ** (retry - 1), policy.max_delay)
    except OverflowError:
        return policy.max_delay if policy.delay else 0.0


def _answer(rule: Any, error: BaseException) -> bool | float:
    """Return whether ``retry_on`` lets an exception be retried, or after how many seconds."""
    if rule is None or isinstance(rule, (type, tuple)):
        return rule is None or isinstance(error, rule)
    try:
        answer = rule(error)
    except Exception:  # it means no
        return False
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        return bool(answer)
    return float(answer) if 0 <= answer < float("inf") else False


def _is_skip(data: Any) -> bool:
    """Return whether an attempt ended with `Skip`."""
    return isinstance(data, Outcome) and data.error is not None and skip_reason(data.error) is not None
