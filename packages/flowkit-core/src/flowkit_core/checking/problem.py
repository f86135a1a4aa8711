"""Class `Problem`: one problem of a pipeline that was checked."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal, NoReturn

    from flowkit_core._typing import Any
    from flowkit_core.errors import FlowkitError

    Kind = Literal[
        "discovery",
        "wiring",
        "name",
        "cycle",
        "binding",
        "condition",
        "annotation",
        "trigger",
        "option",
        "executor",
        "transfer",
        "parameter",
        "pool",
    ]


class Problem:
    """One problem of a pipeline, found by ``check()``. Immutable.

    ``str()`` is the place and the message: what is wrong, why, and what to write instead. Problems are equal if their
    kind, task, message and location are.

    Attributes:
        kind: what it is about: ``"discovery"``, ``"wiring"``, ``"name"``, ``"cycle"``, ``"binding"``, ``"condition"``,
            ``"annotation"``, ``"trigger"``, ``"option"``, ``"executor"``, ``"transfer"``, ``"parameter"`` or
            ``"pool"``.
        task: name of the task concerned; None if it is about the whole pipeline.
        message: the text, one line.
        location: where that task was created, as ``file:line``; None without a task.
        error: the error that ``run()`` raises; None if it would only warn, or say nothing.

    Examples:
        >>> from flowkit_core import DAG, Task
        >>> dag = DAG("etl", tasks=[Task(list, name="load"), Task(len, name="load")])
        >>> [(problem.kind, problem.task) for problem in dag.check()]
        [('name', 'load')]
    """

    __slots__ = ("error", "kind", "location", "message", "task")

    kind: Kind
    task: str | None
    message: str
    location: str | None
    error: FlowkitError | None

    def __init__(
        self,
        kind: Kind,
        task: str | None,
        message: str,
        location: str | None = None,
        error: FlowkitError | None = None,
    ) -> None:
        values = {"kind": kind, "task": task, "message": message, "location": location, "error": error}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Problem is immutable: {name!r} cannot be set", name=name, obj=self)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Problem is immutable: {name!r} cannot be deleted", name=name, obj=self)

    def __reduce__(self) -> Any:
        return type(self), (self.kind, self.task, self.message, self.location, self.error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str | None, ...]:
        return self.kind, self.task, self.message, self.location

    def __str__(self) -> str:
        return self.message if self.location is None else f"{self.location}: {self.message}"

    def __repr__(self) -> str:
        return f"<Problem {self.kind}: {self}>"
