"""Binding in a DAG: which result becomes which parameter, and the words of the error when none does."""

from __future__ import annotations

import functools
import pickle

import pytest

from flowkit_core import DAG, BindingError, FlowkitError, Task, task


def sources(names):
    """Return a task for each letter, which returns its own name."""
    return [Task(lambda name=name: name, name=name) for name in names]


def bound(func, upstream, params=None, name="sink"):
    """Return what a function is called with, when it stands after the named upstreams."""
    sink = Task(func, name=name)
    sources(upstream) >> sink
    return DAG("binding", tasks=[sink]).run(params=params)[name]


def refused(func, upstream, params=None, name="sink", others=()):
    """Return the error about a function that does not fit, having made sure that nothing ran."""
    ran = []
    sink = Task(func, name=name)
    [Task(lambda: ran.append(1), name=upstream_name) for upstream_name in upstream] >> sink
    dag = DAG("binding", tasks=[*(Task(lambda: ran.append(1), name=other) for other in others), sink])
    with pytest.raises(BindingError) as caught:
        dag.run(params=params)
    assert ran == []
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, FlowkitError)
    return caught.value


# Rule 1: a parameter named like a direct upstream task gets that task's result


@pytest.mark.parametrize(
    ("func", "upstream", "expected"),
    [
        (lambda a: a, "a", "a"),
        (lambda a, b: (a, b), "ab", ("a", "b")),
        (lambda b, a: (b, a), "ab", ("b", "a")),
        (lambda c, a, b: (c, a, b), "abc", ("c", "a", "b")),
        (lambda *, b, a: (b, a), "ab", ("b", "a")),
        (lambda a, *, b: (a, b), "ba", ("a", "b")),
        (lambda a, b=0: (a, b), "ba", ("a", "b")),
        (lambda a=0, b=0: (a, b), "b", (0, "b")),
        (lambda b, /, a: (b, a), "ab", ("b", "a")),
    ],
)
def test_parameter_named_like_upstream_gets_its_result(func, upstream, expected):
    """Also if the order of declaration differs."""
    assert bound(func, upstream) == expected


# Rule 2: the other upstream results fill the other parameters in order of declaration


@pytest.mark.parametrize(
    ("func", "upstream", "expected"),
    [
        (lambda x: x, "a", "a"),
        (lambda x, y: (x, y), "ba", ("b", "a")),
        (lambda x, a: (x, a), "ab", ("b", "a")),
        (lambda x, b, y: (x, b, y), "abc", ("a", "b", "c")),
        (lambda x, y=0: (x, y), "a", ("a", 0)),
        (lambda x, y=0: (x, y), "ab", ("a", "b")),
        (lambda x=1, b=2: (x, b), "b", (1, "b")),
        (lambda x, /, y: (x, y), "ab", ("a", "b")),
        (lambda *, x: x, "a", "a"),
        (lambda a, *, x: (a, x), "ba", ("a", "b")),
    ],
)
def test_parameters_without_upstream_of_their_name_are_filled_in_order(func, upstream, expected):
    assert bound(func, upstream) == expected


@pytest.mark.parametrize(
    ("func", "upstream", "expected"),
    [
        (lambda *args: args, "", ()),
        (lambda *args: args, "cab", ("c", "a", "b")),
        (lambda x, *args: (x, args), "cab", ("c", ("a", "b"))),
        (lambda a, *args: (a, args), "cab", ("a", ("c", "b"))),
        (lambda x, *args: (x, args), "a", ("a", ())),
        (lambda x=0, *args: (x, args), "abc", ("a", ("b", "c"))),
        (lambda *args, b: (args, b), "abc", (("a", "c"), "b")),
    ],
)
def test_star_args_take_remaining_results(func, upstream, expected):
    assert bound(func, upstream) == expected


@pytest.mark.parametrize(
    ("func", "upstream", "expected"),
    [
        (lambda **kwargs: kwargs, "ab", {"a": "a", "b": "b"}),
        (lambda a, **kwargs: (a, kwargs), "bac", ("a", {"b": "b", "c": "c"})),
        (lambda **kwargs: kwargs, "", {}),
    ],
)
def test_star_kwargs_take_remaining_results_by_name(func, upstream, expected):
    assert bound(func, upstream) == expected


# Rule 3: a task without parameters is only ordered after its upstreams


def test_task_without_parameters_takes_no_results():
    """Whatever the number of its upstreams."""
    seen = []
    first = Task(lambda: seen.append("first"), name="first")
    second = Task(lambda: seen.append("second"), name="second")
    last = Task(lambda: seen.append("last"), name="last")
    [first, second] >> last
    assert DAG("order", tasks=[last]).run() == {"first": None, "second": None, "last": None}
    assert seen == ["first", "second", "last"]


# The seed's examples


