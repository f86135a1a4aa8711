"""Random pipelines with mapped and async tasks, and random options of their simulations."""

from __future__ import annotations

import asyncio
from random import Random
from zlib import crc32

from random_pipelines import EVERY_KIND, POOLS, random_claim

from flowkit_core import DAG, Skip, Task

EXECUTORS = (None, None, None, "cpu")


def chance(*values):
    """Return a number from 0 to 99 that depends on values, in each process."""
    return crc32(repr(values).encode()) % 100


def body_of(name, broken, skipped):
    """Return a pure function: it raises an error for some arguments, and `Skip` for others."""

    def body(*args):
        number = chance(name, args)
        if number < broken:
            raise ValueError(f"{name} {number}")
        if number > 100 - skipped:
            raise Skip("odd")
        return name, args

    return body


def function_of(random, name, wanted, *, is_async, broken, skipped):
    """Return a function of results that takes them in one of three ways."""
    body = body_of(name, broken, skipped)
    inputs = random.choice(["required", "required", "defaults", "rest"])
    default = "='default'" if inputs == "defaults" else ""
    names = [f"x{position}" for position in range(wanted)]
    parameters = "*rest" if inputs == "rest" and wanted else ", ".join(f"{each}{default}" for each in names)
    given = "*rest" if inputs == "rest" and wanted else ", ".join(names)
    scope = {"body": body, "sleep": asyncio.sleep}
    if is_async:
        seconds = random.choice([0, 0.2, 1])
        exec(f"async def function({parameters}):\n    await sleep({seconds})\n    return body({given})", scope)
    else:
        exec(f"def function({parameters}):\n    return body({given})", scope)
    return scope["function"]


def source_function(random, name, size):
    """Return a function that returns a list, a tuple or a generator; rarely what cannot be mapped over."""
    items = [(name, number) for number in range(size)]
    kind = random.choice(["list", "list", "tuple", "generator", "generator"])
    kind = "text" if random.random() < 0.03 else kind
    fails_at = random.randrange(size + 1) if kind == "generator" and random.random() < 0.1 else None

    def generate(*_given):
        for number, item in enumerate(items):
            if number == fails_at:
                raise ValueError(name)
            yield item

    functions = {"list": lambda *_: list(items), "tuple": lambda *_: tuple(items), "generator": generate}
    functions["text"] = lambda *_: "text"
    return functions[kind], kind


def condition_of(random, name):
    """Return a condition that is false for some elements."""
    if random.random() < 0.8:
        return None
    limit = random.choice([30, 60])
    return lambda *args, **kwargs: chance(name, "when", args, kwargs) >= limit


class Choices:
    """The tasks of a random pipeline, while it is made.

    Args:
        random: draws everything.
        pools: the pools of the run.
    """

    def __init__(self, random, pools):
        self.random = random
        self.pools = pools
        self.has_priorities = random.random() < 0.2
        self.breaks = random.random() < 0.5
        self.size = random.choice([0, 1, 2, 3, 3, 5])
        self.tasks = []
        self.to_map = []  # tasks that others may be mapped over
        self.lazy = []  # those that return generators, which no other task may take

    def add(self, name):
        """Add a task: a source, a mapped one or another."""
        random = self.random
        retries = random.choice([0, 0, 0, 1, 2])
        options = {
            "name": name,
            "executor": random.choice(EXECUTORS),
            "pool": random_claim(random, self.pools),
            "priority": random.choice([0, 0, 1, 5, -1]) if self.has_priorities else 0,
            **({"retries": retries, "delay": random.choice([0, 0.5, 2])} if retries else {}),
        }
        if self.to_map and random.random() < 0.7:
            task = self.mapped(name, options)
        elif not self.tasks or random.random() < 0.5:
            task = self.source(name, options)
        else:
            task = self.plain(name, options)
        self.tasks.append(task)

    def source(self, name, options):
        """Return a task whose result others may be mapped over."""
        length = self.size if self.random.random() < 0.95 else self.size + 1
        function, kind = source_function(self.random, name, length)
        if kind == "generator":
            options = {"name": name, "pool": options["pool"], "priority": options["priority"]}
        task = Task(function, **options)
        others = [each for each in self.tasks if each not in self.lazy]
        if others and self.random.random() < 0.3:
            self.random.choice(others) >> task
        self.to_map.append(task)
        if kind == "generator":
            self.lazy.append(task)
        return task

    def function(self, name, wanted, skipped=0):
        broken = self.random.choice([0, 0, 20]) if self.breaks else 0
        is_async = self.random.random() < 0.3
        return function_of(self.random, name, wanted, is_async=is_async, broken=broken, skipped=skipped)

    def mapped(self, name, options):
        """Return a mapped task: over one or two inputs, and perhaps with others as a whole."""
        random = self.random
        over = random.sample(self.to_map, min(len(self.to_map), random.choice([1, 1, 1, 2])))
        others = [each for each in self.tasks if each not in over and each not in self.lazy]
        whole = [each for each in others if random.random() < 0.15]
        options |= {"when": condition_of(random, name), "timeout": random.choice([None, None, None, 0.3, 3])}
        if random.random() < 0.15:
            options["trigger"] = random.choice(["all_success", "all_done"])
        task = Task(self.function(name, len(over) + len(whole), random.choice([0, 0, 30])), **options)
        over >> task.map(errors=random.choice(["raise", "drop", "return"]), limit=random.choice([None, None, 1, 2]))
        for each in whole:
            each >> task
        self.to_map.append(task)
        return task

    def plain(self, name, options):
        """Return a task that takes up to two results as a whole."""
        random = self.random
        others = [each for each in self.tasks if each not in self.lazy]
        data = random.sample(others, random.randint(0, min(2, len(others))))
        trigger = random.choice(["none_failed", "none_failed", "none_failed", "all_success", "all_done"])
        task = Task(self.function(name, len(data)), trigger=trigger, **options)
        data >> task
        return task


def random_maps(seed, *, most=7):
    """Return a random pipeline with mapped tasks, and random options of its simulation."""
    random = Random(seed)
    pools = random.choice([{}, {}, *POOLS])
    choices = Choices(random, pools)
    for number in range(random.randint(2, most)):
        choices.add(f"n{number}")
    params, tasks, views = {}, choices.tasks, list(choices.tasks)
    if random.random() < 0.3:
        params["row"] = random.choice([[1, 2, 3], range(4), "abc"])
        opened = Task(lambda row: ("opened", row), name="opened", retries=1, delay=1)
        tasks.append(opened)
        views.append(opened.map("row", errors=random.choice(["raise", "drop"])))
    options = {
        "workers": random.choice([1, 2, 3, 10]),
        "durations": random.choice([0, 1, (0, 1), (0, 5)]),
        "fail_fast": random.random() < 0.5,
        "grace": random.choice([None, None, 0, 0.5, 2]),
        "timeout": random.choice([None, None, None, 1, 5]),
        "fault_rate": random.choice([0, 0, 0.1, 0.3]),
        "fault_kinds": EVERY_KIND,
        "call": random.random() < 0.9,
        "observers": random.choice([[], [], [lambda event: None]]),
        "remote": random.choice([[], [], ["default"], ["cpu"]]),
        "pools": {name: pools[name] for name in pools if any(name in (task.pool or ()) for task in tasks)},
        "params": params,
    }
    executors = {"default", *(task.executor for task in tasks)}
    options["remote"] = [name for name in options["remote"] if name in executors]
    return DAG(f"maps {seed}", tasks=views), options
