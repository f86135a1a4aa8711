"""Every exception of flowkit-state, in one place. All derive from `StateError`, most also from a familiar builtin."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any


_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, surrogates, separators of lines and paragraphs
_JOINERS = "\u200c\u200d"  # Persian and emoji need them


def plain(text: str) -> str:
    r"""Return a text on one line, with nothing that drives a terminal: what would is escaped, as ``\n`` or ``\x1b``."""
    if text.isprintable():
        return text
    from unicodedata import category

    return "".join(
        char.encode("unicode_escape").decode() if category(char) in _OBEYED and char not in _JOINERS else char
        for char in text
    )


def shown(value: object, limit: int = 80) -> str:
    """Return a short `repr` that never raises, for use in a message."""
    try:
        text = repr(value)
    except Exception:
        text = f"<unprintable {type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 20]}...{text[-16:]}"


class StateError(Exception):
    """The root of everything flowkit-state raises: `except StateError` catches all of it.

    The facts of each error are attributes as well as words in its message, and every error survives pickling.
    """

    def __init__(self, *facts: Any) -> None:
        self.args = self._facts = facts  # not super().__init__(): OSError would read its own meaning into them

    def __str__(self) -> str:
        return plain(self._sentence())

    def _sentence(self) -> str:
        return " ".join(map(str, self.args))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._facts


class StateOptionError(StateError, ValueError):
    """An option has a value that cannot be meant: a negative ttl, a file name with an unknown suffix.

    Attributes: `option` (its name), `value` (what was given), `allowed` (what would do).
    """

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(option, value, allowed)
        self.option, self.value, self.allowed = option, value, allowed

    def _sentence(self) -> str:
        return f"{self.option} is {shown(self.value)}, but must be {self.allowed}."


class StateOptionTypeError(StateError, TypeError):
    """An option, a key or a decorated object has the wrong type.

    Attributes: `option` (its name), `value` (what was given), `allowed` (what would do).
    """

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(option, value, allowed)
        self.option, self.value, self.allowed = option, value, allowed

    def _sentence(self) -> str:
        return f"{self.option} is {shown(self.value)}, a {type(self.value).__name__}, but must be {self.allowed}."


class CacheKeyError(StateError, TypeError):
    """The `key` function of a `TaskCache` does not take the arguments of the function whose results are kept.

    Raised where the key function is passed, or by a call that it does not fit.

    Attributes: `name` (of the task or function), `asks` (parameters of the key function, such as `"(query)"`), `takes`
    (parameters of the function, such as `"(connection, query)"`), `reason` (why they do not fit). All are `str`.
    """

    def __init__(self, name: str, asks: str, takes: str, reason: str) -> None:
        super().__init__(name, asks, takes, reason)
        self.name, self.asks, self.takes, self.reason = name, asks, takes, reason

    def _sentence(self) -> str:
        return (
            f"TaskCache(key=...) of {self.name!r}: the key function takes {self.asks}, but is called with the "
            f"arguments of {self.name}{self.takes}: {self.reason}. Give it the parameters {self.takes}, and return "
            f"those that identify the result."
        )


class UnsupportedValueError(StateError, TypeError):
    """A value cannot be kept so that it comes back as it was, so nothing was stored.

    Attributes: `key`, `path` (where inside the value, such as `value["rows"][3]`), `type_name`, `reason`, `hint`.
    """

    def __init__(self, key: str | None, path: str, type_name: str, reason: str, hint: str) -> None:
        super().__init__(key, path, type_name, reason, hint)
        self.key, self.path, self.type_name, self.reason, self.hint = key, path, type_name, reason, hint

    def _sentence(self) -> str:
        subject = "cannot keep this value" if self.key is None else f"cannot keep the value of key {shown(self.key)}"
        return f"{subject}: {self.path} is of type {self.type_name}, {self.reason}. {self.hint}"


class RestoreError(StateError, ValueError):
    """A stored value cannot be brought back here: its class is not imported or has changed, or the entry is damaged.

    Attributes: `key`, `reason`, and `task`, the name of the task, where it is the recorded result of one.
    """

    def __init__(self, key: str | None, reason: str, task: str | None = None) -> None:
        super().__init__(key, reason, task)
        self.key, self.reason, self.task = key, reason, task

    def _sentence(self) -> str:
        subject = "a value" if self.key is None else f"the value of key {shown(self.key)}"
        if self.task is not None:
            subject = f"the result of task {shown(self.task)}"
        return f"cannot restore {subject}: {self.reason}"


class StateClosedError(StateError, ValueError):
    """The `StateManager` was used after its `close()` (or after its `with` block).

    Attributes: `location` (the path of the file, or `None` for a store in memory).
    """

    def __init__(self, location: str | None) -> None:
        super().__init__(location)
        self.location = location

    def _sentence(self) -> str:
        place = "in memory" if self.location is None else f"over {self.location}"
        return f"this StateManager {place} is closed; make a new one, or use it before close()."


class StateFileError(StateError, OSError):
    """The file behind a `StateManager` cannot be read or written. What it held is untouched.

    Attributes: `path`, `reason`, and `errno` where the operating system gave one.
    """

    def __init__(self, path: str, reason: str, errno: int | None = None) -> None:
        super().__init__(path, reason, errno)
        self.path, self.reason, self.errno = path, reason, errno
        self.filename, self.strerror = path, reason

    def _sentence(self) -> str:
        return f"state file {self.path}: {self.reason}"


class StateLockedError(StateFileError, TimeoutError):
    """Another thread or process kept the file locked for longer than `lock_timeout` seconds. Nothing was changed."""


class StateVersionError(StateFileError):
    """The file was written by a newer flowkit-state than this one. It is left untouched.

    Attributes: `path`, `found` (the version of the file), `supported` (the newest this flowkit-state knows).
    """

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(
            path,
            f"it has format version {found}, and this flowkit-state knows versions up to {supported}; "
            "update flowkit-state, or use another file.",
        )
        self.found, self.supported = found, supported
        self._facts = (path, found, supported)


class UntrustedPickleError(StateFileError, PermissionError):
    """A pickle was not loaded, because another user could have written it: loading a pickle can run any code."""


class DamagedStateWarning(UserWarning):
    """A damaged state file was set aside under a new name, and the store starts empty. The message names both."""


class ResumeError(StateError, ValueError):
    """A run cannot be resumed, because the pipeline is not the same any more. What was recorded is untouched.

    Attributes: `run_id`, `pipeline`, `added`, `removed` and `rewired` (names of tasks), `changed` (task -> what has
    changed in it, such as `("function etl.clean has changed",)`), `params` (names of run parameters whose values
    differ), `keeps` (how many of the recorded tasks `resume="force"` would take over), `recorded` (of how many).
    """

    def __init__(
        self,
        run_id: str,
        pipeline: str,
        added: Sequence[str],
        removed: Sequence[str],
        rewired: Sequence[str],
        changed: dict[str, tuple[str, ...]],
        params: Sequence[str],
        keeps: int,
        recorded: int,
    ) -> None:
        super().__init__(run_id, pipeline, added, removed, rewired, changed, params, keeps, recorded)
        self.run_id, self.pipeline, self.changed = run_id, pipeline, changed
        self.added, self.removed, self.rewired, self.params = map(tuple, (added, removed, rewired, params))
        self.keeps, self.recorded = keeps, recorded

    def _sentence(self) -> str:
        news = [
            f"{what}: {listed([shown(name) for name in names])}"
            for what, names in (
                ("tasks added", self.added),
                ("tasks removed", self.removed),
                ("tasks wired to others than before", self.rewired),
                ("run parameters with other values", self.params),
            )
            if names
        ]
        news += [f"task {shown(name)}: {listed(whys)}" for name, whys in list(self.changed.items())[:8]]
        if len(self.changed) > 8:
            news.append(f"and {len(self.changed) - 8} more tasks have changed")
        fits = (
            f"{self.keeps} of the {self.recorded} recorded tasks"
            if self.recorded
            else "nothing, as nothing is recorded"
        )
        return (
            f"run {self.run_id} of {shown(self.pipeline)} cannot be resumed, because the pipeline has changed ("
            f'{"; ".join(news)}). Undo that; or take over what still fits ({fits}) with run(resume="force"); or start '
            "anew with resume=False."
        )


class RunInUseError(StateError, RuntimeError):
    """A process that is alive has the run, so no other may go on with it.

    Attributes: `run_id`, `pipeline`, `pid` (its process id), `started` (when that process started, a datetime in UTC),
    `host` (the name of its machine).
    """

    def __init__(self, run_id: str, pipeline: str, pid: int, started: datetime, host: str) -> None:
        super().__init__(run_id, pipeline, pid, started, host)
        self.run_id, self.pipeline, self.pid, self.started, self.host = run_id, pipeline, pid, started, host

    def _sentence(self) -> str:
        when = f"{self.started:%Y-%m-%d %H:%M:%S} UTC"
        return (
            f"run {self.run_id} of {shown(self.pipeline)} is in the hands of process {self.pid} on {shown(self.host)}, "
            f"started {when}: wait until it ends, or end it; if it is gone, and cannot be seen from here, release the "
            f"run with StateManager.release({self.run_id!r})."
        )


class UnknownRunError(StateError, KeyError):
    """There is no record of that run.

    Attributes: `run_id`, `location` (the path of the file, or `None` for a store in memory).
    """

    def __init__(self, run_id: str, location: str | None) -> None:
        super().__init__(run_id, location)
        self.run_id, self.location = run_id, location

    def _sentence(self) -> str:
        place = "in memory" if self.location is None else f"in {self.location}"
        return f"there is no run {shown(self.run_id)} {place}; state.runs() lists those there are."


def listed(words: Sequence[str], most: int = 6) -> str:
    """Return a list in words, of the first so many."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
