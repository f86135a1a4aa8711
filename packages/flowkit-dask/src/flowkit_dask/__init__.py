"""Executor of flowkit for Dask clusters: ``run(executor="dask")``, or ``DaskExecutor("tcp://scheduler:8786")``.

* `executor`: `DaskExecutor`. `client`: its client of Dask. `local_cluster`: a cluster on this machine.
* `lane`: the loop of one run. `submissions`: its calls as tasks of Dask. `handle`: a result that stays on the cluster.
* `start_order`: the order in which calls start.
* `connection`: the connection to the scheduler, and the values that come over it.
* `deaths`: calls whose workers have died.
* `calls`: one call, as a worker makes it. `blocks`: the calls of a block of elements.
* `code_versions`: compares the modules of the user on workers with those of the client.
* `pickling`: pickles of functions and arguments. `envelope`: collections that are sent as one pickle.
* `errors`: exceptions that pass from workers to the client.
* `reporter`: what a worker reports of its calls. `event_hub`: passes the reports to the lanes.
* `worker_logs`: sends log records of tasks to the client.
* `worker_stop`: has workers start no more calls of a run that stops.
"""

from flowkit_core import register_executor

from .executor import DaskExecutor

register_executor("dask", DaskExecutor)

__all__ = ["DaskExecutor"]
