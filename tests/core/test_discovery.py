"""Discovery: which tasks a DAG means, at the top of a module, in a function, in a notebook, in a test."""

from __future__ import annotations

import asyncio
import gc
import importlib
import linecache
import sys
import textwrap
import threading
import warnings
import weakref

import pytest

from flowkit_core import DAG, BindingError, DuplicateTaskError, FlowkitError, Task, task

pytest_plugins = ["pytester"]


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Return a function that runs a source as the module of that name, and gives the module."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(source, name="script"):
        (tmp_path / f"{name}.py").write_text(f"from flowkit_core import DAG, Task, task\n{textwrap.dedent(source)}")
        names.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for name in names:
        sys.modules.pop(name, None)
    linecache.clearcache()


class Notebook:
    """Cells that run one after the other in one namespace, as in IPython, some versions of which name their code."""

    def __init__(self, code_name):
        self.names = {"__name__": "__main__"}
        self.code_name = code_name
        self.cells = 0
        self.run("from flowkit_core import DAG, Task, task")

    def run(self, source):
        self.cells += 1
        code = compile(textwrap.dedent(source), f"<cell {self.cells}>", "exec")
        exec(code.replace(co_name=self.code_name), self.names)

    def __getitem__(self, name):
        return self.names[name]


@pytest.fixture(params=["<module>", "<cell line: 1>"])
def notebook(request):
    """An empty notebook."""
    return Notebook(request.param)


ETL = """
@task
def extract():
    return [3, 1, 2]

@task
def transform(rows):
    return sorted(rows)

@task
def load(rows):
    return f"{len(rows)} rows"
"""


# At the top level of a module


def test_a_module_gets_all_its_tasks(script):
    """DAG("name") at the top of a module: every task of that module."""
    module = script(f"{ETL}\nextract >> transform >> load\nresults = DAG('etl').run()")
    assert module.results == {"extract": [3, 1, 2], "transform": [1, 2, 3], "load": "3 rows"}


def test_a_module_gets_what_its_helper_functions_make(script):
    """A helper that makes tasks works for the module that calls it."""
    module = script(
        """
        def fetch(page):
            @task(name=f"page_{page}")
            def fetcher():
                return page
            return fetcher

        @task
        def total(*pages):
            return sum(pages)

        [fetch(page) for page in (1, 2, 3)] >> total
        fetch(9)
        results = DAG("pages").run()
        """
    )
    assert module.results == {"page_1": 1, "page_2": 2, "page_3": 3, "total": 6, "page_9": 9}


def test_a_module_gets_the_tasks_of_its_classes(script):
    """A class body is part of what is around it."""
    module = script(
        """
        class Steps:
            @task
            def first():
                return 1

        results = DAG("steps").run()
        """
    )
    assert module.results == {"first": 1}


def test_a_module_does_not_get_the_tasks_of_another(script):
    """An import alone brings nothing in."""
    script("@task\ndef elsewhere(): return 0", name="other")
    module = script("import other\n@task\ndef here(): return 1\nresults = DAG('one').run()")
    assert module.results == {"here": 1}


def test_a_module_gets_what_is_wired_to_its_tasks_wherever_it_was_defined(script):
    """A wire brings in a task of another module, and whatever that is wired to."""
    script("@task\ndef a(): return 'a'\n@task\ndef b(a): return a + 'b'\na >> b", name="other")
    module = script("from other import b\n@task\ndef c(b): return b + 'c'\nb >> c\nresults = DAG('all').run()")
    assert module.results == {"a": "a", "b": "ab", "c": "abc"}


def test_a_module_that_only_wires_imported_tasks_gets_them(script):
    """Tasks in one file, the pipeline in another: the wiring in a module makes the tasks its own."""
    script(ETL, name="steps")
    module = script(
        "from steps import extract, load, transform\nextract >> transform >> load\nresults = DAG('etl').run()"
    )
    assert module.results == {"extract": [3, 1, 2], "transform": [1, 2, 3], "load": "3 rows"}


def test_a_task_that_is_wired_to_nothing_runs_too(script):
    """Wires say what comes first, not what belongs."""
    module = script("@task\ndef a(): return 1\n@task\ndef b(): return 2\nresults = DAG('two').run()")
    assert module.results == {"a": 1, "b": 2}


