"""Strict JSON (RFC 8259, ASCII) at the speed of the standard library, and of any depth.

The C code of `json` recurses. Where it gives up with `RecursionError` these functions go on without recursion.
"""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.encoder import encode_basestring_ascii as _quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\n\r]*").match
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?").match
_WORDS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False)
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def dumps(tree: Any) -> str:
    """Return the JSON text of `tree`, which holds no cycles and nothing that JSON does not have."""
    try:
        return _encoder.encode(tree)
    except RecursionError:
        return _dump_deep(tree)


def loads(text: str) -> Any:
    """Return what the JSON `text` says. Raises `ValueError` where it is not strict JSON."""
    try:
        return _decoder.decode(text)
    except RecursionError:
        return _load_deep(text)


def _dump_deep(tree: Any) -> str:
    out: list[str] = []
    closers: list[str] = []
    iterators = [iter([("", tree)])]
    while iterators:
        for label, item in iterators[-1]:
            out.append(label)
            if type(item) is dict:
                pairs = [(f"{', ' if i else ''}{_quote(key)}: ", value) for i, (key, value) in enumerate(item.items())]
            elif type(item) is list:
                pairs = [(", " if i else "", value) for i, value in enumerate(item)]
            else:
                out.append(_encoder.encode(item))
                continue
            out.append("{" if type(item) is dict else "[")
            closers.append("}" if type(item) is dict else "]")
            iterators.append(iter(pairs))
            break
        else:
            iterators.pop()
            if closers:
                out.append(closers.pop())
    return "".join(out)


def _load_deep(text: str) -> Any:
    """Parse without recursion: `stack` holds the open lists and objects, `keys` the key each open object is at."""
    stack: list[Any] = []
    keys: list[str] = []
    position = _skip(text, 0)
    while True:
        char = text[position : position + 1]
        position += 1
        if char in ("[", "{") and char:
            position = _skip(text, position)
            opened: Any = [] if char == "[" else {}
            if text[position : position + 1] != ("]" if char == "[" else "}"):
                stack.append(opened)
                if char == "{":
                    key, position = _key(text, position)
                    keys.append(key)
                continue
            value, position = opened, position + 1
        else:
            value, position = _scalar(text, position - 1)
        while True:  # a whole value was read: put it where it belongs, and close what ends here
            position = _skip(text, position)
            if not stack:
                if position != len(text):
                    raise ValueError(f"extra data at character {position}")
                return value
            holder = stack[-1]
            if type(holder) is list:
                holder.append(value)
            else:
                holder[keys.pop()] = value
            char = text[position : position + 1]
            position = _skip(text, position + 1)
            if char == ",":
                if type(holder) is dict:
                    key, position = _key(text, position)
                    keys.append(key)
                break
            if char != ("]" if type(holder) is list else "}"):
                raise ValueError(f"expected ',' or the end of a list or object at character {position - 1}")
            value = stack.pop()


def _skip(text: str, position: int) -> int:
    match = _SPACE(text, position)
    return match.end() if match else position


def _key(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        raise ValueError(f"expected a key at character {position}")
    key, position = scanstring(text, position + 1)
    position = _skip(text, position)
    if text[position : position + 1] != ":":
        raise ValueError(f"expected ':' at character {position}")
    return key, _skip(text, position + 1)


def _scalar(text: str, position: int) -> tuple[Any, int]:
    char = text[position : position + 1]
    if char == '"':
        value, end = scanstring(text, position + 1)
        return value, end
    if char in _WORDS:
        word, value = _WORDS[char]
        if text.startswith(word, position):
            return value, position + len(word)
    match = _NUMBER(text, position)
    if match is None:
        raise ValueError(f"expected a value at character {position}")
    return (float if match[1] or match[2] else int)(match[0]), match.end()
