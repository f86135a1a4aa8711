"""Layers of a graph, the order of the vertices in them, and bundles of the edges between two layers.

The first steps of Sugiyama's method. A vertex is a task or a *dummy vertex*, which an edge passes through in each layer
that it skips. Between two layers, edges are drawn in *bundles*: in a bundle every source has an edge to every target,
so its lines may join.
"""

from __future__ import annotations

from bisect import bisect_right, insort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


class Layers:
    """The vertices (first the tasks, then the dummy vertices) in layers.

    Args:
        parents: for each task the indices of its direct upstreams.
        dashed: the edges to draw dashed.

    Attributes:
        layers: the vertices of each layer, in order.
        ups: for each vertex its neighbors in the layer before.
        downs: for each vertex its neighbors in the layer after.
        dashed: the dashed edges between vertices of neighboring layers.
    """

    def __init__(self, parents: Sequence[Sequence[int]], dashed: Collection[tuple[int, int]]) -> None:
        self.ups: list[list[int]] = [[] for _ in parents]
        self.downs: list[list[int]] = [[] for _ in parents]
        self.dashed: set[tuple[int, int]] = set()
        levels = _levels(parents)
        self._connect(parents, levels, set(dashed))
        # depth first: a tree has no crossings and the order of declaration
        self.layers: list[list[int]] = [[] for _ in range(max(levels) + 1)]
        seen: set[int] = set()
        for root in range(len(parents)):
            stack = [] if parents[root] else [root]
            while stack:
                v = stack.pop()
                if v not in seen:
                    seen.add(v)
                    self.layers[levels[v]].append(v)
                    stack += reversed(self.downs[v])

    def _connect(self, parents: Sequence[Sequence[int]], levels: list[int], dashed: set[tuple[int, int]]) -> None:
        """Split each edge into edges between neighboring layers, through dummy vertices.

        Long edges out of one task share their dummy vertices, or those into one task do, whichever are more. So each
        dummy vertex belongs to one source or to one target. Dashed and solid edges share none.
        """
        edges = [(u, v, (u, v) in dashed) for v, ups in enumerate(parents) for u in ups]
        outs, ins = ([0] * len(parents), [0] * len(parents)), ([0] * len(parents), [0] * len(parents))
        for u, v, style in edges:
            if levels[v] - levels[u] > 1:
                outs[style][u] += 1
                ins[style][v] += 1
        dummies: dict[tuple[int, bool, int], int] = {}
        for u, v, style in edges:
            trunk = u if outs[style][u] >= ins[style][v] else ~v
            here = u
            for level in range(levels[u] + 1, levels[v] + 1):
                there = v if level == levels[v] else dummies.setdefault((trunk, style, level), len(levels))
                if there == len(levels):
                    levels.append(level)
                    self.ups.append([])
                    self.downs.append([])
                if there not in self.downs[here]:
                    self.downs[here].append(there)
                    self.ups[there].append(here)
                if style:
                    self.dashed.add((here, there))
                here = there

    def reduce_crossings(self) -> int:
        """Reorder the layers to reduce crossings (barycenter method), and return the number that is left."""
        rank = {v: float(k) for layer in self.layers for k, v in enumerate(layer)}
        best, fewest = [list(layer) for layer in self.layers], self._crossings(rank)
        for sweep in range(12):
            if not fewest:
                break
            near, layers = (self.downs, self.layers[::-1]) if sweep % 2 else (self.ups, self.layers)
            for layer in layers:
                center = {v: mean([rank[u] for u in near[v]] or [rank[v]]) for v in layer}
                layer.sort(key=center.__getitem__)
                rank.update((v, k) for k, v in enumerate(layer))
            crossings = self._crossings(rank)
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best
        return fewest

    def _crossings(self, rank: dict[int, float]) -> int:
        total = 0
        for layer in self.layers:
            passed: list[float] = []
            for v in layer:
                ends = [rank[w] for w in self.downs[v]]
                total += sum(len(passed) - bisect_right(passed, end) for end in ends)
                for end in ends:
                    insort(passed, end)
        return total

    def bundles(self, layer: list[int]) -> list[Bundle]:
        """Return the edges below a layer in bundles: by common sources or by common targets, whichever are fewer."""
        bundles: list[Bundle] = []
        seen: set[int] = set()
        for first in layer:
            part = [first] if first not in seen and self.downs[first] else []
            below: dict[int, None] = {}
            for u in part:
                seen.add(u)
                for v in self.downs[u]:
                    if v not in below:
                        below[v] = None
                        part += [other for other in self.ups[v] if other not in part]
            of_sources: dict[frozenset[int], list[int]] = {}
            for v in below:
                of_sources.setdefault(frozenset(self.ups[v]), []).append(v)
            of_targets: dict[frozenset[int], list[int]] = {}
            for u in part:
                of_targets.setdefault(frozenset(self.downs[u]), []).append(u)
            if len(of_sources) <= len(of_targets):
                bundles += [Bundle(sources, targets) for sources, targets in of_sources.items()]
            else:
                bundles += [Bundle(sources, targets) for targets, sources in of_targets.items()]
        return [part for bundle in bundles for part in self._split_by_style(bundle)] if self.dashed else bundles

    def _split_by_style(self, bundle: Bundle) -> list[Bundle]:
        """Return a bundle; split by style if a dashed edge would share both its ends with solid edges."""
        self._set_styles(bundle)
        tails, heads = {u for u, _ in bundle.solid}, {v for _, v in bundle.solid}
        if not any(u in tails and v in heads for u, v in bundle.dashed):
            return [bundle]
        parts = []
        for edges in (bundle.solid, bundle.dashed):
            into: dict[int, list[int]] = {}
            for u, v in edges:
                into.setdefault(v, []).append(u)
            of_sources: dict[tuple[int, ...], list[int]] = {}
            for v, sources in into.items():
                of_sources.setdefault(tuple(sources), []).append(v)
            parts += [Bundle(sources, targets) for sources, targets in of_sources.items()]
        for part in parts:
            self._set_styles(part)
        return parts

    def _set_styles(self, bundle: Bundle) -> None:
        for u in bundle.tails:
            for v in bundle.heads:
                (bundle.dashed if (u, v) in self.dashed else bundle.solid).append((u, v))


