"""SVG pictures: dots on a logarithmic scale, for light and dark color schemes."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, ROW, TOP, RIGHT = 900, 26, 84, 80
PER_CHARACTER = 8.0

STYLE = """
  svg { font: 13px system-ui, sans-serif; }
  .card { fill: #fff; } text { fill: #222; } .quiet { fill: #666; } .grid { stroke: #ddd; } .span { stroke: #bbb; }
  .strong text { font-weight: 600; } .dot { fill: #8a8f98; } .strong .dot { fill: #d9480f; }
  .line { stroke: #2b8a3e; stroke-width: 2; }
  .small { fill-opacity: .35; } .middle { fill-opacity: .65; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #1e2129; } text { fill: #e6e6e6; } .quiet { fill: #a0a4ab; }
    .grid { stroke: #363b46; } .span { stroke: #555b66; }
    .dot { fill: #9aa0aa; } .strong .dot { fill: #ff922b; } .line { stroke: #69db7c; }
  }
"""


@dataclass(frozen=True)
class Row:
    """A row of a picture.

    Attributes:
        label: text in front of the row.
        values: one for each dot, from the faintest to the strongest; None draws no dot.
        note: text at the end of the row.
        strong: whether the row is highlighted.
    """

    label: str
    values: tuple[float | None, ...]
    note: str
    strong: bool = False


def dots(title: str, subtitle: str, rows: Sequence[Row], *, line: float | None = None) -> str:
    """Draw a row of dots for each row.

    Args:
        title: the heading.
        subtitle: the meaning of the scale and of the dots.
        rows: the rows.
        line: value at which a vertical line is drawn.
    """
    values = [value for row in rows for value in row.values if value] + [line or 1.0]
    low, high = floor(log10(min(values))), max(ceil(log10(max(values))), floor(log10(min(values))) + 1)
    height = TOP + ROW * len(rows) + 16
    left = round(30 + PER_CHARACTER * max(len(row.label) for row in rows))

    def x(value: float) -> float:
        return round(left + (log10(value) - low) / (high - low) * (WIDTH - left - RIGHT), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" width="{WIDTH}" height="{height}" rx="8"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text class="quiet" x="16" y="46">{escape(subtitle)}</text>',
    ]
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP - 6}" y2="{height - 12}"/>')
        parts.append(f'<text class="quiet" x="{at}" y="{TOP - 12}" text-anchor="middle">{_plain(10.0**power)}</text>')
    if line is not None:
        parts.append(f'<line class="line" x1="{x(line)}" x2="{x(line)}" y1="{TOP - 6}" y2="{height - 12}"/>')
    for number, row in enumerate(rows):
        places = [None if value is None else x(value) for value in row.values]
        parts += _row(row, places, left, TOP + ROW * number + ROW / 2)
    return "\n".join([*parts, "</svg>", ""])


def _row(row: Row, places: Sequence[float | None], left: int, y: float) -> list[str]:
    parts = [
        f'<g class="{"strong" if row.strong else "weak"}">',
        f'<text x="{left - 14}" y="{y + 4}" text-anchor="end">{escape(row.label)}</text>',
    ]
    drawn = [place for place in places if place is not None]
    if len(drawn) > 1:
        parts.append(f'<line class="span" x1="{min(drawn)}" x2="{max(drawn)}" y1="{y}" y2="{y}"/>')
    for shade, place in zip(("dot small", "dot middle", "dot")[-len(places) :], places, strict=True):
        if place is not None:
            parts.append(f'<circle class="{shade}" cx="{place}" cy="{y}" r="5"/>')
    at = max(drawn) + 10 if drawn else left
    parts.append(f'<text class="quiet" x="{at}" y="{y + 4}" font-size="12">{escape(row.note)}</text>')
    return [*parts, "</g>"]


def _plain(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 1 else f"{value:g}"