def test_tasks_below_the_dag_are_found_when_it_runs(script):
    """Discovery happens at each run, not when the DAG is made."""
    module = script("dag = DAG('late')\n@task\ndef a(): return 1\nresults = dag.run()")
    assert module.results == {"a": 1}


def test_a_dag_of_a_module_finds_the_same_tasks_wherever_it_is_run(script):
    """What counts is where DAG(...) is written, not who calls run()."""
    module = script(f"{ETL}\nextract >> transform >> load\ndag = DAG('etl')\ndef main():\n    return dag.run()")

    @task
    def local():
        return 0

    assert set(module.main()) == set(module.dag.run()) == {"extract", "transform", "load"}


@pytest.mark.parametrize("where", ["top level", "helper"])
def test_a_dag_of_a_module_finds_the_same_tasks_in_another_thread(script, where):
    """The thread that runs a DAG need not be the one that defined its tasks."""
    body = (
        "@task\ndef a(): return 1\n"
        if where == "top level"
        else "def make():\n    @task\n    def a(): return 1\n    return a\nmake()\n"
    )
    module = script(f"{body}dag = DAG('threads')")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(module.dag.run("serial")))
    thread.start()
    thread.join(60)
    assert seen == [{"a": 1}]


def test_nothing_found_is_an_empty_run_with_a_warning(script, caplog):
    """No task, no results, and the log says so."""
    caplog.set_level("WARNING", logger="flowkit")
    module = script("results = DAG('nothing').run()\npicture = DAG('nothing').visualize()")
    assert module.results == {}
    assert isinstance(module.picture, str)
    assert module.picture
    (record,) = caplog.records
    assert (record.levelname, record.event, record.pipeline) == ("WARNING", "empty_run", "nothing")
    assert '"nothing" found no tasks' in record.getMessage()


COPIED = """
@task
def extract(): return [1]
@task
def load(rows): return "warehouse"
extract >> load
@task
def orders(): return [2]
@task
def load(rows): return "mart"
orders >> load
for number in range(3):
    @task
    def part(): return number
"""


def test_a_copy_that_was_not_renamed_is_told(script):
    """It took the place of a task that was wired, and nobody means that in a file."""
    module = script(COPIED)
    with pytest.warns(RuntimeWarning, match="task 'extract' was wired to 'load' of .*:5, which was defined again"):
        assert DAG("etl", tasks=[module.load, module.extract]).run("serial")["load"] == "mart"


def test_a_copy_that_is_wired_again_is_meant(script):
    """As a page does that shows how a pipeline is changed."""
    module = script(COPIED.replace("orders >> load", "extract >> load"))
    assert DAG("etl", tasks=[module.load]).run("serial") == {"extract": [1], "load": "mart"}


def test_a_reloaded_module_replaces_its_tasks(script):
    """importlib.reload gives the new definitions, once."""
    module = script(f"{ETL}\nextract >> transform >> load\ndag = DAG('etl')")
    again = importlib.reload(module)
    assert again.dag.run() == {"extract": [3, 1, 2], "transform": [1, 2, 3], "load": "3 rows"}


# Inside a function


@task
def of_the_module():
    return "module"


def test_a_function_gets_its_own_tasks_and_those_of_the_module():
    """DAG("name") inside a function: its tasks and those at the top level."""

    @task
    def own():
        return "own"

    assert DAG("here").run() == {"of_the_module": "module", "own": "own"}


def test_a_function_gets_what_helpers_made_for_the_module(script):
    """What the top level made with a helper is the module's, also for main()."""
    module = script(
        """
        def fetch(page):
            return Task(lambda: page, name=f"page_{page}")

        pages = [fetch(1), fetch(2)]

        def main():
            return DAG("main").run()
        """
    )
    assert module.main() == {"page_1": 1, "page_2": 2}


def test_a_function_does_not_get_the_tasks_of_another():
    """Another function's tasks are none of its business."""

    def other():
        @task
        def stranger():
            return 0

        return DAG("other")

    assert set(other().run()) == {"of_the_module", "stranger"}


