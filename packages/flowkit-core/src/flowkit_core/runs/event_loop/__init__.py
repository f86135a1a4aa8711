"""Async tasks of runs.

* `shared_loop`: the event loop of the process.
* `lane`: the calls of one run in an event loop.
* `watchdog`: warnings of what blocks an event loop.
* `caller`: the coroutine that waits for a run in ``arun()``.
"""
