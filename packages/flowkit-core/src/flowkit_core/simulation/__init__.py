"""Simulation: runs of a pipeline in virtual time, with an order and faults that a seed decides."""
