"""Scopes of calls: find the scope of a call from its frame, and detect the end of the call.

The frame of a call owns the scope of the call:

* A `Token` is stored on the frame of each call that creates a task or an edge: once as an extra entry of
  ``frame.f_locals``, which is removed only when the frame is freed, and once as ``frame.f_trace``, which is fast to
  read, but which debuggers replace. (The interpreter calls the trace function of a frame only while tracing is on; a
  token then does nothing.)
* When a call returns, its frame is freed while its caller is still at the call instruction. The finalizer of the token
  then passes unused tasks and edges to the scope of the caller. The frame of a call that raised is kept alive by the
  traceback, so its token is freed later, and nothing is passed on.
* A frame may outlive its call: a debugger keeps it, or it is part of a reference cycle, for example if a local variable
  holds an exception that the function has caught. `settle` handles such calls before a pipeline looks up its tasks, and
  before the garbage collector frees the frame. A frame that is freed in another way shows a return if its caller is
  executing and has no handler for an exception of the call.

Each thread, coroutine, generator and recursive call has its own frame and thus its own scope, which is freed with the
frame. The scope of a module is stored in its globals.
"""

from __future__ import annotations

import gc
import sys
from _thread import get_ident
from functools import partial
from operator import itemgetter
from types import FrameType
from weakref import ref

from flowkit_core._stack_frames import PACKAGES, module_name, package_name
from flowkit_core._typing import TYPE_CHECKING

from .exception_tables import is_handled, may_bind_exceptions
from .frames import (
    CO_COROUTINES,
    CO_GENERATORS,
    CO_OPTIMIZED,
    LOCAL_KEY,
    callers,
    clear_locals,
    frames,
    is_start,
    local_variable,
    on_stack,
    outside_builders,
)
from .generators import coroutine_of_event_loop, frame_in, generator_of
from .scopes import MODULE_KEY, Scope, entered, module_scope

if TYPE_CHECKING:
    from types import CodeType

    from flowkit_core._typing import Any

    from .scopes import Block

_MAX_SEARCHES = 3
"""Garbage collections before which the frame of a call is searched for: each search looks at all objects."""
_SUSPENDABLE = CO_GENERATORS | CO_COROUTINES

_NOTHING: frozenset[int] = frozenset()
_IMPORTERS = ("importlib", "runpy", "zipimport")


class CreatingFunction:
    """A function whose calls have had scopes.

    Attributes:
        code: weak reference to the code of the function.
        has_created: whether a call of it has made or wired tasks.
        calls: ids of its calls that have not ended.
        may_bind_exceptions: whether it has an ``except`` clause; an exception in a local variable keeps a frame alive.
    """

    __slots__ = ("calls", "code", "has_created", "may_bind_exceptions")

    def __init__(self, code: CodeType) -> None:
        self.code = ref(code, partial(_discard_function, id(code)))
        self.has_created = False
        self.calls: set[int] = set()
        self.may_bind_exceptions = may_bind_exceptions(code)


creating_functions: dict[int, CreatingFunction] = {}
"""The functions whose calls have had scopes, by id of their code."""


_watched = False  # whether a debugger, tracer or profiler is or was active: it may keep frames alive
_replaced_tokens = False  # whether the only token of a frame may be the one in f_locals
calls_with_tokens: dict[int, CreatingCall] = {}
"""Calls whose tokens have not been freed, by id; generators and coroutines only if their frames may outlive them."""