def test_a_function_without_tasks_gets_those_of_the_module():
    """main() with nothing but DAG(...).run() runs the module's pipeline."""
    assert DAG("main").run() == {"of_the_module": "module"}


@pytest.mark.parametrize("order", ["one after the other", "both first"])
def test_a_builder_function_called_twice_gives_two_independent_dags(order):
    """Each call has tasks of its own, and the first DAG keeps working."""

    def build(number):
        @task
        def start():
            return number

        @task
        def double(start):
            return start * 2

        start >> double
        return DAG(f"build_{number}", tasks=None)

    if order == "both first":
        one, two = build(1), build(2)
        results = one.run(), two.run()
    else:
        results = (one := build(1)).run(), build(2).run()
    module = {"of_the_module": "module"}
    assert results == ({"start": 1, "double": 2} | module, {"start": 2, "double": 4} | module)
    assert one.run() == {"start": 1, "double": 2} | module


def test_a_builder_called_twice_that_wires_a_task_of_the_module_gives_each_dag_its_own(script):
    """The shared source feeds both; neither DAG sees the other's tasks."""
    module = script(
        """
        @task
        def source():
            return 10

        def build(number):
            @task
            def scaled(source):
                return source * number
            source >> scaled
            return DAG("scaled")

        one, two = build(1), build(2)
        """
    )
    assert module.two.run() == {"source": 10, "scaled": 20}
    assert module.one.run() == {"source": 10, "scaled": 10}


def test_tasks_of_another_call_that_come_in_by_a_shared_task_are_told(script):
    """What the calls of a builder share has the wiring of all of them; a copy made in the builder has its own."""
    module = script(
        """
        @task
        def merge(*parts):
            return parts

        def build(folder, target):
            Task(lambda: folder, name=folder) >> target
            return DAG(folder, tasks=[target])

        def shared(folder):
            return build(folder, merge)

        def own(folder):
            return build(folder, merge.with_options(name="own"))
        """
    )
    assert module.own("a").run("serial") == {"a": "a", "own": ("a",)}
    assert module.own("b").run("serial") == {"b": "b", "own": ("b",)}
    assert module.shared("north").run("serial")["merge"] == ("north",)
    dag = module.shared("south")
    with pytest.warns(RuntimeWarning, match=r"'north' is of another call of build\(\), .* wired to 'merge', which all"):
        assert dag.run("serial")["merge"] == ("north", "south")


