"""The store in a JSON file: the entries in memory, and the whole file replaced at every change.

Readers take no lock: a file that is only ever replaced is always whole. Writers take the file's lock, read what others
have written, change it, and replace the file. A batch does that once for many changes.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from flowkit_state.errors import StateFileError, StateVersionError
from flowkit_state.serialization.json_decoder import decode
from flowkit_state.serialization.json_encoder import encode
from flowkit_state.serialization.json_text import dumps, loads
from flowkit_state.storage import atomic_files, syscalls
from flowkit_state.storage.base import Batch, Record
from flowkit_state.storage.memory import MemoryStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any

_FORMAT = "flowkit-state"
_VERSION = 1
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors put one in front of what they save
_ABSENT = (0, 0, 0, 0)


class JSONStore(MemoryStore):
    """Keeps records in the file `path`, an absolute path. Nothing is created before the first change."""

    def __init__(self, path: str, lock_timeout: float) -> None:
        super().__init__()
        self._path = path
        self._file_lock = atomic_files.FileLock(path, lock_timeout)
        self._signature: atomic_files.Signature | None = None  # of the version in memory; None: not known
        self._status: os.stat_result | None = None
        self._tidy = False
        self._refresh()

    def _new_lock(self) -> None:
        super()._new_lock()
        self._signature = None  # in a forked child, and harmless otherwise

    def _refresh(self) -> None:
        if self._depth == 0 and not self._read(locked=False):
            self._lock_file()
            try:
                self._read(locked=True)
            finally:
                self._file_lock.release()

    def _read(self, *, locked: bool) -> bool:
        """Read the file if it has changed. A damaged one is set aside under the lock; without it, returns False."""
        try:
            status = syscalls.stat(self._path)
            if atomic_files.signature(status) == self._signature:
                return True
            self._signature = None
            data, status = atomic_files.read_file(self._path)
        except FileNotFoundError:
            self._entries, self._signature, self._status = {}, _ABSENT, None
            return True
        except OSError as error:
            raise atomic_files.failure(self._path, "read it", error) from error
        try:
            self._entries = _parse(self._path, data)
        except ValueError as error:
            if not locked:
                return False
            self._entries = {}
            atomic_files.set_aside(self._path, "it is empty" if not data else str(error))
            self._signature, self._status = _ABSENT, None
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
        self._signature = None  # until the new version is known to be there
        try:
            if not self._tidy:
                atomic_files.remove_leftovers(self._path)
                self._tidy = True
            status = atomic_files.write_file(self._path, data, self._status)
        except OSError as error:
            raise atomic_files.failure(self._path, "write it", error) from error
        self._signature, self._status = atomic_files.signature(status), status

    def begin(self) -> None:
        self._guard()
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

    def put(self, key: str, record: Record) -> None:
        with Batch(self):
            super().put(key, record)

    def remove(self, key: str) -> bool:
        with Batch(self):
            return super().remove(key)

    def clear(self) -> None:
        with Batch(self):
            super().clear()

    def purge(self, now: float) -> int:
        if not any(record.expired(now) for _, record in self.items()):
            return 0
        with Batch(self):
            return super().purge(now)

    def prune(self, prefix: str, before: float) -> None:
        with Batch(self):
            super().prune(prefix, before)

    def rebase(self, now: float) -> None:
        with Batch(self):
            super().rebase(now)


def _render(entries: dict[str, Record]) -> bytes:
    body = ",\n".join([record.line or _render_line(key, record) for key, record in entries.items()])
    return f'{{"format": "{_FORMAT}", "version": {_VERSION}, "entries": [\n{body}\n]}}\n'.encode("ascii")


def _render_line(key: str, record: Record) -> str:
    if isinstance(record.payload, str):
        payload = f'"value": {record.payload}'
    else:
        payload = f'"pickle": "{b64encode(record.payload).decode("ascii")}"'
    record.line = (
        f'{{"key": {dumps(encode(key))}, "stored": {dumps(record.stored)}, "expires": {dumps(record.expires)}, '
        f'"metadata": {record.metadata or "null"}, {payload}}}'
    )
    return record.line


def _parse(path: str, data: bytes) -> dict[str, Record]:
    """Return the entries of a file. Raises `ValueError` where it is damaged."""
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
            key, record = _entry(item)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"its entry number {number} is malformed") from error
        entries[key] = record
    return entries


def _entry(item: dict[str, Any]) -> tuple[str, Record]:
    key = decode(item["key"])
    if type(key) is not str:
        raise TypeError("a key is a text")
    metadata = None if item["metadata"] is None else dumps(item["metadata"])
    payload: str | bytes = b64decode(item["pickle"], validate=True) if "pickle" in item else dumps(item["value"])
    expires = None if item["expires"] is None else _number(item["expires"])
    return key, Record(payload, _number(item["stored"]), expires, metadata)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError("a time is a number")
    return float(value)
