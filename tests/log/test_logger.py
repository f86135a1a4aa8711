from __future__ import annotations

import io
import logging
import pickle
import subprocess
import sys
import threading

import pytest

from flowkit_log import FlowkitLogger, LogLevel, configure_logging, get_logger


class Broken:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.fixture
def out():
    stream = io.StringIO()
    configure_logging(LogLevel.DEBUG, stream=stream)
    return stream


def test_get_logger_name_is_below_flowkit():
    assert get_logger().name == get_logger("").name == get_logger("flowkit").name == "flowkit"
    assert get_logger("load").name == get_logger("flowkit.load").name == "flowkit.load"
    assert get_logger("flowkitten").name == "flowkit.flowkitten"
    assert get_logger("a.b").logger.parent is logging.getLogger("flowkit")
    assert get_logger("load") is get_logger("flowkit.load")
    assert isinstance(get_logger(), FlowkitLogger)
    assert repr(get_logger("load").bind(rows=1)) == "<FlowkitLogger 'flowkit.load' {'rows': 1}>"


def test_level_numbers_match_logging():
    assert [int(level) for level in LogLevel] == [10, 20, 22, 25, 30, 40]
    assert logging.getLevelName(LogLevel.SYSTEM) == "SYSTEM"
    assert logging.getLevelName("SUCCESS") == 25


def test_arguments_are_formatted_as_in_logging(out):
    get_logger().info("%s has %05.1f%%", "disk", 7.25)
    get_logger().info("100% of {} kept %s")
    get_logger().info("%(rows)d rows", {"rows": 3})
    get_logger().info(42)
    assert [line[17:] for line in out.getvalue().splitlines()] == [
        "disk has 007.2%",
        "100% of {} kept %s",
        "3 rows",
        "42",
    ]


@pytest.mark.parametrize("level", ["debug", "info", "system", "success", "warning", "error", "exception"])
def test_record_has_location_of_caller(level, caplog):
    configure_logging(LogLevel.DEBUG, stream=io.StringIO())
    getattr(get_logger(), level)("x")
    get_logger().log(LogLevel.ERROR, "x", stack_info=True)
    for record in caplog.records:
        assert (record.filename, record.funcName) == ("test_logger.py", "test_record_has_location_of_caller")
    assert 'get_logger().log(LogLevel.ERROR, "x", stack_info=True)' in record.stack_info


def test_stacklevel_counts_from_caller(caplog):
    def helper():
        get_logger().warning("x", stacklevel=2)

    helper()
    assert caplog.records[0].funcName == "test_stacklevel_counts_from_caller"


def test_context_is_printed_after_message_and_set_as_attributes(out, caplog):
    get_logger().info("Received", records=14502, source="api", note="two words", empty="", quote='"', eq="a=b")
    assert out.getvalue() == (
        "14:30:05  [INFO] Received  records=14502 source=api note='two words' empty='' quote='\"' eq='a=b'\n"
    )
    assert caplog.records[0].records == 14502


def test_context_does_not_replace_attributes_of_record(out, caplog):
    get_logger("x").info("m", name="n", msg="o", args=1, message="p", level="q", timestamp=0, name_="r", taskName="s")
    record = caplog.records[0]
    assert (record.name, record.getMessage()) == ("flowkit.x", "m")
    assert (record.name_, record.msg_, record.args_, record.message_, record.level_) == ("n", "o", 1, "p", "q")
    assert (record.name__, record.timestamp_, record.taskName_) == ("r", 0, "s")


def test_extra_is_set_as_attributes_and_not_printed(out, caplog):
    get_logger().info("m", extra={"task": "load", "name": "n"})
    assert out.getvalue() == "14:30:05  [INFO] m\n"
    assert (caplog.records[0].task, caplog.records[0].name_) == ("load", "n")


def test_context_does_not_replace_attributes_of_record_factory(out, monkeypatch, caplog):
    def factory(*args, **kwargs):
        record = logging.LogRecord(*args, **kwargs)
        record.request = "factory"
        return record

    monkeypatch.setattr(logging, "_logRecordFactory", factory)
    get_logger().info("m", request="caller")
    assert (caplog.records[0].request, caplog.records[0].request_) == ("factory", "caller")


def test_bind_adds_context_to_every_line(out):
    logger = get_logger().bind(customer="acme").bind(job=7)
    logger.info("sent", job=8)
    logger.info("done")
    assert out.getvalue() == (
        "14:30:05  [INFO] sent  customer=acme job=8\n14:30:05  [INFO] done  customer=acme job=7\n"
    )


def test_line_below_level_is_not_formatted():
    configure_logging(LogLevel.ERROR, stream=io.StringIO())
    get_logger().info("%s", Broken())
    assert not get_logger().is_enabled_for(LogLevel.INFO)
    assert get_logger().is_enabled_for("error")