def test_a_loop_around_a_dag_is_no_other_call(script):
    """Its tasks were made before the loop, and are wired to one of the module; nor is a builder that goes on."""
    module = script(
        """
        @task
        def extract():
            return 1

        def main():
            @task
            def load(extract):
                return extract
            extract >> load
            return [DAG("nightly", tasks=[load]).run("serial") for _ in range(2)]

        def longer(before, number):
            after = Task(lambda before: before + 1, name=f"after {number}")
            before >> after
            return after, DAG("so far", tasks=[after])
        """
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert module.main() == [{"extract": 1, "load": 1}] * 2
        first, dag = module.longer(module.extract, 1)
        assert dag.run("serial") == {"extract": 1, "after 1": 2}
        _, dag = module.longer(first, 2)
        assert dag.run("serial") == {"extract": 1, "after 1": 2, "after 2": 3}
    assert not told


def test_a_builder_may_be_called_in_a_loop_and_in_threads():
    """Many builders at once do not mix their tasks."""
    barrier = threading.Barrier(4, timeout=60)
    seen = {}

    def build(number):
        @task
        def value():
            return number

        barrier.wait()

        @task
        def text(value):
            return str(value)

        value >> text
        barrier.wait()
        return DAG("threads")

    def work(number):
        for round_ in range(5):
            seen[number, round_] = build(number * 100 + round_).run("serial")["text"]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {(number, round_): str(number * 100 + round_) for number in range(4) for round_ in range(5)}


def test_a_function_may_make_several_dags_in_a_loop():
    """Each round of a loop redefines the tasks, and each DAG runs those of its round."""
    seen = []
    for number in range(3):

        @task
        def value(number=number):
            return number

        seen.append(DAG("loop").run()["value"])
    assert seen == [0, 1, 2]


def test_a_recursive_builder_gives_each_level_its_own_tasks():
    """A builder that calls itself does not lose its tasks to the inner call."""

    def build(depth):
        @task
        def level():
            return depth

        inner = build(depth - 1) if depth else {}
        return {**inner, depth: DAG("level").run()["level"]}

    assert build(3) == {0: 0, 1: 1, 2: 2, 3: 3}


def test_builders_that_take_turns_do_not_mix_their_tasks():
    """Two coroutines of one function, each waiting for the other in the middle of its pipeline."""

    async def build(number, here, there):
        @task
        def first():
            return number

        here.set()
        await there.wait()

        @task
        def second(first):
            return first * 10

        first >> second
        return DAG("turns").run("serial")["second"]

    async def main():
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(build(1, one, two), build(2, two, one))

    assert asyncio.run(main()) == [10, 20]


# tasks=[...]


def test_given_tasks_bring_everything_upstream_of_them_and_nothing_else():
    """DAG(tasks=[load]): load and all it needs."""
    first, second, third, after, beside = (
        Task(lambda *_: 1, name=name) for name in ("first", "second", "third", "after", "beside")
    )
    first >> second >> third >> after
    second >> beside
    assert list(DAG("part", tasks=[third]).run()) == ["first", "second", "third"]


def test_given_tasks_may_be_named_twice():
    """Naming a task twice is naming it once."""
    alone = Task(lambda: 1, name="alone")
    assert DAG("twice", tasks=[alone, alone]).run() == {"alone": 1}


def test_an_empty_list_of_tasks_is_an_empty_run():
    """No tasks means none, not discovery."""

    @task
    def around():
        return 1

    assert DAG("none", tasks=[]).run() == {}


def test_upstream_of_given_tasks_is_looked_up_at_each_run():
    """An edge that is added later counts in the next run."""
    first, second = Task(lambda: 1, name="first"), Task(lambda *_: 2, name="second")
    dag = DAG("growing", tasks=[second])
    assert dag.run() == {"second": 2}
    first >> second
    assert dag.run() == {"first": 1, "second": 2}


# with DAG(...)


def test_a_with_block_holds_what_is_defined_in_it():
    """with DAG("etl") as etl: the tasks defined in the block, not those around it."""

    @task
    def outside():
        return 0

    with DAG("block") as dag:

        @task
        def inside():
            return 1

    @task
    def after():
        return 2

    assert dag.run() == {"inside": 1}


def test_a_with_block_holds_what_is_wired_in_it():
    """A task from anywhere joins when it is wired in the block."""

    @task
    def start():
        return 1

    @task
    def unrelated():
        return 0

    with DAG("block") as dag:

        @task
        def end(start):
            return start + 1

        start >> end

    assert dag.run() == {"start": 1, "end": 2}


def test_a_with_block_holds_what_a_function_called_in_it_defines():
    """Helpers work in a block too."""

    def make(name):
        return Task(lambda: name, name=name)

    with DAG("block") as dag:
        make("a")
        make("b")
    assert dag.run() == {"a": "a", "b": "b"}


def test_with_blocks_do_not_mix():
    """Two blocks, two pipelines, also one inside the other."""
    with DAG("outer") as outer:
        Task(lambda: 1, name="one")
        with DAG("inner") as inner:
            Task(lambda: 2, name="two")
        Task(lambda: 3, name="three")
    assert inner.run() == {"two": 2}
    assert outer.run() == {"one": 1, "three": 3}


def test_blocks_that_share_tasks_have_each_its_own_wiring():
    """What was wired in no block is everybody's, and what both have wired is of both."""
    raw = Task(lambda: [2, 1], name="raw")
    rows = Task(lambda raw: raw, name="rows")
    tidy = Task(lambda rows: sorted(rows), name="tidy")
    save = Task(lambda *rows: rows, name="save")
    last = Task(lambda save: len(save), name="last")
    raw >> rows
    with DAG("daily") as daily:
        rows >> save >> last
    with DAG("weekly") as weekly:
        rows >> tidy >> save >> last
    whole = {"raw": [2, 1], "rows": [2, 1], "last": 1}
    assert daily.run("serial") == whole | {"save": ([2, 1],)}
    assert weekly.run("serial") == whole | {"tidy": [1, 2], "save": ([1, 2],)}
    assert DAG("all", tasks=[save]).run("serial")["save"] == ([2, 1], [1, 2])
    with daily:
        tidy >> save
    with pytest.raises(BindingError, match="'tidy' takes 'rows'"):  # which weekly alone has wired to it
        daily.run("serial")
    rows >> tidy
    assert daily.run("serial")["save"] == ([2, 1], [1, 2])
    rows >> save
    assert weekly.run("serial")["save"] == ([2, 1], [1, 2])


def test_blocks_have_each_its_own_order():
    """Arguments come as the block wires them."""
    new, old = Task(lambda: "new", name="new"), Task(lambda: "old", name="old")
    both = Task(lambda *names: names, name="both")
    with DAG("forward") as forward:
        [new, old] >> both
    with DAG("backward") as backward:
        [old, new] >> both
    assert forward.run("serial")["both"] == ("new", "old")
    assert backward.run("serial")["both"] == ("old", "new")


def test_a_block_does_not_outlive_its_dag():
    """What it has wired of shared tasks leaves no more than the edges."""
    one, two = Task(lambda: 1, name="one"), Task(lambda one: one, name="two")
    kept = []
    for _ in range(3):
        with DAG("block") as dag:
            one >> two
            own = Task(lambda: 1, name="own")
        kept.append(weakref.ref(own))
        assert dag.run("serial") == {"one": 1, "two": 1, "own": 1}
        del dag, own
        Task.clear_registry()
    gc.collect()
    assert [task() for task in kept] == [None, None, None]


def test_a_wide_block_costs_no_more_for_each_edge():
    """Ten thousand tasks, wired to one in a block."""
    total = Task(lambda *numbers: sum(numbers), name="total")
    with DAG("wide") as dag:
        [Task(int, name=str(number)) for number in range(10_000)] >> total
    assert dag.run("serial")["total"] == 0


def test_a_with_block_may_run_its_dag():
    """Inside the block the DAG runs what there is so far."""
    with DAG("block") as dag:
        Task(lambda: 1, name="one")
        assert dag.run() == {"one": 1}
        Task(lambda: 2, name="two")
    assert dag.run() == {"one": 1, "two": 2}


def test_an_error_in_a_with_block_leaves_nothing_open():
    """After an exception, tasks belong to no block any more."""
    dag = DAG("block")
    with pytest.raises(ZeroDivisionError), dag:
        Task(lambda: 1, name="one")
        1 / 0
    Task(lambda: 2, name="two")
    assert dag.run() == {"one": 1}


def test_an_empty_with_block_is_an_empty_run():
    """A block means the block, not discovery."""
    with DAG("block") as dag:
        pass
    assert dag.run() == {}


def test_the_same_name_in_two_blocks_is_no_conflict():
    """Names are unique in one graph, not in the world."""
    with DAG("one") as one:
        Task(lambda: 1, name="step")
    with DAG("two") as two:
        Task(lambda: 2, name="step")
    assert (one.run(), two.run()) == ({"step": 1}, {"step": 2})


# Copies and templates


def test_copies_are_discovered_and_their_template_is_not(script):
    """An original that is wired to nothing and has copies only serves them."""
    module = script(
        """
        @task
        def fetch(page=0):
            return page

        first = fetch.with_options(name="first")
        second = fetch.with_options(name="second", retries=1)
        results = DAG("copies").run()
        """
    )
    assert module.results == {"first": 0, "second": 0}


def test_an_original_that_is_wired_is_no_template(script):
    """Once wired, the original is a task like others."""
    module = script(
        """
        @task
        def start():
            return 1

        @task
        def step(x):
            return x + 1

        start >> step >> step.with_options(name="again")
        results = DAG("copies").run()
        """
    )
    assert module.results == {"start": 1, "step": 2, "again": 3}


def test_one_function_twice_in_a_pipeline():
    """That is how one function is used twice."""

    @task
    def source():
        return 5

    @task
    def add(x, y=1):
        return x + y

    with DAG("twice") as dag:
        source >> add.with_options(name="once") >> add.with_options(name="twice")
    assert dag.run() == {"source": 5, "once": 6, "twice": 7}


def test_a_copy_of_the_same_name_takes_the_place_of_its_template(script):
    """extract = extract.with_options(retries=3) means the changed one."""
    module = script(
        """
        @task
        def extract():
            return 1

        extract = extract.with_options(retries=3)
        dag = DAG("one")
        results = dag.run()
        """
    )
    assert module.results == {"extract": 1}
    assert module.dag.graph()["extract"].task.retries == 3


# Notebooks


def test_a_pipeline_grows_cell_by_cell(notebook):
    """Each run() sees what has been defined since."""
    notebook.run("@task\ndef extract(): return [1, 2]")
    notebook.run("dag = DAG('notebook')\nresults = dag.run()")
    assert notebook["results"] == {"extract": [1, 2]}
    notebook.run("@task\ndef load(rows): return len(rows)\nextract >> load")
    notebook.run("results = dag.run()")
    assert notebook["results"] == {"extract": [1, 2], "load": 2}


def test_running_every_cell_again_changes_nothing(notebook):
    """Run all, run all: the same pipeline."""
    for _ in range(3):
        notebook.run(ETL)
        notebook.run("extract >> transform >> load")
        notebook.run("results = DAG('notebook').run()")
        assert notebook["results"] == {"extract": [3, 1, 2], "transform": [1, 2, 3], "load": "3 rows"}


def test_running_a_cell_again_replaces_the_task_and_its_edges(notebook):
    """The old definition is gone, with its wires, and the new one starts unwired."""
    notebook.run("@task\ndef a(): return 1\n@task\ndef b(x=0): return x + 1")
    notebook.run("a >> b\ndag = DAG('notebook')")
    assert notebook["dag"].run() == {"a": 1, "b": 2}
    notebook.run("@task\ndef a(): return 10")
    assert notebook["dag"].run() == {"a": 10, "b": 1}
    notebook.run("a >> b")
    assert notebook["dag"].run() == {"a": 10, "b": 11}


def test_a_replaced_task_that_is_wired_again_keeps_the_order_of_arguments(notebook):
    """Re-running the cell of the first upstream does not swap the arguments."""
    notebook.run("@task\ndef a(): return 'a'\n@task\ndef b(): return 'b'\n@task\ndef join(x, y): return x + y")
    notebook.run("[a, b] >> join\ndag = DAG('notebook')")
    notebook.run("@task\ndef a(): return 'A'")
    notebook.run("[a, b] >> join")
    assert notebook["dag"].run()["join"] == "Ab"


def test_a_changed_cell_changes_the_result(notebook):
    """The new body runs, with the wires of the cell that is run again with it."""
    notebook.run(f"{ETL}\nextract >> transform >> load\ndag = DAG('notebook')")
    notebook.run(f"{ETL.replace('[3, 1, 2]', '[2, 1]')}\nextract >> transform >> load")
    assert notebook["dag"].run() == {"extract": [2, 1], "transform": [1, 2], "load": "2 rows"}


def test_a_cell_with_a_mistake_does_not_harm_the_next_run(notebook):
    """An error in the wiring is told, and gone when the wiring is made right."""
    notebook.run("@task\ndef load(rows): return len(rows)\ndag = DAG('notebook')")
    with pytest.raises(BindingError):
        notebook["dag"].run()
    notebook.run("@task\ndef extract(): return [1]\nextract >> load")
    assert notebook["dag"].run() == {"extract": [1], "load": 1}


def test_a_function_in_a_notebook_gets_the_tasks_of_the_notebook(notebook):
    """A cell is the top level."""
    notebook.run("@task\ndef of_the_notebook(): return 1")
    notebook.run("def build():\n    @task\n    def own(): return 2\n    return DAG('own')")
    notebook.run("results = build().run()\nresults = build().run()")
    assert notebook["results"] == {"of_the_notebook": 1, "own": 2}


# Duplicates


@pytest.mark.parametrize(
    "use",
    [lambda dag: dag.run(), lambda dag: dag.visualize(), lambda dag: dag.graph()],
    ids=["run", "visualize", "graph"],
)
def test_two_tasks_of_one_name_are_an_error_that_names_both_places(script, use):
    """The error gives file and line of each, and the ways out."""
    module = script(
        """
        @task(name="step")
        def first():
            return 1

        @task(name="step")
        def second():
            return 2

        dag = DAG("etl")
        """
    )
    with pytest.raises(DuplicateTaskError) as caught:
        use(module.dag)
    text = str(caught.value)
    assert "'step'" in text
    assert f"{module.__file__}:3" in text
    assert f"{module.__file__}:7" in text
    assert "with_options(name=" in text
    assert "@task(name=" in text
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FlowkitError)
    assert caught.value.name == "step"