class CreatingCall:
    """One call that creates tasks or edges, or one execution of source text by ``exec``.

    Attributes:
        scope: the tasks and edges of the call.
        code: the code object of the call.
        frame_id: id of the frame of the call.
        thread: id of the thread of the call.
        ended: whether the call has passed on its tasks and edges, or is known to pass nothing on.
        stack: the calling frames, nearest first, as pairs of id and code, if a debugger may free the frame of the call
            and keep its local variables; else empty. For a generator: the frames of the last resumption.
        blocked_by: id of the frame of a coroutine that must be executing before this call can be settled, or 0.
        function: the function; None for exec'd text.
        generator: weak reference to the generator or coroutine of the call; None if it is not known.
        kept_frame: the frame, if a garbage collection would have freed it before the call was settled; else None.
        searches: number of garbage collections before which the frame was not found.
    """

    __slots__ = (
        "_before",
        "_caller_id",
        "_caller_lasti",
        "_tokens",
        "blocked_by",
        "code",
        "ended",
        "frame_id",
        "function",
        "generator",
        "kept_frame",
        "scope",
        "searches",
        "stack",
        "thread",
    )

    def __init__(self, scope: Scope, frame: FrameType, function: CreatingFunction | None = None) -> None:
        self.scope = scope
        self.code = frame.f_code
        self.frame_id = id(frame)
        self.thread = get_ident()
        self.ended = frame.f_back is None or is_start(frame.f_back)  # no caller to pass anything to
        self.stack: list[tuple[int, CodeType]] = []
        self.blocked_by = 0
        self.function = function
        self.generator: ref[Any] | None = None
        self.kept_frame: FrameType | None = None
        self.searches = 0
        self._before = frozenset(map(id, scope.tasks)) if scope.is_module else _NOTHING
        self._tokens = 0
        self._caller_id, self._caller_lasti = 0, -1
        self.resumed_by(frame.f_back)

    def tokens_stored(self, frame: FrameType) -> None:
        """Add the call to `calls_with_tokens`, now that its tokens are on its frame."""
        function = self.function
        if self.ended:
            return
        if self.code.co_flags & _SUSPENDABLE:
            if not _is_watched() and (function is None or not function.may_bind_exceptions):
                return  # its frame is freed when it returns
            self.remember_stack(frame.f_back)
            if self.code.co_flags & CO_COROUTINES:
                self.generator = coroutine_of_event_loop(frame)
        calls_with_tokens[id(self)] = self
        if _settle_before_collection not in gc.callbacks:
            gc.callbacks.append(_settle_before_collection)

    def resumed_by(self, frame: FrameType | None) -> None:
        """Store the frame of the caller, or of the last resumption of a generator, and its current instruction."""
        if frame is not None:
            self._caller_id, self._caller_lasti = id(frame), frame.f_lasti

    def token_added(self) -> None:
        """Count a token that was stored on the frame."""
        self._tokens += 1

    def token_freed(self, current: FrameType | None) -> None:
        """Uncount a freed token; detect whether the call has returned, given the executing frame."""
        self._tokens -= 1
        self._note_creation()
        if not self.ended and get_ident() != self.thread:  # another thread has released the frame
            current = sys._current_frames().get(self.thread)
        if not self.ended and current is not None:
            self._notice_end(current)
        if not self._tokens:
            calls_with_tokens.pop(id(self), None)
            if self.function is not None:
                self.function.calls.discard(id(self))

    def _note_creation(self) -> None:
        function, scope = self.function, self.scope
        if function is not None and not function.has_created:
            edges = scope.origin.edges
            function.has_created = bool(scope.tasks or scope.call_edges or edges.data or edges.order)

    def _notice_end(self, current: FrameType) -> None:
        """Detect whether the call has returned, given the frame that its thread executes when a token is freed.

        For example, when ``main`` executes ``made = make(); check(made)``::

            make() returns                  its frame is freed while main is at the call instruction: its tasks pass on
            make() returns, is kept alive   its frame is freed later, and main has no handler at make(): they pass on
            make() raises, main handles it  its frame is freed when main is beyond the instruction: nothing passes on
            a debugger replaces the token   the frame of make() is still executing: nothing has ended
            a debugger keeps the frame      it is freed when another frame is executing: `settle` finds the caller
        """
        global _replaced_tokens
        is_suspendable = bool(self.code.co_flags & _SUSPENDABLE)
        if id(current) == self._caller_id:
            # in a for loop over a generator, f_lasti may differ by one inline-cache entry
            if abs(current.f_lasti - self._caller_lasti) <= (2 if is_suspendable else 0):
                self._pass_to_caller(current)
                return
        else:
            frame = on_stack(current, self.frame_id)
            if frame is not None and frame.f_code.co_flags & CO_OPTIMIZED:
                _replaced_tokens = True
            if frame is not None and _call_of(frame) is self:
                self.remember_stack(frame.f_back)  # a debugger has replaced a token of a frame that is executing
                return
        if self._tokens:
            return
        caller = None if is_suspendable else on_stack(current, self._caller_id)
        if caller is not None and not is_handled(caller.f_code, self._caller_lasti):
            self._pass_to_caller(caller)
        elif self.stack and all(id(current) != frame_id for frame_id, _ in self.stack):
            if is_suspendable and on_stack(current, self.stack[0][0]) is None:
                return  # another frame resumed it last
            settle(current, self.thread, self)  # a debugger has released the local variables of the call

    def _pass_to_caller(self, caller: FrameType) -> None:
        if _is_watched():
            self.remember_stack(caller)
            settle(caller, self.thread, self)
        else:
            self.pass_to_frame(outside_builders(caller))

    def remember_stack(self, caller: FrameType | None) -> None:
        """Store the calling frames, given the frame of the caller."""
        self.stack = [(id(each), each.f_code) for each in frames(caller)]

    def was_called_by(self, other: CreatingCall) -> bool:
        """Return whether the call was made during another call, if the calling frames are known."""
        return any(frame_id == other.frame_id for frame_id, _ in self.stack)

    def pass_to_nearest_caller(
        self, frame: FrameType | None, executing: dict[int, FrameType], kept: dict[int, CreatingCall]
    ) -> None:
        """Pass tasks and edges to the nearest caller that is executing or has a scope, if all calls below it returned.

        Args:
            frame: the frame of the call, which is no longer executing, or None if it was freed.
            executing: the executing frames, by id.
            kept: the calls that are not executing and have not been settled, by id of their frame.
        """
        if self.ended:
            return
        if frame is not None and not _has_returned(frame):
            self.pass_to_frame(None)
            return
        known = {id(each): each for each in frames(frame)}
        for index, (frame_id, code) in enumerate(self.stack):
            caller = executing.get(frame_id)
            if caller is not None and caller.f_code is code:
                self.pass_to_frame(outside_builders(caller))
                return
            call = kept.get(frame_id)
            if call is not None and call.code is code and not call.ended:
                self._pass_to_scope(call.scope, code, code)
                return
            caller = known.get(frame_id)
            if caller is not None and _has_returned(caller):
                continue
            if code.co_flags & CO_COROUTINES:
                self.blocked_by = frame_id
                return
            if caller is not None:
                if code.co_flags & CO_GENERATORS and generator_of(code, frame_id) is not None:
                    self._pass_to_suspended(caller, self.stack[index + 1 :])
                    return
                break  # the call raised an exception
        self.pass_to_frame(None)

    def pass_to_frame(self, target: FrameType | None) -> None:
        """Pass unused tasks and edges to the scope of a frame; with None, only mark the call as ended."""
        if self.ended:
            return
        if target is None or self.scope.is_empty or is_start(target):
            self._end()
        else:
            scope = scope_of(target)
            self._pass_to_scope(scope, target.f_code, top_code(target, scope))

    def _pass_to_suspended(self, frame: FrameType, stack: list[tuple[int, CodeType]]) -> None:
        """Pass tasks and edges to a suspended generator, given the frames that resumed it last."""
        self.pass_to_frame(frame)
        call = _call_of(frame)
        if call is not None and frame.f_back is None:
            call.ended, call.stack = False, stack
            calls_with_tokens[id(call)] = call

    def _end(self) -> None:
        self._note_creation()
        self.ended = True
        self.kept_frame = None
        self.scope.call_ended()

    def _pass_to_scope(self, scope: Scope, code: CodeType, top: CodeType) -> None:
        self._end()
        if not self.code.co_flags & CO_COROUTINES or code.co_flags & CO_COROUTINES:
            self.scope.pass_to(scope, top, self._before)


