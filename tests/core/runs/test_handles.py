"""Results that a lane keeps elsewhere, and hands to the run as handles."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Outcome, SerialExecutor, Task
from flowkit_core.events import TaskSucceeded
from flowkit_core.runs.handle import ListHandle
from flowkit_core.runs.session import Session
from flowkit_core.runs.states import FAILED


class Remote:
    """A handle: a value in the memory of a lane."""

    __flowkit_handle__ = True
    nbytes = None

    def __init__(self, lane, value, *, is_lost=False, digest=None):
        self.digest = digest
        self.lane, self.value, self.is_lost = lane, value, is_lost
        self.fetched = self.released = 0

    def fetch(self):
        self.fetched += 1
        if self.is_lost:
            raise ConnectionError("the cluster is gone")
        return self.value

    def release(self):
        self.released += 1


def value_of(arg):
    if isinstance(arg, ListHandle):
        return [*map(value_of, arg.items)]
    return arg.value if isinstance(arg, Remote) else arg


class RemoteExecutor:
    """Makes calls at once, and keeps their results; its lane passes on handles."""

    name = "remote"
    has_loop = needs_calling_thread = may_fork = False
    makes_handles = True
    fate_of_unfinished = "abandoned"

    def __init__(self, *, loses=(), digests=False):
        self.loses = loses
        self.digests = digests
        self.handles = {}

    def lane(self):
        return self

    def execute(self, run):
        Session(run, [self]).drive()

    def open(self, session):
        self.session = session

    def put(self, nodes):
        for node in nodes:
            call = self.session.begin(node, takes_handles=True)
            if call is None:
                continue
            args = [*map(value_of, call.args)]
            try:
                value = call.func(*args)
            except Exception as error:
                self.session.end(node, Outcome(FAILED, error=error), attempt=call.attempt)
            else:
                make = self.session.run.argument_digest(node) if self.digests else None
                digest = None if make is None else make(value)
                handle = Remote(self, value, is_lost=node.name in self.loses, digest=digest)
                self.handles[node.name] = handle
                self.session.end(node, handle, attempt=call.attempt)

    def wake(self):
        """The session waits."""

    def stop(self, *, end_calls):
        """No call is running."""

    def close(self):
        return ()


def chain():
    make = Task(lambda: [3, 1, 2], name="make", executor="remote")
    order = Task(lambda rows: sorted(rows), name="order", executor="remote")
    show = Task(lambda rows: f"first {rows[0]}", name="show", when=lambda rows: len(rows) == 3)
    make >> order >> show
    return DAG("d", tasks=[show])


def test_handle_passes_within_its_lane_and_is_fetched_for_another():
    remote = RemoteExecutor()
    results = chain().run({"default": SerialExecutor(), "remote": remote})
    assert results == {"make": [3, 1, 2], "order": [1, 2, 3], "show": "first 1"}
    make, order = remote.handles["make"], remote.handles["order"]
    assert (make.fetched, make.released) == (1, 1)  # for the results only
    assert (order.fetched, order.released) == (2 + 1, 1)  # as an argument, for the condition, and for the results


def test_condition_gets_the_value_of_a_handle_also_by_name():
    rows = Task(lambda: [3, 1, 2], name="rows", executor="remote")
    inner = DAG("inner", tasks=[Task(len, name="count")]).as_task(when=lambda *, rows: len(rows) == 3)
    rows >> inner
    results = DAG("outer", tasks=[inner]).run({"default": SerialExecutor(), "remote": RemoteExecutor()})
    assert results["inner"] == 3


def test_results_of_a_run_of_one_lane_are_values():
    numbers = [Task(lambda *x: sum(x) + 1, name=f"n{number}") for number in range(4)]
    numbers[0] >> [numbers[1], numbers[2]] >> numbers[3]
    assert DAG("d", tasks=[numbers[3]]).run(RemoteExecutor()) == {"n0": 1, "n1": 2, "n2": 2, "n3": 5}


def test_value_that_is_lost_fails_the_task_that_needs_it():
    with pytest.raises(ConnectionError, match="the cluster is gone") as caught:
        chain().run({"default": SerialExecutor(), "remote": RemoteExecutor(loses={"order"})})
    assert "task 'show'" in caught.value.__notes__[0]


def test_value_that_is_lost_at_the_end_fails_its_task():
    tasks = [Task(int, name="kept"), Task(int, name="lost")]
    results = DAG("d", tasks=tasks).run(RemoteExecutor(loses={"lost"}), raise_on_failure=False)
    assert (results, results.states) == ({"kept": 0}, {"kept": "succeeded", "lost": "failed"})
    assert isinstance(results.failed["lost"], ConnectionError)


def interrupt():
    raise KeyboardInterrupt


def test_results_of_an_interrupted_run_are_values():
    remote = RemoteExecutor()
    make, stop = Task(lambda: [3, 1, 2], name="make", executor="remote"), Task(interrupt, name="stop")
    make >> stop
    with pytest.raises(KeyboardInterrupt) as caught:
        DAG("d", tasks=[stop]).run({"default": SerialExecutor(), "remote": remote})
    assert caught.value.flowkit_results == {"make": [3, 1, 2]}
    assert (remote.handles["make"].fetched, remote.handles["make"].released) == (1, 1)


def test_interrupt_while_results_are_fetched_leaves_no_handles_in_the_results():
    remote = RemoteExecutor()
    tasks = [Task(int, name=name) for name in ("first", "second")]

    def fetch():
        raise KeyboardInterrupt

    def observe(event):
        if event.task == "second":
            remote.handles["second"].fetch = fetch

    observe.events = (TaskSucceeded,)
    with pytest.raises(KeyboardInterrupt) as caught:
        DAG("d", tasks=tasks).run(remote, observers=[observe])
    results = caught.value.flowkit_results
    assert (results, results.states) == ({"first": 0}, {"first": "succeeded", "second": "cancelled"})
    assert [handle.released for handle in remote.handles.values()] == [1, 1]


def test_condition_gets_the_value_of_a_handle_of_the_same_lane():
    make = Task(lambda: [3, 1, 2], name="make")
    show = Task(lambda rows: rows[0], name="show", when=lambda rows: len(rows) == 3)
    make >> show
    assert DAG("d", tasks=[show]).run(RemoteExecutor()) == {"make": [3, 1, 2], "show": 3}


class DigestCache:
    """A cache that takes digests of arguments."""

    argument_digest = staticmethod(len)

    def __init__(self):
        self.calls = []

    def over(self, state):
        return self

    def find(self, function, args, kwargs, *, name, ignore, refresh):
        self.calls.append([arg.digest if isinstance(arg, Remote) else arg for arg in args])
        return self

    def keep(self, token, value):
        self.calls.append(value)

    known, value, token, why = False, None, "token", "it is never known"


def test_cache_gets_digests_of_values_that_stay_elsewhere():
    remote, cache = RemoteExecutor(digests=True), DigestCache()
    make = Task(lambda: [3, 1, 2], name="make")
    order = Task(lambda rows: sorted(rows), name="order", cache=cache)
    make >> order
    assert DAG("d", tasks=[order]).run(remote, keep=["order"]) == {"order": [1, 2, 3]}
    assert cache.calls == [[3], [1, 2, 3]]
    assert remote.handles["make"].fetched == 0


@pytest.mark.parametrize("is_taken", [True, False])
def test_cache_gets_values_without_digests(is_taken):
    remote, cache = RemoteExecutor(digests=not is_taken), DigestCache()
    if not is_taken:
        cache.argument_digest = None
    make = Task(lambda: [3, 1, 2], name="make")
    order = Task(lambda rows: sorted(rows), name="order", cache=cache)
    make >> order
    assert DAG("d", tasks=[order]).run(remote, keep=["order"]) == {"order": [1, 2, 3]}
    assert cache.calls == [[[3, 1, 2]], [1, 2, 3]]


def test_results_that_are_not_stored_are_not_fetched():
    remote = RemoteExecutor()
    make, order = Task(lambda: [3, 1, 2], name="make", record=False), Task(sorted, name="order", cache=DigestCache())
    make >> order
    DAG("d", tasks=[order, Task(int, name="alone")]).run(remote, keep=["order"])
    fetches = {name: handle.fetched for name, handle in remote.handles.items()}
    assert fetches == {"make": 1, "order": 2, "alone": 0}  # for the cache, for that and the results, for nothing


def maps(*, where, errors="raise"):
    """Return a DAG of two mapped tasks on an executor `remote`, and a task that takes the list of the second one."""
    double = Task(lambda x: 2 * x, name="double", executor="remote")
    half = Task(lambda x: 2 // x, name="half", executor="remote")
    total = Task(lambda items: [*items], name="total", executor=where)
    double.map("x") >> half.map(errors=errors) >> total
    return DAG("d", tasks=[total])


def test_results_of_elements_stay_where_the_list_is_taken():
    remote = RemoteExecutor()
    executors = {"default": SerialExecutor(), "remote": remote}
    assert maps(where="remote").run(executors, params={"x": [1, 2]}, keep=["total"]) == {"total": [1, 0]}
    found = {name: (handle.fetched, handle.released) for name, handle in remote.handles.items()}
    assert found == {f"{name}[{n}]": (0, 1) for name in ("double", "half") for n in (0, 1)} | {"total": (1, 1)}


@pytest.mark.parametrize("keep", [["total"], None])
def test_results_of_elements_are_fetched_for_other_lanes_and_for_results(keep):
    remote = RemoteExecutor()
    executors = {"default": SerialExecutor(), "remote": remote}
    results = maps(where="default").run(executors, params={"x": [1, 2]}, keep=keep)
    assert results == ({} if keep else {"double": [2, 4], "half": [1, 0]}) | {"total": [1, 0]}
    assert [remote.handles[f"half[{n}]"].fetched for n in (0, 1)] == ([1, 1] if keep else [2, 2])
    assert {handle.released for handle in remote.handles.values()} == {1}


@pytest.mark.parametrize(("errors", "expected"), [("raise", {}), ("drop", {"total": [1]})])
def test_results_of_elements_are_released_after_failures(errors, expected):
    remote = RemoteExecutor()
    executors = {"default": SerialExecutor(), "remote": remote}
    dag = maps(where="remote", errors=errors)
    options = {"keep": ["total"], "fail_fast": False, "raise_on_failure": False}
    assert dag.run(executors, params={"x": [1, 0]}, **options) == expected
    assert {handle.released for handle in remote.handles.values()} == {1}


def test_element_whose_value_is_lost_fails_the_task_that_takes_the_list():
    executors = {"default": SerialExecutor(), "remote": RemoteExecutor(loses={"half[1]"})}
    with pytest.raises(ConnectionError, match="the cluster is gone") as caught:
        maps(where="default").run(executors, params={"x": [1, 2]})
    assert "task 'total'" in caught.value.__notes__[0]
