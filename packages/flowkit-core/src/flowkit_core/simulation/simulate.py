"""Functions `simulate` and `simulate_many`: run a pipeline in virtual time, once or with many seeds."""

from __future__ import annotations

from random import Random

from flowkit_core._checks import checked_workers
from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import BindingError
from flowkit_core.executors.drive import drive
from flowkit_core.failures import describe_error
from flowkit_core.pipelines.options import CHECK_ALIASES, check_known
from flowkit_core.pipelines.run_observers import checked_observers
from flowkit_core.results import Results
from flowkit_core.runs.limits.definitions import pools_of_run
from flowkit_core.runs.session import Session

from .clock import VirtualClock
from .faults import RANDOM_TASK_FAULTS, FaultPlan, check_elements, check_names, checked_faults
from .history import History
from .lane import ASYNC, DEFAULT_DURATION, Durations, SimulatedLane, Simulator
from .limit_checker import home_of
from .simulation import Simulation
from .traced_run import Substitutes, TracedRun
from .virtual_loop import virtual_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any, Never
    from flowkit_core.events import Observer
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.pipelines.pipeline import Pipeline
    from flowkit_core.runs.limits.definitions import Pools
    from flowkit_core.runs.run import Run

    from .faults import Fault
    from .virtual_loop import VirtualLoop


class Simulations:
    """Result of :func:`simulate_many`.

    Attributes:
        runs: number of simulated runs.
        failed: number of those that ended with an exception.
        shortest: virtual seconds of the shortest run.
        longest: virtual seconds of the longest run.
    """

    __slots__ = ("failed", "longest", "runs", "shortest")

    def __init__(self) -> None:
        self.runs = self.failed = 0
        self.shortest, self.longest = float("inf"), 0.0

    def add(self, simulation: Simulation) -> None:
        """Count a simulated run."""
        self.runs += 1
        self.failed += simulation.error is not None
        self.shortest = min(self.shortest, simulation.seconds)
        self.longest = max(self.longest, simulation.seconds)

    def __repr__(self) -> str:
        times = f", {self.shortest:.3f} to {self.longest:.3f} s" if self.runs else ""
        return f"<Simulations: {self.runs} runs, {self.failed} failed{times}>"


def simulate(
    pipeline: Pipeline,
    *,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
    workers: int | Mapping[str, int] = 3,
    remote: Iterable[str] = (),
    durations: Any = DEFAULT_DURATION,
    faults: Iterable[Fault] = (),
    fault_rate: float = 0.0,
    fault_kinds: Iterable[type[Fault]] = RANDOM_TASK_FAULTS,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    call: bool = True,
    fail_fast: bool = True,
    grace: float | None = None,
    timeout: float | None = None,
    pools: Pools | None = None,
    observers: Iterable[Observer] = (),
    **unknown: Never,
) -> Simulation:
    """Run a pipeline in virtual time, in an order and with faults that the seed decides.

    The seed decides which of several ready tasks starts first, on which worker, how long it takes where ``durations``
    gives a range, the jitter of retries, and the random faults. Equal seeds and options give equal histories, as long
    as the tasks behave the same. Nothing sleeps, and no threads or processes are started: functions are called in the
    calling thread when their attempt starts. Coroutines run in an event loop in virtual time, without input and output.
    Nothing is recorded, logged or read from a cache.

    Each executor that a task names with ``@task(executor=...)`` is simulated with workers of its own. ``"async"`` is
    that of async tasks that name none, and makes as many attempts at once as are ready; ``"default"`` is the one of all
    other tasks. Elements of mapped tasks are simulated one by one.

    Args:
        pipeline: the pipeline.
        seed: an integer, 0 or more.
        params: values for parameters that no upstream task fills.
        workers: number of workers of each executor but ``"async"``, or a mapping of names of executors to these.
        remote: names of the executors whose results stay there, as on a cluster: the run gets handles, and fetches
            values for other executors and for its results.
        durations: how long attempts take: a number of seconds; or a range, ``(low, high)``; or a mapping of names of
            tasks to these, with 0 to 1 second for other tasks; or a function of the name and the number of the attempt
            that returns a number or a range. It is that of each element of a mapped task. A coroutine takes so much
            longer than its own waits.
        faults: faults to inject: :class:`Fail`, :class:`Slow`, :class:`Crash`, :class:`Timeout`, :class:`Lose`,
            :class:`Interrupt`.
        fault_rate: probability that an attempt gets a random fault, 0 to 1.
        fault_kinds: the kinds of random faults. ``Lose`` and ``Interrupt``, if they are listed, occur at most once in a
            run each, in the first three seconds, with the same probability.
        functions: name of a task -> function to call in its place.
        call: False calls neither functions nor conditions: results are placeholders, or lists of three placeholders
            where another task is mapped over them, and the seed decides whether a condition is true.
        fail_fast: as for ``run()``.
        grace: as for ``run()``, in virtual seconds.
        timeout: as for ``run()``, in virtual seconds. The timeouts of tasks apply to the durations of their attempts.
        pools: as for ``run()``.
        observers: as for ``run()``.
        **unknown: raises TypeError; the message names the option to use instead.

    Returns:
        The :class:`Simulation`. An exception of the run is in its ``.error``, and not raised.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option has an invalid value, names a task or an executor that the pipeline does not have, or a
            fault never occurs: the task does not make such an attempt, or has no such element.
        FlowkitError: the pipeline is wired wrongly, ``params`` lack a value, or a pool is not defined.
        KeyboardInterrupt: Ctrl-C, unless it is simulated.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> from flowkit_core.testing import Fail, simulate
        >>> @task(retries=1, delay=10, jitter=0)
        ... def extract(): return [3, 1, 2]
        >>> @task
        ... def load(rows): return len(rows)
        >>> _ = extract >> load
        >>> simulate(DAG("etl", tasks=[load]), durations={"extract": 5, "load": 1}, faults=[Fail("extract")])
        <Simulation etl seed=0: 21.000 s, 2 succeeded, 1 fault>
    """
    given = {name: value for name, value in locals().items() if name not in ("pipeline", "seed", "unknown")}
    if unknown:
        check_known("simulate()", unknown, ["seed", *given], CHECK_ALIASES)
    return _Setup(pipeline, given).run(seed)