@pytest.mark.parametrize(
    "make",
    [
        "Task(partial(read, part), name='read')",
        "Task(lambda: part)",
        "Task(read, name='part')",
        "Task(Reader(), name='read')",
        "Task(Reader().read)",
        "template.with_options(name='part')",
    ],
)
@pytest.mark.parametrize("where", ["module", "function", "helper"])
def test_what_one_loop_makes_are_different_tasks_although_they_have_one_name(script, make, where):
    """None of them may get lost in silence."""
    loop = f"for part in 'ab': {make}"
    if where == "module":
        body = f"{loop}\ndag = DAG('parts')"
    elif where == "function":
        body = f"def build():\n    {loop}\n    return DAG('parts')\ndag = build()"
    else:
        body = f"def build():\n    {loop}\nbuild()\ndag = DAG('parts')"
    source = """
    from functools import partial

    def read(part=None):
        return part

    class Reader:
        def __call__(self):
            return 1

        def read(self):
            return 1

    template = Task(read)

    """
    with pytest.raises(DuplicateTaskError, match=r"script.py:\d+ and one from .*script.py:\d+: give one another name"):
        script(textwrap.dedent(source) + body).dag.run("serial")


def test_a_loop_may_make_tasks_of_a_class_of_ones_own():
    """Whose constructor is in the way."""

    class Own(Task):
        def __init__(self, function):
            super().__init__(function, name="own")

    for number in range(2):
        Own(lambda number=number: number)
    with pytest.raises(DuplicateTaskError, match="'own'"):
        DAG("own").run("serial")


