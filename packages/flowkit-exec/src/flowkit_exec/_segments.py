"""Large values of a run that lie in shared memory, known by their identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Segment:
    """A large value in shared memory: the descriptor that keeps it, and what lies where.

    The value is held, so that its ``id()`` stays its own.
    """

    __slots__ = ("descriptor", "layout", "value")

    def __init__(self, value: Any, descriptor: int, layout: wire.Layout) -> None:
        self.value = value
        self.descriptor = descriptor
        self.layout = layout


class Segments:
    """The segments of one run, no more of them than there are descriptors to spare."""

    def __init__(self) -> None:
        self._kept: dict[int, Segment] = {}
        self._most = wire.descriptor_budget()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: int) -> Segment | None:
        """Return the segment of the value with this ``id()``."""
        return self._kept.get(key)

    def hold_any(self, values: Iterable[Any]) -> bool:
        """Say whether any of these values lies in a segment."""
        return any(id(value) in self._kept for value in values)

    def keep(self, value: Any, descriptor: int, layout: wire.Layout) -> None:
        """Keep a segment for as long as the run goes; or let go of it at once, if there are too many."""
        known = self._kept.get(id(value))
        if known is not None or len(self._kept) < self._most:
            self._kept[id(value)] = Segment(value, descriptor, layout)
            descriptor = known.descriptor if known is not None else -1  # unpickling gave an object that was there
        if descriptor >= 0:
            wire.close(descriptor)

    def share(self, values: Iterable[Any], size: int, dumps: Callable[..., bytes]) -> bool:
        """Put what is large among arguments, whose pickle has this size, into segments; say whether anything was.

        Results of workers are there already. These come from ``run(params=...)``, from the cache or from a record.
        """
        new = {id(value): value for value in values if id(value) not in self._kept}
        if size < wire.LARGE * len(new):  # many small ones: not worth looking at each
            return False
        before = len(self._kept)
        for value in new.values():
            if len(self._kept) == self._most:
                break
            try:
                encoded = wire.encode(value, dumps)
            except OSError:  # no memory there, or no descriptors: the ordinary way
                break
            if not isinstance(encoded, bytes):
                self.keep(value, *encoded)
        return len(self._kept) > before

    def close(self) -> None:
        """Let go of all of them; values that were read from them stay."""
        while self._kept:
            wire.close(self._kept.popitem()[1].descriptor)
