"""Function `parse_parameters`: converts the texts of `-p name=value` by the annotations of the parameters."""

from __future__ import annotations

import collections.abc
import enum
import json
import types
import typing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowkit_core._text import did_you_mean

from .usage_error import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from flowkit_core import Pipeline
    from flowkit_core.checking import OpenParameter

_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_SIMPLE: dict[type, typing.Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    complex: complex,
    Decimal: Decimal,
    Fraction: Fraction,
    UUID: UUID,
    Path: Path,
    PurePath: PurePath,
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
    time: time.fromisoformat,
    bytes: str.encode,
}
_COLLECTIONS: dict[Any, type] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
}
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def parse_parameters(pipeline: Pipeline, texts: Iterable[str], recorded: Collection[str] = ()) -> dict[str, Any]:
    """Return the parameters of a run.

    Args:
        pipeline: the pipeline; its open parameters have the annotations.
        texts: `name=value`, or `task.name=value` for one task.
        recorded: names of parameters that have a recorded value, so that they may be missing.

    Raises:
        UsageError: a text is not of that form, no task takes the parameter, its value cannot be converted, or a
            parameter without a default is missing.
        FlowkitError: the graph of the pipeline cannot be built.
    """
    known = pipeline.parameters
    params: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"-p {text!r} is not of the form name=value")
        task, _, plain = name.rpartition(".")
        parameter = known.get(plain)
        if parameter is None or (task and task not in parameter.tasks):
            guess = did_you_mean(name, known) or _listed(known)
            raise UsageError(f"-p {text!r}: no task of {pipeline.name!r} takes a parameter {name!r}{guess}")
        if name in params:
            raise UsageError(f"-p {name!r} is given twice")
        is_mapped = bool(parameter.mapped) if not task else task in parameter.mapped
        params[name] = _convert_parameter(name, value, parameter, is_mapped=is_mapped)
    for name, parameter in known.items():
        missing = [task for task in parameter.tasks if f"{task}.{name}" not in {*params, *recorded}]
        if parameter.required and name not in {*params, *recorded} and missing:
            raise UsageError(
                f"the parameter {name!r} is missing, which {missing[0]!r} takes: give -p {name}={_example(parameter)}"
            )
    return params


def _example(parameter: OpenParameter) -> str:
    return "a,b,..." if parameter.mapped else "..."


