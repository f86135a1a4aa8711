"""Registry of the open progress bars, by number.

Log records carry the number of a bar, not the bar itself, so that they can be pickled and written as JSON.
"""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Bar(Protocol):
        """The part of a progress bar that the console draws."""

        label: str

        def status(self, cells: int = ..., /) -> str:
            """Return the text after the label, with a bar of this length."""


OPEN_BARS: weakref.WeakValueDictionary[int, Bar] = weakref.WeakValueDictionary()
