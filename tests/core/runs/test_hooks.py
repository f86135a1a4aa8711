"""Hooks of tasks and pipelines: which events they get, errors in them, options, and what they do not change."""

from __future__ import annotations

import contextlib
import gc
import logging
import pickle
import weakref

import pytest

from flowkit_core import (
    DAG,
    ContextError,
    RunFinished,
    Skip,
    Task,
    TaskFailed,
    TaskNotRun,
    TaskOptionTypeError,
    TaskRetrying,
    TaskSucceeded,
    current,
    task,
)
from flowkit_core.testing import simulate

OPTIONS = ("on_success", "on_failure", "on_retry", "on_skip")


def keep(event):
    """A hook at the top level of a module, for pickles."""


def one():
    return 1


def fail():
    raise ValueError("no rows")


def skip():
    raise Skip("no new files")


@pytest.fixture
def _no_logging():
    """Let hooks that fail be warnings."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_hooks_of_tasks_get_their_events():
    seen = []
    hooks = dict.fromkeys(OPTIONS, seen.append)
    tasks = [
        Task(one, **hooks),
        Task(fail, retries=1, delay=0, **hooks),
        Task(skip, **hooks),
        Task(one, name="plain"),
    ]
    dag = DAG("hooks", tasks=tasks)
    results = dag.run("serial", fail_fast=False, raise_on_failure=False)
    assert {(type(event), event.task) for event in seen} == {
        (TaskSucceeded, "one"),
        (TaskRetrying, "fail"),
        (TaskFailed, "fail"),
        (TaskNotRun, "skip"),
    }
    assert len(seen) == 4
    assert {(event.pipeline, event.run_id) for event in seen} == {("hooks", results.run_id)}
    (failed,) = [event for event in seen if isinstance(event, TaskFailed)]
    assert (failed.error, failed.attempt) == (results.failed["fail"], 2)


def test_hook_for_success_of_pipeline_gets_end_of_run():
    succeeded, failed = [], []
    DAG("good", tasks=[Task(one)], on_success=succeeded.append, on_failure=failed.append).run("serial")
    (event,) = succeeded
    assert (type(event), event.counts, event.error, failed) == (RunFinished, {"succeeded": 1}, None, [])


@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_hook_for_failure_of_pipeline_gets_the_exception_of_the_run(raise_on_failure):
    succeeded, failed = [], []
    dag = DAG("bad", tasks=[Task(fail)], on_success=succeeded.append, on_failure=failed.append)
    if raise_on_failure:
        with pytest.raises(ValueError, match="no rows") as caught:
            dag.run("serial")
        error = caught.value
    else:
        error = dag.run("serial", raise_on_failure=False).failed["fail"]
    (event,) = failed
    assert (type(event), event.error, succeeded) == (RunFinished, error, [])


def test_hook_for_failure_of_pipeline_gets_interrupt():
    failed = []

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DAG("stopped", tasks=[Task(interrupt)], on_failure=failed.append).run("serial")
    assert [type(event.error) for event in failed] == [KeyboardInterrupt]


def test_retries_and_skips_of_all_tasks_go_to_the_pipeline():
    seen = []
    tasks = [Task(fail, retries=1, delay=0), Task(skip)]
    dag = DAG("all", tasks=tasks, on_retry=seen.append, on_skip=seen.append)
    dag.run("serial", fail_fast=False, raise_on_failure=False)
    assert sorted((type(event).__name__, event.task) for event in seen) == [
        ("TaskNotRun", "skip"),
        ("TaskRetrying", "fail"),
    ]


def rows():
    return [0, 1, 2]


def classify(row):
    if row == 1:
        raise ValueError("odd")
    if row == 2:
        raise Skip("two")
    return row


def mapped(*, hooks=(), of_pipeline=(), errors="drop", **options):
    """Run a mapped task; return its results and what its hooks got: option, class of event, element, label."""
    seen = []

    def add_to(option):
        return lambda event: seen.append((option, type(event).__name__, event.element, event.label))

    each = Task(classify, name="each", **options, **{option: add_to(option) for option in hooks})
    Task(rows) >> each.map(errors=errors, label="row {}".format)
    dag = DAG("mapped", tasks=[each], **{option: add_to(option) for option in of_pipeline})
    return dag.run("serial", raise_on_failure=False), seen


def test_hooks_of_mapped_task_are_called_for_each_element_and_then_for_the_task():
    results, seen = mapped(hooks=OPTIONS)
    assert results["each"] == [0]
    assert seen == [
        ("on_success", "ElementSucceeded", 0, "row 0"),
        ("on_failure", "ElementFailed", 1, "row 1"),
        ("on_skip", "ElementNotRun", 2, "row 2"),
        ("on_success", "TaskSucceeded", None, None),
    ]


def test_failure_of_element_and_of_its_mapped_task_are_events_of_failed_tasks():
    seen = []
    each = Task(classify, name="each", on_failure=seen.append)
    Task(rows) >> each.map()
    DAG("mapped", tasks=[each]).run("serial", raise_on_failure=False)
    assert all(isinstance(event, TaskFailed) for event in seen)
    assert [event.element for event in seen] == [1, None]
    assert seen[0].error is seen[1].error


def test_retries_of_elements_go_to_the_task_and_the_pipeline():
    _, seen = mapped(hooks=["on_retry"], of_pipeline=["on_retry", "on_skip"], retries=1, delay=0)
    assert seen == [
        ("on_retry", "ElementRetrying", 1, "row 1"),
        ("on_retry", "ElementRetrying", 1, "row 1"),
        ("on_skip", "ElementNotRun", 2, "row 2"),
    ]


def test_failed_hook_of_an_element_is_logged_with_its_number(caplog):
    def bad(event):
        raise ValueError("no mail server")

    each = Task(classify, name="each", on_failure=bad)
    Task(rows) >> each.map(errors="drop")
    DAG("mapped", tasks=[each]).run("serial")
    (record,) = [record for record in caplog.records if "no mail server" in record.getMessage()]
    assert "on_failure of element 1 of task 'each'" in record.getMessage()


def test_task_that_did_not_run_after_a_failure_is_not_skipped():
    seen = []
    bad, below = Task(fail), Task(lambda fail: fail, name="below", on_skip=seen.append)
    bad >> below
    DAG("below", tasks=[below], on_skip=seen.append).run("serial", raise_on_failure=False)
    assert seen == []


def test_several_hooks_are_called_in_order():
    seen = []
    hooks = [lambda event: seen.append("first"), lambda event: seen.append("second")]
    DAG("two", tasks=[Task(one, on_success=hooks)]).run("serial")
    assert seen == ["first", "second"]


@pytest.mark.usefixtures("_no_logging")
@pytest.mark.parametrize("error", [ValueError("no server"), SystemExit(3)])
def test_error_in_hook_is_a_warning_and_changes_nothing(error):
    def broken(event):
        raise error

    seen = []
    dag = DAG("errors", tasks=[Task(one, on_success=[broken, seen.append])])
    expected = r"on_success of task 'one', <function .*, raised (ValueError: no server|SystemExit: 3)"
    with pytest.warns(RuntimeWarning, match=expected):
        assert dag.run("serial") == {"one": 1}
    assert len(seen) == 1


def test_error_in_hook_is_logged_with_traceback_if_there_is_a_handler():
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("flowkit")
    logger.addHandler(handler)
    try:
        DAG("logged", tasks=[Task(one)], on_success=lambda event: 1 / 0).run("serial")
    finally:
        logger.removeHandler(handler)
    (record,) = [record for record in records if getattr(record, "event", "") == "hook_failed"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("on_success of pipeline 'logged', <function")
    assert record.exc_info[0] is ZeroDivisionError
    assert record.error == "ZeroDivisionError: division by zero"


def test_hook_has_no_context_of_a_task():
    seen = []

    def ask(event):
        try:
            seen.append(current())
        except ContextError:
            seen.append(None)

    DAG("context", tasks=[Task(one, on_success=ask)]).run("serial", observers=[lambda event: None])
    assert seen == [None]


def test_hook_may_run_a_pipeline():
    seen = []
    inner = DAG("inner", tasks=[Task(one, name="inner")])
    dag = DAG("outer", tasks=[Task(one, on_success=lambda event: seen.append(inner.run("serial")))])
    assert dag.run("serial") == {"one": 1}
    assert seen == [{"inner": 1}]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("bad", [1, "hook", [keep, None], int, lambda: None, lambda one, two: None])
def test_value_that_is_no_hook_is_an_error(option, bad):
    allowed = "must be a function that takes the event and is not async, or a list of such functions"
    with pytest.raises(TaskOptionTypeError, match=allowed):
        Task(one, **{option: bad})
    with pytest.raises(TypeError, match=f"{option} of pipeline 'bad' is .*, but {allowed}"):
        DAG("bad", tasks=[Task(one)], **{option: bad})


def test_coroutine_function_is_no_hook():
    async def later(event):
        pass

    with pytest.raises(TaskOptionTypeError, match=r"on_failure is .*, but must be a function .* is not async"):
        Task(one, on_failure=later)
    with pytest.raises(TypeError, match=r"on_failure of pipeline 'd' is .*is not async"):
        DAG("d", on_failure=later)


def test_coroutine_that_a_hook_returns_is_an_error_in_the_log(caplog):
    async def later(event):
        pass

    DAG("d", tasks=[Task(one, on_success=lambda event: later(event))]).run("serial")
    (text,) = [record.getMessage() for record in caplog.records if "hooks are not awaited" in record.getMessage()]
    assert "on_success of task 'one'" in text


def test_option_of_run_is_an_error_that_names_the_place():
    with pytest.raises(TypeError, match=r"on_failure.*it is an option of tasks and pipelines"):
        DAG("run", tasks=[Task(one)]).run("serial", on_failure=keep)


def test_copy_and_pickle_keep_hooks():
    @task(on_failure=keep)
    def original():
        pass

    assert original.with_options(name="copy").on_failure is keep
    assert pickle.loads(pickle.dumps(Task(one, on_skip=[keep]))).on_skip == [keep]


def test_simulation_calls_no_hooks():
    seen = []
    dag = DAG("simulated", tasks=[Task(one, on_success=seen.append)], on_success=seen.append)
    simulate(dag)
    assert seen == []


def test_hook_for_success_leaves_other_tasks_on_the_fast_path():
    dag = DAG("fast", tasks=[Task(one, on_success=keep), Task(one, name="other")])
    assert [node.is_simple for node in dag.graph()] == [False, True]


def test_failed_run_with_hooks_leaves_no_reference_cycle():
    class Value:
        pass

    references = []

    def make():
        value = Value()
        references.append(weakref.ref(value))
        raise ValueError("no rows")

    gc.disable()
    try:
        with pytest.raises(ValueError, match="no rows"):
            DAG("cycle", tasks=[Task(make, on_failure=keep)], on_failure=keep).run("serial")
        assert references[0]() is None
    finally:
        gc.enable()


def test_interrupt_while_the_last_event_is_handled_keeps_the_results():
    def observe(_event):
        raise KeyboardInterrupt

    observe.events = (RunFinished,)
    with pytest.raises(KeyboardInterrupt) as caught:
        DAG("late", tasks=[Task(lambda: 1, name="one")]).run("serial", observers=[observe])
    assert caught.value.flowkit_results == {"one": 1}


@pytest.mark.parametrize("raises", [True, False])
def test_hook_of_a_pipeline_can_tell_which_tasks_have_failed(raises):
    """Also the elements of a mapped task that are left out, and whether or not the run raises its error."""
    seen = []
    parse = Task(lambda x: int(x), name="parse")
    load = Task(lambda: 1 / 0, name="load")
    dag = DAG("nightly", tasks=[load, parse.map("x", errors="drop")], on_failure=seen.append)
    with contextlib.suppress(ExceptionGroup):
        dag.run("serial", params={"x": ["1", "two"]}, fail_fast=False, raise_on_failure=raises)
    (event,) = seen
    assert {name: type(error) for name, error in event.failed.items()} == {
        "load": ZeroDivisionError,
        "parse[1]": ValueError,
    }


def test_hook_after_a_task_has_interrupted_the_run_has_its_exception():
    def stop():
        raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        DAG("nightly", tasks=[Task(stop)], on_failure=seen.append).run("serial")
    assert all(error is seen[0].error for error in seen[0].failed.values())