def settle(
    current: FrameType, thread: int, ending: CreatingCall | None = None, before_collection: bool = False
) -> None:
    """Pass on the tasks and edges of returned calls of a thread whose frames are still alive.

    For example, ``make`` below handles an exception and returns, but the exception, which is a global variable, refers
    to the frame of ``make`` by its traceback. So no token is freed, and ``DAG`` finds the task only because this
    function passes it to the caller of ``make``::

        def make():
            try:
                Task(read, name="read"), 1 / 0
            except ZeroDivisionError as error:
                globals()["last_error"] = error

        def main():
            make()
            DAG("etl").run()

    Args:
        current: the frame that the thread executes.
        thread: id of the thread.
        ending: a call whose frame was just freed: only this call and calls below it are checked; None means all.
        before_collection: whether the garbage collector calls. Then calls are left out whose frames are not found,
            because the interpreter may just be leaving them; and if flowkit code is executing, which must not be
            interrupted by a change, frames are only kept for the next time.
    """
    executing = {id(frame): frame for frame in frames(current)}
    kept: dict[int, CreatingCall] = {}
    found: list[CreatingCall] = []
    for call in dict.fromkeys((*calls_with_tokens.values(), ending)):
        if call is None or call.ended or call.thread != thread:
            continue
        if before_collection and call.searches >= _MAX_SEARCHES:
            continue
        same = executing.get(call.frame_id)
        if same is not None and _call_of(same) is call:
            continue
        kept[call.frame_id] = call
        is_blocked = call.blocked_by and call.blocked_by not in executing
        if call is ending or (not is_blocked and (ending is None or call.was_called_by(ending))):
            found.append(call)
    placed = []
    for call in found:
        if call is ending or not _is_suspended(call):
            frame = (call.kept_frame or _frame_of(call)) if ending is None else None
            if before_collection:
                call.kept_frame = frame
                if frame is None:
                    call.searches += 1
                    continue
            if frame is not None and not call.stack:
                call.remember_stack(frame.f_back)
                last = kept.get(call.stack[-1][0]) if call.stack else None
                call.stack += [] if last is None else last.stack  # Python 3.11 forgets who resumed an ended generator
            placed.append((len(call.stack), call, frame))
    if before_collection and package_name(current) in PACKAGES:
        return
    for _, call, frame in sorted(placed, key=itemgetter(0), reverse=True):  # innermost calls first
        call.pass_to_nearest_caller(frame, executing, kept)


