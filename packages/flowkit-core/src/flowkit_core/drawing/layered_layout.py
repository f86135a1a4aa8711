"""A layered drawing of one connected graph: where each task stands, and where the lines between them run.

Sugiyama's method. Tasks stand in layers and every edge joins two neighboring layers; an edge that skips layers passes
through *knots*, vertices without a name. The drawing flows from left to right or from top to bottom: *along* counts
cells in the direction of the flow, *aside* counts them across it. Edges between two layers are drawn in *bundles*, in
each of which every source leads to every target, so that its lines may join without saying more than is so. Lines of
two bundles never share a cell, except where one passes under the other.

A cell of a line is drawn dashed if all edges that share it are dashed. Every dashed edge has at least one dashed cell,
and no solid edge has any, so the style of an edge can be read from the picture even where lines join.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["layout"]

_MAX_LAYER = 60
_MAX_CROSSINGS = 60  # with more than these, lines no longer help
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_GLYPHS = " ╵╷│╴╯╮┤╶╰╭├─┴┬┼"  # indexed by the sum of a cell's arms
_DASHED_GLYPHS = " ╵╷┆╴╯╮┤╶╰╭├╌┴┬┼"  # Unicode has no dashed corners and junctions
# How strongly an edge pulls straight (one between two tasks, a task and a knot, two knots), and to whom vertices look
# last: those before them, those after them, or both. No choice suits every graph, so all are tried.
_TEMPERS = (
    ((1.0, 0.5, 2.0), "both"),
    ((1.0, 0.1, 1.0), "both"),
    ((1.0, 3.0, 8.0), "both"),
    ((1.0, 0.5, 2.0), "after"),
    ((1.0, 0.5, 2.0), "before"),
)


def layout(
    labels: Sequence[str],
    sizes: Sequence[int],
    parents: Sequence[Sequence[int]],
    widths: Sequence[int],
    dashed: Collection[tuple[int, int]] = (),
) -> list[str] | None:
    """Draw one connected graph.

    Args:
        labels: One name per vertex, in topological order, fit to print.
        sizes: How many cells each label takes.
        parents: For each vertex the indices of its direct upstreams, without repetition.
        widths: How many columns the drawing may take: the first of these that serves, in the order of preference.
        dashed: The edges to draw dashed, as pairs (upstream, downstream).

    Returns:
        The lines, or None if the drawing would be too wide or too tangled to help.
    """
    graph = _Layers(parents, dashed)
    if max(map(len, graph.layers)) > _MAX_LAYER or graph.untangle() > _MAX_CROSSINGS:
        return None
    knots = len(graph.ups) - len(labels)
    labels, sizes = [*labels, *[""] * knots], [*sizes, *[1] * knots]
    drawings = []
    for across in (True, False):
        tries = [_Drawing(graph, labels, sizes, across, pull, last) for pull, last in _TEMPERS]
        drawings.append(min(tries, key=_Drawing.unrest))
    return next((drawing.lines for width in widths for drawing in drawings if drawing.width <= width), None)


class _Layers:
    """Vertices (tasks first, then knots) in layers, with each one's neighbors in the layers before and after."""

    def __init__(self, parents: Sequence[Sequence[int]], dashed: Collection[tuple[int, int]]) -> None:
        self.ups: list[list[int]] = [[] for _ in parents]
        self.downs: list[list[int]] = [[] for _ in parents]
        self.dashed: set[tuple[int, int]] = set()  # edges between neighboring layers
        levels = _levels(parents)
        self._tie(parents, levels, set(dashed))
        # Depth first, so that a tree comes out without a crossing and in order of declaration.
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

    def _tie(self, parents: Sequence[Sequence[int]], levels: list[int], dashed: set[tuple[int, int]]) -> None:
        """Lead every edge from layer to layer.

        The long edges out of one task share their knots, or those into one task do, whichever are more: so a line
        through knots always belongs to one source or to one target. Dashed and solid edges share no knots.
        """
        edges = [(u, v, (u, v) in dashed) for v, ups in enumerate(parents) for u in ups]
        outs, ins = ([0] * len(parents), [0] * len(parents)), ([0] * len(parents), [0] * len(parents))
        for u, v, style in edges:
            if levels[v] - levels[u] > 1:
                outs[style][u] += 1
                ins[style][v] += 1
        knots: dict[tuple[int, bool, int], int] = {}
        for u, v, style in edges:
            trunk = u if outs[style][u] >= ins[style][v] else ~v
            here = u
            for level in range(levels[u] + 1, levels[v] + 1):
                there = v if level == levels[v] else knots.setdefault((trunk, style, level), len(levels))
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

    def untangle(self) -> int:
        """Reorder the layers so that few edges cross (barycenters, back and forth), and return how many still do."""
        rank = {v: float(k) for layer in self.layers for k, v in enumerate(layer)}
        best, fewest = [list(layer) for layer in self.layers], self._crossings(rank)
        for sweep in range(12):
            if not fewest:
                break
            near, layers = (self.downs, self.layers[::-1]) if sweep % 2 else (self.ups, self.layers)
            for layer in layers:
                center = {v: _mean([rank[u] for u in near[v]] or [rank[v]]) for v in layer}
                layer.sort(key=center.__getitem__)
                rank.update((v, k) for k, v in enumerate(layer))
            found = self._crossings(rank)
            if found < fewest:
                best, fewest = [list(layer) for layer in self.layers], found
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

    def bundles(self, layer: list[int]) -> list[_Bundle]:
        """The edges below *layer*: by common sources or by common targets, whichever makes fewer bundles."""
        found: list[_Bundle] = []
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
                found += [_Bundle(sources, targets) for sources, targets in of_sources.items()]
            else:
                found += [_Bundle(sources, targets) for targets, sources in of_targets.items()]
        return [part for bundle in found for part in self._readable(bundle)] if self.dashed else found

    def _readable(self, bundle: _Bundle) -> list[_Bundle]:
        """The bundle with its styles; split by style if a dashed edge would share both its ends with solid ones."""
        self._style(bundle)
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
            parts += [_Bundle(sources, targets) for sources, targets in of_sources.items()]
        for part in parts:
            self._style(part)
        return parts

    def _style(self, bundle: _Bundle) -> None:
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
        if outs[v] > len(parents[v]):  # nearer to those that wait for it, its lines are shorter
            levels[v] = ceiling[v] - 1
        for u in parents[v]:
            ceiling[u] = min(ceiling[u], levels[v])
    return levels


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


