"""`PipelinePlan`: tasks, edges and code of a pipeline, as stored with a run, and how two plans differ."""

from __future__ import annotations

from flowkit_state import fingerprint
from flowkit_state.serialization.json_text import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any, Protocol

    class PlannedTask(Protocol):
        """The attributes of a task that a plan records."""

        @property
        def name(self) -> str:
            """Name of the task, unique in its pipeline."""

        @property
        def func(self) -> Callable[..., Any]:
            """Function of the task."""

        @property
        def when(self) -> Callable[..., Any] | None:
            """Condition of the task."""

        @property
        def trigger(self) -> str:
            """Trigger rule of the task."""


_CODE = ("function ", "class ", "module ", "registry ", "package ", "python", "fingerprint format")
"""Prefixes of the labels of components that are code; the other components are values that the code reads."""


class PipelinePlan:
    """The tasks of a pipeline in topological order.

    Args:
        tasks: of each task its name, the indices of its upstreams, its trigger, and its key in `codes`.
        codes: key -> components of the code of a task, as label -> digest.
        unverifiable: key -> descriptions of what the code reads and cannot be compared. It is not stored.
    """

    def __init__(
        self,
        tasks: Sequence[Sequence[Any]],
        codes: Mapping[str, dict[str, str]],
        unverifiable: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.tasks = tasks
        self.codes = codes
        self._unverifiable = unverifiable or {}

    @classmethod
    def of(cls, tasks: Sequence[PlannedTask], upstream: Sequence[Sequence[int]]) -> PipelinePlan:
        """Return the plan of the current pipeline."""
        keys: dict[tuple[int, int], str] = {}
        codes: dict[str, dict[str, str]] = {}
        unverifiable: dict[str, Collection[str]] = {}
        rows = []
        for task, sources in zip(tasks, upstream, strict=True):
            functions = id(task.func), id(task.when)
            key = keys.get(functions)
            if key is None:
                unseen: dict[str, str] = {}
                components = fingerprint.initial_components(task.func, unseen)
                if task.when is not None:
                    condition = fingerprint.initial_components(task.when, unseen)
                    components |= {f"{label} (in its condition)": part for label, part in condition.items()}
                key = keys[functions] = fingerprint.digest(components)
                codes[key], unverifiable[key] = components, unseen.values()
            rows.append((task.name, sources, task.trigger, key))
        return cls(rows, codes, unverifiable)

    @classmethod
    def from_text(cls, text: str) -> PipelinePlan:
        """Return the plan that was stored as `text`."""
        tree = loads(text)
        return cls(tree["tasks"], tree["codes"])

    def text(self) -> str:
        """Return the text to store."""
        rows = [[list(part) if isinstance(part, tuple) else part for part in row] for row in self.tasks]
        return dumps({"tasks": rows, "codes": dict(self.codes)})

    def names(self) -> list[str]:
        """Return the names of the tasks, in topological order."""
        return [row[0] for row in self.tasks]

    def wiring(self) -> dict[str, tuple[list[str], str]]:
        """Return for each task the names of its upstreams, and its trigger."""
        names = self.names()
        return {name: ([names[index] for index in sources], trigger) for name, sources, trigger, _ in self.tasks}

    def code(self) -> dict[str, dict[str, str]]:
        """Return for each task the components of its code."""
        return {row[0]: self.codes[row[3]] for row in self.tasks}

    def unverifiable(self, names: Collection[str]) -> list[str]:
        """Return descriptions of what the code of these tasks reads and cannot be compared, without duplicates."""
        rows = [row for row in self.tasks if row[0] in names]
        return [*dict.fromkeys(text for row in rows for text in self._unverifiable.get(row[3], ()))]


class Difference:
    """The differences between a stored plan and the current one.

    Attributes:
        added, removed, rewired: names of tasks.
        changed: task -> what has changed in its code, or in what the code reads. The latter counts for recorded tasks
            only, whose results depend on it.
        params: names of run parameters whose values differ.
        reusable: names of the recorded tasks whose results are still valid: neither they nor any of their direct or
            indirect upstreams differ.
    """

    def __init__(
        self, old: PipelinePlan, new: PipelinePlan, recorded: Collection[str], params: Collection[str]
    ) -> None:
        before, now = old.wiring(), new.wiring()
        self.params = sorted(params)
        self.added = [name for name in now if name not in before]
        self.removed = [name for name in before if name not in now]
        self.rewired = [name for name in now if name in before and now[name] != before[name]]
        self.changed: dict[str, tuple[str, ...]] = {}
        code_before, code_now = old.code(), new.code()
        for name in now:
            if name in before and code_before[name] != code_now[name]:
                relevant = "" if name in recorded else _CODE
                components = [
                    {label: part for label, part in code.items() if label.startswith(relevant)}
                    for code in (code_before[name], code_now[name])
                ]
                if components[0] != components[1]:
                    self.changed[name] = tuple(fingerprint.changes(*components))
        self.reusable = {name for name in recorded if name in now}
        self.exclude({*self.added, *self.rewired, *self.changed}, new)

    def exclude(self, names: Collection[str], plan: PipelinePlan) -> None:
        """Remove tasks, and all tasks downstream of them, from `reusable`."""
        reusable: set[str] = set()
        for name, (sources, _) in plan.wiring().items():  # in topological order
            if name in self.reusable and name not in names and all(source in reusable for source in sources):
                reusable.add(name)
        self.reusable = reusable

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.rewired or self.changed or self.params)
