"""Class `RunExecutors`: which executor runs each task of one run."""

from __future__ import annotations

from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import raise_or_collect, warn
from flowkit_core.errors import ExecutorError, UnknownExecutorError

from .executor import SerialExecutor
from .registry import executor_names, find_factory, name_of, resolve_executor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.errors import FlowkitError
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.run import Run
    from flowkit_core.runs.session import Lane

    from .executor import Executor


class RunExecutors:
    """The executors of one run: the default, and those that tasks name.

    Args:
        executor: the argument of ``run()``: a name, an executor, None, or a mapping of names to these, in which
            ``"default"`` is the executor of all tasks that name none.
        max_workers: maximum number of workers of each executor given by name; None means its default.
        placed: the nodes whose tasks name an executor.
        coroutines: the nodes whose functions are coroutine functions. Those whose tasks name no executor run in an
            event loop, unless ``executor`` is serial, or an executor without ``lane()``, which awaits them itself.
        max_async: maximum number of calls in the event loop at a time; None means no limit.

    Attributes:
        default: the executor of nodes that are not in ``others``.
        others: index of a node -> its executor, if that is not the default.

    Raises:
        UnknownExecutorError: there is no executor of a name.
        TypeError: a value is neither a name nor an executor.
    """

    def __init__(
        self,
        executor: Any,
        max_workers: int | None,
        placed: Sequence[Node] = (),
        coroutines: Sequence[Node] = (),
        max_async: int | None = None,
    ) -> None:
        self._max_workers = max_workers
        self.others: dict[int, Executor] = {}
        is_mapping = type(executor) is not str and hasattr(executor, "keys")
        if not (is_mapping or placed or coroutines):
            self.default, is_owned = resolve_executor(executor, max_workers)
            self._owned = [self.default] if is_owned else []
            return
        self._owned = []
        try:
            given = _checked_mapping(executor) if is_mapping else {"default": executor}
            known = {"default": self._resolve(given.get("default"))}
            self.default = known["default"]
            if executor is not None and isinstance(self.default, SerialExecutor) and not is_mapping:
                return  # run("serial") runs everything one after the other
            if coroutines and callable(getattr(self.default, "lane", None)):
                loop = LoopExecutor(max_async)
                self.others.update({node.index: loop for node in coroutines if node.task.executor is None})
            unknown: list[str] = []
            for node in placed:
                name = node.task.executor
                if name not in known:
                    same = name not in given and name == getattr(self.default, "name", None)
                    try:
                        known[name] = self.default if same else self._resolve(given.get(name, name), node, given)
                    except UnknownExecutorError as error:
                        raise_or_collect(error, task=node.name)
                        unknown.append(name)
                        continue
                if isinstance(known[name], SerialExecutor):  # there is one calling thread
                    known[name] = next(each for each in known.values() if isinstance(each, SerialExecutor))
                if known[name] is not self.default:
                    self.others[node.index] = known[name]
            self._check_unused(given, [*known, *unknown])
        except BaseException:  # also Ctrl-C
            self.close()
            raise

    def _check_unused(self, given: Mapping[str, Any], known: Sequence[str]) -> None:
        """Check the executors that no task names: a misspelt name, or values that are meant for tasks."""
        for name, executor in given.items():
            if name in known:
                continue
            if isinstance(executor, str) and find_factory(executor) is None:
                hint = f"No task names {name!r}: values for tasks are given by run(params={{{name!r}: ...}})"
                raise UnknownExecutorError(executor, executor_names(), hint)
            guess = did_you_mean(name, known) or f": write @task(executor={name!r}) where it is meant, or leave it out"
            warn(
                f"run(executor=...) has an executor {name!r}, but no task of the pipeline names it{guess}",
                "executor",
            )

    def _resolve(self, executor: Any, node: Node | None = None, given: Iterable[str] = ()) -> Executor:
        try:
            found, owned = resolve_executor(executor, self._max_workers)
        except UnknownExecutorError as error:
            if node is None:
                raise
            names = sorted({*error.available, *given} - {"default", executor})
            wanted = node.task.executor
            guess = did_you_mean(executor, names)
            hint = f"Task {node.name!r} is to run there: give it to the run, run(executor={{{wanted!r}: ...}}){guess}"
            raise UnknownExecutorError(error.name, names, hint) from None
        if owned:
            self._owned.append(found)
        return found

    @property
    def name(self) -> str:
        """The names of the executors, for logs."""
        return ", ".join(dict.fromkeys(map(name_of, (self.default, *self.others.values()))))

    def check_lanes(self) -> None:
        """Check that the executors can share a run, if there are several.

        Raises:
            ExecutorError: one has no ``lane()``.
        """
        for executor in self._distinct() if self.others else ():
            check_lane(executor)

    def check_nodes(self, graph: Graph) -> list[FlowkitError]:
        """Return the errors of nodes that their executors cannot run."""
        nodes_of: dict[int, list[Node]] = {}
        for node in graph:
            nodes_of.setdefault(id(self.others.get(node.index, self.default)), []).append(node)
        errors: list[FlowkitError] = []
        for executor in self._distinct():
            check_nodes = getattr(executor, "check_nodes", None)
            if callable(check_nodes):
                errors += check_nodes(nodes_of.get(id(executor), []))
        return errors

    def _distinct(self) -> list[Executor]:
        return list({id(each): each for each in (self.default, *self.others.values())}.values())

    def execute(self, run: Run) -> None:
        """Drive a run to its end."""
        if not self.others:
            option = "run(timeout=...)" if run.timeout is not None else "arun()" if run.caller is not None else ""
            if option and not callable(getattr(self.default, "lane", None)):
                raise ExecutorError(
                    f"executor {self.name!r} cannot apply {option}, because it has no lane(): use "
                    f"{'run() without timeout' if run.timeout is not None else 'run()'}, or another executor"
                )
            if run.limits is not None and not callable(getattr(self.default, "lane", None)):
                raise ExecutorError(
                    f"executor {self.name!r} cannot run tasks that name pools, because it has no lane(): use another "
                    f"executor"
                )
            self.default.execute(run)
            return
        from flowkit_core.runs.session import Session

        lane_of = {id(executor): _lane(executor) for executor in self._distinct()}
        lane_by_index = {index: lane_of[id(executor)] for index, executor in self.others.items()}
        if len(lane_by_index) == len(run.graph):
            del lane_of[id(self.default)]  # it has no nodes
        Session(run, list(lane_of.values()), lane_by_index).drive()

    def close(self) -> None:
        """Close the executors that were created for this run."""
        while self._owned:
            self._owned.pop().close()