@pytest.mark.parametrize("called", [True, False])
def test_a_loop_may_make_tasks_without_end(called):
    """To call each once, say; and no more are kept than it takes for an error, or for none."""
    kept = []
    for number in range(10):
        made = Task(lambda number=number: number, name="made", retries=1)
        kept.append(weakref.ref(made))
        if called:
            assert made() == number
        del made
    gc.collect()
    assert sum(one() is not None for one in kept) == (1 if called else 2)
    if called:
        assert DAG("made").run("serial")["made"] == 9
    else:
        with pytest.raises(DuplicateTaskError, match="'made'"):
            DAG("made").run("serial")


def test_what_made_a_task_does_not_live_longer_for_that():
    """Once the task was called; nor once a pipeline was made."""

    class Large:
        pass

    def make(use):
        large = Large()
        kept.append(weakref.ref(large))
        use(Task(lambda: 1, name="made"))

    kept = []
    make(lambda task: task())
    make(lambda task: DAG("made", tasks=[task]))
    make(lambda task: DAG("made", tasks=[task]).run("serial"))
    gc.collect()
    assert [one() for one in kept] == [None, None, None]


def test_a_function_that_is_defined_twice_before_there_is_a_pipeline_is_told(script):
    """The second replaces the first, as everywhere; but nobody has meant that."""
    source = """
    def twice():
        for part in 'ab':
            @task
            def read(part=part):
                return part
        return DAG("twice")

    def meant():
        for part in 'ab':
            @task
            def read(part=part):
                return part
            yield DAG("meant").run("serial")

    def each():
        kept = []
        for part in 'ab':
            @task
            def read(part=part):
                return part
            kept.append(read)
        return [DAG("each", tasks=[one]) for one in kept]

    def again(part):
        @task
        def one():
            return part
    """
    module = script(source)
    dag = module.twice()
    with pytest.warns(RuntimeWarning, match=r"'read' of .*script.py:\d+ was defined again there before any pipeline"):
        assert dag.run("serial") == {"read": "b"}
    assert dag.run("serial") == {"read": "b"}  # told once
    assert [made.run("serial") for made in module.each()] == [{"read": "a"}, {"read": "b"}]
    assert list(module.meant()) == [{"read": "a"}, {"read": "b"}]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        module.again("c")
        module.again("d")
    assert not told


