"""Class `GCDisabled`: a context in which the garbage collector does not run."""

from __future__ import annotations

import gc


class GCDisabled:
    """Disables the garbage collector, and enables it again if it was enabled.

    Discovery and graphs allocate many objects and make no garbage; collections would take half of the time.
    """

    __slots__ = ("_was_enabled",)

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_error: object) -> None:
        if self._was_enabled:
            gc.enable()