def simulate_many(
    pipeline: Pipeline,
    *,
    seeds: Iterable[int] = range(1000),
    check: Callable[[Simulation], object] | None = None,
    pure: bool = False,
    **options: Any,
) -> Simulations:
    """Simulate a pipeline with many seeds, and check each history.

    Args:
        pipeline: the pipeline.
        seeds: the seeds.
        check: called with each :class:`Simulation`; raises an exception, or returns False, if that is not as it should
            be.
        pure: whether tasks return equal results for equal arguments and have no side effects: results are then
            compared with those of a plain evaluation, which calls the functions again.
        **options: options of :func:`simulate`.

    Returns:
        The :class:`Simulations`: how many there were, and how many of the runs failed.

    Raises:
        AssertionError: a history breaks a rule of runs, see :meth:`Simulation.check`, or ``check`` raised or
            returned False; the message has the seed and the code that repeats the run.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> from flowkit_core.testing import simulate_many
        >>> @task(retries=2)
        ... def one(): return 1
        >>> @task(retries=2)
        ... def two(one): return one + 1
        >>> _ = one >> two
        >>> def check(simulation):
        ...     assert simulation.error or simulation.results["two"] == 2
        >>> simulate_many(DAG("numbers", tasks=[two]), seeds=range(100), fault_rate=0.1, check=check).runs
        100
    """
    defaults = _default_options()
    check_known("simulate_many()", options, ["seeds", "check", "pure", *defaults], CHECK_ALIASES)
    setup = _Setup(pipeline, {**defaults, **options})
    counts = Simulations()
    for seed in seeds:
        simulation = setup.run(seed)
        simulation.check(pure=pure)
        if check is not None:
            try:
                answer = check(simulation)
            except Exception as error:
                raise AssertionError(simulation.describe([f"check raised {describe_error(error)}"])) from error
            if answer is False:
                raise AssertionError(simulation.describe(["check returned False"]))
        counts.add(simulation)
    return counts


def _default_options() -> dict[str, Any]:
    """Return the options of `simulate` with their defaults, without the seed."""
    return {name: value for name, value in (simulate.__kwdefaults__ or {}).items() if name != "seed"}


