"""Class `Submissions`: the calls of one run as tasks of Dask, and their futures."""

from __future__ import annotations

import operator
import pickle
from collections import Counter
from itertools import count
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask._task_spec import Task as DaskTask
from dask._task_spec import TaskRef
from dask.base import get_annotations
from dask.sizeof import sizeof

from flowkit_core import SerializationError
from flowkit_core.executors.pickling_by_value import CREATE_HINT, find_unpicklable
from flowkit_core.runs.call import Call, Ref
from flowkit_core.runs.context_transfer import CarriedContext
from flowkit_core.runs.handle import ListHandle
from flowkit_core.runs.mapping.block_calls import Template
from flowkit_core.runs.mapping.element import Block, Element
from flowkit_core.runs.states import CLEANUP_TRIGGERS

from .blocks import BlockInvocation, packed
from .calls import MAX_INLINE, Invocation, Slot, SlotList, condition_is_true, is_large, own_environment
from .envelope import enclosed
from .errors import summary
from .handle import DaskHandle
from .pickling import dumps, dumps_function
from .start_order import send_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client, Future

    from flowkit_core import Node
    from flowkit_core.runs.kept_results import KeptResults

    from .event_hub import Report
    from .handle import Gatherer
    from .start_order import StartOrder

    Key = tuple[str, int]
    NodeKey = int | tuple[int, int]

MAX_BATCH = 1000
"""Maximum number of calls that are sent to the scheduler together."""
MAX_BATCH_BYTES = 4 << 20
"""Bytes of calls after which no more are sent together: Dask warns of 10 MB."""
TIMEOUT_MARGIN = 5.0
"""Seconds after the timeout of an attempt in which the worker must have reported its end."""
MAX_NAMES = 200
"""Number of tasks up to which each has a key prefix of its own: many prefixes slow the scheduler down."""


def node_key(node: Node) -> NodeKey:
    """Return what identifies a node, or an element of a mapped node, in one run."""
    return node.index if node.element is None else (node.index, node.element)


class Submission:
    """One call that was submitted.

    Attributes:
        call: the call.
        ticket: its number, in reports.
        key: key of the task of Dask.
        future: future of the result.
        is_ready: whether the run has named its node ready; false if it is made ahead.
        held: reports that came before the node was ready, because those of its upstreams came later.
        worker: address of the worker that has reported the start; empty before.
        pid: process id of that worker.
        expires_at: time at which the attempt fails, if its worker has not said so; infinite before its start, or if it
            has no timeout.
        deaths: how often workers have died without a report that the call had started there.
        losses: how often values were lost before that were sent from this process.
        arrived_at: address of the worker that has reported that it is going to start; empty otherwise.
        is_condition: whether only the condition of the call is evaluated.
        is_reported: whether its end was reported, and the lane waits for its result or exception.
        has_ended: whether a call that was abandoned on its worker has ended.
        inputs: futures of large mapped values of its element, which no other call needs.
    """

    __slots__ = (
        "arrived_at",
        "call",
        "deaths",
        "expires_at",
        "future",
        "has_ended",
        "held",
        "inputs",
        "is_condition",
        "is_ready",
        "is_reported",
        "key",
        "losses",
        "pid",
        "ticket",
        "worker",
    )

    def __init__(self, call: Call, ticket: int, key: Key, is_ready: bool, deaths: int, losses: int) -> None:
        self.call = call
        self.ticket = ticket
        self.key = key
        self.future: Future[Any] | None = None
        self.is_ready = is_ready
        self.held: list[Report] = []
        self.worker = self.arrived_at = ""
        self.pid = 0
        self.expires_at = inf
        self.deaths, self.losses = deaths, losses
        self.is_condition = self.is_reported = self.has_ended = False
        self.inputs: Sequence[Future[Any]] = ()

    def note_start(self) -> None:
        """Note that a worker has started the call; Dask may start it again elsewhere, in the same attempt."""
        if self.call.timeout is not None and not self.is_condition and self.expires_at == inf:
            self.expires_at = monotonic() + self.call.timeout + TIMEOUT_MARGIN

    def release(self) -> None:
        """Have the cluster forget the call and its result."""
        future, self.future = self.future, None
        self.inputs = ()
        if future is not None:
            future.release()


