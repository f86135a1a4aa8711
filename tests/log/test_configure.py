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


def test_the_public_names_are_sorted_and_there():
    assert flowkit_log.__all__ == sorted(flowkit_log.__all__)
    assert all(hasattr(flowkit_log, name) for name in flowkit_log.__all__)


def test_nothing_is_printed_until_it_is_configured(capfd):
    for level in ALL_LEVELS:
        getattr(get_logger("quiet"), level)("nobody hears this")
    assert capfd.readouterr() == ("", "")


def test_it_prints_to_stderr_and_gives_the_flowkit_logger(capsys):
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


def test_each_level_is_printed_as_promised():
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
    ("level", "seen"),
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
def test_a_level_filters(level, seen):
    stream = io.StringIO()
    logger = configure_logging(level, stream=stream)
    for name in ALL_LEVELS:
        getattr(logger, name)("x")
    assert len(lines(stream)) == seen


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
def test_what_is_not_a_level_is_refused_with_a_way_out(level, kind, words):
    with pytest.raises(kind) as caught:
        configure_logging(level)
    assert words in str(caught.value)
    with pytest.raises(kind) as caught:
        get_logger().log(level, "x")
    assert words in str(caught.value)


def test_other_arguments_are_checked_too():
    with pytest.raises(TypeError) as caught:
        configure_logging(use_colors="auto")
    assert str(caught.value) == "use_colors='auto' is of type str: use True, False or None."
    with pytest.raises(TypeError) as caught:
        configure_logging(stream="err.log")
    assert str(caught.value) == "stream='err.log' is of type str: use an open text file, or None."
    with pytest.raises(TypeError) as caught:
        get_logger(3)
    assert str(caught.value) == "name=3 is of type int: a logger's name is a string, or None."


def test_configuring_again_replaces_and_never_repeats():
    first, second = io.StringIO(), io.StringIO()
    early = get_logger("early")
    configure_logging(LogLevel.ERROR, stream=first)
    configure_logging(LogLevel.DEBUG, stream=second)
    early.debug("once")
    assert lines(first) == []
    assert lines(second) == ["14:30:05  [DEBUG] once"]


def test_handlers_of_other_people_stay():
    mine = ConsoleHandler(io.StringIO())
    logging.getLogger("flowkit").addHandler(mine)
    configure_logging(stream=io.StringIO())
    configure_logging(stream=io.StringIO())
    assert mine in logging.getLogger("flowkit").handlers


def test_the_root_logger_is_not_touched():
    root = logging.getLogger()
    before = vars(root).copy(), root.handlers[:], root.filters[:]
    configure_logging(stream=io.StringIO()).info("x")
    assert (vars(root).copy(), root.handlers[:], root.filters[:]) == before


def test_handlers_of_the_root_logger_receive_the_records(caplog):
    configure_logging(LogLevel.DEBUG, stream=io.StringIO())
    get_logger("load").debug("Received %d", 3, rows=3)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage(), record.rows) == ("flowkit.load", 10, "Received 3", 3)


def test_they_receive_them_before_it_is_configured_too(caplog):
    get_logger().success("done")
    assert caplog.records == []
    caplog.set_level(logging.INFO)
    get_logger().success("done")
    assert [record.levelname for record in caplog.records] == ["SUCCESS"]


def test_they_receive_what_the_console_does_not_print(caplog):
    configure_logging(LogLevel.ERROR, stream=io.StringIO())
    logging.getLogger("flowkit").setLevel(logging.DEBUG)
    get_logger().debug("for the file only")
    assert caplog.messages == ["for the file only"]


def test_a_level_of_a_root_handler_is_respected():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.ERROR)
    logging.getLogger().addHandler(handler)
    logger = configure_logging(stream=io.StringIO())
    logger.info("no")
    logger.error("yes")
    assert stream.getvalue() == "yes\n"


def test_after_basic_config_every_line_is_printed_once(capsys):
    logging.getLogger().addHandler(logging.StreamHandler())
    configure_logging().info("once")
    logging.getLogger("other").warning("theirs")
    assert capsys.readouterr().err == "14:30:05  [INFO] once\ntheirs\n"


def test_two_streams_of_one_terminal_count_as_one(terminal):
    other = type(terminal)()
    logging.getLogger().addHandler(logging.StreamHandler(other))
    configure_logging(stream=terminal).info("once")
    assert other.getvalue() == ""
    assert "once" in terminal.getvalue()


def test_no_propagation_stays_no_propagation(caplog):
    logging.getLogger("flowkit").propagate = False
    for _ in range(2):
        configure_logging(stream=io.StringIO()).info("x")
    assert caplog.records == []


def test_propagation_turned_on_again_does_not_double(caplog):
    configure_logging(stream=io.StringIO())
    configure_logging(stream=io.StringIO())
    logging.getLogger("flowkit").propagate = True
    get_logger().info("x")
    assert caplog.messages == ["x"]


def test_it_wakes_loggers_that_dict_config_has_disabled():
    logger, stream = get_logger("sleepy"), io.StringIO()
    logging.config.dictConfig({"version": 1})
    assert logger.logger.disabled
    configure_logging(stream=stream)
    logger.info("awake")
    assert lines(stream) == ["14:30:05  [INFO] awake"]


def test_dict_config_can_use_the_parts():
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


def test_unittest_assert_logs_works():
    import unittest

    configure_logging(stream=io.StringIO())
    with unittest.TestCase().assertLogs("flowkit", "INFO") as watched:
        get_logger().info("seen")
    assert watched.output == ["INFO:flowkit:seen"]


def test_importing_it_is_cheap_and_silent():
    import subprocess

    code = (
        "import sys, threading, flowkit_log\n"
        "costly = {'typing', 'dataclasses', 'inspect', 'json', 'datetime', 'unicodedata', 'shutil'}\n"
        "print(sorted(costly & sys.modules.keys()), threading.active_count())"
    )
    # -S: the site packages of a test environment import some of these themselves.
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[] 1\n", "")
