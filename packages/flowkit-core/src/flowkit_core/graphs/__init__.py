"""Graphs: the checked tasks of a pipeline in topological order, with the parameters of each bound to results."""
