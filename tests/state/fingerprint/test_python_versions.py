"""The fingerprint of source is the same in every version of Python."""

from __future__ import annotations

from pathlib import Path

from flowkit_state.fingerprint import components, key

SOURCE = Path(__file__).with_name("every_construct.txt").read_text("utf-8")

KEY = "637eb112e83f863b47cbf832c534c6b03004b41770f74b809ec700f2d6ed2b59"
"""The key of `f` in SOURCE. Stores contain keys like this one.

If this test fails in one version of Python only, the fingerprint depends on the version: fix that. If it fails in all,
the change makes every cached result a miss: avoid that, or else increment `FORMAT` in collector.py, so that users get a
message, and put the new key here.
"""


def test_key_is_the_same_in_every_version_of_python(load):
    assert key(components(load(SOURCE).f)) == KEY


def test_components_of_functions_with_source_do_not_contain_the_version_of_python(load):
    assert "python" not in components(load(SOURCE).f)
