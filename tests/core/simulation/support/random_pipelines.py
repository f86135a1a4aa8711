"""Random pipelines, and random options of their simulations."""

from __future__ import annotations

from random import Random

from flowkit_core import DAG, Rate, Task
from flowkit_core.testing import Crash, Fail, Interrupt, Lose, Slow, Timeout

TRIGGERS = (*["none_failed"] * 3, "all_success", "all_done", "one_success", "one_failed", "all_failed")
EXECUTORS = (None, None, "cpu", "pool")
POOLS = ({"db": 1}, {"db": 2, "api": 1}, {"db": 2, "api": Rate(1, per=0.5)}, {"db": 3, "api": Rate(2, per=2)})
EVERY_KIND = (Fail, Slow, Crash, Timeout, Lose, Interrupt)


def function(random, name, wanted, *, may_be_required):
    """Return a pure function that takes results in one of four ways."""
    inputs = random.choice(["required", "required", "defaults", "rest", "nothing"])
    if inputs == "required" and not may_be_required:
        inputs = "defaults"
    broken = random.random() < 0.1
    error = random.choice([ValueError, ValueError, ValueError, SystemExit])

    def body(*args):
        if broken:
            raise error(name)
        return name, args

    if inputs == "rest" or not wanted:
        return body if wanted else lambda: body()
    if inputs == "nothing":
        return lambda: body()
    default = "='default'" if inputs == "defaults" else ""
    names = [f"x{position}" for position in range(wanted)]
    parameters = ", ".join(f"{each}{default}" for each in names)
    return eval(f"lambda {parameters}: body({', '.join(names)})", {"body": body})


def random_claim(random, pools):
    """Return the option ``pool`` of a task: none, a name, several, or amounts."""
    if not pools or random.random() < 0.3:
        return None
    names = random.sample(sorted(pools), random.randint(1, len(pools)))
    sizes = {name: getattr(pools[name], "count", pools[name]) for name in names}
    return random.choice([names[0], names, {name: random.randint(1, size) for name, size in sizes.items()}])


def random_pipeline(seed, *, most=9):
    """Return a random pipeline, and random options of its simulation."""
    random = Random(seed)
    tasks = []
    pools = random.choice([{}, *POOLS])
    has_priorities = random.random() < 0.3
    for number in range(random.randint(1, most)):
        sources = random.sample(tasks, min(len(tasks), random.choice([0, 1, 1, 2, 3])))
        waits = [each for each in sources if random.random() < 0.15]
        data = [each for each in sources if each not in waits]
        retries = random.choice([0, 0, 1, 2, 3])
        answer = random.random() < 0.8
        trigger = random.choice(TRIGGERS)
        needs_all = trigger not in ("one_success", "one_failed", "all_failed")
        task = Task(
            function(random, f"n{number}", len(data), may_be_required=needs_all),
            name=f"n{number}",
            trigger=trigger,
            executor=random.choice(EXECUTORS),
            when=random.choice([None, None, None, lambda answer=answer: answer]),
            timeout=random.choice([None, None, 0.3, 3]),
            pool=random_claim(random, pools),
            priority=random.choice([0, 0, 1, 5, -1]) if has_priorities else 0,
            **({"retries": retries, "delay": random.choice([0, 0.5, 2])} if retries else {}),
        )
        data >> task
        if waits:
            task.after(*waits)
        tasks.append(task)
    options = {
        "workers": random.choice([1, 2, 3, 10]),
        "durations": random.choice([0, 1, (0, 1), (0, 5)]),
        "fail_fast": random.random() < 0.5,
        "grace": random.choice([None, None, 0, 0.5, 2]),
        "timeout": random.choice([None, None, 1, 5]),
        "fault_rate": random.choice([0, 0.1, 0.3]),
        "fault_kinds": EVERY_KIND,
        "call": random.random() < 0.8,
        "observers": random.choice([[], [], [lambda event: None]]),
        "remote": random.choice([[], [], ["default"], ["cpu"]]),
        "pools": {name: pools[name] for name in pools if any(name in (task.pool or ()) for task in tasks)},
    }
    executors = {"default", *(task.executor for task in tasks)}
    options["remote"] = [name for name in options["remote"] if name in executors]
    return DAG(f"random {seed}", tasks=tasks), options
