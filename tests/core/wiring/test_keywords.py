"""Keywords: unknown ones get advice, those of other tools a translation, and options that do nothing a warning."""

from __future__ import annotations

import warnings

import pytest

from flowkit_core import DAG, Task, TaskOptionError, TaskOptionTypeError, task
from flowkit_core.testing import simulate, simulate_many, verify_resume


def dag():
    """Return a DAG of one task."""
    return DAG("etl", tasks=[Task(lambda: 1, name="one")])


def refused(call):
    """Return the text of the TypeError that a call raises."""
    with pytest.raises(TypeError) as caught:
        call()
    return str(caught.value)


# DAG


@pytest.mark.parametrize(
    ("keyword", "advice"),
    [
        ("workers", "'max_workers'"),
        ("n_jobs", "'max_workers'"),
        ("num_workers", "'max_workers'"),
        ("concurrency", "'max_workers'"),
        ("max_threads", "'max_workers'"),
        ("max_active_tasks", "'max_workers'"),
        ("dag_id", "DAG('etl')"),
        ("task", "tasks=[...]"),
        ("executor", "run(executor=...)"),
        ("schedule", "run() from cron"),
        ("schedule_interval", "run() from cron"),
        ("cron", "run() from cron"),
        ("start_date", "run(params="),
        ("catchup", "once for each date"),
        ("default_args", "@task(retries=3)"),
        ("retries", "@task(retries=3)"),
        ("description", "the name"),
        ("tags", "no tags"),
        ("params", "run(params="),
        ("state", "run(state=...)"),
        ("fail_fast", "run(fail_fast=...)"),
        ("delay", "@task(delay=...)"),
        ("retry", "@task(retries=3)"),
        ("timeout", "run(timeout=...)"),
        ("dagrun_timeout", "@task(timeout=...)"),
        # near misses
        ("schedules", "run() from cron"),
        ("max_worker", "did you mean 'max_workers'"),
        ("maxworkers", "did you mean 'max_workers'"),
        ("taks", "did you mean 'tasks'"),
        ("nmae", "did you mean 'name'"),
        # neither
        ("frobnicate", "there are: name, max_workers, tasks"),
    ],
)
def test_dag_unknown_keyword_is_type_error_with_advice(keyword, advice):
    text = refused(lambda: DAG("etl", **{keyword: 4}))
    assert "DAG('etl')" in text
    assert repr(keyword) in text
    assert advice in text


def test_dag_several_unknown_keywords_name_one():
    """The first one is enough."""
    assert "'workers'" in refused(lambda: DAG("etl", workers=4, schedule="@daily"))


def test_dag_of_subclass_refuses_unknown_keyword():
    """Through a constructor that passes keywords on."""

    class Own(DAG):
        def __init__(self, name, **options):
            super().__init__(name, **options)

    assert "'max_workers'" in refused(lambda: Own("etl", workers=4))


def test_dag_tasks_by_position_says_keyword():
    """DAG([load]) and DAG("etl", [load])."""
    load = Task(lambda: 1, name="load")
    assert "DAG('name', tasks=[load])" in refused(lambda: DAG([load]))
    assert "max_workers" in refused(lambda: DAG("etl", [load]))


def test_dag_tasks_that_is_one_task_says_list():
    """DAG("etl", tasks=load)."""
    assert "tasks=[load]" in refused(lambda: DAG("etl", tasks=Task(lambda: 1, name="load")))


# check(), plan(), visualize(), simulate(), verify_resume()


@pytest.mark.parametrize(
    ("call", "known"),
    [
        (lambda options: dag().check(**options), "executor"),
        (lambda options: dag().plan(**options), "state"),
        (lambda options: dag().visualize(**options), "format"),
        (lambda options: simulate(dag(), **options), "seed"),
        (lambda options: simulate_many(dag(), **options), "seeds"),
        (lambda options: verify_resume(dag(), **options), "serializer"),
    ],
)
def test_unknown_keyword_of_functions_that_do_not_run_a_pipeline_is_type_error_with_advice(call, known):
    assert f"there are: {known}" in refused(lambda: call({"frobnicate": 1})).replace("executor, params, s", "s")
    assert f"did you mean {known!r}" in refused(lambda: call({known[:-1]: 1}))
    assert "give it to run(raise_on_failure=...)" in refused(lambda: call({"raise_on_failure": False}))
    assert "it belongs to run(): use 'max_workers'" in refused(lambda: call({"n_jobs": 4}))


