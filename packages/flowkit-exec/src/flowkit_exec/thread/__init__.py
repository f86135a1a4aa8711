"""Runs tasks in threads of this process.

* `executor`: `ThreadExecutor`.
* `lane`: the worker threads of one run.
* `watchdog`: how often the watchdog thread looks for ready nodes that wait.
"""
