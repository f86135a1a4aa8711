"""The names that a piece of bytecode reads from outside, and those that it changes.

A path is where a value comes from and the attributes that follow: `("global", "helpers", "clean")`. It begins with
"global", "cell" (a variable of an enclosing function), "module" (`from a.b import ...` gives the module `a.b`) or
"package" (`import a.b` gives the package `a`).

Finding out what `counter["n"] += 1` changes takes the stack: it is followed once from top to bottom, with the paths of
what lies on it where they are known.
"""

from __future__ import annotations

import dis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowkit_state.fingerprint.code import Instruction

    Path = tuple[str, ...]
    Stack = list[Path | None]
    Found = dict[Path, None]

MUTATORS = frozenset(
    [
        "__delitem__",
        "__ior__",
        "__iadd__",
        "__setitem__",
        "add",
        "append",
        "appendleft",
        "clear",
        "difference_update",
        "discard",
        "extend",
        "extendleft",
        "insert",
        "intersection_update",
        "move_to_end",
        "pop",
        "popitem",
        "popleft",
        "put",
        "put_nowait",
        "remove",
        "reverse",
        "rotate",
        "setdefault",
        "sort",
        "subtract",
        "symmetric_difference_update",
        "update",
        "write",
        "writelines",
    ]
)
_GLOBALS = frozenset(["LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"])
_CELLS = frozenset(["LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"])
_LOCALS = frozenset(["LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR", "LOAD_NAME"])
_ATTRIBUTES = frozenset(["LOAD_ATTR", "LOAD_METHOD"])
_FINAL = frozenset(["RETURN_VALUE", "RAISE_VARARGS", "RERAISE"])
_IMPORTED = ("module", "package")
_CONTAINER = {"STORE_SUBSCR": 2, "DELETE_SUBSCR": 2, "STORE_SLICE": 3}  # how far below the top it lies


def effects(steps: list[Instruction], handlers: dict[int, tuple[int, int, bool]]) -> tuple[Found, Found, Found]:
    """Return the paths that are read, given new values, and changed in place."""
    tracer = _Tracer(steps)
    stacks: dict[int, Stack] = {}  # as they are where a jump leads to
    stack: Stack = []
    for index, step in enumerate(steps):
        stack = stacks.pop(index, stack)
        if index in handlers:
            target, depth, lasti = handlers[index]
            if target > index:
                stacks.setdefault(target, [*stack[:depth], *[None] * (1 + lasti)])
        if step.target is not None and step.target > index:
            stacks[step.target] = _moved(step, stack[:], jump=True)
        tracer.step(index, step, stack)
        if step.name in _FINAL or (step.name.startswith("JUMP_") and "_IF_" not in step.name):
            stack = []
    tracer.finish()
    return tracer.loads, tracer.rebinds, tracer.changes


class _Tracer:
    def __init__(self, steps: list[Instruction]) -> None:
        self.loads: Found = {}
        self.rebinds: Found = {}
        self.changes: Found = {}
        self._steps = steps
        self._imports: dict[str, Path] = {}  # local names of imported things
        self._unused: dict[str, Path] = {}

    def finish(self) -> None:
        for path in self._unused.values():  # imported for what its import does
            self.loads[path] = None

    def step(self, index: int, step: Instruction, stack: Stack) -> None:
        """Note what one instruction does, and do to `stack` what it does."""
        name, value = step.name, str(step.value)
        path = self._path(step, stack)
        if path is not None:
            self.loads[self._with_attributes(path, index)] = None
            _moved(step, stack)
            stack[-1] = path
        elif name in _ATTRIBUTES or name == "IMPORT_FROM":
            self._attribute(step, value, stack)
        elif name == "IMPORT_NAME":
            source, has_names = self._imported(index, value)
            _moved(step, stack)
            stack[-1] = ("module" if has_names else "package", source)
        elif name == "COPY":
            stack.append(_at(stack, step.arg or 1))
        elif name == "SWAP":
            depth = step.arg or 1
            if len(stack) >= depth:
                stack[-1], stack[-depth] = stack[-depth], stack[-1]
        elif name == "BINARY_SUBSCR":
            del stack[-1:]  # a part of a container stands for the container
        elif name.startswith("UNPACK_"):
            del stack[-1:]
            stack.extend([None] * (dis.stack_effect(step.opcode, step.arg) + 1))
        else:
            self._store(name, value, stack)
            _moved(step, stack)

    def _path(self, step: Instruction, stack: Stack) -> Path | None:
        name, value = step.name, str(step.value)
        if name in _LOCALS and value in self._imports:
            self._unused.pop(value, None)
            return self._imports[value]
        if name in _GLOBALS:
            return ("global", value)
        return ("cell", value) if name in _CELLS else None

    def _with_attributes(self, path: Path, index: int) -> Path:
        for step in self._steps[index + 1 :]:
            if step.name not in _ATTRIBUTES:
                break
            path = (*path, str(step.value))
        return path

    def _attribute(self, step: Instruction, attribute: str, stack: Stack) -> None:
        owner = _at(stack, 1)
        _moved(step, stack)
        if owner is None:
            return
        if attribute in MUTATORS:
            self.changes[owner] = None
        stack[-1] = (*owner, attribute)

    def _imported(self, index: int, name: str) -> tuple[str, bool]:
        level, names = (self._steps[index - back].value for back in (2, 1))
        return "." * (level if isinstance(level, int) else 0) + name, bool(names)

    def _store(self, name: str, value: str, stack: Stack) -> None:
        if name in _CONTAINER:
            container = _at(stack, _CONTAINER[name])
            if container is not None:
                self.changes[container] = None
        elif name in ("STORE_ATTR", "DELETE_ATTR"):
            owner = _at(stack, 1)
            if owner is not None:
                self.rebinds[*owner, value] = None
        elif name in ("STORE_FAST", "STORE_NAME"):
            top = _at(stack, 1)
            if top is not None and top[0] in _IMPORTED:
                self._imports[value] = self._unused[value] = top
        elif name.startswith(("STORE_", "DELETE_")):
            kind = {"GLOBAL": "global", "DEREF": "cell"}.get(name.partition("_")[2])
            if kind is not None:
                self.rebinds[kind, value] = None
                top = _at(stack, 1) if name[0] == "S" else None
                if top is not None and top[0] in _IMPORTED:
                    self.loads[top] = None


def _at(stack: Stack, depth: int) -> Path | None:
    return stack[-depth] if len(stack) >= depth else None


def _moved(step: Instruction, stack: Stack, *, jump: bool = False) -> Stack:
    """Pop and push as `step` does; what it pushes is unknown."""
    effect = dis.stack_effect(step.opcode, step.arg, jump=jump)
    if effect < 0:
        del stack[effect:]
    else:
        stack.extend([None] * effect)
    if stack and not step.name.startswith(("STORE_", "DELETE_", "POP_")):
        stack[-1] = None
    return stack