class Submissions:
    """The calls of one run as tasks of Dask.

    Args:
        lane: the lane.
        client: the client.
        topic: topic of reports.
        nodes: all nodes of the lane.
        order: the order in which calls start.
        logs: what workers need to send log records; None if they send none.
        kept: which results the run returns, and drops the others; None if it returns all.

    Attributes:
        run: key of the run.
        by_ticket: ticket -> submission that has not ended.
        by_node: index of a node, or index and number of an element -> its submission, if it has not ended.
    """

    def __init__(
        self,
        lane: Gatherer,
        client: Client,
        topic: str,
        nodes: Sequence[Node],
        order: StartOrder,
        logs: bytes | None,
        kept: KeptResults | None = None,
    ) -> None:
        self.run = uuid4().hex
        self.by_ticket: dict[int, Submission] = {}
        self.by_node: dict[NodeKey, Submission] = {}
        self._lane = lane
        self._client = client
        self._topic = topic
        self._order = order
        self._logs = logs
        self._annotations = get_annotations()
        self._tickets = count(1)
        self._deaths: Counter[NodeKey] = Counter()
        self._unsent: list[tuple[Submission, Invocation, list[TaskRef]]] = []
        self._unsent_bytes = 0
        self._inputs: list[Future[Any]] = []  # of the call that is prepared
        self._functions: dict[int, tuple[Callable[..., Any], bytes]] = {}
        self._scattered: dict[int, tuple[Any, Future[Any]]] = {}
        if kept is not None:
            kept.on_drop.append(self._forget)
        self._losses = 0
        has_few_names = len(nodes) <= MAX_NAMES
        self._group = {node.index: f"{_prefix(node, has_few_names)}-{self.run}" for node in nodes}

    def add_condition(self, call: Call) -> None:
        """Prepare the evaluation of the condition of a call, which is not made itself: see :meth:`add`."""
        condition = Call(call.node, (), {}, call.when, call.attempt, None, call.run)
        condition.func = condition_is_true
        self.add(condition)
        submission = self.by_node[node_key(call.node)]
        submission.call, submission.is_condition = call, True

    def add(self, call: Call, *, is_ready: bool = True) -> None:
        """Prepare a call to be sent with the next :meth:`send`; send what is prepared if that is much.

        Args:
            call: the call.
            is_ready: whether its node is ready; false for a call that is made ahead.

        Raises:
            SerializationError: the function or an argument cannot be pickled.
        """
        node = call.node
        references: list[TaskRef] = []
        if isinstance(node, Block):
            self._queue(call, BlockInvocation, (None, None, self._packed_block(call, references)), references)
            return
        func, condition = self._function(call.func, node, references), None
        args: bytes | None = None
        is_plain = call.when is None and not call.kwargs and func is not None
        slots = [self._argument(value, node, references) for value in call.args]
        if not is_plain or any(type(slot) is not Slot for slot in slots):
            kwargs = {name: self._argument(value, node, references) for name, value in call.kwargs.items()}
            when_args: list[Any] = []
            when_kwargs: dict[str, Any] = {}
            if call.when is not None:
                condition = self._function(call.when.func, node, None)
                when_args = [self._argument(value, node, references) for value in call.when.args]
                when_kwargs = {
                    name: self._argument(value, node, references) for name, value in call.when.kwargs.items()
                }
            if func is None:  # the first value is the pickle of the function, which the worker takes away
                slots, kwargs, when_args, when_kwargs = _shifted(slots, kwargs, when_args, when_kwargs)
            args = self._packed_arguments(call, slots, kwargs, when_args, when_kwargs)
        self._queue(call, Invocation, (func, condition, args), references, is_ready=is_ready)

    def _queue(
        self,
        call: Call,
        kind: type[Invocation],
        content: tuple[bytes | None, bytes | None, bytes | None],
        references: list[TaskRef],
        *,
        is_ready: bool = True,
    ) -> None:
        """Queue a call for the next :meth:`send`.

        Args:
            call: the call.
            kind: the class of its invocation.
            content: function, condition and arguments of the invocation.
            references: the values on the cluster that it needs.
            is_ready: see :meth:`add`.
        """
        node, ticket, context = call.node, next(self._tickets), call.context()
        carried = pickle.dumps(CarriedContext(context)) if context is not None else b""
        node_id = node_key(node)
        deaths = self._deaths.get(node_id, 0)
        invocation = kind(
            own_environment(),
            self.run,
            self._topic,
            ticket,
            node.name,
            *content,
            call.timeout,
            carried,
            node.task.trigger in CLEANUP_TRIGGERS,
            deaths > 0,
            self._probe(call),
            self._logs,
        )
        submission = Submission(call, ticket, (self._group[node.index], ticket), is_ready, deaths, self._losses)
        self.by_ticket[ticket] = self.by_node[node_id] = submission
        submission.inputs, self._inputs = self._inputs, []
        self._unsent.append((submission, invocation, references))
        self._unsent_bytes += sum([len(data) for data in (*content, carried) if data is not None])
        if len(self._unsent) >= MAX_BATCH or self._unsent_bytes >= MAX_BATCH_BYTES:
            self.send()

    def _probe(self, call: Call) -> bytes | None:
        """Return the pickle of the function that the worker calls with the result; None if there is none.

        It is `argument_digest`, or `is_large` for an element.
        """
        run: Any = call.run
        function = run.argument_digest(call.node) if call.node.element is None else is_large
        return None if function is None else self._function(function, call.node, None)

    def send(self) -> None:
        """Send the calls that are prepared to the scheduler."""
        unsent, self._unsent = self._unsent, []
        self._unsent_bytes = 0
        graph: dict[Key, DaskTask] = {}
        for submission, invocation, references in unsent:
            key = submission.key
            invocation.reports_late = self._is_followed(submission.call.node)
            data = pickle.dumps(invocation, 5)
            graph[key] = task = DaskTask(key, operator.call, DaskTask(None, pickle.loads, data), *references)
            task._token = f"{self.run}-{submission.ticket}"  # else Dask computes one from the content
        if not graph:
            return
        nodes = {submission.key: submission.call.node for submission, *_ in unsent}
        places = {key: self._order.place(node) for key, node in nodes.items()}
        priorities = {key: node.task.priority for key, node in nodes.items()}
        futures = send_graph(self._client, graph, places, priorities, self._annotations)
        for submission, *_ in unsent:
            submission.future = futures[submission.key]

    def _is_followed(self, node: Node) -> bool:
        """Return whether nothing waits for the end of a call, because all nodes downstream are submitted."""
        if node.element is not None or node.task.pool is not None or not node.downstream:
            return False
        return all(after.index in self.by_node for after in node.downstream)

    def remove(self, submission: Submission) -> None:
        """Forget a submission that has ended, or is given up; its future is not released."""
        self.by_ticket.pop(submission.ticket, None)
        submission.inputs = ()
        key = node_key(submission.call.node)
        if self.by_node.get(key) is submission:
            del self.by_node[key]

    def drop(self, submission: Submission) -> None:
        """Give a submission up, and have the cluster forget it."""
        self.remove(submission)
        submission.release()

    def note_death(self, submission: Submission) -> None:
        """Note that the worker of a submission has died, without a report that the call had started there."""
        self._deaths[node_key(submission.call.node)] += 1

    def has_lost_argument(self, submission: Submission) -> bool:
        """Return whether a value of this process may be lost that was sent for a call: it is sent again with the next.

        Dask cannot compute such values again if the workers that have them die.
        """
        scattered = [*self._scattered.items()]  # a copy: any thread may call `_forget`
        lost = [key for key, (_, future) in scattered if future.status != "finished"]
        for key in lost:
            self._scattered.pop(key, None)
        self._losses += bool(lost)
        return submission.losses < self._losses or any(future.status != "finished" for future in submission.inputs)

    def _forget(self, value: Any) -> None:
        """Drop a value that was sent for calls, here and on the cluster; any thread may call this."""
        self._scattered.pop(id(value), None)

    def close(self) -> None:
        """Have the cluster forget everything but results."""
        for submission in self.by_ticket.values():
            submission.release()
        self.by_ticket.clear()
        self.by_node.clear()
        self._scattered.clear()
        self._functions.clear()

    # ---- functions and arguments -------------------------------------------------------------------------------------

    def _function(self, func: Callable[..., Any], node: Node, references: list[TaskRef] | None) -> bytes | None:
        """Return the pickle of a function; None if it is large and was added to the references."""
        found = self._functions.get(id(func))
        if found is None:
            try:
                found = self._functions[id(func)] = func, dumps_function(func)
            except Exception as error:
                reason = find_unpicklable(func) or f"cannot be pickled ({summary(error)})"
                raise SerializationError(node.name, "function", reason, CREATE_HINT) from error
        data = found[1]
        if references is None or len(data) <= MAX_INLINE:
            return data
        references.append(TaskRef(self._scatter(data)))
        return None

    def _argument(self, value: Any, node: Node, references: list[TaskRef]) -> Any:
        """Return an argument as it is sent: itself, or a slot for a value on the cluster, added to the references."""
        if type(value) is Ref:
            reference = TaskRef(self.by_node[value.index].key)
        elif type(value) is DaskHandle and value.lane is self._lane and value.future is not None:
            reference = TaskRef(value.future.key)
        elif type(value) is ListHandle and value.lane is self._lane:
            return SlotList([self._argument(item, node, references) for item in value.items])
        else:
            if getattr(type(value), "__flowkit_handle__", False):
                value = value.fetch()
            try:
                if sizeof(value) <= MAX_INLINE:
                    return value
                reference = TaskRef(self._scatter(value, is_shared=not _is_mapped(value, node)))
            except Exception as error:
                raise _argument_error(node, value, error) from error
        references.append(reference)
        return Slot(len(references) - 1)

    def _scatter(self, value: Any, *, is_shared: bool = True) -> Any:
        """Send a value to the cluster, once for all calls if these share it; return its key."""
        found = self._scattered.get(id(value)) if is_shared else None
        if found is None:
            (future,) = self._client.scatter([enclosed(value)], hash=False)
            found = value, future
            if is_shared:
                self._scattered[id(value)] = found
            else:
                self._inputs.append(future)
        return found[1].key

    def _packed_block(self, call: Call, references: list[TaskRef]) -> bytes:
        """Return the content of a block; large arguments that its elements have in common are references."""
        block: Any = call.node
        stages = []
        for stage in block.region.stages:
            node, template = stage.node, stage.template()
            args = [self._argument(value, node, references) for value in template.args]
            kwargs = {name: self._argument(value, node, references) for name, value in template.kwargs.items()}
            template = Template(template.count, args, kwargs, template.places, template.names)
            stages.append((self._function(node.func, node, None), template, node.index, node.name))
        run: Any = call.run
        return packed(run, block, stages)

    def _packed_arguments(self, call: Call, *arguments: Any) -> bytes:
        try:
            return dumps(arguments)
        except Exception as error:
            values = [*call.args, *call.kwargs.values(), *(call.when.args if call.when is not None else ())]
            for value in values:
                try:
                    if not isinstance(value, (DaskHandle, ListHandle, Ref)):
                        dumps(value)
                except Exception as own:
                    raise _argument_error(call.node, value, own) from own
            raise _argument_error(call.node, values, error) from error


