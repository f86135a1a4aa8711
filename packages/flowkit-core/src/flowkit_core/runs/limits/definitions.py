"""Checks of the option ``pool`` of tasks, and of the argument ``pools`` of runs and pipelines."""

from __future__ import annotations

from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import raise_or_collect, warn
from flowkit_core.errors import TaskOptionError, TaskOptionTypeError

from .errors import PoolSizeError, UnknownPoolError
from .rate import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph

    Pools = Mapping[str, int | Rate]

_ALLOWED = "the name of a pool, several names in a list, {'name': amount}, or None"


def checked_pool(task: str, pool: Any) -> dict[str, int]:
    """Return the option ``pool`` of a task as a mapping: name of a pool -> number of slots.

    Raises:
        TaskOptionTypeError: it is neither a name, several names, nor a mapping of names to integers.
        TaskOptionError: a name is empty or given twice, there are none, or an amount is less than 1.
    """
    if isinstance(pool, str):
        amounts: Any = {pool: 1}
    elif hasattr(pool, "keys"):
        amounts = dict(pool)
    elif isinstance(pool, (list, tuple, set, frozenset)):
        amounts = dict.fromkeys(pool, 1) if all(isinstance(name, str) for name in pool) else None
        if amounts is not None and len(amounts) < len(pool):
            raise TaskOptionError(task, "pool", pool, f"{_ALLOWED}; for several slots of one pool, give the amount")
    else:
        amounts = None
    if amounts is None or not all(isinstance(name, str) for name in amounts):
        raise TaskOptionTypeError(task, "pool", pool, _ALLOWED)
    if any(type(amount) is not int for amount in amounts.values()):
        raise TaskOptionTypeError(task, "pool", pool, f"{_ALLOWED}; an amount is an integer of at least 1")
    if not amounts or not all(amounts) or min(amounts.values()) < 1:
        raise TaskOptionError(task, "pool", pool, f"{_ALLOWED}; names are not empty, amounts are at least 1")
    return amounts  # type: ignore[no-any-return]


def checked_pools(owner: str, pools: Any) -> dict[str, int | Rate]:
    """Return the argument ``pools`` of a run or a pipeline as a dict.

    Args:
        owner: the callable, as it is shown in messages: ``"run()"``.
        pools: name of a pool -> number of slots, or a `Rate`; None for none.

    Raises:
        TypeError: it is not a mapping of names to integers and rates.
        ValueError: a name is empty, or a number is less than 1.
    """
    if pools is None:
        return {}
    if not hasattr(pools, "keys"):
        raise TypeError(
            f"{owner}: pools is {short_repr(pools)}, but must map names of pools to sizes: pools={{'db': 2}}"
        )
    for name, size in pools.items():
        if not isinstance(name, str):
            raise TypeError(f"{owner}: pools has the key {short_repr(name)}, but its keys are names of pools")
        if not name:
            raise ValueError(f"{owner}: pools has an empty name")
        wrong = (
            f"{owner}: pools[{name!r}] is {short_repr(size)}, but must be a number of slots, an integer of at least 1, "
            f"or a Rate, such as Rate(10, per=1.0)"
        )
        if type(size) is not int and not isinstance(size, Rate):
            raise TypeError(wrong)
        if type(size) is int and size < 1:
            raise ValueError(wrong)
    return dict(pools)


def pools_of_run(graph: Graph, defaults: Pools, given: Any) -> dict[str, int | Rate]:
    """Return the pools of a run; check that those that tasks name are defined and large enough.

    Warns of a given pool that no task names.

    Args:
        graph: the graph.
        defaults: the pools of the pipeline.
        given: the argument ``pools`` of ``run()``, which overrides these by name.

    Raises:
        TypeError, ValueError: ``given`` is not a mapping of names to sizes.
        UnknownPoolError: a pool is not defined.
        PoolSizeError: a task takes more slots than there are.
    """
    own = checked_pools("run()", given)
    pools = {**defaults, **own}
    named: dict[str, None] = {}
    for node in graph.pooled:
        for pool, amount in node.task.pool.items():
            is_new = pool not in named
            named[pool] = None
            size = pools.get(pool)
            if size is None:
                if is_new:  # else check() would list the same for each task
                    raise_or_collect(UnknownPoolError(node.name, pool, sorted(pools)), "pool")
                continue
            slots = size.count if isinstance(size, Rate) else size
            if amount > slots:
                raise_or_collect(PoolSizeError(node.name, pool, amount, slots), "pool")
    for pool in own:
        if pool not in named:
            warn(
                f"run(pools=...) has a pool {pool!r}, but no task of the pipeline names it{did_you_mean(pool, named)}: "
                f"it limits nothing. Tasks name a pool with @task(pool={pool!r})",
                "pool",
            )
    return pools
