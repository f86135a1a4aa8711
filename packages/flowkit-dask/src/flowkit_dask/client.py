"""Class `ClosingClient`: a client of Dask that is closed if it cannot connect."""

from __future__ import annotations

import asyncio
from typing import Any

from distributed import Client


class ClosingClient(Client):  # type: ignore[misc] # distributed has no types
    """A client of Dask that is closed if it cannot connect.

    Otherwise the garbage collector closes it, at any time and in any thread: if that is the thread of the event loop of
    a client that is being created, each of the two waits for the other.
    """

    async def _start(self, **options: Any) -> None:
        """Connect to the scheduler. Without the limit, the client waits without end for an answer of another server."""
        async with asyncio.timeout(options.get("timeout")):
            await super()._start(**options)

    def start(self, **options: Any) -> None:
        """Connect to the scheduler."""
        try:
            super().start(**options)
        except BaseException:
            self.close()
            raise