def _is_mapped(value: Any, node: Node) -> bool:
    """Return whether a value is a mapped value of an element."""
    if not isinstance(node, Element):
        return False
    given = node.given
    return value is given or (type(given) is tuple and any(value is each for each in given))


def _shifted(*arguments: Any) -> list[Any]:
    """Return lists and dicts of arguments with the numbers of all slots one lower."""

    def shift(value: Any) -> Any:
        if type(value) is SlotList:
            return SlotList([*map(shift, value.items)])
        return Slot(value.number - 1) if type(value) is Slot else value

    return [
        {name: shift(value) for name, value in each.items()} if isinstance(each, dict) else [*map(shift, each)]
        for each in arguments
    ]


def _argument_error(node: Node, value: Any, error: BaseException) -> SerializationError:
    reason = f"is a {type(value).__name__}, which cannot be pickled ({summary(error)})"
    return SerializationError(node.name, "argument", reason, "pass plain data between tasks, or use executor='thread'")


def _prefix(node: Node, has_few_names: bool) -> str:
    """Return what the dashboard of Dask shows for a node: its name; its function, if there are many nodes."""
    if has_few_names:
        return node.name
    func = getattr(node.func, "func", node.func)  # of a partial function
    return str(getattr(func, "__name__", type(func).__name__))
