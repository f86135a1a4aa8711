"""Names of tasks and pipelines: messages, log lines and pictures escape control characters in them."""

from __future__ import annotations

import inspect
import io
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core import (
    DAG,
    BindingError,
    DAGCycleError,
    DuplicateTaskError,
    FlowkitError,
    Group,
    MapLengthError,
    MissingResultError,
    RemoteTaskError,
    Results,
    Retry,
    Task,
    UnknownExecutorError,
)
from flowkit_core._text import escape_control_chars, short_repr

ORDINARY = ["load", "Load rows (daily)", "выгрузка", "読み込み", "e\u0301", "🦀", "%s{}{0}", "a → b", 'say "hi"', "\\n"]
HARMLESS = ["\U0001f469\u200d\U0001f4bb", "نمی\u200cشود", "処理\u3000開始", "5\xa0rows"]  # not printable to Python
NASTY = {
    "escape": "\x1b[2J\x1b[31mload",
    "title of the window": "\x1b]0;owned\x07",
    "C1": "\x9b31mload",
    "newline": "load\nERROR forged",
    "carriage return": "load\rforged",
    "tab and backspace": "load\t\b\b\b",
    "bell": "load\a",
    "NUL": "load\0",
    "vertical tab, form feed": "load\v\f",
    "next line": "load\x85forged",
    "line separator": "load\u2028forged\u2029",
    "right to left": "load\u202egnp.exe",
    "isolates": "\u2066load\u2069",
    "invisible": "lo\u200b\xadad\ufeff",
    "surrogate": "load\ud800",
    "tags": "load\U000e0041",
}

nasty = pytest.mark.parametrize("name", NASTY.values(), ids=NASTY)


def assert_printable(text):
    """One line of printable characters; a message has no other, where none of its names has."""
    assert text.isprintable(), ascii(text)
    text.encode()


def descendants(kind):
    """Return a class and all that derive from it in flowkit's core."""
    found = {kind: None}
    for child in kind.__subclasses__():
        if child.__module__.startswith("flowkit_core"):
            found |= dict.fromkeys(descendants(child))
    return list(found)


def made(kind, text):
    """Make an error of which every fact that may be a text is this one."""
    facts = inspect.signature(kind.__init__).parameters.values()
    sequences = ("cycle", "places", "available")
    values = {**dict.fromkeys(sequences, (text, text)), "timeout": 1.5, "deaths": 2}
    if kind is MapLengthError:
        values |= {"parameters": (text, "other"), "numbers": (1, 2), "unread": (), "sources": {text: text}}
    return kind(*[values.get(fact.name, text) for fact in list(facts)[1:]])


@pytest.mark.parametrize("name", [*ORDINARY, *HARMLESS])
def test_printable_name_is_shown_unchanged(name):
    """Also joiners and unusual spaces, which str.isprintable() rejects."""
    assert escape_control_chars(name) == name
    assert name in str(DAGCycleError([name, "b", name]))
    assert escape_control_chars(f"{name}\n") == f"{name}\\n"


def test_control_characters_are_escaped():
    """As in string literals of Python."""
    assert escape_control_chars("a\nb\x1b[0m\u202e") == "a\\nb\\x1b[0m\\u202e"


@given(st.text())
def test_name_is_shown_on_one_line(name):
    """Escaping it again changes nothing."""
    text = escape_control_chars(name)
    assert len(text.splitlines()) <= 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)
    assert escape_control_chars(text) == text
    text.encode()


def test_value_is_shown_on_one_line():
    """With any repr()."""

    class Odd:
        def __repr__(self):
            return "\x1b[31m\nforged"

    assert short_repr(Odd()) == "\\x1b[31m\\nforged"


@nasty
@pytest.mark.parametrize("kind", descendants(FlowkitError), ids=lambda kind: kind.__name__)
def test_names_in_errors_are_on_one_line(kind, name):
    """The attributes have the names unchanged; both survive pickling."""
    error = made(kind, name)
    if kind is RemoteTaskError:  # the message of the original exception is no name
        error = kind(name, name, "its message", "", name)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert_printable(str(each))
        assert name not in str(each)
        assert repr(name) in repr(vars(each))
    assert vars(error) == vars(pickle.loads(pickle.dumps(error)))


