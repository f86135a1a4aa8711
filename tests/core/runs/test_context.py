"""``current()`` where there is no task, read-only facts, notes of a store, and memory."""

from __future__ import annotations

import gc
import pickle
import weakref
from threading import Thread

import pytest

from flowkit_core import DAG, ContextError, SerialExecutor, Task, current, task


def test_outside_of_tasks_error_shows_what_to_do():
    with pytest.raises(ContextError, match=r"no task of a run is running: .*context = current\(\)"):
        current()


def test_direct_call_of_task_has_no_context():
    @task
    def alone():
        return current()

    with pytest.raises(ContextError):
        alone()


def test_task_called_by_a_task_has_context_of_the_caller():
    helper = Task(lambda: current().task, name="helper")
    caller = Task(lambda: helper(), name="caller")
    assert DAG("calls", tasks=[caller]).run("serial") == {"caller": "caller"}


def test_after_run_there_is_no_context():
    DAG("one", tasks=[Task(lambda: current().task, name="one")]).run("serial")
    with pytest.raises(ContextError):
        current()


def test_context_that_an_observer_asks_for_ends_with_the_call():
    seen = []
    one, two = Task(lambda: None, name="one"), Task(lambda: None, name="two")
    one >> two
    DAG("both", tasks=[two]).run("serial", observers=[lambda event: event.task and seen.append(current().task)])
    assert {*seen} == {"one", "two"}
    with pytest.raises(ContextError):
        current()


@pytest.mark.parametrize("observers", [[], [lambda event: None]])
def test_current_returns_same_object_within_a_call(observers):
    same = Task(lambda: current() is current(), name="same")
    assert DAG("same", tasks=[same]).run("serial", observers=observers) == {"same": True}


def test_context_of_one_task_is_not_that_of_the_next():
    names = [Task(lambda: current().task, name=f"task_{number}") for number in range(5)]
    assert DAG("five", tasks=names).run("serial") == {f"task_{number}": f"task_{number}" for number in range(5)}


def test_params_are_read_only():
    @task
    def change(size):
        current().params["size"] = 2

    with pytest.raises(TypeError):
        DAG("sizes", tasks=[change]).run("serial", params={"size": 1})


def test_notes_are_read_only():
    @task
    def change():
        current().notes["job"] = 1

    with pytest.raises(TypeError):
        DAG("jobs", tasks=[change]).run("serial")


def test_key_of_note_must_be_text():
    @task
    def remember():
        current().remember(1, "one")

    with pytest.raises(TypeError, match="the key of a note is 1, but must be a str"):
        DAG("jobs", tasks=[remember]).run("serial")


def test_notes_of_tasks_are_separate():
    @task
    def first():
        current().remember("job", 1)

    @task
    def second(first):
        return dict(current().notes)

    first >> second
    assert DAG("jobs", tasks=[second]).run("serial")["second"] == {}


def test_note_after_the_run_is_an_error():
    kept = []

    @task
    def keep():
        kept.append(current())

    DAG("late", tasks=[keep]).run("serial")
    with pytest.raises(ContextError, match=r"note 'job' cannot be kept: run '\w+' of 'late' has ended"):
        kept[0].remember("job", 1)


def test_logger_of_context_is_below_flowkit():
    name = Task(lambda: current().logger.name, name="name")
    assert DAG("logs", tasks=[name]).run("serial") == {"name": "flowkit.task"}


def test_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(ContextError("no answer")))
    assert (type(error), str(error)) == (ContextError, "no answer")
    assert "no task" in str(pickle.loads(pickle.dumps(ContextError())))


def test_representation_names_the_call():
    shown = Task(lambda: repr(current()), name="shown")
    assert DAG("shows", tasks=[shown]).run("serial") == {"shown": "<TaskContext shown of shows, attempt 1>"}


def test_kept_context_keeps_no_values_alive():
    class Value:
        pass

    kept, references = [], []

    @task
    def make():
        kept.append(current())
        value = Value()
        references.append(weakref.ref(value))
        return value

    results = DAG("memory", tasks=[make]).run("serial")
    del results
    gc.collect()
    assert references[0]() is None


def test_thread_of_a_task_may_outlive_it():
    """It keeps the context of its task, while other tasks run."""
    threads, found = [], []

    @task
    def start():
        context = current()
        thread = Thread(target=context.run, args=(lambda: found.append(current().task),))
        threads.append(thread)

    @task
    def go_on(start):
        threads[0].start()
        threads[0].join()
        return current().task

    start >> go_on
    assert DAG("threads", tasks=[go_on]).run(SerialExecutor())["go_on"] == "go_on"
    assert found == ["start"]


class Journal:
    """A journal that keeps notes, and nothing else."""

    def __init__(self, store):
        self.store, self.run_id, self.done, self.outdated = store, "1", {}, {}

    def prepare(self, index, value):
        return value

    def record(self, *args, **facts):
        pass

    def close(self, status, rest, error):
        pass


class NoteJournal(Journal):
    def notes(self, index, element):
        return self.store.notes.get((index, element), {})

    def remember(self, index, element, key, value):
        if value == "bad":
            raise ValueError("cannot be stored")
        self.store.notes.setdefault((index, element), {})[key] = value


class Store:
    """A store whose runs are always resumed."""

    def __init__(self, journal):
        self.journal, self.notes = journal, {}

    def open_run(self, *args):
        return self.journal(self)

    def cache(self, own=None):
        return own

    def close(self):
        pass


@task
def submit():
    context = current()
    job = context.notes.get("job")
    if job is None:
        context.remember("job", "job-17")
        raise ConnectionError("no answer")
    return f"went on with {job}"


def test_notes_of_store_are_there_in_the_next_execution():
    store, dag = Store(NoteJournal), DAG("jobs", tasks=[submit])
    with pytest.raises(ConnectionError):
        dag.run("serial", state=store)
    assert store.notes == {(0, None): {"job": "job-17"}}
    assert dag.run("serial", state=store) == {"submit": "went on with job-17"}


def test_note_that_store_refuses_is_an_error_of_the_task():
    bad = Task(lambda: current().remember("job", "bad"), name="bad")
    with pytest.raises(ValueError, match="cannot be stored"):
        DAG("jobs", tasks=[bad]).run("serial", state=Store(NoteJournal))


def test_store_without_notes_is_a_warning():
    dag = DAG("jobs", tasks=[submit.with_options(retries=1, delay=0)])
    with pytest.warns(RuntimeWarning, match="the notes of 'jobs' are kept for this run only"):
        assert dag.run("serial", state=Store(Journal)) == {"submit": "went on with job-17"}
