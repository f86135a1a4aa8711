"""Classes `FrameBuffer` and `ReceivedFrames`: split what a worker has sent, or has received, into frames."""

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


class ReceivedFrames:
    """What a worker has received, and has not handled yet.

    Attributes:
        data: the bytes.
        handles: the handles of segments that belong to the next frames.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.handles: list[int] = []

    def take(self) -> tuple[int, memoryview, list[int]] | None:
        """Remove the first frame, and return its kind, its payload and its handles; None if it is not complete."""
        data, header = self.data, protocol.HEADER
        end = self._end()
        if len(data) < end:
            return None
        _, kind, count, _, _ = header.unpack_from(data)
        payload = bytes(memoryview(data)[header.size : end])
        del data[:end]
        own, self.handles = self.handles[:count], self.handles[count:]
        return kind, memoryview(payload), own

    def missing(self) -> int:
        """Return how many bytes of the first frame are known to be missing."""
        return self._end() - len(self.data)

    def _end(self) -> int:
        header = protocol.HEADER
        return header.size + (header.unpack_from(self.data)[0] if len(self.data) >= header.size else 0)
