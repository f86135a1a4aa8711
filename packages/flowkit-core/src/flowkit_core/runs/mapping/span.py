"""Class `Span`: the time from the start of the first call of a mapped node to the end of the last one."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Span:
    """When the first call has started, and when the last one has ended, in seconds.

    Attributes:
        began, ended: these times; infinity and minus infinity if there was no call.
    """

    __slots__ = ("began", "ended")

    def __init__(self) -> None:
        self.began, self.ended = float("inf"), float("-inf")

    def note(self, began: float, ended: float) -> None:
        """Note the times of a call, or of several."""
        self.began = min(self.began, began)
        self.ended = max(self.ended, ended)

    @property
    def seconds(self) -> float:
        """Seconds between them; 0.0 if there was no call."""
        return max(0.0, self.ended - self.began)

    def since_end(self, now: float) -> float:
        """Return the seconds since the last call has ended; 0.0 if there was none."""
        return max(0.0, now - self.ended) if self.ended >= self.began else 0.0


def note_block(spans: Sequence[Span], seconds: Sequence[Sequence[float]], now: float) -> None:
    """Note the calls of a block that has ended: of each element, one call after the other.

    Args:
        spans: of each task of the chain.
        seconds: the durations of its calls.
        now: when the block has ended.
    """
    first_began, after_last = now - sum(map(sum, seconds)), sum(spent[-1] for spent in seconds if spent)
    for span, spent in zip(spans, seconds, strict=True):
        if not spent:
            return
        after_last -= spent[-1]
        span.note(first_began, now - after_last)
        first_began += spent[0]
