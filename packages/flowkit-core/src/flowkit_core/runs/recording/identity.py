"""What identifies the function of a node, and a value that is elsewhere."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.handle import is_handle

if TYPE_CHECKING:
    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.persistence import Cache


def code_of(node: Node) -> object:
    """Return what identifies the function of a node: the code, which closures and partials of it share."""
    function = node.func
    code = getattr(function, "__code__", None)
    if code is None:
        function = getattr(function, "func", function)
        code = getattr(function, "__code__", None)
    return code or id(function)


def has_digest(cache: Cache, value: Any) -> bool:
    """Return whether a value is a handle that a cache can take in place of the value."""
    is_digested = is_handle(value) and getattr(value, "digest", None) is not None
    return is_digested and getattr(cache, "argument_digest", None) is not None