@pytest.mark.parametrize("call", [lambda **options: dag().plan(**options), lambda **options: dag().check(**options)])
def test_hint_names_an_option_that_the_function_takes_itself(call):
    assert "'parameters': use 'params'; there" in refused(lambda: call(parameters={}))


# run()


@pytest.mark.parametrize(
    ("keyword", "advice"),
    [
        ("workers", "'max_workers'"),
        ("n_jobs", "'max_workers'"),
        ("num_workers", "'max_workers'"),
        ("concurrency", "'max_workers'"),
        ("max_threads", "'max_workers'"),
        ("scheduler", "'executor'"),
        ("backend", "'executor'"),
        ("parallel", "executor='thread'"),
        ("parameters", "'params'"),
        ("inputs", "'params'"),
        ("conf", "'params'"),
        ("config", "'params'"),
        ("kwargs", "'params'"),
        ("raise_on_error", "'raise_on_failure'"),
        ("continue_on_failure", "fail_fast=False"),
        ("keep_going", "fail_fast=False"),
        ("callbacks", "'observers'"),
        ("hooks", "'observers'"),
        ("store", "'state'"),
        ("db", "'state'"),
        ("checkpoint", "'state'"),
        ("restart", "resume=True"),
        ("tasks", "DAG(tasks=[...])"),
        ("tags", "no tags"),
        ("schedule", "run() from cron"),
        ("retries", "@task(retries=3)"),
        # near misses
        ("exectuor", "did you mean 'executor'"),
        ("param", "did you mean 'params'"),
        ("failfast", "did you mean 'fail_fast'"),
        ("raise_on_failures", "did you mean 'raise_on_failure'"),
        ("resum", "did you mean 'resume'"),
        ("observer", "did you mean 'observers'"),
        # near misses of keywords of other tools
        ("worker", "'max_workers'"),
        ("continue_on_failures", "fail_fast=False"),
        ("timeouts", "did you mean 'timeout'"),
        ("dagrun_timeout", "use 'timeout', in seconds"),
        # parameters of tasks
        ("logical_day", "params={'logical_day': ...}"),
        ("x", "params={'x': ...}"),
    ],
)
def test_run_unknown_keyword_is_type_error_with_advice(keyword, advice):
    """Nothing runs."""
    ran = []
    pipeline = DAG("etl", tasks=[Task(lambda: ran.append(1), name="one")])
    text = refused(lambda: pipeline.run("serial", **{keyword: 4}))
    assert "run()" in text
    assert repr(keyword) in text
    assert advice in text
    assert ran == []


@pytest.mark.parametrize("keyword", ["date", "rate", "start"])
def test_run_keyword_that_is_a_parameter_says_params(keyword):
    namespace = {}
    exec(f"def one({keyword}=None): return {keyword}", namespace)
    pipeline = DAG("etl", tasks=[Task(namespace["one"])])
    assert f"params={{{keyword!r}: ...}}" in refused(lambda: pipeline.run("serial", **{keyword: 4}))


def test_run_date_says_params():
    assert "params={'date': ...}" in refused(lambda: dag().run("serial", date="2026-01-01"))


@pytest.mark.parametrize("option", ["fail_fast", "raise_on_failure"])
@pytest.mark.parametrize("value", ["no", "", 0, 1, None, [], 0.0], ids=repr)
def test_run_switch_that_is_not_a_bool_is_type_error(option, value):
    """fail_fast="no" must not count as true."""
    text = refused(lambda: dag().run("serial", **{option: value}))
    assert option in text
    assert repr(value) in text
    assert "True or False" in text


