"""What the result of a call depends on, by label: the function, the code of the project that it reaches, constants.

Each component is a digest of that thing alone: where it refers to another, it has its label. So the answer to "why did
this run again?" is the difference of two dictionaries.
"""

from __future__ import annotations

import sys
from collections import deque
from hashlib import sha256
from types import FunctionType, ModuleType

from flowkit_state.errors import UnsupportedValueError
from flowkit_state.fingerprint.class_members import members
from flowkit_state.fingerprint.code import shape
from flowkit_state.fingerprint.name_resolution import UNSET, Scope, attribute, is_a, public_name, unwrapped
from flowkit_state.fingerprint.provenance import of_code, of_module
from flowkit_state.fingerprint.stdlib_types import is_options
from flowkit_state.fingerprint.values import FIXED, LENIENT, NORMAL, STRICT, Content, first_seen
from flowkit_state.module_names import module_label, named_label
from flowkit_state.serialization.json_text import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from inspect import Signature
    from typing import Any

    from flowkit_state.fingerprint.code import Shape
    from flowkit_state.fingerprint.data_flow import Path
    from flowkit_state.fingerprint.name_resolution import Slot
    from flowkit_state.fingerprint.provenance import Foreign
    from flowkit_state.serialization.serializer_protocol import Serializer

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
FORMAT_LABEL = "fingerprint format"
FORMAT = "2"  # 1 was made from bytecode, and had no such component
_NEVER_CHANGED = (type(None), int, float, str, bytes, tuple, ModuleType, type, FunctionType)
_EMPTY: dict[str, Any] = {"VAR_POSITIONAL": (), "VAR_KEYWORD": {}}
_BY_VERSION = "Give TaskCache(version=...) and change it when that changes, or make it in the function."
_BY_KEY = "Give TaskCache(key=...) a function of what counts."


def digest(*parts: Any) -> str:
    """Return a digest of JSON trees."""
    return sha256(dumps([*parts]).encode()).hexdigest()


