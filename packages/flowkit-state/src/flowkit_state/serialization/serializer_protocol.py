"""Protocol `Serializer`: the protocol of the objects that `StateManager(serializer=...)` takes for additional types."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, Protocol

    class Serializer(Protocol):
        """Converts the values of one type to bytes and back.

        Attributes:
            name: identifies the serializer in the file; it must not change as long as the file is used.
            type: the class of the values; values of subclasses are taken too.
        """

        @property
        def name(self) -> str:
            """Identifies the serializer in the file."""

        @property
        def type(self) -> type:
            """The class of the values."""

        def dump(self, value: Any, /) -> bytes:
            """Return `value` as bytes."""

        def load(self, data: bytes, /) -> Any:
            """Return a value equal to the one that was dumped as `data`."""

    SerializerOption = Literal["json", "pickle"] | Serializer | Sequence[Serializer]