def test_arguments_that_do_not_match_format_are_printed(out, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    get_logger().info("%d rows", "many")
    get_logger().info("%s rows")
    get_logger().info("%s and %s", 1)
    get_logger().info(Broken())
    get_logger().info("x", value=Broken())
    assert [line[17:] for line in out.getvalue().splitlines()] == [
        "%d rows (arguments ('many',) do not fit: %d format: a real number is required, not str)",
        "%s rows",
        "%s and %s (arguments (1,) do not fit: not enough arguments for format string)",
        "<unprintable Broken>",
        "x  value=<unprintable Broken>",
    ]


def test_traceback_is_indented_and_escaped(out):
    def fail():
        raise ValueError("two\n14:30:05  [INFO] lines\x1b[31m")

    try:
        fail()
    except ValueError:
        get_logger().exception("Task failed")
    first, *rest = out.getvalue().splitlines()
    assert first == "14:30:05  [ERROR] Task failed"
    assert rest[0] == "          Traceback (most recent call last):"
    assert rest[-2:] == ["          ValueError: two", "          14:30:05  [INFO] lines\\x1b[31m"]
    assert all(line.startswith("          ") for line in rest)


def test_exc_info_accepts_exception_and_false(out):
    get_logger().error("given", exc_info=KeyError("k"))
    get_logger().exception("absent")
    get_logger().exception("not wanted", exc_info=False)
    assert out.getvalue().splitlines() == [
        "14:30:05  [ERROR] given",
        "          KeyError: 'k'",
        "14:30:05  [ERROR] absent",
        "14:30:05  [ERROR] not wanted",
    ]


def test_handler_that_raises_does_not_fail_caller(capsys, monkeypatch):
    class Bad(logging.Handler):
        def emit(self, record):
            raise OSError("disk full")

    bad = Bad()
    logging.getLogger("flowkit").addHandler(bad)
    get_logger().error("x")
    assert "disk full" in capsys.readouterr().err
    monkeypatch.setattr(logging, "raiseExceptions", False)
    get_logger().error("x")
    assert capsys.readouterr().err == ""


def test_logger_can_be_pickled():
    logger = pickle.loads(pickle.dumps(get_logger("load").bind(rows=1)))
    assert (logger.name, logger.context) == ("flowkit.load", {"rows": 1})
    assert logger.logger is logging.getLogger("flowkit.load")


def test_records_can_be_pickled_and_queued(out):
    import logging.handlers
    import queue

    records = queue.SimpleQueue()
    logging.getLogger("flowkit").addHandler(logging.handlers.QueueHandler(records))
    with get_logger().progress("p", total=1) as bar:
        bar.advance()
    get_logger().info("x", rows=3)
    assert [pickle.loads(pickle.dumps(records.get_nowait())).getMessage()[:2] for _ in range(3)] == ["p:", "p:", "x"]


def test_lines_of_threads_do_not_mix():
    class WholeLines(io.StringIO):
        """A stream that accepts only whole lines."""

        def write(self, text):
            assert text.count("\n") == 1
            return super().write(text)

    stream = WholeLines()
    configure_logging(stream=stream)
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        for step in range(50):
            get_logger(f"worker.{number}").info("step %d of %d", step, number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"14:30:05  [INFO] step {step} of {number}" for step in range(50) for number in range(8)}
    written = stream.getvalue().splitlines()
    assert len(written) == 400
    assert set(written) == expected


def test_argument_whose_str_logs_does_not_deadlock(out):
    inside, elsewhere = threading.Event(), threading.Event()

    class Logging:
        def __str__(self):
            inside.set()
            elsewhere.wait(60)
            get_logger().info("inner")
            return "outer"

    thread = threading.Thread(target=get_logger().info, args=("%s", Logging()))
    thread.start()
    assert inside.wait(60)
    # If the console were locked during formatting, the two threads would wait for each other.
    get_logger().info("from another thread")
    elsewhere.set()
    thread.join()
    assert [line[17:] for line in out.getvalue().splitlines()][:1] == ["from another thread"]


def run(code, **options):
    """Run a script in a new process with the same ``sys.path``."""
    script = f"import sys; sys.path[:] = {sys.path!r}\nfrom flowkit_log import *\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120, check=False, **options)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_characters_missing_in_encoding_are_escaped(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    configure_logging(stream=stream).info("naïve 漢 \udc80")
    written = stream.buffer.getvalue().decode(encoding)
    shown = {"ascii": "na\\xefve \\u6f22", "cp1252": "naïve \\u6f22", "utf-8": "naïve 漢"}[encoding]
    assert written == f"14:30:05  [INFO] {shown} \\udc80\n"


def test_missing_or_closed_stream_is_ignored(monkeypatch, capsys):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging().error("x")
        for _ in get_logger().progress("p", [1, 2]):
            pass


def test_broken_pipe_is_ignored():
    code = (
        "import os\n"
        "read, write = os.pipe(); os.close(read)\n"
        "log = configure_logging(stream=open(write, 'w'))\n"
        "for _ in range(3): log.error('x')\n"
        "print('survived', flush=True); os._exit(0)"
    )
    done = run(code)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"survived", b"")


def test_error_of_stream_is_printed_if_raise_exceptions(capsys, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError("no space left")

    logger = configure_logging(stream=Full())
    logger.info("x")
    assert "no space left" in capsys.readouterr().err
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.info("x")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    logger.info("x")