@pytest.mark.parametrize("observers", [print, len], ids=repr)
def test_run_single_observer_says_list(observers):
    """observers=print."""
    assert "observers=[...]" in refused(lambda: dag().run("serial", observers=observers))


# @task


@pytest.mark.parametrize(
    ("keyword", "advice"),
    [
        ("retry", "'retries'"),
        ("max_retries", "'retries'"),
        ("attempts", "'retries'"),
        ("retry_delay", "'delay'"),
        ("retry_delay_seconds", "'delay'"),
        ("condition", "'when'"),
        ("skip_if", "opposite"),
        ("trigger_rule", "'trigger'"),
        ("task_id", "'name'"),
        ("timeout_seconds", "use 'timeout', in seconds"),
        ("time_limit", "use 'timeout', in seconds"),
        ("execution_timeout", "use 'timeout', in seconds"),
        ("max_retry_delay", "'max_delay'"),
        ("upstream", "'>>'"),
        ("depends_on", "'>>'"),
        ("cache_key_fn", "TaskCache(key=...)"),
        ("persist_result", "run(): use 'state'"),
        ("tags", "no tags"),
        ("schedule", "run() from cron"),
        # near misses
        ("retires", "did you mean 'retries'"),
        ("dealy", "did you mean 'delay'"),
        ("back_off", "did you mean 'backoff'"),
        ("retryon", "did you mean 'retry_on'"),
        ("maxdelay", "did you mean 'max_delay'"),
        ("whne", "did you mean 'when'"),
        ("triger", "did you mean 'trigger'"),
        ("cached", "did you mean 'cache'"),
        # near misses of keywords of other tools
        ("timeouts", "did you mean 'timeout'"),
        ("timeout_second", "use 'timeout', in seconds"),
        ("retries_delay", "'delay', in seconds"),
        ("tag", "no tags"),
        ("depends", "'>>'"),
        # neither
        ("frobnicate", "there are: name, retries"),
    ],
)
def test_task_unknown_keyword_is_type_error_with_advice(keyword, advice):
    """In the decorator and in with_options()."""
    for call in (
        lambda: task(**{keyword: 3})(lambda: 1),
        lambda: Task(lambda: 1, name="made").with_options(**{keyword: 3}),
    ):
        text = refused(call)
        assert repr(keyword) in text
        assert advice in text


def test_task_retry_exceptions_say_retry_on():
    """Words of tenacity, celery and airflow for the same thing."""
    for keyword in ("retry_exceptions", "autoretry_for", "exceptions"):
        assert "'retry_on'" in refused(lambda keyword=keyword: task(**{keyword: OSError})(lambda: 1))


# Next to >>

OPERANDS = {
    "function": (refused, "write @task above 'def refused'"),
    "lambda": (lambda: 1, "make one of it with Task("),
    "list in list": ([Task(lambda: 1, name="inner")], "one flat list"),
    "result": (3, "without parentheses"),
    "None": (None, "without parentheses"),
    "class": (dict, "@task"),
}


@pytest.mark.parametrize(("item", "advice"), OPERANDS.values(), ids=OPERANDS)
def test_operand_that_is_not_a_task_gets_advice(item, advice):
    a = Task(lambda: 1, name="a")
    for use in (lambda: a >> [item], lambda: [item] >> a, lambda: DAG("etl", tasks=[item])):
        text = refused(use)
        assert "not a task" in text
        assert advice in text


def test_operand_that_is_a_pipeline_gets_advice():
    a = Task(lambda: 1, name="a")
    for use in (lambda: a >> dag(), lambda: [dag()] >> a, lambda: a >> [dag()]):
        text = refused(use)
        assert "a pipeline cannot be wired" in text
        assert "decorate" not in text


def test_operand_that_is_a_coroutine_gets_advice():
    """An async task that was called: without a warning about a coroutine that was never awaited."""

    @task
    async def load():
        pass

    a = Task(lambda: 1, name="a")
    assert "write a >> [load], not a >> [load()]" in refused(lambda: a >> [load()])


