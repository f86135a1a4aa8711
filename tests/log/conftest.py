"""Fixtures: a terminal, a clock, and logging without configuration."""

from __future__ import annotations

import io
import logging
import time

import pytest

from flowkit_log import ConsoleHandler


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal and interprets escape sequences."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def screen(self):
        """Return the lines on the screen, after carriage returns, cursor movements and erasures."""
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
    """A clock that only a test advances."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def tick(self, seconds):
        self.now += seconds


@pytest.fixture(autouse=True)
def restored_logging(monkeypatch):
    """Every test starts without configuration, and its changes are undone."""
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
def fixed_time(monkeypatch):
    """It is 14:30:05, local time and UTC."""
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
    """A handler of the logger `flowkit` that prints to a terminal of 80 columns and 10 rows."""
    handler = ConsoleHandler(terminal, use_colors=False, size=lambda: (80, 10))
    logger = logging.getLogger("flowkit")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    return handler
