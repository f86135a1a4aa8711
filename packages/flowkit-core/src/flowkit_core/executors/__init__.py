"""Executors: the protocol, the serial executor, the registry by name, and which executor runs each task of a run.

* `executor`: `Executor`, the protocol, and `SerialExecutor`. `registry`: executors by name.
* `run_executors`: the executors of one run, by task. `drive`: has them drive a run to its end.
"""