def test_list_wired_to_list_names_group():
    """[a, b] >> [c, d]: Python raises the error for two lists."""
    with pytest.raises(TypeError, match="unsupported operand"):
        [Task(lambda: 1, name="a")] >> [Task(lambda: 1, name="b")]


def test_left_shift_names_the_other_direction():
    """a << b."""
    a, b = Task(lambda: 1, name="a"), Task(lambda: 1, name="b")
    assert "'>>'" in refused(lambda: a << b)


# Attributes


@pytest.mark.parametrize(
    ("attribute", "advice"),
    [
        ("set_upstream", "upstream >> downstream"),
        ("set_downstream", "upstream >> downstream"),
        ("submit", "DAG(...).run()"),
        ("run", ".run()"),
        ("partial", "functools.partial"),
        ("retriess", "did you mean 'retries'"),
        ("nmae", "did you mean 'name'"),
    ],
)
def test_task_unknown_attribute_is_attribute_error_with_advice(attribute, advice):
    """Method names of other tools, and misspelled names."""
    made = Task(lambda: 1, name="made")
    with pytest.raises(AttributeError) as caught:
        getattr(made, attribute)
    assert "'made'" in str(caught.value)
    assert repr(attribute) in str(caught.value)
    assert advice in str(caught.value)
    assert not hasattr(made, attribute)


@pytest.mark.parametrize("attribute", ["__len__", "__getitem__", "_repr_html_", "__array__", "shape"])
def test_task_has_no_attribute_of_other_protocols(attribute):
    """Notebooks and libraries ask objects what they are."""
    assert not hasattr(Task(lambda: 1, name="made"), attribute)


def parse(row):
    return row


MISTAKES = {
    "iteration": (lambda rows, each: list(rows), "write rows >> parse.map()"),
    "builtin map": (lambda rows, each: list(map(each, rows)), "write rows >> parse.map()"),
    "map without call, right": (lambda rows, each: rows >> each.map, "write parse.map()"),
    "map without call, left": (lambda rows, each: each.map >> rows, "write parse.map()"),
    "map without call in a list": (lambda rows, each: rows >> [each.map], "write parse.map()"),
    "map without call in tasks": (lambda rows, each: DAG("etl", tasks=[each.map]), "write parse.map()"),
    "after without call": (lambda rows, each: rows >> each.after, "write parse.after()"),
    "task by position": (lambda rows, each: each.map(rows), "wire it, rows >> parse.map('row')"),
    "tasks by position": (lambda rows, each: each.map([rows, rows]), "wire it, [rows, rows] >> parse.map('row')"),
    "task by name": (lambda rows, each: each.map(row=rows), "wire it, rows >> parse.map('row')"),
    "value by position": (lambda rows, each: each.map([1, 2]), "run(params={'row': [...]})"),
    "value by name": (lambda rows, each: each.map(row=[1, 2]), "run(params={'row': [...]})"),
}


@pytest.mark.parametrize(("use", "advice"), MISTAKES.values(), ids=MISTAKES)
def test_mapping_mistake_is_type_error_with_advice(use, advice):
    assert advice in refused(lambda: use(Task(lambda: [1], name="rows"), Task(parse)))


@pytest.mark.parametrize(
    ("keyword", "advice"),
    [
        ("retries", "it is an option of the task: @task(retries=...)"),
        ("timeout", "@task(timeout=...)"),
        ("executor", "@task(executor=...)"),
        ("retry_delay", "belongs to the task: use 'delay'"),
        ("n_jobs", "use 'limit'"),
        ("concurrency", "use 'limit'"),
        ("max_concurrency", "use 'limit'"),
        ("chunksize", "use 'chunk'"),
        ("batch_size", "use 'chunk'"),
        ("on_error", "use 'errors'"),
        ("return_exceptions", "errors='return'"),
        ("task_run_name", "use 'label'"),
        ("over", "rows >> parse.map()"),
        ("params", "run(params=...)"),
        ("limt", "did you mean 'limit'"),
    ],
)
def test_map_unknown_keyword_is_type_error_with_advice(keyword, advice):
    text = refused(lambda: Task(parse).map(**{keyword: 3}))
    assert f"parse.map() has no option {keyword!r}" in text
    assert advice in text