def _settle_before_collection(phase: str, _info: object) -> None:
    """Settle the calls of all threads before the garbage collector frees their frames."""
    if phase != "start" or not calls_with_tokens:
        return
    try:
        own, above = get_ident(), sys._getframe().f_back
        for thread in {call.thread for call in tuple(calls_with_tokens.values()) if not call.ended}:
            current = above if thread == own else sys._current_frames().get(thread)
            if current is not None:
                settle(current, thread, before_collection=True)
    except RecursionError:  # the code that is executing has used up the stack
        pass


def _is_suspended(call: CreatingCall) -> bool:
    """Return whether a call that is not executing is one of a generator or coroutine that has not ended."""
    if not call.code.co_flags & _SUSPENDABLE:
        return False
    if call.generator is None:
        generator = generator_of(call.code, call.frame_id)
        call.generator = None if generator is None else ref(generator)
    return call.generator is not None and frame_in(call.generator()) is not None


def _frame_of(call: CreatingCall) -> FrameType | None:
    """Return the frame of a call, or None if it was freed."""
    tokens = [found for found in gc.get_referrers(call) if isinstance(found, Token)]
    holders = [found for found in gc.get_referrers(*tokens) if isinstance(found, (FrameType, dict))]
    found: list[Any] = gc.get_referrers(*[each for each in holders if type(each) is dict])  # local variables of a frame
    candidates = [each for each in (*holders, *found) if type(each) is FrameType and id(each) == call.frame_id]
    found.clear()  # break the reference cycle with the lists above
    return candidates[0] if candidates else None


def _has_returned(frame: FrameType) -> bool:
    """Return whether a frame that is not executing has ended by a return, and not by an exception."""
    from opcode import opname

    return frame.f_lasti >= 0 and opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN")


class Token:
    """Object on a frame whose finalizer signals the end of the call; see the docstring of the module.

    Attributes:
        call: the call.
        origin: the origin of the scope; this and the following attributes serve the fast path.
        tasks: the tasks of the scope.
        edges: the data edges of the origin.
    """

    __slots__ = ("__weakref__", "call", "edges", "origin", "tasks")

    def __init__(self, call: CreatingCall) -> None:
        self.call = call
        call.token_added()
        scope = call.scope
        self.origin = scope.origin
        self.tasks = scope.tasks
        self.edges = scope.origin.edges.data

    def __call__(self, *_event: object) -> None:
        """Do nothing: the interpreter calls ``f_trace`` while tracing is on."""

    def __bool__(self) -> bool:
        return False  # debuggers set their trace function only if f_trace is false

    def __del__(self) -> None:
        try:
            frame = sys._getframe(1)
        except (ValueError, AttributeError):  # no frame is executing at the end of a thread or of the interpreter
            frame = None
        self.call.token_freed(frame)

    def __reduce__(self) -> Any:
        return str, ("",)  # a pickled or copied token is an empty str


class SlowToken(Token):
    """Token of a generator, a coroutine or exec'd text: excluded from the fast path, which tests for `Token`."""

    __slots__ = ()


