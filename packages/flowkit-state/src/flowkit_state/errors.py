"""Every exception of flowkit-state. All derive from `StateError`, most also from a builtin exception."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any


# The core has the same functions; neither distribution imports the other.

_UNSAFE_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogate, line and paragraph separator
_JOINERS = "\u200c\u200d"  # format characters that Persian and emoji need


def escape_control_chars(text: str) -> str:
    r"""Return `text` on one line, with all characters that control a terminal escaped, as ``\n`` or ``\x1b``."""
    if text.isprintable():
        return text
    from unicodedata import category

    return "".join(
        char.encode("unicode_escape").decode()
        if category(char) in _UNSAFE_CATEGORIES and char not in _JOINERS
        else char
        for char in text
    )


def short_repr(value: object, limit: int = 80) -> str:
    """Return a `repr` for messages: it never raises and is cut to about `limit` characters."""
    try:
        text = repr(value)
    except Exception:
        text = f"<unprintable {type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 20]}...{text[-16:]}"


def comma_list(words: Sequence[str], limit: int = 6) -> str:
    """Return the first words, separated by commas, and the number of the others."""
    return ", ".join(words[:limit]) + (f" and {len(words) - limit} more" if len(words) > limit else "")


class StateError(Exception):
    """Base class of every exception of flowkit-state.

    The facts of an error are attributes as well as part of its message, and every error can be pickled.
    """

    def __init__(self, *facts: Any) -> None:
        self.args = self._facts = facts  # not super().__init__(), because OSError interprets its arguments

    def __str__(self) -> str:
        return escape_control_chars(self._message())

    def _message(self) -> str:
        return " ".join(map(str, self.args))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._facts


class StateOptionError(StateError, ValueError):
    """An option has an invalid value, such as a negative ttl or a file name with an unknown suffix.

    Attributes: `option` (its name), `value` (the invalid value), `allowed` (a description of valid values).
    """

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(option, value, allowed)
        self.option, self.value, self.allowed = option, value, allowed

    def _message(self) -> str:
        return f"{self.option} is {short_repr(self.value)}, but must be {self.allowed}."


class StateOptionTypeError(StateError, TypeError):
    """An option, a key or a decorated object has the wrong type.

    Attributes: `option` (its name), `value` (the invalid value), `allowed` (a description of valid values).
    """

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(option, value, allowed)
        self.option, self.value, self.allowed = option, value, allowed

    def _message(self) -> str:
        return f"{self.option} is {short_repr(self.value)}, a {type(self.value).__name__}, but must be {self.allowed}."


class CacheKeyError(StateError, TypeError):
    """The `key` function of a `TaskCache` does not accept the arguments of the cached function.

    Raised by `TaskCache` and `@task` if no call fits, else by a call that does not fit.

    Attributes: `name` (of the task or function), `asks` (parameters of the key function, such as `"(query)"`), `takes`
    (parameters of the function, such as `"(connection, query)"`), `reason` (why they do not fit). All are `str`.

    >>> from flowkit_state import CacheKeyError, TaskCache
    >>> def ask(connection, query): return connection.execute(query)
    >>> try:
    ...     TaskCache(key=lambda query: query)(ask)
    ... except CacheKeyError as error:
    ...     print(error.name, error.asks, error.takes)
    ask (query) (connection, query)
    """

    def __init__(self, name: str, asks: str, takes: str, reason: str) -> None:
        """Create the error from its attributes."""
        super().__init__(name, asks, takes, reason)
        self.name, self.asks, self.takes, self.reason = name, asks, takes, reason

    def _message(self) -> str:
        return (
            f"TaskCache(key=...) of {self.name!r}: the key function takes {self.asks}, but is called with the "
            f"arguments of {self.name}{self.takes}: {self.reason}. Give it the parameters {self.takes}, and return "
            f"those that identify the result."
        )


class UnsupportedValueError(StateError, TypeError):
    """A value cannot be stored because it could not be restored exactly. Nothing was stored.

    Attributes: `key`, `path` (the position inside the value, such as `value["rows"][3]`), `type_name`, `reason`,
    `hint`.
    """

    def __init__(self, key: str | None, path: str, type_name: str, reason: str, hint: str) -> None:
        super().__init__(key, path, type_name, reason, hint)
        self.key, self.path, self.type_name, self.reason, self.hint = key, path, type_name, reason, hint

    def _message(self) -> str:
        subject = "this value" if self.key is None else f"the value of key {short_repr(self.key)}"
        return f"cannot store {subject}: {self.path} is of type {self.type_name}, {self.reason}. {self.hint}"


class ValueTooLargeError(StateError, ValueError):
    """A value alone is larger than the `max_bytes` of its `StateManager`. Nothing was stored.

    Attributes: `key`, `size` (of the key, the value and its metadata as they would be stored, in bytes), `limit` (the
    maximum, in bytes).

    >>> from flowkit_state import StateManager, ValueTooLargeError
    >>> try:
    ...     StateManager(max_bytes=1000).set("page", "x" * 2000)
    ... except ValueTooLargeError as error:
    ...     print(error.key, error.size, error.limit)
    page 2006 1000
    """

    def __init__(self, key: str, size: int, limit: int) -> None:
        """Create the error from its attributes."""
        super().__init__(key, size, limit)
        self.key, self.size, self.limit = key, size, limit

    def _message(self) -> str:
        return (
            f"cannot store the value of key {short_repr(self.key)}: it takes {self.size:,} bytes, and the StateManager "
            f"stores at most {self.limit:,} in all; increase max_bytes, or store the value in a file of its own, and "
            "its path here."
        )


class MissingKeyError(StateError, KeyError):
    """`state[key]` or `del state[key]`, and there is no entry under this key, or it has expired.

    Attributes: `key`, `location` (the path of the file, or `None` for a store in memory).

    >>> from flowkit_state import MissingKeyError, StateManager
    >>> try:
    ...     StateManager()["page"]
    ... except MissingKeyError as error:
    ...     print(error)
    there is no value under the key 'page' in memory, or it has expired; get('page') returns a default instead.
    """

    def __init__(self, key: str, location: str | None) -> None:
        """Create the error from its attributes."""
        super().__init__(key, location)
        self.key, self.location = key, location

    def _message(self) -> str:
        location = "in memory" if self.location is None else f"in {self.location}"
        key = short_repr(self.key)
        return (
            f"there is no value under the key {key} {location}, or it has expired; get({key}) returns a default "
            "instead."
        )


class RestoreError(StateError, ValueError):
    """A stored value cannot be restored: its class is not imported or has changed, or the entry is damaged.

    Attributes: `key`, `reason`, `task`, the name of the task if the value is its recorded result, `path`, the file
    (`None` for a store in memory), and `damaged`, whether stored bytes are damaged or missing.
    """

    def __init__(
        self, key: str | None, reason: str, task: str | None = None, path: str | None = None, damaged: bool = False
    ) -> None:
        super().__init__(key, reason, task, path, damaged)
        self.key, self.reason, self.task, self.path, self.damaged = key, reason, task, path, damaged

    def _message(self) -> str:
        subject = "a value" if self.key is None else f"the value of key {short_repr(self.key)}"
        if self.task is not None:
            subject = f"the result of task {short_repr(self.task)}"
        location = "" if self.path is None else f" in {self.path}"
        return f"cannot restore {subject}{location}: {self.reason}"


class StateClosedError(StateError, ValueError):
    """The `StateManager` was used after its `close()` or after its `with` block.

    Attributes: `location` (the path of the file, or `None` for a store in memory).
    """

    def __init__(self, location: str | None) -> None:
        super().__init__(location)
        self.location = location

    def _message(self) -> str:
        location = "in memory" if self.location is None else f"over {self.location}"
        return f"this StateManager {location} is closed; use it before close(), or create another one."


class StateFileError(StateError, OSError):
    """The file of a `StateManager` cannot be read or written. Its contents are unchanged.

    Attributes: `path`, `reason`, and `errno` if the operating system reported one.
    """

    def __init__(self, path: str, reason: str, errno: int | None = None) -> None:
        super().__init__(path, reason, errno)
        self.path, self.reason, self.errno = path, reason, errno
        self.filename, self.strerror = path, reason

    def _message(self) -> str:
        return f"state file {self.path}: {self.reason}"


class StateLockedError(StateFileError, TimeoutError):
    """Another thread or process held the lock of the file for more than `lock_timeout` seconds. Nothing was changed."""


class StateVersionError(StateFileError):
    """The file was written by a newer version of flowkit-state. It is unchanged.

    Attributes: `path`, `found` (the format version of the file), `supported` (the newest supported format version).
    """

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(
            path,
            f"it has format version {found}, and this flowkit-state supports versions up to {supported}; "
            "update flowkit-state, or use another file.",
        )
        self.found, self.supported = found, supported
        self._facts = (path, found, supported)


class UntrustedPickleError(StateFileError, PermissionError):
    """A pickle was not loaded because another user could have written it: loading a pickle can run any code."""


class DamagedStateWarning(UserWarning):
    """A damaged state file was renamed, and the store starts empty. The message contains both names."""


class ResumeError(StateError, ValueError):
    """`resume="strict"`, and the pipeline has changed since the run that would be resumed. Its record is unchanged.

    Attributes: `run_id`, `pipeline`, `added`, `removed` and `rewired` (names of tasks), `changed` (task -> what has
    changed in it, such as `("function etl.clean has changed",)`), `keeps` (number of recorded tasks that `resume=True`
    would not run again), `recorded` (number of recorded tasks).
    """

    def __init__(
        self,
        run_id: str,
        pipeline: str,
        added: Sequence[str],
        removed: Sequence[str],
        rewired: Sequence[str],
        changed: dict[str, tuple[str, ...]],
        keeps: int,
        recorded: int,
    ) -> None:
        super().__init__(run_id, pipeline, added, removed, rewired, changed, keeps, recorded)
        self.run_id, self.pipeline, self.changed = run_id, pipeline, changed
        self.added, self.removed, self.rewired = map(tuple, (added, removed, rewired))
        self.keeps, self.recorded = keeps, recorded

    def _message(self) -> str:
        changes = [
            f"{label}: {comma_list([short_repr(name) for name in names])}"
            for label, names in (
                ("tasks added", self.added),
                ("tasks removed", self.removed),
                ("tasks with other upstreams or another trigger", self.rewired),
            )
            if names
        ]
        changes += [f"task {short_repr(name)}: {comma_list(parts)}" for name, parts in list(self.changed.items())[:8]]
        if len(self.changed) > 8:
            changes.append(f"and {len(self.changed) - 8} more tasks have changed")
        return (
            f"run {self.run_id} of {short_repr(self.pipeline)} cannot be resumed, because the pipeline has changed "
            f"({'; '.join(changes)}). Undo the change; or run again what has changed and what depends on it, and use "
            f"the other results ({self.keeps} of {self.recorded} are up to date), with run(resume=True); or use every "
            'recorded result with run(resume="force"); or start a new run with resume=False.'
        )


class RunInUseError(StateError, RuntimeError):
    """The run belongs to a live process, so no other process may continue it.

    Attributes: `run_id`, `pipeline`, `pid` (the process id), `started` (when that process started, a datetime in UTC),
    `host` (the name of its machine).
    """

    def __init__(self, run_id: str, pipeline: str, pid: int, started: datetime, host: str) -> None:
        super().__init__(run_id, pipeline, pid, started, host)
        self.run_id, self.pipeline, self.pid, self.started, self.host = run_id, pipeline, pid, started, host

    def _message(self) -> str:
        return (
            f"run {self.run_id} of {short_repr(self.pipeline)} is in use by process {self.pid} on "
            f"{short_repr(self.host)} (started {self.started:%Y-%m-%d %H:%M:%S} UTC): wait for it or stop it; if it "
            "has ended on a machine or in a container that is not visible from here, release the run with "
            f"StateManager.release({self.run_id!r})."
        )


class UnknownRunError(StateError, KeyError):
    """There is no run with that id.

    Attributes: `run_id`, `location` (the path of the file, or `None` for a store in memory).
    """

    def __init__(self, run_id: str, location: str | None) -> None:
        super().__init__(run_id, location)
        self.run_id, self.location = run_id, location

    def _message(self) -> str:
        location = "in memory" if self.location is None else f"in {self.location}"
        return f"there is no run {short_repr(self.run_id)} {location}; StateManager.runs() lists the recorded runs."
