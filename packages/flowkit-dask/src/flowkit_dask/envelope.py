"""Class `Envelope`: a list, another collection or an exception, as it is sent between processes.

Dask sends each item of a collection as a message of its own, which takes about a hundred times as long as one pickle,
and unpickles an exception by calling its class. An envelope is one pickle, and the buffers of arrays beside it.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from dask.sizeof import sizeof
from distributed.protocol import dask_deserialize, dask_serialize

from .pickling import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLLECTIONS = frozenset((list, tuple, dict, set, frozenset))


class Envelope:
    """A value that is sent as one pickle. In the process that has made it, or got it, it contains the value itself.

    Args:
        value: the value.
    """

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


@sizeof.register(Envelope)  # type: ignore[untyped-decorator, unused-ignore]
def _size_of(envelope: Envelope) -> int:
    return int(sizeof(envelope.value))


@dask_serialize.register(Envelope)  # type: ignore[untyped-decorator, unused-ignore]
def _serialize(envelope: Envelope) -> tuple[dict[str, Any], list[Any]]:
    buffers: list[pickle.PickleBuffer] = []
    data = dumps(envelope.value, buffers)
    try:
        return {}, [data, *(buffer.raw() for buffer in buffers)]
    except BufferError:  # not contiguous: make it a part of the pickle
        return {}, [dumps(envelope.value)]


@dask_deserialize.register(Envelope)  # type: ignore[untyped-decorator, unused-ignore]
def _deserialize(_header: dict[str, Any], frames: Sequence[Any]) -> Envelope:
    return Envelope(pickle.loads(frames[0], buffers=frames[1:]))


def enclosed(value: Any) -> Any:
    """Return a value as a worker keeps it: in an envelope, if Dask would not send it as one pickle."""
    return Envelope(value) if type(value) in _COLLECTIONS or isinstance(value, BaseException) else value


def opened(value: Any) -> Any:
    """Return the value in an envelope; any other value as it is."""
    return value.value if type(value) is Envelope else value