def scope_of(frame: FrameType) -> Scope:
    """Return the scope of the call that a frame executes, or of the module."""
    token: Any = frame.f_trace
    if type(token) is Token:
        return token.call.scope
    code = frame.f_code
    if not code.co_flags & CO_OPTIMIZED:
        return _scope_of_text(frame)
    names: Any = None
    if not isinstance(token, Token):
        names = frame.f_locals
        token = names.get(LOCAL_KEY)
    if isinstance(token, Token):
        if names is not None:
            clear_locals(names)
        if code.co_flags & _SUSPENDABLE:
            token.call.resumed_by(frame.f_back)
            if token.call.stack:
                token.call.remember_stack(frame.f_back)
        return token.call.scope
    function = creating_functions.get(id(code))
    if function is None:
        function = creating_functions.setdefault(id(code), CreatingFunction(code))
    call = CreatingCall(Scope(code.co_qualname, package_name(frame)), frame, function)
    function.calls.add(id(call))
    kind = SlowToken if code.co_flags & _SUSPENDABLE else Token
    stored: Token = names.setdefault(LOCAL_KEY, kind(call))
    clear_locals(names)
    if stored.call is not call:  # another thread has passed on tasks to this frame meanwhile
        return stored.call.scope
    if _is_watched():
        call.remember_stack(frame.f_back)
    if frame.f_trace is None:
        frame.f_trace = kind(call)
    call.tokens_stored(frame)
    return call.scope


def _is_watched() -> bool:
    """Return whether a debugger, tracer or profiler is or was active."""
    global _watched
    if not _watched:
        _watched = sys.gettrace() is not None or sys.getprofile() is not None
    return _watched


def _discard_function(number: int, _reference: object) -> None:
    creating_functions.pop(number, None)


def _scope_of_text(frame: FrameType) -> Scope:
    """Return the scope for code outside functions: a class body, a module, a notebook cell, or exec'd text."""
    caller = frame.f_back
    if caller is not None and _is_part_of(caller, frame):
        return scope_of(caller)
    scope = module_scope(frame.f_globals)
    if not isinstance(frame.f_trace, Token) and not _is_module(frame, caller):
        call = CreatingCall(scope, frame)
        if frame.f_trace is None:
            frame.f_trace = SlowToken(call)
            call.tokens_stored(frame)
        elif not any(each.scope is scope and each.frame_id == id(frame) for each in tuple(calls_with_tokens.values())):
            call.remember_stack(frame.f_back)  # while tracing is on, settle() detects the end
            call.tokens_stored(frame)
    return scope


def _is_part_of(caller: FrameType, frame: FrameType) -> bool:
    """Return whether code outside of functions belongs to its caller: a class body, or the text of an exec()."""
    return not frame.f_code.co_name.startswith("<") or caller.f_globals is frame.f_globals


def _is_module(frame: FrameType, caller: FrameType | None) -> bool:
    """Return whether a frame executes a module, not exec'd text (which also belongs to a call)."""
    if caller is None or module_name(caller).startswith(_IMPORTERS):
        return True
    module = sys.modules.get(module_name(frame))
    return module is not None and getattr(module, "__dict__", None) is frame.f_globals


def _call_of(frame: FrameType) -> CreatingCall | None:
    """Return the call of a frame, or None if it has created no task and no edge."""
    token: Any = frame.f_trace
    if isinstance(token, Token):
        return token.call
    if frame.f_code.co_flags & CO_OPTIMIZED and (token is not None or _replaced_tokens):
        token = local_variable(frame, LOCAL_KEY)
        if isinstance(token, Token):
            return token.call
    return None


def known_scope(frame: FrameType) -> Scope | None:
    """Return the scope of a frame, or None if it has none yet."""
    call = _call_of(frame)
    if call is not None:
        return call.scope
    if frame.f_code.co_flags & CO_OPTIMIZED or (frame.f_back is not None and _is_part_of(frame.f_back, frame)):
        return None
    scope: Any = frame.f_globals.get(MODULE_KEY)
    return scope if type(scope) is Scope and scope.namespace == id(frame.f_globals) else None


def active_block(frame: FrameType) -> Block | None:
    """Return the innermost open ``with`` block of a frame or its callers; None if there is none."""
    if not entered:
        return None
    for each in callers(frame):
        scope = known_scope(each)
        if scope is not None and scope.blocks:
            return scope.blocks[-1]
    return None


def block_for(frame: FrameType) -> Block | None:
    """Return the block that a task or edge which a frame makes belongs to, and note it for the call; None for none."""
    block = active_block(frame)
    if block is not None:
        scope_of(frame).add_outer_block(block)
    return block


def top_code(frame: FrameType, scope: Scope) -> CodeType:
    """Return the code of the executing module top level for a module scope; else the code of the frame."""
    if scope.is_module:
        for each in frames(frame):
            if not each.f_code.co_flags & CO_OPTIMIZED and id(each.f_globals) == scope.namespace:
                return each.f_code
    return frame.f_code
