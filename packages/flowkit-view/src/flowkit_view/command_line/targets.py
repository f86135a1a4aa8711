"""Functions `load_pipeline` and `load_recorded_pipeline`: the pipeline that `module:name` denotes, or that of a run."""

from __future__ import annotations

import inspect
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from flowkit_core import Pipeline
from flowkit_core._text import did_you_mean
from flowkit_core.pipelines.execution.forbidden_runs import RunDuringImport, runs_forbidden

from .usage_error import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from flowkit_state import RunRecord


def load_recorded_pipeline(record: RunRecord, target: str | None = None, path: str | None = None) -> Pipeline:
    """Return the pipeline of a recorded run.

    Args:
        record: the run.
        target: `module:name`; None means the one that the last execution of the run has recorded.
        path: folder in which modules are searched first; None means the recorded one, or the current folder if that
            does not exist or `target` is given.

    Raises:
        UsageError: there is no such pipeline, or it is not the one of the run.
        Exception: whatever the module raises.
    """
    if target is not None:
        pipeline = load_pipeline(target, path)
        if pipeline.name != record.pipeline:
            raise UsageError(f"run {record.run_id} is one of {record.pipeline!r}, and --target is {pipeline.name!r}")
        return pipeline
    execution = record.executions[-1]
    if execution.target is None:
        raise UsageError(
            f"where the pipeline {record.pipeline!r} of run {record.run_id} was created is not recorded: "
            f"give --target MODULE:NAME"
        )
    folder = execution.folder if path is None and os.path.isdir(execution.folder or "") else path
    try:
        pipeline = load_pipeline(execution.target, folder, record.pipeline)
    except UsageError as error:
        location = f"{execution.target!r} in {execution.folder}"
        raise UsageError(
            f"run {record.run_id} has recorded that its pipeline is {location}; {error}, or give --target MODULE:NAME"
        ) from None
    if pipeline.name != record.pipeline:
        raise UsageError(
            f"{execution.target!r} is the pipeline {pipeline.name!r} now, and run {record.run_id} is one of "
            f"{record.pipeline!r}: give --target MODULE:NAME"
        )
    return pipeline


def load_pipeline(target: str, path: str | None = None, wanted: str | None = None) -> Pipeline:
    """Import a module, and return a pipeline of it.

    Args:
        target: `module:name`, or only the module if it has one pipeline. The module is the name of a module or the path
            of its file; the name may be that of a function without parameters that returns the pipeline.
        path: folder in which modules are searched first; None means the current folder.
        wanted: name of the pipeline that is returned if `target` is only a module, which may then have several.

    Raises:
        UsageError: there is no such module, or no such pipeline in it.
        Exception: whatever the module raises.
    """
    module_name, _, name = target.partition(":")
    module = _import(module_name, path)
    if not name:
        return _only_pipeline(module, module_name, wanted)
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            pipelines = [each for each, value in vars(module).items() if isinstance(value, Pipeline)]
            guess = did_you_mean(name, pipelines) or _listed(pipelines)
            raise UsageError(f"module {module_name!r} has no {name!r}{guess}")
        found = getattr(found, part)
    if not isinstance(found, Pipeline) and callable(found) and not hasattr(found, "with_options"):
        _check_callable(found, target)
        found = found()
    if not isinstance(found, Pipeline):
        raise UsageError(f"{target!r} is of type {type(found).__name__}, and not a pipeline, such as a DAG or a Flow")
    return found


def _listed(names: list[str]) -> str:
    return f"; its pipelines are: {', '.join(names)}" if names else ", and no pipeline at its top level"


def _check_callable(function: Callable[..., object], target: str) -> None:
    """Raise `UsageError` if a function cannot be called without arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    given = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each.name for each in parameters if each.default is each.empty and each.kind not in given]
    if needed:
        raise UsageError(
            f"{target!r} is a function that needs the arguments {', '.join(needed)}, and is called without any: "
            f"assign the pipeline to a variable of the module"
        )


def _only_pipeline(module: ModuleType, module_name: str, wanted: str | None) -> Pipeline:
    found = {name: value for name, value in vars(module).items() if isinstance(value, Pipeline)}
    if wanted is not None:
        found = {name: value for name, value in found.items() if value.name == wanted} or found
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
        with runs_forbidden("a command imports the module only to find its pipeline"):
            module = import_module(module_name)
    except RunDuringImport as error:
        raise UsageError(
            f"importing {module_name!r} runs a pipeline, by the statement at {error.file}:{error.line}, and a command "
            f"imports a module only to find its pipeline: put that statement under if __name__ == '__main__':"
        ) from None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        file = f"{error.name.replace('.', os.sep)}.py"
        raise UsageError(f"no module {module_name!r}: run it where {file} is, or give --path") from None
    origin = getattr(module, "__file__", None)
    if file is not None and (origin is None or not os.path.samefile(origin, file)):
        raise UsageError(
            f"the module {module_name!r} is imported from {origin or 'Python itself'}, and not from {file}: "
            f"rename the file"
        )
    return module
