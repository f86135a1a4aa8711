"""Callables that answer every attribute: mocks, proxies of remote objects, and objects that refer to themselves."""

from __future__ import annotations

import dataclasses
import functools
import xmlrpc.client
from unittest import mock

import pytest

from flowkit_core import DAG, Task, TaskOptionTypeError, task


def chain(func, **options):
    """Return a DAG in which a callable stands between two tasks, and its task."""
    start, made = Task(lambda: 1, name="start"), Task(func, name="made", **options)
    end = Task(lambda made: ["end", made], name="end")
    start >> made >> end
    return DAG("odd", tasks=[end]), made


def drawn(dag):
    """Draw a DAG in every format, and return the text."""
    dag.visualize("mermaid")
    dag.visualize("dot")
    return dag.visualize()


# Mocks

MOCKS = {
    "Mock": lambda: mock.Mock(return_value=7),
    "MagicMock": lambda: mock.MagicMock(return_value=7),
    "NonCallable with call": lambda: mock.Mock(side_effect=[7]),
    "named Mock": lambda: mock.Mock(name="a mock", return_value=7),
    "Mock with spec": lambda: mock.Mock(spec=lambda x: x, return_value=7),
    "autospec": lambda: mock.create_autospec(lambda x: x, return_value=7),
    "attribute of Mock": lambda: mock.Mock(**{"client.fetch.return_value": 7}).client.fetch,
    "AsyncMock": lambda: mock.AsyncMock(return_value=7),
    "autospec of async def": lambda: mock.create_autospec(coroutine_function, return_value=7),
}


async def coroutine_function(x):
    return x


@pytest.mark.parametrize("make", MOCKS.values(), ids=MOCKS)
def test_mock_as_task_is_drawn_and_run_without_extra_calls(make):
    """The run calls it once, with the result of its upstream."""
    made = make()
    dag, _ = chain(made)
    assert "made" in drawn(dag)
    dag.graph()
    assert made.call_count == 0
    assert dag.run("serial") == {"start": 1, "made": 7, "end": ["end", 7]}
    made.assert_called_once_with(1)


@pytest.mark.parametrize("make", [mock.Mock, mock.MagicMock, mock.AsyncMock])
def test_mock_has_name_of_its_class(make):
    """Its attribute __name__ is not a string."""
    assert Task(make()).name == make.__name__


@pytest.mark.parametrize("make", [mock.Mock, mock.MagicMock])
@pytest.mark.parametrize("answer", [True, False])
def test_mock_as_condition_is_called_once(make, answer):
    """Its return value counts."""
    when = make(return_value=answer)
    dag, _ = chain(lambda x: x, when=when)
    assert "when" in drawn(dag)
    assert when.call_count == 0
    assert dag.run("serial").states["made"] == ("succeeded" if answer else "skipped")
    assert when.call_count == 1


@pytest.mark.parametrize("make", [mock.Mock, mock.MagicMock])
def test_mock_as_condition_gets_each_argument_once(make):
    """By position, like a function with *args."""
    when = make(return_value=True)
    dag, _ = chain(lambda x: x, when=when)
    dag.run("serial")
    when.assert_called_once_with(1)


def test_mock_without_answer_as_condition_is_true():
    """A Mock, as any object, is true."""
    dag, _ = chain(lambda x: x, when=mock.Mock())
    assert dag.run("serial").states["made"] == "succeeded"


def test_async_mock_as_condition_fails_the_task():
    """It returns a coroutine."""
    dag, _ = chain(lambda x: x, when=mock.AsyncMock(return_value=False))
    with pytest.raises(TypeError, match="neither true nor false"):
        dag.run("serial")


@pytest.mark.parametrize("make", [mock.Mock, mock.MagicMock, mock.AsyncMock])
def test_mock_with_retries_is_retried(make):
    """side_effect raises once."""
    made = make(side_effect=[ValueError, 7])
    dag, _ = chain(made, retries=1, delay=0)
    assert dag.run("serial")["made"] == 7
    assert made.call_count == 2


