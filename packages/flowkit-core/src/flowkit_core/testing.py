"""Tests of your own pipelines and executors: simulated runs, resuming after crashes, checks of executors."""

from .conformance import check_executor, executor_checks
from .simulation.faults import Crash, Fail, Fault, Interrupt, Lose, SimulatedError, Slow, Timeout
from .simulation.history import Record
from .simulation.simulate import Simulations, simulate, simulate_many
from .simulation.simulation import Simulation
from .simulation.stand_ins import RecordedTasks, recorded
from .simulation.verify_resume import Verified, verify_resume
from .simulation.virtual_time import VirtualTimeExecutor

__all__ = [
    "Crash",
    "Fail",
    "Fault",
    "Interrupt",
    "Lose",
    "Record",
    "RecordedTasks",
    "SimulatedError",
    "Simulation",
    "Simulations",
    "Slow",
    "Timeout",
    "Verified",
    "VirtualTimeExecutor",
    "check_executor",
    "executor_checks",
    "recorded",
    "simulate",
    "simulate_many",
    "verify_resume",
]
