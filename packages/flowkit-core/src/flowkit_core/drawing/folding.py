"""Folding: a large graph with groups of tasks in place of tasks whose names differ in a number or after a dot."""

from __future__ import annotations

import re

from .labels import format_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    _Key = tuple[str, int]  # pattern, and level

MAX_UNFOLDED = 40
"""Number of tasks up to which a graph is drawn in full."""
TIMES = "\N{MULTIPLICATION SIGN}"
FOLDED = f'{TIMES}: tasks whose names differ only in a number, or after a dot; "mermaid" and "dot" have each one'
_MIN_GROUP = 3  # tasks of a group
_DIGITS = re.compile(r"\d+")


class Folded:
    """A graph in which some vertices stand for several tasks.

    Attributes:
        names: for each vertex the name of its task; of a group, a pattern and the number of its tasks.
        parents: for each vertex the indices of its direct upstreams, in topological order.
        notes: for each vertex a note.
        dashed: the edges that stand for dashed edges only.
        sizes: for each vertex the number of tasks that it stands for.
    """

    def __init__(
        self, tasks: Sequence[str], parents: list[list[int]], notes: Sequence[str], dashed: set[tuple[int, int]]
    ) -> None:
        self.names = list(tasks)
        self.parents = parents
        self.notes = [notes[i] if i < len(notes) else "" for i in range(len(tasks))]
        self.dashed = dashed
        self.sizes = [1] * len(tasks)
        if len(tasks) > MAX_UNFOLDED:
            self._fold(lambda name: _DIGITS.sub("*", name) if _DIGITS.search(name) else "", of_one_level=True)
        if len(self.names) > MAX_UNFOLDED:
            self._fold(lambda name: f"{name.partition('.')[0]}.*" if "." in name else "")

    def _fold(self, pattern: Callable[[str], str], *, of_one_level: bool = False) -> None:
        """Fold vertices of equal patterns, unless the graph of the groups would have a cycle.

        Args:
            pattern: returns the pattern of a name; empty for none.
            of_one_level: whether the vertices of a group have the same longest distance from the start.
        """
        members: dict[_Key, list[int]] = {}
        for i, (name, level) in enumerate(zip(self.names, levels(self.parents))):
            if key := pattern(name):
                members.setdefault((key, level if of_one_level else 0), []).append(i)
        groups = {key: each for key, each in members.items() if len(each) >= _MIN_GROUP}
        group_of = {i: key for key, each in groups.items() for i in each}
        while group_of:
            cyclic = {group_of[i] for i in _in_cycles(self._vertices(group_of), self.parents) if i in group_of}
            if not cyclic:
                self._apply(group_of, groups)
                return
            group_of = {i: key for i, key in group_of.items() if key not in cyclic}

    def _vertices(self, group_of: dict[int, _Key]) -> list[int]:
        """Return for each vertex the first member of its group, or itself."""
        first: dict[_Key, int] = {}
        return [first.setdefault(group_of[i], i) if i in group_of else i for i in range(len(self.names))]

    def _apply(self, group_of: dict[int, _Key], groups: dict[_Key, list[int]]) -> None:
        at = self._vertices(group_of)
        edges: dict[int, dict[int, bool]] = {i: {} for i in dict.fromkeys(at)}
        for v, ups in enumerate(self.parents):
            for u in ups:
                if at[u] != at[v]:
                    edges[at[v]][at[u]] = edges[at[v]].get(at[u], True) and (u, v) in self.dashed
        order = _topological({v: list(ups) for v, ups in edges.items()})
        number = {v: k for k, v in enumerate(order)}
        self.sizes = [
            sum(self.sizes[i] for i in groups[group_of[v]]) if v in group_of else self.sizes[v] for v in order
        ]
        self.names = [
            f"{group_of[v][0]} {TIMES}{format_number(size)}" if v in group_of else self.names[v]
            for v, size in zip(order, self.sizes)
        ]
        self.notes = ["" if v in group_of else self.notes[v] for v in order]
        self.dashed = {(number[u], number[v]) for v, ups in edges.items() for u, is_dashed in ups.items() if is_dashed}
        self.parents = [sorted(number[u] for u in edges[v]) for v in order]


def levels(parents: Sequence[Sequence[int]]) -> list[int]:
    """Return for each vertex the longest distance from the start."""
    found = [0] * len(parents)
    for v, ups in enumerate(parents):
        found[v] = max((found[u] + 1 for u in ups), default=0)
    return found


def _topological(ups: dict[int, list[int]]) -> list[int]:
    """Return the vertices that are on no cycle and downstream of none, in topological order."""
    waiting = {v: len(each) for v, each in ups.items()}
    downs: dict[int, list[int]] = {v: [] for v in ups}
    for v, each in ups.items():
        for u in each:
            downs[u].append(v)
    order = [v for v, count in waiting.items() if not count]
    for u in order:  # grows while it is read
        for v in downs[u]:
            waiting[v] -= 1
            if not waiting[v]:
                order.append(v)
    return order


def _in_cycles(at: list[int], parents: list[list[int]]) -> set[int]:
    """Return the vertices on cycles, and on paths between cycles, of a graph whose vertices were merged.

    Args:
        at: vertex -> the vertex that it is merged into.
        parents: for each vertex the indices of its direct upstreams.
    """
    ups: dict[int, set[int]] = {v: set() for v in at}
    downs: dict[int, set[int]] = {v: set() for v in at}
    for v, each in enumerate(parents):
        for u in each:
            if at[u] != at[v]:
                ups[at[v]].add(at[u])
                downs[at[u]].add(at[v])
    before = set(_topological({v: list(each) for v, each in ups.items()}))
    after = set(_topological({v: list(each) for v, each in downs.items()}))
    return {v for v in ups if v not in before and v not in after}
