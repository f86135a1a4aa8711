"""Class `OutcomeReader`: from the frames of workers to outcomes of nodes."""

from __future__ import annotations

import pickle
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowkit_core import ExecutorError, Outcome, SerializationError
from flowkit_core._warnings import safe_warn
from flowkit_core.failures import describe_error
from flowkit_core.runs.states import FAILED
from flowkit_core.runs.time_limit import CANCEL_GRACE
from flowkit_core.safe_text import is_interrupt

from . import protocol
from .exception_transport import unpack_error
from .serialization_errors import transfer_error
from .shared_memory import read_segment
from .warning_forwarding import handle_warning

if TYPE_CHECKING:
    from flowkit_core import Node, Run

    from .schedule import Schedule
    from .shared_memory import Segments
    from .workers.handle import WorkerHandle

_TASK_ENDED = frozenset((protocol.VALUE, protocol.SEGMENT, protocol.ERROR))


class OutcomeReader:
    """Reads the frames that workers send, and hands the outcomes in them to the run.

    Args:
        run: the run.
        schedule: the nodes of the run.
        segments: large values in shared memory, to which results are added.
    """

    def __init__(self, run: Run, schedule: Schedule, segments: Segments) -> None:
        self._run = run
        self._schedule = schedule
        self._segments = segments

    def read(self, worker: WorkerHandle) -> tuple[int, float]:
        """Handle the frames that a worker has sent; return how many tasks have ended, and the sum of their seconds."""
        schedule = self._schedule
        held, finish, loads = worker.held, self._run.finish, pickle.loads
        sent_ahead, foreign, extend = schedule.sent_ahead, schedule.foreign, schedule.ready.extend
        attempts = worker.attempts
        spent, tasks = 0.0, 0
        frames = worker.channel.frames()
        while frames:
            kind, ticket, seconds, payload = frames.popleft()
            if kind in _TASK_ENDED:
                spent += seconds
                tasks += 1
            if kind != protocol.VALUE:
                self._handle_frame(worker, kind, ticket, seconds, payload)
                continue
            node = held.pop(ticket, None)
            attempt = attempts.pop(ticket, 1) if attempts else 1
            if node is None:
                continue
            try:
                value = loads(payload)
            except BaseException as error:  # unpickling runs the user's code
                if is_interrupt(error):
                    raise
                self._fail_unpickled(worker, node, attempt, error)
                continue
            if node.element is not None:
                self._finish_element(node, value, seconds, attempt)
            elif after := finish(node, value, seconds, attempt):
                if sent_ahead or foreign:
                    schedule.put(after)  # type: ignore[arg-type]
                else:
                    extend(after)  # type: ignore[arg-type]
        return tasks, spent

    def _finish_element(self, node: Node, value: Any, seconds: float, attempt: int) -> None:
        """Take the result of an element of a mapped task, or of a block of several."""
        from .blocks import result_of

        self._schedule.finish(node, result_of(node, value), seconds, attempt)

    def _handle_frame(self, worker: WorkerHandle, kind: int, ticket: int, seconds: float, payload: bytes) -> None:
        """Handle a frame of any kind but VALUE."""
        if kind == protocol.READY:
            worker.verify(payload.decode())
        elif kind == protocol.CHDIR_FAILED:
            raise ExecutorError(
                f"worker process {worker.process.pid} cannot enter the current folder of this process "
                f"({payload.decode()}): change to another folder before run(), or use executor='thread'"
            )
        elif kind == protocol.NOT_INITIALIZED:
            error = unpack_error(payload, "initializer")
            raise ExecutorError(
                f"the initializer of worker process {worker.process.pid} raised {describe_error(error)}: no task can "
                f"run in its workers until that is corrected"
            ) from error
        elif kind == protocol.NOT_A_WORKER:
            raise worker.not_an_interpreter("ran another program, which used flowkit")
        elif kind == protocol.LOG:
            from flowkit_core.executors.log_transport import handle_record

            running = worker.held.get(ticket)
            handle_record(payload, self._run.context_of(running).attributes() if running is not None else {})
        elif kind == protocol.WARNING:
            handle_warning(payload)
        elif kind == protocol.REQUEST:
            from .task_context import answer_request

            answer_request(self._run, worker.held.get(ticket), worker.channel, ticket, payload)
        elif kind == protocol.SCRIPT_SLOW:
            safe_warn(
                f"worker process {worker.process.pid} has been executing the script for "
                f"{protocol.SCRIPT_SLOW_AFTER:g} s, up to its first run(), to define its tasks: move code that takes "
                f"long, or waits for something that only this process has, below the run(), or under "
                f"if __name__ == '__main__'"
            )
        elif kind == protocol.STARTED:
            worker.busy_since = monotonic()
            if (node := worker.held.get(ticket)) is not None:
                self._run.mark_started(node, already=True, attempt=worker.attempts.get(ticket, 1))
                if (timeout := node.task.timeout) is not None:
                    grace = CANCEL_GRACE if node.task.is_async else 0.0  # the worker cancels coroutines by itself
                    self._schedule.deadlines.add((worker, ticket), timeout + grace)
        else:
            self._handle_outcome(worker, kind, ticket, seconds, payload)

    def _handle_outcome(self, worker: WorkerHandle, kind: int, ticket: int, seconds: float, payload: bytes) -> None:
        """Handle a frame that ends a call without a small value."""
        node, attempt = worker.held.pop(ticket, None), worker.attempts.pop(ticket, 1)
        if kind == protocol.SEGMENT:
            self._handle_segment(worker, node, attempt, ticket, payload, seconds)
        elif node is None:
            return
        elif kind == protocol.ERROR:
            self._schedule.finish(node, Outcome(FAILED, error=unpack_error(payload, node.name)), seconds, attempt)
        elif kind == protocol.NOT_SERIALIZABLE:
            error = transfer_error(node, *pickle.loads(payload))
            self._schedule.finish(node, Outcome(FAILED, error=error, retryable=False), seconds, attempt)
        else:  # RETURNED_UNSTARTED
            self._schedule.put_back(node, attempt)

    def _handle_segment(
        self, worker: WorkerHandle, node: Node | None, attempt: int, ticket: int, payload: bytes, seconds: float
    ) -> None:
        """Handle a large value, which is in shared memory; the node is None if its outcome is discarded."""
        try:
            handle, layout = worker.channel.take_handle(ticket), pickle.loads(payload)
        except OSError as error:  # this process cannot open more files
            if node is not None:
                self._fail_unpickled(worker, node, attempt, error)
            return
        try:
            value = read_segment(self._segments.memory, handle, layout) if node is not None else None
        except BaseException as error:  # unpickling runs the user's code
            self._segments.memory.release(handle)
            if is_interrupt(error):
                raise
            self._fail_unpickled(worker, node, attempt, error)  # type: ignore[arg-type]
            return
        if node is None or not node.downstream:
            self._segments.memory.release(handle)
        else:
            self._segments.keep(value, handle, layout)
        if node is not None and node.element is not None:
            self._finish_element(node, value, seconds, attempt)
        elif node is not None:
            self._schedule.finish(node, value, seconds, attempt)

    def _fail_unpickled(self, worker: WorkerHandle, node: Node, attempt: int, error: BaseException) -> None:
        """Fail a node whose result cannot be unpickled here; its worker may go on with the rest of the chain."""
        self._schedule.withdraw(worker)
        self._schedule.discard_chain(worker, node)
        reason = f"cannot be unpickled in this process ({describe_error(error)})"
        hint = "return plain data, or a class that unpickles wherever it is imported"
        failure = SerializationError(node.name, "result", reason, hint)
        self._schedule.finish(node, Outcome(FAILED, error=failure, retryable=False), attempt=attempt)
