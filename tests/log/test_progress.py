from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import subprocess
import sys
import threading

import pytest

from flowkit_log import ConsoleHandler, JsonFormatter, Progress, configure_logging, get_logger

FULL = "14:30:05  [INFO] Streaming data chunks: [====================] 100%"


@pytest.fixture
def plain():
    """The lines that are printed to a stream which is not a terminal, without time and level."""
    stream = io.StringIO()
    configure_logging(stream=stream)
    return lambda: [line.removeprefix("14:30:05  [INFO] ") for line in stream.getvalue().splitlines()]


@pytest.fixture
def fields():
    """The fields of the JSON lines that describe the progress."""
    stream = io.StringIO()
    configure_logging(json_output=True, stream=stream)
    other = {"timestamp", "level", "logger", "message", "progress_id"}
    return lambda: [
        {key: value for key, value in json.loads(line).items() if key not in other}
        for line in stream.getvalue().splitlines()
    ]


def test_progress_without_terminal_is_a_line_per_quarter(plain, clock):
    with get_logger().progress("Streaming", total=1000, clock=clock) as bar:
        for _ in range(1000):
            bar.advance()
    assert plain() == [
        "Streaming: [                    ] 0%",
        "Streaming: [=====               ] 25%",
        "Streaming: [==========          ] 50%",
        "Streaming: [===============     ] 75%",
        "Streaming: [====================] 100%",
    ]


def test_step_over_several_quarters_is_one_line(plain, clock):
    with get_logger().progress("p", total=10, clock=clock) as bar:
        bar.advance(6)
        bar.advance(4)
    assert plain() == [
        "p: [                    ] 0%",
        "p: [============        ] 60%",
        "p: [====================] 100%",
    ]


def test_line_is_printed_after_ten_seconds_without_a_line(plain, clock):
    with get_logger().progress("p", total=1000, clock=clock) as bar:
        for seconds in (9, 1, 9, 1):
            clock.tick(seconds)
            bar.advance()
    assert [line[-2:].strip() for line in plain()] == ["0%", "0%", "0%", "0)"]
    assert plain()[-1] == "p: [                    ] 0% (4 of 1,000)"


def test_progress_without_total_counts(fields, clock):
    with get_logger().progress("Rows", clock=clock) as bar:
        bar.advance(14_000)
        clock.tick(10)
        bar.advance(502)
    assert bar.percent is None
    assert fields() == [
        {"event": "progress", "label": "Rows", "count": 0, "status": "running"},
        {"event": "progress", "label": "Rows", "count": 14502, "status": "running"},
        {"event": "progress", "label": "Rows", "count": 14502, "status": "done"},
    ]


def test_progress_without_total_prints_count(plain):
    with get_logger().progress("Rows") as bar:
        bar.advance(14_502)
    assert plain() == ["Rows: 0", "Rows: 14,502 done"]


def test_total_of_zero_is_complete(plain):
    with get_logger().progress("Nothing", total=0):
        pass
    assert list(get_logger().progress("Nothing", [])) == []
    assert plain() == ["Nothing: [====================] 100%"] * 2


def test_count_above_total_is_logged(fields):
    with get_logger().progress("p", total=10) as bar:
        bar.advance(10)
        bar.advance(2)
    assert (bar.count, bar.percent) == (12, 100)
    last = {"event": "progress", "label": "p", "total": 10, "percent": 100, "status": "done"}
    assert fields()[1:] == [{**last, "count": 10}, {**last, "count": 12}]


def test_count_above_total_is_printed(plain):
    with get_logger().progress("p", total=10) as bar:
        bar.advance(12)
    assert plain()[-1] == "p: [====================] 100% (12 of 10)"


def test_count_below_total_is_printed_at_end(plain):
    with get_logger().progress("p", total=10) as bar:
        bar.advance(4)
    assert plain()[-1] == "p: [========            ] 40% (4 of 10)"


def test_percent_is_rounded_down(plain):
    with get_logger().progress("p", total=100_000) as bar:
        bar.advance(99_999)
        assert bar.status() == "[=================== ] 99%"


