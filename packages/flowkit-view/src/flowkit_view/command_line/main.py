"""Function `main`: the entry point of the command `flowkit`."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

from flowkit_core import FlowkitError
from flowkit_core._text import escape_control_chars
from flowkit_state import StateError, StateFileError, StateOptionError, StateOptionTypeError, UnknownRunError

from .exit_codes import FAILED, INTERRUPTED, SUCCEEDED, USAGE
from .output import write_output
from .parser import make_parser
from .usage_error import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

_WRONG_ARGUMENTS = (UsageError, UnknownRunError, StateFileError, StateOptionError, StateOptionTypeError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Call a command, and return its exit code: 0 it succeeded, 1 it failed, 2 wrong arguments, 130 interrupted.

    Args:
        arguments: the command and its options; None means those of the process.

    Raises:
        SystemExit: the arguments cannot be parsed (code 2), or help was printed (code 0).

    Examples:
        >>> main(["runs", "missing.db"])
        2
    """
    _open_closed_streams()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser(_completion).parse_args(arguments)
    options.arguments = arguments
    try:
        code: int = options.function(options)
    except _WRONG_ARGUMENTS as error:
        return _fail(options, error, USAGE)
    except (FlowkitError, StateError) as error:
        return _fail(options, error, FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("flowkit: interrupted\n")
        return INTERRUPTED
    except (Exception, SystemExit):  # raised by the module of the pipeline
        traceback.print_exc()
        return FAILED
    finally:
        write_output("")  # what tasks have printed, too
    return code


def _open_closed_streams() -> None:
    """Drop what is written to standard output or standard error if the calling process has closed it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends


def _fail(options: Namespace, error: Exception, code: int) -> int:
    message = str(error.args[0]) if isinstance(error, UsageError) else str(error)
    lines = "\n".join(escape_control_chars(line) for line in message.split("\n"))
    sys.stderr.write(f"flowkit {options.command}: {lines}\n")
    return code


def _completion(options: Namespace) -> int:
    """Print a script that completes the commands and options of flowkit in a shell."""
    import shtab

    write_output(shtab.complete(make_parser(_completion), options.shell) + "\n")
    return SUCCEEDED
