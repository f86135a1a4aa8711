from __future__ import annotations

import io
import logging
import logging.config
import sys

import pytest

import flowkit_log
from flowkit_log import ConsoleHandler, LogLevel, configure_logging, get_logger

ALL_LEVELS = ("debug", "info", "system", "success", "warning", "error")


def lines(stream):
    return stream.getvalue().splitlines()


def test_public_names_are_sorted_and_defined():
    assert flowkit_log.__all__ == sorted(flowkit_log.__all__)
    assert all(hasattr(flowkit_log, name) for name in flowkit_log.__all__)


def test_nothing_is_printed_before_configure_logging(capfd):
    for level in ALL_LEVELS:
        getattr(get_logger("quiet"), level)("not printed")
    assert capfd.readouterr() == ("", "")


def test_configure_logging_prints_to_stderr_and_returns_root_logger(capsys):
    logger = configure_logging()
    logger.info('Starting task "Fetch Data (API)"...')
    assert logger is get_logger()
    assert capsys.readouterr() == ("", '14:30:05  [INFO] Starting task "Fetch Data (API)"...\n')


def test_stderr_is_looked_up_for_each_line(monkeypatch):
    first, second = io.StringIO(), io.StringIO()
    logger = configure_logging()
    for stream in (first, second, None):
        monkeypatch.setattr(sys, "stderr", stream)
        logger.info("here")
    assert lines(first) == lines(second) == ["14:30:05  [INFO] here"]


def test_level_is_printed_as_tag():
    stream = io.StringIO()
    logger = configure_logging(LogLevel.DEBUG, stream=stream)
    for level in ALL_LEVELS:
        getattr(logger, level)("x")
    logger.log(50, "x")
    logger.log(5, "below")
    assert lines(stream) == [
        f"14:30:05  [{tag}] x" for tag in ("DEBUG", "INFO", "SYSTEM", "SUCCESS", "WARN", "ERROR", "ERROR")
    ]


@pytest.mark.parametrize(
    ("level", "count"),
    [
        (LogLevel.DEBUG, 6),
        (LogLevel.INFO, 5),
        (LogLevel.SYSTEM, 4),
        (LogLevel.SUCCESS, 3),
        (LogLevel.WARNING, 2),
        (LogLevel.ERROR, 1),
        (21, 4),
        (100, 0),
        ("debug", 6),
        ("WARN", 2),
        (" Warning ", 2),
        ("success", 3),
        ("CRITICAL", 0),
    ],
)
def test_level_filters_lines(level, count):
    stream = io.StringIO()
    logger = configure_logging(level, stream=stream)
    for name in ALL_LEVELS:
        getattr(logger, name)("x")
    assert len(lines(stream)) == count


@pytest.mark.parametrize(
    ("level", "kind", "words"),
    [
        ("verbose", ValueError, "level='verbose' is not a level: use a LogLevel, one of the names DEBUG, INFO, SYSTEM"),
        (0, ValueError, "level=0 is not a level: use a LogLevel"),
        (-1, ValueError, "an integer of at least 1."),
        (True, TypeError, "level=True is of type bool: use a LogLevel"),
        (None, TypeError, "level=None is of type NoneType: use a LogLevel"),
        (20.0, TypeError, "level=20.0 is of type float: use a LogLevel"),
    ],
)
def test_invalid_level_raises(level, kind, words):
    with pytest.raises(kind) as caught:
        configure_logging(level)
    assert words in str(caught.value)
    with pytest.raises(kind) as caught:
        get_logger().log(level, "x")
    assert words in str(caught.value)


def test_invalid_argument_raises():
    with pytest.raises(TypeError) as caught:
        configure_logging(use_colors="auto")
    assert str(caught.value) == "use_colors='auto' is of type str: use True, False or None."
    with pytest.raises(TypeError) as caught:
        configure_logging(stream="err.log")
    assert str(caught.value) == "stream='err.log' is of type str: use an open text file, or None."
    with pytest.raises(TypeError) as caught:
        get_logger(3)
    assert str(caught.value) == "name=3 is of type int: a logger's name is a string, or None."


def test_second_configure_logging_replaces_first():
    first, second = io.StringIO(), io.StringIO()
    early = get_logger("early")
    configure_logging(LogLevel.ERROR, stream=first)
    configure_logging(LogLevel.DEBUG, stream=second)
    early.debug("once")
    assert lines(first) == []
    assert lines(second) == ["14:30:05  [DEBUG] once"]


