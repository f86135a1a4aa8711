"""Fair comparison: every cell has its own process, and the processes take turns in the order A B C, C B A, A B C.

A disturbance of the machine therefore affects all cells, and ratios are those of consecutive turns.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from measures import Laps

SCRIPT = Path(__file__).with_name("cell.py")
EXIT_TIMEOUT = 10.0


class Cell:
    """A value of a table, which is measured in turns.

    Attributes:
        key: the measure and its arguments.
        turns: the values of each turn, by the number of its round.
        best: the minimum of each value.
        problem: the reason why there are no values or no further ones, as text.
        spent: total duration of its turns, in seconds.
    """

    def __init__(self, *key: str) -> None:
        self.key = key
        self.turns: dict[int, Laps] = {}
        self.best: Laps = {}
        self.warm_up: Laps = {}
        self.problem: str | None = None
        self.spent = 0.0
        self._process: subprocess.Popen[str] | None = None

    def start(self, limit: float, *, warm_up: bool = True) -> None:
        """Start the process, which may take ten times as long as a turn, and take a turn that is not counted."""
        command = [sys.executable, str(SCRIPT), *self.key]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            process_group=0,
        )
        if self._answer(10 * limit) is not None and warm_up:
            answer = self._ask(limit)
            self.warm_up = answer["median"] if answer else {}
            self.spent = 0.0

    @property
    def runs(self) -> bool:
        """Whether the cell can take another turn."""
        return self._process is not None and self.problem is None

    def turn(self, number: int, limit: float) -> None:
        """Take the turn of a round."""
        answer = self._ask(limit)
        if answer is not None:
            self.turns[number] = answer["median"]
            best = answer["best"]
            self.best = {name: min(value, self.best.get(name, value)) for name, value in best.items()}

    def _ask(self, limit: float) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        began = monotonic()
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.problem = "fails: its process ended"
            return None
        answer = self._answer(limit)
        self.spent += monotonic() - began
        return answer

    def _answer(self, limit: float) -> Any:
        """Return the answer of the process, or None if it reports a problem."""
        assert self._process is not None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], limit)[0]:
            self.problem = f"not within {limit:.0f} s"
            self._kill()
            return None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"problem": f"fails: its process ended with code {self._process.wait()}"}
        self.problem = answer.get("problem")
        return None if self.problem else answer

    def stop(self) -> None:
        """End the process."""
        if self._process is None:
            return
        try:
            self._process.communicate(timeout=EXIT_TIMEOUT)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._kill()
            self._process.communicate()
        self._process = None

    def _kill(self) -> None:
        """Kill the process group: workers of a pool would keep the output open."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def median(self, lap: str = "run") -> float | None:
        """Return the median of all turns, or None."""
        return median(turn[lap] for turn in self.turns.values()) if self.turns else None

    def ratio(self, other: Cell, lap: str = "run", other_lap: str | None = None) -> float | None:
        """Return the median, over the rounds, of this cell's turn divided by the other's; None if there are none."""
        common = self.turns.keys() & other.turns.keys()
        below = other_lap or lap
        return median(self.turns[number][lap] / other.turns[number][below] for number in common) if common else None

    def as_json(self) -> dict[str, Any]:
        """Return all measured values as JSON types."""
        content: dict[str, Any] = {"measure": self.key[0], "of": list(self.key[1:])}
        if self.turns:
            content["median"] = {name: self.median(name) for name in self.best}
            content["best"] = self.best
            content["turns"] = [self.turns[number] for number in sorted(self.turns)]
        if self.problem:
            content["problem"] = self.problem
        return content


def take_turns(cells: Sequence[Cell], rounds: int, patience: float, limit: float) -> None:
    """Let cells take turns, each at least twice and until its turns have taken `patience` seconds; then stop them."""
    for number in range(rounds):
        for cell in cells if number % 2 == 0 else reversed(cells):
            if cell.runs and (number < 2 or cell.spent < patience):
                cell.turn(number, limit)
    for cell in cells:
        cell.stop()
