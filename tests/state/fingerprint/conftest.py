"""Fixtures that write, import and compare modules of a project."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap

import pytest

from flowkit_state.fingerprint import changes, components


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that writes modules of a project, imports them and returns the first."""
    count = iter(range(1000))

    def load(etl, **others):
        folder = tmp_path / f"project{next(count)}"
        for name, source in {"etl": etl, **others}.items():
            path = folder / (name.replace("__", os.sep) + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
            for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == name.partition("__")[0]]:
                monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return importlib.import_module("etl")

    before = set(sys.modules)
    yield load
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("etl", "helpers", "pkg"):
            del sys.modules[name]


@pytest.fixture
def differences(load):
    """Return a function that returns how the fingerprints of `f` differ in two versions of a module or of modules."""

    def compare(before, after):
        old, new = (
            components(load(**({"etl": source} if isinstance(source, str) else source)).f) for source in (before, after)
        )
        return changes(old, new)

    return compare


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package of one module."""
    site = tmp_path / "venv" / "lib" / "site-packages"
    site.mkdir(parents=True)
    monkeypatch.syspath_prepend(site)

    def write(name, version, source):
        (site / f"{name}.py").write_text(textwrap.dedent(source))
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "top_level.txt").write_text(name)
        importlib.invalidate_caches()
        clear_caches()

    def clear_caches():
        from flowkit_state.fingerprint import provenance

        for cached in (provenance.of_module, provenance._of_file, provenance._distributions, provenance._version):
            cached.cache_clear()

    yield write
    clear_caches()
    for name in ("flowkit_test_pkg",):
        sys.modules.pop(name, None)