class _Setup:
    """A pipeline and the options of its simulations, checked once.

    Args:
        pipeline: the pipeline.
        options: the options of :func:`simulate`.
    """

    def __init__(self, pipeline: Pipeline, options: dict[str, Any]) -> None:
        self.graph: Graph = pipeline.graph()
        defaults = _default_options()
        self.options = options
        self.options["given"] = {
            name: value for name, value in options.items() if name in defaults and value is not defaults[name]
        }
        params = options["params"]
        if params is not None and not hasattr(params, "keys"):
            raise BindingError(
                f"simulate(params=...) is {short_repr(params)}, but must map parameter names to values: "
                f"write params={{'name': ...}}"
            )
        self.graph.check_params(params)
        options["pools"] = pools_of_run(self.graph, pipeline.pools, options["pools"])
        names = self.graph.names
        self.homes = {node.index: home_of(node) for node in self.graph.nodes if home_of(node) != "default"}
        self.executors = list(dict.fromkeys(["default", *self.homes.values()]))
        self.workers = _checked_workers(options["workers"], self.executors)
        self.faults, self.rate, self.kinds = checked_faults(
            options["faults"], options["fault_rate"], options["fault_kinds"], self.graph, self.executors
        )
        remote = options["remote"]
        self.remote = [remote] if isinstance(remote, str) else list(remote)
        check_names("remote", self.remote, self.executors, "executor")
        self.functions = _checked_functions(options["functions"], names)
        self.observers = checked_observers(options["observers"])
        if hasattr(options["durations"], "keys"):
            check_names("durations", options["durations"], names)

    def run(self, seed: int) -> Simulation:
        """Simulate one run."""
        if type(seed) is not int or seed < 0:  # the generator ignores the sign
            error_class = ValueError if type(seed) is int else TypeError
            raise error_class(f"the seed is {short_repr(seed)}, but must be an integer, 0 or more")
        random = Random(seed).random
        clock = VirtualClock(random)
        with virtual_loop(clock) as loop:
            return self._run(seed, random, clock, loop)

    def _run(self, seed: int, random: Callable[[], float], clock: VirtualClock, loop: VirtualLoop) -> Simulation:
        options = self.options
        history = History(clock.now)
        plan = FaultPlan(self.faults, self.rate, self.kinds, self.executors, random)
        simulator = Simulator(clock, loop, random, history, plan, Durations(options["durations"], random))
        run = TracedRun(
            self.graph,
            history,
            Substitutes(self.functions, options["call"], random),
            pools=options["pools"],
            params=options["params"],
            fail_fast=options["fail_fast"],
            grace=options["grace"],
            timeout=options["timeout"],
            observers=self.observers,
            run_id=f"{seed % 2**64:016x}",
            random=random,
        )
        executors = _SimulatedExecutors(self, simulator)
        error: BaseException | None
        try:
            error = drive(run, executors)
        except BaseException as raised:
            error = raised
        if isinstance(error, KeyboardInterrupt) and error is not simulator.interrupt and not self._is_injected(error):
            raise error
        seconds = clock.now()
        try:
            loop.cancel_tasks()
            clock.run_until()  # late results
        except Exception as raised:  # of a defect in the run
            error = raised
        check_elements(self.faults, run)
        results = Results._of(run)
        run.release()
        for handle in simulator.handles:
            if handle.releases != 1:
                history.add("not_released", handle.node, detail=f"its result was released {handle.releases} times")
        return Simulation(
            self.graph,
            options,
            seed=seed,
            results=results,
            error=error,
            seconds=seconds,
            history=history.records,
            faults=plan.injected,
        )

    def lane(self, name: str, simulator: Simulator) -> SimulatedLane:
        """Return the lane of an executor."""
        workers = self.workers[name]
        window = (workers or 20) + int(4 * simulator.random()) if self.graph.mapped else 256
        return SimulatedLane(name, workers, simulator, makes_handles=name in self.remote, window=window)

    def _is_injected(self, error: BaseException) -> bool:
        return any(getattr(fault, "error", None) is error for fault in self.faults)


class _SimulatedExecutors:
    """The executors of one simulated run."""

    name = "simulated"

    def __init__(self, setup: _Setup, simulator: Simulator) -> None:
        self._setup = setup
        self._simulator = simulator

    def execute(self, run: Run) -> None:
        """Drive a run to its end."""
        setup, simulator = self._setup, self._simulator
        lanes = {name: setup.lane(name, simulator) for name in setup.executors}
        lane_by_index: Any = {index: lanes[name] for index, name in setup.homes.items()}
        session = Session(run, list(lanes.values()), lane_by_index, simulator.clock)
        simulator.schedule_faults(session, lanes)
        session.drive()

    def close(self) -> None:
        """Do nothing: nothing is kept."""


def _checked_workers(given: Any, executors: Sequence[str]) -> dict[str, int | None]:
    if not hasattr(given, "keys"):
        given = dict.fromkeys(executors, checked_workers(given, "workers") or 3)
        return {name: None if name == ASYNC else workers for name, workers in given.items()}
    check_names("workers", given, executors, "executor")
    found = {name: checked_workers(given.get(name), f"workers[{name!r}]") for name in executors}
    return {name: workers or (None if name == ASYNC else 3) for name, workers in found.items()}


def _checked_functions(given: Any, names: Sequence[str]) -> dict[str, Callable[..., Any]]:
    if given is None:
        return {}
    if not hasattr(given, "keys"):
        raise TypeError(f"functions is {short_repr(given)}, but must map names of tasks to functions")
    check_names("functions", given, names)
    for name, function in given.items():
        if not callable(function):
            raise TypeError(f"functions[{name!r}] is {short_repr(function)}, but must be a function")
    return dict(given)