def test_a_cell_that_makes_tasks_of_one_name_is_mended_by_running_it_again(notebook):
    """Both are gone then, and not the last one alone."""
    cell = "for part in 'ab': Task(lambda: part, name='part')"
    notebook.run(f"dag = DAG('cells')\n{cell}")
    with pytest.raises(DuplicateTaskError):
        notebook["dag"].run("serial")
    notebook.run("Task(lambda: 'c', name='part')")
    assert notebook["dag"].run("serial") == {"part": "c"}


def test_two_modules_that_both_have_an_extract_are_told_apart(script):
    """Both places are named when a wire brings in a namesake."""
    other = script("@task\ndef extract(): return 1", name="other")
    module = script(
        """
        import other

        @task
        def extract():
            return 2

        @task
        def load(*rows):
            return rows

        [other.extract, extract] >> load
        dag = DAG("etl")
        """
    )
    with pytest.raises(DuplicateTaskError) as caught:
        module.dag.run()
    assert other.__file__ in str(caught.value)
    assert module.__file__ in str(caught.value)


def test_a_copy_without_a_new_name_beside_its_wired_original_is_a_duplicate():
    """with_options without a name, next to the original: the error says what to do."""

    @task
    def step(x=0):
        return x

    with pytest.raises(DuplicateTaskError, match="with_options"):
        DAG("twice", tasks=[step >> step.with_options(retries=1)]).run()