def test_binding_of_documented_examples():
    """transform(data), aggregate(data, b1, b2, b3) and load(result, manual=None, auto=None)."""
    assert bound(lambda data: data, ["extract"]) == "extract"
    upstream = ["fetch_data", "process_a", "process_b", "process_c"]
    assert bound(lambda data, result_a, result_b, result_c: (data, result_a, result_b, result_c), upstream) == tuple(
        upstream
    )
    upstream = ["transform", "require_manual_approval", "auto_approve"]
    assert bound(lambda transform_result, manual=None, auto=None: (transform_result, manual, auto), upstream) == tuple(
        upstream
    )


# Values


@pytest.mark.parametrize("value", [None, 0, "", [], False, NotImplemented, ...], ids=repr)
def test_values_are_passed_unchanged(value):
    """Also None and other false values."""
    source = Task(lambda: value, name="source")
    sink = Task(lambda x: [x], name="sink")
    source >> sink
    results = DAG("values", tasks=[sink]).run()
    assert results["source"] is value
    assert results["sink"][0] is value


class Touchy:
    """An array-like value: neither its truth nor its equality can be asked for."""

    __hash__ = None

    def __bool__(self):
        raise ValueError("the truth value of an array is ambiguous")

    def __eq__(self, other):
        raise ValueError("cannot compare")


def test_values_are_never_compared():
    """For example, arrays and data frames."""
    value = Touchy()
    source = Task(lambda: value, name="source")
    sink = Task(lambda x, y=0: x, name="sink")
    source >> sink
    results = DAG("values", tasks=[sink]).run()
    assert results["sink"] is value
    assert results.states == {"source": "succeeded", "sink": "succeeded"}


# params and defaults


@pytest.mark.parametrize(
    ("func", "upstream", "params", "expected"),
    [
        (lambda path: path, "", {"path": "x.csv"}, "x.csv"),
        (lambda path="y.csv": path, "", {"path": "x.csv"}, "x.csv"),
        (lambda path="y.csv": path, "", None, "y.csv"),
        (lambda path="y.csv": path, "", {}, "y.csv"),
        (lambda a, path: (a, path), "a", {"path": "x"}, ("a", "x")),
        (lambda x, *, limit: (x, limit), "a", {"limit": 3}, ("a", 3)),
        (lambda a, *, limit=9: (a, limit), "a", {"limit": 3}, ("a", 3)),
        (lambda a, *, limit=9: (a, limit), "a", None, ("a", 9)),
        (lambda a, x=1, y=2: (a, x, y), "a", {"y": 5}, ("a", 1, 5)),
        (lambda path: path, "", {"path": None}, None),
        (lambda p, /: p, "", {"p": 1}, 1),
        (lambda p=1, q=2, /: (p, q), "", {"q": 5}, (1, 5)),
    ],
)
def test_open_parameters_take_params_then_their_default(func, upstream, params, expected):
    assert bound(func, upstream, params) == expected


def test_params_reach_every_task_that_has_the_parameter_open():
    one, two = Task(lambda day: day, name="one"), Task(lambda one, day=0: (one, day), name="two")
    one >> two
    assert DAG("params", tasks=[two]).run(params={"day": 7}) == {"one": 7, "two": (7, 7)}


def test_params_belong_to_one_run():
    dag = DAG("params", tasks=[Task(lambda day=1: day, name="show")])
    assert dag.run(params={"day": 2}) == {"show": 2}
    assert dag.run() == {"show": 1}


def test_params_of_caller_are_not_changed():
    """Nor is the mapping kept."""
    given = {"day": 2}
    dag = DAG("params", tasks=[Task(lambda day: day, name="show")])
    assert dag.run(params=given) == {"show": 2}
    assert given == {"day": 2}


def test_visualize_needs_no_params():
    assert "show" in DAG("params", tasks=[Task(lambda day: day, name="show")]).visualize()


# The words of the errors


def test_missing_parameter_is_binding_error():
    """It names task and parameter, shows signature and upstreams, and lists the fixes."""

    def load(rows, table):
        return rows, table

    error = refused(load, ["extract"], name="load")
    text = str(error)
    assert "'load'" in text
    assert "'table'" in text
    assert "(rows, table)" in text
    assert "extract" in text
    assert "default" in text
    assert "params" in text
    assert (error.task, error.parameter, error.available) == ("load", "table", ("extract",))


def test_missing_parameter_without_upstreams_is_binding_error():
    text = str(refused(lambda rows: rows, [], name="load"))
    assert "'load'" in text
    assert "'rows'" in text
    assert "no upstream" in text
    assert "(rows)" in text


def test_missing_parameter_similar_to_upstream_gets_suggestion():
    error = refused(lambda fetch_users, fetch_ordres: 0, ["fetch_users"], name="report", others=["fetch_orders"])
    assert "'fetch_ordres'" in str(error)
    assert "did you mean 'fetch_orders'" in str(error)


