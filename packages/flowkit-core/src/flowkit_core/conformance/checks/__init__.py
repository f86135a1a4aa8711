"""The checks of executors, by subject; they build pipelines as user code does.

A check is a function with the decorator `check` that takes a `Trial` (both in `trial`) and raises an exception if the
executor does not do what its docstring says. `tasks` and `context_tasks` have the functions that the pipelines call.
"""
