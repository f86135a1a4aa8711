"""Helpers for tests of pipelines, from `flowkit_core.testing`."""

from flowkit_core.testing import (
    Crash,
    Fail,
    Fault,
    Interrupt,
    Lose,
    Record,
    SimulatedError,
    Simulation,
    Simulations,
    Slow,
    Timeout,
    Verified,
    simulate,
    simulate_many,
    verify_resume,
)

__all__ = [
    "Crash",
    "Fail",
    "Fault",
    "Interrupt",
    "Lose",
    "Record",
    "SimulatedError",
    "Simulation",
    "Simulations",
    "Slow",
    "Timeout",
    "Verified",
    "simulate",
    "simulate_many",
    "verify_resume",
]