class _Bundle:
    """Edges drawn as one. *tails* are its ends at the sources, *heads* those at the targets: vertex -> place aside."""

    def __init__(self, sources: Iterable[int], targets: Iterable[int]) -> None:
        self.tails = dict.fromkeys(sorted(sources), 0)
        self.heads = dict.fromkeys(sorted(targets), 0)
        self.track = -1  # which of the gap's tracks joins them; none where the line is straight
        self.solid: list[tuple[int, int]] = []  # its edges by style; unused where the whole graph is solid
        self.dashed: list[tuple[int, int]] = []

    def span(self) -> tuple[int, int]:
        places = [*self.tails.values(), *self.heads.values()]
        return min(places), max(places)

    def crossings(self, later: _Bundle) -> int:
        """How many lines cross when this one's track comes before that of *later*."""
        (low, high), (its_low, its_high) = self.span(), later.span()
        return sum(low < place < high for place in later.tails.values()) + sum(
            its_low < place < its_high for place in self.heads.values()
        )


def _settled(wanted: list[float], weights: list[float], offsets: list[int]) -> list[float]:
    """Places nearest to the wanted ones (weighted least squares) in which neighbors keep their distance."""
    blocks: list[tuple[float, float, int]] = []  # those that push one another: weighted sum, weight, how many
    for want, weight, offset in zip(wanted, weights, offsets):
        block = (weight * (want - offset), weight, 1)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    starts = [total / weight for total, weight, members in blocks for _ in range(members)]
    return [start + offset for start, offset in zip(starts, offsets)]


