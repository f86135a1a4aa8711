from __future__ import annotations

import io
import logging
import time

import pytest

from flowkit_log import ConsoleHandler


class Terminal(io.StringIO):
    """A text stream that says it is a terminal, and can show what one would show."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def screen(self):
        """What is on the screen: the lines, after carriage returns, cursor movements and erasures."""
        lines, row, column = [""], 0, 0
        text = self.getvalue()
        while text:
            if text.startswith("\x1b["):
                end = next(i for i, character in enumerate(text) if character.isalpha())
                number, kind, text = text[2:end], text[end], text[end + 1 :]
                if kind == "A":
                    row -= int(number)
                elif kind == "J":
                    lines = [*lines[:row], lines[row][:column]]
                else:
                    assert kind == "m", f"unexpected code {number}{kind}"
                continue
            character, text = text[0], text[1:]
            if character == "\n":
                row, column = row + 1, 0
                if row == len(lines):
                    lines.append("")
            elif character == "\r":
                column = 0
            else:
                lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
                column += 1
        return lines


class Clock:
    """A clock that stands still until it is told how many seconds have passed."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def tick(self, seconds):
        self.now += seconds


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch):
    """Every test starts with nothing configured, and leaves nothing behind."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    root, logger = logging.getLogger(), logging.getLogger("flowkit")
    before = root.handlers[:], root.level, logger.handlers[:]
    yield
    for handler in logger.handlers:
        if handler not in before[2]:
            handler.close()
    root.handlers[:], logger.handlers[:] = before[0], before[2]
    root.setLevel(before[1])
    for name, other in [("flowkit", logger), *logging.root.manager.loggerDict.items()]:
        if name.startswith("flowkit") and isinstance(other, logging.Logger):
            other.setLevel(logging.NOTSET)
            other.propagate, other.disabled = True, False


@pytest.fixture(autouse=True)
def at_five_past_two(monkeypatch):
    """It is 14:30:05, here and in UTC."""
    monkeypatch.setattr(time, "time", lambda: 1_700_058_605.25)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_058_605_250_000_000)
    monkeypatch.setattr(logging.Formatter, "converter", staticmethod(time.gmtime))


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def console(terminal):
    """A console on a terminal of 80 columns and 10 rows, attached to the logger `flowkit`."""
    handler = ConsoleHandler(terminal, use_colors=False, size=lambda: (80, 10))
    logger = logging.getLogger("flowkit")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    return handler
