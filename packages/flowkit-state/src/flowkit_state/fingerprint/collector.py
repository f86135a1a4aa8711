"""Class `DependencyCollector`: collects the components of a fingerprint.

Components are functions, the code of the project that they use, values, and versions of packages.

Each component is a digest of one thing alone. A reference to another component is digested as the label of that, so the
difference of two fingerprints shows what has changed.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import partial
from hashlib import sha256
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from flowkit_state.errors import UnsupportedValueError
from flowkit_state.fingerprint import process_state
from flowkit_state.fingerprint.argument_digest import ArgumentDigest, find_code, library_versions
from flowkit_state.fingerprint.class_members import members
from flowkit_state.fingerprint.code import analyze
from flowkit_state.fingerprint.name_resolution import UNSET, VisibleNames, attribute, is_a, public_name, unwrapped
from flowkit_state.fingerprint.policy import CONSTANTS, INPUTS, VERSIONED
from flowkit_state.fingerprint.process_reads import ProcessReads
from flowkit_state.fingerprint.provenance import of_code, of_module
from flowkit_state.fingerprint.stdlib_types import is_options, name_of
from flowkit_state.fingerprint.values import ValueEncoder, first_seen, type_name
from flowkit_state.module_names import module_label, named_label
from flowkit_state.serialization.json_text import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from inspect import Parameter, Signature
    from typing import Any

    from flowkit_state.fingerprint.code import CodeAnalysis
    from flowkit_state.fingerprint.data_flow import Path
    from flowkit_state.fingerprint.name_resolution import Slot
    from flowkit_state.fingerprint.policy import Policy
    from flowkit_state.fingerprint.provenance import Foreign
    from flowkit_state.serialization.serializer_protocol import Serializer

CALLABLE = "callable"
"""Label of a callable that is not a function: the object of a bound method, or an object that can be called."""
ATTRIBUTE = "attribute"
"""First word of the label of an attribute of the object in `CALLABLE`; its digest is a part of that one."""
INPUT = "input"
"""First word of the label of an argument of the call; the rest is the name of its parameter."""
BOUND = 'argument "{}" of the partial'
FORMAT_LABEL = "fingerprint format"
FORMAT = "2"
"""To be changed if most digests change: runs that were recorded in another format run again when they are resumed.

