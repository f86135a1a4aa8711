"""From a value to what a store keeps, and back: JSON text by default, the bytes of a pickle when the user asks."""

from __future__ import annotations

from flowkit_state._codec import decode, encode
from flowkit_state._files import foreign_writer
from flowkit_state._json import dumps, loads
from flowkit_state.errors import RestoreError, UnsupportedValueError, UntrustedPickleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def to_json(key: str, value: object, root: str = "value") -> str:
    """Return the JSON text of `value`. Raises `UnsupportedValueError`."""
    return dumps(encode(value, key=key, root=root))


def to_pickle(key: str, value: object) -> bytes:
    """Return the pickle of `value`, having seen that it can be loaded. Raises `UnsupportedValueError`."""
    import pickle

    try:
        payload = pickle.dumps(value, protocol=5)
        pickle.loads(payload)
    except Exception as error:
        reason = f"which pickle cannot keep ({type(error).__name__}: {error})"
        raise UnsupportedValueError(
            key, "value", type(value).__qualname__, reason, "Keep something simpler that it can be made from."
        ) from error
    return payload


def restore(key: str, payload: str | bytes, path: str | None, *, pickled: bool) -> Any:
    """Return the value kept as `payload` in the file `path` (None: in memory).

    Raises `RestoreError`, and `UntrustedPickleError` where another user could have written the pickle.
    """
    if isinstance(payload, str):
        return decode(loads(payload), key=key)
    if not pickled:
        way = 'open the file with StateManager(..., serializer="pickle") if you trust everyone who could write it.'
        raise RestoreError(key, f"it is a pickle, and loading a pickle can run any code; {way}")
    danger = None if path is None else foreign_writer(path)
    if path is not None and danger is not None:
        way = "make the file and its folder writable by you alone (chmod 600 and 700), if you trust what is in it now."
        reason = f"its pickles are not loaded, for {danger}, and a pickle can run any code; {way}"
        raise UntrustedPickleError(path, reason)
    import pickle

    try:
        return pickle.loads(payload)
    except Exception as error:
        raise RestoreError(key, f"its pickle cannot be loaded here ({type(error).__name__}: {error}).") from error
