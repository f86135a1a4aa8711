"""The fingerprint that a resume compares contains values as the process first saw them."""

from __future__ import annotations

import pytest

from flowkit_state.fingerprint import changes, components, initial_components, values


def resumed(load, before, after):
    """Return what has changed as a resume sees it, and what it does not see."""
    missed: dict[str, str] = {}
    old, new = (initial_components(load(source).f, missed) for source in (before, after))
    return changes(old, new), [*missed.values()]


@pytest.mark.parametrize(
    ("made", "old", "new"),
    [
        ("itertools.count(@)", "1", "2"),
        ("io.StringIO('@')", "a", "b"),
        ("io.BytesIO(b'@')", "a", "b"),
        ("opened('@')", "a.txt", "b.txt"),
        ("opened('@', 'rb')", "a.txt", "b.txt"),
        ("argparse.Namespace(a=opened('@'))", "a.txt", "b.txt"),
        ("argparse.Namespace(a=[itertools.count(@)])", "1", "2"),
    ],
)
def test_initial_components_contain_the_first_state_of_files_and_counters(load, tmp_path, monkeypatch, made, old, new):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).touch()
    source = f"""
        import argparse, io, itertools
        def opened(*where):
            with open(*where) as file: return file
        A = {made}
        def f(): return A
    """
    before, after = source.replace("@", old), source.replace("@", new)
    assert resumed(load, before, after) == (["constant etl.A has changed"], [])
    assert resumed(load, before, before) == ([], [])


def test_initial_components_of_used_files_and_counters_are_kept(load):
    module = load("import io, itertools\nA = itertools.count(1)\nB = io.StringIO('ab')\ndef f(): return A, B")
    before = initial_components(module.f)
    next(module.A)
    module.B.read(1)
    assert changes(before, initial_components(module.f)) == []


@pytest.mark.parametrize(
    "made",
    [
        "threading.Lock()",
        "threading.Thread(name='@')",
        "concurrent.futures.ThreadPoolExecutor(thread_name_prefix='@')",
        "logging.Formatter('%(message)s @')",
        "logging.StreamHandler()",
        "random.Random('@')",
        "queue.Queue(@)",
        "os.environ",
        "sys.version_info",
        "sys.stdout",
        "io.StringIO()",
        "itertools.count()",
        "types.SimpleNamespace(a=[random.Random('@')])",
        "argparse.Namespace(a=random.Random('@'))",
    ],
)
def test_initial_components_contain_only_the_type_of_process_objects(load, made):
    source = f"""
        import argparse, concurrent.futures, io, itertools, logging, os, queue, random, sys, threading, types
        A = {made}
        def f(): return A
    """
    assert resumed(load, source.replace("@", "1"), source.replace("@", "2")) == ([], [])


@pytest.mark.parametrize(
    ("made", "place", "type_name"),
    [
        ("iter([@])", "constant etl.A", "list_iterator"),
        ("{'a': [iter([@])]}", "constant etl.A['a'][0]", "list_iterator"),
        ("argparse.Namespace(a=iter([@]))", "constant etl.A.a", "list_iterator"),
        ("C(iter([@]))", "constant etl.A.a", "list_iterator"),
        ("[iter([@]), iter([])]", "constant etl.A[0]", "list_iterator"),
        ("E(@)", "constant etl.A", "etl.E"),
        ("T(name='@')", "constant etl.A", "etl.T"),
        ("ValueError(@)", "constant etl.A", "ValueError"),
        ("time.localtime(@)", "constant etl.A", "time.struct_time"),
        ("http.client.HTTPConnection('@')", "constant etl.A", "http.client.HTTPConnection"),
        ("unittest.mock.Mock(a=@)", "constant etl.A", "unittest.mock.Mock"),
        ("P()", "constant etl.A", "etl.P"),
    ],
)
def test_initial_components_report_opaque_value_with_its_place(load, made, place, type_name):
    source = f"""
        import argparse, http.client, threading, time, unittest.mock
        class E(Exception): pass
        class T(threading.Thread): pass
        class C:
            def __init__(self, a): self.a = a
        class P:
            def __getattribute__(self, name): raise RuntimeError(name)
        A = {made}
        def f(): return A
    """
    changed, missed = resumed(load, source.replace("@", "1"), source.replace("@", "2"))
    assert changed == []
    assert missed == [f"{place} is of type {type_name}"]


def test_initial_components_do_not_report_variable_that_the_code_assigns(load):
    source = "c = None\ndef g():\n    global c\n    c = c or iter([])\n    return c\ndef f(): return g()\nf()"
    assert resumed(load, source, source) == ([], [])


def test_repeated_look_at_classes_and_values_adds_no_snapshots(load):
    source = """
        import argparse, configparser, dataclasses, enum, logging, typing
        class Color(enum.Enum):
            RED = [1]
        @dataclasses.dataclass
        class Row:
            color: Color = Color.RED
            rows: list = dataclasses.field(default_factory=list)
        class Pair(typing.NamedTuple):
            a: tuple = ((1,), [2])
        A = [Row(), Pair(), {"a": (1, [2])}, argparse.Namespace(a=[1])]
        C = configparser.ConfigParser()
        C.read_string("[a]\\nb = 1")
        def f(x=(1, (2,))): return A, C, C["a"]
    """
    f = load(source).f
    first = initial_components(f)
    taken = len(values._snapshots)
    assert initial_components(f) == first
    assert len(values._snapshots) == taken


def test_initial_components_contain_options_as_first_seen(load):
    module = load("import argparse\nargs = argparse.Namespace(a=None)\ndef f(): return args.a")
    before = initial_components(module.f), components(module.f)
    module.args.a = 1
    assert changes(before[0], initial_components(module.f)) == []
    assert changes(before[1], components(module.f)) == ["constant etl.args.a has changed"]