def test_remote_traceback_keeps_its_lines():
    error = RemoteTaskError("load", "ValueError", "two\nlines", "Traceback:\n  ValueError: two\nlines")
    assert str(error) == "task 'load' raised ValueError: two\nlines\n\nTraceback:\n  ValueError: two\nlines"


# In pipelines


def caught(act, kind):
    """Return the error that something raises."""
    with pytest.raises(kind) as raised:
        act()
    assert_printable(str(raised.value))
    return raised.value


@nasty
def test_names_in_cycle_error(name):
    one, two = Task(lambda x: x, name=name), Task(lambda x: x, name="two")
    one >> two >> one
    error = caught(DAG(name, tasks=[two]).graph, DAGCycleError)
    assert escape_control_chars(name) in str(error)
    assert name in error.cycle


@nasty
def test_names_in_too_many_results_error(name):
    """Too many results, or a parameter that nothing fills, with or without an upstream of its name."""
    one, two = Task(lambda: 1, name=name), Task(lambda: 2, name=f"{name}2")
    few, many = Task(lambda x: x, name=f"{name}3"), Task(lambda x, y, z, *, w: x, name=f"{name}4")
    [one, two] >> few
    [one, two] >> many
    assert escape_control_chars(name) in str(caught(DAG(name, tasks=[few]).graph, BindingError))
    assert escape_control_chars(name) in str(caught(DAG(name, tasks=[many]).run, BindingError))
    method = Task(lambda self: self, name=f"{name}5")
    error = caught(DAG(name, tasks=[method]).run, BindingError)
    assert f"Task(something.{escape_control_chars(name)}5)" in str(error)
    assert error.task == f"{name}5"


@nasty
def test_names_in_distant_upstream_error(name):
    """The message has both names."""
    first, between = Task(lambda: 1, name="first"), Task(lambda x: x, name="between")
    last = Task(lambda between, *, first: first, name=name)
    first >> between >> last
    assert f"'first >> {escape_control_chars(name)}'" in str(caught(DAG(name, tasks=[last]).run, BindingError))


@nasty
def test_names_in_params_errors(name):
    one = Task(lambda x: x, name="one")
    error = caught(lambda: DAG(name, tasks=[one]).run(params={name: 1, "x": 1}), BindingError)
    assert error.parameter == name
    caught(lambda: DAG(name, tasks=[one]).run(params={name.encode("utf-8", "surrogatepass"): 1}), BindingError)


@nasty
def test_names_in_duplicate_error(name):
    """The locations of both tasks have file names."""
    tasks = []
    for number in range(2):
        space = {}
        exec("def made(): pass", space)
        function = space["made"]
        function.__code__ = function.__code__.replace(co_filename=f"{name}/{number}.py")
        tasks.append(Task(function, name=name))
    error = caught(DAG(name, tasks=tasks).graph, DuplicateTaskError)
    assert error.locations == (f"{name}/0.py:1", f"{name}/1.py:1")
    assert escape_control_chars(name) in str(error)


@nasty
def test_names_in_missing_result_error(name):
    """Also names of executors."""
    dag = DAG(name, tasks=[Task(lambda: 1, name=name)])
    assert caught(lambda: dag.run(name), UnknownExecutorError).name == name
    assert dag.run("serial") == {name: 1}
    assert caught(lambda: Results()[name], MissingResultError).name == name


@nasty
def test_names_in_option_errors(name):
    for option in ({"retries": -1}, {"retries": name}, {"when": name}, {"trigger": name}, {"retry_on": name}):
        caught(lambda: Task(lambda: 1, name=name, **option), (ValueError, TypeError))  # noqa: B023
    caught(lambda: Task(lambda: 1, name=name).with_options(**{name: 1}), TypeError)
    caught(lambda: DAG(name, max_workers=name), TypeError)
    caught(lambda: DAG(name, tasks=[name]), TypeError)
    caught(lambda: Task(lambda: 1, name="one") >> name, TypeError)


