"""One run of a pipeline.

* `running`: the options of a run; runs a graph in the calling thread.
* `async_running`: runs a graph for a coroutine.
"""
