"""A call that ends by an exception passes nothing on; one that returns early passes its unused tasks to its caller."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading

import pytest

from flowkit_core import DAG, Task

FALLBACK = """
def fancy():
    a, b = Task(int, name="fancy"), Task(lambda fancy: fancy, name="fancier")
    a >> b
    raise ImportError("no fancy")

def plain():
    Task(lambda: "plain", name="plain")
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "try: fancy()\n    except ImportError: pass",
        "try: fancy()\n    except ImportError as error: kept.append(error)",
        "try: fancy()\n    except ImportError as error: kept.append(sys.exc_info())",
        "try: fancy()\n    except Exception:\n        plain()\n        return DAG('d').run('serial')",
        "try: (lambda: fancy())()\n    except ImportError: pass",
        "try: [fancy() for _ in range(1)]\n    except ImportError: pass",
        "try: list(fancy() for _ in range(1))\n    except ImportError: pass",
        "try: list(map(lambda _: fancy(), [0]))\n    except ImportError: pass",
        "try: exec('fancy()')\n    except ImportError: pass",
        "with contextlib.suppress(ImportError): fancy()",
        "with contextlib.suppress(ImportError): contextlib.ExitStack().__enter__().callback(fancy).__call__()",
        "try:\n        try: fancy()\n        finally: kept.append(1)\n    except ImportError: pass",
        "try:\n        try: fancy()\n        except ImportError as e: raise OSError from e\n    except OSError: pass",
        "try: functools.partial(fancy)()\n    except ImportError: pass",
        "for _ in range(3):\n        try: fancy()\n        except ImportError: continue",
        "while True:\n        try: fancy()\n        except ImportError: break",
        "try: fancy()\n    except* ImportError: pass",
    ],
)
def test_helper_that_raised_leaves_nothing_to_its_caller(script, attempt):
    """A fallback after an exception runs only its own tasks, whether the exception is kept or not."""
    module = script(
        f"import contextlib, functools, sys\nkept = []\n{FALLBACK}\n"
        f"def build():\n    {attempt}\n    plain()\n    return DAG('d').run('serial')\n"
    )
    for _ in range(3):
        assert module.build() == {"plain": "plain"}


def test_helper_that_raised_two_levels_down_leaves_nothing(script):
    """All calls that the exception passes through are dropped, also those with tasks of their own."""
    module = script(
        f"""{FALLBACK}
def middle():
    Task(int, name="middle")
    fancy()

def build():
    try:
        middle()
    except ImportError:
        pass
    plain()
    return DAG("d").run("serial")
"""
    )
    assert module.build() == module.build() == {"plain": "plain"}


def test_exception_that_is_handled_in_the_middle_keeps_the_callers_tasks(script):
    """The call that handles the exception returns, and passes on what it has made itself."""
    module = script(
        f"""{FALLBACK}
def middle():
    Task(int, name="middle")
    try:
        fancy()
    except ImportError:
        Task(int, name="handled")

def build():
    middle()
    return DAG("d").run("serial")
"""
    )
    assert module.build() == module.build() == {"middle": 0, "handled": 0}


def test_generator_that_raised_leaves_nothing(script):
    """A generator that ends by an exception passes nothing on."""
    module = script(
        """
        def steps():
            yield Task(int, name="first")
            raise OSError
        def build():
            try:
                for _ in steps(): pass
            except OSError: pass
            Task(int, name="own")
            return DAG("d").run("serial")
        """
    )
    assert module.build() == {"own": 0}


def test_edges_of_a_call_that_raised_are_dropped(script):
    """Also those between tasks of the caller."""
    module = script(
        """
        def wire(a, b):
            a >> b
            raise OSError
        def build():
            a, b = Task(lambda: 1, name="a"), Task(lambda *x: sum(x), name="b")
            try: wire(a, b)
            except OSError: pass
            return DAG("d").run("serial")
        """
    )
    with_edges = module.build()
    assert set(with_edges) == {"a", "b"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, Exception, StopIteration])
def test_every_kind_of_exception_ends_a_call(error):
    """BaseExceptions are exceptions, too."""

    def failing():
        Task(int, name="failing")
        raise error

    with contextlib.suppress(error):
        failing()
    Task(lambda: 1, name="own")
    assert DAG("d").run("serial") == {"own": 1}


def test_call_that_returned_from_finally_has_returned():
    """A return in a finally statement replaces the exception, so the call passes on."""

    def odd():
        try:
            Task(lambda: 1, name="made")
            raise OSError
        finally:
            return None  # noqa: B012, RET501

    odd()
    assert DAG("d").run("serial") == {"made": 1}


