from __future__ import annotations

import collections
import datetime as dt
import enum
import io
import json
import logging
import math
import re
import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_log import JsonFormatter, LogLevel, TextFormatter, configure_logging, get_logger

ANYTHING = st.text() | st.text(st.characters(categories=["Cc", "Cs", "Zl", "Zp", "Cf"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANYTHING | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(ANYTHING | st.integers() | st.none(), inner) | st.tuples(inner),
    max_leaves=8,
)
CONTEXT = st.dictionaries(
    ANYTHING | st.sampled_from(["name", "level", "message", "args", "self", "event"]), VALUES, max_size=4
)


def log_once(message, formatter_class, /, **context):
    """Return the output of one call of a logger."""
    stream = io.StringIO(newline="\n")
    configure_logging(LogLevel.DEBUG, json_output=formatter_class is JsonFormatter, stream=stream)
    get_logger("x").info(message, **context)
    return stream.getvalue()


def parse(text):
    def refuse(constant):
        raise ValueError(constant)

    assert text.endswith("\n")
    assert text.count("\n") == 1
    return json.loads(text, parse_constant=refuse)


@given(message=ANYTHING, context=CONTEXT)
def test_text_is_one_line_without_control_characters(message, context):
    written = log_once(message, TextFormatter, **context)
    assert written.endswith("\n")
    assert len(written[:-1].splitlines()) == 1
    assert not [c for c in written[:-1] if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not set(written) & set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


@given(message=ANYTHING, context=CONTEXT)
def test_json_is_one_valid_object(message, context):
    written = log_once(message, JsonFormatter, **context)
    assert re.fullmatch(r"[\x20-\x7e]*\n", written)
    fields = parse(written)
    assert (fields["logger"], fields["level"]) == ("flowkit.x", "INFO")
    if not re.search("[\ud800-\udfff]", message):
        assert fields["message"] == message
    assert len(fields) == 4 + len(context)


@given(name=ANYTHING, task=ANYTHING)
def test_names_with_special_characters_are_escaped_in_text_and_json(name, task):
    record = logging.makeLogRecord({"name": name, "msg": "Task %s", "args": (task,), "levelno": 20, "task": task})
    assert len(TextFormatter().format(record).splitlines()) == 1
    assert parse(JsonFormatter().format(record) + "\n").keys() == {"timestamp", "level", "logger", "message", "task"}


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m\x7f\x85", "\\x9b31m\\x7f\\x85"),
        ("\u2028\u2029\u202e\ufeff", "\\u2028\\u2029\\u202e\\ufeff"),
        ("C:\\new\\table", "C:\\new\\table"),
        ("naïve 漢字 👩‍🚀 \xa0", "naïve 漢字 👩‍🚀 \xa0"),
    ],
)
def test_text_escapes_unsafe_characters(text, escaped):
    assert log_once(text, TextFormatter) == f"14:30:05  [INFO] {escaped}\n"
    assert log_once("m", TextFormatter, **{text: 1}) == f"14:30:05  [INFO] m  {escaped}=1\n"


def test_json_fields_of_record_of_run():
    stream = io.StringIO()
    configure_logging(json_output=True, stream=stream)
    logging.getLogger("flowkit").info(
        'Starting task "extract"...',
        extra={"event": "task_started", "run_id": "r1", "pipeline": "etl", "task": "extract", "attempt": 1},
    )
    get_logger("load").warning("Slow", latency=0.45)
    assert [parse(line + "\n") for line in stream.getvalue().splitlines()] == [
        {
            "timestamp": "2023-11-15T14:30:05.250Z",
            "level": "INFO",
            "logger": "flowkit",
            "message": 'Starting task "extract"...',
            "event": "task_started",
            "run_id": "r1",
            "pipeline": "etl",
            "task": "extract",
            "attempt": 1,
        },
        {
            "timestamp": "2023-11-15T14:30:05.250Z",
            "level": "WARNING",
            "logger": "flowkit.load",
            "message": "Slow",
            "latency": 0.45,
        },
    ]


def test_json_attributes_of_record_do_not_replace_fields():
    record = logging.makeLogRecord({"msg": "m", "levelno": 20, "timestamp": 1, "level": 2, "logger": 3, "traceback": 4})
    fields = json.loads(JsonFormatter().format(record))
    assert fields["level"] == "INFO"
    assert [fields[key] for key in ("timestamp_", "level_", "logger_", "traceback_")] == [1, 2, 3, 4]


class Broken:
    def __repr__(self):
        raise RuntimeError


class BrokenDict(dict):
    def items(self):
        raise RuntimeError


class Color(enum.Enum):
    RED = 1


class StrSubclass(str):
    __slots__ = ()

    def __str__(self):
        return self

    def isprintable(self):
        return True

    def encode(self, *_):
        raise RuntimeError

    def __format__(self, spec):
        return "\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"ab\xff", "ab\\xff"),
        (math.nan, "NaN"),
        ([math.inf, -math.inf], ["Infinity", "-Infinity"]),
        (10**5000, hex(10**5000)),
        (LogLevel.INFO, 20),
        (Color.RED, "Color.RED"),
        (Broken(), "<unprintable Broken>"),
        (BrokenDict(a=1), "<unprintable BrokenDict>"),
        (ValueError("boom"), "ValueError: boom"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        ({1: "a", "1": "b", None: "c"}, {"1": "a", "1_": "b", "None": "c"}),
        ((1, (2, {3})), [1, [2, [3]]]),
        (collections.OrderedDict(a=1), {"a": 1}),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("\udc80", "\\udc80"),
        (StrSubclass("a\nb"), "a\nb"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_json_value_without_json_form_becomes_text(value, expected):
    assert parse(log_once("m", JsonFormatter, value=value))["value"] == expected


def test_recursive_and_deeply_nested_values_are_truncated():
    recursive = [1]
    recursive.append({"again": recursive})
    assert parse(log_once("m", JsonFormatter, v=recursive))["v"] == [1, {"again": "<circular list>"}]
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert "<list nested deeper than 16 levels>" in log_once("m", JsonFormatter, v=deep)
    assert "<unprintable list>" in log_once("m", TextFormatter, v=deep)
    shared = [1]
    assert parse(log_once("m", JsonFormatter, v=[shared, shared]))["v"] == [[1], [1]]
    while deep:
        deep = deep.pop()


@given(message=ANYTHING)
def test_only_first_line_of_a_record_starts_with_a_time(message):
    """So a line that starts with a space is never taken for a record."""
    stream = io.StringIO(newline="\n")
    configure_logging(stream=stream).error("failed", exc_info=ValueError(message))
    first, *others = stream.getvalue()[:-1].split("\n")
    assert re.match(r"\d\d:\d\d:\d\d  \[ERROR\] ", first)
    assert others
    assert all(line.startswith(" ") for line in others)


def test_text_ignores_methods_of_str_subclass():
    written = log_once(StrSubclass("a\nb"), TextFormatter, value=StrSubclass("c\nd"))
    assert written == "14:30:05  [INFO] a\\nb  value='c\\nd'\n"


def test_json_exception_has_error_traceback_and_stack():
    stream = io.StringIO()
    logger = configure_logging(json_output=True, stream=stream)
    try:
        int("boom\nbang")
    except ValueError:
        logger.exception("failed", stack_info=True)
        logger.exception("failed", error="set by caller")
    first, second = (parse(line + "\n") for line in stream.getvalue().splitlines())
    assert (first["error"], second["error"]) == (
        "ValueError: invalid literal for int() with base 10: 'boom\\nbang'",
        "set by caller",
    )
    assert first["traceback"].startswith("Traceback (most recent call last):\n")
    assert first["stack"].startswith("Stack (most recent call last):\n")


def test_exception_whose_str_raises_is_logged():
    class StrRaisesError(Exception):
        def __str__(self):
            raise RuntimeError

    for json_output in (False, True):
        stream = io.StringIO()
        configure_logging(json_output=json_output, stream=stream).error("failed", exc_info=StrRaisesError())
        assert "StrRaisesError" in stream.getvalue()


TAGS = [
    ("debug", "2", "DEBUG"),
    ("info", "34", "INFO"),
    ("system", "35", "SYSTEM"),
    ("success", "32", "SUCCESS"),
    ("warning", "33", "WARN"),
    ("error", "31", "ERROR"),
]


@pytest.mark.parametrize(("level", "color", "tag"), TAGS)
def test_time_is_dim_and_tag_is_colored(level, color, tag):
    stream = io.StringIO()
    getattr(configure_logging(LogLevel.DEBUG, use_colors=True, stream=stream), level)("x")
    assert stream.getvalue() == f"\x1b[2m14:30:05\x1b[0m  \x1b[{color}m[{tag}]\x1b[0m x\n"


@pytest.mark.parametrize(
    ("use_colors", "is_terminal", "environment", "colored"),
    [
        (None, True, {}, True),
        (None, False, {}, False),
        (None, True, {"NO_COLOR": "1"}, False),
        (None, True, {"NO_COLOR": ""}, True),
        (None, True, {"TERM": "dumb"}, False),
        (None, False, {"FORCE_COLOR": "1"}, True),
        (None, False, {"FORCE_COLOR": ""}, False),
        (None, True, {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        (None, True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (True, False, {"NO_COLOR": "1"}, True),
        (False, True, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colors_depend_on_terminal_and_environment(
    use_colors, is_terminal, environment, colored, monkeypatch, terminal
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = terminal if is_terminal else io.StringIO()
    configure_logging(use_colors=use_colors, stream=stream).info("x")
    assert ("\x1b" in stream.getvalue()) is colored


def test_json_has_no_colors(terminal):
    configure_logging(use_colors=True, json_output=True, stream=terminal).info("x")
    parse(terminal.getvalue())


def test_stream_without_isatty_is_not_a_terminal():
    class Odd:
        def __init__(self):
            self.text = ""

        def write(self, text):
            self.text += text

    stream = Odd()
    configure_logging(stream=stream).info("x")
    assert stream.text == "14:30:05  [INFO] x\n"


def test_formatters_work_with_other_handlers():
    stream = io.StringIO()
    for formatter in (TextFormatter(colors=True, datefmt="%Y"), JsonFormatter()):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logging.getLogger("flowkit").addHandler(handler)
    get_logger().error("x")
    text, as_json = stream.getvalue().splitlines()
    assert text == "\x1b[2m2023\x1b[0m  \x1b[31m[ERROR]\x1b[0m x"
    assert json.loads(as_json)["message"] == "x"