class LoopExecutor:
    """Runs the calls of coroutine functions in the event loop of the process, or in that of the caller of ``arun()``.

    Args:
        max_async: maximum number of calls at a time; None means no limit.
    """

    name = "async"

    def __init__(self, max_async: int | None = None) -> None:
        self._max_async = max_async

    def execute(self, run: Run) -> None:
        """Run all nodes."""
        from flowkit_core.runs.session import Session

        Session(run, [self.lane()]).drive()

    def lane(self) -> Lane:
        """Return the lane of one run."""
        from flowkit_core.runs.event_loop.lane import LoopLane

        return LoopLane(self._max_async)

    def close(self) -> None:
        """Do nothing: the event loop is kept."""


def _lane(executor: Executor) -> Lane:
    check_lane(executor)
    return executor.lane()  # type: ignore[attr-defined, no-any-return]


def check_lane(executor: Executor) -> None:
    """Check that an executor can share a run with others.

    Raises:
        ExecutorError: it has no ``lane()``.
    """
    if not callable(getattr(executor, "lane", None)):
        raise_or_collect(
            ExecutorError(
                f"executor {name_of(executor)!r} cannot share a run with others, because it has no lane(): use it for "
                f"the whole run, run(executor=...), or give it a lane()"
            )
        )


def _checked_mapping(given: Any) -> dict[str, Any]:
    for name, executor in given.items():
        if not isinstance(name, str):
            raise TypeError(f"run(executor=...) has the key {short_repr(name)}, but its keys are names of executors")
        if not (executor is None or isinstance(executor, str) or callable(getattr(executor, "execute", None))):
            raise TypeError(
                f"run(executor={{{name!r}: ...}}) is {short_repr(executor)}, but must be a name such as 'thread', or "
                f"an executor object; values for tasks are given by run(params={{...}})"
            )
    return dict(given)