class Walk:
    """Collects the components of a function and of what it is called with.

    Args:
        mode: how much of the values counts that the code refers to.
        own: the user's serializers, for values that have no form of their own.

    Attributes:
        missed: what has been counted by its type alone, in words, by label of the component; in the mode `FIXED`.
    """

    def __init__(self, mode: int = NORMAL, own: Sequence[Serializer] = ()) -> None:
        self.missed: dict[str, str] = {}
        self._components: dict[str, str] = {FORMAT_LABEL: FORMAT}
        self._mode = mode
        self._labels: dict[object, str] = {}
        self._taken: dict[str, int] = {}
        self._todo: deque[tuple[str, Any]] = deque()
        self._constants: dict[str, tuple[object, Slot, int]] = {}
        self._inputs: dict[str, tuple[object, object]] = {}
        self._rebound: set[Slot] = set()
        self._changed: set[int] = set()
        self._alive: list[object] = []  # what is known by its address
        self._content = Content(self._refer, self._note, self._changed, own)

    def function(self, function: object) -> None:
        """Add whatever can be called."""
        self._bind(function, "callable", (id(self), "callable"))

    def inputs(self, signature: Signature, given: Mapping[str, object], ignore: frozenset[str]) -> None:
        """Add the arguments `given` by name, with defaults filled in, except for those to `ignore`."""
        for name, parameter in signature.parameters.items():
            if name not in ignore:
                value = given.get(name, _EMPTY.get(parameter.kind.name, parameter.default))
                self._inputs[name] = value, parameter.default

    def finish(self) -> dict[str, str]:
        """Return the components. Raises `UnsupportedValueError` where one has no content to go by."""
        for name, (value, default) in self._inputs.items():
            self._components[f"input {name}"] = self._input(name, value, default)
        done: set[str] = set()
        while True:
            known = len(self._rebound) + len(self._changed)
            while self._todo:
                label, thing = self._todo.popleft()
                self._components[label] = self._describe(label, thing)
            if done and known != len(self._rebound) + len(self._changed):
                done.clear()  # what was taken for a constant may be a variable
            fresh = [label for label in self._constants if label not in done]
            if not fresh:
                return self._components
            for label in fresh:
                self._evaluate(label)
            done.update(fresh)

    def _input(self, name: str, value: object, default: object) -> str:
        try:
            return digest(self._content.tree(value, f'argument "{name}"', STRICT, _BY_KEY))
        except UnsupportedValueError:
            if value is not default:
                raise
            return digest({"default": True})  # a component of the function tells which that is

    def _evaluate(self, label: str) -> None:
        value, slot, mode = self._constants[label]
        self._components.pop(label, None)
        self.missed.pop(label, None)
        if slot not in self._rebound:
            self._components[label] = digest(self._content.tree(value, label, mode, _BY_VERSION))
            if self._content.missed:
                self.missed[label] = self._content.missed

    # References

    def _note(self, foreign: Foreign) -> None:
        self._components.update(foreign or {})

    def _label(self, text: str, key: object) -> str:
        """Return the label of what `key` stands for: `text`, numbered where several things have the same."""
        label = self._labels.get(key)
        if label is None:
            number = self._taken[text] = self._taken.get(text, 0) + 1
            label = self._labels[key] = text if number == 1 else f"{text} ({number})"
        return label

    def _refer(self, given: object) -> str | None:
        """Return the label of a function, a class or a module, described unless it is foreign; else None."""
        value = unwrapped(given)
        if is_a(value, FunctionType):
            code = value.__code__
            name, kind = f"{module_label(value.__globals__)}.{code.co_qualname}", "function"
            foreign = of_code(code.co_filename, value.__globals__.get("__name__"))
            hidden = foreign is None or (value.__closure__ is not None and public_name(value) is None)
        elif is_a(value, type):
            name, kind = f"{named_label(value.__module__)}.{value.__qualname__}", "class"
            foreign = of_module(value.__module__)
            hidden = foreign is None
        elif is_a(value, ModuleType):
            name, kind, foreign = module_label(vars(value)), "module", of_module(value.__name__)
            hidden = foreign is None
        else:
            public = public_name(value) if callable(value) else None
            if public is not None:
                self._note(of_module(public.rpartition(":")[0]))
            return public
        self._note(foreign)
        if not hidden:  # whoever has the version can find it
            return name
        known = id(value) in self._labels
        label = self._label(f"{kind} {name}", id(value))
        if not known:
            self._alive.append(value)
            self._todo.append((label, value))
        return label

    def _bind(self, value: object, label: str, slot: Slot, *, mode: int | None = None) -> str:
        """Return the label of what a name is bound to, which is to be described."""
        referred = self._refer(value)
        if referred is not None:
            return referred
        label = self._label(label, slot)
        if label not in self._constants:
            self._constants[label] = value, slot, self._mode if mode is None else mode
        return label

    # Descriptions

    def _describe(self, label: str, thing: Any) -> str:
        kind, _, owner = label.partition(" ")
        if kind == "function":
            scope = Scope(thing, owner)
            foreign = of_code(thing.__code__.co_filename, scope.globals.get("__name__"))
            return self._function(scope) if foreign is None else self._wrapper(scope, standard=not foreign)
        return self._class(owner, thing) if kind == "class" else self._module(thing)

    def _function(self, scope: Scope) -> str:
        function = scope.function
        known = shape(function.__code__, scope.globals)
        if not known.has_source:
            self._components["python"] = PYTHON
        self._writes(known, scope)
        bound = [[".".join(path[1:]), label] for path in known.loads for label in self._follow(path, scope)]
        for path in known.loads:
            self._note_method(path, scope)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        defaults = dict(zip(names[::-1], (function.__defaults__ or ())[::-1]))
        for name, value in (defaults | (function.__kwdefaults__ or {})).items():
            bound.append([name, self._bind(value, f"default {name} of {scope.owner}", (id(function), name))])
        return digest(known.digest, bound) if bound else known.digest

    def _wrapper(self, scope: Scope, *, standard: bool) -> str:
        """Describe a function of others by what it was made from: what it wraps, and with which options."""
        registry = getattr(scope.function, "registry", None)
        if standard and registry is not None:  # functools.singledispatch, which keeps much besides
            return digest(self._bind(registry, f"registry of {scope.owner}", (id(scope.function), "registry")))
        bound = []
        for name in scope.cells:
            found = scope.start(("cell", name))
            if found is not None:
                bound.append([name, self._bind(*found, mode=LENIENT if standard else None)])
        return digest(bound)

    def _class(self, owner: str, cls: type) -> str:
        bound = []
        for name, value in members(cls):
            label = f"constant {owner}.{name}"
            bound.append([name, self._bind(value, label, (id(cls), name))])
        family = [self._refer(parent) for parent in (type(cls), *cls.__bases__)]
        return digest(family, sorted(bound))

    def _module(self, module: ModuleType) -> str:
        name, bound = module_label(vars(module)), []
        for key, value in list(vars(module).items()):
            plain = unwrapped(value)
            if key.startswith("__") or (is_a(plain, ModuleType) and of_module(plain.__name__) is not None):
                continue
            bound.append([key, self._bind(value, f"constant {name}.{key}", (id(vars(module)), key))])
        return digest(sorted(bound))

    # Names

    def _follow(self, path: Path, scope: Scope) -> Iterator[str]:
        """Yield the labels of what a path leads to: a part of a module, or the object that it begins with.

        Of a command line that was parsed it is the option: others may be given in a resume (`--verbose`).
        """
        found = scope.start(path)
        if found is None or found[2] in self._rebound:  # its own variable may not even be there yet
            return
        value, label, slot = found
        rest = path[2:]
        while is_a(value, ModuleType) and rest:
            foreign = of_module(value.__name__)
            if foreign is not None:
                self._note(foreign)
                yield value.__name__
                return
            label, slot = f"constant {module_label(vars(value))}.{rest[0]}", (id(vars(value)), rest[0])
            value, rest = attribute(value, rest[0]), rest[1:]
        while rest and is_options(value) and rest[0] in vars(value):
            held, name, rest = vars(value), rest[0], rest[1:]
            self._alive.append(value)
            what, _, owner = label.partition(" of ")  # of a closure
            label, slot = f"{what}.{name}{owner and f' of {owner}'}", (id(held), name)
            value = first_seen(value, name, held[name]) if self._mode == FIXED else held[name]
        if value is UNSET:
            return
        bound = self._bind(value, label, slot)
        yield bound
        if rest and is_a(value, FunctionType) and rest[0] in vars(value):
            label = f"constant {bound.partition(' ')[2]}.{rest[0]}"
            yield self._bind(vars(value)[rest[0]], label, (id(value), rest[0]))

    def _writes(self, known: Shape, scope: Scope) -> None:
        """Note what code changes: that is its state, not its input."""
        for path in known.rebinds:
            if len(path) == 2:
                self._rebound.add(scope.slot(path))
                continue
            holder = scope.value(path[:-1])
            if is_a(holder, ModuleType):
                self._rebound.add((id(vars(holder)), path[-1]))
            elif is_a(holder, (type, FunctionType)):
                self._rebound.add((id(holder), path[-1]))
            else:
                self._mark(holder)
        for path in known.changes:
            self._mark(scope.value(path))

    def _note_method(self, path: Path, scope: Scope) -> None:
        """Note that an object of the project is state if a method of it is used that changes something."""
        if len(path) > 2:
            holder = scope.value(path[:-1])
            if holder is not UNSET and not is_a(holder, _NEVER_CHANGED) and of_module(type(holder).__module__) is None:
                method = unwrapped(attribute(type(holder), path[-1]))
                if is_a(method, FunctionType) and shape(method.__code__, method.__globals__).alters:
                    self._mark(holder)

    def _mark(self, value: object) -> None:
        if not is_a(value, _NEVER_CHANGED) and value is not UNSET:
            self._changed.add(id(value))
            self._alive.append(value)
