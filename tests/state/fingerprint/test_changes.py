"""Differences of fingerprints as sentences."""

from __future__ import annotations

from flowkit_state.fingerprint import changes, shortened


def test_changes_are_sentences():
    old = {
        "python": "3.11",
        "function etl.f": "a" * 64,
        "package requests": "2.31",
        "input rows": "b" * 64,
        "constant etl.A": "1",
    }
    new = {
        "python": "3.12",
        "function etl.f": "c" * 64,
        "package requests": "2.32",
        "input rows": "d" * 64,
        "function etl.g": "2",
    }
    told = [
        "python is 3.12, was 3.11",
        "function etl.f has changed",
        "package requests is 2.32, was 2.31",
        "input 'rows' has changed",
        "function etl.g is new",
        "constant etl.A is gone",
    ]
    assert changes(old, new) == changes(shortened(old), new) == changes(old, shortened(new)) == told
    assert changes(old, old) == changes(old, shortened(old)) == []