def test_other_handlers_are_kept():
    handler = ConsoleHandler(io.StringIO())
    logging.getLogger("flowkit").addHandler(handler)
    configure_logging(stream=io.StringIO())
    configure_logging(stream=io.StringIO())
    assert handler in logging.getLogger("flowkit").handlers


def test_root_logger_is_not_changed():
    root = logging.getLogger()
    before = vars(root).copy(), root.handlers[:], root.filters[:]
    configure_logging(stream=io.StringIO()).info("x")
    assert (vars(root).copy(), root.handlers[:], root.filters[:]) == before


def test_root_handler_receives_records(caplog):
    configure_logging(LogLevel.DEBUG, stream=io.StringIO())
    get_logger("load").debug("Received %d", 3, rows=3)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage(), record.rows) == ("flowkit.load", 10, "Received 3", 3)


def test_root_handler_receives_records_before_configure_logging(caplog):
    get_logger().success("done")
    assert caplog.records == []
    caplog.set_level(logging.INFO)
    get_logger().success("done")
    assert [record.levelname for record in caplog.records] == ["SUCCESS"]


def test_root_handler_receives_records_below_level_of_console(caplog):
    configure_logging(LogLevel.ERROR, stream=io.StringIO())
    logging.getLogger("flowkit").setLevel(logging.DEBUG)
    get_logger().debug("for the file only")
    assert caplog.messages == ["for the file only"]


def test_level_of_root_handler_is_respected():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.ERROR)
    logging.getLogger().addHandler(handler)
    logger = configure_logging(stream=io.StringIO())
    logger.info("no")
    logger.error("yes")
    assert stream.getvalue() == "yes\n"


def test_basic_config_does_not_duplicate_lines(capsys):
    logging.getLogger().addHandler(logging.StreamHandler())
    configure_logging().info("once")
    logging.getLogger("other").warning("other")
    assert capsys.readouterr().err == "14:30:05  [INFO] once\nother\n"


def test_root_handler_on_same_terminal_does_not_duplicate_lines(terminal):
    other = type(terminal)()
    logging.getLogger().addHandler(logging.StreamHandler(other))
    configure_logging(stream=terminal).info("once")
    assert other.getvalue() == ""
    assert "once" in terminal.getvalue()


def test_propagate_false_is_kept(caplog):
    logging.getLogger("flowkit").propagate = False
    for _ in range(2):
        configure_logging(stream=io.StringIO()).info("x")
    assert caplog.records == []


def test_propagate_true_set_later_does_not_duplicate_records(caplog):
    configure_logging(stream=io.StringIO())
    configure_logging(stream=io.StringIO())
    logging.getLogger("flowkit").propagate = True
    get_logger().info("x")
    assert caplog.messages == ["x"]


def test_loggers_disabled_by_dict_config_are_enabled():
    logger, stream = get_logger("disabled"), io.StringIO()
    logging.config.dictConfig({"version": 1})
    assert logger.logger.disabled
    configure_logging(stream=stream)
    logger.info("enabled")
    assert lines(stream) == ["14:30:05  [INFO] enabled"]


def test_dict_config_creates_handlers_and_formatters():
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": "flowkit_log.JsonFormatter"}},
            "handlers": {
                "console": {"class": "flowkit_log.ConsoleHandler", "level": "SUCCESS", "use_colors": False},
                "json": {"class": "flowkit_log.ConsoleHandler", "stream": "ext://sys.stdout", "formatter": "json"},
            },
            "loggers": {"flowkit": {"level": "SYSTEM", "handlers": ["console", "json"]}},
        }
    )
    console, json_lines = logging.getLogger("flowkit").handlers
    assert (console.level, console.live, json_lines.stream) == (25, False, sys.stdout)


def test_unittest_assert_logs_receives_records():
    import unittest

    configure_logging(stream=io.StringIO())
    with unittest.TestCase().assertLogs("flowkit", "INFO") as watched:
        get_logger().info("seen")
    assert watched.output == ["INFO:flowkit:seen"]


def test_import_loads_few_modules_and_prints_nothing():
    import subprocess

    code = (
        "import sys, threading, flowkit_log\n"
        "expensive = {'typing', 'dataclasses', 'inspect', 'json', 'datetime', 'unicodedata', 'shutil'}\n"
        "print(sorted(expensive & sys.modules.keys()), threading.active_count())"
    )
    # -S: packages in the site folder of a test environment import some of these modules.
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[] 1\n", "")
