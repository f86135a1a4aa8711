"""Fair comparison: every cell has a process of its own, all are there at once, and they take turns: A B C, C B A.

What the machine does meanwhile to one it does to its neighbors, and a ratio is that of turns which followed each other.
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
TO_END = 10.0


class Cell:
    """Something that is measured, turn by turn.

    Attributes:
        key: the measure and its arguments.
        turns: what each turn measured, by the number of its round.
        best: the least that was ever measured.
        problem: why there is nothing, or no more, in words.
        spent: seconds that all its turns took.
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
        """Get ready, which may take ten times as long as a turn, and take a turn that does not count."""
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
        """Whether it can take another turn."""
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
        """Return what the process answers, or None if that is a problem."""
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
            self._process.communicate(timeout=TO_END)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._kill()
            self._process.communicate()
        self._process = None

    def _kill(self) -> None:
        """End the process with all it has started: the workers of a pool would hold its output open for ever."""
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
        """Return everything that was measured."""
        found: dict[str, Any] = {"measure": self.key[0], "of": list(self.key[1:])}
        if self.turns:
            found["median"] = {name: self.median(name) for name in self.best}
            found["best"] = self.best
            found["turns"] = [self.turns[number] for number in sorted(self.turns)]
        if self.problem:
            found["problem"] = self.problem
        return found


def take_turns(cells: Sequence[Cell], rounds: int, patience: float, limit: float) -> None:
    """Let cells take turns, each once or until it has used up the patience, a number of seconds; then end them."""
    for number in range(rounds):
        for cell in cells if number % 2 == 0 else reversed(cells):
            if cell.runs and (number < 2 or cell.spent < patience):
                cell.turn(number, limit)
    for cell in cells:
        cell.stop()
