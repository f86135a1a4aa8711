"""Executors: the protocol, the serial executor, the registry by name, and which executor runs each task of a run.

* `executor`: `Executor`, the protocol, and `SerialExecutor`. `registry`: executors by name.
* `submitting_lane`: base class of lanes that submit calls to a pool or a cluster.
* `log_transport`: log records of tasks in other processes.
* `run_executors`: the executors of one run, by task. `drive`: has them drive a run to its end.
* `pickling_by_value`: pickles of functions that other processes cannot import.
"""