def _levels(parents: Sequence[Sequence[int]]) -> list[int]:
    levels, outs = [0] * len(parents), [0] * len(parents)
    for v, ups in enumerate(parents):
        for u in ups:
            levels[v] = max(levels[v], levels[u] + 1)
            outs[u] += 1
    ceiling = [len(parents)] * len(parents)
    for v in reversed(range(len(parents))):
        if outs[v] > len(parents[v]):  # close to its downstreams, its lines are shorter
            levels[v] = ceiling[v] - 1
        for u in parents[v]:
            ceiling[u] = min(ceiling[u], levels[v])
    return levels


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean of one or more numbers."""
    values = list(values)
    return sum(values) / len(values)


class Bundle:
    """Edges between two layers that are drawn as one line with branches.

    Args:
        sources: vertices of the upper layer.
        targets: vertices of the lower layer.

    Attributes:
        tails: source -> lane of the line there.
        heads: target -> lane of the line there.
        track: number of the track between the layers that joins the ends; -1 if the line is straight.
        solid: solid edges of the bundle; empty in a graph without dashed edges.
        dashed: dashed edges of the bundle.
    """

    def __init__(self, sources: Iterable[int], targets: Iterable[int]) -> None:
        self.tails = dict.fromkeys(sorted(sources), 0)
        self.heads = dict.fromkeys(sorted(targets), 0)
        self.track = -1
        self.solid: list[tuple[int, int]] = []
        self.dashed: list[tuple[int, int]] = []

    def span(self) -> tuple[int, int]:
        """Return the first and the last lane of the line."""
        lanes = [*self.tails.values(), *self.heads.values()]
        return min(lanes), max(lanes)

    def crossings(self, later: Bundle) -> int:
        """Return the number of crossings if the track of this bundle is before that of another."""
        (low, high), (its_low, its_high) = self.span(), later.span()
        return sum(low < lane < high for lane in later.tails.values()) + sum(
            its_low < lane < its_high for lane in self.heads.values()
        )