WORDS = {  # of other tools: word -> parts of the hints of a task, of a pipeline, and of run()
    "sla": ("'timeout', in seconds", "run(timeout=...)", "'timeout', in seconds"),
    "op_kwargs": ("run(params={...})",) * 3,
    "op_args": ("run(params={...})",) * 3,
    "max_active_runs": ("starts no runs by itself",) * 3,
    "max_active_tasks": ("run(): use 'max_workers'", "'max_workers'", "'max_workers'"),
    "depends_on_past": ("call run(params={'date': ...}) once for each date",) * 3,
    "catchup": ("call run(params={'date': ...}) once for each date",) * 3,
    "start_date": ("call run(params={'date': ...}) once for each date",) * 3,
    "default_args": ("@task(retries=3)",) * 3,
    "chain": ("first >> second >> third",) * 3,
    "trigger_rule": ("use 'trigger'", "tasks: use 'trigger'", "tasks: use 'trigger'"),
    "task_id": ("use 'name'", "tasks: use 'name'", "tasks: use 'name'"),
    "provide_context": ("flowkit.current()",) * 3,
    "retry_delay_seconds": ("'delay', in seconds", "tasks: use 'delay'", "tasks: use 'delay'"),
    "cache_key_fn": ("TaskCache(key=...)",) * 3,
    "cache_expiration": ("TaskCache(ttl=seconds)",) * 3,
    "log_prints": ("flowkit.current().logger",) * 3,
    "task_runner": ("run(): use 'executor'", "run(): use 'executor'", "use 'executor'"),
    "persist_result": ("run(): use 'state'", "run(): use 'state'", "use 'state'"),
    "timeout_seconds": ("'timeout', in seconds", "run(timeout=...)", "'timeout', in seconds"),
    "ins": ("first >> second",) * 3,
    "out": ("one result",) * 3,
    "io_manager_key": ("run(): use 'state'", "run(): use 'state'", "use 'state'"),
    "required_resource_keys": ("run(params={...})",) * 3,
    "n_jobs": ("run(): use 'max_workers'", "'max_workers'", "'max_workers'"),
    "num_workers": ("run(): use 'max_workers'", "'max_workers'", "'max_workers'"),
    "backend": ("run(): use 'executor'", "run(): use 'executor'", "use 'executor'"),
}


@pytest.mark.parametrize("word", WORDS)
def test_word_of_another_tool_is_type_error_with_advice_everywhere(word):
    pipeline = dag()
    calls = (lambda: task(**{word: 1}), lambda: DAG("etl", **{word: 1}), lambda: pipeline.run("serial", **{word: 1}))
    for call, advice in zip(calls, WORDS[word], strict=True):
        text = refused(call)
        assert repr(word) in text
        assert advice in text


def test_run_keyword_of_tasks_that_may_be_a_parameter_says_params():
    assert "params={'owner': ...}" in refused(lambda: dag().run("serial", owner="data team"))


# Options that do nothing

IDLE = [
    {"delay": 0},
    {"delay": 2.0},
    {"delay": 1.0},
    {"backoff": 0},
    {"backoff": 2.0},
    {"jitter": 0},
    {"jitter": 1},
    {"max_delay": 0},
    {"retry_on": OSError},
    {"retry_on": lambda error: True},
    {"delay": 2, "backoff": 3},
    {"retry_on": OSError, "delay": 2, "jitter": 0},
]


