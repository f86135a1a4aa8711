"""Strict JSON text: RFC 8259, without NaN and infinity, in ASCII."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False)
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def dumps(tree: Any) -> str:
    """Return the JSON text of `tree`, which contains no reference cycles and only types that JSON supports."""
    return _encoder.encode(tree)


def loads(text: str) -> Any:
    """Return the tree of a JSON text.

    Raises:
        ValueError: the text is not strict JSON.
        RecursionError: it is nested more deeply than the `json` module supports, which is about 990 levels.
    """
    return _decoder.decode(text)