def _listed(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"; its parameters are: {listed}" if listed else "; it has no parameters"


def _convert_parameter(name: str, text: str, parameter: OpenParameter, *, is_mapped: bool) -> Any:
    """Return the value of a parameter; of a mapped one, a list of elements, which have the annotation."""
    annotation, default = parameter.annotation, parameter.default
    if is_mapped and annotation is None and isinstance(default, (list, tuple)) and default:
        annotation = _common_type(default)
    elif annotation is None and not parameter.required and default is not None and not is_mapped:
        annotation = _type_of(default)
    try:
        return _convert_collection(text, list, (annotation,)) if is_mapped else convert(text, annotation)
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:
        if isinstance(error, UnsupportedAnnotationError):
            raise UsageError(f"-p {name}={text!r} cannot be converted: {error}") from None
        kind = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
        if is_mapped:
            what = f"is not a list of {kind or annotation or 'values'}, over which {parameter.mapped[0]!r} is mapped"
            raise UsageError(f"-p {name}={text!r} {what}: {error}; write a,b or JSON, [1, 2]") from None
        raise UsageError(f"-p {name}={text!r} is not of type {kind or annotation}: {error}") from None


def _type_of(default: Any) -> Any:
    """Return the type of a default; of a collection also that of its items, such as `list[float]`."""
    kind: Any = type(default)
    if kind not in (list, tuple, set, frozenset, dict):
        return kind
    found: list[Any] = [_common_type(default), *([_common_type(default.values())] if kind is dict else [])]
    if None in found:
        return kind
    return kind[*found, ...] if kind is tuple else kind[*found]


def _common_type(items: Iterable[Any]) -> Any:
    """Return the type of items that a text can be converted to; None if they have no common one."""
    kinds = {type(item) for item in items}
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 and kinds <= {bool, timedelta, *_SIMPLE} else None


class UnsupportedAnnotationError(TypeError):
    """There is no rule that converts a text to values of this annotation."""


def convert(text: str, annotation: Any) -> Any:
    """Return the value of a text.

    Args:
        text: the text. For a list, a tuple, a set or a dict it is JSON; a list may also be `a,b,c`.
        annotation: the type of the value; a text, None, `Any` and `object` mean that it stays a text.

    Raises:
        ValueError, ArithmeticError, LookupError: the text has no such value.
        UnsupportedAnnotationError: texts cannot be converted to this type.

    Examples:
        >>> convert("3", int), convert("2026-11-29", date), convert("a,b", list[str]), convert("none", int | None)
        (3, datetime.date(2026, 11, 29), ['a', 'b'], None)
    """
    annotation = _without_markers(annotation)
    if annotation is None or annotation in (Any, object) or isinstance(annotation, (str, typing.TypeVar)):
        return text
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(text, arguments)
    if origin is typing.Literal:
        return _convert_literal(text, arguments)
    kind = origin or annotation
    if kind is bool:
        if text.lower() not in _SWITCHES:
            raise ValueError(f"write one of {', '.join(_SWITCHES)}")
        return _SWITCHES[text.lower()]
    if kind is timedelta:
        return timedelta(seconds=parse_seconds(text))
    if kind in _SIMPLE:
        return _SIMPLE[kind](text)
    if kind in _COLLECTIONS:
        return _convert_collection(text, kind, arguments)
    if kind in _MAPPINGS:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError('write JSON, as in {"key": 1}')
        key_type, item_type = arguments if len(arguments) == 2 else (None, None)
        return {_convert_item(key, key_type): _convert_item(item, item_type) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _convert_enum(text, kind)
    raise UnsupportedAnnotationError(
        f"{annotation!r} has no text form; run the pipeline from Python, with run(params=...)"
    )


def parse_seconds(text: str) -> float:
    """Return the seconds of a duration such as `90`, `1.5h` or `7d`.

    Raises:
        ValueError: the text is not a duration.

    Examples:
        >>> parse_seconds("90"), parse_seconds("1.5h"), parse_seconds("7d")
        (90.0, 5400.0, 604800.0)
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{text!r} is not a duration: write seconds, or a number with a unit, as in 90s, 15m, 12h, 7d")
    return seconds


def parse_age(text: str) -> float:
    """Return the seconds of a duration with a unit, such as `90s` or `7d`.

    Raises:
        ValueError: the text is not a duration, or has no unit.

    Examples:
        >>> parse_age("7d")
        604800.0
    """
    seconds = parse_seconds(text)
    if seconds and text[-1:] not in "smhdw":
        raise ValueError(f"{text!r} has no unit: write {text}d for days, {text}h for hours, or {text}s for seconds")
    return seconds


def _without_markers(annotation: Any) -> Any:
    while typing.get_origin(annotation) in (typing.Annotated, typing.Final):
        annotation = typing.get_args(annotation)[0]
    if hasattr(annotation, "__supertype__"):  # a NewType
        return _without_markers(annotation.__supertype__)
    return annotation


def _convert_union(text: str, arguments: tuple[Any, ...]) -> Any:
    """Convert to the first member that accepts the text, and to `str` last, because it accepts all."""
    if type(None) in arguments and text.lower() in ("none", "null", ""):
        return None
    members = sorted((each for each in arguments if each is not type(None)), key=lambda member: member is str)
    errors = []
    for member in members:
        try:
            return convert(text, member)
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            errors.append(str(error))
    raise ValueError("; ".join(dict.fromkeys(errors)))


def _convert_literal(text: str, arguments: tuple[Any, ...]) -> Any:
    for value in arguments:
        if str(value) == text:
            return value
    raise ValueError(f"it must be one of {', '.join(map(str, arguments))}")


def _convert_enum(text: str, kind: type[enum.Enum]) -> Any:
    if text in kind.__members__:
        return kind[text]
    for member in kind:
        if str(member.value) == text:
            return member
    raise ValueError(f"it must be one of {', '.join(kind.__members__)}")


def _convert_collection(text: str, kind: Any, arguments: tuple[Any, ...]) -> Any:
    if text.lstrip().startswith("["):
        items = json.loads(text)
        if not isinstance(items, list):
            raise ValueError("write a JSON list")
    else:
        items = text.split(",") if text else []
    of_each = [each for each in arguments if each is not Ellipsis]
    if kind is tuple and len(of_each) > 1 and Ellipsis not in arguments:
        if len(items) != len(of_each):
            raise ValueError(f"it has {len(items)} items, and must have {len(of_each)}")
        return tuple(_convert_item(item, each) for item, each in zip(items, of_each, strict=True))
    member = of_each[0] if of_each else None
    return _COLLECTIONS[kind](_convert_item(item, member) for item in items)


def _convert_item(item: Any, annotation: Any) -> Any:
    """Convert an item of a collection: a text as above, and a number of JSON as it is written."""
    if annotation in (None, Any, object):
        return item
    return convert(item if isinstance(item, str) else json.dumps(item), annotation)
