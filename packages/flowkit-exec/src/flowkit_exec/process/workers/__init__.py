"""The worker processes, as the calling process sees them.

* `handle`: `WorkerHandle`, one worker: the calls that it holds, and how it is asked to exit.
* `options`: the options that the user gives for workers, and the check of their interpreter.
"""