def test_more_results_than_parameters_is_binding_error():
    """It shows the number of results, the signature, and the results that are left."""

    def load(rows):
        return rows

    error = refused(load, ["extract", "transform"], name="load")
    text = str(error)
    assert "'load'" in text
    assert "(rows)" in text
    assert "extract, transform" in text
    assert "'transform'" in text
    assert "*args" in text
    assert error.task == "load"


def test_unknown_param_is_binding_error():
    """It lists the open parameters."""
    text = str(refused(lambda path: path, [], {"path": 1, "depth": 2}))
    assert "'depth'" in text
    assert "path" in text


def test_misspelled_param_gets_suggestion():
    assert "did you mean 'start_date'" in str(refused(lambda start_date=1: 0, [], {"start_dat": 2}))


def test_param_that_upstream_fills_is_binding_error():
    """params never replace the result of an upstream."""
    error = refused(lambda rows: rows, ["rows"], {"rows": 3})
    assert "'rows'" in str(error)


@pytest.mark.parametrize("wrong", [["day"], "day", 3, {1: 2}], ids=repr)
def test_params_that_are_not_a_mapping_of_names_is_error(wrong):
    """A list of names, a string, a number."""
    text = str(refused(lambda day=1: day, [], wrong))
    assert "params" in text
    assert repr(wrong) in text or "1" in text


@pytest.mark.parametrize(
    "use",
    [lambda dag: dag.visualize(), lambda dag: dag.graph(), lambda dag: dag.run()],
    ids=["visualize", "graph", "run"],
)
def test_binding_error_is_raised_when_graph_is_built(use):
    sink = Task(lambda x: x, name="sink")
    sources("ab") >> sink
    with pytest.raises(BindingError):
        use(DAG("early", tasks=[sink]))


def test_binding_error_survives_pickling():
    """Message and attributes."""
    error = refused(lambda rows, table: 0, ["extract"], name="load")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.task, back.parameter, tuple(back.available)) == (str(error), "load", "table", ("extract",))


# Signatures that are not plain


def test_wrapped_function_binds_by_its_signature():
    """functools.wraps passes the signature on."""

    def logged(func):
        @functools.wraps(func)
        def wrapper(*args, **kwargs):
            return func(*args, **kwargs)

        return wrapper

    @logged
    def join(b, a):
        return b + a

    assert bound(join, "ab") == "ba"


def test_bound_method_binds_without_self():

    class Store:
        def save(self, rows, table="t"):
            return rows, table

    assert bound(Store().save, ["extract"]) == ("extract", "t")


def test_task_of_class():
    """Its parameters are those of the constructor."""

    class Pair:
        def __init__(self, left, right):
            self.both = left, right

    assert bound(Pair, "ab").both == ("a", "b")


def test_partial_keeps_bound_arguments():
    """Also if params has a parameter of that name for another task."""

    def scale(x, factor, end=""):
        return x * factor + end

    made = functools.partial(scale, factor=2)
    assert bound(made, "a") == "aa"
    assert bound(made, "a", {"end": "!"}) == "aa!"
    with pytest.raises(BindingError, match=r"has 'factor', but .* of this name; open parameters: end, name$"):
        bound(made, "a", {"factor": 3})
    start, asks = Task(lambda: "a", name="start"), Task(lambda factor: factor, name="asks")
    scaled = Task(made, name="scaled")
    start >> scaled
    results = DAG("scales", tasks=[scaled, asks]).run("serial", params={"factor": 3})
    assert results == {"start": "a", "scaled": "aa", "asks": 3}


def test_binding_is_the_same_in_each_run():
    """It depends on the signature alone, not on values."""

    @task
    def join(x, y, *rest, sep="-"):
        return sep.join([x, y, *rest])

    sources("abcd") >> join
    dag = DAG("again", tasks=[join])
    assert dag.run()["join"] == dag.run()["join"] == "a-b-c-d"


def test_result_beside_a_partial_without_a_free_parameter_is_an_error():
    """An argument that a partial has bound by name is not free, and the others are filled."""
    a, c = Task(lambda: 8, name="a"), Task(lambda: 7, name="c")
    pair = Task(functools.partial(lambda a, b: (a, b), b=1), name="pair")
    [a, c] >> pair
    dag = DAG("d", tasks=[pair])
    assert [problem.task for problem in dag.check()] == ["pair"]
    with pytest.raises(BindingError, match=r"takes 1 argument, \(a, \*, b=...\) \('?b'? bound by partial\)"):
        dag.run("serial")


def test_partial_that_binds_every_argument_only_waits():
    a, total = Task(lambda: 8, name="a"), Task(functools.partial(lambda b: b, b=1), name="total")
    a >> total
    assert DAG("d", tasks=[total]).run("serial") == {"a": 8, "total": 1}