# Forgetting


def test_clear_registry_forgets_every_task(script):
    """After clear_registry() discovery finds nothing, and what is defined next is found."""
    module = script(
        f"{ETL}\nextract >> transform >> load\ndag = DAG('etl')\n"
        "def late():\n    exec('@task\\ndef new(): return 1', globals())"
    )
    assert len(module.dag.run()) == 3
    Task.clear_registry()
    assert module.dag.run() == {}
    module.late()
    assert module.dag.run() == {"new": 1}


def test_tasks_that_were_forgotten_still_run_when_they_are_given():
    """Forgetting concerns discovery; a task in hand is a task."""
    first, second = Task(lambda: 1, name="first"), Task(lambda first: first + 1, name="second")
    first >> second
    Task.clear_registry()
    assert DAG("given", tasks=[second]).run() == {"first": 1, "second": 2}


PLUGIN_TESTS = """
from flowkit_core import DAG, Task, task

@task
def of_the_module():
    return 0

def define(source):
    exec(source, globals())

def test_one_defines_at_the_top_level():
    define("@task\\ndef stray(): return 1")
    assert set(DAG("one").run()) == {"of_the_module", "stray"}

def test_two_finds_none_of_it():
    assert set(DAG("two").run()) == {"of_the_module"}

def test_three_wires_a_task_of_the_module():
    @task
    def local(of_the_module):
        return 1
    of_the_module >> local
    assert set(DAG("three").run()) == {"of_the_module", "local"}

def test_four_finds_none_of_that():
    assert set(DAG("four").run()) == {"of_the_module"}

def test_five_forgets_everything():
    Task.clear_registry()
    assert DAG("five").run() == {}

def test_six_has_the_module_again():
    assert set(DAG("six").run()) == {"of_the_module"}
"""


def test_under_pytest_the_tasks_of_a_test_are_forgotten_when_it_ends(pytester):
    """The plugin comes with the core and needs no setting."""
    pytester.makepyfile(PLUGIN_TESTS)
    pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest").assert_outcomes(passed=6)


def test_a_named_task_that_was_defined_again_is_not_run_without_its_upstreams():
    """As when a loop at the top level of a script builds two pipelines of the same names."""
    source = """
        from flowkit_core import DAG, Task

        dags = []
        for number in range(2):
            source = Task(lambda number=number: number, name="source")
            count = Task(lambda *rows: len(rows), name="count")
            source >> count
            dags.append(DAG(f"number {number}", tasks=[count]))
        """
    namespace = {"__name__": "a script"}
    exec(textwrap.dedent(source), namespace)
    first, second = namespace["dags"]
    assert second.run("serial")["count"] == 1
    with pytest.raises(BindingError, match=r"'count'.*was defined again since"):
        first.run("serial")