def test_mock_as_retry_on_is_called():
    """With the exception."""
    retry_on = mock.Mock(return_value=True)
    dag, _ = chain(mock.Mock(side_effect=[ValueError("no"), 7]), retries=1, delay=0, retry_on=retry_on)
    assert dag.run("serial")["made"] == 7
    assert retry_on.call_count == 1


def test_patched_function_of_task_is_not_looked_into():
    """A partial of a mock, and a wrapper around one."""
    made = mock.Mock(return_value=7)
    dag, _ = chain(functools.partial(made, 5))
    assert dag.run("serial")["made"] == 7
    made.assert_called_once_with(5, 1)


# Remote objects


class Transport(xmlrpc.client.Transport):
    """A transport that notes the calls, and answers 7."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def request(self, host, handler, request_body, verbose=False):
        parameters, method = xmlrpc.client.loads(request_body)
        self.calls.append((method, *parameters))
        return (7,)


@pytest.fixture
def server():
    """Return a proxy whose calls go nowhere, and its transport."""
    transport = Transport()
    return xmlrpc.client.ServerProxy("http://localhost:1/", transport=transport), transport


def test_remote_method_as_task_is_called_once(server):
    """Each attribute of it would be another remote method."""
    proxy, transport = server
    made = Task(proxy.math.add, name="made")
    Task(lambda: 1, name="start") >> made
    dag = DAG("remote", tasks=[made])
    assert "made" in drawn(dag)
    assert transport.calls == []
    assert dag.run("serial")["made"] == 7
    assert transport.calls == [("math.add", 1)]


def test_remote_method_as_upstream_is_not_called_when_built(server):
    """Its annotations are not read."""
    proxy, transport = server
    dag, _ = chain(proxy.add)
    end = Task(lambda rows: rows, name="other_end")
    made = Task(proxy.add, name="remote")
    made >> end
    DAG("remote", tasks=[end]).graph()
    dag.graph()
    assert transport.calls == []


def test_remote_method_as_condition_is_called_once(server):
    """Its return value counts."""
    proxy, transport = server
    dag, _ = chain(lambda x: x, when=proxy.check)
    drawn(dag)
    assert transport.calls == []
    assert dag.run("serial").states["made"] == "succeeded"
    assert transport.calls == [("check", 1)]


def test_remote_server_itself_as_task(server):
    """The proxy is callable."""
    proxy, transport = server
    made = Task(proxy, name="made")
    dag = DAG("remote", tasks=[made])
    drawn(dag)
    assert dag.run("serial", params={"attr": "transport"})["made"] is transport
    assert transport.calls == []


# Objects that lead back to themselves


class FuncIsSelf:
    """self.func = self must not be an endless loop."""

    def __init__(self):
        self.func = self

    def __call__(self, x=1):
        return x + 1


class FuncOfEachOther(FuncIsSelf):
    """Two objects in a circle."""

    def __init__(self):
        self.func = FuncIsSelf()
        self.func.func = self


class AnswersSelf:
    """Every attribute is the object itself."""

    def __getattr__(self, name):
        return self

    def __call__(self, x=1):
        return x + 1


class AnswersNew:
    """Every attribute is a new object of the kind."""

    def __getattr__(self, name):
        return AnswersNew()

    def __call__(self, x=1):
        return x + 1


class AnswersTrue:
    """Every attribute is true."""

    def __getattr__(self, name):
        return True

    def __call__(self, x=1):
        return x + 1


class AnswersByRaising:
    """Every attribute is an error that is no AttributeError."""

    def __getattr__(self, name):
        raise ConnectionError(name)

    def __call__(self, x=1):
        return x + 1


class WrappedIsSelf:
    """``__wrapped__`` is the object."""

    def __init__(self):
        self.__wrapped__ = self

    def __call__(self, x=1):
        return x + 1


class WrappedOfEachOther(WrappedIsSelf):
    """Two objects in a circle."""

    def __init__(self):
        other = WrappedIsSelf()
        self.__wrapped__, other.__wrapped__ = other, self


def looped_function(x=1):
    return x + 1


looped_function.__wrapped__ = looped_function


@dataclasses.dataclass
class Unhashable:
    """An object that is equal by value, and so has no hash."""

    amount: int = 1

    def __call__(self, x=1):
        return x + self.amount


class Touchy:
    """An object without truth and equality."""

    def __bool__(self):
        raise ValueError("no truth")

    def __eq__(self, other):
        raise ValueError("no equality")

    __hash__ = None

    def __call__(self, x=1):
        return x + 1


class OddText:
    """An object whose text attributes are not str."""

    __name__ = property(lambda self: self)
    __qualname__ = "odd"
    __doc__ = 5

    def __repr__(self):
        raise ValueError("no repr")

    def __call__(self, x=1):
        return x + 1


ODD = {
    "func = self": FuncIsSelf,
    "func in a circle": FuncOfEachOther,
    "__getattr__ returns self": AnswersSelf,
    "__getattr__ returns another": AnswersNew,
    "__getattr__ returns True": AnswersTrue,
    "__getattr__ raises": AnswersByRaising,
    "__wrapped__ = self": WrappedIsSelf,
    "__wrapped__ in a circle": WrappedOfEachOther,
    "__wrapped__ of function": lambda: looped_function,
    "unhashable": Unhashable,
    "no truth, no equality": Touchy,
    "no name, no repr": OddText,
}
odd = pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ODD.items()])


@odd
def test_odd_object_as_task_is_drawn_run_and_called(make):
    """Only ``__call__`` of its class is inspected, no other attribute."""
    dag, made = chain(make())
    assert "made" in drawn(dag)
    assert dag.run("serial") == {"start": 1, "made": 2, "end": ["end", 2]}
    assert made(5) == 6
    assert made.with_options(name="copy")(5) == 6


@odd
def test_odd_object_as_condition_is_called(make):
    """Its return value counts."""
    dag, _ = chain(lambda x: x, when=make())
    assert "when" in drawn(dag)
    assert dag.run("serial")["made"] == 1


@odd
def test_odd_object_without_name_has_that_of_its_class(make):
    """The name of a task is always a string."""
    made = Task(make())
    assert type(made.name) is str
    assert made.name
    assert DAG("odd", tasks=[made]).run("serial") == {made.name: 2}


@odd
def test_odd_object_under_partial(make):
    """The object inside the partial is not inspected."""
    dag, _ = chain(functools.partial(make()))
    drawn(dag)
    assert dag.run("serial")["made"] == 2


def test_odd_object_is_never_called_before_the_run():
    """Neither by Task() nor by graph() or visualize()."""
    calls = []

    class Counted(AnswersSelf):
        def __call__(self, *args):
            calls.append(args)
            return 7

    made = Task(Counted(), name="made")
    end = Task(lambda made: made, name="end")
    made >> end
    drawn(DAG("odd", tasks=[end]))
    assert calls == []


def test_odd_object_is_never_called_before_the_run_where_its_result_is_taken_by_order():
    """Annotations are read from its class."""
    calls = []

    class Counted(AnswersSelf):
        def __call__(self, *args):
            calls.append(args)
            return 7

    made = Task(Counted(), name="made")
    end = Task(lambda rows: rows, name="end")
    made >> end
    drawn(DAG("odd", tasks=[end]))
    assert calls == []


@pytest.mark.parametrize("item", [mock.Mock(), AnswersSelf(), AnswersTrue()], ids=["Mock", "self", "True"])
def test_odd_object_as_operand_is_type_error(item):
    a = Task(lambda: 1, name="a")
    for use in (lambda: a >> [item], lambda: DAG("odd", tasks=[item]), lambda: a.after([item])):
        with pytest.raises(TypeError, match="not a task"):
            use()


@pytest.mark.parametrize("option", ["trigger", "cache"])
def test_mock_as_other_option_is_refused_or_satisfies_the_protocol(option):
    """A trigger must be a string; a cache must have the methods of the protocol."""
    if option == "trigger":
        with pytest.raises(TaskOptionTypeError):
            Task(lambda: 1, trigger=mock.Mock())
    else:
        with pytest.raises(TaskOptionTypeError):
            task(cache=object())(lambda: 1)
