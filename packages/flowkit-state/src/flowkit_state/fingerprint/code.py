"""What a code object does, from its bytecode: a digest of it, and the names that it reads and changes.

Bytecode is what runs; the source may be newer. A shape knows nothing of lines, files, comments and docstrings, nor of
how the compiler laid the instructions out: they are taken in the order in which control reaches them, the true branch
of each test first, since the layout differs with the formatting.
"""

from __future__ import annotations

import dis
import weakref
from hashlib import sha256
from types import CodeType

from flowkit_state.fingerprint.data_flow import MUTATORS, effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowkit_state.fingerprint.data_flow import Path

_MEANT = (
    0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200
)  # *args, **kwargs, generator, coroutine, iterable coroutine, async gen
_IDLE = frozenset(["CACHE", "NOP", "RESUME", "EXTENDED_ARG"])
_LAST = frozenset(["RETURN_VALUE", "RAISE_VARARGS", "RERAISE"])
_BY_VALUE = frozenset([*dis.hasname, *dis.haslocal, *dis.hasfree])
_CONSTANT = frozenset(dis.hasconst)
_ALTERING = frozenset(["STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"])
_JUMP = frozenset([*dis.hasjrel, *dis.hasjabs])
# What a class statement writes down about itself: where it stands and how it is documented.
_ABOUT_CLASSES = frozenset(["__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"])


class Shape:
    """What there is to know of a code object, and never changes.

    Attributes: `digest`; `loads`, the paths that it and the code inside it read from outside; `rebinds`, those that it
    gives new values; `changes`, those whose values it changes in place; `alters`, whether it changes anything at all.
    """

    __slots__ = ("alters", "changes", "digest", "loads", "rebinds")

    def __init__(
        self, digest: str, loads: tuple[Path, ...], rebinds: tuple[Path, ...], changes: tuple[Path, ...], alters: bool
    ) -> None:
        self.digest, self.loads, self.rebinds, self.changes, self.alters = digest, loads, rebinds, changes, alters


class Instruction:
    """One step of a code object. `target` is the number of the instruction that it may jump to."""

    __slots__ = ("arg", "name", "opcode", "target", "value")

    def __init__(self, name: str, opcode: int, arg: int | None, value: object, target: int | None = None) -> None:
        self.name, self.opcode, self.arg, self.value, self.target = name, opcode, arg, value, target


# By address: code objects compare by content, which takes longer than all the rest. An entry goes with its code.
_shapes: dict[int, tuple[weakref.ref[CodeType], Shape]] = {}


def shape(code: CodeType) -> Shape:
    """Return the shape of `code`, worked out once for each code object."""
    address = id(code)
    known = _shapes.get(address)
    if known is not None and known[0]() is code:
        return known[1]
    made = _shape(code)
    _shapes[address] = (weakref.ref(code, lambda _: _shapes.pop(address, None)), made)
    return made


def _shape(code: CodeType) -> Shape:
    steps, handlers = _steps(code)
    arguments = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    head = [
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _MEANT],
        code.co_varnames[:arguments],
    ]
    digest = sha256(repr([head, _flow(steps, handlers)]).encode("utf-8", "surrogatepass")).hexdigest()
    found = effects(steps, handlers)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            below = shape(inner)
            for ours, theirs in zip(found, (below.loads, below.rebinds, below.changes), strict=True):
                ours.update(dict.fromkeys(theirs))
    own = {("cell", name) for name in code.co_cellvars}
    loads, rebinds, changes = (tuple(path for path in paths if path[:2] not in own) for paths in found)
    if "__class__" in code.co_freevars:  # super() finds it without an instruction that names it
        loads = (*loads, ("cell", "__class__"))
    alters = any(step.name in _ALTERING or (type(step.value) is str and step.value in MUTATORS) for step in steps)
    return Shape(digest, tuple(dict.fromkeys(loads)), rebinds, changes, alters)


