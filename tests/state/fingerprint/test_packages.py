"""Code of packages is compared by version, and that of the standard library not at all."""

from __future__ import annotations

import sys
import textwrap

import pytest

from flowkit_state.fingerprint import changes, components

PACKAGE = """
    import functools
    class Client:
        pass
    LIMIT = [1]
    def clean(x): return Client, LIMIT
    def retry(times):
        def decorate(function):
            @functools.wraps(function)
            def wrapper(*args): return [function(*args) for _ in range(times)]
            return wrapper
        return decorate
"""


@pytest.mark.parametrize(
    "source",
    [
        "import flowkit_test_pkg\ndef f(x): return flowkit_test_pkg.clean(x)",
        "import flowkit_test_pkg as p\ndef f(x): return p",
        "from flowkit_test_pkg import clean\ndef f(x): return clean(x)",
        "from flowkit_test_pkg import Client\ndef f(x): return Client()",
        "from flowkit_test_pkg import Client\nclass C(Client): pass\ndef f(x): return C()",
        "def f(x):\n    import flowkit_test_pkg as p\n    return p.clean(x)",
        "def f(x):\n    from flowkit_test_pkg import clean\n    return clean(x)",
    ],
)
def test_installed_package_is_compared_by_version(load, install, source):
    install("flowkit_test_pkg", "2.31", PACKAGE)
    parts = components(load(source).f)
    assert parts["package flowkit_test_pkg"] == "2.31"
    assert not [label for label in parts if "flowkit_test_pkg." in label]
    newer = {**parts, "package flowkit_test_pkg": "2.32"}
    assert changes(parts, newer) == ["package flowkit_test_pkg is 2.32, was 2.31"]


def test_function_wrapped_by_a_package_is_compared(differences, install):
    install("flowkit_test_pkg", "1", PACKAGE)
    source = "from flowkit_test_pkg import retry\n@retry(3)\ndef g(x): return 1\ndef f(x): return g(x)"
    assert differences(source, source.replace("return 1", "return 2")) == ["function etl.g has changed"]
    (difference,) = differences(source, source.replace("retry(3)", "retry(4)"))
    assert difference.startswith("closure times of flowkit_test_pkg.retry")


def test_module_in_site_packages_without_distribution_is_compared_as_code(load, tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "flowkit_test_loose.py").write_text("def clean(x): return 1")
    monkeypatch.syspath_prepend(folder)
    parts = components(load("import flowkit_test_loose\ndef f(x): return flowkit_test_loose.clean(x)").f)
    assert "function flowkit_test_loose.clean" in parts
    monkeypatch.delitem(sys.modules, "flowkit_test_loose")


def test_standard_library_adds_no_components(load):
    source = """
        import collections, json, math, os, os.path as p, re
        from functools import reduce
        from pathlib import Path
        def f(x):
            import sqlite3, email.message
            path = os.sep, p.join, Path
            return json.dumps, math.pi, path, re.match, reduce, collections.OrderedDict, email.message, sqlite3
    """
    assert sorted(components(load(source).f)) == ["fingerprint format", "function etl.f"]


def test_flowkit_is_compared_by_version(load):
    parts = components(load("import flowkit_state\ndef f(): return flowkit_state.StateManager()").f)
    assert sorted(parts) == ["fingerprint format", "function etl.f", "package flowkit-state"]


def test_foreign_function_has_no_code_components():
    assert components(len) == components(len)
    assert components(textwrap.dedent) == {"fingerprint format": "2"}
    assert not [label for label in components(textwrap.dedent) if label.startswith("function")]


def test_failing_import_in_a_function_is_ignored(load):
    parts = components(load("def f():\n    try: import flowkit_no_such\n    except ImportError: return None").f)
    assert sorted(parts) == ["fingerprint format", "function etl.f"]