class _Drawing:
    """One way to draw the layers; *lines* is the result, *width* its columns."""

    def __init__(
        self,
        graph: _Layers,
        labels: Sequence[str],
        sizes: Sequence[int],
        across: bool,
        pull: tuple[float, float, float],
        last: str,
    ) -> None:
        self.layers, self.downs, self.dashed = graph.layers, graph.downs, graph.dashed
        self.labels, self.sizes = labels, sizes
        self.across, self.pull, self.last = across, pull, last
        self.gaps = [graph.bundles(layer) for layer in graph.layers]
        # Bundles may block one another in a circle. On a grid of every second place there is a way around.
        for self.unit in (1, 2):
            self._place()
            if all(self._stack(gap) for gap in self.gaps):
                break
        self.cells: dict[tuple[int, int], tuple[object, int]] = {}  # (along, aside) -> whose line, and its arms
        self.solid: dict[tuple[int, int], int] = {}  # (along, aside) -> arms that belong to solid edges
        self.texts: dict[tuple[int, int], tuple[str, int]] = {}  # (along, aside) -> text and its size
        self._paint()
        self.lines, self.width = self._text()

    def unrest(self) -> float:
        """What a drawing should have little of: rows, corners, and lines that lean."""
        lean = 0.0
        for bundle in [bundle for gap in self.gaps for bundle in gap]:
            tails, heads = ([at for v, at in ends.items() if self.labels[v]] for ends in (bundle.tails, bundle.heads))
            if tails and heads:
                lean += abs(_mean(tails) - _mean(heads))
        corners = sum(map("".join(self.lines).count, "╭╮╰╯"))
        return lean * (1.0 if self.across else 0.2) + 2 * len(self.lines) + corners

    # Places aside of the flow.

    def _place(self) -> None:
        """Give every vertex its place, and every end of a bundle too."""
        rank = {v: k for layer in self.layers for k, v in enumerate(layer)}
        sides = []  # each vertex's upper and lower side: the bundles' ends there, and their ends across the gap
        for above, below, layer in zip([[], *self.gaps], self.gaps, self.layers):
            for v in layer:
                for ends in ([(b.heads, b.tails) for b in above], [(b.tails, b.heads) for b in below]):
                    mine = [(here, there) for here, there in ends if v in here]
                    sides.append((v, sorted(mine, key=lambda end: _mean(rank[w] for w in end[1]))))
        step = self.unit if self.across else 2
        anchors = [(len(ends) - 1) // 2 for _, ends in sides]  # which end lies at the vertex's own place
        for _ in range(3):
            low, high = [0] * len(self.labels), [0] * len(self.labels)  # how far a vertex reaches to either side
            if not self.across:
                low, high = [(size - 1) // 2 for size in self.sizes], [size // 2 for size in self.sizes]
            for (v, ends), anchor in zip(sides, anchors):
                for k, (here, _there) in enumerate(ends):
                    even = self.unit == 1 and not self.across  # columns are narrow enough to share out evenly
                    here[v] = 2 * k + 1 - len(ends) if even else (k - anchor) * step
                    low[v], high[v] = max(low[v], -here[v]), max(high[v], here[v])
            at = self.at = self._align(low, high)
            for v, ends in sides:
                for here, _there in ends:
                    here[v] += at[v]
            # Of several ends, the one that can go straight on shall.
            better = []
            for v, ends in sides:
                turns = {
                    anchor: sum(
                        min(abs(at[v] + (k - anchor) * step - place) for place in there.values())
                        for k, (_here, there) in enumerate(ends)
                    )
                    for anchor in range(len(ends))
                }
                better.append(min(turns, key=turns.__getitem__, default=0))
            if better == anchors:
                break
            anchors = better

    def _align(self, low: list[int], high: list[int]) -> list[int]:
        """Places in which lines are as straight as the order of the layers and the widths allow."""
        unit, labels = self.unit, self.labels
        before: list[list[tuple[int, float, float]]] = [[] for _ in labels]  # neighbor, distance from it, weight
        after: list[list[tuple[int, float, float]]] = [[] for _ in labels]
        for bundle in [bundle for gap in self.gaps for bundle in gap]:
            for u, tail in bundle.tails.items():
                for v, head in bundle.heads.items():
                    weight = self.pull[(not labels[u]) + (not labels[v])]
                    before[v].append((u, (tail - head) / unit, weight))
                    after[u].append((v, (head - tail) / unit, weight))
        at = [0.0] * len(labels)
        rows = []
        for layer in self.layers:
            offsets = [0]
            for a, b in pairwise(layer):
                space = 0 if self.across else 3 if labels[a] and labels[b] else 2
                offsets.append(offsets[-1] - -(high[a] + space + 1 + low[b]) // unit)
            rows.append((layer, offsets))
            for v, offset in zip(layer, offsets):
                at[v] = offset
        both = [a + b for a, b in zip(before, after)]
        forth, back = (before, rows), (after, rows[::-1])
        final = {"both": [(both, rows), (both, rows[::-1])], "after": [back], "before": [forth]}[self.last]
        for pulls, ordered in [forth, back] * 4 + final * 4:
            for layer, offsets in ordered:
                weights = [sum(weight for _, _, weight in pulls[v]) for v in layer]
                wanted = [
                    sum((at[u] + distance) * weight for u, distance, weight in pulls[v]) / total if total else at[v]
                    for v, total in zip(layer, weights)
                ]
                for v, place in zip(layer, _settled(wanted, [total or 0.01 for total in weights], offsets)):
                    at[v] = place
        edge = min(at)
        whole = [int(place - edge + 0.4999) for place in at]  # rounded alike, so that what is level stays level
        self._straighten(rows, whole)
        first = min(place - -(-low[v] // unit) for v, place in enumerate(whole))
        return [(place - first) * unit for place in whole]

    def _straighten(self, rows: list[tuple[list[int], list[int]]], at: list[int]) -> None:
        """Move knots that follow one another to one place, as many at a time as find room between their neighbors."""
        spot = {v: (layer, offsets, k) for layer, offsets in rows for k, v in enumerate(layer) if not self.labels[v]}
        waiting = dict.fromkeys(spot)
        while waiting:
            knot: int | None = next(iter(waiting))
            run: list[int] = []
            low, high = -len(at) * 1000, len(at) * 1000
            while knot is not None:
                layer, offsets, k = spot[knot]
                its_low = at[layer[k - 1]] + offsets[k] - offsets[k - 1] if k else low
                its_high = at[layer[k + 1]] - offsets[k + 1] + offsets[k] if k + 1 < len(layer) else high
                if run and max(low, its_low) > min(high, its_high):
                    break
                low, high = max(low, its_low), min(high, its_high)
                run.append(knot)
                del waiting[knot]
                knot = next((v for v in self.downs[knot] if v in waiting), None)
            place = min(max(sorted(at[v] for v in run)[len(run) // 2], low), high)
            for v in run:
                at[v] = place

    # Tracks along the flow.

    def _stack(self, gap: list[_Bundle]) -> bool:
        """Give every bundle of a gap its track, so that no two lie on one another; False if that cannot be."""
        for bundle in gap:
            bundle.track = -1
        waiting = [bundle for bundle in gap if bundle.span()[0] < bundle.span()[1]]
        cost = {b: sum(b.crossings(o) - o.crossings(b) for o in waiting if o is not b) for b in waiting}
        placed: list[_Bundle] = []
        while waiting:
            # Where one bundle starts at the place at which another ends, the first must have turned off before.
            starts = [(bundle, place) for bundle in waiting for place in bundle.tails.values()]
            free = [b for b in waiting if not any(o is not b and place in b.heads.values() for o, place in starts)]
            if not free:
                if self.unit == 1:
                    return False
                free = waiting[:1]
                free[0].heads = {v: place + 1 for v, place in free[0].heads.items()}  # nothing starts at odd places
            best = min(free, key=cost.__getitem__)
            waiting.remove(best)
            for other in waiting:
                cost[other] -= other.crossings(best) - best.crossings(other)
            low, high = best.span()
            beside = [other.track for other in placed if other.span()[0] <= high and low <= other.span()[1]]
            best.track = max(beside, default=-1) + 1
            placed.append(best)
        return True

    # Painting.

    def _wire(self, along: int, aside: int, arms: int, owner: object) -> None:
        """Add arms to a cell. A cell of two owners is a crossing: one passes under the other."""
        was = self.cells.get((along, aside), (owner, 0))
        self.cells[along, aside] = (owner, was[1] | arms if was[0] is owner else _UP | _DOWN)

    def _join(
        self,
        start: int,
        track: int,
        stop: int,
        tails: Iterable[int],
        heads: Iterable[int],
        solid: Iterable[tuple[int, int]],
    ) -> None:
        """Draw lines from *tails* at *start* to the track, along it, and on to *heads* just before *stop*.

        *solid* holds the pairs of a tail and a head whose edges are not all dashed.
        """
        owner = object()
        for along, aside, arms in self._strokes(start, track, stop, set(tails), set(heads)):
            self._wire(along, aside, arms, owner)
        if self.dashed:
            for tail, head in solid:
                for along, aside, arms in self._strokes(start, track, stop, {tail}, {head}):
                    self.solid[along, aside] = self.solid.get((along, aside), 0) | arms

    def _strokes(
        self, start: int, track: int, stop: int, tails: set[int], heads: set[int]
    ) -> Iterator[tuple[int, int, int]]:
        """Yield the cells of the lines of `_join`, with their arms."""
        back, ahead, lower, higher = (_LEFT, _RIGHT, _UP, _DOWN) if self.across else (_UP, _DOWN, _LEFT, _RIGHT)
        for places, cells in ((tails, range(start, track)), (heads, range(track + 1, stop))):
            for aside in places:
                for along in cells:
                    yield along, aside, back | ahead
        low, high = min(tails | heads), max(tails | heads)
        for aside in range(low, high + 1) if start < stop else ():
            arms = (aside > low) * lower | (aside < high) * higher | (aside in tails) * back | (aside in heads) * ahead
            yield track, aside, arms

    def _paint(self) -> None:
        """Layer after layer: a bar where a task gathers several ends, the arrows, the names, a bar again, the gap."""
        across, at, here = self.across, self.at, 0
        for number, layer in enumerate(self.layers):
            above, below = (self.gaps[number - 1] if number else []), self.gaps[number]
            heads = {v: [b.heads[v] for b in above if v in b.heads] for v in layer}
            tails = {v: [b.tails[v] for b in below if v in b.tails] for v in layer}
            solid_heads = {v: [b.heads[v] for b in above if any(v == w for _, w in b.solid)] for v in layer}
            solid_tails = {v: [b.tails[v] for b in below if any(v == u for u, _ in b.solid)] for v in layer}
            if any(heads[v] not in ([], [at[v]]) for v in layer):
                for v in layer:
                    if heads[v]:
                        solid = [(head, at[v]) for head in solid_heads[v]]
                        self._join(here, here, here + 1 + across, heads[v], [at[v]], solid)
                here += 1 + across

            name = here + (1 + across if number else 0)
            stop = name + (max(self.sizes[v] for v in layer) + 1 if across else 1)
            for v in layer:
                begin = here
                if self.labels[v]:
                    begin = name + (self.sizes[v] + 1 if across else 1)
                    self.texts[name, at[v]] = (self.labels[v], self.sizes[v])
                    if heads[v]:
                        arrows = "⇢⇣" if self.dashed and not solid_heads[v] else "→↓"
                        self.texts[here, at[v]] = (arrows[not across], 1)
                if tails[v] and begin < stop:
                    solid = [(at[v], at[v])] if solid_tails[v] else []
                    self._join(begin, begin, stop, [at[v]], [at[v]], solid)
            here = stop

            if any(tails[v] not in ([], [at[v]]) for v in layer):
                for v in layer:
                    if tails[v]:
                        solid = [(at[v], tail) for tail in solid_tails[v]]
                        self._join(here, here + across, here + 1 + across, [at[v]], tails[v], solid)
                here += 1 + across
            tracks = 1 + max((bundle.track for bundle in below), default=-1)
            # From top to bottom, corners may leave a line no cell that can be dashed, unless it passes a knot.
            tight = not across and any(self.labels[u] and self.labels[v] for b in below for u, v in b.dashed)
            room = int(tight)  # rows to add before the tracks and after them
            stop = here + (2 * tracks + 1 if across else tracks + 2 * room)
            for bundle in below:
                track = here + max(0, 2 * bundle.track + 1 if across else bundle.track + room)
                solid = [(bundle.tails[u], bundle.heads[v]) for u, v in bundle.solid]
                self._join(here, track, stop, bundle.tails.values(), bundle.heads.values(), solid)
            here = stop

    def _glyph(self, spot: tuple[int, int], arms: int) -> str:
        dashed = self.dashed and not self.solid.get(spot, 0) & arms
        return (_DASHED_GLYPHS if dashed else _GLYPHS)[arms]

    def _text(self) -> tuple[list[str], int]:
        rows: dict[int, list[tuple[int, str, int]]] = {}
        pieces = [(*spot, self._glyph(spot, arms), 1) for spot, (_, arms) in self.cells.items()]
        pieces += [(*spot, text, size) for spot, (text, size) in self.texts.items()]
        for along, aside, text, size in pieces:
            row, column = (aside, along) if self.across else (along, aside - (size - 1) // 2)
            rows.setdefault(row, []).append((column, text, size))
        lines, width = [""] * (max(rows) + 1), 0
        for row, found in rows.items():
            end = 0
            for column, text, size in sorted(found):
                lines[row] += " " * (column - end) + text
                end = column + size
            width = max(width, end)
        return lines, width
