"""Class `FrameBuffer`: splits what a worker has sent into frames."""

from __future__ import annotations

from collections import deque

from flowkit_exec.process import protocol

READ_SIZE = 1 << 16
"""Bytes to read at a time: a larger buffer would be mapped and unmapped by the allocator each time."""


class FrameBuffer:
    """What a worker has sent, and was not handled yet.

    Attributes:
        unread: the data that was received, in pieces.
    """

    def __init__(self) -> None:
        self.unread: list[bytes] = []
        self._frames: deque[tuple[int, int, float, bytes]] = deque()  # an attribute: an interrupt must not lose frames

    def frames(self) -> deque[tuple[int, int, float, bytes]]:
        """Return the complete frames: kind, ticket, seconds, payload. The caller removes each one that it handles."""
        data = b"".join(self.unread)
        unpack, size, end = protocol.HEADER.unpack_from, protocol.HEADER.size, len(data)
        frames = self._frames
        start = 0
        while end - start >= size:
            length, kind, _, ticket, seconds = unpack(data, start)
            payload_at = start + size
            if payload_at + length > end:
                break
            start = payload_at + length
            frames.append((kind, ticket, seconds, data[payload_at:start]))
        self.unread = [data[start:]] if start < end else []
        return frames
