"""Functions of random pipelines whose results, skips and failures depend on their arguments alone, and strategies."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from zlib import crc32

from hypothesis import strategies as st

from flowkit_core import DAG, Rate, Skip, Task, current

POOLS = {"db": 2, "api": Rate(1000, per=0.01)}


def chance(*values):
    """Return a number from 0 to 99 that depends on values, in each process."""
    return crc32(repr(values).encode()) % 100


def compute(plan, args):
    """Return the name and the arguments; or fail, skip, or fail at the first attempt, as the plan says.

    Args:
        plan: name, and percentages of arguments for which it fails, skips, and fails once.
        args: the arguments.
    """
    name, failing, skipping, flaky = plan
    number = chance(name, args)
    if number < failing:
        raise ValueError(f"{name} {number}")
    if number < failing + skipping:
        raise Skip("skipped")
    if number < failing + skipping + flaky and current().attempt == 1:
        raise ConnectionError(name)
    return name, args


def take(plan, *args):
    return compute(plan, args)


def take_0(plan):
    return compute(plan, ())


def take_1(plan, x0):
    return compute(plan, (x0,))


def take_2(plan, x0, x1):
    return compute(plan, (x0, x1))


def take_3(plan, x0, x1, x2):
    return compute(plan, (x0, x1, x2))


def default_1(plan, x0="default"):
    return compute(plan, (x0,))


def default_2(plan, x0="default", x1="default"):
    return compute(plan, (x0, x1))


def default_3(plan, x0="default", x1="default", x2="default"):
    return compute(plan, (x0, x1, x2))


async def wait_0(plan):
    await asyncio.sleep(0)
    return compute(plan, ())


async def wait_1(plan, x0):
    await asyncio.sleep(0)
    return compute(plan, (x0,))


async def wait_2(plan, x0, x1):
    return compute(plan, (x0, x1))


async def wait_3(plan, x0, x1, x2):
    await asyncio.sleep(0)
    return compute(plan, (x0, x1, x2))


FUNCTIONS = {
    "required": [take_0, take_1, take_2, take_3],
    "defaults": [take_0, default_1, default_2, default_3],
    "rest": [take_0, take, take, take],
    "async": [wait_0, wait_1, wait_2, wait_3],
}


def items(name, size):
    return [(name, number) for number in range(size)]


def lazy_items(name, size):
    yield from items(name, size)


def broken_items(name, size):
    yield from items(name, size)
    raise ValueError(name)


def text(name, _size):
    return name


SOURCES = {"list": items, "lazy": lazy_items, "broken": broken_items, "text": text}


def is_true(name, percentage, *args):
    """Return what a condition says about some arguments."""
    return chance(name, "when", args) >= percentage


class Plan:
    """A random pipeline that can be built again and again: each run has tasks of its own.

    Attributes:
        steps: what to add, in order: name of a method of `Builder`, and its arguments.
        params: the parameters of the run.
    """

    def __init__(self, steps, params):
        self.steps = steps
        self.params = params

    def __repr__(self):
        return f"Plan({self.steps!r}, {self.params!r})"

    def pipeline(self):
        """Return the pipeline."""
        tasks, views = [], []
        for kind, *facts in self.steps:
            task, view = globals()[f"add_{kind}"](f"n{len(tasks)}", tasks, *facts)
            tasks.append(task)
            views.append(view)
        return DAG("random", tasks=views, pools=POOLS)


def add_source(name, _tasks, kind, size, options):
    task = Task(partial(SOURCES[kind], name, size), name=name, **options)
    return task, task


def add_open(name, _tasks, shares, options, map_options):
    task = Task(partial(take_1, (name, *shares)), name=name, **options)
    return task, task.map("x0", **map_options)


def add_task(name, tasks, form, shares, data, waits, options):
    task = Task(partial(FUNCTIONS[form][len(data)], (name, *shares)), name=name, **options)
    [tasks[each] for each in data] >> task
    if waits:
        task.after(*[tasks[each] for each in waits])
    return task, task


def add_mapped(name, tasks, form, shares, over, whole, condition, options, map_options):
    function = partial(FUNCTIONS[form][len(over) + len(whole)], (name, *shares))
    when = None if condition is None else partial(is_true, name, condition)
    task = Task(function, name=name, when=when, **options)
    view = task.map(**map_options)
    [tasks[each] for each in over] >> view
    if whole:
        [tasks[each] for each in whole] >> task
    return task, task


shares = st.tuples(st.sampled_from([0, 0, 15]), st.sampled_from([0, 0, 30]), st.sampled_from([0, 30]))
map_options = st.fixed_dictionaries(
    {
        "errors": st.sampled_from(["raise", "drop", "return"]),
        "limit": st.sampled_from([None, None, 1, 2]),
        "chunk": st.sampled_from([None, None, 3]),
    }
)


@st.composite
def task_options(draw, *, triggers=("none_failed",)):
    options = {"trigger": draw(st.sampled_from(triggers))}
    retries = draw(st.sampled_from([0, 1, 2]))
    if retries:
        options |= {"retries": retries, "delay": 0}
    if draw(st.booleans()):
        options["pool"] = draw(st.sampled_from(["db", "api", {"db": 2}, ["db", "api"]]))
    if draw(st.integers(0, 4)) == 0:
        options["priority"] = draw(st.integers(-1, 2))
    if draw(st.integers(0, 3)) == 0:
        options["timeout"] = 60
    return options


@st.composite
def plans(draw, *, most=7, sizes=(0, 1, 3, 3, 12, 40)):
    """Return a random pipeline with mapped, async and plain tasks."""
    size = draw(st.sampled_from(sizes))
    steps, params = [], {}
    can_map, taken = [], set()  # positions of tasks to map over; of iterators that another task takes already
    lazy = set()
    for position in range(draw(st.integers(2, most))):
        others = [each for each in range(position) if each not in lazy]
        free = [each for each in can_map if each not in taken]
        kind = draw(st.sampled_from(["source", "task", "mapped", "mapped", "mapped", "open"]))
        if kind == "mapped" and not free:
            kind = "source"
        if kind == "open" and params:
            kind = "task"
        if kind == "source":
            source = draw(st.sampled_from(["list", "list", "lazy", "lazy", "list", "broken", "text"]))
            steps.append(("source", source, size if draw(st.integers(0, 9)) else size + 1, {}))
            if source in ("lazy", "broken"):
                lazy.add(position)
            can_map.append(position)
        elif kind == "open":
            params["x0"] = draw(st.sampled_from([[1, 2, 3], range(size), (1,)]))
            steps.append(("open", draw(shares), draw(task_options()), draw(map_options)))
            can_map.append(position)
        elif kind == "task":
            data = draw(st.lists(st.sampled_from(others), unique=True, max_size=3)) if others else []
            waits = [each for each in others if each not in data and draw(st.integers(0, 5)) == 0]
            form = draw(st.sampled_from(sorted(FUNCTIONS)))
            options = draw(task_options(triggers=("none_failed", "none_failed", "all_success", "all_done")))
            steps.append(("task", form, draw(shares), data, waits, options))
        else:
            over = draw(st.lists(st.sampled_from(free), unique=True, min_size=1, max_size=2))
            taken |= lazy.intersection(over)
            rest = [each for each in others if each not in over]
            if len(over) == 1 and steps[over[0]][0] in ("mapped", "open"):
                rest = []  # it would depend on time whether the task joins the chain, and so how it fails
            whole = draw(st.lists(st.sampled_from(rest), unique=True, max_size=3 - len(over))) if rest else []
            form = draw(st.sampled_from(sorted(FUNCTIONS)))
            condition = draw(st.sampled_from([None, None, 30]))
            options = draw(task_options(triggers=("none_failed", "none_failed", "none_failed", "all_done")))
            steps.append(("mapped", form, draw(shares), over, whole, condition, options, draw(map_options)))
            can_map.append(position)
    for position in lazy - taken:  # a generator that nothing takes cannot be sent to this process
        steps[position] = ("source", "list", *steps[position][2:])
    return Plan(steps, params)


def facts(results):
    """Return what two runs of one plan have in common."""
    elements = {
        name: (
            each.states,
            list(each.attempts),
            {number: repr(error) for number, error in sorted(each.failed.items())},
            each.skipped,
        )
        for name, each in results.elements.items()
    }
    values = {name: value for name, value in results.items() if not inspect.isgenerator(value)}
    failed = {name: repr(error) for name, error in sorted(results.failed.items())}
    for name in elements:  # the failure of a mapped task is that of the element that failed first
        of_elements = {error for element, error in failed.items() if element.startswith(f"{name}[")}
        if failed.get(name) in of_elements:
            failed[name] = sorted(of_elements)
    return {
        "values": {name: repr(value) for name, value in values.items()},
        "states": results.states,
        "skipped": results.skipped,
        "failed": failed,
        "attempts": results.attempts,
        "elements": elements,
    }
