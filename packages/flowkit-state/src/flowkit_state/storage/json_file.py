"""Class `JSONStore`: entries in memory and in a JSON file, which is replaced at every change.

Readers take no lock, because a file that is only ever replaced is always complete. A writer locks the file, reads the
changes of other processes, and replaces the file. A batch does that once for several changes.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from math import isfinite

from flowkit_state.errors import StateFileError, StateVersionError
from flowkit_state.serialization.json_decoder import decode
from flowkit_state.serialization.json_encoder import encode
from flowkit_state.serialization.json_text import dumps, loads
from flowkit_state.storage import atomic_files, syscalls
from flowkit_state.storage.base import Batch, Entry
from flowkit_state.storage.memory import MemoryStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any

    from flowkit_state.storage.limits import Limits

_FORMAT = "flowkit-state"
_VERSION = 1
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors write one
_NO_FILE = (0, 0, 0, 0)


class JSONStore(MemoryStore):
    """A `Store` in the file `path`, an absolute path. The file is created by the first change."""

    _reading_is_use = False  # else each read would replace the file

    def __init__(self, path: str, lock_timeout: float, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self._path = path
        self._file_lock = atomic_files.FileLock(path, lock_timeout)
        self._signature: atomic_files.Signature | None = None  # of the version in memory; None: unknown
        self._status: os.stat_result | None = None
        self._leftovers_removed = False
        self._refresh()

    def _new_lock(self) -> None:
        super()._new_lock()
        self._signature = None  # a forked child reads the file again

    def _refresh(self) -> None:
        if self._depth == 0 and not self._read(locked=False):
            self._lock_file()
            try:
                self._read(locked=True)
            finally:
                self._file_lock.release()

    def _read(self, *, locked: bool) -> bool:
        """Read the file if it has changed. A damaged file is renamed if it is locked, else False is returned."""
        try:
            status = syscalls.stat(self._path)
            if atomic_files.signature(status) == self._signature:
                return True
            self._signature = None
            data, status = atomic_files.read_file(self._path)
        except FileNotFoundError:
            self._set_entries({})
            self._signature, self._status = _NO_FILE, None
            return True
        except OSError as error:
            raise atomic_files.failure(self._path, "read it", error) from error
        try:
            self._set_entries(_parse(self._path, data))
        except RecursionError:  # values of earlier versions; encode() refuses them now
            reason = "it is nested more deeply than the json module of this Python supports; use another file."
            raise StateFileError(self._path, f"cannot read it: {reason}") from None
        except ValueError as error:
            if not locked:
                return False
            self._set_entries({})
            atomic_files.rename_damaged(self._path, "it is empty" if not data else str(error))
            self._signature, self._status = _NO_FILE, None
        else:
            self._signature, self._status = atomic_files.signature(status), status
        return True

    def _lock_file(self) -> None:
        try:
            self._file_lock.acquire()
        except StateFileError:
            raise
        except OSError as error:
            raise atomic_files.failure(f"{self._path}.lock", "lock it", error) from error

    def _write(self) -> None:
        data = _render(self._entries)
        self._signature = None  # unknown until the new version is written
        try:
            if not self._leftovers_removed:
                atomic_files.remove_leftovers(self._path)
                self._leftovers_removed = True
            status = atomic_files.write_file(self._path, data, self._status)
        except OSError as error:
            raise atomic_files.failure(self._path, "write it", error) from error
        self._signature, self._status = atomic_files.signature(status), status

    def begin(self) -> None:
        self._acquire()
        try:
            if self._depth == 0:
                try:
                    atomic_files.make_folder(self._path)
                except OSError as error:
                    raise atomic_files.failure(self._path, "create its folder", error) from error
                self._lock_file()
                try:
                    self._read(locked=True)
                except BaseException:
                    self._file_lock.release()
                    raise
            super().begin()
        finally:
            self._lock.release()

    def commit(self) -> None:
        if self._depth == 1 and self._in_batch():
            try:
                if self._changed:
                    self._write()
            except BaseException:
                self.rollback()
                raise
            self._file_lock.release()
        super().commit()

    def rollback(self) -> None:
        try:
            if self._depth == 1 and self._in_batch():
                self._file_lock.release()
        finally:
            super().rollback()

    def put(self, key: str, entry: Entry) -> None:
        with Batch(self):
            super().put(key, entry)

    def touch(self, key: str, stored: float, expires: float | None) -> None:
        with Batch(self):
            super().touch(key, stored, expires)

    def remove(self, key: str) -> bool:
        with Batch(self):
            return super().remove(key)

    def clear(self) -> None:
        with Batch(self):
            super().clear()

    def remove_expired(self, now: float) -> int:
        if not any(entry.expired(now) for _, entry in self.items()):
            return 0
        with Batch(self):
            return super().remove_expired(now)

    def remove_older(self, prefix: str, before: float) -> None:
        with Batch(self):
            super().remove_older(prefix, before)

    def restart_lifetimes(self, now: float) -> None:
        with Batch(self):
            super().restart_lifetimes(now)


def _render(entries: dict[str, Entry]) -> bytes:
    body = ",\n".join([entry.json_line or _render_line(key, entry) for key, entry in entries.items()])
    return f'{{"format": "{_FORMAT}", "version": {_VERSION}, "entries": [\n{body}\n]}}\n'.encode("ascii")


def _render_line(key: str, entry: Entry) -> str:
    if isinstance(entry.payload, str):
        payload = f'"value": {entry.payload}'
    else:
        payload = f'"pickle": "{b64encode(entry.payload).decode("ascii")}"'
    entry.json_line = (
        f'{{"key": {dumps(encode(key))}, "stored": {dumps(entry.stored)}, "expires": {dumps(entry.expires)}, '
        f'"metadata": {entry.metadata or "null"}, {payload}}}'
    )
    return entry.json_line


def _parse(path: str, data: bytes) -> dict[str, Entry]:
    """Return the entries of a file. Raises `ValueError` if the file is damaged."""
    tree = loads(data.removeprefix(_BYTE_ORDER_MARK).decode())
    if type(tree) is not dict or tree.get("format") != _FORMAT or type(tree.get("version")) is not int:
        raise ValueError("it is not a flowkit state file")
    if tree["version"] > _VERSION:
        raise StateVersionError(path, tree["version"], _VERSION)
    if type(tree.get("entries")) is not list:
        raise ValueError("it has no list of entries")
    entries = {}
    for number, item in enumerate(tree["entries"], 1):
        try:
            key, entry = _parse_entry(item)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"its entry number {number} is malformed") from error
        entries[key] = entry
    return entries


def _parse_entry(item: dict[str, Any]) -> tuple[str, Entry]:
    key = decode(item["key"])
    if type(key) is not str:
        raise TypeError("a key is a text")
    metadata = None if item["metadata"] is None else dumps(item["metadata"])
    payload: str | bytes = b64decode(item["pickle"], validate=True) if "pickle" in item else dumps(item["value"])
    expires = None if item["expires"] is None else _parse_time(item["expires"])
    return key, Entry(payload, _parse_time(item["stored"]), expires, metadata)


def _parse_time(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError("a time is a number")
    if not isfinite(value):  # 1e400
        raise ValueError("a time is finite")
    return float(value)