@pytest.mark.parametrize("options", IDLE, ids=lambda options: ",".join(options))
@pytest.mark.parametrize("form", ["decorator", "Task", "with_options"])
def test_idle_option_warns_and_names_task_and_options(options, form):

    def load():
        return 1

    plain = Task(load)
    with pytest.warns(RuntimeWarning, match="without retries") as caught:
        made = {
            "decorator": lambda: task(**options)(load),
            "Task": lambda: Task(load, **options),
            "with_options": lambda: plain.with_options(**options),
        }[form]()
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "'load'" in text
    assert all(option in text for option in options)
    assert caught[0].filename == __file__
    assert all(getattr(made, option) == value for option, value in options.items())


@pytest.mark.parametrize(
    "options",
    [
        {"retries": 1, "delay": 2},
        {"retries": 0, "delay": 2},
        {"retries": 0, "retry_on": OSError},
        {"retries": 3},
        {"retries": 0},
        {"retry_on": None},
        {"when": None, "trigger": "all_done"},
        {"name": "made"},
    ],
    ids=lambda options: ",".join(f"{name}={value}" for name, value in options.items()),
)
def test_option_with_retries_given_does_not_warn(options):
    """Also with an explicit retries=0."""
    task(**options)(lambda: 1)
    Task(lambda: 1, **options)


def test_copy_of_task_with_retries_does_not_warn():
    """The copy has them, too; so has one that turns them off."""
    made = Task(lambda: 1, name="made", retries=3, delay=0)
    made.with_options(delay=5)
    made.with_options(retries=0)
    made.with_options(retries=0).with_options(delay=1)


def test_copy_of_task_that_warned_does_not_warn_again():
    """The warning was issued when the original was created."""
    with pytest.warns(RuntimeWarning):
        made = Task(lambda: 1, name="made", delay=5)
    assert made.with_options(name="again").delay == 5


@pytest.mark.parametrize("options", [{"timeout": 1}, {"executor": "process"}, {"pool": "db"}], ids=str)
def test_option_that_does_nothing_for_a_generator_warns(options):
    def rows():
        yield 1

    with pytest.warns(RuntimeWarning, match=rf"'rows' is a generator function, so {next(iter(options))}= does nothing"):
        made = Task(rows, **options)
    problems = DAG("d", tasks=[made], pools={"db": 1}).check()
    assert [problem.task for problem in problems if problem.kind == "option"] == ["rows"]


def test_wrong_idle_option_is_an_error_first():
    """The error for an invalid value precedes the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TaskOptionError):
            Task(lambda: 1, delay=-1)
        with pytest.raises(TaskOptionTypeError):
            Task(lambda: 1, retry_on="OSError")


# Results


def test_results_unknown_key_gets_suggestion():
    results = DAG("etl", tasks=[Task(lambda: 1, name="extract")]).run("serial")
    with pytest.raises(KeyError, match="did you mean 'extract'"):
        results["extrct"]


# check(), positional arguments, methods


@pytest.mark.parametrize(
    ("keyword", "advice"),
    [
        ("parms", "did you mean 'params'"),
        ("config", "use 'params'"),
        ("timeout", "run(timeout=...)"),
        ("state", "run(state=...)"),
        ("frobnicate", "there are: executor, params, pools"),
    ],
)
def test_check_unknown_keyword_is_type_error_with_advice(keyword, advice):
    text = refused(lambda: dag().check(**{keyword: {}}))
    assert text.startswith("check() has no option")
    assert advice in text


def test_task_of_a_number_says_retries():
    """@task(3)."""
    assert "write @task(retries=3)" in refused(lambda: task(3))


@pytest.mark.parametrize(
    ("method", "advice"),
    [
        ("parallel", "Flow.branch(b, c)"),
        ("then", "Flow.add(task)"),
        ("join", "Flow.merge(c)"),
        ("map_parallel", "Flow.map(parse)"),
    ],
)
def test_pipeline_method_of_other_tools_has_advice(method, advice):
    with pytest.raises(AttributeError, match=f"'etl' has no attribute '{method}'") as caught:
        getattr(dag(), method)
    assert advice in str(caught.value)
