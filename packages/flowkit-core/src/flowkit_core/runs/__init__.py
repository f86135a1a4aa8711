"""Execution of a graph: the state machine of one run, what it records, and how its calls are made."""
