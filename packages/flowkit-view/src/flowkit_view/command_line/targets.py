"""Function `load_pipeline`: finds the pipeline that the argument `module:name` denotes."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from flowkit_core import Pipeline
from flowkit_core._text import did_you_mean

from .usage_error import UsageError

if TYPE_CHECKING:
    from types import ModuleType


def load_pipeline(target: str, path: str | None = None) -> Pipeline:
    """Import a module, and return a pipeline of it.

    Args:
        target: `module:name`, or only the module if it has one pipeline. The module is the name of a module or the path
            of its file; the name may be that of a function without parameters that returns the pipeline.
        path: folder in which modules are searched first; None means the current folder.

    Raises:
        UsageError: there is no such module, or no such pipeline in it.
        Exception: whatever the module raises.
    """
    module_name, _, name = target.partition(":")
    module = _import(module_name, path)
    if not name:
        return _only_pipeline(module, module_name)
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            pipelines = [each for each, value in vars(module).items() if isinstance(value, Pipeline)]
            guess = did_you_mean(name, pipelines) or _listed(pipelines)
            raise UsageError(f"module {module_name!r} has no {name!r}{guess}")
        found = getattr(found, part)
    if not isinstance(found, Pipeline) and callable(found) and not hasattr(found, "with_options"):
        found = found()
    if not isinstance(found, Pipeline):
        raise UsageError(f"{target!r} is of type {type(found).__name__}, and not a pipeline, such as a DAG or a Flow")
    return found


def _listed(names: list[str]) -> str:
    return f"; its pipelines are: {', '.join(names)}" if names else ", and no pipeline at its top level"


def _only_pipeline(module: ModuleType, module_name: str) -> Pipeline:
    found = {name: value for name, value in vars(module).items() if isinstance(value, Pipeline)}
    distinct = {id(value): value for value in found.values()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    if not found:
        raise UsageError(
            f"module {module_name!r} has no pipeline at its top level: write {module_name}:name, where name is a "
            f"pipeline, or a function that returns one"
        )
    example = f"{module_name}:{next(iter(found))}"
    raise UsageError(
        f"module {module_name!r} has {len(distinct)} pipelines: write one, as in {example}; "
        f"there are: {', '.join(found)}"
    )


def _import(module_name: str, path: str | None) -> ModuleType:
    folder = os.path.abspath(path or os.getcwd())
    if path is not None and not os.path.isdir(folder):
        raise UsageError(f"--path {path!r} is not a folder")
    file = None
    if module_name.endswith(".py"):
        file = os.path.join(folder, module_name)
        if not os.path.isfile(file):
            raise UsageError(f"there is no file {module_name!r}{'' if path is None else f' in {path!r}'}")
        folder, base = os.path.split(os.path.abspath(file))
        module_name = base.removesuffix(".py")
    if not module_name or not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(f"{module_name!r} is not the name of a module: write module:name, as in etl:dag")
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        place = f"{error.name.replace('.', os.sep)}.py"
        raise UsageError(f"no module {module_name!r}: run it where {place} is, or give --path") from None
    origin = getattr(module, "__file__", None)
    if file is not None and (origin is None or not os.path.samefile(origin, file)):
        raise UsageError(
            f"the module {module_name!r} is imported from {origin or 'Python itself'}, and not from {file}: "
            f"rename the file"
        )
    return module
