"""What a pipeline was when it was run, its tasks, their wiring and their code, and how that differs from now."""

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
"""What the components begin with that are code; the others are values that code reads."""


class Plan:
    """The tasks of a pipeline in order: of each its name, its upstreams, its trigger, and what its code consists of."""

    def __init__(
        self,
        tasks: Sequence[Sequence[Any]],
        codes: Mapping[str, dict[str, str]],
        missed: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.tasks = tasks  # name, places of upstreams, trigger, key in codes
        self.codes = codes
        self._missed = missed or {}  # what codes read that cannot be compared; it is not stored

    @classmethod
    def of(cls, tasks: Sequence[PlannedTask], upstream: Sequence[Sequence[int]]) -> Plan:
        """Return the plan of a pipeline as it is now."""
        known: dict[tuple[int, int], str] = {}
        codes: dict[str, dict[str, str]] = {}
        missed: dict[str, Collection[str]] = {}
        rows = []
        for task, sources in zip(tasks, upstream, strict=True):
            pair = id(task.func), id(task.when)
            key = known.get(pair)
            if key is None:
                unseen: dict[str, str] = {}
                parts = fingerprint.observed(task.func, unseen)
                if task.when is not None:
                    condition = fingerprint.observed(task.when, unseen)
                    parts |= {f"{label} (in its condition)": part for label, part in condition.items()}
                key = known[pair] = fingerprint.digest(parts)
                codes[key], missed[key] = parts, unseen.values()
            rows.append((task.name, sources, task.trigger, key))
        return cls(rows, codes, missed)

    @classmethod
    def from_text(cls, text: str) -> Plan:
        """Return the plan that was stored."""
        tree = loads(text)
        return cls(tree["tasks"], tree["codes"])

    def text(self) -> str:
        """Return what to store."""
        return dumps({"tasks": [list(map(_plain, row)) for row in self.tasks], "codes": dict(self.codes)})

    def names(self) -> list[str]:
        """Return the names of the tasks, in order."""
        return [row[0] for row in self.tasks]

    def wiring(self) -> dict[str, tuple[list[str], str]]:
        """Return the upstreams, by name, and the trigger of each task."""
        names = self.names()
        return {name: ([names[place] for place in sources], trigger) for name, sources, trigger, _ in self.tasks}

    def code(self) -> dict[str, dict[str, str]]:
        """Return what the code of each task consists of."""
        return {row[0]: self.codes[row[3]] for row in self.tasks}

    def missed(self, names: Collection[str]) -> list[str]:
        """Return what the code of these tasks reads and cannot be compared, in words, each once."""
        found = {words: None for name, _, _, key in self.tasks if name in names for words in self._missed.get(key, ())}
        return [*found]


class Difference:
    """How a pipeline differs from what it was.

    Attributes:
        added, removed, rewired: names of tasks.
        changed: task -> what has changed in its code; or, for tasks that are to be taken over, in what that reads.
        params: names of run parameters whose values differ.
        fits: the names of recorded tasks that are the same still, and everything upstream of them too.
    """

    def __init__(self, old: Plan, new: Plan, recorded: Collection[str], params: Collection[str]) -> None:
        before, now = old.wiring(), new.wiring()
        self.params = sorted(params)
        self.added = [name for name in now if name not in before]
        self.removed = [name for name in before if name not in now]
        self.rewired = [name for name in now if name in before and now[name] != before[name]]
        self.changed: dict[str, tuple[str, ...]] = {}
        code_before, code_now = old.code(), new.code()
        for name in now:
            if name in before and code_before[name] != code_now[name]:
                matters = "" if name in recorded else _CODE
                parts = [
                    {label: part for label, part in code.items() if label.startswith(matters)}
                    for code in (code_before[name], code_now[name])
                ]
                if parts[0] != parts[1]:
                    self.changed[name] = tuple(fingerprint.changes(*parts))
        self.fits = {name for name in recorded if name in now}
        self.refit(new, {*self.added, *self.rewired, *self.changed})

    def refit(self, plan: Plan, unfit: Collection[str]) -> None:
        """Take out of what fits some tasks, and what follows from them."""
        fits: set[str] = set()
        for name, (sources, _) in plan.wiring().items():  # upstreams come first
            if name in self.fits and name not in unfit and all(source in fits for source in sources):
                fits.add(name)
        self.fits = fits

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.rewired or self.changed or self.params)


def _plain(part: Any) -> Any:
    return list(part) if isinstance(part, tuple) else part
