"""Function `draw_timeline`: the attempts of a run, a row for each worker, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup, escape

from flowkit_core._text import counted, escape_control_chars
from flowkit_view.texts import duration_text

from .elements import density

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .run_model import AttemptModel, RunModel, TaskModel

WIDTH = 1000
LEFT = 130  # for the names of the workers
LABEL = 60  # for the label to the right of a line; to the left of the last lines
TITLED = 1500  # maximum number of attempts that get a rectangle and a title of their own
MAX_ROWS = 100  # of one worker, whose attempts overlap
GAP = 0.01  # space between two executions, as a part of the width


SLOTS = 100  # parts of the bar of a mapped task
MAX_MAPPED_ROWS = 30  # mapped tasks that have a row of their own


_HATCH = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<line class="hatch" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>'
)


class _Bar(NamedTuple):
    x: float
    width: float
    state: str
    critical: bool
    title: str


def draw_timeline(run: RunModel, critical: Collection[int]) -> Markup:
    """Return the timeline of a run; empty if nothing was called.

    Args:
        run: the run.
        critical: indices of the tasks on the critical path, whose bars are outlined.
    """
    if not any(task.attempts for task in run.tasks):
        return Markup()
    axis = _Axis(run)
    rows = _rows(run, axis, critical)
    height = max(3.0, min(22.0, 900 / len(rows)))
    bottom = height * len(rows)
    label = f"Timeline of {len(rows)} rows; the table below has the same data"
    size = f"0 0 {WIDTH} {bottom + 24:.0f}"
    parts = [f'<svg class="timeline" role="img" viewBox="{size}" aria-label="{label}">{_HATCH}', *_ticks(axis, bottom)]
    count = sum(len(bars) for _, bars in rows)
    for number, (name, bars) in enumerate(rows):
        top = number * height
        if name and height >= 9:
            parts.append(
                f'<text class="worker" x="{LEFT - 6}" y="{top + height / 2 + 4:.1f}">{escape(_short(name, 20))}'
                f"<title>{escape(name)}</title></text>"
            )
        parts += _titled(bars, top, height) if count <= TITLED else _merged(bars, top, height)
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - names and titles are escaped above


class _Axis:
    """Positions of times: the executions of the run one after the other, with a gap between them."""

    def __init__(self, run: RunModel) -> None:
        self.executions = run.executions
        self.total = max(run.seconds, 1e-6)
        gaps = GAP * (len(self.executions) - 1)
        self._scale = (WIDTH - LEFT) * max(0.5, 1 - gaps) / self.total
        self.offsets: list[float] = []
        x = float(LEFT)
        for execution in self.executions:
            self.offsets.append(x)
            x += (execution.ended - execution.started) * self._scale + GAP * (WIDTH - LEFT)

    def x(self, time: float, execution: int) -> float:
        """Return the position of a time in an execution."""
        number = min(max(execution, 1), len(self.executions)) - 1
        position = self.offsets[number] + (time - self.executions[number].started) * self._scale
        return min(max(position, float(LEFT)), float(WIDTH))


def _rows(run: RunModel, axis: _Axis, critical: Collection[int]) -> list[tuple[str, list[_Bar]]]:
    """Return the rows: for each worker one, and more if its attempts overlap, as those of an event loop do."""
    attempts = [(attempt, index) for index, task in enumerate(run.tasks) for attempt in task.attempts]
    attempts.sort(key=lambda item: item[0].started)
    lanes: dict[tuple[bool, str], list[tuple[float, list[_Bar]]]] = {}  # by whether it is a mapped task, and the name
    mapped = [index for index, task in enumerate(run.tasks) if task.progress][:MAX_MAPPED_ROWS]
    dense = set(mapped)
    for attempt, index in attempts:
        task = run.tasks[index]
        found = lanes.setdefault((True, task.name) if index in dense else (False, attempt.worker), [])
        bars = _bars(run, index, attempt, axis, critical=index in critical)
        if index in dense and attempt is task.attempts[-1]:
            bars += _density(task, attempt, axis)
        for number, (end, lane) in enumerate(found):
            if end <= attempt.started + 1e-4 or len(found) >= MAX_ROWS:
                lane.extend(bars)
                found[number] = max(end, attempt.ended), lane
                break
        else:
            found.append((attempt.ended, bars))
    rows = []
    for (_, worker), found in lanes.items():
        for number, (_, lane) in enumerate(found):
            lane.sort(key=lambda bar: bar.state != "wait")  # behind the others
            rows.append((worker or "worker" if number == 0 else "", lane))
    return rows


def _density(task: TaskModel, attempt: AttemptModel, axis: _Axis) -> list[_Bar]:
    """Return bars of different darkness: by how many elements of a mapped task ended in each part of its time."""
    start, end = axis.x(attempt.started, attempt.execution), axis.x(attempt.ended, attempt.execution)
    slots = max(1, min(SLOTS, round((end - start) / 3)))
    counts = density(task, attempt.started, attempt.ended, slots)
    most = max(counts, default=0.0)
    width, length = (end - start) / slots, duration_text(attempt.seconds / slots)
    return [
        _Bar(
            start + number * width,
            width,
            f"density{min(4, int(count / most * 4.99))}",
            False,
            f"{task.name}: {counted(max(1, round(count)), 'element')} ended in {length}",
        )
        for number, count in enumerate(counts)
        if most > 0 and count >= most / 100
    ]


def _bars(run: RunModel, index: int, attempt: AttemptModel, axis: _Axis, *, critical: bool) -> list[_Bar]:
    """Return the bar of an attempt, and that of the wait for it if it is a retry."""
    task = run.tasks[index]
    start, end = axis.x(attempt.started, attempt.execution), axis.x(attempt.ended, attempt.execution)
    number = next(number for number, each in enumerate(task.attempts) if each is attempt)
    which = f", attempt {number + 1}" if len(task.attempts) > 1 else ""
    elements = f", {task.elements}" if task.progress else ""
    error = f", {attempt.error}" if attempt.error else ""
    title = f"{task.name}{which}: {attempt.outcome}, {duration_text(attempt.seconds)}{elements}{error}"
    bars = [_Bar(start, max(end - start, 0.6), attempt.outcome, critical, title)]
    before = task.attempts[number - 1] if number else attempt
    if before.execution == attempt.execution and attempt.ready is not None and number:
        since = axis.x(before.ended, attempt.execution)
        wait = axis.x(attempt.ready, attempt.execution) - since
        if wait > 0.5:
            seconds = duration_text(max(0.0, attempt.ready - before.ended))
            bars.append(_Bar(since, wait, "wait", False, f"{task.name}: waits {seconds} for a retry"))
    return bars


def _titled(bars: Iterable[_Bar], top: float, height: float) -> list[str]:
    return [
        f'<rect class="bar {bar.state}{" critical" if bar.critical else ""}" x="{bar.x:.1f}" y="{top + 2:.1f}" '
        f'width="{bar.width:.1f}" height="{max(1.0, height - 4):.1f}"><title>{escape(escape_control_chars(bar.title))}'
        f"</title></rect>"
        for bar in bars
    ]


def _merged(bars: Sequence[_Bar], top: float, height: float) -> list[str]:
    """Return one path for all bars of a state: thousands of elements would make the page slow."""
    paths: dict[str, list[str]] = {}
    tall = max(1.0, height - min(4.0, height / 4))
    for bar in bars:
        kind = f"{bar.state}{' critical' if bar.critical else ''}"
        paths.setdefault(kind, []).append(f"M{bar.x:.1f} {top:.0f}h{bar.width:.1f}v{tall:.0f}h-{bar.width:.1f}z")
    return [f'<path class="bar {kind}" d="{"".join(parts)}"/>' for kind, parts in paths.items()]


def _ticks(axis: _Axis, bottom: float) -> list[str]:
    """Return lines at round durations, and one where an execution starts."""
    parts = []
    for number, (execution, offset) in enumerate(zip(axis.executions, axis.offsets, strict=True)):
        length = execution.ended - execution.started
        if number:
            parts.append(f'<line class="start" x1="{offset:.1f}" y1="0" x2="{offset:.1f}" y2="{bottom:.0f}"/>')
        step = _round_step(axis.total / 6)
        for count in range(int(length / step + 1e-9) + 1):
            x = axis.x(execution.started + count * step, number + 1)
            parts.append(f'<line class="tick" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom:.0f}"/>')
            text = duration_text(count * step) if count else ("0" if number == 0 else f"resume {number}")
            position = f'x="{x + 2:.1f}"' if x < WIDTH - LABEL else f'x="{x - 2:.1f}" text-anchor="end"'
            parts.append(f'<text class="tick" {position} y="{bottom + 14:.0f}">{text}</text>')
    return parts


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten, or of round minutes and hours, that is not less."""
    for step in (60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 18000.0, 43200.0, 86400.0):
        if 30 < least <= step:
            return step
    step = 1e-6
    while True:
        for factor in (1, 2, 5):
            if step * factor >= least:
                return step * factor
        step *= 10


def _short(name: str, limit: int) -> str:
    name = escape_control_chars(name)
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
