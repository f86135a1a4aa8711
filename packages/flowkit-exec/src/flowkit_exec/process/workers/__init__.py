"""The worker processes, as the calling process sees them.

* `handle`: `WorkerHandle`, one worker: the calls that it holds, and how it is asked to exit.
* `channel`: the connections to it: frames, tickets and file descriptors.
* `start`: the two ways to start it, as a new interpreter or as a fork of this process.
* `child_process`: its process: whether it has exited, how, and how it is killed.
* `resources`: what it holds of the operating system, released after any interrupt.
* `options`: the options that the user gives for workers, and the check of their interpreter.
"""