@nasty
@pytest.mark.parametrize("fail_fast", [True, False])
def test_names_in_notes(name, fail_fast):
    """Notes on errors of tasks, and the message of an exception group."""
    broken, other = Task(lambda: 1 / 0, name=name), Task(lambda: 1 / 0, name="other", trigger="all_done")
    broken >> other
    with pytest.raises((ZeroDivisionError, ExceptionGroup)) as raised:
        DAG(name, tasks=[other]).run("serial", fail_fast=fail_fast)
    assert_printable(str(raised.value))
    for error in getattr(raised.value, "exceptions", [raised.value]):
        for note in error.__notes__:
            assert_printable(note)


def states(name):
    """Return the results of a pipeline in which tasks end in every way, below one of this name."""
    broken, skipped = Task(lambda: 1 / 0, name=name), Task(lambda: 1, name=f"{name}2", when=lambda: False)
    tasks = [
        Task(lambda *_: 1, name="below"),
        Task(lambda x: x, name="below it", trigger="all_done"),
        Task(lambda *_: 1, name="all", trigger="all_success"),
        Task(lambda x: x, name="one"),
        Task(lambda *_: 1, name="far below"),
    ]
    broken >> tasks[:2]
    skipped >> tasks[2:4]
    tasks[0] >> tasks[4]
    dag = DAG(name, tasks=tasks)
    with pytest.warns(RuntimeWarning, match="needs the result of") as caught:
        results = dag.run("serial", fail_fast=False, raise_on_failure=False)
    assert_printable(str(caught[0].message))
    return results


@nasty
def test_names_in_skip_reasons(name):
    """The reason of a skipped task has names of upstreams."""
    results = states(name)
    assert len(results.skipped) == 3
    for reason in results.skipped.values():
        assert_printable(reason)
    for missing in set(results.states) - set(results.skipped) - set(results):
        caught(lambda: results[missing], MissingResultError)  # noqa: B023
    for reason in results._fact("reasons").values():
        assert_printable(reason)
    assert results._fact("reasons")["below"] == f'upstream "{escape_control_chars(name)}" failed'
    assert results.skipped["all"] == f'upstream "{escape_control_chars(name)}2" was skipped'


# In logs and pictures


@nasty
def test_names_in_log_lines(name, monkeypatch, caplog):
    """Attributes of the record have the names unchanged."""
    stream = io.StringIO()
    monkeypatch.setattr(logging.getLogger("flowkit"), "handlers", [logging.StreamHandler(stream)])
    caplog.set_level(logging.DEBUG, logger="flowkit")
    states(name)
    DAG(name, tasks=[]).run("serial")
    records = caplog.records
    assert len(records) > 10
    lines = stream.getvalue().split("\n")
    assert len(lines) == len(records) + 1
    for line in lines:
        assert_printable(line)
    assert {record.pipeline for record in records} == {name}
    assert name in {getattr(record, "task", None) for record in records}


def test_error_of_several_lines_is_one_log_line(caplog):

    def fail():
        raise ValueError("two\nlines\x1b[31m")

    caplog.set_level(logging.ERROR, logger="flowkit")
    DAG("log", tasks=[Task(fail)]).run("serial", raise_on_failure=False)
    (record,) = caplog.records
    assert record.getMessage() == 'Task "fail" failed after 1 attempt: ValueError: two\\nlines\\x1b[31m'
    assert record.error == "ValueError: two\nlines\x1b[31m"


@nasty
@pytest.mark.parametrize("format", ["text", "mermaid", "dot"])
def test_names_in_pictures(name, format):
    """The picture has as many lines as with other names."""

    def drawn(name):
        one, two, three = (Task(lambda *_: 1, name=f"{name}{number}") for number in range(3))
        one >> [two, three]
        return DAG(name, tasks=[two, three]).visualize(format).split("\n")

    lines = drawn(name)
    assert len(lines) == len(drawn("load"))
    for line in lines:
        assert_printable(line)


@nasty
def test_names_in_exception_groups(name):
    assert repr(Group([Task(lambda: 1, name=name)])) == f"Group([{escape_control_chars(name)}])"


@nasty
def test_names_in_reprs(name):
    dag = DAG(name, tasks=[Task(lambda: 1, name=name)])
    graph = dag.graph()
    for each in (dag, *dag.tasks, graph, *graph, Retry(graph.nodes[0], 1.0)):
        assert escape_control_chars(name) in repr(each)
