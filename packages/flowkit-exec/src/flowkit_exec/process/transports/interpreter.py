"""The command line and the environment of a new interpreter that runs a worker."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from flowkit_exec.process import protocol
from flowkit_exec.process.surroundings import ENVIRONMENT, encode, import_path, nesting_depth

if TYPE_CHECKING:
    from collections.abc import Mapping


def interpreter_command(executable: str, module: str, arguments: tuple[Any, ...]) -> list[str]:
    """Return the command that calls ``main()`` of a module of flowkit in a new interpreter with the same options.

    Args:
        executable: path of the interpreter.
        module: name of the module.
        arguments: arguments of the function, whose ``repr()`` is Python source.
    """
    code = (
        f"import os, sys; sys.path[:] = map(eval, sys.argv[1:]); del sys.argv[1:]; "
        f"del os.environ[{protocol.START_VARIABLE!r}]; from {module} import main; main(*{arguments!r})"
    )
    command = [executable, *subprocess._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]
    command += map(ascii, import_path())  # an argument for each entry: the length of one argument is limited
    return command


def environment_of_worker(env: Mapping[Any, Any], mark: str) -> dict[Any, Any]:
    """Return the environment variables of a worker.

    Args:
        env: variables in addition to those of this process.
        mark: value of the variable `START_VARIABLE`.
    """
    own = {protocol.DEPTH_VARIABLE: str(nesting_depth() + 1), protocol.START_VARIABLE: mark}
    return {**ENVIRONMENT, **env, **{encode(name): encode(value) for name, value in own.items()}}