Format 1, of bytecode, had no such component.
"""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_IMMUTABLE = (type(None), int, float, str, bytes, tuple, ModuleType, type, FunctionType)
_CALLABLES = (FunctionType, BuiltinFunctionType, MethodType)
_EMPTY: dict[str, Any] = {"VAR_POSITIONAL": (), "VAR_KEYWORD": {}}
_VERSION_HINT = (
    "Pass the value as an argument, or create it in the function, or pass TaskCache(version=...) and "
    "increment that when the value changes."
)
_WHOLE_ENVIRONMENT = "which is read as a whole, or by a name that is not a constant"
_NAME_HINT = (
    "Read each variable by its name, or pass the values as arguments, or pass TaskCache(version=...) and "
    "increment that when they change."
)
_NO_SEED = "which the system seeds"
_SEED_HINT = "Pass a seed, or pass TaskCache(version=...) and increment that for other random numbers."
_KEY_HINT = "Pass TaskCache(key=...) a function that returns the part of the arguments to compare."


def digest(*parts: Any) -> str:
    """Return a digest of JSON trees."""
    return sha256(dumps([*parts]).encode()).hexdigest()


def _code_label(thing: Any) -> str | None:
    """Return the label of a class or a function of the project, if nothing else has the same."""
    if is_a(thing, FunctionType):
        return f"function {module_label(thing.__globals__)}.{thing.__code__.co_qualname}"
    return f"class {named_label(thing.__module__)}.{thing.__qualname__}" if is_a(thing, type) else None


class DependencyCollector:
    """Collects the components of a function and of its arguments.

    Args:
        policy: how the values that the code reads are compared.
        own: the user's serializers, for values of types that are not supported otherwise.
        reads: receives what the code reads from the process; None if that does not count.

    Attributes:
        missed: the values that count by their type alone, as text by label of the component, if the policy records
            them.
    """

    def __init__(
        self, policy: Policy = CONSTANTS, own: Sequence[Serializer] = (), reads: ProcessReads | None = None
    ) -> None:
        self.missed: dict[str, str] = {}
        self._components: dict[str, str] = {FORMAT_LABEL: FORMAT}
        self._policy = policy
        self._reads = reads
        self._labels: dict[object, str] = {}
        self._taken: dict[str, int] = {}  # how many things have the same label but for a number
        self._todo: deque[tuple[str, Any]] = deque()
        self._constants: dict[str, tuple[object, Slot, Policy]] = {}
        self._inputs: dict[str, tuple[object, Parameter]] = {}
        self._rebound: set[Slot] = set()  # variables and attributes that the code assigns
        self._changed: set[int] = set()  # addresses of the objects that it changes in place
        self._alive: list[object] = []  # objects that are identified by their address
        self._encoder = ValueEncoder(self._refer, self._note, self._changed, own)

    def add_function(self, function: object) -> None:
        """Add a callable."""
        if type(function) is not partial:
            self._bind(function, CALLABLE, (id(self), CALLABLE))
            return
        bound = [[name, value] for name, value in (*enumerate(function.args), *function.keywords.items())]
        labels = [[name, self._bind(value, BOUND.format(name), (id(self), name))] for name, value in bound]
        self._components["partial"] = digest(self._bind(function.func, CALLABLE, (id(self), CALLABLE)), labels)

    def add_inputs(self, signature: Signature, given: Mapping[str, object], ignore: frozenset[str]) -> None:
        """Add the arguments `given` by name, with defaults filled in, except those to `ignore`."""
        for name, parameter in signature.parameters.items():
            if name not in ignore:
                value = given.get(name, _EMPTY.get(parameter.kind.name, parameter.default))
                self._inputs[name] = value, parameter

    def add_value(self, value: object) -> None:
        """Add a value. Raises `UnsupportedValueError`, whose path begins with `value`, if it cannot be compared."""
        self._components["value"] = digest(self._encoder.tree(value, "value", INPUTS, _VERSION_HINT))

    def collect(self) -> dict[str, str]:
        """Return the components, once. Raises `UnsupportedValueError` if a value has no comparable content."""
        try:
            return self._collect()
        finally:
            del self._encoder  # a reference cycle

    def _collect(self) -> dict[str, str]:
        for name, (value, parameter) in self._inputs.items():
            self._components[f"{INPUT} {name}"] = self._input(f'argument "{name}"', value, parameter)
        done: set[str] = set()
        while True:
            known = len(self._rebound) + len(self._changed)
            while self._todo:
                label, thing = self._todo.popleft()
                self._components[label] = self._describe(label, thing)
            if done and known != len(self._rebound) + len(self._changed):
                done.clear()  # a constant may be a variable after all
            fresh = [label for label in self._constants if label not in done]
            if not fresh:
                self._add_process_reads()
                return self._components
            for label in fresh:
                self._evaluate(label)
            done.update(fresh)

    def _add_process_reads(self) -> None:
        if self._reads is not None:
            self._components.update(self._reads.components)
            if self._reads.uses_environment and not self._policy.accepts_opaque:
                raise UnsupportedValueError(None, "os.environ", "os._Environ", _WHOLE_ENVIRONMENT, _NAME_HINT)
            if self._reads.unseeded and self._policy.refuses_process_state and not self._policy.accepts_opaque:
                name = self._reads.unseeded
                raise UnsupportedValueError(None, f"{name}()", name, _NO_SEED, _SEED_HINT)
        if self._policy.refuses_process_state and (settings := process_state.decimal_context()) is not None:
            self._components["decimal context"] = digest(settings)

    def _input(self, place: str, value: Any, parameter: Parameter) -> str:
        if parameter.kind is parameter.VAR_POSITIONAL:
            return digest([self._argument(f"{place}[{number}]", each) for number, each in enumerate(value)])
        if parameter.kind is parameter.VAR_KEYWORD:
            return digest([[name, self._argument(f"{place}[{name!r}]", each)] for name, each in value.items()])
        try:
            return self._argument(place, value)
        except UnsupportedValueError:
            if value is not parameter.default:
                raise
            return digest({"default": True})  # the default is a component of the function

    def _argument(self, place: str, value: Any) -> str:
        """Return the digest of an argument; that of a handle was made where its value is, if it can be used here."""
        if getattr(type(value), "__flowkit_handle__", False):
            made = value.digest
            if type(made) is ArgumentDigest and self._accepts(made):
                return str(made.text)
            value = value.fetch()
        return digest(self._encoder.tree(value, place, INPUTS, _KEY_HINT))

    def digest_elsewhere(self, value: object) -> ArgumentDigest:
        """Return the digest of an argument for another process, once; raise `UnsupportedValueError` if it has none."""
        self._reads = reads = ProcessReads(b"")
        text = digest(self._encoder.tree(value, "argument", INPUTS, _KEY_HINT))
        del self._encoder  # a reference cycle
        if reads.clock:
            raise UnsupportedValueError(None, "argument", type_name(type(value)), "which reads the clock", _KEY_HINT)
        code = [(label, getattr(thing, "__module__", None), thing.__qualname__) for label, thing in self._todo]
        del self._components[FORMAT_LABEL]
        return ArgumentDigest(FORMAT, text, self._components, code)

    def _accepts(self, made: ArgumentDigest) -> bool:
        """Add what a digest refers to, and return True; False if that is not the same here, or cannot be found."""
        if made.format != FORMAT or (made.packages and not made.packages.items() <= library_versions().items()):
            return False
        found = [(label, find_code(module, qualname)) for label, module, qualname in made.code]
        if any(label != _code_label(thing) for label, thing in found):
            return False
        self._note(made.packages)
        return all(label == self._refer(thing) for label, thing in found)

    def _evaluate(self, label: str) -> None:
        value, slot, policy = self._constants[label]
        self._components.pop(label, None)
        self.missed.pop(label, None)
        if slot not in self._rebound:
            tree = self._encoder.tree(value, label, policy, _VERSION_HINT)
            self._components[label] = digest(tree)
            if label == CALLABLE:
                self._components.update(_attributes(value, tree))
            if self._encoder.missed:
                self.missed[label] = self._encoder.missed

    # References

    def _note(self, foreign: Foreign) -> None:
        self._components.update(foreign or {})

    def _label(self, text: str, key: object) -> str:
        """Return the label of what `key` identifies: `text`, numbered if several things have the same."""
        label = self._labels.get(key)
        if label is None:
            number = self._taken[text] = self._taken.get(text, 0) + 1
            label = self._labels[key] = text if number == 1 else f"{text} ({number})"
        return label

    def _refer(self, given: object) -> str | None:
        """Return the label of a function, a class or a module, and add it unless it is foreign; None for any other."""
        if self._reads is not None:
            self._reads.add_value(given)
        return self._reference(given)

    def _reference(self, given: object) -> str | None:
        """Do the same for the value of a variable: `ProcessReads.add` has added what the code reads with it."""
        value = unwrapped(given)
        if is_a(value, FunctionType):
            code = value.__code__
            name, kind = f"{module_label(value.__globals__)}.{code.co_qualname}", "function"
            foreign = of_code(code.co_filename, value.__globals__.get("__name__"))
            if foreign is not None and self._is_refused(value):
                return None
            is_component = foreign is None or (value.__closure__ is not None and public_name(value) is None)
        elif is_a(value, type):
            name, kind = f"{named_label(value.__module__)}.{value.__qualname__}", "class"
            foreign = of_module(value.__module__)
            is_component = foreign is None
        elif is_a(value, ModuleType):
            name, kind, foreign = module_label(vars(value)), "module", of_module(value.__name__)
            is_component = foreign is None
        else:
            public = public_name(value) if callable(value) and not self._is_refused(value) else None
            if public is not None:
                self._note(of_module(public.rpartition(":")[0]))
            return public
        self._note(foreign)
        if not is_component:  # its name and the version of its package identify it
            return name
        known = id(value) in self._labels
        label = self._label(f"{kind} {name}", id(value))
        if not known:
            self._alive.append(value)
            self._todo.append((label, value))
        return label

    def _is_refused(self, function: object) -> bool:
        """Return whether a foreign function counts as a value, which is refused."""
        return (
            self._policy.refuses_process_state and type(function) in _CALLABLES and process_state.reason(function) != ""
        )

    def _bind(
        self, value: object, label: str, slot: Slot, *, policy: Policy | None = None, is_variable: bool = False
    ) -> str:
        """Return the label of the value of a name, and add it."""
        referred = self._reference(value) if is_variable else self._refer(value)
        if referred is not None:
            return referred
        label = self._label(label, slot)
        if label not in self._constants:
            self._constants[label] = value, slot, policy or self._policy
        return label

    # Descriptions

    def _describe(self, label: str, thing: Any) -> str:
        kind, _, owner = label.partition(" ")
        if kind == "function":
            visible = VisibleNames(thing, owner)
            foreign = of_code(thing.__code__.co_filename, visible.globals.get("__name__"))
            return self._function(visible) if foreign is None else self._wrapper(visible, is_standard=not foreign)
        return self._class(owner, thing) if kind == "class" else self._module(thing)

    def _function(self, visible: VisibleNames) -> str:
        function = visible.function
        known = analyze(function.__code__, visible.globals)
        if not known.has_source:
            self._components["python"] = PYTHON
        self._add_changes(known, visible)
        loads: Iterable[Path] = known.loads if self._reads is None else self._reads.add(known, visible)
        if self._policy.refuses_process_state:
            loads = [*loads, *self._hidden_loads(known, visible)]
        bound = [[".".join(path[1:]), label] for path in loads for label in self._follow(path, visible, known)]
        for path in known.loads:
            self._add_change_by_method(path, visible)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        defaults = dict(zip(names[::-1], (function.__defaults__ or ())[::-1]))
        for name, value in (defaults | (function.__kwdefaults__ or {})).items():
            bound.append([name, self._bind(value, f"default {name} of {visible.owner}", (id(function), name))])
        return digest(known.digest, bound) if bound else known.digest

    def _wrapper(self, visible: VisibleNames, *, is_standard: bool) -> str:
        """Describe a function of a package by its closure: the function that it wraps, and options."""
        registry = getattr(visible.function, "registry", None)
        if is_standard and registry is not None:  # of functools.singledispatch, whose closure also has caches
            return digest(self._bind(registry, f"registry of {visible.owner}", (id(visible.function), "registry")))
        bound = []
        for name in visible.cells:
            found = visible.start(("cell", name))
            if found is not None:
                bound.append([name, self._bind(*found, policy=VERSIONED if is_standard else None)])
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

    def _follow(self, path: Path, visible: VisibleNames, known: CodeAnalysis) -> Iterator[str]:
        """Yield the labels of the values of a path: an attribute of a module, or the object that the path begins with.

        For an argparse.Namespace, only the option that the code reads is a component, so that other options do not
        change the fingerprint. For a lock that the code only waits for, it is the type.
        """
        found = visible.start(path)
        if found is None or found[2] in self._rebound:  # the function's own variable may not exist yet
            return
        value, label, slot = found
        rest = path[2:]
        while is_a(value, ModuleType) and rest:
            foreign = of_module(value.__name__)
            if foreign is not None:
                self._note(foreign)
                yield from self._follow_foreign(value, rest, is_whole=path in known.wholes)
                imported = sys.modules.get(path[1], value) if path[0] == "package" and value is found[0] else value
                yield imported.__name__  # of `import a.b` it is the module `a.b`
                return
            label, slot = f"constant {module_label(vars(value))}.{rest[0]}", (id(vars(value)), rest[0])
            value, rest = attribute(value, rest[0]), rest[1:]
        while rest and is_options(value) and rest[0] in vars(value):
            options, name, rest = vars(value), rest[0], rest[1:]
            self._alive.append(value)
            what, _, owner = label.partition(" of ")  # of a closure
            label, slot = f"{what}.{name}{owner and f' of {owner}'}", (id(options), name)
            value = first_seen(value, name, options[name]) if self._policy.snapshot_mutable else options[name]
        if value is UNSET:
            return
        if is_a(value, ModuleType):
            yield from self._follow_foreign(value, (), is_whole=path in known.wholes)
        if path in known.waits and self._policy.refuses_process_state and process_state.has_only_effects(value):
            yield name_of(type(value))
            return
        if rest and is_a(value, type) and of_module(value.__module__) is not None:
            yield from self._follow_foreign(value, rest, is_whole=False)
        bound = self._bind(value, label, slot, is_variable=not rest)
        yield bound
        if rest and is_a(value, FunctionType) and rest[0] in vars(value):
            label = f"constant {bound.partition(' ')[2]}.{rest[0]}"
            yield self._bind(vars(value)[rest[0]], label, (id(value), rest[0]))

    def _hidden_loads(self, known: CodeAnalysis, visible: VisibleNames) -> list[Path]:
        """Return the paths of process state that code reads without a path of its own.

        It is the builtin function `input`, and what code without source may read from the modules that it names.
        """
        found: list[Path] = []
        if ("global", "input") in known.loads and "input" not in visible.globals:
            found.append(("module", "builtins", "input"))
        if not known.has_source:
            names = [path[1] for path in known.loads if path[0] == "global"]
            for path in known.loads:
                value = visible.value(path)
                if is_a(value, (ModuleType, type)):
                    found += [(*path, *rest) for rest in process_state.reachable(value, names)]
        return found

    def _follow_foreign(self, holder: ModuleType | type, names: Path, *, is_whole: bool) -> Iterator[str]:
        """Yield the label of what is found at `names` in a foreign module or class, if that is process state.

        `is_whole` is whether the code uses it as a value: then it may read any process state in it.
        """
        if self._policy.refuses_process_state:
            value, found = process_state.resolve(holder, names)
            if is_whole and is_a(value, ModuleType):
                value, found = process_state.resolve(value, process_state.state_of_module(value))
            if process_state.reason(value):
                yield self._bind(value, f"constant {'.'.join(found)}", (id(holder), ".".join(found[1:])))

    def _add_changes(self, known: CodeAnalysis, visible: VisibleNames) -> None:
        """Note what code changes, because that is state of the program and not an input."""
        for path in known.rebinds:
            if len(path) == 2:
                self._rebound.add(visible.slot(path))
                continue
            holder = visible.value(path[:-1])
            if is_a(holder, ModuleType):
                self._rebound.add((id(vars(holder)), path[-1]))
            elif is_a(holder, (type, FunctionType)):
                self._rebound.add((id(holder), path[-1]))
            else:
                self._add_changed(holder)
        for path in known.changes:
            self._add_changed(visible.value(path))

    def _add_change_by_method(self, path: Path, visible: VisibleNames) -> None:
        """Note that an object of the project is state if code uses a method of it that changes something."""
        if len(path) > 2:
            holder = visible.value(path[:-1])
            if holder is not UNSET and not is_a(holder, _IMMUTABLE) and of_module(type(holder).__module__) is None:
                method = unwrapped(attribute(type(holder), path[-1]))
                if is_a(method, FunctionType) and analyze(method.__code__, method.__globals__).alters:
                    self._add_changed(holder)

    def _add_changed(self, value: object) -> None:
        if not is_a(value, _IMMUTABLE) and value is not UNSET:
            self._changed.add(id(value))
            self._alive.append(value)


def _attributes(value: object, tree: Any) -> dict[str, str]:
    """Return a component for each attribute of a callable object, or of the object of a bound method."""
    if type(value) is MethodType:
        value, items = value.__self__, tree.get("items")
        tree = items[-1] if items else None
    if type(tree) is not dict or not tree.get("names"):
        return {}
    of = type(value).__qualname__
    named = zip(tree["names"], tree["items"], strict=False)
    return {f'{ATTRIBUTE} "{name}" of {of}': digest(item) for name, item in named}
