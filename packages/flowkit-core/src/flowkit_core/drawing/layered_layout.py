"""Layered drawing of one connected graph: the lanes of the vertices, the tracks of the lines, and the characters.

The last steps of Sugiyama's method; ``layers.py`` has the first. The drawing flows from left to right or from top to
bottom. A cell has two coordinates: its *depth* in the direction of the flow, and its *lane* across it; in a drawing
from left to right, these are the column and the line of the text. Lines of two bundles share a cell only where one
passes under the other.

A cell is dashed if all edges that share it are dashed. Every dashed edge has a dashed cell, and no solid edge has one,
so the style of an edge is visible also where lines join.
"""

from __future__ import annotations

from itertools import pairwise

from .layers import Bundle, Layers, mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["connected_parts", "layout", "solve_lanes"]

_MAX_LAYER = 60
_MAX_CROSSINGS = 60  # lines with more crossings cannot be followed
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_GLYPHS = " ╵╷│╴╯╮┤╶╰╭├─┴┬┼"  # index: sum of the arms of a cell
_DASHED_GLYPHS = " ╵╷┆╴╯╮┤╶╰╭├╌┴┬┼"  # Unicode has no dashed corners and junctions
# Weights of a straight edge (between two tasks, a task and a dummy vertex, two dummy vertices), and the neighbors that
# the last sweeps align to. Each setting is best for some graphs, so all are tried.
_SETTINGS = (
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
        labels: printable names of the tasks, in topological order.
        sizes: width of each label, in cells.
        parents: for each task the indices of its direct upstreams, without repetition.
        widths: maximum widths in columns, in order of preference.
        dashed: the edges to draw dashed, as pairs (upstream, downstream).

    Returns:
        The lines; None if the drawing would be too wide or have too many crossings.
    """
    graph = Layers(parents, dashed)
    if max(map(len, graph.layers)) > _MAX_LAYER or graph.reduce_crossings() > _MAX_CROSSINGS:
        return None
    dummies = len(graph.ups) - len(labels)
    labels, sizes = [*labels, *[""] * dummies], [*sizes, *[1] * dummies]
    drawings = []
    for across in (True, False):
        tries = [_Drawing(graph, labels, sizes, across, pull, last) for pull, last in _SETTINGS]
        drawings.append(min(tries, key=_Drawing.cost))
    return next((drawing.lines for width in widths for drawing in drawings if drawing.width <= width), None)


def connected_parts(parents: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the connected parts of a graph, in order of their first tasks."""
    neighbors = [list(ups) for ups in parents]
    for v, ups in enumerate(parents):
        for u in ups:
            neighbors[u].append(v)
    seen: set[int] = set()
    parts = []
    for first in range(len(parents)):
        if first not in seen:
            part = [first]
            seen.add(first)
            for v in part:
                new = [w for w in neighbors[v] if w not in seen]
                seen.update(new)
                part += new
            parts.append(sorted(part))
    return parts


def solve_lanes(wanted: Sequence[float], weights: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """Return the lanes closest to the wanted ones (weighted least squares) that keep the distances of neighbors."""
    blocks: list[tuple[float, float, int]] = []  # lanes that move together: weighted sum, weight, number
    for want, weight, offset in zip(wanted, weights, offsets):
        block = (weight * (want - offset), weight, 1)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    starts = [total / weight for total, weight, members in blocks for _ in range(members)]
    return [start + offset for start, offset in zip(starts, offsets)]


class _Drawing:
    """One drawing of the layers.

    Args:
        graph: the layers.
        labels: label of each vertex; empty for dummy vertices.
        sizes: width of each label.
        across: whether the drawing flows from left to right; else from top to bottom.
        pull: weights of straight edges, see ``_SETTINGS``.
        last: neighbors that the last sweeps align to, see ``_SETTINGS``.

    Attributes:
        lines: lines of text.
        width: number of columns of text.
    """

    def __init__(
        self,
        graph: Layers,
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
        # the order of tracks may have a cycle; with a free lane beside each line, a bundle can avoid it
        for self.unit in (1, 2):
            self._assign_lanes()
            if all(self._assign_tracks(gap) for gap in self.gaps):
                break
        self.cells: dict[tuple[int, int], tuple[object, int]] = {}  # (depth, lane) -> owner of the line, and its arms
        self.solid: dict[tuple[int, int], int] = {}  # (depth, lane) -> arms of solid edges
        self.texts: dict[tuple[int, int], tuple[str, int]] = {}  # (depth, lane) -> text and its width
        self._paint()
        self.lines, self.width = self._text()

    def cost(self) -> float:
        """Return the penalty of this drawing: lines of text, corners and slanted lines."""
        lean = 0.0
        for bundle in [bundle for gap in self.gaps for bundle in gap]:
            tails, heads = ([at for v, at in ends.items() if self.labels[v]] for ends in (bundle.tails, bundle.heads))
            if tails and heads:
                lean += abs(mean(tails) - mean(heads))
        corners = sum(map("".join(self.lines).count, "╭╮╰╯"))
        return lean * (1.0 if self.across else 0.2) + 2 * len(self.lines) + corners

    # ---- lanes ----

    def _assign_lanes(self) -> None:
        """Set the lane of each vertex and of each end of a bundle."""
        rank = {v: k for layer in self.layers for k, v in enumerate(layer)}
        sides = []  # upper and lower side of each vertex: ends of bundles there, and their other ends
        for above, below, layer in zip([[], *self.gaps], self.gaps, self.layers):
            for v in layer:
                for ends in ([(b.heads, b.tails) for b in above], [(b.tails, b.heads) for b in below]):
                    mine = [(here, there) for here, there in ends if v in here]
                    sides.append((v, sorted(mine, key=lambda end: mean(rank[w] for w in end[1]))))
        step = self.unit if self.across else 2
        anchors = [(len(ends) - 1) // 2 for _, ends in sides]  # index of the end in the lane of the vertex
        for _ in range(3):
            low, high = [0] * len(self.labels), [0] * len(self.labels)  # lanes that a vertex takes on either side
            if not self.across:
                low, high = [(size - 1) // 2 for size in self.sizes], [size // 2 for size in self.sizes]
            for (v, ends), anchor in zip(sides, anchors):
                for k, (here, _there) in enumerate(ends):
                    even = self.unit == 1 and not self.across  # lanes are narrow: distribute the ends evenly
                    here[v] = 2 * k + 1 - len(ends) if even else (k - anchor) * step
                    low[v], high[v] = max(low[v], -here[v]), max(high[v], here[v])
            at = self.at = self._align(low, high)
            for v, ends in sides:
                for here, _there in ends:
                    here[v] += at[v]
            # of several ends, the one that makes its line straight is in the lane of the vertex
            better = []
            for v, ends in sides:
                turns = {
                    anchor: sum(
                        min(abs(at[v] + (k - anchor) * step - lane) for lane in there.values())
                        for k, (_here, there) in enumerate(ends)
                    )
                    for anchor in range(len(ends))
                }
                better.append(min(turns, key=turns.__getitem__, default=0))
            if better == anchors:
                break
            anchors = better

    def _align(self, low: list[int], high: list[int]) -> list[int]:
        """Return lanes that make lines as straight as the order of the layers and the widths allow."""
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
                for v, lane in zip(layer, solve_lanes(wanted, [total or 0.01 for total in weights], offsets)):
                    at[v] = lane
        edge = min(at)
        whole = [int(lane - edge + 0.4999) for lane in at]  # rounded the same way, so that equal lanes stay equal
        self._straighten(rows, whole)
        first = min(lane - -(-low[v] // unit) for v, lane in enumerate(whole))
        return [(lane - first) * unit for lane in whole]

    def _straighten(self, rows: list[tuple[list[int], list[int]]], at: list[int]) -> None:
        """Move successive dummy vertices to one lane, as many as the neighbors in their layers leave room for."""
        spot = {v: (layer, offsets, k) for layer, offsets in rows for k, v in enumerate(layer) if not self.labels[v]}
        waiting = dict.fromkeys(spot)
        while waiting:
            dummy: int | None = next(iter(waiting))
            run: list[int] = []
            low, high = -len(at) * 1000, len(at) * 1000
            while dummy is not None:
                layer, offsets, k = spot[dummy]
                its_low = at[layer[k - 1]] + offsets[k] - offsets[k - 1] if k else low
                its_high = at[layer[k + 1]] - offsets[k + 1] + offsets[k] if k + 1 < len(layer) else high
                if run and max(low, its_low) > min(high, its_high):
                    break
                low, high = max(low, its_low), min(high, its_high)
                run.append(dummy)
                del waiting[dummy]
                dummy = next((v for v in self.downs[dummy] if v in waiting), None)
            lane = min(max(sorted(at[v] for v in run)[len(run) // 2], low), high)
            for v in run:
                at[v] = lane

    # ---- tracks ----

    def _assign_tracks(self, gap: list[Bundle]) -> bool:
        """Set the track of each bundle of a gap so that no two overlap; return False if that is impossible."""
        for bundle in gap:
            bundle.track = -1
        waiting = [bundle for bundle in gap if bundle.span()[0] < bundle.span()[1]]
        cost = {b: sum(b.crossings(o) - o.crossings(b) for o in waiting if o is not b) for b in waiting}
        placed: list[Bundle] = []
        while waiting:
            # a bundle that starts in the lane in which another ends needs an earlier track
            starts = [(bundle, lane) for bundle in waiting for lane in bundle.tails.values()]
            free = [b for b in waiting if not any(o is not b and lane in b.heads.values() for o, lane in starts)]
            if not free:
                if self.unit == 1:
                    return False
                free = waiting[:1]
                free[0].heads = {v: lane + 1 for v, lane in free[0].heads.items()}  # no line starts in an odd lane
            best = min(free, key=cost.__getitem__)
            waiting.remove(best)
            for other in waiting:
                cost[other] -= other.crossings(best) - best.crossings(other)
            low, high = best.span()
            beside = [other.track for other in placed if other.span()[0] <= high and low <= other.span()[1]]
            best.track = max(beside, default=-1) + 1
            placed.append(best)
        return True

    # ---- characters ----

    def _add_arms(self, depth: int, lane: int, arms: int, owner: object) -> None:
        """Add arms to a cell. A cell with two owners is a crossing."""
        was = self.cells.get((depth, lane), (owner, 0))
        self.cells[depth, lane] = (owner, was[1] | arms if was[0] is owner else _UP | _DOWN)

    def _draw_lines(
        self,
        start: int,
        track: int,
        stop: int,
        tails: Iterable[int],
        heads: Iterable[int],
        solid: Iterable[tuple[int, int]],
    ) -> None:
        """Draw lines from the tails to a track, along the track, and on to the heads.

        Args:
            start: first depth.
            track: depth of the track.
            stop: depth after the last.
            tails: lanes at the start.
            heads: lanes at the end.
            solid: pairs of a tail and a head whose edges are not all dashed.
        """
        owner = object()
        for depth, lane, arms in self._strokes(start, track, stop, set(tails), set(heads)):
            self._add_arms(depth, lane, arms, owner)
        if self.dashed:
            for tail, head in solid:
                for depth, lane, arms in self._strokes(start, track, stop, {tail}, {head}):
                    self.solid[depth, lane] = self.solid.get((depth, lane), 0) | arms

    def _strokes(
        self, start: int, track: int, stop: int, tails: set[int], heads: set[int]
    ) -> Iterator[tuple[int, int, int]]:
        """Yield the cells of the lines of `_draw_lines`, with their arms."""
        back, ahead, lower, higher = (_LEFT, _RIGHT, _UP, _DOWN) if self.across else (_UP, _DOWN, _LEFT, _RIGHT)
        for lanes, cells in ((tails, range(start, track)), (heads, range(track + 1, stop))):
            for lane in lanes:
                for depth in cells:
                    yield depth, lane, back | ahead
        low, high = min(tails | heads), max(tails | heads)
        for lane in range(low, high + 1) if start < stop else ():
            arms = (lane > low) * lower | (lane < high) * higher | (lane in tails) * back | (lane in heads) * ahead
            yield track, lane, arms

    def _paint(self) -> None:
        """Draw each layer: a bar if a task has several lines, arrows, names, a bar, and the gap to the next layer."""
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
                        self._draw_lines(here, here, here + 1 + across, heads[v], [at[v]], solid)
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
                    self._draw_lines(begin, begin, stop, [at[v]], [at[v]], solid)
            here = stop

            if any(tails[v] not in ([], [at[v]]) for v in layer):
                for v in layer:
                    if tails[v]:
                        solid = [(at[v], tail) for tail in solid_tails[v]]
                        self._draw_lines(here, here + across, here + 1 + across, [at[v]], tails[v], solid)
                here += 1 + across
            tracks = 1 + max((bundle.track for bundle in below), default=-1)
            # from top to bottom, a line may consist of corners only, which cannot be dashed: add rows
            tight = not across and any(self.labels[u] and self.labels[v] for b in below for u, v in b.dashed)
            room = int(tight)  # rows to add before the tracks and after them
            stop = here + (2 * tracks + 1 if across else tracks + 2 * room)
            for bundle in below:
                track = here + max(0, 2 * bundle.track + 1 if across else bundle.track + room)
                solid = [(bundle.tails[u], bundle.heads[v]) for u, v in bundle.solid]
                self._draw_lines(here, track, stop, bundle.tails.values(), bundle.heads.values(), solid)
            here = stop

    def _glyph(self, spot: tuple[int, int], arms: int) -> str:
        dashed = self.dashed and not self.solid.get(spot, 0) & arms
        return (_DASHED_GLYPHS if dashed else _GLYPHS)[arms]

    def _text(self) -> tuple[list[str], int]:
        rows: dict[int, list[tuple[int, str, int]]] = {}
        pieces = [(*spot, self._glyph(spot, arms), 1) for spot, (_, arms) in self.cells.items()]
        pieces += [(*spot, text, size) for spot, (text, size) in self.texts.items()]
        for depth, lane, text, size in pieces:
            row, column = (lane, depth) if self.across else (depth, lane - (size - 1) // 2)
            rows.setdefault(row, []).append((column, text, size))
        lines, width = [""] * (max(rows) + 1), 0
        for row, pieces_of_row in rows.items():
            end = 0
            for column, text, size in sorted(pieces_of_row):
                lines[row] += " " * (column - end) + text
                end = column + size
            width = max(width, end)
        return lines, width
