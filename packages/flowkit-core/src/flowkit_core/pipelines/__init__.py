"""Pipelines: tasks, how they are wired, which of them a pipeline has, and the graph that a run starts from."""