def _steps(code: CodeType) -> tuple[list[Instruction], dict[int, tuple[int, int, bool]]]:
    """Return the instructions that do something, and for each number of one: handler, stack depth, pushes lasti."""
    steps: list[Instruction] = []
    number: dict[int, int] = {}
    for raw in dis.get_instructions(code):
        number[raw.offset] = len(steps)
        if raw.opname in _IDLE:
            continue
        if raw.opname == "STORE_NAME" and raw.argval in _ABOUT_CLASSES and steps[-1].name.startswith("LOAD_"):
            steps.pop()
            number[raw.offset] = len(steps)
        elif raw.opname == "RETURN_CONST":
            steps.append(Instruction("LOAD_CONST", dis.opmap["LOAD_CONST"], raw.arg, raw.argval))
            steps.append(Instruction("RETURN_VALUE", dis.opmap["RETURN_VALUE"], None, None))
        elif type(raw.argval) is tuple and raw.opcode in _BY_VALUE:  # two in one, if they stand on one line
            first, second = raw.opname.split("_FAST_")
            for name, value in zip((first + "_FAST", second), raw.argval, strict=True):
                steps.append(Instruction(name, dis.opmap[name], 0, value))
        elif raw.opcode in _JUMP:
            steps.append(Instruction(raw.opname, raw.opcode, raw.arg, None, raw.argval))
        else:
            value = raw.argval if raw.opcode in _BY_VALUE else raw.arg
            if raw.opcode in _CONSTANT and raw.arg is not None:
                value = code.co_consts[raw.arg]  # dis does not know all of them: Python 3.11, names of keywords
            steps.append(Instruction(raw.opname, raw.opcode, raw.arg, value))
    for step in steps:
        if step.target is not None:
            step.target = number[step.target]
    handlers = {}
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]
        for index in range(number[entry.start], number.get(entry.end, len(steps))):
            handlers[index] = (number[entry.target], entry.depth, entry.lasti)
    return steps, handlers


def _flow(steps: list[Instruction], handlers: dict[int, tuple[int, int, bool]]) -> list[object]:
    """Return the instructions in the order in which control reaches them, with the numbers of those that may follow."""
    order: dict[int, int] = {}
    reached: list[tuple[object, list[int]]] = []
    waiting = [_landing(steps, 0)]
    while waiting:
        index = waiting.pop()
        if index in order:
            continue
        order[index] = len(order)
        step = steps[index]
        name = step.name.replace("_FORWARD", "").replace("_BACKWARD", "")
        after = [] if name in _LAST else [index + 1]
        if step.target is not None:
            after.append(step.target)
            if name.endswith(("IF_TRUE", "IF_NOT_NONE")):
                name = name.replace("IF_TRUE", "IF_FALSE").replace("IF_NOT_NONE", "IF_NONE")
                after.reverse()
        handler = handlers.get(index)
        if handler is not None:
            after.append(handler[0])
        after = [_landing(steps, number) for number in after]
        content = _literal(step.value) if step.opcode in _CONSTANT else step.value
        reached.append(((name, content, handler and handler[1:]), after))
        waiting.extend(reversed(after))
    return [(label, [order[number] for number in after]) for label, after in reached]


def _landing(steps: list[Instruction], index: int) -> int:
    """Return where control gets to from `index` by jumps alone."""
    passed = set()
    while index not in passed and steps[index].name.startswith("JUMP_") and "_IF_" not in steps[index].name:
        passed.add(index)
        index = steps[index].target or 0
    return index


def _literal(value: object) -> object:
    """Return a constant as what has the same `repr` in every process."""
    if isinstance(value, CodeType):
        return ["code", value.co_name, shape(value).digest]
    if type(value) is tuple:
        return tuple(map(_literal, value))
    if type(value) is frozenset:
        return ["frozenset", *sorted(repr(_literal(item)) for item in value)]
    return value
