"""Class `Task`, a function with a name and options, and the decorator `task`, which creates one."""

from __future__ import annotations

import sys
from types import FunctionType, MethodType

from flowkit_core._text import did_you_mean, escape_control_chars, short_repr
from flowkit_core._typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, overload
from flowkit_core._warnings import warn
from flowkit_core.coroutines import is_coroutine_function
from flowkit_core.errors import TaskOptionTypeError
from flowkit_core.graphs.parameters import wrapped_callables

from . import discovery
from .callables import check_generator, is_method, line_of, natural_name, text_of, text_of_generator_options
from .calls import Token, block_for, scope_of, top_code
from .direct_calls import DirectCalls
from .edges import METHODS, Origin, serials
from .frames import CO_GENERATORS, CO_OPTIMIZED, is_constructor_of
from .option_attributes import OptionAttributes
from .options import (
    BACKOFF,
    DELAY,
    JITTER,
    MAX_DELAY,
    NO_RETRIES,
    NONE_FAILED,
    OPTION_ALIASES,
    OPTIONS,
    TASK_METHODS,
    check_known,
    check_name,
    given_options,
)
from .scopes import entered, modules
from .wiring import Mapped, Vertex, checked_map

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Literal, Unpack

    from flowkit_core._typing import Any, Never
    from flowkit_core.events import TaskFailed, TaskNotRun, TaskRetrying, TaskSucceeded
    from flowkit_core.persistence import Cache
    from flowkit_core.pipelines.execution.hooks import Hook

    from .edges import CallEdge
    from .options import PoolOption, RetryOn, TaskOptions, Trigger

    Errors = Literal["raise", "drop", "return"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_own_globals = globals()


class Task(OptionAttributes, DirectCalls[P, R_co], Vertex, Generic[P, R_co]):
    """A unit of work: a function, a name, and how to run it.

    Usually created by the decorator :func:`task`. Calling a task calls its function, with its retries and its timeout,
    and returns the result of the function. Conditions and triggers are evaluated by pipelines only, not by a call.

    Args:
        func: the function, as ``task.func`` returns it. An ``async def`` function is awaited by pipelines.
        name: name of the task in results, logs and pictures; by default the name of the function.
        retries: maximum number of retries, 0 or more.
        delay: seconds to wait before the first retry, 0 or more.
        backoff: factor from one wait to the next, 0 or more.
        when: a function that is called with arguments of the task before it runs: a parameter named like one of the
            task's gets that argument, and the other parameters without a default take the remaining arguments in order;
            a false result skips the task.
        max_delay: longest wait between two attempts, in seconds.
        jitter: width of the random factor on each wait, 0 to 1.
        retry_on: which exceptions are retried: an exception class, a sequence of classes, or a function that is called
            with the exception and returns a bool, or a number of seconds after which it is retried; None means any
            :class:`Exception`.
        trigger: required states of the upstream tasks: ``"none_failed"``, ``"all_success"``, ``"all_done"``,
            ``"one_success"``, ``"one_failed"`` or ``"all_failed"``. With ``"one_success"`` and ``"one_failed"``, the
            task runs as soon as one upstream has ended so.
        cache: whether pipelines reuse a result when the code of the task and its inputs are the same: True stores
            results in the store of ``run(state=...)``, or in the memory of this process if there is none; a
            ``TaskCache`` of ``flowkit-state`` stores them itself; None or False does not cache.
        executor: name of the executor that runs the task, one of ``run(executor={...})`` or an installed one, such as
            ``"process"``; None means the executor of the run. ``run("serial")`` runs every task in the calling thread.
        timeout: seconds that each attempt may take, more than 0; after that, it fails with :class:`TaskTimeoutError`.
            Coroutines are cancelled, and worker processes are ended. Nothing can stop a thread: the attempt is
            abandoned, and its result is ignored. None means no limit.
        pool: name of the pool of which each attempt takes a slot, or a list of names, or a mapping of names to numbers
            of slots. ``run(pools={...})`` defines them: how many slots there are, or a :class:`Rate`. A task takes all
            its slots at once; while it waits for them, it occupies no worker. None means no limit.
        priority: an integer; of the tasks that are ready, those with the highest start first, then those with the
            longest remaining path. It interrupts no task that is running.
        on_success: function, or list of functions, that is called with :class:`TaskSucceeded` when the task has
            succeeded in a run; not for a cached or recorded result. Hooks are called in the process that called
            ``run()``; what they raise is a warning. Those of a mapped task are called for each element, too.
        on_failure: the same for :class:`TaskFailed`, when there are no more retries.
        on_retry: the same for :class:`TaskRetrying`, when an attempt failed and another follows.
        on_skip: the same for :class:`TaskNotRun`, when the task was skipped.
        record: whether ``run(state=...)`` stores the result. False stores only that the task succeeded: on resume, it
            runs again if a task that takes its result runs.

    Raises:
        TaskOptionError: an option is out of range (a :class:`ValueError`).
        TaskOptionTypeError: an option has the wrong type (also a :class:`TypeError`).

    Examples:
        >>> double = Task(lambda x: 2 * x, name="double")
        >>> double(21)
        42
    """

    if TYPE_CHECKING:
        func: Callable[P, R_co]
        name: str
        __name__: str
        __qualname__: str

    # Attributes that pipelines read; see edges.py and scopes.py. These defaults are right for nearly all tasks.
    _is_copy = False
    _has_copies = False
    _original: Task[..., Any] | None = None  # of a copy
    _pipeline: Any = None  # of a pipeline task; see pipeline_task.py
    _is_gate = False  # whether it only evaluates the condition of a pipeline task
    _used = False  # in a pipeline or a block, or called
    _generator_warning = ""  # of options that do not apply to the code of a generator function
    _replaced = False
    _successor: Any = None  # the task of the same function that another execution of a top level has created
    _dropped: tuple[CallEdge, ...] = ()
    _warned_of_none = False
    _serial = 0
    _code: CodeType | None = None  # code that created the task; _lasti is the index of the instruction
    _lasti = -1

    def __init__(
        self,
        func: Callable[P, R_co],
        *,
        name: str | None = None,
        retries: int = NO_RETRIES,
        delay: float = DELAY,
        backoff: float = BACKOFF,
        when: Callable[..., Any] | None = None,
        max_delay: float = MAX_DELAY,
        jitter: float = JITTER,
        retry_on: RetryOn = None,
        trigger: Trigger = NONE_FAILED,
        cache: bool | Cache | None = None,
        executor: str | None = None,
        timeout: float | None = None,
        pool: PoolOption = None,
        priority: int = 0,
        on_success: Hook[TaskSucceeded] = None,
        on_failure: Hook[TaskFailed] = None,
        on_retry: Hook[TaskRetrying] = None,
        on_skip: Hook[TaskNotRun] = None,
        record: bool = True,
    ) -> None: ...

    if not TYPE_CHECKING:  # the signature is the one above; options that are not given cost nothing
        _signature = __init__

        def __init__(self, func, *, name=None, **options):
            if (
                options
                or type(func) is not FunctionType
                or func.__code__.co_flags & CO_GENERATORS
                or not (name is None or (type(name) is str and name))
            ):
                is_top_level = False
                self._set_up(func, name, options)
            else:  # fast path: a plain function without options
                natural = func.__name__
                is_top_level = natural is func.__qualname__  # not defined in a class
                self.func = func
                self.name = natural if name is None else name
                self.__module__ = func.__module__
                self.__doc__ = func.__doc__
            frame = sys._getframe(1)
            if frame.f_globals is _own_globals or type(self) is not Task:
                frame = _creator(frame, self)
            self._code = frame.f_code
            self._lasti = frame.f_lasti
            self._serial = next(serials)
            token = frame.f_trace
            if type(token) is Token and not entered and (is_top_level or not is_method(func)):
                self._origin = token.origin
                token.tasks.append(self)
            else:
                _register(self, frame)

        __init__.__wrapped__ = _signature
        del _signature

    def _set_up(self, func: Any, name: str | None, options: TaskOptions) -> None:
        """Set the attributes of a task that has options, or whose callable is not a plain function."""
        check_known(f"task {text_of(func, '__name__') or '?'!r}", options, OPTIONS, OPTION_ALIASES)
        if type(func) is not FunctionType:
            func, name, options = _adapted(func, name, options)
        natural = text_of(func, "__name__")
        if not natural:
            natural = self.__name__ = natural_name(func)
        if name is not None:
            check_name(natural, name)
        self.func = func
        self.name = natural if name is None else name
        self.__module__ = text_of(func, "__module__") or "?"
        self.__doc__ = text_of(func, "__doc__")
        if options:
            self._apply(options)
        check_generator(self.name, func, self.retry.retries)
        if options and (text := text_of_generator_options(self)):
            self._generator_warning = text
            warn(text, task=self.name)

    if not TYPE_CHECKING:

        def __getattr__(self, attribute):
            """Return attributes of the function that are rarely read, or say what to write for names of other tools."""
            known = self.__dict__
            if "func" not in known or "name" not in known:
                raise AttributeError(attribute)
            if attribute == "__wrapped__":
                return self.func
            if attribute == "__name__":
                return text_of(self.func, attribute) or self.name
            if attribute == "__qualname__":
                return text_of(self.func, attribute) or self.__name__
            if attribute == "__isabstractmethod__":
                return bool(type(self.func) is FunctionType and self.func.__dict__.get(attribute))
            names = [name for name in (*dir(type(self)), *known) if name[0] != "_"]
            hint = TASK_METHODS.get(attribute) or did_you_mean(attribute, names)
            # without obj=, because Python would append a suggestion of a private name
            raise AttributeError(f"task {self.name!r} has no attribute {attribute!r}{hint}", name=attribute)

    @property
    def __flowkit_wrapped__(self) -> Callable[..., Any]:
        """The function, for fingerprints of code; see "Special attributes" in the documentation of the layers."""
        return self.func

    @property
    def is_async(self) -> bool:
        """Whether the function is an ``async def``."""
        return is_coroutine_function(self.func)

    @property
    def upstream(self) -> tuple[Task[..., Any], ...]:
        """Direct upstream tasks in order of declaration, with the edges that a DAG created by the caller has."""
        return discovery.neighbors(self, sys._getframe(1))[0]

    @property
    def downstream(self) -> tuple[Task[..., Any], ...]:
        """Direct downstream tasks in order of declaration, with the edges that a DAG created by the caller has."""
        return discovery.neighbors(self, sys._getframe(1))[1]

    @property
    def _is_of_function(self) -> bool:
        """Whether the task was created in a function, not at the top level of a module."""
        return self._code is not None and bool(self._code.co_flags & CO_OPTIMIZED)

    @property
    def location(self) -> str:
        """Where the task was created, as ``file:line``."""
        func: Any = self.func
        code, lasti = self._code, self._lasti
        if type(func) is FunctionType and func.__name__ != "<lambda>" and not self._is_copy:
            made_here = code is not None and code.co_filename == func.__code__.co_filename
            if not made_here or self.__name__ == self.name:
                code, lasti = func.__code__, -1
        if code is None:
            return "<unknown>"
        return f"{code.co_filename}:{line_of(code, lasti)}"

    def with_options(self, **changed: Unpack[TaskOptions]) -> Task[P, R_co]:
        """Return a copy of this task with some options changed, wired to nothing.

        Use it to have one function twice in a pipeline.

        Args:
            **changed: any options of :class:`Task`.

        Returns:
            The copy. A bare ``DAG`` has the copies of a task, and not the task itself unless it is wired.

        Raises:
            TypeError: for an option that does not exist.
            TaskOptionError: for a value out of range.
            TaskOptionTypeError: for a value of the wrong type.

        Examples:
            >>> @task
            ... def fetch(page=1): return f"page {page}"
            >>> fetch.with_options(name="fetch_again", retries=3)
            <Task fetch_again>
        """
        check_known(f"task {self.name!r}", changed, OPTIONS, OPTION_ALIASES)
        options = {"name": self.name, **self._options(), **changed}
        copy: Any = type(self).__new__(type(self))
        copy._is_copy = self._has_copies = True
        copy._original = self
        copy.__init__(self.func, **options)
        copy._idle_options = () if "retries" in changed else self._idle_options
        return copy  # type: ignore[no-any-return]

    def map(
        self,
        *parameters: str,
        limit: int | None = None,
        errors: Errors = "raise",
        label: Callable[..., object] | None = None,
        chunk: int | None = None,
        **unknown: Never,
    ) -> Mapped[P, list[R_co]]:
        """Return a view of this task that is called once for each element of its inputs, in parallel.

        ``rows >> parse.map() >> total`` calls ``parse`` for each element of the result of ``rows``; its own result is
        the list of what it returns, in the order of the input. Two mapped inputs are paired by index. With
        ``parse.map() >> clean.map()``, ``clean`` starts on an element as soon as ``parse`` has returned it.

        Args:
            *parameters: names of the parameters that are mapped; the others get their values whole. They may be open
                parameters, which ``run(params=...)`` fills. Without names, every result that is wired to the view is
                mapped.
            limit: maximum number of elements that are called at once, 1 or more; None means no limit.
            errors: what happens if an element fails, after its retries: ``"raise"`` fails the task, ``"drop"`` leaves
                the element out of the list, ``"return"`` puts the exception in its place.
            label: function that returns a label for an element, given its mapped values; errors and logs show it.
            chunk: number of elements that are sent to a worker process at once, 1 or more; None chooses it by their
                duration.
            **unknown: raises TypeError; the message names what to write instead.

        Returns:
            The view, to be wired like a task. The options belong to the task: two views with different options in one
            pipeline are an error.

        Raises:
            TypeError: the function has no parameter of a name, or there is no such option.
            TaskOptionError: an option is out of range (a :class:`ValueError`).
            TaskOptionTypeError: an option has the wrong type (also a :class:`TypeError`).

        Examples:
            >>> from flowkit_core import DAG, task
            >>> @task
            ... def words(): return ["to", "be", "or"]
            >>> @task
            ... def size(word): return len(word)
            >>> @task
            ... def total(size): return sum(size)
            >>> _ = words >> size.map() >> total
            >>> DAG("count", tasks=[total]).run()
            {'words': ['to', 'be', 'or'], 'size': [2, 2, 2], 'total': 6}
        """
        return Mapped(self, parameters, checked_map(self, parameters, limit, errors, label, chunk, unknown))

    @staticmethod
    def clear_registry() -> None:
        """Remove the tasks of all modules from discovery, so that ``DAG("name")`` does not find them.

        The tasks themselves, their edges and DAGs that name them with ``tasks=[...]`` are not changed. Use it in a
        notebook to begin again.

        Examples:
            >>> from flowkit_core import DAG, Task
            >>> Task.clear_registry()
            >>> load = Task(list, name="load")
            >>> DAG("etl").tasks
            (<Task load>,)
        """
        for scope in modules():
            scope.remove_tasks()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind like a function, so that a task in a class can be called as a method."""
        func: Any = self.func
        return self if instance is None or isinstance(func, staticmethod) else MethodType(self, instance)

    def __set_name__(self, owner: type, name: str) -> None:
        """Make this task a method if the function under its decorators is one; ``__init__`` has checked plain ones."""
        inner = next((layer for layer in reversed(wrapped_callables(self.func)) if type(layer) is FunctionType), None)
        if inner is not None and is_method(inner):
            self._origin.is_mixed = True
            self._origin = METHODS

    def __reduce__(self) -> Any:
        module = sys.modules.get(self.__module__)
        found: Any = module
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        interactive = self.__module__ == "__main__" and getattr(module, "__file__", None) is None
        if found is self and not interactive:
            return self.__qualname__
        if isinstance(found, Task) and found.func is self.func and not interactive:
            return _restore_copy, (found, self.name, self._options())
        return self.reduce_by_value()

    def reduce_by_value(self) -> Any:
        """Return what ``__reduce__()`` returns for a task that cannot be found by its name where it is unpickled."""
        return _restore, (self.func, self.name, self._options())

    def __copy__(self) -> Task[P, R_co]:
        return self

    def __deepcopy__(self, memo: Any) -> Task[P, R_co]:
        return self

    def __repr__(self) -> str:
        return f"<Task {escape_control_chars(self.name)}>"


def _creator(frame: FrameType, task: Task[..., Any]) -> FrameType:
    """Return the frame that creates a task, skipping this module and constructors of subclasses."""
    while frame.f_back is not None:
        if frame.f_globals is not _own_globals and not is_constructor_of(frame, task):
            break
        frame = frame.f_back
    return frame


def _register(task: Task[..., Any], frame: FrameType) -> None:
    """Add a new task to the active block, or else to the scope of the call; a method is added to neither."""
    if is_method(task.func):
        task._origin = METHODS
        return
    block = block_for(frame)
    if block is not None:
        task._origin = block.origin
        task._used = True
        block.add_task(task, top_code(frame, block.scope))
        return
    scope = scope_of(frame)
    task._origin = scope.origin
    scope.add_task(task, frame.f_code)


def _adapted(func: Any, name: str | None, options: TaskOptions) -> tuple[Any, str | None, TaskOptions]:
    """Return function, name and options for a callable that is not a plain function."""
    if isinstance(func, Task):
        allowed = "a function: it is a task already, so use with_options(...) for a changed copy"
        raise TaskOptionTypeError(func.name, "func", func, allowed)
    if isinstance(func, str):
        raise TypeError(f"@task got {func!r}, a str, not a callable: to name a task, write @task(name={func!r})")
    if type(func) is int:
        raise TypeError(f"@task got {func!r}, an int, not a callable: to retry, write @task(retries={func!r})")
    if isinstance(func, classmethod):
        raise TypeError("@task is above @classmethod: write @classmethod above @task")
    if not callable(func):
        raise TaskOptionTypeError(short_repr(func, 40), "func", func, "a function, or another callable")
    if type(func) is MethodType and isinstance(func.__func__, Task):  # bound method whose function is a task
        method: Any = func.__func__
        name = method.name if name is None and method.name != method.__name__ else name
        return MethodType(method.func, func.__self__), name, {**method._options(), **options}
    return func, name, options


def _restore(func: Any, name: str, options: TaskOptions) -> Task[..., Any]:
    """Return the task of a pickle; discovery never finds it."""
    task: Task[..., Any] = Task.__new__(Task)
    task._set_up(func, name, options)
    task._origin = Origin("?")
    return task


def _restore_copy(original: Task[..., Any], name: str, options: TaskOptions) -> Task[..., Any]:
    return _restore(original.func, name, options)


@overload
def task(func: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = ...,
    retries: int = ...,
    delay: float = ...,
    backoff: float = ...,
    when: Callable[..., Any] | None = ...,
    max_delay: float = ...,
    jitter: float = ...,
    retry_on: RetryOn = ...,
    trigger: Trigger = ...,
    cache: bool | Cache | None = ...,
    executor: str | None = ...,
    timeout: float | None = ...,
    pool: PoolOption = ...,
    priority: int = ...,
    on_success: Hook[TaskSucceeded] = ...,
    on_failure: Hook[TaskFailed] = ...,
    on_retry: Hook[TaskRetrying] = ...,
    on_skip: Hook[TaskNotRun] = ...,
    record: bool = ...,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    func: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = NO_RETRIES,
    delay: float = DELAY,
    backoff: float = BACKOFF,
    when: Callable[..., Any] | None = None,
    max_delay: float = MAX_DELAY,
    jitter: float = JITTER,
    retry_on: RetryOn = None,
    trigger: Trigger = NONE_FAILED,
    cache: bool | Cache | None = None,
    executor: str | None = None,
    timeout: float | None = None,
    pool: PoolOption = None,
    priority: int = 0,
    on_success: Hook[TaskSucceeded] = None,
    on_failure: Hook[TaskFailed] = None,
    on_retry: Hook[TaskRetrying] = None,
    on_skip: Hook[TaskNotRun] = None,
    record: bool = True,
    **unknown: Any,
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Turn a function into a :class:`Task`: ``@task``, ``@task()`` and ``@task(retries=3, ...)`` are all accepted.

    Args:
        func: the function, if the decorator is written without parentheses.
        name: name of the task; this and all other options are those of :class:`Task`.
        retries: maximum number of retries, 0 or more.
        delay: seconds to wait before the first retry, 0 or more.
        backoff: factor from one wait to the next, 0 or more.
        when: condition on the task's arguments; a false result skips the task.
        max_delay: longest wait between two attempts, in seconds.
        jitter: width of the random factor on each wait, 0 to 1.
        retry_on: an exception class, several, or a function of the exception; None means any :class:`Exception`.
        trigger: required states of the upstream tasks.
        cache: whether pipelines reuse a result.
        executor: name of the executor that runs the task; None means the executor of the run.
        timeout: seconds that each attempt may take; None means no limit.
        pool: pools of ``run(pools={...})`` of which each attempt takes slots: a name, several, or numbers by name.
        priority: of the tasks that are ready, those with the highest start first.
        on_success: function that is called with the event when the task has succeeded.
        on_failure: function that is called with the event when the task has failed, after all retries.
        on_retry: function that is called with the event when an attempt failed and another follows.
        on_skip: function that is called with the event when the task was skipped.
        record: whether ``run(state=...)`` stores the result.
        **unknown: raises TypeError; the message names the option to use instead.

    Returns:
        The task; without ``func``, a decorator that returns the task.

    Raises:
        TaskOptionError: an option is out of range (a :class:`ValueError`).
        TaskOptionTypeError: an option has the wrong type (also a :class:`TypeError`).
        TypeError: an option does not exist.

    Examples:
        >>> @task(retries=3)
        ... def extract():
        ...     return [1, 2, 3]
        >>> extract()
        [1, 2, 3]
    """
    if unknown:
        check_known("@task", unknown, OPTIONS, OPTION_ALIASES)
    if func is not None:
        return Task(func)  # a decorator without parentheses has no options

    values: tuple[Any, ...] = (
        name,
        retries,
        delay,
        backoff,
        when,
        max_delay,
        jitter,
        retry_on,
        trigger,
        cache,
        executor,
        timeout,
        pool,
        priority,
    )
    values += (on_success, on_failure, on_retry, on_skip, record)
    given = given_options(values)

    def make(function: Callable[P, R]) -> Task[P, R]:
        return Task(function, **given)

    return make