def test_exception_in_block_is_logged_and_propagates(fields):
    with pytest.raises(ValueError, match="boom"), get_logger().progress("p", total=10) as bar:
        bar.advance(4)
        raise ValueError("boom")
    assert fields()[-1] == {
        "event": "progress",
        "label": "p",
        "count": 4,
        "total": 10,
        "percent": 40,
        "error": "ValueError",
        "status": "stopped",
    }


def test_exception_in_block_is_printed(plain):
    with pytest.raises(KeyboardInterrupt), get_logger().progress("p", total=10):
        raise KeyboardInterrupt
    assert plain()[-1] == "p: [                    ] 0% (stopped by KeyboardInterrupt)"


def test_iteration_advances_and_finishes(plain):
    assert list(get_logger().progress("p", "abcd")) == list("abcd")
    assert plain()[-1] == "p: [====================] 100%"
    assert list(get_logger().progress("q", iter("ab"))) == ["a", "b"]
    assert plain()[-1] == "q: 2 done"
    assert list(get_logger().progress("r", iter("ab"), total=2)) == ["a", "b"]
    assert plain()[-1] == "r: [====================] 100%"


def test_break_of_loop_ends_bar(plain):
    for letter in get_logger().progress("p", "abcd"):
        if letter == "c":
            break
    gc.collect()
    assert plain()[-1] == "p: [==========          ] 50% (2 of 4)"


def test_exception_in_loop_ends_bar(plain):
    with pytest.raises(ZeroDivisionError):
        for _ in get_logger().progress("p", "abcd"):
            1 / 0
    gc.collect()
    assert plain()[-1] == "p: [                    ] 0% (0 of 4)"


def test_exception_of_items_is_printed(plain):
    def items():
        yield 1
        raise OSError

    with pytest.raises(OSError):
        list(get_logger().progress("p", items()))
    assert plain()[-1] == "p: 1 (stopped by OSError)"


def test_iteration_in_block_ends_with_block(plain):
    with pytest.raises(ValueError), get_logger().progress("p", "abcd") as bar:
        for letter in bar:
            if letter == "c":
                raise ValueError
    assert plain()[-1] == "p: [==========          ] 50% (stopped by ValueError)"


def test_advance_and_finish_without_block(plain):
    bar = get_logger().progress("p", total=2)
    bar.finish()
    assert plain() == []
    bar = get_logger().progress("p", total=2)
    bar.advance()
    bar.finish()
    bar.finish()
    bar.advance()
    assert plain() == [
        "p: [                    ] 0%",
        "p: [==========          ] 50%",
        "p: [==========          ] 50% (1 of 2)",
    ]
    assert (repr(bar), isinstance(bar, Progress)) == ("<Progress 'p' [====================] 100%>", True)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda log: log.progress(3), TypeError, "label is of type int: a progress label is a string."),
        (lambda log: log.progress("p", 3), TypeError, "items is of type int: progress needs an iterable, or None."),
        (
            lambda log: log.progress("p", total=-1),
            ValueError,
            "total=-1 is out of range: it must be an integer of at least 0, or None if it is not known.",
        ),
        (lambda log: log.progress("p", total=1.5), TypeError, "total is of type float: it must be an integer"),
        (lambda log: log.progress("p", total=True), TypeError, "total is of type bool: it must be an integer"),
        (lambda log: log.progress("p").advance(-1), ValueError, "count=-1 is out of range: it must be an integer"),
        (lambda log: log.progress("p").advance("1"), TypeError, "count is of type str: it must be an integer"),
        (lambda log: list(log.progress("p")), TypeError, "progress 'p' has nothing to iterate over: give it items"),
    ],
)
def test_invalid_argument_raises(make, kind, words):
    with pytest.raises(kind) as caught:
        make(get_logger())
    assert words in str(caught.value)


def test_object_with_index_is_accepted_as_integer():
    class Number:
        def __index__(self):
            return 3

    with get_logger().progress("p", total=Number()) as bar:
        bar.advance(Number())
    assert (bar.total, bar.count) == (3, 3)


