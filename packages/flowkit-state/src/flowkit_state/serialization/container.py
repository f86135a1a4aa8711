"""Containers: a JSON text and the buffers to which it refers, as bytes.

Layout: the magic bytes, the length of the header in 8 bytes, the header, and the buffers, each at a multiple of 64
bytes. The header is JSON: `{"tree": ..., "sizes": [size of each buffer]}`.
"""

from __future__ import annotations

from base64 import b64encode

from flowkit_state.serialization.json_text import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from flowkit_state.serialization.data_types.forms import Buffer

_MAGIC = b"\x93flowkit"  # no pickle begins with this byte
_ALIGNMENT = 64


def is_container(payload: bytes) -> bool:
    """Return whether bytes are a container; pickles are not."""
    return payload.startswith(_MAGIC)


def pack(tree: Any, parts: Sequence[Sequence[Buffer]]) -> bytes:
    """Return a container with a JSON tree and parts, each of which consists of buffers."""
    sizes = [sum(len(buffer) for buffer in part) for part in parts]
    header = dumps({"tree": tree, "sizes": sizes}).encode("ascii")
    out: list[Buffer] = [_MAGIC, len(header).to_bytes(8, "little"), header]
    place = len(_MAGIC) + 8 + len(header)
    for size, part in zip(sizes, parts, strict=True):
        out.append(bytes(-place % _ALIGNMENT))
        out += part
        place += -place % _ALIGNMENT + size
    return b"".join(out)


def unpack(payload: bytes) -> tuple[Any, list[memoryview]]:
    """Return the JSON tree and the parts of a container. Raises `ValueError` if it is damaged."""
    view = memoryview(payload)
    place = len(_MAGIC) + 8
    end = place + int.from_bytes(view[len(_MAGIC) : place], "little")
    header = loads(str(view[place:end], "ascii"))
    if type(header) is not dict or header.keys() != {"tree", "sizes"} or type(header["sizes"]) is not list:
        raise ValueError("its header is damaged")
    parts = []
    for size in header["sizes"]:
        start = end + -end % _ALIGNMENT
        end = start + size
        if type(size) is not int or size < 0 or end > len(view):
            raise ValueError("it is truncated")
        parts.append(view[start:end])
    return header["tree"], parts


def with_inline_parts(tree: Any, parts: Sequence[Sequence[Buffer]]) -> Any:
    """Return a JSON tree with the parts as base64 text in it, for stores without bytes."""
    if type(tree) is list:
        return [with_inline_parts(item, parts) for item in tree]
    if type(tree) is not dict:
        return tree
    for tag in ("$data", "$own"):
        if len(tree) == 1 and tag in tree and type(tree[tag][1]) is int:
            name, number = tree[tag]
            return {tag: [name, b64encode(b"".join(parts[number])).decode("ascii")]}
    return {key: with_inline_parts(item, parts) for key, item in tree.items()}