@pytest.mark.parametrize("keep", ["error", "exc_info", "log record", "traceback", "caller"])
def test_call_whose_frame_a_handled_exception_keeps_passes_on(keep):
    """The call has returned, although the traceback of an exception that it has handled holds its frame."""
    kept = []

    class Handler(logging.Handler):
        def emit(self, record):
            kept.append(record)

    logger = logging.Logger("kept")  # noqa: LOG001 - it is for this test alone
    logger.addHandler(Handler())

    def careful():
        try:
            raise OSError  # noqa: TRY301
        except OSError as error:
            if keep == "error":
                kept.append(error)
            elif keep == "exc_info":
                kept.append(sys.exc_info())
            elif keep == "log record":
                logger.exception("no file")
            elif keep == "traceback":
                kept.append(error.__traceback__)
            else:
                return_value = error
        Task(lambda: 1, name="made")
        return return_value if keep == "caller" else None

    value = careful()
    assert DAG("d").run("serial") == {"made": 1}
    assert (value is not None) == (keep == "caller")


def test_call_that_handled_its_own_exception_passes_on():
    """An exception that does not leave the call does not matter."""

    def careful():
        with contextlib.suppress(ZeroDivisionError):
            1 / 0
        try:
            raise OSError  # noqa: TRY301
        except OSError:
            Task(lambda: 1, name="made")

    careful()
    assert DAG("d").run("serial") == {"made": 1}


def test_builder_that_raised_leaves_nothing_to_its_next_call(script):
    """The second call of a builder that failed the first time."""
    module = script(
        """
        shared = Task(lambda *x: sum(x), name="shared")
        def build(n):
            Task(lambda: n, name=f"n{n}") >> shared
            if n == 0:
                raise ValueError
            return DAG("d", tasks=[shared]).run("serial"), DAG("bare").run("serial")
        """
    )
    for _ in range(3):
        with pytest.raises(ValueError):
            module.build(0)
        assert module.build(1) == ({"n1": 1, "shared": 1},) * 2


def test_builder_that_returned_early_leaves_nothing_to_its_next_call_from_elsewhere(script):
    """Each call of the builder comes from a call of its own."""
    module = script(
        """
        def handle(user):
            Task(lambda: "wiped", name="wipe_disk")
            if user == "guest":
                return None
            return DAG("d").run("serial")

        def guest():
            handle("guest")

        def other():
            Task(lambda: 1, name="other")
            return DAG("other").run("serial")

        def admin():
            return handle("admin")
        """
    )
    for _ in range(3):
        assert module.guest() is None
        assert module.other() == {"other": 1}
        assert module.admin() == {"wipe_disk": "wiped"}


def test_early_return_passes_to_the_caller():
    """A call that returned early has returned: its caller has its tasks."""

    def helper(early):
        Task(lambda: 1, name="before")
        if early:
            return
        Task(lambda: 2, name="after")

    helper(True)
    assert DAG("d").run("serial") == {"before": 1}


def test_tests_of_unittest_style_that_fail_leave_nothing(script):
    """A framework that calls functions and collects their exceptions."""
    module = script(
        """
        def one():
            Task(int, name="one")
            assert False
        def two():
            Task(int, name="two")
            return DAG("d").run("serial")
        def framework(functions):
            outcomes = []
            for function in functions:
                try: outcomes.append(function())
                except AssertionError as error: outcomes.append(error)
            return outcomes
        """
    )
    first, second, third = module.framework([module.one, module.two, module.two])
    assert isinstance(first, AssertionError)
    assert second == third == {"two": 0}


def test_module_whose_import_failed_leaves_nothing(script):
    """An import that fails is tried again, and has its tasks once."""
    with pytest.raises(ZeroDivisionError):
        script("Task(int, name='a')\n1 / 0", name="broken")
    sys.modules.pop("broken", None)
    module = script("Task(int, name='own')\nresults = DAG('d').run('serial')", name="fine")
    assert module.results == {"own": 0}


def test_traceback_kept_by_a_thread_excepthook_does_not_pass_tasks_on(monkeypatch):
    """A thread that died with its exception kept."""
    kept = []
    monkeypatch.setattr(threading, "excepthook", kept.append)

    def failing():
        Task(int, name="failing")
        raise OSError

    thread = threading.Thread(target=failing)
    thread.start()
    thread.join(60)
    Task(lambda: 1, name="own")
    assert DAG("d").run("serial") == {"own": 1}
    assert len(kept) == 1


def test_retry_loop_of_a_third_party_decorator(script):
    """A decorator of another package that tries a builder again has the tasks of the last try only."""
    script(
        """
        import functools
        def retry(function):
            @functools.wraps(function)
            def inner(*args):
                for _ in range(3):
                    try: return function(*args)
                    except OSError: pass
            return inner
        """,
        name="thirdparty.retrying",
    )
    module = script(
        """
        from thirdparty.retrying import retry
        tries = []
        @retry
        def helper():
            tries.append(1)
            Task(lambda: len(tries), name=f"try_{len(tries)}")
            if len(tries) < 3: raise OSError
        def build():
            helper()
            return DAG("d").run("serial")
        """
    )
    assert module.build() == {"try_3": 3}