def test_other_handler_receives_lines_and_attributes(caplog, terminal):
    configure_logging(stream=terminal)
    with get_logger("load").progress("p", total=4) as bar:
        bar.advance(4)
    assert [(r.name, r.filename, r.event, r.count, r.percent) for r in caplog.records] == [
        ("flowkit.load", "test_progress.py", "progress", 0, 0),
        ("flowkit.load", "test_progress.py", "progress", 4, 100),
    ]
    assert caplog.messages[1] == "p: [====================] 100%"


def test_level_above_info_hides_progress(terminal):
    configure_logging("WARNING", stream=terminal)
    assert list(get_logger().progress("p", [1, 2])) == [1, 2]
    assert terminal.getvalue() == ""


def test_label_is_escaped(plain, terminal):
    label = "a\n14:30:05  [INFO] b\x1b[2J %s {}"
    list(get_logger().progress(label, [1]))
    assert plain()[-1] == "a\\n14:30:05  [INFO] b\\x1b[2J %s {}: [====================] 100%"
    configure_logging(stream=terminal, use_colors=False)
    with get_logger().progress(label, total=2) as bar:
        bar.advance()
        assert len(terminal.screen()) == 1
        assert "b\\x1b[2J" in terminal.screen()[0]


def test_bar_on_terminal_is_redrawn_in_place(console, terminal, clock):
    with get_logger().progress("Streaming data chunks", total=10, clock=clock) as bar:
        seen = [terminal.screen()]
        for _ in range(10):
            clock.tick(1)
            bar.advance()
            seen.append(terminal.screen())
    for step in range(10):
        assert seen[step] == [f"14:30:05  [INFO] Streaming data chunks: [{'==' * step:20}] {step * 10}%"]
    assert seen[10] == terminal.screen() == [FULL, ""]


def test_lines_are_printed_above_bar(console, terminal, clock):
    with get_logger().progress("Streaming data chunks", total=2, clock=clock) as bar:
        get_logger().warning("Slow")
        clock.tick(1)
        bar.advance()
        get_logger().info("Half of it")
        assert terminal.screen() == [
            "14:30:05  [WARN] Slow",
            "14:30:05  [INFO] Half of it",
            "14:30:05  [INFO] Streaming data chunks: [==========          ] 50%",
        ]
        bar.advance()
    get_logger().success("Done")
    assert terminal.screen() == [
        "14:30:05  [WARN] Slow",
        "14:30:05  [INFO] Half of it",
        FULL,
        "14:30:05  [SUCCESS] Done",
        "",
    ]


def test_several_bars_are_drawn_in_rows(console, terminal, clock):
    log = get_logger()
    with log.progress("a", total=2, clock=clock) as a, log.progress("b", total=2, clock=clock) as b:
        with log.progress("c", clock=clock) as c:
            c.advance(5)
            clock.tick(1)
            b.advance()
            log.info("line")
            assert terminal.screen() == [
                "14:30:05  [INFO] line",
                "14:30:05  [INFO] a: [                    ] 0%",
                "14:30:05  [INFO] b: [==========          ] 50%",
                "14:30:05  [INFO] c: 5",
            ]
        b.advance()
        a.advance(2)
    assert terminal.screen() == [
        "14:30:05  [INFO] line",
        "14:30:05  [INFO] c: 5 done",
        "14:30:05  [INFO] b: [====================] 100%",
        "14:30:05  [INFO] a: [====================] 100%",
        "",
    ]


def test_bar_is_redrawn_at_most_every_100_ms(console, terminal, clock):
    with get_logger().progress("p", total=1_000_000, clock=clock) as bar:
        for _ in range(1000):
            bar.advance()
        before = terminal.getvalue()
        clock.tick(0.1)
        bar.advance()
        assert terminal.getvalue() != before
        assert before.count("p:") == 1


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        (80, "漢字 is a long label that does not fit by ...: [          ] 0%"),
        (50, "漢字 is a lo...: [          ] 0%"),
        (30, "漢: [    ..."),
        (20, ": "),
        (17, None),
        (1, None),
    ],
)
def test_row_is_truncated_to_width_of_terminal(columns, row, terminal, clock):
    handler = ConsoleHandler(terminal, use_colors=False, size=lambda: (columns, 10))
    logging.getLogger("flowkit").setLevel(logging.INFO)
    logging.getLogger("flowkit").addHandler(handler)
    with get_logger().progress("漢字 is a long label that does not fit by any means", total=4, clock=clock):
        assert terminal.screen() == ["" if row is None else f"14:30:05  [INFO] {row}"]


