"""The line of the main script at which this process first called ``run()``.

Worker processes execute the top-level statements of the script before that line, so every ``run()`` calls
:func:`record_first_run`.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType

_main: Callable[[], ModuleType | None] = lambda: None  # noqa: E731 - the type of a weak reference
_line: int | None = None


def record_first_run() -> None:
    """Record the line that the main script is at, unless it is recorded already.

    The line is recorded once for each ``__main__``: ``runpy`` may execute several scripts in one process.
    """
    global _main, _line
    main = sys.modules.get("__main__")
    if _main() is not main and isinstance(main, type(sys)):
        _line = current_line(main)
        _main = ref(main)


def first_run_line() -> int | None:
    """Return the line at which the main script first called ``run()``; None if the script had ended by then."""
    record_first_run()
    return _line


def current_line(main: ModuleType) -> int | None:
    """Return the line of a script that the main thread executes; None if the script has ended. For any thread.

    Args:
        main: the module ``__main__``.
    """
    threading = sys.modules.get("threading")  # without it, the calling thread is the main thread
    main_thread = get_ident() if threading is None else threading.main_thread().ident
    # _current_frames() also returns frames of other interpreters, and CPython 3.13 crashes when one of these is freed
    is_here = main_thread == get_ident()
    frame: FrameType | None = sys._getframe() if is_here else sys._current_frames().get(main_thread)
    line = None
    while frame is not None:
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            line = frame.f_lineno  # of the outermost frame: the script may call exec()
        frame = frame.f_back
    return line
