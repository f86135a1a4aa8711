"""`PipelinePlan`: tasks, edges and code of a pipeline, as stored with a run, and how two plans differ."""

from __future__ import annotations

from types import FunctionType

from flowkit_state import fingerprint
from flowkit_state.errors import comma_list, short_repr
from flowkit_state.fingerprint.process_reads import ProcessReads
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
        clocks: key -> names of functions that read the clock and that the code calls. It is not stored.
        contexts: keys of the code that reads the context of the task: `flowkit.current()`. It is not stored.
        limited: names of the tasks that pools or `map(limit=...)` limit.
        returning: names of the tasks that are mapped with `errors="return"`: exceptions of elements are results.
    """

    def __init__(
        self,
        tasks: Sequence[Sequence[Any]],
        codes: Mapping[str, dict[str, str]],
        unverifiable: Mapping[str, Collection[str]] | None = None,
        clocks: Mapping[str, Sequence[str]] | None = None,
        contexts: Collection[str] = (),
        limited: Collection[str] = (),
        returning: Collection[str] = (),
    ) -> None:
        self.tasks = tasks
        self.codes = codes
        self.limited = limited
        self.returning = returning
        self._unverifiable = unverifiable or {}
        self._clocks = clocks or {}
        self._contexts = contexts

    @classmethod
    def of(cls, tasks: Sequence[PlannedTask], upstream: Sequence[Sequence[int]], digest_key: bytes) -> PipelinePlan:
        """Return the plan of the current pipeline. `digest_key` is the key for digests of environment variables."""
        keys: dict[tuple[object, object], str] = {}
        codes: dict[str, dict[str, str]] = {}
        unverifiable: dict[str, Collection[str]] = {}
        clocks: dict[str, Sequence[str]] = {}
        contexts: set[str] = set()
        rows = []
        for task, sources in zip(tasks, upstream, strict=True):
            functions = _identity(task.func), _identity(task.when)
            key = keys.get(functions)
            if key is None:
                unseen: dict[str, str] = {}
                reads = ProcessReads(digest_key)
                components = fingerprint.initial_components(task.func, unseen, reads)
                clock, reads_context = reads.clock, reads.uses_context
                if task.when is not None:
                    reads = ProcessReads(digest_key)
                    condition = fingerprint.initial_components(task.when, unseen, reads)
                    clock += reads.clock
                    reads_context |= reads.uses_context
                    components |= {f"{label} (in its condition)": part for label, part in condition.items()}
                key = keys[functions] = fingerprint.digest(components)
                codes[key], unverifiable[key], clocks[key] = components, unseen.values(), clock
                if reads_context:
                    contexts.add(key)
            rows.append((task.name, sources, task.trigger, key))
        limited = [task.name for task in tasks if _is_limited(task)]
        returning = [task.name for task in tasks if _map_option(task, "errors") == "return"]
        return cls(rows, codes, unverifiable, clocks, contexts, limited, returning)

    @classmethod
    def from_text(cls, text: str) -> PipelinePlan:
        """Return the plan that was stored as `text`."""
        tree = loads(text)
        returning = tree.get("returning")
        if returning is None:  # in files of earlier versions, only the text of the trigger has the option
            returning = [name for name, _, trigger, _ in tree["tasks"] if trigger.endswith("errors='return'")]
        return cls(tree["tasks"], tree["codes"], limited=tree.get("limited", ()), returning=returning)

    def text(self) -> str:
        """Return the text to store."""
        rows = [[list(part) if isinstance(part, tuple) else part for part in row] for row in self.tasks]
        limited = {"limited": [*self.limited]} if self.limited else {}
        return dumps({"tasks": rows, "codes": dict(self.codes), **limited, "returning": [*self.returning]})

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

    def code_key(self, name: str) -> str:
        """Return a digest of the code of a task, of its trigger and of the names of its upstreams."""
        names = self.names()
        _, sources, trigger, key = self.tasks[names.index(name)]
        return fingerprint.digest(key, trigger, [names[index] for index in sources])

    def unverifiable(self, names: Collection[str]) -> list[str]:
        """Return descriptions of what the code of these tasks reads and cannot be compared, without duplicates."""
        rows = [row for row in self.tasks if row[0] in names]
        return [*dict.fromkeys(text for row in rows for text in self._unverifiable.get(row[3], ()))]

    def clocks(self) -> dict[str, Sequence[str]]:
        """Return for each task whose code reads the clock the names of the functions that do."""
        return {row[0]: functions for row in self.tasks if (functions := self._clocks.get(row[3]))}

    def context_readers(self) -> set[str]:
        """Return the names of the tasks whose code reads the context of the task, and so any parameter of the run."""
        return {row[0] for row in self.tasks if row[3] in self._contexts}


def _is_limited(task: Any) -> bool:
    """Return whether pools or ``map(limit=...)`` limit a task."""
    return getattr(task, "pool", None) is not None or _map_option(task, "limit") is not None


def _map_option(task: Any, name: str) -> Any:
    """Return an option of ``map()``, `None` if the task is not mapped.

    It is looked up in the ``__dict__`` of the task: a `Task` looks for similar names if an attribute is missing.
    """
    return getattr(task, "__dict__", {}).get(name)


def _identity(function: Any) -> object:
    """Return what functions have in common that have the same components: for plain functions, code and globals."""
    if type(function) is not FunctionType or function.__dict__:
        return id(function)
    if function.__closure__ or function.__defaults__ or function.__kwdefaults__:
        return id(function)
    return function.__code__, id(function.__globals__)


class Difference:
    """The differences between a stored plan and the current one.

    Args:
        old: the stored plan.
        new: the current plan.
        recorded: names of the tasks whose outcome is recorded.
        expired: task -> why its recorded result is too old.

    Attributes:
        added, removed, rewired: names of tasks.
        changed: task -> what has changed in its code, or in what the code reads. The latter counts for recorded tasks
            only, whose results depend on it.
        expired: names of the tasks that have not changed, but have recorded results that are too old.
        rewirings: rewired task -> how its upstreams and its trigger differ.
        outdated: recorded task -> why its result is out of date: the task or one of its direct or indirect upstreams
            differs.
    """

    def __init__(
        self,
        old: PipelinePlan,
        new: PipelinePlan,
        recorded: Collection[str],
        expired: Mapping[str, str],
    ) -> None:
        before, now = old.wiring(), new.wiring()
        self.added = [name for name in now if name not in before]
        self.removed = [name for name in before if name not in now]
        self.rewired = [name for name in now if name in before and now[name] != before[name]]
        self.changed = _changed(old, new, recorded)
        self.expired = set(expired) - self.changed.keys()
        for name, why in expired.items():
            self.changed[name] = (*self.changed.get(name, ()), why)
        self.rewirings = {name: _rewiring(before[name], now[name]) for name in self.rewired}
        reasons: dict[str, str] = {}
        for name, (sources, _) in now.items():  # in topological order
            parts = [*self.changed.get(name, ()), *self.rewirings.get(name, ())]
            causes = [short_repr(source) for source in sources if source in reasons]
            if causes and not parts:
                parts.append(f"it depends on {comma_list(causes, 3)}")
            if parts or name in self.added:
                reasons[name] = comma_list(parts)
        self.outdated = {name: why for name, why in reasons.items() if name in recorded and name in before}

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.rewired or self.changed)


def _changed(old: PipelinePlan, new: PipelinePlan, recorded: Collection[str]) -> dict[str, tuple[str, ...]]:
    changed = {}
    code_before = old.code()
    for name, code in new.code().items():
        if name in code_before and code_before[name] != code:
            relevant = "" if name in recorded else _CODE
            components = [
                {label: part for label, part in each.items() if label.startswith(relevant)}
                for each in (code_before[name], code)
            ]
            if components[0] != components[1]:
                changed[name] = tuple(fingerprint.changes(*components))
    return changed


def _rewiring(before: tuple[list[str], str], now: tuple[list[str], str]) -> list[str]:
    """Return how the upstreams and the trigger of a task differ."""
    (old, old_trigger), (new, new_trigger) = before, now
    parts = []
    if fresh := [short_repr(name) for name in new if name not in old]:
        parts.append(f"it has the new upstream{'s' * (len(fresh) > 1)} {comma_list(fresh, 3)}")
    if gone := [short_repr(name) for name in old if name not in new]:
        parts.append(f"it no longer has the upstream{'s' * (len(gone) > 1)} {comma_list(gone, 3)}")
    if old != new and not parts:
        parts.append("the order of its upstreams has changed")
    if old_trigger != new_trigger:
        parts.append(f"its trigger is {new_trigger!r}, was {old_trigger!r}")
    return parts