def test_bars_beyond_height_of_terminal_are_not_drawn(console, terminal, clock):
    with contextlib.ExitStack() as stack:
        for number in range(15):
            stack.enter_context(get_logger().progress(f"bar {number}", total=2, clock=clock))
        assert len(terminal.screen()) == 9
    assert len(terminal.screen()) == 16


def test_dumb_terminal_gets_plain_lines(console, terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    list(get_logger().progress("p", "ab"))
    assert "\x1b" not in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 3


def test_json_on_terminal_has_no_bar(terminal):
    configure_logging(json_output=True, stream=terminal)
    list(get_logger().progress("p", "ab"))
    assert [json.loads(line)["count"] for line in terminal.getvalue().splitlines()] == [0, 1, 2]


def test_changed_stream_is_not_erased(monkeypatch, terminal, clock):
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logging(use_colors=False)
    other = io.StringIO()
    with get_logger().progress("p", total=2, clock=clock):
        with contextlib.redirect_stderr(other):
            get_logger().info("elsewhere")
        assert other.getvalue() == "14:30:05  [INFO] elsewhere\n"


def test_bar_that_is_garbage_collected_disappears(console, terminal, clock):
    bar = get_logger().progress("p", total=2, clock=clock)
    bar.advance()
    assert len(terminal.screen()) == 1
    del bar
    gc.collect()
    get_logger().info("line")
    assert terminal.screen() == ["14:30:05  [INFO] line", ""]


def test_close_of_handler_leaves_cursor_below_bar(console, terminal, clock):
    with get_logger().progress("p", total=2, clock=clock):
        console.close()
        assert terminal.screen() == ["14:30:05  [INFO] p: [                    ] 0%", ""]


def test_context_named_like_progress_attributes_is_only_context(console, terminal):
    for number in (1, [], None, "x"):
        get_logger().info("x", event="progress", progress_id=number, status="running")
    assert terminal.getvalue().count("\n") == 4


def test_threads_advance_same_bar(fields):
    with get_logger().progress("p", total=8000) as bar:

        def work():
            for _ in range(1000):
                bar.advance()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bar.count == 8000
    assert [field["count"] for field in fields() if field["status"] == "done"] == [8000]


def test_bars_and_lines_of_threads_do_not_mix(console, terminal):
    def work(number):
        for step in get_logger().progress(f"part {number}", range(20)):
            get_logger().info("step %d of %d", step, number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [f"14:30:05  [INFO] step {step} of {number}" for step in range(20) for number in range(4)]
    expected += [f"14:30:05  [INFO] part {number}: [====================] 100%" for number in range(4)]
    assert sorted(terminal.screen()) == sorted(["", *expected])


def test_bar_with_other_formatter_is_not_drawn(console, terminal):
    console.setFormatter(JsonFormatter())
    assert not console.live
    list(get_logger().progress("p", "a"))
    assert len([json.loads(line) for line in terminal.getvalue().splitlines()]) == 2


@pytest.mark.skipif(os.name == "nt", reason="platform: Windows has no pseudo-terminals")
def test_bar_on_pseudo_terminal():
    import pty

    code = (
        "from flowkit_log import *\n"
        "log = configure_logging()\n"
        "with log.progress('Streaming data chunks', total=2) as bar:\n"
        "    log.info('between')\n"
        "    bar.advance(2)\n"
    )
    controller, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
            stderr=terminal,
            check=True,
            timeout=120,
        )
        os.close(terminal)
        written = b""
        with contextlib.suppress(OSError):  # on Linux, reading raises when the other end is closed
            while chunk := os.read(controller, 4096):
                written += chunk
    finally:
        os.close(controller)
    assert done.returncode == 0
    assert b"\x1b[34m[INFO]\x1b[0m between\r\n" in written
    assert written.endswith(b"Streaming data chunks: [====================] 100%\r\n")
    assert written.count(b"\r\x1b[J") == 2
